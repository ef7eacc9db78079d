//! Writes that wait on the client's disk for an owner: seen at once by who wrote them, sent once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::children;
use crate::peer::{Peer, k, queueing, v};
use objsync::{Dict, ErrorKind, GrantRequest, Options};

/// A store with an owner in one process and a client with a queue in another.
struct Both {
    _folder: tempfile::TempDir,
    path: PathBuf,
    owner: Option<Peer>,
    client: Peer,
}

impl Both {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let owner = Some(Peer::open(&path));
        let client = with_queue(&path);
        Self {
            _folder: folder,
            path,
            owner,
            client,
        }
    }

    /// The owner's end, which the client has seen when this returns.
    fn cut(&mut self) {
        self.owner.take().unwrap().kill();
        self.client.ask_until("role", "offline");
    }

    fn own_again(&mut self) -> &mut Peer {
        self.owner.insert(Peer::open(&self.path))
    }

    fn client_again(&mut self) {
        children::end(self.client.pid().cast_signed());
        self.client = with_queue(&self.path);
    }
}

fn with_queue(path: &Path) -> Peer {
    let mut client = Peer::start(path.parent().unwrap());
    assert_eq!(client.ask(&format!("open-queue {}", path.display())), "ok");
    // What it has not joined yet it cannot read on its own.
    assert!(client.ask("sync").parse::<u64>().is_ok());
    client
}

#[test]
fn queued_writes_are_read_back_at_once_and_sent_in_order_on_return() {
    let mut both = Both::start();
    assert_eq!(both.client.ask("level a 1"), "sync");
    assert_eq!(both.client.ask("set gone x"), "ok");
    assert_eq!(both.client.ask("is-stale"), "false");
    both.cut();
    assert_eq!(both.client.ask("is-stale"), "true");
    assert_eq!(both.client.ask("level a 2"), "queued");
    assert_eq!(both.client.ask("level a 3"), "queued");
    assert_eq!(both.client.ask("level b 4"), "queued");
    assert_eq!(both.client.ask("delete gone"), "true");
    assert_eq!(both.client.ask("delete gone"), "false", "it is gone here");
    assert_eq!(both.client.ask("incr n"), "1");
    assert_eq!(both.client.ask("incr n"), "2");
    assert_eq!(both.client.ask("queued"), "6");
    assert_eq!(both.client.ask("get a"), "= 3");
    assert_eq!(both.client.ask("get gone"), "none");
    assert_eq!(both.client.ask("contains b"), "true");
    assert_eq!(both.client.ask("contains gone"), "false");
    assert_eq!(both.client.ask("len"), "3");
    assert_eq!(both.client.ask("backwards"), "n b a");
    let owner = both.own_again();
    owner.ask_until("number n", "2");
    assert_eq!(owner.ask("get a"), "= 3");
    assert_eq!(owner.ask("get gone"), "none");
    both.client.ask_until("queued", "0");
    assert_eq!(both.client.ask("is-stale"), "false");
    assert_eq!(both.client.ask("len"), "3");
    assert_eq!(both.client.ask("conflicts"), "");
    assert_eq!(both.client.ask("level c 5"), "sync");
}

#[test]
fn killed_client_leaves_a_queue_that_the_next_one_sends_once() {
    let mut both = Both::start();
    assert_eq!(both.client.ask("incr n"), "1");
    both.cut();
    for expected in 2..=10 {
        assert_eq!(both.client.ask("incr n"), expected.to_string());
    }
    both.own_again();
    both.client_again();
    both.client.ask_until("queued", "0");
    assert_eq!(both.client.ask("number n"), "10");
    assert_eq!(both.client.ask("conflicts"), "");
}

#[test]
fn closed_handle_leaves_its_queue_to_the_next_one() {
    let mut both = Both::start();
    assert_eq!(both.client.ask("incr n"), "1");
    both.cut();
    assert_eq!(both.client.ask("incr n"), "2");
    assert_eq!(both.client.ask("incr n"), "3");
    assert_eq!(both.client.ask("close"), "ok");
    both.own_again();
    // The process lives: only the handle is gone, and with it the lock of the queue.
    let mut next = with_queue(&both.path);
    next.ask_until("queued", "0");
    assert_eq!(next.ask("number n"), "3");
    assert_eq!(next.ask("conflicts"), "");
}

