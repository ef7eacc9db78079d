//! Reads, and answers that changed nothing: each is given the earliest revision at which it holds.
//!
//! What bounds it from below is what its reader may expect: its own writes and its own earlier reads
//! always; for a fresh read, for a barrier, and for what the owner decided (a compare-and-set that
//! found something else), all that anybody was answered before it was asked. From above: nothing that
//! was asked for after it was answered. All bounds only grow with the revisions chosen, so choosing
//! the earliest is enough, and nothing is tried out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use super::history::{Call, History, Op, Outcome, State};
use super::once::Order;
use super::{Verdict, fault, model};

/// Checks that each read can have happened at one revision, and that these go on.
///
/// # Errors
/// "read your writes", "monotonic reads", "fresh reads", "reads from the future", or "reads": of what
/// was never there.
pub fn check(history: &History, order: &Order<'_>) -> Verdict {
    let mut places: Vec<usize> = (0..history.calls.len()).collect();
    places.sort_by_key(|&place| history.calls[place].invoke_ns);
    let past = Past::new(history, order);
    let mut seen = Bounds::default();
    let mut returned = BinaryHeap::new();
    for place in places {
        let call = &history.calls[place];
        while let Some(&Reverse((at_ns, revision, other, is_write))) = returned.peek() {
            if at_ns >= call.invoke_ns {
                break;
            }
            returned.pop();
            seen.add(other, revision, is_write);
        }
        let made = order.made(place);
        let revision = match made {
            Some(revision) => revision,
            None => match is_observation(call) {
                true => past.place(call, &seen)?,
                false => continue,
            },
        };
        if let Some(at_ns) = call.return_ns {
            returned.push(Reverse((at_ns, revision, call.process, made.is_some())));
        }
    }
    Ok(())
}

/// Whether its answer says something about the state without changing it.
fn is_observation(call: &Call) -> bool {
    !matches!(call.outcome, Outcome::Unknown | Outcome::Refused)
}

fn is_fresh(op: &Op) -> bool {
    match op {
        Op::Get { fresh, .. } | Op::Scan { fresh, .. } => *fresh,
        _ => true,
    }
}

/// What was answered by now.
#[derive(Default)]
struct Bounds {
    anybody: u64,
    written: HashMap<u64, u64>,
    read: HashMap<u64, u64>,
}

impl Bounds {
    fn add(&mut self, process: u64, revision: u64, is_write: bool) {
        self.anybody = self.anybody.max(revision);
        let own = if is_write {
            &mut self.written
        } else {
            &mut self.read
        };
        let newest = own.entry(process).or_default();
        *newest = revision.max(*newest);
    }

    fn written(&self, process: u64) -> u64 {
        self.written.get(&process).copied().unwrap_or(0)
    }

    fn read(&self, process: u64) -> u64 {
        self.read.get(&process).copied().unwrap_or(0)
    }

    fn low(&self, call: &Call) -> u64 {
        match is_fresh(&call.op) {
            true => self.anybody,
            false => self.written(call.process).max(self.read(call.process)),
        }
    }
}

/// The state at each revision.
struct Past<'a> {
    /// All values of each key, with the revisions that gave them.
    keys: BTreeMap<&'a str, Vec<(u64, Option<i64>)>>,
    revisions: Vec<u64>,
    /// When each transaction was asked for, and the first revision asked for then or later.
    asked: Vec<(u64, u64)>,
}

impl<'a> Past<'a> {
    fn new(history: &'a History, order: &Order<'a>) -> Self {
        let mut past = Self {
            keys: BTreeMap::new(),
            revisions: Vec::new(),
            asked: Vec::new(),
        };
        for (commit, place) in &order.commits {
            let revision = commit.revision;
            for (key, value) in &commit.changes {
                past.keys.entry(key).or_default().push((revision, *value));
            }
            past.revisions.push(revision);
            past.asked.push((history.calls[*place].invoke_ns, revision));
        }
        past.asked.sort_unstable();
        let mut first = u64::MAX;
        for (_, revision) in past.asked.iter_mut().rev() {
            first = first.min(*revision);
            *revision = first;
        }
        past
    }

