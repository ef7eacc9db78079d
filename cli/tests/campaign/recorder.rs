//! What a client records for the checkers: each call before it is asked and after it is answered.

use std::collections::BTreeMap;

use objsync::{Bytes, Dict, KeyRange, Result};
use objsync_tests::checkers::{Op as Asked, Outcome, Range, Record, Seen};
use objsync_tests::clock::now_ns;

use crate::client::say;
use crate::journal::{BATCH_COUNT, Event, Kind, Op, name, number_in};

/// The calls of one handle.
pub(crate) struct Recorder {
    process: u64,
    number: u64,
}

impl Recorder {
    /// Of one of a client's handles.
    pub(crate) fn new(client: u64, handle: usize) -> Self {
        Self {
            process: client * 10 + handle as u64,
            number: 0,
        }
    }

    /// A call is about to be made; tells its number.
    pub(crate) fn invoked(&mut self, op: Asked) -> u64 {
        self.number += 1;
        record(Record::Invoked {
            process: self.process,
            number: self.number,
            op,
            at_ns: now_ns(),
        });
        self.number
    }

    /// A call was answered.
    pub(crate) fn returned(&self, number: u64, outcome: Outcome, revision: Option<u64>) {
        record(Record::Returned {
            process: self.process,
            number,
            outcome,
            revision,
            at_ns: now_ns(),
        });
    }

    /// Reads a key.
    pub(crate) fn get(&mut self, dict: &Dict, name: &str, key: &Bytes) -> Result<Option<Bytes>> {
        let asked = Asked::Get {
            key: name.to_owned(),
            fresh: false,
        };
        let number = self.invoked(asked);
        let found = dict.get(key)?;
        let value = found.as_ref().map(|payload| number_in(name, payload));
        self.returned(number, Outcome::Value(value), None);
        Ok(found)
    }

    /// Waits for everything that was committed before.
    pub(crate) fn sync(&mut self, dict: &Dict) -> Result<()> {
        let number = self.invoked(Asked::Sync);
        let position = dict.sync().wait()?;
        self.returned(number, Outcome::Done, Some(position.revision.0));
        Ok(())
    }

    /// Reads everything as of one revision.
    pub(crate) fn scan(&mut self, dict: &Dict) -> Result<BTreeMap<String, i64>> {
        let asked = Asked::Scan {
            range: Range::default(),
            fresh: false,
        };
        let number = self.invoked(asked);
        let (content, _) = crate::client::content(dict)?;
        self.returned(number, Outcome::Entries(content.clone()), None);
        Ok(content)
    }
}

/// What a write asks for. Who compares knows what it expects.
pub(crate) fn asked(client: u64, op: Op, expected: Option<i64>) -> Asked {
    let key = name(client, op.kind, op.slot);
    match op.kind {
        Kind::Put | Kind::Blob => Asked::Put {
            key,
            value: op.number,
        },
        Kind::Batch => Asked::Transact {
            reads: BTreeMap::new(),
            ranges: Vec::new(),
            writes: (0..BATCH_COUNT)
                .map(|slot| (name(client, op.kind, slot), Some(op.number)))
                .collect(),
        },
        Kind::Delete => Asked::Delete { key },
        Kind::Own | Kind::Shared => Asked::Add { key, by: 1 },
        Kind::Swap => Asked::Swap {
            key,
            expected,
            new: Some(op.number),
        },
        Kind::Chain => Asked::Swap {
            key,
            expected,
            new: Some(expected.unwrap_or(0) + 1),
        },
    }
}

/// What its answer says.
pub(crate) fn outcome(kind: Kind, result: i64) -> Outcome {
    match kind {
        Kind::Put | Kind::Blob | Kind::Batch => Outcome::Done,
        Kind::Delete => Outcome::Deleted(result == 1),
        Kind::Own | Kind::Shared => Outcome::Number(result),
        Kind::Swap | Kind::Chain => Outcome::Swapped(result == 1),
    }
}

/// Records all changes from here on, in a thread of its own.
pub(crate) fn watch(dict: &Dict, stream: u64) -> Result<()> {
    let since = dict.sync().wait()?.revision;
    let watch = dict.watch(KeyRange::default(), Some(since))?;
    record(Record::Watching {
        stream,
        range: Range::default(),
        since: since.0,
    });
    std::thread::spawn(move || {
        loop {
            match watch.recv() {
                Ok(Some(event)) => record(Record::Seen {
                    stream,
                    seen: seen(&event),
                }),
                Ok(None) => return,
                Err(error) => return say(&Event::Wrong(format!("a watch: {error}"))),
            }
        }
    });
    Ok(())
}

/// What a watch told.
pub(crate) fn seen(event: &objsync::WatchEvent) -> Seen {
    let key = text(&event.key);
    Seen::Event {
        revision: event.revision.0,
        value: event.value.as_ref().map(|value| number_in(&key, value)),
        key,
    }
}

fn text(key: &Bytes) -> String {
    match objsync::key::decode(key) {
        Ok(objsync::Key::Str(name)) => name,
        other => panic!("a key that nobody wrote: {other:?}"),
    }
}

fn record(record: Record) {
    say(&Event::Record(Box::new(record)));
}
