//! Writes through the public handle: what a caller gets, and what the next one finds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::disk::SimDisk;
use harness::*;
use objsync_proto::effect::Change;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Durability, NamespaceId, Revision};
use objsync_proto::operation::{Operation, Outcome};
use objsync_store::{IndexKind, Store, StoreError, StoreLimits, StoreOptions};

#[test]
fn value_is_read_after_it_was_set_and_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), StoreOptions::default());
    let first = set(&store, "a", "1");
    let second = set(&store, "a", "2");
    assert!(second.ack.revision > first.ack.revision);
    assert_eq!(second.ack.durability, Durability::Sync);
    assert_eq!(get(&store, "a").as_deref(), Some("2"));
    assert_eq!(store.count(NS).unwrap(), 1);
    store.close().unwrap();
    let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
    assert_eq!(get(&store, "a").as_deref(), Some("2"));
    assert_eq!(store.namespace("default").unwrap(), Some(NS));
    let third = set(&store, "a", "3");
    assert_eq!(
        third.ack.revision,
        second.ack.revision.next(),
        "no gap after a clean end"
    );
    assert!(third.ack.epoch.number > second.ack.epoch.number);
}

#[test]
fn each_operation_answers_what_came_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_on(&SimDisk::new()));
    let run = |operation| {
        let answer = execute(&store, operation, Durability::Buffered).unwrap();
        answer.outcome.map_err(|failure| failure.kind)
    };
    let key = key_of("n");
    let increment = |by| Operation::Increment {
        key: key.clone(),
        by,
    };
    assert_eq!(run(increment(5)), Ok(Outcome::Number(5)));
    assert_eq!(run(increment(-7)), Ok(Outcome::Number(-2)));
    assert_eq!(run(put("s", "text")), Ok(Outcome::Done));
    let on_text = Operation::Increment {
        key: key_of("s"),
        by: 1,
    };
    assert_eq!(run(on_text), Err(ErrorKind::Invalid));
    let swap = |expected: Option<&str>, new: Option<&str>| Operation::CompareAndSet {
        key: key_of("s"),
        expected: expected.map(payload_of),
        new: new.map(value_of),
    };
    assert_eq!(
        run(swap(Some("other"), Some("x"))),
        Ok(Outcome::Swapped(false))
    );
    assert_eq!(
        run(swap(Some("text"), Some("x"))),
        Ok(Outcome::Swapped(true))
    );
    assert_eq!(get(&store, "s").as_deref(), Some("x"));
    assert_eq!(
        run(Operation::Delete { key: key.clone() }),
        Ok(Outcome::Deleted(1))
    );
    assert_eq!(run(Operation::Delete { key }), Ok(Outcome::Deleted(0)));
    let changes = vec![
        change("b", Some("1")),
        change("c", Some("2")),
        change("s", None),
    ];
    assert_eq!(run(Operation::Batch { changes }), Ok(Outcome::Done));
    assert_eq!(content(&store).len(), 2);
    let all = Operation::DeleteRange {
        start: Default::default(),
        end: None,
        count_max: 100,
    };
    assert_eq!(run(all), Ok(Outcome::Deleted(2)));
    assert_eq!(store.count(NS).unwrap(), 0);
}

#[test]
fn write_that_changes_nothing_takes_no_revision() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_on(&SimDisk::new()));
    let before = set(&store, "a", "1").ack.revision;
    let nothing = Operation::Delete { key: key_of("x") };
    let answer = execute(&store, nothing, Durability::Sync).unwrap();
    assert_eq!(answer.ack.revision, before);
    assert_eq!(store.position().revision, before);
}

#[test]
fn dictionary_that_nobody_made_is_not_found() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_on(&SimDisk::new()));
    for namespace in [NamespaceId(99), NamespaceId::CATALOG] {
        let mut submission = submission(put("a", "1"), Durability::Sync);
        submission.namespace = namespace;
        let answer = store.execute(submission).unwrap();
        assert_eq!(answer.outcome.unwrap_err().kind, ErrorKind::NotFound);
    }
}

