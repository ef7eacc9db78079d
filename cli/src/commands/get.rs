//! `objsync get KEY`: print the value under a key.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::args::Connection;
use crate::exit::{Answer, Failure};
use crate::input::KeyForm;
use crate::json;
use crate::moment::{Moment, View};
use crate::output::Output;
use crate::progress::Progress;

/// Bytes that are written at once.
const WRITE_BYTES: usize = 256 << 10;

/// Arguments of `get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The key, as text
    #[arg(value_name = "KEY")]
    key: String,

    /// Write the content of bytes or text, as it is, to this file, in bounded memory; `-` is standard
    /// output
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    moment: Moment,

    #[command(flatten)]
    form: KeyForm,
}

impl Get {
    /// Prints text bare and all else as JSON; with `--json`, text is JSON too.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        let key = self.form.read(&self.key)?;
        let view = self.moment.view(connection.open_to_read()?)?;
        if let Some(path) = &self.file {
            return self.write(&view, &key, path, output);
        }
        let Some(payload) = view.get(&key)? else {
            output.note(&format!("no key {}", self.key));
            return Ok(Answer::No);
        };
        output.line(&json::shown_value(&payload, output.json())?)?;
        Ok(Answer::Yes)
    }

    /// Writes the content to a file, which is made or replaced; half of it is left where that fails.
    fn write(
        &self,
        view: &View,
        key: &[u8],
        path: &Path,
        output: &Output,
    ) -> Result<Answer, Failure> {
        let Some(mut reader) = view.reader(key)? else {
            output.note(&format!("no key {}", self.key));
            return Ok(Answer::No);
        };
        let progress = Progress::of_bytes(Some(reader.content_bytes()), output);
        let failed = |op: &'static str| {
            move |source: io::Error| Failure::Io {
                op,
                path: path.to_path_buf(),
                source,
            }
        };
        let mut file: Box<dyn Write> = match path == Path::new("-") {
            true => Box::new(io::stdout().lock()),
            false => Box::new(File::create(path).map_err(failed("create"))?),
        };
        let mut buffer = vec![0; WRITE_BYTES];
        loop {
            let count = reader
                .read(&mut buffer)
                .map_err(failed("read the value for"))?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).map_err(failed("write"))?;
            progress.advance(count as u64);
        }
        file.flush().map_err(failed("write"))?;
        Ok(Answer::Yes)
    }
}
