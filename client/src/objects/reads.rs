//! The typed, blocking face of reads of a certain age, snapshots, lost writes and queues.

use std::time::Duration;

use objsync_proto::ids::{Origin, Revision};
use objsync_proto::key::{Key, successor};
use objsync_proto::value::from_payload;
use objsync_proto::wire::KeyRange;
use serde::de::DeserializeOwned;

use super::{Object, PastObject, encoded};
use crate::error::Result;
use crate::offline::Conflict;
use crate::outcome::Done;
use crate::watch::Watch;

impl Object {
    /// The value under a key, as it was no longer ago than `max_stale`; with zero all that was
    /// committed before is seen.
    ///
    /// # Errors
    /// As [`crate::Dict::get_within`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let prices = objsync::DiskObject::open(folder.path().join("prices"))?;
    /// prices.set("apple", &125)?;
    /// let price = prices.get_within::<i64>("apple", Duration::from_millis(200))?;
    /// assert_eq!(price, Some(125));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_within<V: DeserializeOwned>(
        &self,
        key: impl Into<Key>,
        max_stale: Duration,
    ) -> Result<Option<V>> {
        let read = self.dict.get_within(encoded(key)?.as_bytes(), max_stale);
        let payload = read.wait()?;
        Ok(payload.map(|payload| from_payload(&payload)).transpose()?)
    }

    /// All of it as it is at this very moment, read-only; released when the last clone is dropped.
    ///
    /// # Errors
    /// As [`crate::Dict::snapshot`].
    ///
    /// # Examples
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// let prices = objsync::DiskObject::open(folder.path().join("prices"))?;
    /// prices.set("apple", &125)?;
    /// let before = prices.snapshot()?;
    /// prices.set("apple", &150)?;
    /// assert_eq!(before.get::<i64>("apple")?, Some(125));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot(&self) -> Result<PastObject> {
        self.dict.snapshot().wait().map(PastObject::of)
    }

    /// What came of a write that failed with [`crate::ObjectError::Unanswered`], which names it;
    /// none when it was not done and never will be.
    ///
    /// # Errors
    /// As [`crate::Dict::outcome`].
    pub fn outcome(&self, op: Origin) -> Result<Option<Done>> {
        self.dict.outcome(op).wait()
    }

    /// Queued writes that the owner decided otherwise: see [`crate::Dict::conflicts`].
    ///
    /// # Errors
    /// As [`crate::Dict::conflicts`].
    pub fn conflicts(&self) -> Result<Vec<Conflict>> {
        self.dict.conflicts()
    }

    /// Forgets the conflicts so far.
    ///
    /// # Errors
    /// As [`crate::Dict::clear_conflicts`].
    pub fn clear_conflicts(&self) -> Result<()> {
        self.dict.clear_conflicts().wait()
    }

    /// As [`Object::watch`], for one key. Thousands of watches of a handle share what they cost.
    ///
    /// # Errors
    /// As [`crate::Dict::watch`].
    pub fn watch_key(&self, key: impl Into<Key>, since: Option<Revision>) -> Result<Watch> {
        self.dict.watch(single(key)?, since)
    }
}

/// The range of one key.
pub(crate) fn single(key: impl Into<Key>) -> Result<KeyRange> {
    let start = encoded(key)?.into_bytes();
    let end = Some(successor(&start));
    Ok(KeyRange { start, end })
}
