//! A connection: three streams of bytes that arrive in pieces, or not at all, and what the owner
//! knows of its peer.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use objsync_proto::digest::BlockHasher;
use objsync_proto::ids::{Position, Revision, SessionId};
use objsync_proto::key::successor;
use objsync_proto::limits::FRAME_BYTES_MAX;
use objsync_proto::wire::codec::{self, Message};
use objsync_proto::wire::{
    Digest, Entry, Feed, Held, KeyRange, Reply, Request, ToOwner, ToPeer, Welcome,
};

use crate::owner::Owner;
use crate::random::Random;

/// Bytes on their way, and those that have arrived.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) flying: BytesMut,
    landed: BytesMut,
}

impl Stream {
    pub(crate) fn send<M: Message>(&mut self, message: &M) {
        codec::encode(message, &mut self.flying);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.flying.is_empty() && self.landed.is_empty()
    }

    /// Some of the bytes arrive; gives the messages that are whole now.
    pub(crate) fn land<M: Message>(&mut self, random: &mut Random) -> Vec<M> {
        let count = random.below(self.flying.len() + 1);
        self.landed.extend_from_slice(&self.flying.split_to(count));
        let next = || codec::decode(&mut self.landed, FRAME_BYTES_MAX).unwrap();
        std::iter::from_fn(next).collect()
    }
}

fn of(key: &Bytes, (value, revision): &(Bytes, Revision)) -> Entry {
    Entry {
        key: key.clone(),
        value: value.clone(),
        revision: *revision,
    }
}

pub(crate) struct Connection {
    pub(crate) up: Stream,
    pub(crate) down: Stream,
    pub(crate) feed: Stream,
    session: Option<SessionId>,
    /// Answers whose writes are not durable yet.
    waiting: VecDeque<(Revision, ToPeer)>,
    /// How far the subscription is; none without one, and while it is compared.
    cursor: Option<Revision>,
    /// What the subscriber holds, if it said so.
    held: Option<Held>,
    rounds: u32,
    comparison: Option<Comparison>,
    /// Barriers that wait for the end of a comparison.
    barriers: Vec<u64>,
}

/// What is compared: as of when, and the part that no digest was sent of yet.
struct Comparison {
    position: Position,
    rest: Bytes,
}

impl Connection {
    pub(crate) fn new() -> Self {
        Self {
            up: Stream::default(),
            down: Stream::default(),
            feed: Stream::default(),
            session: None,
            waiting: VecDeque::new(),
            cursor: None,
            held: None,
            rounds: 0,
            comparison: None,
            barriers: Vec::new(),
        }
    }

    /// The owner takes what has arrived.
    pub(crate) fn serve(&mut self, owner: &mut Owner, random: &mut Random) {
        for message in self.up.land(random) {
            match message {
                ToOwner::Hello(hello) => {
                    self.session = hello.session.filter(|id| owner.knows(*id));
                    self.down.send(&ToPeer::Welcome(Welcome {
                        program: "sim".into(),
                        position: owner.position(),
                        namespace: None,
                        may_write: true,
                        durability: objsync_proto::ids::Durability::Sync,
                        session_known: self.session.is_some(),
                    }));
                }
                ToOwner::OpenSession => {
                    let id = owner.open_session();
                    self.session = Some(id);
                    self.down.send(&ToPeer::Opened(id));
                }
                ToOwner::CloseSession => {
                    if let Some(id) = self.session.take() {
                        owner.close_session(id);
                    }
                }
                ToOwner::Write(write) => {
                    let (sequence, floor) = (write.sequence, write.floor);
                    let done = owner.write(self.session, sequence, floor, write.operation);
                    self.waiting
                        .push_back((done.revision, ToPeer::Answer(sequence, done.result)));
                }
                ToOwner::Request(id, request) => self.request(id, request, owner, random),
            }
        }
    }

    fn request(&mut self, id: u64, request: Request, owner: &Owner, random: &mut Random) {
        let position = owner.position();
        match request {
            Request::Subscribe { subscription, .. } => {
                self.feed.send(&Feed::Start { subscription });
                self.reset(owner);
                self.down.send(&ToPeer::Reply(id, Ok(Reply::Done)));
            }
            Request::Follow {
                subscription,
                since,
                held,
                ..
            } => {
                self.feed.send(&Feed::Start { subscription });
                self.held = Some(held);
                if since.revision >= owner.trimmed {
                    self.feed.send(&Feed::Resume);
                    // Some of what the subscriber has may come again.
                    let again = random.next() % 3;
                    self.cursor = Some(Revision(since.revision.0.saturating_sub(again)));
                } else {
                    self.bridge(owner);
                }
                self.down.send(&ToPeer::Reply(id, Ok(Reply::Done)));
            }
            Request::Digests { round, digests, .. } => {
                if round == self.rounds {
                    self.compare(owner, &digests);
                }
                self.down.send(&ToPeer::Reply(id, Ok(Reply::Done)));
            }
            Request::Get { key } => {
                let entry = owner.state_at(position.revision).remove(&key);
                let reply = Reply::Entry {
                    entry,
                    as_of: position.revision,
                };
                self.down.send(&ToPeer::Reply(id, Ok(reply)));
            }
            Request::Barrier => {
                self.barriers.push(id);
                self.send_barriers(owner);
                self.down
                    .send(&ToPeer::Reply(id, Ok(Reply::Position(position))));
            }
            other => panic!("no client sends {other:?}"),
        }
    }

