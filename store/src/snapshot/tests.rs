use std::collections::BTreeMap;

use objsync_proto::ids::NamespaceId;

use super::*;
use crate::disk::RealDisk;
use crate::log::SegmentInfo;
use crate::test_log::{STORE, change, write_segment};
use crate::test_random::Random;

type Model = BTreeMap<(u32, Vec<u8>), (u64, Vec<u8>)>;

struct Rig {
    directory: tempfile::TempDir,
    random: Random,
    model: Model,
    revision: u64,
    next_segment: u64,
}

fn footers(directory: &Path, segments: &[SegmentInfo]) -> Vec<Arc<Footer>> {
    let open = |info: &SegmentInfo| Footer::open_or_write(&RealDisk, directory, STORE, *info);
    segments
        .iter()
        .map(|info| Arc::new(open(info).unwrap()))
        .collect()
}

impl Rig {
    fn new(seed: u64) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            random: Random::new(seed),
            model: Model::new(),
            revision: 0,
            next_segment: 1,
        }
    }

    /// A closed segment of random transactions, which the model follows.
    fn segment(&mut self) -> SegmentInfo {
        let before = self.revision;
        let mut frames = Vec::new();
        for _ in 0..self.random.below(6) {
            let transactions = 1 + self.random.below(4);
            frames.push((0..transactions).map(|_| self.transaction()).collect());
        }
        let id = self.next_segment;
        self.next_segment += 1;
        write_segment(self.directory.path(), id, before, &frames)
    }

    fn transaction(&mut self) -> crate::state::Changes {
        self.revision += 1;
        let mut changes = Vec::new();
        for _ in 0..self.random.below(5) {
            let namespace = 1 + self.random.below(3) as u32;
            let key = self.random.key();
            let value = (self.random.below(3) > 0).then(|| self.random.value());
            changes.push(change(namespace, &key, value.as_deref()));
            match value {
                Some(value) => self.model.insert((namespace, key), (self.revision, value)),
                None => self.model.remove(&(namespace, key)),
            };
        }
        changes
    }

    fn snapshot(&self, previous: Option<&Snapshot>, segments: &[SegmentInfo]) -> Snapshot {
        let system = format!("system state at {}", self.revision);
        let footers = footers(self.directory.path(), segments);
        write(&SnapshotPlan {
            disk: &RealDisk,
            directory: self.directory.path(),
            store: STORE,
            previous,
            footers: &footers,
            system: system.as_bytes(),
            is_stopped: &|| false,
        })
        .unwrap()
    }

    fn assert_is_model(&self, snapshot: &Snapshot) {
        assert_eq!(snapshot.revision(), Revision(self.revision));
        let found: Model = snapshot
            .table()
            .iter()
            .map(Result::unwrap)
            .filter(|entry| entry.section != Section::SYSTEM)
            .map(|entry| {
                let key = (entry.section.namespace.0, entry.key.to_vec());
                (key, (entry.revision.0, entry.payload.to_vec()))
            })
            .collect();
        assert_eq!(found, self.model);
        let system = format!("system state at {}", self.revision);
        assert_eq!(snapshot.system().unwrap(), system.as_bytes());
    }
}

#[test]
fn each_snapshot_merged_from_the_one_before_is_the_state_of_the_model() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut rig = Rig::new(seed);
        let mut previous: Option<Snapshot> = None;
        for _ in 0..6 {
            let count = 1 + rig.random.below(4);
            let segments: Vec<_> = (0..count).map(|_| rig.segment()).collect();
            if rig.revision
                == previous
                    .as_ref()
                    .map_or(0, |snapshot| snapshot.revision().0)
            {
                continue;
            }
            let snapshot = rig.snapshot(previous.as_ref(), &segments);
            rig.assert_is_model(&snapshot);
            assert_eq!(snapshot.segment(), segments.last().unwrap().id);
            previous = Some(snapshot);
        }
    }
}

#[test]
fn snapshot_is_found_again_under_its_revision() {
    let mut rig = Rig::new(1);
    let segments = [rig.segment(), rig.segment()];
    let made = rig.snapshot(None, &segments);
    let find = |revision| Snapshots::find(Arc::new(RealDisk), rig.directory.path(), &[revision]);
    let open = find(made.revision()).unwrap();
    assert_eq!(open.list(), [made.info()]);
    rig.assert_is_model(&open.newest().unwrap().unwrap());
    assert_eq!(open.bytes(), made.bytes());
    open.forget(made.revision());
    assert!(open.newest().unwrap().is_none());
    let other = find(Revision(1 << 40));
    assert!(other.is_err(), "one that the manifest names must be there");
}

#[test]
fn system_section_larger_than_a_piece_comes_back_whole() {
    let mut rig = Rig::new(2);
    let segments = [rig.segment(), rig.segment()];
    let system: Vec<u8> = (0..SYSTEM_PIECE_BYTES * 2 + 5)
        .map(|i| (i / 1000) as u8)
        .collect();
    let snapshot = write(&SnapshotPlan {
        disk: &RealDisk,
        directory: rig.directory.path(),
        store: STORE,
        previous: None,
        footers: &footers(rig.directory.path(), &segments),
        system: &system,
        is_stopped: &|| false,
    })
    .unwrap();
    assert!(snapshot.system().unwrap() == system);
    let section = Section::dict(NamespaceId(1));
    let ((_, key), (_, value)) = rig.model.iter().find(|((n, _), _)| *n == 1).unwrap();
    let entry = snapshot.table().get(section, key).unwrap().unwrap();
    assert_eq!(entry.payload, value);
}

#[test]
fn damaged_segment_makes_no_footer() {
    let mut rig = Rig::new(3);
    let info = rig.segment();
    let path = crate::log::segment_path(rig.directory.path(), info.id);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let made = Footer::open_or_write(&RealDisk, rig.directory.path(), STORE, info);
    assert!(matches!(made.map(|_| ()), Err(StoreError::Corrupt { .. })));
    assert!(!crate::footer::footer_path(rig.directory.path(), info.id).exists());
}
