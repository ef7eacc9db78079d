//! Reading a dictionary.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use objsync_proto::ids::Revision;
use objsync_proto::wire::KeyRange;

use super::{Dict, Stamp};
use crate::core::Core;
use crate::error::Result;
use crate::large::{LargeValue, unfolded};
use crate::past::Past;
use crate::pending::Pending;
use crate::read;
use crate::scan::Scan;

impl Dict {
    /// The payload under a key. Local memory, or a round trip where the replica does not hold it;
    /// waits while this handle's own acknowledged writes have not arrived.
    ///
    /// # Errors
    /// `Unavailable` when a round trip is needed and nobody answers, `Closed`, `Interrupted`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let core = self.core()?;
        match read::at_once(core, key)? {
            Some(Some(payload)) if LargeValue::is_reference(&payload) => {
                self.load(payload).wait().map(Some)
            }
            Some(found) => Ok(found),
            None => self.fetch(key).wait(),
        }
    }

    /// As [`Dict::get`], awaitable.
    pub fn fetch(&self, key: &[u8]) -> Pending<Option<Bytes>> {
        let core = match self.core() {
            Ok(core) => core,
            Err(error) => return Pending::ready(Err(error)),
        };
        unfolded(core, find(core, key))
    }

    /// As [`Dict::fetch`], but a large value is not read: its payload is a reference, of which
    /// [`LargeValue::of`] tells size and type. [`Dict::load`] reads it, [`Dict::read_large`] into a
    /// buffer. Every write takes a reference in the place of a payload, and `compare_and_set` as what
    /// is expected: then nothing is sent but the reference.
    pub fn find(&self, key: &[u8]) -> Pending<Option<Bytes>> {
        match self.core() {
            Ok(core) => find(core, key),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// As [`Dict::get`], with the revision that wrote the value: what a [`Patch`](crate::Patch) is
    /// conditional on. There is none for a value that waits in this client's own queue.
    /// A large value is not read, as in [`Dict::find`].
    pub fn fetch_entry(&self, key: &[u8]) -> Pending<Option<(Bytes, Option<Revision>)>> {
        let core = match self.core() {
            Ok(core) => core,
            Err(error) => return Pending::ready(Err(error)),
        };
        match read::entry_at_once(core, key).transpose() {
            Some(known) => Pending::ready(known),
            None => {
                let (core, key) = (Arc::clone(core), Bytes::copy_from_slice(key));
                Pending::call("a value", read::entry(core, key))
            }
        }
    }

    /// The payload under a key, as it was no longer ago than `max_stale`. From memory if the newest
    /// barrier of this handle ([`Dict::sync`], or one that this call made) began so lately; else by
    /// one round trip. With zero the read is linearizable.
    ///
    /// # Errors
    /// As [`Dict::get`]; `Unavailable` also when the value is in memory, but may be older.
    ///
    /// # Examples
    /// ```
    /// # use objsync::{Dict, Options};
    /// # use std::time::Duration;
    /// # let folder = tempfile::tempdir()?;
    /// let dict = Dict::open(folder.path().join("data.obj"), Options::default())?;
    /// let key = objsync::key::encode(&"answer".into())?;
    /// assert_eq!(dict.get_within(key.as_bytes(), Duration::from_millis(200)).wait()?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_within(&self, key: &[u8], max_stale: Duration) -> Pending<Option<Bytes>> {
        let key = Bytes::copy_from_slice(key);
        match self.core() {
            Ok(core) => {
                let read = read::get_within(Arc::clone(core), key, max_stale);
                unfolded(core, Pending::call("a value", read))
            }
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// Everything as of this very moment, read-only, over many keys: one round trip on a peer.
    /// It holds the moment in memory until [`Past::release`] or until the last clone is dropped.
    ///
    /// An owner holds it for a minute, and a peer as long as no more than 64 MiB change; a peer that
    /// does not hold the whole dictionary reads it at the owner, see [`Dict::at`].
    ///
    /// # Errors
    /// As [`Dict::sync`]. The reads: [`crate::ObjectError::SnapshotExpired`] when it is no longer held.
    ///
    /// # Examples
    /// ```
    /// # use objsync::{Dict, Options, key, value};
    /// # let folder = tempfile::tempdir()?;
    /// let dict = Dict::open(folder.path().join("data.obj"), Options::default())?;
    /// let name = key::encode(&"answer".into())?;
    /// dict.set(name.as_bytes(), value::to_payload(&41)?).wait()?;
    /// let before = dict.snapshot().wait()?;
    /// dict.set(name.as_bytes(), value::to_payload(&42)?).wait()?;
    /// let payload = before.get(name.as_bytes()).wait()?.expect("it was there");
    /// assert_eq!(value::from_payload::<i32>(&payload)?, 41);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot(&self) -> Pending<Past> {
        let dict = self.clone();
        self.call("a snapshot", move |core| Past::now(dict, core))
    }

    /// Whether there is such a key. As [`Dict::get`].
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        let core = self.core()?;
        core.check_open()?;
        if core.owner().is_none()
            && !core
                .offline
                .as_ref()
                .is_some_and(|offline| offline.has_overlay())
            && let Some(has) = core.replica.has(key, core.acked())
        {
            return Ok(has);
        }
        find(core, key).wait().map(|value| value.is_some())
    }

    /// How many keys there are.
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn len(&self) -> Result<u64> {
        self.count().wait()
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
        self.call("a count", read::count)
    }

    /// The entries of a range in key order (or from the last to the first), as of one revision.
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn scan(&self, range: KeyRange, reverse: bool) -> Result<Scan> {
        self.scan_async(range, reverse).wait()
    }

    /// As [`Dict::scan`], awaitable.
    pub fn scan_async(&self, range: KeyRange, reverse: bool) -> Pending<Scan> {
        self.call("entries", move |core| {
            Scan::begin(core, range, reverse, true)
        })
    }

    /// As [`Dict::scan`], with empty payloads: cheaper when only keys are wanted.
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn keys(&self, range: KeyRange, reverse: bool) -> Result<Scan> {
        self.keys_async(range, reverse).wait()
    }

    /// As [`Dict::keys`], awaitable.
    pub fn keys_async(&self, range: KeyRange, reverse: bool) -> Pending<Scan> {
        self.call("keys", move |core| Scan::begin(core, range, reverse, false))
    }

    /// What to remember beside a decoded value: take it before the value is read, and the value is
    /// good for as long as [`Dict::is_current`] says so. A few nanoseconds.
    #[inline]
    #[must_use]
    pub fn stamp(&self, key: &[u8]) -> Stamp {
        match self.handle.cores.get() {
            Some(core) => {
                let role = role(core);
                let inner = match core.owner() {
                    Some(owner) => owner.stamp(key),
                    None => core.replica.stamp(key),
                };
                Stamp { role, inner }
            }
            None => Stamp {
                role: 0,
                inner: objsync_store::Stamp {
                    stripe: u32::MAX,
                    count: 0,
                },
            },
        }
    }

    /// Whether what was read after `stamp` is still what a read would give now. False also when the
    /// object is closed, the process was forked, or a read would have to wait. A few nanoseconds.
    #[inline]
    #[must_use]
    pub fn is_current(&self, stamp: &Stamp) -> bool {
        let Some(core) = self.handle.cores.get() else {
            return false;
        };
        if role(core) != stamp.role || core.check_open().is_err() {
            return false;
        }
        match core.owner() {
            Some(owner) => owner.is_current(stamp.inner),
            None => core.replica.is_current(stamp.inner, core.acked()),
        }
    }
}

/// The payload under a key, a large value as its reference.
fn find(core: &Arc<Core>, key: &[u8]) -> Pending<Option<Bytes>> {
    match read::at_once(core, key).transpose() {
        Some(known) => Pending::ready(known),
        None => {
            let (core, key) = (Arc::clone(core), Bytes::copy_from_slice(key));
            Pending::call("a value", read::get(core, key))
        }
    }
}

/// Part of a stamp: what makes every stamp old at once.
#[inline]
fn role(core: &Core) -> u32 {
    core.role_count().wrapping_add(core.replica.resets())
}
