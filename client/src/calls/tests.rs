//! What becomes of calls, step by step.

use bytes::Bytes;
use objsync_proto::limits::SESSION_BYTES_MAX;

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
