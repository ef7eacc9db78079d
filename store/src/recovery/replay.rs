//! State in memory, made again from snapshot and log.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::ids::{NamespaceId, Revision, SessionId};
use objsync_proto::session::Recorded;
use objsync_proto::wire::KeyRange;

use super::log_state::{self, LogState};
use crate::catalog::Catalog;
use crate::core::System;
use crate::disk::Disk;
use crate::epoch::{EpochStart, Epochs};
use crate::error::StoreError;
use crate::frame::{BytesReader, Frame, FrameKind, LoggedTransaction, Malformed};
use crate::grants::{GrantEvent, Grants};
use crate::history::{LogHistory, Walk, located};
use crate::log::{LogReader, SegmentId, SegmentInfo, log_directory, segment_path};
use crate::reader::PageLimits;
use crate::sessions::{SessionEvent, Sessions};
use crate::snapshot::{Snapshot, snapshot_path};
use crate::state::DictState;
use crate::surfaces::{Surfaces, Unroutable, check_effect};

/// Bytes of the catalog read at once.
const PAGE_BYTES: usize = 1 << 20;
/// The version of a snapshot's system section.
const SECTION_VERSION: u8 = 0;

/// Sessions, grants and epochs as of the end of a segment, and the file that says so.
pub(crate) struct Known {
    segment: SegmentId,
    section: Bytes,
    path: PathBuf,
}

impl Known {
    /// What a snapshot says.
    pub(crate) fn of_snapshot(
        directory: &Path,
        snapshot: Option<&Snapshot>,
    ) -> Result<Option<Self>, StoreError> {
        let known = snapshot.map(|snapshot| {
            Ok(Self {
                segment: snapshot.segment(),
                section: snapshot.system()?,
                path: snapshot_path(directory, snapshot.revision()),
            })
        });
        known.transpose()
    }

    /// What was written down when the store was closed.
    pub(crate) fn of_state(directory: &Path, state: LogState) -> Option<Self> {
        Some(Self {
            segment: state.segment,
            section: state.section,
            path: log_state::path_of(directory),
        })
    }
}

/// Sessions, grants and epochs, as the end of these segments has them: from what is known, and the
/// segments after it.
pub(crate) fn load_system(
    (disk, directory): (&dyn Disk, &Path),
    known: Option<Known>,
    mut segments: Vec<SegmentInfo>,
    (system, epochs): (&mut System, &mut Epochs),
) -> Result<(), StoreError> {
    let mut next = SegmentId::FIRST;
    if let Some(known) = known {
        located(take_section(known.section, system, epochs), &known.path, 0)?;
        next = known.segment.next();
    }
    segments.retain(|info| info.id >= next);
    if segments.first().is_some_and(|first| first.id != next) {
        return Err(StoreError::corrupt(
            &segment_path(directory, next),
            0,
            "it is missing",
        ));
    }
    for read in LogReader::new(disk, directory, segments, None) {
        let (place, frame) = read?;
        let path = segment_path(directory, place.segment);
        let transactions = take_transactions(&frame, &path, place.offset)?;
        take_frame(
            &frame,
            transactions,
            (&path, place.offset),
            (system, epochs),
        )?;
    }
    Ok(())
}

/// The transactions of a frame, all of which have a surface here.
pub(crate) fn take_transactions(
    frame: &Frame,
    path: &Path,
    offset: u64,
) -> Result<Vec<LoggedTransaction>, StoreError> {
    if let FrameKind::Other(kind) = frame.header.kind {
        if frame.header.skippable {
            return Ok(Vec::new());
        }
        let what = format!("a frame of kind {kind} at byte {offset}");
        let path = path.to_owned();
        return Err(StoreError::Unsupported { path, what });
    }
    let transactions = located(frame.transactions(), path, offset)?;
    refuse_unroutable(&transactions, path)?;
    Ok(transactions)
}

/// Applies a frame to sessions, grants and epochs.
pub(crate) fn take_frame(
    frame: &Frame,
    transactions: Vec<LoggedTransaction>,
    (path, offset): (&Path, u64),
    (system, epochs): (&mut System, &mut Epochs),
) -> Result<(), StoreError> {
    keep_results(frame, transactions, (system, epochs), path)?;
    located(apply(frame, system, epochs), path, offset)
}

