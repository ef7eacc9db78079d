//! The file `BACKUP`: that a directory is a backup, of which store, and by which manifest.
//!
//! It names the manifest that is there and the one that is about to be, by their checksums, so it
//! is right before and after the moment in which one takes the other's place. A directory that was
//! opened as a store has a third one: it went its own way, and no backup goes on there.

use std::io;
use std::path::{Path, PathBuf};

use objsync_proto::ids::StoreId;

use crate::disk::{Disk, read_file};
use crate::error::StoreError;
use crate::manifest::manifest_path;

const TITLE: &str = "objsync backup";
const RECORD_BYTES_MAX: u64 = 4096;
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) store: StoreId,
    /// Checksums of the manifests by which it is a backup.
    pub(super) manifests: Vec<u32>,
}

/// The file.
pub(super) fn record_path(directory: &Path) -> PathBuf {
    directory.join("BACKUP")
}

/// What it says; none if there is none.
pub(super) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Record>, StoreError> {
    let path = record_path(directory);
    let content = match read_file(disk, &path, RECORD_BYTES_MAX) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", &path, error)),
    };
    match parse(&content) {
        Some(record) => Ok(Some(record)),
        None => Err(StoreError::corrupt(&path, 0, "its checksum is wrong")),
    }
}

pub(super) fn write(disk: &dyn Disk, directory: &Path, record: &Record) -> Result<(), StoreError> {
    super::put(disk, &record_path(directory), render(record).as_bytes())
}

/// The checksum in a manifest, which stands at its end. (That of all its bytes is always the same.)
pub(super) fn crc_of(manifest: &[u8]) -> Option<u32> {
    manifest.last_chunk().copied().map(u32::from_le_bytes)
}

/// The checksum of the manifest that is there.
pub(super) fn manifest_crc(disk: &dyn Disk, directory: &Path) -> Result<Option<u32>, StoreError> {
    let path = manifest_path(directory);
    match read_file(disk, &path, MANIFEST_BYTES_MAX) {
        Ok(content) => Ok(Some(crc_of(&content).unwrap_or_default())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", &path, error)),
    }
}

fn render(record: &Record) -> String {
    let mut body = format!("{TITLE}\nstore {}\n", record.store);
    for manifest in &record.manifests {
        body.push_str(&format!("manifest {manifest:08x}\n"));
    }
    let crc = crc32c::crc32c(body.as_bytes());
    format!("{body}crc {crc:08x}\n")
}

/// What [`render`] wrote, and nothing else.
fn parse(content: &[u8]) -> Option<Record> {
    let text = std::str::from_utf8(content).ok()?;
    let mut lines = text.lines().skip(1);
    let store = lines.next()?.strip_prefix("store ")?.parse().ok()?;
    let manifests = lines
        .map_while(|line| line.strip_prefix("manifest "))
        .map(|crc| u32::from_str_radix(crc, 16).ok())
        .collect::<Option<_>>()?;
    let record = Record { store, manifests };
    (render(&record) == text).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_comes_back_and_any_flipped_byte_is_found() {
        for manifests in [Vec::new(), vec![1], vec![0xfedc_ba98, 7]] {
            let store = StoreId([7; 16]);
            let record = Record { store, manifests };
            let good = render(&record).into_bytes();
            assert_eq!(parse(&good), Some(record));
            for place in 0..good.len() {
                let mut bad = good.clone();
                bad[place] ^= 1 << (place % 8);
                assert_eq!(parse(&bad), None, "byte {place}");
            }
        }
    }
}
