//! Owners that close in order, that are paused and go on, and that serve where they are asked to.

use std::net::UdpSocket;
use std::path::Path;

use objsync::{Dict, ErrorKind, Options};

use crate::children;
use crate::peer::{Peer, k, until, v};

/// Processes that write and never own.
fn writers(path: &Path, count: usize) -> Vec<Peer> {
    let mut writers: Vec<_> = (0..count)
        .map(|_| Peer::start(path.parent().unwrap()))
        .collect();
    for writer in &mut writers {
        assert_eq!(writer.ask(&format!("join {}", path.display())), "ok");
    }
    writers
}

fn number(peer: &mut Peer) -> i64 {
    peer.ask("number n").parse().unwrap_or(0)
}

#[test]
fn no_write_fails_or_is_doubled_while_owners_close_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut candidates: Vec<_> = (0..5).map(|_| Peer::open(&path)).collect();
    let mut writers = writers(&path, 3);
    writers
        .iter_mut()
        .for_each(|writer| writer.tell("incr-many n 400"));
    for _ in 0..4 {
        let before = candidates.last_mut().map(number).unwrap();
        until("the next writes are done", || {
            candidates.last_mut().map(number).unwrap() > before + 20
                || number(&mut candidates[0]) == 1200
        });
        let mut owner = None;
        until("somebody owns it", || {
            owner = candidates
                .iter_mut()
                .position(|it| it.ask("role") == "owner");
            owner.is_some()
        });
        let mut owner = candidates.remove(owner.unwrap());
        assert_eq!(owner.ask("close"), "ok");
    }
    for writer in &mut writers {
        assert_eq!(writer.answer(), "400 true");
    }
    candidates[0].ask("sync");
    assert_eq!(number(&mut candidates[0]), 1200);
}

#[test]
fn owner_that_is_paused_and_goes_on_stays_the_only_one_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let mut others: Vec<_> = (0..3).map(|_| Peer::open(&path)).collect();
    others
        .iter_mut()
        .for_each(|other| other.tell("incr-many n 200"));
    for _ in 0..3 {
        let before = number(&mut owner);
        until("the next writes are done", || {
            let now = number(&mut owner);
            now > before + 20 || now == 600
        });
        children::stop(owner.pid());
        // Longer than a look at the directory takes: whoever wanted to take over had the time.
        let options = Options {
            timeout: std::time::Duration::from_millis(300),
            ..Options::default()
        };
        let error = Dict::open(&path, options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        children::go_on(owner.pid());
    }
    for other in &mut others {
        assert_eq!(other.answer(), "200 true");
        assert_eq!(other.ask("role"), "peer");
    }
    assert_eq!(owner.ask("role"), "owner");
    assert_eq!(number(&mut owner), 600);
}

#[test]
fn address_served_on_request_leads_to_the_store_also_after_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    assert_eq!(owner.ask("set a 1"), "ok");
    let address = owner.ask("serve 127.0.0.1:0");
    let home = path.parent().unwrap();
    let mut other = Peer::start(home);
    assert_eq!(other.ask(&format!("connect {address}")), "ok");
    assert_eq!(other.ask("get a"), "= 1");
    assert_eq!(other.ask("role"), "peer");
    owner.kill();
    other.ask_until("role", "owner");
    assert_eq!(other.ask("set a 2"), "ok");
    let mut third = Peer::start(home);
    assert_eq!(third.ask(&format!("connect {address}")), "ok");
    assert_eq!(third.ask("get a"), "= 2");
}

#[test]
fn peer_cannot_serve_and_an_owner_not_at_a_port_that_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let mut peer = Peer::open(&path);
    let said = peer.ask("serve 127.0.0.1:0");
    assert!(said.contains("owned by another process"), "{said}");
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let said = owner.ask(&format!("serve {}", taken.local_addr().unwrap()));
    assert!(said.starts_with("error"), "{said}");
    let dict = Dict::open(&path, Options::default()).unwrap();
    dict.set(&k("a"), v("still served")).wait().unwrap();
}
