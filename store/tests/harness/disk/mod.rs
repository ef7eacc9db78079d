//! A disk in memory that forgets what was not synced when its power is cut, and fails on demand.
//!
//! `content` and `names` say what a cut may leave of files and of directories, `faults` what else
//! can go wrong. All chance comes from one seed, and [`SimDisk::trace`] is a checksum of every
//! call: the same seed and the same calls give the same disk, bit for bit.

mod content;
mod faults;
mod file;
mod names;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use objsync_store::disk::{Disk, DiskFile, OpenMode};

use super::random::Random;
use content::FileState;
use faults::Faults;
pub use faults::{Call, Fault, Planned};
use file::SimFile;
use names::{Named, Names};

/// The disk; clones are the same disk.
#[derive(Default, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// A bit that is wrong.
#[derive(Debug, Clone, Copy)]
pub struct TurnedBit {
    file: usize,
    bit: u64,
}

#[derive(Default)]
struct State {
    files: Vec<FileState>,
    names: Names,
    /// Files opened before a power cut can do nothing.
    generation: u64,
    faults: Faults,
    random: Random,
    sync_count: u64,
    write_count: u64,
    lost_sync_count: u64,
    call_count: u64,
    trace: u64,
}

impl SimDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk whose faults are drawn from a seed.
    pub fn seeded(seed: u64) -> Self {
        let disk = Self::default();
        disk.lock().random = Random::new(seed);
        disk
    }

    /// Every sync fails from now on, or no more. What it would have synced stays unsynced.
    pub fn fail_syncs(&self, fail: bool) {
        self.lock().faults.syncs = fail;
    }

    /// Every sync of a directory fails from now on, or no more.
    pub fn fail_dir_syncs(&self, fail: bool) {
        self.lock().faults.directory_syncs = fail;
    }

    /// Every write fails half way from now on, or no more.
    pub fn fail_writes(&self, fail: bool) {
        self.lock().faults.writes = fail;
    }

    /// Every write panics from now on, or no more.
    pub fn panic_writes(&self, panic: bool) {
        self.lock().faults.panics = panic;
    }

    /// The disk holds so many bytes and no more; none for no bound.
    pub fn limit(&self, bytes_max: Option<u64>) {
        self.lock().faults.bytes_max = bytes_max;
    }

    /// One fault more.
    pub fn plan(&self, planned: Planned) {
        self.lock().faults.plan(planned);
    }

    /// Ends planned faults, a bound of its bytes, and a power cut that has not come yet.
    pub fn recover(&self) {
        self.lock().faults.clear_planned();
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

    /// All calls so far.
    pub fn call_count(&self) -> u64 {
        self.lock().call_count
    }

    /// A checksum of all calls so far, in order, with what was written.
    pub fn trace(&self) -> u64 {
        self.lock().trace
    }

    /// Fails everything after so many more calls, as if the power went.
    pub fn stop_after(&self, calls: u64) {
        self.lock().faults.calls_left = Some(calls);
    }

    /// Whether the power went: what the store says from then on nobody hears.
    pub fn is_off(&self) -> bool {
        self.lock().faults.calls_left == Some(0)
    }

    /// The power goes and comes again: of what was not synced, any part is gone.
    pub fn cut_power(&self, random: &mut Random) {
        let state = &mut *self.lock();
        state.generation += 1;
        state.faults.calls_left = None;
        state.names.cut(random);
        let mut is_named = vec![false; state.files.len()];
        for (_, file) in state.names.files() {
            is_named[file] = true;
        }
        for (file, is_named) in state.files.iter_mut().zip(is_named) {
            match is_named {
                true => file.cut(random),
                false => *file = FileState::default(),
            }
        }
    }

    /// The current content of a file.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        let file = state.names.file(path)?;
        Some(state.files[file].now().to_vec())
    }

    /// Puts content in a file, synced, behind the store's back.
    pub fn write(&self, path: &Path, content: Vec<u8>) {
        let state = &mut *self.lock();
        let there = state.names.file(path);
        let file = there.unwrap_or_else(|| state.add_file(path));
        state.files[file] = FileState::synced(content);
        state.names.keep_all();
    }

    /// Turns a bit of a file at rest: all of the file is on the platter then.
    pub fn turn_bit(&self, path: &Path, bit: u64) -> TurnedBit {
        let file = self.lock().names.file(path).unwrap();
        self.lock().files[file].keep_all();
        let turned = TurnedBit { file, bit };
        self.turn_back(turned);
        turned
    }

    /// Turns it back, wherever its file is now.
    pub fn turn_back(&self, TurnedBit { file, bit }: TurnedBit) {
        self.lock().files[file].flip((bit / 8) as usize, 1 << (bit % 8));
    }

    /// How many syncs of segments failed, and forgot.
    pub fn lost_sync_count(&self) -> u64 {
        self.lock().lost_sync_count
    }

    /// Counts them anew: what they forgot is found out.
    pub fn forget_lost_syncs(&self) {
        self.lock().lost_sync_count = 0;
    }

    /// The files whose names end so, in order.
    pub fn files(&self, suffix: &str) -> Vec<PathBuf> {
        let state = self.lock();
        let names = state.names.files().map(|(path, _)| path.to_owned());
        let found = names.filter(|path| path.to_string_lossy().ends_with(suffix));
        found.collect()
    }

    /// A disk with the same content, all of it synced.
    pub fn copy(&self) -> Self {
        let copy = self.copy_with_synced();
        let state = &mut *copy.lock();
        state.files.iter_mut().for_each(FileState::keep_all);
        state.names.keep_all();
        copy.clone()
    }

    /// A disk with the same content, as much of it synced.
    pub fn copy_with_synced(&self) -> Self {
        let state = self.lock();
        let copy = State {
            files: state.files.clone(),
            names: state.names.clone(),
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(copy)),
        }
    }

    /// Takes over the files below a directory of another disk, synced.
    pub fn take_files(&self, other: &Self, directory: &Path) {
        let contents: Vec<_> = {
            let other = other.lock();
            let below = other.names.files();
            let below = below.filter(|(path, _)| path.starts_with(directory));
            below
                .map(|(path, file)| (path.to_owned(), other.files[file].now().to_vec()))
                .collect()
        };
        for (path, content) in contents {
            for parent in path.ancestors().skip(1) {
                if parent.starts_with(directory) {
                    self.lock().names.add_root(parent);
                }
            }
            self.write(&path, content);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test lets the writer panic in here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A call begins: the power may be off, or a fault waits for it.
    fn call(&mut self, call: Call, path: &Path) -> io::Result<()> {
        // The directory of a test has another name each time.
        let name = path.file_name().unwrap_or_default();
        self.note(call as u64, name.as_encoded_bytes());
        match self.faults.meet(call)? {
            Some(_) => Err(io::Error::other(format!("{call:?} fails"))),
            None => Ok(()),
        }
    }

    fn note(&mut self, number: u64, bytes: &[u8]) {
        self.call_count += 1;
        let crc = u64::from(crc32c::crc32c(bytes));
        let mixed = self.trace ^ number ^ (crc << 24);
        self.trace = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn bytes(&self) -> u64 {
        let files = self.names.files();
        files
            .map(|(_, file)| self.files[file].now().len() as u64)
            .sum()
    }

    fn add_file(&mut self, path: &Path) -> usize {
        self.files.push(FileState::default());
        let file = self.files.len() - 1;
        self.names.make(path, Named::File(file));
        file
    }

    /// A path outside of what the disk knows lies on the real one: there is the lock.
    fn add_roots(&mut self, path: &Path) {
        if let Some(parent) = path.parent()
            && !self.names.is_directory(parent)
        {
            self.add_roots(parent);
            if parent.is_dir() {
                self.names.add_root(parent);
            }
        }
    }

    fn make_directory(&mut self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        self.names.make(path, Named::Directory);
        self.sync_directory(parent)
    }

    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        self.call(Call::SyncDirectory, path)?;
        if self.faults.directory_syncs {
            return Err(io::Error::other("the directory cannot be synced"));
        }
        if !self.names.is_directory(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.names.sync(path);
        Ok(())
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let state = &mut *self.lock();
        state.call(Call::Open, path)?;
        let there = state.names.file(path);
        let has_directory = path
            .parent()
            .is_some_and(|parent| state.names.is_directory(parent));
        let file = match (mode, there) {
            (OpenMode::Read | OpenMode::Write, Some(file)) => file,
            (OpenMode::Read | OpenMode::Write, None) => return Err(io::ErrorKind::NotFound.into()),
            (OpenMode::Create, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::Create | OpenMode::Replace, None) if !has_directory => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (OpenMode::Replace, Some(_)) => {
                // As the real one: what had the name is removed, not written over.
                state.names.remove(path);
                state.add_file(path)
            }
            (OpenMode::Create | OpenMode::Replace, None) => state.add_file(path),
        };
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            file,
            generation: state.generation,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let state = &mut *self.lock();
        state.call(Call::Rename, to)?;
        match state.names.rename(from, to) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.lock();
        state.call(Call::Remove, path)?;
        match state.names.remove(path) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = &mut *self.lock();
        state.call(Call::List, directory)?;
        match state.names.is_directory(directory) {
            true => Ok(state.names.list(directory)),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        let state = &mut *self.lock();
        state.call(Call::Open, directory)?;
        if state.names.is_directory(directory) {
            return Ok(());
        }
        let is_outermost = !directory
            .parent()
            .is_some_and(|parent| state.names.is_directory(parent));
        state.add_roots(directory);
        if is_outermost {
            std::fs::create_dir_all(directory)?;
            state.add_roots(directory);
        }
        state.make_directory(directory)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let state = &mut *self.lock();
        state.sync_count += 1;
        state.sync_directory(directory)
    }
}
