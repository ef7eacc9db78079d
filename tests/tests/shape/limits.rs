//! `docs/limits.md` says what `proto/src/limits.rs` says. `UPDATE_DOCS=1` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use objsync_proto::limits;
use objsync_tests::tree;

/// One constant: its name, its sentence and its value.
struct Limit {
    name: String,
    sentence: String,
    value: u64,
}

/// The constants of limits.rs, in order.
fn limits() -> Vec<Limit> {
    let text = std::fs::read_to_string(tree::root().join("proto/src/limits.rs")).unwrap();
    let mut known = BTreeMap::new();
    let mut sentence = String::new();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("/// ") {
            sentence = format!("{sentence} {doc}").trim().to_owned();
        } else if let Some(rest) = line.strip_prefix("pub const ") {
            let (name, rest) = rest.split_once(':').unwrap();
            let (_, expression) = rest.split_once('=').unwrap();
            let value = evaluate(expression.trim().trim_end_matches(';'), &known);
            known.insert(name.to_owned(), value);
            let sentence = std::mem::take(&mut sentence);
            found.push(Limit {
                name: name.to_owned(),
                sentence,
                value,
            });
        } else {
            sentence.clear();
        }
    }
    found
}

/// `a + b`, each a product, each a shift, of numbers, names known so far and parentheses around one
/// of those. Anything else panics: then this function has to learn it.
fn evaluate(expression: &str, known: &BTreeMap<String, u64>) -> u64 {
    let bare = expression.replace(['(', ')'], " ");
    let term = |text: &str| {
        let text = text.trim().split(" as ").next().unwrap().replace('_', "");
        let name = bare
            .split_whitespace()
            .find(|word| word.replace('_', "") == text);
        text.parse().unwrap_or_else(|_| {
            *name
                .and_then(|name| known.get(name))
                .unwrap_or_else(|| panic!("{expression:?}"))
        })
    };
    let shift = |text: &str| match text.split_once("<<") {
        Some((left, right)) => term(left) << term(right),
        None => term(text),
    };
    let product = |text: &str| text.split('*').map(shift).product::<u64>();
    bare.split('+').map(product).sum()
}

/// A value with the unit that its name ends in.
fn shown(limit: &Limit) -> String {
    let value = limit.value;
    if limit.name.contains("BYTES") {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if value >= 1 << shift && value.is_multiple_of(1 << shift) {
                return format!("{} {unit}", value >> shift);
            }
        }
        return format!("{value} bytes");
    }
    if limit.name.ends_with("_MS") {
        for (step, unit) in [(3_600_000, "h"), (1_000, "s")] {
            if value >= step && value.is_multiple_of(step) {
                return format!("{} {unit}", value / step);
            }
        }
        return format!("{value} ms");
    }
    let suffix = if limit.name.ends_with("_S") { " s" } else { "" };
    format!("{value}{suffix}")
}

fn page() -> String {
    let mut page = String::from(
        "# Limits\n\nEvery bound of the protocol and of the store. Made from `proto/src/limits.rs` by\n\
         `UPDATE_DOCS=1 cargo test -p objsync-tests`.\n\n| name | value | what it bounds |\n|---|---|---|\n",
    );
    for limit in limits() {
        writeln!(
            page,
            "| `{}` | {} | {} |",
            limit.name,
            shown(&limit),
            limit.sentence
        )
        .unwrap();
    }
    page
}

#[test]
fn page_of_limits_says_what_the_constants_say() {
    let path = tree::root().join("docs/limits.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        written, page,
        "run UPDATE_DOCS=1 cargo test -p objsync-tests"
    );
}

#[test]
fn constants_read_from_the_source_are_those_of_the_compiler() {
    let read: BTreeMap<String, u64> = limits()
        .into_iter()
        .map(|limit| (limit.name, limit.value))
        .collect();
    for (name, value) in [
        ("KEY_BYTES_MAX", limits::KEY_BYTES_MAX as u64),
        ("FRAME_BYTES_MAX", limits::FRAME_BYTES_MAX as u64),
        ("SESSION_IDLE_MS", limits::SESSION_IDLE_MS),
        ("REVISION_STEP", limits::REVISION_STEP),
        ("PROMOTED_REVISION_STEP", limits::PROMOTED_REVISION_STEP),
    ] {
        assert_eq!(read.get(name), Some(&value), "{name}");
    }
}

#[test]
fn readme_gives_the_limits_as_they_are() {
    let readme = std::fs::read_to_string(tree::root().join("README.md")).unwrap();
    let key = format!("{} KiB", limits::KEY_BYTES_MAX >> 10);
    let value = format!("{} MiB", limits::VALUE_BYTES_MAX >> 20);
    let transaction = format!("{} MiB", limits::TRANSACTION_BYTES_MAX >> 20);
    for (what, size) in [
        ("A key", key),
        ("A value", value),
        ("A transaction", transaction),
    ] {
        let line = readme
            .lines()
            .find(|line| line.contains(what) && line.contains("at most"));
        let line = line.unwrap_or_else(|| panic!("README says nothing of the size of {what:?}"));
        assert!(
            line.contains(&size),
            "README: {line:?}, but the constant is {size}"
        );
    }
}
