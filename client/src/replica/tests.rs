use objsync_proto::effect::Change;
use objsync_proto::ids::{Epoch, EpochName, StoreId};
use objsync_proto::wire::{Entry, Event};

use super::*;

fn at(revision: u64) -> Position {
    Position {
        store: StoreId([1; 16]),
        epoch: Epoch {
            number: 1,
            name: EpochName([1; 16]),
        },
        revision: Revision(revision),
    }
}

fn key_of(name: &str) -> Bytes {
    objsync_proto::key::encode(&name.into())
        .unwrap()
        .into_bytes()
}

fn value_of(number: i64) -> Bytes {
    let payload = objsync_proto::value::int_payload(number);
    objsync_proto::stored::seal(&payload, objsync_proto::stored::Compression::None).unwrap()
}

/// The state of one key, as an owner sends it to a subscriber whose position its log has not.
fn send_state(replica: &Replica, number: i64, revision: u64) {
    let entry = Entry {
        key: key_of("key"),
        value: value_of(number),
        revision: Revision(revision),
    };
    replica.connected(at(revision));
    let position = at(revision);
    for frame in [
        Feed::Start { subscription: 1 },
        Feed::Reset,
        Feed::Entries(vec![entry]),
        Feed::Complete { position },
    ] {
        replica.follow(frame).unwrap();
    }
}

// Found by seeds: seed 722 of the whole stack. A replica that had been away for longer than the log
// was kept got the state anew, and told its watches the differences as if they were changes: in the
// order of keys, with revisions that go back, and without all that had happened in between.
#[test]
fn watch_is_not_told_differences_of_two_states_as_changes() {
    let replica = Replica::new(&Options::default());
    send_state(&replica, 1, 5);
    let tap = replica.tap(KeyRange::default()).unwrap();
    let change = Change {
        key: key_of("key"),
        value: Some(value_of(2)),
    };
    let event = Event {
        revision: Revision(6),
        time_ms: 1,
        origin: None,
        cause: objsync_proto::effect::Cause::default(),
        changes: vec![change],
    };
    replica.follow(Feed::Events(vec![event])).unwrap();
    replica.disconnected();

    send_state(&replica, 3, 9);
    let tapped = tap.try_take().unwrap();
    assert_eq!(tapped.changes.len(), 1, "what happened before is told");
    assert_eq!(tapped.changes[0].revision, Revision(6));
    assert_eq!(tapped.position, at(6), "from here on the log is asked");
    assert!(tapped.ended);
}
