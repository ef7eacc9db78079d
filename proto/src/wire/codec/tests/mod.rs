//! Frames: golden bytes, round trips, agreement with `rmp_serde`, and hostile bytes.

mod any;
mod page;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::effect::{Cause, Change};
use crate::ids::Revision;
use crate::operation::Outcome;
use crate::wire::{Entry, Event, Hello, Reply, Request, Upload, event};
use any::{
    ack, any_event, durability, entry, failure, feed, grant, number, operation, outcome, position,
    range, status, to_owner, to_peer, upload,
};

fn encoded<M: Message>(message: &M) -> BytesMut {
    let mut out = BytesMut::new();
    encode(message, &mut out);
    out
}

/// The body of a message's frame.
fn body_of<M: Message>(message: &M) -> Bytes {
    split_frame(&mut encoded(message), FRAME_BYTES_MAX)
        .unwrap()
        .unwrap()
        .slice(1..)
}

/// Decodes several messages from input that arrives in pieces.
fn decode_pieces<M: Message>(mut input: BytesMut, piece: usize) -> Vec<M> {
    let mut arrived = BytesMut::new();
    let mut messages = Vec::new();
    while !input.is_empty() {
        arrived.extend_from_slice(&input.split_to(piece.min(input.len())));
        while let Some(message) = decode(&mut arrived, FRAME_BYTES_MAX).unwrap() {
            messages.push(message);
        }
    }
    assert!(arrived.is_empty(), "nothing is left over");
    messages
}

fn comes_back<M: Message + PartialEq + std::fmt::Debug>(messages: &[M], piece: usize) {
    let mut out = BytesMut::new();
    messages
        .iter()
        .for_each(|message| encode(message, &mut out));
    assert_eq!(decode_pieces::<M>(out, piece), messages);
}

proptest! {
    #[test]
    fn messages_come_back_from_pieces_of_any_length(
        to_owner in vec(to_owner(), 0..4), to_peer in vec(to_peer(), 0..4),
        feed in vec(feed(), 0..4), upload in vec(upload(), 0..4), piece in 1..400_usize,
    ) {
        comes_back(&upload, piece);
        comes_back(&to_owner, piece);
        comes_back(&to_peer, piece);
        comes_back(&feed, piece);
    }

    /// The hand-written layout is the one that `rmp_serde` gives the same types.
    #[test]
    fn bodies_are_those_of_rmp_serde(
        hello in any::<String>(), operation in operation(), entries in vec(entry(), 0..20),
        events in vec(any_event(), 0..8), outcome in outcome(), ack in ack(), failure in failure(),
        durability in option::of(durability()), sequence in number().prop_map(Sequence),
        status in status(), position in position(), range in range(), grant in grant(),
    ) {
        fn same(body: &[u8], value: &impl serde::Serialize) {
            assert_eq!(body, rmp_serde::to_vec(value).unwrap());
        }
        let hello = Hello { program: hello, namespace: "default".into(), session: None };
        same(&body_of(&ToOwner::Hello(hello.clone())), &hello);
        let write = Write { sequence, floor: Sequence(1), durability, operation };
        let mut by_reference = BytesMut::new();
        let Write { sequence, floor, durability, ref operation } = write;
        encode_write(WriteRef { sequence, floor, durability, operation }, &mut by_reference);
        prop_assert_eq!(by_reference, encoded(&ToOwner::Write(write.clone())));
        same(&body_of(&ToOwner::Write(write.clone())), &write);
        let answer = ToPeer::Answer(sequence, Ok((outcome.clone(), ack)));
        same(&body_of(&answer), &(sequence, (0, (outcome, ack))));
        let refusal = ToPeer::Answer(sequence, Err(failure.clone()));
        same(&body_of(&refusal), &(sequence, (1, failure)));
        same(&body_of(&Feed::Entries(entries.clone())), &entries);
        same(&body_of(&Feed::Events(events.clone())), &events);
        same(&body_of(&Feed::Bookmark { position }), &position);
        same(&body_of(&ToPeer::Reply(1, Ok(Reply::Status(status.clone())))), &(1, (0, (5, status))));
        let fetch = Request::Fetch { subscription: 7, range: range.clone(), reverse: true };
        same(&body_of(&ToOwner::Request(2, fetch)), &(2, (5, 7, range, true)));
        same(&body_of(&ToOwner::Request(3, Request::Grant(grant.clone()))), &(3, (9, grant)));
    }

    #[test]
    fn operation_and_outcome_come_back_through_serde(operation in operation(), outcome in outcome()) {
        let bytes = rmp_serde::to_vec(&(&operation, &outcome)).unwrap();
        let back: (Operation, Outcome) = rmp_serde::from_slice(&bytes).unwrap();
        prop_assert_eq!(back, (operation, outcome));
    }

    #[test]
    fn events_put_together_are_the_frame_of_the_events(events in vec(any_event(), 1..20)) {
        let parts: Vec<Bytes> = events.iter().map(event::encode).collect();
        let mut out = BytesMut::new();
        event::encode_events(&parts, &mut out);
        prop_assert_eq!(out, encoded(&Feed::Events(events)));
    }

    #[test]
    fn garbage_never_panics(garbage in vec(any::<u8>(), 0..300)) {
        for frame_type in 0..10 {
            let mut input = BytesMut::new();
            begin_sized(frame_type, garbage.len(), &mut input);
            input.extend_from_slice(&garbage);
            let _ = decode::<ToOwner>(&mut input.clone(), FRAME_BYTES_MAX);
            let _ = decode::<ToPeer>(&mut input.clone(), FRAME_BYTES_MAX);
            let _ = decode::<Feed>(&mut input, FRAME_BYTES_MAX);
        }
        let _ = decode::<Feed>(&mut BytesMut::from(&garbage[..]), FRAME_BYTES_MAX);
        let _ = decode::<Upload>(&mut BytesMut::from(&garbage[..]), FRAME_BYTES_MAX);
    }

    #[test]
    fn damaged_frame_never_panics(
        message in feed(), place: proptest::sample::Index, byte: u8, cut: proptest::sample::Index,
    ) {
        let mut body = body_of(&message).to_vec();
        body.push(byte);
        *place.get_mut(&mut body) = byte;
        body.truncate(cut.index(body.len()) + 1);
        let mut input = BytesMut::new();
        begin_sized(message.frame_type(), body.len(), &mut input);
        input.extend_from_slice(&body);
        if let Ok(Some(read)) = decode::<Feed>(&mut input, FRAME_BYTES_MAX) {
            comes_back(&[read], 1_000);
        }
    }
}

