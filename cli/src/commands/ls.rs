//! `objsync ls`: list keys, or keys and values, in order.

use std::io::Write;

use clap::Args;
use objsync::KeyRange;

use crate::args::Connection;
use crate::exit::{Answer, Failure};
use crate::input::{self, KeyForm};
use crate::json;
use crate::moment::Moment;
use crate::output::Output;

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only keys of text that start so
    #[arg(value_name = "PREFIX", conflicts_with_all = ["start", "stop"])]
    prefix: Option<String>,

    /// From this key on
    #[arg(long, value_name = "KEY")]
    start: Option<String>,

    /// Up to this key, which is not listed
    #[arg(long, value_name = "KEY")]
    stop: Option<String>,

    /// From the last key to the first
    #[arg(long, short)]
    reverse: bool,

    /// At most so many
    #[arg(long, short = 'n', value_name = "COUNT")]
    limit: Option<u64>,

    /// Print values too
    #[arg(long, short)]
    values: bool,

    #[command(flatten)]
    moment: Moment,

    #[command(flatten)]
    form: KeyForm,
}

impl Ls {
    /// Prints one key a line, all as of one moment.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        let range = self.range()?;
        let view = self.moment.view(connection.open_to_read()?)?;
        let scan = if self.values {
            view.scan(range, self.reverse)?
        } else {
            view.keys(range, self.reverse)?
        };
        let limit = usize::try_from(self.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let mut out = output.lines();
        for entry in scan.take(limit) {
            let (key, payload) = entry?;
            let payload = self.values.then_some(&payload);
            let line = if output.json() {
                json::entry_line(&key, payload.map(|payload| &payload[..]))?
            } else {
                let key = json::shown_key(&key, false)?;
                match payload {
                    Some(payload) => format!("{key}\t{}", json::shown_value(payload, true)?),
                    None => key,
                }
            };
            writeln!(out, "{line}").map_err(Failure::stdout)?;
        }
        out.flush().map_err(Failure::stdout)?;
        Ok(Answer::Yes)
    }

    fn range(&self) -> Result<KeyRange, Failure> {
        if let Some(prefix) = &self.prefix {
            return Ok(input::prefix(prefix));
        }
        let read = |key: &Option<String>| key.as_ref().map(|key| self.form.read(key)).transpose();
        Ok(KeyRange {
            start: read(&self.start)?.unwrap_or_default(),
            end: read(&self.stop)?,
        })
    }
}
