//! What an operation does to a state, as the dictionary promises it.

use super::history::{Changes, Op, Outcome, Range, State};

/// The answer to an operation that is decided on a state, and what it changes.
///
/// Reads are answered too; [`Op::Sync`] is [`Outcome::Done`]. A transaction whose reads do not hold
/// any more is [`Outcome::Refused`].
#[must_use]
pub fn decide(state: &State, op: &Op) -> (Outcome, Changes) {
    let one = |key: &String, value| Changes::from([(key.clone(), value)]);
    let there = |key: &String| state.get(key).copied();
    match op {
        Op::Get { key, .. } => (Outcome::Value(there(key)), Changes::new()),
        Op::Scan { range, .. } => (Outcome::Entries(entries(state, range)), Changes::new()),
        Op::Put { key, value } => (Outcome::Done, one(key, Some(*value))),
        Op::Delete { key } if there(key).is_some() => (Outcome::Deleted(true), one(key, None)),
        Op::Delete { .. } => (Outcome::Deleted(false), Changes::new()),
        Op::Add { key, by } => {
            let number = there(key).unwrap_or(0) + by;
            (Outcome::Number(number), one(key, Some(number)))
        }
        Op::Swap { key, expected, new } if there(key) == *expected => {
            (Outcome::Swapped(true), real(state, &one(key, *new)))
        }
        Op::Swap { .. } => (Outcome::Swapped(false), Changes::new()),
        Op::Transact {
            reads,
            ranges,
            writes,
        } => {
            let same = reads.iter().all(|(key, value)| there(key) == *value);
            let whole = |(range, read): &(Range, State)| entries(state, range) == *read;
            if same && ranges.iter().all(whole) {
                (Outcome::Done, real(state, writes))
            } else {
                (Outcome::Refused, Changes::new())
            }
        }
        Op::Sync => (Outcome::Done, Changes::new()),
    }
}

/// What a state holds in a range.
#[must_use]
pub fn entries(state: &State, range: &Range) -> State {
    let inside = state.iter().filter(|(key, _)| range.contains(key));
    inside.map(|(key, value)| (key.clone(), *value)).collect()
}

/// Changes without the removal of what is not there.
#[must_use]
pub fn real(state: &State, changes: &Changes) -> Changes {
    let mut real = changes.clone();
    real.retain(|key, value| value.is_some() || state.contains_key(key));
    real
}

/// Makes changes.
pub fn apply(state: &mut State, changes: &Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => _ = state.insert(key.clone(), *value),
            None => _ = state.remove(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::from([("a".into(), 1), ("b".into(), 2)])
    }

    #[test]
    fn transaction_sees_a_key_that_came_into_a_range_it_read() {
        let range = Range {
            start: Some("a".into()),
            end: None,
        };
        let op = |read: State| Op::Transact {
            reads: Changes::new(),
            ranges: vec![(range.clone(), read)],
            writes: Changes::from([("c".into(), Some(3))]),
        };
        assert_eq!(decide(&state(), &op(state())).0, Outcome::Done);
        let less = State::from([("a".into(), 1)]);
        assert_eq!(decide(&state(), &op(less)).0, Outcome::Refused);
    }

    #[test]
    fn each_operation_answers_as_the_dictionary_promises() {
        let key = || String::from("a");
        let swap = |expected, new| Op::Swap {
            key: key(),
            expected,
            new,
        };
        let given = [
            (Op::Delete { key: "x".into() }, Outcome::Deleted(false), 0),
            (Op::Delete { key: key() }, Outcome::Deleted(true), 1),
            (Op::Add { key: key(), by: 4 }, Outcome::Number(5), 1),
            (swap(Some(1), None), Outcome::Swapped(true), 1),
            (swap(None, Some(3)), Outcome::Swapped(false), 0),
        ];
        for (op, outcome, count) in given {
            let (found, changes) = decide(&state(), &op);
            assert_eq!((found, changes.len()), (outcome, count), "{op:?}");
        }
    }
}
