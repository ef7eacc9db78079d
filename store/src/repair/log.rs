//! Every sound frame of the log, and what stands behind the damaged ones.
//!
//! A damaged frame is passed over: the next valid header of the segment is found by its checksum,
//! which begins with the segment's salt. Without the segment's header that salt is unknown, and so
//! are its frames; its footer then still tells keys, and where values stand, each with a checksum.

use std::path::Path;

use objsync_proto::ids::{FrameIndex, Revision};
use objsync_proto::limits::SEGMENT_BYTES_MAX;

use super::origin::Origin;
use super::runs::{Part, Runs};
use super::tables::Tables;
use super::{Loss, Meter};
use crate::core::System;
use crate::disk::{Disk, OpenMode, Unreadable};
use crate::epoch::Epochs;
use crate::error::StoreError;
use crate::footer::{Content, Footer, footer_path, is_removal};
use crate::frame::{FRAME_ALIGN_BYTES, Frame, FrameHeader, FrameKind};
use crate::log::{SegmentHeader, SegmentId, SegmentInfo, SegmentReader, Step, segment_path};
use crate::recovery;
use crate::surfaces::record_of;
use crate::table::{Section, Table, TableKind};

/// Frames of the log that cannot be read.
pub(super) struct Gap {
    pub(super) segment: SegmentId,
    /// The first revision that may be in it,
    pub(super) first: Revision,
    /// and the last, which is before the first if none is; none if that is unknown.
    pub(super) last: Option<Revision>,
    /// More than transactions may be in it.
    pub(super) may_hold_others: bool,
    /// Its place in the list of losses.
    pub(super) loss: usize,
}

/// The log as it is read.
pub(super) struct LogReading<'a> {
    disk: &'a dyn Disk,
    unreadable: Unreadable,
    origin: &'a Origin,
    pub(super) runs: Runs<'a>,
    pub(super) system: System,
    pub(super) epochs: Epochs,
    /// The system began with what a snapshot had up to this segment; none if what came before the
    /// log is unknown.
    pub(super) covered: Option<SegmentId>,
    /// A frame made no sense behind what came before.
    pub(super) is_system_broken: bool,
    pub(super) gaps: Vec<Gap>,
    pub(super) last: Revision,
    pub(super) next_index: FrameIndex,
    pub(super) epoch_max: u64,
    pub(super) frame_count: u64,
    ends_with_mark: bool,
}

impl<'a> LogReading<'a> {
    pub(super) fn new(
        (disk, target): (&'a dyn Disk, &'a Path),
        origin: &'a Origin,
        tables: &Tables,
        unreadable: Unreadable,
    ) -> Result<Self, StoreError> {
        let (system, epochs, covered) = tables.system(origin);
        Ok(Self {
            disk,
            unreadable,
            origin,
            runs: Runs::new((disk, target), origin.store),
            system,
            epochs,
            covered,
            is_system_broken: false,
            gaps: Vec::new(),
            last: Revision(0),
            next_index: FrameIndex(0),
            epoch_max: 0,
            frame_count: 0,
            ends_with_mark: false,
        })
    }

    pub(super) fn run(
        &mut self,
        tables: &Tables,
        losses: &mut Vec<Loss>,
        meter: &mut Meter<'_>,
    ) -> Result<(), StoreError> {
        self.note_what_came_before(tables, losses);
        for (place, (id, header)) in self.origin.segments.iter().enumerate() {
            let first_gap = self.gaps.len();
            match header {
                Ok(header) => self.read(place, header, losses)?,
                Err(what) => self.lose(place, *id, what, losses),
            }
            self.use_footer(*id, first_gap, losses)?;
            meter.add(self.bytes_of(*id));
        }
        self.runs.end_run()?;
        self.close_gaps(losses);
        Ok(())
    }

    /// The log may begin behind what snapshots have.
    fn note_what_came_before(&mut self, tables: &Tables, losses: &mut Vec<Loss>) {
        let Some(first) = self.origin.first() else {
            return;
        };
        if self.origin.begins_at_first() || tables.list.iter().any(|one| one.reaches(first)) {
            return;
        }
        let covered = tables.list.iter().map(|one| &one.table.head().segment);
        let covered = covered.max().map_or(SegmentId::FIRST, |last| last.next());
        let known = tables.list.iter().map(|one| one.revision).max();
        let path = segment_path(&self.origin.directory, covered);
        self.gaps.push(Gap {
            segment: covered,
            first: known.unwrap_or_default().next(),
            last: Some(first.before),
            may_hold_others: true,
            loss: losses.len(),
        });
        let what = "what came before the log, and the snapshot of it, are missing";
        losses.push(Loss::new(&path, 0..0, what));
    }