#[test]
fn dictionary_is_made_once_with_its_first_content() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    let content = vec![change("a", Some("1"))];
    let (namespace, created) = store.create_namespace("prices", content.clone()).unwrap();
    assert!(created && namespace >= NamespaceId::FIRST_NAMED);
    let other = vec![change("b", Some("2"))];
    assert_eq!(
        store.create_namespace("prices", other).unwrap(),
        (namespace, false)
    );
    assert_eq!(store.count(namespace).unwrap(), 1);
    let mut bad: Vec<Change> = content;
    bad[0].key = Default::default();
    let refused = store.create_namespace("broken", bad).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert_eq!(store.namespace("broken").unwrap(), None);
    store.close().unwrap();
    let store = Store::open(directory.path(), options_on(&disk)).unwrap();
    assert_eq!(store.namespace("prices").unwrap(), Some(namespace));
    assert_eq!(store.namespaces().len(), 2);
}

#[test]
fn order_of_submissions_is_the_order_of_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_on(&SimDisk::new()));
    let (send, receive) = std::sync::mpsc::channel();
    for number in 0..1000_u64 {
        let send = send.clone();
        let name = format!("k{}", number % 7);
        let done = Box::new(move |result: Result<objsync_store::Answer, StoreError>| {
            send.send((number, result.unwrap().ack.revision)).unwrap();
        });
        let level = if number % 3 == 0 {
            Durability::Sync
        } else {
            Durability::Buffered
        };
        store.submit(submission(put(&name, &number.to_string()), level), done);
    }
    let answers: Vec<(u64, Revision)> = receive.iter().take(1000).collect();
    assert!(
        answers
            .windows(2)
            .all(|pair| pair[0] < pair[1] && pair[0].1 < pair[1].1)
    );
    assert_eq!(get(&store, "k6").as_deref(), Some("993"));
}

#[test]
fn eight_threads_share_syncs_and_none_loses_a_write() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..100 {
                    let increment = Operation::Increment {
                        key: key_of("total"),
                        by: 1,
                    };
                    let level = match number % 2 {
                        0 => Durability::Sync,
                        _ => Durability::Buffered,
                    };
                    execute(store, increment, level).unwrap().outcome.unwrap();
                    set(store, &format!("t{thread}"), &number.to_string());
                }
            });
        }
    });
    let key = key_of("total");
    let last = Operation::Increment { key, by: 0 };
    let answer = execute(&store, last, Durability::Sync).unwrap();
    assert_eq!(answer.outcome.unwrap(), Outcome::Number(800));
    for thread in 0..8 {
        assert_eq!(get(&store, &format!("t{thread}")).as_deref(), Some("99"));
    }
}

#[test]
fn inline_write_is_given_back_when_it_would_wait() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_on(&SimDisk::new()));
    let synced = submission(put("a", "1"), Durability::Sync);
    assert!(store.try_execute_inline(synced).is_err());
    let larger_than_the_file = put("a", &"x".repeat(1 << 20));
    let grows = submission(larger_than_the_file, Durability::Buffered);
    assert!(store.try_execute_inline(grows).is_err());
    let buffered = submission(put("a", "1"), Durability::Buffered);
    let answer = store.try_execute_inline(buffered).unwrap().unwrap();
    assert_eq!(answer.ack.durability, Durability::Buffered);
    assert_eq!(get(&store, "a").as_deref(), Some("1"));
}

#[test]
fn second_open_is_told_who_owns_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    match Store::open(directory.path(), options_on(&disk)).map(drop) {
        Err(StoreError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    store.close().unwrap();
    Store::open(directory.path(), options_on(&disk)).unwrap();
}

#[test]
fn closed_store_answers_closed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_on(&SimDisk::new()));
    store.close().unwrap();
    store.close().unwrap();
    let written = execute(&store, put("a", "1"), Durability::Sync);
    assert!(matches!(written, Err(StoreError::Closed)));
    assert!(matches!(store.get(NS, b"a"), Err(StoreError::Closed)));
    let (send, receive) = std::sync::mpsc::channel();
    let done = Box::new(move |result| send.send(result).unwrap());
    store.submit(submission(put("a", "1"), Durability::Sync), done);
    assert!(matches!(receive.recv().unwrap(), Err(StoreError::Closed)));
}

