//! What a durable write costs beyond the disk itself: both are measured in the same run, in turns.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use objsync::{Bytes, Dict, Durability, Options};

use crate::server::Server;
use crate::{Result, data, figure, network};

/// Bytes of each value.
const VALUE_BYTES: usize = 100;
/// Bytes that one set of such a value appends to the log: its frame, with key and head.
const BLOCK_BYTES: usize = 256;
/// How often a pipeline is timed; the median counts.
const ROUNDS: usize = 5;

/// Measures 2,000 sets beside 2,000 syncs, then pipelines of 100,000, at full scale.
pub(crate) fn measure(folder: &Path, program: &Path, scale: u32) -> Result<()> {
    let payload = data::text(VALUE_BYTES)?;
    let d = Dict::open(folder.join("floor"), sync())?;
    one_by_one(&d, folder, &payload, 2_000 / scale)?;
    pipelined("floor pipelined local", &d, &payload, 100_000 / scale)?;
    d.close()?;

    let server = Server::start(program, &folder.join("floor-served"))?;
    let d = network::connect(&server.address, Durability::Sync)?;
    pipelined("floor pipelined", &d, &payload, 100_000 / scale)?;
    d.close()?;
    Ok(())
}

fn sync() -> Options {
    Options {
        durability: Some(Durability::Sync),
        ..Options::default()
    }
}

/// A durable set and the sync of a preallocated block of the same size, one after the other.
fn one_by_one(d: &Dict, folder: &Path, payload: &Bytes, count: u32) -> Result<()> {
    let blocks = Blocks::create(&folder.join("floor-blocks"), count)?;
    let (mut sets, mut syncs) = (Vec::new(), Vec::new());
    for (number, key) in (0..).zip(data::keys("floor", count)?) {
        sets.push(timed(|| {
            Ok(d.set(&key, payload.clone()).wait().map(drop)?)
        })?);
        syncs.push(timed(|| blocks.write(number))?);
    }
    let (set, sync) = (median(&sets), median(&syncs));
    figure::print_times("floor set sync", sets)?;
    figure::print_times("floor fdatasync", syncs)?;
    figure::print("floor set over fdatasync", set - sync, "us")
}

/// Durable sets a second, all of them answered.
fn pipelined(name: &str, d: &Dict, payload: &Bytes, count: u32) -> Result<()> {
    let keys = data::keys("pipelined", count)?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(timed(|| {
            let mut pipeline = d.pipeline();
            for key in &keys {
                pipeline.set(key, payload.clone())?;
            }
            pipeline.finish()?;
            Ok(())
        })?);
    }
    figure::print(name, f64::from(count) * 1e6 / median(&times), "per s")
}

/// A file of zeros that were written and synced, as the log's are.
struct Blocks(File);

impl Blocks {
    fn create(path: &Path, count: u32) -> Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all_at(&vec![0; count as usize * BLOCK_BYTES], 0)?;
        file.sync_all()?;
        Ok(Self(file))
    }

    fn write(&self, number: u64) -> Result<()> {
        let block = [0xa5; BLOCK_BYTES];
        self.0.write_all_at(&block, number * BLOCK_BYTES as u64)?;
        Ok(self.0.sync_data()?)
    }
}

fn timed(call: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    call()?;
    Ok(start.elapsed())
}

/// The median in microseconds.
fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}