    fn read(
        &mut self,
        place: usize,
        header: &SegmentHeader,
        losses: &mut Vec<Loss>,
    ) -> Result<(), StoreError> {
        let id = header.id;
        let next = self.origin.next(place);
        let manifest = self.origin.manifest.as_ref();
        let mark = manifest.and_then(|manifest| manifest.clean_end);
        let mark = mark.filter(|end| end.segment == id).map(|end| end.offset);
        let end = next.map(|next| next.previous_bytes).or(mark);
        let directory = &self.origin.directory;
        let is_too_long = end.is_none() && self.bytes_of(id) > SEGMENT_BYTES_MAX;
        let read_to = end.or(is_too_long.then_some(SEGMENT_BYTES_MAX));
        let mut reader = SegmentReader::open(self.disk, directory, id, read_to)?;
        self.last = self.last.max(header.before);
        self.next_index = header.first_index;
        let first_gap = self.gaps.len();
        loop {
            match reader.step()? {
                Step::End => break,
                Step::Frame(offset, frame) if frame.header.index >= self.next_index => {
                    if frame.header.index > self.next_index {
                        let path = segment_path(directory, id);
                        let loss = Loss::new(&path, offset..offset, "frames are missing");
                        let before = frame.header.before();
                        self.add_gap(id, Some(before), true, (loss, losses));
                        self.last = self.last.max(before);
                    }
                    self.take(id, offset, &frame, losses)?;
                }
                // It was there before.
                Step::Frame(..) => {}
                Step::Bad(what) => {
                    let is_end_known = end.is_some();
                    if !self.pass(&mut reader, what, is_end_known, losses)? {
                        break;
                    }
                }
            }
        }
        if is_too_long {
            let bytes = SEGMENT_BYTES_MAX..self.bytes_of(id);
            let what = "more than a segment may have: nobody looks there";
            let loss = Loss::new(&reader.path, bytes, what);
            self.add_gap(id, None, true, (loss, losses));
        }
        if let Some(next) = next {
            let is_short = self.last < next.before && self.gaps.len() == first_gap;
            if is_short {
                let at = reader.offset();
                let loss = Loss::new(&segment_path(directory, id), at..at, "frames are missing");
                self.add_gap(id, Some(next.before), true, (loss, losses));
            }
            self.last = self.last.max(next.before);
        }
        Ok(())
    }

    /// Goes on behind a frame that is not valid; false at the end.
    fn pass(
        &mut self,
        reader: &mut SegmentReader,
        what: &'static str,
        is_end_known: bool,
        losses: &mut Vec<Loss>,
    ) -> Result<bool, StoreError> {
        let (id, offset) = (reader.header.id, reader.offset());
        let wanted = self.next_index;
        if !is_end_known {
            let proves_damage =
                |header: &FrameHeader| header.index >= wanted && header.synced_to > offset;
            if reader.find_header(offset, proves_damage)?.is_none() {
                self.note_torn(reader, losses)?;
                return Ok(false);
            }
        }
        let own = reader
            .header_at(offset)?
            .filter(|header| header.index == wanted);
        // Its body may hold anything, so what follows it comes first.
        let from = own.map_or(offset + FRAME_ALIGN_BYTES as u64, |own| {
            offset + own.frame_bytes()
        });
        let next = reader.find_header(from, |header| header.index > wanted)?;
        let next = match next {
            None if own.is_some() => {
                let from = offset + FRAME_ALIGN_BYTES as u64;
                reader.find_header(from, |header| header.index > wanted)?
            }
            next => next,
        };
        // Where no header follows, others may have been hit with it, unless it was the last.
        let is_alone = match (next, own) {
            (Some((_, next)), _) => next.index.0 == wanted.0 + 1,
            (None, Some(own)) => offset + own.frame_bytes() == reader.end(),
            (None, None) => false,
        };
        let kind = own.filter(|_| is_alone).map(|own| own.kind);
        let is_plain = matches!(kind, Some(FrameKind::Transactions | FrameKind::End));
        let place = self.origin.segments.iter().position(|(one, _)| *one == id);
        let after = place
            .and_then(|place| self.origin.next(place))
            .map(|next| next.before);
        let last = match (next, own) {
            (Some((_, next)), _) => Some(next.before()),
            (None, Some(own)) if after.is_none() && is_alone => Some(own.last()),
            (None, _) => after,
        };
        let end = next.map_or(reader.end(), |(at, _)| at);
        let loss = Loss::new(&reader.path, offset..end.max(offset), what);
        self.add_gap(id, last, !is_plain, (loss, losses));
        let Some((at, header)) = next else {
            return Ok(false);
        };
        self.next_index = header.index;
        self.last = self.last.max(header.before());
        reader.seek(at);
        Ok(true)
    }

