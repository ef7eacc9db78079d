//! What a replica costs in memory, counted at the allocator.
//!
//! `unsafe` is needed to stand before the system's allocator; it only counts.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use objsync_proto::effect::{Cause, Change};
use objsync_proto::ids::{Epoch, EpochName, Position, Revision, StoreId};
use objsync_proto::key::{self, Key};
use objsync_proto::limits::FRAME_BYTES_MAX;
use objsync_proto::replica::{Applied, Exchanged, Mode, Replica, Sink};
use objsync_proto::wire::{Entry, Event, Feed, KeyRange, codec};

static HELD: AtomicUsize = AtomicUsize::new(0);

/// What glibc takes for a request: its header, and rounding up to 16, at least 32.
fn cost(layout: Layout) -> usize {
    (layout.size() + 8).next_multiple_of(16).max(32)
}

struct Counting;

// SAFETY: every call goes to the system's allocator with the same arguments, so its guarantees
// hold; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is passed on.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(cost(layout), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`, which is passed on.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(cost(layout), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct Nobody;

impl Sink for Nobody {
    fn applied(&mut self, _change: Applied) {}
    fn barrier(&mut self, _id: u64, _position: Position) {}
    fn exchanged(&mut self, _exchanged: Exchanged) {}
}

const KEYS: u32 = 100_000;
const VALUE_BYTES: usize = 100;

fn key_of(number: u32) -> Bytes {
    key::encode(&Key::from(format!("user:{number:08}")))
        .unwrap()
        .into()
}

fn position(revision: u64) -> Position {
    let epoch = Epoch {
        number: 1,
        name: EpochName([1; 16]),
    };
    Position {
        store: StoreId([1; 16]),
        epoch,
        revision: Revision(revision),
    }
}

/// Feeds a frame as it arrives: decoded from bytes, so that keys and values are slices of it.
fn receive(replica: &mut Replica, frame: &Feed) {
    let mut bytes = BytesMut::new();
    codec::encode(frame, &mut bytes);
    let frame = codec::decode(&mut bytes, FRAME_BYTES_MAX).unwrap().unwrap();
    replica.feed(frame, &mut Nobody).unwrap();
}

fn join(replica: &mut Replica) {
    receive(replica, &Feed::Start { subscription: 1 });
    receive(replica, &Feed::Reset);
    for start in (0..KEYS).step_by(1_000) {
        let entries = (start..start + 1_000).map(|number| Entry {
            key: key_of(number),
            value: vec![7; VALUE_BYTES].into(),
            revision: Revision(u64::from(number) + 1),
        });
        receive(replica, &Feed::Entries(entries.collect()));
    }
    receive(
        replica,
        &Feed::Complete {
            position: position(u64::from(KEYS)),
        },
    );
}

/// Writes every key once more, in an order that has nothing to do with theirs.
fn overwrite(replica: &mut Replica) {
    for step in 0..KEYS {
        let number = u32::try_from(u64::from(step) * 7_919 % u64::from(KEYS)).unwrap();
        let changes = vec![Change {
            key: key_of(number),
            value: Some(vec![8; VALUE_BYTES].into()),
        }];
        let revision = Revision(u64::from(KEYS + step) + 1);
        let event = Event {
            revision,
            time_ms: 0,
            origin: None,
            cause: Cause::Write,
            changes,
            patches: Vec::new(),
        };
        receive(replica, &Feed::Events(vec![event]));
    }
}

#[test]
fn full_replica_takes_at_most_two_and_a_half_times_its_raw_data() {
    let raw = KEYS as usize * (key_of(0).len() + VALUE_BYTES);
    let ratio = |before: usize| {
        let held = HELD.load(Ordering::Relaxed) - before;
        // In hundredths, to compare as integers.
        held * 100 / raw
    };
    let before = HELD.load(Ordering::Relaxed);
    let mut replica = Replica::new(KeyRange::default(), Mode::default());
    join(&mut replica);
    assert_eq!(replica.count(), u64::from(KEYS));
    let joined = ratio(before);
    overwrite(&mut replica);
    let overwritten = ratio(before);
    // Reading shares nothing of a short value, so it must not add to what is held.
    for number in 0..KEYS {
        drop(replica.lookup(&key_of(number)));
    }
    let read = ratio(before);
    println!("hundredths of raw: joined {joined}, overwritten {overwritten}, read {read}");
    for ratio in [joined, overwritten, read] {
        assert!(ratio <= 250, "{ratio} hundredths of the raw data");
    }
    let counted = usize::try_from(replica.bytes()).unwrap();
    let held = HELD.load(Ordering::Relaxed) - before;
    assert!(held <= counted * 11 / 10, "holds {held}, says {counted}");
    assert!(held >= counted * 6 / 10, "holds {held}, says {counted}");
}
