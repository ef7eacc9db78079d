//! Times to live, leases and locks of a store: what ends, when, and only once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use harness::clock::MovedClock;
use harness::disk::SimDisk;
use harness::{
    NS, change, content, execute, get, key_of, open, options_on, payload_of, put, set, value_of,
};
use objsync_proto::effect::Cause;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Durability, LeaseId, NamespaceId, Revision};
use objsync_proto::limits::{
    EXPIRY_TURN_COUNT_MAX, IDLE_TIMEOUT_MS, LEASED_KEY_BYTES_MAX, LEASES_MAX,
    TRANSACTION_BYTES_MAX, TTL_MS_MAX,
};
use objsync_proto::operation::{Edit, Fence, Operation, Outcome};
use objsync_store::{FeedRead, LogRead, Published, Step, Store, StoreError, StoreOptions};

/// A store without threads, whose time a test moves.
struct Room {
    directory: tempfile::TempDir,
    disk: SimDisk,
    clock: Arc<MovedClock>,
}

impl Room {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            disk: SimDisk::new(),
            clock: Arc::new(MovedClock::new()),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn options(&self) -> StoreOptions {
        StoreOptions {
            threads: false,
            clock: self.clock.clone(),
            ..options_on(&self.disk)
        }
    }

    fn open(&self) -> Store {
        open(self.path(), self.options())
    }

    /// As after a kill.
    fn reopen(&self, store: Store) -> Store {
        self.reopen_with(store, self.options())
    }

    fn reopen_with(&self, store: Store, options: StoreOptions) -> Store {
        store.kill();
        drop(store);
        open(self.path(), options)
    }

    /// Damages all that holds these bytes.
    fn turn_bits_of(&self, bytes: &[u8]) -> Vec<harness::disk::TurnedBit> {
        let mut turned = Vec::new();
        for path in self.disk.files(".seg") {
            let content = self.disk.read(&path).unwrap();
            let places = content.windows(bytes.len()).enumerate();
            for (at, _) in places.filter(|(_, window)| *window == bytes) {
                turned.push(self.disk.turn_bit(&path, at as u64 * 8));
            }
        }
        turned
    }
}

fn leased(name: &str, ttl_ms: Option<u64>, lease: Option<LeaseId>) -> Operation {
    Operation::PutLeased {
        key: key_of(name),
        value: value_of(name),
        ttl_ms,
        lease,
    }
}

fn run(store: &Store, operation: Operation) -> Outcome {
    let answer = execute(store, operation, Durability::Sync).unwrap();
    answer.outcome.unwrap()
}

