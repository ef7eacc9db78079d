//! Linearizability of everything that changes something: registers, counters, compare-and-set and
//! transactions, replayed in the order of their revisions.
//!
//! With the order given, an execution is linearizable if each answer is what the order gives, and
//! the order agrees with real time; it is strictly serializable as each transaction's reads, ranges
//! included, hold right before it.

use std::collections::HashMap;

use super::history::{Call, History, Outcome, State};
use super::once::Order;
use super::{Verdict, fault, model};

/// Replays the order and compares it with answers, with real time, and with each session.
///
/// # Errors
/// An answer or a change that the order does not give; a transaction before one that was answered
/// before it was asked for; calls of one process in another order than it made them.
pub fn check(history: &History, order: &Order<'_>) -> Verdict {
    check_answers(history, order)?;
    check_real_time(history, order)?;
    check_sessions(history, order)
}

fn check_answers(history: &History, order: &Order<'_>) -> Verdict {
    let mut state = State::new();
    for (commit, place) in &order.commits {
        let call = &history.calls[*place];
        let (outcome, changes) = model::decide(&state, &call.op);
        let at = commit.revision;
        if changes != model::real(&state, &commit.changes) {
            let what = format!("{} did {:?}", name(call), commit.changes);
            return fault("linearizable", format!("{what} at {at}, not {changes:?}"));
        }
        if call.outcome != Outcome::Unknown && call.outcome != outcome {
            let what = format!("{} was answered {:?}", name(call), call.outcome);
            return fault("linearizable", format!("{what} at {at}, not {outcome:?}"));
        }
        model::apply(&mut state, &commit.changes);
    }
    Ok(())
}

fn check_real_time(history: &History, order: &Order<'_>) -> Verdict {
    let made = |place: &usize| order.made(*place).map(|revision| (revision, *place));
    let mut asked: Vec<(u64, usize)> = (0..history.calls.len())
        .filter_map(|place| made(&place))
        .collect();
    let mut answered = asked.clone();
    asked.sort_by_key(|(_, place)| history.calls[*place].invoke_ns);
    answered.retain(|(_, place)| history.calls[*place].return_ns.is_some());
    answered.sort_by_key(|(_, place)| history.calls[*place].return_ns);
    let mut answered = answered.into_iter().peekable();
    let mut newest = None;
    for (revision, place) in asked {
        let call = &history.calls[place];
        let before = |(_, other): &(u64, usize)| {
            history.calls[*other]
                .return_ns
                .is_some_and(|returned| returned < call.invoke_ns)
        };
        while let Some(earlier) = answered.next_if(before) {
            newest = newest.max(Some(earlier));
        }
        if let Some((newer, other)) = newest.filter(|(newer, _)| *newer >= revision) {
            let (call, other) = (name(call), name(&history.calls[other]));
            let what = format!("{call} came at {revision}, after {other} was answered {newer}");
            return fault("real-time order", what);
        }
    }
    Ok(())
}

fn check_sessions(history: &History, order: &Order<'_>) -> Verdict {
    let mut places: Vec<usize> = (0..history.calls.len()).collect();
    places.sort_by_key(|&place| history.calls[place].number);
    let mut last: HashMap<u64, u64> = HashMap::new();
    for place in places {
        let (call, made) = (&history.calls[place], order.made(place));
        let Some(revision) = made else { continue };
        let before = last.insert(call.process, revision);
        if let Some(before) = before.filter(|before| *before >= revision) {
            let what = format!("{} came at {revision}", name(call));
            let what = format!("{what}, an earlier call of its process at {before}");
            return fault("session order", what);
        }
    }
    Ok(())
}

fn name(call: &Call) -> String {
    format!("call {}:{} {:?}", call.process, call.number, call.op)
}

#[cfg(test)]
mod tests {
    use super::super::history::Op;
    use super::super::once;
    use super::super::samples::{self, call_of, rejected};
    use super::*;

    fn judge(history: &History) -> Verdict {
        check(history, &once::check(history)?)
    }

    #[test]
    fn history_in_the_order_of_its_revisions_is_accepted() {
        judge(&samples::good()).unwrap();
    }

    #[test]
    fn wrong_answer_of_a_counter_a_swap_or_a_transaction_is_rejected() {
        let spoil: [fn(&mut History); 5] = [
            // A counter that two additions read at once: the first is lost.
            |it| {
                let add = call_of(it, |op| matches!(op, Op::Add { .. }));
                it.calls[add].outcome = Outcome::Number(7);
            },
            |it| {
                let put = call_of(it, |op| matches!(op, Op::Put { .. }));
                it.calls[put].outcome = Outcome::Swapped(true);
            },
            // A compare-and-set that did not compare.
            |it| {
                let swap = call_of(it, |op| matches!(op, Op::Swap { .. }));
                if let Op::Swap { expected, .. } = &mut it.calls[swap].op {
                    *expected = Some(99);
                }
            },
            // A transaction that read a value that was gone.
            |it| {
                let transact = call_of(it, |op| matches!(op, Op::Transact { .. }));
                if let Op::Transact { reads, .. } = &mut it.calls[transact].op {
                    reads.insert("a".into(), Some(10));
                }
            },
            // A phantom: a key had come into the range.
            |it| {
                let transact = call_of(it, |op| matches!(op, Op::Transact { .. }));
                if let Op::Transact { ranges, .. } = &mut it.calls[transact].op {
                    ranges[0].1.remove("n");
                }
            },
        ];
        for spoil in spoil {
            rejected("linearizable", spoil, judge);
        }
    }

    #[test]
    fn half_a_transaction_is_rejected() {
        rejected(
            "linearizable",
            |it| {
                let commit = it.commits.iter_mut().find(|it| it.changes.len() > 1);
                commit.unwrap().changes.pop_last();
            },
            judge,
        );
    }

    #[test]
    fn order_against_real_time_is_rejected() {
        rejected(
            "real-time order",
            |it| {
                // Answered before the one before it was asked for.
                it.calls[1].invoke_ns = 0;
                it.calls[1].return_ns = Some(1);
            },
            judge,
        );
    }

    #[test]
    fn order_against_the_order_of_a_session_is_rejected() {
        rejected(
            "session order",
            |it| {
                let first = it.calls[0].clone();
                it.calls[0].number = it.calls[2].number;
                it.calls[2].number = first.number;
                it.calls[2].invoke_ns = 0;
                it.calls[0].return_ns = it.calls[2].return_ns;
            },
            judge,
        );
    }
}
