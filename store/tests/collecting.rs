//! Chunks while something else goes on: a collection beside uploads, a disk that is full or fails,
//! values made to be costly, and nodes that are damaged.
//!
//! Method: packs of some KiB; a disk that lets the test act in the midst of a call.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

mod harness;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use harness::disk::{Call, Planned, SimDisk};
use harness::hooked::{HookedDisk, Moment};
use harness::large::*;
use harness::random::Random;
use harness::*;
use objsync_proto::chunk::record::CheckedChunk;
use objsync_proto::chunk::{Child, ChunkKind, Cutter, Node, Root};
use objsync_proto::ids::ChunkId;
use objsync_proto::limits::{NODE_CHILDREN_MAX, ROOT_CHILDREN_MAX};
use objsync_proto::operation::Outcome;
use objsync_store::{Step, Store, StoreError, StoreLimits, StoreOptions};

fn hooked(disk: &HookedDisk) -> StoreOptions {
    StoreOptions {
        disk: Arc::new(disk.clone()),
        ..options(&disk.disk)
    }
}

/// A store on a disk that can be acted in, and the directory it is in.
fn open_hooked() -> (tempfile::TempDir, HookedDisk, Store) {
    let (directory, disk) = (tempfile::tempdir().unwrap(), HookedDisk::default());
    let store = open(directory.path(), hooked(&disk));
    (directory, disk, store)
}

/// A program was killed in the midst of a large value: its chunks are there, and nothing names them.
/// While a collection runs the value is written anew: only its nodes are stored, and the chunks below
/// them are found to be there. Once the write is answered nothing but the new nodes names them.
#[test]
fn node_that_is_stored_while_a_collection_runs_keeps_the_chunks_below_it() {
    let (_directory, disk, store) = open_hooked();
    let content = noise_of(&mut Random::new(1), 70 * CHUNK);
    let (value, chunks) = cut(&content, CHUNK);
    let leaves = chunks.iter().filter(|chunk| is_leaf(chunk)).cloned();
    let leaves: Vec<_> = leaves.collect();
    store.chunks().put(&store.chunks().pins(), &leaves).unwrap();
    let writer = store.clone();
    disk.at(Moment::OpenToRead, ".seg", move || {
        let pins = writer.chunks().pins();
        let answer = write_large(&writer, &pins, put_in(NS, "a", &value), &chunks).unwrap();
        assert_eq!(answer.outcome, Ok(Outcome::Done));
    });
    store.collect_chunks().unwrap();
    assert_eq!(get_large(&store, NS, "a").unwrap(), content);
}

/// A value of 64 x 1024 x 1024 places, all of them one byte, which is three records. Whoever walks it
/// for each place reads a node 65,600 times.
#[test]
fn value_that_lists_the_same_node_over_and_over_costs_one_read_of_each_node() {
    let (_directory, disk, store) = open_hooked();
    let (_, chunks) = cut(b"x", CHUNK);
    let pins = store.chunks().pins();
    let of = |id, bytes| Child { id, bytes };
    let below = Node::new(1, vec![of(chunks[0].id(), 1); NODE_CHILDREN_MAX]).unwrap();
    let (below, below_bytes) = (CheckedChunk::node(&below), below.bytes());
    let above = Node::new(2, vec![of(below.id(), below_bytes); NODE_CHILDREN_MAX]).unwrap();
    let (above, above_bytes) = (CheckedChunk::node(&above), above.bytes());
    let root = vec![of(above.id(), above_bytes); ROOT_CHILDREN_MAX];
    let root = Root::new(Cutter::default(), 2, root).unwrap();
    let ids = [chunks[0].id(), below.id(), above.id()];
    store.chunks().put(&pins, &chunks).unwrap();
    store.chunks().put(&pins, &[below, above]).unwrap();

    let before = disk.disk.call_count();
    let mut found = BTreeSet::new();
    let mut each = |id| {
        found.insert(id);
        true
    };
    store.chunks().ids_below(&root, &mut each).unwrap();
    assert_eq!(found, BTreeSet::from(ids));
    assert_eq!(pins.count(), 3);
    store.chunks().release(&pins, &root).unwrap();
    assert_eq!(pins.count(), 0);
    let calls = disk.disk.call_count() - before;
    assert!(calls < 50, "{calls} calls to the disk for two nodes");
}

