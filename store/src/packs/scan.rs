//! From files to the index, and what a power cut left.
//!
//! A sealed pack is known by its footer. One without was open when its process ended, or its footer
//! is damaged: its records are read one by one, each under its own checksums, and it is sealed behind
//! the last, if the disk has room for a footer. What is not whole is passed over: of what frames name, all was on disk before.

use std::path::Path;

use objsync_proto::chunk::record::{CheckedChunk, ChunkRecord};
use objsync_proto::ids::StoreId;

use super::index::{Entry, PackIndex};
use super::layout::{
    FOOTER_ENTRY_BYTES, PACK_HEADER_BYTES, PackId, RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES,
    RecordHeader, TRAILER_BYTES, check_trailer, footer, footer_entries,
};
use super::reading::read_record;
use super::writing::{Found, end_file};
use super::{PackOptions, pack_directory};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::StoreError;

/// Bytes looked through at once for the next record behind damage.
const SEARCH_BYTES: usize = 64 << 10;

/// Records of a pack with their offsets.
type Records = Vec<(u64, RecordHeader)>;

/// Fills the index with all packs of a store.
pub(super) fn find(options: &PackOptions, index: &mut PackIndex) -> Result<Found, StoreError> {
    let mut found = Found {
        next_number: 1,
        unsealed_bytes: 0,
    };
    for id in list(&*options.disk, &options.directory)? {
        found.next_number = found.next_number.max(id.number.saturating_add(1));
        let path = pack_directory(&options.directory).join(id.name());
        let mode = match options.readonly {
            true => OpenMode::Read,
            false => OpenMode::Write,
        };
        let failed = |error| StoreError::io("open", &path, error);
        let file = options.disk.open(&path, mode).map_err(failed)?;
        let (records, is_sealed) = match sealed_records(&*file, id, &path)? {
            Some(records) => (records, true),
            None => (scan(&*file, id, &path)?, false),
        };
        if !is_sealed && !options.readonly {
            found.unsealed_bytes += file.bytes().map_err(failed)?;
            if !end(options, &*file, (id, &path), &records)? {
                continue;
            }
        }
        let slot = index.add_pack(id, file.bytes().map_err(failed)?, true);
        for (offset, header) in records {
            index.insert(header.id, Entry::new(slot, offset, &header));
        }
    }
    Ok(found)
}

/// The packs in a store, by number.
pub(super) fn list(disk: &dyn Disk, directory: &Path) -> Result<Vec<PackId>, StoreError> {
    let packs = pack_directory(directory);
    let names = match disk.list(&packs) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("list", &packs, error)),
    };
    let mut ids: Vec<_> = names
        .iter()
        .filter_map(|name| PackId::of_name(name))
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Seals a pack that was left open, behind its last record. One without a record is removed; tells
/// whether it stays.
fn end(
    options: &PackOptions,
    file: &dyn DiskFile,
    (id, path): (PackId, &Path),
    records: &Records,
) -> Result<bool, StoreError> {
    let failed = |error| StoreError::io("seal", path, error);
    if records.is_empty() {
        options.disk.remove(path).map_err(failed)?;
        return Ok(false);
    }
    let end = end_of(records);
    // The header may not have been written, though what follows was.
    file.write_all_at(&id.header(options.store), 0)
        .and_then(|()| end_file(file, end, &footer(id, end, records)))
        .and_then(|_| file.sync_data())
        .map_err(failed)?;
    Ok(true)
}

fn end_of(records: &Records) -> u64 {
    let last = records.last();
    last.map_or(PACK_HEADER_BYTES as u64, |(offset, header)| {
        offset + header.whole_bytes()
    })
}

/// What the footer says; none if there is none, or if it is damaged.
fn sealed_records(
    file: &dyn DiskFile,
    id: PackId,
    path: &Path,
) -> Result<Option<Records>, StoreError> {
    let failed = |error| StoreError::io("read", path, error);
    let bytes = file.bytes().map_err(failed)?;
    let Some(at) = bytes.checked_sub(TRAILER_BYTES as u64) else {
        return Ok(None);
    };
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact_at(&mut trailer, at).map_err(failed)?;
    let Some((end, crc)) = check_trailer(id, &trailer, bytes) else {
        return Ok(None);
    };
    // Not longer than the file.
    let mut entries = vec![0; usize::try_from(at - end).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut entries, end).map_err(failed)?;
    debug_assert!(entries.len().is_multiple_of(FOOTER_ENTRY_BYTES));
    if crc32c::crc32c(&entries) != crc {
        return Ok(None);
    }
    Ok(footer_entries(&entries, end).ok())
}

