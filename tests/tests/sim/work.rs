//! What clients ask for. A new kind of operation is added here and nowhere else: how it is drawn,
//! how it is asked for in each world, and what must come of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use objsync::{Ack, Attempts, Dict, ErrorKind, Pending};
use objsync_proto::effect::Change;
use objsync_proto::ids::Revision;
use objsync_proto::operation::{Edit, Operation, Outcome, Patch};
use objsync_proto::stored::{self, Compression};
use objsync_proto::value::{self, Value};

use crate::harness::key_of;
use crate::harness::random::Random;

/// What a dictionary holds: numbers only.
pub type State = BTreeMap<Bytes, i64>;
/// What a transaction does to it.
pub type Changes = Vec<(Bytes, Option<i64>)>;

/// One thing to ask for. Each value that it writes is the number of the call, so that no two calls
/// write the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    Set(Bytes),
    Delete(Bytes),
    /// From a guess; none for "no such key".
    Swap(Bytes, Option<i64>),
    /// By the number of the call.
    Increment(Bytes),
    /// Too large a step, which is refused wherever the counter is not below zero.
    Overflow(Bytes),
    /// Sets the one, removes the other.
    Batch(Bytes, Bytes),
    /// In a transaction: moves the one to the other if it is there, else sets it. One that is
    /// overtaken by others changes nothing.
    Move(Bytes, Bytes),
    /// Sets a value that holds much else beside the number.
    Record(Bytes),
    /// Changes the number in such a value, and nothing else of it.
    Patch(Bytes),
    /// Sets the key that marks the end of a run.
    Mark,
}

/// What a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Done,
    Flag(bool),
    Number(i64),
    Refused(ErrorKind),
}

/// An answer as a client heard it, with its revision where it tells one; or why there was none.
pub type Heard = Result<(Seen, Option<Revision>), ErrorKind>;

/// The key that marks the end of a run.
pub fn mark() -> Bytes {
    key_of("a mark")
}

/// Keys of two families, so that a watch can follow the one.
pub fn any_key(random: &mut Random) -> Bytes {
    let family = if random.chance(2) { 'a' } else { 'b' };
    key_of(&format!("{family}{}", random.below(5)))
}

impl Work {
    /// Draws one; `known` are values that the client has seen.
    pub fn draw(random: &mut Random, known: &State) -> Self {
        let key = any_key(random);
        let record = key_of(&format!("record{}", random.below(2)));
        match random.below(25) {
            20 => Self::Record(record),
            21.. => Self::Patch(record),
            0..6 => Self::Set(key),
            6..9 => Self::Delete(key),
            9..13 => {
                let guess = match random.below(3) {
                    0 => None,
                    1 => Some(random.below(50) as i64),
                    _ => known.get(&key).copied(),
                };
                Self::Swap(key, guess)
            }
            13..16 => Self::Increment(key_of(&format!("count{}", random.below(2)))),
            16 => Self::Overflow(key_of("count0")),
            _ => Self::Batch(key, any_key(random)),
        }
    }

    /// Draws a transaction, which a program has to run to its end by itself.
    pub fn draw_move(random: &mut Random) -> Self {
        let (one, other) = (random.below(5), random.below(5));
        Self::Move(key_of(&format!("a{one}")), key_of(&format!("b{other}")))
    }

    /// As the owner is asked in plain messages.
    pub fn operation(&self, number: i64) -> Operation {
        match self.clone() {
            Self::Set(key) => Operation::Put {
                key,
                value: sealed(number),
            },
            Self::Mark => Self::Set(mark()).operation(number),
            Self::Record(key) => Operation::Put {
                key,
                value: stored::seal(&record(number), Compression::None).unwrap(),
            },
            Self::Patch(key) => Operation::Patch {
                key,
                patch: patch(number),
            },
            Self::Delete(key) => Operation::Delete { key },
            Self::Swap(key, guess) => Operation::CompareAndSet {
                key,
                expected: guess.map(payload),
                new: Some(sealed(number)),
            },
            Self::Increment(key) => Operation::Increment { key, by: number },
            Self::Overflow(key) => Operation::Increment { key, by: i64::MAX },
            Self::Batch(set, removed) => Operation::Batch {
                changes: batch(set, removed, sealed(number)),
            },
            Self::Move(..) => unreachable!("a transaction needs a handle that reads for it"),
        }
    }

