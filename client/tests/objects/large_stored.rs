//! Large values as others have stored them: in one piece, cut otherwise, or forged.

use std::path::Path;

use objsync::{Bytes, Chunking, Dict, ErrorKind, KeyRange, LargeValue, ObjectError, Options};
use objsync_proto::effect::Change;
use objsync_proto::ids::NamespaceId;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::stored::{self, Compression};
use objsync_store::{Store, StoreOptions, Submission};

use crate::large::{noise, payload};
use crate::peer::{k, text, v};

/// What the owner answers to the stored bytes of a value, put into a store beside a sound one.
fn put_stored(directory: &Path, stored: Bytes) -> Result<Outcome, ObjectError> {
    let store = Store::open(directory, StoreOptions::default())?;
    store.create_namespace("default", Vec::new())?;
    let put = |name: &str, stored: Bytes| {
        let operation = Operation::Put {
            key: k(name).into(),
            value: stored,
        };
        store.execute(Submission {
            namespace: NamespaceId::DEFAULT,
            operation,
            origin: None,
            durability: None,
        })
    };
    let sound = stored::seal(&v("sound"), Compression::None).unwrap();
    put("sound", sound)?.outcome?;
    let answer = put("given", stored)?.outcome;
    store.close()?;
    Ok(answer?)
}

/// The payload that a handle makes of a value in chunks which nobody has, 16 TiB long.
fn forged() -> Vec<u8> {
    let children: u8 = 64;
    let bytes = 16_u64 << 40;
    let mut stored = vec![0, 0, children, 3, 0];
    stored.extend_from_slice(&(64_u32 << 10).to_le_bytes());
    for child in 0..children {
        stored.extend_from_slice(&[child; 32]);
        stored.extend_from_slice(&(bytes / u64::from(children)).to_le_bytes());
    }
    stored.extend_from_slice(&[0xC6, 0xFF, 0xFF, 0xFF, 0xFF]);
    let key = k("given");
    let mut payload = vec![0xC1];
    payload.extend_from_slice(&7_u64.to_be_bytes());
    payload.extend_from_slice(&u16::try_from(key.len()).unwrap().to_be_bytes());
    payload.extend_from_slice(&key);
    payload.extend_from_slice(&stored);
    payload
}

#[test]
fn payload_that_would_be_taken_for_a_reference_is_refused_by_the_owner() {
    assert!(
        LargeValue::of(&forged().into()).unwrap().is_some(),
        "a handle would take it for one"
    );
    let folder = tempfile::tempdir().unwrap();
    let stored = [&[0, 0, 0][..], &forged()].concat();
    let error = put_stored(folder.path(), stored.into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let text = error.to_string();
    assert!(
        text.contains("\"given\"") && text.contains("0xC1"),
        "{text}"
    );
}

/// What is compressed is not unpacked by an owner, so it is the reader who finds it.
#[test]
fn payload_that_unpacks_to_a_reference_is_corrupt_and_named_and_can_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let packed = stored::frame(&forged(), 3).unwrap();
    let stored = [&[0, 1, 0][..], &packed].concat();
    put_stored(folder.path(), stored.into()).unwrap();
    let dict = Dict::open(folder.path(), Options::default()).unwrap();
    let corrupt = |error: ObjectError| {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("key \"given\""), "{error}");
    };
    corrupt(dict.get(&k("given")).unwrap_err());
    corrupt(dict.find(&k("given")).wait().unwrap_err());
    let mut scan = dict.scan(KeyRange::default(), false).unwrap();
    corrupt(scan.find_map(Result::err).unwrap());
    let expected = Some(payload(b"other"));
    let swapped = dict.compare_and_set(&k("given"), expected, None).wait();
    corrupt(swapped.unwrap_err());
    assert_eq!(text(&dict, "sound").as_deref(), Some("sound"));
    dict.delete(&k("given")).wait().unwrap();
    assert_eq!(dict.scan(KeyRange::default(), false).unwrap().count(), 1);
}

#[test]
fn value_that_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let packed = stored::frame(&v(&"text ".repeat(100)), 3).unwrap();
    let mut stored = [&[0, 1, 0][..], &packed].concat();
    let last = stored.len() - 2;
    stored[last] ^= 0xFF;
    put_stored(folder.path(), stored.into()).unwrap();
    let dict = Dict::open(folder.path(), Options::default()).unwrap();
    let mut scan = dict.scan(KeyRange::default(), false).unwrap();
    let error = scan.find_map(Result::err).unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("key \"given\""), "{error}");
}

/// Values above 64 KiB in one piece come from older programs and from handles that queue.
#[test]
fn large_value_in_one_piece_is_swapped_by_what_is_read_and_by_what_is_equal() {
    let content = noise(100_000, 1);
    for compression in [Compression::None, Compression::Zstd(3)] {
        for chunking in [Chunking::Fixed, Chunking::Content] {
            let folder = tempfile::tempdir().unwrap();
            let stored = stored::seal(&payload(&content), compression).unwrap();
            put_stored(folder.path(), stored).unwrap();
            let options = Options {
                chunking,
                ..Options::default()
            };
            let dict = Dict::open(folder.path(), options).unwrap();
            let swap = |expected: &Bytes, new: Option<&Bytes>| {
                let (expected, new) = (Some(expected.clone()), new.cloned());
                dict.compare_and_set(&k("given"), expected, new)
                    .wait()
                    .unwrap()
            };
            let found = dict.find(&k("given")).wait().unwrap().unwrap();
            assert!(!LargeValue::is_reference(&found));
            assert!(!swap(&payload(&noise(100_000, 2)), None));
            assert!(!swap(&payload(&content[1..]), None));
            assert!(swap(&found, Some(&payload(&content))), "{chunking}");
            let found = dict.find(&k("given")).wait().unwrap().unwrap();
            assert!(LargeValue::is_reference(&found), "now it is in chunks");
            assert!(swap(&payload(&content), None), "{chunking}");
            assert_eq!(dict.get(&k("given")).unwrap(), None);
        }
    }
}

#[test]
fn first_content_that_is_large_goes_into_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let content = noise(9 << 20, 1);
    let change = |name: &str, value: Bytes| Change {
        key: k(name).into(),
        value: Some(value),
    };
    let options = Options {
        content: Some(vec![
            change("large", payload(&content)),
            change("small", v("few")),
        ]),
        ..Options::default()
    };
    let dict = Dict::open(folder.path().join("data"), options).unwrap();
    let found = dict.find(&k("large")).wait().unwrap().unwrap();
    assert!(LargeValue::is_reference(&found));
    assert_eq!(dict.get(&k("large")).unwrap().unwrap()[5..], content);
    assert_eq!(text(&dict, "small").as_deref(), Some("few"));
    dict.close().unwrap();
    let dict = Dict::open(folder.path().join("data"), Options::default()).unwrap();
    assert_eq!(dict.get(&k("large")).unwrap().unwrap()[5..], content);
}
