//! Random work on recent map, index and readers, compared with a map that keeps every version.

mod past;

use std::collections::BTreeMap;

use objsync_proto::ids::{Epoch, EpochName, Position, StoreId};
use objsync_proto::wire::{Entry, KeyRange};

use super::*;
use crate::options::IndexKind;
use crate::reader::Reader;
use crate::test_random::Random;

use past::{BrokenIndex, Past, StillClock, StoppingIndex};

struct Rig {
    directory: tempfile::TempDir,
    kind: IndexKind,
    past: Arc<Past>,
    clock: Arc<StillClock>,
    state: Option<Arc<DictState>>,
    readers: Vec<Reader>,
    random: Random,
    applied: u64,
    committed: u64,
    durable: u64,
}

impl Rig {
    fn new(kind: IndexKind, seed: u64) -> Self {
        let mut rig = Self {
            directory: tempfile::tempdir().unwrap(),
            kind,
            past: Arc::default(),
            clock: Arc::default(),
            state: None,
            readers: Vec::new(),
            random: Random::new(seed),
            applied: 0,
            committed: 0,
            durable: 0,
        };
        rig.reopen();
        rig
    }

    fn options(&self) -> StateOptions {
        StateOptions {
            home: self
                .kind
                .home(self.directory.path(), &StoreLimits::default()),
            limits: StoreLimits {
                recent_bytes_max: 100_000,
                ..StoreLimits::default()
            },
            clock: Arc::clone(&self.clock) as _,
            history: Arc::clone(&self.past) as _,
        }
    }

    fn reopen(&mut self) {
        self.readers.clear();
        self.state = None;
        let state = DictState::open(self.options(), Revision(self.applied)).unwrap();
        self.state = Some(Arc::new(state));
        (self.committed, self.durable) = (self.applied, self.applied);
    }

    /// As a clean end does.
    fn close(&mut self) {
        self.readers.clear();
        if let Some(state) = self.state.take() {
            state.release_index(true);
        }
    }

    fn build(&self) {
        self.state().build_index().unwrap();
        assert!(!self.state().stands_in());
    }

    fn state(&self) -> &Arc<DictState> {
        self.state.as_ref().unwrap()
    }

    fn transact(&mut self) {
        self.applied += 1 + self.random.below(2);
        for _ in 0..self.random.below(4) {
            let namespace = 1 + self.random.below(2) as u32;
            let key = self.random.key();
            let value = (self.random.below(3) > 0).then(|| self.random.value());
            self.put(namespace, &key, value);
        }
    }

    /// A change of the transaction `applied`.
    fn put(&self, namespace: u32, key: &[u8], value: Option<Vec<u8>>) {
        self.state().apply(
            Revision(self.applied),
            NamespaceId(namespace),
            &Bytes::copy_from_slice(key),
            value.clone().map(Bytes::from),
        );
        let mut model = lock(&self.past.model);
        let versions = model.entry((namespace, key.to_vec())).or_default();
        versions.retain(|(revision, _)| *revision != self.applied);
        versions.push((self.applied, value));
    }

    fn commit(&mut self) {
        self.committed += self.random.below(self.applied - self.committed + 1);
        self.durable = self.durable.max(self.random.below(self.committed + 1));
        self.state().publish(Revision(self.committed));
    }

    fn pin(&mut self) {
        let position = |revision| Position {
            store: StoreId([0; 16]),
            epoch: Epoch {
                number: 1,
                name: EpochName([0; 16]),
            },
            revision,
        };
        let reader = Reader::new((Arc::clone(self.state()), None), position);
        assert_eq!(reader.position().revision.0, self.committed);
        self.readers.push(reader);
    }

    fn read(&mut self) {
        let key = self.random.key();
        let namespace = 1 + self.random.below(2) as u32;
        let id = NamespaceId(namespace);
        let committed = self.past.at(namespace, self.committed);
        assert_eq!(
            self.state().get(id, &key).unwrap().as_ref(),
            committed.get(&key)
        );
        let latest = self.past.at(namespace, self.applied);
        assert_eq!(
            self.state().get_latest(id, &key).unwrap().as_ref(),
            latest.get(&key)
        );
        assert_eq!(self.state().count(id).unwrap(), committed.len() as u64);
        if !self.readers.is_empty() {
            let place = self.random.below(self.readers.len() as u64) as usize;
            let reader = self.readers.swap_remove(place);
            let pinned = reader.position().revision.0;
            let then = self.past.at(namespace, pinned);
            match reader.get(id, &key) {
                Ok(found) => assert_eq!(found.as_ref(), then.get(&key)),
                // An index made again begins at the snapshot.
                Err(StoreError::SnapshotExpired { .. }) => {
                    assert!(pinned < self.past.snapshot.load(Ordering::SeqCst));
                    return;
                }
                Err(error) => panic!("{error}"),
            }
            self.check_range(&reader, id, then);
        }
    }

