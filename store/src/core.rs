//! What an open store consists of, shared by its handles and its threads.

use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use objsync_proto::ids::{Durability, Epoch, Position, Revision, StoreId};

use crate::authority::Authority;
use crate::catalog::Catalog;
use crate::clock::{Clock, OwnerTime};
use crate::commit::{Queue, Request, Writer};
use crate::dictionaries::OpenDictionaries;
use crate::disk::Disk;
use crate::epoch::Epochs;
use crate::error::StoreError;
use crate::feed::Feed;
use crate::grants::Grants;
use crate::history::LogHistory;
use crate::leases::Leases;
use crate::lock::Lock;
use crate::log::{OpenSegment, Place, Segments};
use crate::manifest::{ChunkCounts, ManifestFile};
use crate::options::StoreLimits;
use crate::packs::Packs;
use crate::poison::Poison;
use crate::sessions::Sessions;
use crate::snapshot::Snapshots;
use crate::stamps::Stamps;
use crate::state::DictState;
use crate::status::{Marks, StoreStatus};
use crate::surfaces::Surfaces;
use crate::upkeep::Upkeep;

/// An open store.
pub(crate) struct Core {
    pub(crate) directory: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) limits: StoreLimits,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) time: OwnerTime,
    pub(crate) authority: Box<dyn Authority>,

    pub(crate) store: StoreId,
    /// The epoch that this process began; see [`Core::epoch`].
    pub(crate) begun: Epoch,
    /// It appends what its source sends, and begins no epoch.
    pub(crate) follows: bool,
    pub(crate) began: Began,
    pub(crate) epochs: Arc<RwLock<Epochs>>,
    pub(crate) manifest: ManifestFile,
    pub(crate) segments: Arc<Segments>,
    pub(crate) open: Arc<OpenSegment>,
    pub(crate) history: Arc<LogHistory>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) poison: Arc<Poison>,
    pub(crate) packs: Packs,
    pub(crate) surfaces: Surfaces,

    pub(crate) queue: Queue,
    /// None in a store that is open only for reading.
    pub(crate) writer: Mutex<Option<Writer>>,
    /// The last revision that is with the operating system.
    pub(crate) appended: AtomicU64,

    pub(crate) state: Arc<DictState>,
    pub(crate) system: Mutex<System>,
    pub(crate) catalog: RwLock<Catalog>,
    pub(crate) leases: Leases,
    pub(crate) dictionaries: OpenDictionaries,
    pub(crate) stamps: Stamps,
    pub(crate) feed: Feed,

    pub(crate) upkeep: Upkeep,
    pub(crate) lock: Mutex<Option<Lock>>,
    pub(crate) is_closed: AtomicBool,
    /// The store has threads of its own; if not, a test does their work.
    pub(crate) has_threads: bool,
    pub(crate) start_ms: u64,
}

/// Where this owner went on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Began {
    /// The last revision that was kept of those before.
    pub(crate) kept: Revision,
    /// The last revision that may have been given before; the first of this owner follows.
    pub(crate) given: Revision,
}

/// Store state that is kept in memory, and in the log.
#[derive(Debug, Default)]
pub(crate) struct System {
    pub(crate) sessions: Sessions,
    pub(crate) grants: Grants,
}

impl Core {
    /// Store, epoch and committed revision.
    pub(crate) fn position(&self) -> Position {
        self.position_at(self.committed())
    }

    /// The present epoch. A follower's moves on with its source's.
    pub(crate) fn epoch(&self) -> Epoch {
        match self.follows {
            false => self.begun,
            true => self.epochs().current().unwrap_or(self.begun),
        }
    }

