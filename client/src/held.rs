//! A moment that is held for a snapshot: by the store of this process, or in the replica.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Position, Revision};
use objsync_proto::key;
use objsync_proto::wire::{Entry, KeyRange};
use objsync_store::{Reader, Stored};

use crate::core::Core;
use crate::error::{ObjectError, Result};
use crate::replica::{Extent, Pin};

/// A moment of a dictionary, held until it is released or dropped.
pub(crate) struct Held {
    core: Arc<Core>,
    position: Position,
    moment: Mutex<Option<Moment>>,
}

enum Moment {
    Store(Reader),
    Replica(Pin),
}

impl Held {
    /// Holds the present moment of the store of this process; or that of the replica, which must
    /// have reached `position`. None where neither has all of it.
    pub(crate) fn now(core: &Arc<Core>, position: Position) -> Option<Self> {
        let (position, moment) = if let Some(owner) = core.owner() {
            let reader = owner.reader();
            (reader.position(), Moment::Store(reader))
        } else if core.replica.extent() == Extent::Whole {
            let (pin, at) = core.replica.pin_at()?;
            let revision = at.revision.max(position.revision);
            (Position { revision, ..at }, Moment::Replica(pin))
        } else {
            return None;
        };
        Some(Self {
            core: Arc::clone(core),
            position,
            moment: Mutex::new(Some(moment)),
        })
    }

    /// Which one.
    pub(crate) fn revision(&self) -> Revision {
        self.position.revision
    }

    /// Which one, and in which history.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// The payload that a key has there.
    pub(crate) fn get(&self, name: &[u8]) -> Result<Option<Bytes>> {
        let stored = self.stored(name)?;
        stored
            .map(|stored| {
                let config = &self.core.config;
                config.open(name, stored.revision, stored.value)
            })
            .transpose()
    }

    /// What is stored under a key there, and when it was written.
    pub(crate) fn stored(&self, name: &[u8]) -> Result<Option<Stored>> {
        if !self.core.config.sees(name) {
            return Ok(None);
        }
        match &*self.held() {
            Some(Moment::Store(reader)) => match self.core.owner() {
                Some(owner) => Ok(reader.get(owner.namespace(), name)?),
                None => Err(self.core.closed_error()),
            },
            Some(Moment::Replica(pin)) => {
                let range = KeyRange {
                    start: Bytes::copy_from_slice(name),
                    end: Some(key::successor(name)),
                };
                let page = self.core.replica.page(pin, &range, false, 1);
                let entry = page.map_err(|_| self.expired())?.entries.pop();
                Ok(entry.map(|entry| Stored {
                    value: entry.value,
                    revision: entry.revision,
                }))
            }
            None => Err(self.released()),
        }
    }

    /// Entries of a range there; none at its end.
    pub(crate) fn page(
        &self,
        range: &KeyRange,
        reverse: bool,
        bytes_max: usize,
    ) -> Result<Vec<Entry>> {
        match &*self.held() {
            Some(Moment::Store(reader)) => match self.core.owner() {
                Some(owner) => Ok(reader.page(owner.namespace(), range, reverse, bytes_max)?),
                None => Err(self.core.closed_error()),
            },
            Some(Moment::Replica(pin)) => {
                let page = self.core.replica.page(pin, range, reverse, bytes_max);
                Ok(page.map_err(|_| self.expired())?.entries)
            }
            None => Err(self.released()),
        }
    }

    /// Lets go of it. Harmless when repeated.
    pub(crate) fn release(&self) {
        if let Some(Moment::Replica(pin)) = self.held().take() {
            self.core.replica.unpin(&pin);
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<Moment>> {
        self.moment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expired(&self) -> ObjectError {
        ObjectError::SnapshotExpired {
            revision: self.revision(),
        }
    }

    fn released(&self) -> ObjectError {
        let text = format!("the snapshot at revision {} was released", self.revision());
        ObjectError::new(ErrorKind::Closed, text)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}
