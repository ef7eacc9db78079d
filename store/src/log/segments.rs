//! Which closed segments there are, and where in them a revision is found.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use objsync_proto::ids::Revision;

use super::open_segment::cut;
use super::{SegmentId, SegmentInfo, log_directory, segment_path};
use crate::disk::{Disk, OpenMode};
use crate::error::StoreError;

/// Bytes of a segment between two remembered places.
const PLACE_STEP_BYTES: u64 = 256 << 10;

/// The closed segments of a log, oldest first, and places in all of them.
pub struct Segments {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    closed: VecDeque<SegmentInfo>,
    /// For a segment: frames that begin after a revision, with their offsets, ascending.
    places: BTreeMap<SegmentId, Vec<(Revision, u64)>>,
    /// Up to here the files end where their segments do.
    cut: Option<SegmentId>,
}

impl Segments {
    /// With these closed segments.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, directory: PathBuf, closed: Vec<SegmentInfo>) -> Self {
        let inner = Inner {
            closed: closed.into(),
            ..Inner::default()
        };
        Self {
            disk,
            directory,
            inner: Mutex::new(inner),
        }
    }

    /// The closed segments, oldest first.
    #[must_use]
    pub fn closed(&self) -> Vec<SegmentInfo> {
        self.inner().closed.iter().copied().collect()
    }

    /// Bytes of the closed segments.
    #[must_use]
    pub fn closed_bytes(&self) -> u64 {
        self.inner().closed.iter().map(|info| info.bytes).sum()
    }

    /// Tells that a segment was closed.
    pub(crate) fn close(&self, info: SegmentInfo) {
        self.inner().closed.push_back(info);
    }

    /// Removes what lies behind the ends of closed segments: zeros that were written ahead, and
    /// tails that were torn.
    ///
    /// Harmless whenever the power goes: the header of the next segment, which is durable, says
    /// where a closed one ends, and nobody reads on behind that.
    pub(crate) fn cut(&self) -> Result<(), StoreError> {
        let done = self.inner().cut;
        for info in self.closed().iter().filter(|info| Some(info.id) > done) {
            let path = segment_path(&self.directory, info.id);
            let opened = self.disk.open(&path, OpenMode::Write);
            match opened.and_then(|file| cut(&*file, info.bytes)) {
                // Nobody needed it any more.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                result => result.map_err(|error| StoreError::io("cut", &path, error))?,
            }
            let mut inner = self.inner();
            inner.cut = inner.cut.max(Some(info.id));
        }
        Ok(())
    }

    /// Tells that a frame begins at an offset, and what the last revision before it is.
    pub fn remember(&self, segment: SegmentId, before: Revision, offset: u64) {
        let mut inner = self.inner();
        let places = inner.places.entry(segment).or_default();
        let last = places.last().map_or(0, |(_, offset)| *offset);
        if offset >= last + PLACE_STEP_BYTES {
            places.push((before, offset));
        }
    }

    /// The segments that hold what comes after a revision, and where to begin in the first; none
    /// if the log no longer reaches back that far.
    #[must_use]
    pub fn after(
        &self,
        revision: Revision,
        open: SegmentInfo,
    ) -> Option<(Vec<SegmentInfo>, Option<u64>)> {
        let inner = self.inner();
        // The open segment was looked at before the lock: it may have been closed since.
        let closed = inner.closed.iter().filter(|info| info.id < open.id);
        let all: Vec<SegmentInfo> = closed.copied().chain([open]).collect();
        let first = all.iter().rposition(|info| info.before <= revision)?;
        let places = inner.places.get(&all[first].id);
        let start = places.and_then(|places| {
            let after = places.partition_point(|(before, _)| *before <= revision);
            Some(places[after.checked_sub(1)?].1)
        });
        Some((all[first..].to_vec(), start))
    }

    /// The revision before the oldest segment that is left: every later one is in the log.
    pub fn begin(&self, open: SegmentInfo) -> Revision {
        let inner = self.inner();
        inner.closed.front().map_or(open.before, |info| info.before)
    }

    /// Removes the oldest segment, which must be `id`.
    ///
    /// # Errors
    /// Of the disk. The segment is not read any more either way.
    pub fn remove_oldest(&self, id: SegmentId) -> Result<(), StoreError> {
        {
            let mut inner = self.inner();
            match inner.closed.front() {
                Some(oldest) if oldest.id == id => inner.closed.pop_front(),
                _ => return Ok(()),
            };
            inner.places.remove(&id);
        }
        let path = segment_path(&self.directory, id);
        self.disk
            .remove(&path)
            .and_then(|()| self.disk.sync_dir(&log_directory(&self.directory)))
            .map_err(|error| StoreError::io("remove", &path, error))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
