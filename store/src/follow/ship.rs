//! The source's side: reading the log as it stands, as far as it is committed and durable.

use std::sync::Arc;

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{FrameIndex, Position, Revision};
use objsync_proto::wire::{CopyPlace, InstallStart, PartialSnapshot};

use super::Shipped;
use crate::core::Core;
use crate::disk::{DiskFile, OpenMode};
use crate::error::StoreError;
use crate::frame::{Frame, FrameKind};
use crate::history::is_removed;
use crate::log::{LogReader, Place, SegmentInfo};
use crate::snapshot::{SnapshotInfo, snapshot_path};
use crate::store::Store;

/// Bytes at the start of a snapshot's file by which it is known again.
pub(super) const HEAD_BYTES: u64 = 4096;

/// Where somebody stands who is sent the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShipCursor {
    next: FrameIndex,
    /// Where that frame is, or will be; none while it has to be looked for.
    place: Option<Place>,
}

/// What comes next of a log.
#[derive(Debug)]
pub enum Ship {
    /// The next frames; at least one.
    Frames(Vec<Shipped>),
    /// There is nothing more that is committed and durable.
    UpToDate,
    /// The log no longer reaches back that far: send all of it anew.
    Trimmed,
}

/// All that a new copy begins with.
pub struct Whole {
    /// What the copy is told first.
    pub start: InstallStart,
    /// The snapshot's file, if there is one. It stays readable whatever is trimmed.
    pub file: Option<Arc<dyn DiskFile>>,
    /// Where the log goes on after it.
    pub cursor: ShipCursor,
}

impl Store {
    /// Where this copy stands; what its source is asked with.
    #[must_use]
    pub fn copy_place(&self) -> Option<CopyPlace> {
        let core = self.core();
        let next = core.writer().as_ref()?.log.next_index();
        let position = core.position_at(core.open.info().last);
        (next.0 > 0).then_some(CopyPlace { position, next })
    }

    /// Where to go on for a copy that stands at `place`; none if that is not a prefix of this
    /// store's log, or the log no longer reaches back that far. Reads up to a segment.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where this store is a copy that may only be behind the one that
    /// asks: to go back to what it has would undo what was seen there. Of the disk, and damage.
    pub fn ship_after(&self, place: &CopyPlace) -> Result<Option<ShipCursor>, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        let epoch = place.position.epoch;
        let Some(last) = place.next.0.checked_sub(1).map(FrameIndex) else {
            return Ok(None);
        };
        let is_ours =
            place.position.store == core.store && core.epochs().get(epoch.number) == Some(epoch);
        if place.position.store == core.store && core.is_behind(place) {
            let text = "this source is itself a copy, and is behind the one that asks";
            return Err(Failure::new(ErrorKind::Unavailable, text).into());
        }
        if !is_ours {
            return Ok(None);
        }
        if core.begins_at(place) {
            let next = place.next;
            return Ok(Some(ShipCursor { next, place: None }));
        }
        let mut cursor = ShipCursor {
            next: last,
            place: None,
        };
        let mut found = None;
        let walked = core.walk_frames(&mut cursor, &mut |frame| {
            found = Some(frame.header.epoch);
            false
        })?;
        let is_there = walked && found == Some(epoch.number) && cursor.next == place.next;
        Ok(is_there.then_some(cursor))
    }

    /// What a copy that holds nothing begins with: the newest snapshot, if there is one, and the
    /// log after it. `partial` is what it has of a transfer that broke off.
    ///
    /// # Errors
    /// Of the disk, and damage.
    pub fn ship_all(&self, partial: Option<&PartialSnapshot>) -> Result<Whole, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        loop {
            match core.ship_newest(partial) {
                // A newer one has taken its place.
                Err(error) if is_removed(&error) => {}
                whole => return whole,
            }
        }
    }

    /// The next frames of the log, until they hold `bytes_max` bytes; at least one if there is one.
    ///
    /// # Errors
    /// Of the disk, and damage.
    pub fn ship(&self, cursor: &mut ShipCursor, bytes_max: usize) -> Result<Ship, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        let mut frames = Vec::new();
        let mut bytes = 0;
        let walked = core.walk_frames(cursor, &mut |frame| {
            bytes += frame.body.len();
            frames.push(Shipped(frame));
            bytes < bytes_max
        })?;
        Ok(match (walked, frames.is_empty()) {
            (false, true) => Ship::Trimmed,
            (true, true) => Ship::UpToDate,
            (_, false) => Ship::Frames(frames),
        })
    }

    /// Up to where [`Store::ship`] gives the log at least, when it is called after this and is up to
    /// date: what is committed and durable.
    #[must_use]
    pub fn ship_position(&self) -> Position {
        let core = self.core();
        let marks = core.marks();
        core.position_at(marks.committed.min(marks.durable))
    }

    /// Whether something durable is not committed yet, and so waits for that to be shipped.
    #[must_use]
    pub fn ship_waits_for_commit(&self) -> bool {
        let marks = self.core().marks();
        marks.durable > marks.committed
    }
}

