//! What an idle server takes, and what a full copy takes beside its raw data.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use objsync::{Dict, Durability, KeyRange, Options, ReplicaMode, Target};

use crate::server::{Server, resident_bytes};
use crate::{Result, data, figure, network};

/// Bytes of each value.
const VALUE_BYTES: usize = 100;

/// Measures a new server, then a copy of 200,000 values of 100 bytes at full scale.
pub(crate) fn measure(folder: &Path, program: &Path, scale: u32) -> Result<()> {
    let server = Server::start(program, &folder.join("memory"))?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    figure::print("memory idle server", mib(server.resident_bytes()?), "MiB")?;

    let empty = held(&server.address)?;
    let d = network::connect(&server.address, Durability::Buffered)?;
    let keys = data::keys("user", 200_000 / scale)?;
    let payload = data::text(VALUE_BYTES)?;
    let raw: usize = keys.iter().map(|key| key.len() + payload.len()).sum();
    d.update(keys.into_iter().map(|key| (key, payload.clone())))?;
    d.close()?;
    let full = held(&server.address)?;
    figure::print("memory full copy", mib(full), "MiB")?;
    figure::print(
        "memory full copy over raw",
        (full - empty) as f64 / raw as f64,
        "times",
    )?;
    figure::print("memory loaded server", mib(server.resident_bytes()?), "MiB")
}

/// Bytes of memory of a process that holds everything at an address.
fn held(address: &str) -> Result<u64> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--hold", address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("the holder has no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    assert_eq!(line.trim(), "ready");
    let bytes = resident_bytes(child.id())?;
    child
        .stdin
        .take()
        .ok_or("the holder has no input")?
        .write_all(b"\n")?;
    child.wait()?;
    Ok(bytes)
}

/// The second process: joins with a full copy, says so, and waits for a line.
#[expect(clippy::print_stdout, reason = "the other process reads it")]
pub(crate) fn hold(address: &str) -> Result<()> {
    let options = Options {
        replica: ReplicaMode::Full,
        ..Options::default()
    };
    let d = Dict::connect(&Target::parse(address)?, options)?;
    let _ = d.scan(KeyRange::default(), false)?.count();
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    d.close()?;
    Ok(())
}
