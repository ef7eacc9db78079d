//! The Rust examples run, and do what they say.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use objsync::{Dict, Options};
use serde::Serialize;

/// A store of its own, served by this test.
struct Served {
    dict: Dict,
    address: String,
    _folder: tempfile::TempDir,
}

impl Served {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let loopback = "127.0.0.1:0".parse().expect("it is an address");
        let dict = Dict::serve_at(folder.path().join("store"), loopback, Options::default());
        let dict = dict.expect("nobody else serves it");
        let address = dict.status().address.expect("it is served");
        Self {
            dict,
            address,
            _folder: folder,
        }
    }
}

type Lines = std::io::Lines<BufReader<ChildStdout>>;

fn start(program: &str, arguments: &[&str]) -> (Child, Lines) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the example was built");
    let stdout = child.stdout.take().expect("its output is ours");
    (child, BufReader::new(stdout).lines())
}

fn encoded(key: &str) -> objsync::Bytes {
    let key = objsync::key::Key::Str(key.into());
    objsync::key::encode(&key)
        .expect("it is short")
        .into_bytes()
}

#[test]
fn two_counters_lose_no_number() {
    let served = Served::new();
    let program = env!("CARGO_BIN_EXE_counter");
    let mut counters = [(); 2].map(|()| start(program, &[&served.address, "150"]));
    for (child, lines) in &mut counters {
        let line = lines.next().unwrap().unwrap();
        assert!(
            line.starts_with("from ") && line.ends_with(", as peer"),
            "{line}"
        );
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(
        served.dict.incr(&encoded("counter"), 0).wait().unwrap(),
        300
    );
}

#[test]
fn watcher_prints_typed_values_as_they_change() {
    #[derive(Serialize)]
    struct User {
        name: &'static str,
        age: u32,
    }
    let served = Served::new();
    let (mut child, mut lines) = start(env!("CARGO_BIN_EXE_watcher"), &[&served.address, "2"]);
    let ready = lines.next().unwrap().unwrap();
    assert!(ready.starts_with("watching "), "{ready}");
    let ada = objsync::value::to_payload(&User {
        name: "Ada",
        age: 36,
    })
    .unwrap();
    served
        .dict
        .set(&encoded("user:7"), ada.clone())
        .wait()
        .unwrap();
    served.dict.set(&encoded("other"), ada).wait().unwrap();
    served.dict.delete(&encoded("user:7")).wait().unwrap();
    let line = lines.next().unwrap().unwrap();
    assert!(
        line.contains("user:7") && line.ends_with(" is Ada, 36 years old"),
        "{line}"
    );
    assert!(lines.next().unwrap().unwrap().ends_with(" is gone"));
    assert!(
        lines.next().is_none(),
        "the other key is none of its business"
    );
    assert!(child.wait().unwrap().success());
}
