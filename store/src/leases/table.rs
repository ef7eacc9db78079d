//! What ends when, in memory: made again from the entries of `NamespaceId::LEASES`.
//!
//! Keys end by the owner's time, which stands in the log. Leases that somebody keeps are counted
//! by the monotonic clock: nobody who sets a clock ends them, and a new owner begins anew.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::evaluate::{Due, Leased};
use objsync_proto::ids::{LeaseId, NamespaceId};
use objsync_proto::lease::{EntryKey, Hold, Lease};
use objsync_proto::limits::IDLE_TIMEOUT_MS;
use objsync_proto::wire::LeaseStatus;

use super::FreedLock;
use super::counts::Counts;

/// Who keeps leases of presence, by a number that is never used twice.
pub(super) type KeeperId = u64;
type LeaseOf = (NamespaceId, LeaseId);

#[derive(Debug, Default)]
pub(super) struct Table {
    /// Keys that end, by the bytes of their entry, with the time at which they are looked at if
    /// they have a deadline: that, or later if they could not be read then.
    holds: HashMap<Bytes, Option<u64>>,
    /// How much there is, in all and of each dictionary that has any.
    all: Counts,
    of_each: HashMap<NamespaceId, Counts>,
    by_time: BTreeSet<(u64, Bytes)>,
    leases: HashMap<LeaseOf, Live>,
    /// Leases by the monotonic time at which they end.
    by_patience: BTreeSet<(u64, LeaseOf)>,
    kept: HashMap<KeeperId, HashSet<LeaseOf>>,
}

#[derive(Debug)]
struct Live {
    lease: Lease,
    /// None while a connection keeps it.
    ends_ms: Option<u64>,
    keeper: Option<KeeperId>,
    /// Its end is being decided: it cannot be kept any more.
    is_ending: bool,
}

/// What a change of an entry means for those who wait.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Applied {
    /// Something ends sooner than anything did before.
    pub(crate) is_sooner: bool,
    /// The lock that is free.
    pub(crate) freed: Option<FreedLock>,
}

impl Table {
    /// How much there is.
    pub(super) fn leased(&self) -> Leased {
        self.all.leased()
    }

    /// How much there is of one dictionary.
    pub(super) fn leased_of(&self, namespace: NamespaceId) -> Leased {
        let counts = self.of_each.get(&namespace);
        counts.map(Counts::leased).unwrap_or_default()
    }

    /// Whether it counts this entry.
    pub(super) fn holds(&self, key: &Bytes, entry: &EntryKey) -> bool {
        match entry {
            EntryKey::Hold(..) => self.holds.contains_key(key),
            EntryKey::Lease(namespace, lease) => self.leases.contains_key(&(*namespace, *lease)),
            EntryKey::Lock(..) | EntryKey::Member(..) => false,
        }
    }

    /// Learns of a change. What this program cannot read ends nothing.
    pub(super) fn apply(&mut self, change: &Change, monotonic_ms: u64) -> Applied {
        let mut applied = Applied::default();
        let Some(entry) = EntryKey::decode(&change.key) else {
            return applied;
        };
        let was_there = self.holds(&change.key, &entry);
        match &entry {
            EntryKey::Hold(..) => {
                let hold = change.value.as_deref().and_then(Hold::decode);
                applied.is_sooner = self.set_hold(&change.key, hold);
            }
            EntryKey::Lease(namespace, lease) => {
                let granted = change.value.as_deref().and_then(Lease::decode);
                applied.is_sooner = self.set_lease((*namespace, *lease), granted, monotonic_ms);
            }
            EntryKey::Lock(namespace, name) => {
                let freed = || (*namespace, name.clone());
                applied.freed = change.value.is_none().then(freed);
            }
            EntryKey::Member(..) => {}
        }
        let more = i64::from(self.holds(&change.key, &entry)) - i64::from(was_there);
        self.count(&entry, more);
        applied
    }

    fn count(&mut self, entry: &EntryKey, more: i64) {
        let namespace = match entry {
            EntryKey::Hold(namespace, _) | EntryKey::Lease(namespace, _) if more != 0 => *namespace,
            _ => return,
        };
        self.all.add(entry, more);
        let of = self.of_each.entry(namespace).or_default();
        of.add(entry, more);
        if of.leased() == Leased::default() {
            self.of_each.remove(&namespace);
        }
    }

    fn set_hold(&mut self, entry: &Bytes, hold: Option<Hold>) -> bool {
        let before = match hold {
            Some(hold) => self.holds.insert(entry.clone(), hold.deadline_ms),
            None => self.holds.remove(entry),
        };
        if let Some(before_ms) = before.flatten() {
            self.by_time.remove(&(before_ms, entry.clone()));
        }
        let Some(deadline_ms) = hold.and_then(|hold| hold.deadline_ms) else {
            return false;
        };
        let first_ms = self.by_time.first().map(|(first_ms, _)| *first_ms);
        self.by_time.insert((deadline_ms, entry.clone()));
        first_ms.is_none_or(|first_ms| deadline_ms < first_ms)
    }