    /// A revision of the present epoch as a position.
    pub(crate) fn position_at(&self, revision: Revision) -> Position {
        Position {
            store: self.store,
            epoch: self.epoch(),
            revision,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(crate) fn refuse_if_closed(&self) -> Result<(), StoreError> {
        match self.is_closed() {
            true => Err(StoreError::Closed),
            false => Ok(()),
        }
    }

    /// Why there is no writer.
    pub(crate) fn no_writer(&self) -> StoreError {
        StoreError::ReadOnly {
            directory: self.directory.clone(),
        }
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn system(&self) -> MutexGuard<'_, System> {
        self.system.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn epochs(&self) -> RwLockReadGuard<'_, Epochs> {
        self.epochs.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn catalog_mut(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far each step of the write path is.
    pub(crate) fn marks(&self) -> Marks {
        // The index is read first: it follows the others, and they only grow.
        let indexed = match self.state.build_progress() {
            None => self.state.indexed(),
            Some(building) => building.revision,
        };
        let durable = self.open.durable();
        let committed = self.committed();
        Marks {
            appended: Revision(self.appended.load(Ordering::Acquire)),
            durable,
            committed,
            indexed,
        }
    }

    /// How the store is.
    pub(crate) fn status(&self) -> StoreStatus {
        let open_bytes = self.open.info().bytes;
        StoreStatus {
            position: self.position(),
            marks: self.marks(),
            log_bytes: self.segments.closed_bytes() + open_bytes,
            snapshot_bytes: self.snapshots.bytes(),
            index_bytes: self.state.index_bytes(),
            index_build: self.state.build_progress(),
            recent_bytes: self.state.recent_bytes() as u64,
            sessions: u32::try_from(self.system().sessions.count()).unwrap_or(u32::MAX),
            uptime_ms: self.clock.monotonic_ms().saturating_sub(self.start_ms),
            poisoned: self.poison.cause().map(str::to_owned),
        }
    }

    /// Descriptors that a forked child must close.
    pub(crate) fn inherited_fds(&self) -> Vec<RawFd> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = lock.iter().map(Lock::fd);
        lock.chain(self.state.inherited_fds()).collect()
    }

    /// Leaves an end mark, ends the threads and frees the directory.
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let has_writer = self.writer().is_some();
        let ended = match has_writer {
            true => self.end_log(),
            false => Ok(()),
        };
        if has_writer && let Err(error) = self.packs.close() {
            // Whoever opens the store seals it.
            tracing::warn!(%error, "the open pack is not sealed");
        }
        self.let_go(ended.is_ok());
        ended
    }

    /// As a killed process: no sync, no end mark.
    pub(crate) fn kill(&self) {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let killed = io::Error::other("the store was killed");
        self.poison
            .set(&StoreError::io("keep", &self.directory, killed));
        self.let_go(false);
    }

    /// The last frame, and the manifest that says where it is.
    pub(crate) fn end_log(&self) -> Result<(), StoreError> {
        self.run_anyway(Request::Close)?;
        self.poison.check()?;
        if self.follows {
            // Waits for frames that are being appended; what comes later is refused, so that it is
            // not behind the end that is written down below.
            if let Some(writer) = self.writer().as_mut() {
                writer.closed = true;
            }
            // Its log has the frames of its source and none of its own: no mark, but all synced.
            self.open.sync()?;
        }
        if let Err(error) = self.segments.cut().and_then(|()| self.open.cut()) {
            // What is left there counts for nothing.
            tracing::warn!(%error, "the log keeps bytes behind its end");
        }
        if let Err(error) = self.keep_end() {
            tracing::warn!(%error, "the next opening reads the log");
        }
        let end = self.open.info();
        let given = self.writer().as_ref().map(|writer| writer.last);
        let chunks = ChunkCounts {
            open_bytes: end.chunk_bytes,
            ..self.packs.counts()
        };
        self.manifest.update(|manifest| {
            if let Some(given) = given.filter(|_| !self.follows) {
                manifest.revision_max = given;
            }
            manifest.chunks = chunks;
            manifest.clean_end = Some(Place {
                segment: end.id,
                offset: end.bytes,
            });
        })
    }

    fn let_go(&self, is_clean: bool) {
        self.state.close();
        self.stop_threads();
        self.state.release_index(is_clean);
        *self.writer() = None;
        // Last of all: from here on another process may own the directory.
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
