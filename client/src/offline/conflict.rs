//! What became of queued writes that the owner decided otherwise.

use bytes::Bytes;
use objsync_proto::ids::Revision;
use objsync_proto::operation::Operation;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::packing::Packer;

/// A queued write whose caller was told that it is done, and that came to something else. One for
/// each key that it was to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Which key, encoded; none when a whole range was to be removed.
    pub key: Option<Bytes>,
    /// What was asked for: `set`, `delete`, `delete_range`, `compare_and_set`, `incr`, `batch` or
    /// `patch`.
    pub operation: String,
    /// The plain payload that a compare-and-set expected; none also for "no such key".
    pub expected: Option<Bytes>,
    /// The plain payload that was to be put; none when the key was to be removed.
    pub wanted: Option<Bytes>,
    /// The plain payload that the key has now, as far as this handle knows.
    pub actual: Option<Bytes>,
    /// Why it did not happen, or why that is not known.
    pub reason: String,
    /// When it was asked for, milliseconds since 1970 by this machine's clock.
    pub time_ms: u64,
}

/// A conflict as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The write.
    pub(super) entry: u64,
    pub(super) time_ms: u64,
    pub(super) operation: Operation,
    pub(super) reason: String,
}

impl Kept {
    /// As users see it; `present` looks a key up.
    pub(super) fn open(
        &self,
        packer: &Packer,
        present: &dyn Fn(&[u8]) -> Option<Bytes>,
        into: &mut Vec<Conflict>,
    ) -> Result<()> {
        let expected = match &self.operation {
            Operation::CompareAndSet { expected, .. } => expected.clone(),
            _ => None,
        };
        for (key, wanted) in wanted(&self.operation) {
            into.push(Conflict {
                actual: key.as_deref().and_then(present),
                operation: name(&self.operation).to_owned(),
                expected: expected.clone(),
                wanted: wanted
                    .map(|wanted| {
                        let key = key.as_deref().unwrap_or_default();
                        packer.open(key, Revision::default(), wanted)
                    })
                    .transpose()?,
                key,
                reason: self.reason.clone(),
                time_ms: self.time_ms,
            });
        }
        Ok(())
    }
}

/// What an operation was to put under which key, stored.
fn wanted(operation: &Operation) -> Vec<(Option<Bytes>, Option<Bytes>)> {
    match operation {
        Operation::Put { key, value } | Operation::PutLeased { key, value, .. } => {
            vec![(Some(key.clone()), Some(value.clone()))]
        }
        Operation::CompareAndSet { key, new, .. } => vec![(Some(key.clone()), new.clone())],
        Operation::Delete { key } | Operation::Increment { key, .. } => {
            vec![(Some(key.clone()), None)]
        }
        Operation::Patch { key, .. } => vec![(Some(key.clone()), None)],
        Operation::Batch { changes } => (changes.iter())
            .map(|change| (Some(change.key.clone()), change.value.clone()))
            .collect(),
        _ => vec![(None, None)],
    }
}

fn name(operation: &Operation) -> &'static str {
    match operation {
        Operation::Put { .. } | Operation::PutLeased { .. } => "set",
        Operation::Delete { .. } => "delete",
        Operation::DeleteRange { .. } => "delete_range",
        Operation::CompareAndSet { .. } => "compare_and_set",
        Operation::Increment { .. } => "incr",
        Operation::Batch { .. } => "batch",
        Operation::Patch { .. } => "patch",
        Operation::Transact { .. } => "transact",
        Operation::GrantLease { .. }
        | Operation::RevokeLease { .. }
        | Operation::Lock { .. }
        | Operation::Unlock { .. }
        | Operation::Settle
        | Operation::AddDictionary { .. } => "other",
    }
}
