//! What was done, in order, and which of it a store must have when it is opened again.
//!
//! Done is what was answered; behind it stands what was begun and whose outcome nobody knows. What
//! a store has is always a prefix of the two together. It reaches at least as far as what is
//! durable, and where no power was lost, as far as what was answered.

use std::collections::BTreeMap;

use objsync_proto::ids::{Origin, PeerKey, Revision, SessionId};
use objsync_store::{LogRead, Store};

use crate::leases::in_order;
use crate::model::{Changes, Entry, State, What};

/// The order of everything, as far as anybody was told.
#[derive(Default)]
pub struct History {
    /// The state when the store was opened last.
    base: State,
    base_revision: Revision,
    /// The owner's time of the last transaction up to there.
    logged_ms: u64,
    /// What was done since, then what may have been.
    entries: Vec<Entry>,
    /// So many of them were answered.
    known: usize,
    /// So many survive whatever comes.
    durable: usize,
    visible: State,
    /// After all entries, if that is another state.
    tip: Option<State>,
    /// Every transaction that is part of the history, after `told_from`.
    pub transactions: Vec<Logged>,
    /// Up to here some transaction's revision was never told, and the log is trimmed.
    told_from: Revision,
    /// Every session there ever was.
    sessions: BTreeMap<SessionId, PeerKey>,
    /// No revision up to here is ever given again.
    pub given_max: Revision,
}

/// A transaction as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    pub revision: Revision,
    pub origin: Option<Origin>,
    pub changes: Changes,
}

/// What the end before an open allows to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing that was answered.
    Nothing,
    /// What was not durable.
    Unsynced,
    /// Any of the end: a bit was turned where the log ended, which looks as a torn write does.
    Tail,
}

impl History {
    /// What everybody may see.
    pub fn visible(&self) -> &State {
        &self.visible
    }

    /// What the next operation is decided on.
    pub fn tip(&self) -> &State {
        self.tip.as_ref().unwrap_or(&self.visible)
    }

    /// The last revision that everybody may see.
    pub fn committed(&self) -> Revision {
        let known = self.entries[..self.known].iter().rev();
        known
            .filter_map(|entry| entry.revision)
            .next()
            .unwrap_or(self.base_revision)
    }

    /// The revision of the last thing that was decided, or what stands for it.
    pub fn last_decided(&self) -> Revision {
        let mut transactions = self.entries.iter().filter(|entry| entry.is_transaction());
        let last = transactions.next_back();
        last.map_or(self.base_revision, Entry::stamp)
    }

    /// The revision of the last transaction.
    pub fn last(&self) -> Revision {
        let last = self.transactions.last();
        last.map_or(self.told_from, |logged| logged.revision)
    }

    /// Whether the outcome of something is unknown: then nothing more may be done.
    pub fn is_open(&self) -> bool {
        self.known < self.entries.len()
    }

    /// Something was answered.
    pub fn done(&mut self, entry: Entry) {
        assert!(
            !self.is_open(),
            "{entry:?} was done after one whose outcome is unknown"
        );
        if let What::Wrote { changes, asked, .. } = &entry.what {
            let revision = entry
                .revision
                .expect("a transaction is answered with its revision");
            assert!(
                revision > self.given_max,
                "revision {} was given to {entry:?}; up to {} all are used",
                revision.0,
                self.given_max.0
            );
            self.given_max = revision;
            self.transactions.push(Logged {
                revision,
                origin: asked.map(|(origin, _)| origin),
                changes: changes.clone(),
            });
        }
        if let What::Opened(Some(id), peer) = &entry.what {
            self.sessions.insert(*id, *peer);
        }
        self.visible.apply(&entry);
        self.entries.push(entry);
        self.known = self.entries.len();
    }

    /// Something may have been done.
    pub fn maybe_done(&mut self, entry: Entry) {
        let visible = &self.visible;
        self.tip
            .get_or_insert_with(|| visible.clone())
            .apply(&entry);
        self.entries.push(entry);
    }

    /// Everything answered so far survives whatever comes.
    pub fn is_durable(&mut self) {
        self.durable = self.known;
    }

