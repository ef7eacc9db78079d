//! That what a write names is there: the chunks of large values come before it.

use bytes::Bytes;
use objsync_proto::effect::{Cause, Change};
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::evaluate::{Decided, Decision};
use objsync_proto::ids::{ChunkId, NamespaceId};
use objsync_proto::limits::CHUNKS_ASKED_MAX;
use objsync_proto::operation::Outcome;
use objsync_proto::stored_chunks;

use crate::core::Core;
use crate::error::StoreError;

impl Core {
    /// Lets a decision pass whose chunks are all there, on disk when this returns. Otherwise it comes
    /// to [`Outcome::NeedChunks`], and changes nothing.
    pub(super) fn admit_chunks(
        &self,
        decision: Result<Decision, StoreError>,
    ) -> Result<Decision, StoreError> {
        let decided = match decision {
            Ok(Ok(decided)) => decided,
            other => return other,
        };
        match self.missing_chunks(&decided.changes)? {
            Err(failure) => Ok(Err(failure)),
            Ok(ids) if ids.is_empty() => Ok(Ok(decided)),
            Ok(ids) => Ok(Ok(Decided {
                outcome: Outcome::NeedChunks { ids },
                cause: Cause::Write,
                changes: Vec::new(),
            })),
        }
    }

    fn missing_chunks(
        &self,
        changes: &[(NamespaceId, Change)],
    ) -> Result<Result<Vec<ChunkId>, Failure>, StoreError> {
        let mut missing = Vec::new();
        let values = changes
            .iter()
            .filter_map(|(_, change)| change.value.as_ref());
        let chunked = |value: &&Bytes| stored_chunks::is_chunked(value);
        for value in values.filter(chunked) {
            let opened = stored_chunks::open(value);
            let Ok(Some(opened)) = opened else {
                let what = opened
                    .err()
                    .map_or(String::new(), |error| error.to_string());
                return Ok(Err(Failure::new(ErrorKind::Invalid, what)));
            };
            match self.packs.admit(&opened.root)? {
                Ok(ids) => missing.extend(ids),
                Err(failure) => return Ok(Err(failure)),
            }
            if missing.len() >= CHUNKS_ASKED_MAX {
                missing.truncate(CHUNKS_ASKED_MAX);
                break;
            }
        }
        Ok(Ok(missing))
    }
}

/// For who cannot be told which chunks are missing.
pub(super) fn refuse_missing(decided: Decided) -> Result<Decided, Failure> {
    match &decided.outcome {
        Outcome::NeedChunks { ids } => {
            let count = ids.len();
            let text = format!("values name {count} chunks that are not there: upload them first");
            Err(Failure::new(ErrorKind::Invalid, text))
        }
        _ => Ok(decided),
    }
}
