//! Directories that are not there, or not ours.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use objsync::{Dict, ErrorKind, GrantRequest, Options, ReplicaMode, Target};

use crate::program::{World, text};
use crate::writing::{Writes, join};

/// A user that owns nothing here.
const NOBODY: &str = "65534";

#[test]
fn directory_removed_under_its_owner_fails_the_next_write_and_reads_go_on() {
    let world = World::new();
    let store = world.path("store");
    let server = world.serve("store");
    // Who comes by a link needs nothing of the directory.
    let link = join(&store).grant(GrantRequest::default()).wait().unwrap();
    let options = Options {
        replica: ReplicaMode::None,
        ..Options::default()
    };
    let dict = Dict::connect(&Target::Link(link), options).unwrap();
    let mut writes = Writes::of_bytes(100);
    writes.some(&dict, 10);
    std::fs::remove_dir_all(&store).unwrap();
    let first = writes.until_refused(&dict);
    assert_eq!(first.kind(), ErrorKind::OutcomeUnknown, "{first}");
    assert!(first.to_string().contains("was removed"), "{first}");
    let second = writes.until_refused(&dict);
    assert_eq!(second.kind(), ErrorKind::Closed, "{second}");
    assert!(second.to_string().contains("was removed"), "{second}");
    assert_eq!(
        writes.acknowledged.len(),
        10,
        "none was acknowledged in vain"
    );
    writes.check(&dict);
    drop(server);
}

#[test]
fn parents_that_are_missing_are_made_for_a_writer_and_not_for_a_reader() {
    let world = World::new();
    let to = ["--to", "./a/b/c"];
    let said = world.run(&[&to[..], &["get", "k"]].concat()).failed(12);
    assert!(said.contains("a/b/c"), "{said}");
    assert!(!world.path("a").exists(), "a reader makes nothing");
    world.run(&[&to[..], &["set", "k", "v"]].concat()).ok();
    assert_eq!(world.run(&[&to[..], &["get", "k"]].concat()).ok(), "v\n");
    let mode = world.path("a/b/c").metadata().unwrap().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn path_that_is_or_leads_through_a_file_is_invalid_by_name() {
    let world = World::new();
    std::fs::write(world.path("file"), "x").unwrap();
    for path in ["./file", "./file/store"] {
        for command in [&["set", "k", "v"][..], &["get", "k"]] {
            let said = world.run(&[&["--to", path][..], command].concat());
            assert!(matches!(said.code, Some(11 | 12 | 15)), "{path}: {said:?}");
            assert!(said.err.contains("file"), "{path}: {said:?}");
        }
    }
    assert_eq!(std::fs::read(world.path("file")).unwrap(), b"x");
}

#[test]
fn directory_of_another_user_is_denied_by_name() {
    let world = World::new();
    let store = world.path("theirs");
    world.run(&["--to", "./theirs", "set", "k", "v"]).ok();
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    // Who is not root makes a directory that is closed to itself.
    if !is_root {
        std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o000)).unwrap();
    }
    // The other user has to find the program, and to have a home.
    let program = world.path("objsync");
    std::fs::copy(env!("CARGO_BIN_EXE_objsync"), &program).unwrap();
    let folder = store.parent().unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let home = world.path("their-home");
    std::fs::create_dir(&home).unwrap();
    for command in [&["get", "k"][..], &["set", "k", "2"]] {
        let mut run = Command::new(if is_root { "setpriv" } else { "env" });
        if is_root {
            chown(&home, Some(65534), Some(65534)).unwrap();
            run.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
        }
        let output = run
            .arg(&program)
            .args(["--to", text(&store)])
            .args(command)
            .env("OBJSYNC_HOME", &home)
            .output()
            .expect("setpriv (of util-linux) runs it as another user");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(14), "{command:?}: {said}");
        assert!(said.contains("theirs"), "{said}");
    }
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(world.run(&["--to", "./theirs", "get", "k"]).ok(), "v\n");
}
