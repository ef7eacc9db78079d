//! `objsync repair DIRECTORY NEW_DIRECTORY`: what is sound of a damaged store, as a new one.

use std::path::PathBuf;

use clap::Args;
use objsync::{ErrorKind, Loss, RepairReport};
use serde_json::{Value as Json, json};

use crate::args::Connection;
use crate::commands::backup::{of_files, refuse_namespace};
use crate::commands::check::{shown, shown_keys};
use crate::exit::{Answer, Failure};
use crate::output::{self, Colour, Output};
use crate::progress::Progress;

/// Arguments of `repair`.
#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// The directory of the damaged store, which nobody may have open; it is only read
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,

    /// The directory of the new store, which is empty or not there
    #[arg(value_name = "NEW_DIRECTORY")]
    new: PathBuf,
}

impl Repair {
    /// Saves what is sound and lists what is lost. A loss is a failure of kind corrupt, with the
    /// new store made all the same.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        refuse_namespace(connection, "repair takes all of a store")?;
        if !self.directory.exists() {
            return Err(Failure::missing(&self.directory));
        }
        let bar = Progress::of_bytes(Some(0), output);
        let made = objsync::repair(&self.directory, &self.new, |at| {
            bar.set(at.done_bytes, at.total_bytes);
        });
        drop(bar);
        let report = made.map_err(|error| {
            of_files(
                error,
                "stop the process that has it open, then repair again",
            )
        })?;
        if output.json() {
            output.line(&as_json(&report).to_string())?;
        } else {
            output.line(&self.as_text(&report, output))?;
        }
        if report.is_whole() && report.check.is_intact() {
            return Ok(Answer::Yes);
        }
        Err(self.not_whole(&report))
    }

    fn not_whole(&self, report: &RepairReport) -> Failure {
        let (old, new) = (self.directory.display(), self.new.display());
        let lost = report.losses.iter().filter(|loss| !loss.is_made_good);
        let lost = lost.count();
        let (text, hint) = match report.is_whole() {
            true => (
                format!(
                    "nothing of {old} is lost, but the new store {new} is damaged in {} places",
                    report.check.problems.len()
                ),
                "look at the disk it is on, then repair into another directory",
            ),
            false => (
                format!("{lost} places of {old} are lost; what is sound is in {new}"),
                "keep the original until you know what was there; restore a backup if there is one",
            ),
        };
        Failure::with_hint(objsync::Failure::new(ErrorKind::Corrupt, text).into(), hint)
    }

    fn as_text(&self, report: &RepairReport, output: &Output) -> String {
        let store = report.store.map(|store| store.to_string());
        let mut lines = vec![output::table(&[
            ("salvaged", self.new.display().to_string()),
            ("store", store.unwrap_or_default()),
            ("revision", report.revision.to_string()),
            ("keys", report.entry_count.to_string()),
            ("links", report.grant_count.to_string()),
            ("log", format!("{} sound frames", report.frame_count)),
            (
                "checked",
                format!("{} problems", report.check.problems.len()),
            ),
        ])];
        for loss in &report.losses {
            let (word, colour) = match loss.is_made_good {
                true => ("made good:", Colour::Dim),
                false => ("lost:", Colour::Red),
            };
            let word = output.painted(word, colour);
            lines.push(format!("{word} {}", described(loss)));
        }
        if report.is_whole() {
            lines.push(output.painted("whole: nothing is lost", Colour::Green));
        }
        lines.join("\n")
    }
}

fn described(loss: &Loss) -> String {
    let mut text = loss.file.display().to_string();
    if loss.end > loss.start {
        text = format!("{text} bytes {} to {}", loss.start, loss.end - 1);
    }
    text = format!("{text}: {}", loss.what);
    if let Some((first, last)) = loss.revisions {
        text = format!("{text}; revisions {first} to {last}");
    }
    if loss.key_count > 0 {
        text = format!("{text}; {}", shown_keys(loss.key_count, &loss.keys));
    }
    if !loss.are_keys_known && !loss.is_made_good {
        text = format!("{text}; which keys they changed is unknown");
    }
    text
}

fn as_json(report: &RepairReport) -> Json {
    let loss = |loss: &Loss| {
        json!({
            "file": loss.file,
            "bytes": [loss.start, loss.end],
            "what": loss.what,
            "revisions": loss.revisions.map(|(first, last)| [first.0, last.0]),
            "keys": loss.keys.iter().map(|(_, key)| shown(key)).collect::<Vec<_>>(),
            "key_count": loss.key_count,
            "all_keys_known": loss.are_keys_known,
            "made_good": loss.is_made_good,
        })
    };
    json!({
        "whole": report.is_whole(),
        "store": report.store.map(|store| store.to_string()),
        "revision": report.revision.0,
        "entries": report.entry_count,
        "links": report.grant_count,
        "frames": report.frame_count,
        "check_problems": report.check.problems.len(),
        "losses": report.losses.iter().map(loss).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use objsync::Problem;

    use super::*;

    #[test]
    fn problem_of_the_new_store_alone_is_not_told_as_a_loss_of_the_old_one() {
        let command = Repair {
            directory: PathBuf::from("old"),
            new: PathBuf::from("new"),
        };
        let mut report = RepairReport::default();
        let problem = Problem::new(&command.new, 0, "it cannot be read");
        report.check.problems.push(problem);
        let told = command.not_whole(&report).message();
        assert!(told.contains("nothing of old is lost"), "{told}");
        assert!(told.contains("new is damaged in 1 places"), "{told}");
        report.losses.push(Loss::new(&command.directory, 0..1, "x"));
        let told = command.not_whole(&report).message();
        assert!(told.contains("1 places of old are lost"), "{told}");
    }
}
