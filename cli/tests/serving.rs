//! serve, status, watch and links: with real processes and real signals.

mod program;

use program::World;
use serde_json::{Value as Json, json};

#[test]
fn what_to_type_next_is_printed_and_works() {
    let world = World::new();
    let mut server = world.start(&["serve", "--port", "0", "--data-dir", "store"]);
    let first = server.line();
    assert!(
        first.starts_with("serving ") && first.contains("/store at 127.0.0.1:"),
        "{first}"
    );
    let address = first.rsplit(' ').next().unwrap().to_owned();
    let advice = std::iter::from_fn(|| Some(server.line()))
        .find(|line| line.contains(" set greeting hello"))
        .unwrap();
    assert!(advice.contains(&format!("--to {address}")), "{advice}");
    world
        .run(&["--to", &address, "set", "greeting", "hello"])
        .ok();
    assert_eq!(
        world.run(&["--to", &address, "get", "greeting"]).ok(),
        "hello\n"
    );
}

#[test]
fn store_that_is_served_already_is_refused_by_the_pid_of_its_owner() {
    let world = World::new();
    let server = world.serve("store");
    let arguments = [
        "--timeout",
        "0.5",
        "serve",
        "--port",
        "0",
        "--data-dir",
        "store",
    ];
    let error = world.run(&arguments).failed(15);
    assert!(error.contains(&server.pid().to_string()), "{error}");
    assert!(error.contains("objsync status"), "{error}");
}

#[test]
fn port_that_is_taken_is_refused_with_what_to_do() {
    let world = World::new();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let arguments = [
        "--timeout",
        "0.5",
        "serve",
        "--port",
        &port,
        "--data-dir",
        "store",
    ];
    let said = world.run(&arguments);
    assert!(matches!(said.code, Some(14 | 15)), "{said:?}");
    assert!(
        said.err.contains(&port) && said.err.contains("try:"),
        "{said:?}"
    );
}

#[test]
fn sigterm_closes_the_store_and_what_was_written_is_there() {
    for signal in ["TERM", "INT"] {
        let world = World::new();
        let mut server = world.serve("store");
        world
            .run(&["--to", &server.address, "set", "k", "kept"])
            .ok();
        server.signal(signal);
        assert_eq!(server.end(), Some(0), "SIG{signal}");
        assert_eq!(world.run(&["--to", "./store", "get", "k"]).ok(), "kept\n");
    }
}

#[test]
fn killed_server_loses_nothing_that_was_acknowledged() {
    let world = World::new();
    let mut server = world.serve("store");
    world
        .run(&["--to", &server.address, "set", "k", "kept"])
        .ok();
    server.signal("KILL");
    assert_eq!(server.end(), None);
    assert_eq!(world.run(&["--to", "./store", "get", "k"]).ok(), "kept\n");
}

#[test]
fn directory_that_is_served_is_read_through_its_owner() {
    let world = World::new();
    let server = world.serve("store");
    world.run(&["--to", &server.address, "set", "k", "1"]).ok();
    let status: Json =
        serde_json::from_str(&world.run(&["--json", "--to", "./store", "status"]).ok()).unwrap();
    assert_eq!(status["role"], "peer");
    assert_eq!(status["pid"], server.pid());
    assert_eq!(status["keys"], 1);
    let text = world.run(&["--to", &server.address, "status"]).ok();
    assert!(text.contains("default, 1 keys"), "{text}");
}

#[test]
fn watcher_prints_each_change_once_and_in_order() {
    let world = World::new();
    let server = world.serve("store");
    let run = |rest: &[&str]| {
        world
            .run(&[&["--to", &server.address[..]], rest].concat())
            .ok()
    };
    run(&["set", "user:0", "old"]);
    let first: Json = serde_json::from_str(&run(&["--json", "set", "user:1", "1"])).unwrap();
    let since = (first["revision"].as_u64().unwrap() - 1).to_string();
    let to = ["--json", "--to", &server.address, "watch", "user:"];
    let mut watcher = world.start(&[&to[..], &["--since", &since, "-n", "3"]].concat());
    let next = |line: String| -> Json { serde_json::from_str(&line).unwrap() };
    // The change of before proves that it watches from here on.
    assert_eq!(next(watcher.line())["key"], "user:1");
    run(&["set", "other", "1"]);
    run(&["set", "user:2", "[2]"]);
    run(&["del", "user:2"]);
    let set = next(watcher.line());
    assert_eq!(
        (&set["kind"], &set["key"], &set["value"]),
        (&json!("set"), &json!("user:2"), &json!([2]))
    );
    let deleted = next(watcher.line());
    assert_eq!(
        (&deleted["kind"], &deleted["key"]),
        (&json!("delete"), &json!("user:2"))
    );
    assert!(deleted.get("value").is_none(), "{deleted}");
    assert_eq!(watcher.end(), Some(0));
}

#[test]
fn link_lets_in_with_its_rights_until_it_is_taken_back() {
    let world = World::new();
    let server = world.serve("store");
    let run = |rest: &[&str]| world.run(&[&["--to", &server.address[..]], rest].concat());
    run(&["set", "k", "1"]).ok();
    let link = run(&[
        "--namespace",
        "default",
        "link",
        "--read-only",
        "--label",
        "ada",
    ])
    .ok();
    let link = link.trim();
    assert!(link.starts_with("objsync://127.0.0.1:"), "{link}");

    assert_eq!(world.run(&["--to", link, "get", "k"]).ok(), "1\n");
    world.run(&["--to", link, "set", "k", "2"]).failed(14);
    world
        .run(&["--to", link, "--namespace", "other", "get", "k"])
        .failed(14);

    let listed: Json = serde_json::from_str(&run(&["--json", "links"]).ok()).unwrap();
    assert_eq!(listed["label"], "ada");
    run(&["unlink", "ada"]).ok();
    assert_eq!(run(&["unlink", "ada"]).code, Some(1), "it is gone");
    let error = world.run(&["--timeout", "2", "--to", link, "get", "k"]);
    assert!(matches!(error.code, Some(14)), "{error:?}");
    assert_eq!(run(&["get", "k"]).ok(), "1\n", "nothing was changed");
}
