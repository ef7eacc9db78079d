use bytes::Bytes;
use objsync_proto::ids::{Durability, NamespaceId};
use objsync_proto::operation::Operation;
use objsync_proto::stored::{self, Compression};

use super::*;
use crate::check::check_on;
use crate::disk::RealDisk;
use crate::format::format_path;
use crate::log::{SegmentId, segment_path};
use crate::manifest::manifest_path;
use crate::repair::repair_on;
use crate::{IndexKind, RepairReport, Store, StoreOptions, Submission};

const NS: NamespaceId = NamespaceId::DEFAULT;

/// The real disk, with bytes of one file that cannot be read. A read that meets them gives nothing.
struct Scratched {
    path: PathBuf,
    bytes: Range<u64>,
}

struct ScratchedFile {
    file: Arc<dyn DiskFile>,
    bytes: Range<u64>,
}

impl Disk for Scratched {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = RealDisk.open(path, mode)?;
        let bytes = self.bytes.clone();
        match path == self.path {
            true => Ok(Arc::new(ScratchedFile { file, bytes })),
            false => Ok(file),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(directory)
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        RealDisk.create_dir(directory)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        RealDisk.sync_dir(directory)
    }
}

impl DiskFile for ScratchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = (offset + buffer.len() as u64).min(self.file.bytes()?);
        match offset < self.bytes.end && self.bytes.start < end {
            true => Err(Errno::IO.into()),
            false => self.file.read_at(buffer, offset),
        }
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }
}

fn options() -> StoreOptions {
    StoreOptions {
        index: IndexKind::Memory,
        ..StoreOptions::default()
    }
}

fn key(number: usize) -> Bytes {
    objsync_proto::key::encode(&format!("key {number}").as_str().into())
        .unwrap()
        .into_bytes()
}

/// Twelve values of 3 KB in one segment.
fn make_store(directory: &Path) -> Store {
    let store = Store::open(directory, options()).unwrap();
    store.create_namespace("default", Vec::new()).unwrap();
    for number in 0..12 {
        let payload = [&[0xda, 0x0b, 0xb8][..], &[b'a'; 3000]].concat();
        let value = stored::seal(&payload, Compression::None).unwrap();
        let answer = store.execute(Submission {
            namespace: NS,
            operation: Operation::Put {
                key: key(number),
                value,
            },
            origin: None,
            durability: Some(Durability::Sync),
        });
        assert!(answer.unwrap().outcome.is_ok());
    }
    store
}

/// Checks and repairs a store of which these bytes cannot be read; both say so.
fn salvage(directory: &Path, target: &Path, path: &Path, bytes: Range<u64>) -> RepairReport {
    let scratched = Scratched {
        path: path.to_owned(),
        bytes: bytes.clone(),
    };
    let disk = Arc::new(scratched);
    let report = check_on(disk.clone(), directory, &mut |_| ()).unwrap();
    let problem = report.problems.iter().find(|problem| {
        problem.file == path
            && problem.offset == bytes.start
            && problem.what.contains("cannot be read")
    });
    assert!(problem.is_some_and(|one| !one.is_cache), "{report:?}");
    let report = repair_on(&disk, (directory, target), &[], &mut |_| ()).unwrap();
    let says_so = |what: &str| what.contains("the disk gives an error");
    let mut losses = report.losses.iter();
    assert!(
        losses.any(|loss| loss.file == path && says_so(&loss.what)),
        "{report:?}"
    );
    report
}

#[test]
fn sector_that_cannot_be_read_is_named_and_costs_only_what_lies_in_it() {
    let directory = tempfile::tempdir().unwrap();
    make_store(directory.path()).close().unwrap();
    let path = segment_path(directory.path(), SegmentId::FIRST);
    let target = tempfile::tempdir().unwrap();
    let report = salvage(directory.path(), target.path(), &path, 8192..12288);
    assert!(!report.is_whole() && report.check.is_intact(), "{report:?}");
    let store = Store::open(target.path(), options()).unwrap();
    let there = (0..12).filter(|number| store.get(NS, &key(*number)).unwrap().is_some());
    let there: Vec<_> = there.collect();
    assert!(
        there.len() >= 9 && there.contains(&0) && there.contains(&11),
        "{there:?}"
    );
}

/// The last frame of a store that was killed may be torn, and then is no loss; one on a sector
/// that cannot be read was not torn.
#[test]
fn sector_at_the_end_of_a_killed_store_is_a_loss_and_no_torn_tail() {
    let directory = tempfile::tempdir().unwrap();
    make_store(directory.path()).kill();
    let path = segment_path(directory.path(), SegmentId::FIRST);
    let target = tempfile::tempdir().unwrap();
    let report = salvage(directory.path(), target.path(), &path, 32768..36864);
    assert!(!report.is_whole(), "{report:?}");
    let store = Store::open(target.path(), options()).unwrap();
    assert!(store.get(NS, &key(0)).unwrap().is_some());
}

#[test]
fn small_files_that_cannot_be_read_keep_nothing_from_being_saved() {
    for name in [manifest_path as fn(&Path) -> PathBuf, format_path] {
        let directory = tempfile::tempdir().unwrap();
        let target = tempfile::tempdir().unwrap();
        make_store(directory.path()).close().unwrap();
        let path = name(directory.path());
        let bytes = std::fs::metadata(&path).unwrap().len();
        let report = salvage(directory.path(), target.path(), &path, 0..bytes);
        assert!(report.is_whole(), "{report:?}");
        assert_eq!(report.entry_count, 12);
    }
}
