//! The growth of a store can be measured, small.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::collections::BTreeMap;
use std::process::Command;

#[test]
fn growth_is_measured_from_the_first_key_to_the_open_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_objsync-benches"))
        .args(["--part", "growth", "--keys", "100000", "--directory"])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let figures: BTreeMap<String, f64> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| {
            (
                line["figure"].as_str().unwrap().to_owned(),
                line["value"].as_f64().unwrap(),
            )
        })
        .collect();
    let figure = |name: &str| {
        *figures
            .get(name)
            .unwrap_or_else(|| panic!("{name}: {figures:?}"))
    };
    // What is read back is counted by the process that reads it.
    for name in [
        "growth closed scan",
        "growth killed scan",
        "growth killed open and read",
    ] {
        assert!(figure(name) > 0.0);
    }
    let share = figure("growth peak of the bound");
    assert!(share > 0.0 && share < 100.0, "{share} percent");
    assert!(figure("growth log and snapshots peak") > figure("growth live data") * 0.9);
    assert!(figure("growth memory peak") >= figure("growth memory of its own at rest"));
}
