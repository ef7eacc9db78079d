//! Large values in watches: one that cannot be read, now or ever, stops none of the other events.

use std::path::Path;
use std::time::Duration;

use objsync::{Bytes, Change, Dict, ErrorKind, KeyRange, Options, ReplicaMode, Watch, WatchEvent};
use objsync_tests::proxy::{Faults, Proxy};

use crate::giant::{check_giant, with_a_giant};
use crate::large::{noise, payload};
use crate::large_peer::{client_with, owner_behind_a_network};
use crate::peer::{k, until, v};

const LONG: Duration = Duration::from_secs(20);

fn all() -> KeyRange {
    KeyRange::default()
}

fn name(event: &WatchEvent) -> String {
    let key = event.decode_key().unwrap().to_string();
    key.trim_matches('"').to_owned()
}

/// An owner, and a client that gives up soon and holds nothing.
fn impatient(path: &Path) -> (Dict, Proxy, Dict) {
    let (owner, proxy) = owner_behind_a_network(path);
    let options = Options {
        replica: ReplicaMode::None,
        timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let dict = client_with(&owner, &proxy, options);
    (owner, proxy, dict)
}

/// Three changes that come together, of which the second has a large value.
fn change(owner: &Dict, large: &Bytes) {
    let changes = [("a", v("x")), ("big", large.clone()), ("c", v("x"))];
    let change = |(name, payload): (&str, Bytes)| Change {
        key: k(name).into(),
        value: Some(payload),
    };
    owner.batch(changes.map(change).to_vec()).wait().unwrap();
}

fn cut(proxy: &Proxy, dict: &Dict) {
    proxy.set(Faults {
        is_cut: true,
        ..Faults::NONE
    });
    until("the connection is given up", || {
        dict.status().role.to_string() == "offline"
    });
}

#[test]
fn watch_keeps_an_event_until_its_large_value_can_be_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, proxy, dict) = impatient(&folder.path().join("data"));
    let large = payload(&noise(5 << 20, 1));
    let watch = dict.watch(all(), None).unwrap();
    change(&owner, &large);
    let first = watch.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(name(&first), "a");
    cut(&proxy, &dict);
    for _ in 0..2 {
        let failed = watch.recv_timeout(LONG).unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Unavailable, "{failed}");
        assert!(!watch.is_closed());
    }
    proxy.set(Faults::NONE);
    let event = read_on(&watch);
    assert_eq!((name(&event), event.unread), ("big".to_owned(), None));
    assert!(event.value == Some(large));
    assert_eq!(name(&read_on(&watch)), "c");
}

/// The next event, however often it has to be asked for.
fn read_on(watch: &Watch) -> WatchEvent {
    let mut found = None;
    until("the owner is there again", || {
        match watch.recv_timeout(LONG) {
            Ok(event) => found = event,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn callback_goes_on_behind_a_large_value_that_had_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, proxy, dict) = impatient(&folder.path().join("data"));
    let (send, received) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let _guard = dict.watch(all(), None).unwrap().on_change(move |event| {
        let size = event.value.as_ref().map(Bytes::len);
        send.send((name(&event), size)).unwrap();
        if name(&event) == "a" {
            may_go_on.recv().unwrap();
        }
    });
    change(&owner, &payload(&noise(5 << 20, 1)));
    assert_eq!(received.recv_timeout(LONG).unwrap().0, "a");
    cut(&proxy, &dict);
    go_on.send(()).unwrap();
    let nothing = received.recv_timeout(Duration::from_millis(600));
    assert!(nothing.is_err(), "its value cannot have been fetched");
    proxy.set(Faults::NONE);
    let (key, size) = received.recv_timeout(LONG).unwrap();
    assert_eq!((key.as_str(), size), ("big", Some((5 << 20) + 5)));
    assert_eq!(received.recv_timeout(LONG).unwrap().0, "c");
}

#[test]
fn large_value_is_read_by_looking_again_and_again_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let dict = Dict::open(folder.path().join("data"), Options::default()).unwrap();
    let watch = dict.watch(all(), None).unwrap();
    let large = payload(&noise(5 << 20, 1));
    dict.set(&k("big"), large.clone()).wait().unwrap();
    let mut event = None;
    until("the value is there", || {
        event = watch.try_recv().unwrap();
        event.is_some()
    });
    assert!(event.unwrap().value == Some(large));
}

#[test]
fn watch_tells_of_a_value_that_is_too_long_for_it_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (dict, before) = with_a_giant(&folder.path().join("data"));
    let watch = dict.watch(all(), Some(before)).unwrap();
    let event = watch.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!((name(&event), &event.value), ("b".to_owned(), &None));
    check_giant(&event.unread.clone().unwrap().into());
    check_giant(&event.decode::<i64>().unwrap_err());
    let event = watch.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!((name(&event), event.unread), ("c".to_owned(), None));
}
