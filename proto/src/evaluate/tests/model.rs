//! A store as the rules promise it: dictionaries, leases, locks and deadlines as plain maps, and
//! never an entry of `NamespaceId::LEASES`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::world::World;
use crate::effect::Change;
use crate::evaluate::Due;
use crate::ids::{LeaseId, NamespaceId, Revision};
use crate::lease::{EntryKey, HeldLock, Hold, Lease, Member};
use crate::operation::{Edit, Operation, Outcome, Patch};
use crate::stored::{self, Compression};
use crate::value::{self, Value};

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) value: Bytes,
    revision: Revision,
    deadline_ms: Option<u64>,
    lease: Option<LeaseId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Model {
    pub(super) keys: BTreeMap<Bytes, Kept>,
    leases: BTreeMap<LeaseId, (u64, bool)>,
    locks: BTreeMap<Bytes, (LeaseId, Revision)>,
    /// Every change of a key there ever was.
    changed: Vec<(Bytes, Revision)>,
    pub(super) last: Revision,
}

impl Model {
    fn set(&mut self, key: &Bytes, value: &Bytes, next: Revision) -> &mut Kept {
        self.changed.push((key.clone(), next));
        let kept = Kept {
            value: value.clone(),
            revision: next,
            deadline_ms: None,
            lease: None,
        };
        let slot = self.keys.entry(key.clone()).or_insert_with(|| kept.clone());
        *slot = kept;
        slot
    }

    fn remove(&mut self, key: &Bytes, next: Revision) -> u64 {
        let was_there = self.keys.remove(key).is_some();
        if was_there {
            self.changed.push((key.clone(), next));
        }
        u64::from(was_there)
    }

    /// A part of the value changes: when the key ends does not.
    fn change(&mut self, key: &Bytes, value: &Bytes, next: Revision) {
        let before = self.keys.get(key).cloned();
        let kept = self.set(key, value, next);
        if let Some(before) = before {
            kept.deadline_ms = before.deadline_ms;
            kept.lease = before.lease;
        }
    }

    fn apply(&mut self, changes: &[Change], next: Revision) {
        for (place, change) in changes.iter().enumerate() {
            if changes[place + 1..]
                .iter()
                .any(|later| later.key == change.key)
            {
                continue;
            }
            match &change.value {
                Some(value) => drop(self.set(&change.key, value, next)),
                None => drop(self.remove(&change.key, next)),
            }
        }
    }

    fn end_lease(&mut self, lease: LeaseId, next: Revision) -> u64 {
        if self.leases.remove(&lease).is_none() {
            return 0;
        }
        self.locks.retain(|_, (holder, _)| *holder != lease);
        let held = self
            .keys
            .iter()
            .filter(|(_, kept)| kept.lease == Some(lease));
        let held: Vec<Bytes> = held.map(|(key, _)| key.clone()).collect();
        held.iter().map(|key| self.remove(key, next)).sum()
    }

