//! The session's rules one by one; `tests/sim.rs` runs them together over a failing network.

mod given_up;
mod written;

use bytes::{Bytes, BytesMut};

use super::{CallId, Check, ClientSession, Recorded, Results, is_idle};
use crate::error::{ErrorKind, Failure};
use crate::ids::{Ack, Durability, Epoch, EpochName, FrameIndex, Revision, Sequence, SessionId};
use crate::limits::{FRAME_BYTES_MAX, SESSION_BYTES_MAX, SESSION_IDLE_MS, SESSION_RESULTS_MAX};
use crate::operation::{Operation, Outcome};
use crate::wire::{ToOwner, codec};

const FAR_MS: u64 = 1_000_000;
const EPOCH: Epoch = Epoch {
    number: 1,
    name: EpochName([1; 16]),
};
const SESSION: SessionId = SessionId {
    epoch: 1,
    frame: FrameIndex(5),
};
const OTHER: SessionId = SessionId {
    epoch: 2,
    frame: FrameIndex(9),
};

fn add(by: i64) -> Operation {
    Operation::Increment {
        key: Bytes::from_static(b"k"),
        by,
    }
}

fn ok(number: i64) -> Result<(Outcome, Ack), Failure> {
    let ack = Ack {
        revision: Revision(1),
        epoch: EPOCH,
        durability: Durability::Sync,
    };
    Ok((Outcome::Number(number), ack))
}

fn unknown() -> Failure {
    Failure::new(ErrorKind::OutcomeUnknown, "gone")
}

fn submit(session: &mut ClientSession, call: u64, deadline_ms: u64) {
    let by = call.cast_signed();
    session
        .submit(CallId(call), add(by), None, deadline_ms, 0)
        .unwrap();
}

/// What goes out now, one text per frame: writes as `sequence:what it adds/floor`.
fn sent(session: &mut ClientSession) -> Vec<String> {
    let mut out = BytesMut::new();
    session.transmit(&mut out, usize::MAX);
    let mut frames = Vec::new();
    while let Some(frame) = codec::decode(&mut out, FRAME_BYTES_MAX).unwrap() {
        frames.push(match frame {
            ToOwner::Write(write) => {
                let Operation::Increment { by, .. } = write.operation else {
                    panic!()
                };
                format!("{}:{by}/{}", write.sequence.0, write.floor.0)
            }
            ToOwner::OpenSession => "open".into(),
            ToOwner::CloseSession => "close".into(),
            other => panic!("{other:?}"),
        });
    }
    frames
}

/// What is done, as the call and its number or the kind of its error.
fn done(session: &mut ClientSession) -> Vec<(u64, Result<i64, ErrorKind>)> {
    let completions = std::iter::from_fn(|| session.completion());
    completions
        .map(|done| match done.result {
            Ok((Outcome::Number(number), _)) => (done.call.0, Ok(number)),
            Ok(other) => panic!("{other:?}"),
            Err(failure) => (done.call.0, Err(failure.kind)),
        })
        .collect()
}

/// A session that is open on a connection.
fn open() -> ClientSession {
    let mut session = ClientSession::new();
    session.connected(false);
    submit(&mut session, 0, FAR_MS);
    assert_eq!(sent(&mut session), ["open"]);
    session.opened(SESSION);
    assert_eq!(sent(&mut session), ["1:0/1"]);
    session.answered(Sequence(1), ok(0));
    assert_eq!(done(&mut session), [(0, Ok(0))]);
    session
}

#[test]
fn refused_session_ends_what_waited_for_it_and_nothing_of_it_was_sent() {
    let full = Failure::new(ErrorKind::Full, "no room");
    let mut session = ClientSession::new();
    submit(&mut session, 1, FAR_MS);
    session.connected(false);
    assert!(!session.refused(&full), "no session was asked for yet");
    assert_eq!(sent(&mut session), ["open"]);
    let gone = Failure::new(ErrorKind::Unavailable, "the owner goes");
    assert!(!session.refused(&gone), "there will be another owner");
    assert_eq!(session.waiting(), 1);
    assert!(session.refused(&full));
    let done = session.completion().unwrap();
    assert_eq!((done.call, done.result), (CallId(1), Err(full)));
    assert!(session.is_settled());
    session.disconnected();
    submit(&mut session, 2, FAR_MS);
    session.connected(false);
    assert_eq!(
        sent(&mut session),
        ["open"],
        "the next one is asked for anew"
    );
}

