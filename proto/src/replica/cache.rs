//! What was read of a dictionary that is too large to hold.
//!
//! Each entry is kept current by the feed, so a hit costs no round trip. What goes first when
//! there is no room is decided by the clock algorithm: readers only set a flag, so a lookup needs
//! no exclusive access.
//!
//! Invariants
//! * An entry is true of every revision from its `as_of` (or its own, if later) up to what the
//!   replica has applied.
//! * An answer of the owner never replaces what a later event said.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::Lookup;
use super::ordered::Ordered;
use crate::effect::Change;
use crate::ids::Revision;

/// What an entry takes beside key and value, about.
const ENTRY_OVERHEAD_BYTES: u64 = 240;

#[derive(Debug)]
struct Cached {
    /// None for "there is no such key".
    value: Option<(Bytes, Revision)>,
    /// The revision that the owner, or an event, has said this of.
    as_of: Revision,
    /// Read since the clock's hand passed.
    used: AtomicBool,
}

/// Gets of one key that are on their way.
#[derive(Debug, Default)]
struct InFlight {
    count: u32,
    /// What the last event since said of the key.
    event: Option<(Revision, Option<Bytes>)>,
    /// Changes up to here were not told: an answer as of before may be old by now.
    floor: Revision,
}

/// The entries that were read.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: BTreeMap<Bytes, Cached>,
    /// Keys in the order in which the hand passes them.
    clock: VecDeque<Bytes>,
    in_flight: BTreeMap<Bytes, InFlight>,
    bytes: u64,
}

impl Cache {
    /// As many of the entries as there is room for.
    pub(super) fn from_whole(whole: Ordered, as_of: Revision, bytes_max: u64) -> Self {
        let mut cache = Self::default();
        for packed in whole.into_entries() {
            let key = Bytes::copy_from_slice(packed.key());
            let revision = packed.revision();
            let value = Some((packed.into_value(), revision));
            if cache.bytes + cost(&key, value.as_ref()) > bytes_max {
                break;
            }
            cache.insert(key, value, as_of, bytes_max);
        }
        cache
    }

