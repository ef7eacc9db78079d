//! The new store: one snapshot of what is known, a fresh segment with a new epoch, and a manifest
//! that has it opened as after an unclean end.

use std::collections::BTreeSet;
use std::path::Path;

use objsync_proto::ids::{Epoch, EpochName, NamespaceId, Revision, SurfaceId};
use objsync_proto::limits::REVISION_STEP;

use super::choose::Choice;
use super::log::{Gap, LogReading};
use super::origin::Origin;
use super::tables::Tables;
use super::{Loss, Meter, RepairReport};
use crate::authority::AuthorityKind;
use crate::backup::{copy_beside, epoch_step};
use crate::catalog::Catalog;
use crate::core::System;
use crate::disk::{Disk, replace_file};
use crate::epoch::{EpochStart, Epochs};
use crate::error::StoreError;
use crate::format::{Feature, name_feature, write_format};
use crate::frame::{BatchBuilder, FrameHeader, FrameKind};
use crate::log::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, log_directory};
use crate::manifest::{Manifest, manifest_path};
use crate::packs::pack_paths;
use crate::recovery;
use crate::snapshot::{SYSTEM_PIECE_BYTES, snapshot_directory, snapshot_path};
use crate::table::{Section, TableEntry, TableHead, TableKind, TableWriter};

/// Bytes of a transaction at least: how many revisions damaged bytes may have held.
const TRANSACTION_BYTES_MIN: u64 = 3;

/// Draws random bytes.
type Draw<'a> = dyn Fn() -> Result<[u8; 16], StoreError> + 'a;

