//! Locks and times to live from a shell.

mod program;

use program::World;
use serde_json::Value as Json;

/// A command that says when it runs, and then only waits to be ended.
const SLEEP: &str = "echo held; exec sleep 60";

#[test]
fn key_with_a_time_to_live_goes_and_watch_says_that_it_expired() {
    let world = World::new();
    let server = world.serve("store");
    let to = server.address.as_str();
    let mut watch = world.start(&["--json", "--to", to, "watch", "--since", "0", "-n", "3"]);
    world
        .run(&["--to", to, "set", "token", "x", "--ttl", "80ms"])
        .ok();
    let kinds: Vec<Json> = (0..2)
        .map(|_| serde_json::from_str::<Json>(&watch.line()).unwrap())
        .map(|line| line["kind"].clone())
        .collect();
    assert_eq!(kinds, ["set", "expire"]);
    assert_eq!(world.run(&["--to", to, "get", "token"]).code, Some(1));
    let text = world
        .run(&["--to", to, "watch", "--since", "0", "-n", "2"])
        .ok();
    assert!(text.contains("expire token"), "{text}");
    for ttl in ["0", "soon", "-5s"] {
        world
            .run(&["--to", to, "set", "a", "1", "--ttl", ttl])
            .failed(2);
    }
    world
        .run(&["--to", to, "set", "a", "1", "--ttl", "9999d"])
        .failed(11);
}

#[test]
fn command_under_a_lock_ends_as_it_would_alone() {
    let world = World::new();
    let server = world.serve("store");
    let to = server.address.as_str();
    let run = |script: &str| world.run(&["--to", to, "lock", "l", "--", "sh", "-c", script]);
    let first: u64 = run("echo $OBJSYNC_FENCE").ok().trim().parse().unwrap();
    let second: u64 = run("echo $OBJSYNC_FENCE").ok().trim().parse().unwrap();
    assert!(second > first);
    run("exit 7").failed(7);
    run("kill -9 $$").failed(128 + 9);
    let error = world
        .run(&["--to", to, "lock", "l", "--", "./none"])
        .failed(12);
    assert!(error.contains("./none"), "{error}");
    world.run(&["--to", to, "lock", "l"]).failed(2);
    assert_eq!(
        run("echo free").ok(),
        "free\n",
        "it was given back each time"
    );
}

#[test]
fn lock_that_somebody_holds_is_waited_for_as_long_as_asked() {
    let world = World::new();
    let server = world.serve("store");
    let to = server.address.as_str();
    let mut holder = world.start(&["--to", to, "lock", "l", "--", "sh", "-c", SLEEP]);
    assert_eq!(holder.line(), "held");
    for wait in ["0", "100ms"] {
        let said = world.run(&["--to", to, "lock", "l", "--wait", wait, "--", "echo", "ran"]);
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{wait}");
    }
    let other = world.run(&["--to", to, "lock", "m", "--wait", "0", "--", "echo", "ran"]);
    assert_eq!(other.ok(), "ran\n");
    // It hands the signal on, waits for the command, and gives the lock back.
    let mut waiting = world.start(&["--to", to, "lock", "l", "--", "echo", "ran"]);
    holder.signal("TERM");
    assert_eq!(holder.end(), Some(128 + 15));
    assert_eq!(waiting.line(), "ran");
    assert_eq!(waiting.end(), Some(0));
}

#[test]
fn command_is_asked_to_end_when_the_lock_is_lost() {
    let world = World::new();
    let server = world.serve("store");
    let to = server.address.as_str();
    let lock = [
        "--to", to, "lock", "l", "--ttl", "300ms", "--", "sh", "-c", SLEEP,
    ];
    let mut holder = world.start(&lock);
    assert_eq!(holder.line(), "held");
    holder.signal("STOP");
    let mut thief = world.start(&["--to", to, "lock", "l", "--", "sh", "-c", SLEEP]);
    assert_eq!(thief.line(), "held");
    holder.signal("CONT");
    assert_eq!(holder.end(), Some(13));
    thief.signal("INT");
    assert!(thief.end().is_some_and(|code| code != 0));
}
