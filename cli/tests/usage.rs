//! Errors say what to do next, and scripts can rely on codes.

mod program;

use program::World;
use serde_json::Value as Json;

#[test]
fn nobody_there_is_told_with_the_way_to_start_one() {
    let world = World::new();
    let free = std::net::UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let to = free.to_string();
    let error = world
        .run(&["--timeout", "0.5", "--to", &to, "get", "k"])
        .failed(15);
    assert!(
        error.contains(&format!("objsync serve --port {}", free.port())),
        "{error}"
    );
    let said = world.run(&["--json", "--timeout", "0.5", "--to", &to, "get", "k"]);
    let error: Json = serde_json::from_str(&said.failed(15)).unwrap();
    assert_eq!(error["error"]["kind"], "unavailable");
    assert!(error["error"]["hint"].is_string());
}

#[test]
fn store_that_is_not_there_is_not_made_by_reading() {
    let world = World::new();
    let error = world.run(&["--to", "./none", "get", "k"]).failed(12);
    assert!(error.contains("./none"), "{error}");
    assert!(!world.path("none").exists());
}

#[test]
fn path_that_is_a_file_is_refused_and_the_file_is_left_alone() {
    let world = World::new();
    std::fs::write(world.path("data.pkl"), b"\x80\x04K\x01.").unwrap();
    let error = world
        .run(&["--to", "./data.pkl", "set", "k", "1"])
        .failed(11);
    assert!(
        error.contains("data.pkl") && error.contains("pickle"),
        "{error}"
    );
    assert_eq!(
        std::fs::read(world.path("data.pkl")).unwrap(),
        b"\x80\x04K\x01."
    );
}

#[test]
fn broken_json_and_unknown_types_are_refused_before_anything_is_opened() {
    let world = World::new();
    for value in [
        "{\"a\":",
        "{\"$nonsense\": 1}",
        "{\"$bytes\": \"?\"}",
        "{\"$set\": 1}",
    ] {
        let error = world.run(&["--to", "./store", "set", "k", value]).failed(2);
        assert!(error.starts_with("error: "), "{error}");
    }
    assert!(!world.path("store").exists());
}

#[test]
fn key_over_the_limit_is_refused_by_its_size() {
    let world = World::new();
    let error = world
        .run(&["--to", "./store", "set", &"k".repeat(5000), "1"])
        .failed(2);
    assert!(error.contains("4096 bytes"), "{error}");
}

#[test]
fn wrong_usage_exits_with_two() {
    let world = World::new();
    for arguments in [
        &["fly"][..],
        &["get"],
        &["set", "k"],
        &["--timeout", "0", "get", "k"],
    ] {
        world.run(arguments).failed(2);
    }
    let error = world.run(&["--to", "nowhere", "get", "k"]).failed(11);
    assert!(error.contains("--to ./nowhere"), "{error}");
}

#[test]
fn help_lists_commands_and_exit_codes_without_colours() {
    let world = World::new();
    let help = world.run(&["--help"]).ok();
    for word in [
        "serve",
        "export",
        "completion",
        "Exit codes",
        "19  outcome unknown",
    ] {
        assert!(help.contains(word), "{word} in {help}");
    }
    assert!(!help.contains('\x1b'), "no terminal, no colours");
}

#[test]
fn completion_knows_the_commands_in_each_shell() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = world.run(&["completion", shell]).ok();
        assert!(
            script.contains("unlink") && script.contains("data-dir"),
            "{shell}"
        );
    }
    world.run(&["completion", "cmd"]).failed(2);
}

#[test]
fn check_of_a_sound_store_finds_nothing_and_of_none_says_so() {
    let world = World::new();
    world.run(&["--to", "./store", "set", "k", "1"]).ok();
    let report: Json =
        serde_json::from_str(&world.run(&["--json", "check", "./store"]).ok()).unwrap();
    assert_eq!(report["sound"], true, "{report}");
    assert_eq!(report["problems"], serde_json::json!([]), "{report}");
    assert!(
        world
            .run(&["check", "./store"])
            .ok()
            .contains("sound: nothing is lost")
    );
    world.run(&["check", "./none"]).failed(12);
    std::fs::create_dir(world.path("empty")).unwrap();
    world.run(&["check", "./empty"]).failed(12);
}

#[test]
fn check_names_the_file_and_the_byte_of_damage() {
    let world = World::new();
    world
        .run(&["--to", "./store", "set", "k", &"x".repeat(4000)])
        .ok();
    let place = |path: std::path::PathBuf| {
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(100).position(|part| part == [b'x'; 100])?;
        Some((path, bytes, at))
    };
    let mut log = std::fs::read_dir(world.path("store/log")).unwrap();
    let (segment, mut bytes, at) = log.find_map(|entry| place(entry.unwrap().path())).unwrap();
    bytes[at + 2000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let said = world.run(&["check", "./store"]);
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(
        said.out.contains(&name) && said.out.contains("damaged:"),
        "{said:?}"
    );
    assert!(said.failed(16).contains("damaged in 1 places"));
}

#[test]
fn bench_prints_figures_and_leaves_nothing_behind() {
    let world = World::new();
    world.run(&["--to", "./store", "set", "mine", "1"]).ok();
    let said = world
        .run(&["--json", "--to", "./store", "bench", "--keys", "50"])
        .ok();
    let report: Json = serde_json::from_str(&said).unwrap();
    assert!(
        report["figures"]["get"]["p50_us"].as_f64() > Some(0.0),
        "{report}"
    );
    assert_eq!(world.run(&["--to", "./store", "ls"]).ok(), "mine\n");
    let text = world.run(&["bench", "--keys", "50"]).ok();
    assert!(text.starts_with("a new store: 50 keys"), "{text}");
}
