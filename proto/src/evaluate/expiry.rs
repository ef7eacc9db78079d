//! The end of what has had its time: a transaction of its own, which nobody asked for.

use std::collections::HashSet;

use bytes::Bytes;

use super::{Changes, Decided, Place, View, leases};
use crate::effect::{Cause, Change};
use crate::ids::{LeaseId, NamespaceId};
use crate::limits::EXPIRY_COUNT_MAX;

/// What may have had its time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Due {
    /// A key with a deadline. It is looked at again: a later write may have moved that.
    Key(NamespaceId, Bytes),
    /// A lease that nobody has kept.
    Lease(NamespaceId, LeaseId),
}

/// What the end of some of what is due comes to.
#[derive(Debug)]
pub struct Expired<E> {
    /// The transaction. Without changes, none of them had its time.
    pub decided: Decided,
    /// How many of what is due it is about, from the first on.
    pub count: usize,
    /// Those of them that could not be looked at, and why. They are left as they are.
    pub failed: Vec<(Due, E)>,
}

/// Decides the end of the first of `due`: as many as fit into one transaction. What cannot be
/// read keeps nothing else from its end.
pub fn expire<E>(due: &[Due], view: &dyn View<Error = E>) -> Expired<E> {
    let mut changes = Changes::new();
    let mut seen = HashSet::new();
    let mut failed = Vec::new();
    let mut count = 0;
    for one in due {
        let ended = match end(one, view) {
            Ok(ended) => ended,
            Err(error) => {
                count += 1;
                failed.push((one.clone(), error));
                continue;
            }
        };
        if !changes.is_empty() && changes.len() + ended.len() > CHANGES_MAX {
            break;
        }
        count += 1;
        // A key can have had its time together with its lease.
        let is_new = |(namespace, change): &(NamespaceId, Change)| {
            seen.insert((*namespace, change.key.clone()))
        };
        changes.extend(ended.into_iter().filter(is_new));
    }
    changes.sort_by_key(|(namespace, _)| *namespace == NamespaceId::LEASES);
    let outcome = leases::removed(&changes);
    let cause = Cause::Expiry;
    let decided = Decided {
        outcome,
        cause,
        changes,
        patches: Vec::new(),
    };
    Expired {
        decided,
        count,
        failed,
    }
}

/// Each key that ends is three changes at most: its own, its hold's, its member's.
const CHANGES_MAX: usize = 3 * EXPIRY_COUNT_MAX;

fn end<E>(due: &Due, view: &dyn View<Error = E>) -> Result<Changes, E> {
    match due {
        Due::Key(namespace, key) => {
            let namespace = *namespace;
            let place = Place { view, namespace };
            let is_over = |deadline_ms: u64| deadline_ms <= view.now_ms();
            let hold = leases::hold(key, &place)?;
            let Some(hold) = hold.filter(|hold| hold.deadline_ms.is_some_and(is_over)) else {
                return Ok(Vec::new());
            };
            let key_itself = place.get(key)?.map(|_| place.remove(key));
            let entries = leases::let_go(key.clone(), hold, namespace);
            Ok(key_itself.into_iter().chain(entries).collect())
        }
        Due::Lease(namespace, lease) => {
            let namespace = *namespace;
            leases::end(*lease, &Place { view, namespace })
        }
    }
}