/// The sync of a pack fails, and the system reports that once only: a second sync of the same file,
/// begun before the first one's caller has done anything, succeeds and means nothing.
#[test]
fn sync_beside_one_that_failed_does_not_count_what_that_one_lost() {
    for seed in 0..4 {
        let (directory, disk) = (tempfile::tempdir().unwrap(), HookedDisk::seeded(seed));
        let store = open(directory.path(), hooked(&disk));
        let content = noise_of(&mut Random::new(seed), 20 * CHUNK);
        let (value, chunks) = cut(&content, CHUNK);
        let pins = store.chunks().pins();
        store.chunks().put(&pins, &chunks).unwrap();
        let (answer, answered) = std::sync::mpsc::channel();
        let writer = store.clone();
        disk.at(Moment::FailedSync, ".pack", move || {
            let (done, is_done) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                answer
                    .send(writer.execute(put_in(NS, "a", &value)))
                    .unwrap();
                // Nobody waits any more if it had to wait for the first one's caller.
                let _ = done.send(());
            });
            let _ = is_done.recv_timeout(Duration::from_millis(100));
        });
        disk.disk.plan(Planned::next(Call::Sync));
        assert!(store.chunks().sync().is_err());
        let answer = answered.recv().unwrap();
        let is_acknowledged = answer.is_ok_and(|answer| answer.outcome == Ok(Outcome::Done));
        store.kill();
        drop((store, pins));
        disk.disk.cut_power(&mut Random::new(seed));
        let store = Store::open(directory.path(), hooked(&disk)).unwrap();
        let found = get_large(&store, NS, "a");
        assert_eq!(found, is_acknowledged.then_some(content), "seed {seed}");
    }
}

/// The program ends after a sync of a pack has failed, and the machine does not: what the disk does
/// not have is in the system's memory still, and reads as if it were there.
#[test]
fn what_a_failed_sync_lost_is_not_there_for_who_opens_the_store_next() {
    for seed in 0..4 {
        let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::seeded(seed));
        let store = open(directory.path(), options(&disk));
        let random = &mut Random::new(seed);
        let (first, content) = (noise_of(random, 5 * CHUNK), noise_of(random, 20 * CHUNK));
        set_large(&store, "first", &first, CHUNK);
        let (value, chunks) = cut(&content, CHUNK);
        store.chunks().put(&store.chunks().pins(), &chunks).unwrap();
        disk.plan(Planned::next(Call::Sync));
        assert!(store.chunks().sync().is_err());
        store.kill();
        drop(store);
        let store = Store::open(directory.path(), options(&disk)).unwrap();
        // Whoever writes it now sends what is missing.
        let pins = store.chunks().pins();
        let answer = write_large(&store, &pins, put_in(NS, "a", &value), &chunks).unwrap();
        assert_eq!(answer.outcome, Ok(Outcome::Done));
        store.kill();
        drop((store, pins));
        disk.cut_power(random);
        let store = Store::open(directory.path(), options(&disk)).unwrap();
        assert_eq!(
            get_large(&store, NS, "first").unwrap(),
            first,
            "seed {seed}"
        );
        assert_eq!(get_large(&store, NS, "a").unwrap(), content, "seed {seed}");
    }
}

/// Fills packs with so many chunks that live and so many that nothing names, in turn.
fn fill(store: &Store, packs: u64, live: usize, dead: usize) -> Vec<Vec<u8>> {
    let contents = (0..packs).map(|pack| {
        let random = &mut Random::new(100 + pack);
        let content = noise_of(random, live * CHUNK);
        set_large(store, &format!("k{pack}"), &content, CHUNK);
        put_dead(store, 1000 + pack, dead);
        content
    });
    contents.collect()
}

