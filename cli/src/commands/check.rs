//! `objsync check DIRECTORY`: read every byte of a store and say what is damaged.

use std::path::{Path, PathBuf};

use clap::Args;
use objsync::{Bytes, CheckReport, ErrorKind, NamespaceId, Problem};
use serde_json::{Value as Json, json};

use crate::args::Connection;
use crate::commands::backup::of_files;
use crate::exit::{Answer, Failure};
use crate::json;
use crate::output::{self, Colour, Output};
use crate::progress::Progress;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The directory of the store, which nobody may have open; no file but its index is changed
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

impl Check {
    /// Prints what was read and what is wrong. Any byte that is not as it was written is a failure
    /// of kind corrupt, also where nothing is lost by it.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        if connection.namespace.is_some() {
            let text = "check reads all of a store: --namespace means nothing to it";
            return Err(Failure::Usage(text.into()));
        }
        if !self.directory.exists() {
            return Err(Failure::missing(&self.directory));
        }
        let bar = Progress::of_bytes(Some(0), output);
        let report = objsync::check(&self.directory, |progress| {
            bar.set(progress.done_bytes, progress.total_bytes);
        });
        drop(bar);
        let report = report.map_err(|error| {
            of_files(error, "stop the process that has it open, then check again")
        })?;
        if output.json() {
            output.line(&as_json(&report).to_string())?;
        } else {
            output.line(&as_text(&report, output))?;
        }
        if report.is_intact() {
            Ok(Answer::Yes)
        } else {
            Err(damaged(&self.directory, &report))
        }
    }
}

fn damaged(directory: &Path, report: &CheckReport) -> Failure {
    let shown = directory.display();
    let count = report.problems.len();
    let (text, hint) = if report.is_sound() {
        let text = format!("{shown} is damaged in {count} places, and nothing is lost");
        let hint = "open it once: what is damaged is made again or cut off, and nobody needs it";
        (text, hint.to_owned())
    } else {
        let text = format!("{shown} is damaged in {count} places");
        let hint = format!(
            "restore a backup (objsync restore), or save what is sound: objsync repair {shown} NEW"
        );
        (text, hint)
    };
    Failure::with_hint(objsync::Failure::new(ErrorKind::Corrupt, text).into(), hint)
}

fn as_text(report: &CheckReport, output: &Output) -> String {
    let store = report
        .store
        .map_or_else(|| String::from("unknown"), |store| store.to_string());
    let closed = if report.was_closed {
        "closed"
    } else {
        "open or cut off"
    };
    let mut lines = vec![output::table(&[
        ("store", store),
        ("revision", format!("{}, {closed}", report.revision)),
        (
            "read",
            format!(
                "{} files, {}",
                report.file_count,
                output::bytes(report.bytes)
            ),
        ),
        ("log", format!("{} frames", report.frame_count)),
        (
            "snapshots",
            format!("{} entries with their footers", report.entry_count),
        ),
        (
            "index",
            format!("{} entries compared", report.index_entry_count),
        ),
    ])];
    for problem in &report.problems {
        let (word, colour) = if problem.is_cache {
            ("not needed:", Colour::Dim)
        } else {
            ("damaged:", Colour::Red)
        };
        let word = output.painted(word, colour);
        let place = format!("{} at byte {}", problem.file.display(), problem.offset);
        lines.push(format!(
            "{word} {place}: {}{}",
            problem.what,
            what_is_hit(problem)
        ));
    }
    if report.is_intact() {
        lines.push(output.painted("sound: nothing is lost", Colour::Green));
    }
    lines.join("\n")
}

fn what_is_hit(problem: &Problem) -> String {
    let mut text = String::new();
    if let Some((first, last)) = problem.revisions {
        text = format!("; revisions {first} to {last}");
    }
    if problem.key_count > 0 {
        text = format!("{text}; {}", shown_keys(problem.key_count, &problem.keys));
    }
    text
}

/// How many keys are hit, and some of them.
pub(crate) fn shown_keys(count: u64, keys: &[(NamespaceId, Bytes)]) -> String {
    let some: Vec<String> = keys.iter().take(5).map(|(_, key)| shown(key)).collect();
    let more = if count > 5 { ", .." } else { "" };
    format!("{count} keys: {}{more}", some.join(", "))
}

/// A damaged store may hold bytes that are no key: they are shown as they are.
pub(crate) fn shown(key: &[u8]) -> String {
    json::shown_key(key, true).unwrap_or_else(|_| key.escape_ascii().to_string())
}

fn as_json(report: &CheckReport) -> Json {
    let problem = |problem: &Problem| {
        json!({
            "file": problem.file,
            "offset": problem.offset,
            "what": problem.what,
            "is_cache": problem.is_cache,
            "revisions": problem.revisions.map(|(first, last)| [first.0, last.0]),
            "keys": problem.keys.iter().map(|(_, key)| shown(key)).collect::<Vec<_>>(),
            "key_count": problem.key_count,
        })
    };
    json!({
        "intact": report.is_intact(),
        "sound": report.is_sound(),
        "store": report.store.map(|store| store.to_string()),
        "was_closed": report.was_closed,
        "revision": report.revision.0,
        "files": report.file_count,
        "bytes": report.bytes,
        "frames": report.frame_count,
        "entries": report.entry_count,
        "index_entries": report.index_entry_count,
        "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
    })
}
