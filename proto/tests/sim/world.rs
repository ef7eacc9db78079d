//! Clients, an owner and a network between them that loses whatever it can.

use std::collections::BTreeMap;

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Ack, Origin, Sequence, SessionId};
use objsync_proto::key::{self, Key};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::session::CallId;
use objsync_proto::stored::{self, Compression};
use objsync_proto::value;
use objsync_proto::wire::ToPeer;

use crate::client::Client;
use crate::connection::Connection;
use crate::owner::{Asked, Owner};
use crate::random::{Random, Trace};

const CLIENTS: usize = 4;
const STEPS: usize = 1_500;

/// A call and what came of it.
struct Call {
    client: usize,
    deadline_ms: u64,
    result: Option<Result<(Outcome, Ack), Failure>>,
}

pub(crate) struct World {
    random: Random,
    trace: Trace,
    now_ms: u64,
    owner: Owner,
    clients: Vec<Client>,
    calls: BTreeMap<u64, Call>,
    /// Calls whose callers do not know what came of them, by their numbers.
    lost: BTreeMap<(SessionId, Sequence), u64>,
    /// What came of them after all.
    late: BTreeMap<u64, Result<(Outcome, Ack), Failure>>,
    /// Connections that their clients have given up: what is on its way to the owner may still
    /// arrive, any time later.
    ghosts: Vec<Connection>,
    /// Sessions may be lost in this run.
    forgetful: bool,
}

fn key_of(text: &str) -> Bytes {
    key::encode(&Key::from(text)).unwrap().into()
}

fn number(tag: u64) -> Bytes {
    let payload = value::int_payload(tag.cast_signed());
    stored::seal(&payload, Compression::None).unwrap()
}

/// The call that an operation belongs to: each carries its number.
fn tag_of(operation: &Operation) -> Option<u64> {
    let stored = match operation {
        Operation::Increment { by, .. } => return Some(by.cast_unsigned()),
        Operation::Put { value, .. } => value,
        Operation::CompareAndSet { new, .. } => new.as_ref()?,
        Operation::Batch { changes } => changes.first()?.value.as_ref()?,
        _ => return None,
    };
    value::from_payload(&stored::open(stored).unwrap()).ok()
}

