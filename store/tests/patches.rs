//! A change of a part of a value is that part: in the log, on the wire, and in all that is made of
//! the log.
//!
//! Method: random patches of values packed and plain, over small segments with snapshots, trimming,
//! clean and unclean ends and an index that is deleted; the model keeps each key's versions. Seeds
//! are printed.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

mod harness;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use harness::follow::{append_all, assert_equal, carried, catch_up, made};
use harness::random::Random;
use harness::work::{self, files, limits, wait_until};
use harness::*;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Durability, Revision};
use objsync_proto::operation::{Edit, Operation, Outcome, Patch, Step as PathStep};
use objsync_proto::patch;
use objsync_proto::stored::{self, Compression};
use objsync_proto::value::{self, Value};
use objsync_proto::wire::event;
use objsync_store::frame::{FRAME_ALIGN_BYTES, FRAME_HEADER_BYTES};
use objsync_store::log::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId};
use objsync_store::{
    FeedRead, IndexKind, LogRead, LogValues, Ship, Shipped, Store, StoreError, StoreLimits,
    StoreOptions,
};

fn text(value: &str) -> Bytes {
    value::to_payload(value).unwrap()
}

fn at(field: &str, edit: Edit) -> Patch {
    Patch {
        path: vec![PathStep::Field { key: text(field) }],
        revision: None,
        create: edit.creates(),
        edit,
    }
}

/// A dict with a list, a set, a number and so much else.
fn record(bulk: usize) -> Bytes {
    let bulk: String = (0..bulk)
        .map(|place| char::from(b'a' + (place * place % 23) as u8))
        .collect();
    let fields = vec![
        (Value::from("bulk"), Value::from(bulk.as_str())),
        (Value::from("list"), Value::List(Vec::new())),
        (Value::from("set"), Value::Set(Vec::new())),
        (Value::from("number"), Value::from(1)),
    ];
    value::encode(&Value::Dict(fields)).unwrap()
}

fn patched(store: &Store, name: &str, patch: Patch) -> Revision {
    let operation = Operation::Patch {
        key: key_of(name),
        patch,
    };
    let answer = execute(store, operation, Durability::Buffered).unwrap();
    assert!(
        matches!(answer.outcome, Ok(Outcome::Number(_))),
        "{answer:?}"
    );
    answer.ack.revision
}

fn put_payload(store: &Store, name: &str, payload: &[u8], compression: Compression) -> Revision {
    let operation = Operation::Put {
        key: key_of(name),
        value: stored::seal(payload, compression).unwrap(),
    };
    let answer = execute(store, operation, Durability::Buffered).unwrap();
    assert_eq!(answer.outcome, Ok(Outcome::Done));
    answer.ack.revision
}

/// What each kind of change that names no place takes: in the log, and on the wire from ring and
/// log.
fn bytes_taken(bulk: usize) -> Vec<(usize, usize, usize)> {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        index: IndexKind::Memory,
        ..StoreOptions::default()
    };
    let store = open(directory.path(), options);
    put_payload(&store, "k", &record(bulk), Compression::None);
    let items = || vec![text("an item")];
    let edits = [
        at("list", Edit::Append { items: items() }),
        at("set", Edit::Add { items: items() }),
        at("set", Edit::Discard { items: items() }),
        at("number", Edit::AddNumber { by: 5 }),
        at(
            "list",
            Edit::Remove {
                item: text("an item"),
            },
        ),
        Patch::from(Edit::SetField {
            field: text("field"),
            value: text("value"),
        }),
        Patch::from(Edit::DeleteField {
            field: text("field"),
        }),
    ];
    store.flush(store.position().revision).unwrap();
    let mut cursor = store.ship_all(None).unwrap().cursor;
    let frames = |cursor: &mut _| match store.ship(cursor, usize::MAX).unwrap() {
        Ship::Frames(frames) => frames.iter().map(|frame| frame.body().len()).sum(),
        other => panic!("{other:?}"),
    };
    let _: usize = frames(&mut cursor);
    let mut taken = Vec::new();
    for edit in edits {
        let before = store.position().revision;
        patched(&store, "k", edit);
        store.flush(store.position().revision).unwrap();
        let FeedRead::Published(ring) = store.feed().read(before, usize::MAX) else {
            panic!("the ring has it");
        };
        let LogRead::Transactions(log) = store.read_log_by_part(before, usize::MAX).unwrap() else {
            panic!("the log has it");
        };
        assert_eq!((ring.len(), log.len()), (1, 1));
        let from_ring = ring[0].encoded(NS, true).unwrap();
        let from_log = event::encode(&log[0].event(NS, &|_| true).unwrap());
        assert_eq!(from_ring, from_log);
        assert!(
            ring[0].encoded(NS, false).unwrap().len() > bulk,
            "whole for who has nothing"
        );
        taken.push((frames(&mut cursor), from_ring.len(), from_log.len()));
    }
    taken
}

