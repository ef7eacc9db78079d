//! What an operation comes to as far as this handle can tell: by its replica and what it has queued.

use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::dictionary::{Dictionary, DictionaryId};
use objsync_proto::effect::Change;
use objsync_proto::error::ErrorKind;
use objsync_proto::evaluate::{self, Changed, Leased, Present, Ranges, View};
use objsync_proto::ids::{NamespaceId, Revision};
use objsync_proto::key;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::KeyRange;

use super::Offline;
use crate::core::Core;
use crate::error::{ObjectError, Result};

/// One dictionary per handle, so it needs no number.
const ONLY: NamespaceId = NamespaceId::DEFAULT;
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
    /// A refusal; `Unavailable` when it depends on what this handle does not hold.
    pub(super) fn decide(&self, operation: &Operation) -> Result<(Outcome, Vec<Change>)> {
        let decided = evaluate::evaluate(ONLY, operation, self)??;
        let changes = decided.changes.into_iter();
        // The rest is about times to live, which the owner sees to.
        let of_keys = changes.filter(|(namespace, _)| *namespace == ONLY);
        Ok((decided.outcome, of_keys.map(|(_, change)| change).collect()))
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

    fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Present>> {
        if namespace != ONLY {
            return Ok(None);
        }
        let stored = match self.offline.state().overlay.get(key) {
            Some(queued) => queued,
            None => (self.core.replica.stored(key)).ok_or_else(|| self.unknown())?,
        };
        Ok(stored.map(|value| Present {
            value,
            revision: Revision(0),
        }))
    }

    fn dictionary(
        &self,
        _namespace: NamespaceId,
        id: DictionaryId,
    ) -> Result<Option<Arc<Dictionary>>> {
        Ok(self.core.config.packer.find(id))
    }

    fn keys(
        &self,
        _namespace: NamespaceId,
        range: &KeyRange,
        count_max: u32,
    ) -> Result<Vec<Bytes>> {
        let mut queued = self
            .offline
            .state()
            .overlay
            .range(range)
            .into_iter()
            .peekable();
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

    fn changed(&self, _: NamespaceId, after: Revision, _: &Ranges) -> Result<Changed> {
        Ok(Changed::Unknown {
            oldest: after.next(),
        })
    }

    fn leased(&self) -> Leased {
        Leased::default()
    }

    fn revision(&self) -> Revision {
        Revision(self.core.replica.applied()).next()
    }

    fn last(&self) -> Revision {
        Revision(self.core.replica.applied())
    }

    fn now_ms(&self) -> u64 {
        super::worker::now_ms()
    }
}
