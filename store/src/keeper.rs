//! Keeps what lies behind the writer in order: footers, snapshots, and the removal of what nobody
//! needs any more. A thread calls [`Core::keep`] after each closed segment and now and then.
//!
//! Order of a snapshot: file (synced, renamed, directory synced), `MANIFEST`, then what it makes
//! needless goes. Order of a removal: `MANIFEST`, then the files. So whenever the power goes,
//! what the manifest names is there, and a file too many is removed at the next open.

use std::path::Path;

use crate::authority::AuthorityKind;
use crate::core::{Core, System};
use crate::disk::Disk;
use crate::epoch::Epochs;
use crate::error::StoreError;
use crate::follow::install;
use crate::footer::footer_path;
use crate::frame::FRAME_HEADER_BYTES;
use crate::log::{SEGMENT_HEADER_BYTES, SegmentId, SegmentInfo, log_directory, segment_of_name};
use crate::manifest::{ChunkCounts, Manifest};
use crate::recovery::{self, log_state};
use crate::snapshot::{self, Snapshot, SnapshotPlan, snapshot_directory, snapshot_path};
use crate::trim::{self, PacksNow, Trim};

impl Core {
    /// Makes the footers of closed segments, and a snapshot if one is due, and removes what may go.
    pub(crate) fn keep(&self) -> Result<(), StoreError> {
        if let Err(error) = self.segments.cut() {
            // What is left there counts for nothing, and is tried again.
            tracing::warn!(%error, "a closed segment keeps bytes behind its end");
        }
        let made = self.make_footers().and_then(|()| {
            while self.make_snapshot()? {}
            Ok(())
        });
        // What may go does so, whatever else fails: the disk may be full.
        let trimmed = self.trim();
        let collected = self.keep_chunks();
        // Last, so that a snapshot takes in what is past the retention and nothing younger.
        let ended = self.end_aged_segment();
        trimmed.and(collected).and(ended).and(made)
    }

    /// Closes the segment that is written if it is older than the retention: large values that were
    /// replaced stay as long as it is there, however little of the log they take.
    fn end_aged_segment(&self) -> Result<(), StoreError> {
        if self.packs.status().pack_count == 0 {
            return Ok(());
        }
        let mut writer = self.writer();
        let Some(writer) = writer.as_mut().filter(|writer| !writer.closed) else {
            return Ok(());
        };
        let now_ms = self.time.now_ms();
        let age_ms = now_ms.saturating_sub(writer.log.begun_ms);
        if age_ms <= self.limits.retention_ms || !writer.log.has_transactions() {
            return Ok(());
        }
        self.poison.check()?;
        writer.log.roll(now_ms)?;
        for closed in writer.log.take_closed() {
            self.segment_closed(closed);
        }
        // What was buffered is synced with the segment.
        self.index_may_follow();
        self.feed.wake_durable();
        Ok(())
    }

    /// The next snapshot, and whoever opens the store, finds them there.
    fn make_footers(&self) -> Result<(), StoreError> {
        for info in self.with_footers() {
            self.refuse_if_closed()?;
            self.history.footer(info)?;
        }
        Ok(())
    }

    /// The closed segments whose footers are needed.
    fn with_footers(&self) -> Vec<SegmentInfo> {
        let covered = self.snapshots.list().pop();
        let covered = covered.map_or(SegmentId(0), |snapshot| snapshot.segment);
        let mut closed = self.segments.closed();
        closed.retain(|info| info.id > covered && info.has_transactions());
        closed
    }

    /// Leaves footers and the state of the log for whoever opens the store next, if its last segment
    /// was closed for its end. Without them the log is read.
    pub(crate) fn keep_end(&self) -> Result<(), StoreError> {
        let open = self.open.info();
        let closed = self.segments.closed().pop();
        // With more than an end mark in it, what is known now is not as of the end of the last one.
        let ends_there = open.bytes <= SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES as u64;
        let Some(last) = closed.filter(|_| ends_there && !self.follows) else {
            return Ok(());
        };
        for info in self.with_footers() {
            self.history.footer(info)?;
        }
        // Not under these locks: what is written waits for the disk.
        let section = recovery::encode_section(&self.system(), &self.epochs());
        log_state::write((&*self.disk, &self.directory), last, &section)
    }

    /// Makes the snapshot that is due; tells whether there was one.
    fn make_snapshot(&self) -> Result<bool, StoreError> {
        let safe = self.open.durable().min(self.committed());
        let mut closed = self.segments.closed();
        closed.retain(|info| info.last <= safe);
        let newest = self.snapshots.list().pop();
        let packs = PacksNow {
            now_ms: self.time.now_ms(),
            bytes: self.packs.status().pack_bytes,
        };
        let Some(due) = trim::due(&closed, newest.as_ref(), &self.limits, &packs) else {
            return Ok(false);
        };
        let previous = self.snapshots.newest()?;
        let system = self.system_after(previous.as_ref(), due)?;
        // The last one says where the snapshot ends.
        let last = due.last().map(|info| info.id);
        let footers = due
            .iter()
            .filter(|info| info.has_transactions() || Some(info.id) == last)
            .map(|info| self.history.footer(*info))
            .collect::<Result<Vec<_>, _>>()?;
        let made = snapshot::write(&SnapshotPlan {
            disk: &*self.disk,
            directory: &self.directory,
            store: self.store,
            previous: previous.as_ref(),
            footers: &footers,
            system: &system,
            is_stopped: &|| self.is_closed(),
        })?;
        let revision = made.revision();
        assert!(
            newest.is_none_or(|newest| newest.revision < revision),
            "a snapshot's name is used once"
        );
        self.manifest
            .update(|manifest| manifest.snapshots.push(revision))?;
        tracing::info!(%revision, bytes = made.bytes(), "snapshot made");
        self.snapshots.push(made.info());
        Ok(true)
    }