#[test]
fn change_of_a_part_takes_the_same_bytes_however_large_the_value_is() {
    let (small, large) = (bytes_taken(1 << 10), bytes_taken(512 << 10));
    for (place, (small, large)) in small.iter().zip(&large).enumerate() {
        let differ = small.0.abs_diff(large.0).max(small.1.abs_diff(large.1));
        assert!(differ <= 2, "edit {place}: {small:?} and {large:?}");
        assert!(large.0 < 120 && large.1 < 200, "edit {place}: {large:?}");
    }
}

#[test]
fn change_that_is_no_smaller_than_the_value_is_logged_as_the_value() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), work::options(IndexKind::Memory));
    let tiny = value::encode(&Value::List(Vec::new())).unwrap();
    put_payload(&store, "tiny", &tiny, Compression::None);
    let before = store.position().revision;
    let items = vec![text("longer than all the rest of the list")];
    patched(&store, "tiny", Edit::Append { items }.into());
    let FeedRead::Published(read) = store.feed().read(before, usize::MAX) else {
        panic!("the ring has it");
    };
    assert!(read[0].patches.iter().all(Option::is_none), "{:?}", read[0]);
    let format = std::fs::read_to_string(directory.path().join("FORMAT")).unwrap();
    assert!(
        format.contains("\nincompatible 0000000000000000\n"),
        "{format}"
    );
}

/// A program that knows nothing of patches must not read on, and none is logged before that is said.
#[test]
fn first_patch_is_named_in_the_format_and_others_are_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let source_path = made(folder.path(), "source");
    let options = work::options(IndexKind::Memory);
    let source = open(&source_path, options.clone());
    put_payload(&source, "k", &record(500), Compression::None);
    let format = |path: &Path| std::fs::read_to_string(path.join("FORMAT")).unwrap();
    let (none, named) = (
        "\nincompatible 0000000000000000\n",
        "\nincompatible 0000000000000001\n",
    );
    assert!(format(&source_path).contains(none));
    let copy_path = folder.path().join("copy");
    let mut copy = None;
    source.flush(source.position().revision).unwrap();
    catch_up(&source, &copy_path, &options, &mut copy).unwrap();
    assert!(format(&copy_path).contains(none));
    patched(&source, "k", at("number", Edit::AddNumber { by: 1 }));
    assert!(format(&source_path).contains(named));
    source.flush(source.position().revision).unwrap();
    catch_up(&source, &copy_path, &options, &mut copy).unwrap();
    assert!(format(&copy_path).contains(named));
    assert_equal(copy.as_ref().unwrap(), &source);
}

/// Every version of every key: its revision and payload, none where it was removed.
#[derive(Default, Clone)]
struct Model {
    versions: BTreeMap<String, Vec<(Revision, Option<Bytes>)>>,
}

