//! Watches: every change once and in order, whatever happens to the owner.

use std::time::Duration;

use objsync::{ChangeKind, Dict, KeyRange, Options, Watch, WatchEvent, value};

use crate::peer::{Peer, k, v, without_replica};

const LONG: Duration = Duration::from_secs(20);

fn next(watch: &Watch) -> WatchEvent {
    watch.recv_timeout(LONG).unwrap().expect("a change comes")
}

fn short(event: &WatchEvent) -> (String, Option<String>) {
    let payload = event.value.as_ref();
    let value = payload.map(|payload| value::from_payload(payload).unwrap());
    (event.decode_key().unwrap().to_string(), value)
}

fn all() -> KeyRange {
    KeyRange::default()
}

/// Sets, a removal and a batch, seen by a watch of this handle.
fn sees_everything(dict: &Dict) {
    let watch = dict.watch(all(), None).unwrap();
    dict.set(&k("a"), v("1")).wait().unwrap();
    dict.set(&k("a"), v("2")).wait().unwrap();
    dict.delete(&k("a")).wait().unwrap();
    dict.delete(&k("a")).wait().unwrap();
    dict.update([(k("x"), v("3")), (k("y"), v("4"))]).unwrap();
    let seen: Vec<_> = (0..5).map(|_| next(&watch)).collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        seen.iter().map(short).collect::<Vec<_>>(),
        [
            ("\"a\"".into(), text("1")),
            ("\"a\"".into(), text("2")),
            ("\"a\"".into(), None),
            ("\"x\"".into(), text("3")),
            ("\"y\"".into(), text("4")),
        ]
    );
    assert!(
        seen.windows(2)
            .all(|pair| pair[0].revision <= pair[1].revision)
    );
    assert_eq!(seen[3].revision, seen[4].revision, "one transaction");
    assert_eq!(seen[2].kind, ChangeKind::Delete);
    assert!(seen.iter().all(|event| event.origin_is_self));
    assert!(watch.try_recv().unwrap().is_none());
}

#[test]
fn owner_sees_every_change() {
    let folder = tempfile::tempdir().unwrap();
    sees_everything(&Dict::open(folder.path().join("data"), Options::default()).unwrap());
}

#[test]
fn peer_sees_every_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    sees_everything(&Dict::open(&path, Options::default()).unwrap());
}

#[test]
fn peer_without_a_replica_sees_every_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    sees_everything(&Dict::open(&path, without_replica()).unwrap());
}

#[test]
fn peer_with_a_replica_knows_the_old_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    assert_eq!(owner.ask("set a old"), "ok");
    let dict = Dict::open(&path, Options::default()).unwrap();
    let watch = dict.watch(all(), None).unwrap();
    assert_eq!(owner.ask("set a new"), "ok");
    let event = next(&watch);
    assert_eq!(
        event.decode_old::<String>().unwrap().as_deref(),
        Some("old")
    );
    assert!(!event.origin_is_self);
}

#[test]
fn owner_knows_the_old_value_of_what_it_watches() {
    let folder = tempfile::tempdir().unwrap();
    let dict = Dict::open(folder.path().join("data"), Options::default()).unwrap();
    dict.set(&k("a"), v("1")).wait().unwrap();
    let watch = dict.watch(all(), None).unwrap();
    dict.set(&k("a"), v("2")).wait().unwrap();
    dict.set(&k("b"), v("3")).wait().unwrap();
    dict.delete(&k("a")).wait().unwrap();
    let old: Vec<_> = (0..3)
        .map(|_| next(&watch).decode_old::<String>().unwrap())
        .collect();
    assert_eq!(old, [Some("1".into()), None, Some("2".into())]);
}

#[test]
fn watch_of_a_prefix_sees_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let dict = Dict::open(folder.path().join("data"), Options::default()).unwrap();
    let watch = dict.watch(objsync::key::str_prefix("user:"), None).unwrap();
    dict.set(&k("price"), v("1")).wait().unwrap();
    dict.set(&k("user:ann"), v("2")).wait().unwrap();
    assert_eq!(short(&next(&watch)).0, "\"user:ann\"");
}

#[test]
fn watch_since_a_revision_tells_what_happened_before_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let peer = Dict::open(&path, Options::default()).unwrap();
    let first = peer.set(&k("a"), v("1")).wait().unwrap();
    peer.set(&k("b"), v("2")).wait().unwrap();
    assert_eq!(owner.ask("set c 3"), "ok");
    let watch = peer.watch(all(), Some(first.revision)).unwrap();
    let names: Vec<_> = (0..2).map(|_| short(&next(&watch)).0).collect();
    assert_eq!(names, ["\"b\"", "\"c\""]);
}

/// A counter that others raise through two kills: the watch must see each number once.
fn counts_through_promotions(options: Options) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let mut second = Peer::open(&path);
    let dict = Dict::open(&path, options).unwrap();
    let watch = dict.watch(all(), None).unwrap();
    let number = |event: WatchEvent| event.decode::<i64>().unwrap().unwrap();
    for expected in 1..=20 {
        assert_eq!(owner.ask("incr n"), expected.to_string());
    }
    owner.kill();
    for expected in 21..=40 {
        assert_eq!(second.ask("incr n"), expected.to_string());
    }
    second.kill();
    for expected in 41..=60 {
        assert_eq!(dict.incr(&k("n"), 1).wait().unwrap(), expected);
    }
    assert_eq!(dict.status().role.to_string(), "owner");
    for expected in 1..=60 {
        assert_eq!(number(next(&watch)), expected);
    }
    assert!(watch.try_recv().unwrap().is_none());
}

