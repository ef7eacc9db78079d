//! Sessions and replicas over a network that breaks whenever it can: the machines that ship, an
//! owner in memory, and chance from a seed.
//!
//! Each run has four clients that write, read and follow, while connections are cut at any byte,
//! answers are lost, the owner dies with writes that are not durable yet, its log is trimmed,
//! subscribers fall behind, sessions are forgotten, calls run out of time and a client takes the
//! store over. At the end everything must have happened exactly once, in order, and all copies must
//! be equal. A failure prints its seed; `SIM_SEED=n` runs one seed alone, `SIM_SEEDS=n` so many.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test panics and prints"
)]

mod client;
mod connection;
mod owner;
mod random;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use random::Trace;
use world::World;

const SEEDS: u64 = 300;

fn run(seed: u64) -> Trace {
    match catch_unwind(AssertUnwindSafe(|| World::new(seed).run())) {
        Ok(trace) => trace,
        Err(panic) => {
            println!("failed with SIM_SEED={seed}");
            resume_unwind(panic)
        }
    }
}

fn number_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn every_write_happens_once_and_in_order_and_all_copies_end_equal() {
    if let Some(seed) = number_from_environment("SIM_SEED") {
        run(seed);
        return;
    }
    let seeds = number_from_environment("SIM_SEEDS").unwrap_or(SEEDS);
    for seed in 0..seeds {
        run(seed);
    }
}

#[test]
fn equal_seeds_give_equal_runs_and_others_do_not() {
    for seed in 0..10 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
        assert_ne!(run(seed), run(seed + 1_000), "seed {seed}");
    }
}

/// A simulator in which nothing goes wrong, or nothing goes right, proves nothing.
#[test]
fn runs_see_every_way_in_which_a_call_can_end() {
    let mut total: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..40 {
        for (name, count) in World::tally(seed) {
            *total.entry(name).or_insert(0) += count;
        }
    }
    println!("{total:?}");
    for name in [
        "Done",
        "Numb",
        "Swap",
        "Invalid",
        "OutcomeUnknown",
        "Unavailable",
    ] {
        assert!(
            total.get(name).is_some_and(|count| *count >= 20),
            "{name}: {total:?}"
        );
    }
}
