//! What all clients of one store recorded, and what the store itself tells afterwards.

use std::collections::BTreeMap;
use std::time::Instant;

use objsync::{Dict, KeyRange, Revision};
use objsync_tests::checkers::{self, Commit, History, Op, Outcome, Record, Replica, Seen, State};
use objsync_tests::clock::now_ns;

use crate::journal::{END, encoded, payload};
use crate::program::DEADLINE;
use crate::recorder::seen;

/// The recording of one store.
#[derive(Default)]
pub(crate) struct Recording {
    history: History,
    /// How often the key was written that ends a round.
    end_count: i64,
    /// The revision that each watch told last.
    told: BTreeMap<u64, u64>,
}

impl Recording {
    /// Takes what a client recorded.
    pub(crate) fn add(&mut self, record: Record) {
        match &record {
            Record::Watching { stream, since, .. } => _ = self.told.insert(*stream, *since),
            Record::Seen {
                stream,
                seen: Seen::Event { revision, .. },
            } => _ = self.told.insert(*stream, *revision),
            _ => {}
        }
        self.history.add(record).unwrap();
    }

    /// The newest transaction known.
    fn newest(&self) -> u64 {
        let newest = self.history.commits.last();
        newest.map_or(0, |commit| commit.revision)
    }

    /// Writes behind everything else, and reads the transactions that came since up to that.
    pub(crate) fn read_commits(&mut self, dict: &Dict) {
        let since = Revision(self.newest());
        let watch = dict.watch(KeyRange::default(), Some(since)).unwrap();
        let end = self.write_end(dict);
        let deadline = Instant::now() + DEADLINE;
        while self.newest() < end {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = watch.recv_timeout(left).unwrap();
            let event = event.expect("the store tells all its transactions in time");
            let Seen::Event {
                revision,
                key,
                value,
            } = seen(&event)
            else {
                unreachable!("a change is an event");
            };
            if self.newest() < revision {
                self.history.commits.push(Commit {
                    revision,
                    changes: BTreeMap::new(),
                    call: None,
                });
            }
            let commit = self.history.commits.last_mut().expect("one is there");
            commit.changes.insert(key, value);
        }
    }

    /// Puts a number that no client puts; tells its revision.
    fn write_end(&mut self, dict: &Dict) -> u64 {
        self.end_count += 1;
        let (process, number) = (0, self.end_count.unsigned_abs());
        let (key, value) = (END.to_owned(), self.end_count);
        self.add(Record::Invoked {
            process,
            number,
            op: Op::Put { key, value },
            at_ns: now_ns(),
        });
        let ack = dict.set(&encoded(END), payload(value)).wait().unwrap();
        self.add(Record::Returned {
            process,
            number,
            outcome: Outcome::Done,
            revision: Some(ack.revision.0),
            at_ns: now_ns(),
        });
        ack.revision.0
    }

    /// Whether the watches of some clients have told everything.
    pub(crate) fn is_told(&self, streams: &[u64]) -> bool {
        let newest = self.newest();
        let mut told = streams.iter().filter_map(|stream| self.told.get(stream));
        told.all(|told| *told >= newest)
    }

    /// Judges all that was recorded. The watches of some clients have told everything.
    pub(crate) fn check(&mut self, streams: &[u64], content: &State) {
        let revision = self.newest();
        for stream in &mut self.history.streams {
            if streams.contains(&stream.stream) {
                stream.seen.push(Seen::Bookmark { revision });
            }
        }
        self.history.replicas = vec![Replica {
            name: "the owner".into(),
            content: content.clone(),
        }];
        if let Err(fault) = checkers::check(&self.history) {
            let (_, path) = tempfile::NamedTempFile::new().unwrap().keep().unwrap();
            std::fs::write(&path, self.history.lines()).unwrap();
            panic!("{fault}; all that was recorded is in {}", path.display());
        }
    }

    /// How many calls and events were recorded.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let seen = self.history.streams.iter().map(|stream| stream.seen.len());
        (self.history.calls.len(), seen.sum())
    }
}
