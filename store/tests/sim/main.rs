//! Stores simulated whole: random work, random faults, and every end there is, from one seed.
//!
//! A disk that forgets, fails and lies stands under the store, an index that may be left behind
//! beside it, and nothing in it runs but what the seed calls. After each end the store is opened
//! again and compared with a plain map of what was acknowledged: all of it is there, nothing half,
//! in its order, done once, and no revision was given twice.
//!
//! `OBJSYNC_SEEDS=100000` runs so many, `OBJSYNC_SEED=7` that one; `make sim` runs many, optimised.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "a test that cannot go on fails; random numbers are cut to size"
)]

mod checks;
#[path = "../harness/mod.rs"]
mod harness;
mod history;
mod home;
mod leases;
mod lives;
mod model;
mod newer;
mod surroundings;
mod time;
mod work;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of a run that nobody asked more of.
const SEED_COUNT: u64 = 2_000;

#[test]
fn whatever_happens_the_store_keeps_what_it_acknowledged() {
    let (first, count) = match (number_from("OBJSYNC_SEED"), number_from("OBJSYNC_SEEDS")) {
        (Some(seed), _) => (seed, 1),
        (None, count) => (0, count.unwrap_or(SEED_COUNT)),
    };
    let next = AtomicU64::new(first);
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let work = || run_seeds(&next, first + count);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(
        failed.is_empty(),
        "seed {} failed (of {failed:?}); again with: OBJSYNC_SEED={} cargo test -p objsync-store \
         --test sim",
        failed[0],
        failed[0]
    );
}

/// Runs seeds until the end, or until a few failed.
fn run_seeds(next: &AtomicU64, end: u64) -> Vec<u64> {
    let place = Place::new();
    let mut failed = Vec::new();
    while failed.len() < 3 {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            break;
        }
        let run = || lives::run(seed, &place.store());
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            println!("seed {seed} failed");
            failed.push(seed);
        }
    }
    failed
}

#[test]
fn same_seed_gives_the_same_run_call_by_call() {
    for seed in 0..20 {
        let runs = [(); 2].map(|()| {
            let place = Place::new();
            lives::run(seed, &place.store())
        });
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
}

/// Where the lock of a store lies; all else of it is simulated.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.0.path().join("home")).unwrap();
        place
    }

    /// The last two names of the path are the same each time.
    fn store(&self) -> std::path::PathBuf {
        self.0.path().join("home/store")
    }
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}
