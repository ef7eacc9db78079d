//! `docs/protocol.md` says what the code does: its tables, its numbers and its examples.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::any;
use super::encoded;
use crate::effect::{Cause, Change};
use crate::error::ErrorKind;
use crate::ids::{
    Ack, Durability, Epoch, EpochName, FrameIndex, Origin, Revision, Sequence, SessionId,
};
use crate::limits::{
    BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, DIGESTS_BYTES_MAX, DIGESTS_MAX, FEED_FRAME_BYTES,
    FRAME_BYTES_MAX, HELLO_BYTES_MAX, HISTORY_BYTES_MAX, HISTORY_LOG_BYTES, HISTORY_VERSIONS_MAX,
    SESSION_BYTES_MAX, SESSION_IDLE_MS, SESSION_RESULTS_MAX,
};
use crate::operation::{Edit, Operation, Outcome, Step};
use crate::wire::codec::{feed_type, to_owner_type, to_peer_type, upload_type};
use crate::wire::fields::Field;
use crate::wire::{
    Digest, Event, Feed, Gap, Hello, IndexBuild, Reply, Request, ToOwner, ToPeer, Version, Welcome,
    Write,
};

fn page() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
    std::fs::read_to_string(page).unwrap()
}

/// The rows of the table under a heading, cell by cell.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = page();
    let (_, section) = page.split_once(&format!("\n{heading}\n")).expect(heading);
    let lines = section.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    rows.map(|row| row.trim_matches('|').split('|').map(cell).collect())
        .collect()
}

/// The first two cells of each row: a number and a name.
fn numbers(heading: &str) -> Vec<(String, String)> {
    table(heading)
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect()
}

fn name_of(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    text.chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect()
}

fn put(value: &impl Field) -> Bytes {
    let mut out = BytesMut::new();
    value.put(&mut out);
    out.freeze()
}

fn sample<S: Strategy>(strategy: S) -> S::Value {
    strategy
        .new_tree(&mut TestRunner::deterministic())
        .unwrap()
        .current()
}

/// Number and name of each variant, found among many random ones.
fn variants<T: Field + Debug>(strategy: impl Strategy<Value = T>) -> Vec<(String, String)> {
    let mut runner = TestRunner::deterministic();
    let mut found: Vec<(u8, String)> = (0..500)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .map(|value| (put(&value)[1], name_of(&value)))
        .collect();
    found.sort();
    found.dedup();
    found
        .into_iter()
        .map(|(number, name)| (number.to_string(), name))
        .collect()
}

#[test]
fn type_bytes_are_those_of_the_page() {
    for (heading, types) in [
        ("### Types of `ToOwner`", to_owner_type::ALL),
        ("### Types of `ToPeer`", to_peer_type::ALL),
        ("### Types of `Feed`", feed_type::ALL),
        ("### Types of `Upload`", upload_type::ALL),
    ] {
        let expected: Vec<_> = types
            .iter()
            .map(|(number, name)| (number.to_string(), (*name).to_owned()))
            .collect();
        assert_eq!(numbers(heading), expected, "{heading}");
    }
}

#[test]
fn numbers_of_variants_are_those_of_the_page() {
    assert_eq!(
        numbers("### Operation"),
        variants::<Operation>(any::operation())
    );
    assert_eq!(numbers("### Outcome"), variants::<Outcome>(any::outcome()));
    assert_eq!(numbers("### Step"), variants::<Step>(any::step()));
    assert_eq!(numbers("### Edit"), variants::<Edit>(any::edit()));
    assert_eq!(
        numbers("### Request and its reply"),
        variants::<Request>(any::request())
    );
    assert_eq!(numbers("### Reply"), variants::<Reply>(any::reply()));
}

#[test]
fn kinds_of_failure_are_those_of_the_page() {
    let rows = page();
    for kind in ErrorKind::ALL {
        let row = format!("| {} | `{kind:?}` |", kind.number());
        assert!(rows.contains(&row), "{row}");
    }
}

#[test]
fn structs_have_as_many_fields_as_the_page_says() {
    fn fields(value: &impl Field) -> usize {
        usize::from(put(value)[0] & 0x0F)
    }
    let rows = table("## Fields");
    let on_page = |name: &str| {
        let row = rows.iter().find(|row| row[0] == name).expect(name);
        row[1].split(", ").count()
    };
    let event = Event {
        patches: Vec::new(),
        ..sample(any::any_event())
    };
    let mut told_by_part = event.clone();
    told_by_part.patches.push(sample(any::key_patch()));
    assert_eq!(
        fields(&told_by_part),
        fields(&event) + 1,
        "the text has the sixth"
    );
    let change = Change {
        key: Bytes::new(),
        value: None,
    };
    let position = sample(any::position());
    let session = sample(any::session());
    let origin = Origin {
        session,
        sequence: Sequence(1),
    };
    let (durability, operation) = (None, sample(any::operation()));
    let write = Write {
        sequence: Sequence(1),
        floor: Sequence(1),
        durability,
        operation,
    };
    let hello = Hello {
        program: String::new(),
        namespace: String::new(),
        session: None,
    };
    let build = IndexBuild {
        revision: Revision(1),
        done_count: 1,
        total_count: 1,
    };
    let welcome = Welcome {
        program: String::new(),
        position,
        namespace: None,
        may_write: true,
        durability: Durability::Sync,
        session_known: true,
    };
    for (name, found) in [
        ("Hello", fields(&hello)),
        ("Write", fields(&write)),
        ("Welcome", fields(&welcome)),
        ("SessionId", fields(&session)),
        ("Epoch", fields(&position.epoch)),
        ("Position", fields(&position)),
        ("Ack", fields(&sample(any::ack()))),
        ("Origin", fields(&origin)),
        ("Change", fields(&change)),
        ("Entry", fields(&sample(any::entry()))),
        ("Event", fields(&event)),
        ("KeyPatch", fields(&sample(any::key_patch()))),
        ("Version", fields(&sample(any::version()))),
        ("KeyRange", fields(&sample(any::range()))),
        ("Grant", fields(&sample(any::grant()))),
        ("OwnerStatus", fields(&sample(any::status()))),
        ("IndexBuild", fields(&build)),
        ("CopyPlace", fields(&sample(any::copy_place()))),
        ("PartialSnapshot", fields(&sample(any::partial_snapshot()))),
        ("InstallStart", fields(&sample(any::install_start()))),
        ("LogFrame", fields(&sample(any::log_frame()))),
        ("FollowStatus", fields(&sample(any::follow_status()))),
        ("Failure", fields(&sample(any::failure()))),
        ("KeyRead", fields(&sample(any::key_read()))),
        ("Fence", fields(&sample(any::fence()))),
        ("Patch", fields(&sample(any::patch()))),
        ("LeaseStatus", fields(&sample(any::lease_status()))),
        ("Digest", fields(&sample(any::digest()))),
        ("Gap", fields(&sample(any::gap()))),
        ("ChunkRecord", fields(&sample(any::chunk_record()))),
        ("ChunkPlace", fields(&sample(any::chunk_place()))),
    ] {
        assert_eq!(found, on_page(name), "{name}");
    }
    assert_eq!(rows.len(), 31, "every struct of the page is compared");
}

