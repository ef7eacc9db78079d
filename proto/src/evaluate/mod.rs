//! Deciding operations: what a request comes to, given what the dictionary holds.
//!
//! Pure: the owner calls [`evaluate`] in the order of its log, and what is logged is the decision,
//! never the request, so replay and peers need none of these rules.
//!
//! | file | what |
//! |---|---|
//! | `check.rs` | what can be refused without a look |
//! | `plain.rs` | puts, removals, counters, batches |
//! | `transact.rs` | transactions with what they have read |
//! | `patch.rs` | changes of a part of a value |
//! | `leases.rs` | leases, times to live, locks |
//! | `expiry.rs` | the end of what has had its time |
//! | `dictionaries.rs` | dictionaries, and values that need one |

mod check;
mod dictionaries;
mod expiry;
mod leases;
mod patch;
mod plain;
mod transact;

use std::sync::Arc;

use bytes::Bytes;

use crate::dictionary::{Dictionary, DictionaryId};
use crate::effect::{Cause, Change, KeyPatch};
use crate::error::{ErrorKind, Failure};
use crate::ids::{NamespaceId, Revision};
use crate::key;
use crate::lease::EntryKey;
use crate::operation::{Operation, Outcome};
use crate::stored;
use crate::wire::KeyRange;

pub use check::{CHANGE_OVERHEAD_BYTES, change_bytes, check};
pub use expiry::{Due, Expired, expire};
pub use transact::Ranges;

/// What the dictionaries of a store hold while an operation is decided.
pub trait View {
    /// Why it cannot be looked into.
    type Error;

    /// The present entry of a key.
    fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Present>, Self::Error>;

    /// The first keys of a range, in order: at most `count_max` of them.
    fn keys(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        count_max: u32,
    ) -> Result<Vec<Bytes>, Self::Error>;

    /// Whether a key inside has been written or removed after a revision.
    fn changed(
        &self,
        namespace: NamespaceId,
        after: Revision,
        ranges: &Ranges,
    ) -> Result<Changed, Self::Error>;

    /// A dictionary of a namespace; none also if it is damaged. Costs a read and some 100 us unless
    /// the view keeps those that it has opened.
    fn dictionary(
        &self,
        namespace: NamespaceId,
        id: DictionaryId,
    ) -> Result<Option<Arc<Dictionary>>, Self::Error> {
        dictionaries::find(namespace, id, |key| {
            self.get(NamespaceId::DICTIONARIES, key)
        })
    }

    /// How much there is in [`NamespaceId::LEASES`]; never less than there is. Each write asks.
    fn leased(&self) -> Leased;

    /// How much of that is of one dictionary: all of it where there is one only.
    fn leased_of(&self, namespace: NamespaceId) -> Leased {
        let _ = namespace;
        self.leased()
    }

    /// The revision of this decision, if it is logged.
    fn revision(&self) -> Revision;

    /// The revision of the last decision that was logged: every reader gets there.
    fn last(&self) -> Revision;

    /// The owner's time, milliseconds since 1970. Never less than that of an earlier decision.
    fn now_ms(&self) -> u64;
}

/// An entry of a dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// The stored value.
    pub value: Bytes,
    /// The revision that wrote it.
    pub revision: Revision,
}

/// What has changed after a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Nothing that was asked for.
    Nothing,
    /// This key, by this revision; possibly others too.
    Key(Bytes, Revision),
    /// That is not known any more; it is from this revision on.
    Unknown {
        /// A revision since which all changes are known.
        oldest: Revision,
    },
}

/// How much there is of leases and times to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leased {
    /// Keys that do not stay for ever.
    pub keys: u64,
    /// Bytes of these keys.
    pub key_bytes: u64,
    /// Leases.
    pub leases: u64,
}

/// What an operation comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What the caller is answered.
    pub outcome: Outcome,
    /// Why it happens, as followers are told.
    pub cause: Cause,
    /// What changes, at most one per key of a namespace; those of [`NamespaceId::LEASES`] last.
    pub changes: Vec<(NamespaceId, Change)>,
    /// As `changes`, or empty: by which part a change can be told, where that is shorter.
    pub patches: Vec<Option<KeyPatch>>,
}

/// What an operation comes to, or a refusal, which changes nothing.
pub type Decision = Result<Decided, Failure>;

