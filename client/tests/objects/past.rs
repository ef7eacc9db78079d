//! The past through every kind of handle: an owner, a peer with and without a replica, a part of
//! the keys, a link, and one that becomes the owner half way.

use std::path::{Path, PathBuf};

use objsync::{
    Bytes, Dict, DiskObject, ErrorKind, GrantRequest, KeyRange, ObjectError, Options, Past,
    Revision, Target, key, value,
};
use objsync_store::{IndexKind, Store, StoreLimits, StoreOptions, Submission};

use crate::peer::{Peer, k, v, without_replica};

/// `a` = 1, then 2, then removed, with `b` = x before and after; and the revisions of `a`.
fn write_history(dict: &Dict) -> [Revision; 3] {
    dict.set(&k("b"), v("x")).wait().unwrap();
    let first = dict.set(&k("a"), v("1")).wait().unwrap().revision;
    let second = dict.set(&k("a"), v("2")).wait().unwrap().revision;
    let (_, third) = dict.delete(&k("a")).wait().unwrap();
    [first, second, third.revision]
}

fn text(payload: &Bytes) -> String {
    value::from_payload(payload).unwrap()
}

fn value_at(past: &Past, name: &str) -> Option<String> {
    let payload = past.get(&k(name)).wait().unwrap();
    assert_eq!(past.contains(&k(name)).wait().unwrap(), payload.is_some());
    payload.as_ref().map(text)
}

fn entries_at(past: &Past, reverse: bool) -> Vec<(String, String)> {
    let scan = past.scan(KeyRange::default(), reverse).wait().unwrap();
    scan.map(|entry| {
        let (key, payload) = entry.unwrap();
        (key::decode(&key).unwrap().to_string(), text(&payload))
    })
    .collect()
}

fn assert_history(dict: &Dict, [first, second, third]: [Revision; 3]) {
    let pair = |key: &str, value: &str| (format!("{key:?}"), value.to_owned());
    let past = dict.at(first).wait().unwrap();
    assert_eq!(past.revision(), first);
    assert_eq!(value_at(&past, "a").as_deref(), Some("1"));
    assert_eq!(value_at(&past, "never"), None);
    assert_eq!(past.count().wait().unwrap(), 2);
    assert_eq!(entries_at(&past, false), [pair("a", "1"), pair("b", "x")]);
    assert_eq!(entries_at(&past, true), [pair("b", "x"), pair("a", "1")]);
    let keys = past.keys(KeyRange::default(), false).wait().unwrap();
    assert!(
        keys.map(Result::unwrap)
            .all(|(_, payload)| payload.is_empty())
    );
    let later = dict.at(third).wait().unwrap();
    assert_eq!(
        (value_at(&later, "a"), later.count().wait().unwrap()),
        (None, 1)
    );
    for count_max in [1, 2, 3, 100] {
        let versions = dict.history(&k("a"), None, count_max).wait().unwrap();
        let told: Vec<_> = versions
            .iter()
            .map(|version| (version.revision, version.decode::<String>().unwrap()))
            .collect();
        let (one, two) = (Some("1".to_owned()), Some("2".to_owned()));
        let all = [(third, None), (second, two), (first, one)];
        assert_eq!(told, all[..count_max.min(3)]);
        assert!(versions.iter().all(|version| version.time_ms.is_some()));
    }
    let before = dict.history(&k("a"), Some(second), 10).wait().unwrap();
    assert_eq!(before.len(), 1);
    assert_eq!(before[0].revision, first);
}

#[test]
fn past_is_the_same_for_an_owner_a_replica_and_round_trips() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let peer = Dict::open(&path, Options::default()).unwrap();
    let written = write_history(&peer);
    assert_eq!(peer.status().role.to_string(), "peer");
    assert_history(&peer, written);
    let bare = Dict::open(&path, without_replica()).unwrap();
    assert_history(&bare, written);
    bare.close().unwrap();
    owner.kill();
    peer.set(&k("a"), v("3")).wait().unwrap();
    assert_eq!(peer.status().role.to_string(), "owner");
    let [first, ..] = written;
    assert_eq!(
        value_at(&peer.at(first).wait().unwrap(), "a").as_deref(),
        Some("1")
    );
    let versions = peer.history(&k("a"), None, 100).wait().unwrap();
    assert_eq!(versions.len(), 4);
}

