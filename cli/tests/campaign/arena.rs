//! One store and its processes: a server or owners that take over from each other, and clients.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use objsync::{Dict, GrantRequest, Options, ReplicaMode};
use objsync_tests::proxy::{Faults, Proxy};

use crate::claims::Ledger;
use crate::client::{self, MARK, TOLD};
use crate::history::Recording;
use crate::journal::{END, Event};
use crate::program::{DEADLINE, Running, World};
use crate::random::Random;

/// Who owns the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `objsync serve`, which is started again each time.
    Served,
    /// One of the clients; when it is killed, another.
    Promoted,
    /// `objsync serve`, and between it and its clients a bad network.
    Remote,
}

/// One line of the journal of a client, by its number.
type Line = (u64, Event);

/// A client's process.
pub(crate) struct Client {
    id: u64,
    child: Child,
    is_ready: bool,
    is_stopped: bool,
    role: String,
    replicas: Vec<u64>,
}

/// All processes of one store.
pub(crate) struct Arena {
    mode: Mode,
    world: World,
    port: u16,
    server: Option<Running>,
    pub(crate) clients: Vec<Client>,
    next_client: u64,
    ledger: Ledger,
    recording: Recording,
    /// What clients of a bad network go through, and the link that leads there.
    proxy: Proxy,
    link: Option<String>,
    events: Receiver<Line>,
    /// For the threads that read journals.
    lines: Sender<Line>,
    /// Processes whose journals have not ended.
    journals: u32,
    /// What was there at the end of the last round.
    hash: Option<u64>,
}

