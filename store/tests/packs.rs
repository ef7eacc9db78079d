//! Chunks of large values: each is stored once, what lives is never lost, and what is dead goes.
//!
//! Method: packs of some KiB and chunks of some hundred bytes, so that a small test has many of both;
//! a map of the contents is the model. Disks forget what was not synced; seeds are printed.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;

use harness::disk::{Call, Planned, SimDisk};
use harness::large::*;
use harness::random::Random;
use harness::work::wait_until;
use harness::*;
use objsync_proto::chunk::record::CheckedChunk;
use objsync_proto::chunk::{Child, Cutter, Node, Root, chunk_id};
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::Durability;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::stored_chunks::{self, StoredChunks};
use objsync_store::disk::RealDisk;
use objsync_store::{
    IndexKind, Problem, Step, Store, StoreError, StoreOptions, Submission, backup, check, repair,
    restore,
};

/// Writes until the log that names what was before is trimmed.
fn move_on(store: &Store) {
    for step in 0..48 {
        set(store, "filler", &format!("{step}{}", "x".repeat(3000)));
        // A store with threads of its own does it as well.
        if step % 8 == 7 {
            store.step(Step::Keep).unwrap();
        }
    }
}

fn all_files(disk: &SimDisk) -> usize {
    let packs = disk.files(".pack");
    packs
        .iter()
        .map(|path| disk.read(path).unwrap().len())
        .sum()
}

#[test]
fn equal_content_under_two_keys_and_in_two_namespaces_is_stored_once() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
    let store = open(directory.path(), options(&disk));
    let (other, _) = store.create_namespace("other", Vec::new()).unwrap();
    let content = noise_of(&mut Random::new(2), 100 * CHUNK + 5);
    let (value, chunks) = cut(&content, CHUNK);
    let pins = store.chunks().pins();
    let mut bytes = Vec::new();
    for (namespace, name) in [(NS, "a"), (NS, "b"), (other, "a")] {
        let answer = write_large(&store, &pins, put_in(namespace, name, &value), &chunks).unwrap();
        assert_eq!(answer.outcome, Ok(Outcome::Done));
        bytes.push(store.chunks().status());
        assert_eq!(get_large(&store, namespace, name).unwrap(), content);
    }
    assert_eq!(bytes[0].chunk_count, 102, "101 chunks and a node");
    assert!(bytes.iter().all(|status| *status == bytes[0]), "{bytes:?}");
    drop(pins);
    store.close().unwrap();
    drop(store);
    let store = open(directory.path(), options(&disk));
    assert_eq!(get_large(&store, other, "a").unwrap(), content);
    assert_eq!(store.chunks().status().chunk_count, 102);
}

