//! Typed forms of what the bytes-level face gives: batches, entries, pipelines, changes.

use std::marker::PhantomData;

use objsync_proto::effect::Change;
use objsync_proto::ids::Ack;
use objsync_proto::key::{self, Key};
use objsync_proto::value::{from_payload, to_payload};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::encoded;
use crate::error::Result;
use crate::pipeline::Pipeline;
use crate::scan::Scan;
use crate::watch::WatchEvent;

/// Several changes to be made at once: see [`crate::Object::batch`].
#[derive(Debug, Default, Clone)]
pub struct Batch {
    pub(super) changes: Vec<Change>,
}

impl Batch {
    /// Puts a value.
    ///
    /// # Errors
    /// `Invalid` for a key or value that cannot be stored.
    pub fn set(&mut self, key: impl Into<Key>, value: &(impl Serialize + ?Sized)) -> Result<()> {
        let key = key::encode(&key.into())?.into_bytes();
        self.changes.push(Change {
            key,
            value: Some(to_payload(value)?),
        });
        Ok(())
    }

    /// Removes a key.
    ///
    /// # Errors
    /// `Invalid` for a key that cannot be stored.
    pub fn delete(&mut self, key: impl Into<Key>) -> Result<()> {
        let key = key::encode(&key.into())?.into_bytes();
        self.changes.push(Change { key, value: None });
        Ok(())
    }

    /// The changes, encoded.
    pub(crate) fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}

/// Entries in key order, decoded as they are read.
#[derive(Debug)]
pub struct Entries<V> {
    pub(super) scan: Scan,
    pub(super) value: PhantomData<fn() -> V>,
}

impl<V: DeserializeOwned> Iterator for Entries<V> {
    type Item = Result<(Key, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.scan.next()?;
        Some(entry.and_then(|(key, payload)| Ok((key::decode(&key)?, from_payload(&payload)?))))
    }
}

/// Typed writes in flight: see [`Pipeline`].
#[derive(Debug)]
pub struct TypedPipeline {
    pub(super) pipeline: Pipeline,
}

impl TypedPipeline {
    /// Starts a write; waits only when the window is full.
    ///
    /// # Errors
    /// `Invalid` for what cannot be stored; `Interrupted` while waiting for room.
    pub fn set(&mut self, key: impl Into<Key>, value: &(impl Serialize + ?Sized)) -> Result<()> {
        self.pipeline
            .set(encoded(key)?.as_bytes(), to_payload(value)?)
    }

    /// Starts a removal; waits only when the window is full.
    ///
    /// # Errors
    /// As [`TypedPipeline::set`].
    pub fn delete(&mut self, key: impl Into<Key>) -> Result<()> {
        self.pipeline.delete(encoded(key)?.as_bytes())
    }

    /// Waits for every answer.
    ///
    /// # Errors
    /// The first failure of any write.
    pub fn finish(self) -> Result<Option<Ack>> {
        self.pipeline.finish()
    }
}

impl WatchEvent {
    /// The key that changed.
    ///
    /// # Errors
    /// `Invalid` for bytes that are no key, which a store never holds.
    pub fn decode_key(&self) -> Result<Key> {
        Ok(key::decode(&self.key)?)
    }

    /// The value it has now; none when it was removed.
    ///
    /// # Errors
    /// `Invalid` when it is of another type; what [`WatchEvent::unread`] says.
    pub fn decode<V: DeserializeOwned>(&self) -> Result<Option<V>> {
        if let Some(failure) = &self.unread {
            return Err(failure.clone().into());
        }
        Ok(self
            .value
            .as_ref()
            .map(|payload| from_payload(payload))
            .transpose()?)
    }

    /// The value it had before, where this handle knows it.
    ///
    /// # Errors
    /// `Invalid` when it is of another type.
    pub fn decode_old<V: DeserializeOwned>(&self) -> Result<Option<V>> {
        Ok(self
            .old_value
            .as_ref()
            .map(|payload| from_payload(payload))
            .transpose()?)
    }
}
