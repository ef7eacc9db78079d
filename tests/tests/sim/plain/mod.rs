//! Sessions and replicas over a store on a disk that lies, in plain messages: cuts, answers that are
//! lost, connections that come back to haunt, owners that die, and clients that take over.

mod client;
mod connection;
mod stream;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use objsync_proto::ids::{Durability, NamespaceId, Origin, Revision};
use objsync_proto::session::CallId;
use objsync_store::{
    IndexKind, Step, Store, StoreLimits, StoreOptions, Submission, SubmissionOrigin,
};

use self::client::{Client, heard};
use self::connection::Connection;
use crate::checks::{self, Loss};
use crate::harness::clock::MovedClock;
use crate::harness::disk::SimDisk;
use crate::harness::random::Random;
use crate::history::{self, History};
use crate::surroundings::SimEntropy;
use crate::trace::Trace;
use crate::work::{Heard, State, Work, any_key};

const STEPS: u64 = 2_000;

struct World {
    random: Random,
    trace: Trace,
    now_ms: u64,
    disk: SimDisk,
    clock: Arc<MovedClock>,
    options: StoreOptions,
    directory: PathBuf,
    store: Store,
    clients: Vec<Client>,
    history: History,
    /// Connections that their clients have given up: what is on its way to the owner may still
    /// arrive, any time later.
    ghosts: Vec<Connection>,
    /// Some writes are answered before they are synced.
    buffered: bool,
    /// The power may go.
    cuts: bool,
    /// Sessions may be lost.
    forgetful: bool,
    call_count: i64,
}

/// Runs everything that a seed says, and judges it; gives a checksum of it.
pub fn run(seed: u64, directory: &Path) -> u64 {
    let mut world = World::new(seed, directory);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
    // Whatever happened, a write after it goes through.
    for client in 0..world.clients.len() {
        world.submit(client, Some(Work::Mark));
    }
    world.settle();
    world.judge();
    world.trace.hash() ^ world.disk.trace()
}

impl World {
    fn new(seed: u64, directory: &Path) -> Self {
        let mut random = Random::new(seed);
        let disk = SimDisk::seeded(seed ^ 0xd15c);
        let clock = Arc::new(MovedClock::new());
        let small = |random: &mut Random, shift: u64| 1 << (shift + random.below(4));
        let limits = StoreLimits {
            segment_bytes: small(&mut random, 12),
            snapshot_log_bytes: small(&mut random, 13),
            retention_bytes: small(&mut random, 12),
            retention_ms: 1 << (4 + random.below(16)),
            ring_bytes_max: small(&mut random, 11) as usize,
            ..StoreLimits::default()
        };
        let options = StoreOptions {
            limits,
            index: IndexKind::Memory,
            threads: false,
            disk: Arc::new(disk.clone()),
            clock: clock.clone(),
            entropy: Arc::new(SimEntropy::new(seed)),
            ..StoreOptions::default()
        };
        let store = Store::open(directory, options.clone()).unwrap();
        store.create_namespace("default", Vec::new()).unwrap();
        let buffered = random.chance(3);
        let clients = (0..2 + random.below(5) as usize)
            .map(|number| Client::new(number, random.chance(4)))
            .collect();
        let trace = Trace::new();
        Self {
            history: History::new(&trace),
            trace,
            now_ms: 0,
            disk,
            clock,
            options,
            directory: directory.to_owned(),
            store,
            clients,
            ghosts: Vec::new(),
            buffered,
            cuts: !buffered || random.chance(2),
            forgetful: random.chance(4),
            call_count: 0,
            random,
        }
    }

    fn step(&mut self) {
        let client = self.random.below(self.clients.len() as u64) as usize;
        match self.random.below(200) {
            0..24 => self.submit(client, None),
            24..48 => self.clients[client].transmit(usize::MAX),
            48..110 => self.deliver(client),
            110..135 => self.work(),
            135..160 => self.publish(),
            160..166 => self.haunt(),
            166..176 => self.connect(client),
            176..188 => self.read(client),
            188..192 => {
                let at = self.note(format_args!("{client} asks for a barrier"));
                self.clients[client].barrier(at);
            }
            192..197 => self.cut(client),
            197 => self.restart(client),
            198 if self.forgetful => self.forget(client),
            198 | 199 if self.random.chance(2) => self.check_replica(client),
            _ => {
                let ms = self.random.of_bits(1, 14);
                self.pass(ms);
            }
        }
        let ms = self.random.below(4);
        self.pass(ms);
        let now_ms = self.now_ms;
        self.clients[client].session.expire(now_ms);
        self.collect(client);
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.clock.pass(ms);
    }

