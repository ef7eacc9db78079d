//! Typed objects: any serde type under any key, blocking. [`crate::aio`] has their twins.

mod leases;
mod past;
mod reads;
mod transaction;
mod typed;

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;

use objsync_proto::effect::Change;
use objsync_proto::ids::{Ack, Position, Revision};
use objsync_proto::key::{self, Key};
use objsync_proto::value::{from_payload, to_payload};
use objsync_proto::wire::KeyRange;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use self::leases::payloads;
pub(crate) use self::past::HISTORY_COUNT;
pub use self::past::PastObject;
pub(crate) use self::reads::single;
pub use self::transaction::{TransactionEntries, TypedTransaction};
pub use self::typed::{Batch, Entries, TypedPipeline};
use crate::dict::Dict;
use crate::error::Result;
use crate::options::{Options, Target};
use crate::status::Status;
use crate::watch::Watch;

/// What the three objects have in common: a persistent dictionary that others share live.
///
/// Keys are what [`Key`] can be made of: text, numbers, bytes, tuples of those and more. Values
/// are what serde can serialise; they travel and are stored as MessagePack, readable from Python.
#[derive(Debug, Clone)]
pub struct Object {
    dict: Dict,
}

impl Object {
    /// The typed face of a handle.
    #[must_use]
    pub fn new(dict: Dict) -> Self {
        Self { dict }
    }

    /// The handle under it, for encoded keys and payloads.
    #[must_use]
    pub fn dict(&self) -> &Dict {
        &self.dict
    }

    /// The value under a key, or none. A value of another type is `Invalid`.
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn get<V: DeserializeOwned>(&self, key: impl Into<Key>) -> Result<Option<V>> {
        let payload = self.dict.get(encoded(key)?.as_bytes())?;
        Ok(payload.map(|payload| from_payload(&payload)).transpose()?)
    }

    /// Puts a value under a key. Its level of durability is reached when this returns.
    ///
    /// # Errors
    /// `Invalid` for what cannot be stored, `Denied`, `Unavailable`, `OutcomeUnknown`, `Full`.
    pub fn set(&self, key: impl Into<Key>, value: &(impl Serialize + ?Sized)) -> Result<Ack> {
        self.dict
            .set(encoded(key)?.as_bytes(), to_payload(value)?)
            .wait()
    }

    /// Removes a key; tells whether it was there.
    ///
    /// # Errors
    /// As [`Object::set`].
    pub fn delete(&self, key: impl Into<Key>) -> Result<bool> {
        self.dict
            .delete(encoded(key)?.as_bytes())
            .wait()
            .map(|(was_there, _)| was_there)
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn contains(&self, key: impl Into<Key>) -> Result<bool> {
        self.dict.contains(encoded(key)?.as_bytes())
    }

    /// How many keys there are.
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn len(&self) -> Result<u64> {
        self.dict.len()
    }

    /// Whether there is no key.
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn is_empty(&self) -> Result<bool> {
        self.dict.is_empty()
    }

    /// All entries in key order, as of one revision.
    ///
    /// # Errors
    /// As [`Dict::scan`]; each entry can fail too, when its value is of another type.
    pub fn iter<V: DeserializeOwned>(&self) -> Result<Entries<V>> {
        self.scan(KeyRange::default())
    }

    /// The entries from `start` on, up to but without `stop`; none for no bound.
    ///
    /// # Errors
    /// As [`Object::iter`].
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
    /// As [`Object::iter`].
    pub fn prefix<V: DeserializeOwned>(&self, prefix: &str) -> Result<Entries<V>> {
        self.scan(key::str_prefix(prefix))
    }

    /// Puts many pairs: one transaction up to 16 MiB, above that several in order.
    ///
    /// # Errors
    /// As [`Dict::update`].
    pub fn update<K: Into<Key>, V: Serialize>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Option<Ack>> {
        let pairs: Vec<_> = pairs.into_iter().map(pair).collect::<Result<_>>()?;
        self.dict.update(pairs)
    }

    /// Makes several changes in one transaction: all of them, or none if `fill` fails.
    ///
    /// # Errors
    /// Of `fill`; `Invalid` above 16 MiB; as [`Object::set`].
    ///
    /// # Examples
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// let accounts = objsync::DiskObject::open(folder.path().join("accounts"))?;
    /// accounts.batch(|batch| {
    ///     batch.set("ann", &70)?;
    ///     batch.set("bob", &30)
    /// })?;
    /// assert_eq!(accounts.len()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn batch(&self, fill: impl FnOnce(&mut Batch) -> Result<()>) -> Result<Ack> {
        let mut batch = Batch::default();
        fill(&mut batch)?;
        self.dict.batch(batch.into_changes()).wait()
    }

