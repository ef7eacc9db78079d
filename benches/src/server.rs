//! A server in a process of its own, and what the system says of a process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Result;

/// `objsync serve` on a free port; stopped when dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: String,
}

impl Server {
    /// Starts the program on a directory and waits until it serves.
    pub(crate) fn start(program: &Path, directory: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["--json", "serve", "--port", "0", "--data-dir"])
            .arg(directory)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("the server has no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let said: serde_json::Value = serde_json::from_str(&line)?;
        let address = said["address"]
            .as_str()
            .ok_or("the server gives no address")?
            .to_owned();
        Ok(Self { child, address })
    }

    /// Bytes of memory it holds.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        resident_bytes(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that is gone already is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes of memory that a process holds.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    memory_bytes(pid, "VmRSS")
}

/// One of the numbers that the system gives for the memory of a process.
pub(crate) fn memory_bytes(pid: u32, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let number = lines
        .find(|(name, _)| *name == field)
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .ok_or_else(|| format!("no {field} of process {pid}"))?;
    Ok(number.parse::<u64>()? << 10)
}