/// Chunks that nothing names.
fn put_dead(store: &Store, seed: u64, count: usize) {
    let (_, chunks) = cut(&noise_of(&mut Random::new(seed), count * CHUNK), CHUNK);
    let chunks = chunks.into_iter().filter(is_leaf).collect::<Vec<_>>();
    store.chunks().put(&store.chunks().pins(), &chunks).unwrap();
}

fn is_leaf(chunk: &CheckedChunk) -> bool {
    chunk.kind() == ChunkKind::Chunk
}

fn assert_there(store: &Store, contents: &[Vec<u8>]) {
    for (pack, content) in contents.iter().enumerate() {
        let found = get_large(store, NS, &format!("k{pack}")).unwrap();
        assert!(found == *content, "k{pack} is another");
    }
}

/// What is wholly dead goes before anything is written: neither the footer of the open pack nor the
/// copies of what lives elsewhere have room before.
#[test]
fn disk_without_any_room_gets_it_back_from_packs_that_are_dead() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
    let store = open(directory.path(), options(&disk));
    let contents = fill(&store, 3, 10, 80);
    store.chunks().sync().unwrap();
    let full = store.chunks().status();
    disk.limit(Some(disk.bytes()));
    let collected = store.collect_chunks().unwrap();
    assert!(collected.removed_pack_count >= 7, "{collected:?}");
    let left = store.chunks().status();
    assert!(left.pack_bytes < full.pack_bytes / 4, "{left:?}");
    assert_there(&store, &contents);
    store.close().unwrap();
    drop(store);
    disk.recover();
    assert_there(
        &Store::open(directory.path(), options(&disk)).unwrap(),
        &contents,
    );
}

#[test]
fn collection_takes_the_room_of_one_pack_and_not_of_all_that_lives() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
    let store = open(directory.path(), options(&disk));
    let contents = fill(&store, 8, 10, 20);
    store.chunks().sync().unwrap();
    // 80 chunks live, of which 30 would have room.
    disk.limit(Some(disk.bytes() + (24 << 10)));
    let collected = store.collect_chunks().unwrap();
    assert!(collected.removed_pack_count >= 7, "{collected:?}");
    assert!(collected.copied_bytes >= 50 * CHUNK as u64, "{collected:?}");
    assert_there(&store, &contents);
}

/// However the disk fills, what was copied before it did needs no second copy, and nothing is lost.
#[test]
fn collections_on_a_disk_that_fills_anywhere_lose_nothing_and_end() {
    for room in (0..40 << 10).step_by(1500) {
        let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
        let store = open(directory.path(), options(&disk));
        let contents = fill(&store, 6, 12, 18);
        store.chunks().sync().unwrap();
        let dead_bytes = 6 * 18 * CHUNK as u64;
        let before = disk.bytes();
        disk.limit(Some(before + room));
        let _ = store.collect_chunks();
        for _ in 0..20 {
            let _ = store.step(Step::Keep);
        }
        assert_there(&store, &contents);
        // Of one pack there must be room for what lives in it.
        if room >= 12 << 10 {
            assert!(disk.bytes() < before - dead_bytes / 2, "room {room}");
        }
        store.kill();
        drop(store);
        disk.recover();
        disk.cut_power(&mut Random::new(room));
        assert_there(
            &Store::open(directory.path(), options(&disk)).unwrap(),
            &contents,
        );
    }
}

