//! What the README promises about itself. Its code runs elsewhere: Rust as a documentation test of
//! this crate, Python in `tests/python/test_readme.py`.

use objsync_tests::tree;

fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(tag)) if tag.trim() == language => open = Some(String::new()),
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => {
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    found
}

#[test]
fn readme_shows_the_two_commands_and_code_in_both_languages() {
    let readme = std::fs::read_to_string(tree::root().join("README.md")).unwrap();
    let shell = blocks(&readme, "sh").join("");
    for command in ["make run", "make test"] {
        assert!(shell.contains(command), "README does not show {command:?}");
    }
    for language in ["rust", "python"] {
        let blocks = blocks(&readme, language);
        assert!(!blocks.is_empty(), "README has no {language} code");
        for block in blocks {
            let lines = block.lines().count();
            assert!(
                lines <= 25,
                "README's {language} is to be read at once, not {lines} lines"
            );
        }
    }
}

#[test]
fn every_code_block_of_the_readme_says_its_language() {
    let readme = std::fs::read_to_string(tree::root().join("README.md")).unwrap();
    let fences: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("```"))
        .collect();
    assert_eq!(fences.len() % 2, 0, "a block is not closed");
    for tag in fences.iter().step_by(2) {
        assert!(
            ["rust", "python", "sh", "text"].contains(tag),
            "block tagged {tag:?}"
        );
    }
}

#[test]
fn makefile_has_the_targets_that_the_docs_name() {
    let makefile = std::fs::read_to_string(tree::root().join("Makefile")).unwrap();
    for target in ["run", "test", "bench", "install-dev"] {
        let rule = format!("\n{target}:");
        assert!(makefile.contains(&rule), "no rule for {target}");
    }
}

#[test]
fn ci_runs_the_command_that_the_readme_gives_for_tests() {
    let ci = std::fs::read_to_string(tree::root().join(".ci/run")).unwrap();
    assert!(
        ci.lines().any(|line| line.trim() == "make test"),
        ".ci/run does not call make test"
    );
}