    /// Takes the entries of another cache; gets on their way stay, but an answer as of before
    /// `floor` is given to its reader only.
    pub(super) fn exchange(&mut self, other: Self, floor: Revision) {
        let in_flight = std::mem::take(&mut self.in_flight);
        *self = Self { in_flight, ..other };
        // Their answers may be of the history that was left.
        for get in self.in_flight.values_mut() {
            get.event = None;
            get.floor = floor;
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// `applied` is how far the feed is, `seen` what a reader must not fall behind.
    pub(super) fn lookup(&self, key: &[u8], applied: Revision, seen: Revision) -> Lookup {
        match self.entries.get(key) {
            Some(cached) if applied.max(cached.as_of) >= seen => {
                cached.used.store(true, Ordering::Relaxed);
                match &cached.value {
                    Some((value, revision)) => Lookup::Hit(value.clone(), *revision),
                    None => Lookup::Absent,
                }
            }
            _ => Lookup::Unknown,
        }
    }

    pub(super) fn fetching(&mut self, key: &Bytes) {
        self.in_flight.entry(key.clone()).or_default().count += 1;
    }

    pub(super) fn fetch_failed(&mut self, key: &Bytes) {
        self.landed(key);
    }

    pub(super) fn fetched(
        &mut self,
        key: &Bytes,
        entry: Option<(Bytes, Revision)>,
        as_of: Revision,
        bytes_max: u64,
    ) -> Option<(Bytes, Revision)> {
        let (event, floor) = self.landed(key);
        let (entry, as_of) = match event {
            Some((revision, value)) if revision > as_of => {
                (value.map(|value| (value, revision)), revision)
            }
            _ => (entry, as_of),
        };
        if as_of < floor {
            return entry;
        }
        match self.entries.get(key) {
            Some(cached) if cached.as_of > as_of => return cached.value.clone(),
            _ => {}
        }
        // Out of the frame it came in, which is larger.
        let own = entry
            .as_ref()
            .map(|(value, revision)| (Bytes::copy_from_slice(value), *revision));
        self.insert(Bytes::copy_from_slice(key), own, as_of, bytes_max);
        entry
    }

    /// A change has come through the feed.
    pub(super) fn follow(&mut self, change: &Change, revision: Revision, bytes_max: u64) {
        if let Some(get) = self.in_flight.get_mut(&change.key) {
            get.event = Some((revision, change.value.clone()));
        }
        match self.entries.get(&change.key) {
            Some(cached) if cached.as_of < revision => {
                let value = change.value.as_ref();
                let own = value.map(|value| (Bytes::copy_from_slice(value), revision));
                self.insert(
                    Bytes::copy_from_slice(&change.key),
                    own,
                    revision,
                    bytes_max,
                );
            }
            _ => {}
        }
    }

    /// The value of a key at exactly this revision, if it is here.
    pub(super) fn value_of(&self, key: &[u8], revision: Revision) -> Option<Bytes> {
        let cached = self
            .entries
            .get(key)
            .and_then(|cached| cached.value.as_ref());
        if let Some((value, at)) = cached
            && *at == revision
        {
            return Some(value.clone());
        }
        match self.in_flight.get(key)?.event.as_ref()? {
            (at, Some(value)) if *at == revision => Some(value.clone()),
            _ => None,
        }
    }

    /// A change has come through the feed, and nobody knows what the key is now.
    pub(super) fn forget(&mut self, key: &[u8], revision: Revision) {
        if let Some(get) = self.in_flight.get_mut(key) {
            get.event = None;
            get.floor = get.floor.max(revision);
        }
        let is_older = |cached: &Cached| cached.as_of < revision;
        if self.entries.get(key).is_some_and(is_older)
            && let Some(cached) = self.entries.remove(key)
        {
            self.bytes -= (key.len() as u64) + value_bytes(cached.value.as_ref());
            self.clock.retain(|one| one != key);
        }
    }

    /// A get has come back; gives what events said of its key meanwhile, and up to where they
    /// said nothing.
    fn landed(&mut self, key: &Bytes) -> (Option<(Revision, Option<Bytes>)>, Revision) {
        let Some(get) = self.in_flight.get_mut(key) else {
            return (None, Revision(0));
        };
        let told = (get.event.clone(), get.floor);
        get.count -= 1;
        if get.count == 0 {
            self.in_flight.remove(key);
        }
        told
    }

    fn insert(
        &mut self,
        key: Bytes,
        value: Option<(Bytes, Revision)>,
        as_of: Revision,
        bytes_max: u64,
    ) {
        self.bytes += cost(&key, value.as_ref());
        let cached = Cached {
            value,
            as_of,
            used: AtomicBool::new(false),
        };
        match self.entries.get_mut(&key) {
            Some(old) => {
                self.bytes -= cost(&key, old.value.as_ref());
                cached
                    .used
                    .store(old.used.load(Ordering::Relaxed), Ordering::Relaxed);
                *old = cached;
            }
            None => {
                self.entries.insert(key.clone(), cached);
                self.clock.push_back(key);
            }
        }
        while self.bytes > bytes_max {
            let Some(key) = self.clock.pop_front() else {
                break;
            };
            self.pass(key);
        }
    }

    /// The clock's hand passes a key: it goes unless it was read since the last time.
    fn pass(&mut self, key: Bytes) {
        let Some(cached) = self.entries.get_mut(&key) else {
            return;
        };
        if std::mem::take(cached.used.get_mut()) {
            self.clock.push_back(key);
            return;
        }
        self.bytes -= cost(&key, cached.value.as_ref());
        self.entries.remove(&key);
    }
}

fn cost(key: &Bytes, value: Option<&(Bytes, Revision)>) -> u64 {
    key.len() as u64 + value_bytes(value)
}

/// What an entry takes beside its key.
fn value_bytes(value: Option<&(Bytes, Revision)>) -> u64 {
    value.map_or(0, |(value, _)| value.len()) as u64 + ENTRY_OVERHEAD_BYTES
}