#[test]
fn write_is_refused_while_its_chunks_are_missing_or_have_other_sizes() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
    let store = open(directory.path(), options(&disk));
    let content = content_of(&mut Random::new(3), 70 * CHUNK);
    let (value, chunks) = cut(&content, CHUNK);
    let root = stored_chunks::open(&value).unwrap().unwrap().root;
    let pins = store.chunks().pins();
    let before = store.position();
    let answer = store.execute(put_in(NS, "a", &value)).unwrap();
    let ids = root.children().iter().map(|child| child.id).collect();
    assert_eq!(answer.outcome, Ok(Outcome::NeedChunks { ids }));
    assert_eq!(store.get(NS, &key_of("a")).unwrap(), None);
    assert_eq!(store.position(), before, "nothing was logged");

    // A node before what it lists.
    let nodes: Vec<_> = chunks
        .iter()
        .filter(|chunk| root.children()[0].id == chunk.id())
        .cloned()
        .collect();
    let refused = store.chunks().put(&pins, &nodes).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let answer = write_large(&store, &pins, put_in(NS, "a", &value), &chunks).unwrap();
    assert_eq!(answer.outcome, Ok(Outcome::Done));

    // A node, and a value, that say what is not so.
    let lying = |bytes| Child {
        id: chunks[0].id(),
        bytes,
    };
    let node = Node::new(1, vec![lying(CHUNK as u64 + 1)]).unwrap();
    let refused = store
        .chunks()
        .put(&pins, &[CheckedChunk::node(&node)])
        .unwrap_err();
    assert!(refused.to_string().contains("701 bytes"), "{refused}");
    for (depth, bytes) in [(0, CHUNK as u64 - 1), (1, CHUNK as u64)] {
        let root = Root::new(Cutter::default(), depth, vec![lying(bytes)]).unwrap();
        let mut head = vec![0xC6];
        head.extend_from_slice(&(bytes as u32).to_be_bytes());
        let value = stored_chunks::seal(&StoredChunks {
            root,
            head: head.into(),
        })
        .unwrap();
        let answer = store.execute(put_in(NS, "b", &value)).unwrap();
        assert_eq!(answer.outcome.unwrap_err().kind, ErrorKind::Invalid);
    }
    // Within a transaction, and for the first content of a namespace.
    let (value, _) = cut(b"not there", CHUNK);
    let changes = vec![objsync_proto::effect::Change {
        key: key_of("c"),
        value: Some(value),
    }];
    assert!(store.create_namespace("third", changes.clone()).is_err());
    assert_eq!(store.namespace("third").unwrap(), None);
    let answer = execute(&store, Operation::Batch { changes }, Durability::Sync).unwrap();
    let ids = vec![chunk_id(b"not there")];
    assert_eq!(answer.outcome, Ok(Outcome::NeedChunks { ids }));
}

#[test]
fn what_nothing_names_any_more_goes_and_its_space_comes_back() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
    let store = open(directory.path(), options(&disk));
    let random = &mut Random::new(5);
    let kept = content_of(random, 40 * CHUNK);
    set_large(&store, "kept", &kept, CHUNK);
    for round in 0..20 {
        set_large(&store, "other", &content_of(random, 90 * CHUNK), CHUNK);
        set_large(
            &store,
            &format!("gone {round}"),
            &content_of(random, 20 * CHUNK),
            CHUNK,
        );
    }
    let full = all_files(&disk);
    let collected = store.collect_chunks().unwrap();
    assert_eq!(collected.dead_count, 0, "the log still names all of it");
    for round in 0..20 {
        let key = key_of(&format!("gone {round}"));
        execute(&store, Operation::Delete { key }, Durability::Sync).unwrap();
    }
    move_on(&store);
    let collected = store.collect_chunks().unwrap();
    assert!(collected.dead_count > 1000 || store.chunks().status().chunk_count < 200);
    let (value, chunks) = cut(&get_large(&store, NS, "other").unwrap(), CHUNK);
    let (_, kept_chunks) = cut(&kept, CHUNK);
    let live: usize = chunks
        .iter()
        .chain(&kept_chunks)
        .map(|chunk| chunk.record().payload.len() + 88)
        .sum();
    let left = all_files(&disk);
    assert!(
        left <= 2 * live + (24 << 10),
        "{left} bytes for {live}; {full} before"
    );
    assert_eq!(get_large(&store, NS, "kept").unwrap(), kept);
    assert_eq!(
        store.get(NS, &key_of("other")).unwrap().unwrap().value,
        value
    );
    store.close().unwrap();
    drop(store);
    let store = open(directory.path(), options(&disk));
    assert_eq!(get_large(&store, NS, "kept").unwrap(), kept);
}

#[test]
fn store_collects_by_itself_once_it_pays() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
    let store = open(directory.path(), options(&disk));
    set_large(
        &store,
        "a",
        &content_of(&mut Random::new(7), 90 * CHUNK),
        CHUNK,
    );
    execute(
        &store,
        Operation::Delete { key: key_of("a") },
        Durability::Sync,
    )
    .unwrap();
    assert!(store.chunks().status().chunk_count > 0);
    move_on(&store);
    move_on(&store);
    assert_eq!(store.chunks().status().chunk_count, 0);
    assert_eq!(all_files(&disk), 0);
}

