//! A revision of the past, read-only: from the files of this process's own store, or by round trips.
//!
//! Trail: [`crate::Dict::at`] -> [`Past::get`] -> `store::Past` (owner), or `Request::GetAt` and
//! `server::past` (peer).
//!
//! Nothing is held at the owner for a peer: each request names the revision, so one that has
//! become the owner, reconnected or was forked goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::Revision;
use objsync_proto::value::from_payload;
use objsync_proto::wire::{self, KeyRange, Reply, Request};
use serde::de::DeserializeOwned;

use crate::core::Core;
use crate::dict::Dict;
use crate::error::{ObjectError, Result};
use crate::held::Held;
use crate::large::{LargeValue, unfolded};
use crate::owner::OwnerSide;
use crate::pending::{Pending, unexpected_reply};
use crate::scan::Scan;

/// A dictionary as it was at one revision: see [`Dict::at`]. Clones are the same.
#[derive(Debug, Clone)]
pub struct Past {
    dict: Dict,
    revision: Revision,
    /// What this process has opened as the owner.
    opened: Arc<OnceLock<objsync_store::Past>>,
    /// The moment, where it is held: see [`Dict::snapshot`].
    held: Option<Arc<Held>>,
    released: Arc<AtomicBool>,
}

/// What a key was from one revision on: see [`Dict::history`].
///
/// A large value is not read with it: see [`Version::load`].
#[derive(Debug, Clone)]
pub struct Version {
    /// The revision that wrote it.
    pub revision: Revision,
    /// The owner's clock when it was decided, milliseconds since 1970; none where only a snapshot
    /// tells of it.
    pub time_ms: Option<u64>,
    /// The plain payload, of a large value its reference as [`Dict::find`] gives it; none when the key
    /// was removed.
    pub value: Option<Bytes>,
    /// What came before is no longer kept: this is how the key was at the oldest revision kept.
    pub is_oldest_known: bool,
    /// Who reads a large value; none for any other, so that its handle can be dropped before it.
    reader: Option<Dict>,
}

impl Version {
    /// As the owner tells it.
    pub(crate) fn open(
        (dict, core): (&Dict, &Core),
        key: &[u8],
        version: wire::Version,
    ) -> Result<Self> {
        let open = |value| core.config.open(key, version.revision, value);
        let value = version.value.map(open).transpose()?;
        let is_large = value.as_deref().is_some_and(LargeValue::is_reference);
        Ok(Self {
            revision: version.revision,
            time_ms: version.time_ms,
            value,
            is_oldest_known: version.is_oldest_known,
            reader: is_large.then(|| dict.clone()),
        })
    }

    /// The plain payload; none when the key was removed. A large value is read now, and each time
    /// anew, so a long history of large values does not have to be in memory at once.
    ///
    /// # Errors
    /// As [`Dict::load`]: `Conflict` when the store no longer keeps a large value.
    pub fn load(&self) -> Pending<Option<Bytes>> {
        match (&self.reader, &self.value) {
            (Some(reader), Some(reference)) => reader.load(reference.clone()).map(Some),
            (_, value) => Pending::ready(Ok(value.clone())),
        }
    }

    /// The value it had; none when it was removed. Blocks where it is large.
    ///
    /// # Errors
    /// `Invalid` when it is of another type; as [`Version::load`].
    pub fn decode<V: DeserializeOwned>(&self) -> Result<Option<V>> {
        let payload = self.load().wait()?;
        Ok(payload.map(|payload| from_payload(&payload)).transpose()?)
    }
}

/// Whether they tell the same; who reads a large value is no part of it.
impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        let told = |version: &Self| {
            let Version {
                revision,
                time_ms,
                is_oldest_known,
                ..
            } = *version;
            (revision, time_ms, is_oldest_known)
        };
        told(self) == told(other) && self.value == other.value
    }
}

impl Eq for Version {}

impl Past {
    pub(crate) fn new(dict: Dict, revision: Revision) -> Self {
        Self {
            dict,
            revision,
            opened: Arc::default(),
            held: None,
            released: Arc::default(),
        }
    }

    /// This very moment.
    pub(crate) async fn now(dict: Dict, core: Arc<Core>) -> Result<Self> {
        core.check_open()?;
        let position = core.sync().await?;
        let Some(held) = Held::now(&core, position) else {
            return Ok(Self::new(dict, position.revision));
        };
        let revision = held.revision();
        Ok(Self {
            held: Some(Arc::new(held)),
            ..Self::new(dict, revision)
        })
    }

    /// Lets go of what is held for a snapshot, for all clones: every read is `Closed` from then on.
    /// Harmless when repeated.
    pub fn release(&self) {
        self.released.store(true, Ordering::Release);
        if let Some(held) = &self.held {
            held.release();
        }
    }

    fn check_held(&self) -> Result<()> {
        if self.released.load(Ordering::Acquire) {
            let text = format!("the snapshot at revision {} was released", self.revision);
            return Err(ObjectError::new(ErrorKind::Closed, text));
        }
        Ok(())
    }

    /// The handle that it was made by.
    #[must_use]
    pub fn dict(&self) -> &Dict {
        &self.dict
    }

