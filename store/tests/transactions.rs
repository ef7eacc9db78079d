//! Transactions as a store decides them: what was read still stands, or nothing happens.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use harness::disk::SimDisk;
use harness::{NS, change, execute, get, key_of, open, options_on, payload_of, put, set, value_of};
use objsync_proto::effect::{Cause, Change};
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Durability, Origin, PeerKey, Revision, Sequence};
use objsync_proto::operation::{Edit, KeyRead, Operation, Outcome};
use objsync_proto::stored::{self, Compression};
use objsync_proto::value::int_payload;
use objsync_proto::wire::KeyRange;
use objsync_store::{FeedRead, Store, StoreLimits, StoreOptions, Submission, SubmissionOrigin};

const PEER: PeerKey = PeerKey([7; 32]);

fn int(number: i64) -> Bytes {
    stored::seal(&int_payload(number), Compression::None).unwrap()
}

fn number(store: &Store, name: &str) -> (i64, KeyRead) {
    let key = key_of(name);
    let stored = store.get(NS, &key).unwrap();
    let number = stored.as_ref().map_or(0, |stored| {
        rmp_serde::from_slice(&stored::open(&stored.value).unwrap()).unwrap()
    });
    let revision = stored.map(|stored| stored.revision);
    (number, KeyRead { key, revision })
}

fn to(name: &str, number: i64) -> Change {
    let (key, value) = (key_of(name), Some(int(number)));
    Change { key, value }
}

fn transact(reads: Vec<KeyRead>, changes: Vec<Change>) -> Operation {
    Operation::Transact {
        reads,
        ranges: Vec::new(),
        at: Revision(0),
        fences: Vec::new(),
        changes,
    }
}

/// Having read all keys of a range as of a revision.
fn over(start: &str, end: &str, at: Revision, changes: Vec<Change>) -> Operation {
    let (start, end) = (key_of(start), Some(key_of(end)));
    Operation::Transact {
        reads: Vec::new(),
        ranges: vec![KeyRange { start, end }],
        at,
        fences: Vec::new(),
        changes,
    }
}

fn outcome(store: &Store, operation: Operation) -> Outcome {
    let answer = execute(store, operation, Durability::Buffered).unwrap();
    answer.outcome.unwrap()
}

fn store_on(disk: &SimDisk) -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_on(disk));
    (directory, store)
}

