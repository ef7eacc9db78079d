//! A session that outlives its process: numbers are written down before they are used.

use super::*;
use crate::ids::Origin;
use crate::limits::SESSION_IDLE_MS;

fn op(sequence: u64) -> Origin {
    Origin {
        session: SESSION,
        sequence: Sequence(sequence),
    }
}

fn written(session: &ClientSession) -> Option<(Sequence, Vec<Option<CallId>>)> {
    session.unwritten().map(|(id, first, calls)| {
        assert_eq!(id, SESSION);
        (first, calls)
    })
}

#[test]
fn nothing_is_sent_before_its_number_is_written_down() {
    let mut session = ClientSession::written_down(None);
    session.connected(false);
    submit(&mut session, 1, FAR_MS);
    assert_eq!(sent(&mut session), ["open"]);
    assert_eq!(written(&session), None, "there is no session to number in");
    session.opened(SESSION);
    assert_eq!(sent(&mut session), [""; 0]);
    submit(&mut session, 2, FAR_MS);
    let both = vec![Some(CallId(1)), Some(CallId(2))];
    assert_eq!(written(&session), Some((Sequence(1), both)));
    session.release(SESSION, Sequence(1));
    assert_eq!(sent(&mut session), ["1:1/1"]);
    session.release(OTHER, Sequence(2));
    assert_eq!(sent(&mut session), [""; 0], "that was another session");
    session.release(SESSION, Sequence(2));
    assert_eq!(sent(&mut session), ["2:2/1"]);
    assert_eq!(written(&session), None);
}

#[test]
fn call_that_was_taken_back_is_not_sent_and_one_that_was_sent_is_not_taken_back() {
    let mut session = ClientSession::written_down(None);
    session.connected(false);
    (1..=4).for_each(|call| submit(&mut session, call, FAR_MS));
    assert!(session.withdraw(CallId(1)), "before there is a session");
    sent(&mut session);
    session.opened(SESSION);
    let (first, calls) = written(&session).unwrap();
    assert_eq!((first, calls.len()), (Sequence(2), 3));
    assert!(session.withdraw(CallId(3)), "its number is on its way");
    session.release(SESSION, Sequence(4));
    assert_eq!(sent(&mut session), ["2:2/2", "4:4/2"]);
    assert!(!session.withdraw(CallId(2)) && !session.withdraw(CallId(3)));
    session.answered(Sequence(2), ok(2));
    session.answered(Sequence(4), ok(4));
    assert_eq!(done(&mut session), [(2, Ok(2)), (4, Ok(4))]);
    assert!(session.is_settled());
}

#[test]
fn idle_session_with_an_answer_that_is_not_written_down_is_not_left() {
    let mut session = ClientSession::written_down(None);
    session.connected(false);
    submit(&mut session, 1, FAR_MS);
    sent(&mut session);
    session.opened(SESSION);
    session.release(SESSION, Sequence(1));
    sent(&mut session);
    session.answered(Sequence(1), ok(1));
    assert!(session.is_settled() && session.has_unfinished());
    session.expire(SESSION_IDLE_MS);
    assert_eq!(session.id(), Some(SESSION));
    session.finish(op(1));
    assert!(!session.has_unfinished());
    session.expire(SESSION_IDLE_MS);
    assert_eq!(session.id(), None);
}

#[test]
fn owner_keeps_an_answer_until_it_is_written_down() {
    let mut session = ClientSession::written_down(None);
    session.connected(false);
    (1..=3).for_each(|call| submit(&mut session, call, FAR_MS));
    sent(&mut session);
    session.opened(SESSION);
    session.release(SESSION, Sequence(2));
    assert_eq!(sent(&mut session), ["1:1/1", "2:2/1"]);
    session.answered(Sequence(1), ok(1));
    session.answered(Sequence(2), ok(2));
    assert_eq!(done(&mut session), [(1, Ok(1)), (2, Ok(2))]);
    session.release(SESSION, Sequence(3));
    assert_eq!(
        sent(&mut session),
        ["3:3/1"],
        "nobody wrote the answers down"
    );
    session.finish(op(2));
    session.finish(op(1));
    session.disconnected();
    session.connected(true);
    assert_eq!(sent(&mut session), ["3:3/3"]);
}

#[test]
fn next_process_goes_on_under_the_numbers_that_are_written_down() {
    let left = Some((SESSION, Sequence(5), Sequence(6)));
    let mut session = ClientSession::written_down(left);
    assert_eq!(session.id(), Some(SESSION), "to be named in the hello");
    (1..=3).for_each(|call| submit(&mut session, call, FAR_MS));
    session.connected(true);
    assert_eq!(sent(&mut session), ["5:1/5", "6:2/5"]);
    assert_eq!(
        written(&session),
        Some((Sequence(7), vec![Some(CallId(3))]))
    );
    session.release(SESSION, Sequence(7));
    assert_eq!(sent(&mut session), ["7:3/5"]);
}

#[test]
fn next_process_without_its_session_knows_what_may_have_been_sent() {
    let left = Some((SESSION, Sequence(5), Sequence(6)));
    let mut session = ClientSession::written_down(left);
    (1..=3).for_each(|call| submit(&mut session, call, FAR_MS));
    session.connected(false);
    let unknown = Err(ErrorKind::OutcomeUnknown);
    assert_eq!(done(&mut session), [(1, unknown), (2, unknown)]);
    assert_eq!(sent(&mut session), ["close", "open"]);
    session.opened(OTHER);
    let (id, first, calls) = session.unwritten().unwrap();
    assert_eq!(
        (id, first, calls),
        (OTHER, Sequence(1), vec![Some(CallId(3))])
    );
}
