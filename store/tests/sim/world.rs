//! A store with everything around it, and what is known of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{
    Durability, LeaseId, NamespaceId, PeerKey, Position, Revision, Sequence, SessionId,
};
use objsync_store::{
    Answer, Keeper, Reader, Store, StoreError, StoreLimits, StoreOptions, Submission,
};

use crate::harness::clock::MovedClock;
use crate::harness::disk::SimDisk;
use crate::harness::random::Random;
use crate::history::{History, Loss};
use crate::home::SimHome;
use crate::leases::{Moment, in_order};
use crate::model::{Entry, Seen, State, What};
use crate::surroundings::SimEntropy;

/// Numbers from here on stand for revisions that nobody was told.
pub const STAND_IN: u64 = 1 << 60;

/// A store with everything around it.
pub struct World {
    pub random: Random,
    pub disk: SimDisk,
    pub clock: Arc<MovedClock>,
    entropy: Arc<SimEntropy>,
    pub home: SimHome,
    pub directory: PathBuf,
    limits: StoreLimits,
    pub store: Option<Store>,
    pub history: History,
    pub clients: Vec<Client>,
    /// Readers that are held, with what they must go on to read.
    pub readers: Vec<(Reader, State)>,
    /// Positions that somebody read, and whether they are on the history.
    pub positions: Vec<(Position, bool)>,
    waiting: VecDeque<(u64, Submission)>,
    answers: Arc<Mutex<Vec<Heard>>>,
    submitted_count: u64,
    /// Faults may come: errors are no surprise.
    pub is_faulty: bool,
    /// What is read may have a wrong bit.
    pub reads_are_wrong: bool,
    /// The store was closed when it was open last.
    pub is_closed: bool,
    /// What the next open may find gone.
    pub loss: Loss,
    /// The number of the last epoch.
    pub epoch: u64,
    /// The owner's time.
    pub owner_ms: u64,
    /// When each lease ends, by the monotonic clock.
    pub patience: BTreeMap<(NamespaceId, LeaseId), u64>,
    /// Leases whose end was begun.
    pub ending: BTreeSet<(NamespaceId, LeaseId)>,
    pub keeper: Option<Keeper>,
    stand_in_count: u64,
    trace: u64,
    /// More was lost than is known here: nothing can be said of what follows.
    pub is_over: bool,
    /// Somebody wants to know what happens.
    is_loud: bool,
}

/// A client with a session, and what it waits for.
pub struct Client {
    pub peer: PeerKey,
    pub session: Option<SessionId>,
    pub next: Sequence,
    /// What was never answered.
    pub open: BTreeMap<Sequence, Submission>,
    /// What was, and what it has given up: it sends none of these in earnest.
    pub past: VecDeque<Submission>,
    /// The highest floor it ever sent.
    pub floor_max: Sequence,
    /// The highest sequence it sent since the store was opened.
    pub sent_max: Sequence,
}

/// An answer as it came, and whether the power was on for anybody to hear it.
struct Heard {
    number: u64,
    result: Result<Answer, StoreError>,
    is_heard: bool,
}

impl World {
    pub fn new(seed: u64, directory: &Path) -> Self {
        let mut random = Random::new(seed);
        let small = |random: &mut Random, shift: u64| 1 << (shift + random.below(3));
        let limits = StoreLimits {
            segment_bytes: small(&mut random, 11),
            snapshot_log_bytes: small(&mut random, 12),
            retention_bytes: small(&mut random, 12),
            retention_ms: 1 << (4 + random.below(16)),
            recent_bytes_max: small(&mut random, 13) as usize,
            ring_bytes_max: small(&mut random, 11) as usize,
            unsynced_bytes_max: small(&mut random, 11),
            ..StoreLimits::default()
        };
        let client = |number: u8| Client::new(PeerKey([number; 32]));
        Self {
            disk: SimDisk::seeded(seed ^ 0xd15c),
            clock: Arc::new(MovedClock::new()),
            entropy: Arc::new(SimEntropy::new(seed ^ 0xe27)),
            home: SimHome::default(),
            directory: directory.to_owned(),
            limits,
            store: None,
            history: History::default(),
            clients: (1..=3).map(client).collect(),
            readers: Vec::new(),
            positions: Vec::new(),
            waiting: VecDeque::new(),
            answers: Arc::default(),
            submitted_count: 0,
            is_faulty: false,
            reads_are_wrong: false,
            is_closed: false,
            loss: Loss::Nothing,
            epoch: 0,
            owner_ms: 0,
            patience: BTreeMap::new(),
            ending: BTreeSet::new(),
            keeper: None,
            stand_in_count: 0,
            trace: 0,
            is_over: false,
            is_loud: std::env::var_os("OBJSYNC_SEED").is_some(),
            random,
        }
    }

