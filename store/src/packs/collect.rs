//! Which chunks are dead: those that nothing names from which a value could still be read.
//!
//! A chunk lives while a frame of the retained log, an entry of a snapshot, a surface's root, an upload,
//! or a node that lives names it. The present state and every revision that can be read stand in log
//! and snapshots; who reads what has left them has a hold.
//!
//! A collection marks what lives while writes go on, and then *condemns* the rest with the writer's
//! role and the lock of the open pack held, so that nothing is named or relied upon in between:
//! * What a write named since the collection began is noted by `Packs::admit`, which the writer calls
//!   before it logs.
//! * Who asks whether a chunk is there, or stores one, pins it before a collection can condemn it, and
//!   pins are looked at last.
//! * A node that is stored meanwhile is walked as any other once it is named or pinned: what it lists
//!   may have been there before, with nothing else that names it.
//! * What is condemned is no longer *there*: a write that names it is refused, and who uploads it
//!   stores it anew.
//! * Of a node that lives and cannot be read nobody knows what is below it. All that was there when
//!   this was found, and is of a lower level, is kept until the node can be read or nothing names it;
//!   what came later cannot be below it. Opening the store begins this anew.
//!
//! On a crash: nothing was written down but copies; all is found again, and collected the next time.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use objsync_proto::chunk::Root;
use objsync_proto::error::Failure;
use objsync_proto::ids::{ChunkId, SurfaceId};
use objsync_proto::stored_chunks;

use super::Packs;
use super::writing::{self, Writing};
use crate::core::Core;
use crate::error::StoreError;
use crate::history::{is_removed, located};
use crate::log::{LogReader, SegmentInfo, segment_path};
use crate::snapshot::{Snapshot, SnapshotInfo};

/// A collection that nobody asked for waits until so many bytes were put,
const PUT_BYTES_MIN: u64 = 16 << 20;
/// and one of so many parts of what was alive the last time; or until one of so many parts of the
/// log and the snapshots, which it reads, has been removed.
const WORTH_SHARE: u64 = 4;

/// What a collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Chunks and nodes that were found dead.
    pub dead_count: u64,
    /// Bytes of their records.
    pub dead_bytes: u64,
    /// Packs that were removed.
    pub removed_pack_count: u64,
    /// Bytes of live records that were copied so that their packs could go.
    pub copied_bytes: u64,
}

/// What writes have named since a collection began; none while there is no collection.
#[derive(Debug, Default)]
pub(super) struct Named(Mutex<Option<Vec<ChunkId>>>);

impl Named {
    fn begin(&self) {
        *self.lock() = Some(Vec::new());
    }

    /// What was named by now.
    fn so_far(&self) -> Vec<ChunkId> {
        self.lock().clone().unwrap_or_default()
    }

    fn end(&self) -> Vec<ChunkId> {
        self.lock().take().unwrap_or_default()
    }

