//! What the docs point at exists: a file by its path, a function or type in the file named before
//! it on the same line, else anywhere in the project.

use objsync_tests::tree::{self, File};

/// Texts between single backticks on a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The docs' lines outside code blocks, with their numbers from 1.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut in_block = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            lines.push((index + 1, line));
        }
    }
    lines
}

/// A path of the project: it ends like source, or starts with one of the project's folders.
fn is_path(text: &str) -> bool {
    let ends = [".rs", ".py", ".pyi", ".toml", ".md"]
        .iter()
        .any(|end| text.ends_with(end));
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/_.-".contains(c));
    plain && ends && text.contains('/')
}

/// `Type::function`, `function()` or `Type.method()`: its last name.
fn function(text: &str) -> Option<&str> {
    let called = text.strip_suffix("()");
    let bare = called.unwrap_or(text);
    let plain = bare
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "_:.".contains(c));
    if !plain || bare.is_empty() || (called.is_none() && !bare.contains("::")) {
        return None;
    }
    bare.rsplit([':', '.'])
        .next()
        .filter(|name| !name.is_empty())
}

/// Whether `file` defines something called `name`.
fn defines(file: &File, name: &str) -> bool {
    let starts = [
        "fn ",
        "struct ",
        "enum ",
        "trait ",
        "mod ",
        "def ",
        "class ",
        "const ",
        "type ",
        "macro_rules! ",
    ];
    file.text.lines().any(|line| {
        starts.iter().any(|start| {
            line.find(start).is_some_and(|at| {
                let rest = &line[at + start.len()..];
                rest.strip_prefix(name).is_some_and(|after| {
                    !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                })
            })
        }) || is_variant(line, name)
    })
}

/// An enum's variant stands alone at the start of its line.
fn is_variant(line: &str, name: &str) -> bool {
    let line = line.trim();
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && line
            .strip_prefix(name)
            .is_some_and(|after| after.starts_with(['(', ',', ' ', '{']))
}

#[test]
fn every_path_and_function_named_in_the_docs_exists() {
    let sources = tree::files(&[".rs", ".py", ".pyi"]);
    let mut wrong = Vec::new();
    let mut trails = 0;
    for page in tree::files(&[".md"]) {
        for (number, line) in prose(&page.text) {
            let mut named: Option<&File> = None;
            for text in quoted(line) {
                if is_path(text) {
                    named = sources.iter().find(|file| file.path == text);
                    trails += 1;
                    if !tree::root().join(text).exists() {
                        wrong.push(format!("{}:{number}: no file {text}", page.path));
                    }
                } else if let Some(name) = function(text) {
                    let found = match named {
                        Some(file) => defines(file, name),
                        None => sources.iter().any(|file| defines(file, name)),
                    };
                    if !found && !text.starts_with("std::") {
                        let place = named.map_or("the project", |file| &file.path);
                        wrong.push(format!("{}:{number}: no {text} in {place}", page.path));
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "the docs name what is not there:\n{}",
        wrong.join("\n")
    );
    assert!(
        trails > 0,
        "the docs name no file at all: this test looks at nothing"
    );
}

#[test]
fn every_trail_of_the_main_operations_is_written_down() {
    let page = std::fs::read_to_string(tree::root().join("docs/architecture.md")).unwrap();
    for operation in ["d[k] = v", "d[k]", "a change arriv"] {
        assert!(
            page.contains(operation),
            "docs/architecture.md has no trail of {operation:?}"
        );
    }
    for folder in ["pybind/", "client/", "server/", "store/", "proto/"] {
        assert!(
            page.contains(&format!("`{folder}")),
            "no trail goes through {folder}"
        );
    }
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut wrong = Vec::new();
    for page in tree::files(&[".md"]) {
        let folder = tree::root().join(&page.path);
        let folder = folder.parent().unwrap();
        for (number, line) in prose(&page.text) {
            for link in line.split("](").skip(1) {
                let link = link.split(')').next().unwrap();
                let target = link.split('#').next().unwrap();
                if !target.contains("://") && !target.is_empty() && !folder.join(target).exists() {
                    wrong.push(format!("{}:{number}: {link}", page.path));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "links that lead nowhere:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn a_name_is_found_only_where_it_is_defined() {
    let file = File::new(
        "x.rs",
        "pub(crate) async fn run<T>() {}\n    Set { a: u8 },",
    );
    assert!(defines(&file, "run"));
    assert!(defines(&file, "Set"));
    assert!(!defines(&file, "ru"));
    assert_eq!(function("Dict::set"), Some("set"));
    assert_eq!(function("d.sync()"), Some("sync"));
    assert_eq!(function("sync"), None);
    assert!(is_path("store/src/log.rs") && !is_path("d[k]"));
}