    /// As of when it is read.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The payload that a key had. A store of this process is read by the calling thread.
    ///
    /// # Errors
    /// [`ObjectError::PastRetention`] on a peer, once the revision is no longer kept; as
    /// [`Dict::get`].
    pub fn get(&self, key: &[u8]) -> Pending<Option<Bytes>> {
        match self.dict.core() {
            Ok(core) => unfolded(core, self.find(key)),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// As [`Past::get`], but a large value is not read: see [`Dict::find`].
    pub fn find(&self, key: &[u8]) -> Pending<Option<Bytes>> {
        let core = match self.dict.core() {
            Ok(core) => core,
            Err(error) => return Pending::ready(Err(error)),
        };
        match self.at_once(core, key).transpose() {
            Some(known) => Pending::ready(known),
            None => {
                let (past, core) = (self.clone(), Arc::clone(core));
                let key = Bytes::copy_from_slice(key);
                Pending::call("a value", async move { past.fetch(&core, key).await })
            }
        }
    }

    /// Whether there was such a key. As [`Past::get`].
    pub fn contains(&self, key: &[u8]) -> Pending<bool> {
        self.find(key).map(|value| value.is_some())
    }

    /// How many keys there were. The first time costs the owner a walk over all keys.
    ///
    /// # Errors
    /// As [`Past::get`].
    pub fn count(&self) -> Pending<u64> {
        let past = self.clone();
        self.dict
            .call("a count", |core| async move { past.counted(core).await })
    }

    /// The entries of a range in key order (or from the last to the first).
    ///
    /// # Errors
    /// As [`Past::get`].
    pub fn scan(&self, range: KeyRange, reverse: bool) -> Pending<Scan> {
        self.begin("entries", (range, reverse), true)
    }

    /// As [`Past::scan`], with empty payloads.
    ///
    /// # Errors
    /// As [`Past::get`].
    pub fn keys(&self, range: KeyRange, reverse: bool) -> Pending<Scan> {
        self.begin("keys", (range, reverse), false)
    }

    /// Finds out whether the revision can be read.
    pub(crate) async fn check(&self, core: &Arc<Core>) -> Result<()> {
        core.check_open()?;
        if self.opened(core).await?.is_some() {
            return Ok(());
        }
        let revision = self.revision;
        match core.request(Request::At { revision }).await? {
            Reply::Position(_) => Ok(()),
            other => Err(unexpected_reply(&other)),
        }
    }

    fn begin(
        &self,
        what: &'static str,
        range: (KeyRange, bool),
        with_values: bool,
    ) -> Pending<Scan> {
        let past = self.clone();
        self.dict.call(what, move |core| async move {
            core.check_open()?;
            past.check_held()?;
            if let Some(held) = past.held {
                return Ok(Scan::begin_held(core, held, range, with_values));
            }
            let source = (past.revision, past.opened(&core).await?);
            Ok(Scan::begin_at(core, source, range, with_values))
        })
    }

    /// What can be told without waiting for anybody.
    fn at_once(&self, core: &Core, key: &[u8]) -> Result<Option<Option<Bytes>>> {
        core.check_open()?;
        self.check_held()?;
        if !core.config.sees(key) {
            return Ok(Some(None));
        }
        if let Some(held) = &self.held {
            return held.get(key).map(Some);
        }
        match (core.owner(), self.opened.get()) {
            (Some(owner), Some(past)) => value(core, owner, past, key).map(Some),
            _ => Ok(None),
        }
    }

    async fn fetch(&self, core: &Arc<Core>, key: Bytes) -> Result<Option<Bytes>> {
        if let (Some(past), Some(owner)) = (self.opened(core).await?, core.owner()) {
            return value(core, owner, &past, &key);
        }
        let revision = self.revision;
        match core
            .request(Request::GetAt {
                key: key.clone(),
                revision,
            })
            .await?
        {
            Reply::Entry { entry, .. } => entry
                .map(|(value, revision)| core.config.open(&key, revision, value))
                .transpose(),
            other => Err(unexpected_reply(&other)),
        }
    }

    async fn counted(&self, core: Arc<Core>) -> Result<u64> {
        core.check_open()?;
        self.check_held()?;
        if let Some(held) = &self.held {
            let held = Arc::clone(held);
            return Scan::begin_held(core, held, Default::default(), false)
                .count_entries()
                .await;
        }
        if core.config.options.range.is_some() {
            let source = (self.revision, self.opened(&core).await?);
            return Scan::begin_at(core, source, Default::default(), false)
                .count_entries()
                .await;
        }
        if let (Some(past), Some(owner)) = (self.opened(&core).await?, core.owner()) {
            let namespace = owner.namespace();
            let count = core.runtime().spawn_blocking(move || past.count(namespace));
            return Ok(count
                .await
                .map_err(|error| ObjectError::stopped(&error))??);
        }
        let revision = self.revision;
        match core.request(Request::CountAt { revision }).await? {
            Reply::Count { count, .. } => Ok(count),
            other => Err(unexpected_reply(&other)),
        }
    }

    /// The revision, opened, where this process is the owner.
    async fn opened(&self, core: &Arc<Core>) -> Result<Option<objsync_store::Past>> {
        let Some(owner) = core.owner() else {
            return Ok(None);
        };
        if let Some(past) = self.opened.get() {
            return Ok(Some(past.clone()));
        }
        let (store, revision) = (owner.store().clone(), self.revision);
        let opening = core.runtime().spawn_blocking(move || store.at(revision));
        let past = opening
            .await
            .map_err(|error| ObjectError::stopped(&error))??;
        Ok(Some(self.opened.get_or_init(|| past).clone()))
    }
}

fn value(
    core: &Core,
    owner: &OwnerSide,
    past: &objsync_store::Past,
    key: &[u8],
) -> Result<Option<Bytes>> {
    let stored = past.get(owner.namespace(), key)?;
    stored
        .map(|stored| core.config.open(key, stored.revision, stored.value))
        .transpose()
}