    /// Many acknowledged writes in flight, in order.
    #[must_use]
    pub fn pipeline(&self) -> TypedPipeline {
        TypedPipeline {
            pipeline: self.dict.pipeline(),
        }
    }

    /// Adds to an integer, a missing one counting as 0; returns its new value.
    ///
    /// # Errors
    /// `Invalid` when the value is no integer or leaves 64 bits; as [`Object::set`].
    ///
    /// # Examples
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// let counters = objsync::DiskObject::open(folder.path().join("counters"))?;
    /// assert_eq!(counters.incr("visits", 1)?, 1);
    /// assert_eq!(counters.incr("visits", 41)?, 42);
    /// assert_eq!(counters.get::<i64>("visits")?, Some(42));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn incr(&self, key: impl Into<Key>, by: i64) -> Result<i64> {
        self.dict.incr(encoded(key)?.as_bytes(), by).wait()
    }

    /// Puts `new` (none: removes the key) if its value is `expected` (none: it is missing); tells
    /// whether it was.
    ///
    /// # Errors
    /// As [`Object::set`].
    pub fn compare_and_set<V: Serialize>(
        &self,
        key: impl Into<Key>,
        expected: Option<&V>,
        new: Option<&V>,
    ) -> Result<bool> {
        let expected = expected.map(to_payload).transpose()?;
        let new = new.map(to_payload).transpose()?;
        self.dict
            .compare_and_set(encoded(key)?.as_bytes(), expected, new)
            .wait()
    }

    /// Removes everything; tells how many keys there were.
    ///
    /// # Errors
    /// As [`Object::set`].
    pub fn clear(&self) -> Result<u64> {
        self.dict.delete_range(KeyRange::default()).wait()
    }

    /// Follows all changes from here on, or after revision `since`.
    ///
    /// # Errors
    /// As [`Dict::watch`].
    ///
    /// # Examples
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// let config = objsync::DiskObject::open(folder.path().join("config"))?;
    /// let changes = config.watch(None)?;
    /// config.set("color", "blue")?;
    /// let change = changes.recv()?.expect("the watch is open");
    /// assert_eq!(change.decode_key()?, "color".into());
    /// assert_eq!(change.decode::<String>()?.as_deref(), Some("blue"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn watch(&self, since: Option<Revision>) -> Result<Watch> {
        self.dict.watch(KeyRange::default(), since)
    }

    /// As [`Object::watch`], for keys that are texts with a prefix.
    ///
    /// # Errors
    /// As [`Dict::watch`].
    pub fn watch_prefix(&self, prefix: &str, since: Option<Revision>) -> Result<Watch> {
        self.dict.watch(key::str_prefix(prefix), since)
    }

    /// Waits until this handle has everything that was committed when it was called.
    ///
    /// # Errors
    /// `Unavailable` when the owner does not answer.
    pub fn sync(&self) -> Result<Position> {
        self.dict.sync().wait()
    }

    /// Makes everything this handle wrote survive a power cut.
    ///
    /// # Errors
    /// As [`Object::set`].
    pub fn flush(&self) -> Result<Position> {
        self.dict.flush(None).wait()
    }

    /// How the handle is, from what it knows itself.
    #[must_use]
    pub fn status(&self) -> Status {
        self.dict.status()
    }

    /// Makes the store reachable at another address too. Only the owner can.
    ///
    /// # Errors
    /// As [`Dict::serve`].
    pub fn serve(&self, listen: SocketAddr) -> Result<SocketAddr> {
        self.dict.serve(listen)
    }

    /// Closes the object: started writes are finished, watches end.
    ///
    /// # Errors
    /// As [`Dict::close`].
    pub fn close(&self) -> Result<()> {
        self.dict.close()
    }

    fn scan<V>(&self, range: KeyRange) -> Result<Entries<V>> {
        Ok(Entries {
            scan: self.dict.scan(range, false)?,
            value: PhantomData,
        })
    }
}

