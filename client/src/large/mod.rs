//! Values that lie in chunks: bytes, str and arrays above 64 KiB.
//!
//! Trail of a write: [`crate::Dict::set`] -> [`store::write`] -> [`upload`] cuts, hashes, asks which
//! chunks are missing and sends those -> `Outcome` of the operation, whose values name them. Of a
//! read: the value that is found is a [`reference`](mod@reference) -> [`crate::Dict::load`] or
//! [`LargeReader`] -> [`walk`] fetches ahead of the reader -> [`place`] checks what came.
//!
//! | file | what it knows |
//! |---|---|
//! | `reference.rs` | a large value as handles pass it on |
//! | `split.rs` | which payloads go into chunks |
//! | `upload.rs`, `store.rs` | content on its way into chunks, and the write that names them |
//! | `walk.rs`, `reader.rs`, `load.rs` | through the content, in pieces or whole |
//! | `writer.rs` | a value written in pieces |
//! | `place.rs`, `own.rs` | chunks in the store of this process, or at the owner |
//! | `moving.rs` | how long somebody waits for chunks that come or go |
//! | `cache.rs`, `ahead.rs` | chunks that a peer holds |

mod ahead;
mod cache;
mod load;
mod moving;
mod own;
mod place;
mod reader;
mod reference;
mod split;
mod store;
mod upload;
mod walk;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};

use objsync_proto::limits::UPLOADS_MAX;
use tokio::sync::{Semaphore, SemaphorePermit};

use self::ahead::Ahead;
use self::cache::ChunkCache;
pub(crate) use self::load::{unfolded, whole};
pub(crate) use self::moving::Moved;
pub(crate) use self::own::store_first;
pub use self::reader::LargeReader;
pub use self::reference::LargeValue;
pub(crate) use self::reference::{expected, reference, stored_of};
pub(crate) use self::store::{Packed, write};
pub use self::writer::LargeWriter;

/// What a handle has one of for all its large values.
pub(crate) struct Shared {
    pub(crate) ahead: Ahead,
    /// Of chunks that were asked for.
    pub(crate) received: Moved,
    /// Of chunks that are uploaded.
    pub(crate) sent: Moved,
    cache: ChunkCache,
    upload_count: AtomicU64,
    connection_count: AtomicU64,
    uploads: Semaphore,
}

impl Shared {
    pub(crate) fn new(memory_bytes: Option<u64>) -> Self {
        Self {
            ahead: Ahead::default(),
            received: Moved::default(),
            sent: Moved::default(),
            cache: ChunkCache::new(memory_bytes),
            upload_count: AtomicU64::new(0),
            connection_count: AtomicU64::new(0),
            uploads: Semaphore::new(UPLOADS_MAX),
        }
    }

    /// A number for an upload that no other one of this handle has, on any connection.
    pub(crate) fn upload_number(&self) -> u64 {
        self.upload_count.fetch_add(1, Ordering::Relaxed)
    }

    /// Another connection begins, which knows nothing of what was sent on the one before.
    pub(crate) fn connected(&self) {
        self.connection_count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections there have been.
    fn connection_count(&self) -> u64 {
        self.connection_count.load(Ordering::Relaxed)
    }

    /// Waits until one more upload may be under way.
    async fn upload_turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.uploads.acquire().await.ok()
    }
}
