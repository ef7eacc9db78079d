//! Peers that break the protocol are dropped, and nobody else notices.

use bytes::BytesMut;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Epoch, EpochName, Position, Revision, Sequence, StoreId};
use objsync_proto::limits::{FRAME_BYTES_MAX, HELLO_BYTES_MAX};
use objsync_proto::operation::Operation;
use objsync_proto::wire::codec::{self, OPTIONAL_TYPE};
use objsync_proto::wire::{Digest, Held, Hello, KeyRange, Request, ToOwner, Write};
use tokio::net::UdpSocket;

use crate::memory::{in_own_process, resident_bytes};
use crate::peer::{Client, NAMESPACE, Owner, change, connect, encoded, put, reason, within};
use crate::random::Random;

/// Sends raw bytes on the operations stream of a welcomed peer and tells why it was dropped.
async fn dropped_for(owner: &Owner, bytes: &[u8]) -> ErrorKind {
    let mut client = owner.client().await;
    within(client.send.write_all(bytes)).await.unwrap();
    client.closed().await.kind
}

async fn assert_alive(owner: &Owner) {
    let mut client = owner.client().await;
    client.open_session().await;
    client.put("alive", "yes").await;
    assert_eq!(client.get("alive").await.as_deref(), Some("yes"));
}

fn frame(message: &ToOwner) -> BytesMut {
    let mut out = BytesMut::new();
    codec::encode(message, &mut out);
    out
}

#[tokio::test]
async fn frame_that_lies_about_its_length_drops_the_peer() {
    let owner = Owner::start();
    // The longest a varint can say: refused before the bytes come, or memory is taken for them.
    assert_eq!(
        dropped_for(&owner, &[0xff, 0xff, 0xff, 0x7f]).await,
        ErrorKind::Invalid
    );
    // A frame longer than its message, and one shorter.
    let honest = frame(&ToOwner::Request(1, Request::Count));
    let mut longer = honest.to_vec();
    longer[0] += 1;
    longer.push(0);
    assert_eq!(dropped_for(&owner, &longer).await, ErrorKind::Invalid);
    let mut shorter = honest.to_vec();
    shorter[0] -= 1;
    assert_eq!(dropped_for(&owner, &shorter).await, ErrorKind::Invalid);
    assert_alive(&owner).await;
}

#[tokio::test(flavor = "current_thread")]
async fn guest_that_asks_one_at_a_time_and_reads_nothing_costs_constant_memory() {
    const GETS: u64 = 100;
    const VALUE_BYTES: usize = 4 << 20;
    let name = "hostile::guest_that_asks_one_at_a_time_and_reads_nothing_costs_constant_memory";
    if !in_own_process(name) {
        return;
    }
    let owner = Owner::start();
    let mut client = owner.client().await;
    client.open_session().await;
    client.put("large", &"v".repeat(VALUE_BYTES)).await;
    client.get("large").await;
    let mut other = owner.client().await;
    let before = resident_bytes();
    for id in 100..100 + GETS {
        let get = Request::Get {
            key: encoded("large"),
        };
        client.send(&ToOwner::Request(id, get)).await;
        // Each comes alone, and is handled before the next: what another asks later is answered.
        assert!(other.request(Request::Count).await.is_ok());
    }
    let grown = resident_bytes().saturating_sub(before);
    let asked = GETS * VALUE_BYTES as u64;
    assert!(
        grown < asked / 4,
        "{grown} bytes for {asked} bytes of answers"
    );
    assert_alive(&owner).await;
}