fn apply(frame: &Frame, system: &mut System, epochs: &mut Epochs) -> Result<(), Malformed> {
    let header = &frame.header;
    let mut reader = BytesReader::new(&frame.body);
    match header.kind {
        FrameKind::Epoch => epochs.push(EpochStart::take(&mut reader)?),
        FrameKind::Session => match SessionEvent::take(&mut reader)? {
            SessionEvent::Opened(peer) => {
                let id = SessionId {
                    epoch: header.epoch,
                    frame: header.index,
                };
                system.sessions.open(id, peer, header.time_ms);
            }
            SessionEvent::Closed(id) => {
                system.sessions.close(id);
            }
        },
        FrameKind::Grant => system.grants.apply(GrantEvent::take(&mut reader)?),
        FrameKind::Transactions | FrameKind::End | FrameKind::Other(_) => {}
    }
    Ok(())
}

/// A store with effects that nobody here can apply is for a later program.
fn refuse_unroutable(transactions: &[LoggedTransaction], path: &Path) -> Result<(), StoreError> {
    let effects = transactions
        .iter()
        .flat_map(|logged| &logged.transaction.effects);
    for effect in effects {
        check_effect(effect).map_err(|unroutable| {
            let what = match unroutable {
                Unroutable::UnknownSurface(id) => format!("an effect of surface {}", id.0),
                Unroutable::OverBounds(id) => {
                    format!("an effect over the bounds of surface {}", id.0)
                }
            };
            let path = path.to_owned();
            StoreError::Unsupported { path, what }
        })?;
    }
    Ok(())
}

fn keep_results(
    frame: &Frame,
    transactions: Vec<LoggedTransaction>,
    (system, epochs): (&mut System, &Epochs),
    path: &Path,
) -> Result<(), StoreError> {
    let header = &frame.header;
    for logged in transactions {
        let Some(origin) = logged.origin() else {
            continue;
        };
        let epoch = epochs.get(header.epoch).ok_or_else(|| {
            let what = format!("frame {} is of an epoch that never began", header.index.0);
            StoreError::corrupt(path, 0, what)
        })?;
        let recorded = Recorded {
            result: logged.transaction.result,
            revision: logged.transaction.revision,
            epoch,
        };
        let sessions = &mut system.sessions;
        sessions.finish(origin, logged.floor, recorded, header.time_ms);
    }
    Ok(())
}

/// Brings every surface that keeps its own index to the end of the log.
pub(super) fn replay_surfaces(
    surfaces: &Surfaces,
    history: &LogHistory,
    end: Revision,
) -> Result<(), StoreError> {
    for surface in surfaces.iter() {
        let walked = history.walk(surface.mark(), end, &mut |logged| {
            let transaction = logged.transaction;
            for effect in &transaction.effects {
                if effect.surface == surface.id() {
                    surface.apply(transaction.revision, effect)?;
                }
            }
            Ok(true)
        })?;
        if let Walk::Trimmed = walked {
            let log = log_directory(&history.directory);
            let what = format!("what follows revision {} is missing", surface.mark());
            return Err(StoreError::corrupt(&log, 0, what));
        }
        surface.publish(end);
    }
    Ok(())
}

/// The catalog, as the dictionary has it.
pub(super) fn load_catalog(state: &DictState) -> Result<Catalog, StoreError> {
    let mut catalog = Catalog::default();
    let mut rest = KeyRange::default();
    let limits = PageLimits {
        bytes_max: PAGE_BYTES,
        count_max: usize::MAX,
    };
    loop {
        let at = Revision(u64::MAX);
        let page = state.page_at(NamespaceId::CATALOG, &rest, false, at, limits)?;
        let Some(last) = page.last() else {
            return Ok(catalog);
        };
        rest.start = objsync_proto::key::successor(&last.key);
        for entry in page {
            let key = entry.key;
            let value = Some(entry.value);
            catalog.apply(&Change { key, value });
        }
    }
}

/// Sessions, grants and epochs as a snapshot's system section.
pub(crate) fn encode_section(system: &System, epochs: &Epochs) -> Vec<u8> {
    let mut section = vec![SECTION_VERSION];
    crate::frame::put_varint(&mut section, epochs.iter().len() as u64);
    for start in epochs.iter() {
        start.encode(&mut section);
    }
    system.grants.encode(&mut section);
    system.sessions.encode(&mut section);
    section
}

/// What [`encode_section`] wrote.
pub(crate) fn take_section(
    section: Bytes,
    system: &mut System,
    epochs: &mut Epochs,
) -> Result<(), Malformed> {
    let mut reader = BytesReader::new(&section);
    if reader.byte()? != SECTION_VERSION {
        return Err(Malformed("a system section of a later version"));
    }
    for _ in 0..reader.varint()? {
        epochs.push(EpochStart::take(&mut reader)?);
    }
    system.grants = Grants::take(&mut reader)?;
    system.sessions = Sessions::take(&mut reader)?;
    reader.finish()
}
