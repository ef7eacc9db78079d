//! Locks: one holder at a time, over processes, owners and holders that hang.

use std::time::Duration;

use objsync::{Dict, ErrorKind, ObjectError, Options, value};

use crate::children;
use crate::peer::{Peer, k, text, until, v};
use crate::roles::{in_each_role, in_each_role_with};
use crate::told::count_under_lock;

const LONG: Duration = Duration::from_secs(20);
/// Longer than any test waits.
const HOUR: Duration = Duration::from_secs(3600);
const NOT: Option<Duration> = Some(Duration::ZERO);

#[test]
fn lock_is_held_by_one_and_each_holder_has_a_larger_fence() {
    in_each_role(|stage| {
        let mine = stage.dict.lock(&k("l"), LONG).unwrap();
        let yours = stage.other.lock(&k("l"), LONG).unwrap();
        let other_name = stage.other.lock(&k("m"), LONG).unwrap();
        let first = mine.enter(None).wait().unwrap();
        assert!(mine.is_held() && mine.fence() == Some(first));
        assert!(!yours.acquire(NOT).wait().unwrap());
        assert!(other_name.acquire(NOT).wait().unwrap());
        mine.release().wait().unwrap();
        assert!(!mine.is_held() && mine.fence().is_none());
        assert!(yours.enter(NOT).wait().unwrap() > first);
        let error = yours.acquire(None).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "held by this object");
        yours.release().wait().unwrap();
        assert_eq!(
            yours.release().wait().unwrap_err().kind(),
            ErrorKind::Invalid
        );
    });
}

