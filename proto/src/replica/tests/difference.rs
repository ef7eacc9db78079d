//! Catching up by difference: whatever both sides hold, they end equal, and each key that differed
//! is told once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::{Map, Mirror, Owner, content, feed_all, join, key, reset_frames};
use crate::digest::BlockHasher;
use crate::ids::{Position, Revision};
use crate::key::{Key, encode, successor};
use crate::limits::{DIGESTS_BYTES_MAX, DIGESTS_MAX};
use crate::replica::{Lookup, Mode, Replica, ReplicaError, State};
use crate::wire::codec;
use crate::wire::{Digest, Entry, Feed, KeyRange, Request, ToOwner};

/// What an owner that holds `map` answers to digests, in frames of `count` entries at most.
fn differing(
    map: &Map,
    from: Bytes,
    digests: &[Digest],
    count: usize,
) -> (Vec<Feed>, Option<Bytes>) {
    let mut frames = Vec::new();
    let mut start = Some(from);
    for digest in digests {
        let begin = start.take().expect("nothing follows the last digest");
        start = digest.through.as_ref().map(|through| successor(through));
        let end = start.clone();
        let inside: Vec<Entry> = map
            .range(begin.clone()..)
            .take_while(|(key, _)| end.as_ref().is_none_or(|end| *key < end))
            .map(|(key, (value, revision))| Entry {
                key: key.clone(),
                value: value.clone(),
                revision: *revision,
            })
            .collect();
        let mut hasher = BlockHasher::default();
        for entry in &inside {
            hasher.add(&entry.key, entry.revision, &entry.value);
        }
        if hasher.finish() == (digest.count, digest.hash) {
            continue;
        }
        frames.extend(blocks(begin, end, inside, count));
    }
    (frames, start)
}

fn compare(round: u32, position: Position) -> Feed {
    Feed::Compare {
        round,
        position,
        same_history: true,
    }
}

/// A block in frames of some entries each.
fn blocks(begin: Bytes, end: Option<Bytes>, inside: Vec<Entry>, count: usize) -> Vec<Feed> {
    let mut frames = Vec::new();
    let mut start = begin;
    let mut parts = inside.chunks(count).peekable();
    while let Some(part) = parts.next() {
        let cut = parts.peek().map(|next| next[0].key.clone());
        let range = KeyRange {
            start: start.clone(),
            end: cut.clone().or(end.clone()),
        };
        start = cut.unwrap_or_default();
        let entries = part.to_vec();
        frames.push(Feed::Replace { range, entries });
    }
    if frames.is_empty() {
        let range = KeyRange { start, end };
        let entries = Vec::new();
        frames.push(Feed::Replace { range, entries });
    }
    frames
}

fn encoded_bytes(frames: &[Feed]) -> usize {
    let mut out = BytesMut::new();
    frames
        .iter()
        .for_each(|frame| codec::encode(frame, &mut out));
    out.len()
}

/// Both sides talk until it is over; gives the bytes either way.
fn exchange(
    replica: &mut Replica,
    mirror: &mut Mirror,
    (map, position): (&Map, Position),
    count: usize,
) -> (usize, usize) {
    let round = 7;
    feed_all(replica, mirror, [compare(round, position)]);
    let mut cursor = replica.comparison().expect("it is asked for digests");
    let (mut up, mut down, mut from) = (0, 0, Some(Bytes::new()));
    while let Some(digests) = replica.digests(&mut cursor) {
        assert!(digests.len() <= DIGESTS_MAX);
        let keys = digests.iter().filter_map(|digest| digest.through.as_ref());
        assert!(keys.map(Bytes::len).sum::<usize>() <= DIGESTS_BYTES_MAX);
        let begin = from.take().expect("the owner expects more");
        let (frames, next) = differing(map, begin, &digests, count);
        from = next;
        let request = Request::Digests {
            subscription: 1,
            round: cursor.round(),
            digests,
        };
        let mut out = BytesMut::new();
        codec::encode(&ToOwner::Request(1, request), &mut out);
        up += out.len();
        down += encoded_bytes(&frames);
        feed_all(replica, mirror, frames);
    }
    assert_eq!(from, None, "the digests reach to the end of the range");
    feed_all(replica, mirror, [Feed::Complete { position }]);
    (up, down)
}