impl Model {
    fn at(&self, name: &str, revision: Revision) -> Option<(Revision, Bytes)> {
        let versions = self.versions.get(name)?;
        let (at, payload) = versions.iter().rfind(|(at, _)| *at <= revision)?;
        Some((*at, payload.clone()?))
    }

    fn now(&self, name: &str) -> Option<Bytes> {
        Some(self.at(name, Revision(u64::MAX))?.1)
    }

    fn note(&mut self, name: &str, revision: Revision, payload: Option<Bytes>) {
        let versions = self.versions.entry(name.to_owned()).or_default();
        versions.push((revision, payload));
    }

    /// What an unclean end took was never there.
    fn cut(&mut self, kept: Revision) {
        for versions in self.versions.values_mut() {
            versions.retain(|(at, _)| *at <= kept);
        }
    }
}

const KEYS: u64 = 5;

fn random_patch(random: &mut Random) -> Patch {
    let item = |random: &mut Random| text(&format!("item {}", random.below(9)));
    let items = |random: &mut Random| (0..1 + random.below(3)).map(|_| item(random)).collect();
    match random.below(8) {
        0..=2 => at(
            "list",
            Edit::Append {
                items: items(random),
            },
        ),
        3 => at(
            "set",
            Edit::Add {
                items: items(random),
            },
        ),
        4 => at(
            "set",
            Edit::Discard {
                items: items(random),
            },
        ),
        5 => at(
            "number",
            Edit::AddNumber {
                by: random.below(9) as i64 - 4,
            },
        ),
        6 => at("list", Edit::Remove { item: item(random) }),
        _ => Patch::from(Edit::SetField {
            field: text(&format!("field {}", random.below(4))),
            value: item(random),
        }),
    }
}

fn act(store: &Store, model: &mut Model, random: &mut Random) {
    let name = format!("k{}", random.below(KEYS));
    match (model.now(&name), random.below(12)) {
        (Some(_), 0) => {
            let operation = Operation::Delete { key: key_of(&name) };
            let answer = execute(store, operation, Durability::Buffered).unwrap();
            model.note(&name, answer.ack.revision, None);
        }
        (Some(there), 2..) => {
            let patch = random_patch(random);
            let Ok(applied) = patch::apply(Some(&there), &patch) else {
                return;
            };
            let revision = patched(store, &name, patch);
            if let Some(payload) = applied.payload {
                model.note(&name, revision, Some(payload.into()));
            }
        }
        _ => {
            let payload = record(200 + random.below(900) as usize);
            let compression = match random.chance(2) {
                true => Compression::Zstd(3),
                false => Compression::None,
            };
            let revision = put_payload(store, &name, &payload, compression);
            model.note(&name, revision, Some(payload));
        }
    }
}

fn opened(value: &Bytes) -> Bytes {
    stored::open(value).unwrap()
}

/// Now, at revisions before, each key's history, and the log from somewhere on.
fn look(store: &Store, model: &Model, random: &mut Random, seed: u64) {
    let committed = store.position().revision;
    for name in (0..KEYS).map(|key| format!("k{key}")) {
        let found = store.get(NS, &key_of(&name)).unwrap();
        let found = found.map(|stored| (stored.revision, opened(&stored.value)));
        assert_eq!(found, model.at(&name, committed), "seed {seed}: {name}");
    }
    for _ in 0..3 {
        let revision = Revision(random.below(committed.0 + 1));
        match store.at(revision) {
            Ok(past) => {
                for name in (0..KEYS).map(|key| format!("k{key}")) {
                    let found = past.get(NS, &key_of(&name)).unwrap();
                    let found = found.map(|stored| (stored.revision, opened(&stored.value)));
                    assert_eq!(
                        found,
                        model.at(&name, revision),
                        "seed {seed}: {name} {revision}"
                    );
                }
            }
            Err(StoreError::PastRetention { oldest, .. }) => assert!(revision < oldest),
            Err(other) => panic!("seed {seed}: {other}"),
        }
    }
    look_at_history(store, model, random, seed);
    look_at_log(store, model, Revision(random.below(committed.0 + 1)), seed);
}

