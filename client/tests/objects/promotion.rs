//! Who takes over when the owner goes, and what becomes of what was in flight.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use objsync::{Dict, Epoch, ErrorKind, Options, StoreId};
use objsync_proto::ids::EpochName;
use objsync_proto::wire::OwnerInfo;

use crate::children;
use crate::peer::{Peer, k, text, until, v};

/// A port that nobody has, and that the kernel gives to nobody who asks for any: the clients of
/// other tests do.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let of_this_process = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port =
            20_000 + of_this_process.wrapping_add(NEXT.fetch_add(997, Ordering::Relaxed)) % 12_000;
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

#[test]
fn another_carries_on_soon_after_the_owner_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    assert_eq!(owner.ask("set a 1"), "ok");
    let dict = Dict::open(&path, Options::default()).unwrap();
    owner.kill();
    let start = Instant::now();
    dict.set(&k("b"), v("2")).wait().unwrap();
    let took = start.elapsed();
    assert_eq!(dict.status().role.to_string(), "owner");
    assert_eq!(text(&dict, "a").as_deref(), Some("1"));
    println!("the first write after the kill took {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn owner_that_hangs_is_not_overtaken_and_its_pid_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    children::stop(owner.pid());
    let options = Options {
        timeout: Duration::from_millis(1500),
        ..Options::default()
    };
    let error = Dict::open(&path, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let pid = owner.pid().to_string();
    assert!(error.to_string().contains(&pid), "{error}");
}

#[test]
fn scan_goes_on_from_its_moment_when_the_handle_becomes_the_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    let value = v(&"x".repeat(1000));
    dict.update((0..1000).map(|number| (k(&format!("{number:04}")), value.clone())))
        .unwrap();
    let mut scan = dict.scan(Default::default(), false).unwrap();
    let first = scan.next_page().unwrap();
    owner.kill();
    dict.set(&k("9999"), v("new")).wait().unwrap();
    assert_eq!(dict.status().role.to_string(), "owner");
    assert_eq!(first.len() + scan.map(Result::unwrap).count(), 1000);
    assert_eq!(dict.len().unwrap(), 1001);
}

#[test]
fn each_increment_in_flight_when_the_owner_is_killed_runs_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let mut peers: Vec<_> = (0..2).map(|_| Peer::open(&path)).collect();
    let dict = Dict::open(&path, Options::default()).unwrap();
    peers
        .iter_mut()
        .for_each(|peer| peer.tell("incr-many n 300"));
    until("increments are under way", || {
        owner.ask("number n").parse::<i64>().is_ok_and(|n| n > 50)
    });
    let started: Vec<_> = (0..200).map(|_| dict.incr(&k("n"), 1).start()).collect();
    owner.kill();
    let mut got: Vec<_> = started
        .into_iter()
        .map(|write| write.wait().unwrap())
        .collect();
    got.dedup();
    assert_eq!(got.len(), 200, "each got a number of its own");
    assert!(got.is_sorted());
    for peer in &mut peers {
        assert_eq!(peer.answer(), "300 true");
    }
    assert_eq!(dict.incr(&k("n"), 0).wait().unwrap(), 800);
    let mut roles = vec![dict.status().role.to_string()];
    roles.extend(peers.iter_mut().map(|peer| peer.ask("role")));
    roles.sort();
    assert_eq!(roles, ["owner", "peer", "peer"]);
}

#[test]
fn peers_take_over_when_the_owner_closes_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Dict::open(&path, Options::default()).unwrap();
    owner.set(&k("a"), v("1")).wait().unwrap();
    let mut peer = Peer::open(&path);
    assert_eq!(peer.ask("role"), "peer");
    owner.close().unwrap();
    peer.ask_until("role", "owner");
    assert_eq!(peer.ask("get a"), "= 1");
    assert_eq!(peer.ask("set a 2"), "ok");
}

#[test]
fn eight_processes_that_race_for_a_new_address_elect_one_owner() {
    let home = tempfile::tempdir().unwrap();
    let address = format!("localhost:{}", free_port());
    let mut peers: Vec<_> = (0..8).map(|_| Peer::start(home.path())).collect();
    peers
        .iter_mut()
        .for_each(|peer| peer.tell(&format!("connect {address}")));
    for peer in &mut peers {
        assert_eq!(peer.answer(), "ok");
    }
    for (number, peer) in peers.iter_mut().enumerate() {
        assert_eq!(peer.ask(&format!("set key{number} x")), "ok");
    }
    let owners = peers
        .iter_mut()
        .map(|peer| peer.ask("role"))
        .filter(|role| role == "owner");
    assert_eq!(owners.count(), 1);
    for peer in &mut peers {
        peer.ask("sync");
        assert_eq!(peer.ask("len"), "8");
    }
}