#[test]
fn past_that_was_opened_by_a_peer_is_read_on_when_it_becomes_the_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    let [first, ..] = write_history(&dict);
    let past = dict.at(first).wait().unwrap();
    assert_eq!(value_at(&past, "a").as_deref(), Some("1"));
    owner.kill();
    dict.set(&k("c"), v("new")).wait().unwrap();
    assert_eq!(dict.status().role.to_string(), "owner");
    assert_eq!(value_at(&past, "a").as_deref(), Some("1"));
    assert_eq!(past.count().wait().unwrap(), 2);
    dict.close().unwrap();
    let closed = past.get(&k("a")).wait().unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Closed);
    assert_eq!(past.count().wait().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn handle_that_sees_a_part_of_the_keys_sees_that_part_of_the_past() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Dict::open(&path, Options::default()).unwrap();
    owner.set(&k("x:1"), v("1")).wait().unwrap();
    let at = owner.set(&k("y:1"), v("2")).wait().unwrap().revision;
    let part = |replica| Options {
        range: Some(key::str_prefix("x:")),
        replica,
        ..Options::default()
    };
    let link = owner.grant(GrantRequest::default()).wait().unwrap();
    let of_owner = Dict::open(&path, part(objsync::ReplicaMode::Auto)).unwrap();
    let of_peer = Dict::connect(&Target::Link(link), part(objsync::ReplicaMode::None)).unwrap();
    for dict in [&of_owner, &of_peer] {
        let past = dict.at(at).wait().unwrap();
        assert_eq!(past.count().wait().unwrap(), 1);
        assert_eq!(value_at(&past, "x:1").as_deref(), Some("1"));
        assert_eq!(value_at(&past, "y:1"), None);
        assert_eq!(entries_at(&past, false).len(), 1);
        assert!(dict.history(&k("y:1"), None, 9).wait().unwrap().is_empty());
        assert_eq!(dict.history(&k("x:1"), None, 9).wait().unwrap().len(), 1);
    }
}

#[test]
fn link_that_may_only_read_reads_the_past_of_its_dictionary() {
    let folder = tempfile::tempdir().unwrap();
    let owner = Dict::open(folder.path().join("data"), Options::default()).unwrap();
    let written = write_history(&owner);
    assert_history(&owner, written);
    let request = GrantRequest {
        namespace: Some("default".into()),
        readonly: true,
        ..GrantRequest::default()
    };
    let link = owner.grant(request).wait().unwrap();
    let reader = Dict::connect(&Target::Link(link), Options::default()).unwrap();
    assert_history(&reader, written);
}

#[test]
fn revision_that_is_not_there_yet_is_refused_to_owner_and_peer() {
    let folder = tempfile::tempdir().unwrap();
    let owner = Dict::open(folder.path().join("data"), Options::default()).unwrap();
    let newest = owner.set(&k("a"), v("1")).wait().unwrap().revision;
    let link = owner.grant(GrantRequest::default()).wait().unwrap();
    let peer = Dict::connect(&Target::Link(link), Options::default()).unwrap();
    for dict in [&owner, &peer] {
        let error = dict.at(Revision(newest.0 + 1)).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(
            error
                .to_string()
                .contains(&format!("the newest is {newest}"))
        );
    }
}

#[test]
fn history_that_takes_many_replies_comes_whole() {
    let folder = tempfile::tempdir().unwrap();
    let owner = Dict::open(folder.path().join("data"), Options::default()).unwrap();
    let filler = "x".repeat(60 << 10);
    for number in 0..20 {
        let payload = v(&format!("{number} {filler}"));
        owner.set(&k("large"), payload).wait().unwrap();
    }
    let link = owner.grant(GrantRequest::default()).wait().unwrap();
    let peer = Dict::connect(&Target::Link(link), without_replica()).unwrap();
    for dict in [&owner, &peer] {
        let versions = dict.history(&k("large"), None, usize::MAX).wait().unwrap();
        assert_eq!(versions.len(), 20);
        assert!(versions.is_sorted_by(|a, b| a.revision > b.revision));
        let oldest = versions[19].decode::<String>().unwrap().unwrap();
        assert!(oldest.starts_with("0 "));
    }
}

/// A store whose log was trimmed, made by small limits; gives the first revision of `a`, which is
/// past the retention, although `a` has not changed since.
pub(crate) fn trimmed_store(path: &Path) -> Revision {
    let options = StoreOptions {
        index: IndexKind::Memory,
        limits: StoreLimits {
            segment_bytes: 16 << 10,
            snapshot_log_bytes: 32 << 10,
            retention_bytes: 48 << 10,
            ..StoreLimits::default()
        },
        ..StoreOptions::default()
    };
    let store = Store::open(path, options).unwrap();
    let (namespace, _) = store.create_namespace("default", Vec::new()).unwrap();
    let put = |name: &str, text: &str| {
        let payload = v(text);
        let sealed = objsync_proto::stored::seal(&payload, Default::default());
        let operation = objsync_proto::operation::Operation::Put {
            key: k(name).into(),
            value: sealed.unwrap(),
        };
        let submission = Submission {
            namespace,
            operation,
            origin: None,
            durability: None,
        };
        store.execute(submission).unwrap().ack.revision
    };
    let first = put("a", "1");
    crate::peer::until("the log is trimmed", || {
        put("b", &"x".repeat(4 << 10));
        store.at(first).is_err()
    });
    store.close().unwrap();
    first
}