fn grant(store: &Store, ttl_ms: u64, presence: bool) -> LeaseId {
    match run(store, Operation::GrantLease { ttl_ms, presence }) {
        Outcome::Lease(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn lock(store: &Store, name: &str, lease: LeaseId) -> Option<Revision> {
    let name = key_of(name);
    match run(store, Operation::Lock { name, lease }) {
        Outcome::Locked(fence) => fence,
        other => panic!("{other:?}"),
    }
}

fn expire(store: &Store) -> bool {
    store.step(Step::Expire).unwrap()
}

fn published(store: &Store, after: Revision) -> Vec<Arc<Published>> {
    match store.feed().read(after, usize::MAX) {
        FeedRead::Published(list) => list,
        FeedRead::UpToDate(_) => Vec::new(),
        FeedRead::Behind => panic!("it is in the ring"),
    }
}

/// Keys of the dictionary that a transaction removes.
fn removed(published: &Published) -> Vec<bytes::Bytes> {
    let changes = published.changes.iter();
    let keys = changes.filter(|(of, change)| *of == NS && change.value.is_none());
    keys.map(|(_, change)| change.key.clone()).collect()
}

/// Nothing is left of what once ended.
fn has_no_entries(store: &Store) -> bool {
    store.count(NamespaceId::LEASES).unwrap() == 0
}

#[test]
fn key_ends_at_its_time_in_a_transaction_that_says_why() {
    let room = Room::new();
    let store = room.open();
    run(&store, leased("a", Some(100), None));
    run(&store, leased("b", Some(100), None));
    run(&store, leased("later", Some(101), None));
    let before = store.position().revision;
    room.clock.pass(99);
    assert!(!expire(&store));
    room.clock.pass(1);
    assert!(expire(&store));
    let list = published(&store, before);
    let [ended] = &list[..] else {
        panic!("one transaction, not {list:?}");
    };
    assert_eq!(ended.cause, Cause::Expiry);
    assert_eq!(removed(ended), [key_of("a"), key_of("b")]);
    assert_eq!(ended.time_ms, store.time_ms());
    assert_eq!(
        (get(&store, "a"), get(&store, "later").is_some()),
        (None, true)
    );
    assert!(!expire(&store), "each ends once");
}

#[test]
fn put_that_comes_before_the_end_is_decided_wins() {
    let room = Room::new();
    let store = room.open();
    run(&store, leased("renewed", Some(100), None));
    run(&store, leased("for good", Some(100), None));
    run(&store, leased("sooner", Some(1_000), None));
    room.clock.pass(200);
    run(&store, leased("renewed", Some(100), None));
    set(&store, "for good", "stays");
    run(&store, leased("sooner", Some(10), None));
    assert!(!expire(&store));
    room.clock.pass(10);
    assert!(expire(&store));
    assert_eq!(get(&store, "sooner"), None);
    room.clock.pass(89);
    assert!(!expire(&store));
    room.clock.pass(1);
    assert!(expire(&store));
    room.clock.pass(1 << 40);
    assert!(!expire(&store));
    assert_eq!(get(&store, "for good").as_deref(), Some("stays"));
    assert!(has_no_entries(&store));
}

#[test]
fn what_replaces_a_value_takes_its_time_away_and_what_changes_a_part_keeps_it() {
    let room = Room::new();
    let store = room.open();
    let key = key_of("k");
    let replacing = [
        put("k", "new"),
        Operation::CompareAndSet {
            key: key.clone(),
            expected: Some(payload_of("k")),
            new: Some(value_of("new")),
        },
        Operation::Batch {
            changes: vec![change("k", Some("new"))],
        },
        Operation::Transact {
            reads: vec![],
            ranges: vec![],
            at: Revision(0),
            fences: vec![],
            changes: vec![change("k", Some("new"))],
        },
    ];
    for operation in replacing {
        run(&store, leased("k", Some(5), None));
        run(&store, operation.clone());
        assert!(has_no_entries(&store), "{operation:?}");
        room.clock.pass(10);
        assert!(!expire(&store));
        assert_eq!(get(&store, "k").as_deref(), Some("new"));
    }
    for removal in [
        Operation::Delete { key: key.clone() },
        Operation::DeleteRange {
            start: key.clone(),
            end: None,
            count_max: 1,
        },
    ] {
        run(&store, leased("k", Some(5), None));
        run(&store, removal.clone());
        assert!(has_no_entries(&store), "{removal:?}");
    }
    let number = |value: i64| Operation::PutLeased {
        key: key.clone(),
        value: objsync_proto::stored::seal(
            &objsync_proto::value::int_payload(value),
            objsync_proto::stored::Compression::None,
        )
        .unwrap(),
        ttl_ms: Some(5),
        lease: None,
    };
    run(&store, number(1));
    run(
        &store,
        Operation::Increment {
            key: key.clone(),
            by: 2,
        },
    );
    run(
        &store,
        Operation::PutLeased {
            key: key_of("list"),
            value: objsync_proto::stored::seal(&[0x90], objsync_proto::stored::Compression::None)
                .unwrap(),
            ttl_ms: Some(5),
            lease: None,
        },
    );
    let items = vec![payload_of("a")];
    let patch = Edit::Append { items }.into();
    run(
        &store,
        Operation::Patch {
            key: key_of("list"),
            patch,
        },
    );
    room.clock.pass(5);
    assert!(expire(&store));
    assert!(content(&store).is_empty());
}

#[test]
fn deadline_stands_over_restarts_and_over_clocks_that_are_set() {
    let room = Room::new();
    let mut store = room.open();
    run(&store, leased("k", Some(100_000), None));
    // The clock is set back below what the log has, under an owner and between two.
    for round in 1..=4 {
        room.clock.pass(15_000);
        set(&store, "other", "");
        let logged_ms = store.time_ms();
        room.clock.set_back(40_000);
        room.clock.pass(5_000);
        assert_eq!(
            store.time_ms(),
            logged_ms + 5_000,
            "time passes all the same"
        );
        set(&store, "other", "");
        let logged_ms = store.time_ms();
        store = room.reopen(store);
        assert_eq!(store.time_ms(), logged_ms, "round {round}");
        assert!(!expire(&store));
        set(&store, "other", "");
        let LogRead::Transactions(logged) = store.read_log(Revision(0), usize::MAX).unwrap() else {
            panic!("all of it is there");
        };
        assert!(logged.is_sorted_by_key(|of| of.time_ms), "{logged:?}");
    }
    room.clock.pass(19_999);
    assert!(!expire(&store));
    room.clock.pass(1);
    assert!(expire(&store));
    run(&store, leased("k", Some(100_000), None));
    room.clock.set_forward(1_000_000);
    assert!(expire(&store));
    store = room.reopen(store);
    assert!(!expire(&store), "what has ended does so once");
    assert_eq!(get(&store, "k"), None);
}

#[test]
fn end_that_a_power_cut_took_comes_again_and_one_that_stayed_does_not() {
    let room = Room::new();
    let store = room.open();
    run(&store, leased("k", Some(10), None));
    room.clock.pass(10);
    assert!(expire(&store));
    store.kill();
    drop(store);
    let (mut came_again, mut stayed) = (0, 0);
    for seed in 0..60 {
        let disk = room.disk.copy_with_synced();
        disk.cut_power(&mut harness::random::Random::new(seed));
        let options = StoreOptions {
            disk: Arc::new(disk),
            ..room.options()
        };
        let store = Store::open(room.path(), options).unwrap();
        let is_there = get(&store, "k").is_some();
        assert_eq!(expire(&store), is_there, "seed {seed}");
        assert_eq!(get(&store, "k"), None);
        assert!(has_no_entries(&store));
        *(if is_there {
            &mut came_again
        } else {
            &mut stayed
        }) += 1;
        store.kill();
    }
    assert!(came_again > 0 && stayed > 0, "{came_again} and {stayed}");
}

#[test]
fn lease_that_is_kept_lasts_and_its_keys_end_with_it_at_once() {
    let room = Room::new();
    let store = room.open();
    let keeper = store.keeper();
    let lease = grant(&store, 100, false);
    run(&store, leased("a", None, Some(lease)));
    run(&store, leased("b", Some(1 << 30), Some(lease)));
    run(&store, leased("moved", None, Some(lease)));
    set(&store, "moved", "to itself");
    for _ in 0..5 {
        room.clock.pass(99);
        assert!(!expire(&store));
        let status = keeper.keep(NS, lease).unwrap();
        assert_eq!(
            (status.ttl_ms, status.left_ms, status.presence),
            (100, 100, false)
        );
    }
    let before = store.position().revision;
    room.clock.pass(100);
    assert!(expire(&store));
    let list = published(&store, before);
    assert_eq!(list.len(), 1);
    assert_eq!(removed(&list[0]), [key_of("a"), key_of("b")]);
    assert_eq!(get(&store, "moved").as_deref(), Some("to itself"));
    let gone = keeper.keep(NS, lease).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    let late = execute(&store, leased("late", None, Some(lease)), Durability::Sync).unwrap();
    assert_eq!(late.outcome.unwrap_err().kind, ErrorKind::NotFound);
    assert!(has_no_entries(&store));
}

#[test]
fn lease_belongs_to_its_dictionary() {
    let room = Room::new();
    let store = room.open();
    let lease = grant(&store, 100, false);
    run(&store, leased("a", None, Some(lease)));
    let (other, _) = store.create_namespace("other", vec![]).unwrap();
    let revoke = Operation::RevokeLease { lease };
    let foreign = objsync_store::Submission {
        namespace: other,
        ..harness::submission(revoke.clone(), Durability::Sync)
    };
    let answer = store.execute(foreign).unwrap();
    assert_eq!(answer.outcome, Ok(Outcome::Deleted(0)));
    let kept = store.keeper().keep(other, lease).unwrap_err();
    assert_eq!(kept.kind(), ErrorKind::NotFound);
    assert_eq!(run(&store, revoke), Outcome::Deleted(1));
}

#[test]
fn new_owner_gives_leases_their_whole_time_again_and_presence_a_grace() {
    let room = Room::new();
    let mut store = room.open();
    let keeper = store.keeper();
    let lease = grant(&store, 60_000, false);
    let (present, left) = (grant(&store, 60_000, true), grant(&store, 60_000, true));
    for (name, lease) in [("leased", lease), ("present", present), ("left", left)] {
        run(&store, leased(name, None, Some(lease)));
    }
    keeper.keep(NS, present).unwrap();
    keeper.keep(NS, left).unwrap();
    room.clock.pass(59_999);
    assert!(!expire(&store), "presence lasts as long as its keeper");
    store = room.reopen(store);
    let keeper = store.keeper();
    room.clock.pass(IDLE_TIMEOUT_MS - 1);
    assert!(!expire(&store));
    keeper.keep(NS, present).unwrap();
    room.clock.pass(1);
    assert!(expire(&store));
    assert_eq!(get(&store, "left"), None, "nobody came to keep it");
    room.clock.pass(59_999 - IDLE_TIMEOUT_MS);
    assert!(!expire(&store));
    room.clock.pass(1);
    assert!(expire(&store));
    assert_eq!(get(&store, "leased"), None);
    assert!(get(&store, "present").is_some());
    drop(keeper);
    assert!(expire(&store));
    assert_eq!(get(&store, "present"), None);
    assert!(has_no_entries(&store));
}

#[test]
fn fences_grow_over_releases_ends_and_restarts_and_one_holds_at_a_time() {
    let room = Room::new();
    let mut store = room.open();
    let mut last = Revision(0);
    for round in 0..12 {
        let (mine, theirs) = (grant(&store, 100, false), grant(&store, 1_000, false));
        let fence = lock(&store, "l", mine).expect("nobody holds it");
        assert!(fence > last, "round {round}: {fence:?} after {last:?}");
        last = fence;
        assert_eq!(lock(&store, "l", mine), Some(fence), "it is mine");
        assert_eq!(lock(&store, "l", theirs), None);
        assert_eq!(store.lock_holder(NS, &key_of("l")).unwrap(), Some(fence));
        let name = key_of("l");
        let other = Operation::Unlock {
            name: name.clone(),
            fence: fence.next(),
        };
        assert_eq!(run(&store, other), Outcome::Swapped(false));
        if round % 3 == 0 {
            store = room.reopen(store);
            assert_eq!(lock(&store, "l", theirs), None, "it is held still");
        }
        match round % 4 {
            0 => drop(run(&store, Operation::Unlock { name, fence })),
            1 => drop(run(&store, Operation::RevokeLease { lease: mine })),
            _ => {
                room.clock.pass(100);
                assert!(expire(&store));
            }
        }
        assert_eq!(store.lock_holder(NS, &key_of("l")).unwrap(), None);
        for lease in [mine, theirs] {
            run(&store, Operation::RevokeLease { lease });
        }
        assert!(has_no_entries(&store));
    }
}

#[test]
fn holder_that_was_overtaken_changes_nothing() {
    let room = Room::new();
    let store = room.open();
    let (first, second) = (grant(&store, 100, false), grant(&store, 1_000, false));
    let guarded = |fence, text: &str| Operation::Transact {
        reads: vec![],
        ranges: vec![],
        at: Revision(0),
        fences: vec![Fence {
            name: key_of("l"),
            fence,
        }],
        changes: vec![change("k", Some(text))],
    };
    let old = lock(&store, "l", first).unwrap();
    assert_eq!(run(&store, guarded(old, "first")), Outcome::Done);
    room.clock.pass(100);
    assert!(expire(&store));
    let fenced = Outcome::Fenced { name: key_of("l") };
    assert_eq!(run(&store, guarded(old, "late")), fenced);
    let new = lock(&store, "l", second).unwrap();
    assert_eq!(run(&store, guarded(old, "late")), fenced);
    assert_eq!(get(&store, "k").as_deref(), Some("first"));
    assert_eq!(run(&store, guarded(new, "second")), Outcome::Done);
    assert_eq!(get(&store, "k").as_deref(), Some("second"));
}

#[test]
fn whoever_waits_for_a_lock_is_told_each_time_one_is_free() {
    let room = Room::new();
    let store = room.open();
    let told = Arc::new(AtomicU64::new(0));
    let counted = told.clone();
    let guard = store.on_unlock(Arc::new(move |freed| {
        assert_eq!(freed, [(NS, key_of("l"))]);
        counted.fetch_add(1, Ordering::Relaxed);
    }));
    let lease = grant(&store, 100, false);
    let name = key_of("l");
    let fence = lock(&store, "l", lease).unwrap();
    set(&store, "other", "");
    assert_eq!(told.load(Ordering::Relaxed), 0);
    run(&store, Operation::Unlock { name, fence });
    assert_eq!(told.load(Ordering::Relaxed), 1);
    lock(&store, "l", lease).unwrap();
    room.clock.pass(100);
    assert!(expire(&store));
    assert_eq!(told.load(Ordering::Relaxed), 2);
    drop(guard);
    let lease = grant(&store, 100, false);
    lock(&store, "l", lease).unwrap();
    run(&store, Operation::RevokeLease { lease });
    assert_eq!(told.load(Ordering::Relaxed), 2);
}

#[test]
fn very_many_ends_are_several_bounded_transactions() {
    let room = Room::new();
    let store = room.open();
    let count = 5_000;
    for number in 0..count {
        execute(
            &store,
            leased(&format!("{number}"), Some(10), None),
            Durability::Buffered,
        )
        .unwrap();
    }
    let before = store.position().revision;
    room.clock.pass(10);
    while expire(&store) {}
    let list = published(&store, before);
    assert!(list.len() > 1);
    let all: Vec<_> = list.iter().flat_map(|of| removed(of)).collect();
    assert_eq!(all.len(), count);
    assert!(
        list.iter()
            .all(|of| of.changes.len() <= 3 * 1_024 && of.cause == Cause::Expiry)
    );
    assert!(has_no_entries(&store) && content(&store).is_empty());
}

#[test]
fn lock_of_who_is_gone_is_freed_before_very_many_keys_have_ended() {
    let room = Room::new();
    let store = room.open();
    let lease = grant(&store, 100, false);
    lock(&store, "l", lease).unwrap();
    for number in 0..=EXPIRY_TURN_COUNT_MAX {
        let key = leased(&format!("{number}"), Some(100), None);
        execute(&store, key, Durability::Buffered).unwrap();
    }
    room.clock.pass(100);
    assert!(expire(&store));
    assert_eq!(store.lock_holder(NS, &key_of("l")).unwrap(), None);
    assert!(!content(&store).is_empty(), "it was the first turn");
    while expire(&store) {}
    assert!(has_no_entries(&store) && content(&store).is_empty());
}

#[test]
fn batch_as_large_as_one_may_be_is_taken_whatever_of_leases_ends_with_it() {
    let room = Room::new();
    let store = room.open();
    let long = |number: usize| format!("{number:04}{}", "k".repeat(LEASED_KEY_BYTES_MAX - 10));
    let write = |name: &str| change(name, Some(""));
    let one = write(&long(0));
    let bytes = objsync_proto::evaluate::change_bytes(&one.key, one.value.as_deref());
    let count = TRANSACTION_BYTES_MAX / bytes;
    for number in 0..count {
        let operation = Operation::PutLeased {
            key: key_of(&long(number)),
            value: value_of("ends"),
            ttl_ms: Some(1_000_000),
            lease: None,
        };
        execute(&store, operation, Durability::Buffered).unwrap();
    }
    // What is queued before it goes into the log before it.
    for number in 0..4 {
        let beside = put(&format!("beside {number}"), &"x".repeat(1_000_000));
        let done =
            Box::new(|answer: Result<objsync_store::Answer, StoreError>| drop(answer.unwrap()));
        store.submit(harness::submission(beside, Durability::Buffered), done);
    }
    let (answers, answered) = std::sync::mpsc::channel();
    let changes = (0..count).map(|number| write(&long(number))).collect();
    let batch = harness::submission(Operation::Batch { changes }, Durability::Sync);
    let done = move |answer: Result<objsync_store::Answer, StoreError>| {
        answers.send(answer.unwrap()).unwrap();
    };
    store.submit(batch, Box::new(done));
    while store.step(Step::Queue).unwrap() {}
    assert_eq!(answered.recv().unwrap().outcome, Ok(Outcome::Done));
    assert!(has_no_entries(&store));
    let store = room.reopen(store);
    assert!(has_no_entries(&store));
    assert_eq!(store.count(NS).unwrap(), count as u64 + 4);
    assert_eq!(get(&store, &long(count - 1)).as_deref(), Some(""));
}

#[test]
fn writes_of_one_batch_count_what_they_leave_and_not_what_they_change() {
    let room = Room::new();
    let store = room.open();
    let granted = |presence| Operation::GrantLease {
        ttl_ms: 1_000_000,
        presence,
    };
    let mut leases = Vec::new();
    let grant = || execute(&store, granted(false), Durability::Buffered).unwrap();
    while let Ok(Outcome::Lease(lease)) = grant().outcome {
        leases.push(lease);
    }
    let lease = leases.pop().expect("many were granted");
    run(&store, Operation::RevokeLease { lease });
    let revoked = |number: usize| Operation::RevokeLease {
        lease: leases[number],
    };
    // One place is free all the while, or one more.
    let batch = [
        leased("a", Some(1_000_000), Some(leases[9])),
        leased("a", Some(2_000_000), Some(leases[8])),
        put("a", "for good"),
        granted(false),
        revoked(0),
        granted(true),
    ];
    let (answers, answered) = std::sync::mpsc::channel();
    for operation in batch.into_iter().chain([granted(false)]) {
        let answers = answers.clone();
        let done = move |answer: Result<objsync_store::Answer, StoreError>| {
            answers.send(answer.unwrap().outcome).unwrap();
        };
        let submission = harness::submission(operation, Durability::Buffered);
        store.submit(submission, Box::new(done));
    }
    assert!(store.step(Step::Queue).unwrap());
    let outcomes: Vec<_> = answered.try_iter().collect();
    assert_eq!(outcomes.len(), 7, "it is one batch");
    assert!(outcomes[..6].iter().all(Result::is_ok), "{outcomes:?}");
    let full = outcomes[6].clone().unwrap_err();
    assert_eq!(full.kind, ErrorKind::Full);
}

#[test]
fn dictionary_that_takes_all_the_leases_it_can_leaves_some_to_another() {
    let room = Room::new();
    let mut store = room.open();
    let (other, _) = store.create_namespace("other", vec![]).unwrap();
    let grant_in = |store: &Store, namespace| {
        let grant = Operation::GrantLease {
            ttl_ms: TTL_MS_MAX,
            presence: false,
        };
        let granted = objsync_store::Submission {
            namespace,
            ..harness::submission(grant, Durability::Buffered)
        };
        store.execute(granted).unwrap().outcome
    };
    let mut taken = 0;
    while grant_in(&store, NS).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, LEASES_MAX / 4 * 3);
    store.flush(store.position().revision).unwrap();
    // Counted anew, from what is there.
    store = room.reopen(store);
    assert_eq!(grant_in(&store, NS).unwrap_err().kind, ErrorKind::Full);
    let mut others = 0;
    while grant_in(&store, other).is_ok() {
        others += 1;
    }
    assert_eq!(others, LEASES_MAX / 256);
}

#[test]
fn entries_of_leases_are_no_dictionary_of_anybody() {
    let room = Room::new();
    let store = room.open();
    run(&store, leased("k", Some(10), None));
    assert_eq!(store.count(NS).unwrap(), 1);
    let names: Vec<_> = store
        .namespaces()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["default"]);
    let submission = objsync_store::Submission {
        namespace: NamespaceId::LEASES,
        ..harness::submission(put("k", "v"), Durability::Sync)
    };
    let refused = store.execute(submission).unwrap().outcome.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotFound);
}

