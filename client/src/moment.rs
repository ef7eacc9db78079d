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
use objsync_proto::ids::Revision;
use objsync_proto::key;
use objsync_proto::wire::{Entry, KeyRange, Reply, Request};
use objsync_store::Reader;

use crate::core::Core;
use crate::error::Result;
use crate::pending::unexpected_reply;
use crate::replica::{Extent, Pin};

/// A stored value and the revision that wrote it; none where there was no such key.
pub(crate) type Known = Option<(Bytes, Revision)>;

/// One moment of a dictionary.
pub(crate) struct Moment {
    core: Arc<Core>,
    revision: Revision,
    source: Source,
}

enum Source {
    Store(Reader),
    Replica(Pin),
    Owner,
}

impl Moment {
    /// The present moment, where this process owns the store; else none.
    pub(crate) fn of_owner(core: &Arc<Core>) -> Option<Self> {
        let reader = core.owner()?.reader();
        Some(Self {
            core: Arc::clone(core),
            revision: reader.position().revision,
            source: Source::Store(reader),
        })
    }

    /// A moment that holds everything this handle was acknowledged.
    pub(crate) async fn now(core: Arc<Core>) -> Result<Self> {
        core.readable().await?;
        if let Some(moment) = Self::of_owner(&core) {
            return Ok(moment);
        }
        let pinned = match core.replica.extent() {
            Extent::Whole => core.replica.pin_at(),
            _ => None,
        };
        let (source, revision) = match pinned {
            Some((pin, revision)) => (Source::Replica(pin), revision),
            None => match core.request(Request::Barrier).await? {
                Reply::Position(position) => (Source::Owner, position.revision),
                other => return Err(unexpected_reply(&other)),
            },
        };
        Ok(Self {
            core,
            revision,
            source,
        })
    }

    /// As of when it is.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// What can be told of a key without waiting for anybody.
    pub(crate) fn at_once(&self, key: &[u8]) -> Result<Option<Known>> {
        self.core.check_open()?;
        if !self.core.config.sees(key) {
            return Ok(Some(None));
        }
        Ok(match &self.source {
            Source::Store(reader) => {
                let Some(owner) = self.core.owner() else {
                    return Err(self.core.closed_error());
                };
                let stored = reader.get(owner.namespace(), key)?;
                Some(stored.map(|stored| (stored.value, stored.revision)))
            }
            Source::Replica(pin) => {
                let only = KeyRange {
                    start: Bytes::copy_from_slice(key),
                    end: Some(key::successor(key)),
                };
                let mut page = self.core.replica.page(pin, &only, false, 0)?;
                let entry = page.entries.pop();
                Some(entry.map(|entry| (entry.value, entry.revision)))
            }
            Source::Owner => None,
        })
    }

    /// What a key was.
    pub(crate) async fn get(&self, key: Bytes) -> Result<Known> {
        if let Some(known) = self.at_once(&key)? {
            return Ok(known);
        }
        let revision = self.revision;
        // The present is cheaper for the owner than the past, and most often it is the same: what
        // was written by then and is still there, or was not there when nothing had happened yet.
        match self.core.request(Request::Get { key: key.clone() }).await? {
            Reply::Entry {
                entry: Some((value, written)),
                ..
            } if written <= revision => Ok(Some((value, written))),
            Reply::Entry { entry: None, as_of } if as_of <= revision => Ok(None),
            Reply::Entry { .. } => {
                match self.core.request(Request::GetAt { key, revision }).await? {
                    Reply::Entry { entry, .. } => Ok(entry),
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
        match &self.source {
            Source::Store(reader) => {
                let Some(owner) = self.core.owner() else {
                    return Err(self.core.closed_error());
                };
                let entries = reader.page(owner.namespace(), range, reverse, bytes)?;
                Ok(Some(entries))
            }
            Source::Replica(pin) => {
                let page = self.core.replica.page(pin, range, reverse, bytes)?;
                Ok(Some(page.entries))
            }
            Source::Owner => Ok(None),
        }
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        if let Source::Replica(pin) = &self.source {
            self.core.replica.unpin(pin);
        }
    }
}