#[tokio::test]
async fn frame_over_the_limit_is_refused_by_its_length_alone() {
    let owner = Owner::start();
    let mut length = u32::try_from(FRAME_BYTES_MAX + 1).unwrap();
    let mut varint = Vec::new();
    while length > 0x7f {
        varint.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    varint.push(u8::try_from(length).unwrap());
    assert_eq!(dropped_for(&owner, &varint).await, ErrorKind::Invalid);
}

#[tokio::test]
async fn hello_over_its_own_limit_is_refused() {
    let owner = Owner::start();
    let connection = connect(&owner, &owner.identity()).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let hello = Hello {
        program: "x".repeat(HELLO_BYTES_MAX),
        namespace: NAMESPACE.to_owned(),
        session: None,
    };
    let _ = send.write_all(&frame(&ToOwner::Hello(hello))).await;
    assert_eq!(
        reason(&within(connection.closed()).await).kind,
        ErrorKind::Invalid
    );
}

#[tokio::test]
async fn anything_but_a_hello_first_drops_the_peer() {
    let owner = Owner::start();
    for first in [
        &frame(&ToOwner::OpenSession)[..],
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nUser-Agent: a browser of some age\r\n\r\n",
        &[0; 64],
    ] {
        let connection = connect(&owner, &owner.identity()).await.unwrap();
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        let _ = send.write_all(first).await;
        let kind = reason(&within(connection.closed()).await).kind;
        // An HTTP request reads as a frame of a type that nobody knows.
        let refused = matches!(kind, ErrorKind::Invalid | ErrorKind::Unsupported);
        assert!(refused, "{kind:?} for {first:?}");
    }
    assert_alive(&owner).await;
}

#[tokio::test]
async fn message_out_of_place_drops_the_peer() {
    let owner = Owner::start();
    let hello = ToOwner::Hello(Hello {
        program: "again".to_owned(),
        namespace: NAMESPACE.to_owned(),
        session: None,
    });
    assert_eq!(
        dropped_for(&owner, &frame(&hello)).await,
        ErrorKind::Invalid
    );
    let write = |sequence, floor| {
        ToOwner::Write(Write {
            sequence: Sequence(sequence),
            floor: Sequence(floor),
            durability: None,
            operation: put("a", "1"),
        })
    };
    assert_eq!(
        dropped_for(&owner, &frame(&write(1, 1))).await,
        ErrorKind::Invalid
    );
    let mut client = owner.client().await;
    client.open_session().await;
    client.send(&write(1, 2)).await;
    assert_eq!(
        client.closed().await.kind,
        ErrorKind::Invalid,
        "a floor above the sequence"
    );
}

#[tokio::test]
async fn unknown_frame_is_skipped_if_optional_and_fatal_if_not() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    client
        .send
        .write_all(&[3, OPTIONAL_TYPE + 7, 1, 2])
        .await
        .unwrap();
    assert_eq!(client.get("a").await, None, "the connection goes on");
    let unknown = dropped_for(&owner, &[3, OPTIONAL_TYPE - 1, 1, 2]).await;
    assert_eq!(unknown, ErrorKind::Unsupported);
}

#[tokio::test]
async fn malformed_keys_and_values_are_answered_and_change_nothing() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    client.open_session().await;
    let before = owner
        .store
        .count(client.welcome.namespace.unwrap())
        .unwrap();
    let value = crate::peer::sealed("x");
    for operation in [
        Operation::Put {
            key: b"\xfe\xfe".as_slice().into(),
            value: value.clone(),
        },
        Operation::Put {
            key: vec![b'k'; 5_000].into(),
            value: value.clone(),
        },
        Operation::Put {
            key: encoded("a"),
            value: b"\xff".as_slice().into(),
        },
        Operation::Put {
            key: encoded("a"),
            value: bytes::Bytes::new(),
        },
    ] {
        let refused = client.run(operation.clone()).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Invalid, "{operation:?}");
    }
    assert_eq!(
        owner
            .store
            .count(client.welcome.namespace.unwrap())
            .unwrap(),
        before
    );
    client.put("a", "1").await;
}

#[tokio::test]
async fn garbage_datagrams_do_nothing() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut random = Random::new(0x6172_6261_6765_0001);
    for _ in 0..2_000 {
        let bytes = random.bytes(1_400);
        // Some look like the first packet of a connection.
        let bytes = if bytes.first().is_some_and(|byte| byte % 3 == 0) {
            [&[0xc3, 0, 0, 0, 1, 8], bytes.as_slice()].concat()
        } else {
            bytes
        };
        let _ = socket.send_to(&bytes, owner.server.address()).await;
    }
    assert_eq!(client.get("a").await, None, "who is connected stays so");
    assert_alive(&owner).await;
}

