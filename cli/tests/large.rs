//! Values of any size by the program: from files, to files, and through JSON lines.

mod program;

use std::fs;

use program::World;

/// Bytes that do not repeat within a chunk.
fn bytes(count: u32) -> Vec<u8> {
    (0..count / 4)
        .flat_map(|number| number.wrapping_mul(0x9E37_79B1).to_le_bytes())
        .collect()
}

#[test]
fn file_goes_in_and_out_as_it_is() {
    let world = World::new();
    let run = |arguments: &[&str]| world.run(&[&["--to", "./store"], arguments].concat());
    for (name, count) in [("large", 5 << 20), ("small", 100), ("empty", 0)] {
        let content = bytes(count);
        fs::write(world.path(name), &content).unwrap();
        let said = run(&["--json", "set", name, "--file", name]).ok();
        assert!(said.contains("\"durability\":\"sync\""), "{said}");
        run(&["get", name, "--file", "out"]).ok();
        assert!(fs::read(world.path("out")).unwrap() == content, "{name}");
    }
    let text = "text ".repeat(50_000);
    run(&["set", "text", &text[..100_000]]).ok();
    assert_eq!(run(&["get", "text", "--file", "-"]).ok(), text[..100_000]);
    run(&["get", "nothing", "--file", "none"]).failed(1);
    assert!(!world.path("none").exists());
    let error = run(&["set", "large", "1", "--file", "large"]).failed(2);
    assert!(error.contains("cannot be used with"), "{error}");
    run(&["set", "list", "[1]"]).ok();
    let error = run(&["get", "list", "--file", "none"]).failed(11);
    assert!(error.contains("of type list"), "{error}");
}

#[test]
fn value_over_the_limit_of_one_that_is_whole_goes_through_export_and_import() {
    let world = World::new();
    let content = bytes(12 << 20);
    fs::write(world.path("large"), &content).unwrap();
    world
        .run(&["--to", "./store", "set", "k", "--file", "large"])
        .ok();
    world.run(&["--to", "./store", "export", "lines"]).ok();
    world.run(&["--to", "./other", "import", "lines"]).ok();
    world
        .run(&["--to", "./other", "get", "k", "--file", "out"])
        .ok();
    assert!(fs::read(world.path("out")).unwrap() == content);
}

#[test]
fn large_text_and_bytes_are_exported_as_the_lines_that_they_came_from() {
    let world = World::new();
    // Characters of one to four bytes, at every place of a piece, and some that JSON escapes.
    let text = "a\u{e9}\u{20ac}\u{1f600}\"\\\n".repeat(60_001);
    let lines = [
        serde_json::json!({ "key": "a", "value": 1 }),
        serde_json::json!({ "key": "b", "value": text }),
        serde_json::json!({ "key": "c", "value": { "$bytes": "AAECAwQF".repeat(100_000) } }),
        serde_json::json!({ "key": "d", "value": ["x"] }),
    ];
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(world.path("lines"), &lines).unwrap();
    world.run(&["--to", "./store", "import", "lines"]).ok();
    assert!(world.run(&["--to", "./store", "export"]).ok() == lines);
}
