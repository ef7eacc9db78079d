//! Followers as processes: a copy and its source, each killed at its time.

mod program;

use program::{DEADLINE, Running, World};
use serde_json::Value as Json;

struct Pair {
    world: World,
    source: Running,
    link: String,
    copy: Running,
}

fn link(world: &World, to: &str) -> String {
    let said = world.run(&["--json", "--to", to, "link", "--follow"]).ok();
    let said: Json = serde_json::from_str(&said).unwrap();
    said["link"].as_str().unwrap().to_owned()
}

fn follow(world: &World, link: &str, directory: &str) -> Running {
    let arguments = [
        "--json",
        "serve",
        "--port",
        "0",
        "--data-dir",
        directory,
        "--follow",
        link,
    ];
    let mut running = world.start(&arguments);
    let line: Json = serde_json::from_str(&running.line()).unwrap();
    running.address = line["address"].as_str().unwrap().to_owned();
    running
}

impl Pair {
    fn new() -> Self {
        let world = World::new();
        let source = world.serve("source");
        let link = link(&world, &source.address);
        let copy = follow(&world, &link, "copy");
        Self {
            world,
            source,
            link,
            copy,
        }
    }

    fn at_source(&self, rest: &[&str]) -> String {
        self.world.run(&[&["--to", "./source"], rest].concat()).ok()
    }

    fn at_copy(&self, rest: &[&str]) -> String {
        self.world.run(&[&["--to", "./copy"], rest].concat()).ok()
    }

    fn follows(&self, directory: &str) -> Json {
        let to = format!("./{directory}");
        let said = self.world.run(&["--json", "--to", &to, "status"]).ok();
        let said: Json = serde_json::from_str(&said).unwrap();
        said["follows"].clone()
    }

    /// Waits until the copy says that it is so.
    fn until(&self, what: &str, is_so: impl Fn(&Json) -> bool) -> Json {
        let start = std::time::Instant::now();
        loop {
            let follows = self.follows("copy");
            if is_so(&follows) {
                return follows;
            }
            assert!(start.elapsed() < DEADLINE, "{what}: {follows}");
        }
    }

    /// Starts the source again where its copy looks for it.
    fn restart_source(&mut self) {
        let port = self.source.address.rsplit(':').next().unwrap().to_owned();
        let arguments = ["--json", "serve", "--port", &port, "--data-dir", "source"];
        let mut source = self.world.start(&arguments);
        source.line();
        source.address = self.source.address.clone();
        self.source = source;
    }
}

fn is_up_to_date(follows: &Json) -> bool {
    follows["connected"] == true && follows["lag"] == 0 && follows["behind_ms"] == 0
}

#[test]
fn copy_is_read_written_and_linked_to_as_its_source_is() {
    let pair = Pair::new();
    pair.at_source(&["set", "a", "1"]);
    pair.at_copy(&["set", "b", "2"]);
    assert_eq!(pair.at_copy(&["get", "b"]), "2\n");
    assert_eq!(pair.at_source(&["get", "b"]), "2\n");
    pair.until("a is there", |_| {
        pair.world.run(&["--to", "./copy", "get", "a"]).code == Some(0)
    });
    let follows = pair.until("up to date", is_up_to_date);
    assert_eq!(follows["source"], pair.source.address);
    assert_eq!(pair.follows("source"), Json::Null);
    // A link made at the copy leads to the copy, and is kept at the source.
    let said = pair.at_copy(&["--json", "link", "--label", "friend"]);
    let said: Json = serde_json::from_str(&said).unwrap();
    let friend = said["link"].as_str().unwrap();
    assert!(friend.contains(&pair.copy.address), "{friend}");
    let through = |rest: &[&str]| pair.world.run(&[&["--to", friend], rest].concat()).ok();
    assert_eq!(through(&["get", "b"]), "2\n");
    through(&["set", "c", "3"]);
    assert_eq!(pair.at_source(&["get", "c"]), "3\n");
    assert!(pair.at_source(&["links"]).contains("friend"));
    // A follower of the follower.
    let second = link(&pair.world, "./copy");
    let leaf = follow(&pair.world, &second, "leaf");
    pair.world
        .run(&["--to", &leaf.address, "set", "d", "4"])
        .ok();
    assert_eq!(pair.at_source(&["get", "d"]), "4\n");
    assert_eq!(pair.follows("leaf")["source"], pair.copy.address);
}

#[test]
fn copy_outlives_its_source_says_how_far_it_is_behind_and_catches_up() {
    let mut pair = Pair::new();
    pair.at_source(&["set", "a", "1"]);
    pair.until("up to date", is_up_to_date);
    pair.source.signal("KILL");
    pair.source.end();
    let follows = pair.until("the source is away", |follows| {
        follows["connected"] == false
    });
    assert_ne!(follows["trouble"], "");
    assert_eq!(pair.at_copy(&["get", "a"]), "1\n");
    let refused = pair
        .world
        .run(&["--to", "./copy", "--timeout", "4", "set", "a", "2"]);
    assert!(matches!(refused.code, Some(15)), "{refused:?}");
    pair.restart_source();
    pair.until("up to date again", is_up_to_date);
    assert_eq!(
        pair.at_copy(&["get", "a"]),
        "1\n",
        "what was refused was not done"
    );
    pair.at_copy(&["set", "a", "3"]);
    assert_eq!(pair.at_source(&["get", "a"]), "3\n");
}

