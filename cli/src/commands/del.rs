//! `objsync del KEY...`: remove keys.

use clap::Args;
use serde_json::json;

use crate::args::Connection;
use crate::exit::{Answer, Failure};
use crate::input::{self, KeyForm};
use crate::output::Output;

/// Arguments of `del`.
#[derive(Debug, Args)]
pub(crate) struct Del {
    /// The keys, as text
    #[arg(value_name = "KEY", required_unless_present = "prefix")]
    keys: Vec<String>,

    /// Remove every key of text that starts so
    #[arg(long, value_name = "TEXT", conflicts_with = "keys")]
    prefix: Option<String>,

    #[command(flatten)]
    form: KeyForm,
}

impl Del {
    /// Removes the keys; the answer is no when one of them was not there.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        let keys = self
            .keys
            .iter()
            .map(|key| self.form.read(key))
            .collect::<Result<Vec<_>, _>>()?;
        let dict = connection.open()?;
        let mut removed = 0;
        let mut missing = 0;
        if let Some(prefix) = &self.prefix {
            removed = dict.delete_range(input::prefix(prefix)).wait()?;
        }
        for (key, shown) in keys.iter().zip(&self.keys) {
            if dict.delete(key).wait()?.0 {
                removed += 1;
            } else {
                missing += 1;
                output.note(&format!("no key {shown}"));
            }
        }
        if output.json() {
            output.line(&json!({"removed": removed, "missing": missing}).to_string())?;
        }
        dict.close()?;
        Ok(if missing == 0 {
            Answer::Yes
        } else {
            Answer::No
        })
    }
}
