//! A server in another process, and what its peers wait for.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use objsync::{Bytes, Dict, Durability, KeyRange, Options, Target};

use crate::server::Server;
use crate::{Result, data, figure};

/// Connects as programs do, with a copy of everything.
pub(crate) fn connect(address: &str, durability: Durability) -> Result<Dict> {
    let options = Options {
        durability: Some(durability),
        ..Options::default()
    };
    Ok(Dict::connect(&Target::parse(address)?, options)?)
}

/// Measures one client at a time, and a watcher in a second process.
pub(crate) fn measure(folder: &Path, program: &Path, scale: u32) -> Result<()> {
    let server = Server::start(program, &folder.join("network"))?;
    let d = connect(&server.address, Durability::Buffered)?;
    let keys = data::keys("k", 2_000 / scale)?;
    let payload = data::record(7)?;
    let set = |d: &Dict, key: &Bytes| d.set(key, payload.clone()).wait().map(drop);
    figure::each("network set buffered", &keys, |key| set(&d, key))?;
    figure::together("network get", &keys, |key| d.get(key).map(drop))?;
    let counter = &data::keys("counter", 1)?[0];
    figure::each("network incr", &keys, |_| {
        d.incr(counter, 1).wait().map(drop)
    })?;

    let safe = connect(&server.address, Durability::Sync)?;
    figure::each("network set sync", &keys[..keys.len() / 4], |key| {
        set(&safe, key)
    })?;
    safe.close()?;

    seen(&server, &d, 2_000 / scale)?;

    let many = data::keys("p", 20_000 / scale)?;
    let start = Instant::now();
    let mut pipeline = d.pipeline();
    for key in &many {
        pipeline.set(key, payload.clone())?;
    }
    pipeline.finish()?;
    let rate = many.len() as f64 / start.elapsed().as_secs_f64();
    figure::print("network set pipelined", rate, "per s")?;

    let start = Instant::now();
    let late = connect(&server.address, Durability::Buffered)?;
    let count = late.scan(KeyRange::default(), false)?.count();
    figure::print("network join", start.elapsed().as_secs_f64() * 1e3, "ms")?;
    figure::print("network join keys", count as f64, "keys")?;
    late.close()?;
    d.close()?;
    Ok(())
}

/// From the start of a set to its arrival in the other process, by the system's clock.
fn seen(server: &Server, d: &Dict, count: u32) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--watch", &server.address, "--count", &count.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("the watcher has no output")?;
    let mut lines = BufReader::new(stdout).lines();
    let ready = lines.next().ok_or("the watcher did not start")??;
    assert_eq!(ready, "ready");
    let keys = data::keys("seen", 50)?;
    for key in keys.iter().cycle().take(count as usize) {
        let sent = now().as_nanos().to_string();
        d.set(key, rmp_serde::to_vec_named(&sent)?).wait()?;
        // As a program that does something else between: a watcher is asleep when a change comes.
        std::thread::sleep(Duration::from_micros(500));
    }
    let delays = lines.next().ok_or("the watcher saw too little")??;
    let delays: Vec<u64> = serde_json::from_str(&delays)?;
    child.wait()?;
    figure::print_times(
        "network seen",
        delays.into_iter().map(Duration::from_nanos).collect(),
    )
}

/// The second process of [`seen`].
#[expect(clippy::print_stdout, reason = "the other process reads it")]
pub(crate) fn watch(address: &str, count: u32) -> Result<()> {
    let d = connect(address, Durability::Buffered)?;
    let changes = d.watch(KeyRange::default(), None)?;
    println!("ready");
    let mut delays = Vec::with_capacity(count as usize);
    for change in changes.take(count as usize) {
        let arrived = now();
        if let Some(payload) = change?.value {
            let sent: String = rmp_serde::from_slice(&payload)?;
            let sent = Duration::from_nanos(sent.parse()?);
            delays.push(u64::try_from(arrived.saturating_sub(sent).as_nanos())?);
        }
    }
    println!("{}", serde_json::to_string(&delays)?);
    d.close()?;
    Ok(())
}

/// The time by the system's clock.
pub(crate) fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
