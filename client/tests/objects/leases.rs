//! Keys that end by themselves: by time, with a lease, with a connection.

use std::time::Duration;

use objsync::{Dict, ErrorKind, KeyRange, ObjectError, Options, Watch};

use crate::children;
use crate::peer::{Peer, k, text, until, v};
use crate::roles::{Stage, in_each_role};

const SOON: Duration = Duration::from_millis(60);

/// Waits until a key that was put with a time to live is gone: by then so much time has passed at
/// the owner.
fn pass(dict: &Dict, time: Duration) {
    let watch = dict.watch(KeyRange::default(), None).unwrap();
    dict.set_leased(&k("clock"), v("ticks"), Some(time), None)
        .wait()
        .unwrap();
    gone(&watch, "clock");
}

/// Waits for the event that removes a key.
fn gone(watch: &Watch, name: &str) -> objsync::WatchEvent {
    let wanted = k(name);
    for _ in 0..10_000 {
        let event = watch.recv_timeout(Duration::from_secs(20)).unwrap();
        let event = event.unwrap_or_else(|| panic!("in 20 s {name} is not removed"));
        if event.key == wanted && event.value.is_none() {
            return event;
        }
    }
    panic!("{name} is not removed");
}

#[test]
fn key_with_a_time_to_live_is_removed_and_watchers_hear_of_it() {
    in_each_role(|stage| {
        let watch = stage.other.watch(KeyRange::default(), None).unwrap();
        let put = stage.dict.set_leased(&k("token"), v("x"), Some(SOON), None);
        let ack = put.wait().unwrap();
        let event = gone(&watch, "token");
        assert!(event.revision > ack.revision);
        assert!(event.origin.is_none(), "nobody asked for it");
        until("the handle sees it too", || {
            text(&stage.dict, "token").is_none()
        });
    });
}

#[test]
fn plain_put_takes_the_time_to_live_away_and_a_patch_keeps_it() {
    in_each_role(|stage| {
        let put = |name: &str| {
            let one = objsync::value::to_payload(&1).unwrap();
            let put = stage.dict.set_leased(&k(name), one, Some(SOON), None);
            put.wait().unwrap();
        };
        ["set", "batch", "transact", "incr"]
            .into_iter()
            .for_each(put);
        stage.dict.set(&k("set"), v("stays")).wait().unwrap();
        let stays = objsync::Change {
            key: k("batch").into(),
            value: Some(v("stays")),
        };
        stage.dict.batch(vec![stays]).wait().unwrap();
        let transacted = stage.dict.transact(|t| t.set(&k("transact"), v("stays")));
        transacted.unwrap();
        // Until it was in time: the key that is gone already is made anew, to stay.
        put("incr");
        while stage.dict.incr(&k("incr"), 1).wait().unwrap() != 2 {
            stage.dict.delete(&k("incr")).wait().unwrap();
            put("incr");
        }
        pass(&stage.dict, SOON * 2);
        for name in ["set", "batch", "transact"] {
            assert_eq!(text(&stage.dict, name).as_deref(), Some("stays"), "{name}");
        }
        assert!(!stage.dict.contains(&k("incr")).unwrap());
    });
}

#[test]
fn put_that_renews_a_time_to_live_is_not_removed_by_the_older_one() {
    in_each_role(|stage| {
        let put = |ttl| {
            stage
                .dict
                .set_leased(&k("a"), v("x"), Some(ttl), None)
                .wait()
                .unwrap();
        };
        put(SOON);
        put(Duration::from_secs(600));
        pass(&stage.dict, SOON * 2);
        assert!(stage.dict.contains(&k("a")).unwrap());
    });
}

#[test]
fn time_out_of_bounds_is_refused_by_its_limit() {
    in_each_role(|stage| {
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        for error in [
            stage
                .dict
                .set_leased(&k("a"), v("x"), Some(century), None)
                .wait()
                .unwrap_err(),
            stage.dict.lease(century).wait().unwrap_err(),
            stage.dict.lease(Duration::ZERO).wait().unwrap_err(),
            stage.dict.lock(&k("a"), Duration::ZERO).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            let limit = objsync::limits::TTL_MS_MAX.to_string();
            assert!(error.to_string().contains(&limit), "{error}");
        }
    });
}