#[test]
fn upload_reader_and_past_keep_what_they_need() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
    let store = open(directory.path(), options(&disk));
    let random = &mut Random::new(11);
    let content = content_of(random, 80 * CHUNK);
    set_large(&store, "a", &content, CHUNK);
    let (uploaded, chunks) = cut(&content_of(random, 70 * CHUNK), CHUNK);
    let pins = store.chunks().pins();
    store.chunks().put(&pins, &chunks).unwrap();
    let reader = store.reader();
    let past = store.at(store.position().revision).unwrap();
    let hold = store.chunks().hold();
    execute(
        &store,
        Operation::Delete { key: key_of("a") },
        Durability::Sync,
    )
    .unwrap();
    move_on(&store);
    store.collect_chunks().unwrap();
    // The root names two nodes: all below them stay too.
    let value = past.get(NS, &key_of("a")).unwrap().unwrap().value;
    assert_eq!(read_large(&store, &value).unwrap(), content);
    drop((reader, past));
    store.collect_chunks().unwrap();
    assert_eq!(read_large(&store, &value).unwrap(), content, "it is held");
    drop(hold);
    store.collect_chunks().unwrap();
    assert!(matches!(
        read_large(&store, &value),
        Err(StoreError::Corrupt { .. })
    ));
    let answer = store.execute(put_in(NS, "b", &uploaded)).unwrap();
    assert_eq!(answer.outcome, Ok(Outcome::Done));
    drop(pins);
    store.collect_chunks().unwrap();
    read_large(&store, &uploaded).unwrap();
}

/// The contents that each key may have.
type Model = BTreeMap<String, Vec<Vec<u8>>>;

/// Writes, deletes and collects; the model's last content of a key is the one acknowledged, unless
/// a write failed: then any from that on.
fn work(store: &Store, random: &mut Random, model: &mut Model, seen: &mut Vec<Vec<u8>>) {
    let pins = store.chunks().pins();
    for _ in 0..random.below(30) {
        let name = format!("k{}", random.below(6));
        let states = model
            .entry(name.clone())
            .or_insert_with(|| vec![Vec::new()]);
        let done = match random.below(8) {
            0 => {
                states.push(Vec::new());
                let operation = Operation::Delete { key: key_of(&name) };
                execute(store, operation, Durability::Sync)
            }
            1 => match store.collect_chunks() {
                Ok(_) => continue,
                Err(_) => return,
            },
            2 => match store.step(Step::Keep) {
                Ok(_) => continue,
                Err(_) => return,
            },
            _ => {
                let bytes = 1 + random.below(90 * CHUNK as u64) as usize;
                let content = match random.chance(3) && !seen.is_empty() {
                    // Content that was there before, of which some may be dead.
                    true => seen[random.below(seen.len() as u64) as usize].clone(),
                    false => content_of(random, bytes),
                };
                seen.push(content.clone());
                let (value, chunks) = cut(&content, CHUNK);
                states.push(content);
                write_large(store, &pins, put_in(NS, &name, &value), &chunks)
            }
        };
        match done {
            Ok(answer) => {
                assert!(
                    !matches!(answer.outcome, Ok(Outcome::NeedChunks { .. })),
                    "{answer:?}"
                );
                let last = states.pop().unwrap();
                *states = vec![last];
            }
            Err(_) => return,
        }
    }
}

/// Each key has one of the contents that it may have.
fn settle(store: &Store, model: &mut Model, what: &str) {
    for (name, states) in model {
        let found = get_large(store, NS, name).unwrap_or_default();
        assert!(
            states.contains(&found),
            "{what}: {name} has {} bytes",
            found.len()
        );
        *states = vec![found];
    }
}