    /// What the operation promises, done directly; none when it is refused.
    pub(super) fn run(
        &mut self,
        operation: &Operation,
        next: Revision,
        now_ms: u64,
    ) -> Option<Outcome> {
        match operation {
            Operation::Put { key, value } => drop(self.set(key, value, next)),
            Operation::Delete { key } => return Some(Outcome::Deleted(self.remove(key, next))),
            Operation::DeleteRange {
                start,
                end,
                count_max,
            } => {
                let inside =
                    |key: &&Bytes| *key >= start && end.as_ref().is_none_or(|end| *key < end);
                let keys = self.keys.keys().filter(inside).take(*count_max as usize);
                let keys: Vec<Bytes> = keys.cloned().collect();
                let removed = keys.iter().map(|key| self.remove(key, next)).sum();
                return Some(Outcome::Deleted(removed));
            }
            Operation::CompareAndSet { key, expected, new } => {
                let present = self
                    .keys
                    .get(key)
                    .map(|kept| stored::open(&kept.value).unwrap());
                if present != *expected {
                    return Some(Outcome::Swapped(false));
                }
                let (key, value) = (key.clone(), new.clone());
                self.apply(&[Change { key, value }], next);
                return Some(Outcome::Swapped(true));
            }
            Operation::Increment { key, by } => {
                let present = match self.keys.get(key) {
                    Some(kept) => {
                        rmp_serde::from_slice(&stored::open(&kept.value).unwrap()).ok()?
                    }
                    None => 0_i64,
                };
                let sum = present.checked_add(*by)?;
                self.change(key, &super::int(sum), next);
                return Some(Outcome::Number(sum));
            }
            Operation::Batch { changes } => self.apply(changes, next),
            Operation::Transact { changes, .. } => {
                if let Some(refused) = self.refuse(operation) {
                    return Some(refused);
                }
                self.apply(changes, next);
            }
            Operation::Patch { key, patch } => return self.patch(key, patch, next),
            Operation::PutLeased {
                key,
                value,
                ttl_ms,
                lease,
            } => {
                if lease.is_some_and(|lease| !self.leases.contains_key(&lease)) {
                    return None;
                }
                let kept = self.set(key, value, next);
                kept.deadline_ms = ttl_ms.map(|ttl_ms| now_ms + ttl_ms);
                kept.lease = *lease;
            }
            Operation::GrantLease { ttl_ms, presence } => {
                let id = LeaseId(next.0);
                self.leases.insert(id, (*ttl_ms, *presence));
                return Some(Outcome::Lease(id));
            }
            Operation::RevokeLease { lease } => {
                return Some(Outcome::Deleted(self.end_lease(*lease, next)));
            }
            Operation::Lock { name, lease } => return self.lock(name, *lease, next),
            Operation::Unlock { name, fence } => {
                let is_held = self.locks.get(name).is_some_and(|(_, held)| held == fence);
                if is_held {
                    self.locks.remove(name);
                }
                return Some(Outcome::Swapped(is_held));
            }
            Operation::Settle => {}
            Operation::AddDictionary { .. } => unreachable!("see tests/dictionaries.rs"),
        }
        Some(Outcome::Done)
    }

    /// Why a transaction does not happen.
    fn refuse(&self, operation: &Operation) -> Option<Outcome> {
        let Operation::Transact {
            reads,
            ranges,
            at,
            fences,
            ..
        } = operation
        else {
            return None;
        };
        for fence in fences {
            if self.locks.get(&fence.name).map(|(_, held)| *held) != Some(fence.fence) {
                let name = fence.name.clone();
                return Some(Outcome::Fenced { name });
            }
        }
        for read in reads {
            let present = self.keys.get(&read.key).map(|kept| kept.revision);
            if present != read.revision {
                let key = read.key.clone();
                let revision = present.unwrap_or(self.last);
                return Some(Outcome::Conflict { key, revision });
            }
        }
        let is_read = |key: &Bytes| ranges.iter().any(|range| range.contains(key));
        let mut later = self.changed.iter().filter(|(_, revision)| revision > at);
        let (key, revision) = later.find(|(key, _)| is_read(key))?.clone();
        Some(Outcome::Conflict { key, revision })
    }

    fn patch(&mut self, key: &Bytes, patch: &Patch, next: Revision) -> Option<Outcome> {
        let present = self.keys.get(key);
        let present =
            present.map(|kept| value::decode(&stored::open(&kept.value).unwrap()).unwrap());
        let (Edit::Append { items } | Edit::Add { items } | Edit::Discard { items }) = &patch.edit
        else {
            panic!("the model does not do {patch:?}");
        };
        let items: Vec<Value> = items
            .iter()
            .map(|item| value::decode(item).unwrap())
            .collect();
        let is_same = |one: &Value, other: &Value| number(one) == number(other);
        let (count, new) = match (&patch.edit, present) {
            (Edit::Append { .. }, None) => (items.len(), Value::List(items.clone())),
            (Edit::Append { .. }, Some(Value::List(mut list))) => {
                list.extend(items.iter().cloned());
                (list.len(), Value::List(list))
            }
            (Edit::Append { .. }, Some(_)) => return None,
            (_, Some(Value::Set(_)) | None) => {
                let mut set = match self.keys.get(key) {
                    Some(kept) => match value::decode(&stored::open(&kept.value).unwrap()).unwrap()
                    {
                        Value::Set(set) => set,
                        _ => return None,
                    },
                    None => Vec::new(),
                };
                let before = set.len();
                for item in &items {
                    let is_there = set.iter().any(|one| is_same(one, item));
                    match patch.edit {
                        Edit::Add { .. } if !is_there => set.push(item.clone()),
                        Edit::Discard { .. } => set.retain(|one| !is_same(one, item)),
                        _ => {}
                    }
                }
                (before.abs_diff(set.len()), Value::Set(set))
            }
            _ => return None,
        };
        let is_change = match patch.edit {
            Edit::Append { .. } => !items.is_empty(),
            _ => count > 0,
        };
        if is_change {
            let sealed = stored::seal(&value::encode(&new).unwrap(), Compression::None).unwrap();
            self.change(key, &sealed, next);
        }
        Some(Outcome::Number(i64::try_from(count).unwrap()))
    }

