//! The file `FORMAT`: what a program must know to touch a store, as lines that a person can read.
//!
//! It is the first file of a store. Three sets of feature bits: who does not know a *compatible* one
//! may write all the same; who does not know a *read-compatible* one may only read; who does not
//! know an *incompatible* one may do neither. A bit is set before the first byte that needs it is
//! written ([`name_feature`]), so a store without such bytes stays open to earlier programs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::disk::{Disk, read_file, replace_file};
use crate::error::StoreError;

/// The version that this program writes.
const FORMAT: u32 = 0;
const FORMAT_BYTES_MAX: u64 = 4096;
const FIRST_LINE: &str = "objsync store";

/// What is only in some stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    /// The log may hold changes of values by the part that changed.
    Patches = 1,
    /// Values may lie in packs.
    Packs = 2,
}

/// Feature bits that this program knows, of each set.
const KNOWN: Features = Features {
    compatible: 0,
    read_compatible: 0,
    incompatible: Feature::Patches as u64 | Feature::Packs as u64,
};

/// Those of a store that begins.
const NONE: Features = Features {
    compatible: 0,
    read_compatible: 0,
    incompatible: 0,
};

/// What else may lie in a directory that is to become a store.
const ALLOWED_BEFORE: [&str; 6] = ["LOCK", "key", "key.pub", "sock", "FORMAT.tmp", "key.tmp"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Features {
    compatible: u64,
    read_compatible: u64,
    incompatible: u64,
}

/// The file.
#[must_use]
pub fn format_path(directory: &Path) -> PathBuf {
    directory.join("FORMAT")
}

/// Whether a store was begun in `directory`, of a format that this program may use.
///
/// # Errors
/// [`StoreError::NotAStore`] for a file, or a directory with something else in it;
/// [`StoreError::Unsupported`] for a later format.
pub fn check_format(disk: &dyn Disk, directory: &Path, write: bool) -> Result<bool, StoreError> {
    let path = format_path(directory);
    match read_file(disk, &path, FORMAT_BYTES_MAX) {
        Ok(content) => parse(&path, &content, write).map(|_| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            refuse_foreign_content(disk, directory).map(|()| false)
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(not_a_store(directory)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(StoreError::corrupt(&path, 0, error.to_string()))
        }
        Err(error) => Err(StoreError::io("read", &path, error)),
    }
}

/// Begins a store in an empty directory.
pub fn write_format(disk: &dyn Disk, directory: &Path) -> Result<(), StoreError> {
    write(disk, directory, NONE)
}

/// Makes the file say that the store may have a feature; it is durable when this returns. Costs a look
/// at the file when it says so already.
///
/// A store that is being put together has no `FORMAT`: who puts it together names the feature at the end.
pub(crate) fn name_feature(
    disk: &dyn Disk,
    directory: &Path,
    feature: Feature,
) -> Result<(), StoreError> {
    // The file is read, and written anew: the first patch and the first pack can come at once.
    static NAMING: Mutex<()> = Mutex::new(());
    let _alone = NAMING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = format_path(directory);
    let content = match read_file(disk, &path, FORMAT_BYTES_MAX) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io("read", &path, error)),
    };
    let mut features = parse(&path, &content, true)?;
    let bit = feature as u64;
    if features.incompatible & bit != 0 {
        return Ok(());
    }
    features.incompatible |= bit;
    write(disk, directory, features)
}

fn write(disk: &dyn Disk, directory: &Path, features: Features) -> Result<(), StoreError> {
    let path = format_path(directory);
    replace_file(disk, &path, render(FORMAT, features).as_bytes())
        .map_err(|error| StoreError::io("write", &path, error))
}

/// Why a path that is a file is no store, with a guess at what it is.
#[must_use]
pub fn not_a_store(path: &Path) -> StoreError {
    let mut start = [0; 4];
    let known = std::fs::File::open(path)
        .and_then(|file| std::os::unix::fs::FileExt::read_at(&file, &mut start, 0));
    let what = match (known, start) {
        (Ok(2..), [0x80, 2..=5, ..]) => {
            "it looks like a Python pickle; `objsync import --pickle` reads it, and runs what is \
             in it"
        }
        (Ok(4), [0x28, 0xb5, 0x2f, 0xfd]) => {
            "it looks like a file compressed with zstd; `objsync import` reads what `zstd -d` \
             makes of it"
        }
        _ => "it is a file, and a store is a directory",
    };
    StoreError::NotAStore {
        path: path.to_owned(),
        what: what.to_owned(),
    }
}

fn refuse_foreign_content(disk: &dyn Disk, directory: &Path) -> Result<(), StoreError> {
    let names = match disk.list(directory) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(not_a_store(directory));
        }
        Err(error) => return Err(StoreError::io("list", directory, error)),
    };
    match names
        .iter()
        .find(|name| !ALLOWED_BEFORE.contains(&name.as_str()))
    {
        None => Ok(()),
        Some(name) => Err(StoreError::NotAStore {
            path: directory.to_owned(),
            what: format!("it holds {name:?} and no FORMAT"),
        }),
    }
}

fn render(format: u32, features: Features) -> String {
    let body = format!(
        "{FIRST_LINE}\nformat {format}\ncompatible {:016x}\nread-compatible {:016x}\n\
         incompatible {:016x}\n",
        features.compatible, features.read_compatible, features.incompatible
    );
    let crc = crc32c::crc32c(body.as_bytes());
    format!("{body}crc {crc:08x}\n")
}

