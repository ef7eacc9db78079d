//! Large values of the owner: whole, in pieces, compared, in every kind of write.

use std::io::{Read, Seek, SeekFrom, Write};

use objsync::{
    Bytes, Change, Chunking, Dict, ErrorKind, KeyRange, LargeValue, Options, limits, value,
};

use crate::peer::k;

const CHUNK: usize = limits::CHUNK_BYTES;

/// Bytes that do not repeat, the same for every run.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// The payload of bytes.
pub(crate) fn payload(content: &[u8]) -> Bytes {
    let mut payload = vec![0xC6];
    payload.extend_from_slice(&u32::try_from(content.len()).unwrap().to_be_bytes());
    payload.extend_from_slice(content);
    payload.into()
}

fn open(folder: &tempfile::TempDir) -> Dict {
    Dict::open(folder.path().join("data"), Options::default()).unwrap()
}

fn is_in_chunks(dict: &Dict, name: &str) -> bool {
    LargeValue::is_reference(&dict.find(&k(name)).wait().unwrap().unwrap())
}

/// Around one chunk, around what a root names itself, and around the first node.
pub(crate) const SIZES: [usize; 9] = [
    0,
    1,
    CHUNK - 1,
    CHUNK,
    CHUNK + 1,
    64 * CHUNK - 1,
    64 * CHUNK,
    64 * CHUNK + 1,
    65 * CHUNK + 1,
];

#[test]
fn values_of_every_size_come_back_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let dict = open(&folder);
    for (place, size) in SIZES.into_iter().enumerate() {
        let content = noise(size, place as u64);
        dict.set(&k(&size.to_string()), payload(&content))
            .wait()
            .unwrap();
        assert_eq!(
            is_in_chunks(&dict, &size.to_string()),
            size > CHUNK,
            "{size}"
        );
    }
    dict.close().unwrap();
    let dict = open(&folder);
    for (place, size) in SIZES.into_iter().enumerate() {
        let read = dict.get(&k(&size.to_string())).unwrap().unwrap();
        assert_eq!(read[5..], noise(size, place as u64), "{size}");
    }
}

#[test]
fn tree_of_several_levels_is_read_from_any_place() {
    let folder = tempfile::tempdir().unwrap();
    let dict = open(&folder);
    // More chunks than a node of chunks can list.
    let chunks = limits::NODE_CHILDREN_MAX + 3;
    let size = chunks * CHUNK - 17;
    let mut writer = dict.open_write(&k("a")).unwrap();
    for part in 0..chunks {
        let content = noise(CHUNK, part as u64 % 50);
        writer
            .write_all(&content[..CHUNK.min(size - part * CHUNK)])
            .unwrap();
    }
    assert_eq!(writer.content_bytes(), size as u64);
    writer.commit().wait().unwrap();
    let mut reader = dict.open_read(&k("a")).wait().unwrap().unwrap();
    assert_eq!(reader.content_bytes(), size as u64);
    for place in [
        0,
        CHUNK - 1,
        63 * CHUNK + 9,
        1_023 * CHUNK + 65_530,
        size - 10,
    ] {
        reader.seek(SeekFrom::Start(place as u64)).unwrap();
        let mut read = vec![0; 10];
        reader.read_exact(&mut read).unwrap();
        let wanted: Vec<u8> = (place..place + 10)
            .map(|at| noise(CHUNK, (at / CHUNK) as u64 % 50)[at % CHUNK])
            .collect();
        assert_eq!(read, wanted, "at {place}");
    }
    assert_eq!(reader.read(&mut [0; 10]).unwrap(), 0, "the end");
    assert!(reader.seek(SeekFrom::Current(-(size as i64) - 1)).is_err());
}

#[test]
fn every_kind_of_write_takes_large_values() {
    let folder = tempfile::tempdir().unwrap();
    let dict = open(&folder);
    let value = |seed| payload(&noise(100_000, seed));
    let put = |name: &str, seed| Change {
        key: k(name).into(),
        value: Some(value(seed)),
    };
    dict.batch(vec![put("batch", 1), put("other", 2)])
        .wait()
        .unwrap();
    dict.update([(k("update"), value(3)), (k("small"), payload(b"few"))])
        .unwrap();
    let mut pipeline = dict.pipeline();
    pipeline.set(&k("pipeline"), payload(b"before")).unwrap();
    pipeline.set(&k("pipeline"), value(4)).unwrap();
    pipeline.set(&k("after"), payload(b"few")).unwrap();
    pipeline.finish().unwrap();
    dict.transact(|t| {
        t.set(&k("transact"), value(5))?;
        assert_eq!(
            t.get(&k("transact")).wait()?.unwrap(),
            value(5),
            "its own write"
        );
        assert_eq!(t.get(&k("batch")).wait()?.unwrap(), value(1));
        Ok::<_, objsync::ObjectError>(())
    })
    .unwrap();
    assert!(
        dict.compare_and_set(&k("swap"), None, Some(value(6)))
            .wait()
            .unwrap()
    );
    let ttl = std::time::Duration::from_secs(600);
    dict.set_leased(&k("leased"), value(7), Some(ttl), None)
        .wait()
        .unwrap();
    let expected = [
        ("batch", 1),
        ("other", 2),
        ("update", 3),
        ("pipeline", 4),
        ("transact", 5),
        ("swap", 6),
        ("leased", 7),
    ];
    for (name, seed) in expected {
        assert!(is_in_chunks(&dict, name), "{name}");
        assert_eq!(dict.get(&k(name)).unwrap().unwrap(), value(seed), "{name}");
    }
    let scanned: Vec<_> = dict
        .scan(KeyRange::default(), false)
        .unwrap()
        .map(|entry| entry.unwrap().1.len())
        .collect();
    assert_eq!(scanned.iter().filter(|bytes| **bytes == 100_005).count(), 7);
    assert_eq!(scanned.len(), 9);
}

