//! What stands in the place of an index once its store is closed.

use bytes::Bytes;
use objsync_proto::ids::NamespaceId;
use objsync_proto::wire::KeyRange;

use super::{Index, IndexBatch, Visit};
use crate::error::StoreError;
use crate::store::Stored;

/// Answers every call with [`StoreError::Closed`].
pub(crate) struct ClosedIndex;

impl Index for ClosedIndex {
    fn get(&self, _: NamespaceId, _: &[u8]) -> Result<Option<Stored>, StoreError> {
        Err(StoreError::Closed)
    }

    fn scan(
        &self,
        _: NamespaceId,
        _: &KeyRange,
        _: bool,
        _: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    fn apply(&self, _: &IndexBatch) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    fn mark(&self) -> Result<Option<Bytes>, StoreError> {
        Err(StoreError::Closed)
    }

    fn counts(&self) -> Result<Vec<(NamespaceId, u64)>, StoreError> {
        Err(StoreError::Closed)
    }

    fn bytes(&self) -> u64 {
        0
    }
}
