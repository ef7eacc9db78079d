//! Values packed with dictionaries, which every handle opens, wherever and whenever it meets them.

use std::path::Path;
use std::time::Duration;

use objsync::{
    Bytes, CompressionStatus, Dict, ErrorKind, Follower, GrantRequest, KeyRange, Options, Target,
    value,
};

use crate::peer::{Peer, k, text, until, v};

const LONG: Duration = Duration::from_secs(30);

/// A text of a kind; much of it is in all of them.
fn sample(kind: &str, number: u64) -> String {
    let scrambled = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24;
    format!(
        "{kind}: user-{scrambled:x} <u{number}@example.org>; roles reader, writer; city {}; \
         preferences: language en, colour {}, notifications daily",
        ["Bergen", "Lisboa", "Gdansk", "Cork"][(scrambled % 4) as usize],
        ["red", "green", "blue"][(scrambled % 3) as usize],
    )
}

fn name(number: u64) -> String {
    format!("key-{number:05}")
}

fn compressing(level: i32) -> Options {
    Options {
        compression: Some(level),
        ..Options::default()
    }
}

fn pairs(kind: &str, numbers: std::ops::Range<u64>) -> Vec<(Vec<u8>, Bytes)> {
    numbers
        .map(|number| (k(&name(number)), v(&sample(kind, number))))
        .collect()
}

fn compression(dict: &Dict) -> CompressionStatus {
    dict.status().compression.expect("it compresses")
}

/// A store with 2,000 values that were packed with a dictionary.
fn filled(path: &Path) -> Dict {
    let dict = Dict::open(path, compressing(5)).unwrap();
    dict.update(pairs("first", 0..2000)).unwrap();
    assert!(compression(&dict).dictionary.is_some());
    dict
}

fn holds(dict: &Dict, kind: &str, numbers: std::ops::Range<u64>) {
    for number in numbers.step_by(7) {
        assert_eq!(text(dict, &name(number)), Some(sample(kind, number)));
    }
}

#[test]
fn large_update_is_packed_with_a_dictionary_from_its_first_value_on() {
    let folder = tempfile::tempdir().unwrap();
    let dict = filled(&folder.path().join("data"));
    let status = compression(&dict);
    assert_eq!(
        (status.level, status.values, status.trainings),
        (5, 2000, 1)
    );
    assert!(status.trained_ms.unwrap() > 1_600_000_000_000);
    assert!(status.ratio().unwrap() > 2.5, "{status:?}");
    assert!(status.pack_bytes_per_second.unwrap() > 0.0);
    holds(&dict, "first", 0..2000);
    assert!(compression(&dict).unpack_bytes_per_second.unwrap() > 0.0);
    dict.close().unwrap();

    let without = Options {
        dictionary: false,
        ..compressing(5)
    };
    let plain = Dict::open(folder.path().join("plain"), without).unwrap();
    plain.update(pairs("first", 0..2000)).unwrap();
    let status = compression(&plain);
    assert_eq!((status.dictionary, status.trainings), (None, 0));
    assert!(status.ratio().unwrap() < 1.5, "{status:?}");
}

#[test]
fn single_writes_train_in_the_background() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        durability: Some(objsync::Durability::Buffered),
        ..compressing(3)
    };
    let dict = Dict::open(folder.path().join("data"), options).unwrap();
    for (key, value) in pairs("first", 0..1100) {
        dict.set(&key, value).wait().unwrap();
    }
    until("a dictionary", || compression(&dict).dictionary.is_some());
    let before = compression(&dict);
    for (key, value) in pairs("first", 1100..1400) {
        dict.set(&key, value).wait().unwrap();
    }
    let after = compression(&dict);
    let stored = (after.stored_bytes - before.stored_bytes) / 300;
    assert!(
        stored * 2 < before.stored_bytes / before.values,
        "{stored} bytes a value"
    );
    holds(&dict, "first", 0..1400);
}

