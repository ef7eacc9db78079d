//! The history as others read it: the log from a revision on, and what marks of it mean.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use bytes::Bytes;
use objsync_proto::effect::Effect;
use objsync_proto::ids::{Epoch, EpochName, NamespaceId, Position, Revision, StoreId, SurfaceId};
use objsync_proto::wire::Entry;

use crate::dict;
use crate::disk::Disk;
use crate::epoch::Epochs;
use crate::error::StoreError;
use crate::footer::Footer;
use crate::frame::{BytesReader, LoggedTransaction, Malformed, put_varint};
use crate::index::{Index, LayeredIndex, compare};
use crate::log::{LogReader, OpenSegment, SegmentId, SegmentInfo, Segments, segment_path};
use crate::snapshot::{Snapshot, SnapshotInfo, Snapshots};
use crate::state::{History, LoggedChanges};

use crate::table::TableEntry;
use crate::told::Told;

/// The log and the snapshots of one store.
pub(crate) struct LogHistory {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) directory: PathBuf,
    pub(crate) store: StoreId,
    pub(crate) epochs: Arc<RwLock<Epochs>>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) open: Arc<OpenSegment>,
    pub(crate) snapshots: Arc<Snapshots>,
    /// Footers in use. Locked while one is looked for and, if need be, made.
    pub(crate) footers: Mutex<HashMap<SegmentId, Weak<Footer>>>,
    /// Nothing may be written.
    pub(crate) readonly: bool,
}

/// How often files are looked for anew when some were removed meanwhile.
const TRY_COUNT: u32 = 8;

/// What the log had after a revision.
pub(crate) enum Walk {
    Done,
    /// The log no longer reaches back that far.
    Trimmed,
}

impl LogHistory {
    /// The revision before the oldest transaction that the log still has.
    pub(crate) fn log_begin(&self) -> Revision {
        self.segments.begin(self.open.info())
    }

    /// Calls `each` with the transactions after one revision up to another, in order, until it
    /// returns false.
    pub(crate) fn walk(
        &self,
        after: Revision,
        to: Revision,
        each: &mut dyn FnMut(LoggedTransaction) -> Result<bool, StoreError>,
    ) -> Result<Walk, StoreError> {
        if after >= to {
            return Ok(Walk::Done);
        }
        let Some((segments, start)) = self.segments.after(after, self.open.info()) else {
            return Ok(Walk::Trimmed);
        };
        let oldest = segments.first().map(|info| info.id);
        for read in LogReader::new(&*self.disk, &self.directory, segments, start) {
            let (place, frame) = match read {
                Err(error) if is_removed(&error) && self.is_trimmed(oldest) => {
                    return Ok(Walk::Trimmed);
                }
                other => other?,
            };
            if frame.last() <= after {
                self.segments
                    .remember(place.segment, frame.header.before(), place.offset);
                continue;
            }
            let path = segment_path(&self.directory, place.segment);
            for transaction in located(frame.transactions(), &path, place.offset)? {
                let revision = transaction.transaction.revision;
                if revision > to {
                    return Ok(Walk::Done);
                }
                if revision > after && !each(transaction)? {
                    return Ok(Walk::Done);
                }
            }
            // What was appended behind it may never have come to be: the disk failed.
            if frame.last() >= to {
                return Ok(Walk::Done);
            }
        }
        Ok(Walk::Done)
    }

    /// Whether a segment that was there is one of the log no more.
    fn is_trimmed(&self, id: Option<SegmentId>) -> bool {
        let closed = self.segments.closed();
        let oldest = closed.first().map_or(self.open.info().id, |info| info.id);
        id.is_none_or(|id| id < oldest)
    }

