//! Many peers and their owner in one process, from one seed.
//!
//! Two worlds share the work, the history and its checks. In `whole` the server and the client ship
//! whole: QUIC over a network that loses, doubles, reorders, delays, cuts and swallows packets, on
//! virtual time, over a store on a disk that lies. In `plain` the same store, sessions and replicas
//! talk in plain messages, so that millions of steps take seconds.
//!
//! `OBJSYNC_SEEDS=10000` runs so many of each, `OBJSYNC_SEED=7` that one; `make simnet` runs many,
//! optimised.

#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test that cannot go on fails; random numbers are cut to size"
)]

mod checks;
#[path = "../../../store/tests/harness/mod.rs"]
mod harness;
mod history;
mod plain;
#[path = "../../../store/tests/sim/surroundings.rs"]
mod surroundings;
mod trace;
mod whole;
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of the whole stack in a run that nobody asked more of.
const WHOLE_COUNT: u64 = 200;
/// Seeds of plain messages, 2,000 steps each.
const PLAIN_COUNT: u64 = 80;

#[test]
fn whole_stack_keeps_its_promises_whatever_the_network_and_the_disk_do() {
    run_seeds("whole_stack", WHOLE_COUNT, whole::run);
}

#[test]
fn plain_messages_keep_the_same_promises_over_millions_of_steps() {
    run_seeds("plain_messages", PLAIN_COUNT, plain::run);
}

#[test]
fn same_seed_gives_the_same_run_message_by_message() {
    assert_repeats(8, plain::run);
}

#[test]
fn same_seed_gives_the_same_run_packet_by_packet() {
    assert_repeats(6, whole::run);
}

/// Runs a world once for each seed, on all cores.
fn run_seeds(test: &str, count: u64, run: fn(u64, &Path) -> u64) {
    let (first, count) = match (number_from("OBJSYNC_SEED"), number_from("OBJSYNC_SEEDS")) {
        (Some(seed), _) => (seed, 1),
        (None, asked) => (0, asked.unwrap_or(count)),
    };
    let next = AtomicU64::new(first);
    let work = || some_seeds(&next, first + count, run);
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join().unwrap());
        joined.flatten().collect()
    });
    assert!(
        failed.is_empty(),
        "seed {0} failed (of {failed:?}); again with: OBJSYNC_SEED={0} cargo test -p objsync-tests \
         --test sim {test}",
        failed[0]
    );
}

/// Takes seeds until the end, or until a few failed.
fn some_seeds(next: &AtomicU64, end: u64, run: fn(u64, &Path) -> u64) -> Vec<u64> {
    let place = Place::new();
    let mut failed = Vec::new();
    while failed.len() < 3 {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            break;
        }
        let alone = || run(seed, &place.fresh());
        if catch_unwind(AssertUnwindSafe(alone)).is_err() {
            println!("seed {seed} failed");
            failed.push(seed);
        }
    }
    failed
}

fn assert_repeats(count: u64, run: fn(u64, &Path) -> u64) {
    for seed in 0..count {
        let place = Place::new();
        let runs = [(); 2].map(|()| run(seed, &place.fresh()));
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
}

/// Where the lock and the key of a store lie; all else of it is simulated.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A directory where no store was before. Its last two names are the same each time.
    fn fresh(&self) -> PathBuf {
        let home = self.0.path().join("home");
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir(&home).unwrap();
        home.join("store")
    }
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}
