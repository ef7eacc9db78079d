//! Directories in which anything may lie: garbage, folders, links, pipes and endless files in the
//! place of what a store keeps there, and beside it.
//!
//! Each gives a store that is whole or an error that says what is wrong, soon and without much
//! memory; and nothing outside of the directory changes.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

mod harness;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use harness::random::Random;
use harness::work::*;
use harness::*;
use objsync_store::{IndexKind, Store, StoreError, StoreOptions};

/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// How much memory all of it may take at its most.
const MEMORY_KIB_MAX: u64 = 128 << 10;

/// What may lie where a file should.
#[derive(Debug, Clone, Copy)]
enum Spoil {
    Empty,
    Garbage(u64),
    Zeros,
    Cut,
    Longer,
    Folder,
    Pipe,
    LinkTo(&'static str),
    Endless,
}

const SPOILS: [Spoil; 14] = [
    Spoil::Empty,
    Spoil::Garbage(1),
    Spoil::Garbage(100),
    Spoil::Garbage(5000),
    Spoil::Garbage(200_000),
    Spoil::Zeros,
    Spoil::Cut,
    Spoil::Longer,
    Spoil::Folder,
    Spoil::Pipe,
    Spoil::LinkTo("/dev/zero"),
    Spoil::LinkTo("nowhere"),
    Spoil::LinkTo("victim"),
    Spoil::Endless,
];

/// Puts something else in the place of a file. `victim` is a file outside.
fn spoil(path: &Path, with: Spoil, victim: &Path, random: &mut Random) {
    let before = fs::read(path).unwrap_or_default();
    if fs::symlink_metadata(path).is_ok_and(|it| !it.is_dir()) {
        fs::remove_file(path).unwrap();
    }
    match with {
        Spoil::Empty => fs::write(path, "").unwrap(),
        Spoil::Garbage(bytes) => {
            let garbage: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
            fs::write(path, garbage).unwrap();
        }
        Spoil::Zeros => fs::write(path, vec![0; before.len()]).unwrap(),
        Spoil::Cut => fs::write(path, &before[..before.len() / 3]).unwrap(),
        Spoil::Longer => fs::write(path, [&before[..], &[7; 70_000]].concat()).unwrap(),
        Spoil::Folder => fs::create_dir(path).unwrap(),
        Spoil::Pipe => {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
        }
        Spoil::LinkTo("victim") => symlink(victim, path).unwrap(),
        Spoil::LinkTo(target) => symlink(target, path).unwrap(),
        Spoil::Endless => {
            fs::write(path, &before).unwrap();
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(1 << 42).unwrap();
        }
    }
}

/// Runs something that must end, well or with an error, but not hang and not panic.
fn in_time<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = channel();
    let thread = std::thread::spawn(move || drop(send.send(call())));
    match receive.recv_timeout(DEADLINE) {
        Ok(result) => {
            thread.join().unwrap();
            result
        }
        Err(error) => panic!("{what}: it hangs or panicked: {error}"),
    }
}

fn open_of(directory: &Path, readonly: bool) -> Result<Store, StoreError> {
    let options = StoreOptions {
        readonly,
        ..options(IndexKind::Memory)
    };
    Store::open(directory, options)
}

/// Opens and checks a store in each way. One that opens holds what the model says.
fn look(what: &str, directory: &Path, model: &Model) {
    let place = directory.to_owned();
    let checked = in_time(&format!("{what}: check"), move || {
        objsync_store::check(&place, &mut |_| ())
    });
    let sound = checked.is_ok_and(|report| report.is_sound());
    for readonly in [true, false] {
        let what = format!("{what}: open, readonly {readonly}");
        let (place, model) = (directory.to_owned(), model.clone());
        let opened = in_time(&what, move || {
            open_of(&place, readonly).map(|store| (content(&store) == model, store.close()))
        });
        match opened {
            Ok((is_whole, closed)) => {
                assert!(is_whole || !sound, "{what}: not all is there");
                drop(closed);
            }
            Err(error) => assert!(error.to_string().len() > 10, "{what}: {error}"),
        }
    }
}