    /// As a program asks. What a swap or a counter tells has no revision.
    pub fn begin(&self, number: i64, dict: &Dict) -> Pending<(Seen, Option<Revision>)> {
        let done = |ack: Ack| (Seen::Done, Some(ack.revision));
        match self.clone() {
            Self::Set(key) => dict.set(&key, payload(number)).map(done),
            Self::Mark => dict.set(&mark(), payload(number)).map(done),
            Self::Record(key) => dict.set(&key, record(number)).map(done),
            Self::Patch(key) => {
                let patched = dict.patch(&key, patch(number));
                patched.map(|(number, ack)| (Seen::Number(number), Some(ack.revision)))
            }
            Self::Delete(key) => {
                let told =
                    |(was_there, ack): (bool, Ack)| (Seen::Flag(was_there), Some(ack.revision));
                dict.delete(&key).map(told)
            }
            Self::Swap(key, guess) => {
                let swap = dict.compare_and_set(&key, guess.map(payload), Some(payload(number)));
                swap.map(|done| (Seen::Flag(done), None))
            }
            Self::Increment(key) => dict.incr(&key, number).map(|now| (Seen::Number(now), None)),
            Self::Overflow(key) => dict
                .incr(&key, i64::MAX)
                .map(|now| (Seen::Number(now), None)),
            Self::Batch(set, removed) => dict.batch(batch(set, removed, payload(number))).map(done),
            Self::Move(..) => unreachable!("a transaction is several calls"),
        }
    }

    /// As a program asks that makes one call at a time: the last answer is this call's.
    pub async fn call(&self, number: i64, dict: &Dict) -> Heard {
        let told = match self {
            Self::Move(from, to) => told(move_once(dict, from, to, number).await),
            _ => told(self.begin(number, dict).await),
        };
        told.map(|(seen, revision)| match seen {
            Seen::Refused(_) => (seen, None),
            // It was overtaken: it has no place in the order.
            Seen::Flag(false) if matches!(self, Self::Move(..)) => (seen, None),
            _ => (seen, revision.or(dict.last_ack().map(|ack| ack.revision))),
        })
    }

    /// What must come of it where the dictionary is `state`, by rules of its own.
    pub fn apply(&self, number: i64, state: &State) -> (Seen, Changes) {
        let removal = |key: &Bytes| state.contains_key(key).then(|| (key.clone(), None));
        match self {
            Self::Set(key) => (Seen::Done, vec![(key.clone(), Some(number))]),
            Self::Mark => (Seen::Done, vec![(mark(), Some(number))]),
            Self::Record(key) => (Seen::Done, vec![(key.clone(), Some(number))]),
            Self::Patch(key) if state.contains_key(key) => {
                (Seen::Number(0), vec![(key.clone(), Some(number))])
            }
            Self::Patch(_) => (Seen::Refused(ErrorKind::NotFound), Vec::new()),
            Self::Delete(key) => (
                Seen::Flag(state.contains_key(key)),
                removal(key).into_iter().collect(),
            ),
            Self::Swap(key, guess) if state.get(key) == guess.as_ref() => {
                (Seen::Flag(true), vec![(key.clone(), Some(number))])
            }
            Self::Swap(..) => (Seen::Flag(false), Vec::new()),
            Self::Move(from, to) if state.contains_key(from) => {
                let changes = vec![(to.clone(), Some(number)), (from.clone(), None)];
                (Seen::Flag(true), changes)
            }
            Self::Move(from, _) => (Seen::Flag(true), vec![(from.clone(), Some(number))]),
            Self::Increment(key) => increment(key, number, state),
            Self::Overflow(key) => increment(key, i64::MAX, state),
            Self::Batch(set, removed) if set == removed => {
                // The later change of a key is the one that counts.
                (Seen::Done, removal(set).into_iter().collect())
            }
            Self::Batch(set, removed) => {
                let mut changes = vec![(set.clone(), Some(number))];
                changes.extend(removal(removed));
                (Seen::Done, changes)
            }
        }
    }
}