#[test]
fn limits_are_those_of_the_page() {
    let page = page().split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        format!("until then a frame is at most {HELLO_BYTES_MAX} bytes"),
        format!("A length is from 1 to {FRAME_BYTES_MAX} bytes"),
        format!("is at most {FEED_FRAME_BYTES} bytes; one that is larger goes alone"),
        format!("At most {SESSION_RESULTS_MAX} writes, and {SESSION_BYTES_MAX} bytes of them"),
        format!("after {} h without a write", SESSION_IDLE_MS / 3_600_000),
        format!("versions, {HISTORY_VERSIONS_MAX} of them and {HISTORY_BYTES_MAX} bytes, unless"),
        format!("reads about {HISTORY_LOG_BYTES} bytes of log"),
        format!("at most {DIGESTS_MAX} digests and {DIGESTS_BYTES_MAX} bytes of their keys"),
        format!("all blocks together, from {BLOCK_BYTES_MIN} to {BLOCK_BYTES_MAX}."),
    ] {
        assert!(page.contains(&text), "{text}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The golden bytes: other programs speak them.
#[test]
fn examples_are_the_frames_of_the_page() {
    let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
    let session = SessionId {
        epoch: 3,
        frame: FrameIndex(300),
    };
    let epoch = Epoch {
        number: 3,
        name: EpochName([0xEE; 16]),
    };
    let operation = Operation::Put {
        key: key.clone(),
        value: value.clone(),
    };
    let (sequence, floor) = (Sequence(7), Sequence(6));
    let write = Write {
        sequence,
        floor,
        durability: Some(Durability::Sync),
        operation,
    };
    let ack = Ack {
        revision: Revision(9),
        epoch,
        durability: Durability::Buffered,
    };
    let origin = Some(Origin { session, sequence });
    let changes = vec![Change {
        key,
        value: Some(value),
    }];
    let event = Event {
        revision: Revision(9),
        time_ms: 1,
        origin,
        cause: Cause::Write,
        changes,
        patches: Vec::new(),
    };
    let history = Request::History {
        key: Bytes::from_static(b"k"),
        before: Some(Revision(9)),
        count_max: 100,
    };
    let removed = Version {
        revision: Revision(8),
        time_ms: Some(1),
        value: None,
        is_oldest_known: false,
    };
    let versions = Reply::History {
        versions: vec![removed],
        before: Some(Revision(8)),
    };
    let past_retention = Reply::PastRetention {
        revision: Revision(5),
        oldest: Revision(7),
    };
    let (count, hash) = crate::digest::BlockHasher::default().finish();
    let (subscription, round) = (3, 1);
    let empty = Digest {
        through: None,
        count,
        hash,
    };
    let digests = Request::Digests {
        subscription,
        round,
        digests: vec![empty],
    };
    let gap = Gap {
        after: Revision(5),
        oldest: Revision(7),
        same_history: true,
    };
    let found = [
        hex(&encoded(&ToOwner::OpenSession)),
        hex(&encoded(&ToOwner::Request(5, Request::Count))),
        hex(&encoded(&ToOwner::Write(write))),
        hex(&encoded(&ToPeer::Opened(session))),
        hex(&encoded(&ToPeer::Answer(
            sequence,
            Ok((Outcome::Number(-1), ack)),
        ))),
        hex(&encoded(&Feed::Events(vec![event]))),
        hex(&encoded(&ToOwner::Request(6, history))),
        hex(&encoded(&ToPeer::Reply(6, Ok(versions)))),
        hex(&encoded(&ToPeer::Reply(7, Ok(past_retention)))),
        hex(&encoded(&ToOwner::Request(8, digests))),
        hex(&encoded(&Feed::Gap(gap))),
    ];
    let on_page: Vec<String> = table("## Examples")
        .into_iter()
        .map(|row| row[row.len() - 1].clone())
        .collect();
    assert_eq!(on_page, found);
    assert_eq!(
        found[2], "0d02940706509300c4016bc40176",
        "and they are what they were"
    );
}