#[test]
fn what_cannot_be_compressed_is_not_trained_for_over_and_over() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        durability: Some(objsync::Durability::Buffered),
        ..compressing(5)
    };
    let dict = Dict::open(folder.path().join("data"), options).unwrap();
    for number in 0..40_000_u64 {
        let payload = value::to_payload(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).unwrap();
        dict.set(&k("counter"), payload).wait().unwrap();
    }
    until("the first training", || compression(&dict).trainings > 0);
    let status = compression(&dict);
    assert!(status.trainings <= 4, "{status:?}");
    assert_eq!(status.dictionary, None);
}

#[test]
fn values_stay_readable_after_a_retraining_a_reopening_and_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let dict = filled(&path);
    let first = compression(&dict).dictionary;
    let before = dict.status().position.unwrap().revision;
    // Other values: after four times as many as at first, another dictionary pays.
    let mut kind = String::new();
    until("a second dictionary", || {
        kind.push('x');
        let more = (0..4000).map(|number| (k(&name(number + 10_000)), v(&other(number))));
        dict.update(more).unwrap();
        compression(&dict).dictionary != first
    });
    let more = (0..50).map(|number| (k(&name(number + 20_000)), v(&other(number))));
    dict.update(more).unwrap();
    holds(&dict, "first", 0..2000);
    dict.close().unwrap();

    let peer = Peer::open(&path);
    peer.kill();
    let dict = Dict::open(&path, Options::default()).unwrap();
    holds(&dict, "first", 0..2000);
    for number in 0..50 {
        assert_eq!(text(&dict, &name(number + 20_000)), Some(other(number)));
    }
    let past = dict.at(before).wait().unwrap();
    let payload = past.get(&k(&name(3))).wait().unwrap().unwrap();
    assert_eq!(payload, v(&sample("first", 3)));
    let versions = dict.history(&k(&name(3)), Default::default(), 10).wait();
    let oldest = versions.unwrap().pop().unwrap();
    assert_eq!(oldest.value.unwrap(), v(&sample("first", 3)));
}

fn other(number: u64) -> String {
    let scrambled = number.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 24;
    format!(
        "<invoice no='{number}'><total currency='EUR'>{scrambled}</total><terms>payable within \
         thirty days of receipt</terms><buyer>company {}</buyer></invoice>",
        scrambled % 977
    )
}

#[test]
fn peer_opens_what_it_reads_holds_scans_and_watches() {
    let folder = tempfile::tempdir().unwrap();
    let owner = filled(&folder.path().join("data"));
    let link = owner.grant(GrantRequest::default()).wait().unwrap();
    let target = Target::Link(link);
    for options in [
        Options::default(),
        crate::peer::without_replica(),
        compressing(5),
    ] {
        let peer = Dict::connect(&target, options).unwrap();
        holds(&peer, "first", 0..2000);
        let scanned = peer.scan(KeyRange::default(), true).unwrap();
        let scanned: Vec<_> = scanned.map(|entry| entry.unwrap().1).collect();
        assert_eq!(scanned.len(), 2000);
        assert_eq!(scanned[1999], v(&sample("first", 0)));
        let watch = peer.watch(KeyRange::default(), None).unwrap();
        owner
            .set(&k(&name(5)), v(&sample("second", 5)))
            .wait()
            .unwrap();
        let event = watch.recv_timeout(LONG).unwrap().unwrap();
        assert_eq!(event.value.unwrap(), v(&sample("second", 5)));
        owner
            .set(&k(&name(5)), v(&sample("first", 5)))
            .wait()
            .unwrap();
        peer.sync().wait().unwrap();
        peer.close().unwrap();
    }
}

#[test]
fn peer_that_compresses_packs_with_the_dictionary_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let owner = filled(&folder.path().join("data"));
    let link = owner.grant(GrantRequest::default()).wait().unwrap();
    let peer = Dict::connect(&Target::Link(link), compressing(7)).unwrap();
    let status = compression(&peer);
    assert_eq!(status.dictionary, compression(&owner).dictionary);
    assert_eq!(status.trained_ms, compression(&owner).trained_ms);
    peer.update(pairs("third", 3000..3100)).unwrap();
    let status = compression(&peer);
    assert!(status.ratio().unwrap() > 2.0, "{status:?}");
    holds(&owner, "third", 3000..3100);
    // Decided by the owner on packed values.
    let (key, old) = (k(&name(3000)), v(&sample("third", 3000)));
    let swapped = peer
        .compare_and_set(&key, Some(old), Some(v("new")))
        .wait()
        .unwrap();
    assert!(swapped);
}

