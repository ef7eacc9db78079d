//! What a store is opened with.

use std::path::Path;
use std::sync::Arc;

use objsync_proto::ids::Durability;

use crate::clock::{Clock, Entropy, RealClock, RealEntropy};
use crate::disk::{Disk, RealDisk};
use crate::index::{IndexHome, MemoryHome, SledHome};

/// How to open a store. The default makes one where there is none and syncs every write.
#[derive(Clone)]
pub struct StoreOptions {
    /// Make a store where there is none. Default: yes.
    pub create: bool,
    /// Take no lock, write no file and keep the index in memory. Default: no.
    pub readonly: bool,
    /// Open a copy that follows another store, to append what its source sends; nothing else is
    /// opened then. Default: no, and then a copy is refused unless it is opened for reading only.
    pub follow: bool,
    /// The level of submissions that name none. Default: sync.
    pub durability: Durability,
    /// Sizes and times; the defaults are good for most.
    pub limits: StoreLimits,
    /// Where the index is kept. Default: sled, in `index/`.
    pub index: IndexKind,
    /// Start the store's own threads. Default: yes. Without them `Store::step` does their work,
    /// one piece at a time, so that a test decides the order of everything.
    pub threads: bool,
    /// Open on a network file system too, where the lock may not hold. Default: no.
    pub force_network_fs: bool,
    /// Where files are. Default: the real disk.
    pub disk: Arc<dyn Disk>,
    /// What time it is. Default: the system's clock.
    pub clock: Arc<dyn Clock>,
    /// Where random numbers come from. Default: the system.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            create: true,
            readonly: false,
            follow: false,
            durability: Durability::default(),
            limits: StoreLimits::default(),
            index: IndexKind::default(),
            threads: true,
            force_network_fs: false,
            disk: Arc::new(RealDisk),
            clock: Arc::new(RealClock::default()),
            entropy: Arc::new(RealEntropy),
        }
    }
}

/// Where the index of a store is kept. It is a cache either way.
#[derive(Clone, Default)]
pub enum IndexKind {
    /// In `index/`, by sled.
    #[default]
    Sled,
    /// In memory, made again at each open.
    Memory,
    /// There.
    Home(Arc<dyn IndexHome>),
}

impl IndexKind {
    /// The home of the index of the store in `directory`.
    pub(crate) fn home(&self, directory: &Path, limits: &StoreLimits) -> Arc<dyn IndexHome> {
        let cache_bytes = limits.index_cache_bytes;
        match self {
            Self::Sled => Arc::new(SledHome::new(directory.join("index"), cache_bytes)),
            Self::Memory => Arc::new(MemoryHome),
            Self::Home(home) => Arc::clone(home),
        }
    }
}

/// Sizes and times of a store: policies, none of them part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Bytes after which a segment of the log is closed and the next begun, its own or those put into
    /// packs with it. Default: 64 MiB.
    pub segment_bytes: u64,
    /// Bytes of changes held in memory ahead of the index; writers wait above. Default: 64 MiB.
    pub recent_bytes_max: usize,
    /// Bytes of log kept for peers that fell behind and for reading the past, with what its large values
    /// put into packs. Default: 1 GiB.
    pub retention_bytes: u64,
    /// Age of log kept for peers that fell behind, milliseconds. Default: 1 h.
    pub retention_ms: u64,
    /// Bytes of closed segments, with those put into packs, after which a snapshot is made, if they
    /// are also more than half of the last snapshot. Default: 64 MiB.
    pub snapshot_log_bytes: u64,
    /// Bytes of changes kept in memory for all subscribers together. Default: 64 MiB.
    pub ring_bytes_max: usize,
    /// Bytes that the index may hold of its pages in memory; what it takes beside that grows with
    /// the number of keys. Default: 64 MiB.
    pub index_cache_bytes: u64,
    /// A sync of buffered writes starts within this many milliseconds. Default: 50.
    pub flush_delay_ms: u64,
    /// Writers wait while the oldest unsynced write is older, milliseconds. Default: 1,000.
    pub unsynced_ms_max: u64,
    /// Writers wait while more bytes than this are unsynced. Default: 64 MiB.
    pub unsynced_bytes_max: u64,
    /// Bytes after which a pack of chunks is sealed and the next begun. Default: 64 MiB.
    pub pack_bytes: u64,
    /// A pinned reader expires after this many milliseconds. Default: 60,000.
    pub reader_ms_max: u64,
}

impl StoreLimits {
    /// The defaults, with as much memory: a quarter each for the recent map, the ring and the
    /// index. The last quarter is for decoded values, which the store does not keep.
    #[must_use]
    pub fn within(memory_bytes: u64) -> Self {
        let quarter = memory_bytes / 4;
        let in_memory = usize::try_from(quarter).unwrap_or(usize::MAX);
        Self {
            recent_bytes_max: in_memory,
            ring_bytes_max: in_memory,
            index_cache_bytes: quarter,
            ..Self::default()
        }
    }
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            recent_bytes_max: 64 << 20,
            retention_bytes: 1 << 30,
            retention_ms: 3600 * 1000,
            snapshot_log_bytes: 64 << 20,
            ring_bytes_max: objsync_proto::limits::RING_BYTES_MAX,
            index_cache_bytes: 64 << 20,
            flush_delay_ms: 50,
            unsynced_ms_max: 1_000,
            unsynced_bytes_max: 64 << 20,
            pack_bytes: 64 << 20,
            reader_ms_max: 60_000,
        }
    }
}