fn state() -> impl Strategy<Value = BTreeMap<u16, (u8, u16)>> {
    btree_map(0..400_u16, (0..6_u8, 0..90_u16), 0..200)
}

/// Keys in groups, values of some length that say what they are.
fn map_of(state: &BTreeMap<u16, (u8, u16)>) -> Map {
    let entry = |(number, (revision, length)): (&u16, &(u8, u16))| {
        let name: Bytes = encode(&Key::from(i64::from(*number))).unwrap().into();
        // Two histories can give one revision to different values.
        let value = vec![*revision % 3; usize::from(*length)];
        (name, (Bytes::from(value), Revision(u64::from(*revision))))
    };
    state.iter().map(entry).collect()
}

fn position(epoch: u64, revision: u64) -> Position {
    let mut owner = Owner::new();
    owner.epoch = epoch;
    owner.position_at(Revision(revision))
}

fn holding(map: &Map, position: Position, mode: Mode) -> (Replica, Mirror) {
    let entries = map.iter().map(|(key, (value, revision))| Entry {
        key: key.clone(),
        value: value.clone(),
        revision: *revision,
    });
    let mut replica = Replica::new(KeyRange::default(), mode);
    let mut mirror = Mirror::default();
    replica.connected(position);
    let frames = [
        Feed::Start { subscription: 1 },
        Feed::Reset,
        Feed::Entries(entries.collect()),
        Feed::Complete { position },
    ];
    feed_all(&mut replica, &mut mirror, frames);
    replica.disconnected();
    replica.connected(position);
    feed_all(&mut replica, &mut mirror, [Feed::Start { subscription: 2 }]);
    mirror.changes.clear();
    (replica, mirror)
}

