//! What a history is, and its form as lines that a process can write while it may be killed.
//!
//! A process writes [`Record::Invoked`] before it asks and [`Record::Returned`] after it was
//! answered. What it asked and was not answered stays open: it may have been done or not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What keys hold. Keys are texts, values numbers; where a value is free, each call puts another.
pub type State = BTreeMap<String, i64>;
/// What a transaction did: a value for each key that it changed, none for "removed".
pub type Changes = BTreeMap<String, Option<i64>>;

/// Keys from `start` on, up to but without `end`; none for no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first key.
    pub start: Option<String>,
    /// The first key after the range.
    pub end: Option<String>,
}

impl Range {
    /// Whether a key is in it.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        let after = self.start.as_deref().is_none_or(|start| start <= key);
        after && self.end.as_deref().is_none_or(|end| key < end)
    }
}

/// What a process asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Read a key; `fresh` for a read that must be linearizable.
    Get {
        /// The key.
        key: String,
        /// Whether everything that was answered to anybody before must be seen.
        fresh: bool,
    },
    /// Read all keys of a range as of one revision.
    Scan {
        /// Which keys.
        range: Range,
        /// As of [`Op::Get`].
        fresh: bool,
    },
    /// Put a value.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: i64,
    },
    /// Remove a key.
    Delete {
        /// The key.
        key: String,
    },
    /// Add to a number, a missing one counting as 0.
    Add {
        /// The key.
        key: String,
        /// What to add; not 0.
        by: i64,
    },
    /// Put `new`, or remove, if the value is `expected`.
    Swap {
        /// The key.
        key: String,
        /// What must be there; none for nothing.
        expected: Option<i64>,
        /// What is to be there.
        new: Option<i64>,
    },
    /// Make changes if everything that was read still is as it was. Each try is a call of its own.
    Transact {
        /// What was read.
        reads: Changes,
        /// Ranges that were read, and all that was there.
        ranges: Vec<(Range, State)>,
        /// What to change.
        writes: Changes,
    },
    /// Wait for everything that was committed before.
    Sync,
}

/// What a process was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The value of a key.
    Value(Option<i64>),
    /// The entries of a range.
    Entries(State),
    /// It was done.
    Done,
    /// Whether there was something to remove.
    Deleted(bool),
    /// Whether the expected value was there.
    Swapped(bool),
    /// The number after the addition.
    Number(i64),
    /// It was certainly not done: a conflict, a refusal, or never sent.
    Refused,
    /// Nobody can tell whether it was done.
    Unknown,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Who asked: one handle. Its calls are started in the order of their numbers.
    pub process: u64,
    /// Which of its calls.
    pub number: u64,
    /// What it asked for.
    pub op: Op,
    /// When it asked, by a clock that all processes share.
    pub invoke_ns: u64,
    /// When it was answered; none if it never was.
    pub return_ns: Option<u64>,
    /// What it was answered; [`Outcome::Unknown`] if it never was.
    pub outcome: Outcome,
    /// The revision that the answer named, of the transaction or of the state that was read.
    pub revision: Option<u64>,
}

/// One transaction that changed something, as the store tells it afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Its place in the order.
    pub revision: u64,
    /// What it changed.
    pub changes: Changes,
    /// The process and the number of the call that made it, where that is known.
    pub call: Option<(u64, u64)>,
}

/// What a watch tells its reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// A key changed.
    Event {
        /// The transaction.
        revision: u64,
        /// The key.
        key: String,
        /// Its value; none for "removed".
        value: Option<i64>,
    },
    /// Everything up to here was told: the watch says so, or whoever records knows that it must be.
    Bookmark {
        /// The revision.
        revision: u64,
    },
    /// Changes after one revision up to another, included, are not told, and this is said.
    Gap {
        /// Everything up to here was told.
        after: u64,
        /// From the next one on everything is told.
        until: u64,
    },
    /// The reader ended the watch and began another one after this revision.
    Resumed {
        /// The revision.
        since: u64,
    },
    /// The end: the reader waited until nothing happened any more, and all of the history must have
    /// been told.
    Settled,
}

/// What one watch told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its number, unique in the history.
    pub stream: u64,
    /// The keys it was asked for.
    pub range: Range,
    /// After which revision it was asked to begin.
    pub since: u64,
    /// What came, in order.
    pub seen: Vec<Seen>,
}

/// What a replica held when nothing happened any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Whose it is.
    pub name: String,
    /// All of it.
    pub content: State,
}

/// The time in which a process held a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The lock.
    pub lock: String,
    /// Who held it.
    pub process: u64,
    /// The number that came with it.
    pub fence: u64,
    /// When the process was told that it has it.
    pub from_ns: u64,
    /// When it gave it back, or knew that it may have lost it; none for "to the end".
    pub until_ns: Option<u64>,
}

/// A write that demanded that a fence is still the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fenced {
    /// The lock.
    pub lock: String,
    /// The fence that the writer had.
    pub fence: u64,
    /// The transaction; none if it was refused.
    pub revision: Option<u64>,
}

