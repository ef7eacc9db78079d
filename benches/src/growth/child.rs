//! The processes that have the store open.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use objsync::{Bytes, Dict, Durability, KeyRange, Options, key};

use crate::Result;

/// Bytes of each value, which no codec makes smaller.
const VALUE_BYTES: usize = 100;
/// Keys of one transaction, after each of which progress is told.
const UPDATE_COUNT: u32 = 10_000;

/// What a child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Fills the store, and closes it when told.
    Fill,
    /// Opens it, writes once, and waits to be killed.
    Hold,
    /// Opens it and times what it reads.
    Open,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fill => "fill",
            Self::Hold => "hold",
            Self::Open => "open",
        })
    }
}

/// Keys and values of so many pairs.
pub(crate) fn live_bytes(keys: u32) -> u64 {
    let pair = key_of(0).map_or(0, |key| key.len() + payload(0).len());
    u64::from(keys) * pair as u64
}

/// Runs as a child.
pub(crate) fn run(role: Role, directory: &Path, keys: u32) -> Result<()> {
    match role {
        Role::Fill => fill(directory, keys),
        Role::Hold => hold(directory),
        Role::Open => open(directory, keys),
    }
}

fn fill(directory: &Path, keys: u32) -> Result<()> {
    let d = Dict::open(directory, buffered())?;
    for start in (0..keys).step_by(UPDATE_COUNT as usize) {
        let end = keys.min(start + UPDATE_COUNT);
        let pairs = (start..end).map(|number| Ok((key_of(number)?, payload(number))));
        d.update(pairs.collect::<Result<Vec<_>>>()?)?;
        say(&format!("filled {end}"))?;
    }
    d.flush(None).wait()?;
    say("all")?;
    wait()?;
    Ok(d.close()?)
}

fn hold(directory: &Path) -> Result<()> {
    let d = Dict::open(directory, Options::default())?;
    d.set(&key_of(0)?, payload(0)).wait()?;
    say("ready")?;
    wait()
}

fn open(directory: &Path, keys: u32) -> Result<()> {
    let start = Instant::now();
    let d = Dict::open(directory, Options::default())?;
    let opened = start.elapsed();
    let found = d.get(&key_of(keys / 2)?)?;
    let read = start.elapsed();
    assert_eq!(found, Some(payload(keys / 2)));
    say(&format!("{} ms open", opened.as_secs_f64() * 1e3))?;
    say(&format!("{} ms open and read", read.as_secs_f64() * 1e3))?;

    let start = Instant::now();
    assert_eq!(d.len()?, u64::from(keys));
    say(&format!("{} ms count", start.elapsed().as_secs_f64() * 1e3))?;

    let start = Instant::now();
    let mut count = 0;
    for entry in d.scan(KeyRange::default(), false)? {
        entry?;
        count += 1;
    }
    assert_eq!(count, keys);
    say(&format!("{} s scan", start.elapsed().as_secs_f64()))?;
    say("done")?;
    wait()?;
    Ok(d.close()?)
}

fn buffered() -> Options {
    Options {
        durability: Some(Durability::Buffered),
        ..Options::default()
    }
}

fn key_of(number: u32) -> Result<Bytes> {
    let key = key::Key::Str(format!("user:{number:08}"));
    Ok(key::encode(&key)?.into_bytes())
}

/// Bytes that follow from a number and look random (xorshift64*), as MessagePack.
fn payload(number: u32) -> Bytes {
    let mut payload = vec![0xc4, u8::try_from(VALUE_BYTES).expect("it is 100")];
    let mut state = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while payload.len() < VALUE_BYTES + 2 {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        payload.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes());
    }
    payload.truncate(VALUE_BYTES + 2);
    payload.into()
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Waits for a line, or for the end of who would write it.
fn wait() -> Result<()> {
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
