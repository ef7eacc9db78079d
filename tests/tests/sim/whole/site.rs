//! The owner's place: a disk that lies, the store on it, and the server before it, which come and
//! go at one address.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use objsync::Link;
use objsync_proto::ids::Durability;
use objsync_proto::wire::Grant;
use objsync_server::{Identity, ServeOptions, Server, identity};
use objsync_store::{IndexKind, Step, Store, StoreLimits, StoreOptions};
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::clock::{self, SeededEntropy, VirtualClock};
use super::network::SimNetwork;
use crate::harness::disk::SimDisk;
use crate::harness::random::Random;
use crate::history::History;
use crate::trace::Trace;

/// Where the owner is.
pub const OWNER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const PORT: u16 = 8080;
/// How long an owner that closes waits for its peers.
const GOODBYE: Duration = Duration::from_millis(500);

/// How an owner ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Closed,
    Killed,
    Cut,
}

/// The owner's place; shared by all who look after it.
pub struct Site {
    pub network: SimNetwork,
    pub disk: SimDisk,
    pub trace: Trace,
    pub history: Mutex<History>,
    state: Mutex<State>,
    /// Nothing is trimmed: whoever follows can be told of every change.
    pub keeps_all: bool,
    options: StoreOptions,
    directory: PathBuf,
    identity: Identity,
}

struct State {
    random: Random,
    owner: Option<Owner>,
}

struct Owner {
    store: Store,
    server: Option<Server>,
}

impl Site {
    pub fn new(seed: u64, directory: &Path, trace: &Trace) -> Arc<Self> {
        let mut random = Random::new(seed ^ 0x517e);
        let disk = SimDisk::seeded(seed ^ 0xd15c);
        let small = |random: &mut Random, shift: u64| 1 << (shift + random.below(4));
        let limits = StoreLimits {
            segment_bytes: small(&mut random, 12),
            snapshot_log_bytes: small(&mut random, 13),
            retention_bytes: small(&mut random, 13),
            retention_ms: 1 << (8 + random.below(12)),
            ring_bytes_max: small(&mut random, 12) as usize,
            ..StoreLimits::default()
        };
        let keeps_all = random.chance(2);
        let limits = match keeps_all {
            true => StoreLimits {
                retention_bytes: 1 << 30,
                retention_ms: 1 << 40,
                ..limits
            },
            false => limits,
        };
        let options = StoreOptions {
            limits,
            index: IndexKind::Memory,
            threads: false,
            disk: Arc::new(disk.clone()),
            clock: Arc::new(VirtualClock),
            entropy: Arc::new(SeededEntropy::new(seed)),
            ..StoreOptions::default()
        };
        put_key(directory, seed);
        let network = SimNetwork::new(seed, trace.clone());
        network.set_power(OWNER, disk.clone());
        Arc::new(Self {
            network,
            disk,
            trace: trace.clone(),
            history: Mutex::new(History::new(trace)),
            state: Mutex::new(State {
                random,
                owner: None,
            }),
            keeps_all,
            options,
            directory: directory.to_owned(),
            identity: identity::load_or_create(directory).unwrap(),
        })
    }

    /// A link for a client with this secret.
    pub fn link(&self, secret: [u8; 32]) -> Link {
        Link {
            hosts: vec![SocketAddr::new(OWNER, PORT).to_string()],
            namespace: String::from("default"),
            server: self.identity.peer(),
            secret,
        }
    }

    /// Lets a client in.
    pub fn grant(&self, secret: [u8; 32]) {
        let grant = Grant {
            peer: Identity::from_secret(secret).unwrap().peer(),
            scope: String::from("*"),
            rights: vec![String::from("read"), String::from("write")],
            expires_ms: None,
            label: String::new(),
        };
        let state = self.state();
        state.owner.as_ref().unwrap().store.grant(grant).unwrap();
    }

    /// Opens what the disk has kept, and serves it.
    pub fn open(&self) {
        let store = Store::open(&self.directory, self.options.clone()).unwrap();
        self.note(format_args!("the owner opens at {:?}", store.position()));
        self.history().settle(&store);
        let options = ServeOptions {
            listen: SocketAddr::new(OWNER, PORT),
            local_socket: false,
            upstream: None,
            durability: Some(Durability::Sync),
            network: self.network.host(OWNER),
            disk_threads: false,
        };
        let server = Server::start(store.clone(), options, &Handle::current()).unwrap();
        self.state().owner = Some(Owner {
            store,
            server: Some(server),
        });
    }

    /// Ends the owner. What it still sends after a kill or a cut, nobody gets.
    pub async fn end(&self, end: End) {
        let owner = self.state().owner.take();
        let Some(mut owner) = owner else { return };
        self.note(format_args!("the owner ends: {end:?}"));
        let server = owner.server.take().unwrap();
        if end == End::Closed {
            let shutdown = server.shutdown(GOODBYE);
            self.serve_until(&owner.store, shutdown).await;
            self.history().follow(&owner.store);
            let closed = owner.store.close().map_err(|error| error.kind());
            self.note(format_args!("closing gives {closed:?}"));
        }
        self.network.unplug(OWNER);
        drop(server);
        // What it wrote before the end is there for the next one to find.
        self.history().follow(&owner.store);
        owner.store.kill();
        if end == End::Cut {
            let random = &mut self.state().random;
            self.disk.cut_power(random);
        }
        self.disk.recover();
        self.note(format_args!("the owner has ended"));
    }

    /// The store's queue is served while its server says goodbye.
    async fn serve_until(&self, store: &Store, shutdown: impl Future<Output = ()>) {
        let steps = async {
            loop {
                let _ = store.step(Step::Queue);
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! { biased;
            () = shutdown => {}
            () = steps => {}
        }
    }

    /// The owner forgets the session that wrote last, as it does with one that was idle for long.
    pub fn forget(&self) {
        let last = self.history().log.last().and_then(|last| last.origin);
        if let (Some(origin), Some(store)) = (last, self.store()) {
            let closed = store.close_session(origin.session);
            self.note(format_args!(
                "{:?} is forgotten: {}",
                origin.session,
                closed.is_ok()
            ));
        }
    }

    /// Does what the store's threads would do, for ever.
    pub async fn work(self: Arc<Self>) {
        loop {
            let pause = 1 + self.state().random.below(4);
            sleep(Duration::from_millis(pause)).await;
            self.step();
        }
    }

    fn step(&self) {
        let mut state = self.state();
        let Some(Owner { store, .. }) = &state.owner else {
            return;
        };
        let store = store.clone();
        // An error is the disk's, and those who asked for something hear of it.
        let _ = store.step(Step::Queue);
        self.history().follow(&store);
        let steps = &Step::ALL[1..];
        if state.random.chance(4) {
            let step = steps[state.random.below(steps.len() as u64) as usize];
            let _ = store.step(step);
        }
    }

    /// The store, while there is one.
    pub fn store(&self) -> Option<Store> {
        self.state().owner.as_ref().map(|owner| owner.store.clone())
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    /// Something happened; gives its number.
    pub fn note(&self, what: std::fmt::Arguments<'_>) -> u64 {
        self.trace.note(clock::now_ms(), what)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// Gives the store a key that follows from the seed: certificates are not all of one length.
fn put_key(directory: &Path, seed: u64) {
    let prefix = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    let mut key = prefix.to_vec();
    key.extend(seed.to_le_bytes().repeat(4));
    std::fs::create_dir_all(directory).unwrap();
    let mut options = std::fs::OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(directory.join(identity::KEY_FILE)).unwrap();
    file.write_all(&key).unwrap();
}