#[test]
fn waiting_for_a_lock_ends_when_it_is_given_back_and_in_time() {
    let options = Options {
        // Shorter than the wait, which then takes several requests.
        timeout: Duration::from_millis(300),
        ..Options::default()
    };
    in_each_role_with(&options, |stage| {
        let mine = stage.dict.lock(&k("l"), LONG).unwrap();
        let yours = stage.other.lock(&k("l"), LONG).unwrap();
        yours.enter(None).wait().unwrap();
        let patience = Some(Duration::from_millis(500));
        match mine.enter(patience).wait().unwrap_err() {
            ObjectError::LockTimeout { name, .. } => assert_eq!(name, k("l")),
            other => panic!("{other:?}"),
        }
        let waiting = std::thread::spawn(move || mine.enter(None).wait());
        std::thread::park_timeout(Duration::from_millis(400));
        assert!(!waiting.is_finished());
        yours.release().wait().unwrap();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn counter_that_is_read_and_written_under_a_lock_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut peers: Vec<_> = (0..3).map(|_| Peer::open(&path)).collect();
    let dict = Dict::open(&path, Options::default()).unwrap();
    for peer in &mut peers {
        peer.tell("count-under-lock l 40");
    }
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let dict = dict.clone();
            std::thread::spawn(move || count_under_lock(&dict, "l", 40))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
    for peer in &mut peers {
        assert_eq!(peer.answer(), "ok");
    }
    dict.sync().wait().unwrap();
    let counted = dict.get(&k("counter")).unwrap().unwrap();
    assert_eq!(value::from_payload::<i64>(&counted).unwrap(), 5 * 40);
}

#[test]
fn lock_of_a_killed_process_is_free_after_its_time() {
    in_each_role(|stage| {
        let mut holder = Peer::open(&stage.path);
        let fence: u64 = holder.ask("lock l 1000").parse().unwrap();
        let lock = stage.dict.lock(&k("l"), LONG).unwrap();
        assert!(!lock.acquire(NOT).wait().unwrap());
        holder.kill();
        assert!(lock.enter(Some(LONG)).wait().unwrap().0 > fence);
        lock.release().wait().unwrap();
    });
}

#[test]
fn holder_that_stood_still_is_fenced_off_and_told_when_it_leaves() {
    in_each_role(|stage| {
        let mut holder = Peer::open(&stage.path);
        holder.ask("lock l 1000").parse::<u64>().unwrap();
        assert_eq!(holder.ask("set-if-locked a first"), "ok");
        children::stop(holder.pid());
        let lock = stage.dict.lock(&k("l"), LONG).unwrap();
        lock.enter(Some(LONG)).wait().unwrap();
        let done = stage.dict.transact(|t| {
            t.require(&lock)?;
            t.set(&k("a"), v("second"))
        });
        done.unwrap();
        children::go_on(holder.pid());
        assert_eq!(holder.ask("set-if-locked a third"), "fenced");
        assert_eq!(holder.ask("unlock"), "fenced");
        assert_eq!(text(&stage.dict, "a").as_deref(), Some("second"));
        lock.release().wait().unwrap();
    });
}

#[test]
fn lock_is_held_over_the_death_of_the_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    let mut other = Peer::open(&path);
    let lock = dict.lock(&k("l"), Duration::from_secs(4)).unwrap();
    let fence = lock.enter(None).wait().unwrap();
    let theirs: u64 = other.ask("lock m 4000").parse().unwrap();
    assert!(theirs > fence.0);
    owner.tell("count-under-lock l 1");
    owner.kill();
    let mut late = Peer::open(&path);
    late.tell("lock l 4000");
    dict.transact(|t| {
        t.require(&lock)?;
        t.set(&k("a"), v("by the holder"))
    })
    .unwrap();
    assert_eq!(other.ask("set-if-locked b x"), "ok");
    assert!(lock.is_held());
    lock.release().wait().unwrap();
    assert!(late.answer().parse::<u64>().unwrap() > theirs);
}

#[test]
fn call_that_is_dropped_while_it_waits_or_is_answered_leaves_nothing_behind() {
    in_each_role(|stage| {
        let mine = stage.dict.lock(&k("l"), LONG).unwrap();
        let yours = stage.other.lock(&k("l"), LONG).unwrap();
        for round in 0..40 {
            yours.enter(Some(LONG)).wait().unwrap();
            let mut waiting = mine.acquire(None);
            for _ in 0..20 {
                assert!(waiting.try_take().is_none());
                std::thread::park_timeout(Duration::from_micros(200));
            }
            yours.release().wait().unwrap();
            // Dropped a little later each time: before, while and after it is answered.
            let mut taken = None;
            for _ in 0..round {
                taken = waiting.try_take();
                if taken.is_some() {
                    break;
                }
                std::thread::park_timeout(Duration::from_micros(50));
            }
            drop(waiting);
            if let Some(taken) = taken {
                assert!(taken.unwrap());
                mine.release().wait().unwrap();
            }
            assert!(yours.acquire(Some(LONG)).wait().unwrap(), "round {round}");
            yours.release().wait().unwrap();
        }
        assert!(mine.acquire(Some(LONG)).wait().unwrap());
        drop(mine);
        assert!(yours.acquire(Some(LONG)).wait().unwrap(), "given back");
        yours.release().wait().unwrap();
    });
}

#[test]
fn lock_that_this_object_never_took_cannot_be_demanded() {
    in_each_role(|stage| {
        let lock = stage.dict.lock(&k("l"), LONG).unwrap();
        let error = stage.dict.transact(|t| t.require(&lock)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    });
}

#[test]
fn child_of_a_fork_does_not_give_back_the_lock_of_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    let mut holder = Peer::open(&path);
    holder.ask("lock l 5000").parse::<u64>().unwrap();
    assert_eq!(holder.ask("fork-unlock"), "0");
    assert_eq!(holder.ask("set-if-locked a x"), "ok");
    until("it was done", || {
        let dict = Dict::open(&path, Options::default()).unwrap();
        text(&dict, "a").is_some()
    });
    assert_eq!(holder.ask("unlock"), "ok");
}

#[test]
fn lock_of_another_dictionary_cannot_be_demanded() {
    let folder = tempfile::tempdir().unwrap();
    let open = |store: &str, namespace: &str| {
        let options = Options {
            namespace: namespace.to_owned(),
            ..Options::default()
        };
        Dict::open(folder.path().join(store), options).unwrap()
    };
    let dict = open("data", "one");
    for other in [open("data", "two"), open("other", "one")] {
        let lock = other.lock(&k("l"), LONG).unwrap();
        lock.enter(None).wait().unwrap();
        let error = dict.transact(|t| t.require(&lock)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        lock.release().wait().unwrap();
    }
    let lock = dict.lock(&k("l"), LONG).unwrap();
    lock.enter(None).wait().unwrap();
    let same = open("data", "one");
    same.transact(|t| t.require(&lock)).unwrap();
}

#[test]
fn release_that_nobody_waits_for_gives_the_lock_back() {
    in_each_role(|stage| {
        let mine = stage.dict.lock(&k("l"), HOUR).unwrap();
        let yours = stage.other.lock(&k("l"), HOUR).unwrap();
        mine.enter(None).wait().unwrap();
        drop(mine.release());
        assert!(yours.acquire(Some(LONG)).wait().unwrap());
        drop(yours.release().start());
        assert!(mine.acquire(Some(LONG)).wait().unwrap());
    });
}

#[test]
fn release_that_nobody_answered_gives_the_lock_back_to_the_next_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let impatient = Options {
        timeout: Duration::from_millis(300),
        promote: false,
        ..Options::default()
    };
    let dict = Dict::open(&path, impatient).unwrap();
    let mine = dict.lock(&k("l"), HOUR).unwrap();
    mine.enter(None).wait().unwrap();
    owner.kill();
    mine.release().wait().unwrap_err();
    // So long that what is asked once is given up too.
    std::thread::park_timeout(Duration::from_millis(900));
    let _next = Peer::open(&path);
    let other = Dict::open(&path, Options::default()).unwrap();
    let yours = other.lock(&k("l"), HOUR).unwrap();
    assert!(yours.acquire(Some(LONG)).wait().unwrap());
}

#[test]
fn answer_that_comes_after_the_end_of_the_lease_gives_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    let (mut late, mut other) = (Peer::open(&path), Peer::open(&path));
    assert_eq!(late.ask("lock-held-up l 400"), "ok");
    // Nobody keeps the lease meanwhile, so another one gets the lock.
    other.ask("lock l 60000").parse::<u64>().unwrap();
    assert_eq!(late.ask("lock-go-on"), "false");
    assert_eq!(other.ask("set-if-locked a x"), "ok");
}

#[test]
fn look_at_a_lock_that_is_held_writes_nothing() {
    in_each_role(|stage| {
        let mine = stage.dict.lock(&k("l"), LONG).unwrap();
        let yours = stage.other.lock(&k("l"), LONG).unwrap();
        yours.enter(None).wait().unwrap();
        let before = stage.dict.sync().wait().unwrap().revision;
        assert!(!mine.acquire(NOT).wait().unwrap());
        assert_eq!(stage.dict.sync().wait().unwrap().revision, before);
        yours.release().wait().unwrap();
        assert!(mine.acquire(NOT).wait().unwrap());
    });
}
