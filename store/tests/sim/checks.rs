//! What anybody who looks at the store must see.

use std::collections::BTreeMap;

use bytes::Bytes;
use objsync_proto::ids::{NamespaceId, Position, Revision};
use objsync_proto::key;
use objsync_proto::wire::{Entry, KeyRange};
use objsync_store::{FeedRead, LogRead, Published, Reader, Store, StoreError};

use crate::harness::key_of;
use crate::history::{Logged, Loss};
use crate::model::State;
use crate::world::World;

/// Values of all dictionaries.
pub type Values = BTreeMap<(NamespaceId, Bytes), Bytes>;

/// Somebody looks at a part of the store.
pub fn look(world: &mut World) {
    match world.random.below(10) {
        0..=3 => get(world),
        4 => page(world),
        5 => count(world),
        6 => log(world),
        7 => feed(world),
        8 => hold_reader(world),
        _ => read_on(world),
    }
    remember_position(world);
}

/// Everything there is to see.
pub fn look_at_everything(world: &mut World) {
    let state = world.history.visible();
    let reader = world.store().reader();
    for namespace in all_namespaces(state) {
        let range = KeyRange::default();
        let entries = read_pages(&reader, namespace, &range, false, 4 << 10).unwrap();
        compare_entries(&entries, state, namespace, &range, false);
        assert_eq!(
            world.store().count(namespace).unwrap(),
            state.count(namespace)
        );
    }
    let names: Vec<_> = state.namespaces().into_iter().collect();
    assert_eq!(world.store().namespaces(), names);
    assert_eq!(world.store().position().revision, world.committed());
    look_at_positions(world);
}

/// What was read before is on the history, unless the epochs say that it was taken back.
pub fn look_at_positions(world: &World) {
    for (position, is_on_history) in &world.positions {
        let found = world.store().is_on_history(position);
        assert_eq!(found, *is_on_history, "{position:?}");
    }
}

/// After an open: what was read of the last epochs, and is not there, is off the history.
pub fn settle_positions(world: &mut World, committed: Revision, loss: Loss) {
    let store = world.store.as_ref().expect("it was opened");
    for (position, is_on_history) in &mut world.positions {
        *is_on_history &= position.revision <= committed;
        // An epoch can be lost with the tail, and what was read in it is then read again.
        if loss == Loss::Tail {
            *is_on_history &= store.is_on_history(position);
        }
    }
}

fn remember_position(world: &mut World) {
    if world.disk.is_off() {
        return;
    }
    let position = world.store().position();
    assert_eq!(position.revision, world.committed());
    if world.positions.len() == 40 {
        let place = world.random.below(40) as usize;
        world.positions.swap_remove(place);
    }
    world.positions.push((position, true));
    let later = Position {
        revision: Revision(position.revision.0 + 1),
        ..position
    };
    assert!(!world.store().is_on_history(&later));
}

fn get(world: &mut World) {
    let namespace = some_namespace(world);
    let name = match world.random.chance(4) {
        true => format!("n{}", world.random.below(2)),
        false => format!("k{}", world.random.below(9)),
    };
    let key = key_of(&name);
    let Some(found) = world.readable(world.store().get(namespace, &key)) else {
        return;
    };
    let held = world.history.visible().content.get(&(namespace, key));
    let found_value = found.as_ref().map(|stored| &stored.value);
    assert_eq!(
        found_value,
        held.map(|held| &held.value),
        "{name} of {namespace:?}"
    );
    let revision = held.and_then(|held| held.revision);
    assert!(revision.is_none_or(|revision| Some(revision) == found.map(|stored| stored.revision)));
}

fn page(world: &mut World) {
    let namespace = some_namespace(world);
    let random = &mut world.random;
    let name =
        |random: &mut crate::harness::random::Random| key_of(&format!("k{}", random.below(9)));
    let range = KeyRange {
        start: match random.chance(2) {
            true => name(random),
            false => Bytes::new(),
        },
        end: random.chance(2).then(|| name(random)),
    };
    let reverse = random.chance(2);
    let bytes_max = 1 << random.below(12);
    let reader = world.store().reader();
    let entries = read_pages(&reader, namespace, &range, reverse, bytes_max);
    let Some(entries) = world.readable(entries) else {
        return;
    };
    compare_entries(
        &entries,
        world.history.visible(),
        namespace,
        &range,
        reverse,
    );
}

fn count(world: &mut World) {
    let namespace = some_namespace(world);
    let expected = world.history.visible().count(namespace);
    let Some(found) = world.readable(world.store().count(namespace)) else {
        return;
    };
    assert_eq!(found, expected, "of {namespace:?}");
}

fn hold_reader(world: &mut World) {
    let reader = world.store().reader();
    let state = world.history.visible().clone();
    if world.readers.len() >= 2 {
        world.readers.swap_remove(0);
    }
    world.readers.push((reader, state));
}

/// A reader that is held goes on reading what it read first, or says that it has expired.
fn read_on(world: &mut World) {
    let namespace = some_namespace(world);
    let Some((reader, state)) = world.readers.first() else {
        return;
    };
    let range = KeyRange::default();
    match read_pages(reader, namespace, &range, false, 1 << 10) {
        Ok(entries) => compare_entries(&entries, state, namespace, &range, false),
        Err(StoreError::SnapshotExpired { .. }) => {
            world.readers.remove(0);
        }
        Err(error) => world.expect_read_error(&error),
    }
}

