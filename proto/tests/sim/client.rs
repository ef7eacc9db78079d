//! A client: the session and the replica that ship, and what it was told.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use objsync_proto::ids::{Position, Revision};
use objsync_proto::replica::{Applied, Exchanged, Lookup, Mode, Replica, Sink, State};
use objsync_proto::session::{ClientSession, Completion};
use objsync_proto::wire::{Feed, Held, Hello, KeyRange, Reply, Request, ToOwner, ToPeer};

use crate::connection::Connection;
use crate::owner::{Map, Owner};
use crate::random::Random;

/// What a watcher with no gaps would know.
#[derive(Default)]
pub(crate) struct Watcher {
    pub(crate) map: BTreeMap<Bytes, Bytes>,
    last: Revision,
    barriers: u32,
}

impl Sink for Watcher {
    fn applied(&mut self, change: Applied) {
        if let Some(old) = &change.old {
            assert_eq!(
                self.map.get(&change.key),
                Some(old),
                "a change follows on the one before"
            );
        }
        if change.time_ms > 0 {
            assert!(change.revision >= self.last, "events come in order");
            self.last = change.revision;
        }
        match change.new {
            Some(new) => self.map.insert(change.key, new),
            None => self.map.remove(&change.key),
        };
    }

    fn barrier(&mut self, _id: u64, _position: Position) {
        self.barriers += 1;
    }

    fn exchanged(&mut self, _exchanged: Exchanged) {}
}

pub(crate) struct Client {
    pub(crate) session: ClientSession,
    pub(crate) replica: Replica,
    pub(crate) watcher: Watcher,
    pub(crate) connection: Option<Connection>,
    welcomed: bool,
    partial: bool,
    /// Gets and barriers on their way, by request id.
    gets: BTreeMap<u64, Bytes>,
    next_request: u64,
    /// What this client has seen or was acknowledged.
    seen: Revision,
    by_key: BTreeMap<Bytes, Revision>,
}

impl Client {
    pub(crate) fn new(partial: bool) -> Self {
        let mode = if partial {
            Mode::Auto { bytes_max: 1_500 }
        } else {
            Mode::Full
        };
        Self {
            session: ClientSession::new(),
            replica: Replica::new(KeyRange::default(), mode),
            watcher: Watcher::default(),
            connection: None,
            welcomed: false,
            partial,
            gets: BTreeMap::new(),
            next_request: 1,
            seen: Revision(0),
            by_key: BTreeMap::new(),
        }
    }

    pub(crate) fn connect(&mut self) {
        let mut connection = Connection::new();
        connection.up.send(&ToOwner::Hello(Hello {
            program: "sim".into(),
            namespace: "default".into(),
            session: self.session.id(),
        }));
        self.connection = Some(connection);
    }

    /// The connection is given up: nothing of it arrives here any more.
    pub(crate) fn cut(&mut self) -> Option<Connection> {
        let connection = self.connection.take();
        self.welcomed = false;
        self.session.disconnected();
        self.replica.disconnected();
        for key in std::mem::take(&mut self.gets).into_values() {
            self.replica.fetch_failed(&key);
        }
        connection
    }

    pub(crate) fn transmit(&mut self, bytes_max: usize) {
        if let Some(connection) = self.connection.as_mut().filter(|_| self.welcomed) {
            let mut out = BytesMut::new();
            self.session.transmit(&mut out, bytes_max);
            connection.up.flying.extend_from_slice(&out);
        }
    }

