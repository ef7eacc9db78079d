//! From files to a running store.
//!
//! Order: `FORMAT`, lock, `MANIFEST`, which segments there are, where the last one ends, system
//! state from snapshot and log, the new epoch, then the dictionary. Nothing is served, and
//! nothing old is changed, before the new epoch is on disk.

mod layout;
pub(crate) mod log_state;
mod replay;
mod tail;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};

use objsync_proto::ids::{Epoch, EpochName, Revision, StoreId};
use objsync_proto::limits::REVISION_STEP;

use crate::authority::{Alone, Authority, AuthorityKind, Follower};
use crate::clock::OwnerTime;
use crate::commit::{Batch, Queue, Writer};
use crate::core::{Began, Core, System};
use crate::dict::DictSurface;
use crate::dictionaries::OpenDictionaries;
use crate::disk::{Disk, OpenMode};
use crate::epoch::{EpochStart, Epochs};
use crate::error::StoreError;
use crate::feed::Feed;
use crate::follow::install;
use crate::format::{check_format, write_format};
use crate::frame::BatchBuilder;
use crate::history::LogHistory;
use crate::keeper;
use crate::leases::Leases;
use crate::lock::Lock;
use crate::log::{LogWriter, OpenSegment, SegmentHeader, SegmentInfo, Segments};
use crate::manifest::{Manifest, ManifestFile};
use crate::options::StoreOptions;
use crate::packs::{PackOptions, Packs};
use crate::poison::Poison;
use crate::snapshot::{Snapshot, Snapshots};
use crate::stamps::Stamps;
use crate::state::{DictState, StateOptions};
use crate::surfaces::Surfaces;
use crate::upkeep::Upkeep;

pub(crate) use replay::{
    Known, encode_section, load_system, take_frame, take_section, take_transactions,
};

use layout::Layout;
use tail::Tail;

/// Opens the store in a directory: all of it but its threads.
pub(crate) fn open(directory: &Path, options: StoreOptions) -> Result<Core, StoreError> {
    let lock = enter(directory, &options)?;
    if !options.readonly {
        install::finish(&*options.disk, directory)?;
    }
    let manifest = read_manifest(directory, &options)?;
    check_authority(directory, &options, &manifest.get())?;
    let layout = layout::find(directory, &options, &manifest)?;
    let (snapshots, (mut system, mut epochs)) =
        system_of(directory, &options, (&manifest, &layout))?;
    // Of the last segment the time of its last frame is known, of the others what began the next.
    let all = layout.closed.iter().chain([&layout.tail.info]);
    let logged_ms = all.map(|info| info.last_time_ms).max().unwrap_or(0);
    let time = OwnerTime::new(options.clock.clone(), logged_ms);
    if !options.follow {
        // Of a copy, the source decides which sessions end.
        system.sessions.end_idle(time.now_ms());
    }

    let tail = match (options.readonly, options.follow) {
        (true, _) => tail::only_read(directory, &options, &layout)?,
        (false, true) => go_on_as_copy(directory, &options, (&manifest, &layout), time.now_ms())?,
        (false, false) => {
            let changing = (&layout, &mut epochs);
            begin_epoch(directory, &options, &manifest, (changing, time.now_ms()))?
        }
    };
    finish(
        directory,
        options,
        Parts {
            lock,
            manifest,
            layout,
            snapshots,
            system,
            epochs,
            tail,
            time,
        },
    )
}

/// What [`open`] has gathered.
struct Parts {
    lock: Option<Lock>,
    manifest: ManifestFile,
    layout: Layout,
    snapshots: Snapshots,
    system: System,
    epochs: Epochs,
    tail: Tail,
    time: OwnerTime,
}

/// That there is a store, or may be one, and that nobody else owns it.
fn enter(directory: &Path, options: &StoreOptions) -> Result<Option<Lock>, StoreError> {
    let disk = &*options.disk;
    let write = !options.readonly;
    let begun = check_format(disk, directory, write)?;
    // A copy begins with what its source sends.
    if !begun && (options.readonly || options.follow || !options.create) {
        let directory = directory.to_owned();
        return Err(StoreError::NotFound { directory });
    }
    if options.readonly {
        return Ok(None);
    }
    disk.create_dir(directory)
        .map_err(|error| StoreError::io("create", directory, error))?;
    let lock = Lock::take(directory, options.force_network_fs)?;
    if !check_format(disk, directory, write)? {
        // Whoever made it may have ended before its name was synced.
        keep_name(disk, directory).map_err(|error| StoreError::io("create", directory, error))?;
        write_format(disk, directory)?;
    }
    Ok(Some(lock))
}

