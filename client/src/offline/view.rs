//! What an operation comes to as far as this handle can tell: by its replica and what it has queued.

use bytes::Bytes;
use objsync_proto::error::ErrorKind;
use objsync_proto::evaluate::{self, Decision, View};
use objsync_proto::key;
use objsync_proto::operation::Operation;
use objsync_proto::wire::KeyRange;

use super::Offline;
use crate::core::Core;
use crate::error::{ObjectError, Result};

/// Bytes of keys read from the replica at once.
const PAGE_BYTES: usize = 64 << 10;

/// The dictionary in the eyes of a handle without an owner.
pub(super) struct Local<'a> {
    pub(super) core: &'a Core,
    pub(super) offline: &'a Offline,
}

impl Local<'_> {
    /// Decides an operation.
    ///
    /// # Errors
    /// `Unavailable` when it depends on what this handle does not hold.
    pub(super) fn decide(&self, operation: &Operation) -> Result<Decision> {
        evaluate::evaluate(operation, self)
    }

    fn unknown(&self) -> ObjectError {
        let text = format!(
            "{}: without an owner this write cannot be decided, as this handle does not hold what \
             it depends on",
            self.core.config.what
        );
        ObjectError::new(ErrorKind::Unavailable, text)
    }
}

impl View for Local<'_> {
    type Error = ObjectError;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        if let Some(queued) = self.offline.state().overlay.get(key) {
            return Ok(queued);
        }
        self.core.replica.stored(key).ok_or_else(|| self.unknown())
    }

    fn keys(&self, range: &KeyRange, count_max: u32) -> Result<Vec<Bytes>> {
        let mut queued = self.offline.state().overlay.range(range).into_iter().peekable();
        let mut keys = Vec::new();
        let mut rest = range.clone();
        while keys.len() < count_max as usize {
            let page = self.core.replica.present_page(&rest, PAGE_BYTES);
            let page = page.ok_or_else(|| self.unknown())?;
            let last = page.last().map(|entry| entry.key.clone());
            for entry in page {
                while let Some((key, value)) = queued.next_if(|(key, _)| *key < entry.key) {
                    keys.extend(value.map(|_| key));
                }
                match queued.next_if(|(key, _)| *key == entry.key) {
                    Some((key, value)) => keys.extend(value.map(|_| key)),
                    None => keys.push(entry.key),
                }
            }
            match last {
                Some(last) => rest.start = key::successor(&last),
                None => {
                    keys.extend(queued.filter_map(|(key, value)| value.map(|_| key)));
                    break;
                }
            }
        }
        keys.truncate(count_max as usize);
        Ok(keys)
    }
}