#[test]
fn random_work_with_kills_power_cuts_and_collections_is_as_the_model_says() {
    for seed in 0..25 {
        let random = &mut Random::new(seed);
        let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::seeded(seed));
        open(directory.path(), options(&disk)).close().unwrap();
        let (mut model, mut seen) = (Model::new(), Vec::new());
        for life in 0..6 {
            let store = Store::open(directory.path(), options(&disk)).unwrap();
            settle(&store, &mut model, &format!("seed {seed}, life {life}"));
            match random.below(4) {
                0 | 1 => disk.stop_after(random.below(400)),
                2 => disk.plan(Planned {
                    after: random.below(60),
                    ..Planned::next([Call::Write, Call::Sync, Call::Open][random.below(3) as usize])
                }),
                _ => {}
            }
            work(&store, random, &mut model, &mut seen);
            match random.below(3) {
                0 => drop(store),
                1 => store.kill(),
                _ => {
                    store.kill();
                    drop(store);
                    disk.cut_power(random);
                }
            }
            disk.recover();
        }
        let store = Store::open(directory.path(), options(&disk)).unwrap();
        settle(&store, &mut model, &format!("seed {seed}, at the end"));
        // Whatever the power left of packs, all that lives is put in order.
        move_on(&store);
        store.collect_chunks().unwrap();
        settle(&store, &mut model, &format!("seed {seed}, collected"));
    }
}

/// Writes, replaces, collects: then the same with the power cut after each of its disk calls.
#[test]
fn power_cut_at_every_call_of_writing_and_collecting_loses_nothing_acknowledged() {
    let script = |store: &Store, model: &mut Model| -> Result<(), StoreError> {
        let random = &mut Random::new(1);
        let pins = store.chunks().pins();
        for step in 0..4 {
            let name = format!("k{}", step % 2);
            let content = content_of(random, (24 + 20 * step) * CHUNK);
            let (value, chunks) = cut(&content, CHUNK);
            let states = model
                .entry(name.clone())
                .or_insert_with(|| vec![Vec::new()]);
            states.push(content.clone());
            write_large(store, &pins, put_in(NS, &name, &value), &chunks)?;
            *states = vec![content];
        }
        drop(pins);
        for step in 0..12 {
            execute(
                store,
                put("filler", &"x".repeat(3000 + step)),
                Durability::Sync,
            )?;
        }
        store.step(Step::Keep)?;
        store.collect_chunks()?;
        store.close()
    };
    let mut calls = 0;
    loop {
        let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::seeded(calls));
        open(directory.path(), options(&disk)).close().unwrap();
        let mut model = Model::new();
        disk.stop_after(calls);
        if let Ok(store) = Store::open(directory.path(), options(&disk)) {
            let _ = script(&store, &mut model);
            store.kill();
        }
        let is_done = !disk.is_off();
        disk.cut_power(&mut Random::new(calls));
        disk.recover();
        let store = Store::open(directory.path(), options(&disk)).unwrap();
        settle(
            &store,
            &mut model,
            &format!("power gone after {calls} calls"),
        );
        store.collect_chunks().unwrap();
        settle(
            &store,
            &mut model,
            &format!("collected after {calls} calls"),
        );
        if is_done {
            assert!(calls > 200, "{calls} calls: there is something to cut");
            return;
        }
        calls += 1;
    }
}

