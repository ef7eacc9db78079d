//! Frames come back as they went, and nothing else is taken for one.

use objsync_proto::effect::Cause;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{LeaseId, NamespaceId, SessionId, SurfaceId};
use objsync_proto::operation::Outcome;
use proptest::prelude::*;

use super::*;

fn header() -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Transactions,
        skippable: false,
        index: FrameIndex(7),
        epoch: 3,
        first: Revision(100),
        count: 0,
        time_ms: 1_700_000_000_000,
        synced_to: 4096,
        body_bytes: 0,
        body_crc: 0,
    }
}

fn parse(seed: HeaderSeed, bytes: &[u8]) -> Option<Frame> {
    let header = seed.decode(bytes.first_chunk()?)?;
    let body = bytes.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + header.body_bytes as usize)?;
    (crc32c::crc32c(body) == header.body_crc).then(|| Frame {
        header,
        body: Bytes::copy_from_slice(body),
    })
}

fn build(
    builder: &mut BatchBuilder,
    origin: Option<(Origin, Sequence)>,
    result: &Result<Outcome, Failure>,
    bodies: &[Vec<u8>],
) {
    builder.begin(&TransactionHead {
        origin,
        cause: Cause::Write,
        result,
        effect_count: bodies.len() as u64,
    });
    for body in bodies {
        builder.effect(
            SurfaceId::DICT,
            NamespaceId(16),
            &[],
            body.len(),
            |buffer| {
                buffer.extend_from_slice(body);
            },
        );
    }
}

fn outcomes() -> impl Strategy<Value = Result<Outcome, Failure>> {
    prop_oneof![
        Just(Ok(Outcome::Done)),
        any::<u64>().prop_map(|count| Ok(Outcome::Deleted(count))),
        any::<bool>().prop_map(|swapped| Ok(Outcome::Swapped(swapped))),
        any::<i64>().prop_map(|number| Ok(Outcome::Number(number))),
        any::<u64>().prop_map(|lease| Ok(Outcome::Lease(LeaseId(lease)))),
        proptest::option::of(any::<u64>())
            .prop_map(|fence| Ok(Outcome::Locked(fence.map(Revision)))),
        any::<u64>().prop_map(|number| {
            Ok(Outcome::Conflict {
                key: Bytes::copy_from_slice(&number.to_be_bytes()),
                revision: Revision(number),
            })
        }),
        any::<u64>().prop_map(|oldest| {
            Ok(Outcome::Outdated {
                oldest: Revision(oldest),
            })
        }),
        Just(Ok(Outcome::Fenced {
            name: Bytes::from_static(b"name"),
        })),
        ".{0,40}".prop_map(|text| Err(Failure::new(ErrorKind::Conflict, text))),
    ]
}

fn origins() -> impl Strategy<Value = Option<(Origin, Sequence)>> {
    proptest::option::of(
        any::<[u64; 4]>().prop_map(|[epoch, frame, sequence, floor]| {
            let session = SessionId {
                epoch,
                frame: FrameIndex(frame),
            };
            let sequence = Sequence(sequence);
            (Origin { session, sequence }, Sequence(floor))
        }),
    )
}

proptest! {
    #[test]
    fn transactions_come_back_as_they_were_written(
        batch in proptest::collection::vec(
            (origins(), outcomes(), proptest::collection::vec(any::<Vec<u8>>(), 0..4)),
            1..5,
        ),
        salt in any::<[u8; 16]>(),
    ) {
        let seed = HeaderSeed::new(salt);
        let mut builder = BatchBuilder::default();
        for (origin, result, bodies) in &batch {
            build(&mut builder, *origin, result, bodies);
        }
        let bytes = builder.seal(header(), seed).to_vec();
        prop_assert_eq!(bytes.len() % FRAME_ALIGN_BYTES, 0);
        let frame = parse(seed, &bytes).unwrap();
        prop_assert_eq!(frame.header.frame_bytes(), bytes.len() as u64);
        prop_assert_eq!(frame.last(), Revision(99 + batch.len() as u64));
        let read = frame.transactions().unwrap();
        prop_assert_eq!(read.len(), batch.len());
        for (place, (logged, (origin, result, bodies))) in read.iter().zip(&batch).enumerate() {
            prop_assert_eq!(logged.transaction.revision, Revision(100 + place as u64));
            prop_assert_eq!(logged.origin(), origin.map(|(origin, _)| origin));
            prop_assert_eq!(logged.floor, origin.map_or(Sequence(0), |(_, floor)| floor));
            prop_assert_eq!(&logged.transaction.result, result);
            let read: Vec<_> = logged.transaction.effects.iter().map(|e| e.body.to_vec()).collect();
            prop_assert_eq!(&read, bodies);
        }
    }

    #[test]
    fn garbage_with_a_right_checksum_is_refused_not_trusted(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        count in any::<u32>(),
    ) {
        let header = FrameHeader { count, ..header() };
        let frame = Frame { header, body: Bytes::from(body) };
        if let Ok(read) = frame.transactions() {
            prop_assert_eq!(read.len(), count as usize);
        }
    }

    #[test]
    fn varint_has_the_length_that_is_told(value in any::<u64>()) {
        let mut buffer = Vec::new();
        put_varint(&mut buffer, value);
        prop_assert_eq!(buffer.len(), varint_bytes(value));
        let bytes = Bytes::from(buffer);
        let mut reader = BytesReader::new(&bytes);
        prop_assert_eq!(reader.varint(), Ok(value));
        prop_assert_eq!(reader.finish(), Ok(()));
    }
}