#[test]
fn revision_past_the_retention_is_told_with_its_numbers_to_owner_and_peer() {
    let folder = tempfile::tempdir().unwrap();
    // tests/python/data/trimmed.tar.gz holds what is left in the directory named here.
    let path = std::env::var_os("OBJSYNC_TRIMMED_STORE")
        .map_or_else(|| folder.path().join("data"), PathBuf::from);
    let first = trimmed_store(&path);
    let owner = Dict::open(&path, Options::default()).unwrap();
    let link = owner.grant(GrantRequest::default()).wait().unwrap();
    let peer = Dict::connect(&Target::Link(link), Options::default()).unwrap();
    for dict in [&owner, &peer] {
        let error = dict.at(first).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let ObjectError::PastRetention { revision, oldest } = error else {
            panic!("{error}")
        };
        assert!(revision == first && oldest > first);
        let past = dict.at(oldest).wait().unwrap();
        assert_eq!(value_at(&past, "a").as_deref(), Some("1"));
        let versions = dict.history(&k("a"), None, 10).wait().unwrap();
        let [known] = &versions[..] else {
            panic!("{versions:?}")
        };
        assert!(known.is_oldest_known && known.time_ms.is_none());
        assert_eq!(known.decode::<String>().unwrap().as_deref(), Some("1"));
        let versions = dict.history(&k("b"), None, usize::MAX).wait().unwrap();
        assert!(versions.len() > 2);
        let (last, newer) = versions.split_last().unwrap();
        assert!(last.is_oldest_known && last.revision <= oldest);
        assert!(newer.iter().all(|version| !version.is_oldest_known));
    }
}

/// The documentation has these numbers in words.
#[test]
fn retention_and_length_of_a_history_are_what_the_documentation_says() {
    let limits = StoreLimits::default();
    assert_eq!(
        (limits.retention_ms, limits.retention_bytes),
        (3_600_000, 1 << 30)
    );
    assert_eq!(objsync::limits::HISTORY_COUNT_DEFAULT, 1000);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let says = |file: &str, words: &str| {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let text = text.replace("///", "");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words), "{file}: {words}");
    };
    for file in [
        "client/src/dict/past.rs",
        "client/src/objects/past.rs",
        "pybind/python/objsync/_objects.py",
        "CHANGELOG.md",
    ] {
        says(file, "an hour or 1 GiB");
    }
    says("client/src/objects/past.rs", "the last 1,000 versions");
}

#[test]
fn typed_and_awaitable_objects_read_the_past_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let object = DiskObject::open(&path).unwrap();
    let first = object.set("x:1", &1).unwrap().revision;
    object.set("x:1", &2).unwrap();
    object.set("y", &3).unwrap();
    let past = object.at(first).unwrap();
    assert_eq!(past.get::<i64>("x:1").unwrap(), Some(1));
    assert!(past.contains("x:1").unwrap() && !past.contains("y").unwrap());
    assert_eq!((past.len().unwrap(), past.is_empty().unwrap()), (1, false));
    let entries: Vec<_> = past
        .prefix::<i64>("x:")
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(entries, [("x:1".into(), 1)]);
    assert_eq!(past.iter::<i64>().unwrap().count(), 1);
    assert_eq!(
        past.range::<i64>(Some(&"y".into()), None).unwrap().count(),
        0
    );
    assert_eq!(object.history("x:1").unwrap().len(), 2);

    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let object = objsync::aio::DiskObject::open(&path).await.unwrap();
        let past = object.at(first).await.unwrap();
        assert_eq!(past.revision(), first);
        assert_eq!(past.get::<i64>("x:1").await.unwrap(), Some(1));
        assert!(!past.contains("y").await.unwrap());
        assert_eq!(past.len().await.unwrap(), 1);
        assert!(!past.is_empty().await.unwrap());
        let all = past.items::<i64>().await.unwrap();
        assert_eq!(all, [("x:1".into(), 1)]);
        assert_eq!(past.prefix::<i64>("x").await.unwrap(), all);
        assert_eq!(past.range::<i64>(None, None).await.unwrap(), all);
        let versions = object.history("x:1").await.unwrap();
        assert_eq!(versions[1].decode::<i64>().unwrap(), Some(1));
    });
}