    fn send_barriers(&mut self, owner: &Owner) {
        if self.comparison.is_some() {
            return;
        }
        self.send_events(owner, usize::MAX);
        let position = owner.position();
        for id in self.barriers.drain(..) {
            self.feed.send(&Feed::Barrier { id, position });
        }
    }

    /// Helps a subscriber on that has fallen too far behind.
    pub(crate) fn bridge(&mut self, owner: &Owner) {
        let position = owner.position();
        match self.held {
            Some(Held::Part) => {
                self.feed.send(&Feed::Skip { position });
                self.cursor = Some(position.revision);
            }
            Some(Held::Whole) => {
                self.rounds += 1;
                let round = self.rounds;
                self.feed.send(&Feed::Compare {
                    round,
                    position,
                    same_history: true,
                });
                let rest = Bytes::new();
                self.comparison = Some(Comparison { position, rest });
                self.cursor = None;
            }
            _ => self.reset(owner),
        }
    }

    /// Sends of each block that differs what is there.
    fn compare(&mut self, owner: &Owner, digests: &[Digest]) {
        let Some(Comparison { position, mut rest }) = self.comparison.take() else {
            return;
        };
        if digests.is_empty() {
            self.held = Some(Held::Part);
            return self.bridge(owner);
        }
        let state = owner.state_at(position.revision);
        for digest in digests {
            let range = KeyRange {
                start: rest.clone(),
                end: digest.through.as_ref().map(|key| successor(key)),
            };
            rest = range.end.clone().unwrap_or_default();
            let inside = state.range(range.start.clone()..);
            let inside = inside.take_while(|(key, _)| range.contains(key));
            let entries: Vec<Entry> = inside.map(|(key, entry)| of(key, entry)).collect();
            let mut hasher = BlockHasher::default();
            for entry in &entries {
                hasher.add(&entry.key, entry.revision, &entry.value);
            }
            if hasher.finish() != (digest.count, digest.hash) {
                self.feed.send(&Feed::Replace { range, entries });
            }
        }
        if digests.last().is_some_and(|last| last.through.is_none()) {
            self.feed.send(&Feed::Complete { position });
            self.cursor = Some(position.revision);
            self.send_barriers(owner);
        } else {
            self.comparison = Some(Comparison { position, rest });
        }
    }

    /// Sends the state, to who has said nothing of what it holds.
    fn reset(&mut self, owner: &Owner) {
        let position = owner.position();
        self.feed.send(&Feed::Reset);
        let state = owner.state_at(position.revision).into_iter();
        let entries: Vec<Entry> = state.map(|(key, entry)| of(&key, &entry)).collect();
        entries
            .chunks(3)
            .for_each(|part| self.feed.send(&Feed::Entries(part.to_vec())));
        self.feed.send(&Feed::Complete { position });
        self.cursor = Some(position.revision);
    }

    pub(crate) fn is_subscribed(&self) -> bool {
        self.cursor.is_some() || self.comparison.is_some()
    }

    /// Sends the answers of what is durable, and the next events.
    pub(crate) fn publish(&mut self, owner: &Owner, count: usize) {
        let durable = owner.position().revision;
        while self
            .waiting
            .front()
            .is_some_and(|(revision, _)| *revision <= durable)
        {
            let (_, answer) = self.waiting.pop_front().unwrap();
            self.down.send(&answer);
        }
        self.send_events(owner, count);
    }

    fn send_events(&mut self, owner: &Owner, count: usize) {
        let Some(cursor) = &mut self.cursor else {
            return;
        };
        let events: Vec<_> = owner.events_after(*cursor).take(count).cloned().collect();
        let Some(last) = events.last() else { return };
        *cursor = last.revision;
        self.feed.send(&Feed::Events(events));
    }

    pub(crate) fn is_quiet(&self, owner: &Owner) -> bool {
        let streams = [&self.up, &self.down, &self.feed]
            .iter()
            .all(|stream| stream.is_empty());
        let told = self
            .cursor
            .is_some_and(|cursor| owner.events_after(cursor).next().is_none());
        streams && self.waiting.is_empty() && told
    }
}
