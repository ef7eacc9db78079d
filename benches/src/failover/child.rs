//! A process of `failover`: it writes all the time, and says when another owner answers.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use objsync::{Bytes, Dict, Options, Target, key, value};

use crate::Result;

/// Between the answer of one write and the next.
const PAUSE: Duration = Duration::from_millis(10);
/// Longer than any takeover: no write is given up.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The time that all processes of a machine agree on.
pub(super) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// Writes until it is killed, or until its input ends: then it closes in order. For each owner that
/// answers, one line: when its first answer came, and what this process is to the store by then.
pub(crate) fn run(address: &str) -> Result<()> {
    let options = Options {
        timeout: TIMEOUT,
        ..Options::default()
    };
    let dict = Dict::connect(&Target::parse(address)?, options)?;
    let name = key::Key::Str(format!("process/{}", std::process::id()));
    let name: Bytes = key::encode(&name)?.into_bytes();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    std::thread::spawn(move || {
        // An input that fails is over too.
        let _ = std::io::stdin().read_line(&mut String::new());
        over.store(true, Ordering::Relaxed);
    });
    let mut epoch = None;
    for number in 0_u64.. {
        if is_over.load(Ordering::Relaxed) {
            return Ok(dict.close()?);
        }
        let ack = dict.set(&name, value::to_payload(&number)?).wait()?;
        let now_ns = now_ns();
        if epoch.replace(ack.epoch) != Some(ack.epoch) {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{now_ns} {}", dict.status().role)?;
            out.flush()?;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
