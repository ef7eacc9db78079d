//! `objsync restore BACKUP DIRECTORY`: a store of a backup.

use std::path::PathBuf;

use clap::Args;

use crate::args::Connection;
use crate::commands::backup::{explained, print, refuse_namespace, show};
use crate::exit::{Answer, Failure};
use crate::output::Output;
use crate::progress::Progress;

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The directory of the backup
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,

    /// The directory of the new store, which is empty or not there
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

impl Restore {
    /// Copies all of the backup and reads it back.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        refuse_namespace(connection, "restore makes all of a store")?;
        if !self.backup.exists() {
            return Err(Failure::missing(&self.backup));
        }
        let bar = Progress::of_bytes(Some(0), output);
        let made = objsync::restore(&self.backup, &self.directory, |at| show(&bar, at));
        drop(bar);
        let report = made.map_err(|error| {
            let refused = "name a backup first, then a directory that is empty or not there";
            explained(error, &self.backup, refused)
        })?;
        print(&report, ("restored", &self.directory), output)?;
        Ok(Answer::Yes)
    }
}