/// One line of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A call begins.
    Invoked {
        /// As of [`Call`].
        process: u64,
        /// As of [`Call`].
        number: u64,
        /// As of [`Call`].
        op: Op,
        /// As of [`Call::invoke_ns`].
        at_ns: u64,
    },
    /// A call is answered.
    Returned {
        /// As of [`Call`].
        process: u64,
        /// As of [`Call`].
        number: u64,
        /// As of [`Call`].
        outcome: Outcome,
        /// As of [`Call`].
        revision: Option<u64>,
        /// As of [`Call::return_ns`].
        at_ns: u64,
    },
    /// A transaction.
    Commit(Commit),
    /// A watch begins.
    Watching {
        /// As of [`Stream`].
        stream: u64,
        /// As of [`Stream`].
        range: Range,
        /// As of [`Stream`].
        since: u64,
    },
    /// A watch tells something.
    Seen {
        /// As of [`Stream`].
        stream: u64,
        /// What.
        seen: Seen,
    },
    /// A replica at the end.
    Replica(Replica),
    /// A lock was held.
    Hold(Hold),
    /// A fence was demanded.
    Fenced(Fenced),
}

/// Everything that was recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Calls, each process's in the order in which it started them.
    pub calls: Vec<Call>,
    /// Transactions by revision.
    pub commits: Vec<Commit>,
    /// Watches.
    pub streams: Vec<Stream>,
    /// Replicas when nothing happened any more.
    pub replicas: Vec<Replica>,
    /// Locks.
    pub holds: Vec<Hold>,
    /// Writes with fences.
    pub fenced: Vec<Fenced>,
}

impl Record {
    /// The record as one line of JSON, without its end.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("a record holds numbers, texts and lists only")
    }
}

impl History {
    /// Reads lines of JSON. A last line that was cut short, by a kill, was not written.
    ///
    /// # Errors
    /// When a line is no record, or a record belongs to none before it.
    pub fn read(lines: &str) -> Result<Self, String> {
        let mut history = Self::default();
        for line in lines.split_inclusive('\n') {
            let Some(line) = line.strip_suffix('\n') else {
                break;
            };
            let record = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
            history.add(record)?;
        }
        Ok(history)
    }

    /// What would have been recorded, call by call: as lines, a history can be kept and read again.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut lines = String::new();
        for record in self.records() {
            lines.push_str(&record.line());
            lines.push('\n');
        }
        lines
    }

    fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for call in &self.calls {
            records.push(Record::Invoked {
                process: call.process,
                number: call.number,
                op: call.op.clone(),
                at_ns: call.invoke_ns,
            });
            records.extend(call.return_ns.map(|at_ns| Record::Returned {
                process: call.process,
                number: call.number,
                outcome: call.outcome.clone(),
                revision: call.revision,
                at_ns,
            }));
        }
        records.extend(self.commits.iter().cloned().map(Record::Commit));
        for stream in &self.streams {
            records.push(Record::Watching {
                stream: stream.stream,
                range: stream.range.clone(),
                since: stream.since,
            });
            records.extend(stream.seen.iter().map(|seen| Record::Seen {
                stream: stream.stream,
                seen: seen.clone(),
            }));
        }
        records.extend(self.replicas.iter().cloned().map(Record::Replica));
        records.extend(self.holds.iter().cloned().map(Record::Hold));
        records.extend(self.fenced.iter().cloned().map(Record::Fenced));
        records
    }

    /// Adds one record.
    ///
    /// # Errors
    /// When it answers a call, or is told by a watch, that was not begun.
    pub fn add(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Invoked {
                process,
                number,
                op,
                at_ns,
            } => self.calls.push(Call {
                process,
                number,
                op,
                invoke_ns: at_ns,
                return_ns: None,
                outcome: Outcome::Unknown,
                revision: None,
            }),
            Record::Returned {
                process,
                number,
                outcome,
                revision,
                at_ns,
            } => {
                let mut calls = self.calls.iter_mut().rev();
                let call = calls
                    .find(|call| (call.process, call.number) == (process, number))
                    .ok_or_else(|| format!("{process}:{number} is answered and was not asked"))?;
                call.return_ns = Some(at_ns);
                call.outcome = outcome;
                call.revision = revision;
            }
            Record::Commit(commit) => self.commits.push(commit),
            Record::Watching {
                stream,
                range,
                since,
            } => self.streams.push(Stream {
                stream,
                range,
                since,
                seen: Vec::new(),
            }),
            Record::Seen { stream, seen } => {
                let mut streams = self.streams.iter_mut();
                let found = streams
                    .find(|known| known.stream == stream)
                    .ok_or_else(|| format!("watch {stream} tells and was not begun"))?;
                found.seen.push(seen);
            }
            Record::Replica(replica) => self.replicas.push(replica),
            Record::Hold(hold) => self.holds.push(hold),
            Record::Fenced(fenced) => self.fenced.push(fenced),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn history_is_read_back_and_a_line_that_was_cut_short_is_left_out() {
        let history = samples::good();
        let mut lines = history.lines();
        assert_eq!(History::read(&lines).unwrap(), history);
        lines.push_str("{\"returned\":{\"proc");
        assert_eq!(History::read(&lines).unwrap(), history);
        lines.push('\n');
        assert!(History::read(&lines).is_err());
    }

    #[test]
    fn answer_that_nobody_asked_for_is_no_history() {
        let answer = Record::Returned {
            process: 1,
            number: 1,
            outcome: Outcome::Done,
            revision: None,
            at_ns: 1,
        };
        assert!(History::default().add(answer).is_err());
    }
}
