//! What a key was over time: its versions, newest first, as far back as log and snapshots go.
//!
//! Trail: [`Store::history`] -> the segments from the newest to the oldest, each passed over if its
//! footer does not name the key, else read once -> the snapshot that the log begins with.
//!
//! Invariants
//! * Memory is bounded by a page, however often the key was written: of each segment the newest
//!   versions that fit are kept.
//! * Work is bounded too: a page that has cost `HISTORY_LOG_BYTES` of log ends there, and tells
//!   where the next goes on.

use std::collections::VecDeque;

use bytes::Bytes;
use objsync_proto::ids::{NamespaceId, Revision, SurfaceId};
use objsync_proto::limits::{HISTORY_BYTES_MAX, HISTORY_LOG_BYTES, HISTORY_VERSIONS_MAX};
use objsync_proto::wire::Version;

use crate::dict::{self, Logged};
use crate::error::StoreError;
use crate::footer::Footer;
use crate::frame::{LoggedTransaction, Malformed};
use crate::history::{LogHistory, located};
use crate::index::Index;
use crate::log::{LogReader, SegmentId, SegmentInfo, log_directory, segment_path};
use crate::snapshot::Snapshot;
use crate::store::{Store, Stored};
use crate::table::Section;
use crate::told;

/// What a version takes of a page beside its value.
const VERSION_BYTES: usize = 32;

/// Versions of a key, newest first, as far as one page goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// The versions; there may be none although more follow.
    pub versions: Vec<Version>,
    /// Where the next page goes on; none when nothing earlier is kept.
    pub before: Option<Revision>,
}

/// Which versions are wanted.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    section: Section,
    key: &'a [u8],
    /// The newest that counts.
    newest: Revision,
    limits: Limits,
}

/// Where a page ends, whichever comes first.
#[derive(Debug, Clone, Copy)]
struct Limits {
    count_max: usize,
    bytes_max: usize,
    log_bytes_max: u64,
}

/// The log and what it begins with.
struct Kept {
    /// Oldest first, each following the one before.
    segments: Vec<SegmentInfo>,
    /// The snapshot as of their beginning; none if they go back to the first revision.
    base: Option<Revision>,
}

impl Store {
    /// What a key was, newest first: the versions before a revision (none: from the newest
    /// committed one on), at most `count_max` of them.
    ///
    /// Several writes of one transaction are one version. The last version listed may be the state
    /// in the oldest snapshot (`is_oldest_known`): when it came to be is known, what was before it
    /// and its time are not. What is trimmed between two pages is missing from the second without
    /// a sign.
    pub fn history(
        &self,
        namespace: NamespaceId,
        key: &[u8],
        before: Option<Revision>,
        count_max: u32,
    ) -> Result<HistoryPage, StoreError> {
        let limits = Limits {
            count_max: (count_max as usize).clamp(1, HISTORY_VERSIONS_MAX),
            bytes_max: HISTORY_BYTES_MAX,
            log_bytes_max: HISTORY_LOG_BYTES,
        };
        self.history_within(namespace, key, before, limits)
    }

    fn history_within(
        &self,
        namespace: NamespaceId,
        key: &[u8],
        before: Option<Revision>,
        limits: Limits,
    ) -> Result<HistoryPage, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        let mut newest = core.committed();
        if let Some(before) = before {
            newest = newest.min(Revision(before.0.saturating_sub(1)));
        } else if let Some(present) = core.state.get(namespace, key)? {
            // Nothing has happened to it since: the log after that need not be looked at.
            newest = newest.min(present.revision);
        }
        let section = Section {
            surface: SurfaceId::DICT,
            namespace,
        };
        let wanted = Wanted {
            section,
            key,
            newest,
            limits,
        };
        core.history.versions(&wanted)
    }
}

impl LogHistory {
    fn versions(&self, wanted: &Wanted<'_>) -> Result<HistoryPage, StoreError> {
        loop {
            let kept = self.kept()?;
            match self.versions_in(&kept, wanted) {
                // Trimmed while it was read: what is left is listed anew.
                Err(_) if !self.kept()?.begins_as(&kept) => {}
                other => return other,
            }
        }
    }

