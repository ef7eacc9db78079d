//! A disk in memory that forgets what was not synced when its power is cut, and fails on demand.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use objsync_store::disk::{Disk, DiskFile, OpenMode};

use super::random::Random;

/// What survives a power cut, or does not, is decided per sector.
const SECTOR_BYTES: usize = 512;

/// The disk; clones are the same disk.
#[derive(Default, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: Vec<FileState>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    /// Files opened before a power cut can do nothing.
    generation: u64,
    fail_syncs: bool,
    fail_dir_syncs: bool,
    fail_writes: bool,
    panic_writes: bool,
    bytes_max: Option<u64>,
    sync_count: u64,
    write_count: u64,
    /// A cut happens by itself after so many more calls.
    calls_left: Option<u64>,
}

#[derive(Default, Clone)]
struct FileState {
    now: Vec<u8>,
    synced: Vec<u8>,
}

impl SimDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Every sync fails from now on, or no more.
    pub fn fail_syncs(&self, fail: bool) {
        self.lock().fail_syncs = fail;
    }

    /// Every sync of a directory fails from now on, or no more.
    pub fn fail_dir_syncs(&self, fail: bool) {
        self.lock().fail_dir_syncs = fail;
    }

    /// Every write fails half way from now on, or no more.
    pub fn fail_writes(&self, fail: bool) {
        self.lock().fail_writes = fail;
    }

    /// Every write panics from now on, or no more.
    pub fn panic_writes(&self, panic: bool) {
        self.lock().panic_writes = panic;
    }

    /// The disk holds so many bytes and no more; none for no bound.
    pub fn limit(&self, bytes_max: Option<u64>) {
        self.lock().bytes_max = bytes_max;
    }

    pub fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    pub fn sync_count(&self) -> u64 {
        self.lock().sync_count
    }

    pub fn write_count(&self) -> u64 {
        self.lock().write_count
    }

    /// Fails everything after so many more calls, as if the power went.
    pub fn stop_after(&self, calls: u64) {
        self.lock().calls_left = Some(calls);
    }

    /// The power goes and comes again: of what was not synced, any part is gone.
    pub fn cut_power(&self, random: &mut Random) {
        let state = &mut *self.lock();
        state.generation += 1;
        state.calls_left = None;
        let all: Vec<PathBuf> = state
            .names
            .keys()
            .chain(state.synced_names.keys())
            .cloned()
            .collect();
        let mut names = BTreeMap::new();
        for path in all {
            let kept = match random.chance(2) {
                true => state.names.get(&path),
                false => state.synced_names.get(&path),
            };
            if let Some(file) = kept {
                names.insert(path, *file);
            }
        }
        state.synced_names = names.clone();
        state.names = names;
        for file in &mut state.files {
            file.cut(random);
        }
    }

    /// The current content of a file.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        let file = *state.names.get(path)?;
        Some(state.files[file].now.clone())
    }

    /// Puts content in a file, synced, behind the store's back.
    pub fn write(&self, path: &Path, content: Vec<u8>) {
        let state = &mut *self.lock();
        let file = state.names[path];
        state.files[file] = FileState {
            now: content.clone(),
            synced: content,
        };
    }

    /// The files whose names end so, in order.
    pub fn files(&self, suffix: &str) -> Vec<PathBuf> {
        let state = self.lock();
        let names = state.names.keys();
        let found = names.filter(|path| path.to_string_lossy().ends_with(suffix));
        found.cloned().collect()
    }

    /// A disk with the same content, all of it synced.
    pub fn copy(&self) -> Self {
        let copy = self.copy_with_synced();
        let state = &mut *copy.lock();
        for file in &mut state.files {
            file.synced = file.now.clone();
        }
        state.synced_names = state.names.clone();
        copy.clone()
    }

    /// A disk with the same content, as much of it synced.
    pub fn copy_with_synced(&self) -> Self {
        let state = self.lock();
        let copy = State {
            files: state.files.clone(),
            names: state.names.clone(),
            synced_names: state.synced_names.clone(),
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(copy)),
        }
    }

    /// Takes over the files below a directory of another disk, synced.
    pub fn take_files(&self, other: &Self, directory: &Path) {
        let (state, other) = (&mut *self.lock(), other.lock());
        let below = other
            .names
            .iter()
            .filter(|(path, _)| path.starts_with(directory));
        for (path, file) in below {
            let now = other.files[*file].now.clone();
            let synced = now.clone();
            state.files.push(FileState { now, synced });
            let file = state.files.len() - 1;
            state.names.insert(path.clone(), file);
            state.synced_names.insert(path.clone(), file);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A test lets the writer panic in here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn call(&mut self) -> io::Result<()> {
        match &mut self.calls_left {
            Some(0) => Err(io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn bytes(&self) -> u64 {
        self.names
            .values()
            .map(|file| self.files[*file].now.len() as u64)
            .sum()
    }
}

impl FileState {
    fn cut(&mut self, random: &mut Random) {
        let bytes = match random.chance(2) {
            true => self.now.len(),
            false => self.synced.len(),
        };
        let mut kept = vec![0; bytes];
        for (place, sector) in kept.chunks_mut(SECTOR_BYTES).enumerate() {
            let from = match random.chance(2) {
                true => &self.now,
                false => &self.synced,
            };
            let start = (place * SECTOR_BYTES).min(from.len());
            let end = (start + sector.len()).min(from.len());
            sector[..end - start].copy_from_slice(&from[start..end]);
        }
        self.synced = kept.clone();
        self.now = kept;
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let state = &mut *self.lock();
        state.call()?;
        let there = state.names.get(path).copied();
        let file = match (mode, there) {
            (OpenMode::Read | OpenMode::Write, Some(file)) => file,
            (OpenMode::Read | OpenMode::Write, None) => return Err(io::ErrorKind::NotFound.into()),
            (OpenMode::Create, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::Create, None) | (OpenMode::Replace, _) => {
                state.files.push(FileState::default());
                state.names.insert(path.to_owned(), state.files.len() - 1);
                state.files.len() - 1
            }
        };
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            file,
            generation: state.generation,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let state = &mut *self.lock();
        state.call()?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.lock();
        state.call()?;
        state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = &mut *self.lock();
        state.call()?;
        let inside = state
            .names
            .keys()
            .filter(|path| path.parent() == Some(directory));
        let names = inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into()));
        Ok(names.collect())
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        self.lock().call()?;
        // The lock and the index lie on the real disk.
        std::fs::create_dir_all(directory)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let state = &mut *self.lock();
        state.call()?;
        state.sync_count += 1;
        if state.fail_dir_syncs {
            return Err(io::Error::other("the directory cannot be synced"));
        }
        let inside = |path: &Path| path.parent() == Some(directory);
        state.synced_names.retain(|path, _| !inside(path));
        let now = state.names.iter().filter(|(path, _)| inside(path));
        let now: Vec<_> = now.map(|(path, file)| (path.clone(), *file)).collect();
        state.synced_names.extend(now);
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    file: usize,
    generation: u64,
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut State, usize) -> io::Result<T>) -> io::Result<T> {
        let state = &mut *self.disk.lock();
        state.call()?;
        if state.generation != self.generation {
            return Err(io::Error::other("the power was cut"));
        }
        act(state, self.file)
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state, file| {
            let content = &state.files[file].now;
            let start = usize::try_from(offset).unwrap().min(content.len());
            let end = (start + buffer.len()).min(content.len());
            buffer[..end - start].copy_from_slice(&content[start..end]);
            Ok(end - start)
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|state, file| {
            state.write_count += 1;
            assert!(!state.panic_writes, "as the test asked for");
            let offset = usize::try_from(offset).unwrap();
            let bytes = match state.fail_writes {
                true => &bytes[..bytes.len() / 2],
                false => bytes,
            };
            let grown = (offset + bytes.len()).saturating_sub(state.files[file].now.len());
            if state
                .bytes_max
                .is_some_and(|max| state.bytes() + grown as u64 > max)
                && grown > 0
            {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let content = &mut state.files[file].now;
            if content.len() < offset + bytes.len() {
                content.resize(offset + bytes.len(), 0);
            }
            content[offset..offset + bytes.len()].copy_from_slice(bytes);
            match state.fail_writes {
                true => Err(io::Error::other("the write failed half way")),
                false => Ok(()),
            }
        })
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.with(|state, file| {
            let content = &mut state.files[file].now;
            content.truncate(usize::try_from(bytes).unwrap());
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state, file| {
            state.sync_count += 1;
            if state.fail_syncs {
                return Err(io::Error::other("the sync failed"));
            }
            state.files[file].synced = state.files[file].now.clone();
            Ok(())
        })
    }

    fn bytes(&self) -> io::Result<u64> {
        self.with(|state, file| Ok(state.files[file].now.len() as u64))
    }
}