impl Arena {
    pub(crate) fn new(mode: Mode, seed: u64) -> Self {
        let (lines, events) = channel();
        let port = free_port(seed);
        Self {
            mode,
            world: World::new(),
            port,
            recording: Recording::default(),
            proxy: Proxy::start(([127, 0, 0, 1], port).into(), seed).unwrap(),
            link: None,
            server: None,
            clients: Vec::new(),
            next_client: 1,
            ledger: Ledger::default(),
            events,
            lines,
            journals: 0,
            hash: None,
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn answered(&self) -> u64 {
        self.ledger.answered
    }

    /// Where the store lies.
    pub(crate) fn directory(&self) -> PathBuf {
        self.world.path(&format!("home/stores/{}", self.port))
    }

    /// Starts `serve`, which may take a while.
    pub(crate) fn start_server(&mut self) {
        let port = self.port.to_string();
        self.server = Some(self.world.start(&["--json", "serve", "--port", &port]));
    }

    /// Waits until `serve` serves.
    pub(crate) fn await_server(&mut self) {
        self.server.as_mut().unwrap().line();
        if self.mode == Mode::Remote && self.link.is_none() {
            let request = GrantRequest {
                hosts: vec![self.proxy.address().to_string()],
                ..GrantRequest::default()
            };
            let link = self.open().grant(request).wait().unwrap();
            self.link = Some(link.to_string());
        }
    }

    /// From now on the network between the server and its clients does this.
    pub(crate) fn set_network(&self, faults: Faults) {
        self.proxy.set(faults);
    }

    /// Datagrams that the network has lost.
    pub(crate) fn lost(&self) -> u64 {
        self.proxy.lost()
    }

    /// Calls and events that were recorded.
    pub(crate) fn counts(&self) -> (usize, usize) {
        self.recording.counts()
    }

    pub(crate) fn end_server(&mut self, signal: &str) {
        if let Some(mut server) = self.server.take() {
            server.signal(signal);
            let code = server.end();
            assert!(
                signal == "KILL" || code == Some(0),
                "it ended with {code:?}"
            );
        }
    }

    /// Starts clients until there are `count`, all writing.
    pub(crate) fn fill(&mut self, count: usize, random: &mut Random, go: &str) {
        while self.clients.len() < count {
            let client = self.start_client(random.next());
            self.clients.push(client);
        }
        self.pump("clients connect", |arena| {
            arena.clients.iter().all(|client| client.is_ready)
        });
        self.tell(go);
    }

    fn start_client(&mut self, seed: u64) -> Client {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "client::a_client_does_what_it_is_told",
                "--nocapture",
            ])
            .env(TOLD, "1")
            .env("OBJSYNC_HOME", self.world.path("home"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let id = self.next_client;
        self.next_client += 1;
        let address = format!("127.0.0.1:{}", self.port);
        let target = self.link.as_deref().unwrap_or(&address);
        let promote = match self.mode {
            Mode::Served | Mode::Remote => "join",
            Mode::Promoted => "promote",
        };
        let line = format!("connect {target} {promote} {id} {seed}");
        writeln!(child.stdin.as_mut().unwrap(), "{line}").unwrap();
        let (sender, journal) = (self.lines.clone(), child.stdout.take().unwrap());
        std::thread::spawn(move || read_journal(BufReader::new(journal), id, &sender));
        self.journals += 1;
        Client {
            id,
            child,
            is_ready: false,
            is_stopped: true,
            role: String::new(),
            replicas: Vec::new(),
        }
    }

    /// Tells every client that does nothing what to do.
    fn tell(&mut self, what: &str) {
        for client in &mut self.clients {
            if client.is_stopped {
                writeln!(client.child.stdin.as_mut().unwrap(), "{what}").unwrap();
                client.is_stopped = what == "report";
            }
        }
    }

    /// Kills the client that owns the store, if one does and it is wanted; else any.
    pub(crate) fn kill_client(&mut self, random: &mut Random, owner: bool) {
        let owner = self
            .clients
            .iter()
            .position(|client| owner && client.role == "owner");
        let any = usize::try_from(random.below(self.clients.len() as u64)).unwrap();
        self.kill_at(owner.unwrap_or(any));
    }

    /// Kills the client that is this process.
    pub(crate) fn kill_process(&mut self, process: u32) {
        let mut clients = self.clients.iter();
        let place = clients.position(|client| client.child.id() == process);
        self.kill_at(place.expect("the process is a client"));
    }

    fn kill_at(&mut self, place: usize) {
        let mut client = self.clients.remove(place);
        client.child.kill().unwrap();
        client.child.wait().unwrap();
    }

    /// That one client owns the store, by what they reported last.
    pub(crate) fn assert_one_owner(&self) {
        let roles = self.clients.iter().map(|client| &client.role[..]);
        let owners = roles.clone().filter(|role| *role == "owner").count();
        assert_eq!(owners, 1, "{:?}", roles.collect::<Vec<_>>());
    }

    /// Pauses the client that owns the store, if one does and it is wanted, else any; reads journals
    /// meanwhile, and lets it go on.
    pub(crate) fn pause_client(&mut self, random: &mut Random, owner: bool, most: Duration) {
        let owner = self
            .clients
            .iter()
            .position(|client| owner && client.role == "owner");
        let any = usize::try_from(random.below(self.clients.len() as u64)).unwrap();
        let process = self.clients[owner.unwrap_or(any)].child.id();
        self.pause(process, most);
    }

    /// As [`Arena::pause_client`], for the server.
    pub(crate) fn pause_server(&mut self, most: Duration) {
        let process = self.server.as_ref().unwrap().pid();
        self.pause(process, most);
    }

    fn pause(&mut self, process: u32, most: Duration) {
        signal(process, "STOP");
        self.let_run(u64::MAX, most);
        signal(process, "CONT");
    }

    /// Reads journals for so many lines, or for so long.
    pub(crate) fn let_run(&mut self, lines: u64, most: Duration) {
        let end = Instant::now() + most;
        for _ in 0..lines {
            let left = end.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok((id, event)) => self.note(id, event),
                Err(_) => return,
            }
        }
    }

    /// Reads journals until something has happened.
    fn pump(&mut self, what: &str, happened: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !happened(self) {
            let left = end.saturating_duration_since(Instant::now());
            let Ok((id, event)) = self.events.recv_timeout(left) else {
                panic!(
                    "in {DEADLINE:?} never: {what}; in {}",
                    self.world.path("").display()
                );
            };
            self.note(id, event);
        }
    }

    fn note(&mut self, id: u64, event: Event) {
        self.ledger.note(id, &event);
        let client = self.clients.iter_mut().find(|client| client.id == id);
        match (event, client) {
            (Event::Record(record), _) => self.recording.add(*record),
            (Event::Wrong(what), _) => panic!("client {id}: {what}"),
            (Event::Gone, None) => self.journals -= 1,
            (Event::Gone, Some(_)) => panic!("client {id} ended by itself"),
            (Event::Ready, Some(client)) => client.is_ready = true,
            (Event::Stopped, Some(client)) => client.is_stopped = true,
            (Event::Role(role), Some(client)) => client.role = role,
            (Event::Replica { hash }, Some(client)) => client.replicas.push(hash),
            _ => {}
        }
    }

    /// Lets everybody finish, and compares what there is with what there must be.
    pub(crate) fn settle(&mut self) {
        for client in &mut self.clients {
            writeln!(client.child.stdin.as_mut().unwrap(), "stop").unwrap();
        }
        self.pump("every operation is answered", |arena| {
            let dead = arena.journals as usize == arena.clients.len();
            dead && arena.clients.iter().all(|client| client.is_stopped)
        });
        self.recording.read_commits(&self.open());
        self.tell("report");
        self.pump("every client reports", |arena| {
            let mut clients = arena.clients.iter();
            clients.all(|client| client.replicas.len() == 2)
        });
        let living: Vec<u64> = self.clients.iter().map(|client| client.id).collect();
        self.pump("every watch has told everything", |arena| {
            arena.recording.is_told(&living)
        });
        let (mut content, hash) = self.content();
        self.recording.check(&living, &content);
        content.remove(END);
        self.ledger.check(&content, &living);
        for client in &mut self.clients {
            let replicas = std::mem::take(&mut client.replicas);
            assert_eq!(replicas, [hash, hash], "replicas of client {}", client.id);
        }
        self.hash = Some(hash);
    }

    /// A handle of our own, on this machine.
    fn open(&self) -> Dict {
        let options = Options {
            promote: false,
            replica: ReplicaMode::None,
            ..Options::default()
        };
        Dict::open(self.directory(), options).unwrap()
    }

    /// What the owner says there is.
    fn content(&self) -> (BTreeMap<String, i64>, u64) {
        client::content(&self.open()).unwrap()
    }

    /// What was there before the owner ended is there.
    pub(crate) fn compare_with_before(&self) {
        if let Some(hash) = self.hash {
            assert_eq!(self.content().1, hash, "what was there before the restart");
        }
    }

    /// Nobody owns it any more: every byte of it is sound.
    pub(crate) fn check_files(&mut self) {
        let directory = self.directory();
        let said = self
            .world
            .run(&["--json", "check", directory.to_str().unwrap()]);
        let report: serde_json::Value = serde_json::from_str(&said.ok()).unwrap();
        let problems = report["problems"].as_array().unwrap();
        let damage = problems.iter().filter(|it| it["is_cache"] != true);
        assert_eq!(damage.count(), 0, "{report}");
        assert_eq!(report["sound"], true);
    }

    /// Kills every client.
    pub(crate) fn kill_all(&mut self, random: &mut Random) {
        while !self.clients.is_empty() {
            self.kill_client(random, true);
        }
        self.pump("journals end", |arena| arena.journals == 0);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for client in &mut self.clients {
            let _ = client.child.kill();
            let _ = client.child.wait();
        }
    }
}

/// Sends what a client wrote down. A line that was cut short when it was killed was not written.
fn read_journal(mut journal: impl BufRead, id: u64, sender: &Sender<Line>) {
    let mut line = String::new();
    while journal.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        // The harness may have begun a line of its own.
        let event = line
            .strip_suffix('\n')
            .and_then(|line| line.split_once(MARK))
            .map(|(_, text)| Event::read(text));
        if let Some(event) = event
            && sender.send((id, event)).is_err()
        {
            return;
        }
        line.clear();
    }
    let _ = sender.send((id, Event::Gone));
}

/// Sends a signal to a process, by its name.
fn signal(process: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// A port that nobody has, and that the kernel gives to nobody who asks for any.
fn free_port(seed: u64) -> u16 {
    let mut random = Random::new(seed);
    loop {
        let port = u16::try_from(20_000 + random.below(12_000)).unwrap();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
