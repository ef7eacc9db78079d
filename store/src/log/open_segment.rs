//! The one segment that is appended to: how far it is written, allocated and synced.
//!
//! Shared by the writer, the flusher and those who wait for a sync. Syncs take turns: the system
//! reports a failure to one caller only, so whoever syncs next must first hear of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use objsync_proto::ids::Revision;
use objsync_proto::limits::SEGMENT_BYTES_MAX;

use super::SegmentInfo;
use crate::clock::Clock;
use crate::disk::DiskFile;
use crate::error::StoreError;
use crate::poison::Poison;

/// Bytes by which a small segment grows; four times as much with each step, up to the largest.
const STEP_BYTES_MIN: u64 = 256 << 10;
const STEP_BYTES_MAX: u64 = 8 << 20;
/// The largest step for which a writer waits, because nobody grew the segment ahead of it.
const STEP_BYTES_INLINE: u64 = 1 << 20;

/// The segment that is appended to.
pub struct OpenSegment {
    state: Mutex<State>,
    /// Told when the flusher has something to do.
    work: Condvar,
    /// Held while syncing.
    turn: Mutex<()>,
    /// Held while zeros are written past the allocated end.
    growing: Mutex<()>,
    durable: AtomicU64,
    poison: Arc<Poison>,
    clock: Arc<dyn Clock>,
    flush_delay_ms: u64,
    segment_bytes: u64,
}

struct State {
    info: SegmentInfo,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Bytes that are zeros, or written.
    allocated: u64,
    /// Bytes that are surely on disk.
    synced: u64,
    /// When the oldest write was made that nobody has begun to sync (monotonic milliseconds).
    unsynced_since_ms: Option<u64>,
    grow_wanted: bool,
    /// Nothing more is appended: what was written ahead is gone.
    is_cut: bool,
    stopped: bool,
}

/// What the flusher is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushWork {
    /// Sync what was written.
    Sync,
    /// Write zeros ahead of the writer.
    Grow,
    /// End.
    Stop,
}

/// How much is not yet on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsynced {
    pub(crate) bytes: u64,
    pub(crate) age_ms: u64,
}

/// What an open segment begins with.
pub(crate) struct Opened {
    pub(crate) info: SegmentInfo,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Up to here it was synced.
    pub(crate) synced: u64,
    /// Up to here the file has room.
    pub(crate) allocated: u64,
}

impl OpenSegment {
    pub(crate) fn new(
        opened: Opened,
        poison: Arc<Poison>,
        clock: Arc<dyn Clock>,
        limits: &crate::options::StoreLimits,
    ) -> Self {
        Self {
            durable: AtomicU64::new(opened.info.last.0),
            state: Mutex::new(State::new(opened)),
            work: Condvar::new(),
            turn: Mutex::new(()),
            growing: Mutex::new(()),
            poison,
            clock,
            flush_delay_ms: limits.flush_delay_ms,
            segment_bytes: limits.segment_bytes.min(SEGMENT_BYTES_MAX / 2),
        }
    }

    /// As far as it can be read.
    #[must_use]
    pub fn info(&self) -> SegmentInfo {
        self.state().info
    }

    /// As far as it is surely on disk.
    pub(crate) fn synced_info(&self) -> SegmentInfo {
        let state = self.state();
        SegmentInfo {
            bytes: state.synced,
            ..state.info
        }
    }

    /// The last revision that survives a power cut.
    #[must_use]
    pub fn durable(&self) -> Revision {
        Revision(self.durable.load(Ordering::Acquire))
    }

    /// Makes room up to `end`, and tells up to where the segment is synced.
    ///
    /// # Errors
    /// [`StoreError::Full`], with nothing changed that counts.
    pub(crate) fn reserve(&self, end: u64) -> Result<u64, StoreError> {
        let mut state = self.state();
        if end <= state.allocated {
            let low = state.allocated - end < step_bytes(state.allocated) / 2;
            if low && !state.grow_wanted && state.allocated < self.segment_bytes {
                state.grow_wanted = true;
                self.work.notify_one();
            }
            return Ok(state.synced);
        }
        drop(state);
        self.grow(end, STEP_BYTES_INLINE)?;
        Ok(self.state().synced)
    }