#[test]
fn watch_sees_each_change_once_over_two_promotions() {
    counts_through_promotions(Options::default());
}

#[test]
fn watch_without_a_replica_sees_each_change_once_over_two_promotions() {
    counts_through_promotions(without_replica());
}

#[test]
fn slow_watch_misses_nothing_when_its_queue_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    let watch = dict.watch(all(), None).unwrap();
    // More bytes than may wait between a replica and a watch.
    let large = "x".repeat(2 << 20);
    for number in 0..20 {
        dict.set(&k(&number.to_string()), v(&format!("{number} {large}")))
            .wait()
            .unwrap();
    }
    dict.sync().wait().unwrap();
    for number in 0..20 {
        let (_, value) = short(&next(&watch));
        assert!(value.unwrap().starts_with(&format!("{number} ")));
    }
}

/// Thousands of watches on one handle, of one key each: each hears of its key, and only of that.
fn thousands_hear_of_their_key(dict: &Dict, writer: &Dict) {
    const COUNT: usize = 5_000;
    let key = |number: usize| k(&format!("key{number:04}"));
    let single = |number: usize| KeyRange {
        start: key(number).into(),
        end: Some(objsync::key::successor(&key(number))),
    };
    let before = writer.set(&key(0), v("before")).wait().unwrap().revision;
    let (first, last) = (writer.set(&key(0), v("0")).wait().unwrap(), COUNT - 1);
    dict.sync().wait().unwrap();
    let watches: Vec<_> = (0..COUNT)
        .map(|number| {
            // Some from earlier on, of which one missed something.
            let since = (number % 10 == 0).then_some(before);
            dict.watch(single(number), since).unwrap()
        })
        .collect();
    let prefix = dict.watch(objsync::key::str_prefix("key00"), None).unwrap();
    assert_eq!(next(&watches[0]).revision, first.revision);
    writer
        .update((0..COUNT).map(|number| (key(number), v(&number.to_string()))))
        .unwrap();
    for (number, watch) in watches.iter().enumerate() {
        let (_, value) = short(&next(watch));
        assert_eq!(value, Some(number.to_string()));
    }
    for number in 0..100 {
        assert_eq!(short(&next(&prefix)).1, Some(number.to_string()));
    }
    writer.delete(&key(last)).wait().unwrap();
    assert_eq!(next(&watches[last]).kind, ChangeKind::Delete);
    for watch in &watches[..last] {
        assert!(watch.try_recv().unwrap().is_none());
    }
}

#[test]
fn thousands_of_watches_of_a_peer_hear_of_their_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    thousands_hear_of_their_key(&dict, &dict);
}

#[test]
fn thousands_of_watches_without_a_replica_share_one_stream() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    let dict = Dict::open(&path, without_replica()).unwrap();
    thousands_hear_of_their_key(&dict, &dict);
    let streams = dict.owner_status().wait().unwrap().subscriptions;
    assert!(streams < 256, "{streams} subscriptions");
}

#[test]
fn thousands_of_watches_of_an_owner_hear_of_their_key() {
    let folder = tempfile::tempdir().unwrap();
    let dict = Dict::open(folder.path().join("data"), Options::default()).unwrap();
    thousands_hear_of_their_key(&dict, &dict);
}

#[test]
fn callback_that_panics_gets_the_next_change() {
    let folder = tempfile::tempdir().unwrap();
    let dict = Dict::open(folder.path().join("data"), Options::default()).unwrap();
    let (send, received) = std::sync::mpsc::channel();
    let _guard = dict.watch(all(), None).unwrap().on_change(move |event| {
        let (key, _) = short(&event);
        assert_ne!(key, "\"bad\"", "a fault of the callback");
        send.send(key).unwrap();
    });
    for key in ["one", "bad", "two"] {
        dict.set(&k(key), v("x")).wait().unwrap();
    }
    let told: Vec<_> = (0..2)
        .map(|_| received.recv_timeout(LONG).unwrap())
        .collect();
    assert_eq!(told, ["\"one\"", "\"two\""]);
}

#[test]
fn closing_a_watch_or_its_object_ends_it_for_who_waits() {
    let folder = tempfile::tempdir().unwrap();
    let dict = Dict::open(folder.path().join("data"), Options::default()).unwrap();
    let (one, other) = (
        dict.watch(all(), None).unwrap(),
        dict.watch(all(), None).unwrap(),
    );
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| one.recv().unwrap());
        one.close();
        assert_eq!(waits.join().unwrap(), None);
        let waits = scope.spawn(|| other.recv().unwrap());
        dict.close().unwrap();
        assert_eq!(waits.join().unwrap(), None);
    });
    assert!(other.is_closed());
}

#[test]
fn callback_gets_the_changes_in_order_from_a_thread_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let dict = Dict::open(folder.path().join("data"), Options::default()).unwrap();
    let (send, received) = std::sync::mpsc::channel();
    let guard = dict.watch(all(), None).unwrap().on_change(move |event| {
        let name = std::thread::current().name().map(str::to_owned);
        let _ = send.send((short(&event).0, name));
    });
    for number in 0..5 {
        dict.set(&k(&number.to_string()), v("x")).wait().unwrap();
    }
    for number in 0..5 {
        let (key, thread) = received.recv_timeout(LONG).unwrap();
        assert_eq!(key, format!("\"{number}\""));
        assert_eq!(thread.as_deref(), Some("objsync-watch"));
    }
    drop(guard);
    assert!(received.recv_timeout(LONG).is_err(), "the callback is gone");
}
