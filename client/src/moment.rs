//! One moment of a dictionary: each read of it finds what was there then, and at which revision
//! that was written.
//!
//! | this handle | a moment is |
//! |---|---|
//! | owns the store | a reader of the store, which pins a revision |
//! | holds the whole dictionary | a pin on the replica: no round trip |
//! | holds a part of it, or nothing | a revision, of which the owner is asked |
//!
//! What has changed too much since to be told any more is `Conflict`: take another moment.

use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::ids::{Position, Revision};
use objsync_proto::wire::{Entry, KeyRange, Reply, Request};
use objsync_store::Stored;

use crate::core::Core;
use crate::error::Result;
use crate::held::Held;
use crate::pending::unexpected_reply;

/// One moment of a dictionary.
pub(crate) struct Moment {
    core: Arc<Core>,
    position: Position,
    /// Where the store of this process or the replica holds it; none where the owner is asked.
    held: Option<Held>,
}

impl Moment {
    /// The present moment, where this process owns the store; else none.
    pub(crate) fn of_owner(core: &Arc<Core>) -> Option<Self> {
        let position = core.owner()?.position();
        Held::now(core, position).map(|held| Self::held(core, held))
    }

    /// A moment that holds everything this handle was acknowledged.
    pub(crate) async fn now(core: Arc<Core>) -> Result<Self> {
        core.readable().await?;
        if let Some(moment) = Self::of_owner(&core) {
            return Ok(moment);
        }
        let position = core.replica.position();
        let held = position.and_then(|position| Held::now(&core, position));
        // Until the owner has said that it goes on from what the replica holds, it is asked itself.
        if let Some(held) = held.filter(|held| core.is_of_present(&held.position()) != Some(false))
        {
            return Ok(Self::held(&core, held));
        }
        match core.request(Request::Barrier).await? {
            Reply::Position(position) => Ok(Self {
                core,
                position,
                held: None,
            }),
            other => Err(unexpected_reply(&other)),
        }
    }

    fn held(core: &Arc<Core>, held: Held) -> Self {
        Self {
            core: Arc::clone(core),
            position: held.position(),
            held: Some(held),
        }
    }

    /// Lets go of what is held for it: nothing more is read.
    pub(crate) fn release(&self) {
        if let Some(held) = &self.held {
            held.release();
        }
    }

    /// As of when it is.
    pub(crate) fn revision(&self) -> Revision {
        self.position.revision
    }

    /// As of when it is, and in which history: revisions of another one are other changes.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// What can be told of a key without waiting for anybody.
    pub(crate) fn at_once(&self, key: &[u8]) -> Result<Option<Option<Stored>>> {
        self.core.check_open()?;
        match &self.held {
            Some(held) => held.stored(key).map(Some),
            None if self.core.config.sees(key) => Ok(None),
            None => Ok(Some(None)),
        }
    }

    /// What a key was.
    pub(crate) async fn get(&self, key: Bytes) -> Result<Option<Stored>> {
        if let Some(known) = self.at_once(&key)? {
            return Ok(known);
        }
        let revision = self.revision();
        // The present is cheaper for the owner than the past, and most often it is the same: what
        // was written by then and is still there, or was not there when nothing had happened yet.
        match self.core.request(Request::Get { key: key.clone() }).await? {
            Reply::Entry {
                entry: Some(entry), ..
            } if entry.1 <= revision => Ok(Some(stored(entry))),
            Reply::Entry { entry: None, as_of } if as_of <= revision => Ok(None),
            Reply::Entry { .. } => {
                match self.core.request(Request::GetAt { key, revision }).await? {
                    Reply::Entry { entry, .. } => Ok(entry.map(stored)),
                    other => Err(unexpected_reply(&other)),
                }
            }
            other => Err(unexpected_reply(&other)),
        }
    }

    /// Entries of a range, until they hold `bytes` bytes; none where only the owner has them.
    pub(crate) fn page(
        &self,
        range: &KeyRange,
        reverse: bool,
        bytes: usize,
    ) -> Result<Option<Vec<Entry>>> {
        let page = |held: &Held| held.page(range, reverse, bytes);
        self.held.as_ref().map(page).transpose()
    }
}

fn stored((value, revision): (Bytes, Revision)) -> Stored {
    Stored { value, revision }
}
