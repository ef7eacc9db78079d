//! A connection as its owner sees it: what `server` does, in plain messages and without waiting.

use std::sync::{Arc, Mutex};

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Durability, NamespaceId, Origin, PeerKey, Position, Revision, SessionId};
use objsync_proto::key;
use objsync_proto::wire::event::encode_events;
use objsync_proto::wire::{Feed, KeyRange, Reply, Request, ToOwner, ToPeer, Welcome, Write};
use objsync_store::{
    Answer, FeedRead, LogRead, Published, Store, StoreError, Submission, SubmissionOrigin,
};

use super::stream::Stream;
use crate::harness::random::Random;

pub struct Connection {
    pub up: Stream,
    pub down: Stream,
    pub feed: Stream,
    peer: PeerKey,
    session: Option<SessionId>,
    /// What the store has answered; it answers when it likes.
    answers: Arc<Mutex<Vec<ToPeer>>>,
    asked: usize,
    answered: usize,
    /// How far the subscription is; none without one.
    cursor: Option<Revision>,
    /// The subscriber is told of changes of parts of values by the part.
    pub by_part: bool,
    /// The owner has ended it.
    pub is_broken: bool,
}

impl Connection {
    pub fn new(peer: PeerKey, by_part: bool) -> Self {
        Self {
            up: Stream::default(),
            down: Stream::default(),
            feed: Stream::default(),
            peer,
            session: None,
            answers: Arc::default(),
            asked: 0,
            answered: 0,
            cursor: None,
            by_part,
            is_broken: false,
        }
    }

    pub fn is_subscribed(&self) -> bool {
        self.cursor.is_some()
    }

    /// The owner takes what has arrived.
    pub fn serve(&mut self, store: &Store, random: &mut Random) {
        for message in self.up.land(random) {
            if self.is_broken {
                return;
            }
            match message {
                ToOwner::Hello(hello) => {
                    let known = |id: &SessionId| store.session_known(*id, self.peer);
                    self.session = hello.session.filter(known);
                    self.down.send(&ToPeer::Welcome(Welcome {
                        program: String::from("sim"),
                        position: store.position(),
                        namespace: Some(NamespaceId::DEFAULT),
                        may_write: true,
                        durability: Durability::Sync,
                        session_known: self.session.is_some(),
                    }));
                }
                ToOwner::OpenSession => match store.open_session(self.peer) {
                    Ok(id) => {
                        self.session = Some(id);
                        self.down.send(&ToPeer::Opened(id));
                    }
                    Err(_) => self.is_broken = true,
                },
                ToOwner::CloseSession => {
                    if let Some(id) = self.session.take() {
                        let _ = store.close_session(id);
                    }
                }
                ToOwner::Write(write) => self.write(write, store),
                ToOwner::Request(id, request) => self.request(id, request, store),
            }
        }
    }

    fn write(&mut self, write: Write, store: &Store) {
        let sequence = write.sequence;
        let Some(session) = self.session else {
            let failure = Failure::new(ErrorKind::OutcomeUnknown, "the session has ended");
            return self.down.send(&ToPeer::Answer(sequence, Err(failure)));
        };
        let origin = Some(SubmissionOrigin {
            origin: Origin { session, sequence },
            floor: write.floor,
            peer: self.peer,
        });
        let submission = Submission {
            namespace: NamespaceId::DEFAULT,
            operation: write.operation,
            origin,
            durability: Some(write.durability.unwrap_or(Durability::Sync)),
        };
        self.asked += 1;
        let submission = match store.try_execute_inline(submission) {
            Ok(result) => return push(&self.answers, sequence, result),
            Err(submission) => submission,
        };
        let answers = Arc::clone(&self.answers);
        let done = move |result| push(&answers, sequence, result);
        store.submit(submission, Box::new(done));
    }