#[test]
fn store_with_an_unsealed_pack_opens_though_its_footer_has_no_room() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
    // One pack, with a footer longer than what else is given back as the store opens.
    let options = |disk: &SimDisk| StoreOptions {
        limits: StoreLimits {
            pack_bytes: 4 << 20,
            ..limits()
        },
        ..options(disk)
    };
    let store = open(directory.path(), options(&disk));
    let contents = fill(&store, 1, 20, 3000);
    store.kill();
    drop(store);
    disk.limit(Some(disk.bytes()));
    for _ in 0..2 {
        let store = Store::open(directory.path(), options(&disk)).unwrap();
        assert_there(&store, &contents);
        assert_eq!(store.chunks().status().chunk_count, 3020);
        store.kill();
    }
    disk.recover();
    let store = Store::open(directory.path(), options(&disk)).unwrap();
    assert_there(&store, &contents);
    store.close().unwrap();
}

/// Who asks for ids at random takes no memory for them, and what is there stays as before.
#[test]
fn only_what_is_there_is_kept_for_who_asks_for_it() {
    let (_directory, _disk, store) = open_hooked();
    let (_, chunks) = cut(&noise_of(&mut Random::new(1), 5 * CHUNK), CHUNK);
    store.chunks().put(&store.chunks().pins(), &chunks).unwrap();
    let pins = store.chunks().pins();
    let there: Vec<_> = chunks.iter().map(CheckedChunk::id).collect();
    let absent: Vec<_> = (0..100).map(|number| ChunkId([number; 32])).collect();
    let asked = [there.clone(), absent.clone()].concat();
    assert_eq!(store.chunks().missing(&pins, &asked), absent);
    assert_eq!(pins.count(), there.len());
    store.collect_chunks().unwrap();
    assert_eq!(store.chunks().missing(&pins, &there), []);
    drop(pins);
    store.collect_chunks().unwrap();
    assert_eq!(
        store.chunks().missing(&store.chunks().pins(), &there),
        there
    );
}

/// Turns a bit of the payload of the first node that lies in a pack.
fn damage_a_node(disk: &SimDisk) {
    let find = |bytes: &[u8]| bytes.windows(5).position(|window| window == b"chnk\x01");
    let packs = disk.files(".pack");
    let found = packs
        .iter()
        .find_map(|path| Some((path, find(&disk.read(path)?)?)));
    let (path, offset) = found.expect("a node");
    // A record's payload follows on 80 bytes.
    disk.turn_bit(path, (offset as u64 + 100) * 8);
}

/// What lies below it cannot be told: all that was there is kept, and all that comes later is
/// collected as ever, also after what was kept was copied. The same content heals it.
#[test]
fn node_that_is_damaged_keeps_what_was_there_and_does_not_end_collection() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
    let store = open(directory.path(), options(&disk));
    let content = noise_of(&mut Random::new(1), 80 * CHUNK);
    set_large(&store, "a", &content, CHUNK);
    let (value, chunks) = cut(&content, CHUNK);
    let leaves = chunks.iter().filter(|chunk| is_leaf(chunk));
    let leaves: Vec<_> = leaves.map(CheckedChunk::id).collect();
    put_dead(&store, 2, 40);
    store.chunks().sync().unwrap();
    damage_a_node(&disk);
    assert_eq!(store.collect_chunks().unwrap().dead_count, 0);
    assert_eq!(store.chunks().status().unread_node_count, 1);
    for round in 3..6 {
        put_dead(&store, round, 120);
        let collected = store.collect_chunks().unwrap();
        assert_eq!(collected.dead_count, 120, "of each round");
        assert!(collected.removed_pack_count >= 3, "{collected:?}");
    }
    let pins = store.chunks().pins();
    assert_eq!(store.chunks().missing(&pins, &leaves), []);
    write_large(&store, &pins, put_in(NS, "a", &value), &chunks).unwrap();
    drop(pins);
    assert_eq!(store.collect_chunks().unwrap().dead_count, 40);
    assert_eq!(store.chunks().status().unread_node_count, 0);
    assert_eq!(get_large(&store, NS, "a").unwrap(), content);
}

