use super::*;
use crate::disk::RealDisk;
use crate::test_log::{STORE, change, write_segment};

fn segment(directory: &Path) -> SegmentInfo {
    let first = vec![
        vec![change(2, b"k", Some(b"first"))],
        vec![change(1, b"b", Some(b"")), change(1, b"a", Some(b"value"))],
    ];
    let second = vec![
        vec![change(1, b"c", Some(b"gone")), change(1, b"c", None)],
        vec![change(2, b"k", Some(b"second"))],
        vec![],
    ];
    write_segment(directory, 4, 10, &[first, second])
}

fn open(directory: &Path, info: SegmentInfo) -> Footer {
    Footer::open_or_write(&RealDisk, directory, STORE, info).unwrap()
}

fn value(footer: &Footer, payload: &Bytes) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(match footer.content(payload)? {
        Content::Removed => None,
        Content::Whole(value) => Some(value.to_vec()),
        Content::Parts { .. } => panic!("no part was written"),
    })
}

#[test]
fn footer_has_the_last_value_of_each_key_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let info = segment(directory.path());
    let footer = open(directory.path(), info);
    let entries: Vec<_> = footer
        .table
        .iter()
        .map(|entry| {
            let entry = entry.unwrap();
            let found = value(&footer, &entry.payload).unwrap();
            (
                entry.section.namespace.0,
                entry.key.to_vec(),
                entry.revision.0,
                found,
            )
        })
        .collect();
    let expected = [
        (1, b"a".to_vec(), 12, Some(b"value".to_vec())),
        (1, b"b".to_vec(), 12, Some(Vec::new())),
        (1, b"c".to_vec(), 13, None),
        (2, b"k".to_vec(), 14, Some(b"second".to_vec())),
    ];
    assert_eq!(entries, expected);
    assert_eq!(footer.table.head().revision, Revision(15));
}

#[test]
fn footer_that_is_damaged_or_of_another_segment_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let info = segment(directory.path());
    let path = footer_path(directory.path(), info.id);
    open(directory.path(), info);
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, b"no table at all").unwrap();
    open(directory.path(), info);
    assert_eq!(std::fs::read(&path).unwrap(), good);
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        open(directory.path(), info);
        assert_eq!(std::fs::read(&path).unwrap(), good, "byte {place}");
    }
    let longer = SegmentInfo {
        last: Revision(16),
        ..info
    };
    assert!(Footer::open(&RealDisk, directory.path(), longer).is_err());
}

#[test]
fn value_that_changed_in_its_segment_is_found_out() {
    let directory = tempfile::tempdir().unwrap();
    let info = segment(directory.path());
    let footer = open(directory.path(), info);
    let path = segment_path(directory.path(), info.id);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes
        .windows(6)
        .position(|window| window == b"second")
        .unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let section = Section::dict(objsync_proto::ids::NamespaceId(2));
    let entry = footer.table.get(section, b"k").unwrap().unwrap();
    let error = value(&footer, &entry.payload).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { offset, .. } if offset == at as u64));
}

#[test]
fn place_past_the_end_is_refused_before_memory_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let footer = open(directory.path(), segment(directory.path()));
    let mut payload = Vec::new();
    let place = ValuePlace {
        offset: 100,
        bytes: u32::MAX,
        crc: 0,
    };
    Held::Whole(place).put(&mut payload);
    assert!(value(&footer, &payload.into()).is_err());
}

/// A salvage does not know where a damaged segment ends: the length alone says what is too much.
#[test]
fn value_over_the_limit_is_refused_before_memory_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let info = segment(directory.path());
    open(directory.path(), info);
    let path = segment_path(directory.path(), info.id);
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(32 << 20).unwrap();
    let endless = SegmentInfo {
        bytes: u64::MAX,
        ..info
    };
    let footer = Footer::open(&RealDisk, directory.path(), endless).unwrap();
    for (bytes, is_refused) in [(VALUE_BYTES_MAX, false), (VALUE_BYTES_MAX + 1, true)] {
        let place = ValuePlace {
            offset: 16 << 20,
            bytes: u32::try_from(bytes).unwrap(),
            crc: crc32c::crc32c(&vec![0; bytes]),
        };
        let mut payload = Vec::new();
        Held::Whole(place).put(&mut payload);
        let found = value(&footer, &payload.into());
        let refused = matches!(found, Err(StoreError::Corrupt { .. }));
        assert_eq!(refused, is_refused, "{bytes} bytes");
    }
}
