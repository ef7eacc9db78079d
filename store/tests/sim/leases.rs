//! What leases, times to live, locks, transactions and patches come to: the model's own rules.

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{LeaseId, NamespaceId, Revision};
use objsync_proto::lease::{self, EntryKey, HeldLock, Hold, Lease, Member};
use objsync_proto::operation::{Edit, Fence, KeyRead, Operation, Outcome, Patch};
use objsync_proto::stored::{self, Compression};
use objsync_proto::value::{self, Value};

use crate::model::{Changes, Outcomes, State, change_to};

/// The moment of a decision.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// What the decision is known by: its revision, or what stands for it until that is known.
    pub next: Revision,
    /// The same of the decision before.
    pub last: Revision,
    /// The owner's time.
    pub now_ms: u64,
}

type Decided = (Outcomes, Changes);

impl State {
    fn entry(&self, key: &EntryKey) -> Option<&Bytes> {
        let held = self.content.get(&(NamespaceId::LEASES, key.encode()));
        held.map(|held| &held.value)
    }

    fn lease(&self, namespace: NamespaceId, lease: LeaseId) -> Option<Lease> {
        Lease::decode(self.entry(&EntryKey::Lease(namespace, lease))?)
    }

    fn hold(&self, namespace: NamespaceId, key: &Bytes) -> Option<Hold> {
        Hold::decode(self.entry(&EntryKey::Hold(namespace, key.clone()))?)
    }

    fn lock(&self, namespace: NamespaceId, name: &Bytes) -> Option<HeldLock> {
        HeldLock::decode(self.entry(&EntryKey::Lock(namespace, name.clone()))?)
    }

    /// Every lease, with its dictionary.
    pub fn leases(&self) -> impl Iterator<Item = (NamespaceId, LeaseId, Lease)> {
        self.entries(NamespaceId::LEASES).filter_map(|(key, held)| {
            let EntryKey::Lease(namespace, lease) = EntryKey::decode(key)? else {
                return None;
            };
            Some((namespace, lease, Lease::decode(&held.value)?))
        })
    }

    /// Every lock, with its dictionary.
    pub fn locks(&self) -> impl Iterator<Item = (NamespaceId, Bytes, HeldLock)> {
        self.entries(NamespaceId::LEASES).filter_map(|(key, held)| {
            let EntryKey::Lock(namespace, name) = EntryKey::decode(key)? else {
                return None;
            };
            Some((namespace, name, HeldLock::decode(&held.value)?))
        })
    }

    /// What ends with keys that are replaced or removed for good.
    pub fn released(&self, mut changes: Changes) -> Changes {
        for (namespace, change) in changes.clone() {
            if let Some(hold) = self.hold(namespace, &change.key) {
                changes.extend(let_go(namespace, &change.key, hold));
            }
        }
        changes
    }