/// Makes the name of a directory survive a power cut. Who may not read the parent did not make it.
fn keep_name(disk: &dyn Disk, directory: &Path) -> std::io::Result<()> {
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => return Ok(()),
    };
    match disk.sync_dir(parent) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

fn read_manifest(directory: &Path, options: &StoreOptions) -> Result<ManifestFile, StoreError> {
    if let Some(manifest) = ManifestFile::read(&options.disk, directory)? {
        return Ok(manifest);
    }
    if options.follow {
        let directory = directory.to_owned();
        return Err(StoreError::NotFound { directory });
    }
    if !options.readonly {
        // Whoever wrote FORMAT may have ended before its name was synced.
        let synced = options.disk.sync_dir(directory);
        synced.map_err(|error| StoreError::io("create", directory, error))?;
    }
    layout::refuse_log_without_manifest(directory, options)?;
    let store = StoreId(draw(directory, options)?);
    let manifest = Manifest::new(store, AuthorityKind::Alone);
    ManifestFile::create(&options.disk, directory, manifest)
}

/// The number of the last epoch and the last revision of the log in a directory. For who has the
/// lock; reads what opening reads.
pub(crate) fn end_of(
    directory: &Path,
    options: &StoreOptions,
    manifest: &ManifestFile,
) -> Result<(u64, Revision), StoreError> {
    let layout = layout::find(directory, options, manifest)?;
    let (_, epochs) = system_of(directory, options, (manifest, &layout))?.1;
    let epoch = epochs.current().map_or(0, |epoch| epoch.number);
    Ok((epoch, layout.tail.info.last))
}

/// The snapshots of a store, and what the newest and the log after it tell of its system state.
fn system_of(
    directory: &Path,
    options: &StoreOptions,
    (manifest, layout): (&ManifestFile, &Layout),
) -> Result<(Snapshots, (System, Epochs)), StoreError> {
    let known = manifest.get();
    let snapshots = Snapshots::find(options.disk.clone(), directory, &known.snapshots)?;
    let all = layout.closed.iter().copied().chain([layout.tail.info]);
    let mut system = System::default();
    let mut epochs = Epochs::new(known.store);
    let files = (&*options.disk, directory);
    let newest = snapshots.newest()?;
    let covered = newest.as_ref().map(Snapshot::segment);
    let state = log_state::read(files, known.store, &layout.closed);
    let known = match state.filter(|state| Some(state.segment) > covered) {
        Some(state) => Known::of_state(directory, state),
        None => Known::of_snapshot(directory, newest.as_ref())?,
    };
    replay::load_system(files, known, all.collect(), (&mut system, &mut epochs))?;
    Ok((snapshots, (system, epochs)))
}

/// That a copy is opened as one, and nothing else is.
fn check_authority(
    directory: &Path,
    options: &StoreOptions,
    known: &Manifest,
) -> Result<(), StoreError> {
    let directory = directory.to_owned();
    match (known.authority, options.follow) {
        (AuthorityKind::Alone, false) | (AuthorityKind::Follower, true) => Ok(()),
        (AuthorityKind::Follower, false) if options.readonly => Ok(()),
        (AuthorityKind::Follower, false) => Err(StoreError::Follows { directory }),
        (AuthorityKind::Alone, true) => {
            let what = String::from("it is a store of its own");
            Err(StoreError::NotACopy { directory, what })
        }
    }
}

fn draw(directory: &Path, options: &StoreOptions) -> Result<[u8; 16], StoreError> {
    let mut bytes = [0; 16];
    let drawn = options.entropy.fill(&mut bytes);
    drawn.map_err(|error| StoreError::io("draw random bytes for", directory, error))?;
    Ok(bytes)
}

/// Goes on with a copy where it stands: its log gets no frame but its source's.
fn go_on_as_copy(
    directory: &Path,
    options: &StoreOptions,
    (manifest, layout): (&ManifestFile, &Layout),
    now_ms: u64,
) -> Result<Tail, StoreError> {
    let known = manifest.get();
    // Where it was closed, all of it was synced.
    let is_synced = known.clean_end.is_some();
    let open = |manifest: &mut Manifest| manifest.clean_end = None;
    match manifest.update(open) {
        Err(StoreError::Full { .. }) => {
            tail::give_back(directory, options, layout)?;
            manifest.update(open)?;
        }
        opened => opened?,
    }
    let tail = match is_synced {
        true => tail::write_on(directory, options, layout)?,
        false => tail::begin_anew(directory, options, (known.store, layout), (None, now_ms))?,
    };
    name_segments(manifest, layout, &tail)?;
    Ok(tail)
}

