//! Coming back, joining, following many at a time, and following without anything to follow.
//!
//! The server and those who follow are processes of their own, on this machine.

use std::io::{BufRead, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use objsync::{Bytes, Dict, Durability, KeyRange, Options, ReplicaMode, Target, Watch};

use crate::network::{connect, now};
use crate::server::Server;
use crate::{Result, data, figure};

/// Changes that are missed.
const MISSED_COUNT: u32 = 10_000;
/// Keys that are joined, of [`VALUE_BYTES`] each.
const JOINED_COUNT: u32 = 1_000_000;
const VALUE_BYTES: usize = 100;
/// Changes that each of [`REPLICA_COUNT`] replicas receives.
const EVENT_COUNT: u32 = 200_000;
const REPLICA_COUNT: u32 = 8;
/// Handles with a watch that hears nothing, and watches of one handle.
const IDLE_COUNT: u32 = 300;
const WATCH_COUNT: u32 = 200;
/// How often what is short is measured.
const ROUNDS: u32 = 9;
/// Longer than a connection lives in silence.
const PAUSE: Duration = Duration::from_millis(4_500);

/// What a process of this part does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Holds a copy and says when the key `end` has come, again and again.
    Replicas,
    /// Holds handles that watch and hear nothing.
    Idle,
    /// Holds one handle whose watches hear nothing.
    Watches,
}

/// Measures all of it.
pub(crate) fn measure(folder: &Path, program: &Path, scale: u32) -> Result<()> {
    for (name, role, count) in [
        ("resume idle watcher", Role::Idle, IDLE_COUNT),
        (
            "resume idle watch of one handle",
            Role::Watches,
            WATCH_COUNT,
        ),
    ] {
        // A server that has done nothing else has nothing left over in its allocator.
        let server = Server::start(program, &folder.join(name))?;
        connect(&server.address, Durability::Buffered)?.close()?;
        idle(&server, name, (role, count / scale))?;
    }
    let server = Server::start(program, &folder.join("resume"))?;
    missed(&server, scale)?;
    fan_out(&server, scale)?;
    let server = Server::start(program, &folder.join("join"))?;
    join(&server, scale)
}

/// Changes that were missed, by a new handle and by one whose connection has died.
fn missed(server: &Server, scale: u32) -> Result<()> {
    let d = connect(&server.address, Durability::Buffered)?;
    let keys = data::keys("missed", MISSED_COUNT / scale)?;
    let first = d.set(&keys[0], data::text(VALUE_BYTES)?).wait()?;
    let mut times = Vec::new();
    write_all(&d, &keys)?;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let late = handle(&server.address, ReplicaMode::None)?;
        let watch = late.watch(KeyRange::default(), Some(first.revision))?;
        read(&watch, keys.len())?;
        times.push(start.elapsed());
        drop(watch);
        late.close()?;
    }
    figure::print_times("resume missed, new handle", times)?;

    let mut follower = Follower::start(Role::Replicas, server, 1)?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS.div_ceil(scale * 2) {
        signal("STOP", follower.child.id())?;
        write_all(&d, &keys)?;
        end(&d)?;
        std::thread::sleep(PAUSE);
        let woken = now();
        signal("CONT", follower.child.id())?;
        times.push(follower.ended()?.saturating_sub(woken));
    }
    figure::print_times("resume missed, after a pause", times)?;
    follower.stop()?;
    d.close()?;
    Ok(())
}

/// One writer, and replicas in one process and in a process each.
fn fan_out(server: &Server, scale: u32) -> Result<()> {
    let d = connect(&server.address, Durability::Buffered)?;
    let keys = data::keys("fan", EVENT_COUNT / scale)?;
    let events = f64::from(REPLICA_COUNT) * keys.len() as f64;
    for (name, processes) in [("one process", 1), ("a process each", REPLICA_COUNT)] {
        let mut followers = Vec::new();
        for _ in 0..processes {
            followers.push(Follower::start(
                Role::Replicas,
                server,
                REPLICA_COUNT / processes,
            )?);
        }
        let start = now();
        write_all(&d, &keys)?;
        end(&d)?;
        let mut last = start;
        for follower in &mut followers {
            last = last.max(follower.ended()?);
        }
        let rate = events / last.saturating_sub(start).as_secs_f64();
        figure::print(
            &format!("resume events of {REPLICA_COUNT} replicas, {name}"),
            rate,
            "per s",
        )?;
        for follower in followers {
            follower.stop()?;
        }
    }
    d.close()?;
    Ok(())
}

/// What the server takes for who hears nothing.
fn idle(server: &Server, name: &str, (role, count): (Role, u32)) -> Result<()> {
    // The first ones stay: they take what the allocator had left over.
    let first = Follower::start(role, server, count)?;
    let before = server.resident_bytes()?;
    let second = Follower::start(role, server, count)?;
    let taken = server.resident_bytes()?.saturating_sub(before);
    first.stop()?;
    second.stop()?;
    figure::print(name, taken as f64 / f64::from(count) / 1024.0, "KiB")
}

