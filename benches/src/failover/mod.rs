//! How soon the others carry on when an owner is killed under load, or closes.
//!
//! Processes race for one loopback address, and each writes all the time, every write on disk before
//! it is answered. The owner is killed; what is timed is, for each other process, from the kill to
//! its first write that the next owner has acknowledged. Then another process takes the place of the
//! killed one. A hand-over is the same with an owner that closes. [`child`] is one of the processes.

pub(crate) mod child;

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::{Result, figure};

/// How many peers an owner has when it is killed.
const PEER_COUNTS: [usize; 2] = [8, 64];
/// Owners killed for each.
const ROUND_COUNT: u32 = 30;
/// Load before each kill.
const LOAD: Duration = Duration::from_millis(300);
/// Longer than this no process may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// How an owner ends.
#[derive(Clone, Copy)]
enum End {
    Kill,
    Close,
}

/// Ends owners, and prints the median, the 99th of a hundred and the longest of all times.
pub(crate) fn measure(folder: &Path, scale: u32) -> Result<()> {
    for (name, end) in [("failover", End::Kill), ("hand-over", End::Close)] {
        for peers in PEER_COUNTS {
            let name = format!("{name} {peers} peers");
            let mut arena = Arena::new(&folder.join(&name))?;
            let mut times = Vec::new();
            for _ in 0..(ROUND_COUNT / scale).max(1) {
                arena.fill(peers + 1)?;
                std::thread::sleep(LOAD);
                times.extend(arena.end_owner(end)?);
            }
            print(&name, times)?;
        }
    }
    Ok(())
}

fn print(name: &str, mut times: Vec<u64>) -> Result<()> {
    times.sort_unstable();
    let millis = |index: usize| times[index.min(times.len() - 1)] as f64 / 1e6;
    figure::print(&format!("{name} p50"), millis(times.len() / 2), "ms")?;
    figure::print(&format!("{name} p99"), millis(times.len() * 99 / 100), "ms")?;
    figure::print(&format!("{name} max"), millis(times.len() - 1), "ms")
}

/// A process, and what it said last.
struct Writer {
    id: u32,
    child: Child,
    /// When the present owner answered it first.
    answered_ns: Option<u64>,
    is_owner: bool,
}

/// All processes of one address.
struct Arena {
    home: PathBuf,
    address: String,
    writers: Vec<Writer>,
    said: Receiver<(u32, String)>,
    lines: Sender<(u32, String)>,
}

impl Arena {
    fn new(home: &Path) -> Result<Self> {
        std::fs::create_dir_all(home)?;
        // The kernel gives ports below 32768 to nobody who asks for any.
        let free = (20_000..32_000_u16)
            .rev()
            .find(|port| UdpSocket::bind(("127.0.0.1", *port)).is_ok())
            .ok_or("no free port")?;
        let (lines, said) = channel();
        Ok(Self {
            home: home.to_owned(),
            address: format!("127.0.0.1:{free}"),
            writers: Vec::new(),
            said,
            lines,
        })
    }

    /// Starts processes until there are `count`, all answered by the present owner.
    fn fill(&mut self, count: usize) -> Result<()> {
        while self.writers.len() < count {
            let mut child = Command::new(std::env::current_exe()?)
                .args(["--write", &self.address])
                .env("OBJSYNC_HOME", &self.home)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let id = child.id();
            let output = child.stdout.take().ok_or("the child has no output")?;
            let lines = self.lines.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(|line| line.ok()) {
                    if lines.send((id, line)).is_err() {
                        return;
                    }
                }
            });
            self.writers.push(Writer {
                id,
                child,
                answered_ns: None,
                is_owner: false,
            });
        }
        self.wait()
    }

    /// Waits until every process was answered by the present owner.
    fn wait(&mut self) -> Result<()> {
        while self.writers.iter().any(|it| it.answered_ns.is_none()) {
            let (id, line) = self.said.recv_timeout(DEADLINE)?;
            let (at, role) = line.split_once(' ').ok_or("a child said something else")?;
            // A line of one that was killed is of no interest.
            if let Some(writer) = self.writers.iter_mut().find(|it| it.id == id) {
                writer.answered_ns = Some(at.parse()?);
                writer.is_owner = role == "owner";
            }
        }
        Ok(())
    }

    /// Ends the owner, and tells how many nanoseconds later each other was answered by the next.
    fn end_owner(&mut self, end: End) -> Result<Vec<u64>> {
        let owner = self.writers.iter().position(|it| it.is_owner);
        let mut owner = self.writers.remove(owner.ok_or("nobody owns it")?);
        for writer in &mut self.writers {
            writer.answered_ns = None;
        }
        let ended_ns = child::now_ns();
        match end {
            End::Kill => owner.child.kill()?,
            End::Close => drop(owner.child.stdin.take()),
        }
        owner.child.wait()?;
        self.wait()?;
        let answered = self.writers.iter().filter_map(|it| it.answered_ns);
        Ok(answered.map(|at| at.saturating_sub(ended_ns)).collect())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for writer in &mut self.writers {
            // One that is gone already is what we want.
            let _ = writer.child.kill();
            let _ = writer.child.wait();
        }
    }
}