    /// Whether so many bytes more need neither a larger file nor the next segment.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        let state = self.state();
        state.info.bytes + bytes <= state.allocated.min(self.segment_bytes)
            && state.info.chunk_bytes < self.segment_bytes
    }

    /// Tells that frames up to `info.bytes` are with the operating system. Those that nobody is
    /// about to sync are left to the flusher.
    pub(crate) fn appended(&self, info: SegmentInfo, now_ms: u64, sync_follows: bool) {
        let mut state = self.state();
        debug_assert_eq!(state.info.id, info.id);
        state.info = info;
        if !sync_follows && state.unsynced_since_ms.is_none() {
            state.unsynced_since_ms = Some(now_ms);
            self.work.notify_one();
        }
    }

    /// Puts the next segment in the place of this one, which is synced.
    pub(crate) fn replace(&self, opened: Opened) {
        let mut state = self.state();
        debug_assert_eq!(state.synced, state.info.bytes);
        let stopped = state.stopped;
        *state = State::new(opened);
        state.stopped = stopped;
    }

    /// How much is not yet on disk, and for how long.
    pub(crate) fn unsynced(&self) -> Unsynced {
        let state = self.state();
        let age_ms = match state.unsynced_since_ms {
            Some(since) => self.clock.monotonic_ms().saturating_sub(since),
            None => 0,
        };
        Unsynced {
            bytes: state.info.bytes - state.synced,
            age_ms,
        }
    }

    /// Returns when everything appended before the call is on disk.
    ///
    /// # Errors
    /// [`StoreError::OutcomeUnknown`] if the sync fails: writes are refused from then on.
    /// [`StoreError::Poisoned`] if one failed before.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.sync_unless(|state| state.synced == state.info.bytes)
    }

    /// As [`OpenSegment::sync`], though what was written may be behind the last frame.
    pub(crate) fn sync_whatever(&self) -> Result<(), StoreError> {
        self.sync_unless(|_| false)
    }

    fn sync_unless(&self, is_needless: impl FnOnce(&State) -> bool) -> Result<(), StoreError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.poison.check()?;
        let (file, info, path) = {
            let state = self.state();
            if is_needless(&state) {
                return Ok(());
            }
            (state.file.clone(), state.info, state.path.clone())
        };
        let start_ms = self.clock.monotonic_ms();
        file.sync_data()
            .map_err(|error| self.poison.set(&StoreError::io("sync", &path, error)))?;
        let mut state = self.state();
        if state.info.id == info.id {
            state.synced = info.bytes;
            let behind = state.info.bytes > info.bytes;
            state.unsynced_since_ms = state.unsynced_since_ms.and(behind.then_some(start_ms));
        }
        self.durable.fetch_max(info.last.0, Ordering::AcqRel);
        Ok(())
    }

    /// Writes zeros ahead of the writer, so that a later sync has no metadata to write.
    pub(crate) fn grow_ahead(&self) -> Result<(), StoreError> {
        let end = {
            let mut state = self.state();
            state.grow_wanted = false;
            state.allocated + 1
        };
        self.grow(end, STEP_BYTES_MAX)?;
        self.sync()
    }

    fn grow(&self, end: u64, step_max: u64) -> Result<(), StoreError> {
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, id, path, start) = {
            let state = self.state();
            if end <= state.allocated || state.is_cut {
                return Ok(());
            }
            (
                state.file.clone(),
                state.info.id,
                state.path.clone(),
                state.allocated,
            )
        };
        let step_end = start + step_bytes(start).min(step_max);
        let wished = step_end.min(self.segment_bytes).max(end);
        // A step may not fit where what is needed does.
        let reached = match grow_file(&*file, start, wished) {
            Err(_) if wished > end => grow_file(&*file, start, end).map(|()| end),
            grown => grown.map(|()| wished),
        };
        let reached = reached.map_err(|error| StoreError::io("grow", &path, error))?;
        let mut state = self.state();
        if state.info.id == id {
            state.allocated = reached;
        }
        Ok(())
    }

    /// Removes the zeros that were written ahead, once nothing more is appended: a closed store has
    /// no byte that says nothing.
    ///
    /// Harmless whenever the power goes: no frame lies there, and a segment may be of any length
    /// behind its last frame.
    pub(crate) fn cut(&self) -> Result<(), StoreError> {
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, bytes, path) = {
            let mut state = self.state();
            state.is_cut = true;
            (state.file.clone(), state.info.bytes, state.path.clone())
        };
        cut(&*file, bytes).map_err(|error| StoreError::io("cut", &path, error))
    }

    /// Waits until the flusher has something to do.
    pub(crate) fn wait_for_work(&self) -> FlushWork {
        let mut state = self.state();
        loop {
            if state.stopped {
                return FlushWork::Stop;
            }
            if state.grow_wanted && self.poison.cause().is_none() {
                return FlushWork::Grow;
            }
            let wait_ms = state.unsynced_since_ms.map(|since| {
                (since + self.flush_delay_ms).saturating_sub(self.clock.monotonic_ms())
            });
            state = match wait_ms {
                Some(0) if self.poison.cause().is_none() => return FlushWork::Sync,
                Some(wait_ms) if wait_ms > 0 => {
                    let wait = Duration::from_millis(wait_ms);
                    let waited = self.work.wait_timeout(state, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                _ => self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Ends the flusher.
    pub(crate) fn stop(&self) {
        self.state().stopped = true;
        self.work.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(opened: Opened) -> Self {
        Self {
            info: opened.info,
            path: opened.path,
            file: opened.file,
            allocated: opened.allocated,
            synced: opened.synced,
            unsynced_since_ms: None,
            grow_wanted: false,
            is_cut: false,
            stopped: false,
        }
    }
}

/// Writes zeros up to `end`, or leaves the room that did not suffice to others.
fn grow_file(file: &dyn DiskFile, start: u64, end: u64) -> std::io::Result<()> {
    file.write_zeros(start, end).inspect_err(|_| {
        // If that fails too, zeros lie there, as they may.
        let _ = file.truncate(start);
    })
}

/// Removes what a file has behind its first `bytes` bytes.
pub(crate) fn cut(file: &dyn DiskFile, bytes: u64) -> std::io::Result<()> {
    match file.bytes()? > bytes {
        true => file.truncate(bytes).and_then(|()| file.sync_data()),
        false => Ok(()),
    }
}

fn step_bytes(allocated: u64) -> u64 {
    // 256 KiB, 1 MiB, 4 MiB, then 8 MiB at a time.
    (allocated * 3).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX)
}