#[test]
fn collections_beside_writers_and_readers_lose_nothing_that_lives() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        index: IndexKind::Memory,
        limits: limits(),
        durability: Durability::Buffered,
        ..StoreOptions::default()
    };
    let store = open(directory.path(), options);
    // All write from one small pool of contents, so that what one makes dead another names anew.
    let pool: Vec<_> = (0..12)
        .map(|seed| {
            cut(
                &content_of(&mut Random::new(seed), 66 * CHUNK + seed as usize),
                CHUNK,
            )
        })
        .collect();
    let pool = Arc::new(pool);
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (store, pool) = (store.clone(), Arc::clone(&pool));
            std::thread::spawn(move || {
                let random = &mut Random::new(100 + writer);
                for step in 0..250_u64 {
                    let (value, chunks) = &pool[random.below(12) as usize];
                    let name = format!("{writer}-{}", random.below(2));
                    let submission = put_in(NS, &name, value);
                    let answer = match random.chance(4) {
                        // Named again without being asked for: refused, or all of it is there.
                        true => store.execute(submission).unwrap(),
                        false => {
                            let pins = store.chunks().pins();
                            let answer = write_large(&store, &pins, submission, chunks).unwrap();
                            assert_eq!(answer.outcome, Ok(Outcome::Done), "step {step}");
                            answer
                        }
                    };
                    if answer.outcome == Ok(Outcome::Done) {
                        let hold = store.chunks().hold();
                        let now = store.get(NS, &key_of(&name)).unwrap().unwrap();
                        read_large(&store, &now.value).unwrap();
                        drop(hold);
                    }
                    set(
                        &store,
                        "filler",
                        &format!("{writer}{step}{}", "x".repeat(900)),
                    );
                }
            })
        })
        .collect();
    let mut collected = 0;
    while writers.iter().any(|writer| !writer.is_finished()) {
        collected += store.collect_chunks().unwrap().dead_count;
        let past = store.at(store.position().revision).unwrap();
        for name in ["0-0", "1-0", "2-1"] {
            if let Some(then) = past.get(NS, &key_of(name)).unwrap() {
                read_large(&store, &then.value).unwrap();
            }
        }
    }
    for writer in writers {
        writer.join().unwrap();
    }
    assert!(collected > 0, "something was dead now and then");
    store.close().unwrap();
}

#[test]
fn turned_bit_of_a_pack_is_found_and_the_same_content_heals_it() {
    let content = content_of(&mut Random::new(4), 10 * CHUNK);
    let (value, chunks) = cut(&content, CHUNK);
    for (place, seed) in (0..12).zip(1..) {
        let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::seeded(seed));
        let store = open(directory.path(), options(&disk));
        set_large(&store, "a", &content, CHUNK);
        store.close().unwrap();
        drop(store);
        let pack = disk.files(".pack").pop().unwrap();
        let bits = disk.read(&pack).unwrap().len() as u64 * 8;
        // Within the records: header, id, lengths or payload of one of them.
        disk.turn_bit(&pack, 64 * 8 + Random::new(seed).below(bits / 2));
        let store = Store::open(directory.path(), options(&disk)).unwrap();
        match read_large(&store, &value) {
            // It hit what pads a record.
            Ok(read) => assert_eq!(read, content),
            Err(error) => {
                let StoreError::Corrupt { path, .. } = &error else {
                    panic!("{error}");
                };
                assert_eq!(path, &pack, "place {place}: {error}");
                let pins = store.chunks().pins();
                write_large(&store, &pins, put_in(NS, "a", &value), &chunks).unwrap();
                assert_eq!(read_large(&store, &value).unwrap(), content);
            }
        }
    }
}

#[test]
fn pack_without_its_footer_and_one_with_a_torn_tail_keep_what_was_whole() {
    let content = content_of(&mut Random::new(9), 20 * CHUNK);
    for (cut_bytes, junk) in [(1, 0), (40, 0), (1, 3000), (0, 500), (300, 100)] {
        let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
        let store = open(directory.path(), options(&disk));
        set_large(&store, "a", &content, CHUNK);
        store.close().unwrap();
        drop(store);
        let path = disk.files(".pack").pop().unwrap();
        let mut bytes = disk.read(&path).unwrap();
        bytes.truncate(bytes.len() - cut_bytes);
        bytes.extend(std::iter::repeat_n(0xC7, junk));
        disk.write(&path, bytes);
        for _ in 0..2 {
            let store = Store::open(directory.path(), options(&disk)).unwrap();
            assert_eq!(
                get_large(&store, NS, "a").unwrap(),
                content,
                "{cut_bytes}, {junk}"
            );
        }
    }
}