#[test]
fn session_opens_with_the_first_write_and_not_before() {
    let mut session = ClientSession::new();
    session.connected(false);
    assert_eq!(sent(&mut session), [""; 0]);
    submit(&mut session, 7, FAR_MS);
    assert_eq!(sent(&mut session), ["open"]);
    assert_eq!(sent(&mut session), [""; 0], "asked for once");
    session.opened(SESSION);
    assert_eq!(session.id(), Some(SESSION));
    assert_eq!(sent(&mut session), ["1:7/1"]);
}

#[test]
fn writes_are_numbered_in_order_and_carry_the_lowest_unanswered() {
    let mut session = open();
    (1..=3).for_each(|call| submit(&mut session, call, FAR_MS));
    assert_eq!(sent(&mut session), ["2:1/2", "3:2/2", "4:3/2"]);
    session.answered(Sequence(3), ok(30));
    submit(&mut session, 4, FAR_MS);
    assert_eq!(sent(&mut session), ["5:4/2"], "2 still waits");
    session.answered(Sequence(2), ok(20));
    submit(&mut session, 5, FAR_MS);
    assert_eq!(sent(&mut session), ["6:5/4"]);
    assert_eq!(done(&mut session), [(2, Ok(30)), (1, Ok(20))]);
}

#[test]
fn unanswered_writes_go_out_again_in_order_and_answer_once() {
    let mut session = open();
    (1..=3).for_each(|call| submit(&mut session, call, FAR_MS));
    assert_eq!(sent(&mut session).len(), 3);
    session.answered(Sequence(3), ok(30));
    session.disconnected();
    submit(&mut session, 4, FAR_MS);
    assert_eq!(sent(&mut session), [""; 0]);
    session.connected(true);
    assert_eq!(sent(&mut session), ["2:1/2", "4:3/2", "5:4/2"]);
    session.answered(Sequence(2), ok(20));
    session.answered(Sequence(2), ok(21));
    session.answered(Sequence(3), ok(31));
    assert_eq!(done(&mut session), [(2, Ok(30)), (1, Ok(20))]);
}

#[test]
fn session_lost_by_the_owner_ends_sent_writes_and_moves_the_others_to_a_new_one() {
    let mut session = open();
    submit(&mut session, 1, FAR_MS);
    assert_eq!(sent(&mut session).len(), 1);
    session.disconnected();
    submit(&mut session, 2, FAR_MS);
    submit(&mut session, 3, FAR_MS);
    session.connected(false);
    assert_eq!(done(&mut session), [(1, Err(ErrorKind::OutcomeUnknown))]);
    assert_eq!(sent(&mut session), ["close", "open"]);
    session.opened(OTHER);
    assert_eq!(sent(&mut session), ["1:2/1", "2:3/1"]);
    session.answered(Sequence(1), ok(2));
    session.answered(Sequence(2), ok(3));
    assert_eq!(done(&mut session), [(2, Ok(2)), (3, Ok(3))]);
}

#[test]
fn session_ended_under_a_write_is_left_once_all_that_was_sent_is_answered() {
    let mut session = open();
    submit(&mut session, 1, FAR_MS);
    submit(&mut session, 2, FAR_MS);
    assert_eq!(sent(&mut session).len(), 2);
    session.answered(Sequence(2), Err(unknown()));
    submit(&mut session, 3, FAR_MS);
    assert_eq!(
        sent(&mut session),
        [""; 0],
        "nothing new goes into a lost session"
    );
    session.answered(Sequence(3), Err(unknown()));
    assert_eq!(sent(&mut session), ["close", "open"]);
    session.opened(OTHER);
    assert_eq!(sent(&mut session), ["1:3/1"]);
    let both = [
        (1, Err(ErrorKind::OutcomeUnknown)),
        (2, Err(ErrorKind::OutcomeUnknown)),
    ];
    assert_eq!(done(&mut session), both);
}

#[test]
fn session_left_while_disconnected_is_closed_at_the_owner_before_the_next_one_opens() {
    let mut session = open();
    submit(&mut session, 1, 100);
    submit(&mut session, 2, 100);
    assert_eq!(sent(&mut session).len(), 2);
    session.answered(Sequence(2), Err(unknown()));
    session.disconnected();
    session.expire(100);
    submit(&mut session, 3, FAR_MS);
    assert_eq!(session.id(), Some(SESSION));
    session.connected(true);
    assert_eq!(sent(&mut session), ["close", "open"]);
    session.opened(OTHER);
    assert_eq!(sent(&mut session), ["1:3/1"]);
}

