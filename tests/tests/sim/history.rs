//! What was asked, answered, read, watched and written down in one run, to be judged by `checks`.
//!
//! Moments are numbers of the trace: what has a smaller one happened before.

use bytes::Bytes;
use objsync::ErrorKind;
use objsync_proto::ids::{Epoch, NamespaceId, Origin, Position, Revision, StoreId};
use objsync_proto::wire::{Gap, KeyRange};
use objsync_store::{FeedRead, LogRead, Published, Store};

use crate::trace::Trace;
use crate::work::{Changes, Heard, Seen, State, Work, number_in};

/// Everything that is known of one run.
pub struct History {
    trace: Trace,
    pub calls: Vec<Call>,
    pub reads: Vec<Read>,
    pub watches: Vec<Watched>,
    /// What the owners wrote down, in order; nothing that a power cut took.
    pub log: Vec<Logged>,
    /// What power cuts took.
    pub lost: Vec<Logged>,
    /// The last revision looked at, and when.
    seen_to: Revision,
    seen_at: u64,
}

/// One operation that somebody asked for.
#[derive(Debug)]
pub struct Call {
    pub handle: usize,
    pub number: i64,
    pub work: Work,
    pub invoked: u64,
    pub returned: Option<u64>,
    /// Answered only once it would survive a power cut.
    pub is_synced: bool,
    pub result: Returned,
}

/// What its caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// Nothing, or that nobody knows.
    Unknown,
    /// That it was not done, and never will be.
    NotDone,
    Answered(Seen, Option<Revision>),
}

/// One look at one key.
#[derive(Debug)]
pub struct Read {
    pub handle: usize,
    pub key: Bytes,
    pub invoked: u64,
    pub found: Option<i64>,
    /// It must see everything that was answered, to anybody, before this moment.
    pub barrier: Option<u64>,
    /// Its handle holds a part only: keys are read as of different moments.
    pub is_partial: bool,
}

/// The changes that one watch was told.
#[derive(Debug)]
pub struct Watched {
    pub handle: usize,
    /// The keys that it follows.
    pub range: KeyRange,
    /// It was to begin after this revision.
    pub since: Option<Revision>,
    /// It was there from this moment on.
    pub begun: u64,
    pub events: Vec<(Revision, Bytes, Option<i64>)>,
    /// The gaps that it was told of, each behind so many events.
    pub gaps: Vec<(usize, Gap)>,
    /// It was read to the mark at the end of the run.
    pub is_whole: bool,
    /// Why it ended, unless it was closed.
    pub failed: Option<ErrorKind>,
}

/// One transaction.
#[derive(Debug, Clone)]
pub struct Logged {
    pub revision: Revision,
    pub epoch: Epoch,
    pub origin: Option<Origin>,
    pub changes: Changes,
    /// It was written down between these moments.
    pub moments: (u64, u64),
}

impl History {
    pub fn new(trace: &Trace) -> Self {
        Self {
            trace: trace.clone(),
            calls: Vec::new(),
            reads: Vec::new(),
            watches: Vec::new(),
            log: Vec::new(),
            lost: Vec::new(),
            seen_to: Revision(0),
            seen_at: 0,
        }
    }

    /// A call begins; gives its place.
    pub fn invoke(&mut self, handle: usize, work: Work, number: i64, at: u64, sync: bool) -> usize {
        self.calls.push(Call {
            handle,
            number,
            work,
            invoked: at,
            returned: None,
            is_synced: sync,
            result: Returned::Unknown,
        });
        self.calls.len() - 1
    }

    /// Its caller was told something.
    pub fn returns(&mut self, place: usize, heard: Heard, at: u64) {
        let call = &mut self.calls[place];
        assert!(call.returned.is_none(), "{call:?} is answered twice");
        call.returned = Some(at);
        call.result = match heard {
            Ok((seen, revision)) => Returned::Answered(seen, revision),
            Err(ErrorKind::Unavailable) => Returned::NotDone,
            Err(_) => Returned::Unknown,
        };
    }

    /// Reads what the owner has written down since the last look.
    pub fn follow(&mut self, store: &Store) {
        self.read_on(store);
        self.seen_at = self.trace.count();
    }

    fn read_on(&mut self, store: &Store) {
        loop {
            let position = store.position();
            let before = self.seen_to;
            match store.feed().read(before, 1 << 20) {
                FeedRead::UpToDate(_) => return,
                FeedRead::Published(list) => {
                    list.iter().for_each(|one| self.note(one, position.epoch));
                }
                FeedRead::Behind => match store.read_log(before, 1 << 20) {
                    Ok(LogRead::Transactions(list)) => {
                        list.iter().for_each(|one| self.note(one, position.epoch));
                    }
                    Ok(LogRead::Trimmed) => panic!("the log was trimmed before anybody read it"),
                    // The disk fails: whoever opens the store next reads on.
                    Err(_) => return,
                },
            }
            if self.seen_to == before {
                return;
            }
        }
    }

    fn note(&mut self, published: &Published, epoch: Epoch) {
        assert!(published.revision > self.seen_to, "revisions go up");
        self.seen_to = published.revision;
        let changes: Changes = (published.changes.iter())
            .filter(|(namespace, _)| *namespace != NamespaceId::CATALOG)
            .map(|(_, change)| (change.key.clone(), change.value.as_ref().map(number_in)))
            .collect();
        let is_of_catalog = changes.is_empty() && !published.changes.is_empty();
        if !is_of_catalog {
            self.log.push(Logged {
                revision: published.revision,
                epoch,
                origin: published.origin,
                changes,
                moments: (self.seen_at, self.trace.count()),
            });
        }
    }

    /// The store was opened again: what is off its history now is lost.
    pub fn settle(&mut self, store: &Store) {
        let id: StoreId = store.position().store;
        while let Some(last) = self.log.last() {
            let at = Position {
                store: id,
                epoch: last.epoch,
                revision: last.revision,
            };
            if store.is_on_history(&at) {
                break;
            }
            self.lost.extend(self.log.pop());
        }
        let last = self.log.last().map_or(Revision(0), |last| last.revision);
        self.seen_to = last;
        self.follow(store);
    }
}

/// What changes make of a state, each key once; a removal of what is not there is none.
pub fn effect(state: &State, changes: &Changes) -> std::collections::BTreeMap<Bytes, Option<i64>> {
    let all: std::collections::BTreeMap<_, _> = changes.iter().cloned().collect();
    let is_one = |(key, value): &(Bytes, Option<i64>)| value.is_some() || state.contains_key(key);
    all.into_iter().filter(is_one).collect()
}

/// Does changes to a state.
pub fn apply(state: &mut State, changes: &Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => state.insert(key.clone(), *value),
            None => state.remove(key),
        };
    }
}