    fn check_range(
        &mut self,
        reader: &Reader,
        namespace: NamespaceId,
        then: BTreeMap<Vec<u8>, Stored>,
    ) {
        let range = self.random.range();
        let reverse = self.random.below(2) == 0;
        let bytes_max = self.random.below(200) as usize;
        let mut expected: Vec<_> = then
            .into_iter()
            .filter(|(k, _)| range.contains(k))
            .collect();
        if reverse {
            expected.reverse();
        }
        let found = match reader.page(namespace, &range, reverse, 0) {
            // The get did not need the index, this did.
            Err(StoreError::SnapshotExpired { .. }) => return,
            _ => read_all(reader, namespace, range, reverse, bytes_max),
        };
        let found: Vec<_> = found
            .into_iter()
            .map(
                |Entry {
                     key,
                     value,
                     revision,
                 }| (key.to_vec(), Stored { value, revision }),
            )
            .collect();
        assert_eq!(found, expected);
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=5 => self.transact(),
            6..=8 => self.commit(),
            9..=11 => drop(self.state().advance(Revision(self.durable)).unwrap()),
            12..=13 => self.pin(),
            14..=18 => self.read(),
            _ => self.disturb(),
        }
    }

    fn disturb(&mut self) {
        match self.random.below(6) {
            0 => self.reopen(),
            4 | 5 => self.build(),
            1 => *self.state().index.write().unwrap() = Arc::new(BrokenIndex),
            2 => self.past.snapshot.store(self.durable, Ordering::SeqCst),
            _ => {
                self.past.name.fetch_add(1, Ordering::SeqCst);
                self.reopen();
            }
        }
    }
}

fn read_all(
    reader: &Reader,
    namespace: NamespaceId,
    mut range: KeyRange,
    reverse: bool,
    bytes_max: usize,
) -> Vec<Entry> {
    let mut all = Vec::new();
    loop {
        let page = reader.page(namespace, &range, reverse, bytes_max).unwrap();
        let Some(last) = page.last() else {
            return all;
        };
        if reverse {
            range.end = Some(last.key.clone());
        } else {
            range.start = [&last.key[..], &[0]].concat().into();
        }
        all.extend(page);
    }
}

fn random_work_agrees_with_the_model(kind: &IndexKind, seeds: std::ops::Range<u64>, steps: u64) {
    for seed in seeds {
        println!("seed {seed}");
        let mut rig = Rig::new(kind.clone(), seed);
        for _ in 0..steps {
            rig.step();
        }
    }
}

#[test]
fn random_work_over_a_memory_index_agrees_with_the_model() {
    random_work_agrees_with_the_model(&IndexKind::Memory, 0..30, 600);
}

#[test]
fn random_work_over_sled_agrees_with_the_model() {
    random_work_agrees_with_the_model(&IndexKind::Sled, 100..104, 300);
}

/// Content that a stand-in had, an index has taken over, and all of it is in the index.
fn filled_rig(kind: IndexKind) -> Rig {
    let mut rig = Rig::new(kind, 1);
    for _ in 0..200 {
        rig.transact();
    }
    (rig.committed, rig.durable) = (rig.applied, rig.applied);
    rig.state().publish(Revision(rig.committed));
    rig.build();
    while rig.state().advance(Revision(rig.durable)).unwrap() {}
    rig
}

fn assert_content_is_whole(rig: &mut Rig) {
    for namespace in [1, 2] {
        rig.pin();
        let reader = rig.readers.pop().unwrap();
        let then = rig.past.at(namespace, rig.committed);
        let all = read_all(
            &reader,
            NamespaceId(namespace),
            KeyRange::default(),
            false,
            1000,
        );
        assert!(!all.is_empty());
        let found: BTreeMap<_, _> = all
            .into_iter()
            .map(
                |Entry {
                     key,
                     value,
                     revision,
                 }| (key.to_vec(), Stored { value, revision }),
            )
            .collect();
        assert_eq!(found, then);
        assert_eq!(
            rig.state().count(NamespaceId(namespace)).unwrap(),
            then.len() as u64
        );
    }
}

/// How often an index was filled from a snapshot.
fn loads(rig: &Rig) -> u64 {
    rig.past.loads.load(Ordering::SeqCst)
}

#[test]
fn clean_reopening_uses_the_index_that_is_there() {
    let mut rig = filled_rig(IndexKind::Sled);
    let before = (loads(&rig), rig.past.comparisons.load(Ordering::SeqCst));
    rig.close();
    rig.reopen();
    assert_content_is_whole(&mut rig);
    rig.build();
    let after = (loads(&rig), rig.past.comparisons.load(Ordering::SeqCst));
    assert_eq!(after, before, "neither made again nor compared");
    assert!(rig.state().is_indexed(), "and nothing had to be replayed");
    assert_content_is_whole(&mut rig);
}