    /// The footer of a closed segment; made if it is missing or damaged, in memory if it cannot be
    /// written. It is read whole when it is opened, and shared by all who hold it.
    pub(crate) fn footer(&self, info: SegmentInfo) -> Result<Arc<Footer>, StoreError> {
        let mut held = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(footer) = held.get(&info.id).and_then(Weak::upgrade) {
            return Ok(footer);
        }
        let (disk, directory) = (&*self.disk, &*self.directory);
        let opened = match self.readonly {
            true => Footer::open(disk, directory, info)
                .and_then(|footer| footer.table.check_blocks().map(|()| footer)),
            false => Footer::open_or_write(disk, directory, self.store, info),
        };
        let footer = match opened {
            Ok(footer) if footer.table.head().store == self.store => footer,
            // Damage of the segment itself, and whatever else fails, is met again.
            _ => Footer::in_memory(disk, directory, self.store, (info, info.last))?,
        };
        let footer = Arc::new(footer);
        held.insert(info.id, Arc::downgrade(&footer));
        Ok(footer)
    }

    /// A segment is gone.
    pub(crate) fn forget(&self, id: SegmentId) {
        let mut held = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&id);
    }

    /// Everything as of a revision, from snapshot and footers; none if it is before what is kept.
    pub(crate) fn layered_at(
        &self,
        revision: Revision,
    ) -> Result<Option<LayeredIndex>, StoreError> {
        let mut tries = TRY_COUNT;
        loop {
            tries -= 1;
            let before = self.files();
            let found = self.try_layered_at(revision);
            let is_missing = match &found {
                Ok(found) => found.is_none(),
                Err(error) => is_removed(error),
            };
            // What was trimmed meanwhile is not needed by what the next look finds.
            if !is_missing || tries == 0 || self.files() == before {
                return found;
            }
        }
    }

    /// What is there: it changes when something is closed, made or trimmed.
    fn files(&self) -> (Vec<SegmentInfo>, Vec<SnapshotInfo>) {
        (self.segments.closed(), self.snapshots.list())
    }

    fn try_layered_at(&self, revision: Revision) -> Result<Option<LayeredIndex>, StoreError> {
        let open = self.open.info();
        let snapshot = self.snapshots.newest_at(revision)?;
        let covered = snapshot.as_ref().map_or(SegmentId(0), Snapshot::segment);
        // The open segment was looked at first: it may have been closed, and covered, since.
        let mut segments = self.segments.closed();
        segments.retain(|info| info.id < open.id);
        segments.push(open);
        segments.retain(|info| info.id > covered);
        if segments
            .first()
            .is_some_and(|first| first.id != covered.next())
        {
            return Ok(None);
        }
        let wanted = segments
            .iter()
            .filter(|info| info.has_transactions())
            .take_while(|info| info.before < revision);
        let layers = wanted.map(|info| match info.id < open.id && info.last <= revision {
            true => self.footer(*info),
            false => {
                let (disk, directory) = (&*self.disk, &*self.directory);
                Footer::in_memory(disk, directory, self.store, (*info, revision)).map(Arc::new)
            }
        });
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(Some(LayeredIndex::new(snapshot, layers, revision)))
    }

    fn epochs(&self) -> std::sync::RwLockReadGuard<'_, Epochs> {
        self.epochs.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History for LogHistory {
    fn mark_at(&self, revision: Revision) -> Bytes {
        let mut mark = Vec::with_capacity(64);
        mark.extend_from_slice(&self.store.0);
        if let Some(epoch) = self.epochs().current() {
            put_varint(&mut mark, epoch.number);
            mark.extend_from_slice(&epoch.name.0);
        }
        put_varint(&mut mark, revision.0);
        mark.into()
    }

    fn revision_of(&self, mark: &[u8]) -> Option<Revision> {
        let position = take_mark(mark).ok()?;
        let last = self.open.info().last;
        let is_ours = self.epochs().holds(&position, last);
        let is_reached = self.segments.after(position.revision, self.open.info());
        (is_ours && is_reached.is_some()).then_some(position.revision)
    }

    fn load(
        &self,
        each: &mut dyn FnMut(NamespaceId, Entry) -> Result<(), StoreError>,
    ) -> Result<Revision, StoreError> {
        let Some(snapshot) = self.snapshots.newest()? else {
            return Ok(Revision(0));
        };
        for entry in snapshot.table().iter() {
            let TableEntry {
                section,
                key,
                revision,
                payload: value,
            } = entry?;
            if section.surface == SurfaceId::DICT {
                let entry = Entry {
                    key,
                    value,
                    revision,
                };
                each(section.namespace, entry)?;
            }
        }
        Ok(snapshot.revision())
    }

    fn replay(
        &self,
        after: Revision,
        to: Revision,
        each: &mut dyn FnMut(Revision, LoggedChanges) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let walk = self.walk(after, to, &mut |logged| {
            let changes = dict_changes(&logged.transaction.effects)?;
            each(logged.transaction.revision, changes)?;
            Ok(true)
        })?;
        match walk {
            Walk::Done => Ok(()),
            Walk::Trimmed => Err(StoreError::Index {
                what: format!("what follows revision {after} is no longer in the log"),
            }),
        }
    }

    fn entry_count(&self) -> u64 {
        let newest = self.snapshots.newest().ok().flatten();
        newest.map_or(0, |snapshot| snapshot.table().entry_count())
    }

    fn reachable(&self, revision: Revision) -> Revision {
        let closed = self.segments.closed();
        let first = closed.first().map_or(self.open.info().id, |info| info.id);
        match self.snapshots.list().first() {
            Some(oldest) if first > SegmentId::FIRST => revision.max(oldest.revision),
            _ => revision,
        }
    }

    fn stand_in(&self, revision: Revision) -> Result<Arc<dyn Index>, StoreError> {
        match self.layered_at(revision)? {
            Some(layered) => Ok(Arc::new(layered)),
            None => Err(StoreError::corrupt(
                &crate::log::log_directory(&self.directory),
                0,
                format!("the log does not reach back from revision {revision} to a snapshot"),
            )),
        }
    }

    fn difference(
        &self,
        index: &dyn Index,
        revision: Revision,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Option<String>, StoreError> {
        let Some(then) = self.layered_at(revision)? else {
            return Ok(Some("its mark is before what is kept".to_owned()));
        };
        let now = self.stand_in(self.open.info().last)?;
        let mut found = None;
        let compared = compare(index, (&then, &*now), is_stopped, &mut |difference| {
            found = Some(difference.to_string());
            ControlFlow::Break(())
        });
        compared.map(|_| found)
    }
}

/// The changes of the dictionary among the effects of a transaction.
pub(crate) fn dict_changes(effects: &[Effect]) -> Result<LoggedChanges, Malformed> {
    let of_dict = effects
        .iter()
        .filter(|effect| effect.surface == SurfaceId::DICT);
    of_dict
        .map(|effect| Ok((effect.namespace, dict::decode(&effect.body)?)))
        .collect()
}

/// A transaction of the log as it stands there: its changes of the dictionary.
pub(crate) fn told(logged: LoggedTransaction) -> Result<Told, Malformed> {
    let transaction = logged.transaction;
    Ok(Told {
        revision: transaction.revision,
        time_ms: transaction.time_ms,
        origin: transaction.origin,
        cause: transaction.cause,
        changes: dict_changes(&transaction.effects)?,
    })
}

/// Says where bytes stand that make no sense.
pub(crate) fn located<T>(
    result: Result<T, Malformed>,
    path: &std::path::Path,
    offset: u64,
) -> Result<T, StoreError> {
    result.map_err(|malformed| StoreError::corrupt(path, offset, malformed.0))
}

/// Whether a file was removed before it could be opened.
pub(crate) fn is_removed(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// What [`LogHistory::mark_at`] wrote.
pub(crate) fn take_mark(mark: &[u8]) -> Result<Position, Malformed> {
    let mark = Bytes::copy_from_slice(mark);
    let mut reader = BytesReader::new(&mark);
    let position = Position {
        store: StoreId(reader.array()?),
        epoch: Epoch {
            number: reader.varint()?,
            name: EpochName(reader.array()?),
        },
        revision: Revision(reader.varint()?),
    };
    reader.finish()?;
    Ok(position)
}