#[test]
fn call_past_its_deadline_is_unknown_when_sent_and_its_caller_hears_no_late_answer() {
    let mut session = open();
    submit(&mut session, 1, 100);
    submit(&mut session, 2, 200);
    assert_eq!(sent(&mut session).len(), 2);
    assert_eq!(session.deadline_ms(), 100);
    session.expire(99);
    assert_eq!(done(&mut session), []);
    session.expire(100);
    assert_eq!(done(&mut session), [(1, Err(ErrorKind::OutcomeUnknown))]);
    assert_eq!(session.deadline_ms(), 200);
    session.answered(Sequence(2), ok(9));
    assert_eq!(done(&mut session), []);
    submit(&mut session, 3, FAR_MS);
    assert_eq!(sent(&mut session), ["4:3/3"], "the floor has moved on");
    session.disconnected();
    session.connected(true);
    assert_eq!(
        sent(&mut session),
        ["3:2/3", "4:3/3"],
        "it is not sent again"
    );
}

#[test]
fn call_past_its_deadline_that_was_not_sent_is_not_done_and_never_sent() {
    let mut session = open();
    session.disconnected();
    submit(&mut session, 1, FAR_MS);
    submit(&mut session, 2, 100);
    session.expire(100);
    assert_eq!(done(&mut session), [(2, Err(ErrorKind::Unavailable))]);
    submit(&mut session, 3, FAR_MS);
    session.connected(true);
    assert_eq!(sent(&mut session), ["2:1/2", "4:3/2"]);
}

#[test]
fn window_holds_so_many_operations() {
    let mut session = ClientSession::new();
    let count = SESSION_RESULTS_MAX as u64;
    (0..count).for_each(|call| submit(&mut session, call, FAR_MS));
    assert_eq!(
        session.submit(CallId(count), add(5), None, FAR_MS, 0),
        Err(add(5))
    );
    session.connected(false);
    sent(&mut session);
    session.opened(SESSION);
    sent(&mut session);
    session.answered(Sequence(2), ok(0));
    assert!(
        session
            .submit(CallId(count), add(5), None, FAR_MS, 0)
            .is_err(),
        "1 still waits"
    );
    session.answered(Sequence(1), ok(0));
    assert_eq!(
        session.submit(CallId(count), add(5), None, FAR_MS, 0),
        Ok(())
    );
}

#[test]
fn window_holds_so_many_bytes_but_always_one_operation() {
    let mut session = ClientSession::new();
    let put = |bytes: usize| Operation::Put {
        key: Bytes::from_static(b"k"),
        value: vec![0; bytes].into(),
    };
    session
        .submit(CallId(1), put(SESSION_BYTES_MAX), None, FAR_MS, 0)
        .unwrap();
    assert!(session.submit(CallId(2), put(1), None, FAR_MS, 0).is_err());
    session.expire(FAR_MS);
    assert!(session.submit(CallId(2), put(1), None, FAR_MS, 0).is_ok());
}

#[test]
fn transmit_stops_at_the_bytes_given_and_goes_on_later() {
    let mut session = open();
    (1..=10).for_each(|call| submit(&mut session, call, FAR_MS));
    let mut out = BytesMut::new();
    session.transmit(&mut out, 1);
    let first: ToOwner = codec::decode(&mut out, FRAME_BYTES_MAX).unwrap().unwrap();
    assert!(matches!(first, ToOwner::Write(write) if write.sequence == Sequence(2)));
    assert!(out.is_empty());
    assert_eq!(sent(&mut session).len(), 9);
}

#[test]
fn session_idle_for_half_of_what_the_owner_allows_is_given_back() {
    let mut session = open();
    session.expire(SESSION_IDLE_MS / 2 - 1);
    assert_eq!(session.id(), Some(SESSION));
    session.expire(SESSION_IDLE_MS / 2);
    assert_eq!(session.id(), None);
    assert_eq!(sent(&mut session), ["close"]);
    submit(&mut session, 1, FAR_MS);
    assert_eq!(sent(&mut session), ["open"]);
    assert!(!is_idle(5, SESSION_IDLE_MS + 4));
    assert!(is_idle(5, SESSION_IDLE_MS + 5));
}

