//! A moment of a dictionary that is held: many reads, one state.

use objsync::{Change, Dict, ErrorKind, KeyRange, ObjectError, Options, Past, value};

use crate::peer::{Peer, k, until, v, without_replica};

fn number(past: &Past, key: &str) -> i64 {
    let payload = past.get(&k(key)).wait().unwrap().unwrap();
    value::from_payload(&payload).unwrap()
}

fn both(number: i64) -> Vec<Change> {
    let change = |key: &str| Change {
        key: k(key).into(),
        value: Some(value::to_payload(&number).unwrap()),
    };
    vec![change("left"), change("right")]
}

/// Two keys that always change together, read in snapshots while they do.
fn is_of_one_moment(dict: &Dict) {
    dict.batch(both(0)).wait().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=300 {
                dict.batch(both(number)).wait().unwrap();
            }
        });
        let mut last = 0;
        while last < 300 {
            let snapshot = dict.snapshot().wait().unwrap();
            let left = number(&snapshot, "left");
            let seen: Vec<i64> = (snapshot.scan(KeyRange::default(), false).wait().unwrap())
                .map(|entry| value::from_payload(&entry.unwrap().1).unwrap())
                .collect();
            assert_eq!(seen, [left, left]);
            assert_eq!(number(&snapshot, "right"), left);
            assert_eq!(snapshot.count().wait().unwrap(), 2);
            assert!(!snapshot.contains(&k("middle")).wait().unwrap());
            assert!(left >= last, "snapshots do not go back");
            last = left;
        }
    });
    let snapshot = dict.snapshot().wait().unwrap();
    dict.set(&k("middle"), v("new")).wait().unwrap();
    dict.delete(&k("left")).wait().unwrap();
    assert_eq!(number(&snapshot, "left"), 300);
    assert_eq!(snapshot.count().wait().unwrap(), 2);
    assert_eq!(
        snapshot
            .keys(KeyRange::default(), true)
            .wait()
            .unwrap()
            .count(),
        2
    );
    let again = snapshot.clone();
    snapshot.release();
    let error = again.get(&k("left")).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(again.count().wait().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(dict.len().unwrap(), 2);
}

#[test]
fn snapshot_of_an_owner_is_of_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    is_of_one_moment(&Dict::open(folder.path().join("data"), Options::default()).unwrap());
}

#[test]
fn snapshot_of_a_peer_is_of_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    is_of_one_moment(&Dict::open(&path, Options::default()).unwrap());
}

#[test]
fn snapshot_of_a_peer_without_a_replica_is_of_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    is_of_one_moment(&Dict::open(&path, without_replica()).unwrap());
}

#[test]
fn snapshot_holds_what_others_committed_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    for _ in 0..100 {
        let count: i64 = owner.ask("incr n").parse().unwrap();
        assert_eq!(number(&dict.snapshot().wait().unwrap(), "n"), count);
    }
}

#[test]
fn snapshot_of_a_peer_outlives_the_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    dict.batch(both(1)).wait().unwrap();
    let snapshot = dict.snapshot().wait().unwrap();
    owner.kill();
    until("this handle is the owner", || {
        dict.status().role.to_string() == "owner"
    });
    dict.batch(both(2)).wait().unwrap();
    assert_eq!(
        (number(&snapshot, "left"), number(&snapshot, "right")),
        (1, 1)
    );
    assert_eq!(number(&dict.snapshot().wait().unwrap(), "left"), 2);
}

#[test]
fn snapshot_that_is_held_too_long_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    // A list: text of that length goes into chunks, and a replica holds next to nothing of it.
    let large = value::to_payload(&["x".repeat(7 << 20)]).unwrap();
    let fill = |value: &objsync::Bytes| {
        for number in 0..11 {
            dict.set(&k(&number.to_string()), value.clone())
                .wait()
                .unwrap();
        }
    };
    fill(&large);
    let snapshot = dict.snapshot().wait().unwrap();
    fill(&v("small"));
    dict.sync().wait().unwrap();
    let error = snapshot.get(&k("1")).wait().unwrap_err();
    let revision = snapshot.revision();
    assert!(matches!(error, ObjectError::SnapshotExpired { revision: of } if of == revision));
}