    /// Everything up to a revision survives whatever comes.
    pub fn is_durable_to(&mut self, revision: Revision) {
        let is_after = |entry: &Entry| entry.revision.is_some_and(|of| of > revision);
        let known = &self.entries[..self.known];
        let first_after = known.iter().position(is_after).unwrap_or(self.known);
        // Events behind the last of these transactions count no revision.
        let last = known[..first_after].iter().rposition(Entry::is_transaction);
        self.durable = self.durable.max(last.map_or(0, |last| last + 1));
    }

    /// Whether a turned bit cost more than this knows of: what was there when the store was opened
    /// before. That can be where nothing was written since, and no later frame tells of a sync.
    pub fn is_beyond(&self, committed: Revision, loss: Loss) -> bool {
        loss == Loss::Tail && committed < self.base_revision
    }

    /// A store was opened. Finds out how much of what was done is there; the rest never was.
    /// Tells whether it could: a turned bit can also cost sessions of before.
    pub fn settle(&mut self, store: &Store, loss: Loss) -> bool {
        let committed = store.position().revision;
        let required = match loss {
            Loss::Nothing => self.known,
            Loss::Unsynced => self.durable,
            Loss::Tail => 0,
        };
        let count = match store.read_log(self.base_revision, usize::MAX).unwrap() {
            LogRead::Transactions(list) => {
                self.compare_log(&list, committed);
                list.len()
            }
            // Without the log nobody tells the revision that a lease or a fence is known by.
            LogRead::Trimmed if self.has_names() => return false,
            LogRead::Trimmed => self.count_by_content(store, committed),
        };
        let ends = self.ends_after(count);
        assert!(
            *ends.end() >= required,
            "only {} of {required} things are there, with {count} transactions: {:#?}",
            ends.end(),
            self.entries
        );
        let ends = (*ends.start()).max(required)..=*ends.end();
        let state = ends.clone().find_map(|end| {
            let state = self.state_after(end);
            has_system(store, &state, &self.sessions).then_some(state)
        });
        assert!(
            state.is_some() || loss == Loss::Tail,
            "sessions and grants are those of no place in {ends:?}: {:#?}",
            self.entries
        );
        if let Some(state) = state {
            self.begin_anew(state, count, committed);
            return true;
        }
        false
    }

    /// A file of the store is damaged, and it was opened all the same: what can be read is right.
    pub fn compare_damaged(&self, store: &Store, may_be_torn: bool) {
        if may_be_torn && self.is_beyond(store.position().revision, Loss::Tail) {
            return;
        }
        let Ok(LogRead::Transactions(list)) = store.read_log(self.base_revision, usize::MAX) else {
            return;
        };
        let transactions = self.entries.iter().filter(|entry| entry.is_transaction());
        for (published, entry) in list.iter().zip(transactions) {
            let What::Wrote { changes, .. } = &entry.what else {
                unreachable!("it was filtered");
            };
            // What names a revision that nobody was told is compared when it is.
            if !entry.names(entry.stand_in) && entry.revision.is_some() {
                let found = in_order(published.changes.clone());
                assert_eq!(found, *changes, "a damaged log is read");
            }
        }
        let ends = self.ends_after(list.len());
        assert!(
            may_be_torn || *ends.end() >= self.durable,
            "a damaged log was cut"
        );
        if self.has_names() {
            return;
        }
        let expected = crate::checks::values_of(&self.state_after(*ends.end()));
        if let Some(found) = crate::checks::readable(store) {
            assert_eq!(found, expected, "a damaged store is read");
        }
    }