#[test]
fn types_are_numbered_in_the_order_of_the_variants() {
    for types in [
        to_owner_type::ALL,
        to_peer_type::ALL,
        feed_type::ALL,
        upload_type::ALL,
    ] {
        // Numbers between may be set aside for others.
        assert!(types.is_sorted_by(|before, after| before.0 < after.0));
        for (number, name) in types {
            assert!(*number < OPTIONAL_TYPE, "{name} is required");
        }
    }
}

#[test]
fn frame_longer_than_the_limit_is_refused_before_its_body_arrives() {
    let mut input = BytesMut::from(&varint(FRAME_BYTES_MAX + 1).0[..]);
    let expected = FrameError::TooLong {
        bytes: FRAME_BYTES_MAX + 1,
        bytes_max: FRAME_BYTES_MAX,
    };
    assert_eq!(
        decode::<ToOwner>(&mut input, FRAME_BYTES_MAX),
        Err(expected)
    );
    let mut at_limit = BytesMut::from(&varint(FRAME_BYTES_MAX).0[..]);
    assert_eq!(decode::<ToOwner>(&mut at_limit, FRAME_BYTES_MAX), Ok(None));
    assert!(
        at_limit.capacity() < 1_000,
        "no memory is taken for what did not come"
    );
}

#[test]
fn length_that_is_no_shortest_varint_is_refused() {
    for bytes in [
        &[0x00][..],
        &[0x81, 0x00],
        &[0xFF; 4],
        &[0x80, 0x80, 0x80, 0x80, 0x01],
    ] {
        let result = decode::<ToOwner>(&mut BytesMut::from(bytes), FRAME_BYTES_MAX);
        assert_eq!(result, Err(FrameError::NoLength), "{bytes:x?}");
    }
    assert_eq!(
        decode::<ToOwner>(&mut BytesMut::from(&[0xFF; 3][..]), FRAME_BYTES_MAX),
        Ok(None)
    );
}

#[test]
fn unknown_optional_frame_is_skipped_and_an_unknown_required_one_is_an_error() {
    let mut input = BytesMut::from(&[3, OPTIONAL_TYPE, 0xC1, 0xC1, 1, 1][..]);
    assert_eq!(decode(&mut input, 100), Ok(Some(ToOwner::OpenSession)));
    let mut input = BytesMut::from(&[1, OPTIONAL_TYPE - 1][..]);
    let error = decode::<ToOwner>(&mut input, 100).unwrap_err();
    assert_eq!(error, FrameError::UnknownType(127));
    assert_eq!(error.failure().kind, ErrorKind::Unsupported);
}