    fn submit(&mut self, client: usize, work: Option<Work>) {
        self.call_count += 1;
        let number = self.call_count;
        let work = match work {
            Some(work) => work,
            None => Work::draw(&mut self.random, &self.clients[client].known),
        };
        let patience_ms = match self.random.chance(5) {
            true => 300,
            false => 1 << 40,
        };
        let is_buffered = self.buffered && self.random.chance(2);
        let durability = is_buffered.then_some(Durability::Buffered);
        let at = self.note(format_args!("{client} asks {number}: {work:?}"));
        let operation = work.operation(number);
        let place = self.history.invoke(client, work, number, at, !is_buffered);
        let call = CallId(place as u64);
        let session = &mut self.clients[client].session;
        session
            .submit(
                call,
                operation,
                durability,
                self.now_ms + patience_ms,
                self.now_ms,
            )
            .unwrap();
    }

    fn deliver(&mut self, client: usize) {
        let Self {
            random,
            store,
            clients,
            history,
            trace,
            ..
        } = self;
        let client = &mut clients[client];
        let Some(connection) = &mut client.connection else {
            return;
        };
        if random.below(5) < 3 {
            connection.serve(store, random);
        }
        if random.below(5) < 3 {
            client.take(random, history);
        }
        if random.below(5) < 3 {
            client.take_feed(random, history, trace);
        }
    }

    /// What the store's threads would do.
    fn work(&mut self) {
        let _ = self.store.step(Step::Queue);
        self.history.follow(&self.store);
        if self.random.chance(3) {
            let step = Step::ALL[1 + self.random.below(5) as usize];
            let _ = self.store.step(step);
        }
    }

    fn publish(&mut self) {
        for client in &mut self.clients {
            let bytes_max = 1 << self.random.below(10);
            if let Some(connection) = &mut client.connection {
                connection.publish(&self.store, bytes_max);
            }
        }
    }

    fn connect(&mut self, client: usize) {
        let client = &mut self.clients[client];
        if client.connection.as_ref().is_some_and(|one| one.is_broken) {
            client.cut();
        }
        if client.connection.is_none() {
            client.connect();
        }
    }

    fn cut(&mut self, client: usize) {
        self.note(format_args!("{client} is cut"));
        let ghost = self.clients[client].cut();
        self.ghosts.extend(ghost);
    }

    /// Something of a connection that was given up arrives.
    fn haunt(&mut self) {
        self.ghosts.retain(|ghost| !ghost.up.is_empty());
        if !self.ghosts.is_empty() {
            let place = self.random.below(self.ghosts.len() as u64) as usize;
            self.ghosts[place].serve(&self.store, &mut self.random);
        }
    }

    /// The owner forgets the session of a client, as it does with one that was idle for long: what
    /// came of its writes cannot be known any more.
    fn forget(&mut self, client: usize) {
        if let Some(session) = self.clients[client].session.id() {
            self.note(format_args!("the session of {client} is forgotten"));
            let _ = self.store.close_session(session);
        }
    }

    fn read(&mut self, client: usize) {
        for _ in 0..4 {
            let key = any_key(&mut self.random);
            let at = self.note(format_args!("{client} reads {key:?}"));
            self.clients[client].read(key, (at, None), &mut self.history);
        }
    }