    /// Compares what the log has with what was done, and learns the revisions that nobody was told.
    fn compare_log(&mut self, list: &[objsync_store::Published], committed: Revision) {
        let (mut last, mut last_ms) = (self.base_revision, self.logged_ms);
        let transactions = (0..self.entries.len()).filter(|at| self.entries[*at].is_transaction());
        let mut transactions = transactions.collect::<Vec<_>>().into_iter();
        for published in list {
            let at = transactions.next();
            let at = at.unwrap_or_else(|| panic!("nobody asked for {published:?}"));
            assert!(published.revision > last, "{published:?} is out of order");
            assert!(published.time_ms >= last_ms, "time runs backwards");
            (last, last_ms) = (published.revision, published.time_ms);
            if self.entries[at].revision.is_none() {
                let stand_in = self.entries[at].stand_in;
                let later = self.entries[at..].iter_mut();
                later.for_each(|entry| entry.rename(stand_in, last));
            }
            let entry = &mut self.entries[at];
            let What::Wrote { changes, asked, .. } = &entry.what else {
                unreachable!("it was filtered");
            };
            let expected = (
                entry.revision.unwrap_or(last),
                changes,
                asked.map(|(of, _)| of),
            );
            let in_order = in_order(published.changes.clone());
            let found = (last, &in_order, published.origin);
            assert_eq!(
                found, expected,
                "the log has something else than what was done"
            );
            entry.revision = Some(last);
        }
        self.logged_ms = last_ms;
        // After an unclean end it may count revisions that were lost.
        assert!(
            last <= committed,
            "the log ends at {last:?}, behind {committed:?}"
        );
    }

    /// Whether something names a revision that nobody was told.
    fn has_names(&self) -> bool {
        let open = &self.entries[self.known..];
        let names = |of: &Entry| open.iter().any(|entry| entry.names(of.stand_in));
        open.iter().any(names)
    }

    /// How many transactions there are, by what they come to: the log is gone.
    fn count_by_content(&self, store: &Store, committed: Revision) -> usize {
        let revisions = self.entries.iter().filter_map(|entry| entry.revision);
        let told = revisions.filter(|revision| *revision <= committed).count();
        let all = self
            .entries
            .iter()
            .filter(|entry| entry.is_transaction())
            .count();
        let found = crate::checks::content_of(store);
        let is_it = |count: &usize| {
            let state = self.state_after(*self.ends_after(*count).end());
            crate::checks::values_of(&state) == found
        };
        let count = (told..=all).find(is_it);
        count.expect("the content is the state after some prefix of what was done")
    }

    /// The places behind so many transactions, before the next one.
    fn ends_after(&self, count: usize) -> std::ops::RangeInclusive<usize> {
        let mut places = (0..self.entries.len()).filter(|at| self.entries[*at].is_transaction());
        let start = match count {
            0 => 0,
            count => places.by_ref().nth(count - 1).expect("it was counted") + 1,
        };
        start..=places.next().unwrap_or(self.entries.len())
    }

    fn state_after(&self, end: usize) -> State {
        let mut state = self.base.clone();
        self.entries[..end]
            .iter()
            .for_each(|entry| state.apply(entry));
        state
    }

    fn begin_anew(&mut self, state: State, count: usize, committed: Revision) {
        // Whoever begins a batch may have given as many revisions as it has writes.
        let open = self.entries[self.known..]
            .iter()
            .filter(|entry| entry.is_transaction());
        let given = Revision(self.given_max.0 + open.count() as u64);
        self.given_max = given.max(committed);
        self.transactions
            .retain(|logged| logged.revision <= self.base_revision);
        let there = self
            .entries
            .iter()
            .filter(|entry| entry.is_transaction())
            .take(count);
        for entry in there {
            if let (What::Wrote { changes, asked, .. }, Some(revision)) =
                (&entry.what, entry.revision)
            {
                self.transactions.push(Logged {
                    revision,
                    origin: asked.map(|(origin, _)| origin),
                    changes: changes.clone(),
                });
            }
        }
        let mut kept = self
            .entries
            .iter()
            .filter(|entry| entry.is_transaction())
            .take(count);
        if kept.any(|entry| entry.revision.is_none()) {
            self.transactions.clear();
            self.told_from = committed;
        }
        self.visible = state.clone();
        self.base = state;
        self.base_revision = committed;
        self.entries.clear();
        self.tip = None;
        self.known = 0;
        self.durable = 0;
    }
}

/// Whether the store has these sessions, of all that there ever were, and these grants.
fn has_system(store: &Store, state: &State, all: &BTreeMap<SessionId, PeerKey>) -> bool {
    let mut sessions = all.iter();
    let grants: Vec<_> = state.grants.values().cloned().collect();
    store.grants() == grants
        && sessions
            .all(|(id, peer)| store.session_known(*id, *peer) == state.sessions.contains_key(id))
}
