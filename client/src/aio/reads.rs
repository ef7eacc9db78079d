//! The typed, awaitable face of reads of a certain age, snapshots, lost writes and queues.

use std::time::Duration;

use objsync_proto::ids::{Origin, Revision};
use objsync_proto::key::Key;
use objsync_proto::value::from_payload;
use serde::de::DeserializeOwned;

use super::{Object, PastObject};
use crate::error::Result;
use crate::objects::{encoded, single};
use crate::offline::Conflict;
use crate::outcome::Done;
use crate::watch::Watch;

impl Object {
    /// As [`crate::Object::get_within`].
    ///
    /// # Errors
    /// As [`crate::Dict::get_within`].
    pub async fn get_within<V: DeserializeOwned>(
        &self,
        key: impl Into<Key>,
        max_stale: Duration,
    ) -> Result<Option<V>> {
        let read = self.dict.get_within(encoded(key)?.as_bytes(), max_stale);
        let payload = read.await?;
        Ok(payload.map(|payload| from_payload(&payload)).transpose()?)
    }

    /// As [`crate::Object::snapshot`].
    ///
    /// # Errors
    /// As [`crate::Dict::snapshot`].
    pub async fn snapshot(&self) -> Result<PastObject> {
        self.dict.snapshot().await.map(PastObject::of)
    }

    /// As [`crate::Object::outcome`]. Dropped half way, it may have settled the session, which
    /// changes nothing that was done.
    ///
    /// # Errors
    /// As [`crate::Dict::outcome`].
    pub async fn outcome(&self, op: Origin) -> Result<Option<Done>> {
        self.dict.outcome(op).await
    }

    /// As [`crate::Object::conflicts`]; from memory.
    ///
    /// # Errors
    /// As [`crate::Dict::conflicts`].
    pub fn conflicts(&self) -> Result<Vec<Conflict>> {
        self.dict.conflicts()
    }

    /// As [`crate::Object::clear_conflicts`].
    ///
    /// # Errors
    /// As [`crate::Dict::clear_conflicts`].
    pub async fn clear_conflicts(&self) -> Result<()> {
        self.dict.clear_conflicts().await
    }

    /// As [`crate::Object::watch_key`].
    ///
    /// # Errors
    /// As [`crate::Dict::watch`].
    pub async fn watch_key(&self, key: impl Into<Key>, since: Option<Revision>) -> Result<Watch> {
        self.dict.watch_async(single(key)?, since).await
    }
}
