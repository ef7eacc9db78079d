//! The server is killed and started again; a watcher goes on where it was.

use std::net::UdpSocket;

use objsync::{Dict, GrantRequest, Options, Target, Watch, value};

use crate::LONG;
use crate::peer::{Peer, k, v};

fn free_port() -> u16 {
    let ports = 20_000 + std::process::id() % 10_000..;
    let mut ports = ports.map(|port| u16::try_from(port).unwrap());
    let free = |port: &u16| UdpSocket::bind(("127.0.0.1", *port)).is_ok();
    ports.find(free).unwrap()
}

fn texts(watch: &Watch, count: usize) -> Vec<String> {
    let next = || {
        watch
            .recv_timeout(LONG)
            .unwrap()
            .expect("the watch goes on")
    };
    let mut events = (0..count).map(|_| next());
    events
        .by_ref()
        .map(|event| value::from_payload(&event.value.unwrap()).unwrap())
        .collect()
}

#[test]
fn watcher_goes_on_after_each_restart_of_the_server_and_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let address = format!("127.0.0.1:{}", free_port());
    let start = || {
        let mut server = Peer::open(&path);
        assert_eq!(server.ask(&format!("serve {address}")), address);
        server
    };
    let mut server = start();
    let near = Options {
        promote: false,
        timeout: LONG,
        ..Options::default()
    };
    let near = Dict::open(&path, near).unwrap();
    let request = GrantRequest {
        hosts: vec![address.clone()],
        ..GrantRequest::default()
    };
    let link = near.grant(request).wait().unwrap();
    let far = Dict::connect(&Target::Link(link), Options::default()).unwrap();
    // What the replica tells, and a stream of the server's own.
    let begin = near.sync().wait().unwrap().revision;
    let watches = [&near, &far].map(|dict| {
        let told = dict.watch(Default::default(), None).unwrap();
        let streamed = dict.watch(Default::default(), Some(begin)).unwrap();
        [told, streamed]
    });
    for round in 0..3 {
        let written: Vec<String> = (0..5).map(|number| format!("{round}-{number}")).collect();
        for text in &written[..3] {
            assert_eq!(server.ask(&format!("set a {text}")), "ok");
        }
        server.kill();
        server = start();
        // Before the watchers are back, most likely.
        assert_eq!(server.ask(&format!("set b {}", written[3])), "ok");
        near.set(&k("c"), v(&written[4])).wait().unwrap();
        for watch in watches.iter().flatten() {
            assert_eq!(texts(watch, 5), written);
        }
    }
    for watch in watches.iter().flatten() {
        assert!(watch.try_recv().unwrap().is_none(), "nothing comes twice");
    }
}
