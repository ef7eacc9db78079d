//! From a write on the stream to the store, and its answer back.

use std::sync::Arc;

use objsync_proto::chunk::Root;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Origin, Sequence};
use objsync_proto::limits::SESSION_BYTES_MAX;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::{ToPeer, Write};
use objsync_store::{Answer, StoreError, Submission, SubmissionOrigin};
use tokio::sync::OwnedSemaphorePermit;

use crate::chunks;
use crate::connection::Dropped;
use crate::peer::{Peer, Session, WRITE_BYTES_MIN};

/// Most keys that a transaction on the I/O thread may have read.
const INLINE_READS_MAX: usize = 16;
/// Largest frame whose write may run on the I/O thread.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// Gives a write to the store, which answers it later or, when `alone` and nothing stands in the
/// way, at once: two handovers between threads are most of the time of a buffered write.
pub(crate) async fn submit(
    peer: &Arc<Peer>,
    write: Write,
    bytes: usize,
    alone: bool,
) -> Result<(), Dropped> {
    let sequence = write.sequence;
    let inline = alone && bytes <= INLINE_BYTES_MAX && is_short(&write.operation);
    let submission = match submission(peer, write)? {
        Ok(submission) => submission,
        Err(failure) => {
            peer.answers.push(&ToPeer::Answer(sequence, Err(failure)));
            return Ok(());
        }
    };
    let roots = chunks::roots_of(&submission.operation);
    if let Some(refused) = chunks::refused(peer, &roots) {
        peer.answers.push(&ToPeer::Answer(sequence, Ok(refused)));
        return Ok(());
    }
    let store = &peer.serving.store;
    let submission = if inline {
        match store.try_execute_inline(submission) {
            Ok(result) => {
                answer(peer, sequence, result, roots);
                return Ok(());
            }
            Err(submission) => submission,
        }
    } else {
        submission
    };
    let place = place(peer, bytes).await;
    let peer = Arc::clone(peer);
    store.submit(
        submission,
        Box::new(move |result| {
            answer(&peer, sequence, result, roots);
            drop(place);
        }),
    );
    Ok(())
}

/// Whether deciding it reads a few keys at most.
fn is_short(operation: &Operation) -> bool {
    match operation {
        Operation::DeleteRange { .. } | Operation::RevokeLease { .. } => false,
        Operation::Transact { reads, ranges, .. } => {
            ranges.is_empty() && reads.len() <= INLINE_READS_MAX
        }
        // These look at all that the lease has.
        Operation::PutLeased { lease, .. } => lease.is_none(),
        Operation::Lock { .. } => false,
        _ => true,
    }
}

/// The write as the store takes it, or the answer that it is refused.
fn submission(peer: &Peer, write: Write) -> Result<Result<Submission, Failure>, Dropped> {
    if let Err(failure) = peer.may_write() {
        return Ok(Err(failure));
    }
    let session = match peer.session() {
        Session::Open(session) => session,
        Session::Unknown => {
            return Ok(Err(session_has_ended()));
        }
        Session::None => return Err(Dropped::Violation("a write without a session")),
    };
    if write.floor > write.sequence {
        return Err(Dropped::Violation("a write below its own floor"));
    }
    Ok(peer.namespace().map(|namespace| Submission {
        namespace,
        operation: write.operation,
        origin: Some(SubmissionOrigin {
            origin: Origin {
                session,
                sequence: write.sequence,
            },
            floor: write.floor,
            peer: peer.session_key(),
        }),
        durability: Some(write.durability.unwrap_or(peer.serving.durability)),
    }))
}

/// The answer of a write in a session that has ended.
pub(crate) fn session_has_ended() -> Failure {
    let text = "the session has ended: whether this write was done is not known";
    Failure::new(ErrorKind::OutcomeUnknown, text)
}

/// Room that a write takes among its peer's and among everybody's, until dropped.
pub(crate) type Place = [Option<OwnedSemaphorePermit>; 2];

/// Waits for room among the writes in flight. Nobody holds room for longer than the store takes
/// to answer, so a peer that does not read its answers keeps nobody waiting.
pub(crate) async fn place(peer: &Peer, bytes: usize) -> Place {
    // A frame may be a little larger than all the room there is.
    let bytes = bytes.clamp(WRITE_BYTES_MIN, SESSION_BYTES_MAX);
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    // Refused only by a semaphore that is closed, which nobody does.
    let own = Arc::clone(&peer.writes)
        .acquire_many_owned(bytes)
        .await
        .ok();
    let all = Arc::clone(&peer.serving.writes)
        .acquire_many_owned(bytes)
        .await
        .ok();
    [own, all]
}

/// `roots` are those of the values that the write names.
fn answer(
    peer: &Arc<Peer>,
    sequence: Sequence,
    result: Result<Answer, StoreError>,
    roots: Vec<Root>,
) {
    let is_logged = matches!(
        &result,
        Ok(Answer {
            outcome: Ok(Outcome::Done | Outcome::Swapped(true)),
            ..
        })
    );
    if is_logged {
        let uploads = &peer.uploads;
        roots
            .into_iter()
            .for_each(|root| uploads.letting.go(&uploads.pins, root));
    }
    if let Ok(Answer {
        outcome: Ok(Outcome::Lease(lease)),
        ..
    }) = result
        && let Ok(namespace) = peer.namespace()
    {
        // A repeat can tell of one that has ended since; then there is nothing to keep.
        let _ = peer.keeper.keep(namespace, lease);
    }
    let result = match result {
        Ok(answer) => answer.outcome.map(|outcome| (outcome, answer.ack)),
        Err(error) => Err(error.to_failure()),
    };
    peer.answers.push(&ToPeer::Answer(sequence, result));
}
