//! A store in memory that decides by the rules.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound;

use bytes::Bytes;

use crate::evaluate::{
    Changed, Decided, Decision, Due, Expired, Leased, Present, Ranges, View, evaluate, expire,
};
use crate::ids::{NamespaceId, Revision};
use crate::operation::Operation;
use crate::wire::KeyRange;

/// The dictionary that is asked.
pub(super) const SPACE: NamespaceId = NamespaceId::DEFAULT;

#[derive(Debug, Clone, Default)]
pub(super) struct World {
    content: BTreeMap<(NamespaceId, Bytes), Present>,
    changed: Vec<(NamespaceId, Bytes, Revision)>,
    pub(super) last: Revision,
    pub(super) now_ms: u64,
    /// Changes up to here are not known any more.
    pub(super) forgotten: Revision,
    /// What it says it has of leases, at least.
    pub(super) leased_min: Leased,
    /// What it says that the dictionary has of these.
    pub(super) leased_own: Leased,
}

impl World {
    pub(super) fn with(entries: impl IntoIterator<Item = (Bytes, Bytes)>) -> Self {
        let mut world = Self::default();
        for (key, value) in entries {
            let revision = Revision(0);
            world
                .content
                .insert((SPACE, key), Present { value, revision });
        }
        world
    }

    /// Turns a bit of an entry's value.
    pub(super) fn damage(&mut self, namespace: NamespaceId, key: &Bytes) {
        let present = self.content.get_mut(&(namespace, key.clone())).unwrap();
        let mut value = present.value.to_vec();
        let middle = value.len() / 2;
        value[middle] ^= 1;
        present.value = value.into();
    }

    pub(super) fn decide(&self, operation: &Operation) -> Decision {
        evaluate(SPACE, operation, self).unwrap_or_else(|never| match never {})
    }

    /// Decides, and does what was decided.
    pub(super) fn run(&mut self, operation: &Operation) -> Decision {
        let decision = self.decide(operation);
        if let Ok(decided) = &decision {
            self.apply(decided);
        }
        decision
    }

    pub(super) fn expire(&mut self, due: &[Due]) -> (Decided, usize) {
        let Expired {
            decided,
            count,
            failed: _none,
        } = expire(due, self);
        self.apply(&decided);
        (decided, count)
    }

    fn apply(&mut self, decided: &Decided) {
        let revision = self.revision();
        for (namespace, change) in &decided.changes {
            let key = (*namespace, change.key.clone());
            self.changed
                .push((*namespace, change.key.clone(), revision));
            match change.value.clone() {
                Some(value) => self.content.insert(key, Present { value, revision }),
                None => self.content.remove(&key),
            };
        }
        if !decided.changes.is_empty() {
            self.last = revision;
        }
    }

    pub(super) fn entries(&self, of: NamespaceId) -> impl Iterator<Item = (Bytes, Bytes)> {
        let inside = self.content.iter().filter(move |((at, _), _)| *at == of);
        inside.map(|((_, key), present)| (key.clone(), present.value.clone()))
    }
}

impl View for World {
    type Error = Infallible;

    fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Present>, Infallible> {
        let key = Bytes::copy_from_slice(key);
        Ok(self.content.get(&(namespace, key)).cloned())
    }

    fn keys(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        count_max: u32,
    ) -> Result<Vec<Bytes>, Infallible> {
        let from = Bound::Included((namespace, range.start.clone()));
        let inside = self.content.range((from, Bound::Unbounded));
        let inside = inside.map(|((of, key), _)| (*of, key));
        let inside = inside.take_while(|(of, key)| *of == namespace && range.contains(key));
        let keys = inside.map(|(_, key)| key.clone());
        Ok(keys.take(count_max as usize).collect())
    }

    fn changed(
        &self,
        namespace: NamespaceId,
        after: Revision,
        ranges: &Ranges,
    ) -> Result<Changed, Infallible> {
        if after < self.forgotten {
            let oldest = self.last;
            return Ok(Changed::Unknown { oldest });
        }
        let mut later = self.changed.iter().filter(|(of, key, revision)| {
            *of == namespace && *revision > after && ranges.contains(key)
        });
        Ok(match later.next() {
            Some((_, key, revision)) => Changed::Key(key.clone(), *revision),
            None => Changed::Nothing,
        })
    }

    fn leased(&self) -> Leased {
        Leased {
            keys: (self.entries(NamespaceId::LEASES).count() as u64).max(self.leased_min.keys),
            ..self.leased_min
        }
    }

    fn leased_of(&self, _namespace: NamespaceId) -> Leased {
        self.leased_own
    }

    fn revision(&self) -> Revision {
        self.last.next()
    }

    fn last(&self) -> Revision {
        self.last
    }

    fn now_ms(&self) -> u64 {
        self.now_ms
    }
}
