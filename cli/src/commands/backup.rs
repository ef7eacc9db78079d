//! `objsync backup DIRECTORY`: a copy of a store as of one revision, while writes go on.

use std::path::{Path, PathBuf};

use clap::Args;
use objsync::{BackupProgress, BackupReport, Dict, ErrorKind, ObjectError, Options, ReplicaMode};
use serde_json::json;

use crate::args::Connection;
use crate::exit::{Answer, Failure};
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::target::Place;

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Where the backup lies: a directory of its own, used again by the next backup
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

impl Backup {
    /// Copies what is new, reads all of it back, and says what it is.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        refuse_namespace(connection, "backup takes all of a store")?;
        let source = source(connection)?;
        let bar = Progress::of_bytes(Some(0), output);
        let made = objsync::backup(&source, &self.directory, |at| show(&bar, at));
        drop(bar);
        let report = made.map_err(|error| {
            let refused =
                "name a directory that is not there yet, or one with a backup of this store";
            explained(error, &self.directory, refused)
        })?;
        print(&report, ("backed up", &self.directory), output)?;
        Ok(Answer::Yes)
    }
}

/// All of a store is meant, never one dictionary.
pub(crate) fn refuse_namespace(connection: &Connection, why: &str) -> Result<(), Failure> {
    match connection.namespace {
        Some(_) => {
            let text = format!("{why}: --namespace means nothing to it");
            Err(Failure::Usage(text))
        }
        None => Ok(()),
    }
}

/// The directory of the store meant, which must be on this machine.
fn source(connection: &Connection) -> Result<PathBuf, Failure> {
    let place = connection.place()?;
    let target = match &place {
        Place::Directory(path) if path.exists() => return Ok(path.clone()),
        Place::Directory(path) => return Err(Failure::missing(path)),
        Place::Served(target) => target,
    };
    let options = Options {
        promote: false,
        replica: ReplicaMode::None,
        timeout: connection.timeout,
        ..Options::default()
    };
    let shown = connection.shown()?;
    let hint = format!("is objsync serve running at {shown}? its directory does as well: --to DIR");
    let dict = Dict::connect(target, options).map_err(|error| match error.kind() {
        ErrorKind::Unavailable => Failure::with_hint(error, hint),
        _ => error.into(),
    })?;
    let owner = dict.owner_status().wait()?;
    dict.close()?;
    if owner.directory.is_empty() {
        let text =
            format!("the server at {shown} tells its directory only to who has the admin right");
        let failure = objsync::Failure::new(ErrorKind::Denied, text);
        let hint = "name the directory, on its machine: objsync --to DIR backup DIRECTORY";
        return Err(Failure::with_hint(failure.into(), hint));
    }
    let directory = PathBuf::from(&owner.directory);
    // The same path on this machine may be another store, or none.
    if objsync::store_of(&directory) == Some(owner.position.store) {
        return Ok(directory);
    }
    let text = format!(
        "the store at {shown} is on another machine, in {}",
        owner.directory
    );
    let hint = "run objsync backup there, or take one dictionary: objsync export FILE";
    let failure = objsync::Failure::new(ErrorKind::Invalid, text);
    Err(Failure::with_hint(failure.into(), hint))
}

pub(crate) fn show(bar: &Progress, at: BackupProgress) {
    bar.set(at.done_bytes, at.total_bytes);
}

/// With what helps: `refused` where a directory was not fit for it.
pub(crate) fn explained(error: ObjectError, directory: &Path, refused: &str) -> Failure {
    if error.kind() == ErrorKind::Invalid && error.is_refused() {
        return Failure::with_hint(error, refused);
    }
    let directory = directory.display();
    let busy = format!("is another backup going to {directory}, or is it open as a store?");
    of_files(error, &busy)
}

/// A failure of a call that works on files and asks no server.
pub(crate) fn of_files(error: ObjectError, busy: &str) -> Failure {
    match error.kind() {
        _ if error.is_locked() => Failure::with_hint(error, busy),
        ErrorKind::Unavailable => {
            let hint = "the system refused it: look at the disk and at what the path leads to";
            Failure::with_hint(error, hint)
        }
        _ => error.into(),
    }
}

/// What a backup, or what was restored, is.
pub(crate) fn print(
    report: &BackupReport,
    (done, directory): (&str, &Path),
    output: &Output,
) -> Result<(), Failure> {
    if output.json() {
        let document = json!({
            "directory": directory,
            "store": report.store.to_string(),
            "revision": report.revision.0,
            "files": report.file_count,
            "bytes": report.bytes,
            "copied_bytes": report.copied_bytes,
            "reused_bytes": report.reused_bytes,
            "verified": true,
        });
        return output.line(&document.to_string());
    }
    output.line(&output::table(&[
        (done, directory.display().to_string()),
        ("store", report.store.to_string()),
        ("revision", report.revision.to_string()),
        (
            "files",
            format!("{}, {}", report.file_count, output::bytes(report.bytes)),
        ),
        ("copied", output::bytes(report.copied_bytes)),
        ("used again", output::bytes(report.reused_bytes)),
        ("verified", String::from("every byte was read back")),
    ]))
}