/// An object kept in a directory: the first process that opens it owns and serves it, the others
/// work through it, and when it ends another takes over.
///
/// # Examples
/// ```
/// use objsync::DiskObject;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct User {
///     name: String,
///     admin: bool,
/// }
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("users.obj");
/// let users = DiskObject::open(&path)?;
/// users.set("ann", &User { name: "Ann".into(), admin: true })?;
/// users.close()?;
///
/// let again = DiskObject::open(&path)?;
/// assert!(again.get::<User>("ann")?.expect("it was kept").admin);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct DiskObject(Object);

/// As [`DiskObject`], with values compressed by zstd where that makes them smaller.
///
/// # Examples
/// ```
/// # let folder = tempfile::tempdir()?;
/// let texts = objsync::CompressedDiskObject::open(folder.path().join("texts.zst"), 5)?;
/// texts.set("long", &"again and ".repeat(1000))?;
/// assert_eq!(texts.get::<String>("long")?.map(|text| text.len()), Some(10_000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct CompressedDiskObject(Object);

/// The object served at an address. On a loopback address where nobody serves, this process
/// becomes the owner.
#[derive(Debug, Clone)]
pub struct NetworkObject(Object);

impl DiskObject {
    /// Opens the object in a directory, making it if need be.
    ///
    /// # Errors
    /// As [`Dict::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Options::default())
    }

    /// As [`DiskObject::open`], with options.
    ///
    /// # Errors
    /// As [`Dict::open`].
    pub fn open_with(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        Dict::open(path, options).map(|dict| Self(Object::new(dict)))
    }
}

impl CompressedDiskObject {
    /// Opens the object in a directory; values that it writes are compressed at `level` (1 to 22;
    /// 5 is a good one).
    ///
    /// # Errors
    /// As [`Dict::open`].
    pub fn open(path: impl AsRef<Path>, level: i32) -> Result<Self> {
        Self::open_with(path, level, Options::default())
    }

    /// As [`CompressedDiskObject::open`], with options.
    ///
    /// # Errors
    /// As [`Dict::open`].
    pub fn open_with(path: impl AsRef<Path>, level: i32, options: Options) -> Result<Self> {
        let options = Options {
            compression: Some(level),
            ..options
        };
        Dict::open(path, options).map(|dict| Self(Object::new(dict)))
    }
}

impl NetworkObject {
    /// Connects to `host:port`, or by a link.
    ///
    /// # Errors
    /// As [`Dict::connect`].
    pub fn connect(target: &str) -> Result<Self> {
        Self::connect_with(target, Options::default())
    }

    /// As [`NetworkObject::connect`], with options.
    ///
    /// # Errors
    /// As [`Dict::connect`].
    pub fn connect_with(target: &str, options: Options) -> Result<Self> {
        Dict::connect(&Target::parse(target)?, options).map(|dict| Self(Object::new(dict)))
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

impl Options {
    /// What a dictionary that does not exist yet holds from its first moment.
    ///
    /// # Errors
    /// `Invalid` for what cannot be stored.
    pub fn default_value<K: Into<Key>, V: Serialize>(
        mut self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self> {
        let change = |given| {
            let (key, value) = pair(given)?;
            Ok(Change {
                key,
                value: Some(value),
            })
        };
        self.content = Some(pairs.into_iter().map(change).collect::<Result<_>>()?);
        Ok(self)
    }
}

pub(crate) fn encoded(key: impl Into<Key>) -> Result<key::KeyBytes> {
    Ok(key::encode(&key.into())?)
}

pub(crate) fn pair<K: Into<Key>, V: Serialize>(
    (key, value): (K, V),
) -> Result<(bytes::Bytes, bytes::Bytes)> {
    Ok((encoded(key)?.into_bytes(), to_payload(&value)?))
}
