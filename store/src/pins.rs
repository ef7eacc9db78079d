//! Who reads at which revision: the index does not pass the oldest of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use objsync_proto::ids::Revision;

/// The pins of all readers.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    next_number: u64,
    /// In the order they were made, which is the order of their revisions and of their age.
    held: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    revision: Revision,
    since_ms: u64,
    is_expired: Arc<AtomicBool>,
}

/// A revision that the index does not pass while this lives, unless it expires.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Arc<Pins>,
    number: u64,
    revision: Revision,
    is_expired: Arc<AtomicBool>,
}

impl Pins {
    /// Pins what `committed` returns; it is called while the index cannot move.
    pub(crate) fn pin(self: &Arc<Self>, now_ms: u64, committed: impl FnOnce() -> Revision) -> Pin {
        let mut table = self.table();
        let number = table.next_number;
        let held = Held {
            revision: committed(),
            since_ms: now_ms,
            is_expired: Arc::default(),
        };
        let pin = Pin {
            pins: Arc::clone(self),
            number,
            revision: held.revision,
            is_expired: Arc::clone(&held.is_expired),
        };
        table.next_number += 1;
        table.held.insert(number, held);
        pin
    }

    /// How far the index may go towards `to`. Pins made before `made_before_ms` expire first.
    pub(crate) fn bound(&self, to: Revision, made_before_ms: u64) -> Revision {
        let mut table = self.table();
        table.held.retain(|_, held| {
            let stays = held.since_ms >= made_before_ms;
            // Before the index can pass the revision, so that the reader sees it after reading.
            held.is_expired.store(!stays, Ordering::SeqCst);
            stays
        });
        let oldest = table.held.values().map(|held| held.revision).min();
        oldest.map_or(to, |oldest| oldest.min(to))
    }

    /// Expires the pins before a revision: the index was made again, and begins there.
    pub(crate) fn expire_before(&self, revision: Revision) {
        self.table().held.retain(|_, held| {
            let stays = held.revision >= revision;
            held.is_expired.store(!stays, Ordering::SeqCst);
            stays
        });
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pin {
    /// What is pinned.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether what was read under this pin may be of a later revision. Ask after reading.
    pub(crate) fn is_expired(&self) -> bool {
        self.is_expired.load(Ordering::SeqCst)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pins.table().held.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_stops_at_the_oldest_pin_until_it_is_dropped() {
        let pins = Arc::new(Pins::default());
        let old = pins.pin(0, || Revision(5));
        let new = pins.pin(0, || Revision(9));
        assert_eq!(pins.bound(Revision(20), 0), Revision(5));
        drop(old);
        assert_eq!(pins.bound(Revision(20), 0), Revision(9));
        assert_eq!(pins.bound(Revision(7), 0), Revision(7));
        assert!(!new.is_expired());
        drop(new);
        assert_eq!(pins.bound(Revision(20), 0), Revision(20));
    }

    #[test]
    fn pin_that_is_too_old_expires_and_others_stay() {
        let pins = Arc::new(Pins::default());
        let old = pins.pin(100, || Revision(5));
        let new = pins.pin(200, || Revision(9));
        assert_eq!(pins.bound(Revision(20), 150), Revision(9));
        assert!(old.is_expired());
        assert!(!new.is_expired());
    }
}
