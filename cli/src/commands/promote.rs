//! `objsync promote DIRECTORY`: a copy becomes a store of its own.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::args::Connection;
use crate::commands::backup::refuse_namespace;
use crate::exit::{Answer, Failure};
use crate::output::Output;

/// Arguments of `promote`.
#[derive(Debug, Args)]
pub(crate) struct Promote {
    /// The directory of the copy, which nobody follows with at the moment
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,

    /// Use a directory on a network file system, where locks may not hold
    #[arg(long)]
    force_network_fs: bool,
}

impl Promote {
    /// Whoever opens it next begins another history than that of its source.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        refuse_namespace(connection, "promote makes all of a copy a store")?;
        objsync::promote(&self.directory, self.force_network_fs)?;
        let directory = self.directory.display();
        if output.json() {
            output.line(&json!({ "promoted": directory.to_string() }).to_string())?;
        } else {
            output.line(&format!("{directory} is a store of its own now"))?;
            output.note("what its source writes from here on is another history");
        }
        Ok(Answer::Yes)
    }
}
