//! How much was put into packs, and how much the log let go of: by these a collection comes due, and log
//! that keeps much goes.
//!
//! They go on from one opening to the next, or a program that is opened, writes a little and is closed
//! again would never come to collect. After an unclean end the packs that are not sealed tell what was
//! put; it counts to the segment that the next owner begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{PackOptions, Packs};
use crate::error::StoreError;
use crate::manifest::{ChunkCounts, ManifestFile};

impl Packs {
    /// As [`Packs::open`], and counts on where the last owner ended.
    pub(crate) fn open_counted(
        options: PackOptions,
        manifest: &ManifestFile,
    ) -> Result<Self, StoreError> {
        let packs = Self::open(options)?;
        let known = manifest.get().chunks;
        {
            let mut writing = packs.writing();
            writing.put_bytes = writing.put_bytes.saturating_add(known.put_bytes);
        }
        packs.note_trimmed(known.trimmed_bytes);
        let unsealed_bytes = packs.unlogged_bytes.load(Ordering::Relaxed);
        let counts = ChunkCounts {
            open_bytes: known.open_bytes.saturating_add(unsealed_bytes),
            ..packs.counts()
        };
        // What is put by an owner that is killed again and again adds up.
        if unsealed_bytes > 0
            && !packs.options.readonly
            && let Err(error) = manifest.update(|manifest| manifest.chunks = counts)
        {
            tracing::warn!(%error, "what lies in packs is not counted for the next opening");
        }
        Ok(packs)
    }

    /// What the next owner is to count on from. What the open segment has is not known here.
    pub(crate) fn counts(&self) -> ChunkCounts {
        ChunkCounts {
            put_bytes: self.writing().put_bytes,
            trimmed_bytes: self.trimmed_bytes.load(Ordering::Relaxed),
            open_bytes: 0,
        }
    }

    /// Bytes put that no frame has counted yet: the log's writer takes them.
    pub(crate) fn unlogged_bytes(&self) -> &Arc<AtomicU64> {
        &self.unlogged_bytes
    }

    /// So many bytes were put.
    pub(super) fn note_put(&self, bytes: u64) {
        self.unlogged_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
