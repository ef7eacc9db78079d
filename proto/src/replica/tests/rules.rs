//! What a replica does with single frames, also with those that cannot be right.

use bytes::Bytes;

use super::{Mirror, Owner, content, feed_all, join, key, resume};
use crate::error::{ErrorKind, Failure};
use crate::ids::Revision;
use crate::key::{self as keys, Key};
use crate::replica::{Lookup, Mode, PageError, Replica, ReplicaError, State};
use crate::wire::{Entry, Feed, KeyRange};

fn live(owner: &Owner) -> (Replica, Mirror) {
    let mut replica = Replica::new(KeyRange::default(), Mode::Full);
    let mut mirror = Mirror::default();
    join(&mut replica, &mut mirror, owner);
    (replica, mirror)
}

fn refuse(replica: &mut Replica, frame: Feed) -> ReplicaError {
    replica.feed(frame, &mut Mirror::default()).unwrap_err()
}

#[test]
fn joining_replica_knows_nothing_until_the_state_is_complete() {
    let mut owner = Owner::new();
    owner.put(1, b"a");
    let mut replica = Replica::new(KeyRange::default(), Mode::Full);
    let mut mirror = Mirror::default();
    let mut frames = super::reset_frames(&owner);
    let complete = frames.pop().unwrap();
    replica.connected(owner.position());
    feed_all(&mut replica, &mut mirror, frames);
    assert_eq!(replica.state(), State::Joining);
    assert_eq!(replica.lookup(&key(1)), Lookup::Unknown);
    assert_eq!(
        replica.page(&KeyRange::default(), false, 1),
        Err(PageError::NotHeld)
    );
    feed_all(&mut replica, &mut mirror, [complete]);
    assert_eq!(
        (replica.state(), replica.position()),
        (State::Live, Some(owner.position()))
    );
    assert_eq!(mirror.changes, [], "the first state is no change");
    assert_eq!(mirror.exchanges, [true]);
}

#[test]
fn readers_keep_the_old_state_until_the_new_one_is_complete_and_watchers_get_the_difference() {
    let mut owner = Owner::new();
    owner.put_each(1..=3, b"old");
    let (mut replica, mut mirror) = live(&owner);
    owner.lose(2);
    let changed = owner.put(2, b"new");
    owner.put(4, b"new");
    let mut frames = super::reset_frames(&owner);
    let complete = frames.pop().unwrap();
    replica.connected(owner.position());
    feed_all(&mut replica, &mut mirror, frames);
    assert!(matches!(replica.lookup(&key(3)), Lookup::Hit(..)));
    assert_eq!(mirror.changes, []);
    feed_all(&mut replica, &mut mirror, [complete]);
    assert_eq!(content(&replica), owner.state_at(owner.revision()));
    let changes: Vec<_> = mirror
        .changes
        .iter()
        .map(|c| (c.key.clone(), c.old.is_some(), c.new.is_some()))
        .collect();
    let expected = [
        (key(2), true, true),
        (key(3), true, false),
        (key(4), false, true),
    ];
    assert_eq!(changes, expected, "1 is as it was");
    assert_eq!(mirror.changes[0].revision, changed);
}

#[test]
fn key_written_again_with_the_same_value_is_a_difference_too() {
    let mut owner = Owner::new();
    owner.put(1, b"same");
    let (mut replica, mut mirror) = live(&owner);
    let again = owner.put(1, b"same");
    join(&mut replica, &mut mirror, &owner);
    assert_eq!(mirror.changes.len(), 1);
    assert_eq!(mirror.changes[0].revision, again);
}

#[test]
fn events_tell_old_and_new_value_and_who_and_when() {
    let mut owner = Owner::new();
    owner.put(1, b"a");
    let (mut replica, mut mirror) = live(&owner);
    let revision = owner.put(1, b"b");
    owner.delete(1);
    feed_all(
        &mut replica,
        &mut mirror,
        [Feed::Events(owner.after(Revision(1)))],
    );
    let change = &mirror.changes[0];
    assert_eq!(change.old.as_deref(), Some(&b"a"[..]));
    assert_eq!(change.new.as_deref(), Some(&b"b"[..]));
    assert_eq!(
        (change.revision, change.time_ms),
        (revision, revision.0 * 10)
    );
    assert_eq!(mirror.changes[1].old.as_deref(), Some(&b"b"[..]));
    assert_eq!(mirror.changes[1].new, None);
    assert_eq!(replica.lookup(&key(1)), Lookup::Absent);
}

#[test]
fn events_that_were_applied_before_are_skipped() {
    let mut owner = Owner::new();
    owner.put(1, b"a");
    owner.put(2, b"b");
    let (mut replica, mut mirror) = live(&owner);
    resume(&mut replica, &mut mirror, &owner);
    owner.put(3, b"c");
    feed_all(
        &mut replica,
        &mut mirror,
        [Feed::Events(owner.after(Revision(0)))],
    );
    assert_eq!(mirror.changes.len(), 1);
    assert_eq!(replica.applied(), owner.revision());
}