/// With threads and the clock of the system.
fn real(directory: &Path, disk: &SimDisk) -> Store {
    open(directory, options_on(disk))
}

/// Waits until a commit makes it so.
fn until(store: &Store, what: &str, is_so: impl Fn() -> bool) {
    let (told, commits) = std::sync::mpsc::channel();
    let _guard = store.feed().on_commit(Box::new(move || {
        let _ = told.send(());
    }));
    while !is_so() {
        let commit = commits.recv_timeout(Duration::from_secs(20));
        assert!(commit.is_ok() || is_so(), "{what}");
    }
}

#[test]
fn store_ends_what_has_had_its_time_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = real(directory.path(), &disk);
    run(&store, leased("late", Some(3_600_000), None));
    // Sooner than what the store waits for.
    run(&store, leased("soon", Some(30), None));
    until(&store, "a key never ends", || get(&store, "soon").is_none());
    let keeper = store.keeper();
    let lease = grant(&store, 3_600_000, true);
    keeper.keep(NS, lease).unwrap();
    run(&store, leased("present", None, Some(lease)));
    keeper.end();
    until(&store, "presence never ends", || {
        get(&store, "present").is_none()
    });
    assert!(get(&store, "late").is_some());
}

#[test]
fn what_a_store_that_cannot_write_did_not_end_the_next_owner_ends() {
    let room = Room::new();
    let store = room.open();
    run(&store, leased("k", Some(10), None));
    let lease = grant(&store, 10, false);
    room.clock.pass(10);
    room.disk.fail_writes(true);
    store.step(Step::Expire).unwrap_err();
    assert!(get(&store, "k").is_some());
    assert!(store.keeper().keep(NS, lease).is_err(), "its end was begun");
    room.disk.fail_writes(false);
    let store = room.reopen(store);
    assert!(expire(&store));
    assert_eq!(get(&store, "k"), None);
    store.keeper().keep(NS, lease).expect("it begins anew");
}