#[test]
fn address_keeps_its_store_over_the_end_of_all_processes() {
    let home = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let mut first = Peer::start(home.path());
    assert_eq!(first.ask(&format!("connect {address}")), "ok");
    assert_eq!(first.ask("set a 1"), "ok");
    first.kill();
    let mut second = Peer::start(home.path());
    assert_eq!(second.ask(&format!("connect {address}")), "ok");
    assert_eq!(second.ask("get a"), "= 1");
}

/// A store whose first attempt to listen failed was closed, and served like that once the port was
/// free: every call answered "closed". Found by two stores that raced for one port.
#[test]
fn port_that_is_free_only_after_the_store_was_opened_is_taken_then() {
    let home = tempfile::tempdir().unwrap();
    let port = free_port();
    let held = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    let mut peer = Peer::start(home.path());
    peer.tell(&format!("connect 127.0.0.1:{port}"));
    let key = home.path().join(format!("stores/{port}/key"));
    until("it is about to listen", || key.exists());
    let seen = Instant::now();
    until("it has tried", || {
        seen.elapsed() > Duration::from_millis(100)
    });
    drop(held);
    assert_eq!(peer.answer(), "ok");
    assert_eq!(peer.ask("set a 1"), "ok");
    assert_eq!(peer.ask("role"), "owner");
}

#[test]
fn address_where_nobody_serves_is_unavailable_without_promotion() {
    let home = tempfile::tempdir().unwrap();
    let mut peer = Peer::start(home.path());
    let said = peer.ask(&format!("connect-only localhost:{}", free_port()));
    assert!(said.starts_with("Unavailable"), "{said}");
}

#[test]
fn port_held_by_another_program_is_denied_naming_the_store() {
    let home = tempfile::tempdir().unwrap();
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let mut peer = Peer::start(home.path());
    let said = peer.ask(&format!("connect-quick 127.0.0.1:{port}"));
    assert!(said.starts_with("Denied"), "{said}");
    assert!(
        said.contains("another program") && said.contains(&port.to_string()),
        "{said}"
    );
}

#[test]
fn held_port_is_told_apart_from_one_where_nobody_serves() {
    let home = tempfile::tempdir().unwrap();
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut peer = Peer::start(home.path());
    let said = peer.ask(&format!("connect-only {}", held.local_addr().unwrap()));
    assert!(
        said.starts_with("Unavailable") && said.contains("takes a link"),
        "{said}"
    );
    let said = peer.ask(&format!("connect-only 127.0.0.1:{}", free_port()));
    assert!(said.contains("nobody serves it"), "{said}");
}

/// Says once that an owner is at an address, and is gone.
fn owner_that_is_gone(directory: &Path, address: SocketAddr) {
    let listener = UnixListener::bind(directory.join("sock")).unwrap();
    let directory = directory.to_owned();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::fs::remove_file(directory.join("sock")).unwrap();
        let info = OwnerInfo {
            version: 1,
            store: StoreId([0; 16]),
            epoch: Epoch {
                number: 1,
                name: EpochName([0; 16]),
            },
            pid: 1,
            address,
        };
        let body = rmp_serde::to_vec_named(&info).unwrap();
        let length = u32::try_from(body.len()).unwrap();
        stream.write_all(&length.to_be_bytes()).unwrap();
        stream.write_all(&body).unwrap();
    });
}

/// The owner died after it had said where it is, and its port went to another store: the client took
/// that for a foreign server in its owner's place, and gave up for good.
#[test]
fn port_of_a_dead_owner_that_went_to_another_store_is_no_reason_to_give_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    Dict::open(&path, Options::default())
        .unwrap()
        .close()
        .unwrap();
    let stranger = Dict::open(folder.path().join("other"), Options::default()).unwrap();
    let address = stranger.status().address.unwrap().parse().unwrap();
    owner_that_is_gone(&path, address);
    let dict = Dict::open(&path, Options::default()).unwrap();
    dict.set(&k("a"), v("1")).wait().unwrap();
    assert_eq!(dict.status().role.to_string(), "owner");
}

#[test]
fn port_held_by_another_store_is_denied_naming_both() {
    let folder = tempfile::tempdir().unwrap();
    let stranger = Dict::open(folder.path().join("other"), Options::default()).unwrap();
    let key = stranger.grant(Default::default()).wait().unwrap().server;
    let address = stranger.status().address.unwrap();
    let home = folder.path().join("home");
    let said = Peer::start(&home).ask(&format!("connect-quick {address}"));
    assert!(said.starts_with("Denied"), "{said}");
    assert!(
        said.contains(&key.to_string()) && said.contains("stores"),
        "{said}"
    );
}
