//! import and export: any size, every type, and a wrong line is named.

mod program;

use std::fmt::Write as _;

use program::World;
use serde_json::{Value as Json, json};

/// A line of each type, as `export` writes them, in key order.
const EVERY_TYPE: &str = r#"{"key":null,"value":null}
{"key":-1.5,"value":true}
{"key":7,"value":123456789012345678901234567890}
{"key":"bytes","value":{"$bytes":"AP8="}}
{"key":"complex","value":{"$complex":[1.5,-2.0]}}
{"key":"date","value":{"$date":"2026-01-02"}}
{"key":"datetime","value":{"$datetime":"2026-01-02T03:04:05.678901+01:00"}}
{"key":"decimal","value":{"$decimal":"1.50"}}
{"key":"dict","value":{"$dict":[[1,"one"],[{"$tuple":[1,2]},"pair"]]}}
{"key":"dollar","value":{"$dict":[["$bytes","no bytes"]]}}
{"key":"float","value":1.0}
{"key":"frozenset","value":{"$frozenset":[1,2]}}
{"key":"list","value":[1,"a",null,{"x":{"y":[]}}]}
{"key":"naive","value":{"$datetime":"2026-01-02T03:04:05"}}
{"key":"nan","value":{"$float":"nan"}}
{"key":"set","value":{"$set":[1,"a"]}}
{"key":"time","value":{"$time":"03:04:05.000001"}}
{"key":"timedelta","value":{"$timedelta":[-1,86399,999999]}}
{"key":"tuple","value":{"$tuple":[1,{"$tuple":[]}]}}
{"key":"uuid","value":{"$uuid":"123e4567-e89b-12d3-a456-426614174000"}}
{"key":{"$bytes":"AA=="},"value":1}
{"key":{"$datetime":"2026-01-02T03:04:05"},"value":1}
{"key":{"$datetime":"2026-01-02T02:04:05+00:00"},"value":1}
{"key":{"$uuid":"123e4567-e89b-12d3-a456-426614174000"},"value":1}
{"key":{"$tuple":["a",1,{"$tuple":[]}]},"value":1}
"#;

#[test]
fn every_type_comes_out_of_export_as_it_went_into_import() {
    let world = World::new();
    let said = world.run_with(&["--json", "--to", "./store", "import"], EVERY_TYPE);
    let answer: Json = serde_json::from_str(&said.ok()).unwrap();
    assert_eq!(answer, json!({"imported": EVERY_TYPE.lines().count()}));
    let out = world.run(&["--to", "./store", "export"]).ok();
    for (got, wanted) in out.lines().zip(EVERY_TYPE.lines()) {
        assert_eq!(got, wanted);
    }
    assert_eq!(out.lines().count(), EVERY_TYPE.lines().count());
}

#[test]
fn many_lines_go_through_a_server_and_a_file_and_stay_the_same() {
    let world = World::new();
    let mut lines = String::new();
    for number in 0..20_000 {
        let value = json!({"n": number, "text": "x".repeat(number % 300)});
        writeln!(
            lines,
            "{}",
            json!({"key": format!("k{number:06}"), "value": value})
        )
        .unwrap();
    }
    std::fs::write(world.path("in.jsonl"), &lines).unwrap();
    let server = world.serve("store");
    world
        .run(&["--to", &server.address, "import", "in.jsonl"])
        .ok();
    world
        .run(&["--to", &server.address, "export", "out.jsonl"])
        .ok();
    assert!(std::fs::read_to_string(world.path("out.jsonl")).unwrap() == lines);
    let part = world
        .run(&["--to", &server.address, "export", "--prefix", "k00001"])
        .ok();
    assert_eq!(part.lines().count(), 10);
}

#[test]
fn wrong_line_is_named_and_what_stood_before_it_is_stored() {
    let world = World::new();
    let input =
        "{\"key\": \"a\", \"value\": 1}\n\n{\"key\": \"b\"}\n{\"key\": \"c\", \"value\": 3}\n";
    let error = world
        .run_with(&["--to", "./store", "import"], input)
        .failed(2);
    assert!(
        error.contains("line 3") && error.contains("value"),
        "{error}"
    );
    assert_eq!(world.run(&["--to", "./store", "ls"]).ok(), "a\n");
}

