//! Several reads and writes that happen as one, or are run again.
//!
//! Trail: [`crate::Dict::transact`] -> [`Attempts::begin`] takes a [`crate::moment::Moment`] ->
//! the caller's function reads and writes a [`Transaction`], which notes both ->
//! [`Attempts::commit`] sends them as one `Operation::Transact` -> the owner looks whether anything
//! that was read has changed (`proto::evaluate`), and makes all the changes or none.
//!
//! Nothing is locked meanwhile, and nobody waits for a transaction: one that was overtaken is run
//! again from a later moment.

mod attempts;
mod scan;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::error::ErrorKind;
use objsync_proto::evaluate;
use objsync_proto::ids::Revision;
use objsync_proto::operation::{Fence, KeyRead, Operation};
use objsync_proto::wire::KeyRange;
use objsync_store::Stored;

pub use self::attempts::Attempts;
pub use self::scan::TransactionScan;
use crate::config::Config;
use crate::core::Core;
use crate::error::{ObjectError, Result};
use crate::fork;
use crate::large::{Packed, unfolded};
use crate::lock::Lock;
use crate::moment::Moment;
use crate::pending::Pending;

/// A dictionary as it was at one moment, with changes on top that happen when the function that
/// was given it returns: see [`crate::Dict::transact`]. Clones are the same.
///
/// What is read is noted, ranges with the keys that were not there, and checked by the owner.
/// Afterwards every call on it is `Invalid`.
#[derive(Clone)]
pub struct Transaction {
    shared: Arc<Shared>,
}

struct Shared {
    core: Arc<Core>,
    moment: Moment,
    generation: u32,
    made: Mutex<Made>,
}

/// What a transaction has read and written so far.
#[derive(Default)]
struct Made {
    reads: BTreeMap<Bytes, Option<Revision>>,
    ranges: Vec<KeyRange>,
    fences: BTreeMap<Bytes, Revision>,
    changes: BTreeMap<Bytes, Option<Packed>>,
    /// Its moment cannot be read any more: it cannot succeed.
    overtaken: bool,
    ended: bool,
}

impl Transaction {
    fn new(core: Arc<Core>, moment: Moment) -> Self {
        Self {
            shared: Arc::new(Shared {
                core,
                moment,
                generation: fork::generation(),
                made: Mutex::default(),
            }),
        }
    }

    /// As of when it reads.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.shared.moment.revision()
    }

    /// The payload under a key: what this transaction put there, else what was there at its moment.
    /// A round trip where the handle does not hold the whole dictionary.
    ///
    /// # Errors
    /// As [`crate::Dict::get`]; `Conflict` when its moment is no longer held, and then the function
    /// is run again whatever it returns.
    pub fn get(&self, key: &[u8]) -> Pending<Option<Bytes>> {
        unfolded(&self.shared.core, self.find(key))
    }

    /// As [`Transaction::get`], a large value as its reference.
    fn find(&self, key: &[u8]) -> Pending<Option<Bytes>> {
        match self.at_once(key).transpose() {
            Some(known) => Pending::ready(known),
            None => {
                let (transaction, key) = (self.clone(), Bytes::copy_from_slice(key));
                Pending::call("a value", async move {
                    let known = transaction.shared.moment.get(key.clone()).await;
                    transaction.read(&key, transaction.noticed(known)?)
                })
            }
        }
    }

    /// Whether there is such a key. As [`Transaction::get`].
    pub fn contains(&self, key: &[u8]) -> Pending<bool> {
        self.find(key).map(|payload| payload.is_some())
    }

    /// Puts a payload under a key, when the transaction happens; its later reads see it.
    ///
    /// # Errors
    /// `Invalid` for a key or a value over its limit; `Denied` through a read-only handle.
    pub fn set(&self, key: &[u8], value: impl Into<Bytes>) -> Result<()> {
        self.change(key, Some(&value.into()))
    }

    /// Removes a key, when the transaction happens. That it was there is not asked, and so not
    /// checked.
    ///
    /// # Errors
    /// As [`Transaction::set`].
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        self.change(key, None)
    }

    /// The keys that it puts or removes so far.
    #[must_use]
    pub fn changed_keys(&self) -> Vec<Bytes> {
        self.made().changes.keys().cloned().collect()
    }

    /// The entries of a range in key order (or from the last to the first). Checked is the part
    /// that was read: no key in it may come, go or change.
    pub fn scan(&self, range: KeyRange, reverse: bool) -> TransactionScan {
        TransactionScan::new(self, range, reverse, true)
    }

    /// As [`Transaction::scan`], with empty payloads.
    pub fn keys(&self, range: KeyRange, reverse: bool) -> TransactionScan {
        TransactionScan::new(self, range, reverse, false)
    }

    /// How many keys there are. Reads all of them, so any other change of the dictionary then is a
    /// conflict.
    pub fn count(&self) -> Pending<u64> {
        let scan = self.keys(KeyRange::default(), false);
        Pending::call("a count", scan.count_entries())
    }

    /// Demands that a lock is held, by this very holder, when the transaction happens.
    ///
    /// # Errors
    /// [`ObjectError::Fenced`] when it is known to be lost already; `Invalid` when it was never
    /// taken, or is one of another dictionary.
    pub fn require(&self, lock: &Lock) -> Result<()> {
        let fence = lock.demanded(&self.shared.core)?;
        self.made_mut()?
            .fences
            .insert(lock.encoded_name().clone(), fence);
        Ok(())
    }

    /// What needs no waiting.
    fn at_once(&self, key: &[u8]) -> Result<Option<Option<Bytes>>> {
        let written = self.made_mut()?.changes.get(key).cloned();
        if let Some(written) = written {
            let config = &self.shared.core.config;
            let payload = written.map(|written| written.payload(config, key));
            return payload.transpose().map(Some);
        }
        match self.noticed(self.shared.moment.at_once(key))? {
            Some(known) => self.read(key, known).map(Some),
            None => Ok(None),
        }
    }

    /// Notes that a key was read; gives its payload.
    fn read(&self, key: &[u8], known: Option<Stored>) -> Result<Option<Bytes>> {
        if self.shared.core.config.sees(key) {
            let revision = known.as_ref().map(|stored| stored.revision);
            let mut made = self.made_mut()?;
            if !made.reads.contains_key(key) {
                made.reads.insert(Bytes::copy_from_slice(key), revision);
            }
        }
        let config = &self.shared.core.config;
        known
            .map(|stored| config.open(key, stored.revision, stored.value))
            .transpose()
    }

    fn change(&self, key: &[u8], value: Option<&Bytes>) -> Result<()> {
        let config = &self.shared.core.config;
        let value = value.map(|value| config.pack(value)).transpose()?;
        let key = config.key(key)?;
        self.made_mut()?.changes.insert(key, value);
        Ok(())
    }

    /// Takes notice of a moment that is no longer held.
    fn noticed<T>(&self, read: Result<T>) -> Result<T> {
        if let Err(error) = &read {
            let is_overtaken = error.kind() == ErrorKind::Conflict
                || matches!(error, ObjectError::PastRetention { .. });
            if is_overtaken {
                self.made().overtaken = true;
            }
        }
        read
    }

    fn made_mut(&self) -> Result<MutexGuard<'_, Made>> {
        if self.shared.generation != fork::generation() {
            let text = "this transaction is the parent's: begin one in the forked child";
            return Err(ObjectError::new(ErrorKind::Invalid, text));
        }
        let made = self.made();
        if made.ended {
            let text = "this transaction has ended: use it in the function that was given it";
            return Err(ObjectError::new(ErrorKind::Invalid, text));
        }
        Ok(made)
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.shared
            .made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it: gives what it has read and written. Whoever keeps it holds nothing of the past.
    fn end(&self) -> Made {
        self.shared.moment.release();
        let mut made = self.made();
        let overtaken = made.overtaken;
        std::mem::replace(
            &mut *made,
            Made {
                ended: true,
                overtaken,
                ..Made::default()
            },
        )
    }
}

