//! Copies of a store's directory, and backups put in its place, meet the clients of the original:
//! the store is the same, its key too, the history is another.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use objsync::{
    Dict, ErrorKind, GrantRequest, KeyRange, Link, ObjectError, Options, ReplicaMode, Target, value,
};

use crate::children;
use crate::peer::{Peer, entries, k, text, until, v};

const LONG: Duration = Duration::from_secs(20);

/// A handle that follows whoever owns the store.
fn follower(path: &Path) -> Dict {
    let options = Options {
        promote: false,
        ..Options::default()
    };
    Dict::open(path, options).unwrap()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// Puts another directory in the place of one.
fn put_in_place(path: &Path, other: &Path) {
    std::fs::rename(path, path.with_extension("gone")).unwrap();
    std::fs::rename(other, path).unwrap();
}

/// Waits until a handle holds what its owner does.
fn settled(dict: &Dict, owner: &mut Peer) {
    dict.sync().wait().unwrap();
    let count = owner.ask("len");
    assert_eq!(dict.len().unwrap().to_string(), count);
}

#[test]
fn restored_directory_takes_its_clients_back_to_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let dict = follower(&path);
    dict.set(&k("a"), v("kept")).wait().unwrap();
    let numbers: Vec<_> = (0..5).map(|_| dict.incr(&k("n"), 1).wait()).collect();
    assert_eq!(*numbers.last().unwrap().as_ref().unwrap(), 5);
    let backup = folder.path().join("backup");
    objsync::backup(&path, &backup, |_| ()).unwrap();
    dict.set(&k("b"), v("lost")).wait().unwrap();
    assert_eq!(dict.incr(&k("n"), 3).wait().unwrap(), 8);
    let watch = dict.watch(KeyRange::default(), None).unwrap();
    let before = dict.status().position.unwrap();

    owner.kill();
    let restored = folder.path().join("restored");
    objsync::restore(&backup, &restored, |_| ()).unwrap();
    put_in_place(&path, &restored);
    let mut owner = Peer::open(&path);
    assert_eq!(owner.ask("set c new"), "ok");

    settled(&dict, &mut owner);
    assert_eq!(text(&dict, "a").as_deref(), Some("kept"));
    assert_eq!(text(&dict, "b"), None);
    assert_eq!(text(&dict, "c").as_deref(), Some("new"));
    assert_eq!(dict.incr(&k("n"), 1).wait().unwrap(), 6);
    let after = dict.status().position.unwrap();
    assert_eq!(after.store, before.store);
    assert_ne!(after.epoch, before.epoch);
    // What a watch told is taken back by what it tells now, behind a gap that says so.
    match watch.recv_timeout(LONG) {
        Err(ObjectError::Gap(gap)) => {
            assert_eq!(gap.after, before.revision);
            assert!(!gap.same_history);
        }
        other => panic!("a gap was expected: {other:?}"),
    }
    let mut told = BTreeMap::from([(k("a"), v("kept")), (k("b"), v("lost"))]);
    told.insert(k("n"), value::to_payload(&8).unwrap());
    let payload = |entry: objsync::Result<(objsync::Bytes, objsync::Bytes)>| entry.unwrap();
    let held = || dict.scan(KeyRange::default(), false).unwrap().map(payload);
    let held: BTreeMap<_, _> = held().map(|(key, value)| (key.to_vec(), value)).collect();
    while told != held {
        let event = watch
            .recv_timeout(LONG)
            .unwrap()
            .expect("more is to be told");
        match event.value {
            Some(value) => _ = told.insert(event.key.to_vec(), value),
            None => _ = told.remove(&event.key[..]),
        }
    }
}

#[test]
fn copy_with_the_same_revisions_is_another_history() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let dict = follower(&path);
    dict.set(&k("a"), v("both")).wait().unwrap();
    owner.kill();
    let other = folder.path().join("other");
    copy(&path, &other);

    let owner = Peer::open(&path);
    let mine = dict.set(&k("mine"), v("1")).wait().unwrap();
    owner.kill();
    put_in_place(&path, &other);
    let mut owner = Peer::open(&path);
    assert_eq!(owner.ask("set theirs 2"), "ok");

    // The other history has the same number of the epoch and the same revision.
    let theirs: u64 = owner.ask("sync").parse().unwrap();
    assert_eq!(theirs, mine.revision.0);
    settled(&dict, &mut owner);
    let epoch = dict.status().position.unwrap().epoch;
    assert_eq!(epoch.number, mine.epoch.number);
    assert_ne!(epoch.name, mine.epoch.name);
    assert_eq!(
        entries(&dict),
        [("\"a\"", "both"), ("\"theirs\"", "2")].map(|(key, value)| (key.into(), value.into()))
    );
}

