//! What a store takes on disk and its process in memory, seen from outside all the time.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{MIB, bound_bytes};
use crate::server::memory_bytes;
use crate::{Result, figure};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// A store rests when its files have not changed for this long,
const REST: Duration = Duration::from_secs(5);
/// or is taken for resting after this long.
const REST_MAX: Duration = Duration::from_secs(180);

/// Bytes on disk, by blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    log: u64,
    snapshots: u64,
    index: u64,
}

impl Disk {
    /// What a store takes now. A file that goes meanwhile counts for nothing.
    pub(crate) fn of(directory: &Path) -> Self {
        Self {
            log: below(&directory.join("log")),
            snapshots: below(&directory.join("snapshots")),
            index: below(&directory.join("index")),
        }
    }

    pub(crate) fn print(&self, when: &str) -> Result<()> {
        for (part, bytes) in [
            ("log", self.log),
            ("snapshots", self.snapshots),
            ("index", self.index),
        ] {
            figure::print(&format!("growth {part} {when}"), bytes as f64 / MIB, "MiB")?;
        }
        Ok(())
    }
}

fn below(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => below(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

/// Looks at a store and its process until dropped.
pub(crate) struct Watcher {
    directory: PathBuf,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    live_bytes: AtomicU64,
    is_over: AtomicBool,
    peaks: Mutex<Peaks>,
}

/// The most of each that was seen.
#[derive(Default)]
struct Peaks {
    log_and_snapshots: u64,
    /// Of the bound at that moment.
    share_of_bound: f64,
    index: u64,
    memory: u64,
}

impl Watcher {
    pub(crate) fn start(directory: &Path, pid: u32) -> Self {
        let seen = Arc::new(Seen::default());
        let (directory, looking) = (directory.to_owned(), Arc::clone(&seen));
        let place = directory.clone();
        std::thread::spawn(move || {
            while !looking.is_over.load(Ordering::Relaxed) {
                looking.look(&place, pid);
                std::thread::sleep(PAUSE);
            }
        });
        Self { directory, seen }
    }

    /// So much live data there is by now.
    pub(crate) fn filled(&self, live_bytes: u64) {
        self.seen.live_bytes.store(live_bytes, Ordering::Relaxed);
    }

    /// Waits until the files stand still, and tells what they take then.
    pub(crate) fn rest(&self) -> Disk {
        let start = Instant::now();
        let mut last = (Disk::of(&self.directory), Instant::now());
        while last.1.elapsed() < REST && start.elapsed() < REST_MAX {
            std::thread::sleep(PAUSE);
            let now = Disk::of(&self.directory);
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
        last.0
    }

    pub(crate) fn print(&self) -> Result<()> {
        let peaks = self.seen.peaks();
        let disk = peaks.log_and_snapshots as f64 / MIB;
        figure::print("growth log and snapshots peak", disk, "MiB")?;
        let share = peaks.share_of_bound * 100.0;
        figure::print("growth peak of the bound", share, "percent")?;
        figure::print("growth index peak", peaks.index as f64 / MIB, "MiB")?;
        figure::print("growth memory peak", peaks.memory as f64 / MIB, "MiB")
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.seen.is_over.store(true, Ordering::Relaxed);
    }
}

impl Seen {
    fn look(&self, directory: &Path, pid: u32) {
        let live = self.live_bytes.load(Ordering::Relaxed);
        let disk = Disk::of(directory);
        let both = disk.log + disk.snapshots;
        let share = both as f64 / bound_bytes(live) as f64;
        let memory = memory_bytes(pid, "VmHWM").unwrap_or_default();
        let mut peaks = self.peaks();
        peaks.log_and_snapshots = peaks.log_and_snapshots.max(both);
        peaks.share_of_bound = peaks.share_of_bound.max(share);
        peaks.index = peaks.index.max(disk.index);
        peaks.memory = peaks.memory.max(memory);
    }

    fn peaks(&self) -> std::sync::MutexGuard<'_, Peaks> {
        self.peaks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a process holds, and how much of it is its own memory and how much are files.
pub(crate) fn print_memory(when: &str, pid: u32) -> Result<()> {
    for (part, field) in [
        ("memory", "VmRSS"),
        ("memory of its own", "RssAnon"),
        ("memory of files", "RssFile"),
    ] {
        let mib = memory_bytes(pid, field)? as f64 / MIB;
        figure::print(&format!("growth {part} {when}"), mib, "MiB")?;
    }
    Ok(())
}