    pub fn decide_leases(
        &self,
        namespace: NamespaceId,
        operation: &Operation,
        moment: Moment,
    ) -> Decided {
        let nothing = |outcome| (Ok(outcome), Vec::new());
        let no_lease = || (Err(ErrorKind::NotFound), Vec::new());
        match operation {
            Operation::PutLeased {
                key,
                value,
                ttl_ms,
                lease,
            } => {
                if lease.is_some_and(|lease| self.lease(namespace, lease).is_none()) {
                    return no_lease();
                }
                let put = (namespace, change_to(key, Some(value)));
                let hold = Hold {
                    deadline_ms: ttl_ms.map(|ttl_ms| moment.now_ms + ttl_ms),
                    lease: *lease,
                };
                let entry = EntryKey::Hold(namespace, key.clone());
                let mut changes = vec![put, set(&entry, hold.encode())];
                let before = self.hold(namespace, key).and_then(|before| before.lease);
                if before != *lease {
                    let member =
                        |lease| EntryKey::Member(namespace, lease, Member::Key(key.clone()));
                    changes.extend(before.map(|before| unset(&member(before))));
                    changes.extend(lease.map(|lease| set(&member(lease), lease::member_value())));
                }
                (Ok(Outcome::Done), changes)
            }
            Operation::GrantLease { ttl_ms, presence } => {
                let (ttl_ms, presence) = (*ttl_ms, *presence);
                let lease = LeaseId(moment.next.0);
                let entry = EntryKey::Lease(namespace, lease);
                let changes = vec![set(&entry, Lease { ttl_ms, presence }.encode())];
                (Ok(Outcome::Lease(lease)), changes)
            }
            Operation::RevokeLease { lease } => {
                let changes = self.end_lease(namespace, *lease);
                (Ok(Outcome::Deleted(removed(&changes))), changes)
            }
            Operation::Lock { name, lease } => match self.lock(namespace, name) {
                Some(held) if held.lease == *lease => nothing(Outcome::Locked(Some(held.fence))),
                Some(_) => nothing(Outcome::Locked(None)),
                None if self.lease(namespace, *lease).is_none() => no_lease(),
                None => {
                    let (lease, fence) = (*lease, moment.next);
                    let member = Member::Lock(name.clone());
                    let entry = EntryKey::Lock(namespace, name.clone());
                    let changes = vec![
                        set(&entry, HeldLock { lease, fence }.encode()),
                        set(
                            &EntryKey::Member(namespace, lease, member),
                            lease::member_value(),
                        ),
                    ];
                    (Ok(Outcome::Locked(Some(fence))), changes)
                }
            },
            Operation::Unlock { name, fence } => match self.lock(namespace, name) {
                Some(held) if held.fence == *fence => {
                    let member = Member::Lock(name.clone());
                    let changes = vec![
                        unset(&EntryKey::Lock(namespace, name.clone())),
                        unset(&EntryKey::Member(namespace, held.lease, member)),
                    ];
                    (Ok(Outcome::Swapped(true)), changes)
                }
                _ => nothing(Outcome::Swapped(false)),
            },
            Operation::Transact {
                reads,
                fences,
                changes,
                ..
            } => match self.refuse(namespace, (reads, fences), moment.last) {
                Some(outcome) => nothing(outcome),
                None => {
                    let changes = self.last_changes(namespace, changes);
                    (Ok(Outcome::Done), self.released(changes))
                }
            },
            Operation::Patch { key, patch } => self.patch(namespace, key, patch),
            Operation::Settle => nothing(Outcome::Done),
            other => panic!("the model does not do {other:?}"),
        }
    }

    fn refuse(
        &self,
        namespace: NamespaceId,
        (reads, fences): (&[KeyRead], &[Fence]),
        last: Revision,
    ) -> Option<Outcome> {
        let held = |name| self.lock(namespace, name).map(|held| held.fence);
        if let Some(fence) = fences.iter().find(|one| held(&one.name) != Some(one.fence)) {
            let name = fence.name.clone();
            return Some(Outcome::Fenced { name });
        }
        let present = |read: &KeyRead| {
            let held = self.content.get(&(namespace, read.key.clone()));
            held.map(|held| held.stamp)
        };
        let read = reads.iter().find(|read| present(read) != read.revision)?;
        let revision = present(read).unwrap_or(last);
        let key = read.key.clone();
        Some(Outcome::Conflict { key, revision })
    }

    fn patch(&self, namespace: NamespaceId, key: &Bytes, patch: &Patch) -> Decided {
        let held = self.content.get(&(namespace, key.clone()));
        let present = held.map(|held| value::decode(&stored::open(&held.value).unwrap()).unwrap());
        if let Edit::SetField { field, value } = &patch.edit {
            return self.set_field(namespace, key, (field, value));
        }
        let (Edit::Append { items } | Edit::Add { items } | Edit::Discard { items }) = &patch.edit
        else {
            panic!("the model does not do {patch:?}");
        };
        let items = items.iter().map(|item| value::decode(item).unwrap());
        let items: Vec<Value> = items.collect();
        let invalid = || (Err(ErrorKind::Invalid), Vec::new());
        let (count, new) = match (&patch.edit, present.clone()) {
            (Edit::Append { .. }, Some(Value::List(list))) => {
                let all: Vec<_> = list.into_iter().chain(items).collect();
                (all.len(), Value::List(all))
            }
            (Edit::Append { .. }, None) => (items.len(), Value::List(items)),
            (Edit::Append { .. }, Some(_)) => return invalid(),
            (_, Some(Value::Set(_)) | None) => {
                let before = match present {
                    Some(Value::Set(set)) => set,
                    _ => Vec::new(),
                };
                let count = before.len();
                let mut all = before;
                all.retain(|one| !items.contains(one));
                if matches!(patch.edit, Edit::Add { .. }) {
                    all.extend(items.into_iter().fold(Vec::new(), |mut all, item| {
                        if !all.contains(&item) {
                            all.push(item);
                        }
                        all
                    }));
                }
                (count.abs_diff(all.len()), Value::Set(all))
            }
            _ => return invalid(),
        };
        let outcome = Ok(Outcome::Number(count as i64));
        let is_same = match &patch.edit {
            Edit::Append { items } => items.is_empty(),
            _ => count == 0,
        };
        if is_same {
            return (outcome, Vec::new());
        }
        let payload = value::encode(&new).unwrap();
        (
            outcome,
            vec![(namespace, self.patched(namespace, key, &payload))],
        )
    }