#[test]
fn clearing_without_an_owner_removes_what_is_here() {
    let mut both = Both::start();
    assert_eq!(both.client.ask("set a 1"), "ok");
    both.cut();
    assert_eq!(both.client.ask("set b 2"), "ok");
    assert_eq!(both.client.ask("clear"), "2");
    assert_eq!(both.client.ask("len"), "0");
    assert_eq!(both.client.ask("set c 3"), "ok");
    assert_eq!(both.client.ask("entries"), "c=3");
    let owner = both.own_again();
    owner.ask_until("entries", "c=3");
}

#[test]
fn compare_and_set_that_the_owner_decides_otherwise_is_a_conflict_until_it_is_cleared() {
    let mut both = Both::start();
    assert_eq!(both.client.ask("set a 1"), "ok");
    both.cut();
    assert_eq!(both.client.ask("swap a 1 mine"), "true");
    assert_eq!(
        both.client.ask("swap a 1 again"),
        "false",
        "decided here, and not queued"
    );
    assert_eq!(both.client.ask("get a"), "= mine");
    assert_eq!(both.client.ask("queued"), "1");
    // Another process opens the store before this client comes back.
    let told = both.client.pid();
    children::stop(told);
    let owner = both.own_again();
    assert_eq!(owner.ask("set a theirs"), "ok");
    children::go_on(told);
    both.client.ask_until("queued", "0");
    both.client.ask_until("get a", "= theirs");
    let expected = "compare_and_set \"a\" mine/theirs: the key had another value than expected";
    assert_eq!(both.client.ask("conflicts"), expected);
    both.client_again();
    both.client.ask_until("get a", "= theirs");
    assert_eq!(both.client.ask("conflicts"), expected, "kept on disk");
    assert_eq!(both.client.ask("clear-conflicts"), "ok");
    both.client_again();
    assert_eq!(both.client.ask("conflicts"), "");
}

#[test]
fn write_that_does_not_fit_on_the_clients_disk_fails_and_nothing_of_it_is_queued() {
    let mut both = Both::start();
    both.cut();
    assert_eq!(both.client.ask("set a 1"), "ok");
    assert_eq!(both.client.ask("limit-files 10000"), "ok");
    let refused = both.client.ask("fill b 20000");
    assert!(refused.starts_with("error write "), "{refused}");
    assert_eq!(both.client.ask("get b"), "none");
    assert_eq!(both.client.ask("set c 3"), "ok", "what fits goes on");
    assert_eq!(both.client.ask("queued"), "2");
    both.own_again();
    both.client_again();
    both.client.ask_until("queued", "0");
    both.owner.as_mut().unwrap().ask_until("entries", "a=1 c=3");
}

#[test]
fn queue_over_its_limit_refuses_by_name_and_takes_more_when_it_was_sent() {
    let mut both = Both::start();
    both.cut();
    for number in 0..9 {
        assert_eq!(both.client.ask(&format!("fill {number} 7400000")), "queued");
    }
    let refused = both.client.ask("fill 9 7400000");
    assert!(refused.contains("limit of 67108864 bytes"), "{refused}");
    both.own_again();
    both.client.ask_until("queued", "0");
    assert_eq!(both.client.ask("fill 9 7400000"), "sync");
    assert_eq!(both.client.ask("len"), "10");
}