#[test]
fn store_that_is_not_there_is_made_only_if_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new");
    let options = StoreOptions {
        create: false,
        ..StoreOptions::default()
    };
    let opened = Store::open(&path, options).map(drop);
    assert!(matches!(opened, Err(StoreError::NotFound { .. })));
    assert!(!path.exists());
    open(&path, StoreOptions::default());
}

#[test]
fn stamp_tells_that_a_key_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_on(&SimDisk::new()));
    let stamp = store.stamp(NS, &key_of("a"));
    assert!(store.is_current(stamp));
    set(&store, "a", "1");
    assert!(!store.is_current(stamp));
}

#[test]
fn grants_and_their_revocation_survive_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    let grant = |peer: u8| objsync_proto::wire::Grant {
        peer: objsync_proto::ids::PeerKey([peer; 32]),
        scope: "*".to_owned(),
        rights: vec!["read".to_owned()],
        expires_ms: None,
        label: "laptop".to_owned(),
    };
    store.grant(grant(1)).unwrap();
    store.grant(grant(2)).unwrap();
    assert!(store.revoke(grant(1).peer).unwrap());
    assert!(!store.revoke(grant(1).peer).unwrap());
    store.kill();
    let store = Store::open(directory.path(), options_on(&disk)).unwrap();
    assert_eq!(store.grants(), [grant(2)]);
}

#[test]
fn operation_queued_twice_is_run_once_and_answered_twice() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), options_on(&SimDisk::new()));
    let peer = objsync_proto::ids::PeerKey([1; 32]);
    let session = store.open_session(peer).unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    for place in 0..200_u64 {
        let origin = objsync_store::SubmissionOrigin {
            origin: objsync_proto::ids::Origin {
                session,
                sequence: objsync_proto::ids::Sequence(1 + place / 2),
            },
            floor: objsync_proto::ids::Sequence(1),
            peer,
        };
        let increment = Operation::Increment {
            key: key_of("n"),
            by: 1,
        };
        let asked = objsync_store::Submission {
            origin: Some(origin),
            ..submission(increment, Durability::Sync)
        };
        let send = send.clone();
        let done = Box::new(move |result: Result<objsync_store::Answer, StoreError>| {
            send.send(result.unwrap()).unwrap();
        });
        store.submit(asked, done);
    }
    let answers: Vec<_> = receive.iter().take(200).collect();
    for (count, pair) in (1..).zip(answers.chunks(2)) {
        assert_eq!(pair[0].outcome, Ok(Outcome::Number(count)));
        assert_eq!(pair[0], pair[1]);
    }
}

#[test]
fn writers_that_fill_the_memory_ahead_of_the_index_wait_and_go_on() {
    // Small enough to be full between two syncs, with values that make the log grow all the time.
    let limits = StoreLimits {
        recent_bytes_max: 8 << 20,
        ..StoreLimits::default()
    };
    for round in 0..8 {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            index: IndexKind::Memory,
            limits,
            ..StoreOptions::default()
        };
        let store = Arc::new(open(directory.path(), options));
        let (send, receive) = std::sync::mpsc::channel();
        let writing = Arc::clone(&store);
        let writer = std::thread::spawn(move || {
            let text = "x".repeat(500_000);
            for number in 0..60 {
                let level = Durability::Buffered;
                execute(&writing, put(&number.to_string(), &text), level).unwrap();
                let _ = send.send(number);
            }
        });
        for number in 0..60 {
            let written = receive.recv_timeout(Duration::from_secs(20));
            let marks = store.marks();
            assert_eq!(written, Ok(number), "round {round} hangs at {marks:?}");
        }
        writer.join().unwrap();
    }
}

/// The store's own thread answers while it leads: closing there must not wait for the writer.
#[test]
fn last_handle_that_goes_in_a_callback_closes_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    let (send, receive) = std::sync::mpsc::channel::<Store>();
    // The callback has the last handle: it gets it from here.
    let done = Box::new(move |_| drop(receive.recv().unwrap()));
    store.submit(submission(put("a", "1"), Durability::Sync), done);
    send.send(store).unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let store = loop {
        match Store::open(directory.path(), options_on(&disk)) {
            Ok(store) => break store,
            Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
        }
        std::thread::yield_now();
    };
    assert_eq!(get(&store, "a").as_deref(), Some("1"));
}
