//! The typed, awaitable face of the past.

use objsync_proto::ids::Revision;
use objsync_proto::key::{self, Key};
use objsync_proto::value::from_payload;
use objsync_proto::wire::KeyRange;
use serde::de::DeserializeOwned;

use super::{Object, collect};
use crate::error::Result;
use crate::objects::{HISTORY_COUNT, encoded};
use crate::past::{Past, Version};

/// As [`crate::PastObject`].
#[derive(Debug, Clone)]
pub struct PastObject {
    past: Past,
}

impl Object {
    /// As [`crate::Object::at`].
    ///
    /// # Errors
    /// As [`crate::Dict::at`].
    pub async fn at(&self, revision: Revision) -> Result<PastObject> {
        let past = self.dict.at(revision).await?;
        Ok(PastObject { past })
    }

    /// As [`crate::Object::history`].
    ///
    /// # Errors
    /// As [`crate::Dict::history`].
    pub async fn history(&self, key: impl Into<Key>) -> Result<Vec<Version>> {
        let key = encoded(key)?;
        self.dict.history(key.as_bytes(), None, HISTORY_COUNT).await
    }
}

impl PastObject {
    pub(super) fn of(past: Past) -> Self {
        Self { past }
    }

    /// As of when it is read.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.past.revision()
    }

    /// As [`crate::PastObject::get`]. A store of this process is read by the polling thread.
    ///
    /// # Errors
    /// As [`Past::get`].
    pub async fn get<V: DeserializeOwned>(&self, key: impl Into<Key>) -> Result<Option<V>> {
        let payload = self.past.get(encoded(key)?.as_bytes()).await?;
        Ok(payload.map(|payload| from_payload(&payload)).transpose()?)
    }

    /// As [`crate::PastObject::contains`].
    ///
    /// # Errors
    /// As [`Past::get`].
    pub async fn contains(&self, key: impl Into<Key>) -> Result<bool> {
        self.past.contains(encoded(key)?.as_bytes()).await
    }

    /// As [`crate::PastObject::len`].
    ///
    /// # Errors
    /// As [`Past::get`].
    pub async fn len(&self) -> Result<u64> {
        self.past.count().await
    }

    /// As [`crate::PastObject::is_empty`].
    ///
    /// # Errors
    /// As [`Past::get`].
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// All entries in key order.
    ///
    /// # Errors
    /// As [`crate::PastObject::iter`].
    pub async fn items<V: DeserializeOwned>(&self) -> Result<Vec<(Key, V)>> {
        self.collect(KeyRange::default()).await
    }

    /// As [`crate::PastObject::range`].
    ///
    /// # Errors
    /// As [`crate::PastObject::iter`].
    pub async fn range<V: DeserializeOwned>(
        &self,
        start: Option<&Key>,
        stop: Option<&Key>,
    ) -> Result<Vec<(Key, V)>> {
        self.collect(key::between(start, stop)?).await
    }

    /// As [`crate::PastObject::prefix`].
    ///
    /// # Errors
    /// As [`crate::PastObject::iter`].
    pub async fn prefix<V: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(Key, V)>> {
        self.collect(key::str_prefix(prefix)).await
    }

    async fn collect<V: DeserializeOwned>(&self, range: KeyRange) -> Result<Vec<(Key, V)>> {
        collect(self.past.scan(range, false).await?).await
    }
}