    fn add(&self, ids: impl Iterator<Item = ChunkId>) {
        if let Some(named) = self.lock().as_mut() {
            named.extend(ids);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<ChunkId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Packs {
    /// Whether a value with this root may be logged: gives the ids that are not there. When there are
    /// none, all of it is on disk when this returns. Only for who has the writer's role.
    ///
    /// # Errors
    /// The outer one of the disk; the inner one when the root says what is not so.
    pub(crate) fn admit(&self, root: &Root) -> Result<Result<Vec<ChunkId>, Failure>, StoreError> {
        let mut is_durable = true;
        let mut missing = Vec::new();
        {
            let index = self.index();
            for child in root.children() {
                match index.get(&child.id).filter(|entry| !entry.is_damaged) {
                    None => missing.push(child.id),
                    Some(entry) => {
                        if let Err(failure) = writing::same_size(child, entry, root.depth()) {
                            return Ok(Err(failure));
                        }
                        is_durable &= index.is_durable(entry);
                    }
                }
            }
        }
        if !missing.is_empty() {
            return Ok(Ok(missing));
        }
        self.named.add(root.children().iter().map(|child| child.id));
        if !is_durable {
            self.sync()?;
            // What is below a node was put before it, and is on disk with it. A sync by somebody else
            // that failed may have taken all of it back.
            let index = self.index();
            let lost = root.children().iter().filter(|child| !index.has(&child.id));
            missing.extend(lost.map(|child| child.id));
        }
        Ok(Ok(missing))
    }

    /// As [`Packs::admit`], of ids that a frame of another store names: all must be there.
    pub(crate) fn admit_ids(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>, StoreError> {
        let lost = || {
            let index = self.index();
            let lost = ids.iter().filter(|id| !index.has(id));
            lost.copied().collect::<Vec<_>>()
        };
        let missing = lost();
        if !missing.is_empty() {
            return Ok(missing);
        }
        self.named.add(ids.iter().copied());
        self.sync()?;
        Ok(lost())
    }

    /// Marks ids as alive, and all that is below them as far as it can be read.
    fn mark(&self, ids: impl IntoIterator<Item = ChunkId>) {
        let mut next: Vec<ChunkId> = ids.into_iter().collect();
        while let Some(id) = next.pop() {
            let marked = self.index_mut().mark_alive(&id);
            let Some(level) = marked.filter(|level| *level > 0) else {
                continue;
            };
            match self.node(id) {
                Ok(Some(node)) => next.extend(node.children().iter().map(|child| child.id)),
                // A sync that failed has taken it back since.
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%id, %error, "a node cannot be read: what may be below it is kept");
                    self.index_mut().note_unread(id, level);
                }
            }
        }
    }

    /// A part of the log was removed.
    pub(crate) fn note_trimmed(&self, bytes: u64) {
        self.trimmed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The next collection is due when as much has come and gone as for this one.
    fn count_anew(&self, writing: &mut Writing) {
        writing.put_bytes = 0;
        self.trimmed_bytes.store(0, Ordering::Relaxed);
    }

    /// Whether so much may be dead that a collection pays, which reads `read_bytes` of log and
    /// snapshots.
    pub(crate) fn is_collection_due(&self, read_bytes: u64) -> bool {
        let status = self.status();
        let trimmed = self.trimmed_bytes.load(Ordering::Relaxed);
        let put = self.writing().put_bytes;
        let is_much_put = put >= PUT_BYTES_MIN.max(status.live_bytes / WORTH_SHARE);
        let is_much_trimmed = trimmed > 0 && trimmed >= read_bytes / WORTH_SHARE;
        status.pack_count > 0 && (is_much_put || is_much_trimmed)
    }
}

impl Core {
    /// As `Store::collect_chunks`.
    pub(crate) fn collect_chunks(&self) -> Result<Collected, StoreError> {
        let packs = &self.packs;
        let _alone = packs
            .collecting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        {
            // No write is between its admission and the log.
            let writer = self.writer();
            if writer.is_none() {
                return Err(self.no_writer());
            }
            packs.index_mut().begin_marking();
            packs.named.begin();
        }
        let condemned = self.mark_all().map(|()| self.condemn());
        packs.named.end();
        if condemned.is_err() && !self.is_closed() {
            // What has failed may do so each time, and reads all of the log and the snapshots.
            packs.count_anew(&mut packs.writing());
        }
        let (dead_count, dead_bytes) = condemned?;
        let reclaimed = packs.reclaim()?;
        tracing::info!(dead_count, dead_bytes, "chunks collected");
        Ok(Collected {
            dead_count,
            dead_bytes,
            ..reclaimed
        })
    }

    /// Collects if that pays; gives back what waited for readers.
    pub(crate) fn keep_chunks(&self) -> Result<(), StoreError> {
        let read_bytes = self.read_bytes();
        match self.packs.is_collection_due(read_bytes) {
            true => self.collect_chunks().map(drop),
            false => {
                let collecting = &self.packs.collecting;
                let _alone = collecting.lock().unwrap_or_else(PoisonError::into_inner);
                self.packs.reclaim().map(drop)
            }
        }
    }

    /// Marks everything that lives, as far as it is named by now.
    fn mark_all(&self) -> Result<(), StoreError> {
        let packs = &self.packs;
        packs.mark(packs.pins.pinned());
        for surface in self.surfaces.iter() {
            let mut roots = Vec::new();
            surface.walk_roots(&mut |id| roots.push(id))?;
            packs.mark(roots);
        }
        // The open segment first: it may be closed, and another begun, whose frames are noted.
        let open = self.open.info();
        let mut segments = self.segments.closed();
        segments.retain(|info| info.id < open.id);
        segments.push(open);
        for segment in segments {
            self.refuse_if_closed()?;
            match self.mark_segment(segment) {
                Err(error) if is_removed(&error) && self.is_trimmed(segment) => {}
                marked => marked?,
            }
        }
        self.mark_snapshots()?;
        // Most of what came meanwhile, so that the writer waits for the rest only.
        packs.mark(packs.named.so_far());
        packs.mark(packs.pins.pinned());
        Ok(())
    }

    /// Marks what snapshots name, until there is none that was not read: one that goes may have a
    /// successor that came after the others were listed, and so has a segment that goes.
    fn mark_snapshots(&self) -> Result<(), StoreError> {
        let mut marked: Vec<SnapshotInfo> = Vec::new();
        loop {
            self.refuse_if_closed()?;
            let mut snapshots = self.snapshots.list().into_iter();
            let Some(snapshot) = snapshots.find(|snapshot| !marked.contains(snapshot)) else {
                return Ok(());
            };
            match self.mark_snapshot(snapshot) {
                Err(error) if is_removed(&error) && !self.snapshots.list().contains(&snapshot) => {}
                marked => marked?,
            }
            marked.push(snapshot);
        }
    }

    fn is_trimmed(&self, segment: SegmentInfo) -> bool {
        let closed = self.segments.closed();
        closed.first().is_none_or(|first| segment.id < first.id)
    }

    fn mark_snapshot(&self, info: SnapshotInfo) -> Result<(), StoreError> {
        let snapshot = Snapshot::open(&*self.disk, &self.directory, info.revision)?;
        for entry in snapshot.table().iter() {
            let entry = entry?;
            if entry.section.surface == SurfaceId::DICT {
                self.packs.mark(stored_chunks::ids(&entry.payload));
            }
        }
        Ok(())
    }

    fn mark_segment(&self, info: SegmentInfo) -> Result<(), StoreError> {
        for read in LogReader::new(&*self.disk, &self.directory, vec![info], None) {
            let (place, frame) = read?;
            let path = segment_path(&self.directory, place.segment);
            for logged in located(frame.transactions(), &path, place.offset)? {
                let effects = logged.transaction.effects;
                self.packs
                    .mark(effects.into_iter().flat_map(|effect| effect.chunks));
            }
        }
        Ok(())
    }

    /// Takes out what was not found alive; tells how many chunks and bytes that are.
    fn condemn(&self) -> (u64, u64) {
        let packs = &self.packs;
        let _writer = self.writer();
        let mut writing = packs.writing();
        packs.mark(packs.named.end());
        packs.mark(packs.pins.pinned());
        let hold = packs.pins.next_hold();
        packs.count_anew(&mut writing);
        packs.index_mut().condemn(hold)
    }
}
