//! The typed, blocking face of what ends by itself, of locks, and of changes of a part of a value.

use std::time::Duration;

use bytes::Bytes;
use objsync_proto::ids::Ack;
use objsync_proto::key::Key;
use objsync_proto::value::to_payload;
use serde::Serialize;

use super::{Object, encoded};
use crate::error::Result;
use crate::lease::Lease;
use crate::lock::Lock;
use crate::presence::Presence;

impl Object {
    /// Puts a value that is removed by itself: after `ttl`, at the end of a lease, or with whichever
    /// comes first. See [`crate::Dict::set_leased`].
    ///
    /// # Errors
    /// As [`crate::Dict::set_leased`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let tokens = objsync::DiskObject::open(folder.path().join("tokens"))?;
    /// tokens.set_leased("ada", "secret", Some(Duration::from_millis(20)), None)?;
    /// let changes = tokens.watch(None)?;
    /// while tokens.contains("ada")? {
    ///     changes.recv_timeout(Duration::from_secs(5))?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_leased(
        &self,
        key: impl Into<Key>,
        value: &(impl Serialize + ?Sized),
        ttl: Option<Duration>,
        lease: Option<&Lease>,
    ) -> Result<Ack> {
        let (key, payload) = (encoded(key)?, to_payload(value)?);
        self.dict
            .set_leased(key.as_bytes(), payload, ttl, lease)
            .wait()
    }

    /// Begins a lease that this process keeps. See [`crate::Dict::lease`].
    ///
    /// # Errors
    /// As [`crate::Dict::lease`].
    pub fn lease(&self, ttl: Duration) -> Result<Lease> {
        self.dict.lease(ttl).wait()
    }

    /// A lock by name, which one process, thread or task holds at a time. Nothing is taken yet. See
    /// [`crate::Dict::lock`].
    ///
    /// # Errors
    /// As [`crate::Dict::lock`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let data = objsync::DiskObject::open(folder.path().join("data"))?;
    /// let (mine, yours) = (data.lock("report", Duration::from_secs(10))?, data.lock("report", Duration::from_secs(10))?);
    /// assert!(mine.acquire(None).wait()?);
    /// assert!(!yours.acquire(Some(Duration::ZERO)).wait()?);
    /// mine.release().wait()?;
    /// assert!(yours.acquire(None).wait()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lock(&self, name: impl Into<Key>, ttl: Duration) -> Result<Lock> {
        self.dict.lock(encoded(name)?.as_bytes(), ttl)
    }

    /// Puts a value under a key that is there for as long as the result is held, and this process
    /// connected. See [`crate::Dict::presence`].
    ///
    /// # Errors
    /// As [`crate::Dict::presence`].
    pub fn presence(
        &self,
        key: impl Into<Key>,
        value: &(impl Serialize + ?Sized),
    ) -> Result<Presence> {
        let (key, payload) = (encoded(key)?, to_payload(value)?);
        self.dict.presence(key.as_bytes(), payload).wait()
    }

    /// Adds to the end of a list, a missing one counting as empty; returns its new length.
    ///
    /// # Errors
    /// As [`crate::Dict::list_append`].
    ///
    /// # Examples
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// let data = objsync::DiskObject::open(folder.path().join("data"))?;
    /// assert_eq!(data.list_append("jobs", ["sweep", "wash"])?, 2);
    /// assert_eq!(data.get::<Vec<String>>("jobs")?.expect("it was made"), ["sweep", "wash"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list_append<V: Serialize>(
        &self,
        key: impl Into<Key>,
        items: impl IntoIterator<Item = V>,
    ) -> Result<u64> {
        self.dict
            .list_append(encoded(key)?.as_bytes(), payloads(items)?)
            .wait()
    }

    /// Adds to a set, a missing one counting as empty; returns how many were not there.
    ///
    /// # Errors
    /// As [`crate::Dict::set_add`].
    ///
    /// # Examples
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// let data = objsync::DiskObject::open(folder.path().join("data"))?;
    /// assert_eq!(data.set_add("tags", ["red", "blue"])?, 2);
    /// assert_eq!(data.set_add("tags", ["red", "green"])?, 1);
    /// assert_eq!(data.set_discard("tags", ["red"])?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_add<V: Serialize>(
        &self,
        key: impl Into<Key>,
        items: impl IntoIterator<Item = V>,
    ) -> Result<u64> {
        self.dict
            .set_add(encoded(key)?.as_bytes(), payloads(items)?)
            .wait()
    }

    /// Removes from a set, a missing one counting as empty; returns how many were there.
    ///
    /// # Errors
    /// As [`crate::Dict::set_discard`].
    pub fn set_discard<V: Serialize>(
        &self,
        key: impl Into<Key>,
        items: impl IntoIterator<Item = V>,
    ) -> Result<u64> {
        self.dict
            .set_discard(encoded(key)?.as_bytes(), payloads(items)?)
            .wait()
    }
}

pub(crate) fn payloads<V: Serialize>(items: impl IntoIterator<Item = V>) -> Result<Vec<Bytes>> {
    let payload = |item| Ok(to_payload(&item)?);
    items.into_iter().map(payload).collect()
}
