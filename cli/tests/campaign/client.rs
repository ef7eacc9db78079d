//! A client in a process of its own: it writes as fast as it is answered, and keeps a journal.
//!
//! It is this test binary again, running [`a_client_does_what_it_is_told`] only.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use objsync::{
    Change, Dict, Durability, KeyRange, Options, Pending, ReplicaMode, Result, Role, Target,
};

use crate::journal::{BATCH_COUNT, Event, Kind, Op, blob, encoded, name, number_in, payload};
use crate::random::Random;
use crate::recorder::{self, Recorder, asked, outcome};

/// Set in a process that is to be a client.
pub(crate) const TOLD: &str = "OBJSYNC_TEST_CLIENT";
/// What a line of the journal starts with, so that the test harness's own lines differ.
pub(crate) const MARK: &str = "> ";
/// How long a call may take: longer than any restart, so that no outcome stays unknown.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How many keys a client puts to.
const SLOT_COUNT: u64 = 6;
/// Most operations in flight.
const BURST_MAX: u64 = 12;

#[test]
fn a_client_does_what_it_is_told() {
    if std::env::var_os(TOLD).is_some() {
        return obey();
    }
    let op = Op {
        kind: Kind::Batch,
        slot: 2,
        number: 7,
    };
    for event in [Event::Started(op), Event::Stopped, Event::Wrong("x".into())] {
        assert_eq!(
            Event::read(event.line().trim_start_matches("wrong ")),
            event
        );
    }
}

/// One client.
struct Client {
    id: u64,
    random: Random,
    /// One handle whose writes are synced, one whose are buffered.
    handles: [Dict; 2],
    recorders: [Recorder; 2],
    told: Receiver<String>,
    number: i64,
    /// What its own number is, by what it was answered.
    swap: Option<i64>,
    role: String,
}

