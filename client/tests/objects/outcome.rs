//! What came of a write whose answer was lost: the same, whoever is asked, and final.

use std::time::Duration;

use objsync::{
    Dict, Done, ErrorKind, KeyRange, ObjectError, Options, Origin, Outcome, Pending, Sequence,
    value,
};

use crate::children;
use crate::peer::{Peer, k, v};

/// Gives up soon.
fn impatient(promote: bool) -> Options {
    Options {
        timeout: Duration::from_millis(400),
        promote,
        ..Options::default()
    }
}

/// The number of a write that got no answer.
fn lost<T: std::fmt::Debug>(result: objsync::Result<T>) -> Origin {
    match result.unwrap_err() {
        ObjectError::Unanswered { op, .. } => op,
        other => panic!("{other:?} names no write"),
    }
}

fn number(dict: &Dict, key: &str) -> i64 {
    let payload = dict.get(&k(key)).unwrap();
    payload.map_or(0, |payload| value::from_payload(&payload).unwrap())
}

/// Asks until the owner is there.
fn told(dict: &Dict, op: Origin) -> objsync::Result<Option<Done>> {
    let mut last = None;
    for _ in 0..50 {
        match dict.outcome(op).wait() {
            Err(error) if error.kind() == ErrorKind::Unavailable => last = Some(error),
            told => return told,
        }
    }
    panic!("nobody tells what came of {op:?}: {last:?}");
}

/// A write that an owner which hangs has not answered, and which it goes on with after.
fn hang<T: std::fmt::Debug>(owner: &Peer, write: impl FnOnce() -> Pending<T>) -> Origin {
    children::stop(owner.pid());
    let op = lost(write().wait());
    children::go_on(owner.pid());
    op
}

#[test]
fn every_kind_of_write_is_told_as_the_call_would_have_told_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let dict = Dict::open(&path, impatient(false)).unwrap();
    dict.set(&k("a"), v("1")).wait().unwrap();
    let all = KeyRange::default();
    let swap = |old: &str| dict.compare_and_set(&k("a"), Some(v(old)), Some(v("2")));
    let changes = vec![objsync::Change {
        key: k("b").into(),
        value: Some(v("3")),
    }];
    let ops = [
        (
            hang(&owner, || dict.set(&k("n"), value::to_payload(&1).unwrap())),
            Outcome::Done,
        ),
        (hang(&owner, || dict.incr(&k("n"), 4)), Outcome::Number(5)),
        (hang(&owner, || swap("9")), Outcome::Swapped(false)),
        (hang(&owner, || swap("1")), Outcome::Swapped(true)),
        (hang(&owner, || dict.batch(changes.clone())), Outcome::Done),
        (hang(&owner, || dict.delete(&k("b"))), Outcome::Deleted(1)),
        (hang(&owner, || dict.delete(&k("b"))), Outcome::Deleted(0)),
        (hang(&owner, || dict.delete_range(all)), Outcome::Deleted(2)),
    ];
    for (op, expected) in &ops {
        for _ in 0..2 {
            assert_eq!(told(&dict, *op).unwrap().unwrap().outcome, *expected);
        }
    }
    assert!(dict.is_empty().unwrap());
    let refused = hang(&owner, || dict.incr(&k("word"), 1));
    assert_eq!(
        told(&dict, refused).unwrap().unwrap().outcome,
        Outcome::Number(1)
    );
    dict.set(&k("word"), v("x")).wait().unwrap();
    let refused = hang(&owner, || dict.incr(&k("word"), 1));
    assert_eq!(told(&dict, refused).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn write_that_reached_nobody_is_told_as_not_done_by_the_next_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let dict = Dict::open(&path, impatient(false)).unwrap();
    assert_eq!(dict.incr(&k("n"), 1).wait().unwrap(), 1);
    children::stop(owner.pid());
    let op = lost(dict.incr(&k("n"), 1).wait());
    owner.kill();
    let _next = Peer::open(&path);
    assert_eq!(told(&dict, op).unwrap(), None);
    assert_eq!(
        dict.incr(&k("n"), 1).wait().unwrap(),
        2,
        "it was not done, nor is it later"
    );
    assert_eq!(told(&dict, op).unwrap(), None);
}

#[test]
fn write_that_was_done_is_told_as_done_after_a_restart_of_the_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let dict = Dict::open(&path, impatient(false)).unwrap();
    dict.set(&k("a"), v("0")).wait().unwrap();
    let op = hang(&owner, || dict.incr(&k("n"), 7));
    // A later answer on the same connection: the owner has decided it.
    dict.set(&k("a"), v("1")).wait().unwrap();
    owner.kill();
    let mut next = Peer::open(&path);
    let done = told(&dict, op).unwrap().unwrap();
    assert_eq!(done.outcome, Outcome::Number(7));
    assert_eq!(next.ask("number n"), "7");
}

#[test]
fn handle_that_became_the_owner_itself_tells_it_from_its_own_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let dict = Dict::open(&path, impatient(true)).unwrap();
    assert_eq!(dict.incr(&k("n"), 1).wait().unwrap(), 1);
    children::stop(owner.pid());
    let op = lost(dict.incr(&k("n"), 1).wait());
    owner.kill();
    crate::peer::until("the handle is the owner", || {
        dict.status().role.to_string() == "owner"
    });
    assert_eq!(told(&dict, op).unwrap(), None);
    assert_eq!(number(&dict, "n"), 1);
}

#[test]
fn write_of_a_session_that_nobody_knows_stays_unknown_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    let op = Origin {
        session: objsync::SessionId {
            epoch: 1,
            frame: objsync::FrameIndex(1_000_000),
        },
        sequence: Sequence(1),
    };
    let error = dict.outcome(op).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(matches!(error, ObjectError::Unanswered { op: named, .. } if named == op));
}
