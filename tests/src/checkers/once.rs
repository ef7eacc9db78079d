//! Exactly once: each transaction was asked for by one call, and each answered call has its one.
//!
//! A call that was answered with a revision made the transaction of that revision. Where an answer
//! names none, or never came, the call is found by what it wrote, if no other wrote that; so each
//! call puts a value of its own. What is left are additions and removals that were never answered,
//! and swaps to a value that others wanted too: any of them may have made a transaction that fits, as
//! far as the order of its process allows. The one that has to be placed first is taken first; where
//! that leads nowhere, the others are tried.

use std::collections::{BTreeMap, HashMap};

use super::history::{Call, Changes, Commit, History, Op, Outcome, State};
use super::{Verdict, fault, model};

const ONCE: &str = "exactly once";
/// So many other ways are tried before a history is rejected.
const FORKS_MAX: usize = 10_000;

/// Which call made which transaction.
#[derive(Debug, Clone)]
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

/// What is put where, if something is and that is known before it is done.
fn put(call: &Call) -> Vec<(&str, i64)> {
    match (&call.op, &call.outcome) {
        (Op::Put { key, value }, _) => vec![(key, *value)],
        (Op::Swap { key, new, .. }, _) => new.iter().map(|new| (&key[..], *new)).collect(),
        (Op::Add { key, .. }, Outcome::Number(number)) => vec![(key, *number)],
        (Op::Transact { writes, .. }, _) => puts(writes),
        _ => Vec::new(),
    }
}

fn puts(changes: &Changes) -> Vec<(&str, i64)> {
    let changes = changes.iter();
    changes
        .filter_map(|(key, value)| Some((key.as_str(), (*value)?)))
        .collect()
}

/// Calls that are looked for, in several ways.
struct Callers<'a> {
    calls: &'a [Call],
    by_revision: HashMap<u64, usize>,
    by_number: HashMap<(u64, u64), usize>,
    /// Calls without a revision, by each key that they may change: those answered first.
    by_key: HashMap<&'a str, Vec<usize>>,
}

/// One way to say which call made what, as far as it has come.
#[derive(Clone)]
struct Way<'a> {
    /// Of each process, the calls whose revision is known, by their numbers.
    placed: HashMap<u64, BTreeMap<u64, u64>>,
    is_taken: Vec<bool>,
    state: State,
    order: Order<'a>,
}

