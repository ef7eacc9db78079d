//! The typed, awaitable face of what ends by itself, of locks, and of changes of a part of a value.

use std::time::Duration;

use objsync_proto::ids::Ack;
use objsync_proto::key::Key;
use objsync_proto::value::to_payload;
use serde::Serialize;

use super::Object;
use crate::error::Result;
use crate::lease::Lease;
use crate::lock::Lock;
use crate::objects::{encoded, payloads};
use crate::presence::Presence;

impl Object {
    /// As [`crate::Object::set_leased`].
    ///
    /// # Errors
    /// As [`crate::Dict::set_leased`].
    pub async fn set_leased(
        &self,
        key: impl Into<Key>,
        value: &(impl Serialize + ?Sized),
        ttl: Option<Duration>,
        lease: Option<&Lease>,
    ) -> Result<Ack> {
        let (key, payload) = (encoded(key)?, to_payload(value)?);
        let write = self.dict.set_leased(key.as_bytes(), payload, ttl, lease);
        write.await
    }

    /// As [`crate::Object::lease`].
    ///
    /// # Errors
    /// As [`crate::Dict::lease`].
    pub async fn lease(&self, ttl: Duration) -> Result<Lease> {
        self.dict.lease(ttl).await
    }

    /// As [`crate::Object::lock`]; await [`Lock::acquire`] or [`Lock::enter`].
    ///
    /// # Errors
    /// As [`crate::Dict::lock`].
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # async fn example() -> objsync::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a folder for the example");
    /// let data = objsync::aio::DiskObject::open(folder.path().join("data")).await?;
    /// let lock = data.lock("report", Duration::from_secs(10))?;
    /// lock.enter(None).await?;
    /// data.transact(async |t| {
    ///     t.require(&lock)?;
    ///     t.set("report", "written by the holder alone")
    /// })
    /// .await?;
    /// lock.release().await
    /// # }
    /// # tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
    /// #     .block_on(example()).expect("the example runs");
    /// ```
    pub fn lock(&self, name: impl Into<Key>, ttl: Duration) -> Result<Lock> {
        self.dict.lock(encoded(name)?.as_bytes(), ttl)
    }

    /// As [`crate::Object::presence`].
    ///
    /// # Errors
    /// As [`crate::Dict::presence`].
    pub async fn presence(
        &self,
        key: impl Into<Key>,
        value: &(impl Serialize + ?Sized),
    ) -> Result<Presence> {
        let (key, payload) = (encoded(key)?, to_payload(value)?);
        let shown = self.dict.presence(key.as_bytes(), payload);
        shown.await
    }

    /// As [`crate::Object::list_append`].
    ///
    /// # Errors
    /// As [`crate::Dict::list_append`].
    pub async fn list_append<V: Serialize>(
        &self,
        key: impl Into<Key>,
        items: impl IntoIterator<Item = V>,
    ) -> Result<u64> {
        let (key, items) = (encoded(key)?, payloads(items)?);
        let write = self.dict.list_append(key.as_bytes(), items);
        write.await
    }

    /// As [`crate::Object::set_add`].
    ///
    /// # Errors
    /// As [`crate::Dict::set_add`].
    pub async fn set_add<V: Serialize>(
        &self,
        key: impl Into<Key>,
        items: impl IntoIterator<Item = V>,
    ) -> Result<u64> {
        let (key, items) = (encoded(key)?, payloads(items)?);
        let write = self.dict.set_add(key.as_bytes(), items);
        write.await
    }

    /// As [`crate::Object::set_discard`].
    ///
    /// # Errors
    /// As [`crate::Dict::set_discard`].
    pub async fn set_discard<V: Serialize>(
        &self,
        key: impl Into<Key>,
        items: impl IntoIterator<Item = V>,
    ) -> Result<u64> {
        let (key, items) = (encoded(key)?, payloads(items)?);
        let write = self.dict.set_discard(key.as_bytes(), items);
        write.await
    }
}