    /// A log that was not closed may end with what a power cut tore; that was never promised.
    fn note_torn(
        &mut self,
        reader: &mut SegmentReader,
        losses: &mut Vec<Loss>,
    ) -> Result<(), StoreError> {
        let (id, offset) = (reader.header.id, reader.offset());
        let is_last = self
            .origin
            .segments
            .last()
            .is_some_and(|(last, _)| *last == id);
        let is_torn = is_last && self.origin.manifest.is_some();
        let tail = offset..reader.end();
        // A power cut takes no sector's readability.
        let is_unreadable = self.unreadable.touches(&reader.path, &tail);
        if !is_unreadable && (is_torn || !reader.has_bytes_after(offset)?) {
            return Ok(());
        }
        let what = match is_unreadable {
            true => "frames that cannot be read, if there were any",
            false => "frames that were torn by a power cut, or damaged: nothing tells which",
        };
        let loss = Loss::new(&reader.path, offset..reader.end(), what);
        self.add_gap(id, None, true, (loss, losses));
        Ok(())
    }

    fn lose(&mut self, place: usize, id: SegmentId, what: &str, losses: &mut Vec<Loss>) {
        let last = self.origin.next(place).map(|next| next.before);
        let path = segment_path(&self.origin.directory, id);
        let loss = Loss::new(&path, 0..self.bytes_of(id), what);
        self.add_gap(id, last, true, (loss, losses));
        self.last = self.last.max(last.unwrap_or_default());
    }

    fn add_gap(
        &mut self,
        segment: SegmentId,
        last: Option<Revision>,
        may_hold_others: bool,
        (mut loss, losses): (Loss, &mut Vec<Loss>),
    ) {
        // Where no revision is missing, no key is hit.
        loss.are_keys_known = last.is_some_and(|last| last <= self.last);
        self.gaps.push(Gap {
            segment,
            first: self.last.next(),
            last,
            may_hold_others,
            loss: losses.len(),
        });
        losses.push(loss);
    }