    /// Sessions, grants and epochs as of the end of the last of these segments.
    fn system_after(
        &self,
        previous: Option<&Snapshot>,
        segments: &[SegmentInfo],
    ) -> Result<Vec<u8>, StoreError> {
        let mut system = System::default();
        let mut epochs = Epochs::new(self.store);
        let files = (&*self.disk, &*self.directory);
        recovery::load_system(
            files,
            recovery::Known::of_snapshot(&self.directory, previous)?,
            segments.to_vec(),
            (&mut system, &mut epochs),
        )?;
        if let Some(last) = segments.last() {
            system.sessions.end_idle(last.last_time_ms);
        }
        Ok(recovery::encode_section(&system, &epochs))
    }

    /// Removes what nobody needs.
    fn trim(&self) -> Result<(), StoreError> {
        let snapshots = self.snapshots.list();
        let closed = self.segments.closed();
        let now_ms = self.time.now_ms();
        let Trim {
            segments,
            snapshots,
        } = trim::plan(&closed, &snapshots, now_ms, &self.limits);
        if segments.is_empty() && snapshots.is_empty() {
            return Ok(());
        }
        let gone: Vec<_> = closed
            .iter()
            .filter(|info| segments.contains(&info.id))
            .collect();
        let is_aged = gone
            .iter()
            .any(|info| trim::is_aged(info, now_ms, &self.limits));
        let kept = gone.iter().map(|info| info.kept_bytes());
        self.packs.note_trimmed(kept.fold(0, u64::saturating_add));
        let counts = self.packs.counts();
        self.manifest.update(|manifest| {
            manifest.chunks = ChunkCounts {
                open_bytes: manifest.chunks.open_bytes,
                ..counts
            };
            let first = segments.last().map(|last| last.next());
            manifest.first_segment = manifest.first_segment.max(first);
            manifest
                .snapshots
                .retain(|revision| !snapshots.contains(revision));
        })?;
        for revision in snapshots {
            self.snapshots.forget(revision);
            remove(&*self.disk, &snapshot_path(&self.directory, revision))?;
        }
        for id in segments {
            remove(&*self.disk, &footer_path(&self.directory, id))?;
            self.history.forget(id);
            self.segments.remove_oldest(id)?;
        }
        if is_aged {
            self.note_aged();
        }
        Ok(())
    }

    /// Log past the retention for its age is gone: what it named is to go soon, if looking costs little.
    fn note_aged(&self) {
        let read_bytes = self.read_bytes();
        if trim::is_little_beside_packs(read_bytes, self.packs.status().pack_bytes) {
            self.packs.note_trimmed(read_bytes);
        }
    }

    /// What a collection reads.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.segments.closed_bytes() + self.snapshots.bytes()
    }
}

/// Removes the files that an earlier owner did not come to finish, or to remove.
pub(crate) fn clean(
    disk: &dyn Disk,
    directory: &Path,
    manifest: &Manifest,
    segments: &[SegmentId],
) -> Result<(), StoreError> {
    let snapshots: Vec<_> = manifest
        .snapshots
        .iter()
        .map(|revision| snapshot_path(directory, *revision))
        .collect();
    let footers: Vec<_> = segments
        .iter()
        .map(|id| footer_path(directory, *id))
        .collect();
    // A follower goes on with a snapshot whose transfer broke off.
    let follows = manifest.authority == AuthorityKind::Follower;
    let is_partial = |path: &Path| follows && install::is_staged(path);
    clean_directory(disk, &snapshot_directory(directory), |path| {
        !snapshots.iter().any(|one| one == path) && !is_partial(path)
    })?;
    let is_footer = |path: &Path| path.to_string_lossy().contains(".keys");
    // A power cut can bring back any of what was trimmed.
    let oldest = segments.first().copied().or(manifest.last_segment);
    let is_trimmed = |path: &Path| {
        let name = path.file_name();
        let id = name.and_then(|name| segment_of_name(name.to_str()?));
        id.is_some_and(|id| Some(id) < oldest)
    };
    clean_directory(disk, &log_directory(directory), |path| {
        is_trimmed(path) || (is_footer(path) && !footers.iter().any(|one| one == path))
    })
}

fn clean_directory(
    disk: &dyn Disk,
    directory: &Path,
    is_waste: impl Fn(&Path) -> bool,
) -> Result<(), StoreError> {
    let names = match disk.list(directory) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io("list", directory, error)),
    };
    let paths = names.iter().map(|name| directory.join(name));
    for path in paths.filter(|path| is_waste(path)) {
        remove(disk, &path)?;
    }
    Ok(())
}

/// Removes a file, if it is there.
fn remove(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    match disk.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}