#[test]
fn key_that_cannot_be_read_keeps_nothing_else_from_its_end() {
    let room = Room::new();
    let mut options = room.options();
    options.limits.segment_bytes = 4 << 10;
    let store = open(room.path(), options.clone());
    let mark = "a value that nobody else has".repeat(20);
    let (broken, whole) = (grant(&store, 100, false), grant(&store, 100, false));
    for (name, ttl_ms, lease) in [
        ("broken", Some(100), None),
        ("member", None, Some(broken)),
        ("fine", Some(100), None),
    ] {
        let value = match name {
            "fine" => value_of("fine"),
            _ => value_of(&mark),
        };
        let key = key_of(name);
        run(
            &store,
            Operation::PutLeased {
                key,
                value,
                ttl_ms,
                lease,
            },
        );
    }
    lock(&store, "theirs", broken).unwrap();
    lock(&store, "free", whole).unwrap();
    for number in 0..40 {
        set(&store, &format!("filler {number}"), &"x".repeat(300));
    }
    // Without an index: what is read is read from the log.
    let store = room.reopen_with(store, options);
    let turned = room.turn_bits_of(mark.as_bytes());
    assert!(turned.len() >= 2, "each value stands in the log");
    room.clock.pass(100);
    // It may pass, so all of it is tried again at first.
    let tries = (0..100).take_while(|_| store.step(Step::Expire).is_err());
    assert_eq!(tries.count(), 30);
    assert_eq!(get(&store, "fine"), None);
    assert_eq!(store.lock_holder(NS, &key_of("free")).unwrap(), None);
    assert!(store.lock_holder(NS, &key_of("theirs")).unwrap().is_some());
    room.clock.pass(1_000);
    assert!(!expire(&store), "it is left alone for a while");
    let status = store.keeper().keep(NS, broken);
    status.expect("nobody decided its end");
    for bit in turned {
        room.disk.turn_back(bit);
    }
    room.clock.pass(60_000);
    assert!(expire(&store));
    assert_eq!((get(&store, "broken"), get(&store, "member")), (None, None));
    assert_eq!(store.lock_holder(NS, &key_of("theirs")).unwrap(), None);
    assert!(has_no_entries(&store));
}