impl Core {
    /// Whether this is a copy that may come to hold what another one at `place` holds.
    fn is_behind(&self, place: &CopyPlace) -> bool {
        if !self.follows {
            return false;
        }
        let (ours, theirs) = (self.epoch(), place.position.epoch);
        let next = self.writer().as_ref().map(|writer| writer.log.next_index());
        theirs.number > ours.number || (theirs == ours && Some(place.next) > next)
    }

    /// Whether the log that is kept begins just behind a place: a copy of the newest snapshot has no frame
    /// before it that could be compared, nor has this store. What was shipped in an epoch is durable
    /// here, so the same count of frames and revision are the same history.
    fn begins_at(&self, place: &CopyPlace) -> bool {
        let open = self.open.info();
        let first = self.segments.closed().into_iter().next().unwrap_or(open);
        (first.first_index, first.before) == (place.next, place.position.revision)
    }

    /// Calls `each` with the frames from the cursor on that are committed and durable, until it
    /// returns false, and moves the cursor behind them. False if they are no longer in the log.
    fn walk_frames(
        &self,
        cursor: &mut ShipCursor,
        each: &mut dyn FnMut(Frame) -> bool,
    ) -> Result<bool, StoreError> {
        let committed = self.committed();
        let Some((segments, start)) = self.segments_from(cursor) else {
            return Ok(false);
        };
        for read in LogReader::new(&*self.disk, &self.directory, segments, start) {
            let (place, frame) = match read {
                Err(error) if is_removed(&error) => return Ok(false),
                other => other?,
            };
            if frame.header.index < cursor.next {
                continue;
            }
            let is_next = frame.header.index == cursor.next;
            debug_assert!(is_next, "frames follow each other");
            let is_seen = frame.header.kind != FrameKind::Transactions || frame.last() <= committed;
            if !is_next || !is_seen {
                break;
            }
            *cursor = ShipCursor {
                next: FrameIndex(frame.header.index.0 + 1),
                place: Some(Place {
                    segment: place.segment,
                    offset: place.offset + frame.header.frame_bytes(),
                }),
            };
            if !each(frame) {
                break;
            }
        }
        Ok(true)
    }

    /// The segments from the cursor on, and where to begin in the first.
    fn segments_from(&self, cursor: &ShipCursor) -> Option<(Vec<SegmentInfo>, Option<u64>)> {
        // Looked at first: it may be closed meanwhile.
        let open = self.open.synced_info();
        let mut segments = self.segments.closed();
        segments.retain(|info| info.id < open.id);
        segments.push(open);
        let first = match cursor.place {
            Some(place) => segments.iter().position(|info| info.id == place.segment),
            None => segments
                .iter()
                .rposition(|info| info.first_index <= cursor.next),
        }?;
        let start = cursor.place.map(|place| place.offset);
        Some((segments.split_off(first), start))
    }

    fn ship_newest(&self, partial: Option<&PartialSnapshot>) -> Result<Whole, StoreError> {
        let position = self.position();
        let Some(newest) = self.snapshots.list().pop() else {
            let start = InstallStart {
                position: Position {
                    revision: Revision(0),
                    ..position
                },
                segment: 0,
                next: FrameIndex(0),
                total_bytes: 0,
                head_crc: 0,
                start: 0,
            };
            let cursor = ShipCursor {
                next: FrameIndex(0),
                place: None,
            };
            return Ok(Whole {
                start,
                file: None,
                cursor,
            });
        };
        let path = snapshot_path(&self.directory, newest.revision);
        let failed = |error| StoreError::io("open", &path, error);
        let file = self.disk.open(&path, OpenMode::Read).map_err(failed)?;
        let head_crc = head_crc(&*file, newest.bytes).map_err(failed)?;
        let is_held = |partial: &&PartialSnapshot| {
            (partial.revision, partial.total_bytes, partial.head_crc)
                == (newest.revision, newest.bytes, head_crc)
                && (HEAD_BYTES.min(newest.bytes)..=newest.bytes).contains(&partial.held_bytes)
        };
        let next = self.index_after(&newest)?;
        Ok(Whole {
            start: InstallStart {
                position: Position {
                    revision: newest.revision,
                    ..position
                },
                segment: newest.segment.0,
                next,
                total_bytes: newest.bytes,
                head_crc,
                start: partial
                    .filter(is_held)
                    .map_or(0, |partial| partial.held_bytes),
            },
            file: Some(file),
            cursor: ShipCursor { next, place: None },
        })
    }

    /// Index of the first frame after a snapshot.
    fn index_after(&self, snapshot: &SnapshotInfo) -> Result<FrameIndex, StoreError> {
        let open = self.open.info();
        let mut segments = self.segments.closed();
        segments.push(open);
        let after = snapshot.segment.next();
        let found = segments.iter().find(|info| info.id == after);
        let missing = || StoreError::corrupt(&self.directory, 0, "no log follows its snapshot");
        found.map(|info| info.first_index).ok_or_else(missing)
    }
}

/// By what a snapshot's file is known again.
pub(super) fn head_crc(file: &dyn DiskFile, bytes: u64) -> std::io::Result<u32> {
    let count = usize::try_from(bytes.min(HEAD_BYTES)).expect("at most 4096");
    let mut head = vec![0; count];
    file.read_exact_at(&mut head, 0)?;
    Ok(crc32c::crc32c(&head))
}
