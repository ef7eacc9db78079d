//! Through the content of a large value, from an offset on, in the order of the content.
//!
//! Chunks are asked for in windows, some of them ahead of the reader: the first is one chunk, and each
//! is larger than the one before, so that who reads a few bytes pays for few. Where a window takes long
//! the next ones are smaller: what is on its way holds up what others ask for. What comes is checked
//! against the hash that names it and against the size that its parent states, whoever sent it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use objsync_proto::chunk::{Child, overlapping};
use objsync_proto::limits::{CHUNK_BYTES, CHUNKS_ASKED_MAX, CONTENT_BYTES_AHEAD_MAX};
use objsync_proto::wire::ChunkPlace;
use objsync_store::ChunkHold;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::reference::LargeValue;
use super::{own, place};
use crate::core::Core;
use crate::error::{ObjectError, Result};

/// Bytes of content asked for together, at most, about.
const WINDOW_BYTES_MAX: u64 = 2 << 20;
/// Windows asked for before they are read.
const WINDOWS_AHEAD: usize = 4;
/// Bytes of the first windows of who reads all.
const WINDOW_BYTES_FIRST: u64 = 256 << 10;
/// How much larger each window is than the one before, or smaller on a slow way.
const WINDOW_GROWTH: u64 = 4;
/// A window that takes longer is too large for its way.
const SLOW: Duration = Duration::from_secs(1);

/// A way through the content.
pub(super) struct Walk {
    core: Arc<Core>,
    value: Arc<LargeValue>,
    /// What is still to be gone through: the lowest level last, and in it the next child first.
    levels: Vec<(u8, VecDeque<(u64, Child)>)>,
    /// What part of the content is wanted.
    start: u64,
    end: u64,
    ahead: VecDeque<Ahead>,
    ready: VecDeque<(u64, Bytes)>,
    window_bytes: u64,
    is_all: bool,
    /// What is fetched goes into the handle's cache.
    is_cached: bool,
    /// What was there when it began stays.
    _kept: Option<ChunkHold>,
}

/// A window that was asked for. Dropped, it is not waited for.
struct Ahead(JoinHandle<Result<Window>>);

/// Chunks with their places, and how long they took.
struct Window {
    chunks: VecDeque<(u64, Bytes)>,
    took: Duration,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Walk {
    /// From the chunk that has the byte at `start` to the one with the byte before `end`. `is_all`
    /// says that all of that will be read.
    pub(super) fn new(
        core: &Arc<Core>,
        value: &Arc<LargeValue>,
        (start, end): (u64, u64),
        is_all: bool,
    ) -> Self {
        let root = &value.root;
        let children = overlapping(root.children(), 0, start, end).collect();
        Self {
            core: Arc::clone(core),
            value: Arc::clone(value),
            levels: vec![(root.depth(), children)],
            start,
            end,
            ahead: VecDeque::new(),
            ready: VecDeque::new(),
            is_cached: value.content_bytes() <= CONTENT_BYTES_AHEAD_MAX,
            _kept: own::keep(core),
            window_bytes: if is_all { WINDOW_BYTES_FIRST } else { 1 },
            is_all,
        }
    }

    /// The next chunk and where its content begins; none at the end.
    ///
    /// Cancel safety: dropped half way, the chunk is lost to this walk, so begin another.
    pub(super) async fn next(&mut self) -> Result<Option<(u64, Bytes)>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Ok(Some(chunk));
            }
            self.ask_ahead().await?;
            let Some(mut oldest) = self.ahead.pop_front() else {
                return Ok(None);
            };
            let window = (&mut oldest.0)
                .await
                .unwrap_or_else(|error| Err(ObjectError::stopped(&error)))?;
            self.ready = window.chunks;
            self.window_bytes = after(self.window_bytes, window.took);
        }
    }

    async fn ask_ahead(&mut self) -> Result<()> {
        while self.ahead.len() < WINDOWS_AHEAD {
            let window = self.next_window().await?;
            if window.is_empty() {
                break;
            }
            let (core, value) = (Arc::clone(&self.core), Arc::clone(&self.value));
            let is_cached = self.is_cached && self.core.owner().is_none();
            let start = Instant::now();
            let fetching = async move {
                let chunks = place::fetch(&core, &value, &window).await?;
                if is_cached {
                    for ((place, _), chunk) in window.iter().zip(&chunks) {
                        core.large.cache.put(place.id, chunk.clone());
                    }
                }
                let places = window.into_iter().map(|(place, _)| place.offset);
                Ok(Window {
                    chunks: places.zip(chunks).collect(),
                    took: start.elapsed(),
                })
            };
            self.ahead
                .push_back(Ahead(self.core.runtime().spawn(fetching)));
            if !self.is_all && self.window_bytes < WINDOW_BYTES_MAX {
                // A small one is read before more is asked for.
                break;
            }
        }
        Ok(())
    }

    /// Places of the chunks of the next window. Nodes on the way are fetched.
    async fn next_window(&mut self) -> Result<Vec<(ChunkPlace, u64)>> {
        let mut window = Vec::new();
        let mut bytes = 0;
        let bytes_max = self.window_bytes;
        while let Some((level, children)) = self.levels.last_mut() {
            let level = *level;
            let Some((offset, child)) = children.front().copied() else {
                self.levels.pop();
                continue;
            };
            let place = ChunkPlace {
                id: child.id,
                level,
                offset,
            };
            if level > 0 {
                if !window.is_empty() {
                    break;
                }
                let node = place::node(&self.core, &self.value, place, child.bytes).await?;
                children.pop_front();
                let below = overlapping(node.children(), offset, self.start, self.end).collect();
                self.levels.push((level - 1, below));
                continue;
            }
            if bytes >= bytes_max || window.len() == CHUNKS_ASKED_MAX {
                break;
            }
            bytes += child.bytes;
            window.push((place, child.bytes));
            children.pop_front();
        }
        Ok(window)
    }
}

/// The size of the windows behind one of this size that took so long.
fn after(window_bytes: u64, took: Duration) -> u64 {
    let bytes = window_bytes.max(CHUNK_BYTES as u64);
    match took > SLOW {
        true => (bytes / WINDOW_GROWTH).max(CHUNK_BYTES as u64),
        false => (bytes * WINDOW_GROWTH).min(WINDOW_BYTES_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_on_a_fast_way_and_shrink_to_a_chunk_on_a_slow_one() {
        let sizes = |first, took| {
            let next = move |size: &u64| Some(after(*size, took));
            std::iter::successors(Some(first), next)
                .take(5)
                .collect::<Vec<u64>>()
        };
        let kib = |sizes: Vec<u64>| sizes.iter().map(|size| size >> 10).collect::<Vec<_>>();
        assert_eq!(kib(sizes(1, Duration::ZERO)), [0, 256, 1024, 2048, 2048]);
        assert_eq!(kib(sizes(2 << 20, SLOW * 2)), [2048, 512, 128, 64, 64]);
    }
}