#[test]
fn copy_that_is_killed_again_and_again_loses_nothing_and_goes_on() {
    let mut pair = Pair::new();
    for round in 0..5 {
        pair.copy.signal("KILL");
        pair.copy.end();
        let number = round.to_string();
        pair.at_source(&["set", &format!("k{round}"), &number]);
        if round == 2 {
            pair.source.signal("KILL");
            pair.source.end();
            pair.restart_source();
        }
        pair.copy = follow(&pair.world, &pair.link, "copy");
        pair.until("up to date", is_up_to_date);
        for seen in 0..=round {
            let value = pair.at_copy(&["get", &format!("k{seen}")]);
            assert_eq!(value, format!("{seen}\n"), "in round {round}");
        }
    }
    pair.copy.signal("TERM");
    assert_eq!(pair.copy.end(), Some(0));
    pair.world.run(&["check", "copy"]).ok();
}

#[test]
fn follower_that_cannot_go_on_ends_and_says_why() {
    let mut pair = Pair::new();
    pair.at_source(&["set", "a", "1"]);
    pair.until("up to date", is_up_to_date);
    let end_source = |pair: &mut Pair| {
        pair.source.signal("TERM");
        assert_eq!(pair.source.end(), Some(0));
    };
    let (source, before) = (pair.world.path("source"), pair.world.path("before"));
    end_source(&mut pair);
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([&source, &before])
        .status();
    assert!(copied.unwrap().success());
    pair.restart_source();
    pair.at_source(&["set", "a", "2"]);
    pair.until("up to date", is_up_to_date);
    end_source(&mut pair);
    // The source goes on from before, so that the copy is to be replaced; its directory says that
    // it is a store of its own, which nothing replaces.
    std::fs::rename(&source, pair.world.path("after")).unwrap();
    std::fs::rename(&before, &source).unwrap();
    std::fs::copy(
        source.join("MANIFEST"),
        pair.world.path("copy").join("MANIFEST"),
    )
    .unwrap();
    pair.restart_source();
    assert!(matches!(pair.copy.end(), Some(code) if code != 0));
}

#[test]
fn options_that_a_follower_would_not_heed_are_refused() {
    let world = World::new();
    let link = "objsync://h:1/?server=00&key=abab";
    for option in [["--durability", "buffered"], ["--namespace", "other"]] {
        let mut arguments = vec![
            "serve",
            "--port",
            "0",
            "--data-dir",
            "copy",
            "--follow",
            link,
        ];
        arguments.extend(option);
        let refused = world.run(&arguments).failed(2);
        assert!(refused.contains(option[0]), "{refused}");
    }
}

#[test]
fn copy_that_nobody_follows_with_is_refused_until_it_is_promoted() {
    let mut pair = Pair::new();
    pair.at_source(&["set", "a", "1"]);
    pair.until("up to date", is_up_to_date);
    pair.copy.signal("TERM");
    assert_eq!(pair.copy.end(), Some(0));
    for arguments in [
        &["--timeout", "0.5", "--to", "./copy", "get", "a"][..],
        &["--timeout", "0.5", "--to", "./copy", "set", "a", "2"],
        &[
            "--timeout",
            "0.5",
            "serve",
            "--port",
            "0",
            "--data-dir",
            "copy",
        ],
    ] {
        let refused = pair.world.run(arguments);
        assert_ne!(refused.code, Some(0), "{arguments:?}");
        assert!(
            refused.err.contains("objsync promote"),
            "{arguments:?}: {refused:?}"
        );
    }
    let said = pair.world.run(&["promote", "copy"]).ok();
    assert!(said.contains("a store of its own"), "{said}");
    assert_eq!(pair.at_copy(&["set", "a", "of its own"]), "");
    assert_eq!(pair.at_copy(&["get", "a"]), "of its own\n");
    assert_eq!(pair.at_source(&["get", "a"]), "1\n");
    let again = pair.world.run(&["promote", "copy"]);
    assert!(again.err.contains("already"), "{again:?}");
    let refused = pair.world.run(&[
        "serve",
        "--port",
        "0",
        "--data-dir",
        "copy",
        "--follow",
        &pair.link,
    ]);
    assert!(refused.err.contains("store of its own"), "{refused:?}");
    assert!(!refused.err.contains("key="), "the secret is not repeated");
    let wrong = pair
        .world
        .run(&["serve", "--follow", "objsync://h:1/?server=00&key=abab"]);
    assert!(!wrong.err.contains("abab"), "{wrong:?}");
}
