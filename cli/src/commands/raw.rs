//! `objsync export --raw`: one file a key, each a standard zstd frame.
//!
//! What is stored is no use to another program: it may need a dictionary of the store, and the
//! payload is MessagePack. So every value is packed anew, without a dictionary.
//!
//! A name is made from a key by escapes and is never a path, whatever the key is.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use objsync::key::Key;
use objsync::value::Value;
use objsync::{KeyRange, frame, key, value};
use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};
use serde_json::json;

use crate::exit::Failure;
use crate::json;
use crate::moment::View;
use crate::output::Output;
use crate::progress::Progress;

/// The file that says which key is in which file.
const INDEX: &str = "index.jsonl";
/// zstd's level for each file.
const LEVEL: i32 = 5;
/// Longest name before its ending: file systems take 255 bytes.
const NAME_BYTES_MAX: usize = 200;
/// What is kept of a longer one.
const CUT_BYTES: usize = 100;

/// Writes all into a directory that is whole and synced when it is there under its name.
pub(super) fn write_all(
    view: &View,
    range: KeyRange,
    output: &Output,
    directory: &Path,
) -> Result<u64, Failure> {
    if directory.symlink_metadata().is_ok() {
        return Err(failed("create", directory)(
            io::ErrorKind::AlreadyExists.into(),
        ));
    }
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // Dropped half way, it is removed with all that is in it.
    let draft = tempfile::Builder::new()
        .prefix(".objsync-export-")
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(parent)
        .map_err(failed("create", directory))?;
    let count = fill(view, range, output, draft.path())?;
    let opened = |path| File::open(path).map_err(failed("open", path));
    let folder = opened(parent)?;
    syncfs(opened(draft.path())?).map_err(|error| failed("sync", directory)(error.into()))?;
    renameat_with(CWD, draft.path(), CWD, directory, RenameFlags::NOREPLACE)
        .map_err(|error| failed("create", directory)(error.into()))?;
    let _ = draft.keep();
    folder.sync_all().map_err(failed("sync", parent))?;
    Ok(count)
}

fn fill(view: &View, range: KeyRange, output: &Output, directory: &Path) -> Result<u64, Failure> {
    let progress = Progress::of_entries(view.len()?, output);
    let path = directory.join(INDEX);
    let created = create(&path).map_err(failed("create", &path))?;
    let mut index = BufWriter::new(created);
    let mut count = 0;
    for entry in view.scan(range, false)? {
        let (encoded, payload) = entry?;
        let (kind, content) = content(&payload)?;
        let packed = frame(&content, LEVEL)
            .map_err(|error| failed("pack", directory)(io::Error::other(error.to_string())))?;
        let name = put(directory, &name(&encoded)?, count, &packed)?;
        let line = json!({
            "key": json::key_to_json(&encoded)?,
            "file": name,
            "content": kind,
            "bytes": content.len(),
        });
        writeln!(index, "{line}").map_err(failed("write", &path))?;
        count += 1;
        progress.advance(1);
    }
    index.flush().map_err(failed("write", &path))?;
    Ok(count)
}

/// Writes a file under this name; under the name with a number where there is one already, as on a
/// file system that takes two names for one.
fn put(directory: &Path, name: &str, number: u64, packed: &[u8]) -> Result<String, Failure> {
    let mut file_name = format!("{name}.zst");
    let mut path = directory.join(&file_name);
    let mut created = match name.len() {
        0..=NAME_BYTES_MAX => create(&path),
        _ => Err(io::ErrorKind::AlreadyExists.into()),
    };
    if let Err(error) = &created
        && error.kind() == io::ErrorKind::AlreadyExists
    {
        let cut = &name[..name.len().min(CUT_BYTES)];
        file_name = format!("{cut}~{number}.zst");
        path = directory.join(&file_name);
        created = create(&path);
    }
    let mut file = created.map_err(failed("create", &path))?;
    file.write_all(packed).map_err(failed("write", &path))?;
    Ok(file_name)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// A name for a key: text with all but letters, digits, `-`, `_` and inner dots as `%` and two
/// digits; of other keys their JSON the same way, behind a `=`.
fn name(encoded: &[u8]) -> Result<String, Failure> {
    let (start, text) = match key::decode(encoded) {
        Ok(Key::Str(text)) => ("", text),
        _ => ("=", json::key_to_json(encoded)?.to_string()),
    };
    let mut name = String::from(start);
    for byte in text.bytes() {
        match byte {
            b'.' if !name.is_empty() => name.push('.'),
            b'-' | b'_' => name.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => name.push(byte.into()),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    if name.is_empty() {
        // Which no key with a text has.
        name.push('%');
    }
    Ok(name)
}

/// What the file of a value holds, and what that is.
fn content(payload: &[u8]) -> Result<(&'static str, Vec<u8>), Failure> {
    Ok(match value::decode(payload) {
        Ok(Value::Bytes(bytes)) => ("bytes", bytes.to_vec()),
        Ok(Value::Str(text)) => ("text", text.into_bytes()),
        _ => (
            "json",
            json::value_to_json(payload)?.to_string().into_bytes(),
        ),
    })
}

fn failed(op: &'static str, path: &Path) -> impl Fn(io::Error) -> Failure + use<> {
    let path: PathBuf = path.to_path_buf();
    move |source| Failure::Io {
        op,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: impl Into<Key>) -> String {
        name(key::encode(&key.into()).unwrap().as_bytes()).unwrap()
    }

    #[test]
    fn name_is_never_a_path_and_never_that_of_another_key() {
        let hostile = [
            "",
            ".",
            "..",
            "../../etc/passwd",
            "/etc/passwd",
            "a/b",
            "a\0b",
            "a\nb",
            "%2F",
            "=7",
            "~",
            "a~1",
            "index.jsonl",
            ".hidden",
            "-rf",
            "caf\u{e9}",
            "CON",
            "a b",
            "a%b",
        ];
        let mut names: Vec<String> = hostile.iter().map(|text| of(*text)).collect();
        names.extend([
            of(7),
            of("7"),
            of(Key::Bytes(vec![0, 1].into())),
            of(Key::None),
        ]);
        for name in &names {
            let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.%=".contains(&byte);
            assert!(name.bytes().all(is_safe), "{name}");
            assert!(!name.starts_with('.') && !name.is_empty(), "{name}");
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(of("a/b.txt"), "a%2Fb.txt");
        assert_eq!(of(7), "=7");
    }
}