    fn lock(&mut self, name: &Bytes, lease: LeaseId, next: Revision) -> Option<Outcome> {
        if let Some((holder, fence)) = self.locks.get(name) {
            let fence = (*holder == lease).then_some(*fence);
            return Some(Outcome::Locked(fence));
        }
        if !self.leases.contains_key(&lease) {
            return None;
        }
        self.locks.insert(name.clone(), (lease, next));
        Some(Outcome::Locked(Some(next)))
    }

    /// What ends when these have had their time.
    pub(super) fn expire(&mut self, due: &[Due], next: Revision, now_ms: u64) -> u64 {
        let mut removed = 0;
        for one in due {
            removed += match one {
                Due::Lease(_, lease) => self.end_lease(*lease, next),
                Due::Key(_, key) => {
                    let kept = self.keys.get(key);
                    let deadline_ms = kept.and_then(|kept| kept.deadline_ms);
                    match deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms) {
                        true => self.remove(key, next),
                        false => 0,
                    }
                }
            };
        }
        removed
    }

    /// The same as the entries that the rules write.
    pub(super) fn compare(&self, world: &World, namespace: NamespaceId) {
        let mut entries = BTreeSet::new();
        let mut entry = |key: EntryKey, value: Bytes| {
            assert!(entries.insert((key.encode(), value)), "entries differ");
        };
        for (lease, (ttl_ms, presence)) in &self.leases {
            let (ttl_ms, presence) = (*ttl_ms, *presence);
            let value = Lease { ttl_ms, presence }.encode();
            entry(EntryKey::Lease(namespace, *lease), value);
        }
        for (key, kept) in &self.keys {
            let hold = Hold {
                deadline_ms: kept.deadline_ms,
                lease: kept.lease,
            };
            if hold.deadline_ms.is_some() || hold.lease.is_some() {
                entry(EntryKey::Hold(namespace, key.clone()), hold.encode());
            }
            if let Some(lease) = hold.lease {
                let member = EntryKey::Member(namespace, lease, Member::Key(key.clone()));
                entry(member, crate::lease::member_value());
            }
        }
        for (name, (lease, fence)) in &self.locks {
            let (lease, fence) = (*lease, *fence);
            let held = HeldLock { lease, fence }.encode();
            entry(EntryKey::Lock(namespace, name.clone()), held);
            let member = EntryKey::Member(namespace, lease, Member::Lock(name.clone()));
            entry(member, crate::lease::member_value());
        }
        let of = |namespace| world.entries(namespace).collect::<BTreeSet<_>>();
        assert_eq!(of(NamespaceId::LEASES), entries);
        let keys = self.keys.iter();
        let keys: BTreeSet<_> = keys
            .map(|(key, kept)| (key.clone(), kept.value.clone()))
            .collect();
        assert_eq!(of(namespace), keys);
    }
}

/// What numbers have in common that Python takes for one.
fn number(value: &Value) -> Value {
    match value {
        Value::Bool(truth) => Value::Int(i128::from(*truth)),
        #[expect(clippy::cast_possible_truncation, reason = "only small ones are made")]
        Value::Float(float) if float.fract().abs() < f64::EPSILON => Value::Int(*float as i128),
        other => other.clone(),
    }
}
