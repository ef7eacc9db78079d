//! `objsync history KEY`: what a key was, newest first, one version a line.

use std::io::Write;

use clap::Args;
use objsync::limits::HISTORY_COUNT_DEFAULT;
use objsync::{Revision, Version};
use serde_json::json;

use crate::args::Connection;
use crate::exit::{Answer, Failure};
use crate::input::KeyForm;
use crate::json;
use crate::output::{Colour, Output};

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// The key, as text; it need not be there now
    #[arg(value_name = "KEY")]
    key: String,

    /// At most so many versions
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = HISTORY_COUNT_DEFAULT)]
    limit: u32,

    /// Only what was before this revision
    #[arg(long, value_name = "REVISION")]
    before: Option<u64>,

    #[command(flatten)]
    form: KeyForm,
}

impl History {
    /// The answer is no when nothing is known of the key.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        let key = self.form.read(&self.key)?;
        let dict = connection.open_to_read()?;
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let before = self.before.map(Revision);
        let versions = dict.history(&key, before, limit).wait()?;
        if versions.is_empty() {
            output.note(&format!("nothing is known of key {}", self.key));
            return Ok(Answer::No);
        }
        let mut out = output.lines();
        for version in &versions {
            let line = if output.json() {
                as_json(version)?
            } else {
                as_text(version, output)?
            };
            writeln!(out, "{line}").map_err(Failure::stdout)?;
        }
        out.flush().map_err(Failure::stdout)?;
        Ok(Answer::Yes)
    }
}

fn as_text(version: &Version, output: &Output) -> Result<String, Failure> {
    let when = time(version).unwrap_or_else(|| String::from("before"));
    let revision = output.painted(&format!("{} {when}", version.revision), Colour::Dim);
    let what = match version.load().wait()? {
        Some(payload) => {
            let set = output.painted("set", Colour::Green);
            format!("{set} {}", json::shown_value(&payload, true)?)
        }
        None => output.painted("del", Colour::Red),
    };
    Ok(format!("{revision} {what}"))
}

fn as_json(version: &Version) -> Result<String, Failure> {
    let mut line = json!({
        "revision": version.revision.0,
        "time": time(version),
        "kind": if version.value.is_some() { "set" } else { "delete" },
        "is_oldest_known": version.is_oldest_known,
    });
    // None is a value too, so what is not there is left out.
    if let Some(payload) = version.load().wait()? {
        line["value"] = json::value_to_json(&payload)?;
    }
    Ok(line.to_string())
}

fn time(version: &Version) -> Option<String> {
    json::instant_text(version.time_ms?)
}