proptest! {
    #[test]
    fn replica_in_any_state_ends_equal_to_an_owner_in_any_state(
        here in state(), there in state(), other_history in any::<bool>(), count in 1..20_usize,
    ) {
        let (here, there) = (map_of(&here), map_of(&there));
        let (mut replica, mut mirror) = holding(&here, position(1, 50), Mode::Full);
        let pin = replica.pin().unwrap();
        // Of another history it goes back, and exactly.
        let to = if other_history { position(2, 20) } else { position(1, 60) };
        exchange(&mut replica, &mut mirror, (&there, to), count);
        prop_assert_eq!(content(&replica), there.clone());
        prop_assert_eq!(replica.position(), Some(to));
        let told: BTreeSet<Bytes> = mirror.changes.iter().map(|c| c.key.clone()).collect();
        prop_assert_eq!(told.len(), mirror.changes.len(), "each key once");
        let differs = |key: &&Bytes| here.get(*key) != there.get(*key);
        let wanted: BTreeSet<Bytes> =
            here.keys().chain(there.keys()).filter(differs).cloned().collect();
        prop_assert_eq!(told, wanted, "those that differ and no others");
        for change in &mirror.changes {
            prop_assert_eq!(change.old.as_ref(), here.get(&change.key).map(|(value, _)| value));
            prop_assert_eq!(change.new.as_ref(), there.get(&change.key).map(|(value, _)| value));
        }
        let page = replica.page_at(pin, &KeyRange::default(), false, usize::MAX).unwrap();
        let pinned: Vec<_> = page.entries.into_iter().map(|e| (e.key, e.value)).collect();
        let before: Vec<_> = here.into_iter().map(|(key, (value, _))| (key, value)).collect();
        prop_assert_eq!(pinned, before, "an iteration keeps its moment");
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn few_changes_cost_few_bytes(changed in vec(0..20_000_u32, 0..4), gone in vec(0..20_000_u32, 0..4)) {
        let (mut replica, mut mirror, mut map, all) = many(20_000);
        for number in &changed {
            map.insert(name(*number), (Bytes::from_static(b"changed"), Revision(2)));
        }
        for number in &gone {
            map.remove(&name(*number));
        }
        let (up, down) = exchange(&mut replica, &mut mirror, (&map, position(1, 60)), 100);
        prop_assert_eq!(content(&replica), map);
        // A digest for each block, and a block for each change: each about the root of the whole.
        let root = all.isqrt();
        prop_assert!(up < 12 * root, "{up} bytes of digests of {all}");
        let differ = changed.len() + gone.len();
        prop_assert!(down < 64 + 12 * root * differ, "{down} bytes for {differ} changes in {all}");
    }
}

fn name(number: u32) -> Bytes {
    encode(&Key::from(format!("user:{number:07}")))
        .unwrap()
        .into()
}

/// A replica of so many values of 100 bytes, what it holds, and how many bytes that is.
fn many(count: u32) -> (Replica, Mirror, Map, usize) {
    let value = Bytes::from(vec![b'v'; 100]);
    let map: Map = (0..count)
        .map(|number| (name(number), (value.clone(), Revision(1))))
        .collect();
    let all = map
        .iter()
        .map(|(key, (value, _))| key.len() + value.len())
        .sum();
    let (replica, mirror) = holding(&map, position(1, 50), Mode::Full);
    (replica, mirror, map, all)
}

#[test]
fn readers_keep_the_old_state_until_the_difference_is_complete() {
    let mut owner = Owner::new();
    owner.put_each(1..=3, b"old");
    let mut replica = Replica::new(KeyRange::default(), Mode::Full);
    let mut mirror = Mirror::default();
    join(&mut replica, &mut mirror, &owner);
    let before = content(&replica);
    owner.put(2, b"new");
    let (round, position) = (1, owner.position());
    feed_all(&mut replica, &mut mirror, [compare(round, position)]);
    let mut cursor = replica.comparison().unwrap();
    let digests = replica.digests(&mut cursor).unwrap();
    let map = owner.state_at(owner.revision());
    let (frames, _) = differing(&map, Bytes::new(), &digests, 9);
    feed_all(&mut replica, &mut mirror, frames);
    assert_eq!(content(&replica), before);
    assert_eq!((mirror.changes.len(), replica.state()), (0, State::Live));
    feed_all(&mut replica, &mut mirror, [Feed::Complete { position }]);
    assert_eq!(content(&replica), map);
    assert_eq!(mirror.exchanges, [true, true]);
}

#[test]
fn comparison_that_is_begun_anew_voids_what_came_of_the_one_before() {
    let mut owner = Owner::new();
    owner.put_each(1..=3, b"old");
    let mut replica = Replica::new(KeyRange::default(), Mode::Full);
    let mut mirror = Mirror::default();
    join(&mut replica, &mut mirror, &owner);
    let position = owner.position();
    feed_all(&mut replica, &mut mirror, [compare(1, position)]);
    let mut stale = replica.comparison().unwrap();
    let range = KeyRange::default();
    let entries = Vec::new();
    feed_all(
        &mut replica,
        &mut mirror,
        [Feed::Replace { range, entries }],
    );
    owner.put(4, b"new");
    let map = owner.state_at(owner.revision());
    exchange(&mut replica, &mut mirror, (&map, owner.position()), 9);
    assert_eq!(content(&replica), map);
    assert_eq!(replica.digests(&mut stale), None, "nobody waits for them");
}

#[test]
fn connection_that_breaks_half_way_changes_nothing() {
    let mut owner = Owner::new();
    owner.put_each(1..=3, b"old");
    let mut replica = Replica::new(KeyRange::default(), Mode::Full);
    let mut mirror = Mirror::default();
    join(&mut replica, &mut mirror, &owner);
    let (before, at) = (content(&replica), replica.position());
    let position = position(2, 1);
    let (range, entries) = (KeyRange::default(), Vec::new());
    let frames = [compare(1, position), Feed::Replace { range, entries }];
    feed_all(&mut replica, &mut mirror, frames);
    replica.disconnected();
    assert_eq!((content(&replica), replica.position()), (before, at));
    assert_eq!(replica.comparison(), None);
}

/// A replica that is being compared, and refuses the frame that follows.
fn refuse(frames: impl IntoIterator<Item = Feed>) -> ReplicaError {
    let mut owner = Owner::new();
    owner.put_each(1..=3, b"old");
    let range = KeyRange {
        start: key(1),
        end: Some(key(9)),
    };
    let mut replica = Replica::new(range, Mode::Full);
    let mut mirror = Mirror::default();
    join(&mut replica, &mut mirror, &owner);
    let mut refused = None;
    for frame in frames {
        assert_eq!(refused, None, "only the last frame is wrong");
        refused = replica.feed(frame, &mut mirror).err();
    }
    assert_eq!(content(&replica), owner.state_at(owner.revision()));
    refused.expect("it is refused")
}

fn block(start: u8, end: Option<u8>, inside: &[u8]) -> Feed {
    let entry = |number: &u8| Entry {
        key: key(*number),
        value: Bytes::new(),
        revision: Revision(1),
    };
    Feed::Replace {
        range: KeyRange {
            start: key(start),
            end: end.map(key),
        },
        entries: inside.iter().map(entry).collect(),
    }
}

#[test]
fn blocks_that_cannot_be_right_are_refused_and_change_nothing() {
    let compare = || compare(1, position(1, 3));
    let out_of_place = |error: &ReplicaError| matches!(error, ReplicaError::BlockOutOfPlace(_));
    let out_of_order = |error: &ReplicaError| matches!(error, ReplicaError::OutOfOrder(_));
    assert!(
        out_of_place(&refuse([compare(), block(0, Some(2), &[])])),
        "before the range"
    );
    assert!(
        out_of_place(&refuse([compare(), block(1, None, &[])])),
        "behind the range"
    );
    assert!(out_of_place(&refuse([
        compare(),
        block(3, Some(5), &[3]),
        block(4, Some(6), &[])
    ])));
    assert!(
        out_of_place(&refuse([compare(), block(3, Some(3), &[])])),
        "without room for a key"
    );
    assert!(out_of_order(&refuse([
        compare(),
        block(3, Some(5), &[4, 3])
    ])));
    assert!(
        out_of_order(&refuse([compare(), block(3, Some(5), &[6])])),
        "outside its block"
    );
    let back = self::compare(1, position(1, 2));
    assert!(matches!(refuse([back]), ReplicaError::Backwards { .. }));
    let other = Feed::Complete {
        position: position(1, 4),
    };
    assert!(matches!(
        refuse([compare(), other]),
        ReplicaError::OtherDifference(_)
    ));
    let skip = Feed::Skip {
        position: position(1, 4),
    };
    assert!(
        matches!(refuse([skip]), ReplicaError::OutOfPlace { .. }),
        "it holds everything"
    );
    assert!(matches!(
        refuse([block(3, Some(5), &[])]),
        ReplicaError::OutOfPlace { .. }
    ));
}

#[test]
fn difference_that_is_more_than_is_held_leaves_a_part() {
    let (mut replica, mut mirror) = holding(
        &Map::new(),
        position(1, 50),
        Mode::Auto { bytes_max: 2_000 },
    );
    let map: Map = (0..100)
        .map(|number| (name(number), (Bytes::from(vec![1; 50]), Revision(1))))
        .collect();
    exchange(&mut replica, &mut mirror, (&map, position(1, 60)), 10);
    assert!(replica.is_partial());
    assert_eq!(
        mirror.exchanges.last(),
        Some(&false),
        "watchers hear that they were not told"
    );
    assert_eq!(replica.position(), Some(position(1, 60)));
}

fn partial() -> (Replica, Mirror) {
    let mut replica = Replica::new(KeyRange::default(), Mode::Auto { bytes_max: 2_000 });
    replica.skip_content(position(1, 50));
    replica.connected(position(1, 60));
    let mut mirror = Mirror::default();
    feed_all(&mut replica, &mut mirror, [Feed::Start { subscription: 1 }]);
    (replica, mirror)
}

#[test]
fn part_of_a_dictionary_is_dropped_where_the_log_does_not_lead_on() {
    let (mut replica, mut mirror) = partial();
    let entry = Some((Bytes::from_static(b"v"), Revision(5)));
    replica.fetching(&key(1));
    replica.fetched(&key(1), entry, Revision(50));
    assert!(matches!(replica.lookup(&key(1)), Lookup::Hit(..)));
    feed_all(
        &mut replica,
        &mut mirror,
        [Feed::Skip {
            position: position(2, 40),
        }],
    );
    assert_eq!(replica.lookup(&key(1)), Lookup::Unknown);
    assert_eq!(replica.position(), Some(position(2, 40)));
    assert_eq!(mirror.exchanges, [false]);
}

/// An answer as of before a skip came after it, and was taken to be true of what followed: the
/// change between the two was never told.
#[test]
fn answer_as_of_before_a_skip_is_not_remembered() {
    let (mut replica, mut mirror) = partial();
    let entry = Some((Bytes::from_static(b"old"), Revision(5)));
    replica.fetching(&key(1));
    feed_all(
        &mut replica,
        &mut mirror,
        [Feed::Skip {
            position: position(1, 70),
        }],
    );
    assert_eq!(
        replica.fetched(&key(1), entry.clone(), Revision(60)),
        entry,
        "its reader has it"
    );
    assert_eq!(replica.lookup(&key(1)), Lookup::Unknown);
    replica.fetching(&key(1));
    replica.fetched(&key(1), entry, Revision(70));
    assert!(matches!(replica.lookup(&key(1)), Lookup::Hit(..)));
}

#[test]
fn part_of_a_dictionary_has_no_digests_to_send() {
    let (mut replica, mut mirror) = partial();
    let position = position(1, 70);
    feed_all(&mut replica, &mut mirror, [compare(1, position)]);
    let mut cursor = replica.comparison().unwrap();
    assert_eq!(replica.digests(&mut cursor), Some(Vec::new()));
    assert_eq!(replica.digests(&mut cursor), None);
    feed_all(&mut replica, &mut mirror, [Feed::Skip { position }]);
    assert_eq!(replica.position(), Some(position));
}

#[test]
fn state_that_is_sent_whole_in_the_middle_of_a_comparison_is_not_taken_for_it() {
    let mut owner = Owner::new();
    owner.put_each(1..=3, b"old");
    let mut replica = Replica::new(KeyRange::default(), Mode::Full);
    let mut mirror = Mirror::default();
    join(&mut replica, &mut mirror, &owner);
    let position = owner.position();
    feed_all(&mut replica, &mut mirror, [compare(1, position)]);
    let reset = reset_frames(&owner).into_iter().nth(1).unwrap();
    assert!(matches!(
        replica.feed(reset, &mut mirror),
        Err(ReplicaError::OutOfPlace { .. })
    ));
}

#[test]
fn blocks_without_entries_count_for_what_is_held_whole() {
    let mut owner = Owner::new();
    owner.put_each(1..=3, b"old");
    let mut replica = Replica::new(KeyRange::default(), Mode::Auto { bytes_max: 2_000 });
    let mut mirror = Mirror::default();
    join(&mut replica, &mut mirror, &owner);
    let position = owner.position();
    replica.connected(position);
    let frames = [Feed::Start { subscription: 2 }, compare(1, position)];
    feed_all(&mut replica, &mut mirror, frames);
    let blocks = (0..100).map(|number| block(number, Some(number + 1), &[]));
    feed_all(&mut replica, &mut mirror, blocks);
    assert!(!replica.is_partial(), "until all has come");
    feed_all(&mut replica, &mut mirror, [Feed::Complete { position }]);
    assert!(replica.is_partial(), "so much is not kept");
}
