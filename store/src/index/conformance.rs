//! What every index must do, run on each of them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use objsync_proto::ids::NamespaceId;
use objsync_proto::wire::KeyRange;

use super::{Index, IndexBatch, IndexChange, MemoryIndex, stored};
use crate::store::Stored;
use crate::test_random::Random;

/// An empty index, and the directory to keep while it lives.
type Make<'a> = dyn FnMut() -> (Box<dyn Index>, Option<tempfile::TempDir>) + 'a;

/// Runs the whole suite on indexes made by `make`.
pub(super) fn run(make: &mut Make<'_>) {
    for case in [
        empty_index_has_nothing,
        entries_are_found_by_namespace_and_key,
        empty_and_longest_keys_are_keys,
        largest_value_comes_back,
        scan_stops_where_it_is_told,
        mark_goes_with_a_batch_that_has_none,
    ] {
        let (index, _directory) = make();
        case(&*index);
    }
    for seed in 0..4 {
        let (index, _directory) = make();
        random_batches_agree_with_a_map(&*index, seed);
    }
}

/// Namespace, key, and value with revision.
type Row<'a> = (u32, &'a [u8], Option<(&'a [u8], u64)>);

/// A batch with counts and a mark.
pub(super) fn batch(changes: &[Row<'_>], counts: &[(u32, u64)], mark: &[u8]) -> IndexBatch {
    let change = |(namespace, key, entry): &Row<'_>| IndexChange {
        namespace: NamespaceId(*namespace),
        key: Bytes::copy_from_slice(key),
        entry: entry.map(|(value, revision)| stored(value, revision)),
    };
    IndexBatch {
        changes: changes.iter().map(change).collect(),
        counts: counts.iter().map(|(n, c)| (NamespaceId(*n), *c)).collect(),
        mark: Some(Bytes::copy_from_slice(mark)),
    }
}

fn collect(
    index: &dyn Index,
    namespace: u32,
    range: &KeyRange,
    reverse: bool,
) -> Vec<(Bytes, Stored)> {
    let mut found = Vec::new();
    let mut take = |key, entry| {
        found.push((key, entry));
        ControlFlow::Continue(())
    };
    index
        .scan(NamespaceId(namespace), range, reverse, &mut take)
        .unwrap();
    found
}

fn empty_index_has_nothing(index: &dyn Index) {
    assert_eq!(index.get(NamespaceId(0), b"").unwrap(), None);
    assert_eq!(index.mark().unwrap(), None);
    assert_eq!(index.counts().unwrap(), []);
    assert_eq!(collect(index, 0, &KeyRange::default(), false), []);
}

fn entries_are_found_by_namespace_and_key(index: &dyn Index) {
    let put = batch(
        &[
            (1, b"k", Some((b"one", 1))),
            (2, b"k", Some((b"two", 2))),
            (u32::MAX, b"k", Some((b"last", 3))),
        ],
        &[(1, 1), (2, 1), (u32::MAX, 1)],
        b"first",
    );
    index.apply(&put).unwrap();
    assert_eq!(
        index.get(NamespaceId(2), b"k").unwrap(),
        Some(stored(b"two", 2))
    );
    assert_eq!(index.get(NamespaceId(3), b"k").unwrap(), None);
    for (namespace, value) in [(1, "one"), (2, "two"), (u32::MAX, "last")] {
        let all = collect(index, namespace, &KeyRange::default(), true);
        assert_eq!(all.len(), 1, "namespaces do not run into each other");
        assert_eq!(all[0].1.value, value.as_bytes());
    }
    index
        .apply(&batch(&[(2, b"k", None)], &[(2, 0)], b"second"))
        .unwrap();
    assert_eq!(index.get(NamespaceId(2), b"k").unwrap(), None);
    assert_eq!(index.mark().unwrap().unwrap(), &b"second"[..]);
    let counts: BTreeMap<_, _> = index.counts().unwrap().into_iter().collect();
    assert_eq!(counts.get(&NamespaceId(2)).copied().unwrap_or(0), 0);
    assert_eq!(counts[&NamespaceId(1)], 1);
}

fn empty_and_longest_keys_are_keys(index: &dyn Index) {
    let longest = [0xFF; objsync_proto::limits::KEY_BYTES_MAX];
    let put = batch(
        &[(1, b"", Some((b"e", 1))), (1, &longest, Some((b"l", 1)))],
        &[],
        b"m",
    );
    index.apply(&put).unwrap();
    let all = collect(index, 1, &KeyRange::default(), false);
    assert_eq!(
        all.iter().map(|(key, _)| key.len()).collect::<Vec<_>>(),
        [0, longest.len()]
    );
}

fn largest_value_comes_back(index: &dyn Index) {
    let mut random = Random::new(1);
    let value: Vec<u8> = (0..objsync_proto::limits::VALUE_BYTES_MAX / 8)
        .flat_map(|_| random.next().to_le_bytes())
        .collect();
    index
        .apply(&batch(&[(1, b"big", Some((&value, 9)))], &[(1, 1)], b"m"))
        .unwrap();
    let entry = index.get(NamespaceId(1), b"big").unwrap().unwrap();
    assert!(entry.value == value, "8 MiB of random bytes are unchanged");
}

fn scan_stops_where_it_is_told(index: &dyn Index) {
    let keys: Vec<[u8; 2]> = (0..1000_u16).map(u16::to_be_bytes).collect();
    let changes: Vec<_> = keys
        .iter()
        .map(|k| (7, &k[..], Some((&b"v"[..], 1))))
        .collect();
    index.apply(&batch(&changes, &[(7, 1000)], b"m")).unwrap();
    let mut seen = 0;
    index
        .scan(NamespaceId(7), &KeyRange::default(), false, &mut |_, _| {
            seen += 1;
            if seen == 300 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
    assert_eq!(seen, 300);
    assert_eq!(collect(index, 7, &KeyRange::default(), true).len(), 1000);
}

fn mark_goes_with_a_batch_that_has_none(index: &dyn Index) {
    index.apply(&batch(&[], &[], b"m")).unwrap();
    index.apply(&IndexBatch::default()).unwrap();
    assert_eq!(index.mark().unwrap(), None);
}

type Changes = BTreeMap<(u32, Vec<u8>), Option<(Vec<u8>, u64)>>;

fn random_batches_agree_with_a_map(index: &dyn Index, seed: u64) {
    let mut random = Random::new(seed);
    let mut model: BTreeMap<(u32, Vec<u8>), (Vec<u8>, u64)> = BTreeMap::new();
    for revision in 1..60 {
        let mut changes: Changes = BTreeMap::new();
        for _ in 0..random.below(20) {
            let key = (1 + random.below(2) as u32, random.key());
            let entry = (random.below(3) > 0).then(|| (random.value(), revision));
            changes.insert(key, entry);
        }
        let given: Vec<_> = changes
            .iter()
            .map(|((n, k), e)| (*n, &k[..], e.as_ref().map(|(v, r)| (&v[..], *r))))
            .collect();
        index
            .apply(&batch(&given, &[], &u64::to_be_bytes(revision)))
            .unwrap();
        for (key, entry) in changes {
            match entry {
                Some(entry) => model.insert(key, entry),
                None => model.remove(&key),
            };
        }
        let range = random.range();
        let reverse = random.below(2) == 0;
        let mut expected: Vec<(Bytes, Stored)> = model
            .iter()
            .filter(|((n, k), _)| *n == 1 && range.contains(k))
            .map(|((_, k), (v, r))| (Bytes::copy_from_slice(k), stored(v, *r)))
            .collect();
        if reverse {
            expected.reverse();
        }
        assert_eq!(
            collect(index, 1, &range, reverse),
            expected,
            "seed {seed}, revision {revision}"
        );
    }
}

#[test]
fn memory_index_does_what_every_index_must() {
    run(&mut || (Box::new(MemoryIndex::default()), None));
}

#[test]
fn size_of_a_memory_index_follows_its_entries() {
    let index = MemoryIndex::default();
    index
        .apply(&batch(&[(1, b"key", Some((b"value", 1)))], &[], b"m"))
        .unwrap();
    assert_eq!(index.bytes(), 8);
    index
        .apply(&batch(&[(1, b"key", Some((b"v", 2)))], &[], b"m"))
        .unwrap();
    assert_eq!(index.bytes(), 4);
    index
        .apply(&batch(&[(1, b"key", None)], &[], b"m"))
        .unwrap();
    assert_eq!(index.bytes(), 0);
    assert_eq!(index.get(NamespaceId(1), b"key").unwrap(), None::<Stored>);
}
