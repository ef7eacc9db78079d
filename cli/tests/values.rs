//! get, set, del and ls: what is put in comes out, and the shell can tell.

mod program;

use program::World;
use serde_json::{Value as Json, json};

#[test]
fn value_that_was_set_is_printed_and_gone_after_del() {
    let world = World::new();
    let server = world.serve("store");
    let to = ["--to", &server.address];
    let run = |rest: &[&str]| world.run(&[&to[..], rest].concat());

    assert_eq!(run(&["set", "name", "Ada"]).ok(), "");
    assert_eq!(run(&["get", "name"]).ok(), "Ada\n");
    assert_eq!(run(&["--json", "get", "name"]).ok(), "\"Ada\"\n");
    run(&["set", "user", "{\"age\": 36, \"tags\": [\"a\"]}"]).ok();
    assert_eq!(
        run(&["get", "user"]).ok(),
        "{\"age\":36,\"tags\":[\"a\"]}\n"
    );
    assert_eq!(run(&["set", "zip", "--text", "01234"]).ok(), "");
    assert_eq!(run(&["--json", "get", "zip"]).ok(), "\"01234\"\n");
    assert_eq!(run(&["set", "low", "-7"]).ok(), "");
    assert_eq!(run(&["get", "low"]).ok(), "-7\n");

    assert_eq!(run(&["del", "name", "zip"]).ok(), "");
    assert_eq!(run(&["get", "name"]).code, Some(1));
    assert_eq!(run(&["del", "name"]).code, Some(1), "it is gone already");
}

#[test]
fn keys_are_listed_in_order_and_within_bounds() {
    let world = World::new();
    let run = |rest: &[&str]| world.run(&[&["--to", "./store"], rest].concat());
    for key in ["b", "user:2", "user:1", "a"] {
        run(&["set", key, "1"]).ok();
    }
    run(&["set", "--key-json", "7", "1"]).ok();
    assert_eq!(run(&["ls"]).ok(), "7\na\nb\nuser:1\nuser:2\n");
    assert_eq!(run(&["ls", "user:"]).ok(), "user:1\nuser:2\n");
    assert_eq!(
        run(&["ls", "--start", "b", "--stop", "user:2"]).ok(),
        "b\nuser:1\n"
    );
    assert_eq!(
        run(&["ls", "--reverse", "-n", "2"]).ok(),
        "user:2\nuser:1\n"
    );
    assert_eq!(run(&["ls", "a", "--values"]).ok(), "a\t1\n");
    let lines = run(&["--json", "ls", "--values", "-n", "1"]).ok();
    let entry: Json = serde_json::from_str(&lines).unwrap();
    assert_eq!(entry, json!({"key": 7, "value": 1}));
}

#[test]
fn prefix_removes_all_that_starts_so_and_nothing_else() {
    let world = World::new();
    let run = |rest: &[&str]| world.run(&[&["--to", "./store"], rest].concat());
    for key in ["a", "job:1", "job:2", "joc"] {
        run(&["set", key, "1"]).ok();
    }
    let answer: Json =
        serde_json::from_str(&run(&["--json", "del", "--prefix", "job:"]).ok()).unwrap();
    assert_eq!(answer, json!({"removed": 2, "missing": 0}));
    assert_eq!(run(&["ls"]).ok(), "a\njoc\n");
}

#[test]
fn value_comes_from_standard_input_and_says_where_it_stands() {
    let world = World::new();
    let said = world.run_with(
        &["--json", "--to", "./store", "set", "k", "-"],
        "{\"x\": 1}\n",
    );
    let ack: Json = serde_json::from_str(&said.ok()).unwrap();
    assert_eq!(ack["durability"], "sync");
    assert!(ack["revision"].as_u64() > Some(0), "{ack}");
    assert_eq!(
        world.run(&["--to", "./store", "get", "k"]).ok(),
        "{\"x\":1}\n"
    );
}

#[test]
fn namespaces_of_a_store_do_not_see_each_other() {
    let world = World::new();
    let run = |rest: &[&str]| world.run(&[&["--to", "./store"], rest].concat());
    run(&["set", "k", "1"]).ok();
    run(&["--namespace", "prices", "set", "k", "2"]).ok();
    assert_eq!(run(&["get", "k"]).ok(), "1\n");
    assert_eq!(run(&["--namespace", "prices", "get", "k"]).ok(), "2\n");
}
