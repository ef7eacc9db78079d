//! What became of writes whose callers have given up.

use std::sync::PoisonError;

use objsync_proto::error::Failure;
use objsync_proto::ids::{Ack, Origin, SessionId};
use objsync_proto::limits::SESSION_GIVEN_UP_MAX;
use objsync_proto::operation::Outcome;

use super::Core;

impl Core {
    /// Keeps an answer that came too late for its caller; the oldest goes when there are too many.
    /// Its acknowledgement was noted when it arrived.
    pub(crate) fn keep_late(&self, op: Origin, result: Result<(Outcome, Ack), Failure>) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        if late.len() >= SESSION_GIVEN_UP_MAX {
            late.pop_front();
        }
        late.push_back((op, result));
    }

    /// What an owner said of a write after its caller had given up, if it did.
    pub(crate) fn late(&self, op: Origin) -> Option<Result<(Outcome, Ack), Failure>> {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = late.iter();
        kept.find(|(which, _)| *which == op)
            .map(|(_, result)| result.clone())
    }

    /// Whether the session of a write is the one that this handle writes through now.
    pub(crate) fn is_own_session(&self, session: SessionId) -> bool {
        let own = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        *own == Some(session)
    }
}
