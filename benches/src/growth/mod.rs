//! What a store of many keys takes, on disk and in memory, and how soon it is open again.
//!
//! Everything happens in child processes, which are looked at from outside: [`child`] is one of them,
//! [`watcher`] looks. The bound on log and snapshots is four times the live data, keys and values,
//! plus the retention; the index is told apart. Openings are with a warm cache: the files were
//! written just before.

pub(crate) mod child;
mod watcher;

use std::io::{BufRead, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use crate::{Result, figure};

use child::Role;
use watcher::{Disk, Watcher};

/// Log that is kept for peers that fell behind (`StoreLimits::retention_bytes`).
const RETENTION_BYTES: u64 = 1 << 30;
/// Log and snapshots may take so many times the live data beside it.
const LIVE_TIMES: u64 = 4;
const MIB: f64 = (1 << 20) as f64;

/// The bound on log and snapshots.
fn bound_bytes(live_bytes: u64) -> u64 {
    LIVE_TIMES * live_bytes + RETENTION_BYTES
}

/// Fills a store with `keys` values of 100 bytes, and opens it after a close and after a kill.
pub(crate) fn measure(folder: &Path, keys: u32) -> Result<()> {
    let directory = folder.join("growth");
    fill(&directory, keys)?;
    open("closed", &directory, keys)?;

    let mut holder = Process::start(Role::Hold, &directory, keys)?;
    holder.line("ready")?;
    holder.child.kill()?;
    holder.child.wait()?;
    open("killed", &directory, keys)
}

fn fill(directory: &Path, keys: u32) -> Result<()> {
    let live = child::live_bytes(keys);
    figure::print("growth keys", keys.into(), "keys")?;
    figure::print("growth live data", live as f64 / MIB, "MiB")?;
    let start = Instant::now();
    let mut process = Process::start(Role::Fill, directory, keys)?;
    let watcher = Watcher::start(directory, process.child.id());
    for line in process.lines.by_ref() {
        match line?.split_once(' ') {
            Some(("filled", count)) => watcher.filled(child::live_bytes(count.parse()?)),
            _ => break,
        }
    }
    let rate = f64::from(keys) / start.elapsed().as_secs_f64();
    figure::print("growth fill", rate, "keys per s")?;
    let rested = watcher.rest();
    watcher.print()?;
    rested.print("at rest")?;
    watcher::print_memory("at rest", process.child.id())?;

    let start = Instant::now();
    process.tell("close")?;
    process.child.wait()?;
    figure::print("growth close", start.elapsed().as_secs_f64() * 1e3, "ms")?;
    Disk::of(directory).print("closed")
}

/// Opens it in another process, which times itself.
fn open(after: &str, directory: &Path, keys: u32) -> Result<()> {
    let mut process = Process::start(Role::Open, directory, keys)?;
    for line in process.lines.by_ref() {
        let line = line?;
        if line == "done" {
            break;
        }
        let mut words = line.splitn(3, ' ');
        let (Some(value), Some(unit), Some(name)) = (words.next(), words.next(), words.next())
        else {
            return Err(format!("{line:?} is no figure").into());
        };
        figure::print(&format!("growth {after} {name}"), value.parse()?, unit)?;
    }
    watcher::print_memory(after, process.child.id())?;
    process.tell("close")?;
    process.child.wait()?;
    Ok(())
}

/// A child process, and what it says.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(role: Role, directory: &Path, keys: u32) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--child", &role.to_string(), "--keys", &keys.to_string()])
            .arg("--directory")
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the child has no output")?;
        let lines = BufReader::new(stdout).lines();
        Ok(Self { child, lines })
    }

    fn line(&mut self, wanted: &str) -> Result<()> {
        let line = self.lines.next().ok_or("the child ended")??;
        match line == wanted {
            true => Ok(()),
            false => Err(format!("the child said {line:?}, not {wanted:?}").into()),
        }
    }

    fn tell(&mut self, what: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().ok_or("the child has no input")?;
        Ok(writeln!(stdin, "{what}")?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that is gone already is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