/// The most memory this process has held.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// A closed store without its index, a place for copies of it, and a file outside.
struct Ground {
    folder: tempfile::TempDir,
    model: Model,
}

impl Ground {
    fn new() -> Self {
        let ground = Self::with_index();
        fs::remove_dir_all(ground.folder.path().join("store/index")).unwrap();
        ground
    }

    fn with_index() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = closed_store(&folder.path().join("store"));
        fs::write(folder.path().join("victim"), "untouched").unwrap();
        Self { folder, model }
    }

    fn copy(&self) -> PathBuf {
        let to = self.folder.path().join("copy");
        let _ = fs::remove_dir_all(&to);
        copy(&self.folder.path().join("store"), &to);
        to
    }

    fn check_victim(&self, what: &str) {
        let victim = fs::read(self.folder.path().join("victim")).unwrap();
        assert_eq!(victim, b"untouched", "{what} changed a file outside");
    }
}

#[test]
fn anything_in_the_place_of_a_file_is_an_error_or_does_no_harm() {
    let ground = Ground::new();
    let mut random = Random::new(11);
    let victim = ground.folder.path().join("victim");
    let store = ground.folder.path().join("store");
    let relative = |path: PathBuf| path.strip_prefix(&store).unwrap().to_owned();
    let mut names: Vec<PathBuf> = [
        "FORMAT",
        "MANIFEST",
        "LOCK",
        "log.state",
        "index",
        "index.state",
    ]
    .iter()
    .map(PathBuf::from)
    .collect();
    for ending in [".seg", ".keys", ".snap"] {
        let all = files(&store, ending);
        names.push(relative(all[0].clone()));
        names.push(relative(all[all.len() - 1].clone()));
    }
    for name in names {
        for with in SPOILS {
            let copy = ground.copy();
            spoil(&copy.join(&name), with, &victim, &mut random);
            let what = format!("{} {with:?}", name.display());
            look(&what, &copy, &ground.model);
            ground.check_victim(&what);
        }
    }
    let peak = peak_kib();
    println!("{peak} KiB at its peak");
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
}

#[test]
fn anything_beside_the_files_of_a_store_is_left_alone_or_an_error() {
    let ground = Ground::new();
    let mut random = Random::new(12);
    let victim = ground.folder.path().join("victim");
    let names = [
        "MANIFEST.tmp",
        "FORMAT.tmp",
        "index.state.tmp",
        "log.state.tmp",
        "index.failed",
        "other",
        "log/other",
        "log/0000000000000001.seg.tmp",
        "log/ffffffffffffffff.seg",
        "log/7fffffffffffffff.keys",
        "log/x.keys.tmp",
        "snapshots/other",
        "snapshots/ffffffffffffffff.snap",
        "snapshots/0000000000000001.snap.tmp",
    ];
    for name in names {
        for with in SPOILS {
            let copy = ground.copy();
            spoil(&copy.join(name), with, &victim, &mut random);
            let what = format!("{name} {with:?}");
            look(&what, &copy, &ground.model);
            ground.check_victim(&what);
        }
    }
}

#[test]
fn anything_in_the_place_of_the_index_is_made_again_or_does_no_harm() {
    let ground = Ground::with_index();
    let mut random = Random::new(13);
    let victim = ground.folder.path().join("victim");
    let names = [
        "index",
        "index/db",
        "index/conf",
        "index/other",
        "index.state",
        "index.failed",
    ];
    for name in names {
        for with in SPOILS {
            let copy = ground.copy();
            let place = copy.join(name);
            if place.is_dir() {
                fs::remove_dir_all(&place).unwrap();
            }
            spoil(&place, with, &victim, &mut random);
            let what = format!("{name} {with:?}");
            let model = ground.model.clone();
            // What is no file cannot be replaced by one: then the store does without an index.
            let can_be_made = !(name == "index.state" && matches!(with, Spoil::Folder));
            in_time(&what, move || {
                let store = Store::open(&copy, options(IndexKind::Sled)).unwrap();
                assert_is(&store, &model);
                if can_be_made {
                    wait_for_index(&store);
                    assert_is(&store, &model);
                }
                store.close().unwrap();
            });
            ground.check_victim(&what);
        }
    }
}