#[test]
fn handle_with_a_queue_does_not_serve() {
    let folder = tempfile::tempdir().unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let refused = Dict::serve_at(folder.path().join("data"), listen, queueing()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

/// Kills owner and client at random moments, and compares with a model: each write happens once,
/// whatever was killed between the queue, the sending and the answer.
fn each_write_happens_once(seed: u64) {
    println!("seed {seed}");
    let mut state = seed;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut both = Both::start();
    let (mut model, mut counts) = (BTreeMap::new(), BTreeMap::new());
    let mut number = 0;
    for _ in 0..60 {
        number += 1;
        match random(12) {
            0..4 => {
                let counter = format!("n{}", random(3));
                // Its answer may be lost with this process or with the owner.
                assert_eq!(both.client.ask(&format!("start-incr {counter}")), "ok");
                both.client.ask("queued");
                *counts.entry(counter).or_insert(0) += 1;
            }
            4..8 => {
                let key = format!("k{number}");
                let told = both.client.ask(&format!("level {key} {number}"));
                assert!(told == "queued" || told == "sync", "{told}");
                model.insert(key, number.to_string());
            }
            8..10 => {
                if let Some(owner) = both.owner.take() {
                    owner.kill();
                } else {
                    both.own_again();
                }
            }
            _ => {
                // Whatever was started is on disk once a later write is.
                number += 1;
                let key = format!("k{number}");
                both.client.ask(&format!("level {key} {number}"));
                model.insert(key, number.to_string());
                children::end(both.client.pid().cast_signed());
                if both.owner.is_none() {
                    both.own_again();
                }
                both.client_again();
            }
        }
    }
    if both.owner.is_none() {
        both.own_again();
    }
    both.client.ask_until("queued", "0");
    assert_eq!(both.client.ask("conflicts"), "");
    let owner = both.owner.as_mut().unwrap();
    for (counter, count) in &counts {
        assert_eq!(
            owner.ask(&format!("number {counter}")),
            count.to_string(),
            "{counter}"
        );
    }
    for (key, value) in &model {
        assert_eq!(owner.ask(&format!("get {key}")), format!("= {value}"));
    }
    assert_eq!(owner.ask("len"), (model.len() + counts.len()).to_string());
}

/// Kills the client in the middle of a stream of writes, each of a key of its own: between the
/// queue, the number, the sending, the answer and its note. What is done is never done twice, and
/// nothing that was on its disk is missing: the next process has nothing left to send.
#[test]
fn client_that_is_killed_in_the_middle_of_writing_does_nothing_twice() {
    let mut both = Both::start();
    let mut state: u64 = 11;
    let mut last = 0;
    for round in 0..30 {
        both.client.tell(&format!(
            "incr-each {} {}",
            round * 1_000,
            round * 1_000 + 1_000
        ));
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        // A moment within the stream, which takes longer than that.
        std::thread::park_timeout(std::time::Duration::from_micros(
            500 + (state >> 33) % 20_000,
        ));
        both.client_again();
        both.client.ask_until("queued", "0");
        assert_eq!(both.client.ask("conflicts"), "", "round {round}");
        assert!(both.client.ask("sync").parse::<u64>().is_ok());
        let told = both.owner.as_mut().unwrap().ask("count-each");
        let (count, twice) = told.split_once(' ').unwrap();
        assert_eq!(twice, "false", "round {round}");
        let count: u64 = count.parse().unwrap();
        assert!(count >= last, "what was done stays done");
        last = count;
    }
    assert!(last > 30, "only {last} were begun");
}

#[test]
fn each_queued_write_happens_once_whoever_is_killed() {
    (1..=4).for_each(each_write_happens_once);
}

/// What was told offline is a conflict when the owner comes back and takes no writes of the link; the
/// handle reads on, and nothing is asked again and again.
#[test]
fn link_that_may_only_read_reads_on_when_something_was_queued() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let serve = |at: SocketAddr| Dict::serve_at(&path, at, Options::default()).unwrap();
    let owner = serve(SocketAddr::from(([127, 0, 0, 1], 0)));
    owner.set(&k("a"), v("1")).wait().unwrap();
    let request = GrantRequest {
        readonly: true,
        ..GrantRequest::default()
    };
    let link = owner.grant(request).wait().unwrap();
    let mut client = Peer::start(folder.path());
    assert_eq!(client.ask(&format!("queue-link {link}")), "ok");
    assert!(client.ask("sync").parse::<u64>().is_ok());
    let refused = client.ask("level a 2");
    assert!(refused.contains("may not write"), "{refused}");
    owner.close().unwrap();
    client.ask_until("role", "offline");
    assert_eq!(client.ask("level a 3"), "queued");
    let owner = serve(link.hosts[0].parse().unwrap());
    client.ask_until("queued", "0");
    assert_eq!(
        client.ask("conflicts"),
        "set \"a\" 3/1: this link may not write"
    );
    owner.set(&k("a"), v("4")).wait().unwrap();
    client.ask_until("get a", "= 4");
}