fn parse(path: &Path, content: &[u8], write: bool) -> Result<Features, StoreError> {
    let damaged = |what: &str| StoreError::corrupt(path, 0, what);
    let unsupported = |what: String| StoreError::Unsupported {
        path: path.to_owned(),
        what,
    };
    let text = std::str::from_utf8(content).map_err(|_| damaged("it is not text"))?;
    let body = text
        .rfind("crc ")
        .map(|at| &text[..at])
        .ok_or_else(|| damaged("it has no checksum"))?;
    let crc = crc32c::crc32c(body.as_bytes());
    if text[body.len()..] != format!("crc {crc:08x}\n") {
        return Err(damaged("its checksum is wrong"));
    }
    let mut lines = body.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err(damaged("it does not begin as one"));
    }
    let mut field = |name: &str, radix: u32| {
        let line = lines.next().and_then(|line| line.strip_prefix(name));
        let value = line.and_then(|line| u64::from_str_radix(line.trim_start(), radix).ok());
        value.ok_or_else(|| damaged("a line is missing"))
    };
    let format = field("format", 10)?;
    if format != u64::from(FORMAT) {
        return Err(unsupported(format!("format {format}")));
    }
    let features = Features {
        compatible: field("compatible", 16)?,
        read_compatible: field("read-compatible", 16)?,
        incompatible: field("incompatible", 16)?,
    };
    let read_compatible = features.read_compatible & !KNOWN.read_compatible;
    let incompatible = features.incompatible & !KNOWN.incompatible;
    if incompatible != 0 {
        return Err(unsupported(format!("features {incompatible:#x}")));
    }
    if write && read_compatible != 0 {
        let what = format!("features {read_compatible:#x} are needed for writing");
        return Err(unsupported(what));
    }
    Ok(features)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn check(content: &str, write: bool) -> Result<(), StoreError> {
        parse(Path::new("FORMAT"), content.as_bytes(), write).map(drop)
    }

    #[test]
    fn format_that_was_written_is_accepted() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!check_format(&RealDisk, directory.path(), true).unwrap());
        write_format(&RealDisk, directory.path()).unwrap();
        assert!(check_format(&RealDisk, directory.path(), true).unwrap());
    }

    #[test]
    fn file_is_as_the_documentation_shows_it() {
        let page = include_str!("../../docs/format.md");
        let content = render(FORMAT, NONE);
        assert!(page.contains(&content), "docs/format.md lacks:\n{content}");
    }

    #[test]
    fn features_are_named_once_and_nothing_else_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        name_feature(&RealDisk, path, Feature::Packs).unwrap();
        assert!(!format_path(path).exists(), "it is not begun for this");
        let odd = Features {
            compatible: 4,
            ..NONE
        };
        write(&RealDisk, path, odd).unwrap();
        let named = [
            (Feature::Patches, 1),
            (Feature::Patches, 1),
            (Feature::Packs, 3),
        ];
        for (feature, incompatible) in named {
            name_feature(&RealDisk, path, feature).unwrap();
            let text = std::fs::read(format_path(path)).unwrap();
            let features = parse(path, &text, true).unwrap();
            let bits = (features.compatible, features.incompatible);
            assert_eq!(bits, (4, incompatible));
        }
    }

    #[test]
    fn features_that_are_named_at_once_are_both_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for _ in 0..50 {
            write_format(&RealDisk, path).unwrap();
            std::thread::scope(|scope| {
                for feature in [Feature::Patches, Feature::Packs] {
                    scope.spawn(move || name_feature(&RealDisk, path, feature).unwrap());
                }
            });
            let text = std::fs::read(format_path(path)).unwrap();
            assert_eq!(parse(path, &text, true).unwrap().incompatible, 3);
        }
    }

    #[test]
    fn later_format_is_unsupported_not_damaged() {
        let later = render(1, KNOWN);
        assert!(matches!(
            check(&later, false),
            Err(StoreError::Unsupported { .. })
        ));
    }

    #[test]
    fn unknown_features_refuse_what_they_must_and_no_more() {
        let with = |compatible, read_compatible, incompatible| {
            render(
                FORMAT,
                Features {
                    compatible,
                    read_compatible,
                    incompatible,
                },
            )
        };
        assert!(check(&with(1, 0, 0), true).is_ok());
        assert!(check(&with(0, 1, 0), false).is_ok());
        assert!(check(&with(0, 1, 0), true).is_err());
        assert!(check(&with(0, 0, 1), true).is_ok(), "patches");
        assert!(check(&with(0, 0, 2), true).is_ok(), "packs");
        assert!(check(&with(0, 0, 4), false).is_err());
    }

    #[test]
    fn damaged_format_is_corrupt() {
        let good = render(FORMAT, KNOWN);
        let flipped = good.replace("format 0", "format 2");
        assert!(matches!(
            check(&flipped, false),
            Err(StoreError::Corrupt { .. })
        ));
        assert!(matches!(check("", false), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn directory_with_other_things_in_it_is_no_store() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("LOCK"), "").unwrap();
        assert!(check_format(&RealDisk, directory.path(), true).is_ok());
        std::fs::write(directory.path().join("thesis.txt"), "").unwrap();
        let error = check_format(&RealDisk, directory.path(), true).unwrap_err();
        assert!(error.to_string().contains("thesis.txt"), "{error}");
    }

    #[test]
    fn file_that_looks_like_a_pickle_is_named_as_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.pkl");
        std::fs::write(&path, b"\x80\x04}\x94.").unwrap();
        let error = check_format(&RealDisk, &path, true).unwrap_err();
        assert!(error.to_string().contains("pickle"), "{error}");
        std::fs::write(&path, b"hello").unwrap();
        let error = check_format(&RealDisk, &path, true).unwrap_err();
        assert!(error.to_string().contains("is a file"), "{error}");
    }
}
