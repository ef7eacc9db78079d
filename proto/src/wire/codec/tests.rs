//! Frames: golden bytes, round trips, agreement with `rmp_serde`, and hostile bytes.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::effect::Change;
use crate::ids::{
    Ack, Epoch, EpochName, FrameIndex, NamespaceId, Origin, PeerKey, Position, Revision, SessionId,
    StoreId,
};
use crate::operation::Outcome;
use crate::wire::{
    Entry, Event, Grant, Hello, KeyRange, OwnerStatus, Reply, Request, Welcome, event,
};

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 250..300)].prop_map(Bytes::from)
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, any::<u64>()]
}

fn revision() -> impl Strategy<Value = Revision> {
    number().prop_map(Revision)
}

fn session() -> impl Strategy<Value = SessionId> {
    (number(), number()).prop_map(|(epoch, frame)| SessionId {
        epoch,
        frame: FrameIndex(frame),
    })
}

fn epoch() -> impl Strategy<Value = Epoch> {
    (number(), any::<[u8; 16]>()).prop_map(|(number, name)| Epoch {
        number,
        name: EpochName(name),
    })
}

fn position() -> impl Strategy<Value = Position> {
    (any::<[u8; 16]>(), epoch(), revision()).prop_map(|(store, epoch, revision)| Position {
        store: StoreId(store),
        epoch,
        revision,
    })
}

fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![Just(Durability::Buffered), Just(Durability::Sync)]
}

fn failure() -> impl Strategy<Value = Failure> {
    (1..12_u8, ".{0,20}").prop_map(|(kind, text)| Failure::new(ErrorKind::from_number(kind), text))
}

fn change() -> impl Strategy<Value = Change> {
    (bytes(), option::of(bytes())).prop_map(|(key, value)| Change { key, value })
}

fn range() -> impl Strategy<Value = KeyRange> {
    (bytes(), option::of(bytes())).prop_map(|(start, end)| KeyRange { start, end })
}

fn grant() -> impl Strategy<Value = Grant> {
    let fields = (
        any::<[u8; 32]>(),
        ".{0,9}",
        vec(".{0,9}", 0..3),
        option::of(number()),
        ".{0,9}",
    );
    fields.prop_map(|(peer, scope, rights, expires_ms, label)| Grant {
        peer: PeerKey(peer),
        scope,
        rights,
        expires_ms,
        label,
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (bytes(), bytes()).prop_map(|(key, value)| Operation::Put { key, value }),
        bytes().prop_map(|key| Operation::Delete { key }),
        (bytes(), option::of(bytes()), any::<u32>()).prop_map(|(start, end, count_max)| {
            Operation::DeleteRange {
                start,
                end,
                count_max,
            }
        }),
        (bytes(), option::of(bytes()), option::of(bytes()))
            .prop_map(|(key, expected, new)| Operation::CompareAndSet { key, expected, new }),
        (bytes(), any::<i64>()).prop_map(|(key, by)| Operation::Increment { key, by }),
        vec(change(), 0..20).prop_map(|changes| Operation::Batch { changes }),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        vec(change(), 0..5).prop_map(|content| Request::CreateNamespace { content }),
        bytes().prop_map(|key| Request::Get { key }),
        Just(Request::Count),
        (number(), range(), option::of(position())).prop_map(|(subscription, range, since)| {
            Request::Subscribe {
                subscription,
                range,
                since,
            }
        }),
        number().prop_map(|subscription| Request::Unsubscribe { subscription }),
        (number(), range(), any::<bool>()).prop_map(|(subscription, range, reverse)| {
            Request::Fetch {
                subscription,
                range,
                reverse,
            }
        }),
        Just(Request::Barrier),
        revision().prop_map(|revision| Request::Flush { revision }),
        Just(Request::Status),
        grant().prop_map(Request::Grant),
        Just(Request::Grants),
        any::<[u8; 32]>().prop_map(|peer| Request::Revoke {
            peer: PeerKey(peer)
        }),
    ]
}

fn to_owner() -> impl Strategy<Value = ToOwner> {
    prop_oneof![
        (".{0,9}", ".{0,300}", option::of(session())).prop_map(|(program, namespace, session)| {
            ToOwner::Hello(Hello {
                program,
                namespace,
                session,
            })
        }),
        Just(ToOwner::OpenSession),
        (number(), number(), option::of(durability()), operation()).prop_map(
            |(sequence, floor, durability, operation)| ToOwner::Write(Write {
                sequence: Sequence(sequence),
                floor: Sequence(floor),
                durability,
                operation,
            })
        ),
        (number(), request()).prop_map(|(id, request)| ToOwner::Request(id, request)),
        Just(ToOwner::CloseSession),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Done),
        number().prop_map(Outcome::Deleted),
        any::<bool>().prop_map(Outcome::Swapped),
        any::<i64>().prop_map(Outcome::Number),
    ]
}

fn ack() -> impl Strategy<Value = Ack> {
    (revision(), epoch(), durability()).prop_map(|(revision, epoch, durability)| Ack {
        revision,
        epoch,
        durability,
    })
}