#[test]
fn store_that_is_only_read_gives_its_chunks_and_changes_no_file() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
    let store = open(directory.path(), options(&disk));
    let content = content_of(&mut Random::new(9), 20 * CHUNK);
    set_large(&store, "a", &content, CHUNK);
    store.kill();
    drop(store);
    let path = disk.files(".pack").pop().unwrap();
    let before = disk.read(&path);
    let readonly = StoreOptions {
        readonly: true,
        ..options(&disk)
    };
    let store = Store::open(directory.path(), readonly).unwrap();
    assert_eq!(get_large(&store, NS, "a").unwrap(), content);
    let pins = store.chunks().pins();
    assert!(store.chunks().put(&pins, &cut(b"new", CHUNK).1).is_err());
    assert!(store.collect_chunks().is_err());
    assert_eq!(disk.read(&path), before);
}

/// Nobody has synced the chunks: then the write that names them does, whatever its own level is.
#[test]
fn chunks_are_on_disk_before_the_frame_that_names_them_though_nobody_synced_them() {
    for seed in 0..10 {
        let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::seeded(seed));
        let store = open(directory.path(), options(&disk));
        let content = noise_of(&mut Random::new(seed), 70 * CHUNK);
        let (value, chunks) = cut(&content, CHUNK);
        let pins = store.chunks().pins();
        store.chunks().put(&pins, &chunks).unwrap();
        let submission = Submission {
            durability: Some(Durability::Buffered),
            ..put_in(NS, "a", &value)
        };
        let revision = store.execute(submission).unwrap().ack.revision;
        store.flush(revision).unwrap();
        store.kill();
        drop((store, pins));
        disk.cut_power(&mut Random::new(seed));
        let store = Store::open(directory.path(), options(&disk)).unwrap();
        assert_eq!(get_large(&store, NS, "a").unwrap(), content, "seed {seed}");
    }
}

#[test]
fn failed_write_and_failed_sync_of_a_pack_lose_nothing_that_was_acknowledged() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
    let store = open(directory.path(), options(&disk));
    let random = &mut Random::new(21);
    let content = content_of(random, 10 * CHUNK);
    set_large(&store, "a", &content, CHUNK);
    let (value, chunks) = cut(&content_of(random, 10 * CHUNK), CHUNK);
    let pins = store.chunks().pins();
    disk.fail_writes(true);
    assert!(store.chunks().put(&pins, &chunks).is_err());
    disk.fail_writes(false);
    store.chunks().put(&pins, &chunks).unwrap();
    disk.fail_syncs(true);
    assert!(store.chunks().sync().is_err());
    disk.fail_syncs(false);
    // What was not synced is forgotten: nobody may name it before it is written anew.
    let answer = store.execute(put_in(NS, "b", &value)).unwrap();
    assert!(
        matches!(answer.outcome, Ok(Outcome::NeedChunks { .. })),
        "{answer:?}"
    );
    let answer = write_large(&store, &pins, put_in(NS, "b", &value), &chunks).unwrap();
    assert_eq!(answer.outcome, Ok(Outcome::Done));
    store.kill();
    drop((store, pins));
    disk.cut_power(random);
    let store = Store::open(directory.path(), options(&disk)).unwrap();
    assert_eq!(get_large(&store, NS, "a").unwrap(), content);
    read_large(&store, &value).unwrap();
}