#[test]
fn export_never_writes_over_a_file() {
    let world = World::new();
    std::fs::write(world.path("precious"), "mine").unwrap();
    world.run(&["--to", "./store", "set", "k", "1"]).ok();
    let error = world
        .run(&["--to", "./store", "export", "precious"])
        .failed(15);
    assert!(error.contains("precious"), "{error}");
    assert_eq!(
        std::fs::read_to_string(world.path("precious")).unwrap(),
        "mine"
    );
}

#[test]
fn pickle_is_not_read() {
    let world = World::new();
    std::fs::write(world.path("old.pkl"), b"\x80\x04K\x01.").unwrap();
    let error = world
        .run(&["--to", "./store", "import", "old.pkl"])
        .failed(2);
    assert!(
        error.contains("pickle") && error.contains("runs code"),
        "{error}"
    );
}

#[test]
fn reader_that_goes_away_early_is_no_failure() {
    let world = World::new();
    let mut lines = String::new();
    for number in 0..20_000 {
        writeln!(lines, "{{\"key\": {number}, \"value\": {number}}}").unwrap();
    }
    world.run_with(&["--to", "./store", "import"], &lines).ok();
    let mut child = world
        .command(&["--to", "./store", "export"])
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn raw_export_is_files_that_any_zstd_reads() {
    let world = World::new();
    let mut lines = String::from(
        "{\"key\":\"../a b\",\"value\":\"text \\u00e9\"}\n\
         {\"key\":\"bytes\",\"value\":{\"$bytes\":\"AP8=\"}}\n\
         {\"key\":{\"$tuple\":[1,\"x\"]},\"value\":{\"n\":[1,2]}}\n\
         {\"key\":\"\",\"value\":\"\"}\n",
    );
    let long = "k".repeat(600);
    for end in ["a", "b"] {
        writeln!(lines, "{{\"key\":\"{long}{end}\",\"value\":\"{end}\"}}").unwrap();
    }
    world.run_with(&["--to", "./store", "import"], &lines).ok();
    world
        .run(&["--to", "./store", "export", "--raw", "out"])
        .ok();
    let index = std::fs::read_to_string(world.path("out/index.jsonl")).unwrap();
    let mut seen = 0;
    for line in index.lines() {
        let entry: Json = serde_json::from_str(line).unwrap();
        let file = entry["file"].as_str().unwrap();
        let file_bytes = std::fs::read(world.path("out").join(file)).unwrap();
        let unpacked = zstd::decode_all(&file_bytes[..]).unwrap();
        let (kind, wanted) = match &entry["key"] {
            Json::String(key) if key == "../a b" => {
                assert_eq!(file, "%2E.%2Fa%20b.zst");
                ("text", "text \u{e9}".as_bytes().to_vec())
            }
            Json::String(key) if key == "bytes" => ("bytes", vec![0, 0xFF]),
            Json::String(key) if key.is_empty() => ("text", Vec::new()),
            Json::String(key) => ("text", key.as_bytes()[600..].to_vec()),
            _ => ("json", b"{\"n\":[1,2]}".to_vec()),
        };
        assert_eq!(
            (entry["content"].as_str(), &unpacked),
            (Some(kind), &wanted)
        );
        assert_eq!(entry["bytes"], wanted.len());
        seen += 1;
    }
    assert_eq!(seen, 6);
    let files = std::fs::read_dir(world.path("out")).unwrap().count();
    assert_eq!(files, 7);
}

#[test]
fn raw_export_never_writes_over_anything() {
    let world = World::new();
    world.run(&["--to", "./store", "set", "k", "1"]).ok();
    std::fs::create_dir(world.path("mine")).unwrap();
    std::fs::write(world.path("file"), "mine").unwrap();
    for place in ["mine", "file"] {
        let error = world
            .run(&["--to", "./store", "export", "--raw", place])
            .failed(15);
        assert!(error.contains(place), "{error}");
    }
    assert_eq!(std::fs::read_dir(world.path("mine")).unwrap().count(), 0);
    assert_eq!(std::fs::read_to_string(world.path("file")).unwrap(), "mine");
}
