//! Each guarantee of docs/consistency.md names tests, and they exist.

use std::path::Path;

use objsync_tests::tree;

const PAGE: &str = "docs/consistency.md";

/// The source of a test's file: `path/file` is `path/file.rs`, its folder's main file, or Python.
fn source(root: &Path, file: &str) -> Option<String> {
    [
        format!("{file}.rs"),
        format!("{file}/main.rs"),
        format!("{file}.py"),
    ]
    .into_iter()
    .find_map(|path| std::fs::read_to_string(root.join(path)).ok())
}

fn defines_test(source: &str, name: &str) -> bool {
    let starts = ["fn ", "def "];
    starts
        .iter()
        .any(|start| source.contains(&format!("{start}{name}(")))
}

#[test]
fn guarantees_name_tests_that_exist() {
    let root = tree::root();
    let page = std::fs::read_to_string(root.join(PAGE)).unwrap();
    let names = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|text| text.split_once("::"))
        .filter(|(file, _)| file.contains('/'));
    let mut count = 0;
    for (file, name) in names {
        let source = source(&root, file).unwrap_or_else(|| panic!("{PAGE} names {file}"));
        assert!(defines_test(&source, name), "no test {file}::{name}");
        count += 1;
    }
    assert!(count >= 30, "{count} names found");
}

#[test]
fn every_guarantee_has_a_test() {
    let page = std::fs::read_to_string(tree::root().join(PAGE)).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| "));
    for row in rows.filter(|row| {
        !row.starts_with("| guarantee |") && !row.starts_with("| what happened elsewhere |")
    }) {
        let tests = row.trim_matches('|').rsplit('|').next().unwrap_or_default();
        let named = tests.contains("::") || tests.contains(" sim");
        assert!(named, "no test behind: {row}");
    }
}
