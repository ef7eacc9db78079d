//! A reader of many keys at one revision.

use bytes::Bytes;
use objsync_proto::ids::{NamespaceId, Position};
use objsync_proto::wire::{Entry, KeyRange};

use crate::error::StoreError;
use crate::store::Stored;

/// Reads everything as of one revision, which the index does not pass meanwhile.
pub struct Reader {
    position: Position,
}

impl Reader {
    /// What is read.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The value of a key at that revision.
    pub fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let _ = (namespace, key);
        todo!()
    }

    /// Entries of a range in key order (or against it), until they hold `bytes_max` bytes; at
    /// least one if there is one. An empty page is the end. Continue after the last key.
    pub fn page(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        reverse: bool,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let _: (_, _, _, _, Option<Bytes>) = (namespace, range, reverse, bytes_max, None);
        todo!()
    }
}
