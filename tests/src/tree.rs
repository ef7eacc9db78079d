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
    /// Whether all of it is a test, an example or a measurement, not code that users run.
    pub is_test: bool,
}

impl File {
    /// A file; it is a test by its folder or its name.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        let folder = |part| matches!(part, "tests" | "benches" | "examples");
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            is_test: path.split('/').any(folder) || path.ends_with("tests.rs"),
        }
    }

    /// The files that its `#[cfg(test)] mod name;` stand for, without their endings.
    fn test_modules(&self) -> Vec<String> {
        let (folder, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let folder = match name {
            "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
            name => format!("{folder}/{}", name.trim_end_matches(".rs")),
        };
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        lines
            .windows(2)
            .filter(|pair| pair[0] == "#[cfg(test)]")
            .filter_map(|pair| pair[1].strip_suffix(';')?.rsplit_once("mod "))
            .map(|(_, module)| format!("{folder}/{module}"))
            .collect()
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
    let mut files: Vec<File> = names
        .split('\0')
        .filter(|name| endings.iter().any(|ending| name.ends_with(ending)))
        .filter_map(|name| {
            // A file that was deleted and not committed yet is still in git's list.
            let text = std::fs::read_to_string(root.join(name)).ok()?;
            Some(File::new(name, &text))
        })
        .collect();
    let tests: Vec<String> = files.iter().flat_map(File::test_modules).collect();
    for file in &mut files {
        let module = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
        file.is_test |= tests.iter().any(|test| test == module);
    }
    files
}
