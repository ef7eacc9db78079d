//! Exactly once: each transaction was asked for by one call, and each answered call has its one.
//!
//! A call that was answered with a revision made the transaction of that revision. Where an answer
//! names none, or never came, the call is found by what it would have done to the state before: who
//! was answered so goes first, then who asked first. Calls that do the same to the same key cannot
//! be told apart that way; so each call puts a value of its own.

use std::collections::HashMap;

use super::history::{Call, Changes, Commit, History, Op, Outcome, State};
use super::{Verdict, fault, model};

const ONCE: &str = "exactly once";

/// Which call made which transaction.
#[derive(Debug)]
pub struct Order<'a> {
    /// The transactions by revision, and the place of the call that made each.
    pub commits: Vec<(&'a Commit, usize)>,
    /// The revision of what each call made, by the call's place in the history.
    revisions: Vec<Option<u64>>,
}

impl Order<'_> {
    /// The revision of the transaction that a call made.
    #[must_use]
    pub fn made(&self, call: usize) -> Option<u64> {
        self.revisions[call]
    }
}

/// Whether a call made a transaction, going by its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Must,
    May,
    No,
}

fn effect(call: &Call) -> Effect {
    match (&call.op, &call.outcome) {
        (Op::Get { .. } | Op::Scan { .. } | Op::Sync, _) | (_, Outcome::Refused) => Effect::No,
        (_, Outcome::Unknown) => Effect::May,
        (_, Outcome::Deleted(done)) if !done => Effect::No,
        (_, Outcome::Swapped(done)) if !done => Effect::No,
        // What only removes may have found nothing to remove.
        (Op::Transact { writes, .. }, _) if writes.values().all(Option::is_none) => Effect::May,
        (Op::Swap { new: None, .. }, _) => Effect::May,
        _ => Effect::Must,
    }
}

/// The keys that an operation may change.
fn written(op: &Op) -> Vec<&String> {
    match op {
        Op::Put { key, .. } | Op::Delete { key } | Op::Add { key, .. } | Op::Swap { key, .. } => {
            vec![key]
        }
        Op::Transact { writes, .. } => writes.keys().collect(),
        Op::Get { .. } | Op::Scan { .. } | Op::Sync => Vec::new(),
    }
}

/// Calls that are looked for, in several ways.
struct Callers<'a> {
    calls: &'a [Call],
    by_revision: HashMap<u64, usize>,
    by_number: HashMap<(u64, u64), usize>,
    /// Calls without a revision, by each key that they may change: those answered first.
    by_key: HashMap<&'a str, Vec<usize>>,
    is_taken: Vec<bool>,
}

impl<'a> Callers<'a> {
    fn new(calls: &'a [Call]) -> Verdict<Self> {
        let mut callers = Self {
            calls,
            by_revision: HashMap::new(),
            by_number: HashMap::new(),
            by_key: HashMap::new(),
            is_taken: vec![false; calls.len()],
        };
        let mut places: Vec<usize> = (0..calls.len()).collect();
        places.sort_by_key(|&place| {
            let call = &calls[place];
            (call.outcome == Outcome::Unknown, call.invoke_ns)
        });
        for place in places {
            let call = &calls[place];
            let number = (call.process, call.number);
            if callers.by_number.insert(number, place).is_some() {
                return fault(ONCE, format!("{number:?} is the number of two calls"));
            }
            match (effect(call), call.revision) {
                (Effect::No, _) => {}
                (_, Some(revision)) => {
                    if let Some(other) = callers.by_revision.insert(revision, place) {
                        let (other, call) = (name(&calls[other]), name(call));
                        let what = format!("{other} and {call} were both answered {revision}");
                        return fault(ONCE, what);
                    }
                }
                (_, None) => {
                    for key in written(&call.op) {
                        callers.by_key.entry(key).or_default().push(place);
                    }
                }
            }
        }
        Ok(callers)
    }

