use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use objsync_proto::wire::KeyRange;

use super::*;
use crate::disk::RealDisk;
use crate::error::StoreError;
use crate::test_random::Random;

type Model = BTreeMap<(Section, Vec<u8>), (u64, Vec<u8>)>;

const HEAD: TableHead = TableHead {
    kind: TableKind::Snapshot,
    store: StoreId([7; 16]),
    revision: Revision(99),
    segment: SegmentId(3),
};

fn model(random: &mut Random, count: usize, value_bytes: u64) -> Model {
    let mut model = Model::new();
    for revision in 0..count as u64 {
        let section = match random.below(4) {
            0 => Section::SYSTEM,
            place => Section::dict(NamespaceId(place as u32)),
        };
        let key = [random.key(), (random.next() % 1000).to_be_bytes().to_vec()].concat();
        let bytes = random.below(value_bytes);
        let value = (0..bytes).map(|_| random.below(20) as u8).collect();
        model.insert((section, key), (revision, value));
    }
    model
}

fn write(path: &Path, model: &Model) -> Arc<Table> {
    let mut writer = TableWriter::create(&RealDisk, path, HEAD).unwrap();
    for ((section, key), (revision, value)) in model {
        writer
            .push(*section, key, Revision(*revision), value)
            .unwrap();
    }
    let bytes = writer.finish().unwrap();
    assert_eq!(bytes, path.metadata().unwrap().len());
    Arc::new(Table::open(&RealDisk, path, TableKind::Snapshot).unwrap())
}

fn collect(entries: impl Iterator<Item = Result<TableEntry, StoreError>>) -> Model {
    let entries = entries.map(|entry| {
        let entry = entry.unwrap();
        let key = (entry.section, entry.key.to_vec());
        (key, (entry.revision.0, entry.payload.to_vec()))
    });
    entries.collect()
}

#[test]
fn table_gives_back_what_was_written_by_key_by_range_and_whole() {
    for seed in 0..6 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let directory = tempfile::tempdir().unwrap();
        let model = model(&mut random, 4000, 300);
        let table = write(&directory.path().join("t"), &model);
        assert_eq!(*table.head(), HEAD);
        assert_eq!(table.entry_count(), model.len() as u64);
        assert_eq!(collect(table.iter()), model);
        for _ in 0..50 {
            let section = Section::dict(NamespaceId(random.below(5) as u32));
            let range = random.range();
            let expected: Model = model
                .iter()
                .filter(|((s, key), _)| *s == section && range.contains(key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            assert_eq!(
                collect(table.range(section, range.clone(), false)),
                expected
            );
            let keys = |reverse| {
                let entries = table.range(section, range.clone(), reverse);
                entries.map(|entry| entry.unwrap().key).collect::<Vec<_>>()
            };
            let mut forward = keys(false);
            forward.reverse();
            assert_eq!(keys(true), forward);
        }
        for ((section, key), (revision, value)) in model.iter().take(200) {
            let entry = table.get(*section, key).unwrap().unwrap();
            assert_eq!(
                (entry.revision.0, &entry.payload[..]),
                (*revision, &value[..])
            );
            let longer = [&key[..], b"\0"].concat();
            let expected = model.get(&(*section, longer.clone())).map(|(r, _)| *r);
            let found = table
                .get(*section, &longer)
                .unwrap()
                .map(|entry| entry.revision.0);
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn sections_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let model = model(&mut Random::new(1), 500, 1000);
    let table = write(&directory.path().join("t"), &model);
    let mut expected: BTreeMap<Section, u64> = BTreeMap::new();
    for (section, _) in model.keys() {
        *expected.entry(*section).or_default() += 1;
    }
    assert_eq!(table.sections(), expected.into_iter().collect::<Vec<_>>());
}

#[test]
fn empty_table_has_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let table = write(&directory.path().join("t"), &Model::new());
    assert_eq!(table.iter().count(), 0);
    assert!(table.get(Section::SYSTEM, b"").unwrap().is_none());
    let all = table.range(Section::SYSTEM, KeyRange::default(), false);
    assert_eq!(all.count(), 0);
}

#[test]
fn largest_key_and_value_fit_one_block() {
    let mut random = Random::new(2);
    let directory = tempfile::tempdir().unwrap();
    let value: Vec<u8> = (0..VALUE_BYTES_MAX).map(|_| random.next() as u8).collect();
    let section = Section::dict(NamespaceId(1));
    let model = Model::from([
        ((section, vec![1]), (1, vec![0; BLOCK_BYTES - 1])),
        ((section, vec![2; KEY_BYTES_MAX]), (u64::MAX, value)),
    ]);
    let table = write(&directory.path().join("t"), &model);
    assert!(collect(table.iter()) == model);
}

#[test]
fn any_flipped_byte_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t");
    let model = model(&mut Random::new(3), 60, 60);
    write(&path, &model);
    let good = std::fs::read(&path).unwrap();
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1 << (place % 8);
        std::fs::write(&path, &bad).unwrap();
        let found = Table::open(&RealDisk, &path, TableKind::Snapshot)
            .and_then(|table| Arc::new(table).iter().collect::<Result<Vec<_>, _>>());
        assert!(
            matches!(found, Err(StoreError::Corrupt { .. })),
            "byte {place} of {}",
            good.len()
        );
    }
}

#[test]
fn table_cut_anywhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t");
    write(&path, &model(&mut Random::new(4), 50, 50));
    let good = std::fs::read(&path).unwrap();
    for bytes in 0..good.len() {
        std::fs::write(&path, &good[..bytes]).unwrap();
        assert!(
            Table::open(&RealDisk, &path, TableKind::Snapshot).is_err(),
            "{bytes} bytes"
        );
    }
}

#[test]
fn nothing_is_under_the_name_before_the_table_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t");
    let mut writer = TableWriter::create(&RealDisk, &path, HEAD).unwrap();
    writer
        .push(Section::SYSTEM, b"k", Revision(1), b"v")
        .unwrap();
    assert!(!path.exists());
    writer.finish().unwrap();
    assert!(path.exists());
    assert!(!path.with_added_extension("tmp").exists());
}

#[test]
#[should_panic(expected = "entries of a table come in order")]
fn entry_out_of_order_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t");
    let mut writer = TableWriter::create(&RealDisk, &path, HEAD).unwrap();
    writer
        .push(Section::SYSTEM, b"b", Revision(1), b"")
        .unwrap();
    let _ = writer.push(Section::SYSTEM, b"a", Revision(1), b"");
}

/// A footer of a key with very many parts would be one; no reader takes it, and no program ends by it.
#[test]
fn entry_over_the_limits_is_refused_and_leaves_no_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let section = Section::dict(NamespaceId(1));
    for (key_bytes, bytes) in [(KEY_BYTES_MAX + 1, 1), (1, VALUE_BYTES_MAX + 1)] {
        let mut writer = TableWriter::create(&RealDisk, &path, HEAD).unwrap();
        let (key, value) = (vec![1; key_bytes], vec![2; bytes]);
        let refused = writer.push(section, &key, Revision(1), &value).unwrap_err();
        assert!(refused.to_string().contains("limits"), "{refused}");
        drop(writer);
        assert!(!path.exists());
    }
}