fn status() -> impl Strategy<Value = OwnerStatus> {
    (
        option::of(".{0,9}"),
        position(),
        vec(number(), 7),
        vec(any::<u32>(), 3),
    )
        .prop_map(|(address, position, n, small)| OwnerStatus {
            program: "objsync".into(),
            pid: small[0],
            address,
            directory: "/d".into(),
            position,
            durable: Revision(n[0]),
            indexed: Revision(n[1]),
            keys: n[2],
            peers: small[1],
            subscriptions: small[2],
            log_bytes: n[3],
            snapshot_bytes: n[4],
            index_bytes: n[5],
            uptime_s: n[6],
        })
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        Just(Reply::Done),
        (any::<u32>(), any::<bool>()).prop_map(|(number, created)| Reply::Namespace {
            namespace: NamespaceId(number),
            created
        }),
        (option::of((bytes(), revision())), revision())
            .prop_map(|(entry, as_of)| Reply::Entry { entry, as_of }),
        (number(), revision()).prop_map(|(count, as_of)| Reply::Count { count, as_of }),
        position().prop_map(Reply::Position),
        status().prop_map(Reply::Status),
        vec(grant(), 0..3).prop_map(Reply::Grants),
    ]
}

fn either<T: std::fmt::Debug>(
    ok: impl Strategy<Value = T>,
) -> impl Strategy<Value = Result<T, Failure>> {
    (ok, option::of(failure())).prop_map(|(ok, failure)| failure.map_or(Ok(ok), Err))
}

fn to_peer() -> impl Strategy<Value = ToPeer> {
    let welcome = (
        position(),
        option::of(any::<u32>()),
        any::<[bool; 2]>(),
        durability(),
    );
    prop_oneof![
        welcome.prop_map(
            |(position, namespace, [may_write, session_known], durability)| {
                let namespace = namespace.map(NamespaceId);
                let program = "objsync".into();
                ToPeer::Welcome(Welcome {
                    program,
                    position,
                    namespace,
                    may_write,
                    durability,
                    session_known,
                })
            }
        ),
        session().prop_map(ToPeer::Opened),
        (number(), either((outcome(), ack())))
            .prop_map(|(sequence, result)| ToPeer::Answer(Sequence(sequence), result)),
        (number(), either(reply())).prop_map(|(id, result)| ToPeer::Reply(id, result)),
        failure().prop_map(ToPeer::Goodbye),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    let origin = (session(), number()).prop_map(|(session, sequence)| Origin {
        session,
        sequence: Sequence(sequence),
    });
    (
        revision(),
        number(),
        option::of(origin),
        vec(change(), 0..5),
    )
        .prop_map(|(revision, time_ms, origin, changes)| Event {
            revision,
            time_ms,
            origin,
            changes,
        })
}

fn entry() -> impl Strategy<Value = Entry> {
    (bytes(), bytes(), revision()).prop_map(|(key, value, revision)| Entry {
        key,
        value,
        revision,
    })
}

fn feed() -> impl Strategy<Value = Feed> {
    prop_oneof![
        number().prop_map(|subscription| Feed::Start { subscription }),
        Just(Feed::Resume),
        Just(Feed::Reset),
        vec(entry(), 0..20).prop_map(Feed::Entries),
        position().prop_map(|position| Feed::Complete { position }),
        vec(any_event(), 0..8).prop_map(Feed::Events),
        position().prop_map(|position| Feed::Bookmark { position }),
        (number(), position()).prop_map(|(id, position)| Feed::Barrier { id, position }),
        failure().prop_map(Feed::Failed),
    ]
}

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
        feed in vec(feed(), 0..4), piece in 1..400_usize,
    ) {
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of `docs/protocol.md`.
#[test]
fn bytes_are_the_golden_ones() {
    let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
    let session = SessionId {
        epoch: 3,
        frame: FrameIndex(300),
    };
    let epoch = Epoch {
        number: 3,
        name: EpochName([0xEE; 16]),
    };
    let write = Write {
        sequence: Sequence(7),
        floor: Sequence(6),
        durability: Some(Durability::Sync),
        operation: Operation::Put {
            key: key.clone(),
            value: value.clone(),
        },
    };
    assert_eq!(hex(&encoded(&ToOwner::OpenSession)), "0101");
    assert_eq!(
        hex(&encoded(&ToOwner::Write(write))),
        "0d029407065093 00c4016bc40176".replace(' ', "")
    );
    let count = ToOwner::Request(5, Request::Count);
    assert_eq!(hex(&encoded(&count)), "05039205 9102".replace(' ', ""));
    assert_eq!(hex(&encoded(&ToPeer::Opened(session))), "06019203cd012c");
    let ack = Ack {
        revision: Revision(9),
        epoch,
        durability: Durability::Buffered,
    };
    let answer = ToPeer::Answer(Sequence(7), Ok((Outcome::Number(-1), ack)));
    let name = "ee".repeat(16);
    assert_eq!(
        hex(&encoded(&answer)),
        format!("20029207920092 9203ff 93099203c410{name}28").replace(' ', "")
    );
    let origin = Some(Origin {
        session,
        sequence: Sequence(7),
    });
    let changes = vec![Change {
        key,
        value: Some(value),
    }];
    let events = Feed::Events(vec![Event {
        revision: Revision(9),
        time_ms: 1,
        origin,
        changes,
    }]);
    assert_eq!(
        hex(&encoded(&events)),
        "14059194 0901 929203cd012c07 9192c4016bc40176".replace(' ', "")
    );
}

#[test]
fn types_are_numbered_in_the_order_of_the_variants() {
    for types in [to_owner_type::ALL, to_peer_type::ALL, feed_type::ALL] {
        for (place, (number, name)) in types.iter().enumerate() {
            assert_eq!(usize::from(*number), place, "{name}");
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
