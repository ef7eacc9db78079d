//! What becomes of calls, step by step.

use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::ids::{
    Ack, Epoch, EpochName, FrameIndex, Position, Revision, Sequence, SessionId, StoreId,
};
use objsync_proto::limits::SESSION_BYTES_MAX;
use objsync_proto::operation::Outcome;

use super::*;
use crate::core::alone::alone;
use crate::options::Options;
use crate::pending::Answered;

fn put(key: &str, bytes: usize) -> Operation {
    Operation::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: vec![0; bytes].into(),
    }
}

fn caller(core: &Core, operation: Operation) -> oneshot::Receiver<Answered> {
    let (answer, answered) = oneshot::channel();
    core.push(Command::Write {
        operation,
        answer: Asker::Caller(answer),
        deadline: Instant::now() + core.config.options.timeout,
    });
    answered
}

/// Two large writes that were let in at the same moment: the second one waits for room in the
/// session. When the time of both is over, the handle takes writes again.
#[test]
fn write_that_waited_for_room_in_the_session_leaves_the_window_when_it_is_late() {
    let core = &*alone(Options::default(), |_| None);
    let mut calls = Calls::new(None);
    let large = SESSION_BYTES_MAX * 2 / 3;
    let mut answers = [caller(core, put("a", large)), caller(core, put("b", large))];
    calls.take_queued(core);
    assert_eq!((calls.beyond.len(), core.unanswered()), (1, 2));
    calls.expire(core, Instant::now() + core.config.options.timeout * 2);
    for answer in &mut answers {
        let error = answer.try_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert_eq!(core.unanswered(), 0);
    assert!(core.submit(put("c", 1)).is_ok());
}

fn acknowledged(revision: u64) -> Ack {
    Ack {
        revision: Revision(revision),
        epoch: Epoch {
            number: 1,
            name: EpochName([1; 16]),
        },
        durability: Durability::Sync,
    }
}

/// An answer arrives; a copy of the store that was restored from before it becomes the owner; only
/// then does the caller look at the answer. No read waits for a revision of the old history.
#[test]
fn answer_that_is_looked_at_late_does_not_bring_back_a_revision_of_another_history() {
    let core = &alone(Options::default(), |_| None);
    let mut calls = Calls::new(None);
    calls.session.connected(false);
    let write = |name| {
        let step = |_, ack: Ack| Ok(crate::pending::Step::Done(ack.revision.0));
        crate::Pending::write(Arc::clone(core), put(name, 1), step).start()
    };
    let writes = [write("a"), write("b")];
    calls.take_queued(core);
    calls.transmit(&core.replica, &mut BytesMut::new(), usize::MAX);
    calls.opened(SessionId {
        epoch: 1,
        frame: FrameIndex(1),
    });
    calls.transmit(&core.replica, &mut BytesMut::new(), usize::MAX);
    for (sequence, revision) in [(1, 999), (2, 1_000)] {
        let answer = Ok((Outcome::Done, acknowledged(revision)));
        calls.session.answered(Sequence(sequence), answer);
    }
    calls.deliver(core);
    assert_eq!(core.acked(), 1_000);
    let restored = Position {
        store: StoreId([1; 16]),
        epoch: acknowledged(520).epoch,
        revision: Revision(520),
    };
    assert_eq!(core.found_owner(restored), 520);
    let [a, b] = writes;
    assert_eq!((a.wait().unwrap(), b.wait().unwrap()), (999, 1_000));
    assert_eq!(core.acked(), 520);
}

#[test]
fn outcome_of_a_write_is_noted_as_it_arrives() {
    let core = &*alone(Options::default(), |_| None);
    let mut calls = Calls::new(None);
    let (reply, _replied) = oneshot::channel();
    core.push(Command::Request {
        request: Request::Barrier,
        reply,
        deadline: Instant::now(),
    });
    calls.take_queued(core);
    let outcome = Some(Ok((Outcome::Done, acknowledged(7))));
    calls.replied(core, 1, Ok(Reply::Outcome(outcome)));
    assert_eq!(core.acked(), 7);
}