#[test]
fn closing_ends_what_waits() {
    let mut session = open();
    submit(&mut session, 1, FAR_MS);
    sent(&mut session);
    session.close();
    assert_eq!(done(&mut session), [(1, Err(ErrorKind::Closed))]);
    assert_eq!(sent(&mut session), ["close"]);
}

#[test]
fn who_becomes_owner_takes_over_sent_writes_with_their_sequence() {
    let mut session = open();
    (1..=3).for_each(|call| submit(&mut session, call, FAR_MS));
    sent(&mut session);
    session.answered(Sequence(3), ok(30));
    session.disconnected();
    submit(&mut session, 4, FAR_MS);
    let taken = session.take_over();
    assert_eq!((taken.session, taken.floor), (Some(SESSION), Sequence(2)));
    let calls: Vec<_> = taken
        .calls
        .iter()
        .map(|call| (call.call.0, call.sequence))
        .collect();
    assert_eq!(
        calls,
        [(1, Some(Sequence(2))), (3, Some(Sequence(4))), (4, None)]
    );
    assert_eq!(
        done(&mut session),
        [(2, Ok(30))],
        "what was answered before still completes"
    );
    assert!(session.is_settled());
}

#[test]
fn answers_to_what_was_never_sent_are_ignored() {
    let mut session = open();
    submit(&mut session, 1, FAR_MS);
    for sequence in [0, 1, 2, 3, u64::MAX] {
        session.answered(Sequence(sequence), ok(1));
    }
    assert_eq!(done(&mut session), []);
    assert_eq!(sent(&mut session), ["2:1/2"]);
}

fn recorded(revision: u64) -> Recorded {
    Recorded {
        result: Ok(Outcome::Done),
        revision: Revision(revision),
        epoch: EPOCH,
    }
}

#[test]
fn owner_repeats_kept_results_and_forgets_those_below_the_floor() {
    let mut results = Results::default();
    assert_eq!(results.check(Sequence(1)), Check::New);
    (1..=4).for_each(|n| results.record(Sequence(n), recorded(n)));
    results.advance(Sequence(3));
    results.advance(Sequence(2));
    assert_eq!(results.check(Sequence(2)), Check::Forgotten);
    assert_eq!(results.check(Sequence(3)), Check::Repeat(&recorded(3)));
    assert_eq!(results.check(Sequence(5)), Check::New);
    results.record(Sequence(3), recorded(99));
    results.record(Sequence(1), recorded(99));
    assert_eq!(
        results.check(Sequence(3)),
        Check::Repeat(&recorded(3)),
        "the first result stays"
    );
    assert_eq!(results.count(), 2);
    let kept: Vec<_> = results.iter().map(|(s, r)| (s, r.clone())).collect();
    assert_eq!(Results::restore(results.floor(), kept), results);
}

/// A caller gave 2 up and wrote 3; then what was left of an earlier connection brought 2.
#[test]
fn write_that_comes_after_a_later_one_has_run_is_not_run() {
    let mut results = Results::default();
    results.record(Sequence(1), recorded(1));
    results.record(Sequence(3), recorded(2));
    assert_eq!(results.check(Sequence(2)), Check::Forgotten);
    assert_eq!(results.check(Sequence(4)), Check::New);
    results.advance(Sequence(4));
    assert_eq!(results.check(Sequence(4)), Check::New);
}

#[test]
fn results_past_the_limits_are_forgotten_from_the_lowest() {
    let mut results = Results::default();
    let count = SESSION_RESULTS_MAX as u64;
    (1..=count + 1).for_each(|n| results.record(Sequence(n), recorded(n)));
    assert_eq!(results.check(Sequence(1)), Check::Forgotten);
    assert_eq!(results.check(Sequence(2)), Check::Repeat(&recorded(2)));
    let mut results = Results::default();
    let refused = Recorded {
        result: Err(Failure::new(ErrorKind::Invalid, "x".repeat(1_024))),
        ..recorded(1)
    };
    (1..=count).for_each(|n| results.record(Sequence(n), refused.clone()));
    assert!(results.bytes() <= SESSION_BYTES_MAX && results.bytes() > SESSION_BYTES_MAX - 2_048);
    results.advance(Sequence(count + 1));
    assert_eq!((results.bytes(), results.count()), (0, 0));
}