#[test]
fn time_to_live_survives_a_snapshot_and_an_index_that_is_made_again() {
    let room = Room::new();
    let mut options = room.options();
    options.limits.segment_bytes = 4 << 10;
    options.limits.snapshot_log_bytes = 8 << 10;
    options.limits.retention_bytes = 8 << 10;
    let store = open(room.path(), options.clone());
    let lease = grant(&store, 1_000, false);
    run(&store, leased("k", Some(500), Some(lease)));
    lock(&store, "l", lease).unwrap();
    for number in 0..200 {
        set(&store, &format!("filler {number}"), &"x".repeat(300));
        store.step(Step::Keep).unwrap();
    }
    let trimmed = store.read_log(Revision(0), 1).unwrap();
    assert!(
        matches!(trimmed, LogRead::Trimmed),
        "only a snapshot has it"
    );
    store.kill();
    drop(store);
    let store = open(room.path(), options);
    assert_eq!(lock(&store, "l", LeaseId(lease.0 + 1)), None);
    room.clock.pass(500);
    assert!(expire(&store));
    assert_eq!(get(&store, "k"), None);
    room.clock.pass(500);
    assert!(expire(&store));
    assert!(has_no_entries(&store));
}

#[test]
fn error_of_a_lease_is_an_answer_and_not_one_of_the_store() {
    let room = Room::new();
    let store = room.open();
    let key = key_of("k");
    let bad = Operation::PutLeased {
        key,
        value: value_of(""),
        ttl_ms: Some(0),
        lease: None,
    };
    let answer: Result<_, StoreError> = execute(&store, bad, Durability::Sync);
    assert_eq!(
        answer.unwrap().outcome.unwrap_err().kind,
        ErrorKind::Invalid
    );
}