fn look_at_history(store: &Store, model: &Model, random: &mut Random, seed: u64) {
    let name = format!("k{}", random.below(KEYS));
    let mut expected = model.versions.get(&name).cloned().unwrap_or_default();
    let mut before = None;
    loop {
        let count_max = 1 + random.below(7) as u32;
        let page = store
            .history(NS, &key_of(&name), before, count_max)
            .unwrap();
        for version in page.versions {
            let (revision, payload) = expected.pop().unwrap();
            assert_eq!(version.revision, revision, "seed {seed}: {name}");
            let found = version.value.as_ref().map(opened);
            assert_eq!(found, payload, "seed {seed}: {name} at {revision}");
        }
        before = page.before;
        if before.is_none() {
            return;
        }
    }
}

/// The log with its values, in pages: whatever each transaction says was so.
fn look_at_log(store: &Store, model: &Model, after: Revision, seed: u64) {
    let (mut values, mut cursor) = (LogValues::default(), after);
    loop {
        let read = store.read_log_on(&mut values, cursor, 700).unwrap();
        let LogRead::Transactions(read) = read else {
            return;
        };
        let Some(last) = read.last() else {
            return;
        };
        cursor = last.revision;
        for published in &read {
            for (namespace, change) in &published.changes {
                let name = (0..KEYS).map(|key| format!("k{key}"));
                let Some(name) = name.into_iter().find(|name| key_of(name) == change.key) else {
                    assert_ne!(*namespace, NS);
                    continue;
                };
                let found = change.value.as_ref().map(opened);
                let (at, payload) = model.versions[&name]
                    .iter()
                    .rfind(|(at, _)| *at <= published.revision)
                    .unwrap();
                assert_eq!(
                    (published.revision, &found),
                    (*at, payload),
                    "seed {seed}: {name}"
                );
            }
        }
    }
}

#[test]
fn every_version_is_what_it_was_whatever_is_made_of_the_log() {
    for seed in 0..4 {
        println!("seed {seed}");
        let random = &mut Random::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let path = made(folder.path(), "store");
        let kind = if seed == 0 {
            IndexKind::Sled
        } else {
            IndexKind::Memory
        };
        let options = StoreOptions {
            limits: StoreLimits {
                segment_bytes: 8 << 10,
                snapshot_log_bytes: 24 << 10,
                retention_bytes: 48 << 10,
                ..limits()
            },
            ..work::options(kind)
        };
        let mut store = open(&path, options.clone());
        let (mut model, mut copy) = (Model::default(), None);
        for round in 0..7 {
            for _ in 0..60 + random.below(60) {
                act(&store, &mut model, random);
            }
            store.flush(store.position().revision).unwrap();
            look(&store, &model, random, seed);
            let copy_path = folder.path().join("copy");
            catch_up(&store, &copy_path, &options, &mut copy).unwrap();
            assert_equal(copy.as_ref().unwrap(), &store);
            look(copy.as_ref().unwrap(), &model, random, seed);
            match random.below(4) {
                0 => continue,
                1 => store.kill(),
                _ => store.close().unwrap(),
            }
            drop(store);
            if random.chance(2) {
                let _ = std::fs::remove_dir_all(path.join("index"));
            }
            if random.chance(2) {
                files(&path, "keys")
                    .iter()
                    .for_each(|file| std::fs::remove_file(file).unwrap());
            }
            store = open(&path, options.clone());
            model.cut(store.position().revision);
            look(&store, &model, random, seed);
            println!("round {round}: {:?}", store.position().revision);
        }
        drop(copy);
        store.close().unwrap();
        let report = work::check(&path);
        assert!(report.is_intact(), "seed {seed}: {:?}", report.problems);
    }
}