    /// What is kept, as of now.
    fn kept(&self) -> Result<Kept, StoreError> {
        let open = self.open.info();
        let mut segments = self.segments.closed();
        // The open segment was looked at first: it may have been closed since.
        segments.retain(|info| info.id < open.id);
        segments.push(open);
        let begin = segments[0].before;
        if begin == Revision(0) {
            return Ok(Kept {
                segments,
                base: None,
            });
        }
        let snapshots = self.snapshots.list();
        // Snapshots go before the segments that they made needless.
        let base = snapshots.iter().rfind(|info| info.revision <= begin);
        let base = base.or(snapshots.first()).ok_or_else(|| {
            let what = format!("no snapshot holds what was before revision {begin}");
            StoreError::corrupt(&log_directory(&self.directory), 0, what)
        })?;
        segments.retain(|info| info.before >= base.revision);
        Ok(Kept {
            segments,
            base: Some(base.revision),
        })
    }

    fn versions_in(&self, kept: &Kept, wanted: &Wanted<'_>) -> Result<HistoryPage, StoreError> {
        let mut page = Page::new(wanted.limits);
        let mut log_bytes = 0;
        for info in kept.segments.iter().rev() {
            if info.before >= wanted.newest || !self.may_touch(info, wanted) {
                continue;
            }
            if log_bytes >= wanted.limits.log_bytes_max {
                // Goes on in this segment, which has nothing after its last revision.
                return Ok(page.cut_after(info.last));
            }
            log_bytes += info.bytes;
            let is_cut = self.versions_of(info, wanted, &mut page)?;
            if is_cut || page.is_full() {
                return Ok(page.cut());
            }
        }
        if let Some(base) = kept.base
            && let Some(version) = self.version_in(base, wanted)?
            && !page.push(version)
        {
            return Ok(page.cut());
        }
        Ok(page.whole())
    }

    /// Whether a segment may have a change of the key: its footer tells, if it has one.
    fn may_touch(&self, info: &SegmentInfo, wanted: &Wanted<'_>) -> bool {
        let footer = Footer::open(&*self.disk, &self.directory, *info).ok();
        let footer = footer.filter(|footer| footer.table.head().store == self.store);
        let entry = footer.map(|footer| footer.table.get(wanted.section, wanted.key));
        // One that is missing or damaged tells nothing; the segment itself is the truth.
        !matches!(entry, Some(Ok(None)))
    }

    /// Adds the versions in one segment; tells whether earlier ones there did not fit.
    fn versions_of(
        &self,
        info: &SegmentInfo,
        wanted: &Wanted<'_>,
        page: &mut Page,
    ) -> Result<bool, StoreError> {
        let path = segment_path(&self.directory, info.id);
        let mut newest = Newest::default();
        let mut unfolding = Unfolding::default();
        for read in LogReader::segment(&*self.disk, &self.directory, *info)? {
            let (place, frame) = read?;
            if frame.header.before() >= wanted.newest {
                break;
            }
            for logged in located(frame.transactions(), &path, place.offset)? {
                let made = located(made_of(&logged, wanted), &path, place.offset)?;
                let Some(made) = made else { continue };
                if unfolding.needs_base(&made) {
                    unfolding.begin(self.base_of(info, wanted)?);
                }
                let value = unfolding.next(logged.transaction.revision, made);
                let value = value.map_err(|what| StoreError::corrupt(&path, place.offset, what))?;
                let version = Version {
                    revision: logged.transaction.revision,
                    time_ms: Some(logged.transaction.time_ms),
                    value,
                    is_oldest_known: false,
                };
                newest.push(version, page);
            }
        }
        page.bytes += newest.bytes;
        page.versions.extend(newest.versions.into_iter().rev());
        Ok(newest.is_cut)
    }

