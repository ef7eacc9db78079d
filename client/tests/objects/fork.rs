//! What a fork does to objects.

use std::time::{Duration, Instant};

use objsync::{Dict, Options};

use crate::children;
use crate::peer::{Peer, k, text, until, v};

/// A forked child that holds whatever it inherited, to the end of the test, however that ends.
struct Sleeper(i32);

impl Sleeper {
    fn of(owner: &mut Peer) -> Self {
        let child = owner.ask("fork").parse().unwrap();
        assert!(child > 0);
        Self(child)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        children::end(self.0);
    }
}

#[test]
fn sleeping_child_of_a_killed_owner_does_not_keep_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    assert_eq!(owner.ask("set a 1"), "ok");
    let dict = Dict::open(&path, Options::default()).unwrap();
    assert_eq!(text(&dict, "a").as_deref(), Some("1"));
    let _child = Sleeper::of(&mut owner);
    owner.kill();
    let start = Instant::now();
    dict.set(&k("b"), v("2")).wait().unwrap();
    let took = start.elapsed();
    assert_eq!(dict.status().role.to_string(), "owner");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn handle_of_an_owner_is_a_client_in_the_child() {
    let folder = tempfile::tempdir().unwrap();
    let mut owner = Peer::open(&folder.path().join("data"));
    assert_eq!(owner.ask("fork-set a from-child"), "0");
    assert_eq!(owner.ask("role"), "owner");
    assert_eq!(owner.ask("get a"), "= from-child");
}

#[test]
fn handle_of_a_peer_connects_anew_in_the_child() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let mut peer = Peer::open(&path);
    assert_eq!(peer.ask("fork-set a from-child"), "0");
    assert_eq!(peer.ask("set b from-parent"), "ok");
    assert_eq!(owner.ask("get a"), "= from-child");
    assert_eq!(owner.ask("get b"), "= from-parent");
}

#[test]
fn owner_killed_under_load_while_its_child_lives_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let mut writers: Vec<_> = (0..3).map(|_| Peer::open(&path)).collect();
    let dict = Dict::open(&path, Options::default()).unwrap();
    writers
        .iter_mut()
        .for_each(|writer| writer.tell("incr-many n 300"));
    until("increments are under way", || {
        owner.ask("number n").parse::<i64>().is_ok_and(|n| n > 50)
    });
    let _child = Sleeper::of(&mut owner);
    owner.kill();
    for writer in &mut writers {
        assert_eq!(writer.answer(), "300 true");
    }
    assert_eq!(dict.incr(&k("n"), 0).wait().unwrap(), 900);
    let mut roles = vec![dict.status().role.to_string()];
    roles.extend(writers.iter_mut().map(|writer| writer.ask("role")));
    roles.sort();
    assert_eq!(roles, ["owner", "peer", "peer", "peer"]);
}
