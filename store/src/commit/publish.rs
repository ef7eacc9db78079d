//! Committing a batch: readers, followers and sessions learn of it, in this order.

use std::collections::VecDeque;

use bytes::Bytes;
use objsync_proto::effect::{Cause, Change};
use objsync_proto::ids::{NamespaceId, Revision};
use objsync_proto::session::Recorded;

use super::batch::{Batch, Decision, Event, What};
use crate::core::Core;
use crate::feed::Published;
use crate::sessions::SessionEvent;

impl Core {
    /// Makes what was appended, and whose level is reached, visible.
    pub(super) fn publish(&self, batch: &mut Batch) {
        let decisions = || {
            batch
                .decided
                .iter()
                .filter_map(|decided| match &decided.what {
                    What::Transaction(decision) => Some(decision),
                    _ => None,
                })
        };
        self.keep_events(batch);
        let Some(last) = decisions().next_back().map(|decision| decision.revision) else {
            return;
        };
        let durable = self.open.durable();
        let committed = self.authority.committed(batch.level, last, durable);
        debug_assert!(committed >= last, "the batch was synced if it asked for it");
        let keeps_old = self.feed.keeps_old();
        let mut old = VecDeque::new();
        for decision in decisions() {
            if keeps_old {
                old.push_back(self.old_values(&decision.changes));
            }
            self.apply_changes(decision.revision, &decision.changes);
        }
        self.state.publish(last);
        self.end_of_leases(decisions());
        for decision in decisions() {
            for (namespace, change) in &decision.changes {
                self.stamps.bump(*namespace, &change.key);
            }
        }
        self.keep_results(batch, decisions());
        let time_ms = batch.time_ms;
        let published = batch
            .decided
            .iter_mut()
            .filter_map(|decided| match &mut decided.what {
                What::Transaction(decision) => {
                    let changes = std::mem::take(&mut decision.changes);
                    let origin = decision.origin.map(|(origin, _)| origin);
                    let published = Published::new(
                        decision.revision,
                        time_ms,
                        (origin, decision.cause),
                        changes,
                    );
                    let published = published.with_patches(std::mem::take(&mut decision.patches));
                    Some(published.with_old(old.pop_front().unwrap_or_default()))
                }
                _ => None,
            });
        self.feed.publish(published);
        if durable >= last {
            self.index_may_follow();
        }
    }

    /// What the keys of a transaction hold before it is applied. Followers can live without.
    pub(crate) fn old_values(&self, changes: &[(NamespaceId, Change)]) -> Vec<Option<Bytes>> {
        let held = |(namespace, change): &(NamespaceId, Change)| {
            let stored = self.state.get_latest(*namespace, &change.key).ok()??;
            Some(stored.value)
        };
        changes.iter().map(held).collect()
    }

    /// Puts the changes of a transaction into the state, where nobody sees them yet.
    pub(crate) fn apply_changes(&self, revision: Revision, changes: &[(NamespaceId, Change)]) {
        match changes {
            [(namespace, change)] => {
                self.state
                    .apply(revision, *namespace, &change.key, change.value.clone());
            }
            changes => self.state.apply_all(revision, changes.to_vec()),
        }
        let catalog = |(of, _): &&(_, _)| *of == NamespaceId::CATALOG;
        for (_, change) in changes.iter().filter(catalog) {
            self.catalog_mut().apply(change);
        }
    }

    /// Those who wait for a lock, or for the time at which something ends, learn of it.
    fn end_of_leases<'a>(&self, decisions: impl Iterator<Item = &'a Decision>) {
        let (mut is_sooner, mut freed) = (false, Vec::new());
        for decision in decisions {
            let entries = decision.changes.iter();
            for (_, change) in entries.filter(|(of, _)| *of == NamespaceId::LEASES) {
                let applied = self.leases.apply(change, self.clock.monotonic_ms());
                is_sooner |= applied.is_sooner;
                freed.extend(applied.freed);
            }
            if decision.cause == Cause::Expiry {
                self.leases.go_on();
            }
        }
        if is_sooner {
            self.queue.look();
        }
        if !freed.is_empty() {
            self.leases.tell_unlocked(&freed);
        }
    }

    fn keep_results<'a>(&self, batch: &Batch, decisions: impl Iterator<Item = &'a Decision>) {
        let mut with_origin = decisions
            .filter_map(|decision| Some((decision, decision.origin?)))
            .peekable();
        if with_origin.peek().is_none() {
            return;
        }
        let mut system = self.system();
        for (decision, (origin, floor)) in with_origin {
            let recorded = Recorded {
                result: decision.result.clone(),
                revision: decision.revision,
                epoch: self.epoch(),
            };
            system
                .sessions
                .finish(origin, floor, recorded, batch.time_ms);
        }
    }

    fn keep_events(&self, batch: &Batch) {
        let events = batch
            .decided
            .iter()
            .filter_map(|decided| match &decided.what {
                What::Event(event) => Some(event),
                _ => None,
            });
        for event in events {
            let mut system = self.system();
            match event {
                Event::Session(id, SessionEvent::Opened(peer), _) => {
                    system.sessions.open(*id, *peer, batch.time_ms);
                }
                Event::Session(_, SessionEvent::Closed(id), _) => {
                    system.sessions.close(*id);
                }
                Event::Grant(event, _) => system.grants.apply(event.clone()),
                Event::End => {}
            }
        }
    }

    /// The last revision that readers see.
    pub(crate) fn committed(&self) -> Revision {
        self.state.committed()
    }
}