    /// The last revision that can be seen at a time: nothing is known before it is asked for.
    fn high(&self, at_ns: u64) -> u64 {
        let later = self
            .asked
            .partition_point(|(asked_ns, _)| *asked_ns <= at_ns);
        self.asked
            .get(later)
            .map_or(u64::MAX, |(_, first)| first - 1)
    }

    /// The earliest revision in its bounds at which an observation holds.
    fn place(&self, call: &Call, seen: &Bounds) -> Verdict<u64> {
        let low = seen.low(call);
        let high = self.high(call.return_ns.unwrap_or(u64::MAX));
        let found = match call.revision {
            Some(named) if self.holds(call, named) => {
                (low..=high).contains(&named).then_some(named)
            }
            Some(_) => None,
            None => self.earliest(call, low).filter(|found| *found <= high),
        };
        match found {
            Some(found) => Ok(found),
            None => fault(self.reason(call, seen), tell(call, low, high)),
        }
    }

    /// Why an observation has no place.
    fn reason(&self, call: &Call, seen: &Bounds) -> &'static str {
        let at = match call.revision {
            Some(named) => self.holds(call, named).then_some(named),
            // The newest at which it holds: what is missing came after that.
            None => self.latest(call),
        };
        let Some(at) = at else { return "reads" };
        if at < seen.written(call.process) {
            "read your writes"
        } else if at < seen.read(call.process) {
            "monotonic reads"
        } else if at < seen.low(call) {
            "fresh reads"
        } else {
            "reads from the future"
        }
    }

    /// The earliest revision from `low` on at which an observation holds.
    fn earliest(&self, call: &Call, low: u64) -> Option<u64> {
        let later = self.revisions.partition_point(|revision| *revision <= low);
        let candidates = std::iter::once(low).chain(self.revisions[later..].iter().copied());
        self.changing(call, candidates)
            .find(|revision| self.holds(call, *revision))
    }

    fn latest(&self, call: &Call) -> Option<u64> {
        let candidates = std::iter::once(0).chain(self.revisions.iter().copied());
        self.changing(call, candidates)
            .filter(|revision| self.holds(call, *revision))
            .last()
    }

    /// Of some revisions, the first and those at which what a call looks at changes.
    fn changing<'s>(
        &'s self,
        call: &'s Call,
        candidates: impl Iterator<Item = u64> + 's,
    ) -> impl Iterator<Item = u64> + 's {
        let mut is_first = true;
        candidates.filter(move |revision| {
            let first = std::mem::take(&mut is_first);
            first
                || match &call.op {
                    Op::Get { key, .. } | Op::Delete { key } | Op::Swap { key, .. } => {
                        self.keys.get(key.as_str()).is_some_and(|values| {
                            values.binary_search_by_key(revision, |(at, _)| *at).is_ok()
                        })
                    }
                    _ => true,
                }
        })
    }

    /// Whether an operation decided on the state at a revision gives the answer that it got.
    fn holds(&self, call: &Call, revision: u64) -> bool {
        let state = match &call.op {
            Op::Get { key, .. } | Op::Delete { key } | Op::Swap { key, .. } => {
                let value = self.value(key, revision);
                value
                    .map(|value| (key.clone(), value))
                    .into_iter()
                    .collect()
            }
            Op::Sync => return true,
            _ => self.state(revision),
        };
        let (outcome, changes) = model::decide(&state, &call.op);
        outcome == call.outcome && changes.is_empty()
    }

    fn value(&self, key: &str, revision: u64) -> Option<i64> {
        let values = self.keys.get(key)?;
        let later = values.partition_point(|(at, _)| *at <= revision);
        values[..later].last().and_then(|(_, value)| *value)
    }

    fn state(&self, revision: u64) -> State {
        let keys = self.keys.keys();
        keys.filter_map(|key| Some(((*key).to_owned(), self.value(key, revision)?)))
            .collect()
    }
}

fn tell(call: &Call, low: u64, high: u64) -> String {
    let Call {
        process,
        number,
        op,
        outcome,
        revision,
        ..
    } = call;
    let named = revision.map_or(String::new(), |named| format!(" at {named}"));
    let newest = match high {
        u64::MAX => String::from("the end"),
        high => high.to_string(),
    };
    format!(
        "call {process}:{number} {op:?} was answered {outcome:?}{named}; it may see {low} to {newest}"
    )
}

