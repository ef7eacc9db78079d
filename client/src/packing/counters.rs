//! What packing came to, for `Status`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// One value in so many has its time taken: looking at the clock twice is a part of the time that a
/// small one takes.
const TIMED_SHARE: u64 = 16;

/// How a compressing handle compresses: what it wrote and read since it was opened, each time
/// counted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CompressionStatus {
    /// zstd's level, 1 to 22.
    pub level: i32,
    /// The dictionary that new values are packed with, by the number that their frames name it
    /// with; none while there is none.
    pub dictionary: Option<u32>,
    /// When that was added to the store, milliseconds since 1970 by the owner's clock.
    pub trained_ms: Option<u64>,
    /// How often this handle has trained a dictionary, whether it paid or not.
    pub trainings: u64,
    /// Values written and read.
    pub values: u64,
    /// Bytes of their payloads.
    pub plain_bytes: u64,
    /// Bytes that they take in the store, with their headers of three bytes.
    pub stored_bytes: u64,
    /// Bytes of payload packed in one second of one thread; none before the first value.
    pub pack_bytes_per_second: Option<f64>,
    /// Bytes of payload unpacked in one second of one thread; none before the first value.
    pub unpack_bytes_per_second: Option<f64>,
}

impl CompressionStatus {
    /// How many times as long the payloads are as what is stored of them; none before the first
    /// value.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        (self.stored_bytes > 0).then(|| self.plain_bytes as f64 / self.stored_bytes as f64)
    }
}

/// When a value whose time is taken was begun.
pub(super) type Started = Option<Instant>;

/// Counts, by any thread.
#[derive(Default)]
pub(super) struct Counters {
    begun: AtomicU64,
    values: AtomicU64,
    plain_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    packing: Speed,
    unpacking: Speed,
}

#[derive(Default)]
struct Speed {
    bytes: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Counters {
    /// Begins a value.
    pub(super) fn start(&self) -> Started {
        let count = self.begun.fetch_add(1, Ordering::Relaxed);
        count.is_multiple_of(TIMED_SHARE).then(Instant::now)
    }

    pub(super) fn packed(&self, plain: usize, stored: usize, started: Started) {
        self.count(plain, stored);
        self.packing.add(plain, started);
    }

    pub(super) fn unpacked(&self, plain: usize, stored: usize, started: Started) {
        self.count(plain, stored);
        self.unpacking.add(plain, started);
    }

    fn count(&self, plain: usize, stored: usize) {
        self.values.fetch_add(1, Ordering::Relaxed);
        self.plain_bytes.fetch_add(plain as u64, Ordering::Relaxed);
        self.stored_bytes
            .fetch_add(stored as u64, Ordering::Relaxed);
    }

    /// The counts; the rest is empty.
    pub(super) fn status(&self) -> CompressionStatus {
        CompressionStatus {
            values: self.values.load(Ordering::Relaxed),
            plain_bytes: self.plain_bytes.load(Ordering::Relaxed),
            stored_bytes: self.stored_bytes.load(Ordering::Relaxed),
            pack_bytes_per_second: self.packing.bytes_per_second(),
            unpack_bytes_per_second: self.unpacking.bytes_per_second(),
            ..CompressionStatus::default()
        }
    }
}

impl Speed {
    fn add(&self, plain: usize, started: Started) {
        if let Some(started) = started {
            let took = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.bytes.fetch_add(plain as u64, Ordering::Relaxed);
            self.nanoseconds.fetch_add(took, Ordering::Relaxed);
        }
    }

    fn bytes_per_second(&self) -> Option<f64> {
        let nanoseconds = self.nanoseconds.load(Ordering::Relaxed);
        let bytes = self.bytes.load(Ordering::Relaxed);
        (nanoseconds > 0).then(|| bytes as f64 * 1e9 / nanoseconds as f64)
    }
}
