//! The objects for async programs: the same names, awaitable, on any executor.
//!
//! ```
//! # async fn example() -> objsync::Result<()> {
//! # let folder = tempfile::tempdir().expect("a folder for the example");
//! let counters = objsync::aio::DiskObject::open(folder.path().join("counters")).await?;
//! counters.set("visits", &41).await?;
//! assert_eq!(counters.incr("visits", 1).await?, 42);
//! counters.close().await
//! # }
//! # tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(example())
//! # .expect("the example runs");
//! ```
//!
//! Cancel safety: a write whose future is dropped after its first poll may still happen; one that
//! was never polled does not. Dropping any other call changes nothing.

mod leases;
mod past;
mod reads;
mod transaction;

use std::ops::Deref;
use std::path::Path;

use objsync_proto::ids::{Ack, Position, Revision};
use objsync_proto::key::{self, Key};
use objsync_proto::value::{from_payload, to_payload};
use objsync_proto::wire::KeyRange;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dict::Dict;
use crate::error::Result;
use crate::objects::{Batch, encoded, pair};
use crate::options::{Options, Target};
use crate::scan::Scan;
use crate::status::Status;
use crate::watch::Watch;

pub use self::past::PastObject;
pub use self::transaction::TypedTransaction;

/// What the three objects have in common. See [`crate::Object`] for what each call means.
#[derive(Debug, Clone)]
pub struct Object {
    dict: Dict,
}

impl Object {
    /// The typed, awaitable face of a handle.
    #[must_use]
    pub fn new(dict: Dict) -> Self {
        Self { dict }
    }

    /// The handle under it.
    #[must_use]
    pub fn dict(&self) -> &Dict {
        &self.dict
    }

    /// As [`crate::Object::get`]. A store of this process is read by the polling thread.
    ///
    /// # Errors
    /// As [`crate::Object::get`].
    pub async fn get<V: DeserializeOwned>(&self, key: impl Into<Key>) -> Result<Option<V>> {
        let payload = self.dict.fetch(encoded(key)?.as_bytes()).await?;
        Ok(payload.map(|payload| from_payload(&payload)).transpose()?)
    }

    /// As [`crate::Object::set`].
    ///
    /// # Errors
    /// As [`crate::Object::set`].
    pub async fn set(&self, key: impl Into<Key>, value: &(impl Serialize + ?Sized)) -> Result<Ack> {
        let write = self.dict.set(encoded(key)?.as_bytes(), to_payload(value)?);
        write.await
    }

    /// As [`crate::Object::delete`].
    ///
    /// # Errors
    /// As [`crate::Object::set`].
    pub async fn delete(&self, key: impl Into<Key>) -> Result<bool> {
        let write = self.dict.delete(encoded(key)?.as_bytes());
        write.await.map(|(was_there, _)| was_there)
    }

    /// As [`crate::Object::contains`].
    ///
    /// # Errors
    /// As [`crate::Object::get`].
    pub async fn contains(&self, key: impl Into<Key>) -> Result<bool> {
        let read = self.dict.fetch(encoded(key)?.as_bytes());
        read.await.map(|value| value.is_some())
    }

    /// As [`crate::Object::len`].
    ///
    /// # Errors
    /// As [`crate::Object::get`].
    pub async fn len(&self) -> Result<u64> {
        self.dict.count().await
    }

    /// As [`crate::Object::is_empty`].
    ///
    /// # Errors
    /// As [`crate::Object::get`].
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// All entries in key order, as of one revision.
    ///
    /// # Errors
    /// As [`crate::Object::iter`].
    pub async fn items<V: DeserializeOwned>(&self) -> Result<Vec<(Key, V)>> {
        self.collect(KeyRange::default()).await
    }

    /// As [`crate::Object::range`].
    ///
    /// # Errors
    /// As [`crate::Object::iter`].
    pub async fn range<V: DeserializeOwned>(
        &self,
        start: Option<&Key>,
        stop: Option<&Key>,
    ) -> Result<Vec<(Key, V)>> {
        self.collect(key::between(start, stop)?).await
    }

    /// As [`crate::Object::prefix`].
    ///
    /// # Errors
    /// As [`crate::Object::iter`].
    pub async fn prefix<V: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(Key, V)>> {
        self.collect(key::str_prefix(prefix)).await
    }

    /// As [`crate::Object::update`].
    ///
    /// # Errors
    /// As [`crate::Object::update`].
    pub async fn update<K: Into<Key>, V: Serialize>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Option<Ack>> {
        let pairs: Vec<_> = pairs.into_iter().map(pair).collect::<Result<_>>()?;
        self.dict.update_async(pairs).await
    }

    /// As [`crate::Object::batch`].
    ///
    /// # Errors
    /// As [`crate::Object::batch`].
    pub async fn batch(&self, fill: impl FnOnce(&mut Batch) -> Result<()>) -> Result<Ack> {
        let mut batch = Batch::default();
        fill(&mut batch)?;
        self.dict.batch(batch.into_changes()).await
    }

