use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ids::NamespaceId;
use crate::limits::VALUE_BYTES_MAX;
use crate::stored::{self, Codec, Compression, HEADER_BYTES, StoredError};

/// Values of one kind, of which much is the same.
pub(crate) fn sample(number: u64) -> Bytes {
    let scrambled = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let text = format!(
        "{{\"name\": \"user-{scrambled:x}\", \"mail\": \"u{number}@example.org\", \"roles\": \
         [\"reader\", \"writer\"], \"city\": \"{}\", \"active\": {}}}",
        ["Bergen", "Lisboa", "Gdansk", "Cork"][(scrambled % 4) as usize],
        scrambled.is_multiple_of(3),
    );
    text.into_bytes().into()
}

/// A dictionary for such values; `number` gives another one. Made once.
pub(crate) fn trained(number: u64) -> Arc<Dictionary> {
    static MADE: Mutex<BTreeMap<u64, Arc<Dictionary>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap();
    let dictionary = made.entry(number).or_insert_with(|| Arc::new(make(number)));
    Arc::clone(dictionary)
}

fn make(number: u64) -> Dictionary {
    let samples: Vec<Bytes> = (0..1000)
        .map(|each| sample(number * 10_000 + each))
        .collect();
    train(&samples, 5, None).expect("these have much in common")
}

fn packed(payload: &[u8], dictionary: &Dictionary) -> Bytes {
    stored::seal_with(payload, Compression::Zstd(5), Some(dictionary)).unwrap()
}

#[test]
fn small_values_shrink_with_a_dictionary_and_not_without() {
    let dictionary = trained(0);
    let value = sample(77_777);
    let without = stored::seal(&value, Compression::Zstd(5)).unwrap();
    let with = packed(&value, &dictionary);
    assert!(
        with.len() * 2 < without.len(),
        "{} {}",
        with.len(),
        without.len()
    );
    assert_eq!(with[..3], [0, 2, 0]);
    assert_eq!(stored::dictionary_of(&with), Some(dictionary.id()));
    assert_eq!(stored::dictionary_of(&without), None);
}

#[test]
fn training_gives_a_name_that_is_the_content_s() {
    let (one, same, other) = (trained(0), make(0), trained(1));
    assert_eq!(one.id(), same.id());
    assert_eq!(one.bytes(), same.bytes());
    assert_ne!(one.id(), other.id());
    assert!((ID_MIN..ID_END).contains(&one.id().0));
    // A standard zstd reads the same name.
    assert_eq!(
        zstd_safe::get_dict_id_from_dict(one.bytes()).map(NonZeroU32::get),
        Some(one.id().0)
    );
}

#[test]
fn nothing_is_trained_where_it_would_not_pay() {
    let noise = |seed: u64| -> Bytes {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        (0..100).map(|_| next()).collect()
    };
    let noises: Vec<Bytes> = (1..2000).map(noise).collect();
    assert!(train(&noises, 5, None).is_none(), "noise");
    let samples: Vec<Bytes> = (0..1000).map(sample).collect();
    let present = train(&samples, 5, None).unwrap();
    assert!(train(&samples, 5, Some(&present)).is_none(), "there is one");
    assert!(train(&samples[..SAMPLE_COUNT_MIN - 1], 5, None).is_none());
    let counters: Vec<Bytes> = (0..2000_u64)
        .map(|n| n.to_be_bytes().to_vec().into())
        .collect();
    assert!(train(&counters, 5, None).is_none(), "counters");
}

#[test]
fn value_with_another_dictionary_or_none_is_an_error() {
    let (right, wrong) = (trained(0), trained(1));
    let value = packed(&sample(5), &right);
    let opened = |found: Option<&Dictionary>| stored::open_with(&value, |_| found);
    assert_eq!(opened(Some(&right)).unwrap(), sample(5));
    let id = right.id();
    for found in [None, Some(&*wrong)] {
        match opened(found) {
            Err(StoredError::NoDictionary { id: named }) => assert_eq!(named, id),
            other => panic!("{other:?}"),
        }
    }
    assert!(
        stored::open(&value)
            .unwrap_err()
            .to_string()
            .contains(&id.to_string())
    );
}

#[test]
fn codec_and_frame_that_disagree_are_refused() {
    let dictionary = trained(0);
    let mut with = packed(&sample(5), &dictionary).to_vec();
    with[1] = 1;
    let error = stored::check(&with).unwrap_err().to_string();
    assert!(error.contains("names a dictionary"), "{error}");
    let text = [b'a'; 300];
    let mut without = stored::seal(&text, Compression::Zstd(3)).unwrap().to_vec();
    without[1] = 2;
    let error = stored::check(&without).unwrap_err().to_string();
    assert!(error.contains("names no dictionary"), "{error}");
}

#[test]
fn frame_that_claims_a_huge_content_is_refused_before_memory_is_taken() {
    let dictionary = trained(0);
    let plain = vec![0; VALUE_BYTES_MAX * 4];
    let mut bomb = vec![0, 2, 0];
    bomb.extend(dictionary.pack(&plain, 1).unwrap());
    let opened = stored::open_with(&bomb.into(), |_| Some(&*dictionary));
    assert!(matches!(
        opened,
        Err(StoredError::TooLarge { bytes: 33_554_432 })
    ));
}

