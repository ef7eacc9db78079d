//! A client: the session and the replica that ship, in plain messages.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use objsync::ErrorKind;
use objsync_proto::error::Failure;
use objsync_proto::ids::{Ack, PeerKey, Position, Revision};
use objsync_proto::operation::Outcome;
use objsync_proto::replica::{
    Applied, Exchanged, Lookup, Mode, Replica, ReplicaError, Sink, State as Phase,
};
use objsync_proto::session::{ClientSession, Completion};
use objsync_proto::wire::{Feed, Hello, KeyRange, Reply, Request, ToOwner, ToPeer};

use super::connection::Connection;
use crate::harness::random::Random;
use crate::history::{History, Read, Watched};
use crate::trace::Trace;
use crate::work::{Heard, Seen, State, number_in, seen};

pub struct Client {
    pub number: usize,
    pub peer: PeerKey,
    pub session: ClientSession,
    pub replica: Replica,
    pub connection: Option<Connection>,
    pub known: State,
    welcomed: bool,
    is_partial: bool,
    /// It was told of a part of a value that it does not hold.
    wants_whole: bool,
    /// Gets and barriers on their way, with the moment they began.
    gets: BTreeMap<u64, (Bytes, u64)>,
    barriers: BTreeMap<u64, u64>,
    next_request: u64,
    /// The highest revision it was told.
    acked: Revision,
    /// Where its watch is in the history.
    watch: Option<usize>,
}

/// What the replica tells of one frame.
#[derive(Default)]
struct Told {
    changes: Vec<(Revision, Bytes, Option<i64>)>,
    barriers: Vec<u64>,
    is_exchanged: bool,
}

impl Sink for Told {
    fn applied(&mut self, change: Applied) {
        let value = change.new.as_ref().map(number_in);
        self.changes.push((change.revision, change.key, value));
    }

    fn barrier(&mut self, id: u64, _position: Position) {
        self.barriers.push(id);
    }

    fn exchanged(&mut self, _exchanged: Exchanged) {
        self.is_exchanged = true;
    }
}

impl Client {
    pub fn new(number: usize, is_partial: bool) -> Self {
        let mode = match is_partial {
            true => Mode::Auto { bytes_max: 300 },
            false => Mode::Full,
        };
        Self {
            number,
            peer: PeerKey([number as u8 + 1; 32]),
            session: ClientSession::new(),
            replica: Replica::new(KeyRange::default(), mode),
            connection: None,
            known: State::new(),
            welcomed: false,
            is_partial,
            wants_whole: false,
            gets: BTreeMap::new(),
            barriers: BTreeMap::new(),
            next_request: 1,
            acked: Revision(0),
            watch: None,
        }
    }

    pub fn connect(&mut self) {
        let mut connection = Connection::new(self.peer, !self.wants_whole);
        connection.up.send(&ToOwner::Hello(Hello {
            program: String::from("sim"),
            namespace: String::from("default"),
            session: self.session.id(),
        }));
        self.connection = Some(connection);
    }

    /// The connection is given up: nothing of it arrives here any more.
    pub fn cut(&mut self) -> Option<Connection> {
        let connection = self.connection.take();
        self.welcomed = false;
        self.session.disconnected();
        self.replica.disconnected();
        for (key, _) in std::mem::take(&mut self.gets).into_values() {
            self.replica.fetch_failed(&key);
        }
        self.barriers.clear();
        connection
    }

    pub fn transmit(&mut self, bytes_max: usize) {
        if let Some(connection) = self.connection.as_mut().filter(|_| self.welcomed) {
            let mut out = BytesMut::new();
            self.session.transmit(&mut out, bytes_max);
            connection.up.flying.extend_from_slice(&out);
        }
    }