/// Whether an owner said what came of it.
fn was_decided(result: &Result<(Outcome, Ack), Failure>) -> bool {
    result
        .as_ref()
        .err()
        .is_none_or(|failure| failure.kind == ErrorKind::Invalid)
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut owner = Owner::new();
        let text = value::encode(&"no number".into()).unwrap();
        let value = stored::seal(&text, Compression::None).unwrap();
        owner.run(
            None,
            Operation::Put {
                key: key_of("text"),
                value,
            },
        );
        owner.sync();
        let clients = (0..CLIENTS)
            .map(|_| Client::new(random.percent(30)))
            .collect();
        Self {
            forgetful: random.percent(25),
            random,
            trace: Trace::new(),
            now_ms: 0,
            owner,
            clients,
            calls: BTreeMap::new(),
            lost: BTreeMap::new(),
            late: BTreeMap::new(),
            ghosts: Vec::new(),
        }
    }

    /// A whole run; gives what happened.
    pub(crate) fn run(mut self) -> Trace {
        for _ in 0..STEPS {
            self.step();
        }
        self.settle();
        // Whatever happened, a second write after it goes through.
        for _ in 0..2 {
            (0..CLIENTS).for_each(|client| self.submit(client));
            self.settle();
        }
        let last = self.calls.values().rev().take(CLIENTS);
        assert!(
            last.map(|call| call.result.as_ref().unwrap())
                .all(was_decided)
        );
        self.check_end();
        self.trace
    }

    fn step(&mut self) {
        let client = self.random.below(CLIENTS);
        match self.random.below(100) {
            0..12 => self.submit(client),
            12..23 => self.clients[client].transmit(usize::MAX),
            23..24 => self.cut(client),
            24..70 => self.deliver(client),
            70..80 => self.publish(),
            80..81 => self.owner.sync(),
            81..83 => self.haunt(),
            83..88 => self.connect(client),
            88..93 => self.read(client),
            93..94 => self.clients[client].barrier(),
            94..96 => self.cut(client),
            96..97 => self.owner.trimmed = self.owner.position().revision,
            97..98 if self.random.percent(40) => self.restart(client),
            98..99 => self.fall_behind(client),
            _ => self.forget(),
        }
        self.now_ms += self.random.next() % 10;
        let now_ms = self.now_ms;
        self.clients[client].session.expire(now_ms);
        self.collect(client);
        self.clients[client].check_replica(&self.owner);
    }

    fn submit(&mut self, client: usize) {
        let tag = self.calls.len() as u64 + 1;
        let operation = self.operation(tag);
        let patience_ms = if self.random.percent(20) {
            300
        } else {
            1_000_000
        };
        let deadline_ms = self.now_ms + patience_ms;
        let call = CallId(tag);
        let session = &mut self.clients[client].session;
        session
            .submit(call, operation, None, deadline_ms, self.now_ms)
            .unwrap();
        self.calls.insert(
            tag,
            Call {
                client,
                deadline_ms,
                result: None,
            },
        );
    }

    fn operation(&mut self, tag: u64) -> Operation {
        let any = |random: &mut Random| key_of(&format!("key{}", random.below(12)));
        let key = any(&mut self.random);
        match self.random.below(10) {
            0..4 => Operation::Put {
                key,
                value: number(tag),
            },
            4..7 => {
                let counters = ["hits", "hits", "misses", "text"];
                let key = key_of(counters[self.random.below(counters.len())]);
                Operation::Increment {
                    key,
                    by: tag.cast_signed(),
                }
            }
            7..9 => {
                let other = any(&mut self.random);
                let change = |key, value| Change { key, value };
                let changes = vec![change(key.clone(), Some(number(tag))), change(other, None)];
                Operation::Batch { changes }
            }
            _ => {
                let guess = (self.random.next() % tag).cast_signed();
                let expected = Some(value::int_payload(guess).into());
                Operation::CompareAndSet {
                    key,
                    expected,
                    new: Some(number(tag)),
                }
            }
        }
    }

    fn deliver(&mut self, client: usize) {
        let Self {
            random,
            owner,
            clients,
            ..
        } = self;
        let client = &mut clients[client];
        let Some(connection) = &mut client.connection else {
            return;
        };
        if random.percent(60) {
            connection.serve(owner, random);
        }
        if random.percent(60) {
            for message in connection.down.land::<ToPeer>(random) {
                client.take(message, owner);
            }
        }
        if random.percent(60) {
            client.take_feed(random);
        }
    }

    fn publish(&mut self) {
        self.owner.sync();
        for client in &mut self.clients {
            let count = 1 + self.random.below(4);
            if let Some(connection) = &mut client.connection {
                connection.publish(&self.owner, count);
            }
        }
    }

    fn connect(&mut self, client: usize) {
        if self.clients[client].connection.is_none() {
            self.clients[client].connect();
        }
    }

    fn cut(&mut self, client: usize) {
        self.trace.note(&format!("cut {client}\n"));
        let ghost = self.clients[client].cut();
        self.ghosts.extend(ghost);
    }

    /// Something of a connection that was given up arrives.
    fn haunt(&mut self) {
        self.ghosts.retain(|ghost| !ghost.up.is_empty());
        if !self.ghosts.is_empty() {
            let place = self.random.below(self.ghosts.len());
            self.ghosts[place].serve(&mut self.owner, &mut self.random);
        }
    }

    fn read(&mut self, client: usize) {
        for _ in 0..4 {
            let key = key_of(&format!("key{}", self.random.below(12)));
            self.clients[client].read(key, &self.owner);
        }
    }

    /// The owner dies. Sometimes a client opens the store itself and does what it had not been
    /// answered; then it serves, and is a client of itself.
    fn restart(&mut self, client: usize) {
        let kept = self.random.below(4);
        self.owner.restart(kept);
        self.trace
            .note(&format!("restart at {}\n", self.owner.position().revision));
        for client in &mut self.clients {
            client.cut();
        }
        // What was on its way to a dead process is gone.
        self.ghosts.clear();
        if !self.random.percent(40) {
            return;
        }
        self.collect(client);
        let taken = self.clients[client].session.take_over();
        for call in taken.calls {
            let done = match (taken.session, call.sequence) {
                (Some(session), Some(sequence)) => {
                    self.owner
                        .write(Some(session), sequence, taken.floor, call.operation)
                }
                _ => self.owner.run(None::<Origin>, call.operation),
            };
            self.owner.sync();
            self.complete(call.call, done.result);
        }
    }

    fn fall_behind(&mut self, client: usize) {
        if let Some(connection) = &mut self.clients[client].connection
            && connection.is_subscribed()
        {
            connection.bridge(&self.owner);
        }
    }

    fn forget(&mut self) {
        let sessions = self.owner.sessions();
        if self.forgetful && !sessions.is_empty() {
            let session = sessions[self.random.below(sessions.len())];
            self.owner.close_session(session);
        }
    }

    fn collect(&mut self, client: usize) {
        while let Some((op, result)) = self.clients[client].session.late() {
            let tag = self.lost[&(op.session, op.sequence)];
            assert!(self.late.insert(tag, result).is_none(), "told once");
        }
        while let Some(done) = self.clients[client].completion() {
            let is_lost = !was_decided(&done.result);
            if let (true, Some(op)) = (is_lost, done.op) {
                self.lost.insert((op.session, op.sequence), done.call.0);
            }
            self.complete(done.call, done.result);
        }
    }

    fn complete(&mut self, call: CallId, result: Result<(Outcome, Ack), Failure>) {
        self.trace.note(&format!("{call:?} {result:?}\n"));
        let call = self
            .calls
            .get_mut(&call.0)
            .expect("only calls that were made complete");
        assert!(call.result.is_none(), "a call completes once");
        let in_time = self.now_ms < call.deadline_ms && !self.forgetful;
        assert!(
            was_decided(&result) || !in_time,
            "given up early: {result:?}"
        );
        call.result = Some(result);
    }

    /// The network heals and everything arrives.
    fn settle(&mut self) {
        for _ in 0..200 {
            for client in 0..CLIENTS {
                self.connect(client);
                self.clients[client].transmit(usize::MAX);
                for _ in 0..20 {
                    self.deliver(client);
                }
                self.collect(client);
            }
            self.publish();
            if self
                .clients
                .iter()
                .all(|client| client.is_quiet(&self.owner))
            {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    fn check_end(&mut self) {
        let mut ran: BTreeMap<u64, usize> = BTreeMap::new();
        let mut last_of_client = [0; CLIENTS];
        for (place, logged) in self.owner.log.iter().enumerate() {
            let Some(tag) = tag_of(&logged.operation) else {
                continue;
            };
            assert!(ran.insert(tag, place).is_none(), "call {tag} ran twice");
            let last = &mut last_of_client[self.calls[&tag].client];
            assert!(
                *last < tag,
                "call {tag} ran after {last} of the same client"
            );
            *last = tag;
        }
        for (tag, call) in &self.calls {
            let logged = ran.get(tag).map(|place| &self.owner.log[*place].recorded);
            match call.result.as_ref().expect("each call completes") {
                Ok((outcome, ack)) => {
                    let logged = logged.expect("what was acknowledged is in the log");
                    assert_eq!(logged.result.as_ref(), Ok(outcome), "call {tag}");
                    assert_eq!((logged.revision, logged.epoch), (ack.revision, ack.epoch));
                }
                Err(failure) => match failure.kind {
                    ErrorKind::OutcomeUnknown => {}
                    ErrorKind::Unavailable => assert!(logged.is_none(), "{tag} was not sent"),
                    kind => {
                        assert_eq!(kind, ErrorKind::Invalid);
                        assert_eq!(logged.unwrap().result.as_ref(), Err(failure), "call {tag}");
                    }
                },
            }
        }
        self.check_lost(&ran);
        self.check_replicas();
    }

    /// Who asks the owner about a lost call hears what came of it, for as long as its client is in
    /// the same session.
    fn check_lost(&self, ran: &BTreeMap<u64, usize>) {
        for ((session, sequence), tag) in &self.lost {
            let logged = ran
                .get(tag)
                .map(|place| &self.owner.log[*place].recorded.result);
            let client = &self.clients[self.calls[tag].client].session;
            let late = self.late.get(tag);
            if let Some(late) = late {
                let result = late.as_ref().map(|(outcome, _)| outcome);
                assert_eq!(logged.map(Result::as_ref), Some(result), "call {tag}");
            }
            match self.owner.outcome(*session, *sequence) {
                Some(Asked::Done(result)) => assert_eq!(logged, Some(result), "call {tag}"),
                Some(Asked::NotDone) => assert!(logged.is_none(), "call {tag} was done"),
                Some(Asked::Forgotten) => {
                    let is_over = late.is_some() || client.id() != Some(*session);
                    assert!(is_over, "call {tag} was forgotten");
                }
                Some(Asked::NotYet) | None => {}
            }
        }
    }

    fn check_replicas(&mut self) {
        let state = self.owner.state_at(self.owner.position().revision);
        let values: BTreeMap<_, _> = state
            .into_iter()
            .map(|(key, (value, _))| (key, value))
            .collect();
        for client in &self.clients {
            client.check_replica(&self.owner);
            assert!(client.replica.is_current());
            if !client.replica.is_partial() {
                assert_eq!(
                    client.watcher.map, values,
                    "what watchers were told makes the state"
                );
                assert_eq!(client.replica.applied(), self.owner.position().revision);
            }
        }
        let counts = format!(
            "{} logged, {} calls\n",
            self.owner.log.len(),
            self.calls.len()
        );
        self.trace.note(&counts);
    }

    /// How many calls came to what, to see that a run does something.
    pub(crate) fn tally(seed: u64) -> BTreeMap<String, u32> {
        let mut world = Self::new(seed);
        (0..STEPS).for_each(|_| world.step());
        world.settle();
        let mut tally = BTreeMap::new();
        for call in world.calls.values() {
            let name = match call.result.as_ref().unwrap() {
                Ok((outcome, _)) => format!("{outcome:?}").chars().take(4).collect(),
                Err(failure) => format!("{:?}", failure.kind),
            };
            *tally.entry(name).or_insert(0) += 1;
        }
        tally
    }
}