impl<'a> Callers<'a> {
    fn new(calls: &'a [Call], commits: &[&'a Commit]) -> Verdict<Self> {
        let mut callers = Self {
            calls,
            by_revision: HashMap::new(),
            by_number: HashMap::new(),
            by_key: HashMap::new(),
        };
        for (place, call) in calls.iter().enumerate() {
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
        callers.find_unique(commits);
        Ok(callers)
    }

    /// Finds the transactions without a known call that only one call can have made.
    fn find_unique(&mut self, commits: &[&'a Commit]) {
        let mut by_put: HashMap<Vec<(&str, i64)>, Vec<usize>> = HashMap::new();
        for (place, call) in self.calls.iter().enumerate() {
            if effect(call) != Effect::No && call.revision.is_none() {
                by_put.entry(put(call)).or_default().push(place);
            }
        }
        by_put.remove(&Vec::new());
        for commit in commits {
            if let Some(place) = commit.call.and_then(|it| self.by_number.get(&it)) {
                self.by_revision.insert(commit.revision, *place);
            } else if let Some([place]) = by_put.get(&puts(&commit.changes)).map(|it| &it[..]) {
                self.by_revision.entry(commit.revision).or_insert(*place);
            }
        }
    }

    /// The calls that may have made a transaction, the likeliest last.
    fn fitting(&self, commit: &Commit, way: &Way<'_>) -> Verdict<Vec<usize>> {
        let revision = commit.revision;
        if let Some(number) = commit.call.filter(|it| !self.by_number.contains_key(it)) {
            return fault(ONCE, format!("{revision} is by {number:?}, unknown"));
        }
        let found = match self.by_revision.get(&revision) {
            Some(place) => vec![*place],
            None => self.find(commit, way),
        };
        if found.is_empty() {
            let what = format!("{revision} did {:?}, as no open call would", commit.changes);
            return fault(ONCE, what);
        }
        Ok(found)
    }

    /// The calls that fit; last the one that has to be placed first.
    fn find(&self, commit: &Commit, way: &Way<'_>) -> Vec<usize> {
        let changes: Changes = model::real(&way.state, &commit.changes);
        let places = changes.first_key_value();
        let places = places.and_then(|(key, _)| self.by_key.get(key.as_str()));
        let places = places.map_or(&[][..], |places| places);
        let fits = |place: &&usize| {
            let call = &self.calls[**place];
            let (outcome, would) = model::decide(&way.state, &call.op);
            let fits = call.outcome == Outcome::Unknown || call.outcome == outcome;
            let (after, before) = way.bounds(call);
            let is_in_order = after < commit.revision && commit.revision < before;
            !way.is_taken[**place] && fits && is_in_order && would == changes
        };
        let mut fitting: Vec<usize> = places.iter().filter(fits).copied().collect();
        fitting.sort_by_key(|&place| {
            let call = &self.calls[place];
            let is_open = call.outcome == Outcome::Unknown;
            std::cmp::Reverse((is_open, way.bounds(call).1, call.invoke_ns))
        });
        // An answered call must have made something, and it is this.
        match fitting.last() {
            Some(&last) if self.calls[last].outcome != Outcome::Unknown => vec![last],
            _ => fitting,
        }
    }
}

impl<'a> Way<'a> {
    fn new(callers: &Callers<'_>) -> Self {
        let mut placed: HashMap<u64, BTreeMap<u64, u64>> = HashMap::new();
        for (revision, place) in &callers.by_revision {
            let call = &callers.calls[*place];
            let placed = placed.entry(call.process).or_default();
            placed.insert(call.number, *revision);
        }
        Self {
            placed,
            is_taken: vec![false; callers.calls.len()],
            state: State::new(),
            order: Order {
                commits: Vec::new(),
                revisions: vec![None; callers.calls.len()],
            },
        }
    }

    /// Goes on with a call as the one that made a transaction.
    fn take(&mut self, callers: &Callers<'_>, commit: &'a Commit, place: usize) -> Verdict<()> {
        let (call, revision) = (&callers.calls[place], commit.revision);
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
        let placed = self.placed.entry(call.process).or_default();
        placed.insert(call.number, revision);
        self.order.revisions[place] = Some(revision);
        self.order.commits.push((commit, place));
        model::apply(&mut self.state, &commit.changes);
        Ok(())
    }

    /// Goes on to the end, and leaves behind where there was more than one way.
    fn go_on(
        &mut self,
        callers: &Callers<'_>,
        commits: &[&'a Commit],
        forks: &mut Vec<(Way<'a>, Vec<usize>)>,
    ) -> Verdict<()> {
        for commit in &commits[self.order.commits.len()..] {
            let mut fitting = callers.fitting(commit, self)?;
            let place = fitting.pop().expect("one fits at least");
            if !fitting.is_empty() {
                forks.push((self.clone(), fitting));
            }
            self.take(callers, commit, place)?;
        }
        for (call, is_taken) in callers.calls.iter().zip(&self.is_taken) {
            if effect(call) == Effect::Must && !is_taken {
                let what = format!("{} was answered {:?}", name(call), call.outcome);
                return fault(ONCE, format!("{what} at {:?} and is lost", call.revision));
            }
        }
        Ok(())
    }

    /// Between which revisions a call must lie, by those of its process before and after it.
    fn bounds(&self, call: &Call) -> (u64, u64) {
        let Some(placed) = self.placed.get(&call.process) else {
            return (0, u64::MAX);
        };
        let before = placed.range(..call.number).next_back();
        let after = placed.range(call.number + 1..).next();
        let revision = |found: Option<(&u64, &u64)>| found.map(|(_, revision)| *revision);
        (
            revision(before).unwrap_or(0),
            revision(after).unwrap_or(u64::MAX),
        )
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
    let callers = Callers::new(&history.calls, &commits)?;
    let mut way = Way::new(&callers);
    let mut forks = Vec::new();
    let Err(first) = way.go_on(&callers, &commits, &mut forks) else {
        return Ok(way.order);
    };
    for _ in 0..FORKS_MAX {
        let Some((fork, rest)) = forks.last_mut() else {
            break;
        };
        let Some(place) = rest.pop() else {
            forks.pop();
            continue;
        };
        way = fork.clone();
        let commit = commits[way.order.commits.len()];
        let taken = way.take(&callers, commit, place);
        if taken
            .and_then(|()| way.go_on(&callers, &commits, &mut forks))
            .is_ok()
        {
            return Ok(way.order);
        }
    }
    Err(first)
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
    fn other_ways_are_tried_where_the_first_leads_nowhere() {
        let open = |process, number, op| Call {
            process,
            number,
            op,
            invoke_ns: 10 * number,
            return_ns: None,
            outcome: Outcome::Unknown,
            revision: None,
        };
        let key = |key: &str| key.to_owned();
        let swap = Op::Swap {
            key: key("chain"),
            expected: None,
            new: Some(20),
        };
        let (add, put) = (
            Op::Add {
                key: key("own"),
                by: 1,
            },
            Op::Put {
                key: key("last"),
                value: 7,
            },
        );
        let commit = |revision, key: &str, value| Commit {
            revision,
            changes: Changes::from([(key.to_owned(), Some(value))]),
            call: None,
        };
        // The swap of process 1 has to be placed first, but its addition before that is done later.
        let mut history = History {
            calls: vec![
                open(1, 1, add),
                open(1, 2, swap.clone()),
                open(1, 3, put),
                open(2, 1, swap),
            ],
            commits: vec![
                commit(5, "chain", 20),
                commit(6, "own", 1),
                commit(7, "last", 7),
            ],
            ..History::default()
        };
        let order = check(&history).unwrap();
        assert_eq!((order.made(3), order.made(1)), (Some(5), None));
        history.calls.pop();
        assert!(
            check(&history)
                .unwrap_err()
                .to_string()
                .contains("as no open call would")
        );
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
    fn open_additions_are_placed_as_the_order_of_their_processes_allows() {
        let mut history = History::default();
        let add = |key: &str| Op::Add {
            key: key.into(),
            by: 1,
        };
        // The second asks for "n" first; but the first went on with "a" before "n" was added again.
        for (process, number, key, invoke_ns) in [(1, 1, "n", 20), (1, 2, "a", 21), (2, 1, "n", 10)]
        {
            history.calls.push(Call {
                process,
                number,
                op: add(key),
                invoke_ns,
                return_ns: None,
                outcome: Outcome::Unknown,
                revision: None,
            });
        }
        history.calls[1].outcome = Outcome::Number(1);
        history.calls[1].return_ns = Some(30);
        for (revision, key, value) in [(1, "n", 1), (2, "a", 1), (3, "n", 2)] {
            history.commits.push(Commit {
                revision,
                changes: Changes::from([(key.into(), Some(value))]),
                call: None,
            });
        }
        let order = check(&history).unwrap();
        assert_eq!(
            [0, 1, 2].map(|call| order.made(call)),
            [Some(1), Some(2), Some(3)]
        );
        history.commits[2].revision = 4;
        history.commits[0].revision = 3;
        assert!(check(&history).is_err());
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
