//! Promotion under attack: 64 processes race for one address, and whoever owns it is killed, before
//! and after it serves.
//!
//! The same clients, ledger and checkers as in the rounds; only more of them at once.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::arena::{Arena, Mode};
use crate::program::DEADLINE;
use crate::random::Random;
use crate::setting;

/// What a listening owner changes about the name of its socket.
fn socket(directory: &Path) -> Option<(u64, i64, i64)> {
    let found = std::fs::symlink_metadata(directory.join("sock")).ok()?;
    Some((found.ino(), found.ctime(), found.ctime_nsec()))
}

/// Waits until another process than `before` has the lock; tells which.
fn next_owner(directory: &Path, before: u32) -> u32 {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let text = std::fs::read_to_string(directory.join("LOCK")).unwrap_or_default();
        match text.strip_suffix('\n').and_then(|pid| pid.parse().ok()) {
            Some(pid) if pid != before => return pid,
            _ => assert!(Instant::now() < deadline, "nobody takes the lock"),
        }
        std::hint::spin_loop();
    }
}

#[test]
fn sixty_four_processes_race_and_one_owns_however_often_it_is_killed() {
    // Not that of the other test, which would want the same port.
    let seed = setting("OBJSYNC_SEED", 64).wrapping_mul(3);
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut arena = Arena::new(Mode::Promoted, seed);
    arena.fill(64, &mut random, "go single");
    for _ in 0..3 {
        arena.let_run(500, Duration::from_millis(300));
        arena.kill_client(&mut random, true);
    }
    arena.let_run(1_000, Duration::from_millis(500));
    arena.settle();
    arena.assert_one_owner();
    let (calls, events) = arena.counts();
    println!("{calls} calls, {events} events");
    arena.kill_all(&mut random);
    arena.check_files();
}

#[test]
fn owner_killed_between_lock_and_bind_is_followed_by_another_and_nothing_is_lost() {
    let seed = setting("OBJSYNC_SEED", 8).wrapping_mul(5);
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut arena = Arena::new(Mode::Promoted, seed);
    let directory = arena.directory();
    let (mut hits, mut tries) = (0, 0);
    while hits < 3 {
        arena.fill(8, &mut random, "go");
        arena.let_run(300, Duration::from_millis(200));
        let mut owner = next_owner(&directory, 0);
        let stale = socket(&directory);
        arena.kill_process(owner);
        // Whoever is next dies too, as soon as it has the lock.
        for _ in 0..2 {
            owner = next_owner(&directory, owner);
            arena.kill_process(owner);
            hits += u32::from(socket(&directory) == stale);
        }
        tries += 1;
        assert!(
            tries < 50,
            "{hits} of {tries} were killed before they served"
        );
        arena.fill(8, &mut random, "go");
        arena.settle();
        arena.assert_one_owner();
    }
    println!("{hits} owners in {tries} rounds were killed before they served");
    arena.kill_all(&mut random);
    arena.check_files();
}
