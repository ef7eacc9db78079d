//! Leases, times to live and locks: entries of [`NamespaceId::LEASES`], written beside what they
//! are about.
//!
//! Invariants
//! * A key that is held by a lease, and a lock, has an entry as a member of that lease, so that the
//!   lease's end finds it.
//! * A lease ends in one transaction, with all its members.

use bytes::Bytes;

use super::transact::held;
use super::{Changes, Decision, Leased, Place, decided};
use crate::effect::Change;
use crate::error::{ErrorKind, Failure};
use crate::ids::{LeaseId, NamespaceId, Revision};
use crate::lease::{self, EntryKey, HeldLock, Hold, Lease, Member};
use crate::limits::{
    LEASE_MEMBERS_MAX, LEASED_BYTES_MAX, LEASED_KEYS_MAX, LEASED_LITTLE_SHARE,
    LEASED_RESERVE_SHARE, LEASES_MAX,
};
use crate::operation::Outcome;

/// Puts a value that ends.
pub(super) fn put<E>(
    change: (NamespaceId, Change),
    ttl_ms: Option<u64>,
    lease: Option<LeaseId>,
    place: &Place<'_, E>,
) -> Result<Decision, E> {
    let key = change.1.key.clone();
    let before = hold(&key, place)?;
    if let (None, Err(failure)) = (before, room_for(&key, place)) {
        return Ok(Err(failure));
    }
    let hold = Hold {
        deadline_ms: ttl_ms.map(|ttl_ms| place.view.now_ms().saturating_add(ttl_ms)),
        lease,
    };
    let entry = EntryKey::Hold(place.namespace, key.clone());
    let mut changes = vec![change, set(&entry, hold.encode())];
    let left = before.and_then(|before| before.lease);
    if let Some(left) = left.filter(|left| Some(*left) != lease) {
        let member = Member::Key(key.clone());
        changes.push(unset(&EntryKey::Member(place.namespace, left, member)));
    }
    if let Some(lease) = lease {
        match join(lease, Member::Key(key), place)? {
            Ok(joined) => changes.extend(joined),
            Err(failure) => return Ok(Err(failure)),
        }
    }
    Ok(decided(Outcome::Done, changes))
}

pub(super) fn grant<E>(ttl_ms: u64, presence: bool, place: &Place<'_, E>) -> Result<Decision, E> {
    let (all, own) = leased(place);
    if let Err(failure) = room("leases", (all.leases, own.leases), 1, LEASES_MAX) {
        return Ok(Err(failure));
    }
    let id = LeaseId(place.view.revision().0);
    let lease = Lease { ttl_ms, presence };
    let entry = EntryKey::Lease(place.namespace, id);
    Ok(decided(
        Outcome::Lease(id),
        vec![set(&entry, lease.encode())],
    ))
}

fn leased<E>(place: &Place<'_, E>) -> (Leased, Leased) {
    (place.view.leased(), place.view.leased_of(place.namespace))
}

/// That one more key of a dictionary can have an end.
fn room_for<E>(key: &Bytes, place: &Place<'_, E>) -> Result<(), Failure> {
    let (all, own) = leased(place);
    let bytes = key.len() as u64;
    room("keys that end", (all.keys, own.keys), 1, LEASED_KEYS_MAX)?;
    let used = (all.key_bytes, own.key_bytes);
    room("bytes of keys that end", used, bytes, LEASED_BYTES_MAX)
}

/// That a dictionary can have so much more, where the store and it have so much. One dictionary
/// cannot take everything: what is last is left to those that have little.
fn room(what: &str, (all, own): (u64, u64), more: u64, all_max: u64) -> Result<(), Failure> {
    let reserve = all_max / LEASED_RESERVE_SHARE;
    let little = all_max / LEASED_LITTLE_SHARE;
    let all_after = all.saturating_add(more);
    let has_little = own.saturating_add(more) <= little;
    if all_after <= all_max - reserve || (has_little && all_after <= all_max) {
        return Ok(());
    }
    let text = format!(
        "store has {all} {what}, {own} of them of this dictionary; the limit is {all_max}, and the \
         last {reserve} are for dictionaries with at most {little}"
    );
    Err(Failure::new(ErrorKind::Full, text))
}

pub(super) fn revoke<E>(lease: LeaseId, place: &Place<'_, E>) -> Result<Decision, E> {
    let changes = end(lease, place)?;
    Ok(decided(removed(&changes), changes))
}

pub(super) fn lock<E>(name: &Bytes, lease: LeaseId, place: &Place<'_, E>) -> Result<Decision, E> {
    if let Some(holder) = held(name, place)? {
        if holder.lease == lease {
            return Ok(decided(Outcome::Locked(Some(holder.fence)), Vec::new()));
        }
        if is_lasting(holder.lease, place)? {
            return Ok(decided(Outcome::Locked(None), Vec::new()));
        }
    }
    let joined = match join(lease, Member::Lock(name.clone()), place)? {
        Ok(joined) => joined,
        Err(failure) => return Ok(Err(failure)),
    };
    let fence = place.view.revision();
    let entry = EntryKey::Lock(place.namespace, name.clone());
    let mut changes = vec![set(&entry, HeldLock { lease, fence }.encode())];
    changes.extend(joined);
    Ok(decided(Outcome::Locked(Some(fence)), changes))
}

