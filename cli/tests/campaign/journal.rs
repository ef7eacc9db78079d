//! What a client writes down: each operation before it is started, and its answer after it came.
//!
//! A client works on keys of its own and on two that all share, and puts the number of the
//! operation where a value is free: whoever reads a value knows which operation wrote it.

use std::str::FromStr;

use objsync::{Bytes, key, value};
use objsync_tests::checkers::Record;

/// The counter that everybody adds to.
pub(crate) const SHARED: &str = "shared";
/// The number that everybody tries to raise by compare-and-set.
pub(crate) const CHAIN: &str = "chain";
/// The key that is written when a round is over, behind everything else.
pub(crate) const END: &str = "end";
/// How many keys a transaction of several writes.
pub(crate) const BATCH_COUNT: u64 = 4;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Puts under one of the client's keys.
    Put,
    /// Puts the same number under several keys in one transaction.
    Batch,
    /// Removes one of the keys that `Put` writes.
    Delete,
    /// Adds one to the client's own counter.
    Own,
    /// Adds one to everybody's counter.
    Shared,
    /// Replaces the client's own number, which it knows.
    Swap,
    /// Tries to raise everybody's number by one.
    Chain,
    /// Puts a large value.
    Blob,
}

impl Kind {
    pub(crate) const SMALL: [Self; 7] = [
        Self::Put,
        Self::Batch,
        Self::Delete,
        Self::Own,
        Self::Shared,
        Self::Swap,
        Self::Chain,
    ];
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = Self::SMALL.into_iter().chain([Self::Blob]);
        let mut named = all.filter(|kind| format!("{kind:?}") == text);
        named.next().ok_or_else(|| format!("{text} is no kind"))
    }
}

/// One operation of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) kind: Kind,
    /// Which of the client's keys of that kind.
    pub(crate) slot: u64,
    /// The operation's number, which only grows.
    pub(crate) number: i64,
}

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// An operation is about to be started.
    Started(Op),
    /// The oldest unanswered one was answered: with this revision (0 where the call does not tell
    /// it) and this result.
    Answered { revision: u64, result: i64 },
    /// What the client is to its store now.
    Role(String),
    /// It has its objects.
    Ready,
    /// All that it started is answered, and it starts no more.
    Stopped,
    /// What one of its handles holds.
    Replica { hash: u64 },
    /// Something for the checkers.
    Record(Box<Record>),
    /// Something that must not be.
    Wrong(String),
    /// The process is gone.
    Gone,
}

impl Event {
    /// The event as a line.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Started(op) => format!("s {:?} {} {}", op.kind, op.slot, op.number),
            Self::Answered { revision, result } => format!("a {revision} {result}"),
            Self::Role(role) => format!("role {role}"),
            Self::Ready => String::from("ready"),
            Self::Stopped => String::from("stopped"),
            Self::Replica { hash } => format!("replica {hash}"),
            Self::Record(record) => format!("h {}", record.line()),
            Self::Wrong(what) => format!("wrong {}", what.replace('\n', " ")),
            Self::Gone => String::from("gone"),
        }
    }

    /// Reads a line.
    pub(crate) fn read(line: &str) -> Self {
        if let Some(record) = line.strip_prefix("h ") {
            return match serde_json::from_str(record) {
                Ok(record) => Self::Record(record),
                Err(error) => Self::Wrong(format!("{record}: {error}")),
            };
        }
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["s", kind, slot, number] => Self::Started(Op {
                kind: kind.parse().unwrap(),
                slot: slot.parse().unwrap(),
                number: number.parse().unwrap(),
            }),
            ["a", revision, result] => Self::Answered {
                revision: revision.parse().unwrap(),
                result: result.parse().unwrap(),
            },
            ["role", role] => Self::Role(role.to_owned()),
            ["ready"] => Self::Ready,
            ["stopped"] => Self::Stopped,
            ["replica", hash] => Self::Replica {
                hash: hash.parse().unwrap(),
            },
            ["gone"] => Self::Gone,
            _ => Self::Wrong(line.to_owned()),
        }
    }
}

/// The name of one of a client's keys.
pub(crate) fn name(client: u64, kind: Kind, slot: u64) -> String {
    match kind {
        Kind::Put | Kind::Delete => format!("{client:05}/put/{slot}"),
        Kind::Batch => format!("{client:05}/batch/{slot}"),
        Kind::Own => format!("{client:05}/own"),
        Kind::Swap => format!("{client:05}/swap"),
        Kind::Blob => format!("{client:05}/blob/{slot}"),
        Kind::Shared => SHARED.to_owned(),
        Kind::Chain => CHAIN.to_owned(),
    }
}

/// An encoded text key.
pub(crate) fn encoded(name: &str) -> Bytes {
    key::encode(&name.into()).unwrap().into_bytes()
}

/// The payload of a number.
pub(crate) fn payload(number: i64) -> Bytes {
    value::to_payload(&number).unwrap()
}

/// The payload of a large value: its number, then 64 to 512 KiB that follow from it.
pub(crate) fn blob(number: i64) -> Bytes {
    let length = (64 << 10) + number.unsigned_abs() * 7919 % (448 << 10);
    let text = format!("{number:016} ").repeat(usize::try_from(length / 17).unwrap());
    value::to_payload(&(number, text)).unwrap()
}

/// The number in a value, which must be whole.
pub(crate) fn number_in(name: &str, payload: &Bytes) -> i64 {
    if !name.contains("/blob/") {
        return value::from_payload(payload).unwrap();
    }
    let (number, _) = value::from_payload::<(i64, String)>(payload).unwrap();
    assert!(*payload == blob(number), "{name} holds a part of a write");
    number
}
