//! Rules that neither rustfmt nor clippy knows.

use objsync_tests::tree::{self, File};

/// The files that may say `unsafe`, each for a reason that its header gives.
const UNSAFE_FILES: [&str; 5] = [
    "client/src/fork.rs",
    "client/src/generation.rs",
    "client/tests/objects/children.rs",
    "proto/tests/memory.rs",
    "pybind/src/codec/view.rs",
];

/// Tests that may let time pass: they watch something that has no event to wait for.
const SLEEPING_TESTS: [&str; 1] = ["client/tests/objects/peer.rs"];

fn violations(endings: &[&str], check: impl Fn(&File) -> Vec<String>) {
    let wrong: Vec<String> = tree::files(endings).iter().flat_map(check).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_longer_than_500_lines() {
    violations(&[".rs", ".py", ".pyi"], |file| {
        // A test is read one function at a time.
        let lines = file.text.lines().count();
        if lines > 500 && !file.is_test {
            vec![format!("{}: {lines} lines", file.path)]
        } else {
            Vec::new()
        }
    });
}

#[test]
fn no_function_is_longer_than_70_lines() {
    violations(&[".rs"], |file| {
        if file.is_test {
            return Vec::new();
        }
        let mut wrong = Vec::new();
        let mut open: Option<(usize, usize)> = None;
        for (index, line) in file.text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            if is_function(line) && line.trim_end().ends_with('{') {
                open = Some((index, indent));
            } else if let Some((start, depth)) = open
                && indent == depth
                && line.trim_start().starts_with('}')
            {
                let lines = index - start + 1;
                if lines > 70 {
                    wrong.push(format!("{}:{}: {lines} lines", file.path, start + 1));
                }
                open = None;
            }
        }
        wrong
    });
}

fn is_function(line: &str) -> bool {
    let line = line.trim_start();
    let words = [
        "pub ",
        "pub(crate) ",
        "pub(super) ",
        "async ",
        "const ",
        "unsafe ",
        "extern \"C\" ",
    ];
    let mut rest = line;
    while let Some(next) = words.iter().find_map(|word| rest.strip_prefix(word)) {
        rest = next;
    }
    rest.starts_with("fn ")
}

#[test]
fn every_rust_file_starts_with_a_header() {
    violations(&[".rs"], |file| {
        if file.is_test || file.text.starts_with("//!") || file.text.starts_with("#!") {
            Vec::new()
        } else {
            vec![format!("{} has no //! header", file.path)]
        }
    });
}

#[test]
fn source_is_ascii() {
    violations(&[".rs", ".py", ".pyi", ".toml", "Makefile"], |file| {
        let lines = file
            .text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.is_ascii());
        lines
            .map(|(index, _)| format!("{}:{}", file.path, index + 1))
            .collect()
    });
}

#[test]
fn nothing_is_named_utils_helpers_common_misc_or_manager() {
    violations(&[""], |file| {
        let stem = |part: &str| part.split('.').next().unwrap_or_default().to_owned();
        let vague = [
            "util", "utils", "helper", "helpers", "common", "misc", "manager",
        ];
        let hit = file
            .path
            .split('/')
            .map(stem)
            .any(|part| vague.contains(&part.as_str()));
        if hit {
            vec![file.path.clone()]
        } else {
            Vec::new()
        }
    });
}

#[test]
fn unwrap_stands_only_in_tests() {
    violations(&[".rs"], |file| {
        if file.is_test {
            return Vec::new();
        }
        let code = file.code();
        let lines = code.iter().filter(|(_, line)| line.contains(".unwrap()"));
        lines
            .map(|(number, line)| format!("{}:{number}: {}", file.path, line.trim()))
            .collect()
    });
}

#[test]
fn unsafe_stands_only_in_named_files_under_a_safety_comment() {
    violations(&[".rs"], |file| {
        // This file speaks of it, and does none.
        if file.path.ends_with("shape/style.rs") {
            return Vec::new();
        }
        let lines: Vec<&str> = file.text.lines().collect();
        let mut wrong = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let is_unsafe = ["unsafe {", "unsafe impl", "unsafe fn", "unsafe extern"]
                .iter()
                .any(|form| code.contains(form) && !code.contains('"'));
            if !is_unsafe {
                continue;
            }
            if !UNSAFE_FILES.contains(&file.path.as_str()) {
                wrong.push(format!(
                    "{}:{}: unsafe in a file not named here",
                    file.path,
                    index + 1
                ));
            }
            let above = &lines[index.saturating_sub(8)..=index];
            if !above.iter().any(|line| line.contains("SAFETY")) {
                wrong.push(format!(
                    "{}:{}: unsafe without SAFETY",
                    file.path,
                    index + 1
                ));
            }
        }
        wrong
    });
}

#[test]
fn tests_wait_for_events_and_do_not_sleep() {
    // Cut in two so that this file does not find itself.
    let naps = [
        concat!("thread::", "sleep"),
        concat!("time::", "sleep("),
        concat!("time.", "sleep("),
    ];
    violations(&[".rs", ".py"], |file| {
        if !file.path.contains("tests") || SLEEPING_TESTS.contains(&file.path.as_str()) {
            return Vec::new();
        }
        let lines = file.text.lines().enumerate();
        let hits = lines.filter(|(_, line)| naps.iter().any(|nap| line.contains(nap)));
        hits.map(|(index, line)| format!("{}:{}: {}", file.path, index + 1, line.trim()))
            .collect()
    });
}

#[test]
fn no_wish_is_left_in_the_code() {
    let wishes = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("for ", "now"),
        concat!("not ", "implemented"),
        concat!("place", "holder"),
        concat!("to", "do!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
        concat!("pytest.mark.", "skip"),
        concat!("x", "fail"),
    ];
    violations(&[".rs", ".py", ".pyi", ".toml"], |file| {
        let lines = file.text.lines().enumerate();
        let hits = lines.filter(|(_, line)| wishes.iter().any(|wish| line.contains(wish)));
        hits.map(|(index, line)| format!("{}:{}: {}", file.path, index + 1, line.trim()))
            .collect()
    });
}

#[test]
fn pages_of_decisions_are_listed() {
    let index = std::fs::read_to_string(tree::root().join("docs/decisions/README.md")).unwrap();
    violations(&[".md"], |file| {
        let name = file
            .path
            .strip_prefix("docs/decisions/")
            .filter(|name| *name != "README.md");
        match name {
            Some(name) if !index.contains(name) => vec![format!("{} is not listed", file.path)],
            _ => Vec::new(),
        }
    });
}

#[test]
fn code_without_its_test_module_is_what_remains() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n// c\nfn d() {}\n";
    let file = File::new("x.rs", text);
    assert_eq!(file.code(), [(1, "fn a() {}"), (7, "fn d() {}")]);
}