pub(super) fn unlock<E>(
    name: &Bytes,
    fence: Revision,
    place: &Place<'_, E>,
) -> Result<Decision, E> {
    let holder = held(name, place)?.filter(|holder| holder.fence == fence);
    let Some(holder) = holder else {
        return Ok(decided(Outcome::Swapped(false), Vec::new()));
    };
    let member = Member::Lock(name.clone());
    let changes = vec![
        unset(&EntryKey::Lock(place.namespace, name.clone())),
        unset(&EntryKey::Member(place.namespace, holder.lease, member)),
    ];
    Ok(decided(Outcome::Swapped(true), changes))
}

/// Adds what ends of the times that keys stay, for keys that are changed for good.
pub(super) fn release<E>(changes: &mut Changes, place: &Place<'_, E>) -> Result<(), E> {
    for at in 0..changes.len() {
        let key = changes[at].1.key.clone();
        if let Some(hold) = hold(&key, place)? {
            changes.extend(let_go(key, hold, place.namespace));
        }
    }
    Ok(())
}

/// What the end of a lease removes: its keys first. Nothing when there is no such lease.
pub(super) fn end<E>(lease: LeaseId, place: &Place<'_, E>) -> Result<Changes, E> {
    if !is_lasting(lease, place)? {
        return Ok(Vec::new());
    }
    let namespace = place.namespace;
    let range = lease::members(namespace, lease);
    let members = place
        .view
        .keys(NamespaceId::LEASES, &range, LEASE_MEMBERS_MAX)?;
    let mut changes = Vec::new();
    for encoded in members {
        if let Some(EntryKey::Member(_, _, member)) = EntryKey::decode(&encoded) {
            changes.extend(end_member(member, lease, place)?);
        }
        let (key, value) = (encoded, None);
        changes.push((NamespaceId::LEASES, Change { key, value }));
    }
    changes.push(unset(&EntryKey::Lease(namespace, lease)));
    // Keys of the dictionary first.
    changes.sort_by_key(|(namespace, _)| *namespace == NamespaceId::LEASES);
    Ok(changes)
}

/// What the end of a lease removes of one member, but the entry of that itself.
fn end_member<E>(member: Member, lease: LeaseId, place: &Place<'_, E>) -> Result<Changes, E> {
    let namespace = place.namespace;
    let mut changes = Vec::new();
    match member {
        Member::Key(key) => {
            let hold = hold(&key, place)?;
            if hold.is_some_and(|hold| hold.lease == Some(lease)) {
                changes.extend(place.get(&key)?.map(|_| place.remove(&key)));
                changes.push(unset(&EntryKey::Hold(namespace, key)));
            }
        }
        Member::Lock(name) => {
            let holder = held(&name, place)?;
            let is_held = holder.is_some_and(|holder| holder.lease == lease);
            changes.extend(is_held.then(|| unset(&EntryKey::Lock(namespace, name))));
        }
    }
    Ok(changes)
}

/// What is said of the time that a key stays.
pub(super) fn hold<E>(key: &Bytes, place: &Place<'_, E>) -> Result<Option<Hold>, E> {
    if place.view.leased().keys == 0 {
        return Ok(None);
    }
    let value = place.entry(&EntryKey::Hold(place.namespace, key.clone()))?;
    Ok(value.and_then(|value| Hold::decode(&value)))
}

/// The removal of a hold and, if it is a lease's, of the member.
pub(super) fn let_go(
    key: Bytes,
    hold: Hold,
    namespace: NamespaceId,
) -> impl Iterator<Item = (NamespaceId, Change)> {
    let entry = unset(&EntryKey::Hold(namespace, key.clone()));
    let member = hold.lease.map(|lease| {
        let member = Member::Key(key);
        unset(&EntryKey::Member(namespace, lease, member))
    });
    [entry].into_iter().chain(member)
}

/// How many keys of dictionaries are among what is removed.
pub(super) fn removed(changes: &Changes) -> Outcome {
    let keys = changes
        .iter()
        .filter(|(namespace, _)| *namespace != NamespaceId::LEASES);
    Outcome::Deleted(keys.count() as u64)
}

/// Makes something end with a lease; the change that says so, if nothing says it yet.
fn join<E>(
    lease: LeaseId,
    member: Member,
    place: &Place<'_, E>,
) -> Result<Result<Option<(NamespaceId, Change)>, Failure>, E> {
    if !is_lasting(lease, place)? {
        let text = format!(
            "lease {} has ended, or never was in this dictionary",
            lease.0
        );
        return Ok(Err(Failure::new(ErrorKind::NotFound, text)));
    }
    let entry = EntryKey::Member(place.namespace, lease, member);
    if place.entry(&entry)?.is_some() {
        return Ok(Ok(None));
    }
    let range = lease::members(place.namespace, lease);
    let members = place
        .view
        .keys(NamespaceId::LEASES, &range, LEASE_MEMBERS_MAX)?;
    if members.len() >= LEASE_MEMBERS_MAX as usize {
        let text = format!(
            "lease {} has {} keys and locks; the limit is {LEASE_MEMBERS_MAX}",
            lease.0,
            members.len()
        );
        return Ok(Err(Failure::new(ErrorKind::Full, text)));
    }
    Ok(Ok(Some(set(&entry, lease::member_value()))))
}

fn is_lasting<E>(lease: LeaseId, place: &Place<'_, E>) -> Result<bool, E> {
    let entry = EntryKey::Lease(place.namespace, lease);
    Ok(place.entry(&entry)?.is_some())
}

fn set(entry: &EntryKey, value: Bytes) -> (NamespaceId, Change) {
    let change = Change {
        key: entry.encode(),
        value: Some(value),
    };
    (NamespaceId::LEASES, change)
}

fn unset(entry: &EntryKey) -> (NamespaceId, Change) {
    let change = Change {
        key: entry.encode(),
        value: None,
    };
    (NamespaceId::LEASES, change)
}