/// A store with one patched key, closed, and what stands there.
fn closed_store(path: &Path) -> Model {
    let store = open(path, work::options(IndexKind::Memory));
    let mut model = Model::default();
    let payload = record(400);
    let revision = put_payload(&store, "k0", &payload, Compression::None);
    model.note("k0", revision, Some(payload));
    for _ in 0..3 {
        let patch = at("number", Edit::AddNumber { by: 1 });
        let there = model.now("k0").unwrap();
        let applied = patch::apply(Some(&there), &patch).unwrap();
        let revision = patched(&store, "k0", patch);
        model.note("k0", revision, applied.payload.map(Bytes::from));
    }
    store.close().unwrap();
    model
}

/// Where the base of a patch of `k0` stands in the body of a frame.
fn base_in(body: &[u8]) -> Option<usize> {
    let key = key_of("k0");
    let head = [&[2, key.len() as u8], &key[..]].concat();
    let at = body.windows(head.len()).position(|window| window == head)?;
    Some(at + head.len())
}

/// Makes the last patch in a segment one of the entry before the one it changed.
fn change_last_base(path: &Path) {
    let (header, _) = SegmentHeader::open(
        &objsync_store::disk::RealDisk,
        path,
        SegmentId(1),
        objsync_store::disk::OpenMode::Read,
    )
    .unwrap();
    let file = files(path, "seg").remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let mut last = None;
    let mut offset = SEGMENT_HEADER_BYTES as usize;
    while let Some(head) = bytes[offset..].first_chunk::<FRAME_HEADER_BYTES>()
        && let Some(frame) = header.seed().decode(head)
    {
        let body = offset + FRAME_HEADER_BYTES;
        let end = body + frame.body_bytes as usize;
        if let Some(base) = base_in(&bytes[body..end]) {
            last = Some((offset, frame, body + base, end));
        }
        offset = end.next_multiple_of(FRAME_ALIGN_BYTES);
    }
    let (offset, mut frame, base, end) = last.unwrap();
    assert!((2..128).contains(&bytes[base]), "one byte of a varint");
    bytes[base] -= 1;
    let body = offset + FRAME_HEADER_BYTES;
    frame.body_crc = crc32c::crc32c(&bytes[body..end]);
    let mut head = [0; FRAME_HEADER_BYTES];
    header.seed().encode(&frame, &mut head);
    bytes[offset..body].copy_from_slice(&head);
    std::fs::write(&file, bytes).unwrap();
}

#[test]
fn check_finds_a_patch_of_another_entry_and_nobody_is_shown_what_it_makes() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path(), "store");
    let model = closed_store(&path);
    assert!(work::check(&path).is_intact());
    change_last_base(&path);
    let report = work::check(&path);
    let problem = report
        .problems
        .iter()
        .find(|problem| problem.what.contains("another revision"));
    let problem = problem.unwrap_or_else(|| panic!("{:?}", report.problems));
    assert!(!report.is_sound());
    assert_eq!(problem.keys, [(NS, key_of("k0"))]);
    let options = StoreOptions {
        readonly: true,
        ..work::options(IndexKind::Memory)
    };
    let refused = Store::open(&path, options).and_then(|store| store.get(NS, &key_of("k0")));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Corrupt);
    // What came before it is saved, and the key is named.
    let saved = folder.path().join("saved");
    let report = objsync_store::repair(&path, &saved, &[], &mut |_| ()).unwrap();
    assert!(!report.is_whole());
    let named = report
        .losses
        .iter()
        .any(|loss| loss.keys == [(NS, key_of("k0"))]);
    assert!(named, "{:?}", report.losses);
    let store = Store::open(&saved, work::options(IndexKind::Memory)).unwrap();
    let found = store.get(NS, &key_of("k0")).unwrap().unwrap();
    let versions = &model.versions["k0"];
    let (revision, payload) = &versions[versions.len() - 2];
    assert_eq!(
        (found.revision, Some(opened(&found.value))),
        (*revision, payload.clone())
    );
}

