//! What is left of a queue whatever happened to its file.

use bytes::Bytes;
use objsync_proto::ids::FrameIndex;

use super::*;

const STORE: StoreId = StoreId([7; 16]);

fn put(entry: u64) -> Record {
    let operation = Operation::Put {
        key: Bytes::from(vec![b'k'; 3]),
        value: Bytes::from(vec![u8::try_from(entry).unwrap(); 5]),
    };
    Record::Queued(entry, 1_000 + entry, operation)
}

fn all() -> Vec<Record> {
    let session = SessionId {
        epoch: 3,
        frame: FrameIndex(9),
    };
    let conflict = Kept {
        entry: 2,
        time_ms: 5,
        operation: Operation::Increment {
            key: Bytes::from_static(b"n"),
            by: -4,
        },
        reason: String::from("no"),
    };
    vec![
        put(1),
        put(2),
        Record::Numbered(session, Sequence(5), vec![1, 0, 2]),
        Record::Done(1),
        Record::Conflict(conflict),
        Record::Cleared,
    ]
}

fn open(folder: &Path) -> (Journal, Vec<Record>) {
    Journal::open_in(folder, STORE, "default").unwrap()
}

/// The records of a queue without the first one.
fn reopened(folder: &Path) -> Vec<Record> {
    let (_, mut records) = open(folder);
    assert_eq!(
        records.remove(0),
        Record::Start(VERSION, STORE, "default".into())
    );
    records
}

#[test]
fn records_come_back_as_they_were_appended() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, found) = open(folder.path());
    assert_eq!(found.len(), 1);
    for record in all() {
        journal.append(&[record], true).unwrap();
    }
    drop(journal);
    assert_eq!(reopened(folder.path()), all());
}

#[test]
fn file_cut_at_any_byte_keeps_what_is_whole_and_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("0/queue");
    let (mut journal, _) = open(folder.path());
    let start = journal.bytes();
    let mut ends = Vec::new();
    for record in all() {
        journal.append(&[record], false).unwrap();
        ends.push(journal.bytes());
    }
    drop(journal);
    let whole = fs::read(&file).unwrap();
    for length in start..=whole.len() as u64 {
        fs::write(&file, &whole[..usize::try_from(length).unwrap()]).unwrap();
        let kept = ends.iter().filter(|end| **end <= length).count();
        assert_eq!(reopened(folder.path()), all()[..kept], "{length} bytes");
        let (mut journal, _) = open(folder.path());
        journal.append(&[put(9)], false).unwrap();
        drop(journal);
        assert_eq!(reopened(folder.path()).last(), Some(&put(9)));
    }
}

#[test]
fn flipped_bit_ends_the_file_before_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("0/queue");
    let (mut journal, _) = open(folder.path());
    let start = usize::try_from(journal.bytes()).unwrap();
    journal.append(&all(), false).unwrap();
    drop(journal);
    let whole = fs::read(&file).unwrap();
    for place in start..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let found = reopened(folder.path());
        assert!(
            found.len() < all().len() && found == all()[..found.len()],
            "byte {place}"
        );
    }
}

#[test]
fn each_handle_has_a_queue_of_its_own_and_finds_one_that_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = open(folder.path());
    let (mut second, _) = open(folder.path());
    second.append(&[put(1)], true).unwrap();
    drop((first, second));
    let (_left, records) = open(folder.path());
    assert_eq!(records.len(), 2, "the one with something in it");
    assert_eq!(
        reopened(folder.path()),
        [],
        "and the empty one for the next"
    );
    assert!(folder.path().join("1").exists() && !folder.path().join("2").exists());
}

#[test]
fn queue_of_another_store_or_version_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let file = folder.path().join("0/queue");
    let before = fs::read(&file).unwrap();
    let other = Journal::open_in(folder.path(), StoreId([8; 16]), "default").map(drop);
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Unsupported);
    let other = Journal::open_in(folder.path(), STORE, "other").map(drop);
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(fs::read(&file).unwrap(), before);
    // A first record that is damaged, with others after it.
    let mut damaged = before.clone();
    damaged[9] ^= 1;
    damaged.extend_from_slice(&before);
    fs::write(&file, &damaged).unwrap();
    let refused = Journal::open_in(folder.path(), STORE, "default").map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(fs::read(&file).unwrap(), damaged);
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn file_written_anew_holds_what_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, mut records) = open(folder.path());
    journal.append(&all(), true).unwrap();
    records.push(put(2));
    journal.rewrite(&records).unwrap();
    journal.append(&[Record::Done(2)], true).unwrap();
    drop(journal);
    assert_eq!(reopened(folder.path()), [put(2), Record::Done(2)]);
}

/// docs/format.md shows these bytes to no one but readers of old files: they stay readable.
#[test]
fn bytes_of_version_1_are_what_they_were() {
    let mut bytes = Vec::new();
    super::put(&put(1), &mut bytes).unwrap();
    super::put(&Record::Done(1), &mut bytes).unwrap();
    super::put(&Record::Cleared, &mut bytes).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, HEX);
    assert_eq!(
        records(&bytes).0,
        [put(1), Record::Done(1), Record::Cleared]
    );
}

const HEX: &str = "16000000cdb61d6981a1519301cd03e99300c4036b6b6bc40501010101010400\
                   0000926904ae81a144010200000042ebbec3a14b";
