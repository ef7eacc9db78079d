//! Handles on a follower: what they read, write and watch while source and follower come and go.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use objsync::{
    Dict, ErrorKind, Follower, GrantRequest, KeyRange, Link, Options, Target, promote, value,
};

use crate::large::{noise, payload};
use crate::peer::{k, v, without_replica};

/// Set in a process that was started for one test, with a home of its own: who serves at an address
/// remembers it there.
const APART: &str = "OBJSYNC_TEST_APART";

/// Runs a test of this file in another process; false in that one.
fn runs_apart(name: &str) -> bool {
    if std::env::var_os(APART).is_some() {
        return false;
    }
    let home = tempfile::tempdir().unwrap();
    let test = format!("following::{name}");
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture"])
        .env(APART, "1")
        .env("OBJSYNC_HOME", home.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    true
}

const LONG: Duration = Duration::from_secs(30);

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn source(folder: &Path, listen: SocketAddr) -> Dict {
    Dict::serve_at(folder.join("source"), listen, Options::default()).unwrap()
}

fn follow_link(source: &Dict) -> Link {
    let request = GrantRequest {
        follow: true,
        ..GrantRequest::default()
    };
    source.grant(request).wait().unwrap()
}

fn follower(folder: &Path, listen: SocketAddr, link: &Link) -> Follower {
    let follower = Follower::start(folder.join("copy"), listen, link, &Options::default());
    let follower = follower.unwrap();
    follower.wait_until_served(LONG).unwrap();
    follower
}

fn get(dict: &Dict, name: &str) -> Option<String> {
    let payload = dict.get(&k(name)).unwrap();
    payload.map(|payload| value::from_payload(&payload).unwrap())
}

#[test]
fn handles_of_a_follower_read_their_own_writes_and_see_those_of_others() {
    if runs_apart("handles_of_a_follower_read_their_own_writes_and_see_those_of_others") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path(), anywhere());
    let link = follow_link(&source);
    let follower = follower(folder.path(), anywhere(), &link);
    assert!(follower.status().is_connected);
    let copy = folder.path().join("copy");
    for options in [Options::default(), without_replica()] {
        let dict = Dict::open(&copy, options).unwrap();
        let watch = dict.watch(KeyRange::default(), None).unwrap();
        for number in 0..30 {
            let text = number.to_string();
            dict.set(&k("a"), v(&text)).wait().unwrap();
            assert_eq!(get(&dict, "a"), Some(text.clone()));
            let seen = watch.recv_timeout(LONG).unwrap().expect("a change comes");
            let value: String = value::from_payload(seen.value.as_ref().unwrap()).unwrap();
            assert_eq!(value, text);
            assert!(seen.origin_is_self);
        }
        source.set(&k("b"), v("of the source")).wait().unwrap();
        dict.sync().wait().unwrap();
        assert_eq!(get(&dict, "b").as_deref(), Some("of the source"));
        let following = dict.following().wait().unwrap().expect("it is a follower");
        assert_eq!(following.lag(), 0);
        source.delete(&k("b")).wait().unwrap();
        dict.close().unwrap();
    }
    assert_eq!(source.following().wait().unwrap(), None);
    assert_eq!(get(&source, "a").as_deref(), Some("29"));
    follower.close().unwrap();
    source.close().unwrap();
}

#[test]
fn large_values_are_written_through_a_follower_whole_and_in_pieces() {
    if runs_apart("large_values_are_written_through_a_follower_whole_and_in_pieces") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path(), anywhere());
    let follower = follower(folder.path(), anywhere(), &follow_link(&source));
    // One of the copy's own user, and one that has only a link made there.
    let own = Dict::open(folder.path().join("copy"), Options::default()).unwrap();
    let link = own.grant(GrantRequest::default()).wait().unwrap();
    let guest = Dict::connect(&Target::Link(link), Options::default()).unwrap();
    for (name, dict, seed) in [("own", &own, 1), ("guest", &guest, 2)] {
        let content = noise(9 << 20, seed);
        dict.set(&k(name), payload(&content)).wait().unwrap();
        let mut writer = dict.open_write(&k("in pieces")).unwrap();
        writer.write_all(&content[1..]).unwrap();
        writer.commit().wait().unwrap();
        for dict in [dict, &source] {
            assert!(dict.get(&k(name)).unwrap() == Some(payload(&content)));
            assert!(dict.get(&k("in pieces")).unwrap() == Some(payload(&content[1..])));
        }
    }
    guest.close().unwrap();
    own.close().unwrap();
    follower.close().unwrap();
    source.close().unwrap();
}

#[test]
fn handle_of_a_follower_goes_on_when_follower_and_source_come_back() {
    if runs_apart("handle_of_a_follower_goes_on_when_follower_and_source_come_back") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let first = source(folder.path(), anywhere());
    let link = follow_link(&first);
    let at: SocketAddr = link.hosts[0].parse().unwrap();
    let copy = follower(folder.path(), anywhere(), &link);
    let dict = Dict::open(folder.path().join("copy"), Options::default()).unwrap();
    dict.set(&k("a"), v("1")).wait().unwrap();
    first.close().unwrap();
    assert_eq!(get(&dict, "a").as_deref(), Some("1"), "its source is away");
    let error = dict.set(&k("a"), v("lost")).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(get(&dict, "a").as_deref(), Some("1"));
    copy.close().unwrap();
    assert_eq!(get(&dict, "a").as_deref(), Some("1"), "nobody serves it");
    let again = source(folder.path(), at);
    let copy = follower(folder.path(), anywhere(), &link);
    dict.set(&k("a"), v("2")).wait().unwrap();
    assert_eq!(get(&again, "a").as_deref(), Some("2"));
    assert_eq!(get(&dict, "a").as_deref(), Some("2"));
    dict.close().unwrap();
    copy.close().unwrap();
    again.close().unwrap();
}

#[test]
fn nobody_takes_the_place_of_a_follower_until_its_copy_is_promoted() {
    if runs_apart("nobody_takes_the_place_of_a_follower_until_its_copy_is_promoted") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path(), anywhere());
    let link = follow_link(&source);
    let friend = source.grant(GrantRequest::default()).wait().unwrap();
    source.set(&k("a"), v("1")).wait().unwrap();
    let copy = folder.path().join("copy");
    let running = follower(folder.path(), anywhere(), &link);
    assert_eq!(
        promote(&copy, false).unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    running.close().unwrap();
    let hasty = || Options {
        timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let error = Dict::open(&copy, hasty()).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("objsync promote"), "{error}");
    let error = Dict::serve_at(&copy, anywhere(), hasty())
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    promote(&copy, false).unwrap();
    let own = Dict::open(&copy, Options::default()).unwrap();
    own.set(&k("a"), v("of its own")).wait().unwrap();
    // A client of the source keeps to the source.
    let client = Dict::connect(&Target::Link(friend), Options::default()).unwrap();
    assert_eq!(get(&client, "a").as_deref(), Some("1"));
    let refused = Follower::start(&copy, anywhere(), &link, &Options::default());
    assert_eq!(
        refused.map(drop).unwrap_err().kind(),
        ErrorKind::Unavailable,
        "it is open"
    );
    own.close().unwrap();
    let refused = Follower::start(&copy, anywhere(), &link, &Options::default());
    assert_eq!(refused.map(drop).unwrap_err().kind(), ErrorKind::Invalid);
    client.close().unwrap();
    source.close().unwrap();
}