#[test]
fn request_of_a_later_version_is_read_by_its_number_and_the_next_frame_follows() {
    let later = (7, (200, "a field", 1.5));
    let body = rmp_serde::to_vec(&later).unwrap();
    let mut input = BytesMut::new();
    begin_sized(to_owner_type::REQUEST, body.len(), &mut input);
    input.put_slice(&body);
    encode(&ToOwner::OpenSession, &mut input);
    let unknown = ToOwner::Request(7, Request::Unknown { number: 200 });
    assert_eq!(decode(&mut input, 100), Ok(Some(unknown)));
    assert_eq!(decode(&mut input, 100), Ok(Some(ToOwner::OpenSession)));
}

#[test]
fn bytes_after_a_message_are_an_error() {
    let error = decode::<ToOwner>(&mut BytesMut::from(&[2, 1, 0xC0][..]), 100).unwrap_err();
    let text = "frame of type 1 is malformed at byte 0: bytes after the message";
    assert_eq!(error.to_string(), text);
    assert_eq!(error.failure().kind, ErrorKind::Invalid);
}

#[test]
fn list_that_claims_more_than_the_frame_holds_takes_no_memory() {
    for (frame_type, body) in [
        (feed_type::EVENTS, &[0xDD, 0xFF, 0xFF, 0xFF, 0xFF][..]),
        (
            feed_type::EVENTS,
            &[0x91, 0x94, 1, 1, 0xC0, 0xDD, 0x7F, 0xFF, 0xFF, 0xFF],
        ),
        (
            feed_type::ENTRIES,
            &[0x91, 0x93, 0xC6, 0xFF, 0xFF, 0xFF, 0xFF],
        ),
    ] {
        let mut input = BytesMut::new();
        begin_sized(frame_type, body.len(), &mut input);
        input.put_slice(body);
        let error = decode::<Feed>(&mut input, FRAME_BYTES_MAX).unwrap_err();
        assert!(matches!(error, FrameError::Malformed { .. }), "{error}");
    }
}

/// A list of elements of one byte is the worst ratio of memory to frame.
#[test]
fn list_with_more_elements_than_any_transaction_is_refused() {
    let length = u32::try_from(crate::limits::TRANSACTION_EFFECTS_MAX * 3).unwrap();
    let mut input = BytesMut::new();
    begin_sized(feed_type::EVENTS, 5 + length as usize, &mut input);
    input.put_u8(0xDD);
    input.put_u32(length);
    input.put_bytes(0xC0, length as usize);
    let error = decode::<Feed>(&mut input, FRAME_BYTES_MAX).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("more elements than a frame holds"),
        "{error}"
    );
}

#[test]
fn largest_transaction_fits_a_frame_and_comes_back() {
    let changes: Vec<Change> = (0..crate::limits::TRANSACTION_EFFECTS_MAX)
        .map(|_| Change {
            key: Bytes::from_static(b"0123"),
            value: None,
        })
        .collect();
    let event = Event {
        revision: Revision(1),
        time_ms: 0,
        origin: None,
        cause: Cause::Write,
        changes,
    };
    comes_back(&[Feed::Events(vec![event])], FRAME_BYTES_MAX);
}

#[test]
fn keys_and_values_are_slices_of_the_frame() {
    let value = Bytes::from(vec![7; 1_000]);
    let entry = Entry {
        key: Bytes::from_static(b"k"),
        value,
        revision: Revision(1),
    };
    let mut input = encoded(&Feed::Entries(vec![entry]));
    let buffer = input.as_ptr() as usize..input.as_ptr() as usize + input.len();
    let Ok(Some(Feed::Entries(entries))) = decode(&mut input, FRAME_BYTES_MAX) else {
        panic!()
    };
    assert!(buffer.contains(&(entries[0].value.as_ptr() as usize)));
}

#[test]
fn events_that_pass_one_frame_go_in_several() {
    let event = |revision| Event {
        revision: Revision(revision),
        time_ms: 0,
        origin: None,
        cause: Cause::Write,
        changes: vec![Change {
            key: Bytes::from_static(b"k"),
            value: Some(vec![1; crate::limits::FEED_FRAME_BYTES / 3].into()),
        }],
    };
    let events: Vec<Event> = (1..6).map(event).collect();
    let parts: Vec<Bytes> = events.iter().map(event::encode).collect();
    let mut out = BytesMut::new();
    event::encode_events(&parts, &mut out);
    let frames = decode_pieces::<Feed>(out, 100_000);
    let counts: Vec<usize> = frames
        .iter()
        .map(|frame| {
            if let Feed::Events(events) = frame {
                events.len()
            } else {
                0
            }
        })
        .collect();
    assert_eq!(counts, [2, 2, 1]);
    let together = frames.into_iter().flat_map(|frame| match frame {
        Feed::Events(events) => events,
        other => panic!("{other:?}"),
    });
    assert_eq!(together.collect::<Vec<_>>(), events);
}
