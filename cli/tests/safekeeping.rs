//! check, backup, restore and repair, as a person types them.

mod program;

use std::path::{Path, PathBuf};

use program::World;
use serde_json::Value as Json;

fn parsed(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

/// The only segment of a small store.
fn segment(store: &Path) -> PathBuf {
    store.join("log/0000000000000001.seg")
}

fn flip(path: &Path, find: &[u8]) {
    let mut bytes = std::fs::read(path).unwrap();
    let place = bytes.windows(find.len()).position(|window| window == find);
    bytes[place.unwrap()] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn backup_of_a_served_store_is_incremental_and_is_restored_with_its_key() {
    let world = World::new();
    let server = world.serve("store");
    let to = |rest: &[&str]| world.run(&[&["--to", &server.address[..]], rest].concat());
    to(&["set", "k", "first"]).ok();
    let first = parsed(&to(&["--json", "backup", "saved"]).ok());
    assert_eq!(first["verified"], true);
    assert_eq!(first["reused_bytes"], 0);
    to(&["set", "k", "second"]).ok();
    // The directory does as well as the address, with its owner running.
    let second = world.run(&["--json", "--to", "./store", "backup", "saved"]);
    let second = parsed(&second.ok());
    assert!(second["reused_bytes"].as_u64() > Some(0), "{second}");
    assert!(second["revision"].as_u64() > first["revision"].as_u64());
    to(&["set", "k", "third"]).ok();
    let text = world.run(&["restore", "saved", "again"]).ok();
    assert!(text.contains("every byte was read back"), "{text}");
    assert_eq!(world.run(&["--to", "./again", "get", "k"]).ok(), "second\n");
    let key = |name: &str| std::fs::read(world.path(name).join("key")).unwrap();
    assert_eq!(key("again"), key("store"));
    assert_eq!(key("saved"), key("store"));
    drop(server);
    // And of one that was killed.
    world.run(&["--to", "./store", "backup", "saved"]).ok();
    world.run(&["restore", "saved", "third"]).ok();
    assert_eq!(world.run(&["--to", "./third", "get", "k"]).ok(), "third\n");
    world.run(&["check", "saved"]).ok();
}

#[test]
fn backup_to_or_from_the_wrong_place_says_what_to_do() {
    let world = World::new();
    world.run(&["--to", "./a", "set", "k", "1"]).ok();
    world.run(&["--to", "./b", "set", "k", "1"]).ok();
    world.run(&["--to", "./a", "backup", "saved"]).ok();
    let error = world.run(&["--to", "./b", "backup", "saved"]).failed(11);
    assert!(error.contains("holds a backup of store"), "{error}");
    let error = world.run(&["--to", "./a", "backup", "b"]).failed(11);
    assert!(error.contains("is no backup"), "{error}");
    let error = world.run(&["restore", "saved", "b"]).failed(11);
    assert!(error.contains("is not empty"), "{error}");
    let error = world.run(&["restore", "b", "new"]).failed(11);
    assert!(error.contains("is no backup"), "{error}");
    assert!(error.contains("name a backup first"), "{error}");
    world.run(&["restore", "none", "new"]).failed(12);
    world.run(&["--to", "./none", "backup", "new"]).failed(12);
    let nobody = ["--to", "127.0.0.1:1", "--timeout", "0.3", "backup", "new"];
    let error = world.run(&nobody).failed(15);
    assert!(error.contains("--to DIR"), "{error}");
    world
        .run(&["--namespace", "x", "--to", "./a", "backup", "new"])
        .failed(2);
}

/// A link without that right tells no directory, and the one we are in is not meant.
#[test]
fn backup_by_a_link_without_the_admin_right_says_so() {
    let world = World::new();
    let server = world.serve("store");
    let link = ["--namespace", "default", "link", "--read-only"];
    let link = world.run(&[&["--to", &server.address[..]], &link[..]].concat());
    let error = world
        .run(&["--to", link.ok().trim(), "backup", "saved"])
        .failed(14);
    assert!(error.contains("admin right"), "{error}");
    assert!(error.contains("--to DIR"), "{error}");
    assert!(!world.path("saved").exists());
}

/// Only who holds the lock can be stopped.
#[test]
fn failure_of_the_system_is_not_told_as_a_store_that_is_open() {
    let world = World::new();
    world.run(&["--to", "./store", "set", "k", "1"]).ok();
    let log = world.path("store").join("log");
    std::fs::rename(&log, world.path("away")).unwrap();
    std::fs::write(&log, "no directory").unwrap();
    for command in [&["check", "store"][..], &["repair", "store", "new"]] {
        let error = world.run(command).failed(15);
        assert!(!error.contains("stop the process"), "{error}");
        assert!(error.contains("the system refused it"), "{error}");
    }
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(world.path("away"), &log).unwrap();
    let server = world.serve("store");
    for command in [&["check", "store"][..], &["repair", "store", "new"]] {
        let error = world.run(command).failed(15);
        assert!(error.contains("stop the process"), "{error}");
    }
    drop(server);
}

#[test]
fn check_ends_with_the_code_of_damage_and_names_it_in_json_too() {
    let world = World::new();
    world.run(&["--to", "./store", "set", "k", "precious"]).ok();
    let store = world.path("store");
    assert_eq!(std::fs::read(store.join("LOCK")).unwrap(), b"");
    assert_eq!(
        parsed(&world.run(&["--json", "check", "store"]).ok())["intact"],
        true
    );
    // Nothing is lost by a wrong public half, and it is named all the same.
    let public = store.join("key.pub");
    let good = std::fs::read(&public).unwrap();
    flip(&public, b"objsync");
    let said = world.run(&["--json", "check", "store"]);
    assert_eq!(said.code, Some(16), "{said:?}");
    let report = parsed(&said.out);
    assert_eq!(
        (&report["intact"], &report["sound"]),
        (&false.into(), &true.into())
    );
    std::fs::write(&public, good).unwrap();
    flip(&segment(&store), b"precious");
    let said = world.run(&["--json", "check", "store"]);
    assert_eq!(said.code, Some(16), "{said:?}");
    let report = parsed(&said.out);
    let problem = &report["problems"][0];
    assert!(
        problem["file"].as_str().unwrap().ends_with(".seg"),
        "{report}"
    );
    assert!(problem["offset"].as_u64() > Some(0) && problem["revisions"][0].is_u64());
    assert_eq!(parsed(&said.err)["error"]["kind"], "corrupt");
    let error = world.run(&["check", "store"]).failed(16);
    assert!(error.contains("objsync repair"), "{error}");
}

#[test]
fn repair_saves_what_is_sound_and_lists_what_is_lost() {
    let world = World::new();
    for (key, value) in [("a", "first"), ("b", "precious"), ("c", "last")] {
        world.run(&["--to", "./store", "set", key, value]).ok();
    }
    let whole = parsed(&world.run(&["--json", "repair", "store", "copy"]).ok());
    assert_eq!(
        (&whole["whole"], &whole["entries"]),
        (&true.into(), &3.into())
    );
    assert_eq!(
        world.run(&["--to", "./copy", "get", "b"]).ok(),
        "precious\n"
    );
    let store = world.path("store");
    flip(&segment(&store), b"precious");
    let damaged = std::fs::read(segment(&store)).unwrap();
    let said = world.run(&["--json", "repair", "store", "new"]);
    assert_eq!(said.code, Some(16), "{said:?}");
    let report = parsed(&said.out);
    let loss = &report["losses"][0];
    assert!(loss["file"].as_str().unwrap().ends_with(".seg"), "{report}");
    assert_eq!(loss["revisions"][0], loss["revisions"][1]);
    assert_eq!(world.run(&["--to", "./new", "get", "a"]).ok(), "first\n");
    assert_eq!(world.run(&["--to", "./new", "get", "c"]).ok(), "last\n");
    world.run(&["--to", "./new", "get", "b"]).failed(1);
    assert_eq!(std::fs::read(segment(&store)).unwrap(), damaged);
    let error = world.run(&["repair", "store", "new"]).failed(11);
    assert!(error.contains("is not empty"), "{error}");
    let text = world.run(&["repair", "store", "newer"]);
    assert!(
        text.out.contains("lost:") && text.out.contains("revisions"),
        "{text:?}"
    );
    assert!(text.err.contains("what is sound is in newer"), "{text:?}");
    let server = world.serve("new");
    world.run(&["repair", "new", "newest"]).failed(15);
    drop(server);
}