    fn request(&mut self, id: u64, request: Request, store: &Store) {
        let position = store.position();
        let reply = match request {
            Request::Subscribe {
                subscription,
                since,
                ..
            } => {
                self.feed.send(&Feed::Start { subscription });
                match since.filter(|since| store.is_on_history(since)) {
                    Some(since) => {
                        self.feed.send(&Feed::Resume);
                        self.cursor = Some(since.revision);
                    }
                    None => self.reset(store),
                }
                Reply::Done
            }
            Request::Get { key } => match store.get(NamespaceId::DEFAULT, &key) {
                Ok(stored) => Reply::Entry {
                    entry: stored.map(|stored| (stored.value, stored.revision)),
                    as_of: position.revision,
                },
                Err(_) => return self.is_broken = true,
            },
            Request::Barrier => {
                self.send_events(store, usize::MAX);
                if self.is_broken {
                    return;
                }
                self.feed.send(&Feed::Barrier { id, position });
                Reply::Position(position)
            }
            other => panic!("no client sends {other:?}"),
        };
        self.down.send(&ToPeer::Reply(id, Ok(reply)));
    }

    /// Sends the state: at the start, or when the subscriber has fallen too far behind.
    fn reset(&mut self, store: &Store) {
        let reader = store.reader();
        let position: Position = reader.position();
        self.feed.send(&Feed::Reset);
        let mut rest = KeyRange::default();
        loop {
            let Ok(page) = reader.page(NamespaceId::DEFAULT, &rest, false, 200) else {
                return self.is_broken = true;
            };
            let Some(last) = page.last() else { break };
            rest.start = key::successor(&last.key);
            self.feed.send(&Feed::Entries(page));
        }
        self.feed.send(&Feed::Complete { position });
        self.cursor = Some(position.revision);
    }

    /// Sends the answers that the store gave, and the next events.
    pub fn publish(&mut self, store: &Store, bytes_max: usize) {
        for answer in std::mem::take(&mut *self.answers.lock().unwrap()) {
            self.down.send(&answer);
            self.answered += 1;
        }
        self.send_events(store, bytes_max);
    }

    fn send_events(&mut self, store: &Store, bytes_max: usize) {
        let Some(cursor) = self.cursor else { return };
        match store.feed().read(cursor, bytes_max) {
            FeedRead::Published(list) => self.send(list.iter().map(Arc::as_ref)),
            FeedRead::UpToDate(_) => {}
            FeedRead::Behind => match store.read_log(cursor, bytes_max) {
                Ok(LogRead::Transactions(list)) => self.send(list.iter()),
                Ok(LogRead::Trimmed) => self.reset(store),
                Err(_) => self.is_broken = true,
            },
        }
    }

    fn send<'a>(&mut self, list: impl Iterator<Item = &'a Published>) {
        let mut events = Vec::new();
        for published in list {
            events.extend(published.encoded(NamespaceId::DEFAULT, self.by_part));
            self.cursor = Some(published.revision);
        }
        if !events.is_empty() {
            encode_events(&events, &mut self.feed.flying);
        }
    }

    pub fn is_quiet(&self, store: &Store) -> bool {
        let streams = [&self.up, &self.down, &self.feed];
        let is_told = self.cursor.is_some_and(|cursor| {
            // Nothing of the last transactions may concern the subscriber.
            cursor >= store.position().revision
                || matches!(store.feed().read(cursor, 1), FeedRead::UpToDate(_))
        });
        streams.iter().all(|stream| stream.is_empty()) && self.asked == self.answered && is_told
    }
}

fn push(
    answers: &Mutex<Vec<ToPeer>>,
    sequence: objsync_proto::ids::Sequence,
    result: Result<Answer, StoreError>,
) {
    let result = match result {
        Ok(answer) => answer.outcome.map(|outcome| (outcome, answer.ack)),
        Err(error) => Err(error.to_failure()),
    };
    answers
        .lock()
        .unwrap()
        .push(ToPeer::Answer(sequence, result));
}