/// Any message that a client may send, to be damaged.
fn valid_messages(random: &mut Random) -> Vec<ToOwner> {
    let number = random.next() % 5;
    let write = |operation| {
        ToOwner::Write(Write {
            sequence: Sequence(number + 1),
            floor: Sequence(1),
            durability: None,
            operation,
        })
    };
    let request = |request| ToOwner::Request(number, request);
    vec![
        ToOwner::OpenSession,
        ToOwner::CloseSession,
        write(put("a", "some value")),
        write(Operation::Delete { key: encoded("a") }),
        write(Operation::DeleteRange {
            start: encoded("b"),
            end: None,
            count_max: 10,
        }),
        write(Operation::Increment {
            key: encoded("n"),
            by: 1,
        }),
        write(Operation::CompareAndSet {
            key: encoded("c"),
            expected: None,
            new: None,
        }),
        write(Operation::Batch {
            changes: vec![change("a", "1"), change("b", "2")],
        }),
        request(Request::Get { key: encoded("a") }),
        request(Request::Count),
        request(Request::Barrier),
        request(Request::Status),
        request(Request::Flush {
            revision: Revision(number),
        }),
        request(Request::CreateNamespace {
            content: vec![change("a", "1")],
        }),
        request(Request::Unsubscribe {
            subscription: number,
        }),
        request(Request::Subscribe {
            subscription: number,
            range: KeyRange {
                start: encoded("a"),
                end: Some(encoded("b")),
            },
            since: None,
        }),
        request(Request::Follow {
            subscription: number + 10,
            range: KeyRange::default(),
            since: Position {
                store: StoreId([7; 16]),
                epoch: Epoch {
                    number,
                    name: EpochName([7; 16]),
                },
                revision: Revision(number),
            },
            held: [Held::Nothing, Held::Part, Held::Whole][random.below(3)],
        }),
        request(Request::Digests {
            subscription: number + 10,
            round: 1,
            digests: vec![Digest {
                through: (number > 2).then(|| encoded("a")),
                count: number,
                hash: [7; 16],
            }],
        }),
        request(Request::Fetch {
            subscription: number + 100,
            range: KeyRange::default(),
            reverse: true,
        }),
    ]
}

/// A stream of frames, most of them whole, one of them damaged somewhere.
fn damaged_stream(random: &mut Random) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..1 + random.below(8) {
        let messages = valid_messages(random);
        let place = random.below(messages.len());
        stream.extend_from_slice(&frame(&messages[place]));
    }
    for _ in 0..1 + random.below(4) {
        let place = random.below(stream.len());
        match random.below(4) {
            0 => stream[place] ^= 1 << random.below(8),
            1 => stream[place] = u8::try_from(random.below(256)).unwrap(),
            2 => drop(stream.remove(place)),
            _ => stream.insert(place, u8::try_from(random.below(256)).unwrap()),
        }
        if stream.is_empty() {
            break;
        }
    }
    stream
}

/// 200 streams of valid frames with a few bytes flipped, lost or added. Whatever they happen to
/// mean, the owner neither panics nor stops, and keeps serving others.
#[tokio::test]
async fn damaged_frames_never_stop_the_owner() {
    const SEED: u64 = 0x6f62_6a73_796e_6301;
    println!("seed {SEED:#x}");
    let owner = Owner::start();
    let mut random = Random::new(SEED);
    let mut bystander = owner.client().await;
    for _ in 0..200 {
        let mut client = owner.client().await;
        let stream = damaged_stream(&mut random);
        let _ = client.send.write_all(&stream).await;
        let _ = client.send.finish();
        // Dropped for the damage, or finished in order because it happened to mean something.
        within(client.connection.closed()).await;
    }
    assert!(bystander.request(Request::Count).await.is_ok());
    assert_alive(&owner).await;
}

#[test]
fn same_seed_makes_the_same_damage() {
    let streams = |seed| {
        let mut random = Random::new(seed);
        (0..20)
            .map(|_| damaged_stream(&mut random))
            .collect::<Vec<_>>()
    };
    assert_eq!(streams(7), streams(7));
    assert_ne!(streams(7), streams(8));
}

#[tokio::test]
async fn peer_that_reads_no_answers_is_held_and_others_are_not() {
    if !in_own_process("hostile::peer_that_reads_no_answers_is_held_and_others_are_not") {
        return;
    }
    let owner = Owner::start();
    let mut writer = owner.client().await;
    writer.open_session().await;
    writer.put("big", &"x".repeat(1 << 20)).await;
    let mut greedy = owner.client().await;
    let asking = async {
        // 1 GiB of answers, if they were all made.
        for id in 0..1_000 {
            let get = ToOwner::Request(
                id,
                Request::Get {
                    key: encoded("big"),
                },
            );
            if greedy.send.write_all(&frame(&get)).await.is_err() {
                return;
            }
        }
    };
    within(asking).await;
    for n in 0..50 {
        writer.put("a", &n.to_string()).await;
    }
    let resident = resident_bytes();
    assert!(resident < 400 << 20, "{resident} bytes resident");
}

#[tokio::test]
async fn client_that_goes_without_a_word_is_forgotten() {
    let owner = Owner::start();
    let client = Client::connect(&owner, &owner.identity(), NAMESPACE)
        .await
        .unwrap();
    assert_eq!(owner.server.status().peers, 1);
    drop(client);
    let gone = async {
        while owner.server.status().peers > 0 {
            tokio::task::yield_now().await;
        }
    };
    within(gone).await;
}
