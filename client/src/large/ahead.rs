//! Large values that are fetched before they are read: those up to 4 MiB, as a peer that holds the
//! dictionary hears of them. Longer ones are fetched as they are read.
//!
//! Trail: a frame of the replica's stream -> [`Ahead::note`] -> one task per handle, which fetches
//! what it is told of, in order, into the cache. It never holds up the stream: what does not fit into
//! its queue is fetched when it is read.
//!
//! Nothing is fetched to be pushed out before it is read: of what was there when the peer came, no more
//! than the cache has room for, and of changes no more at once than it holds.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use objsync_proto::ids::Revision;
use objsync_proto::limits::CONTENT_BYTES_AHEAD_MAX;
use objsync_proto::stored_chunks::is_chunked;
use objsync_proto::wire::Feed;

use super::reference::{LargeValue, reference};
use super::walk::Walk;
use crate::core::Core;
use crate::replica::Extent;

/// Values that wait to be fetched; of more, those that come later are not fetched ahead.
const QUEUE_COUNT_MAX: usize = 4_096;

/// What is to be fetched.
#[derive(Default)]
pub(crate) struct Ahead {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    wanted: VecDeque<Wanted>,
    /// Bytes of their content.
    bytes: u64,
    /// A task fetches.
    is_busy: bool,
}

/// A value that is to be fetched.
struct Wanted {
    value: LargeValue,
    /// It was written just now: it takes the place of what is older.
    is_new: bool,
}

impl Ahead {
    /// Takes notice of the large values in a frame of the replica's stream.
    pub(crate) fn note(&self, core: &Arc<Core>, frame: &Feed) {
        match frame {
            Feed::Entries(entries) | Feed::Replace { entries, .. } => {
                for entry in entries {
                    self.add(core, (&entry.key, entry.revision), &entry.value, false);
                }
            }
            Feed::Events(events) => {
                for event in events {
                    for change in &event.changes {
                        if let Some(value) = &change.value {
                            self.add(core, (&change.key, event.revision), value, true);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn add(
        &self,
        core: &Arc<Core>,
        (key, revision): (&Bytes, Revision),
        stored: &Bytes,
        is_new: bool,
    ) {
        if !is_chunked(stored) {
            return;
        }
        let Ok(Some(value)) = LargeValue::of(&reference(key, revision, stored)) else {
            return;
        };
        let bytes = value.content_bytes();
        let mut queue = self.queue();
        let is_full = queue.wanted.len() >= QUEUE_COUNT_MAX
            || queue.bytes + bytes > core.large.cache.bytes_max();
        if is_full || bytes > CONTENT_BYTES_AHEAD_MAX {
            return;
        }
        queue.bytes += bytes;
        queue.wanted.push_back(Wanted { value, is_new });
        if !std::mem::replace(&mut queue.is_busy, true) {
            drop(queue);
            core.runtime().spawn(fetch_all(Arc::clone(core)));
        }
    }

    fn next(&self) -> Option<Wanted> {
        let mut queue = self.queue();
        let next = queue.wanted.pop_front();
        queue.is_busy = next.is_some();
        if let Some(next) = &next {
            queue.bytes -= next.value.content_bytes();
        }
        next
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches until nothing waits. What cannot be fetched now is when it is read.
async fn fetch_all(core: Arc<Core>) {
    while let Some(Wanted { value, is_new }) = core.large.ahead.next() {
        let is_held = matches!(core.replica.extent(), Extent::Joining | Extent::Whole);
        if core.owner().is_some() || !is_held || core.check_open().is_err() {
            continue;
        }
        let end = value.content_bytes();
        if is_new || core.large.cache.has_room(end) {
            let mut walk = Walk::new(&core, &Arc::new(value), (0, end), true);
            while let Ok(Some(_)) = walk.next().await {}
        }
    }
}
