//! What is kept of calls whose callers have given up.

use super::*;
use crate::ids::Origin;
use crate::limits::SESSION_GIVEN_UP_MAX;

fn op(sequence: u64) -> Origin {
    Origin {
        session: SESSION,
        sequence: Sequence(sequence),
    }
}

/// A session with one call sent and given up, under sequence 2.
fn given_up() -> ClientSession {
    let mut session = open();
    submit(&mut session, 1, 100);
    assert_eq!(sent(&mut session), ["2:1/2"]);
    session.expire(100);
    let done = session.completion().unwrap();
    assert_eq!(done.op, Some(op(2)), "it can be asked about by this");
    assert!(session.is_settled());
    session
}

#[test]
fn call_that_was_given_up_holds_the_floor_until_its_answer_comes() {
    let mut session = given_up();
    submit(&mut session, 2, FAR_MS);
    assert_eq!(sent(&mut session), ["3:2/2"]);
    session.answered(Sequence(3), ok(3));
    submit(&mut session, 3, FAR_MS);
    assert_eq!(
        sent(&mut session),
        ["4:3/2"],
        "the owner keeps the result of 2"
    );
    session.disconnected();
    session.connected(true);
    assert_eq!(sent(&mut session), ["4:3/2"], "2 is not sent again");
    session.answered(Sequence(2), ok(7));
    assert_eq!(session.late(), Some((op(2), ok(7))));
    assert_eq!(session.late(), None);
    session.answered(Sequence(2), ok(8));
    assert_eq!(session.late(), None, "once");
    submit(&mut session, 4, FAR_MS);
    assert_eq!(sent(&mut session), ["5:4/4"]);
}

#[test]
fn answer_that_says_unknown_is_no_answer_and_the_session_is_left() {
    let mut session = given_up();
    submit(&mut session, 2, FAR_MS);
    session.answered(Sequence(2), Err(unknown()));
    assert_eq!(session.late(), None);
    assert_eq!(sent(&mut session), ["close", "open"]);
}

#[test]
fn session_is_left_though_a_call_of_it_was_given_up_and_later_ones_wait() {
    let mut session = given_up();
    submit(&mut session, 2, FAR_MS);
    assert_eq!(sent(&mut session), ["3:2/2"]);
    submit(&mut session, 3, FAR_MS);
    session.answered(Sequence(3), Err(unknown()));
    assert_eq!(sent(&mut session), ["close", "open"]);
    session.opened(OTHER);
    assert_eq!(
        sent(&mut session),
        ["1:3/1"],
        "what was not sent goes into the next one"
    );
}

#[test]
fn of_too_many_that_were_given_up_the_oldest_is_let_go() {
    let mut session = open();
    for call in 0..=SESSION_GIVEN_UP_MAX as u64 {
        submit(&mut session, call, 100);
    }
    sent(&mut session);
    session.expire(100);
    submit(&mut session, 5_000, FAR_MS);
    let last = SESSION_GIVEN_UP_MAX as u64 + 3;
    assert_eq!(
        sent(&mut session),
        [format!("{last}:5000/3")],
        "2 was let go"
    );
}

#[test]
fn call_given_up_many_writes_ago_does_not_fill_the_window() {
    let mut session = given_up();
    for call in 0..SESSION_RESULTS_MAX as u64 * 2 {
        submit(&mut session, call, FAR_MS);
        sent(&mut session);
        session.answered(Sequence(call + 3), ok(0));
    }
    assert!(session.is_settled());
}

#[test]
fn who_becomes_owner_leaves_given_up_calls_and_takes_a_number_after_all() {
    let mut session = given_up();
    submit(&mut session, 2, FAR_MS);
    sent(&mut session);
    submit(&mut session, 3, FAR_MS);
    let left = session.take_over();
    let calls: Vec<_> = left
        .calls
        .iter()
        .map(|call| (call.call.0, call.sequence))
        .collect();
    assert_eq!(calls, [(2, Some(Sequence(3))), (3, None)]);
    assert_eq!((left.floor, left.next), (Sequence(2), Sequence(5)));
}