    fn set_lease(&mut self, of: LeaseOf, lease: Option<Lease>, monotonic_ms: u64) -> bool {
        self.set_end(of, None, None);
        let Some(lease) = lease else {
            self.leases.remove(&of);
            return false;
        };
        let live = Live {
            lease,
            ends_ms: None,
            keeper: None,
            is_ending: false,
        };
        self.leases.insert(of, live);
        let patience_ms = match lease.presence {
            true => IDLE_TIMEOUT_MS,
            false => lease.ttl_ms,
        };
        self.set_end(of, Some(monotonic_ms.saturating_add(patience_ms)), None)
    }

    /// Moves the end of a lease; tells whether it is the first of all.
    fn set_end(&mut self, of: LeaseOf, ends_ms: Option<u64>, keeper: Option<KeeperId>) -> bool {
        let Some(live) = self.leases.get_mut(&of) else {
            return false;
        };
        let before = std::mem::replace(&mut live.ends_ms, ends_ms);
        let left = std::mem::replace(&mut live.keeper, keeper);
        if let Some(before_ms) = before {
            self.by_patience.remove(&(before_ms, of));
        }
        if let Some(left) = left.filter(|left| Some(*left) != keeper)
            && let Some(kept) = self.kept.get_mut(&left)
        {
            kept.remove(&of);
        }
        if let Some(keeper) = keeper {
            self.kept.entry(keeper).or_default().insert(of);
        }
        let Some(ends_ms) = ends_ms else {
            return false;
        };
        let first_ms = self.by_patience.first().map(|(first_ms, _)| *first_ms);
        self.by_patience.insert((ends_ms, of));
        first_ms.is_none_or(|first_ms| ends_ms < first_ms)
    }

    /// Keeps a lease for its whole time again; none when it has ended.
    pub(super) fn keep(
        &mut self,
        of: LeaseOf,
        keeper: KeeperId,
        monotonic_ms: u64,
    ) -> Option<LeaseStatus> {
        let live = self.leases.get(&of).filter(|live| !live.is_ending)?;
        let Lease { ttl_ms, presence } = live.lease;
        match presence {
            true => self.set_end(of, None, Some(keeper)),
            false => self.set_end(of, Some(monotonic_ms.saturating_add(ttl_ms)), None),
        };
        Some(LeaseStatus {
            ttl_ms,
            left_ms: ttl_ms,
            presence,
        })
    }

    /// Whoever kept these has gone: they end then. Tells whether there were any.
    pub(super) fn end_kept(&mut self, keeper: KeeperId, monotonic_ms: u64) -> bool {
        let kept = self.kept.remove(&keeper).unwrap_or_default();
        for of in &kept {
            self.set_end(*of, Some(monotonic_ms), None);
        }
        !kept.is_empty()
    }

    /// What has had its time; it cannot be kept from here on. Leases come first, because somebody
    /// may wait for their locks, and are half of it at most, so that keys have their turn too.
    pub(super) fn due(&mut self, now_ms: u64, monotonic_ms: u64, count_max: usize) -> Vec<Due> {
        let mut due = Vec::new();
        let leases = self.by_patience.iter();
        let leases = leases.take_while(|(ends_ms, _)| *ends_ms <= monotonic_ms);
        for (_, of) in leases.take(count_max.div_ceil(2)) {
            if let Some(live) = self.leases.get_mut(of) {
                live.is_ending = true;
            }
            due.push(Due::Lease(of.0, of.1));
        }
        let keys = self.by_time.iter();
        let keys = keys.take_while(|(deadline_ms, _)| *deadline_ms <= now_ms);
        let keys = keys.filter_map(|(_, entry)| match EntryKey::decode(entry) {
            Some(EntryKey::Hold(namespace, key)) => Some(Due::Key(namespace, key)),
            _ => None,
        });
        due.extend(keys.take(count_max - due.len()));
        due
    }

    /// What was due and could not be looked at is due again at these times, of the owner for a key
    /// and of the monotonic clock for a lease. Until then that can be kept again.
    pub(super) fn put_off(&mut self, due: &Due, key_again_ms: u64, lease_again_ms: u64) {
        match due {
            Due::Key(namespace, key) => {
                let entry = EntryKey::Hold(*namespace, key.clone()).encode();
                if let Some(Some(at_ms)) = self.holds.get_mut(&entry) {
                    let before_ms = std::mem::replace(at_ms, key_again_ms);
                    if let Some((_, entry)) = self.by_time.take(&(before_ms, entry)) {
                        self.by_time.insert((key_again_ms, entry));
                    }
                }
            }
            Due::Lease(namespace, lease) => {
                let of = (*namespace, *lease);
                if let Some(live) = self.leases.get_mut(&of) {
                    live.is_ending = false;
                }
                self.set_end(of, Some(lease_again_ms), None);
            }
        }
    }

