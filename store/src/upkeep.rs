//! The threads of a store, and what the one that keeps the index waits for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use objsync_proto::ids::Revision;

use crate::core::Core;
use crate::error::StoreError;
use crate::log::{FlushWork, SegmentInfo};

/// How long the index waits for more before it takes a batch.
const GATHER_MS: u64 = 20;
/// How long the index waits after a failure.
const RETRY_MS: u64 = 1_000;

/// The threads, and work for the one that keeps the index.
#[derive(Default)]
pub(crate) struct Upkeep {
    target: AtomicU64,
    work: Mutex<Work>,
    changed: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Work {
    is_idle: bool,
    is_stopped: bool,
    closed: Vec<SegmentInfo>,
}

impl Upkeep {
    /// Tells how far the index may go.
    fn advance(&self, to: Revision) {
        if self.target.fetch_max(to.0, Ordering::AcqRel) >= to.0 {
            return;
        }
        if std::mem::take(&mut self.work().is_idle) {
            self.changed.notify_one();
        }
    }

    fn target(&self) -> Revision {
        Revision(self.target.load(Ordering::Acquire))
    }

    /// Waits until the index may go past `indexed`, or a segment was closed; none at the end.
    fn wait(&self, indexed: Revision) -> Option<Vec<SegmentInfo>> {
        let mut work = self.work();
        loop {
            if work.is_stopped {
                return None;
            }
            if self.target() > indexed || !work.closed.is_empty() {
                return Some(std::mem::take(&mut work.closed));
            }
            work.is_idle = true;
            work = self
                .changed
                .wait(work)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits a while, or until the end.
    fn pause(&self, ms: u64) {
        let work = self.work();
        let _ = self
            .changed
            .wait_timeout_while(work, Duration::from_millis(ms), |work| !work.is_stopped);
    }

    fn stop(&self) {
        self.work().is_stopped = true;
        self.changed.notify_all();
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// The index may hold what is durable and committed.
    pub(crate) fn index_may_follow(&self) {
        self.upkeep
            .advance(self.open.durable().min(self.committed()));
    }

    /// A segment of the log was closed.
    pub(crate) fn segment_closed(&self, info: SegmentInfo) {
        let last = info.id.next();
        let listed = self
            .manifest
            .update(|manifest| manifest.last_segment = manifest.last_segment.max(Some(last)));
        if let Err(error) = listed {
            // The manifest names what must be there; a segment more is no fault.
            tracing::warn!(%error, "a new segment is not in the manifest yet");
        }
        self.upkeep.work().closed.push(info);
        self.upkeep.changed.notify_one();
    }

    /// Starts the threads of a store that can be written.
    pub(crate) fn start_threads(self: &Arc<Self>) -> Result<(), StoreError> {
        self.start_thread("objsync-store", Self::serve_queue)?;
        self.start_thread("objsync-flush", Self::serve_flushes)?;
        self.start_thread("objsync-index", Self::serve_index)
    }

    fn start_thread(
        self: &Arc<Self>,
        name: &str,
        body: impl FnOnce(&Self) + Send + 'static,
    ) -> Result<(), StoreError> {
        let core = self.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || body(&core))
            .map_err(|error| StoreError::io("start a thread for", &self.directory, error))?;
        self.upkeep.threads().push(thread);
        Ok(())
    }

    /// Ends the threads and waits for them. What is queued is answered first.
    pub(crate) fn stop_threads(&self) {
        self.queue.stop();
        self.open.stop();
        self.upkeep.stop();
        let threads = std::mem::take(&mut *self.upkeep.threads());
        let this = std::thread::current().id();
        for thread in threads {
            // A callback of the store's own thread may let go of the last handle.
            if thread.thread().id() != this && thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }

    /// What the flusher does until it is stopped.
    fn serve_flushes(&self) {
        loop {
            let done = match self.open.wait_for_work() {
                FlushWork::Stop => return,
                FlushWork::Sync => self.sync(),
                FlushWork::Grow => self.open.grow_ahead(),
            };
            if let Err(error) = done {
                tracing::warn!(%error, "in the background");
            }
        }
    }

    /// What the thread that keeps the index does until it is stopped.
    fn serve_index(&self) {
        while let Some(closed) = self.upkeep.wait(self.state.indexed()) {
            if !self.state.is_full() {
                self.upkeep.pause(GATHER_MS);
            }
            for info in closed {
                self.keep_segment(info);
            }
            if let Err(error) = self.advance_index() {
                tracing::warn!(%error, "the index does not follow");
                self.upkeep.pause(RETRY_MS);
            }
        }
    }

    fn advance_index(&self) -> Result<(), StoreError> {
        while self.state.advance(self.upkeep.target())? {
            if self.upkeep.work().is_stopped {
                return Ok(());
            }
        }
        Ok(())
    }

    fn keep_segment(&self, info: SegmentInfo) {
        let _ = info;
    }
}