/// Reads waited for what another history had acknowledged, and `sync` took its revisions for this
/// one's. Found by a copy whose first revision was the one that the original had given.
#[test]
fn nobody_waits_for_what_another_history_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let dict = follower(&path);
    dict.set(&k("a"), v("both")).wait().unwrap();
    owner.kill();
    let other = folder.path().join("other");
    copy(&path, &other);
    let owner = Peer::open(&path);
    for number in 0..50 {
        dict.incr(&k("mine"), number).wait().unwrap();
    }
    owner.kill();
    put_in_place(&path, &other);
    let mut owner = Peer::open(&path);
    for number in 1..20 {
        dict.sync().wait().unwrap();
        assert_eq!(text(&dict, "a").as_deref(), Some("both"));
        assert_eq!(dict.get(&k("mine")).unwrap(), None);
        assert_eq!(dict.incr(&k("n"), 1).wait().unwrap(), number);
        let found = dict.get(&k("n")).unwrap().unwrap();
        assert_eq!(value::from_payload::<i64>(&found).unwrap(), number);
    }
    settled(&dict, &mut owner);
}

#[test]
fn write_in_flight_when_a_copy_takes_over_is_done_once_or_told_to_be_unknown() {
    in_flight_when_a_copy_takes_over(ReplicaMode::Auto);
}

/// Nothing follows the welcome that could bring the news.
#[test]
fn write_in_flight_of_a_handle_that_holds_nothing_is_told_when_a_copy_takes_over() {
    in_flight_when_a_copy_takes_over(ReplicaMode::None);
}

fn in_flight_when_a_copy_takes_over(replica: ReplicaMode) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let options = Options {
        promote: false,
        replica,
        ..Options::default()
    };
    let dict = Dict::open(&path, options).unwrap();
    let backup = folder.path().join("backup");
    objsync::backup(&path, &backup, |_| ()).unwrap();
    // The session is younger than the backup.
    assert_eq!(dict.incr(&k("n"), 1).wait().unwrap(), 1);
    children::stop(owner.pid());
    let started: Vec<_> = (0..20).map(|_| dict.incr(&k("n"), 1).start()).collect();
    let restored = folder.path().join("restored");
    objsync::restore(&backup, &restored, |_| ()).unwrap();
    put_in_place(&path, &restored);
    owner.kill();
    let mut owner = Peer::open(&path);

    let (told, answers) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for write in started {
            drop(told.send(write.wait()));
        }
    });
    let mut done = 0;
    for _ in 0..20 {
        match answers.recv_timeout(LONG).expect("each caller is told") {
            Ok(number) => {
                done += 1;
                assert_eq!(number, done, "each in its order, on what the backup holds");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}"),
        }
    }
    let found = if done == 0 {
        "none".into()
    } else {
        done.to_string()
    };
    assert_eq!(owner.ask("number n"), found);
}

#[test]
fn client_that_moves_between_two_living_copies_keeps_nothing_of_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let [path, other] = ["data", "other"].map(|name| folder.path().join(name));
    let first = Dict::open(&path, Options::default()).unwrap();
    let link = first.grant(GrantRequest::default()).wait().unwrap();
    first.set(&k("a"), v("both")).wait().unwrap();
    first.close().unwrap();
    drop(first);
    copy(&path, &other);

    let mut owners = [&path, &other].map(|path| Peer::open(path));
    let hosts = owners.iter_mut().map(|owner| owner.ask("address"));
    let link = Link {
        hosts: hosts.collect(),
        ..link
    };
    let dict = Dict::connect(&Target::Link(link), Options::default()).unwrap();
    let [first, mut second] = owners;
    dict.set(&k("mine"), v("1")).wait().unwrap();
    assert_eq!(second.ask("set theirs 2"), "ok");
    assert_eq!(second.ask("get mine"), "none");
    first.kill();
    until("it has moved to the copy", || {
        dict.sync().wait().is_ok() && text(&dict, "theirs").is_some()
    });
    assert_eq!(text(&dict, "mine"), None);
    assert_eq!(text(&dict, "a").as_deref(), Some("both"));
    dict.set(&k("mine"), v("3")).wait().unwrap();
    assert_eq!(second.ask("get mine"), "= 3");
}