/// Makes the manifest name the segment that is written on.
fn name_segments(manifest: &ManifestFile, layout: &Layout, tail: &Tail) -> Result<(), StoreError> {
    let oldest = layout.closed.first().unwrap_or(&layout.tail.info).id;
    manifest.update(|manifest| {
        manifest.first_segment = manifest.first_segment.or(Some(oldest));
        manifest.last_segment = Some(tail.info.id);
        manifest.chunks.open_bytes = tail.info.chunk_bytes;
    })
}

/// Makes this process the owner in the log: first the numbers it may use, then its epoch.
fn begin_epoch(
    directory: &Path,
    options: &StoreOptions,
    manifest: &ManifestFile,
    ((layout, epochs), now_ms): ((&Layout, &mut Epochs), u64),
) -> Result<Tail, StoreError> {
    let known = manifest.get();
    let seen = epochs.current().map_or(0, |epoch| epoch.number);
    let no_number = || StoreError::corrupt(directory, 0, "no number of an epoch is left");
    let number = seen.max(known.epoch_max).checked_add(1);
    let epoch = Epoch {
        number: number.ok_or_else(no_number)?,
        name: EpochName(draw(directory, options)?),
    };
    let kept = layout.tail.info.last;
    // Who ends in order leaves the last it gave, and who sets a copy apart a number far beyond.
    let last = kept.max(known.revision_max);
    let claim = |manifest: &mut Manifest| {
        manifest.clean_end = None;
        manifest.epoch_max = epoch.number;
        manifest.revision_max = Revision(last.0.saturating_add(REVISION_STEP));
    };
    match manifest.update(claim) {
        // The last owner may have left room in the log that it did not use.
        Err(StoreError::Full { .. }) => {
            tail::give_back(directory, options, layout)?;
            manifest.update(claim)?;
        }
        claimed => claimed?,
    }
    let start = EpochStart { epoch, after: kept };
    let mut tail = match layout.is_clean {
        true => tail::go_on(directory, options, layout, (start, now_ms))?,
        false => tail::begin_anew(
            directory,
            options,
            (known.store, layout),
            (Some(start), now_ms),
        )?,
    };
    if layout.tail.is_torn {
        let (segment, at) = (layout.tail.info.id.0, layout.tail.info.bytes);
        tracing::warn!(
            segment,
            at,
            revision = kept.0,
            "a torn tail of the log is cut"
        );
    }
    tail.last = last;
    epochs.push(start);
    name_segments(manifest, layout, &tail)?;
    Ok(tail)
}

fn finish(directory: &Path, options: StoreOptions, parts: Parts) -> Result<Core, StoreError> {
    let Parts {
        lock,
        manifest,
        layout,
        snapshots,
        system,
        epochs,
        tail,
        time,
    } = parts;
    let known = manifest.get();
    let committed = tail.info.last;
    let epoch = current(&epochs, directory)?;
    let mut closed = layout.closed;
    closed.extend(tail.closed);
    clean(directory, &options, &known, &closed)?;
    let poison = Arc::new(Poison::default());
    let (opened, clock) = (tail.opened(directory), options.clock.clone());
    let open = OpenSegment::new(opened, poison.clone(), clock, &options.limits);
    let found = (known.store, epochs, closed, snapshots);
    let history = Arc::new(history(directory, &options, found, open));
    let state = Arc::new(open_state(directory, &options, (&history, committed))?);
    let packs = PackOptions::new(directory, &options, known.store);
    let packs = Packs::open_counted(packs, &manifest)?;
    let log = tail.writer(&options, &history, &poison, packs.unlogged_bytes());
    let writer = (!options.readonly).then(|| writer(log, epoch, tail.last, &known));
    if !options.readonly {
        state.want_index();
    }
    let surfaces = replay_surfaces(&state, &history, committed)?;
    let (kept, given) = (committed, tail.last);
    Ok(Core {
        catalog: RwLock::new(replay::load_catalog(&state)?),
        leases: leases(&state, &options)?,
        began: Began { kept, given },
        time,
        directory: directory.to_owned(),
        durability: options.durability,
        limits: options.limits,
        authority: authority_of(known.authority, directory),
        store: known.store,
        begun: epoch,
        follows: options.follow,
        epochs: history.epochs.clone(),
        manifest,
        segments: history.segments.clone(),
        open: history.open.clone(),
        snapshots: history.snapshots.clone(),
        history,
        poison,
        packs,
        surfaces,
        queue: Queue::default(),
        writer: Mutex::new(writer),
        appended: AtomicU64::new(committed.0),
        state,
        system: Mutex::new(system),
        stamps: Stamps::default(),
        dictionaries: OpenDictionaries::default(),
        feed: Feed::new(committed, options.limits.ring_bytes_max),
        upkeep: Upkeep::default(),
        lock: Mutex::new(lock),
        is_closed: AtomicBool::new(false),
        has_threads: options.threads && !options.readonly,
        start_ms: options.clock.monotonic_ms(),
        disk: options.disk,
        clock: options.clock,
    })
}

