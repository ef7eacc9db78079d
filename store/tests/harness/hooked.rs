//! A disk that lets a test act in the midst of a call, where no step of the store begins or ends.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use objsync_store::disk::{Disk, DiskFile, OpenMode};

use super::disk::SimDisk;

/// A moment in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A file is about to be opened for reading.
    OpenToRead,
    /// A sync has failed, and its caller does not know yet.
    FailedSync,
    /// A file was removed.
    Removed,
}

type Act = Box<dyn FnOnce() + Send>;

/// What waits for its moment: on a file whose name ends so.
type Hook = (Moment, &'static str, Act);

#[derive(Clone, Default)]
pub struct HookedDisk {
    pub disk: SimDisk,
    hooks: Arc<Mutex<Vec<Hook>>>,
}

impl HookedDisk {
    /// A disk whose faults are drawn from a seed.
    pub fn seeded(seed: u64) -> Self {
        Self {
            disk: SimDisk::seeded(seed),
            hooks: Arc::default(),
        }
    }

    /// Acts once, the next time that this comes with a file whose name ends so.
    pub fn at(&self, moment: Moment, suffix: &'static str, act: impl FnOnce() + Send + 'static) {
        let mut hooks = self.hooks.lock().unwrap();
        hooks.push((moment, suffix, Box::new(act)));
    }

    fn meet(&self, moment: Moment, path: &Path) {
        let hook = {
            let mut hooks = self.hooks.lock().unwrap();
            let is_met = |hook: &Hook| hook.0 == moment && path.to_string_lossy().ends_with(hook.1);
            hooks.iter().position(is_met).map(|at| hooks.remove(at))
        };
        if let Some((_, _, act)) = hook {
            act();
        }
    }
}

impl Disk for HookedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if mode == OpenMode::Read {
            self.meet(Moment::OpenToRead, path);
        }
        Ok(Arc::new(HookedFile {
            file: self.disk.open(path, mode)?,
            path: path.to_owned(),
            disk: self.clone(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.disk.remove(path);
        self.meet(Moment::Removed, path);
        removed
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        self.disk.create_dir(directory)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_dir(directory)
    }
}

struct HookedFile {
    file: Arc<dyn DiskFile>,
    path: std::path::PathBuf,
    disk: HookedDisk,
}

impl DiskFile for HookedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.file.sync_data();
        if synced.is_err() {
            self.disk.meet(Moment::FailedSync, &self.path);
        }
        synced
    }

    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }
}
