//! `objsync import`: JSON lines into a dictionary, in bounded memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use objsync::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use objsync::{Bytes, Dict, Durability};
use serde_json::json;

use crate::args::Connection;
use crate::exit::{Answer, Failure};
use crate::json;
use crate::output::Output;
use crate::progress::Progress;
use crate::target::IfMissing;

/// JSON of an entry may be longer than the entry: six characters for one; and large values are whole on
/// their line. Memory is taken as a line is read.
const LINE_BYTES_MAX: u64 = 6 * (KEY_BYTES_MAX + VALUE_BYTES_MAX) as u64 + (2 << 30);
/// Entries go in transactions of about this many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// How a pickle of protocol 2 or later starts.
const PICKLE_START: u8 = 0x80;

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Files of JSON lines {"key": .., "value": ..}; none or `-` is standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// How safe each transaction is before the next: sync or buffered; the last one is synced
    #[arg(long, value_name = "LEVEL", default_value_t = Durability::Buffered)]
    durability: Durability,
}

/// What was read and not yet stored.
#[derive(Default)]
struct Batch {
    pairs: Vec<(Bytes, Bytes)>,
    bytes: usize,
    /// Where the first of them stood.
    first_line: u64,
    /// Entries that were stored before them.
    stored: u64,
}

impl Import {
    /// Puts every line's value under its key, in order; stops at the first line that is wrong, with
    /// all before it stored.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        let dict = connection.open_with(IfMissing::Create, |options| {
            options.durability = Some(self.durability);
        })?;
        let mut stored = 0;
        let stdin = [PathBuf::from("-")];
        let files = if self.files.is_empty() {
            &stdin[..]
        } else {
            &self.files
        };
        for path in files {
            stored += import_file(&dict, path, output)?;
        }
        dict.flush(None).wait()?;
        if output.json() {
            output.line(&json!({ "imported": stored }).to_string())?;
        } else {
            output.note(&format!("{stored} entries"));
        }
        dict.close()?;
        Ok(Answer::Yes)
    }
}

fn import_file(dict: &Dict, path: &Path, output: &Output) -> Result<u64, Failure> {
    let failed = |op: &'static str| {
        move |source| Failure::Io {
            op,
            path: path.to_path_buf(),
            source,
        }
    };
    let (input, size): (Box<dyn Read>, Option<u64>) = if path == Path::new("-") {
        (Box::new(io::stdin()), None)
    } else {
        let file = File::open(path).map_err(failed("open"))?;
        let size = file
            .metadata()
            .ok()
            .filter(|about| about.is_file())
            .map(|about| about.len());
        (Box::new(file), size)
    };
    let mut input = BufReader::with_capacity(256 << 10, input);
    refuse_pickle(&mut input, path).map_err(failed("read"))??;
    let progress = Progress::of_bytes(size, output);
    let mut batch = Batch::default();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = input
            .by_ref()
            .take(LINE_BYTES_MAX + 1)
            .read_until(b'\n', &mut line);
        let bytes = read.map_err(failed("read"))? as u64;
        if bytes == 0 {
            break;
        }
        match entry(&line) {
            Ok(Some(pair)) => batch.push(number, pair),
            Ok(None) => {}
            Err(reason) => {
                batch.store(dict, path)?;
                let place = format!("{} line {number}", path.display());
                let stored = batch.stored;
                let text = format!("{place}: {reason}; the {stored} entries before it are stored");
                return Err(Failure::Usage(text));
            }
        }
        if batch.bytes >= BATCH_BYTES {
            batch.store(dict, path)?;
        }
        progress.advance(bytes);
    }
    batch.store(dict, path)?;
    Ok(batch.stored)
}

/// A pickle runs code when it is read, so it comes in only by somebody who says so.
fn refuse_pickle(input: &mut impl BufRead, path: &Path) -> io::Result<Result<(), Failure>> {
    let start = input.fill_buf()?;
    let [PICKLE_START, 2..=5, ..] = start else {
        return Ok(Ok(()));
    };
    Ok(Err(Failure::Usage(format!(
        "{} looks like a pickle, and reading one runs code; if you trust it: python -c 'import \
         pickle, objsync; objsync.DiskObject(\"STORE\").update(pickle.load(open(\"{}\", \"rb\")))'",
        path.display(),
        path.display(),
    ))))
}

/// The entry on a line; none on an empty one.
fn entry(line: &[u8]) -> Result<Option<(Bytes, Bytes)>, String> {
    if line.len() as u64 > LINE_BYTES_MAX {
        return Err(format!("the line is over {LINE_BYTES_MAX} bytes"));
    }
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    json::entry_from_line(line).map(Some)
}

impl Batch {
    fn push(&mut self, line: u64, pair: (Bytes, Bytes)) {
        if self.pairs.is_empty() {
            self.first_line = line;
        }
        self.bytes += pair.0.len() + pair.1.len();
        self.pairs.push(pair);
    }

    /// Stores them, in one transaction. A failure says which line to go on from.
    fn store(&mut self, dict: &Dict, path: &Path) -> Result<(), Failure> {
        self.bytes = 0;
        let pairs = std::mem::take(&mut self.pairs);
        let count = pairs.len() as u64;
        dict.update(pairs).map_err(|error| {
            let (path, line, stored) = (path.display(), self.first_line, self.stored);
            let hint = format!(
                "the {stored} entries before line {line} of {path} are stored; from there on, \
                 import again"
            );
            Failure::with_hint(error, hint)
        })?;
        self.stored += count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pickle_is_refused_with_the_way_to_bring_it_in() {
        let mut pickle = BufReader::new(&b"\x80\x04\x95\x00"[..]);
        let Err(Failure::Usage(text)) = refuse_pickle(&mut pickle, Path::new("old.pkl")).unwrap()
        else {
            panic!("it was not refused");
        };
        assert!(text.contains("old.pkl looks like a pickle") && text.contains("DiskObject"));
        let mut lines = BufReader::new(&b"{}"[..]);
        assert!(refuse_pickle(&mut lines, Path::new("x")).unwrap().is_ok());
    }

    #[test]
    fn empty_line_is_no_entry_and_a_wrong_one_says_why() {
        assert_eq!(entry(b" \n"), Ok(None));
        assert!(entry(b"{\"key\": 1, \"value\": 2}\n").unwrap().is_some());
        for line in [
            &b"{\"key\": 1}"[..],
            b"[]",
            b"{",
            b"\xff",
            b"{\"key\": [], \"value\": 1}",
        ] {
            assert!(entry(line).is_err(), "{}", line.escape_ascii());
        }
    }
}