fn history(
    directory: &Path,
    options: &StoreOptions,
    (store, epochs, closed, snapshots): (StoreId, Epochs, Vec<SegmentInfo>, Snapshots),
    open: OpenSegment,
) -> LogHistory {
    let segments = Segments::new(options.disk.clone(), directory.to_owned(), closed);
    LogHistory {
        disk: options.disk.clone(),
        directory: directory.to_owned(),
        store,
        epochs: Arc::new(RwLock::new(epochs)),
        segments: Arc::new(segments),
        open: Arc::new(open),
        snapshots: Arc::new(snapshots),
        footers: Mutex::default(),
        readonly: options.readonly,
    }
}

/// What ends in a copy is ended by its source.
fn leases(state: &DictState, options: &StoreOptions) -> Result<Leases, StoreError> {
    match options.follow {
        false => Leases::load(state, options.clock.monotonic_ms()),
        true => Ok(Leases::default()),
    }
}

/// Removes what an earlier owner did not come to finish, or to remove.
fn clean(
    directory: &Path,
    options: &StoreOptions,
    known: &Manifest,
    closed: &[SegmentInfo],
) -> Result<(), StoreError> {
    if options.readonly {
        return Ok(());
    }
    let ids: Vec<_> = closed.iter().map(|info| info.id).collect();
    keeper::clean(&*options.disk, directory, known, &ids)
}

/// The epoch that was just begun, or that a reader found.
fn current(epochs: &Epochs, directory: &Path) -> Result<Epoch, StoreError> {
    let none = || StoreError::corrupt(directory, 0, "the log has no epoch");
    epochs.current().ok_or_else(none)
}

/// A writer that goes on after `last`.
fn writer(log: LogWriter, epoch: Epoch, last: Revision, known: &Manifest) -> Writer {
    Writer {
        log,
        builder: BatchBuilder::default(),
        epoch: epoch.number,
        last,
        revision_max: known.revision_max,
        batch: Batch::default(),
        closed: false,
        patches: crate::commit::Patches::default(),
        chains: crate::commit::Chains::default(),
    }
}

/// Brings every surface that keeps its own index to the end of the log.
fn replay_surfaces(
    state: &Arc<DictState>,
    history: &LogHistory,
    committed: Revision,
) -> Result<Surfaces, StoreError> {
    let mut surfaces = Surfaces::default();
    surfaces.register(Arc::new(DictSurface::new(state.clone())));
    replay::replay_surfaces(&surfaces, history, committed)?;
    Ok(surfaces)
}

fn authority_of(kind: AuthorityKind, directory: &Path) -> Box<dyn Authority> {
    match kind {
        AuthorityKind::Alone => Box::new(Alone),
        AuthorityKind::Follower => Box::new(Follower {
            directory: directory.to_owned(),
        }),
    }
}

fn open_state(
    directory: &Path,
    options: &StoreOptions,
    (history, end): (&Arc<LogHistory>, Revision),
) -> Result<DictState, StoreError> {
    let state = StateOptions {
        home: options.index.home(directory, &options.limits),
        limits: options.limits,
        clock: options.clock.clone(),
        history: history.clone(),
    };
    DictState::open(state, end)
}

/// The header of the segment that is written on, with its file.
fn open_for_writing(
    directory: &Path,
    options: &StoreOptions,
    id: crate::log::SegmentId,
) -> Result<(SegmentHeader, Arc<dyn crate::disk::DiskFile>), StoreError> {
    SegmentHeader::open(&*options.disk, directory, id, OpenMode::Write)
}
