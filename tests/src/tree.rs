//! The project's files as the shape tests see them.
//!
//! Only what git tracks or would track counts, so build output and virtual environments do not.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the project.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in a folder of the project")
        .to_path_buf()
}

/// One file of the project.
#[derive(Debug, Clone)]
pub struct File {
    /// Where it lies, from the root, with `/`.
    pub path: String,
    /// What it says.
    pub text: String,
}

impl File {
    /// Whether all of it is a test, an example or a measurement, not code that users run.
    #[must_use]
    pub fn is_test(&self) -> bool {
        self.path
            .split('/')
            .any(|part| matches!(part, "tests" | "benches" | "examples"))
            || self.path.ends_with("/tests.rs")
            || self.path.ends_with("_tests.rs")
    }

    /// Its lines with their numbers from 1, without comments and without test modules.
    #[must_use]
    pub fn code(&self) -> Vec<(usize, &str)> {
        let mut lines = Vec::new();
        let mut module_depth: Option<usize> = None;
        let mut skipping = false;
        for (index, line) in self.text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let trimmed = line.trim_start();
            if let Some(depth) = module_depth {
                // rustfmt puts the closing brace of a block where the block's first line starts.
                if indent == depth && trimmed.starts_with('}') {
                    module_depth = None;
                }
                continue;
            }
            if trimmed.starts_with("#[cfg(test)]") {
                skipping = true;
                continue;
            }
            if skipping {
                if trimmed.starts_with("#[") {
                    continue;
                }
                skipping = false;
                if trimmed.ends_with('{') {
                    module_depth = Some(indent);
                }
                continue;
            }
            if !trimmed.starts_with("//") {
                lines.push((index + 1, line));
            }
        }
        lines
    }
}

/// Every text file of the project whose name ends in one of `endings`, in order.
#[must_use]
pub fn files(endings: &[&str]) -> Vec<File> {
    let root = root();
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ])
        .current_dir(&root)
        .output()
        .expect("git is needed to build the project, so it is here");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8(output.stdout).expect("file names of the project are ASCII");
    names
        .split('\0')
        .filter(|name| endings.iter().any(|ending| name.ends_with(ending)))
        .filter_map(|name| {
            // A file that was deleted and not committed yet is still in git's list.
            let text = std::fs::read_to_string(root.join(name)).ok()?;
            Some(File {
                path: name.to_owned(),
                text,
            })
        })
        .collect()
}