impl Made {
    /// Whether there is anything to ask the owner.
    fn is_empty(&self) -> bool {
        self.reads.is_empty()
            && self.ranges.is_empty()
            && self.fences.is_empty()
            && self.changes.is_empty()
    }

    /// The question to the owner: what it has to know of the values that are to be put, and how it is
    /// made of them as they are stored. Made, it is a refusal that names the limit where it is too long.
    fn question(
        self,
        at: Revision,
    ) -> (
        Vec<Packed>,
        impl Fn(&Config, Vec<Bytes>) -> Result<Operation>,
    ) {
        let read = |(key, revision)| KeyRead { key, revision };
        let fence = |(name, fence)| Fence { name, fence };
        let reads: Vec<_> = self.reads.into_iter().map(read).collect();
        let fences: Vec<_> = self.fences.into_iter().map(fence).collect();
        let ranges = joined(self.ranges);
        let mut values = Vec::new();
        let mut keys = Vec::with_capacity(self.changes.len());
        for (key, value) in self.changes {
            keys.push((key, value.is_some()));
            values.extend(value);
        }
        let build = move |_: &Config, stored: Vec<Bytes>| {
            let mut stored = stored.into_iter();
            let mut change = |(key, is_put): &(Bytes, bool)| Change {
                key: key.clone(),
                value: is_put.then(|| stored.next()).flatten(),
            };
            let operation = Operation::Transact {
                reads: reads.clone(),
                ranges: ranges.clone(),
                at,
                fences: fences.clone(),
                changes: keys.iter().map(&mut change).collect(),
            };
            evaluate::check(&operation)?;
            Ok(operation)
        };
        (values, build)
    }
}

/// The same keys in as few ranges as can be.
fn joined(mut ranges: Vec<KeyRange>) -> Vec<KeyRange> {
    ranges.sort_by(|one, other| one.start.cmp(&other.start));
    let mut joined: Vec<KeyRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end.as_ref().is_none_or(|end| *end >= range.start) => {
                // An end that is none lies behind every other.
                last.end = match (last.end.take(), range.end) {
                    (Some(one), Some(other)) => Some(one.max(other)),
                    _ => None,
                };
            }
            _ => joined.push(range),
        }
    }
    joined
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &'static str, end: Option<&'static str>) -> KeyRange {
        KeyRange {
            start: Bytes::from_static(start.as_bytes()),
            end: end.map(|end| Bytes::from_static(end.as_bytes())),
        }
    }

    #[test]
    fn ranges_that_touch_are_joined_and_others_are_not() {
        let pages = vec![
            range("c", Some("d")),
            range("a", Some("b")),
            range("b", Some("c")),
            range("x", Some("y")),
        ];
        assert_eq!(
            joined(pages),
            [range("a", Some("d")), range("x", Some("y"))]
        );
    }

    #[test]
    fn range_without_an_end_takes_all_behind_it() {
        let pages = vec![
            range("b", None),
            range("c", Some("d")),
            range("a", Some("b")),
        ];
        assert_eq!(joined(pages), [range("a", None)]);
        let inside = vec![range("a", Some("z")), range("b", Some("c"))];
        assert_eq!(joined(inside), [range("a", Some("z"))]);
    }
}