#[test]
fn check_finds_turned_bits_and_chunks_that_are_missing_with_the_keys_they_hit() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        index: IndexKind::Memory,
        limits: limits(),
        ..StoreOptions::default()
    };
    let store = open(directory.path(), options);
    let content = noise_of(&mut Random::new(9), 70 * CHUNK);
    set_large(&store, "a", &content, CHUNK);
    store.close().unwrap();
    drop(store);
    let report = check(directory.path(), &mut |_| {}).unwrap();
    assert!(report.is_intact(), "{:?}", report.problems);
    let mut packs: Vec<_> = std::fs::read_dir(directory.path().join("packs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    packs.sort();
    let first = std::fs::read(&packs[0]).unwrap();
    for place in [64 + 10, 64 + 80 + 5, first.len() / 2, first.len() - 3] {
        let mut turned = first.clone();
        turned[place] ^= 4;
        std::fs::write(&packs[0], turned).unwrap();
        let report = check(directory.path(), &mut |_| {}).unwrap();
        let is_footer = place == first.len() - 3;
        // A footer is made again of the records.
        assert_eq!(report.is_sound(), is_footer, "byte {place}: {report:?}");
        if !is_footer {
            assert!(
                report
                    .problems
                    .iter()
                    .any(|problem| problem.file == packs[0])
            );
            let hit = |problem: &Problem| problem.keys.contains(&(NS, key_of("a")));
            assert!(report.problems.iter().any(hit), "{report:?}");
        }
    }
    for place in (0..first.len()).step_by(61) {
        let mut turned = first.clone();
        turned[place] ^= 1 << (place % 8);
        std::fs::write(&packs[0], turned).unwrap();
        let report = check(directory.path(), &mut |_| {}).unwrap();
        let named = report
            .problems
            .iter()
            .any(|problem| problem.file == packs[0]);
        assert!(named, "byte {place} of {}: {report:?}", first.len());
    }
    std::fs::write(&packs[0], first).unwrap();
    std::fs::remove_file(&packs[1]).unwrap();
    let report = check(directory.path(), &mut |_| {}).unwrap();
    assert!(report.problems.iter().all(|problem| problem.key_count == 1));
    assert!(!report.is_sound());
}

#[test]
fn backups_hold_the_chunks_and_copy_only_what_is_new() {
    let (directory, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = || StoreOptions {
        index: IndexKind::Memory,
        limits: limits(),
        threads: false,
        ..StoreOptions::default()
    };
    let store = open(directory.path(), options());
    let random = &mut Random::new(31);
    let (first, second) = (noise_of(random, 90 * CHUNK), noise_of(random, 10 * CHUNK));
    set_large(&store, "a", &first, CHUNK);
    let target = copies.path().join("backup");
    let made = || backup(&RealDisk, directory.path(), &target, &mut |_| {}).unwrap();
    made();
    set_large(&store, "b", &second, CHUNK);
    let again = made();
    assert!(again.reused_bytes > 40 << 10, "{again:?}");
    let restored = copies.path().join("restored");
    restore(&RealDisk, &target, &restored, &mut |_| {}).unwrap();
    let copy = Store::open(&restored, options()).unwrap();
    assert_eq!(get_large(&copy, NS, "a").unwrap(), first);
    assert_eq!(get_large(&copy, NS, "b").unwrap(), second);
    // What has gone from the store goes from the backup.
    let key = key_of("a");
    execute(&store, Operation::Delete { key }, Durability::Sync).unwrap();
    move_on(&store);
    move_on(&store);
    store.collect_chunks().unwrap();
    made();
    let bytes: u64 = std::fs::read_dir(target.join("packs"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes < 40 << 10, "{bytes} bytes");
    let report = check(&target, &mut |_| {}).unwrap();
    assert!(report.is_intact(), "{:?}", report.problems);
}

#[test]
fn repair_saves_every_chunk_that_is_whole() {
    let (directory, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = || StoreOptions {
        index: IndexKind::Memory,
        limits: limits(),
        threads: false,
        ..StoreOptions::default()
    };
    let store = open(directory.path(), options());
    let random = &mut Random::new(37);
    let (first, second) = (noise_of(random, 10 * CHUNK), noise_of(random, 10 * CHUNK));
    set_large(&store, "a", &first, CHUNK);
    set_large(&store, "b", &second, CHUNK);
    store.close().unwrap();
    drop(store);
    let pack = std::fs::read_dir(directory.path().join("packs"))
        .unwrap()
        .next();
    let pack = pack.unwrap().unwrap().path();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[64 + 80 + 3] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let target = copies.path().join("repaired");
    let report = repair(directory.path(), &target, &[], &mut |_| {}).unwrap();
    assert_eq!(report.losses.len(), 1, "{:?}", report.losses);
    assert_eq!(report.losses[0].file, pack);
    let store = Store::open(&target, options()).unwrap();
    assert_eq!(get_large(&store, NS, "b").unwrap(), second);
    let value = store.get(NS, &key_of("a")).unwrap().unwrap().value;
    assert!(matches!(
        read_large(&store, &value),
        Err(StoreError::Corrupt { .. })
    ));
}

/// The child of the test below: writes and collects until it is killed, and says what was answered.
fn write_until_killed(directory: &std::path::Path) {
    let options = StoreOptions {
        limits: limits(),
        durability: Durability::Buffered,
        ..StoreOptions::default()
    };
    let store = open(directory, options);
    let random = &mut Random::new(u64::from(std::process::id()));
    for step in 0_u64.. {
        let bytes = 1 + random.below(80 * CHUNK as u64) as usize;
        let content = noise_of(&mut Random::new(step), bytes);
        let name = format!("k{}", step % 4);
        set_large(&store, &name, &content, CHUNK);
        set(&store, "filler", &"x".repeat(2000));
        if step % 16 == 15 {
            store.collect_chunks().unwrap();
        }
        let line = format!("{step} {bytes}\n");
        std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).unwrap();
    }
}

/// A process is killed with SIGKILL; each time its key's last answered content, or one written after
/// it, is there whole.
#[test]
fn process_that_is_killed_while_it_writes_and_collects_loses_no_chunk_it_named() {
    let name = "process_that_is_killed_while_it_writes_and_collects_loses_no_chunk_it_named";
    if let Some(directory) = std::env::var_os("PACKS_TEST_CHILD") {
        return write_until_killed(std::path::Path::new(&directory));
    }
    for round in 0..3 {
        let directory = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("PACKS_TEST_CHILD", directory.path())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut answered = std::collections::BTreeMap::new();
        let told = |line: String| {
            let (step, bytes) = line.split_once(' ')?;
            Some((step.parse::<u64>().ok()?, bytes.parse::<usize>().ok()?))
        };
        let lines = std::io::BufRead::lines(lines).map_while(Result::ok);
        for (step, bytes) in lines.filter_map(told) {
            answered.insert(step, bytes);
            if step == 25 + 20 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let options = StoreOptions {
            limits: limits(),
            ..StoreOptions::default()
        };
        let store = open(directory.path(), options);
        let (last, _) = answered.last_key_value().unwrap();
        for key in 0..4 {
            let found = get_large(&store, NS, &format!("k{key}")).unwrap();
            let acknowledged = (0..=*last).rev().find(|step| step % 4 == key).unwrap();
            // What was begun after it may have been done: it has other content.
            let is_of = |step: u64| found == noise_of(&mut Random::new(step), found.len());
            let is_last = is_of(acknowledged) && found.len() == answered[&acknowledged];
            assert!(
                is_last || is_of(acknowledged + 4),
                "round {round}, key {key}"
            );
        }
        // One that is left while it is made again can be older than what is kept of the log.
        wait_until("the index", || {
            let status = store.status();
            status.index_build.is_none() && status.marks.indexed == status.marks.committed
        });
        store.close().unwrap();
        let report = check(directory.path(), &mut |_| {}).unwrap();
        assert!(report.is_intact(), "{:?}", report.problems);
    }
}