    /// The owner dies, and the store is opened from what the disk has kept. Sometimes a client opens
    /// it, does what it had not been answered, and serves.
    fn restart(&mut self, client: usize) {
        self.history.follow(&self.store);
        let is_cut = self.cuts && self.random.chance(2);
        if !is_cut && self.random.chance(3) {
            while matches!(self.store.step(Step::Queue), Ok(true)) {}
            self.history.follow(&self.store);
            self.store.close().unwrap();
        }
        self.store.kill();
        if is_cut {
            self.disk.cut_power(&mut self.random);
        }
        for client in &mut self.clients {
            client.cut();
        }
        // What was on its way to a dead process is gone.
        self.ghosts.clear();
        self.store = Store::open(&self.directory, self.options.clone()).unwrap();
        let position = self.store.position();
        self.note(format_args!(
            "an owner opens at {position:?}, power cut: {is_cut}"
        ));
        self.history.settle(&self.store);
        if self.random.chance(2) {
            self.take_over(client);
        }
    }

    fn take_over(&mut self, client: usize) {
        self.collect(client);
        self.note(format_args!("{client} is the owner"));
        let taken = self.clients[client].session.take_over();
        let peer = self.clients[client].peer;
        for left in taken.calls {
            let origin = match (taken.session, left.sequence) {
                (Some(session), Some(sequence)) => Some(SubmissionOrigin {
                    origin: Origin { session, sequence },
                    floor: taken.floor,
                    peer,
                }),
                _ => None,
            };
            let before = self.store.position().revision;
            let answered = self.store.execute(Submission {
                namespace: NamespaceId::DEFAULT,
                operation: left.operation,
                origin,
                durability: Some(left.durability.unwrap_or(Durability::Sync)),
            });
            let heard = match answered {
                Ok(answer) => heard(answer.outcome.map(|outcome| (outcome, answer.ack))),
                Err(error) => Err(error.to_failure().kind),
            };
            // What changes nothing and is never repeated is not written down: then the revision is
            // that of what it had seen.
            let is_written = |revision: &Revision| origin.is_some() || *revision > before;
            let heard = heard.map(|(seen, revision)| (seen, revision.filter(is_written)));
            self.clients[client].was_told(&heard);
            self.complete(left.call, heard);
        }
        self.history.follow(&self.store);
    }

    fn collect(&mut self, client: usize) {
        while let Some(done) = self.clients[client].completion() {
            self.complete(done.call, heard(done.result));
        }
    }

    fn complete(&mut self, call: CallId, heard: Heard) {
        let at = self.note(format_args!("call {} hears {heard:?}", call.0));
        self.history.returns(call.0 as usize, heard, at);
    }

    /// A whole replica is a prefix of the history, unless it holds what a power cut took.
    fn check_replica(&mut self, client: usize) {
        self.history.follow(&self.store);
        let Some((position, content)) = self.clients[client].content() else {
            return;
        };
        if self.store.is_on_history(&position) {
            let mut state = State::new();
            let before = |logged: &&history::Logged| logged.revision <= position.revision;
            for logged in self.history.log.iter().take_while(before) {
                history::apply(&mut state, &logged.changes);
            }
            assert_eq!(content, state, "{client} at {position:?}");
        }
    }

    /// The network heals and everything arrives.
    fn settle(&mut self) {
        for _ in 0..400 {
            for client in 0..self.clients.len() {
                self.connect(client);
                self.clients[client].transmit(usize::MAX);
                for _ in 0..10 {
                    self.deliver(client);
                }
                self.collect(client);
            }
            self.work();
            self.publish();
            let store = &self.store;
            if self.clients.iter().all(|client| client.is_quiet(store)) {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    fn judge(&mut self) {
        self.history.follow(&self.store);
        let loss = match self.buffered && self.cuts {
            true => Loss::Unsynced,
            false => Loss::Nothing,
        };
        let state = checks::check(&self.history, loss);
        for client in &self.clients {
            if let Some((_, content)) = client.content() {
                assert_eq!(content, state, "what client {} holds", client.number);
            }
        }
        self.store.kill();
        let calls = self.history.calls.len();
        let logged = self.history.log.len();
        self.note(format_args!("{calls} calls, {logged} written down"));
    }

    fn note(&self, what: std::fmt::Arguments<'_>) -> u64 {
        self.trace.note(self.now_ms, what)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A store that is dropped closes, and would wait for what is queued.
        self.store.kill();
    }
}