#[test]
fn value_is_swapped_by_its_content_where_it_was_cut_alike_and_by_its_reference_always() {
    let folder = tempfile::tempdir().unwrap();
    let dict = open(&folder);
    let (one, other) = (payload(&noise(300_000, 1)), payload(&noise(300_000, 2)));
    let swap = |expected: &Bytes, new: &Bytes| {
        let swapped = dict.compare_and_set(&k("a"), Some(expected.clone()), Some(new.clone()));
        swapped.wait().unwrap()
    };
    dict.set(&k("a"), one.clone()).wait().unwrap();
    assert!(!swap(&other, &one));
    assert!(swap(&one, &other));
    let mut writer = dict.open_write_cut(&k("a"), Chunking::Content).unwrap();
    writer.write_all(&noise(300_000, 1)).unwrap();
    writer.commit().wait().unwrap();
    assert_eq!(dict.get(&k("a")).unwrap().unwrap(), one);
    assert!(!swap(&one, &other), "equal content that was cut otherwise");
    let found = dict.find(&k("a")).wait().unwrap().unwrap();
    assert!(swap(&found, &other));
}

#[test]
fn old_values_are_read_from_snapshots_past_and_history_and_events_bring_them_whole() {
    let folder = tempfile::tempdir().unwrap();
    let dict = open(&folder);
    let (one, other) = (payload(&noise(300_000, 1)), payload(&noise(300_000, 2)));
    let watch = dict.watch(KeyRange::default(), None).unwrap();
    let first = dict.set(&k("a"), one.clone()).wait().unwrap();
    let before = dict.snapshot().wait().unwrap();
    let mut reader = dict.open_read(&k("a")).wait().unwrap().unwrap();
    dict.set(&k("a"), other.clone()).wait().unwrap();
    assert_eq!(before.get(&k("a")).wait().unwrap().unwrap(), one);
    let past = dict.at(first.revision).wait().unwrap();
    assert_eq!(past.get(&k("a")).wait().unwrap().unwrap(), one);
    let versions = dict.history(&k("a"), None, 10).wait().unwrap();
    let values: Vec<_> = versions
        .iter()
        .map(|version| version.load().wait().unwrap().unwrap())
        .collect();
    assert_eq!(values, [other.clone(), one.clone()]);
    let references = versions.iter().flat_map(|version| &version.value);
    assert!(
        references.clone().count() == 2 && references.clone().all(|value| value.len() < 1_000),
        "nothing is read before it is asked for"
    );
    let events: Vec<_> = (0..2).map(|_| watch.recv().unwrap().unwrap()).collect();
    assert_eq!(events[0].value.as_ref(), Some(&one));
    assert_eq!(
        (events[1].value.as_ref(), &events[1].old_value),
        (Some(&other), &None)
    );
    let mut content = Vec::new();
    reader.read_to_end(&mut content).unwrap();
    assert_eq!(
        content,
        one[5..],
        "the value that was there as it was opened"
    );
}

#[test]
fn same_content_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let dict = open(&folder);
    let used = |dict: &Dict| {
        dict.flush(None).wait().unwrap();
        let files = std::fs::read_dir(folder.path().join("data/packs")).unwrap();
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum::<u64>()
    };
    let content = noise(4 << 20, 1);
    dict.set(&k("a"), payload(&content)).wait().unwrap();
    let once = used(&dict);
    assert!(once >= 4 << 20, "{once} bytes");
    dict.set(&k("b"), payload(&content)).wait().unwrap();
    let mut writer = dict.open_write(&k("c")).unwrap();
    writer.write_all(&content).unwrap();
    writer.commit().wait().unwrap();
    assert_eq!(used(&dict), once);
    for name in ["a", "b", "c"] {
        assert_eq!(dict.get(&k(name)).unwrap().unwrap()[5..], content, "{name}");
    }
}

#[test]
fn writer_that_is_dropped_changes_nothing_and_one_of_another_type_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let dict = open(&folder);
    dict.set(&k("a"), payload(b"before")).wait().unwrap();
    let mut writer = dict.open_write(&k("a")).unwrap();
    writer.write_all(&noise(300_000, 1)).unwrap();
    drop(writer);
    assert_eq!(dict.get(&k("a")).unwrap().unwrap()[5..], *b"before");
    dict.set(&k("list"), value::to_payload(&[1, 2]).unwrap())
        .wait()
        .unwrap();
    let error = dict.open_read(&k("list")).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("of type list"), "{error}");
    assert!(dict.open_read(&k("nothing")).wait().unwrap().is_none());
    dict.set(&k("b"), payload(&noise(300_000, 1)))
        .wait()
        .unwrap();
    let error = dict
        .list_append(&k("b"), vec![Bytes::from_static(&[1])])
        .wait()
        .unwrap_err();
    assert!(error.to_string().contains("is bytes"), "{error}");
}
