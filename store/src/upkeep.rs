//! The threads of a store, and what the one that keeps the index waits for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use objsync_proto::ids::Revision;

use crate::core::Core;
use crate::error::StoreError;
use crate::log::{FlushWork, SegmentInfo};

/// The index takes its batches once nothing came for this long,
const GATHER_MS: u64 = 200;
/// or after so many such waits, or when much has gathered: a key that is written again and again
/// then costs the index one write, and a burst of writes has the processor for itself.
const GATHER_COUNT_MAX: u32 = 25;
/// How often it is looked what may be removed, when nothing else gives cause.
const KEEP_MS: u64 = 5 * 60 * 1000;
/// How long the index waits after a failure.
const RETRY_MS: u64 = 1_000;
/// How long it waits after many: what fails each time costs as much each time.
const RETRY_MS_MAX: u64 = 60_000;

/// The threads, and work for the one that keeps the index.
#[derive(Default)]
pub(crate) struct Upkeep {
    target: AtomicU64,
    work: Mutex<Work>,
    changed: Condvar,
    segment_closed: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Work {
    is_idle: bool,
    is_stopped: bool,
    /// So much waits that the index should not gather more.
    is_pressing: bool,
    is_segment_closed: bool,
}

impl Upkeep {
    /// Tells how far the index may go.
    fn advance(&self, to: Revision, is_pressing: bool) {
        if is_pressing && !std::mem::replace(&mut self.work().is_pressing, true) {
            self.changed.notify_one();
        }
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

    /// Waits until the index may go past `indexed`; false at the end.
    fn wait(&self, indexed: Revision) -> bool {
        let mut work = self.work();
        loop {
            if work.is_stopped {
                return false;
            }
            if self.target() > indexed {
                return true;
            }
            work.is_idle = true;
            work = self
                .changed
                .wait(work)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until a segment was closed, or for a while; false at the end.
    fn wait_for_segment(&self) -> bool {
        let mut work = self.work();
        if !work.is_segment_closed && !work.is_stopped {
            let pause = Duration::from_millis(KEEP_MS);
            let waited = self.segment_closed.wait_timeout_while(work, pause, |work| {
                !work.is_segment_closed && !work.is_stopped
            });
            work = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        work.is_segment_closed = false;
        !work.is_stopped
    }

    /// Waits a while, or until the end, or until much waits.
    fn pause(&self, ms: u64) {
        let mut work = self.work();
        work.is_pressing = false;
        let _ = self
            .changed
            .wait_timeout_while(work, Duration::from_millis(ms), |work| {
                !work.is_stopped && !work.is_pressing
            });
    }

    /// Waits a while, or until the end.
    fn rest(&self, ms: u64) {
        let pause = Duration::from_millis(ms);
        let waited = self
            .changed
            .wait_timeout_while(self.work(), pause, |work| !work.is_stopped);
        drop(waited);
    }

    fn stop(&self) {
        self.work().is_stopped = true;
        self.changed.notify_all();
        self.segment_closed.notify_all();
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
        let to = self.open.durable().min(self.committed());
        self.upkeep.advance(to, self.state.is_filling());
    }

    /// A segment of the log was closed.
    pub(crate) fn segment_closed(&self, info: SegmentInfo) {
        let last = info.id.next();
        let listed = self.manifest.update(|manifest| {
            manifest.last_segment = manifest.last_segment.max(Some(last));
            // The new one says what the closed one has; of itself nothing is written down yet.
            manifest.chunks.open_bytes = 0;
        });
        if let Err(error) = listed {
            // The manifest names what must be there; a segment more is no fault.
            tracing::warn!(%error, "a new segment is not in the manifest yet");
        }
        self.upkeep.work().is_segment_closed = true;
        self.upkeep.segment_closed.notify_one();
    }

    /// Starts the threads of a store that can be written.
    pub(crate) fn start_threads(self: &Arc<Self>) -> Result<(), StoreError> {
        self.start_thread("objsync-store", Self::serve_queue)?;
        self.start_thread("objsync-flush", Self::serve_flushes)?;
        self.start_thread("objsync-index", Self::serve_index)?;
        self.start_thread("objsync-build", Self::serve_building)?;
        self.start_thread("objsync-keep", Self::serve_keeping)
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
                FlushWork::Grow => self.grow_ahead(),
            };
            if let Err(error) = done {
                tracing::warn!(%error, "in the background");
            }
        }
    }

    /// Writes zeros ahead of the writer. That syncs what was written, so that no other sync may
    /// follow: whoever goes on from one learns of it here.
    pub(crate) fn grow_ahead(&self) -> Result<(), StoreError> {
        let grown = self.open.grow_ahead();
        self.index_may_follow();
        self.feed.wake_durable();
        grown
    }

    /// What the thread that keeps the index does until it is stopped.
    fn serve_index(&self) {
        while self.upkeep.wait(self.state.indexed()) {
            self.gather();
            match self.advance_index() {
                Ok(true) => {}
                // A reader holds it up: it is asked again soon, whatever presses.
                Ok(false) => self.upkeep.rest(GATHER_MS),
                Err(error) => {
                    tracing::warn!(%error, "the index does not follow");
                    self.upkeep.rest(RETRY_MS);
                }
            }
        }
    }

    /// Moves the index as far as it may go; tells whether it moved.
    fn advance_index(&self) -> Result<bool, StoreError> {
        let before = self.state.indexed();
        while self.state.advance(self.upkeep.target())? {
            if self.upkeep.work().is_stopped {
                break;
            }
        }
        Ok(self.state.indexed() > before)
    }

    /// What the thread that opens the index, or makes it again, does until it is stopped.
    fn serve_building(&self) {
        let mut pause_ms = RETRY_MS;
        while self.state.wait_until_index_is_wanted() {
            match self.state.build_index() {
                Ok(_) | Err(StoreError::Closed) => {
                    pause_ms = RETRY_MS;
                    self.index_may_follow();
                }
                Err(error) => {
                    tracing::warn!(%error, "there is no index yet");
                    self.state.pause_building(Duration::from_millis(pause_ms));
                    pause_ms = (2 * pause_ms).min(RETRY_MS_MAX);
                }
            }
        }
    }

    /// Waits for more to gather, for as long as there is room.
    fn gather(&self) {
        let mut bytes = self.state.recent_bytes();
        for _ in 0..GATHER_COUNT_MAX {
            if self.state.is_filling() {
                return;
            }
            self.upkeep.pause(GATHER_MS);
            let gathered = self.state.recent_bytes();
            if gathered == bytes {
                return;
            }
            bytes = gathered;
        }
    }

    /// What the thread that makes snapshots and removes old files does until it is stopped.
    fn serve_keeping(&self) {
        loop {
            match self.keep() {
                Ok(()) | Err(StoreError::Closed) => {}
                Err(error) => tracing::warn!(%error, "the log could not be kept in order"),
            }
            if !self.upkeep.wait_for_segment() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use objsync_proto::ids::{Durability, NamespaceId};
    use objsync_proto::operation::Operation;

    use super::*;
    use crate::commit::Request;
    use crate::options::{IndexKind, StoreLimits, StoreOptions};
    use crate::recovery;
    use crate::steps::Step;
    use crate::store::Submission;

    fn core(limits: StoreLimits, threads: bool) -> (tempfile::TempDir, Arc<Core>) {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            index: IndexKind::Memory,
            limits,
            threads: false,
            ..StoreOptions::default()
        };
        let mut core = recovery::open(directory.path(), options).unwrap();
        let (name, content) = ("default".to_owned(), Vec::new());
        core.run_here(Request::CreateNamespace { name, content })
            .unwrap();
        core.has_threads = threads;
        (directory, Arc::new(core))
    }

    fn write_buffered(core: &Core) {
        let payload = objsync_proto::value::int_payload(1);
        let compression = objsync_proto::stored::Compression::None;
        let operation = Operation::Put {
            key: Bytes::from(objsync_proto::key::encode(&1.into()).unwrap()),
            value: objsync_proto::stored::seal(&payload, compression).unwrap(),
        };
        let write = Submission {
            namespace: NamespaceId::DEFAULT,
            operation,
            durability: Some(Durability::Buffered),
            origin: None,
        };
        core.run_anyway(Request::Write(write)).unwrap();
        assert!(core.upkeep.target() < core.committed());
    }

    /// Growing the log syncs it: then nobody syncs for the index any more.
    #[test]
    fn index_may_follow_what_was_synced_when_the_log_grew() {
        let (_directory, core) = core(StoreLimits::default(), false);
        write_buffered(&core);
        core.step(Step::Grow).unwrap();
        assert_eq!(core.open.durable(), core.committed());
        assert_eq!(core.upkeep.target(), core.committed());
        core.kill();
    }

    /// The end of a segment syncs it, and the next one may not come to be.
    #[test]
    fn who_waits_for_room_lets_the_index_follow_what_is_durable_by_then() {
        let limits = StoreLimits {
            recent_bytes_max: 1,
            ..StoreLimits::default()
        };
        let (_directory, core) = core(limits, true);
        write_buffered(&core);
        core.open.sync().unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        let (indexing, waiting) = (Arc::clone(&core), Arc::clone(&core));
        let index = std::thread::spawn(move || indexing.serve_index());
        let waiter = std::thread::spawn(move || send.send(waiting.wait_for_room()));
        let room = receive.recv_timeout(Duration::from_secs(20));
        assert!(matches!(room, Ok(Ok(()))), "{room:?}");
        core.upkeep.stop();
        index.join().unwrap();
        waiter.join().unwrap().unwrap();
        core.kill();
    }
}
