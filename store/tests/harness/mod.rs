//! What the tests of the store share: a disk that can be cut, and short ways to write.
#![allow(
    unreachable_pub,
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "each test file uses a part of it"
)]

pub mod clock;
pub mod disk;
pub mod follow;
pub mod hooked;
pub mod large;
pub mod random;
pub mod work;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::ids::{Durability, NamespaceId};
use objsync_proto::key;
use objsync_proto::operation::Operation;
use objsync_proto::stored::{self, Compression};
use objsync_store::{Answer, IndexKind, Store, StoreError, StoreLimits, StoreOptions, Submission};

/// The namespace that tests write to, once [`open`] has made it.
pub const NS: NamespaceId = NamespaceId::DEFAULT;

pub fn key_of(name: &str) -> Bytes {
    key::encode(&name.into()).unwrap().into_bytes()
}

/// A stored value: a MessagePack string.
pub fn value_of(text: &str) -> Bytes {
    let payload = rmp_serde::to_vec(text).unwrap();
    stored::seal(&payload, Compression::None).unwrap()
}

pub fn payload_of(text: &str) -> Bytes {
    rmp_serde::to_vec(text).unwrap().into()
}

pub fn put(name: &str, text: &str) -> Operation {
    Operation::Put {
        key: key_of(name),
        value: value_of(text),
    }
}

pub fn change(name: &str, text: Option<&str>) -> Change {
    Change {
        key: key_of(name),
        value: text.map(value_of),
    }
}

pub fn submission(operation: Operation, durability: Durability) -> Submission {
    Submission {
        namespace: NS,
        operation,
        origin: None,
        durability: Some(durability),
    }
}

pub fn execute(
    store: &Store,
    operation: Operation,
    durability: Durability,
) -> Result<Answer, StoreError> {
    store.execute(submission(operation, durability))
}

/// Puts, synced, and must succeed.
pub fn set(store: &Store, name: &str, text: &str) -> Answer {
    let answer = execute(store, put(name, text), Durability::Sync).unwrap();
    assert!(answer.outcome.is_ok(), "{answer:?}");
    answer
}

pub fn get(store: &Store, name: &str) -> Option<String> {
    let stored = store.get(NS, &key_of(name)).unwrap()?;
    let payload = stored::open(&stored.value).unwrap();
    Some(rmp_serde::from_slice(&payload).unwrap())
}

/// Everything in the namespace, by encoded key.
pub fn content(store: &Store) -> std::collections::BTreeMap<Bytes, Bytes> {
    let reader = store.reader();
    let mut range = objsync_proto::wire::KeyRange::default();
    let mut content = std::collections::BTreeMap::new();
    loop {
        let page = reader.page(NS, &range, false, 64 << 10).unwrap();
        let Some(last) = page.last() else {
            return content;
        };
        range.start = key::successor(&last.key);
        content.extend(page.into_iter().map(|entry| (entry.key, entry.value)));
    }
}

/// Small segments, so that tests cross their borders.
pub fn small_limits() -> StoreLimits {
    StoreLimits {
        segment_bytes: 64 << 10,
        ..StoreLimits::default()
    }
}

pub fn options_on(disk: &disk::SimDisk) -> StoreOptions {
    StoreOptions {
        index: IndexKind::Memory,
        limits: small_limits(),
        disk: Arc::new(disk.clone()),
        ..StoreOptions::default()
    }
}

/// Opens a store and makes the namespace.
pub fn open(directory: &Path, options: StoreOptions) -> Store {
    let store = Store::open(directory, options).unwrap();
    let (namespace, _) = store.create_namespace("default", Vec::new()).unwrap();
    assert_eq!(namespace, NS);
    store
}