#[test]
fn revision_that_goes_back_on_one_subscription_is_an_error() {
    let mut owner = Owner::new();
    owner.put(1, b"a");
    let (mut replica, mut mirror) = live(&owner);
    owner.put(1, b"b");
    owner.put(1, b"c");
    let events = owner.after(Revision(1));
    feed_all(&mut replica, &mut mirror, [Feed::Events(events.clone())]);
    let error = refuse(&mut replica, Feed::Events(events));
    assert_eq!(
        error,
        ReplicaError::Backwards {
            from: Revision(3),
            to: Revision(2)
        }
    );
    let bookmark = Feed::Bookmark {
        position: owner.position_at(Revision(2)),
    };
    let error = refuse(&mut replica, bookmark);
    assert_eq!(
        error,
        ReplicaError::Backwards {
            from: Revision(3),
            to: Revision(2)
        }
    );
}

#[test]
fn transaction_with_a_bad_key_is_not_applied_in_part() {
    let mut owner = Owner::new();
    let (mut replica, _) = live(&owner);
    let revision = owner.put(1, b"a");
    let mut event = owner.after(Revision(0)).remove(0);
    event.changes.push(crate::effect::Change {
        key: Bytes::from_static(&[0x99]),
        value: None,
    });
    let error = refuse(&mut replica, Feed::Events(vec![event]));
    assert!(matches!(error, ReplicaError::BadKey(_)));
    assert_eq!(replica.lookup(&key(1)), Lookup::Absent);
    assert!(replica.applied() < revision);
}

#[test]
fn bookmark_and_barrier_move_the_position_and_the_barrier_is_told() {
    let mut owner = Owner::new();
    let (mut replica, mut mirror) = live(&owner);
    // A transaction outside the range: no event comes, only word of it.
    owner.commit(Vec::new());
    replica.saw(owner.revision());
    assert!(!replica.is_current());
    feed_all(
        &mut replica,
        &mut mirror,
        [Feed::Bookmark {
            position: owner.position(),
        }],
    );
    assert!(replica.is_current());
    owner.commit(Vec::new());
    let position = owner.position();
    feed_all(
        &mut replica,
        &mut mirror,
        [Feed::Barrier { id: 7, position }],
    );
    assert_eq!(mirror.barriers, [(7, position)]);
    assert_eq!(replica.position(), Some(position));
}

#[test]
fn resuming_takes_the_name_of_the_owners_epoch() {
    let mut owner = Owner::new();
    owner.put(1, b"a");
    let (mut replica, mut mirror) = live(&owner);
    owner.lose(0);
    resume(&mut replica, &mut mirror, &owner);
    assert_eq!(replica.position(), Some(owner.position()));
}

#[test]
fn acknowledgements_of_a_history_that_is_gone_are_not_waited_for() {
    let mut owner = Owner::new();
    let (mut replica, mut mirror) = live(&owner);
    replica.saw(Revision(1_000));
    join(&mut replica, &mut mirror, &owner);
    assert!(replica.is_current());
    owner.put(1, b"a");
}

#[test]
fn frames_that_cannot_come_here_are_refused() {
    let owner = Owner::new();
    let position = owner.position();
    let start = Feed::Start { subscription: 1 };
    for (before, frame) in [
        (vec![], Feed::Resume),
        (vec![], Feed::Events(vec![])),
        (vec![start.clone()], start.clone()),
        (vec![start.clone()], Feed::Resume),
        (vec![start.clone()], Feed::Entries(vec![])),
        (vec![start.clone()], Feed::Bookmark { position }),
        (vec![start.clone(), Feed::Reset], Feed::Events(vec![])),
        (
            vec![start.clone(), Feed::Reset],
            Feed::Barrier { id: 1, position },
        ),
        (
            vec![start, Feed::Reset, Feed::Complete { position }],
            Feed::Complete { position },
        ),
    ] {
        let mut replica = Replica::new(KeyRange::default(), Mode::Full);
        feed_all(&mut replica, &mut Mirror::default(), before);
        let error = refuse(&mut replica, frame);
        assert!(matches!(error, ReplicaError::OutOfPlace { .. }), "{error}");
    }
}

#[test]
fn owner_that_falls_out_of_its_log_sends_the_state_in_the_same_subscription() {
    let mut owner = Owner::new();
    owner.put(1, b"a");
    let (mut replica, mut mirror) = live(&owner);
    owner.put(2, b"b");
    feed_all(
        &mut replica,
        &mut mirror,
        super::reset_frames(&owner).into_iter().skip(1),
    );
    assert_eq!(content(&replica), owner.state_at(owner.revision()));
}