    /// The key as it was before a segment.
    fn base_of(
        &self,
        info: &SegmentInfo,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Stored>, StoreError> {
        match self.layered_at(info.before)? {
            Some(before) => before.get(wanted.section.namespace, wanted.key),
            None => {
                let what = format!("what was before revision {} is missing", info.before);
                Err(StoreError::corrupt(
                    &log_directory(&self.directory),
                    0,
                    what,
                ))
            }
        }
    }

    /// The version in the snapshot that the log begins with.
    fn version_in(
        &self,
        base: Revision,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Version>, StoreError> {
        let snapshot = Snapshot::open(&*self.disk, &self.directory, base)?;
        let entry = snapshot.table().get(wanted.section, wanted.key)?;
        let entry = entry.filter(|entry| entry.revision <= wanted.newest);
        Ok(entry.map(|entry| Version {
            revision: entry.revision,
            time_ms: None,
            value: Some(Bytes::copy_from_slice(&entry.payload)),
            is_oldest_known: true,
        }))
    }
}

impl Kept {
    fn begins_as(&self, other: &Self) -> bool {
        let first = |kept: &Self| -> Option<SegmentId> { Some(kept.segments.first()?.id) };
        first(self) == first(other) && self.base == other.base
    }
}

/// What a transaction made of the key: its last change counts.
fn made_of(logged: &LoggedTransaction, wanted: &Wanted<'_>) -> Result<Option<Logged>, Malformed> {
    let transaction = &logged.transaction;
    if transaction.revision > wanted.newest {
        return Ok(None);
    }
    let Section { surface, namespace } = wanted.section;
    for effect in transaction.effects.iter().rev() {
        if (effect.surface, effect.namespace) != (surface, namespace) {
            continue;
        }
        let change = dict::decode(&effect.body)?;
        if change.key() == wanted.key {
            return Ok(Some(change));
        }
    }
    Ok(None)
}

/// The value of a key while a segment is read.
#[derive(Default)]
struct Unfolding {
    is_known: bool,
    there: Option<Stored>,
}

impl Unfolding {
    /// Whether a change is of a part of a value that came before what was read.
    fn needs_base(&self, made: &Logged) -> bool {
        !self.is_known && matches!(made, Logged::Patch(_))
    }

    fn begin(&mut self, there: Option<Stored>) {
        self.there = there;
        self.is_known = true;
    }

    /// The value after a change; none if it was removed.
    fn next(&mut self, revision: Revision, made: Logged) -> Result<Option<Bytes>, String> {
        let value = match made {
            // A copy: the value is a piece of a frame, which is not to live as long.
            Logged::Whole(change) => change.value.as_deref().map(Bytes::copy_from_slice),
            Logged::Patch(patch) => Some(told::whole(self.there.as_ref(), &patch)?),
        };
        self.begin(value.clone().map(|value| Stored { value, revision }));
        Ok(value)
    }
}

fn bytes_of(version: &Version) -> usize {
    VERSION_BYTES + version.value.as_ref().map_or(0, Bytes::len)
}

/// The newest versions of one segment that fit behind those of a page, oldest first.
#[derive(Default)]
struct Newest {
    versions: VecDeque<Version>,
    bytes: usize,
    is_cut: bool,
}

impl Newest {
    fn push(&mut self, version: Version, page: &Page) {
        self.bytes += bytes_of(&version);
        self.versions.push_back(version);
        while !page.has_room(self.versions.len(), self.bytes)
            && let Some(oldest) = self.versions.pop_front()
        {
            self.bytes -= bytes_of(&oldest);
            self.is_cut = true;
        }
    }
}

/// Versions on their way to a caller, newest first.
struct Page {
    limits: Limits,
    versions: Vec<Version>,
    bytes: usize,
}

impl Page {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            versions: Vec::new(),
            bytes: 0,
        }
    }

    /// Whether so many more versions of so many bytes fit. One always does.
    fn has_room(&self, count: usize, bytes: usize) -> bool {
        let count = self.versions.len() + count;
        count <= 1
            || (count <= self.limits.count_max && self.bytes + bytes <= self.limits.bytes_max)
    }

    fn is_full(&self) -> bool {
        self.versions.len() >= self.limits.count_max || self.bytes >= self.limits.bytes_max
    }

    /// Adds one if it fits.
    fn push(&mut self, version: Version) -> bool {
        let bytes = bytes_of(&version);
        let fits = self.has_room(1, bytes);
        if fits {
            self.bytes += bytes;
            self.versions.push(version);
        }
        fits
    }

    /// Ends where the next page goes on behind the last version.
    fn cut(self) -> HistoryPage {
        HistoryPage {
            before: self.versions.last().map(|version| version.revision),
            versions: self.versions,
        }
    }

    /// Ends where nothing after this revision is left to list.
    fn cut_after(self, revision: Revision) -> HistoryPage {
        HistoryPage {
            versions: self.versions,
            before: Some(Revision(revision.0.saturating_add(1))),
        }
    }

    /// Ends with all that is kept.
    fn whole(self) -> HistoryPage {
        HistoryPage {
            versions: self.versions,
            before: None,
        }
    }
}

#[cfg(test)]
mod tests;