#[test]
fn dictionary_that_is_damaged_anywhere_is_refused() {
    let dictionary = trained(0);
    let bytes = dictionary.bytes();
    for place in (0..64).chain((64..bytes.len()).step_by(97)) {
        let mut damaged = bytes.to_vec();
        damaged[place] ^= 0x10;
        assert!(Dictionary::new(damaged.into()).is_err(), "byte {place}");
    }
    for length in [
        0,
        1,
        7,
        8,
        DICTIONARY_BYTES_MIN - 1,
        DICTIONARY_BYTES_MIN,
        bytes.len() - 1,
    ] {
        assert!(Dictionary::new(bytes.slice(..length)).is_err(), "{length}");
    }
    let long = vec![1; DICTIONARY_BYTES_MAX + 1];
    let error = Dictionary::new(long.into()).unwrap_err().to_string();
    assert!(
        error.contains("524289 bytes") && error.contains("524288 bytes"),
        "{error}"
    );
    // One whose name is right, and that zstd cannot load.
    let mut hollow = bytes[..HEAD_BYTES].to_vec();
    hollow.resize(DICTIONARY_BYTES_MIN, 0xFF);
    let id = id_of(&hollow[HEAD_BYTES..]);
    hollow[4..HEAD_BYTES].copy_from_slice(&id.0.to_le_bytes());
    let error = Dictionary::new(hollow.into()).unwrap_err().to_string();
    assert!(error.contains("cannot load"), "{error}");
}

#[test]
fn entries_come_back_and_others_are_none() {
    let dictionary = trained(0);
    let (id, bytes) = (dictionary.id(), dictionary.bytes().clone());
    let at_ms = 1_700_000_000_000;
    let entry = Trained { at_ms, bytes }.encode();
    let trained = Trained::decode(&entry).unwrap();
    assert_eq!((trained.at_ms, &trained.bytes), (at_ms, dictionary.bytes()));
    assert_eq!(trained.clone().open(id).unwrap().id(), id);
    assert!(trained.open(DictionaryId(id.0 + 1)).is_err());
    assert_eq!(DictionaryId::decode_present(&id.encode_present()), Some(id));
    for other in [
        &b""[..],
        b"\0",
        b"\0\0\0",
        b"\0\0\0\x01abcdefgh",
        b"\0\0\0abc",
        b"\0\x01\0abc",
    ] {
        let other = Bytes::from_static(other);
        assert_eq!(Trained::decode(&other), None);
        assert_eq!(DictionaryId::decode_present(&other), None);
    }
}

#[test]
fn keys_of_a_namespace_are_those_of_its_range() {
    for namespace in [0, 1, 255, 256, u32::MAX] {
        let namespace = NamespaceId(namespace);
        let range = EntryKey::all_of(namespace);
        for id in [0, 1, u32::MAX] {
            let id = DictionaryId(id);
            assert!(range.contains(&EntryKey::Dictionary(namespace, id).encode()));
            let next = NamespaceId(namespace.0.wrapping_add(1));
            assert!(!range.contains(&EntryKey::Dictionary(next, id).encode()));
        }
        assert!(!range.contains(&EntryKey::Present(namespace).encode()));
    }
}

/// These bytes are the store's own: none of them is taken for a reference to chunks.
#[test]
fn name_of_the_present_dictionary_comes_back_whatever_it_begins_with() {
    for id in [DictionaryId(0xC100_0000), DictionaryId(1)] {
        assert_eq!(DictionaryId::decode_present(&id.encode_present()), Some(id));
    }
}

proptest! {
    #[test]
    fn payload_comes_back_whatever_it_is(
        payload in proptest::collection::vec(any::<u8>(), 1..3000),
        number: u64, is_sample: bool, level in 1..=22_i32,
    ) {
        let dictionary = trained(0);
        let payload = if is_sample { sample(number) } else { payload.into() };
        prop_assume!(payload[0] != crate::stored_chunks::REFERENCE);
        let stored = stored::seal_with(&payload, Compression::Zstd(level), Some(&dictionary)).unwrap();
        prop_assert!(stored.len() <= payload.len() + HEADER_BYTES);
        prop_assert_eq!(stored::open_with(&stored, |_| Some(&*dictionary)).unwrap(), payload);
    }

    #[test]
    fn damaged_frame_is_an_error_or_a_payload_of_the_stated_size_but_no_panic(
        number: u64, place: proptest::sample::Index, flip in 1..=255_u8,
    ) {
        let dictionary = trained(0);
        let mut stored = packed(&sample(number), &dictionary).to_vec();
        let place = HEADER_BYTES + place.index(stored.len() - HEADER_BYTES);
        stored[place] ^= flip;
        let stored = Bytes::from(stored);
        let opened = stored::open_with(&stored, |_| Some(&*dictionary));
        if let (Ok(Codec::Dictionary { plain_bytes, .. }), Ok(payload)) = (stored::check(&stored), opened) {
            prop_assert_eq!(payload.len(), plain_bytes);
        }
    }
}