pub(super) fn write(
    (disk, target): (&dyn Disk, &Path),
    (origin, beside, draw): (&Origin, &[&str], &Draw<'_>),
    (tables, mut reading): (Tables, LogReading<'_>),
    (report, meter): (&mut RepairReport, &mut Meter<'_>),
) -> Result<(), StoreError> {
    let snapshots = tables.list.iter().map(|one| one.revision);
    let revision = snapshots.fold(reading.last, Revision::max);
    report.revision = revision;
    keep_system(origin, &mut reading, &mut report.losses);
    report.grant_count = reading.system.grants.list().len() as u64;
    let drawn = (draw()?, draw()?);
    let start = begin_epoch(origin, &mut reading, (revision, &report.losses), drawn);
    let id = next_segment(origin, &tables);
    let head = TableHead {
        kind: TableKind::Snapshot,
        store: origin.store,
        revision,
        segment: SegmentId(id.0 - 1),
    };
    let created = disk.create_dir(&snapshot_directory(target));
    created.map_err(|error| StoreError::io("create", target, error))?;
    let mut writer = TableWriter::create(disk, &snapshot_path(target, revision), head)?;
    let system = recovery::encode_section(&reading.system, &reading.epochs);
    for (index, piece) in (0_u32..).zip(system.chunks(SYSTEM_PIECE_BYTES)) {
        writer.push(Section::SYSTEM, &index.to_be_bytes(), revision, piece)?;
    }
    let what = "parts of values that changed after what is lost: these keys are as before that";
    let mut short = Loss::new(&log_directory(&origin.directory), 0..0, what);
    short.are_keys_known = true;
    let known = (&tables, &reading);
    report.entry_count = write_entries(&mut writer, known, (revision, meter), &mut short)?;
    if short.key_count > 0 {
        report.losses.push(short);
    }
    writer.finish()?;
    write_segment(
        (disk, target),
        (origin, id, revision),
        &reading,
        (start, draw()?),
    )?;
    let manifest = manifest(origin, &reading, (id, revision, start));
    reading.runs.remove()?;
    copy_beside(disk, &origin.directory, target, beside)?;
    replace_file(disk, &manifest_path(target), &manifest.encode())
        .map_err(|error| StoreError::io("write", &manifest_path(target), error))?;
    write_format(disk, target)?;
    if pack_paths(disk, target)?.is_empty() {
        return Ok(());
    }
    name_feature(disk, target, Feature::Packs)
}

/// Lets go of sessions and grants that what is lost may have ended.
fn keep_system(origin: &Origin, reading: &mut LogReading<'_>, losses: &mut Vec<Loss>) {
    let is_unknown = reading.covered.is_none() || reading.is_system_broken;
    let covered = reading.covered.unwrap_or(SegmentId(0));
    let behind = || reading.gaps.iter().filter(|gap| gap.segment > covered);
    let is_cut = is_unknown || behind().next().is_some();
    let may_return = is_unknown || behind().any(|gap| gap.may_hold_others);
    let sessions = reading.system.sessions.count();
    let grants = reading.system.grants.list().len();
    let mut lose = |what: String, is_made_good: bool| {
        losses.push(Loss {
            is_made_good,
            are_keys_known: true,
            ..Loss::new(&origin.directory, 0..0, what)
        });
    };
    let system = std::mem::take(&mut reading.system);
    if is_cut && sessions > 0 {
        let what = format!(
            "{sessions} sessions end: a write of theirs that is repeated answers outcome unknown"
        );
        lose(what, true);
    }
    if may_return && grants > 0 {
        let what = format!(
            "{grants} links are not kept: one that was taken back might be among them; make them \
             anew"
        );
        lose(what, false);
    }
    reading.system = System {
        sessions: match is_cut {
            true => Default::default(),
            false => system.sessions,
        },
        grants: match may_return {
            true => Default::default(),
            false => system.grants,
        },
    };
}

/// A new epoch, which says up to where older positions are a prefix of what is left. Its number is
/// far from those of the original, as that of a backup is: see `backup::epoch_step`.
fn begin_epoch(
    origin: &Origin,
    reading: &mut LogReading<'_>,
    (revision, losses): (Revision, &[Loss]),
    (name, chance): ([u8; 16], [u8; 16]),
) -> EpochStart {
    let lost = losses
        .iter()
        .filter(|loss| !loss.is_made_good && loss.file != origin.directory);
    let lost = lost.map(|loss| loss.revisions.map_or(Revision(1), |(first, _)| first));
    // A change of owner may be lost with what else there was, and with it what that one took back.
    let is_unknown = |gap: &&Gap| gap.may_hold_others && Some(gap.segment) > reading.covered;
    let unknown = reading.gaps.iter().filter(is_unknown);
    let first_lost = lost.chain(unknown.map(|gap| gap.first)).min();
    let after = first_lost.map_or(revision, |first| Revision(first.0.saturating_sub(1)));
    let after = after.min(revision);
    let kept: Vec<_> = reading
        .epochs
        .iter()
        .filter(|start| first_lost.is_none_or(|first| start.after < first))
        .copied()
        .collect();
    let seen = reading.epochs.current().map_or(0, |epoch| epoch.number);
    let known = origin
        .manifest
        .as_ref()
        .map_or(0, |manifest| manifest.epoch_max);
    let highest = seen.max(known).max(reading.epoch_max);
    let number = highest.saturating_add(epoch_step(chance));
    let mut epochs = Epochs::new(origin.store);
    for start in kept {
        epochs.push(start);
    }
    reading.epochs = epochs;
    EpochStart {
        epoch: Epoch {
            number,
            name: EpochName(name),
        },
        after,
    }
}

/// A number that no segment had. That of a file which is no segment counts for nothing: it may be
/// the last there is.
fn next_segment(origin: &Origin, tables: &Tables) -> SegmentId {
    let segments = origin.segments.iter();
    let segments = segments.filter_map(|(id, header)| header.as_ref().ok().map(|_| *id));
    let covered = tables.list.iter().map(|one| one.table.head().segment);
    let last = segments.chain(covered).max().unwrap_or(SegmentId(0));
    SegmentId(last.0.saturating_add(1))
}

/// Writes what is known of each key; tells how many there are.
fn write_entries(
    writer: &mut TableWriter<'_>,
    (tables, reading): (&Tables, &LogReading<'_>),
    (revision, meter): (Revision, &mut Meter<'_>),
    short: &mut Loss,
) -> Result<u64, StoreError> {
    let mut entries = Choice::new(tables, &reading.runs, short).peekable();
    let catalog = Section::dict(NamespaceId::CATALOG);
    let is_catalog = |entry: &Result<TableEntry, StoreError>| {
        let entry = entry.as_ref().ok();
        entry.is_some_and(|entry| entry.section <= catalog)
    };
    let mut names = Vec::new();
    while let Some(entry) = entries.next_if(is_catalog) {
        names.push(entry?);
    }
    add_lost_names(&mut names, namespaces(tables, reading), revision)?;
    let mut count = 0;
    for entry in names.into_iter().map(Ok).chain(entries) {
        let entry = entry?;
        writer.push(entry.section, &entry.key, entry.revision, &entry.payload)?;
        let is_users = ![
            NamespaceId::CATALOG,
            NamespaceId::LEASES,
            NamespaceId::DICTIONARIES,
        ]
        .contains(&entry.section.namespace);
        count += u64::from(is_users);
        meter.add((entry.key.len() + entry.payload.len()) as u64);
    }
    Ok(count)
}

/// The dictionaries that something is there of.
fn namespaces(tables: &Tables, reading: &LogReading<'_>) -> BTreeSet<NamespaceId> {
    let runs = reading.runs.list.iter().map(|run| &run.puts);
    let all = tables.list.iter().map(|one| &one.table).chain(runs);
    all.flat_map(|table| table.sections())
        .filter(|(section, _)| section.surface == SurfaceId::DICT)
        .map(|(section, _)| section.namespace)
        .filter(|namespace| {
            let own = [
                NamespaceId::CATALOG,
                NamespaceId::LEASES,
                NamespaceId::DICTIONARIES,
            ];
            !own.contains(namespace)
        })
        .collect()
}

/// A dictionary whose name is lost gets one: its number must not be given to another.
fn add_lost_names(
    names: &mut Vec<TableEntry>,
    namespaces: BTreeSet<NamespaceId>,
    revision: Revision,
) -> Result<(), StoreError> {
    let mut catalog = Catalog::default();
    for entry in names.iter() {
        catalog.apply(&objsync_proto::effect::Change {
            key: entry.key.clone(),
            value: Some(entry.payload.clone()),
        });
    }
    for namespace in namespaces {
        if catalog.holds(namespace) {
            continue;
        }
        let change = catalog.name_for(namespace)?;
        names.push(TableEntry {
            section: Section::dict(NamespaceId::CATALOG),
            key: change.key,
            revision,
            payload: change.value.unwrap_or_default(),
        });
    }
    names.sort_by(|a, b| (a.section, &a.key).cmp(&(b.section, &b.key)));
    Ok(())
}

fn write_segment(
    (disk, target): (&dyn Disk, &Path),
    (origin, id, revision): (&Origin, SegmentId, Revision),
    reading: &LogReading<'_>,
    (start, salt): (EpochStart, [u8; 16]),
) -> Result<(), StoreError> {
    let header = SegmentHeader {
        store: origin.store,
        id,
        salt,
        previous_bytes: 0,
        previous_chunk_bytes: 0,
        first_index: reading.next_index,
        before: revision,
        time_ms: 0,
    };
    let mut body = Vec::new();
    start.encode(&mut body);
    let mut builder = BatchBuilder::default();
    builder.raw(&body);
    let frame = FrameHeader {
        kind: FrameKind::Epoch,
        skippable: false,
        index: header.first_index,
        epoch: start.epoch.number,
        first: revision,
        count: 0,
        time_ms: 0,
        synced_to: SEGMENT_HEADER_BYTES,
        body_bytes: 0,
        body_crc: 0,
    };
    header.create(disk, target, builder.seal(frame, header.seed()))?;
    Ok(())
}

fn manifest(
    origin: &Origin,
    reading: &LogReading<'_>,
    (id, revision, start): (SegmentId, Revision, EpochStart),
) -> Manifest {
    let revision_max = match &origin.manifest {
        Some(manifest) => manifest.revision_max.max(revision),
        // No owner went further than a step beyond what it wrote, and that is in these bytes.
        None => {
            let beyond = REVISION_STEP + origin.total_bytes / TRANSACTION_BYTES_MIN;
            Revision(reading.last.max(revision).0.saturating_add(beyond))
        }
    };
    Manifest {
        epoch_max: start.epoch.number,
        revision_max,
        first_segment: Some(id),
        last_segment: Some(id),
        snapshots: vec![revision],
        ..Manifest::new(origin.store, AuthorityKind::Alone)
    }
}