    /// Milliseconds until something ends; none when nothing does.
    pub(super) fn wait_ms(&self, now_ms: u64, monotonic_ms: u64) -> Option<u64> {
        let key = self.by_time.first();
        let key = key.map(|(deadline_ms, _)| deadline_ms.saturating_sub(now_ms));
        let lease = self.by_patience.first();
        let lease = lease.map(|(ends_ms, _)| ends_ms.saturating_sub(monotonic_ms));
        key.into_iter().chain(lease).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: NamespaceId = NamespaceId::DEFAULT;

    fn entry(key: &'static str) -> Bytes {
        EntryKey::Hold(SPACE, Bytes::from_static(key.as_bytes())).encode()
    }

    fn hold(table: &mut Table, key: &'static str, deadline_ms: Option<u64>) -> Applied {
        let lease = Some(LeaseId(1));
        let value = Hold { deadline_ms, lease }.encode();
        let change = Change {
            key: entry(key),
            value: Some(value),
        };
        table.apply(&change, 0)
    }

    fn grant(table: &mut Table, lease: u64, presence: bool, monotonic_ms: u64) {
        let ttl_ms = 100;
        let change = Change {
            key: EntryKey::Lease(SPACE, LeaseId(lease)).encode(),
            value: Some(Lease { ttl_ms, presence }.encode()),
        };
        table.apply(&change, monotonic_ms);
    }

    #[test]
    fn key_is_due_at_its_deadline_and_a_later_put_moves_it() {
        let mut table = Table::default();
        assert!(hold(&mut table, "a", Some(50)).is_sooner);
        assert!(!hold(&mut table, "b", Some(60)).is_sooner);
        assert!(hold(&mut table, "a", Some(40)).is_sooner);
        assert_eq!(table.wait_ms(10, 0), Some(30));
        assert!(table.due(39, 0, 10).is_empty());
        let key = |key: &'static str| Due::Key(SPACE, Bytes::from_static(key.as_bytes()));
        assert_eq!(table.due(60, 0, 10), [key("a"), key("b")]);
        assert_eq!(table.due(60, 0, 1), [key("a")]);
        hold(&mut table, "a", None);
        assert_eq!(table.due(60, 0, 10), [key("b")]);
        let gone = Change {
            key: entry("b"),
            value: None,
        };
        table.apply(&gone, 0);
        let left = Leased {
            keys: 1,
            key_bytes: 1,
            leases: 0,
        };
        assert_eq!((table.leased(), table.leased_of(SPACE)), (left, left));
        assert_eq!(table.leased_of(NamespaceId(99)), Leased::default());
        assert_eq!(table.wait_ms(0, 0), None);
    }

    #[test]
    fn lease_that_is_kept_lasts_and_one_whose_end_is_decided_cannot_be_kept() {
        let mut table = Table::default();
        let of = (SPACE, LeaseId(7));
        grant(&mut table, 7, false, 1_000);
        assert!(table.due(0, 1_099, 10).is_empty());
        assert_eq!(table.keep(of, 1, 1_099).unwrap().left_ms, 100);
        assert!(table.due(0, 1_198, 10).is_empty());
        assert_eq!(table.due(0, 1_199, 10), [Due::Lease(of.0, of.1)]);
        assert_eq!(table.keep(of, 1, 1_199), None);
        assert_eq!(table.keep((SPACE, LeaseId(8)), 1, 0), None);
    }

    #[test]
    fn leases_are_due_before_keys_and_leave_them_half_of_the_room() {
        let mut table = Table::default();
        for (number, key) in (1..=4).zip(["a", "b", "c", "d"]) {
            hold(&mut table, key, Some(10));
            grant(&mut table, number, false, 0);
        }
        let due = table.due(10, 100, 4);
        let is_lease = |due: &Due| matches!(due, Due::Lease(..));
        let kinds: Vec<bool> = due.iter().map(is_lease).collect();
        assert_eq!(kinds, [true, true, false, false]);
    }

    #[test]
    fn presence_lasts_with_whoever_kept_it_last() {
        let mut table = Table::default();
        let of = (SPACE, LeaseId(7));
        grant(&mut table, 7, true, 0);
        assert_eq!(
            table.wait_ms(0, 0),
            Some(IDLE_TIMEOUT_MS),
            "nobody keeps it yet"
        );
        table.keep(of, 1, 0).unwrap();
        assert_eq!(table.wait_ms(0, 0), None);
        table.keep(of, 2, 0).unwrap();
        assert!(!table.end_kept(1, 5));
        assert!(table.due(0, u64::MAX, 10).is_empty());
        assert!(table.end_kept(2, 5));
        assert_eq!(table.due(0, 5, 10), [Due::Lease(of.0, of.1)]);
    }
}
