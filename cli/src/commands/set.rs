//! `objsync set KEY VALUE`: put a value under a key.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use objsync::Durability;
use objsync::limits::VALUE_BYTES_MAX;
use serde_json::json;

use crate::args::{self, Connection};
use crate::exit::{Answer, Failure};
use crate::input::{self, KeyForm};
use crate::output::Output;
use crate::target::IfMissing;

/// JSON of a value may be longer than the value: six characters for one.
const INPUT_BYTES_MAX: u64 = 6 * VALUE_BYTES_MAX as u64;

/// Arguments of `set`.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The key, as text
    #[arg(value_name = "KEY")]
    key: String,

    /// The value: JSON, else text; `-` reads it from standard input
    #[arg(value_name = "VALUE", allow_negative_numbers = true)]
    value: String,

    /// The value is text, whatever it looks like
    #[arg(long)]
    text: bool,

    /// The key is removed by itself after so long, such as 500ms, 30s, 5m, 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = args::span)]
    ttl: Option<Duration>,

    /// How safe the write is before it is acknowledged: sync or buffered
    #[arg(long, value_name = "LEVEL")]
    durability: Option<Durability>,

    #[command(flatten)]
    form: KeyForm,
}

impl Set {
    /// Puts the value; with `--json`, prints where the write stands in the history.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        let key = self.form.read(&self.key)?;
        let value = if self.value == "-" {
            &read_stdin()?
        } else {
            &self.value
        };
        let payload = if self.text {
            input::text_payload(value)?
        } else {
            input::value_payload(value)?
        };
        let dict = connection.open_with(IfMissing::Create, |options| {
            options.durability = self.durability;
        })?;
        let ack = dict.set_leased(&key, payload, self.ttl, None).wait()?;
        if output.json() {
            let ack = json!({
                "revision": ack.revision.0,
                "epoch": ack.epoch.number,
                "durability": ack.durability.to_string(),
            });
            output.line(&ack.to_string())?;
        }
        dict.close()?;
        Ok(Answer::Yes)
    }
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin()
        .take(INPUT_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|source| Failure::Io {
            op: "read",
            path: PathBuf::from("standard input"),
            source,
        })?;
    if text.len() as u64 > INPUT_BYTES_MAX {
        return Err(Failure::Usage(format!(
            "the value is over {INPUT_BYTES_MAX} bytes of JSON"
        )));
    }
    // What `echo` and editors add is not meant.
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}
