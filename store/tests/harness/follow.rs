//! A copy that follows its source within one process: what server and wire do between them.

use std::path::{Path, PathBuf};

use objsync_proto::ids::Durability;
use objsync_store::{
    Ship, Shipped, Stage, Store, StoreError, StoreLimits, StoreOptions, partial_snapshot,
};

use super::random::Random;
use super::{NS, content, execute, put};

/// Options of a copy.
pub fn follow_options(options: &StoreOptions) -> StoreOptions {
    StoreOptions {
        follow: true,
        ..options.clone()
    }
}

/// As it comes off the wire.
pub fn carried(frame: &Shipped) -> Shipped {
    Shipped::new(&frame.head(0), frame.body().clone()).unwrap()
}

/// Brings the copy in `directory` to where its source is, however it stands, and tells whether it
/// was replaced.
pub fn catch_up(
    source: &Store,
    directory: &Path,
    options: &StoreOptions,
    copy: &mut Option<Store>,
) -> Result<bool, StoreError> {
    let options = follow_options(options);
    if copy.is_none() {
        *copy = match Store::open(directory, options.clone()) {
            Err(StoreError::NotFound { .. }) => None,
            opened => Some(opened?),
        };
    }
    let place = copy.as_ref().and_then(Store::copy_place);
    let mut replaced = false;
    let mut cursor = match place.map(|place| source.ship_after(&place)).transpose()? {
        Some(Some(cursor)) => cursor,
        _ => {
            replaced = true;
            install(source, directory, &options, copy)?
        }
    };
    let copy = copy.as_ref().unwrap();
    loop {
        match source.ship(&mut cursor, 10_000)? {
            Ship::Frames(frames) => {
                append_all(copy, frames.iter().map(carried).collect())?;
            }
            Ship::UpToDate => return Ok(replaced),
            Ship::Trimmed => panic!("nothing is trimmed here"),
        }
    }
}

/// Appends frames to a copy, piece by piece where they are too much at once.
pub fn append_all(copy: &Store, mut frames: Vec<Shipped>) -> Result<(), StoreError> {
    while !frames.is_empty() {
        frames = copy.append_shipped(frames)?.rest;
    }
    Ok(())
}

fn install(
    source: &Store,
    directory: &Path,
    options: &StoreOptions,
    copy: &mut Option<Store>,
) -> Result<objsync_store::ShipCursor, StoreError> {
    let partial = partial_snapshot(directory, &*options.disk);
    let whole = source.ship_all(partial.as_ref())?;
    let mut cursor = whole.cursor;
    let mut stage = Stage::begin(directory, options, whole.start, copy.is_some())?;
    let mut first = None;
    match &whole.file {
        Some(file) => {
            let mut at = whole.start.start;
            while at < whole.start.total_bytes {
                let mut piece = vec![0; (whole.start.total_bytes - at).min(3000) as usize];
                file.read_exact_at(&mut piece, at).unwrap();
                at += piece.len() as u64;
                stage.write(&piece)?;
            }
        }
        None => {
            let Ship::Frames(mut frames) = source.ship(&mut cursor, 1)? else {
                panic!("a log begins with a frame");
            };
            assert_eq!(frames.len(), 1);
            first = frames.pop();
        }
    }
    stage.finish(first.as_ref())?;
    if let Some(copy) = copy.take() {
        copy.close()?;
    }
    *copy = Some(Store::open(directory, options.clone())?);
    Ok(cursor)
}

/// Segments so small that a test fills many, and snapshots that come soon.
pub fn busy(options: StoreOptions) -> StoreOptions {
    StoreOptions {
        limits: StoreLimits {
            segment_bytes: 4 << 10,
            snapshot_log_bytes: 16 << 10,
            retention_bytes: 32 << 10,
            ..StoreLimits::default()
        },
        threads: false,
        ..options
    }
}

pub fn write_many(store: &Store, count: u64, text: &str) {
    for number in 0..count {
        let name = format!("k{}", number % 50);
        // Text that does not become small when it is packed.
        let random = &mut Random::new(number + text.len() as u64);
        let noise: String = (0..200)
            .map(|_| char::from(33 + u8::try_from(random.below(90)).unwrap()))
            .collect();
        let text = format!("{text} {number} {noise}");
        let level = match number % 5 {
            0 => Durability::Sync,
            _ => Durability::Buffered,
        };
        execute(store, put(&name, &text), level).unwrap();
    }
    store.flush(store.position().revision).unwrap();
}

pub fn assert_equal(copy: &Store, source: &Store) {
    assert_eq!(copy.position(), source.position());
    assert_eq!(content(copy), content(source));
    assert_eq!(copy.count(NS).unwrap(), source.count(NS).unwrap());
    assert_eq!(copy.grants(), source.grants());
    assert_eq!(copy.namespaces(), source.namespaces());
}

/// A directory for the lock, which is on no other disk.
pub fn made(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir(&path).unwrap();
    path
}