    fn set_field(
        &self,
        namespace: NamespaceId,
        key: &Bytes,
        (field, new): (&Bytes, &Bytes),
    ) -> Decided {
        let Some(held) = self.content.get(&(namespace, key.clone())) else {
            return (Err(ErrorKind::NotFound), Vec::new());
        };
        let present = value::decode(&stored::open(&held.value).unwrap()).unwrap();
        let Value::Dict(mut fields) = present else {
            return (Err(ErrorKind::Invalid), Vec::new());
        };
        let (field, new) = (value::decode(field).unwrap(), value::decode(new).unwrap());
        let there = fields.iter_mut().find(|(name, _)| *name == field);
        let outcome = Ok(Outcome::Number(i64::from(there.is_none())));
        match there {
            Some((_, value)) if *value == new => return (outcome, Vec::new()),
            Some((_, value)) => *value = new,
            None => fields.push((field, new)),
        }
        let payload = value::encode(&Value::Dict(fields)).unwrap();
        (
            outcome,
            vec![(namespace, self.patched(namespace, key, &payload))],
        )
    }

    /// A new value, packed as the one before it.
    fn patched(&self, namespace: NamespaceId, key: &Bytes, payload: &[u8]) -> Change {
        let sealed = match self.content.get(&(namespace, key.clone())) {
            Some(held) => stored::repack(payload, &held.value, None),
            None => stored::seal(payload, Compression::None),
        };
        change_to(key, Some(&sealed.unwrap()))
    }

    fn end_lease(&self, namespace: NamespaceId, lease: LeaseId) -> Changes {
        if self.lease(namespace, lease).is_none() {
            return Vec::new();
        }
        let mut changes = vec![unset(&EntryKey::Lease(namespace, lease))];
        for (key, _) in self.entries(NamespaceId::LEASES) {
            let Some(EntryKey::Member(of, by, member)) = EntryKey::decode(key) else {
                continue;
            };
            if (of, by) != (namespace, lease) {
                continue;
            }
            changes.push((NamespaceId::LEASES, change_to(key, None)));
            match member {
                Member::Lock(name) => changes.push(unset(&EntryKey::Lock(namespace, name))),
                Member::Key(key) => {
                    changes.push((namespace, change_to(&key, None)));
                    changes.push(unset(&EntryKey::Hold(namespace, key)));
                }
            }
        }
        changes
    }

    /// What ends at a moment, together with these leases.
    pub fn ended(&self, now_ms: u64, leases: &[(NamespaceId, LeaseId)]) -> Changes {
        let mut changes = Changes::new();
        for (entry, held) in self.entries(NamespaceId::LEASES) {
            let Some(EntryKey::Hold(namespace, key)) = EntryKey::decode(entry) else {
                continue;
            };
            let hold = Hold::decode(&held.value).unwrap();
            if hold
                .deadline_ms
                .is_some_and(|deadline_ms| deadline_ms <= now_ms)
            {
                changes.push((namespace, change_to(&key, None)));
                changes.extend(let_go(namespace, &key, hold));
            }
        }
        for (namespace, lease) in leases {
            changes.extend(self.end_lease(*namespace, *lease));
        }
        let mut changes = in_order(changes);
        changes.dedup();
        changes
    }
}

/// Changes of one transaction, in an order that does not depend on who made them.
pub fn in_order(mut changes: Changes) -> Changes {
    let order = |change: &(NamespaceId, Change)| (change.0, change.1.key.clone());
    changes.sort_by_key(order);
    changes
}

pub fn removed(changes: &Changes) -> u64 {
    let keys = changes.iter().filter(|(of, _)| *of != NamespaceId::LEASES);
    keys.count() as u64
}

fn let_go(namespace: NamespaceId, key: &Bytes, hold: Hold) -> Changes {
    let member = |lease| EntryKey::Member(namespace, lease, Member::Key(key.clone()));
    let entry = unset(&EntryKey::Hold(namespace, key.clone()));
    let member = hold.lease.map(|lease| unset(&member(lease)));
    [entry].into_iter().chain(member).collect()
}

fn set(entry: &EntryKey, value: Bytes) -> (NamespaceId, Change) {
    (
        NamespaceId::LEASES,
        change_to(&entry.encode(), Some(&value)),
    )
}

fn unset(entry: &EntryKey) -> (NamespaceId, Change) {
    (NamespaceId::LEASES, change_to(&entry.encode(), None))
}
