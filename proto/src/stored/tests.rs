use super::*;
use proptest::prelude::*;

fn text(bytes: usize) -> Vec<u8> {
    b"a value that repeats itself "
        .iter()
        .copied()
        .cycle()
        .take(bytes)
        .collect()
}

proptest! {
    #[test]
    fn payload_comes_back_whatever_the_level(
        payload in proptest::collection::vec(any::<u8>(), 1..2000), level in 1..9_i32, raw: bool,
    ) {
        prop_assume!(payload[0] != REFERENCE);
        let compression = if raw { Compression::None } else { Compression::Zstd(level) };
        let stored = seal(&payload, compression).unwrap();
        prop_assert!(stored.len() <= payload.len() + HEADER_BYTES);
        prop_assert_eq!(open(&stored).unwrap(), payload);
    }

    #[test]
    fn garbage_is_an_error_or_a_payload_but_no_panic(
        mut garbage in proptest::collection::vec(any::<u8>(), 0..100), codec in 0..3_u8,
    ) {
        if garbage.len() > 3 {
            garbage[..3].copy_from_slice(&[0, codec, 0]);
        }
        let _ = open(&garbage.into());
    }
}

#[test]
fn bytes_are_the_golden_ones() {
    assert_eq!(
        &seal(&[0x2A], Compression::None).unwrap()[..],
        &[0, 0, 0, 0x2A]
    );
    let packed = seal(&text(300), Compression::Zstd(3)).unwrap();
    assert_eq!(packed[..3], [0, 1, 0]);
    assert_eq!(
        packed[3..7],
        [0x28, 0xB5, 0x2F, 0xFD],
        "a standard zstd frame follows"
    );
    assert!(packed.len() < 100);
}

#[test]
fn raw_payload_shares_memory_with_the_stored_value() {
    let stored = seal(b"payload", Compression::None).unwrap();
    assert_eq!(
        open(&stored).unwrap().as_ptr(),
        stored[HEADER_BYTES..].as_ptr()
    );
}

#[test]
fn payload_that_does_not_shrink_stays_raw() {
    let short = seal(b"ab", Compression::Zstd(19)).unwrap();
    assert_eq!(check(&short).unwrap(), Codec::Raw);
}

#[test]
fn payload_that_would_be_taken_for_a_reference_is_neither_made_nor_opened() {
    let refused = |stored: Vec<u8>| match open(&stored.into()) {
        Err(StoredError::Reference) => {}
        other => panic!("{other:?}"),
    };
    let payload = [vec![REFERENCE], text(300)].concat();
    for compression in [Compression::None, Compression::Zstd(3)] {
        assert!(matches!(
            seal(&payload, compression),
            Err(StoredError::Reference)
        ));
    }
    refused([&[0, 0, 0], &payload[..]].concat());
    let packed = zstd::bulk::compress(&payload, 3).unwrap();
    refused([&[0, 1, 0], &packed[..]].concat());
    assert!(matches!(
        check(&[0, 0, 0, REFERENCE]),
        Err(StoredError::Reference)
    ));
}

#[test]
fn payload_over_the_limit_is_refused_and_at_the_limit_is_not() {
    let at_limit = seal(&text(PAYLOAD_BYTES_MAX), Compression::None).unwrap();
    assert_eq!(at_limit.len(), VALUE_BYTES_MAX);
    assert!(check(&at_limit).is_ok());
    for compression in [Compression::None, Compression::Zstd(1)] {
        let error = seal(&text(PAYLOAD_BYTES_MAX + 1), compression).unwrap_err();
        assert!(matches!(error, StoredError::TooLarge { bytes } if bytes == 8_388_606));
    }
}

#[test]
fn frame_that_claims_a_huge_content_is_refused_before_memory_is_taken() {
    let plain = vec![0; VALUE_BYTES_MAX * 4];
    let bomb = with_header(CODEC_ZSTD, &zstd::bulk::compress(&plain, 1).unwrap());
    assert!(bomb.len() < 10_000);
    assert!(matches!(
        open(&bomb),
        Err(StoredError::TooLarge { bytes: 33_554_432 })
    ));
}

#[test]
fn unknown_header_and_trailing_bytes_are_refused() {
    let open = |bytes: &[u8]| {
        open(&Bytes::copy_from_slice(bytes))
            .unwrap_err()
            .to_string()
    };
    assert!(open(&[1, 0, 0, 1]).contains("suite 1"));
    assert!(open(&[0, 9, 0, 1]).contains("codec 9"));
    assert!(open(&[0, 0, 2, 1]).contains("chunk count 2"));
    assert!(open(&[0, 0]).contains("shorter than its header"));
    assert!(open(&[0, 0, 0]).contains("no payload"));
    let mut packed = seal(&text(300), Compression::Zstd(3)).unwrap().to_vec();
    packed.push(0);
    assert!(open(&packed).contains("one whole zstd frame"));
}
