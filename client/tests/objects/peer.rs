//! Another process with an object of its own, told line by line what to do.
//!
//! It is this test binary again, running [`another_process_does_what_it_is_told`] only.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::children;
use objsync::{Conflict, Dict, KeyRange, OfflineMode, Options, ReplicaMode, Target, key, value};

const TOLD: &str = "OBJSYNC_TEST_PEER";
/// What a line of the other process starts with, so that the test harness's own lines differ.
const MARK: &str = "> ";

/// A process with an object.
pub(crate) struct Peer {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    /// Starts a process that has no object yet. `home` is its `$OBJSYNC_HOME`.
    pub(crate) fn start(home: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "peer::another_process_does_what_it_is_told",
                "--nocapture",
            ])
            .env(TOLD, "1")
            .env("OBJSYNC_HOME", home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            input,
            output,
        }
    }

    /// A process that has opened a directory.
    pub(crate) fn open(path: &Path) -> Self {
        let mut peer = Self::start(path.parent().unwrap());
        assert_eq!(peer.ask(&format!("open {}", path.display())), "ok");
        peer
    }

    /// Tells something and waits for the answer.
    pub(crate) fn ask(&mut self, what: &str) -> String {
        self.tell(what);
        self.answer()
    }

    /// Tells something.
    pub(crate) fn tell(&mut self, what: &str) {
        writeln!(self.input, "{what}").unwrap();
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> String {
        loop {
            let line = self
                .output
                .next()
                .expect("the other process lives")
                .unwrap();
            // The harness may have begun a line of its own.
            if let Some((_, answer)) = line.split_once(MARK) {
                return answer.to_owned();
            }
        }
    }

    /// Asks until the answer is the one wanted.
    pub(crate) fn ask_until(&mut self, what: &str, wanted: &str) {
        until(&format!("{what} answers {wanted}"), || {
            self.ask(what) == wanted
        });
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without warning.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for something, with a deadline.
pub(crate) fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !happened() {
        assert!(Instant::now() < deadline, "in 20 s never: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// An encoded text key.
pub(crate) fn k(text: &str) -> Vec<u8> {
    key::encode(&text.into()).unwrap().as_bytes().to_vec()
}

/// The payload of a text.
pub(crate) fn v(text: &str) -> objsync::Bytes {
    value::to_payload(text).unwrap()
}

/// The text under a key.
pub(crate) fn text(dict: &Dict, name: &str) -> Option<String> {
    dict.get(&k(name))
        .unwrap()
        .map(|payload| value::from_payload(&payload).unwrap())
}

#[test]
fn another_process_does_what_it_is_told() {
    if std::env::var_os(TOLD).is_some() {
        return obey();
    }
    let home = tempfile::tempdir().unwrap();
    let mut peer = Peer::start(home.path());
    assert_eq!(peer.ask("pid"), peer.pid().to_string());
    assert_eq!(peer.ask("get x"), "error no object");
}

fn obey() {
    let mut dict = None;
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match do_one(&mut dict, &words) {
            Ok(answer) => answer,
            Err(error) => format!("error {error}"),
        };
        println!("{MARK}{answer}");
    }
}

type Answer = Result<String, Box<dyn std::error::Error>>;

fn do_one(dict: &mut Option<Dict>, words: &[&str]) -> Answer {
    let done = || Ok(String::from("ok"));
    match *words {
        ["pid"] => return Ok(std::process::id().to_string()),
        ["open", path] => *dict = Some(Dict::open(path, Options::default())?),
        ["open-buffered", path] => {
            let durability = Some(objsync::Durability::Buffered);
            *dict = Some(Dict::open(
                path,
                Options {
                    durability,
                    ..Options::default()
                },
            )?);
        }
        ["open-queue", path] => *dict = Some(Dict::open(path, queueing())?),
        ["queue-link", link] => *dict = Some(Dict::connect(&Target::parse(link)?, queueing())?),
        // With as little memory as a store can have.
        ["open-small", path] => {
            let memory_bytes = Some(0);
            *dict = Some(Dict::open(
                path,
                Options {
                    memory_bytes,
                    ..Options::default()
                },
            )?);
        }
        ["join", path] => {
            let promote = false;
            *dict = Some(Dict::open(
                path,
                Options {
                    promote,
                    ..Options::default()
                },
            )?);
        }
        ["connect", address] => {
            *dict = Some(Dict::connect(&Target::parse(address)?, Options::default())?);
        }
        ["connect-only", address] => {
            let timeout = Duration::from_millis(300);
            let options = Options {
                promote: false,
                timeout,
                ..Options::default()
            };
            *dict = match Dict::connect(&Target::parse(address)?, options) {
                Ok(dict) => Some(dict),
                Err(error) => return Ok(format!("{:?} {error}", error.kind())),
            };
        }
        ["connect-quick", address] => {
            let timeout = Duration::from_millis(500);
            let options = Options {
                timeout,
                ..Options::default()
            };
            *dict = match Dict::connect(&Target::parse(address)?, options) {
                Ok(dict) => Some(dict),
                Err(error) => return Ok(format!("{:?} {error}", error.kind())),
            };
        }
        _ => return use_it(dict.as_ref().ok_or("no object")?, words),
    }
    done()
}

fn use_it(dict: &Dict, words: &[&str]) -> Answer {
    Ok(match *words {
        ["set", key, value] => {
            dict.set(&k(key), v(value)).wait()?;
            "ok".into()
        }
        ["get", key] => match dict.get(&k(key))? {
            Some(payload) => format!("= {}", value::from_payload::<String>(&payload)?),
            None => "none".into(),
        },
        ["number", key] => match dict.get(&k(key))? {
            Some(payload) => value::from_payload::<i64>(&payload)?.to_string(),
            None => "none".into(),
        },
        ["incr", key] => dict.incr(&k(key), 1).wait()?.to_string(),
        // Answers the numbers it got, which differ when no increment ran twice.
        ["incr-many", key, count] => {
            let mut got = Vec::new();
            for _ in 0..count.parse()? {
                got.push(dict.incr(&k(key), 1).wait()?);
            }
            let rising = got.windows(2).all(|pair| pair[0] < pair[1]);
            format!("{} {rising}", got.len())
        }
        ["delete", key] => dict.delete(&k(key)).wait()?.0.to_string(),
        ["swap", key, old, new] => dict
            .compare_and_set(&k(key), Some(v(old)), Some(v(new)))
            .wait()?
            .to_string(),
        ["take", key, new] => dict
            .compare_and_set(&k(key), None, Some(v(new)))
            .wait()?
            .to_string(),
        ["level", key, value] => dict.set(&k(key), v(value)).wait()?.durability.to_string(),
        ["clear"] => dict.delete_range(KeyRange::default()).wait()?.to_string(),
        ["fill", key, bytes] => {
            let large = "x".repeat(bytes.parse()?);
            dict.set(&k(key), v(&large)).wait()?.durability.to_string()
        }
        ["entries"] => entries(dict)
            .into_iter()
            .map(|(key, value)| format!("{}={value}", key.trim_matches('"')))
            .collect::<Vec<_>>()
            .join(" "),
        ["backwards"] => dict
            .keys(KeyRange::default(), true)?
            .map(|entry| {
                key::decode(&entry?.0)?
                    .to_string()
                    .parse::<String>()
                    .map_err(Into::into)
            })
            .collect::<Result<Vec<String>, Box<dyn std::error::Error>>>()?
            .join(" ")
            .replace('"', ""),
        ["contains", key] => dict.contains(&k(key))?.to_string(),
        ["queued"] => dict.status().queued.to_string(),
        ["is-stale"] => (dict.status().stale > Duration::ZERO).to_string(),
        ["conflicts"] => conflicts(dict)?,
        ["clear-conflicts"] => {
            dict.clear_conflicts().wait()?;
            "ok".into()
        }
        ["limit-files", bytes] => {
            children::limit_files(bytes.parse()?);
            "ok".into()
        }
        // Each key once, a few of them in flight at a time.
        ["incr-each", from, to] => {
            let mut flying = std::collections::VecDeque::new();
            for number in from.parse::<u32>()?..to.parse()? {
                flying.push_back(dict.incr(&k(&format!("u{number}")), 1).start());
                if flying.len() > 8 {
                    flying.pop_front().map(objsync::Pending::wait).transpose()?;
                }
            }
            "ok".into()
        }
        // How many of them there are, and whether one was done twice.
        ["count-each"] => {
            let mut twice = false;
            let mut count = 0;
            for entry in dict.scan(objsync::key::str_prefix("u"), false)? {
                twice |= value::from_payload::<i64>(&entry?.1)? != 1;
                count += 1;
            }
            format!("{count} {twice}")
        }
        // Asks without waiting for the answer.
        ["start-incr", key] => {
            std::mem::forget(dict.incr(&k(key), 1).start());
            "ok".into()
        }
        // Adds one to a field of a value, so many times, each time on what is there.
        ["edit", key, field, count] => {
            for _ in 0..count.parse()? {
                edit(dict, &k(key), field)?;
            }
            "ok".into()
        }
        ["role"] => dict.status().role.to_string(),
        ["address"] => dict.status().address.ok_or("no address")?,
        ["serve", address] => dict.serve(address.parse()?)?.to_string(),
        ["len"] => dict.len()?.to_string(),
        ["sync"] => dict.sync().wait()?.revision.to_string(),
        ["close"] => {
            dict.close()?;
            "ok".into()
        }
        // The child sleeps for good, holding whatever it inherited.
        ["fork"] => match children::fork() {
            0 => loop {
                std::thread::park();
            },
            child => child.to_string(),
        },
        // The child writes through the handle it inherited.
        ["fork-set", key, value] => match children::fork() {
            0 => {
                let done = dict.set(&k(key), v(value)).wait();
                let read = dict.get(&k(key));
                let good = done.is_ok() && read.is_ok_and(|read| read == Some(v(value)));
                children::exit_now(if good { 0 } else { 1 });
            }
            child => children::wait_for(child).to_string(),
        },
        _ => return crate::told::use_it(dict, words),
    })
}

/// Each conflict as `operation key wanted/actual: reason`.
fn conflicts(dict: &Dict) -> Answer {
    let value = |payload: &Option<objsync::Bytes>| -> Answer {
        Ok(match payload {
            Some(payload) => value::from_payload::<String>(payload)?,
            None => "-".into(),
        })
    };
    let mut told = Vec::new();
    for conflict in dict.conflicts()? {
        let key = match &conflict.key {
            Some(bytes) => key::decode(bytes)?.to_string(),
            None => "*".into(),
        };
        let (wanted, actual) = (value(&conflict.wanted)?, value(&conflict.actual)?);
        let Conflict {
            operation, reason, ..
        } = conflict;
        told.push(format!("{operation} {key} {wanted}/{actual}: {reason}"));
    }
    Ok(told.join("; "))
}

/// Options of a handle whose writes wait on disk.
pub(crate) fn queueing() -> Options {
    Options {
        offline: OfflineMode::Queue,
        timeout: Duration::from_secs(5),
        ..Options::default()
    }
}

fn edit(dict: &Dict, key: &[u8], field: &str) -> Result<(), Box<dyn std::error::Error>> {
    loop {
        let before = dict.get(key)?;
        let mut fields: BTreeMap<String, i64> = match &before {
            Some(payload) => value::from_payload(payload)?,
            None => BTreeMap::new(),
        };
        *fields.entry(field.to_owned()).or_insert(0) += 1;
        let after = Some(value::to_payload(&fields)?);
        if dict.compare_and_set(key, before, after).wait()? {
            return Ok(());
        }
    }
}

/// All entries of a dictionary, decoded.
pub(crate) fn entries(dict: &Dict) -> Vec<(String, String)> {
    let entry = |entry: objsync::Result<(objsync::Bytes, objsync::Bytes)>| {
        let (key, payload) = entry.unwrap();
        (
            key::decode(&key).unwrap().to_string(),
            value::from_payload(&payload).unwrap(),
        )
    };
    dict.scan(KeyRange::default(), false)
        .unwrap()
        .map(entry)
        .collect()
}

/// Options of a handle that holds nothing.
pub(crate) fn without_replica() -> Options {
    Options {
        replica: ReplicaMode::None,
        ..Options::default()
    }
}