#[cfg(test)]
mod tests {
    use super::super::once;
    use super::super::samples::{self, call_of, rejected};
    use super::*;

    fn judge(history: &History) -> Verdict {
        check(history, &once::check(history)?)
    }

    /// A read at the end of the sample, by a process.
    fn read(history: &mut History, process: u64, key: &str, value: Option<i64>, fresh: bool) {
        let last = history.calls.iter().map(|call| call.invoke_ns).max();
        let invoke_ns = last.unwrap() + 100;
        history.calls.push(Call {
            process,
            number: 1000 + invoke_ns,
            op: Op::Get {
                key: key.into(),
                fresh,
            },
            invoke_ns,
            return_ns: Some(invoke_ns + 5),
            outcome: Outcome::Value(value),
            revision: None,
        });
    }

    #[test]
    fn stale_read_is_accepted_of_who_may_be_behind() {
        let mut history = samples::good();
        read(&mut history, 9, "a", Some(10), false);
        read(&mut history, 9, "a", Some(11), false);
        read(&mut history, 9, "a", Some(12), true);
        judge(&history).unwrap();
    }

    #[test]
    fn read_before_an_own_write_is_rejected() {
        let spoil = |it: &mut History| read(it, 1, "b", Some(20), false);
        rejected("read your writes", spoil, judge);
    }

    #[test]
    fn read_that_goes_back_is_rejected() {
        let spoil = |it: &mut History| {
            read(it, 9, "a", Some(11), false);
            read(it, 9, "a", Some(10), false);
        };
        rejected("monotonic reads", spoil, judge);
        // Of two keys: the second read knows less than the first.
        let spoil = |it: &mut History| {
            read(it, 9, "b", Some(21), false);
            read(it, 9, "n", None, false);
        };
        rejected("monotonic reads", spoil, judge);
    }

    #[test]
    fn fresh_read_of_an_old_value_is_rejected() {
        let spoil = |it: &mut History| read(it, 9, "a", Some(11), true);
        rejected("fresh reads", spoil, judge);
    }

    #[test]
    fn old_value_after_a_barrier_is_rejected() {
        let spoil = |it: &mut History| {
            let sync = call_of(it, |op| *op == Op::Sync);
            it.calls[sync].process = 9;
            it.calls[sync].number = 1;
            read(it, 9, "a", Some(11), false);
        };
        rejected("monotonic reads", spoil, judge);
        let spoil = |it: &mut History| {
            let sync = call_of(it, |op| *op == Op::Sync);
            it.calls[sync].revision = Some(6);
        };
        rejected("read your writes", spoil, judge);
    }

    #[test]
    fn value_that_was_never_there_or_not_yet_is_rejected() {
        let spoil = |it: &mut History| read(it, 9, "a", Some(77), false);
        rejected("reads: ", spoil, judge);
        let spoil = |it: &mut History| {
            read(it, 9, "a", Some(12), false);
            let read = it.calls.last_mut().unwrap();
            (read.invoke_ns, read.return_ns) = (101, Some(102));
        };
        rejected("reads from the future", spoil, judge);
    }

    #[test]
    fn scan_of_two_moments_is_rejected() {
        let spoil = |it: &mut History| {
            let scan = call_of(it, |op| matches!(op, Op::Scan { .. }));
            let mixed = State::from([("a".into(), 12), ("b".into(), 21), ("n".into(), 1)]);
            it.calls[scan].outcome = Outcome::Entries(mixed);
        };
        rejected("reads: ", spoil, judge);
    }

    #[test]
    fn swap_refused_though_the_value_was_there_is_rejected() {
        let spoil = |it: &mut History| {
            let failed = |call: &&mut Call| call.outcome == Outcome::Swapped(false);
            let swap = it.calls.iter_mut().find(failed).unwrap();
            swap.op = Op::Swap {
                key: "b".into(),
                expected: Some(21),
                new: Some(22),
            };
        };
        rejected("reads: ", spoil, judge);
    }
}