    fn request(&mut self, request: Request) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        let connection = self.connection.as_mut();
        let connection = connection.expect("only a connected client asks");
        connection.up.send(&ToOwner::Request(id, request));
        id
    }

    /// Takes what has arrived on the operations stream.
    pub fn take(&mut self, random: &mut Random, history: &mut History) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        for message in connection.down.land::<ToPeer>(random) {
            match message {
                ToPeer::Welcome(welcome) => {
                    self.welcomed = true;
                    self.session.connected(welcome.session_known);
                    self.replica.connected(welcome.position);
                    self.request(Request::Subscribe {
                        subscription: 1,
                        range: KeyRange::default(),
                        since: self.replica.position(),
                    });
                }
                ToPeer::Opened(id) => self.session.opened(id),
                ToPeer::Answer(sequence, result) => self.session.answered(sequence, result),
                ToPeer::Reply(id, Ok(Reply::Entry { entry, as_of })) => {
                    let (key, at) = self.gets.remove(&id).expect("each get is answered once");
                    let entry = self.replica.fetched(&key, entry, as_of);
                    self.has_read(key, entry.map(|(value, _)| value), (at, None), history);
                }
                ToPeer::Reply(_, Ok(_)) => {}
                other => panic!("no owner sends {other:?}"),
            }
        }
    }

    /// Takes what has arrived of the subscription.
    pub fn take_feed(&mut self, random: &mut Random, history: &mut History, trace: &Trace) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        // What follows a part that it could not apply is of no use.
        if self.wants_whole && connection.by_part {
            return;
        }
        for frame in connection.feed.land::<Feed>(random) {
            let mut told = Told::default();
            let fed = self.replica.feed(frame, &mut told);
            let is_unpatchable = matches!(fed, Err(ReplicaError::Unpatchable { .. }));
            if is_unpatchable {
                assert!(self.replica.is_partial(), "{fed:?}");
                self.wants_whole = true;
            } else {
                fed.unwrap();
            }
            self.watch_on(told.changes, told.is_exchanged, history, trace);
            for id in told.barriers {
                if let Some(at) = self.barriers.remove(&id) {
                    let key = crate::work::any_key(random);
                    let now = trace.note(0, format_args!("{} is past {id}", self.number));
                    self.read(key, (now, Some(at)), history);
                }
            }
            if is_unpatchable {
                // It comes back, and asks for whole values.
                if let Some(connection) = &mut self.connection {
                    connection.is_broken = true;
                }
                return;
            }
        }
    }

    /// A state that takes the place of another begins a watch anew: what happened between is told
    /// as differences, which are no events.
    fn watch_on(
        &mut self,
        changes: Vec<(Revision, Bytes, Option<i64>)>,
        is_exchanged: bool,
        history: &mut History,
        trace: &Trace,
    ) {
        if is_exchanged {
            let since = self.replica.position().map(|position| position.revision);
            history.watches.push(Watched {
                handle: self.number,
                range: KeyRange::default(),
                since,
                begun: trace.note(0, format_args!("{} watches since {since:?}", self.number)),
                events: Vec::new(),
                gaps: Vec::new(),
                is_whole: false,
                failed: None,
            });
            self.watch = Some(history.watches.len() - 1);
        } else if let Some(watch) = self.watch {
            history.watches[watch].events.extend(changes);
        }
    }

    pub fn completion(&mut self) -> Option<Completion> {
        let completion = self.session.completion()?;
        self.was_told(&heard(completion.result.clone()));
        Some(completion)
    }

    /// It reads nothing older than what it was told.
    pub fn was_told(&mut self, heard: &Heard) {
        if let Ok((_, Some(revision))) = heard {
            self.replica.saw(*revision);
            self.acked = self.acked.max(*revision);
        }
    }

    /// Reads a key where this client reads: its replica, or the owner.
    pub fn read(&mut self, key: Bytes, moments: (u64, Option<u64>), history: &mut History) {
        if self.replica.applied() < self.acked {
            return;
        }
        match self.replica.lookup(&key) {
            Lookup::Hit(value, _) => self.has_read(key, Some(value), moments, history),
            Lookup::Absent => self.has_read(key, None, moments, history),
            Lookup::Unknown if self.welcomed && self.replica.state() == Phase::Live => {
                self.replica.fetching(&key);
                let id = self.request(Request::Get { key: key.clone() });
                self.gets.insert(id, (key, moments.0));
            }
            Lookup::Unknown => {}
        }
    }

    fn has_read(
        &mut self,
        key: Bytes,
        value: Option<Bytes>,
        (invoked, barrier): (u64, Option<u64>),
        history: &mut History,
    ) {
        let found = value.as_ref().map(number_in);
        match found {
            Some(number) => self.known.insert(key.clone(), number),
            None => self.known.remove(&key),
        };
        history.reads.push(Read {
            handle: self.number,
            key,
            invoked,
            found,
            barrier,
            is_partial: self.is_partial,
        });
    }

    pub fn barrier(&mut self, at: u64) {
        let is_subscribed = self
            .connection
            .as_ref()
            .is_some_and(Connection::is_subscribed);
        if self.welcomed && is_subscribed {
            let id = self.request(Request::Barrier);
            self.barriers.insert(id, at);
        }
    }

    pub fn is_quiet(&self, store: &objsync_store::Store) -> bool {
        let quiet = |connection: &Connection| connection.is_quiet(store);
        self.welcomed && self.session.is_settled() && self.connection.as_ref().is_some_and(quiet)
    }

    /// Everything that it holds, unless that is a part.
    pub fn content(&self) -> Option<(Position, State)> {
        let position = self.replica.position()?;
        if self.replica.is_partial() || self.replica.state() != Phase::Live {
            return None;
        }
        let all = KeyRange::default();
        let page = self.replica.page(&all, false, usize::MAX).ok()?;
        let numbers = page
            .entries
            .into_iter()
            .map(|entry| (entry.key, number_in(&entry.value)));
        Some((position, numbers.collect()))
    }
}

/// What a completion tells its caller.
pub fn heard(result: Result<(Outcome, Ack), Failure>) -> Heard {
    match result {
        Ok((outcome, ack)) => Ok((seen(&outcome), Some(ack.revision))),
        Err(failure) => match failure.kind {
            kind @ (ErrorKind::Invalid | ErrorKind::NotFound) => Ok((Seen::Refused(kind), None)),
            kind => Err(kind),
        },
    }
}
