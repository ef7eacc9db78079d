//! How old a read may be: never older than what this handle wrote or saw, and than it asks for.

use std::time::Duration;

use objsync::{Dict, ErrorKind, Options, Pending, value};

use crate::children;
use crate::peer::{Peer, k, text, until, v, without_replica};

const LONG: Duration = Duration::from_secs(3600);

fn within(dict: &Dict, key: &str, max_stale: Duration) -> Option<String> {
    let payload: Pending<_> = dict.get_within(&k(key), max_stale);
    let payload = payload.wait().unwrap();
    payload.map(|payload| value::from_payload(&payload).unwrap())
}

/// A handle that sees only some keys holds a part of the dictionary.
fn of_a_range() -> Options {
    Options {
        range: Some(objsync::key::str_prefix("")),
        ..Options::default()
    }
}

fn sees_what_was_committed_before(options: Options) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let dict = Dict::open(&path, options).unwrap();
    for number in 0..200 {
        let value = number.to_string();
        assert_eq!(owner.ask(&format!("set a {value}")), "ok");
        assert_eq!(within(&dict, "a", Duration::ZERO), Some(value.clone()));
        assert_eq!(owner.ask(&format!("set a {value}.5")), "ok");
        dict.sync().wait().unwrap();
        assert_eq!(text(&dict, "a"), Some(format!("{value}.5")));
    }
}

#[test]
fn peer_reads_what_was_committed_before_when_no_age_is_allowed() {
    sees_what_was_committed_before(Options::default());
}

#[test]
fn peer_without_a_replica_reads_what_was_committed_before() {
    sees_what_was_committed_before(without_replica());
}

#[test]
fn peer_that_sees_a_range_reads_what_was_committed_before() {
    sees_what_was_committed_before(of_a_range());
}

#[test]
fn owner_reads_what_was_committed_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let dict = Dict::open(&path, Options::default()).unwrap();
    let mut peer = Peer::open(&path);
    assert_eq!(peer.ask("set a 1"), "ok");
    assert_eq!(within(&dict, "a", Duration::ZERO).as_deref(), Some("1"));
}

#[test]
fn read_that_may_be_old_needs_nobody_and_one_that_may_not_be_fails_without_an_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let options = Options {
        timeout: Duration::from_millis(300),
        promote: false,
        ..Options::default()
    };
    let dict = Dict::open(&path, options).unwrap();
    dict.set(&k("a"), v("1")).wait().unwrap();
    until("the first barrier", || dict.sync().wait().is_ok());
    children::stop(owner.pid());
    assert_eq!(within(&dict, "a", LONG).as_deref(), Some("1"));
    let refused = dict.get_within(&k("a"), Duration::ZERO).wait().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    let refused = dict.snapshot().wait().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(
        text(&dict, "a").as_deref(),
        Some("1"),
        "a plain read asks nobody"
    );
    children::go_on(owner.pid());
}

#[test]
fn first_read_with_an_age_asks_and_the_next_ones_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    assert_eq!(owner.ask("set a 1"), "ok");
    assert_eq!(
        within(&dict, "a", LONG).as_deref(),
        Some("1"),
        "there was no barrier yet"
    );
}

/// Reads right after each write, through two changes of owner; and what was seen once stays seen.
fn reads_its_own_writes(options: Options) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owners = vec![Peer::open(&path), Peer::open(&path)];
    let dict = Dict::open(&path, options).unwrap();
    let mut last = 0;
    for round in 0..3 {
        for _ in 0..50 {
            last += 1;
            assert_eq!(dict.incr(&k("n"), 1).wait().unwrap(), last);
            let payload = dict.get(&k("n")).unwrap().unwrap();
            assert_eq!(value::from_payload::<i64>(&payload).unwrap(), last);
            assert_eq!(dict.len().unwrap(), 1);
            let scanned = dict.scan(Default::default(), false).unwrap().next();
            assert_eq!(scanned.unwrap().unwrap().1, payload);
        }
        if round < 2 {
            owners.remove(0).kill();
            let payload = dict.get(&k("n")).unwrap().unwrap();
            assert_eq!(value::from_payload::<i64>(&payload).unwrap(), last);
        }
    }
}

#[test]
fn handle_reads_its_own_writes_through_changes_of_owner() {
    reads_its_own_writes(Options::default());
}

#[test]
fn handle_without_a_replica_reads_its_own_writes_through_changes_of_owner() {
    reads_its_own_writes(without_replica());
}

#[test]
fn handle_of_a_range_reads_its_own_writes_through_changes_of_owner() {
    reads_its_own_writes(of_a_range());
}
