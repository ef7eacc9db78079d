//! The typed, blocking face of the past.

use std::marker::PhantomData;

use objsync_proto::ids::Revision;
use objsync_proto::key::{self, Key};
use objsync_proto::limits::HISTORY_COUNT_DEFAULT;
use objsync_proto::value::from_payload;
use objsync_proto::wire::KeyRange;
use serde::de::DeserializeOwned;

use super::{Entries, Object, encoded};
use crate::error::Result;
use crate::past::{Past, Version};

/// How many versions are listed when nobody says.
pub(crate) const HISTORY_COUNT: usize = HISTORY_COUNT_DEFAULT as usize;

/// An object as it was at one revision, read-only: see [`Object::at`].
#[derive(Debug, Clone)]
pub struct PastObject {
    past: Past,
}

impl Object {
    /// The object as it was at a committed revision, read-only, as far back as log and snapshots
    /// go: an hour or 1 GiB of log, whichever ends first, and the newest snapshot before that.
    ///
    /// # Errors
    /// As [`crate::Dict::at`].
    ///
    /// # Examples
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// let prices = objsync::DiskObject::open(folder.path().join("prices"))?;
    /// let before = prices.set("apple", &125)?.revision;
    /// prices.set("apple", &150)?;
    /// assert_eq!(prices.at(before)?.get::<i64>("apple")?, Some(125));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn at(&self, revision: Revision) -> Result<PastObject> {
        let past = self.dict.at(revision).wait()?;
        Ok(PastObject { past })
    }

    /// What a key was, newest first: at most the last 1,000 versions, as far back as log and
    /// snapshots go. [`crate::Dict::history`] lists more, or fewer.
    ///
    /// # Errors
    /// As [`crate::Dict::history`].
    ///
    /// # Examples
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// let prices = objsync::DiskObject::open(folder.path().join("prices"))?;
    /// prices.set("apple", &125)?;
    /// prices.delete("apple")?;
    /// let versions = prices.history("apple")?;
    /// assert_eq!(versions[0].decode::<i64>()?, None);
    /// assert_eq!(versions[1].decode::<i64>()?, Some(125));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn history(&self, key: impl Into<Key>) -> Result<Vec<Version>> {
        let key = encoded(key)?;
        self.dict
            .history(key.as_bytes(), None, HISTORY_COUNT)
            .wait()
    }
}

impl PastObject {
    pub(super) fn of(past: Past) -> Self {
        Self { past }
    }

    /// The bytes-level face under it.
    #[must_use]
    pub fn past(&self) -> &Past {
        &self.past
    }

    /// As of when it is read.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.past.revision()
    }

    /// The value a key had, or none. A value of another type is `Invalid`.
    ///
    /// # Errors
    /// As [`Past::get`].
    pub fn get<V: DeserializeOwned>(&self, key: impl Into<Key>) -> Result<Option<V>> {
        let payload = self.past.get(encoded(key)?.as_bytes()).wait()?;
        Ok(payload.map(|payload| from_payload(&payload)).transpose()?)
    }

    /// Whether there was such a key.
    ///
    /// # Errors
    /// As [`Past::get`].
    pub fn contains(&self, key: impl Into<Key>) -> Result<bool> {
        self.past.contains(encoded(key)?.as_bytes()).wait()
    }

    /// How many keys there were.
    ///
    /// # Errors
    /// As [`Past::get`].
    pub fn len(&self) -> Result<u64> {
        self.past.count().wait()
    }

    /// Whether there was no key.
    ///
    /// # Errors
    /// As [`Past::get`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// All entries in key order.
    ///
    /// # Errors
    /// As [`Past::get`]; each entry can fail too, when its value is of another type.
    pub fn iter<V: DeserializeOwned>(&self) -> Result<Entries<V>> {
        self.scan(KeyRange::default())
    }

    /// The entries from `start` on, up to but without `stop`; none for no bound.
    ///
    /// # Errors
    /// As [`PastObject::iter`].
    pub fn range<V: DeserializeOwned>(
        &self,
        start: Option<&Key>,
        stop: Option<&Key>,
    ) -> Result<Entries<V>> {
        self.scan(key::between(start, stop)?)
    }

    /// The entries whose keys are texts that start with `prefix`.
    ///
    /// # Errors
    /// As [`PastObject::iter`].
    pub fn prefix<V: DeserializeOwned>(&self, prefix: &str) -> Result<Entries<V>> {
        self.scan(key::str_prefix(prefix))
    }

    fn scan<V>(&self, range: KeyRange) -> Result<Entries<V>> {
        Ok(Entries {
            scan: self.past.scan(range, false).wait()?,
            value: PhantomData,
        })
    }
}
