//! `objsync set KEY VALUE`: put a value under a key.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use objsync::limits::VALUE_BYTES_MAX;
use objsync::{Ack, Bytes, Dict, Durability};
use serde_json::json;

use crate::args::{self, Connection};
use crate::exit::{Answer, Failure};
use crate::input::{self, KeyForm};
use crate::output::Output;
use crate::progress::Progress;
use crate::target::IfMissing;

/// JSON of a value may be longer than the value: six characters for one.
const INPUT_BYTES_MAX: u64 = 6 * VALUE_BYTES_MAX as u64;

/// Bytes of a file that are read at once.
const READ_BYTES: usize = 256 << 10;

/// Arguments of `set`.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The key, as text
    #[arg(value_name = "KEY")]
    key: String,

    /// The value: JSON, else text; `-` reads it from standard input
    #[arg(
        value_name = "VALUE",
        allow_negative_numbers = true,
        required_unless_present = "file"
    )]
    value: Option<String>,

    /// Put the bytes of this file, whatever its size, in bounded memory; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["value", "text", "ttl"])]
    file: Option<PathBuf>,

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
        let open = || {
            connection.open_with(IfMissing::Create, |options| {
                options.durability = self.durability;
            })
        };
        let (dict, ack) = match &self.file {
            Some(path) => {
                let dict = open()?;
                let ack = put_file(&dict, &key, path, output)?;
                (dict, ack)
            }
            None => {
                let payload = self.payload()?;
                let dict = open()?;
                let ack = dict.set_leased(&key, payload, self.ttl, None).wait()?;
                (dict, ack)
            }
        };
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

impl Set {
    fn payload(&self) -> Result<Bytes, Failure> {
        let stdin;
        let value = match self.value.as_deref() {
            Some("-") | None => {
                stdin = read_stdin()?;
                &stdin
            }
            Some(value) => value,
        };
        match self.text {
            true => input::text_payload(value),
            false => input::value_payload(value),
        }
    }
}

/// Puts the bytes of a file; what was under the key stays until all of them were read.
fn put_file(dict: &Dict, key: &[u8], path: &Path, output: &Output) -> Result<Ack, Failure> {
    let failed = |op: &'static str| {
        move |source: io::Error| Failure::Io {
            op,
            path: path.to_path_buf(),
            source,
        }
    };
    let (mut file, size): (Box<dyn Read>, _) = match path == Path::new("-") {
        true => (Box::new(io::stdin().lock()), None),
        false => {
            let file = File::open(path).map_err(failed("open"))?;
            let size = file
                .metadata()
                .ok()
                .filter(Metadata::is_file)
                .map(|about| about.len());
            (Box::new(file), size)
        }
    };
    let progress = Progress::of_bytes(size, output);
    let mut writer = dict.open_write(key)?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = file.read(&mut buffer).map_err(failed("read"))?;
        if count == 0 {
            break;
        }
        writer.push_bytes(&buffer[..count])?;
        progress.advance(count as u64);
    }
    Ok(writer.commit().wait()?)
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
