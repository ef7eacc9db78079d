//! File systems of a test's own, in a mount namespace that ends with the test.

use std::path::Path;
use std::process::{Command, Output};

/// Names the test that runs in its own namespace.
const INSIDE: &str = "OBJSYNC_TEST_MOUNTS";

/// Runs a test in a mount namespace: of root, or of a user namespace where the user may mount.
pub(crate) fn in_own_mounts(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let ways = ["-m", "-Urm"];
    let Some(way) = ways.iter().find(|way| can("unshare", &[way, "true"])) else {
        panic!(
            "{test} mounts a file system: run it as root, or where `unshare -Urm true` (of \
             util-linux) works"
        );
    };
    let status = Command::new("unshare")
        .arg(way)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, test)
        .status()
        .unwrap();
    assert!(status.success(), "{test} in its own namespace: {status}");
}

/// Mounts a file system in memory.
pub(crate) fn mount_memory(place: &Path, bytes: u64) {
    std::fs::create_dir_all(place).unwrap();
    let size = format!("size={bytes}");
    run("mount", &["-t", "tmpfs", "-o", &size, "none", text(place)]);
}

/// Mounts it anew with other options.
pub(crate) fn remount(place: &Path, options: &str) {
    run("mount", &["-o", &format!("remount,{options}"), text(place)]);
}

/// An ext4 file system in a file, which turns read-only on an error as a failing disk makes it.
pub(crate) struct Image<'a> {
    pub(crate) file: &'a Path,
    pub(crate) place: &'a Path,
}

impl Image<'_> {
    pub(crate) fn make(&self, bytes: u64) {
        let file = std::fs::File::create(self.file).unwrap();
        file.set_len(bytes).unwrap();
        run("mkfs.ext4", &["-q", "-F", text(self.file)]);
        std::fs::create_dir_all(self.place).unwrap();
    }

    pub(crate) fn mount(&self) {
        let options = "loop,errors=remount-ro";
        run("mount", &["-o", options, text(self.file), text(self.place)]);
    }

    pub(crate) fn unmount(&self) {
        run("umount", &[text(self.place)]);
    }

    /// Lets the kernel find an error in it.
    pub(crate) fn fail(&self) {
        let source = run("findmnt", &["-no", "SOURCE", text(self.place)]);
        let source = String::from_utf8(source.stdout).unwrap();
        let device = source.trim().trim_start_matches("/dev/");
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        std::fs::write(trigger, "1").unwrap();
    }
}

fn can(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs {program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}, which this test needs (as root, for an image): {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