#[test]
fn index_of_a_killed_owner_is_compared_and_used() {
    let mut rig = filled_rig(IndexKind::Sled);
    let before = loads(&rig);
    rig.reopen();
    rig.build();
    assert_eq!(loads(&rig), before, "not made again");
    assert_eq!(rig.past.comparisons.load(Ordering::SeqCst), 1);
    assert_content_is_whole(&mut rig);
}

#[test]
fn index_of_a_killed_owner_that_differs_answers_nobody() {
    for is_missing in [false, true] {
        let mut rig = filled_rig(IndexKind::Sled);
        let before = loads(&rig);
        let (key, entry) = rig.past.at(1, rig.committed).pop_first().unwrap();
        let index = Arc::clone(&*rig.state().index.read().unwrap());
        let wrong = crate::index::stored(b"another value", entry.revision.0);
        index
            .apply(&crate::index::IndexBatch {
                changes: vec![crate::index::IndexChange {
                    namespace: NamespaceId(1),
                    key: key.into(),
                    entry: (!is_missing).then_some(wrong),
                }],
                counts: Vec::new(),
                mark: index.mark().unwrap(),
            })
            .unwrap();
        drop(index);
        rig.reopen();
        assert_content_is_whole(&mut rig);
        rig.build();
        assert!(loads(&rig) > before, "made again");
        assert_content_is_whole(&mut rig);
        assert!(rig.directory.path().join("index.failed").exists());
    }
}

#[test]
fn index_that_was_deleted_is_made_again() {
    let mut rig = filled_rig(IndexKind::Sled);
    rig.past.snapshot.store(rig.durable / 2, Ordering::SeqCst);
    rig.state = None;
    std::fs::remove_dir_all(rig.directory.path().join("index")).unwrap();
    rig.reopen();
    assert_content_is_whole(&mut rig);
    rig.build();
    assert_content_is_whole(&mut rig);
}

#[test]
fn index_of_another_history_is_made_again_and_the_old_one_set_aside() {
    let mut rig = filled_rig(IndexKind::Sled);
    rig.past.name.fetch_add(1, Ordering::SeqCst);
    rig.reopen();
    rig.build();
    assert_content_is_whole(&mut rig);
    assert!(rig.directory.path().join("index.failed").exists());
}

/// Writers go on over a stand-in, which follows once it has to.
#[test]
fn stand_in_follows_the_log_when_the_recent_map_fills() {
    let mut rig = Rig::new(IndexKind::Memory, 3);
    for _ in 0..40 {
        while !rig.state().is_filling() {
            rig.transact();
        }
        (rig.committed, rig.durable) = (rig.applied, rig.applied);
        rig.state().publish(Revision(rig.committed));
        assert_content_is_whole(&mut rig);
        assert!(rig.state().advance(Revision(rig.durable)).unwrap());
        assert!(rig.state().is_indexed());
        assert_content_is_whole(&mut rig);
    }
    assert!(rig.state().stands_in());
    rig.build();
    assert_content_is_whole(&mut rig);
}

#[test]
fn damaged_files_of_the_index_are_replaced() {
    for seed in 0..6 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let mut rig = filled_rig(IndexKind::Sled);
        rig.close();
        let file = rig.directory.path().join("index/db");
        let mut bytes = std::fs::read(&file).unwrap();
        for _ in 0..200 {
            let place = random.below(bytes.len() as u64) as usize;
            bytes[place] ^= 1 + random.below(255) as u8;
        }
        std::fs::write(&file, &bytes).unwrap();
        rig.reopen();
        assert_content_is_whole(&mut rig);
        rig.build();
        assert_content_is_whole(&mut rig);
    }
}

#[test]
fn index_that_fails_while_open_is_made_again_under_readers_and_writers() {
    let mut rig = filled_rig(IndexKind::Memory);
    rig.transact();
    *rig.state().index.write().unwrap() = Arc::new(BrokenIndex);
    rig.committed = rig.applied;
    rig.state().publish(Revision(rig.committed));
    assert!(rig.state().advance(Revision(rig.committed)).unwrap());
    assert!(rig.state().stands_in());
    assert_content_is_whole(&mut rig);
    rig.build();
    assert_content_is_whole(&mut rig);
}