/// Once for each time that it is due, and not each time that the store looks after itself.
#[test]
fn collection_that_fails_is_tried_again_only_when_the_next_is_due() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
    let options = StoreOptions {
        limits: StoreLimits {
            pack_bytes: 4 << 20,
            ..limits()
        },
        ..options(&disk)
    };
    let store = open(directory.path(), options);
    for step in 0..20 {
        set(&store, &format!("k{step}"), &"x".repeat(3000));
    }
    store.step(Step::Keep).unwrap();
    let (_, chunks) = cut(&noise_of(&mut Random::new(1), 17 << 20), 1 << 20);
    store.chunks().put(&store.chunks().pins(), &chunks).unwrap();
    let snapshot = disk.files(".snap").pop().unwrap();
    let bits = disk.read(&snapshot).unwrap().len() as u64 * 8;
    disk.turn_bit(&snapshot, bits / 2);
    let first = store.step(Step::Keep).unwrap_err();
    assert!(matches!(first, StoreError::Corrupt { .. }), "{first}");
    store.step(Step::Keep).unwrap();
    assert!(
        store.collect_chunks().is_err(),
        "who asks for it hears of it"
    );
}

/// The oldest snapshot is about to be read when the next one takes its place: what only the one that
/// went named, the new one names.
#[test]
fn snapshot_that_takes_the_place_of_one_while_a_collection_runs_is_read_too() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), HookedDisk::default());
    let options = StoreOptions {
        limits: StoreLimits {
            retention_bytes: 0,
            ..limits()
        },
        ..hooked(&disk)
    };
    let store = open(directory.path(), options);
    let content = noise_of(&mut Random::new(1), 20 * CHUNK);
    set_large(&store, "a", &content, CHUNK);
    let write_on = || {
        for step in 0..20 {
            set(&store, "filler", &format!("{step}{}", "x".repeat(3000)));
        }
    };
    write_on();
    store.step(Step::Keep).unwrap();
    write_on();
    let before = disk.disk.files(".snap");
    assert_eq!(before.len(), 1);
    let (keeper, tools) = (store.clone(), disk.clone());
    let (keeping, kept) = std::sync::mpsc::channel();
    disk.at(Moment::OpenToRead, ".snap", move || {
        let (gone, is_gone) = std::sync::mpsc::channel();
        tools.at(Moment::Removed, ".snap", move || gone.send(()).unwrap());
        // It makes the snapshot, trims, and then waits for the collection to end.
        let keeper = std::thread::spawn(move || keeper.step(Step::Keep));
        is_gone.recv_timeout(Duration::from_secs(60)).unwrap();
        keeping.send(keeper).unwrap();
    });
    store.collect_chunks().unwrap();
    kept.recv().unwrap().join().unwrap().unwrap();
    assert_ne!(disk.disk.files(".snap"), before);
    assert_eq!(get_large(&store, NS, "a").unwrap(), content);
}

/// A disk that does not answer says nothing of what lies on it.
#[test]
fn chunk_whose_read_fails_once_as_it_is_copied_is_there_as_before() {
    for after in (0..120).step_by(5) {
        let (directory, disk) = (tempfile::tempdir().unwrap(), SimDisk::new());
        let store = open(directory.path(), options(&disk));
        let contents = fill(&store, 3, 10, 20);
        store.chunks().sync().unwrap();
        disk.plan(Planned {
            after,
            ..Planned::next(Call::Read)
        });
        let _ = store.collect_chunks();
        disk.recover();
        for content in &contents {
            let (_, chunks) = cut(content, CHUNK);
            let ids: Vec<_> = chunks.iter().map(CheckedChunk::id).collect();
            let missing = store.chunks().missing(&store.chunks().pins(), &ids);
            assert_eq!(missing, [], "after {after} reads");
        }
        // Its pack goes the next time.
        store.collect_chunks().unwrap();
        store.step(Step::Keep).unwrap();
        let left = store.chunks().status();
        assert!(left.pack_bytes < 30 << 10, "after {after} reads: {left:?}");
        assert_there(&store, &contents);
    }
}
