//! `objsync export`: a dictionary as JSON lines, as of one moment, in bounded memory.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use objsync::{KeyRange, LargeValue};

use super::raw;
use crate::args::Connection;
use crate::exit::{Answer, Failure};
use crate::input;
use crate::json;
use crate::moment::{Moment, View};
use crate::output::Output;
use crate::progress::Progress;

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The file to write, which must not exist yet [default: standard output]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Write one file a key instead, into this directory, which must not exist yet: each is what
    /// `zstd -d` unpacks to the value's bytes or text, or to its JSON; `index.jsonl` names them
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    raw: Option<PathBuf>,

    /// Only keys of text that start so
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,

    #[command(flatten)]
    moment: Moment,
}

impl Export {
    /// Writes one line an entry, in key order.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        let view = self.moment.view(connection.open_to_read()?)?;
        let range = self
            .prefix
            .as_deref()
            .map_or_else(KeyRange::default, input::prefix);
        if let Some(directory) = &self.raw {
            let count = raw::write_all(&view, range, output, directory)?;
            output.note(&format!("{count} files"));
            return Ok(Answer::Yes);
        }
        let count = match &self.file {
            None => write_all(&view, range, output, &mut output.lines(), Failure::stdout)?,
            Some(path) => to_file(&view, range, output, path)?,
        };
        output.note(&format!("{count} entries"));
        Ok(Answer::Yes)
    }
}

/// A file that is whole and synced when it is there under its name: until then it has another.
fn to_file(view: &View, range: KeyRange, output: &Output, path: &Path) -> Result<u64, Failure> {
    let failed = |op| {
        move |source| Failure::Io {
            op,
            path: path.to_path_buf(),
            source,
        }
    };
    if path.symlink_metadata().is_ok() {
        return Err(failed("create")(io::ErrorKind::AlreadyExists.into()));
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // The mode of any new file; dropped half way, it is removed.
    let file = tempfile::Builder::new()
        .prefix(".objsync-export-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(failed("create"))?;
    let mut writer = BufWriter::with_capacity(256 << 10, file);
    let count = write_all(view, range, output, &mut writer, failed("write"))?;
    let file = writer
        .into_inner()
        .map_err(|error| failed("write")(error.into_error()))?;
    file.as_file().sync_all().map_err(failed("sync"))?;
    file.persist_noclobber(path)
        .map_err(|refused| failed("create")(refused.error))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("sync"))?;
    Ok(count)
}

fn write_all(
    view: &View,
    range: KeyRange,
    output: &Output,
    out: &mut impl Write,
    failed: impl Fn(std::io::Error) -> Failure,
) -> Result<u64, Failure> {
    let progress = Progress::of_entries(view.len()?, output);
    let mut count = 0;
    for entry in view.scan(range, false)?.with_references() {
        let (key, payload) = entry?;
        match LargeValue::of(&payload)? {
            Some(large) if ["bytes", "str"].contains(&large.type_name()) => {
                let mut reader = view.dict().reader_of(&key, &payload)?;
                json::write_entry_line(&key, &mut reader, out, &failed)?;
            }
            large => {
                let payload = match large {
                    Some(_) => view.dict().load(payload).wait()?,
                    None => payload,
                };
                let line = json::entry_line(&key, Some(&payload))?;
                writeln!(out, "{line}").map_err(&failed)?;
            }
        }
        count += 1;
        progress.advance(1);
    }
    out.flush().map_err(failed)?;
    Ok(count)
}