#[test]
fn any_flipped_bit_is_found() {
    let seed = HeaderSeed::new([9; 16]);
    let mut builder = BatchBuilder::default();
    build(&mut builder, None, &Ok(Outcome::Done), &[b"body".to_vec()]);
    let bytes = builder.seal(header(), seed).to_vec();
    let length = FRAME_HEADER_BYTES + parse(seed, &bytes).unwrap().body.len();
    for bit in 0..length * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(parse(seed, &flipped), None, "bit {bit}");
    }
}

#[test]
fn frame_of_another_segment_is_none_of_this() {
    let mut builder = BatchBuilder::default();
    build(&mut builder, None, &Ok(Outcome::Done), &[]);
    let bytes = builder.seal(header(), HeaderSeed::new([1; 16])).to_vec();
    assert!(parse(HeaderSeed::new([1; 16]), &bytes).is_some());
    assert_eq!(parse(HeaderSeed::new([2; 16]), &bytes), None);
}

#[test]
fn length_past_the_limit_is_refused_before_memory_is_taken() {
    let seed = HeaderSeed::new([1; 16]);
    let mut bytes = [0; FRAME_HEADER_BYTES];
    let limit = u32::try_from(FRAME_BODY_BYTES_MAX).unwrap();
    let at_limit = FrameHeader {
        body_bytes: limit,
        ..header()
    };
    seed.encode(&at_limit, &mut bytes);
    assert_eq!(seed.decode(&bytes), Some(at_limit));
    bytes[4..8].copy_from_slice(&(limit + 1).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&[1; 16]), &bytes[..60]);
    bytes[60..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(seed.decode(&bytes), None);
}

#[test]
fn cause_of_a_transaction_comes_back_and_an_unknown_one_is_refused() {
    let seed = HeaderSeed::new([0; 16]);
    for cause in [Cause::Write, Cause::Expiry, Cause::Patch] {
        let mut builder = BatchBuilder::default();
        builder.begin(&TransactionHead {
            origin: None,
            cause,
            result: &Ok(Outcome::Done),
            effect_count: 0,
        });
        let frame = parse(seed, builder.seal(header(), seed)).unwrap();
        assert_eq!(frame.transactions().unwrap()[0].transaction.cause, cause);
    }
    let body = Bytes::from_static(&[0b110, 0, 0]);
    let header = FrameHeader {
        count: 1,
        ..header()
    };
    assert!(Frame { header, body }.transactions().is_err());
}

#[test]
fn golden_bytes_of_a_frame() {
    let seed = HeaderSeed::new([0; 16]);
    let mut builder = BatchBuilder::default();
    build(&mut builder, None, &Ok(Outcome::Done), &[vec![0xaa]]);
    let hex: String = builder
        .seal(header(), seed)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // The bytes of format 0, which old stores hold.
    assert_eq!(&hex[..16], "f501000008000000", "{hex}");
    assert_eq!(&hex[16..48], "07000000000000000300000000000000", "{hex}");
    assert_eq!(&hex[48..80], "64000000000000000068e5cf8b010000", "{hex}");
    assert_eq!(&hex[80..104], "001000000000000001000000", "{hex}");
    assert_eq!(&hex[128..], "00000101100001aa", "{hex}");
}