#[test]
fn money_is_neither_made_nor_lost_by_threads_that_move_it() {
    const ACCOUNTS: u64 = 5;
    const MOVES: u64 = 300;
    let (_directory, store) = store_on(&SimDisk::new());
    let name = |number: u64| format!("account {number}");
    for number in 0..ACCOUNTS {
        set(&store, &name(number), "");
        outcome(&store, transact(vec![], vec![to(&name(number), 100)]));
    }
    let (moved, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (store, moved, refused) = (store.clone(), &moved, &refused);
            scope.spawn(move || {
                let mut random = harness::random::Random::new(thread);
                let mut left = MOVES;
                while left > 0 {
                    let (from, into) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
                    if from == into {
                        continue;
                    }
                    let (from, into) = (name(from), name(into));
                    let ((a, read_a), (b, read_b)) = (number(&store, &from), number(&store, &into));
                    let by = 1 + random.below(9) as i64;
                    let changes = vec![to(&from, a - by), to(&into, b + by)];
                    match outcome(&store, transact(vec![read_a, read_b], changes)) {
                        Outcome::Done => {
                            moved.fetch_add(1, Ordering::Relaxed);
                            left -= 1;
                        }
                        Outcome::Conflict { key, .. } => {
                            assert!([key_of(&from), key_of(&into)].contains(&key));
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    let total: i64 = (0..ACCOUNTS).map(|at| number(&store, &name(at)).0).sum();
    assert_eq!(total, 100 * ACCOUNTS as i64);
    assert_eq!(moved.into_inner(), 4 * MOVES);
}

#[test]
fn two_that_each_read_what_the_other_writes_do_not_both_happen() {
    let (_directory, store) = store_on(&SimDisk::new());
    outcome(&store, transact(vec![], vec![to("a", 1), to("b", 1)]));
    let (_, read_a) = number(&store, "a");
    let (_, read_b) = number(&store, "b");
    let both = vec![read_a, read_b];
    assert_eq!(
        outcome(&store, transact(both.clone(), vec![to("a", 0)])),
        Outcome::Done
    );
    let refused = outcome(&store, transact(both, vec![to("b", 0)]));
    let (key, revision) = (key_of("a"), store.position().revision);
    assert_eq!(refused, Outcome::Conflict { key, revision });
    assert_eq!(number(&store, "b").0, 1);
}

#[test]
fn key_that_comes_goes_or_changes_in_a_range_that_was_read_refuses() {
    let (_directory, store) = store_on(&SimDisk::new());
    set(&store, "k5", "there");
    for write in [
        put("k3", "came"),
        Operation::Delete { key: key_of("k5") },
        put("k3", "changed"),
    ] {
        let at = store.position().revision;
        outcome(&store, write);
        let refused = outcome(&store, over("k1", "k6", at, vec![to("sum", 1)]));
        assert!(matches!(refused, Outcome::Conflict { .. }), "{refused:?}");
        let now = store.position().revision;
        assert_eq!(
            outcome(&store, over("k1", "k6", now, vec![to("sum", 1)])),
            Outcome::Done
        );
        assert_eq!(
            outcome(&store, over("k6", "k9", at, vec![to("sum", 1)])),
            Outcome::Done
        );
    }
}

#[test]
fn transaction_sees_what_was_decided_before_it_in_the_same_batch() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        threads: false,
        ..options_on(&SimDisk::new())
    };
    let store = open(directory.path(), options);
    set(&store, "k1", "there");
    let at = store.position().revision;
    let (_, read) = (
        0,
        KeyRead {
            key: key_of("k1"),
            revision: Some(at),
        },
    );
    let answers = Arc::new(std::sync::Mutex::new(Vec::new()));
    for operation in [
        put("k1", "new"),
        transact(vec![read], vec![change("lost", Some("a"))]),
        over("k0", "k2", at, vec![change("lost", Some("b"))]),
        over("k2", "k3", at, vec![change("kept", Some("c"))]),
    ] {
        let answers = answers.clone();
        let submission = harness::submission(operation, Durability::Buffered);
        let done = move |answer: Result<objsync_store::Answer, _>| {
            answers
                .lock()
                .unwrap()
                .push(answer.unwrap().outcome.unwrap());
        };
        store.submit(submission, Box::new(done));
    }
    store.step(objsync_store::Step::Queue).unwrap();
    let (key, revision) = (key_of("k1"), at.next());
    let conflict = Outcome::Conflict { key, revision };
    let expected = [Outcome::Done, conflict.clone(), conflict, Outcome::Done];
    assert_eq!(*answers.lock().unwrap(), expected);
    assert_eq!(
        (get(&store, "lost"), get(&store, "kept")),
        (None, Some("c".into()))
    );
}

#[test]
fn range_that_was_read_before_the_ring_begins_is_outdated() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options_on(&SimDisk::new());
    options.limits = StoreLimits {
        ring_bytes_max: 4 << 10,
        ..options.limits
    };
    let store = open(directory.path(), options);
    let at = store.position().revision;
    for number in 0..50 {
        set(&store, &format!("other {number}"), &"x".repeat(200));
    }
    let refused = outcome(&store, over("k1", "k6", at, vec![to("sum", 1)]));
    let oldest = store.position().revision;
    assert_eq!(refused, Outcome::Outdated { oldest });
    assert_eq!(
        outcome(&store, over("k1", "k6", oldest, vec![to("sum", 1)])),
        Outcome::Done
    );
}

#[test]
fn range_that_was_read_of_what_a_power_cut_took_is_outdated() {
    let disk = SimDisk::new();
    let directory = tempfile::tempdir().unwrap();
    let on = |disk: &SimDisk| StoreOptions {
        threads: false,
        ..options_on(disk)
    };
    let store = open(directory.path(), on(&disk));
    set(&store, "k1", "kept");
    let kept = store.position().revision;
    execute(&store, put("k2", "lost"), Durability::Buffered).unwrap();
    let lost = store.position().revision;
    store.kill();
    drop(store);
    // Sector by sector the cut keeps or loses at random: the first that loses it.
    let lost_it = (0..100).find_map(|seed| {
        let copy = disk.copy_with_synced();
        copy.cut_power(&mut harness::random::Random::new(seed));
        let store = Store::open(directory.path(), on(&copy)).unwrap();
        if get(&store, "k2").is_none() {
            return Some(store);
        }
        store.kill();
        None
    });
    let store = lost_it.expect("one of these loses it");
    for (at, is_known) in [(kept, true), (lost, false), (Revision(u64::MAX), false)] {
        let found = outcome(&store, over("k1", "k9", at, vec![]));
        assert_eq!(found == Outcome::Done, is_known, "{at:?}: {found:?}");
    }
    // Revisions that were given, of an owner that is gone, stay unknown after later ones.
    set(&store, "other", "");
    let found = outcome(&store, over("k1", "k9", lost, vec![]));
    let oldest = store.position().revision;
    assert_eq!(found, Outcome::Outdated { oldest });
}

#[test]
fn transaction_that_was_refused_answers_the_same_to_a_repeat_after_a_restart() {
    let disk = SimDisk::new();
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_on(&disk));
    set(&store, "a", "1");
    let session = store.open_session(PEER).unwrap();
    let sequence = Sequence(1);
    let submission = |operation| Submission {
        namespace: NS,
        operation,
        origin: Some(SubmissionOrigin {
            origin: Origin { session, sequence },
            floor: sequence,
            peer: PEER,
        }),
        durability: Some(Durability::Sync),
    };
    let key = key_of("a");
    let stale = vec![KeyRead {
        key,
        revision: None,
    }];
    let operation = transact(stale, vec![change("b", Some("2"))]);
    let first = store.execute(submission(operation.clone())).unwrap();
    assert!(matches!(first.outcome, Ok(Outcome::Conflict { .. })));
    store.kill();
    drop(store);
    let store = Store::open(directory.path(), options_on(&disk)).unwrap();
    // It would be done now.
    execute(
        &store,
        Operation::Delete { key: key_of("a") },
        Durability::Sync,
    )
    .unwrap();
    let again = store.execute(submission(operation)).unwrap();
    assert_eq!(
        (&again.outcome, again.ack.revision),
        (&first.outcome, first.ack.revision)
    );
    assert_eq!(get(&store, "b"), None);
}

#[test]
fn outcome_of_a_write_is_told_to_its_own_session_once_it_is_settled() {
    let disk = SimDisk::new();
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_on(&disk));
    let session = store.open_session(PEER).unwrap();
    let origin = |number| Origin {
        session,
        sequence: Sequence(number),
    };
    let run = |store: &Store, number, operation| {
        store.execute(Submission {
            namespace: NS,
            operation,
            origin: Some(SubmissionOrigin {
                origin: origin(number),
                floor: Sequence(1),
                peer: PEER,
            }),
            durability: Some(Durability::Sync),
        })
    };
    let done = run(&store, 1, put("a", "1")).unwrap();
    assert_eq!(store.outcome(origin(1), PEER).unwrap(), Some(done.clone()));
    let kind = |found: Result<_, objsync_store::StoreError>| found.unwrap_err().kind();
    // The second was lost on its way: it can still come.
    assert_eq!(kind(store.outcome(origin(2), PEER)), ErrorKind::Unavailable);
    run(&store, 3, Operation::Settle).unwrap();
    assert_eq!(store.outcome(origin(2), PEER).unwrap(), None);
    assert_eq!(
        run(&store, 2, put("a", "2")).unwrap_err().kind(),
        ErrorKind::OutcomeUnknown,
        "and from here on it cannot"
    );
    assert_eq!(
        kind(store.outcome(origin(1), PeerKey([8; 32]))),
        ErrorKind::Denied
    );
    store.kill();
    drop(store);
    let store = Store::open(directory.path(), options_on(&disk)).unwrap();
    let found = store.outcome(origin(1), PEER).unwrap();
    assert_eq!(found.map(|answer| answer.outcome), Some(done.outcome));
    assert_eq!(store.outcome(origin(2), PEER).unwrap(), None);
    store.close_session(session).unwrap();
    assert_eq!(
        kind(store.outcome(origin(1), PEER)),
        ErrorKind::OutcomeUnknown
    );
}

#[test]
fn followers_see_a_patch_as_one() {
    let (_directory, store) = store_on(&SimDisk::new());
    let before = store.position().revision;
    let patch = Operation::Patch {
        key: key_of("list"),
        patch: Edit::Append {
            items: vec![payload_of("a")],
        }
        .into(),
    };
    assert_eq!(outcome(&store, patch), Outcome::Number(1));
    set(&store, "other", "");
    let FeedRead::Published(list) = store.feed().read(before, usize::MAX) else {
        panic!("it is in the ring");
    };
    let causes: Vec<_> = list.iter().map(|published| published.cause).collect();
    assert_eq!(causes, [Cause::Patch, Cause::Write]);
    assert_eq!(list[1].changes[0].1.value, Some(value_of("")));
}