fn obey() {
    let (sender, told) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(std::result::Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let line = told.recv().unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let ["connect", address, promote, id, seed] = words[..] else {
        panic!("{line:?} comes before connect");
    };
    let handles = [Durability::Sync, Durability::Buffered]
        .map(|level| connect(address, promote == "promote", level));
    let id: u64 = id.parse().unwrap();
    if is_watcher(id) {
        recorder::watch(&handles[0], id).unwrap();
    }
    say(&Event::Ready);
    let mut client = Client {
        id,
        recorders: [0, 1].map(|handle| Recorder::new(id, handle)),
        random: Random::new(seed.parse().unwrap()),
        handles,
        told,
        number: 0,
        swap: None,
        role: String::new(),
    };
    client.obey();
}

/// Whether a client watches everything.
pub(crate) fn is_watcher(id: u64) -> bool {
    id % 2 == 1
}

fn connect(address: &str, promote: bool, level: Durability) -> Dict {
    let options = Options {
        durability: Some(level),
        promote,
        replica: ReplicaMode::Full,
        timeout: TIMEOUT,
        ..Options::default()
    };
    Dict::connect(&Target::parse(address).unwrap(), options).unwrap()
}

pub(crate) fn say(event: &Event) {
    println!("{MARK}{}", event.line());
}

impl Client {
    fn obey(&mut self) {
        while let Ok(line) = self.told.recv() {
            match &line[..] {
                "go" => self.work(&Kind::SMALL),
                "go heavy" => self.work(&[Kind::Blob, Kind::Batch, Kind::Own]),
                "go single" => self.work(&[Kind::Own, Kind::Shared, Kind::Chain, Kind::Put]),
                "report" => {
                    self.say_role();
                    self.handles.iter().for_each(report);
                }
                other => say(&Event::Wrong(format!("{other} is nothing to do"))),
            }
        }
    }

    /// Writes until told to stop.
    fn work(&mut self, kinds: &[Kind]) {
        while self.told.try_recv() == Err(TryRecvError::Empty) {
            let burst = 1 + self.random.below(BURST_MAX);
            if let Err(error) = self.burst(kinds, burst) {
                return say(&Event::Wrong(error.to_string()));
            }
            self.say_role();
        }
        say(&Event::Stopped);
    }

    /// Tells what this process is to the store, when that has changed.
    fn say_role(&mut self) {
        // One of its handles may be a peer of the other.
        let roles = self.handles.each_ref().map(|dict| dict.status().role);
        let role = match roles.contains(&Role::Owner) {
            true => Role::Owner,
            false => roles[0],
        };
        let role = role.to_string();
        if role != self.role {
            say(&Event::Role(role.clone()));
            self.role = role;
        }
    }

    /// Starts several operations at once, waits for all of them, and reads what it wrote.
    fn burst(&mut self, kinds: &[Kind], count: u64) -> Result<()> {
        let handle = self.random.pick(&[0, 1]);
        let ops: Vec<Op> = (0..count).map(|_| self.next_op(kinds)).collect();
        let mut lines = String::new();
        for op in &ops {
            let _ = writeln!(lines, "{MARK}{}", Event::Started(*op).line());
        }
        print!("{lines}");
        let started: Result<Vec<_>> = ops.iter().map(|op| self.start(handle, *op)).collect();
        for (op, (number, write)) in ops.iter().zip(started?) {
            let (revision, result) = write.wait()?;
            let (named, outcome) = ((revision > 0).then_some(revision), outcome(op.kind, result));
            self.recorders[handle].returned(number, outcome, named);
            say(&Event::Answered { revision, result });
            if op.kind == Kind::Swap {
                self.swap = Some(op.number);
            }
        }
        if self.random.one_in(8) {
            self.read_back(handle, &ops)?;
        }
        Ok(())
    }

    fn next_op(&mut self, kinds: &[Kind]) -> Op {
        self.number += 1;
        let kind = self.random.pick(kinds);
        let slots = if kind == Kind::Blob { 3 } else { SLOT_COUNT };
        Op {
            kind,
            slot: self.random.below(slots),
            number: self.number,
        }
    }

    /// Starts an operation; tells the number that it is recorded by.
    fn start(&mut self, handle: usize, op: Op) -> Result<(u64, Pending<(u64, i64)>)> {
        let dict = self.handles[handle].clone();
        let recorder = &mut self.recorders[handle];
        let name = name(self.id, op.kind, op.slot);
        let key = encoded(&name);
        let expected = match op.kind {
            Kind::Swap => self.swap.replace(op.number).map(payload),
            Kind::Chain => recorder.get(&dict, &name, &key)?,
            _ => None,
        };
        let before = expected.as_ref().map(|payload| number_in(&name, payload));
        let number = recorder.invoked(asked(self.id, op, before));
        let write = match op.kind {
            Kind::Put => dict
                .set(&key, payload(op.number))
                .map(|ack| (ack.revision.0, 1)),
            Kind::Blob => dict
                .set(&key, blob(op.number))
                .map(|ack| (ack.revision.0, 1)),
            Kind::Batch => dict
                .batch(batch(self.id, op.number))
                .map(|ack| (ack.revision.0, 1)),
            Kind::Delete => dict
                .delete(&key)
                .map(|(was, ack)| (if was { ack.revision.0 } else { 0 }, i64::from(was))),
            Kind::Own | Kind::Shared => dict.incr(&key, 1).map(|number| (0, number)),
            Kind::Swap | Kind::Chain => {
                let next = match op.kind {
                    Kind::Swap => op.number,
                    _ => before.unwrap_or(0) + 1,
                };
                dict.compare_and_set(&key, expected, Some(payload(next)))
                    .map(|swapped| (0, i64::from(swapped)))
            }
        };
        Ok((number, write.start()))
    }

    /// Who wrote reads what it wrote, and sees whole transactions of everybody.
    fn read_back(&mut self, handle: usize, ops: &[Op]) -> Result<()> {
        let dict = self.handles[handle].clone();
        let recorder = &mut self.recorders[handle];
        let last = ops.iter().rfind(|op| op.kind == Kind::Own);
        if let Some(last) = last {
            let name = name(self.id, last.kind, last.slot);
            if recorder.get(&dict, &name, &encoded(&name))?.is_none() {
                say(&Event::Wrong(format!("{name} is gone")));
            }
        }
        if self.random.one_in(2) {
            recorder.sync(&dict)?;
        }
        let mut batches: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for (name, number) in recorder.scan(&dict)? {
            if let Some((client, _)) = name.split_once("/batch/") {
                batches.entry(client.to_owned()).or_default().push(number);
            }
        }
        for (client, numbers) in batches {
            if numbers.len() as u64 != BATCH_COUNT || numbers.iter().any(|it| *it != numbers[0]) {
                say(&Event::Wrong(format!("half a batch: {client} {numbers:?}")));
            }
        }
        Ok(())
    }
}

fn batch(client: u64, number: i64) -> Vec<Change> {
    let change = |slot| Change {
        key: encoded(&name(client, Kind::Batch, slot)),
        value: Some(payload(number)),
    };
    (0..BATCH_COUNT).map(change).collect()
}

fn report(dict: &Dict) {
    let held = dict.sync().wait().and_then(|_| content(dict));
    match held {
        Ok((_, hash)) => say(&Event::Replica { hash }),
        Err(error) => say(&Event::Wrong(error.to_string())),
    }
}

/// All entries as of one revision, and what they hash to.
pub(crate) fn content(dict: &Dict) -> Result<(BTreeMap<String, i64>, u64)> {
    let mut hasher = DefaultHasher::new();
    let mut content = BTreeMap::new();
    for entry in dict.scan(KeyRange::default(), false)? {
        let (key, value) = entry?;
        (&key, &value).hash(&mut hasher);
        let objsync::Key::Str(name) = objsync::key::decode(&key)? else {
            panic!("a key that nobody wrote: {key:?}");
        };
        let number = number_in(&name, &value);
        content.insert(name, number);
    }
    Ok((content, hasher.finish()))
}
