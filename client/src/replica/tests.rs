//! When a reader may take what is held for what the owner has.

use std::task::{Context, Poll, Waker};

use objsync_proto::effect::{Cause, KeyPatch};
use objsync_proto::ids::{Epoch, EpochName, StoreId};
use objsync_proto::operation::{Edit, Patch};
use objsync_proto::stored::{self, Compression};
use objsync_proto::value::{self, Value};
use objsync_proto::wire::{Event, Feed, edit};

use super::*;
use crate::hub::tap::{Ended, Told as Tapped};

fn at(number: u64, name: u8, revision: u64) -> Position {
    Position {
        store: StoreId([1; 16]),
        epoch: Epoch {
            number,
            name: EpochName([name; 16]),
        },
        revision: Revision(revision),
    }
}

fn is_reached(replica: &Replica, target: Position) -> bool {
    let reached = std::pin::pin!(replica.reached(target, || false));
    let mut context = Context::from_waker(Waker::noop());
    reached.poll(&mut context).is_ready()
}

fn packer() -> Arc<Packer> {
    Arc::new(Packer::new(&Options::default()).unwrap())
}

#[test]
fn barrier_of_a_restored_copy_is_not_reached_before_the_copy_is_followed() {
    let replica = Replica::new(&Options::default(), Hub::new(), packer());
    replica.connected(at(5, 1, 1000), 0);
    let state = |subscription, position| {
        [
            Feed::Start { subscription },
            Feed::Reset,
            Feed::Complete { position },
        ]
    };
    for feed in state(1, at(5, 1, 1000)) {
        replica.follow(feed).unwrap();
    }
    let restored = at(4, 9, 520);
    let [start, reset, complete] = state(2, restored);
    replica.connected(restored, 0);
    replica.follow(start).unwrap();
    assert!(!is_reached(&replica, restored), "it holds the original");
    replica.follow(reset).unwrap();
    assert!(!is_reached(&replica, restored), "and still does");
    replica.follow(complete).unwrap();
    assert!(is_reached(&replica, restored));
}

#[test]
fn barrier_is_reached_at_its_revision_of_its_history_only() {
    let replica = Replica::new(&Options::default(), Hub::new(), packer());
    replica.connected(at(2, 1, 5), 0);
    for feed in [
        Feed::Start { subscription: 1 },
        Feed::Reset,
        Feed::Complete {
            position: at(2, 1, 5),
        },
    ] {
        replica.follow(feed).unwrap();
    }
    assert!(is_reached(&replica, at(2, 1, 5)));
    assert!(!is_reached(&replica, at(2, 1, 6)), "it lies before it");
    assert!(!is_reached(&replica, at(2, 9, 5)), "another history");
    // The next owner lets it go on from where it was.
    replica.connected(at(3, 1, 9), 0);
    for feed in [Feed::Start { subscription: 2 }, Feed::Resume] {
        replica.follow(feed).unwrap();
    }
    assert!(
        !is_reached(&replica, at(2, 1, 6)),
        "it lies before it still"
    );
    assert!(is_reached(&replica, at(2, 1, 5)));
}

#[test]
fn watch_that_came_before_the_replica_held_anything_finds_its_place_itself() {
    let hub = Hub::new();
    let replica = Replica::new(&Options::default(), Arc::clone(&hub), packer());
    let tap = hub.add_at(KeyRange::default(), at(1, 1, 3));
    replica.connected(at(1, 1, 9), 0);
    let position = at(1, 1, 9);
    for feed in [
        Feed::Start { subscription: 1 },
        Feed::Reset,
        Feed::Complete { position },
    ] {
        replica.follow(feed).unwrap();
    }
    let mut context = Context::from_waker(Waker::noop());
    let mut take = std::pin::pin!(tap.take());
    let Poll::Ready(tapped) = take.as_mut().poll(&mut context) else {
        panic!("it is told");
    };
    let told = (tapped.position.revision, tapped.ended, tapped.told.len());
    assert_eq!(told, (Revision(3), Some(Ended::Untold), 0));
}

/// Parts of a large value, all in one frame. A watch that does not read was given all values that
/// they lead to at once, however many.
#[test]
fn parts_of_one_frame_give_a_watch_no_more_than_it_has_room_for() {
    let hub = Hub::new();
    let replica = Replica::new(&Options::default(), Arc::clone(&hub), packer());
    let key = objsync_proto::key::encode(&"k".into())
        .unwrap()
        .into_bytes();
    let list = Value::List(vec![Value::from("x".repeat(900 << 10).as_str())]);
    let value = stored::seal(&value::encode(&list).unwrap(), Compression::None).unwrap();
    replica.connected(at(1, 1, 1), 0);
    let entry = Entry {
        key: key.clone(),
        value,
        revision: Revision(1),
    };
    for feed in [
        Feed::Start { subscription: 1 },
        Feed::Reset,
        Feed::Entries(vec![entry]),
        Feed::Complete {
            position: at(1, 1, 1),
        },
    ] {
        replica.follow(feed).unwrap();
    }
    let (tap, _) = replica.tap(KeyRange::default()).unwrap();
    let event = |revision: u64| {
        let item = value::to_payload(&revision).unwrap();
        let patch = KeyPatch {
            key: key.clone(),
            base: Revision(revision - 1),
            edit: edit::encode(&Patch::from(Edit::Append { items: vec![item] })),
        };
        Event {
            revision: Revision(revision),
            time_ms: 0,
            origin: None,
            cause: Cause::Patch,
            changes: Vec::new(),
            patches: vec![patch],
        }
    };
    replica
        .follow(Feed::Events((2..=40).map(event).collect()))
        .unwrap();
    assert_eq!(replica.applied(), 40);
    let mut context = Context::from_waker(Waker::noop());
    let mut take = std::pin::pin!(tap.take());
    let Poll::Ready(tapped) = take.as_mut().poll(&mut context) else {
        panic!("it is told");
    };
    assert_eq!(tapped.ended, Some(Ended::Cut), "it reads on from the log");
    let bytes = tapped.told.iter().map(|told| match told {
        Tapped::Change(change) => change.new.as_ref().map_or(0, Bytes::len),
        Tapped::Gap(_) => 0,
    });
    let (bytes, last) = (bytes.sum::<usize>(), tapped.position.revision.0);
    assert!(bytes <= 16 << 20, "{bytes} bytes");
    assert_eq!(
        tapped.told.len() as u64,
        last - 1,
        "whole transactions up to there"
    );
}