    /// The call that made a transaction on a state.
    fn take(&mut self, commit: &Commit, state: &State) -> Verdict<usize> {
        let revision = commit.revision;
        let named = match &commit.call {
            Some(number) => match self.by_number.get(number) {
                None => return fault(ONCE, format!("{revision} is by {number:?}, unknown")),
                Some(place) => Some(*place),
            },
            None => self.by_revision.get(&revision).copied(),
        };
        let Some(place) = named.or_else(|| self.find(commit, state)) else {
            let what = format!("{revision} did {:?}, as no open call would", commit.changes);
            return fault(ONCE, what);
        };
        let call = &self.calls[place];
        if std::mem::replace(&mut self.is_taken[place], true) {
            return fault(ONCE, format!("{} was done again by {revision}", name(call)));
        }
        if effect(call) == Effect::No {
            let what = format!("{} was answered {:?}", name(call), call.outcome);
            return fault(ONCE, format!("{what} and was done by {revision}"));
        }
        if call.revision.is_some_and(|answered| answered != revision) {
            let what = format!("{} was answered {:?}", name(call), call.revision);
            return fault(ONCE, format!("{what} and was done by {revision}"));
        }
        Ok(place)
    }

    fn find(&self, commit: &Commit, state: &State) -> Option<usize> {
        let changes: Changes = model::real(state, &commit.changes);
        let (key, _) = changes.first_key_value()?;
        let mut places = self.by_key.get(key.as_str())?.iter().copied();
        places.find(|&place| {
            let call = &self.calls[place];
            let (outcome, would) = model::decide(state, &call.op);
            let fits = call.outcome == Outcome::Unknown || call.outcome == outcome;
            !self.is_taken[place] && fits && would == changes
        })
    }
}

fn name(call: &Call) -> String {
    format!("call {}:{} {:?}", call.process, call.number, call.op)
}

/// Finds the call of each transaction, and that none is missing.
///
/// # Errors
/// A revision given twice; a transaction that nobody asked for, that was refused, or that is there
/// again; an answered call whose transaction is missing.
pub fn check(history: &History) -> Verdict<Order<'_>> {
    let mut commits: Vec<&Commit> = history.commits.iter().collect();
    commits.sort_by_key(|commit| commit.revision);
    if let Some(twice) = commits
        .windows(2)
        .find(|two| two[0].revision == two[1].revision)
    {
        return fault(ONCE, format!("{} was given twice", twice[0].revision));
    }
    let mut callers = Callers::new(&history.calls)?;
    let mut state = State::new();
    let mut order = Order {
        commits: Vec::new(),
        revisions: vec![None; history.calls.len()],
    };
    for commit in commits {
        let place = callers.take(commit, &state)?;
        order.revisions[place] = Some(commit.revision);
        order.commits.push((commit, place));
        model::apply(&mut state, &commit.changes);
    }
    for (place, call) in history.calls.iter().enumerate() {
        if effect(call) == Effect::Must && !callers.is_taken[place] {
            let what = format!("{} was answered {:?}", name(call), call.outcome);
            return fault(ONCE, format!("{what} at {:?} and is lost", call.revision));
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, rejected};
    use super::*;

    #[test]
    fn open_call_may_be_done_or_not() {
        let mut history = samples::good();
        check(&history).unwrap();
        // The transaction of the call that was never answered.
        history.commits.retain(|commit| commit.revision != 9);
        check(&history).unwrap();
    }

    #[test]
    fn effect_that_is_lost_doubled_strange_or_refused_is_rejected() {
        type Spoil = fn(&mut History);
        let spoil: [(&str, Spoil); 6] = [
            ("is lost", |it| it.commits.retain(|c| c.revision != 3)),
            ("as no open call would", |it| {
                let mut again = it.commits[0].clone();
                again.revision = 20;
                it.commits.push(again);
            }),
            ("as no open call would", |it| {
                it.commits[1].changes = Changes::from([("z".into(), Some(9))]);
                it.calls[1].revision = None;
            }),
            ("was given twice", |it| it.commits[1].revision = 1),
            ("both answered", |it| it.calls[1].revision = Some(1)),
            ("was answered Refused", |it| {
                it.commits[0].call = Some((1, 1));
                it.calls[0].outcome = Outcome::Refused;
            }),
        ];
        for (reason, spoil) in spoil {
            rejected(reason, spoil, |history| check(history).map(drop));
        }
    }

    #[test]
    fn number_answered_without_a_revision_is_found_once() {
        let mut history = samples::good();
        let add = history
            .calls
            .iter()
            .position(|call| matches!(call.op, Op::Add { .. }));
        history.calls[add.unwrap()].revision = None;
        check(&history).unwrap();
        history.calls[add.unwrap()].outcome = Outcome::Number(2);
        assert!(check(&history).is_err());
    }
}