/// A new replica of everything.
fn join(server: &Server, scale: u32) -> Result<()> {
    let d = connect(&server.address, Durability::Buffered)?;
    let count = JOINED_COUNT / scale;
    let payload = data::text(VALUE_BYTES)?;
    let keys = data::keys("user", count)?;
    d.update(keys.into_iter().map(|key| (key, payload.clone())))?;
    d.close()?;
    let mut times = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        let late = handle(&server.address, ReplicaMode::Full)?;
        assert_eq!(late.len()?, u64::from(count));
        times.push(start.elapsed());
        late.close()?;
    }
    times.sort_unstable();
    figure::print("resume join", times[1].as_secs_f64() * 1e3, "ms")?;
    figure::print("resume join keys", f64::from(count), "keys")
}

fn handle(address: &str, replica: ReplicaMode) -> Result<Dict> {
    let options = Options {
        replica,
        timeout: Duration::from_secs(60),
        ..Options::default()
    };
    Ok(Dict::connect(&Target::parse(address)?, options)?)
}

fn write_all(d: &Dict, keys: &[Bytes]) -> Result<()> {
    let payload = data::text(VALUE_BYTES)?;
    let mut pipeline = d.pipeline();
    for key in keys {
        pipeline.set(key, payload.clone())?;
    }
    pipeline.finish()?;
    Ok(())
}

/// Sets the key that followers wait for.
fn end(d: &Dict) -> Result<()> {
    d.set(&end_key()?, data::text(1)?).wait()?;
    Ok(())
}

fn end_key() -> Result<Bytes> {
    Ok(data::keys("end", 1)?.remove(0))
}

fn read(watch: &Watch, count: usize) -> Result<()> {
    for change in watch.take(count) {
        change?;
    }
    Ok(())
}

fn signal(name: &str, pid: u32) -> Result<()> {
    let status = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()?;
    assert!(status.success(), "kill -{name} {pid}");
    Ok(())
}

/// A process that follows.
struct Follower {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    /// Starts it and waits until it follows.
    fn start(role: Role, server: &Server, count: u32) -> Result<Self> {
        let role = clap::ValueEnum::to_possible_value(&role).ok_or("every role has a name")?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--follow", role.get_name(), "--watch", &server.address])
            .args(["--count", &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("the follower has no input")?;
        let output = child.stdout.take().ok_or("the follower has no output")?;
        let mut follower = Self {
            child,
            input,
            lines: BufReader::new(output).lines(),
        };
        assert_eq!(follower.line()?, "ready");
        Ok(follower)
    }

    fn line(&mut self) -> Result<String> {
        Ok(self.lines.next().ok_or("the follower has ended")??)
    }

    /// When the key `end` had come everywhere, by the system's clock.
    fn ended(&mut self) -> Result<Duration> {
        Ok(Duration::from_nanos(self.line()?.parse()?))
    }

    /// Ends it, in order.
    fn stop(mut self) -> Result<()> {
        self.input.write_all(b"\n")?;
        drop(self.input);
        self.child.wait()?;
        Ok(())
    }
}

/// A process that follows, until it is told a line.
#[expect(clippy::print_stdout, reason = "the other process reads it")]
pub(crate) fn follow(role: Role, address: &str, count: u32) -> Result<()> {
    let (replica, handles, watches) = match role {
        Role::Replicas => (ReplicaMode::Full, count, 1),
        Role::Idle => (ReplicaMode::None, count, 1),
        Role::Watches => (ReplicaMode::None, 1, count),
    };
    let end = end_key()?;
    let range = KeyRange {
        end: Some(objsync::key::successor(&end)),
        start: end,
    };
    let dicts: Vec<Dict> = (0..handles)
        .map(|_| handle(address, replica))
        .collect::<Result<_>>()?;
    let mut all = Vec::new();
    for dict in &dicts {
        // A place in the owner's feed, not only a wish for one.
        let since = dict.sync().wait()?.revision;
        for _ in 0..watches {
            let since = (role != Role::Replicas).then_some(since);
            let watch = dict.watch(range.clone(), since)?;
            watch.try_recv()?;
            all.push(watch);
        }
        dict.sync().wait()?;
    }
    println!("ready");
    if role == Role::Replicas {
        std::thread::spawn(move || {
            while all.iter().all(|watch| matches!(watch.recv(), Ok(Some(_)))) {
                println!("{}", now().as_nanos());
            }
        });
    }
    std::io::stdin().read_line(&mut String::new())?;
    dicts.iter().try_for_each(Dict::close)?;
    Ok(())
}
