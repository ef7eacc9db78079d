//! The bytes-level dictionary: encoded keys, plain payloads.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::ids::{Ack, PeerKey, Position, Revision};
use objsync_proto::wire::{Grant, KeyRange, OwnerStatus};

use crate::error::Result;
use crate::link::{GrantRequest, Link};
use crate::options::{Options, Target};
use crate::pending::Pending;
use crate::pipeline::Pipeline;
use crate::scan::Scan;
use crate::status::Status;
use crate::watch::Watch;

/// A handle on a shared dictionary. Clones are the same handle; it can be used from any thread.
///
/// Keys are encoded keys, values are plain payloads (decompressed, without header). Calls that
/// change something return a [`Pending`]: `.wait()` blocks, `.await` does not.
#[derive(Clone, Debug)]
pub struct Dict {
    _private: (),
}

/// What a cache of decoded values remembers beside a value: see [`Dict::stamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    role: u32,
    stripe: u32,
    count: u64,
}

impl Dict {
    /// Opens the store in a directory, making it if need be: as its owner, or through the process
    /// that owns it already.
    ///
    /// # Errors
    /// `Invalid` when the path is a file, `Unavailable` when the owner does not answer in time,
    /// `Corrupt`, `Unsupported`, `Denied` as the store says.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let _ = (path.as_ref(), options);
        todo!()
    }

    /// Connects to the store served at an address or named by a link. On a loopback address where
    /// nobody serves, becomes its owner, unless `promote` is off.
    ///
    /// # Errors
    /// `Unavailable` when nobody answers in time, `Denied` when the server is not the one expected
    /// or refuses us.
    pub fn connect(target: &Target, options: Options) -> Result<Self> {
        let _ = (target, options);
        todo!()
    }

    /// Owns the store in a directory, making it if need be, and serves it at `listen` (port 0 for
    /// any), on loopback or not.
    ///
    /// # Errors
    /// `Unavailable` when another process owns the store and keeps it for the whole timeout;
    /// `Denied` when the port is taken.
    pub fn serve_at(path: impl AsRef<Path>, listen: SocketAddr, options: Options) -> Result<Self> {
        let _ = (path.as_ref(), listen, options);
        todo!()
    }

    /// As [`Dict::open`], awaitable.
    pub fn open_async(path: impl AsRef<Path>, options: Options) -> Pending<Self> {
        let _ = (path.as_ref(), options);
        todo!()
    }

    /// As [`Dict::connect`], awaitable.
    pub fn connect_async(target: &Target, options: Options) -> Pending<Self> {
        let _ = (target, options);
        todo!()
    }

    /// The payload under a key. Local memory, or a round trip where the replica does not hold it;
    /// waits while this handle's own acknowledged writes have not arrived.
    ///
    /// # Errors
    /// `Unavailable` when a round trip is needed and nobody answers, `Closed`, `Interrupted`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let _ = key;
        todo!()
    }

    /// As [`Dict::get`], awaitable.
    pub fn fetch(&self, key: &[u8]) -> Pending<Option<Bytes>> {
        let _ = key;
        todo!()
    }

    /// Whether there is such a key. As [`Dict::get`].
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        let _ = key;
        todo!()
    }

    /// How many keys there are.
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn len(&self) -> Result<u64> {
        todo!()
    }

    /// Whether there is no key.
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// As [`Dict::len`], awaitable.
    pub fn count(&self) -> Pending<u64> {
        todo!()
    }

    /// The entries of a range in key order (or from the last to the first), as of one revision.
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn scan(&self, range: KeyRange, reverse: bool) -> Result<Scan> {
        let _ = (range, reverse);
        todo!()
    }

    /// As [`Dict::scan`], with empty payloads: cheaper when only keys are wanted.
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn keys(&self, range: KeyRange, reverse: bool) -> Result<Scan> {
        let _ = (range, reverse);
        todo!()
    }

    /// What to remember beside a decoded value: take it before the value is read, and the value is
    /// good for as long as [`Dict::is_current`] says so. A few nanoseconds.
    #[must_use]
    pub fn stamp(&self, key: &[u8]) -> Stamp {
        let _ = key;
        todo!()
    }

    /// Whether what was read after `stamp` is still what a read would give now. False also when the
    /// object is closed, the process was forked, or a read would have to wait. A few nanoseconds.
    #[must_use]
    pub fn is_current(&self, stamp: &Stamp) -> bool {
        let _ = stamp;
        todo!()
    }

    /// Puts a payload under a key.
    pub fn set(&self, key: &[u8], value: impl Into<Bytes>) -> Pending<Ack> {
        let _ = (key, value.into());
        todo!()
    }

    /// Removes a key; tells whether it was there.
    pub fn delete(&self, key: &[u8]) -> Pending<(bool, Ack)> {
        let _ = key;
        todo!()
    }

    /// Removes every key of a range, in several transactions when there are many; tells how many.
    pub fn delete_range(&self, range: KeyRange) -> Pending<u64> {
        let _ = range;
        todo!()
    }

    /// Puts `new` (or removes the key) if its payload is `expected` (or it is missing); tells
    /// whether it was.
    pub fn compare_and_set(
        &self,
        key: &[u8],
        expected: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Pending<bool> {
        let _ = (key, expected, new);
        todo!()
    }

    /// Adds to an integer, a missing one counting as 0; returns its new value.
    pub fn incr(&self, key: &[u8], by: i64) -> Pending<i64> {
        let _ = (key, by);
        todo!()
    }

    /// Makes all changes in one transaction; values are plain payloads. More than 16 MiB is
    /// `Invalid`.
    pub fn batch(&self, changes: Vec<Change>) -> Pending<Ack> {
        let _ = changes;
        todo!()
    }

    /// Puts many pairs: one transaction up to 16 MiB, above that several in order. Returns the last
    /// acknowledgement; none when there were no pairs.
    ///
    /// # Errors
    /// Of the first transaction that failed: those before it are done, those after it are not.
    pub fn update<K, V>(&self, pairs: impl IntoIterator<Item = (K, V)>) -> Result<Option<Ack>>
    where
        K: Into<Bytes>,
        V: Into<Bytes>,
    {
        let _ = pairs;
        todo!()
    }

    /// Many acknowledged writes in flight, in order.
    pub fn pipeline(&self) -> Pipeline {
        Pipeline::new(self)
    }

    /// Follows the changes of a range: those after this moment, or after revision `since`.
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn watch(&self, range: KeyRange, since: Option<Revision>) -> Result<Watch> {
        let _ = (range, since);
        todo!()
    }

    /// Waits until this handle has everything that was committed when it was called.
    pub fn sync(&self) -> Pending<Position> {
        todo!()
    }

    /// Makes everything this handle wrote, or all up to `revision`, survive a power cut.
    pub fn flush(&self, revision: Option<Revision>) -> Pending<Position> {
        let _ = revision;
        todo!()
    }

    /// The acknowledgement of this handle's newest answered write.
    #[must_use]
    pub fn last_ack(&self) -> Option<Ack> {
        todo!()
    }

    /// How the handle is, from what it knows itself.
    #[must_use]
    pub fn status(&self) -> Status {
        todo!()
    }

    /// How the owner is: a round trip, unless this handle is the owner.
    pub fn owner_status(&self) -> Pending<OwnerStatus> {
        todo!()
    }

    /// Makes the store reachable at another address too. Only the owner can.
    ///
    /// # Errors
    /// `Denied` when another process owns the store, or the port is taken.
    pub fn serve(&self, listen: SocketAddr) -> Result<SocketAddr> {
        let _ = listen;
        todo!()
    }

    /// Lets somebody else in, and returns the link to give to them.
    pub fn grant(&self, request: GrantRequest) -> Pending<Link> {
        let _ = request;
        todo!()
    }

    /// Everybody who was let in.
    pub fn grants(&self) -> Pending<Vec<Grant>> {
        todo!()
    }

    /// Takes a grant back and cuts its connections.
    pub fn revoke(&self, peer: PeerKey) -> Pending<()> {
        let _ = peer;
        todo!()
    }

    /// Closes this handle and all its clones: started writes are finished, watches end. When the
    /// last handle of an owner closes, the store does, and another process takes over.
    ///
    /// # Errors
    /// When the store could not be closed cleanly; it is closed all the same.
    pub fn close(&self) -> Result<()> {
        todo!()
    }
}
