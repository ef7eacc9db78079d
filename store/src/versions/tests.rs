//! Pages of any size are parts of the same history.

use objsync_proto::ids::Durability;
use objsync_proto::operation::Operation;
use objsync_proto::stored::{self, Compression};

use super::*;
use crate::options::{IndexKind, StoreLimits, StoreOptions};
use crate::store::Submission;
use crate::test_random::Random;

const NAMESPACE: NamespaceId = NamespaceId::DEFAULT;

fn key(number: u64) -> Bytes {
    let key = objsync_proto::key::Key::from(format!("key {number}").as_str());
    objsync_proto::key::encode(&key).unwrap().into_bytes()
}

/// A store with small segments and no snapshot, and what its three keys were, newest first.
fn filled(directory: &std::path::Path) -> (Store, Vec<Vec<(Revision, Bytes)>>) {
    let options = StoreOptions {
        index: IndexKind::Memory,
        limits: StoreLimits {
            segment_bytes: 8 << 10,
            ..StoreLimits::default()
        },
        ..StoreOptions::default()
    };
    let store = Store::open(directory, options).unwrap();
    store.create_namespace("default", Vec::new()).unwrap();
    let mut random = Random::new(7);
    let mut written = vec![Vec::new(); 3];
    for number in 0..300_u64 {
        let place = random.below(3);
        let payload = rmp_serde::to_vec(&(number, "x".repeat(random.below(300) as usize)));
        let value = stored::seal(&payload.unwrap(), Compression::None).unwrap();
        let submission = Submission {
            namespace: NAMESPACE,
            operation: Operation::Put {
                key: key(place),
                value: value.clone(),
            },
            origin: None,
            durability: Some(Durability::Buffered),
        };
        let revision = store.execute(submission).unwrap().ack.revision;
        written[place as usize].insert(0, (revision, value));
    }
    (store, written)
}

fn assert_pages(store: &Store, place: u64, written: &[(Revision, Bytes)], limits: Limits) {
    let (mut listed, mut before, mut empty_count) = (Vec::new(), None, 0);
    loop {
        let page = store
            .history_within(NAMESPACE, &key(place), before, limits)
            .unwrap();
        let count = page.versions.len();
        let bytes: usize = page.versions.iter().map(bytes_of).sum();
        assert!(count <= limits.count_max.max(1), "{limits:?}");
        assert!(bytes <= limits.bytes_max || count == 1, "{limits:?}");
        empty_count += usize::from(count == 0);
        listed.extend(page.versions);
        let Some(next) = page.before else { break };
        assert!(before.is_none_or(|before| next < before), "it goes on");
        before = Some(next);
    }
    let listed: Vec<_> = listed
        .into_iter()
        .map(|version| (version.revision, version.value.unwrap()))
        .collect();
    assert_eq!(listed, written, "{limits:?}");
    assert!(limits.log_bytes_max < 1 << 20 || empty_count <= 1);
}

#[test]
fn pages_of_any_size_are_parts_of_the_same_history() {
    let directory = tempfile::tempdir().unwrap();
    let (store, written) = filled(directory.path());
    assert!(store.core().segments.closed().len() > 4, "several segments");
    let mut random = Random::new(8);
    for _ in 0..60 {
        let place = random.below(3);
        let limits = Limits {
            count_max: 1 + random.below(40) as usize,
            bytes_max: 1 << random.below(16),
            log_bytes_max: 1 << random.below(24),
        };
        assert_pages(&store, place, &written[place as usize], limits);
    }
}

#[test]
fn page_that_has_cost_enough_log_ends_and_the_next_goes_on_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let (store, written) = filled(directory.path());
    let limits = Limits {
        count_max: 1000,
        bytes_max: 1 << 20,
        log_bytes_max: 1,
    };
    let page = store
        .history_within(NAMESPACE, &key(0), None, limits)
        .unwrap();
    assert!(page.versions.len() < written[0].len() / 2, "one segment's");
    let last = page.versions.last().unwrap().revision;
    assert!(page.before.is_some_and(|before| before <= last));
}