#[test]
fn entries_out_of_order_or_out_of_range_or_too_large_are_refused() {
    let entry = |key: Bytes, bytes: usize| Entry {
        key,
        value: vec![0; bytes].into(),
        revision: Revision(1),
    };
    let refuse_entries = |entries: Vec<Entry>| {
        let mut replica = Replica::new(keys::str_prefix("a"), Mode::Full);
        let start = [Feed::Start { subscription: 1 }, Feed::Reset];
        feed_all(&mut replica, &mut Mirror::default(), start);
        refuse(&mut replica, Feed::Entries(entries))
    };
    let text = |text: &str| Bytes::from(keys::encode(&Key::from(text)).unwrap());
    let twice = vec![entry(text("ab"), 1), entry(text("ab"), 1)];
    assert!(matches!(refuse_entries(twice), ReplicaError::OutOfOrder(_)));
    let outside = vec![entry(text("b"), 1)];
    assert!(matches!(
        refuse_entries(outside),
        ReplicaError::OutOfRange(_)
    ));
    let large = vec![entry(text("a"), crate::limits::VALUE_BYTES_MAX + 1)];
    assert!(matches!(
        refuse_entries(large),
        ReplicaError::ValueTooLarge { .. }
    ));
}

#[test]
fn end_by_the_owner_is_told_with_its_cause() {
    let failure = Failure::new(ErrorKind::Denied, "not here");
    let mut replica = Replica::new(KeyRange::default(), Mode::Full);
    let error = refuse(&mut replica, Feed::Failed(failure.clone()));
    assert_eq!(error, ReplicaError::Failed(failure));
}

#[test]
fn key_outside_the_range_is_unknown_even_when_live() {
    let mut replica = Replica::new(keys::str_prefix("a"), Mode::Full);
    let owner = Owner::new();
    join(&mut replica, &mut Mirror::default(), &owner);
    let text = |text: &str| keys::encode(&Key::from(text)).unwrap();
    assert_eq!(replica.lookup(&text("ab")), Lookup::Absent);
    assert_eq!(replica.lookup(&text("b")), Lookup::Unknown);
}

#[test]
fn page_of_a_range_goes_both_ways_and_says_what_is_left() {
    let mut owner = Owner::new();
    owner.put_each(0..10, b"value");
    let (replica, _) = live(&owner);
    let range = KeyRange {
        start: key(2),
        end: Some(key(7)),
    };
    let bytes_max = 2 * (key(2).len() + 5) + 3;
    let keys_of = |page: &crate::replica::Page| -> Vec<Bytes> {
        page.entries.iter().map(|entry| entry.key.clone()).collect()
    };
    let page = replica.page(&range, false, bytes_max).unwrap();
    assert_eq!(keys_of(&page), [key(2), key(3)]);
    let page = replica
        .page(&page.rest.unwrap(), false, usize::MAX)
        .unwrap();
    assert_eq!(
        (keys_of(&page), page.rest),
        (vec![key(4), key(5), key(6)], None)
    );
    let page = replica.page(&range, true, bytes_max).unwrap();
    assert_eq!(keys_of(&page), [key(6), key(5)]);
    let page = replica.page(&page.rest.unwrap(), true, 0).unwrap();
    assert_eq!(keys_of(&page), [key(4)], "at least one");
    let nothing = KeyRange {
        start: key(7),
        end: Some(key(2)),
    };
    assert_eq!(replica.page(&nothing, false, 100).unwrap().entries, []);
}

#[test]
fn iteration_that_would_hold_too_much_expires() {
    let mut owner = Owner::new();
    let value: &'static [u8] = vec![7; 4 << 20].leak();
    owner.put_each(0..20, value);
    let (mut replica, mut mirror) = live(&owner);
    let pin = replica.pin().unwrap();
    let before = owner.revision();
    owner.put_each(0..15, b"short");
    feed_all(
        &mut replica,
        &mut mirror,
        [Feed::Events(owner.after(before))],
    );
    assert_eq!(replica.count_at(pin), Ok(20));
    let before = owner.revision();
    owner.put_each(15..17, b"short");
    feed_all(
        &mut replica,
        &mut mirror,
        [Feed::Events(owner.after(before))],
    );
    assert_eq!(
        replica.page_at(pin, &KeyRange::default(), false, 1),
        Err(PageError::Expired)
    );
}

#[test]
fn open_iterations_are_limited_and_the_oldest_goes() {
    let (mut replica, _) = live(&Owner::new());
    let first = replica.pin().unwrap();
    for _ in 0..crate::limits::PINS_MAX {
        replica.pin().unwrap();
    }
    assert_eq!(replica.count_at(first), Err(PageError::Expired));
}
