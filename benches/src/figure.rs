//! One figure: a name, a number and its unit, printed as a JSON line.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Result;

/// Prints a figure.
pub(crate) fn print(name: &str, value: f64, unit: &str) -> Result<()> {
    let line = json!({"figure": name, "value": value, "unit": unit});
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

/// Times single calls and prints the median and the 99th of a hundred.
pub(crate) fn each<T>(
    name: &str,
    items: &[T],
    mut call: impl FnMut(&T) -> objsync::Result<()>,
) -> Result<()> {
    let mut times = Vec::with_capacity(items.len());
    for item in items {
        let start = Instant::now();
        call(item)?;
        times.push(start.elapsed());
    }
    print_times(name, times)
}

/// Prints the median and the 99th of a hundred of samples.
pub(crate) fn print_times(name: &str, mut times: Vec<Duration>) -> Result<()> {
    times.sort_unstable();
    let micros = |index: usize| times[index.min(times.len() - 1)].as_secs_f64() * 1e6;
    print(&format!("{name} p50"), micros(times.len() / 2), "us")?;
    print(&format!("{name} p99"), micros(times.len() * 99 / 100), "us")
}

/// Times many calls as one and prints microseconds for each: for calls near the clock's own cost.
pub(crate) fn together<T>(
    name: &str,
    items: &[T],
    mut call: impl FnMut(&T) -> objsync::Result<()>,
) -> Result<()> {
    let start = Instant::now();
    for item in items {
        call(item)?;
    }
    let micros = start.elapsed().as_secs_f64() * 1e6;
    print(name, micros / items.len() as f64, "us")
}