    /// As [`crate::Object::incr`].
    ///
    /// # Errors
    /// As [`crate::Object::incr`].
    pub async fn incr(&self, key: impl Into<Key>, by: i64) -> Result<i64> {
        let write = self.dict.incr(encoded(key)?.as_bytes(), by);
        write.await
    }

    /// As [`crate::Object::compare_and_set`].
    ///
    /// # Errors
    /// As [`crate::Object::set`].
    pub async fn compare_and_set<V: Serialize>(
        &self,
        key: impl Into<Key>,
        expected: Option<&V>,
        new: Option<&V>,
    ) -> Result<bool> {
        let expected = expected.map(to_payload).transpose()?;
        let new = new.map(to_payload).transpose()?;
        let write = self
            .dict
            .compare_and_set(encoded(key)?.as_bytes(), expected, new);
        write.await
    }

    /// As [`crate::Object::clear`].
    ///
    /// # Errors
    /// As [`crate::Object::set`].
    pub async fn clear(&self) -> Result<u64> {
        self.dict.delete_range(KeyRange::default()).await
    }

    /// As [`crate::Object::watch`]; read it with [`Watch::next`].
    ///
    /// # Errors
    /// As [`Dict::watch`].
    pub async fn watch(&self, since: Option<Revision>) -> Result<Watch> {
        self.dict.watch_async(KeyRange::default(), since).await
    }

    /// As [`crate::Object::watch_prefix`].
    ///
    /// # Errors
    /// As [`Dict::watch`].
    pub async fn watch_prefix(&self, prefix: &str, since: Option<Revision>) -> Result<Watch> {
        self.dict.watch_async(key::str_prefix(prefix), since).await
    }

    /// As [`crate::Object::sync`].
    ///
    /// # Errors
    /// As [`crate::Object::sync`].
    pub async fn sync(&self) -> Result<Position> {
        self.dict.sync().await
    }

    /// As [`crate::Object::flush`].
    ///
    /// # Errors
    /// As [`crate::Object::flush`].
    pub async fn flush(&self) -> Result<Position> {
        self.dict.flush(None).await
    }

    /// How the handle is, from what it knows itself.
    #[must_use]
    pub fn status(&self) -> Status {
        self.dict.status()
    }

    /// As [`crate::Object::close`].
    ///
    /// # Errors
    /// As [`Dict::close`].
    pub async fn close(&self) -> Result<()> {
        self.dict.close_async().await
    }

    async fn collect<V: DeserializeOwned>(&self, range: KeyRange) -> Result<Vec<(Key, V)>> {
        collect(self.dict.scan_async(range, false).await?).await
    }
}

async fn collect<V: DeserializeOwned>(mut scan: Scan) -> Result<Vec<(Key, V)>> {
    let mut entries = Vec::new();
    loop {
        let page = scan.next_page_async().await?;
        if page.is_empty() {
            return Ok(entries);
        }
        for (key, payload) in page {
            entries.push((key::decode(&key)?, from_payload(&payload)?));
        }
    }
}

/// As [`crate::DiskObject`].
#[derive(Debug, Clone)]
pub struct DiskObject(Object);

/// As [`crate::CompressedDiskObject`].
#[derive(Debug, Clone)]
pub struct CompressedDiskObject(Object);

/// As [`crate::NetworkObject`].
#[derive(Debug, Clone)]
pub struct NetworkObject(Object);

impl DiskObject {
    /// As [`crate::DiskObject::open`].
    ///
    /// # Errors
    /// As [`Dict::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Options::default()).await
    }

    /// As [`crate::DiskObject::open_with`].
    ///
    /// # Errors
    /// As [`Dict::open`].
    pub async fn open_with(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        Dict::open_async(path, options)
            .await
            .map(|dict| Self(Object::new(dict)))
    }
}

impl CompressedDiskObject {
    /// As [`crate::CompressedDiskObject::open`].
    ///
    /// # Errors
    /// As [`Dict::open`].
    pub async fn open(path: impl AsRef<Path>, level: i32) -> Result<Self> {
        let options = Options {
            compression: Some(level),
            ..Options::default()
        };
        Dict::open_async(path, options)
            .await
            .map(|dict| Self(Object::new(dict)))
    }
}

impl NetworkObject {
    /// As [`crate::NetworkObject::connect`].
    ///
    /// # Errors
    /// As [`Dict::connect`].
    pub async fn connect(target: &str) -> Result<Self> {
        Self::connect_with(target, Options::default()).await
    }

    /// As [`crate::NetworkObject::connect_with`].
    ///
    /// # Errors
    /// As [`Dict::connect`].
    pub async fn connect_with(target: &str, options: Options) -> Result<Self> {
        let connecting = Dict::connect_async(&Target::parse(target)?, options);
        connecting.await.map(|dict| Self(Object::new(dict)))
    }
}

macro_rules! is_an_object {
    ($($name:ident),*) => {$(
        impl Deref for $name {
            type Target = Object;

            fn deref(&self) -> &Object {
                &self.0
            }
        }
    )*};
}
is_an_object!(DiskObject, CompressedDiskObject, NetworkObject);
