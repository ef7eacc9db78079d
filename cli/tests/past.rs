//! `--at` and `history`: what was there before, from a directory and from a server.

mod program;

use std::process::Command;

use program::{Said, World};
use serde_json::{Value as Json, json};

/// Sets a key and gives the revision of that.
fn set(run: &dyn Fn(&[&str]) -> Said, key: &str, value: &str) -> String {
    let ack: Json = serde_json::from_str(&run(&["--json", "set", key, value]).ok()).unwrap();
    ack["revision"].to_string()
}

fn assert_past(run: &dyn Fn(&[&str]) -> Said) {
    let first = set(run, "a", "1");
    let second = set(run, "a", "two");
    set(run, "b", "[3]");
    run(&["del", "a"]).ok();
    assert_eq!(run(&["get", "a"]).code, Some(1));
    assert_eq!(run(&["get", "a", "--at", &first]).ok(), "1\n");
    assert_eq!(run(&["get", "a", "--at", &second]).ok(), "two\n");
    assert_eq!(run(&["get", "b", "--at", &second]).code, Some(1));
    assert_eq!(run(&["ls", "--values", "--at", &first]).ok(), "a\t1\n");
    assert_eq!(run(&["ls", "b", "--at", &first]).ok(), "");
    let export = run(&["export", "--at", &second]).ok();
    assert_eq!(export, "{\"key\":\"a\",\"value\":\"two\"}\n");

    let lines = run(&["--json", "history", "a"]).ok();
    let versions: Vec<Json> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<_> = versions
        .iter()
        .map(|version| (version["kind"].as_str().unwrap(), version.get("value")))
        .collect();
    let (one, two) = (json!(1), json!("two"));
    let expected = [("delete", None), ("set", Some(&two)), ("set", Some(&one))];
    assert_eq!(told, expected);
    for version in &versions {
        let time = version["time"].as_str().unwrap();
        assert!(time.starts_with("20") && time.ends_with("+00:00"), "{time}");
        assert_eq!(version["is_oldest_known"], json!(false));
    }
    assert_eq!(versions[1]["revision"].to_string(), second);
    let text = run(&["history", "a", "-n", "1", "--before", &second]).ok();
    assert!(text.starts_with(&format!("{first} 20")), "{text}");
    assert!(text.ends_with(" set 1\n"), "{text}");
    assert_eq!(run(&["history", "never"]).code, Some(1));
}

#[test]
fn past_is_read_from_a_directory_and_from_a_server() {
    let world = World::new();
    assert_past(&|rest: &[&str]| world.run(&[&["--to", "./store"], rest].concat()));
    let server = world.serve("served");
    assert_past(&|rest: &[&str]| world.run(&[&["--to", &server.address], rest].concat()));
}

#[test]
fn revision_that_is_not_there_yet_or_no_longer_is_refused_with_the_one_that_is() {
    let world = World::new();
    // What is left of a store whose log was trimmed.
    let archive = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/python/data/trimmed.tar.gz"
    );
    std::fs::create_dir(world.path("trimmed")).unwrap();
    let unpacked = Command::new("tar")
        .args(["-xzf", archive, "-C"])
        .arg(world.path("trimmed"))
        .status()
        .unwrap();
    assert!(unpacked.success());
    let run = |rest: &[&str]| world.run(&[&["--to", "./trimmed"], rest].concat());
    let said = run(&["--json", "get", "a", "--at", "3"]).failed(11);
    let error: Json = serde_json::from_str(&said).unwrap();
    let error = &error["error"];
    assert_eq!(
        (&error["kind"], &error["revision"]),
        (&json!("invalid"), &json!(3))
    );
    let oldest = error["oldest"].to_string();
    let text = format!("revision 3 is no longer kept; the oldest that can be read is {oldest}");
    assert_eq!(error["message"], json!(text));
    assert_eq!(run(&["get", "a", "--at", &oldest]).ok(), "1\n");
    let known = run(&["history", "a"]).ok();
    assert!(known.ends_with(" before set \"1\"\n"), "{known}");
    let later = run(&["ls", "--at", "9000000"]).failed(11);
    assert!(
        later.contains("revision 9000000 is not there yet"),
        "{later}"
    );
}