#[test]
fn reader_expires_after_its_time_once_the_index_passes() {
    let mut rig = filled_rig(IndexKind::Memory);
    rig.pin();
    let reader = rig.readers.pop().unwrap();
    let pinned = rig.committed;
    rig.transact();
    rig.transact();
    rig.committed = rig.applied;
    rig.state().publish(Revision(rig.committed));
    while rig.state().advance(Revision(rig.committed)).unwrap() {}
    assert_eq!(rig.state().indexed().0, pinned, "the pin holds");
    assert!(reader.get(NamespaceId(1), b"a").is_ok());
    rig.clock.0.store(60_001, Ordering::SeqCst);
    while rig.state().advance(Revision(rig.committed)).unwrap() {}
    assert!(rig.state().is_indexed());
    let expired = StoreError::SnapshotExpired { revision: pinned }.to_string();
    assert_eq!(
        reader.get(NamespaceId(1), b"a").unwrap_err().to_string(),
        expired
    );
    let page = reader.page(NamespaceId(1), &KeyRange::default(), false, 10);
    assert_eq!(page.unwrap_err().to_string(), expired);
}

#[test]
fn writer_waits_for_room_and_a_reader_in_its_way_expires() {
    let mut rig = filled_rig(IndexKind::Memory);
    rig.pin();
    while !rig.state().is_full() {
        rig.transact();
    }
    rig.committed = rig.applied;
    let state = Arc::clone(rig.state());
    state.publish(Revision(rig.committed));
    let writer = std::thread::spawn({
        let state = Arc::clone(&state);
        move || state.wait_for_room(&|| Ok(()))
    });
    while state.advance(Revision(rig.committed)).unwrap() {}
    writer.join().unwrap().unwrap();
    assert!(rig.readers[0].get(NamespaceId(1), b"a").is_err());
}

#[test]
fn writer_that_waits_for_room_is_told_when_the_store_closes() {
    let mut rig = filled_rig(IndexKind::Memory);
    while !rig.state().is_full() {
        rig.transact();
    }
    let state = Arc::clone(rig.state());
    let writer = std::thread::spawn({
        let state = Arc::clone(&state);
        move || state.wait_for_room(&|| Ok(()))
    });
    state.close();
    assert!(matches!(writer.join().unwrap(), Err(StoreError::Closed)));
}

#[test]
fn writer_that_waits_for_room_is_told_when_writes_are_refused_or_the_index_is_stuck() {
    let mut rig = filled_rig(IndexKind::Memory);
    while !rig.state().is_full() {
        rig.transact();
    }
    let refused = rig.state().wait_for_room(&|| Err(StoreError::Closed));
    assert!(matches!(refused, Err(StoreError::Closed)));
    rig.past.is_gone.store(true, Ordering::SeqCst);
    let index = std::mem::replace(
        &mut *rig.state().index.write().unwrap(),
        Arc::new(BrokenIndex),
    );
    assert!(rig.state().advance(Revision(rig.applied)).is_err());
    let stuck = rig.state().wait_for_room(&|| Ok(()));
    assert!(
        matches!(stuck, Err(StoreError::NotFound { .. })),
        "{stuck:?}"
    );
    *rig.state().index.write().unwrap() = index;
    rig.state().publish(Revision(rig.applied));
    while rig.state().advance(Revision(rig.applied)).unwrap() {}
    rig.state()
        .wait_for_room(&|| Err(StoreError::Closed))
        .unwrap();
}

/// A transaction larger than a batch of the index goes in pieces. What a full disk or a crash
/// between two of them leaves behind must not be counted twice.
#[test]
fn transaction_that_is_half_in_the_index_is_whole_to_readers_and_after_reopening() {
    for is_crash in [false, true] {
        let mut rig = filled_rig(IndexKind::Sled);
        rig.applied += 1;
        for number in 0..3000_u32 {
            let key = number.to_be_bytes();
            let value = (number % 3 > 0).then(|| vec![1]);
            rig.put(1, &key, value);
        }
        rig.committed = rig.applied;
        rig.state().publish(Revision(rig.committed));
        let whole = Arc::clone(&*rig.state().index.read().unwrap());
        let stopping = StoppingIndex::new(Arc::clone(&whole), 1);
        *rig.state().index.write().unwrap() = Arc::new(stopping);
        let stopped = rig.state().advance(Revision(rig.committed));
        assert!(matches!(stopped, Err(StoreError::Closed)));
        assert!(
            whole.contains(NamespaceId(1), &[0, 0, 0, 1]).unwrap(),
            "the first piece"
        );
        assert!(
            !whole
                .contains(NamespaceId(1), &2999_u32.to_be_bytes())
                .unwrap()
        );
        *rig.state().index.write().unwrap() = whole;
        if is_crash {
            let before = loads(&rig);
            rig.reopen();
            rig.build();
            let is_made_again = loads(&rig) > before;
            println!("made again: {is_made_again}");
        }
        assert_content_is_whole(&mut rig);
        while rig.state().advance(Revision(rig.committed)).unwrap() {}
        assert_content_is_whole(&mut rig);
        let counts: BTreeMap<_, _> = rig.state().index().counts().unwrap().into_iter().collect();
        assert_eq!(
            counts[&NamespaceId(1)],
            rig.past.at(1, rig.committed).len() as u64
        );
    }
}