#[test]
fn peer_that_has_lost_its_owner_reads_all_that_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    filled(&path).close().unwrap();
    let owner = Peer::open(&path);
    let options = Options {
        promote: false,
        ..Options::default()
    };
    let peer = Dict::open(&path, options).unwrap();
    peer.sync().wait().unwrap();
    owner.kill();
    holds(&peer, "first", 0..2000);
}

#[test]
fn two_handles_that_train_at_once_read_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let one = Dict::open(&path, compressing(5)).unwrap();
    let two = Dict::open(&path, compressing(9)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| one.update(pairs("first", 0..2000)).unwrap());
        scope.spawn(|| two.update(pairs("second", 2000..4000)).unwrap());
    });
    for dict in [&one, &two] {
        holds(dict, "first", 0..2000);
        holds(dict, "second", 2000..4000);
    }
}

#[test]
fn backup_that_was_restored_or_repaired_has_the_dictionaries() {
    let folder = tempfile::tempdir().unwrap();
    let dict = filled(&folder.path().join("data"));
    let (backup, restored) = (folder.path().join("backup"), folder.path().join("restored"));
    objsync::backup(folder.path().join("data"), &backup, |_| ()).unwrap();
    dict.close().unwrap();
    objsync::restore(&backup, &restored, |_| ()).unwrap();
    let dict = Dict::open(&restored, compressing(5)).unwrap();
    assert!(compression(&dict).dictionary.is_some());
    holds(&dict, "first", 0..2000);
    dict.close().unwrap();
    objsync::check(&restored, |_| ()).unwrap();
    let saved = folder.path().join("saved");
    let report = objsync::repair(&restored, &saved, |_| ()).unwrap();
    assert!(report.losses.is_empty(), "{:?}", report.losses);
    assert_eq!(report.entry_count, 2000);
    let dict = Dict::open(&saved, Options::default()).unwrap();
    holds(&dict, "first", 0..2000);
}

/// What was packed with a dictionary is changed by the owner, and told whole to whoever looks none up.
#[test]
fn list_that_was_packed_with_a_dictionary_is_appended_to_and_the_same_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let dict = filled(&path);
    let link = dict.grant(GrantRequest::default()).wait().unwrap();
    let replica = Dict::connect(&Target::Link(link), Options::default()).unwrap();
    replica.sync().wait().unwrap();
    let name = k("list");
    let mut wanted: Vec<String> = (0..5).map(|number| sample("first", number)).collect();
    dict.set(&name, value::to_payload(&wanted).unwrap())
        .wait()
        .unwrap();
    let list = |dict: &Dict| -> Vec<String> {
        value::from_payload(&dict.fetch(&name).wait().unwrap().unwrap()).unwrap()
    };
    for (number, by) in (100..).zip([&dict, &replica, &dict, &replica]) {
        // Shorter than the packed list: else it would be told whole anyway.
        let item = format!("item {number}");
        let items = vec![value::to_payload(&item).unwrap()];
        wanted.push(item);
        let length = by.list_append(&name, items).wait().unwrap();
        assert_eq!(length, wanted.len() as u64);
        replica.sync().wait().unwrap();
        assert_eq!(list(&replica), wanted);
    }
    assert_eq!(list(&dict), wanted);
    let at = dict.status().position.unwrap().revision;
    assert!(compression(&dict).dictionary.is_some());
    replica.close().unwrap();
    dict.close().unwrap();
    objsync::check(&path, |_| ()).unwrap();

    let again = Dict::open(&path, Options::default()).unwrap();
    assert_eq!(list(&again), wanted);
    let versions = again.history(&name, Default::default(), 10).wait();
    assert_eq!(versions.unwrap().len(), 5);
    let past = again.at(at).wait().unwrap();
    let payload = past.get(&name).wait().unwrap().unwrap();
    assert_eq!(payload, value::to_payload(&wanted).unwrap());
    again.close().unwrap();
    let saved = folder.path().join("saved");
    assert!(
        objsync::repair(&path, &saved, |_| ())
            .unwrap()
            .losses
            .is_empty()
    );
    assert_eq!(
        list(&Dict::open(&saved, Options::default()).unwrap()),
        wanted
    );
}

