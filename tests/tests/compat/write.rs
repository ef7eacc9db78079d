//! Writes the stores anew: `OBJSYNC_WRITE_COMPAT=1`, or `make compat-store`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use objsync::{Bytes, Change};
use objsync_proto::ids::{Durability, NamespaceId, Origin, PeerKey, Sequence, SessionId};
use objsync_proto::key;
use objsync_proto::operation::Operation;
use objsync_proto::stored::{self, Compression};
use objsync_proto::wire::Grant;
use objsync_store::{Answer, Store, Submission, SubmissionOrigin};
use serde_json::{Value as Json, json};

use crate::golden::{KEYS, PAYLOADS, bytes, digits};
use crate::listing;
use crate::settings::{PEER, SECRET, WRITTEN_MS, copy, folder, options};

/// What stands before the secret in a key's file (PKCS#8 of Ed25519).
const KEY_HEAD: &str = "302e020100300506032b657004220420";
/// A file that belongs to a run, not to the format.
const OF_A_RUN: &str = "LOCK";

#[test]
fn stores_hold_every_kind_of_thing_and_are_written_where_they_were_asked_for() {
    let scratch = tempfile::tempdir().unwrap();
    let names = ["closed", "killed"];
    for name in names {
        write(scratch.path(), name);
        let store = scratch.path().join(name);
        let report = objsync_store::check(&store, &mut |_| ()).unwrap();
        assert!(report.problems.is_empty(), "{report:?}");
        assert_eq!(report.was_closed, name == "closed");
        let files = files(&store);
        let count = |end: &str| files.iter().filter(|path| path.ends_with(end)).count();
        assert!(count(".seg") > 3 && count(".keys") > 2, "{files:?}");
        assert!(count(".snap") > 0, "{files:?}");
        assert!(
            !files.iter().any(|path| path.ends_with("01.seg")),
            "trimmed: {files:?}"
        );
        let total: u64 = files
            .iter()
            .map(|path| store.join(path).metadata().unwrap().len())
            .sum();
        assert!(total < 300 << 10, "{total} bytes are much for a repository");
    }
    if std::env::var_os("OBJSYNC_WRITE_COMPAT").is_some() {
        for name in names {
            let _ = fs::remove_dir_all(folder().join(name));
            fs::remove_file(scratch.path().join(name).join(OF_A_RUN)).unwrap();
            copy(&scratch.path().join(name), &folder().join(name));
            let listing = format!("{name}.jsonl");
            fs::copy(scratch.path().join(&listing), folder().join(&listing)).unwrap();
        }
    }
}

/// Writes one store and its listing.
fn write(folder: &Path, name: &str) {
    let directory = folder.join(name);
    let first = Store::open(&directory, options()).unwrap();
    let writer = Writing::begin(&first, &directory);
    writer.every_kind();
    writer.bulk(0..24);
    writer.grants();
    first.close().unwrap();

    // The second owner, with a session that stays.
    let store = Store::open(&directory, options()).unwrap();
    let writer = Writing::begin(&store, &directory);
    let mut lines = writer.session();
    writer.bulk(24..36);
    // Once more: the first time is in the snapshot by now, this time is in the log.
    writer.grants();
    writer.every_kind();
    lines.splice(0..0, listing::of(&store));
    lines.push(json!({"key": digits(&key_file())}));
    if name == "closed" {
        store.close().unwrap();
    } else {
        // A write that nobody was answered is half on disk.
        store.flush(store.position().revision).unwrap();
        writer.put("torn", &payload_of("gone"), Durability::Buffered);
        store.kill();
        tear(&directory);
    }
    drop(store);
    fs::write(directory.join("key"), key_file()).unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(folder.join(format!("{name}.jsonl")), text).unwrap();
}

/// The file of the key.
fn key_file() -> Vec<u8> {
    [&bytes(KEY_HEAD)[..], &SECRET].concat()
}

/// One owner's writes.
struct Writing<'a> {
    store: &'a Store,
    directory: PathBuf,
    namespace: NamespaceId,
}

impl<'a> Writing<'a> {
    fn begin(store: &'a Store, directory: &Path) -> Self {
        let (namespace, _) = store.create_namespace("default", Vec::new()).unwrap();
        Self {
            store,
            directory: directory.to_owned(),
            namespace,
        }
    }

    fn run(&self, operation: Operation, durability: Durability) -> Answer {
        let submission = Submission {
            namespace: self.namespace,
            operation,
            origin: None,
            durability: Some(durability),
        };
        self.store.execute(submission).unwrap()
    }

    fn put(&self, name: &str, payload: &[u8], durability: Durability) {
        let operation = Operation::Put {
            key: key_of(name),
            value: sealed(payload),
        };
        assert!(self.run(operation, durability).outcome.is_ok());
    }