/// Decides an operation on a dictionary.
///
/// # Errors
/// Those of the view. That an operation is refused is a [`Decision`], not an error.
pub fn evaluate<E>(
    namespace: NamespaceId,
    operation: &Operation,
    view: &dyn View<Error = E>,
) -> Result<Decision, E> {
    if let Err(failure) = check(operation) {
        return Ok(Err(failure));
    }
    let place = Place { view, namespace };
    if let Some(failure) = dictionaries::refuse(operation, &place)? {
        return Ok(Err(failure));
    }
    match operation {
        Operation::Put { key, value } => {
            place.replaced((Outcome::Done, vec![place.put(key, value)]))
        }
        Operation::Delete { key } => place.replaced(plain::delete(key, &place)?),
        Operation::DeleteRange {
            start,
            end,
            count_max,
        } => {
            let range = KeyRange {
                start: start.clone(),
                end: end.clone(),
            };
            place.replaced(plain::delete_range(&range, *count_max, &place)?)
        }
        Operation::CompareAndSet { key, expected, new } => {
            match plain::compare_and_set(key, expected.as_ref(), new.as_ref(), &place)? {
                Ok(done) => place.replaced(done),
                Err(failure) => Ok(Err(failure)),
            }
        }
        Operation::Increment { key, by } => plain::increment(key, *by, &place),
        Operation::Batch { changes } => {
            place.replaced((Outcome::Done, plain::batch(changes, &place)?))
        }
        Operation::Transact {
            reads,
            ranges,
            at,
            fences,
            changes,
        } => {
            let reads = transact::Reads {
                keys: reads,
                ranges,
                at: *at,
                fences,
            };
            match transact::refuse(&reads, &place)? {
                Some(outcome) => Ok(decided(outcome, Vec::new())),
                None => place.replaced((Outcome::Done, plain::batch(changes, &place)?)),
            }
        }
        Operation::Patch { key, patch } => patch::patch(key, patch, &place),
        Operation::PutLeased {
            key,
            value,
            ttl_ms,
            lease,
        } => leases::put(place.put(key, value), *ttl_ms, *lease, &place),
        Operation::GrantLease { ttl_ms, presence } => leases::grant(*ttl_ms, *presence, &place),
        Operation::RevokeLease { lease } => leases::revoke(*lease, &place),
        Operation::Lock { name, lease } => leases::lock(name, *lease, &place),
        Operation::Unlock { name, fence } => leases::unlock(name, *fence, &place),
        Operation::Settle => Ok(decided(Outcome::Done, Vec::new())),
        Operation::AddDictionary { bytes } => dictionaries::add(bytes, &place),
    }
}

/// Changes, each with where it belongs.
type Changes = Vec<(NamespaceId, Change)>;

/// A dictionary that an operation is about.
struct Place<'a, E> {
    view: &'a dyn View<Error = E>,
    namespace: NamespaceId,
}

impl<E> Place<'_, E> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, E> {
        let present = self.view.get(self.namespace, key)?;
        Ok(present.map(|present| present.value))
    }

    /// The value of an entry about leases.
    fn entry(&self, key: &EntryKey) -> Result<Option<Bytes>, E> {
        let present = self.view.get(NamespaceId::LEASES, &key.encode())?;
        Ok(present.map(|present| present.value))
    }

    fn put(&self, key: &Bytes, value: &Bytes) -> (NamespaceId, Change) {
        let (key, value) = (key.clone(), Some(value.clone()));
        (self.namespace, Change { key, value })
    }

    fn remove(&self, key: &Bytes) -> (NamespaceId, Change) {
        let (key, value) = (key.clone(), None);
        (self.namespace, Change { key, value })
    }

    /// A decision that gives its keys new values for good, or removes them: with that ends what
    /// was said of the time they stay.
    fn replaced(&self, (outcome, mut changes): (Outcome, Changes)) -> Result<Decision, E> {
        if self.view.leased().keys > 0 {
            let own = changes.len();
            leases::release(&mut changes, self)?;
            if let Err(failure) = check::ended_fits(&changes[own..]) {
                return Ok(Err(failure));
            }
        }
        Ok(decided(outcome, changes))
    }
}

fn decided(outcome: Outcome, changes: Changes) -> Decision {
    Ok(Decided {
        outcome,
        cause: Cause::Write,
        changes,
        patches: Vec::new(),
    })
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Invalid, message)
}

fn unreadable(key: &[u8], error: &stored::StoredError) -> Failure {
    let kind = match error {
        stored::StoredError::Unsupported { .. } => ErrorKind::Unsupported,
        _ => ErrorKind::Corrupt,
    };
    Failure::new(
        kind,
        format!("value of key {}: {error}", key::describe(key)),
    )
}

#[cfg(test)]
mod tests;