    fn request(&mut self, request: Request) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        let connection = self
            .connection
            .as_mut()
            .expect("only a connected client asks");
        connection.up.send(&ToOwner::Request(id, request));
        id
    }

    /// Takes a message of the operations stream.
    pub(crate) fn take(&mut self, message: ToPeer, owner: &Owner) {
        match message {
            ToPeer::Welcome(welcome) => {
                self.welcomed = true;
                self.session.connected(welcome.session_known);
                if self.partial && self.replica.state() == State::Joining {
                    self.replica.skip_content(welcome.position);
                    let state = owner.state_at(welcome.position.revision).into_iter();
                    self.watcher.map = state.map(|(key, (value, _))| (key, value)).collect();
                }
                self.replica.connected(welcome.position);
                let (range, since) = (KeyRange::default(), self.replica.position());
                let (subscription, is_partial) = (1, self.replica.is_partial());
                self.request(match since {
                    Some(since) => Request::Follow {
                        subscription,
                        range,
                        since,
                        held: if is_partial { Held::Part } else { Held::Whole },
                    },
                    None => Request::Subscribe {
                        subscription,
                        range,
                        since,
                    },
                });
            }
            ToPeer::Opened(id) => self.session.opened(id),
            ToPeer::Answer(sequence, result) => self.session.answered(sequence, result),
            ToPeer::Reply(id, Ok(Reply::Entry { entry, as_of })) => {
                let key = self.gets.remove(&id).expect("each get is answered once");
                let entry = self.replica.fetched(&key, entry, as_of);
                self.seen = self.seen.max(as_of);
                self.check_read(&key, entry, as_of, owner);
            }
            ToPeer::Reply(_, Ok(_)) => {}
            other => panic!("no owner sends {other:?}"),
        }
    }

    /// Takes what has arrived of the subscription.
    pub(crate) fn take_feed(&mut self, random: &mut Random) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        for frame in connection.feed.land::<Feed>(random) {
            let is_asked = matches!(frame, Feed::Compare { .. });
            self.replica.feed(frame, &mut self.watcher).unwrap();
            self.watch_from_here();
            if is_asked {
                self.send_digests();
            }
        }
    }

    fn send_digests(&mut self) {
        let Some(mut cursor) = self.replica.comparison() else {
            return;
        };
        while let Some(digests) = self.replica.digests(&mut cursor) {
            self.request(Request::Digests {
                subscription: 1,
                round: cursor.round(),
                digests,
            });
        }
    }

    pub(crate) fn completion(&mut self) -> Option<Completion> {
        let completion = self.session.completion()?;
        if let Ok((_, ack)) = &completion.result {
            self.replica.saw(ack.revision);
            self.seen = self.seen.max(ack.revision);
        }
        Some(completion)
    }

    /// Reads a key where this client reads: its replica, or the owner.
    pub(crate) fn read(&mut self, key: Bytes, owner: &Owner) {
        let entry = match self.replica.lookup(&key) {
            Lookup::Hit(value, revision) => Some((value, revision)),
            Lookup::Absent => None,
            Lookup::Unknown => {
                if self.welcomed {
                    self.replica.fetching(&key);
                    let id = self.request(Request::Get { key: key.clone() });
                    self.gets.insert(id, key);
                }
                return;
            }
        };
        if self.partial {
            // What is held follows the feed.
            let from = self.seen.max(self.replica.applied());
            self.check_read(&key, entry, from, owner);
        }
    }

    fn check_read(
        &mut self,
        key: &Bytes,
        got: Option<(Bytes, Revision)>,
        from: Revision,
        owner: &Owner,
    ) {
        let mut moments = owner.revisions_from(from).into_iter();
        let held = moments.any(|at| owner.state_at(at).get(key) == got.as_ref());
        assert!(held, "{got:?} was true of no moment from {from} on");
        if let Some((_, revision)) = got {
            let last = self.by_key.insert(key.clone(), revision);
            assert!(
                last.is_none_or(|last| last <= revision),
                "a key does not go back"
            );
        }
    }

    pub(crate) fn barrier(&mut self) {
        if self.welcomed
            && self
                .connection
                .as_ref()
                .is_some_and(Connection::is_subscribed)
        {
            self.request(Request::Barrier);
        }
    }

    pub(crate) fn is_quiet(&self, owner: &Owner) -> bool {
        let quiet = |connection: &Connection| connection.is_quiet(owner);
        self.welcomed && self.session.is_settled() && self.connection.as_ref().is_some_and(quiet)
    }

    /// A whole replica is a prefix of the durable history, and the changes it told make it up.
    pub(crate) fn check_replica(&self, owner: &Owner) {
        let (Some(position), false) = (self.replica.position(), self.partial) else {
            return;
        };
        let page = self
            .replica
            .page(&KeyRange::default(), false, usize::MAX)
            .unwrap();
        let held: Map = page
            .entries
            .into_iter()
            .map(|e| (e.key, (e.value, e.revision)))
            .collect();
        assert_eq!(held, owner.state_at(position.revision), "at {position:?}");
    }

    /// The first state a watcher gets is the replica's own.
    fn watch_from_here(&mut self) {
        if self.watcher.map.is_empty() && !self.partial && self.replica.state() == State::Live {
            let page = self
                .replica
                .page(&KeyRange::default(), false, usize::MAX)
                .unwrap();
            self.watcher.map = page.entries.into_iter().map(|e| (e.key, e.value)).collect();
        }
    }
}
