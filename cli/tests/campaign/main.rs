//! Processes that are killed at random moments, under load, again and again.
//!
//! Goal: every promise about acknowledged writes, seen from outside. Method: clients in processes
//! of their own write puts, transactions, increments and compare-and-sets, synced and buffered,
//! several in flight, and write down what they start and what they are answered. The owner is
//! killed at moments that a seed decides: a server that is started again, or one of the clients,
//! from which another takes over. They are stopped for a while too (SIGSTOP), and a third kind of
//! store has a network between server and clients that loses, doubles, reorders, swallows and cuts.
//! At the end of each round: what was answered is there, once, whole and in order; what was not
//! answered is there up to some operation and not beyond; no revision was given twice; all replicas
//! are equal; the checkers of `objsync_tests` accept all that was recorded; every byte on disk is
//! sound; and the next owner finds the same.
//!
//! `OBJSYNC_ROUNDS` says how many rounds (default 50), `OBJSYNC_SEED` which.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on stops"
)]

mod arena;
mod attack;
mod claims;
mod client;
mod history;
mod journal;
#[path = "../program/mod.rs"]
mod program;
mod random;
mod recorder;

use std::time::{Duration, Instant, SystemTime};

use arena::{Arena, Mode};
use objsync_tests::proxy::Faults;
use random::Random;

/// Rounds with one store; then a new one is made.
const STORE_ROUNDS: u64 = 10;
const CLIENT_COUNT: usize = 4;
/// In one of so many rounds, values are large, and the log goes on in new segments.
const HEAVY_ONE_IN: u64 = 10;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    }
}

#[test]
fn killed_at_any_moment_nothing_answered_is_lost_torn_reordered_or_done_twice() {
    let rounds = setting("OBJSYNC_ROUNDS", 50);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let first = setting("OBJSYNC_SEED", now.unwrap().subsec_nanos().into());
    println!("OBJSYNC_SEED={first} OBJSYNC_ROUNDS={rounds}");
    let start = Instant::now();
    let (mut arena, mut answered) = (None, 0);
    for round in 0..rounds {
        let seed = first.wrapping_add(round);
        if round % STORE_ROUNDS == 0 {
            answered += arena.as_ref().map_or(0, Arena::answered);
            let modes = [Mode::Served, Mode::Promoted, Mode::Remote];
            let mode = modes[usize::try_from(round / STORE_ROUNDS % 3).unwrap()];
            arena = Some(Arena::new(mode, seed));
        }
        let arena = arena.as_mut().expect("it was made just now");
        println!(
            "round {round} seed {seed} {:?} {:.0?}",
            arena.mode(),
            start.elapsed()
        );
        play(arena, &mut Random::new(seed));
        let (calls, events) = arena.counts();
        println!("{calls} calls, {events} events, {} lost", arena.lost());
    }
    answered += arena.as_ref().map_or(0, Arena::answered);
    println!(
        "{rounds} rounds, {answered} answers, {:.0?}",
        start.elapsed()
    );
    assert!(answered > rounds * 20, "{answered} answers are no load");
}

/// One round: load, one to three kills, and the checks.
fn play(arena: &mut Arena, random: &mut Random) {
    let go = if random.one_in(HEAVY_ONE_IN) {
        "go heavy"
    } else {
        "go"
    };
    if arena.mode() != Mode::Promoted {
        arena.start_server();
        arena.await_server();
        arena.compare_with_before();
    }
    arena.fill(CLIENT_COUNT, random, go);
    for _ in 0..1 + random.below(3) {
        let most = Duration::from_micros(random.below(250_000));
        arena.let_run(random.below(4_000), most);
        match arena.mode() {
            Mode::Served => strike_server(arena, random),
            Mode::Promoted => strike_client(arena, random),
            Mode::Remote => strike_network(arena, random),
        }
        arena.fill(CLIENT_COUNT, random, go);
    }
    arena.let_run(random.below(2_000), Duration::from_millis(100));
    arena.set_network(Faults::NONE);
    arena.settle();
    match arena.mode() {
        Mode::Served | Mode::Remote => {
            let signal = random.pick(&["KILL", "KILL", "TERM"]);
            arena.end_server(signal);
        }
        Mode::Promoted => arena.kill_all(random),
    }
    arena.check_files();
}

/// Kills the owner, or another, or stops it for a while: then nobody may take its place.
fn strike_client(arena: &mut Arena, random: &mut Random) {
    let owner = !random.one_in(4);
    if random.one_in(3) {
        let most = Duration::from_millis(random.below(400));
        return arena.pause_client(random, owner, most);
    }
    arena.kill_client(random, owner);
}

/// Does something to the network, to the server behind it, or to one of its clients.
fn strike_network(arena: &mut Arena, random: &mut Random) {
    let some = Duration::from_millis(50 + random.below(500));
    let bad = Faults {
        drop_permille: u32::try_from(random.below(200)).unwrap(),
        duplicate_permille: u32::try_from(random.below(100)).unwrap(),
        late_permille: u32::try_from(random.below(200)).unwrap(),
        late: Duration::from_millis(random.below(60)),
        delay: Duration::from_millis(random.below(5)),
        ..Faults::NONE
    };
    match random.below(7) {
        0 => arena.pause_server(some),
        1 => arena.pause_client(random, false, some),
        2 => strike_server(arena, random),
        3 => arena.set_network(bad),
        kind => {
            arena.set_network(Faults {
                is_cut: kind != 4,
                datagram_bytes_max: if kind == 4 {
                    1_300
                } else {
                    Faults::NONE.datagram_bytes_max
                },
                ..bad
            });
            // One of them longer than a connection lives.
            let some = if random.one_in(6) {
                some + Duration::from_secs(3)
            } else {
                some
            };
            arena.let_run(u64::MAX, some);
            arena.set_network(random.pick(&[Faults::NONE, bad]));
        }
    }
}

/// Kills the server, perhaps again while it starts, perhaps with a client; then starts it.
fn strike_server(arena: &mut Arena, random: &mut Random) {
    arena.end_server("KILL");
    if random.one_in(4) {
        arena.kill_client(random, false);
    }
    if random.one_in(3) {
        arena.start_server();
        arena.let_run(u64::MAX, Duration::from_micros(random.below(120_000)));
        arena.end_server("KILL");
    }
    arena.start_server();
    arena.await_server();
}