    pub fn options(&self) -> StoreOptions {
        StoreOptions {
            limits: self.limits,
            index: self.home.kind(),
            threads: false,
            disk: Arc::new(self.disk.clone()),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            ..StoreOptions::default()
        }
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    /// A checksum of everything that happened.
    pub fn trace(&self) -> u64 {
        self.trace ^ self.disk.trace()
    }

    /// Tells what happens to somebody who runs one seed.
    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.is_loud {
            println!("{:6} {}", self.disk.call_count(), what());
        }
    }

    pub fn note(&mut self, number: u64) {
        let mixed = (self.trace ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.trace = mixed.rotate_left(23) ^ self.disk.call_count();
    }

    /// Queues a write.
    pub fn submit(&mut self, submission: Submission) {
        self.submitted_count += 1;
        let number = self.submitted_count;
        if let Some(asked) = submission.origin {
            let client = self.client_of(asked.peer);
            client.floor_max = client.floor_max.max(asked.floor);
            client.sent_max = client.sent_max.max(asked.origin.sequence);
        }
        self.say(|| format!("{number} is {submission:?}"));
        self.waiting.push_back((number, submission.clone()));
        let (answers, disk) = (self.answers.clone(), self.disk.clone());
        let done = Box::new(move |result| {
            let is_heard = !disk.is_off();
            let heard = Heard {
                number,
                result,
                is_heard,
            };
            answers.lock().unwrap().push(heard);
        });
        self.store().submit(submission, done);
    }

    /// Judges every answer that came.
    pub fn collect(&mut self) {
        let answers = std::mem::take(&mut *self.answers.lock().unwrap());
        for heard in answers {
            let place = self.waiting.iter().position(|(of, _)| *of == heard.number);
            let place = place.expect("each write is answered once");
            let (_, submission) = self.waiting.remove(place).expect("it was found");
            self.note(heard.number);
            self.say(|| {
                format!(
                    "{} is answered {:?}, heard: {}",
                    heard.number, heard.result, heard.is_heard
                )
            });
            match heard.result {
                Ok(_) | Err(StoreError::OutcomeUnknown { .. }) if !heard.is_heard => {
                    self.nobody_knows(&submission);
                }
                // It was not done, and nobody heard of it.
                Err(_) if !heard.is_heard => {}
                Ok(answer) => {
                    assert_eq!(place, 0, "writes are answered in the order they came");
                    self.answered(&submission, &answer);
                }
                Err(error) => self.failed(&submission, &error),
            }
        }
    }

    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// The store refused, or something failed.
    fn failed(&mut self, submission: &Submission, error: &StoreError) {
        self.note(1000 + error.kind() as u64);
        match error {
            StoreError::OutcomeUnknown { .. } => self.nobody_knows(submission),
            StoreError::Refused(failure) => {
                assert_eq!(failure.kind, ErrorKind::OutcomeUnknown, "{error}");
                self.forgotten(submission);
            }
            // Nothing was done, for good; it may have failed to read what it is decided on.
            other => self.expect_read_error(other),
        }
    }

    /// An error that only a fault explains.
    pub fn expect_error(&self, error: &StoreError) {
        let is_known = matches!(
            error,
            StoreError::Io { .. } | StoreError::Full { .. } | StoreError::Closed
        ) || matches!(
            error,
            StoreError::Poisoned { .. } | StoreError::OutcomeUnknown { .. }
        );
        assert!(is_known && self.is_faulty, "without a fault: {error}");
    }

    /// What was read; none if a fault explains that nothing could be.
    pub fn readable<T>(&self, read: Result<T, StoreError>) -> Option<T> {
        read.map_err(|error| self.expect_read_error(&error)).ok()
    }

    /// An error of somebody who reads files.
    pub fn expect_read_error(&self, error: &StoreError) {
        let may_be_wrong = self.reads_are_wrong || self.disk.lost_sync_count() > 0;
        match error {
            StoreError::Corrupt { .. } if may_be_wrong => {}
            // It fails once, as the home says, and is made again.
            StoreError::Index { .. } => {}
            _ if self.disk.is_off() => {}
            other => self.expect_error(other),
        }
    }

    fn answered(&mut self, submission: &Submission, answer: &Answer) {
        let outcome = answer.outcome.clone().map_err(|failure| failure.kind);
        self.note(answer.ack.revision.0);
        let level = submission.durability.expect("each names its level");
        assert_eq!(answer.ack.durability, level);
        match self.seen(submission) {
            Seen::New => {
                assert_eq!(answer.ack.epoch.number, self.epoch);
                let revision = answer.ack.revision;
                let entry = self.decide(submission, Some(revision));
                let entry = entry.unless_told(&outcome);
                self.granted(submission, answer);
                assert_eq!(Some(&outcome), entry.outcome(), "of {submission:?}");
                match entry.is_logged() {
                    true => self.history.done(Entry {
                        revision: Some(revision),
                        ..entry
                    }),
                    false => assert_eq!(revision, self.history.committed(), "of {submission:?}"),
                }
            }
            Seen::Before(before) => {
                assert_eq!(outcome, before.outcome, "a repeat of {submission:?}");
                let revision = before.revision.unwrap_or(answer.ack.revision);
                assert_eq!(answer.ack.revision, revision, "a repeat of {submission:?}");
                assert_eq!(
                    answer.ack.epoch.number, before.epoch,
                    "a repeat of {submission:?}"
                );
            }
            Seen::Unknown => panic!("{submission:?} was answered {answer:?}, and must not be run"),
        }
        if level == Durability::Sync {
            // What it saw is durable too, if it is nothing that is logged itself.
            self.history.is_durable_to(answer.ack.revision);
        }
        self.settled(submission);
    }

    /// It may have been done.
    fn nobody_knows(&mut self, submission: &Submission) {
        if self.seen(submission) == Seen::New {
            let entry = self.decide(submission, None);
            if entry.is_logged() {
                self.history.maybe_done(entry);
            }
        }
    }

    /// It was answered that nobody knows what came of it, and that it will not be run.
    fn forgotten(&mut self, submission: &Submission) {
        let asked = submission.origin.expect("only sessions forget");
        let seen = self.seen(submission);
        let client = self.client_of(asked.peer);
        let sequence = asked.origin.sequence;
        let may_be_gone = sequence < client.floor_max || sequence < client.sent_max;
        assert!(
            seen == Seen::Unknown || may_be_gone,
            "{submission:?} is unknown to the store, and {seen:?}"
        );
        self.settled(submission);
    }

    fn seen(&self, submission: &Submission) -> Seen {
        let asked = submission.origin;
        asked.map_or(Seen::New, |asked| {
            self.history.tip().seen(asked.origin, asked.peer)
        })
    }

    fn decide(&mut self, submission: &Submission, told: Option<Revision>) -> Entry {
        let stand_in = self.stand_in();
        let moment = Moment {
            next: told.unwrap_or(stand_in),
            last: self.history.last_decided(),
            now_ms: self.owner_ms,
        };
        let tip = self.history.tip();
        let (outcome, changes) = tip.decide(submission.namespace, &submission.operation, moment);
        let what = What::Wrote {
            changes: in_order(changes),
            asked: submission.origin.map(|asked| (asked.origin, asked.floor)),
            outcome,
        };
        Entry {
            what,
            revision: None,
            epoch: self.epoch,
            stand_in,
        }
    }

    /// Something that is done now, at a revision that nobody was told.
    pub fn entry(&mut self, what: What) -> Entry {
        let stand_in = self.stand_in();
        Entry {
            what,
            revision: None,
            epoch: self.epoch,
            stand_in,
        }
    }

    fn stand_in(&mut self) -> Revision {
        self.stand_in_count += 1;
        Revision(STAND_IN + self.stand_in_count)
    }

    /// Its client waits for it no more.
    fn settled(&mut self, submission: &Submission) {
        let Some(asked) = submission.origin else {
            return;
        };
        let client = self.client_of(asked.peer);
        if client.session == Some(asked.origin.session) {
            client.open.remove(&asked.origin.sequence);
        }
    }

    fn client_of(&mut self, peer: PeerKey) -> &mut Client {
        let found = self.clients.iter_mut().find(|client| client.peer == peer);
        found.expect("every write with an origin is a client's")
    }

    /// Whether a revision is the last that everybody may see.
    pub fn committed(&self) -> Revision {
        self.history.committed()
    }

    /// Nobody is left to answer.
    pub fn forget_store(&mut self) {
        self.readers.clear();
        self.keeper = None;
        self.store = None;
        self.collect();
        assert!(self.waiting.is_empty(), "each write is answered once");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A store that is dropped closes, and would wait for what is queued.
        if let Some(store) = &self.store {
            store.kill();
        }
    }
}

impl Client {
    fn new(peer: PeerKey) -> Self {
        Self {
            peer,
            session: None,
            next: Sequence(1),
            open: BTreeMap::new(),
            past: VecDeque::new(),
            floor_max: Sequence(0),
            sent_max: Sequence(0),
        }
    }

    /// The lowest sequence it waits for.
    pub fn floor(&self) -> Sequence {
        self.open.keys().next().copied().unwrap_or(self.next)
    }
}

impl Entry {
    pub fn outcome(&self) -> Option<&crate::model::Outcomes> {
        match &self.what {
            What::Wrote { outcome, .. } => Some(outcome),
            _ => None,
        }
    }

    /// Whether it is written down: what changes nothing and is never repeated is not.
    pub fn is_logged(&self) -> bool {
        match &self.what {
            What::Wrote { changes, asked, .. } => !changes.is_empty() || asked.is_some(),
            _ => true,
        }
    }
}