/// The log says what was done, or that it no longer reaches back that far.
fn log(world: &mut World) {
    let after = some_revision(world);
    let bytes_max = 1 << world.random.below(13);
    match world.store().read_log(after, bytes_max) {
        Ok(LogRead::Transactions(list)) => {
            compare_log(list.iter(), &world.history.transactions, after);
            let is_at_end = list.is_empty();
            assert_eq!(is_at_end, after >= world.history.last(), "after {after:?}");
        }
        Ok(LogRead::Trimmed) => assert!(after < world.committed()),
        Err(error) => world.expect_read_error(&error),
    }
}

fn feed(world: &mut World) {
    let after = some_revision(world);
    match world.store().feed().read(after, 1 << 10) {
        FeedRead::Published(list) => {
            let list = list.iter().map(|published| &**published);
            compare_log(list, &world.history.transactions, after);
        }
        FeedRead::UpToDate(to) => {
            assert!(to <= world.committed());
            assert!(
                after >= world.history.last(),
                "the feed has nothing after {after:?}"
            );
        }
        FeedRead::Behind => {}
    }
}

fn compare_log<'a>(
    found: impl Iterator<Item = &'a Published>,
    transactions: &[Logged],
    after: Revision,
) {
    let place = transactions.partition_point(|logged| logged.revision <= after);
    let mut expected = transactions[place..].iter();
    for published in found {
        let found = Logged {
            revision: published.revision,
            origin: published.origin,
            changes: crate::leases::in_order(published.changes.clone()),
        };
        assert_eq!(Some(&found), expected.next(), "after {after:?}");
    }
}

/// A revision that there was, or the end.
fn some_revision(world: &mut World) -> Revision {
    let transactions = &world.history.transactions;
    let last = transactions.len().saturating_sub(12) as u64;
    let place = last + world.random.below(12);
    match transactions.get(place as usize) {
        Some(logged) => logged.revision,
        None => world.committed(),
    }
}

fn some_namespace(world: &mut World) -> NamespaceId {
    let all = all_namespaces(world.history.visible());
    all[world.random.below(all.len() as u64) as usize]
}

fn all_namespaces(state: &State) -> Vec<NamespaceId> {
    let named = state.namespaces().into_values();
    let own = [NamespaceId::CATALOG, NamespaceId::LEASES];
    own.into_iter().chain(named).collect()
}

fn compare_entries(
    entries: &[Entry],
    state: &State,
    namespace: NamespaceId,
    range: &KeyRange,
    reverse: bool,
) {
    let is_inside =
        |key: &Bytes| *key >= range.start && range.end.as_ref().is_none_or(|end| key < end);
    let mut expected: Vec<_> = state
        .entries(namespace)
        .filter(|(key, _)| is_inside(key))
        .collect();
    if reverse {
        expected.reverse();
    }
    let found = entries.iter().map(|entry| (&entry.key, &entry.value));
    let wanted = expected.iter().map(|(key, held)| (*key, &held.value));
    assert!(
        found.eq(wanted),
        "{namespace:?}: {entries:#?} is not {expected:#?}"
    );
    for (entry, (_, held)) in entries.iter().zip(expected) {
        assert_eq!(
            held.revision.unwrap_or(entry.revision),
            entry.revision,
            "{entry:?}"
        );
    }
}

fn read_pages(
    reader: &Reader,
    namespace: NamespaceId,
    range: &KeyRange,
    reverse: bool,
    bytes_max: usize,
) -> Result<Vec<Entry>, StoreError> {
    let mut rest = range.clone();
    let mut entries = Vec::new();
    loop {
        let page = reader.page(namespace, &rest, reverse, bytes_max)?;
        let Some(last) = page.last() else {
            return Ok(entries);
        };
        match reverse {
            true => rest.end = Some(last.key.clone()),
            false => rest.start = key::successor(&last.key),
        }
        entries.extend(page);
    }
}

/// All values in the store.
pub fn content_of(store: &Store) -> Values {
    readable(store).expect("nothing is damaged")
}

/// All values in a store with a damaged file; none if that was found.
pub fn readable(store: &Store) -> Option<Values> {
    let reader = store.reader();
    let own = [NamespaceId::CATALOG, NamespaceId::LEASES].into_iter();
    let named = store
        .namespaces()
        .into_iter()
        .map(|(_, namespace)| namespace);
    let mut values = Values::new();
    for namespace in own.chain(named) {
        let range = KeyRange::default();
        let entries = match read_pages(&reader, namespace, &range, false, 64 << 10) {
            Err(StoreError::Corrupt { .. }) => return None,
            read => read.unwrap(),
        };
        values.extend(
            entries
                .into_iter()
                .map(|entry| ((namespace, entry.key), entry.value)),
        );
    }
    Some(values)
}

/// All values in a state.
pub fn values_of(state: &State) -> Values {
    let held = state.content.iter();
    held.map(|(key, held)| (key.clone(), held.value.clone()))
        .collect()
}