    /// Every kind of key, value, operation and dictionary.
    fn every_kind(&self) {
        for (name, digits) in PAYLOADS {
            self.put(
                &format!("value {name}"),
                &bytes(digits),
                Durability::Buffered,
            );
        }
        for (number, (_, digits)) in (0..).zip(KEYS) {
            let operation = Operation::Put {
                key: bytes(digits),
                value: sealed(&[number]),
            };
            assert!(self.run(operation, Durability::Buffered).outcome.is_ok());
        }
        let text = payload_of(&"packed and ".repeat(500));
        let operation = Operation::Put {
            key: key_of("packed"),
            value: stored::seal(&text, Compression::Zstd(5)).unwrap(),
        };
        self.run(operation, Durability::Sync);
        let content = vec![change("first", Some("content"))];
        let (prices, _) = self.store.create_namespace("prices", content).unwrap();
        assert_eq!(prices, self.store.namespace("prices").unwrap().unwrap());
        self.store.create_namespace("empty", Vec::new()).unwrap();
        let batch = (0..5).map(|n| change(&format!("batch {n}"), Some("b")));
        let batch = batch.chain([change("value 42", None)]).collect();
        self.run(Operation::Batch { changes: batch }, Durability::Sync);
        let delete = Operation::Delete {
            key: key_of("batch 1"),
        };
        self.run(delete, Durability::Sync);
        let range = Operation::DeleteRange {
            start: key_of("batch 3"),
            end: Some(key_of("batch 5")),
            count_max: 10,
        };
        self.run(range, Durability::Sync);
        for by in [5, -7] {
            let key = key_of("counter");
            self.run(Operation::Increment { key, by }, Durability::Sync);
        }
    }

    /// Values that fill segments, under keys that are written again.
    fn bulk(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let text = format!("{number:04} ").repeat(560);
            let name = format!("bulk {}", number % 7);
            self.put(&name, &payload_of(&text), Durability::Sync);
            self.settle();
        }
    }

    /// Waits until footers, snapshots and removals are done: nothing tells it.
    fn settle(&self) {
        let (_keep, nothing) = channel::<()>();
        let mut before = Vec::new();
        for _ in 0..3 {
            loop {
                let _ = nothing.recv_timeout(Duration::from_millis(15));
                let now = files(&self.directory);
                if std::mem::replace(&mut before, now.clone()) == now {
                    break;
                }
            }
        }
    }

    fn grants(&self) {
        let grant = |seed: u8, scope: &str, expires_ms| Grant {
            peer: PeerKey([seed; 32]),
            scope: scope.to_owned(),
            rights: vec![String::from("read"), String::from("write")],
            expires_ms,
            label: format!("peer {seed}"),
        };
        self.store.grant(grant(1, "*", None)).unwrap();
        let later = WRITTEN_MS + 1_000_000;
        self.store.grant(grant(2, "prices", Some(later))).unwrap();
        self.store.grant(grant(3, "prices", None)).unwrap();
        assert!(self.store.revoke(PeerKey([3; 32])).unwrap());
    }

    /// Operations whose results are kept, one of each outcome, and a session that has ended.
    fn session(&self) -> Vec<Json> {
        let ended = self.store.open_session(PEER).unwrap();
        self.store.close_session(ended).unwrap();
        let session = self.store.open_session(PEER).unwrap();
        let key = || key_of("kept");
        let results = kept_operations(&key).into_iter().zip(1..);
        let mut lines: Vec<Json> = results
            .map(|(operation, sequence)| {
                let answer = repeat(self.store, self.namespace, session, sequence, operation);
                listing::result(session, sequence, &answer)
            })
            .collect();
        lines.push(json!({"ended": [ended.epoch, ended.frame.0]}));
        lines
    }
}

/// One operation for each outcome there is.
fn kept_operations(key: &dyn Fn() -> Bytes) -> Vec<Operation> {
    let value = |text: &str| Some(sealed(&payload_of(text)));
    let swap = |expected: &str| Operation::CompareAndSet {
        key: key(),
        expected: Some(payload_of(expected)),
        new: value("swapped"),
    };
    vec![
        Operation::Put {
            key: key(),
            value: sealed(&payload_of("put")),
        },
        Operation::Increment { key: key(), by: 1 },
        swap("other"),
        swap("put"),
        Operation::Increment {
            key: key_of("kept counter"),
            by: 3,
        },
        Operation::Delete { key: key() },
    ]
}

/// Executes an operation of the session: the first time, or again.
pub(crate) fn repeat(
    store: &Store,
    namespace: NamespaceId,
    session: SessionId,
    sequence: u64,
    operation: Operation,
) -> Answer {
    let origin = Origin {
        session,
        sequence: Sequence(sequence),
    };
    let submission = Submission {
        namespace,
        operation,
        origin: Some(SubmissionOrigin {
            origin,
            floor: Sequence(1),
            peer: PEER,
        }),
        durability: Some(Durability::Sync),
    };
    store.execute(submission).unwrap()
}

/// Cuts the last frame in half.
fn tear(directory: &Path) {
    let last = files(directory)
        .into_iter()
        .rfind(|path| path.ends_with(".seg"));
    let path = directory.join(last.unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end - 12..=end].fill(0);
    fs::write(path, bytes).unwrap();
}

/// The names of a store's files below its folder, in order.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "log", "snapshots"] {
        let Ok(entries) = fs::read_dir(directory.join(folder)) else {
            continue;
        };
        let files = entries.flatten().filter(|entry| entry.path().is_file());
        found.extend(files.map(|entry| format!("{folder}/{}", entry.file_name().display())));
    }
    let mut found: Vec<_> = found
        .iter()
        .map(|name| name.trim_start_matches('/').to_owned())
        .collect();
    found.sort();
    found
}

pub(crate) fn key_of(name: &str) -> Bytes {
    key::encode(&name.into()).unwrap().into_bytes()
}

fn payload_of(text: &str) -> Bytes {
    objsync::value::to_payload(text).unwrap()
}

fn sealed(payload: &[u8]) -> Bytes {
    stored::seal(payload, Compression::None).unwrap()
}

fn change(name: &str, text: Option<&str>) -> Change {
    Change {
        key: key_of(name),
        value: text.map(|text| sealed(&payload_of(text))),
    }
}