/// One attempt: what it reads decides what it writes.
async fn move_once(
    dict: &Dict,
    from: &Bytes,
    to: &Bytes,
    number: i64,
) -> objsync::Result<(Seen, Option<Revision>)> {
    let attempts = Attempts::new(dict);
    let transaction = attempts.begin().await?;
    let is_there = transaction.get(from).await?.is_some();
    transaction.get(to).await?;
    match is_there {
        true => {
            transaction.set(to, payload(number))?;
            transaction.delete(from)?;
        }
        false => transaction.set(from, payload(number))?,
    }
    Ok((Seen::Flag(attempts.commit(&transaction).await?), None))
}

fn increment(key: &Bytes, by: i64, state: &State) -> (Seen, Changes) {
    match state.get(key).unwrap_or(&0).checked_add(by) {
        Some(now) => (Seen::Number(now), vec![(key.clone(), Some(now))]),
        None => (Seen::Refused(ErrorKind::Invalid), Vec::new()),
    }
}

/// What plain messages tell, as a program would hear it.
pub fn seen(outcome: &Outcome) -> Seen {
    match outcome {
        Outcome::Done => Seen::Done,
        Outcome::Deleted(count) => Seen::Flag(*count > 0),
        Outcome::Swapped(done) => Seen::Flag(*done),
        Outcome::Number(number) => Seen::Number(*number),
        other => panic!("nothing that was asked for comes to {other:?}"),
    }
}

/// What a caller was told: a refusal is an answer too, without a revision.
pub fn told(result: objsync::Result<(Seen, Option<Revision>)>) -> Heard {
    result.or_else(|error| match error.kind() {
        kind @ (ErrorKind::Invalid | ErrorKind::NotFound) => Ok((Seen::Refused(kind), None)),
        kind => Err(kind),
    })
}

fn batch(set: Bytes, removed: Bytes, value: Bytes) -> Vec<Change> {
    let set = Change {
        key: set,
        value: Some(value),
    };
    let removed = Change {
        key: removed,
        value: None,
    };
    vec![set, removed]
}

pub fn payload(number: i64) -> Bytes {
    value::int_payload(number).to_vec().into()
}

/// A value with so much beside the number that a change of that alone is told as such.
fn record(number: i64) -> Bytes {
    let bulk = "what is never sent again ".repeat(8);
    let fields = vec![
        (Value::from("number"), Value::from(number)),
        (Value::from("bulk"), Value::from(bulk.as_str())),
    ];
    value::encode(&Value::Dict(fields)).unwrap()
}

fn patch(number: i64) -> Patch {
    Patch::from(Edit::SetField {
        field: value::to_payload("number").unwrap(),
        value: payload(number),
    })
}

fn sealed(number: i64) -> Bytes {
    stored::seal(&value::int_payload(number), Compression::None).unwrap()
}

/// The number in a stored value.
pub fn number_in(stored: &Bytes) -> i64 {
    number_of(&stored::open(stored).unwrap())
}

/// The number in a payload: all of it, or beside the bulk that belongs there.
pub fn number_of(payload: &Bytes) -> i64 {
    let Value::Dict(fields) = value::decode(payload).unwrap() else {
        return value::from_payload(payload).unwrap();
    };
    let [(_, number), _] = &fields[..] else {
        panic!("{fields:?}");
    };
    let number: i64 = value::from_payload(&value::encode(number).unwrap()).unwrap();
    assert_eq!(*payload, record(number), "the rest of it is as it was put");
    number
}