/// Every whole record of a pack.
fn scan(file: &dyn DiskFile, id: PackId, path: &Path) -> Result<Records, StoreError> {
    let mut records = Vec::new();
    let mut offset = PACK_HEADER_BYTES as u64;
    loop {
        match read_record(file, id, path, offset) {
            Ok((header, _)) => {
                records.push((offset, header));
                offset += header.whole_bytes();
            }
            Err(StoreError::Corrupt { .. }) => {
                let next = next_header(file, id, path, offset + RECORD_ALIGN_BYTES)?;
                let Some(next) = next else {
                    return Ok(records);
                };
                offset = next;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Where the next header of a record is, from an offset on.
fn next_header(
    file: &dyn DiskFile,
    id: PackId,
    path: &Path,
    from: u64,
) -> Result<Option<u64>, StoreError> {
    let failed = |error| StoreError::io("read", path, error);
    let bytes = file.bytes().map_err(failed)?;
    let mut window = vec![0; SEARCH_BYTES];
    let mut start = from;
    let step = usize::try_from(RECORD_ALIGN_BYTES).unwrap_or(1);
    while start + (RECORD_HEADER_BYTES as u64) <= bytes {
        let count = (bytes - start).min(SEARCH_BYTES as u64);
        let window = &mut window[..usize::try_from(count).unwrap_or(0)];
        file.read_exact_at(window, start).map_err(failed)?;
        for at in (0..=window.len() - RECORD_HEADER_BYTES).step_by(step) {
            let header = window[at..].first_chunk::<RECORD_HEADER_BYTES>();
            if header.is_some_and(|header| RecordHeader::decode(header, id).is_ok()) {
                return Ok(Some(start + at as u64));
            }
        }
        let looked = window.len() - RECORD_HEADER_BYTES + step;
        start += (looked - looked % step) as u64;
    }
    Ok(None)
}

/// Something wrong in a pack.
pub(crate) struct PackProblem {
    pub(crate) offset: u64,
    pub(crate) what: String,
    pub(crate) is_cache: bool,
}

/// Reads every byte of a pack: header, records, their hashes, footer. Gives the chunks that are
/// sound to `sound`, and tells what is wrong. A closed store has no pack without a footer, unless the
/// disk was full.
pub(crate) fn check_pack(
    (disk, path): (&dyn Disk, &Path),
    (store, was_closed): (Option<StoreId>, bool),
    sound: &mut dyn FnMut(&CheckedChunk),
) -> Result<Vec<PackProblem>, StoreError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(id) = name.and_then(PackId::of_name) else {
        return Ok(Vec::new());
    };
    let failed = |error| StoreError::io("read", path, error);
    let file = disk.open(path, OpenMode::Read).map_err(failed)?;
    let mut problems = Vec::new();
    let mut tell = |offset, what: &str, is_cache| {
        let what = what.to_owned();
        problems.push(PackProblem {
            offset,
            what,
            is_cache,
        });
    };
    let mut header = [0; PACK_HEADER_BYTES];
    let read = file.read_exact_at(&mut header, 0);
    match read
        .map_err(|_| "the pack is shorter than its header")
        .and_then(|()| id.check_header(&header).map_err(|error| error.0))
    {
        Ok(owner) if store.is_some_and(|store| store != owner) => {
            tell(16, "it belongs to another store", false);
        }
        Ok(_) => {}
        // Nothing that is read later depends on it.
        Err(what) => tell(0, what, true),
    }
    let mut count = 0;
    let sealed = each_record((disk, path), id, &mut |offset, read| {
        if let Ok((header, _)) = &read
            && !is_padded(&*file, offset, header).map_err(failed)?
        {
            tell(offset, "a byte behind a chunk that is not zero", true);
        }
        match read.and_then(|(_, record)| CheckedChunk::check(record).map_err(|e| e.to_string())) {
            Ok(chunk) => sound(&chunk),
            Err(what) => tell(offset, &what, false),
        }
        count += 1;
        Ok(())
    })?;
    match sealed {
        Some((end, records)) if records > count => {
            tell(end, "its footer names more chunks than it has", false);
        }
        // Who opens the store makes it anew.
        None if was_closed => tell(0, "its footer is damaged, or missing", true),
        _ => {}
    }
    Ok(problems)
}

/// Whether nothing but zeros lies between a record and the next.
fn is_padded(file: &dyn DiskFile, offset: u64, header: &RecordHeader) -> std::io::Result<bool> {
    let end = RECORD_HEADER_BYTES as u64 + header.stored_bytes;
    let mut padding = [0; 8];
    let count = usize::try_from(header.whole_bytes() - end).unwrap_or(0);
    file.read_exact_at(&mut padding[..count], offset + end)?;
    Ok(padding == [0; 8])
}

/// A record of a pack, or why it cannot be read.
type Read = Result<(RecordHeader, ChunkRecord), String>;

/// Calls `each` with all records of a pack, and with the places where one is damaged. Tells where the
/// records of a sealed pack end, and how many they are.
pub(super) fn each_record(
    (disk, path): (&dyn Disk, &Path),
    id: PackId,
    each: &mut dyn FnMut(u64, Read) -> Result<(), StoreError>,
) -> Result<Option<(u64, usize)>, StoreError> {
    let failed = |error| StoreError::io("read", path, error);
    let file = disk.open(path, OpenMode::Read).map_err(failed)?;
    let sealed = sealed_records(&*file, id, path)?;
    let sealed = sealed.map(|records| (end_of(&records), records.len()));
    let end = match sealed {
        Some((end, _)) => end,
        None => file.bytes().map_err(failed)?,
    };
    let mut offset = PACK_HEADER_BYTES as u64;
    while offset < end {
        match read_record(&*file, id, path, offset) {
            Ok((header, record)) => {
                each(offset, Ok((header, record)))?;
                offset += header.whole_bytes();
            }
            Err(StoreError::Corrupt { what, .. }) => {
                let next = next_header(&*file, id, path, offset + RECORD_ALIGN_BYTES)?;
                let next = next.filter(|next| *next < end);
                // Behind the last record of an open pack lies what a power cut tore.
                if sealed.is_some() || next.is_some() {
                    each(offset, Err(what))?;
                }
                offset = next.unwrap_or(end);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sealed)
}
