//! What came of a write whose answer was lost.
//!
//! Trail: [`crate::Dict::outcome`] -> an answer that came late, or `Operation::Settle` in the same
//! session, after which nothing of it that is not decided is decided any more -> `Request::Outcome`.

use std::sync::Arc;

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Ack, Origin};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::{Reply, Request};

use crate::core::Core;
use crate::dict::Dict;
use crate::error::{ObjectError, Result};
use crate::pending::{Pending, unexpected_reply};

/// What came of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What the call would have returned.
    pub outcome: Outcome,
    /// Where the write stands.
    pub ack: Ack,
}

impl Dict {
    /// What came of a write that failed with [`ObjectError::Unanswered`], which names it: none
    /// when it was not done and never will be. The answer is final.
    ///
    /// It can be asked for the last 1,024 such writes of a session, as long as the owner knows the
    /// session (24 h without a write), by whatever process owns the store by then. Two round trips,
    /// and the first makes an entry in the log.
    ///
    /// # Errors
    /// As the write itself, when the owner refused it; [`ObjectError::Unanswered`] when it cannot
    /// be told any more; `Unavailable`, also for a write of another handle that may still be on its
    /// way.
    pub fn outcome(&self, op: Origin) -> Pending<Option<Done>> {
        self.call("the outcome of a write", move |core| ask(core, op))
    }
}

async fn ask(core: Arc<Core>, op: Origin) -> Result<Option<Done>> {
    core.check_open()?;
    if let Some(late) = core.late(op) {
        return told(late).map(Some);
    }
    // As the owner, what was left unanswered has been settled: this comes after it.
    if core.is_own_session(op.session) {
        settle(&core).await?;
    }
    if let Some(late) = core.late(op) {
        return told(late).map(Some);
    }
    let Origin { session, sequence } = op;
    let reply = match core.request(Request::Outcome { session, sequence }).await {
        Ok(Reply::Outcome(reply)) => reply,
        Ok(other) => return Err(unexpected_reply(&other)),
        Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {
            let failure = Failure::new(ErrorKind::OutcomeUnknown, error.to_string());
            return Err(ObjectError::Unanswered { failure, op });
        }
        Err(error) => return Err(error),
    };
    let Some(result) = reply else {
        return Ok(None);
    };
    told(result).map(Some)
}

fn told(result: Result<(Outcome, Ack), Failure>) -> Result<Done> {
    let (outcome, ack) = result?;
    Ok(Done { outcome, ack })
}

/// Lets the owner decide that nothing earlier of this session is decided any more.
async fn settle(core: &Arc<Core>) -> Result<()> {
    let settled = Pending::write(Arc::clone(core), Operation::Settle, |_, _| {
        Ok(crate::pending::Step::Done(()))
    });
    settled.await
}