#[test]
fn copy_of_a_follower_has_the_dictionaries_and_keeps_them_when_promoted() {
    let folder = tempfile::tempdir().unwrap();
    let source = filled(&folder.path().join("data"));
    let request = GrantRequest {
        follow: true,
        ..GrantRequest::default()
    };
    let link = source.grant(request).wait().unwrap();
    let path = folder.path().join("copy");
    let anywhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let copy = Follower::start(&path, anywhere, &link, &Options::default()).unwrap();
    copy.wait_until_served(LONG).unwrap();
    let dict = Dict::open(&path, compressing(5)).unwrap();
    dict.sync().wait().unwrap();
    holds(&dict, "first", 0..2000);
    assert_eq!(
        compression(&dict).dictionary,
        compression(&source).dictionary
    );
    dict.set(&k("through"), v(&sample("second", 1)))
        .wait()
        .unwrap();
    assert_eq!(text(&source, "through"), Some(sample("second", 1)));
    source.close().unwrap();
    dict.close().unwrap();
    copy.close().unwrap();
    objsync::promote(&path, true).unwrap();
    let dict = Dict::open(&path, compressing(5)).unwrap();
    assert!(compression(&dict).dictionary.is_some());
    holds(&dict, "first", 0..2000);
    assert_eq!(text(&dict, "through"), Some(sample("second", 1)));
}

#[test]
fn level_is_one_of_zstd_s() {
    let folder = tempfile::tempdir().unwrap();
    for level in [1, 22] {
        let dict = Dict::open(folder.path().join(level.to_string()), compressing(level)).unwrap();
        dict.update(pairs("first", 0..1200)).unwrap();
        assert!(compression(&dict).ratio().unwrap() > 2.0);
        holds(&dict, "first", 0..1200);
    }
    for level in [0, 23, -1] {
        let error = Dict::open(folder.path().join("none"), compressing(level)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(
            error.to_string(),
            format!("compression level {level}: it is 1 to 22")
        );
    }
    assert!(!folder.path().join("none").exists());
}

/// Well packed values: a page of them as they are stored was gigabytes once it was opened.
#[test]
fn page_of_entries_opens_no_more_than_it_may_hold() {
    let folder = tempfile::tempdir().unwrap();
    let dict = Dict::open(folder.path().join("data"), compressing(3)).unwrap();
    let text = "x".repeat(100 << 10);
    let list = value::Value::List(vec![value::Value::from(text.as_str()); 5]);
    let payload = value::encode(&list).unwrap();
    let names: Vec<_> = (0..30).map(|number| k(&name(number))).collect();
    dict.update(names.iter().map(|name| (name.clone(), payload.clone())))
        .unwrap();
    let check = |next_page: &mut dyn FnMut() -> Vec<(Bytes, Bytes)>| {
        let mut seen = Vec::new();
        loop {
            let page = next_page();
            if page.is_empty() {
                assert_eq!(seen, names);
                return;
            }
            let bytes: usize = page.iter().map(|(_, value)| value.len()).sum();
            assert!(bytes < (1 << 20) + payload.len(), "{bytes} bytes");
            assert!(page.iter().all(|(_, value)| *value == payload));
            seen.extend(page.into_iter().map(|(key, _)| key.to_vec()));
        }
    };
    let mut scan = dict.scan(KeyRange::default(), false).unwrap();
    check(&mut || scan.next_page().unwrap());
    dict.transact(|transaction| {
        let mut scan = transaction.scan(KeyRange::default(), false);
        check(&mut || scan.next_page().unwrap());
        Ok::<_, objsync::ObjectError>(())
    })
    .unwrap();
    let link = dict.grant(GrantRequest::default()).wait().unwrap();
    for options in [Options::default(), crate::peer::without_replica()] {
        let peer = Dict::connect(&Target::Link(link.clone()), options).unwrap();
        let mut scan = peer.scan(KeyRange::default(), false).unwrap();
        check(&mut || scan.next_page().unwrap());
    }
}