#[test]
fn lease_is_kept_for_longer_than_its_time_and_its_end_removes_its_keys() {
    in_each_role(|stage| {
        let lease = stage.dict.lease(Duration::from_secs(1)).wait().unwrap();
        for name in ["a", "b"] {
            let put = stage.dict.set_leased(&k(name), v("x"), None, Some(&lease));
            put.wait().unwrap();
        }
        pass(&stage.dict, Duration::from_secs(2));
        assert!(lease.is_alive());
        assert!(stage.other.contains(&k("a")).unwrap());
        lease.close().wait().unwrap();
        assert!(!lease.is_alive());
        lease.close().wait().unwrap();
        assert!(!stage.dict.contains(&k("a")).unwrap());
        assert!(!stage.dict.contains(&k("b")).unwrap());
        let again = stage.dict.set_leased(&k("a"), v("x"), None, Some(&lease));
        match again.wait().unwrap_err() {
            ObjectError::LeaseEnded { lease: ended, .. } => assert_eq!(ended, lease.id()),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn lease_that_nobody_keeps_ends() {
    in_each_role(|stage| {
        let watch = stage.other.watch(KeyRange::default(), None).unwrap();
        let lease = stage.dict.lease(SOON).wait().unwrap();
        let put = stage.dict.set_leased(&k("a"), v("x"), None, Some(&lease));
        put.wait().unwrap();
        drop(lease);
        gone(&watch, "a");
    });
}

#[test]
fn lease_of_another_dictionary_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let open = |namespace: &str| {
        let options = Options {
            namespace: namespace.to_owned(),
            ..Options::default()
        };
        Dict::open(&path, options).unwrap()
    };
    let (one, two) = (open("one"), open("two"));
    let lease = one.lease(Duration::from_secs(60)).wait().unwrap();
    let error = two.set_leased(&k("a"), v("x"), None, Some(&lease)).wait();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn what_a_killed_process_leased_is_removed() {
    in_each_role(|stage| {
        let watch = stage.dict.watch(KeyRange::default(), None).unwrap();
        let mut holder = Peer::open(&stage.path);
        assert_eq!(holder.ask("lease a 1000"), "ok");
        pass(&stage.dict, Duration::from_secs(2));
        assert!(stage.dict.contains(&k("a")).unwrap(), "it was kept");
        holder.kill();
        gone(&watch, "a");
    });
}

#[test]
fn process_that_stood_still_learns_that_its_lease_has_ended() {
    in_each_role(|stage| {
        let watch = stage.dict.watch(KeyRange::default(), None).unwrap();
        let mut holder = Peer::open(&stage.path);
        assert_eq!(holder.ask("lease a 1000"), "ok");
        children::stop(holder.pid());
        gone(&watch, "a");
        children::go_on(holder.pid());
        assert_eq!(holder.ask("lease-again a"), "lease ended");
        assert!(!stage.dict.contains(&k("a")).unwrap());
    });
}

#[test]
fn leases_and_times_to_live_go_on_over_the_death_of_the_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    let mut holder = Peer::open(&path);
    assert_eq!(holder.ask("lease kept 1500"), "ok");
    let lease = dict.lease(Duration::from_millis(1500)).wait().unwrap();
    let put = dict.set_leased(&k("mine"), v("x"), None, Some(&lease));
    put.wait().unwrap();
    let put = dict.set_leased(&k("short"), v("x"), Some(Duration::from_millis(900)), None);
    put.wait().unwrap();
    owner.kill();
    pass(&dict, Duration::from_secs(3));
    until("the key with a time to live is gone", || {
        text(&dict, "short").is_none()
    });
    assert_eq!(text(&dict, "kept").as_deref(), Some("leased"));
    assert_eq!(text(&dict, "mine").as_deref(), Some("x"));
    assert!(lease.is_alive());
    let watch = dict.watch(KeyRange::default(), None).unwrap();
    // Whoever owns the store by now: the lease of the other one ends with it.
    if dict.status().role.to_string() == "owner" {
        holder.kill();
        gone(&watch, "kept");
    }
}

#[test]
fn presence_ends_with_its_process_and_with_its_block() {
    in_each_role(|stage| {
        let watch = stage.dict.watch(KeyRange::default(), None).unwrap();
        let mut holder = Peer::open(&stage.path);
        assert_eq!(holder.ask("present theirs"), "ok");
        assert!(synced(stage, "theirs"));
        holder.kill();
        gone(&watch, "theirs");
        let mine = stage.dict.presence(&k("mine"), v("here")).wait().unwrap();
        assert!(synced(stage, "mine"));
        mine.close().wait().unwrap();
        mine.close().wait().unwrap();
        assert!(!stage.dict.contains(&k("mine")).unwrap());
        drop(
            stage
                .dict
                .presence(&k("dropped"), v("here"))
                .wait()
                .unwrap(),
        );
        gone(&watch, "dropped");
    });
}

#[test]
fn presence_ends_with_its_handle_while_another_one_holds_the_store_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let open = || Dict::open(&path, Options::default()).unwrap();
    let (dict, other) = (open(), open());
    let present = dict.presence(&k("mine"), v("here")).wait().unwrap();
    let theirs = other.presence(&k("theirs"), v("here")).wait().unwrap();
    dict.close().unwrap();
    until("it is gone", || text(&other, "mine").is_none());
    present.close().wait().unwrap();
    assert_eq!(text(&other, "theirs").as_deref(), Some("here"));
    theirs.close().wait().unwrap();
}

/// Whether a key is there for the other client.
fn synced(stage: &Stage, name: &str) -> bool {
    stage.other.sync().wait().unwrap();
    stage.other.contains(&k(name)).unwrap()
}

#[test]
fn presence_of_a_process_that_stood_still_goes_and_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let dict = Dict::open(&path, Options::default()).unwrap();
    let mut holder = Peer::open(&path);
    let watch = dict.watch(KeyRange::default(), None).unwrap();
    assert_eq!(holder.ask("present theirs"), "ok");
    children::stop(holder.pid());
    gone(&watch, "theirs");
    children::go_on(holder.pid());
    until("it is there again", || text(&dict, "theirs").is_some());
    holder.kill();
    gone(&watch, "theirs");
}

#[test]
fn presence_is_there_again_after_the_death_of_the_owner_and_ends_with_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    let mut holder = Peer::open(&path);
    assert_eq!(holder.ask("present theirs"), "ok");
    let _mine = dict.presence(&k("mine"), v("here")).wait().unwrap();
    owner.kill();
    // Longer than a presence outlives a connection that does not come back.
    pass(
        &dict,
        Duration::from_millis(objsync::limits::IDLE_TIMEOUT_MS * 3 / 2),
    );
    for name in ["mine", "theirs"] {
        until("it is there", || {
            text(&dict, name).as_deref() == Some("here")
        });
    }
    let watch = dict.watch(KeyRange::default(), None).unwrap();
    holder.kill();
    gone(&watch, "theirs");
    assert_eq!(text(&dict, "mine").as_deref(), Some("here"));
}