#[test]
fn repair_keeps_patched_values_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path(), "store");
    let options = work::options(IndexKind::Memory);
    let store = open(&path, options.clone());
    let (mut model, random) = (Model::default(), &mut Random::new(3));
    for _ in 0..400 {
        act(&store, &mut model, random);
    }
    store.close().unwrap();
    let saved = folder.path().join("saved");
    let report = objsync_store::repair(&path, &saved, &[], &mut |_| ()).unwrap();
    assert!(report.is_whole(), "{:?}", report.losses);
    let store = Store::open(&saved, options).unwrap();
    for name in (0..KEYS).map(|key| format!("k{key}")) {
        let found = store.get(NS, &key_of(&name)).unwrap();
        assert_eq!(
            found.map(|stored| opened(&stored.value)),
            model.now(&name),
            "{name}"
        );
    }
}

#[test]
fn copy_refuses_a_patch_of_another_entry_and_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let options = work::options(IndexKind::Memory);
    let source = open(&made(folder.path(), "source"), options.clone());
    put_payload(&source, "k0", &record(400), Compression::None);
    source.flush(source.position().revision).unwrap();
    let mut copy = None;
    catch_up(&source, &folder.path().join("copy"), &options, &mut copy).unwrap();
    let copy = copy.unwrap();
    patched(&source, "k0", at("number", Edit::AddNumber { by: 1 }));
    source.flush(source.position().revision).unwrap();
    let place = copy.copy_place().unwrap();
    let mut cursor = source.ship_after(&place).unwrap().unwrap();
    let Ship::Frames(frames) = source.ship(&mut cursor, usize::MAX).unwrap() else {
        panic!("a frame follows");
    };
    let wrong = frames.iter().map(|frame| {
        let (mut head, mut body) = (frame.head(0), frame.body().to_vec());
        if let Some(base) = base_in(&body) {
            body[base] -= 1;
            head.body_crc = crc32c::crc32c(&body);
        }
        Shipped::new(&head, body.into()).unwrap()
    });
    let before = (copy.position(), content(&copy));
    let error = copy.append_shipped(wrong.collect()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("changes revision"), "{error}");
    assert_eq!((copy.position(), content(&copy)), before);
    append_all(&copy, frames.iter().map(carried).collect()).unwrap();
    assert_equal(&copy, &source);
}

/// A thousand versions of a large value are not held at once, and do not wait for as many writes of
/// the index.
#[test]
fn many_changes_of_a_large_value_keep_within_the_bounds_of_memory() {
    let directory = tempfile::tempdir().unwrap();
    let bound = 16 << 20;
    let options = StoreOptions {
        index: IndexKind::Memory,
        limits: StoreLimits {
            recent_bytes_max: bound,
            ring_bytes_max: bound,
            ..StoreLimits::default()
        },
        ..StoreOptions::default()
    };
    let store = open(directory.path(), options);
    let bulk = 900 << 10;
    put_payload(&store, "k0", &record(bulk), Compression::None);
    wait_until("the index", || store.status().index_build.is_none());
    for number in 0..300 {
        let items = vec![text(&format!("item {number}"))];
        patched(&store, "k0", at("list", Edit::Append { items }));
        let recent = store.status().recent_bytes;
        assert!(
            recent <= bound as u64 + 2 * bulk as u64,
            "{recent} bytes are held"
        );
    }
    let log_bytes = store.status().log_bytes;
    assert!(log_bytes < 80 << 20, "{log_bytes} bytes of log");
    let found = store.get(NS, &key_of("k0")).unwrap().unwrap();
    let Value::Dict(fields) = value::decode(&opened(&found.value)).unwrap() else {
        panic!("a dict was put");
    };
    let Value::List(list) = &fields[1].1 else {
        panic!("its second field is a list");
    };
    assert_eq!(list.len(), 300);
}