    fn take(
        &mut self,
        id: SegmentId,
        offset: u64,
        frame: &Frame,
        losses: &mut Vec<Loss>,
    ) -> Result<(), StoreError> {
        let path = segment_path(&self.origin.directory, id);
        self.next_index = FrameIndex(frame.header.index.0 + 1);
        self.epoch_max = self.epoch_max.max(frame.header.epoch);
        let taken = recovery::take_transactions(frame, &path, offset);
        let mut records = Vec::new();
        let transactions = match taken {
            Ok(transactions) => transactions,
            Err(StoreError::Corrupt { what, .. }) => {
                let end = offset + frame.header.frame_bytes();
                let loss = Loss::new(&path, offset..end, what);
                self.add_gap(id, Some(frame.last()), true, (loss, losses));
                self.last = self.last.max(frame.last());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for logged in &transactions {
            for effect in &logged.transaction.effects {
                let section = Section {
                    surface: effect.surface,
                    namespace: effect.namespace,
                };
                match record_of(effect) {
                    Ok(Some(change)) => {
                        records.push((section, logged.transaction.revision, change));
                    }
                    Ok(None) => {}
                    Err(malformed) => {
                        let end = offset + frame.header.frame_bytes();
                        let loss = Loss::new(&path, offset..end, malformed.0);
                        self.add_gap(id, Some(frame.last()), false, (loss, losses));
                        self.last = self.last.max(frame.last());
                        return Ok(());
                    }
                }
            }
        }
        let bytes = offset..offset + frame.header.frame_bytes();
        for record in records {
            if let Some(loss) = self.runs.add_logged(&record)? {
                losses.push(Loss::of_key(&path, bytes.clone(), loss, &record));
            }
        }
        if self.covered.is_none_or(|covered| id > covered) {
            let place = (&*path, offset);
            let system = (&mut self.system, &mut self.epochs);
            match recovery::take_frame(frame, transactions, place, system) {
                Err(StoreError::Corrupt { .. }) => self.is_system_broken = true,
                taken => taken?,
            }
        }
        self.last = self.last.max(frame.last());
        self.ends_with_mark = frame.header.kind == FrameKind::End;
        self.frame_count += 1;
        Ok(())
    }

    /// What the footer of a segment with gaps still tells: which keys were in them, and where their
    /// values stand.
    fn use_footer(
        &mut self,
        id: SegmentId,
        first_gap: usize,
        losses: &mut [Loss],
    ) -> Result<(), StoreError> {
        if self.gaps.len() == first_gap {
            return Ok(());
        }
        let directory = &self.origin.directory;
        let path = footer_path(directory, id);
        let Ok(table) = Table::open(self.disk, &path, TableKind::Footer) else {
            return Ok(());
        };
        let head = *table.head();
        if head.store != self.origin.store || head.segment != id {
            return Ok(());
        }
        // Each value has its own checksum, so that the segment's end is unknown does no harm.
        let info = SegmentInfo {
            id,
            first_index: FrameIndex(0),
            before: Revision(0),
            last: head.revision,
            bytes: u64::MAX,
            last_time_ms: 0,
            chunk_bytes: 0,
        };
        let footer = Footer::open(self.disk, directory, info).ok();
        for gap in &mut self.gaps[first_gap..] {
            gap.last = gap.last.or(Some(head.revision));
        }
        let table = std::sync::Arc::new(table);
        let gaps = &self.gaps[first_gap..];
        for entry in table.iter() {
            let Ok(entry) = entry else {
                // A footer that is damaged itself tells no more.
                return Ok(());
            };
            let is_in = |gap: &&Gap| {
                let last = gap.last.unwrap_or_default();
                (gap.first..=last).contains(&entry.revision)
            };
            let Some(gap) = gaps.iter().find(is_in) else {
                continue;
            };
            let key = (entry.section, &entry.key[..]);
            let content = footer.as_ref();
            let content = content.map(|footer| footer.content(&entry.payload));
            let revision = entry.revision;
            match content {
                Some(Ok(Content::Whole(value))) => self.runs.add(key, revision, Some(&value))?,
                Some(Ok(Content::Removed)) => self.runs.add(key, revision, None)?,
                Some(Ok(Content::Parts { base, edits })) => {
                    let part = Part {
                        revision,
                        base,
                        edits,
                    };
                    if !self.runs.add_part(key, part)? {
                        losses[gap.loss].add_key(entry.section.namespace, &entry.key);
                    }
                }
                None if is_removal(&entry.payload) => self.runs.add(key, entry.revision, None)?,
                Some(Err(StoreError::Corrupt { .. })) | None => {
                    losses[gap.loss].add_key(entry.section.namespace, &entry.key);
                }
                Some(Err(error)) => return Err(error),
            }
        }
        for gap in &self.gaps[first_gap..] {
            losses[gap.loss].are_keys_known = true;
            self.last = self.last.max(gap.last.unwrap_or_default());
        }
        Ok(())
    }

    /// Says of each gap which revisions it has, as far as anything tells.
    fn close_gaps(&mut self, losses: &mut [Loss]) {
        let known_max = self
            .origin
            .manifest
            .as_ref()
            .map(|manifest| manifest.revision_max);
        for gap in &mut self.gaps {
            let mut behind = self
                .origin
                .segments
                .iter()
                .filter(|(id, _)| *id > gap.segment);
            let before = behind.find_map(|(_, header)| header.as_ref().ok());
            gap.last = gap.last.or(before.map(|header| header.before));
            let last = gap.last.or(known_max).unwrap_or(gap.first);
            losses[gap.loss].revisions = (gap.first <= last).then_some((gap.first, last));
        }
        if let Some(place) = self.origin.manifest_loss {
            // An end mark is the last there was; without it, newer segments may be gone.
            losses[place].is_made_good = self.ends_with_mark;
            losses[place].are_keys_known = self.ends_with_mark;
            losses[place].revisions = Some((self.last.next(), self.last.next()));
        }
    }

    fn bytes_of(&self, id: SegmentId) -> u64 {
        let path = segment_path(&self.origin.directory, id);
        let file = self.disk.open(&path, OpenMode::Read);
        file.and_then(|file| file.bytes()).unwrap_or(0)
    }
}
