//! What may go: which segments and snapshots nobody needs any more, and when a snapshot is due.
//!
//! Pure: what there is comes in, what to do comes out.
//!
//! Invariants
//! * A segment goes only if a snapshot that stays covers it: recovery is a snapshot and all
//!   segments after it.
//! * From the oldest snapshot that stays, every later revision can be reached.
//! * What a segment keeps is its own bytes and those put into packs with it: a large value that was
//!   replaced stays as long as the log that names it.
//! * Beside the oldest and the newest, snapshots stay that lie a quarter of the retention's bytes
//!   apart: enough for the oldest to move on, and no more than a few times the live data.

use objsync_proto::ids::Revision;

use crate::log::{SegmentId, SegmentInfo};
use crate::options::StoreLimits;
use crate::snapshot::SnapshotInfo;

/// What may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trim {
    /// Closed segments, oldest first: always the oldest there are.
    pub segments: Vec<SegmentId>,
    /// Snapshots, oldest first.
    pub snapshots: Vec<Revision>,
}

/// Snapshots between the oldest and the newest stay if they are this part of the retention apart.
const SPACING_SHARE: u64 = 4;

/// What may go of `closed` and `snapshots`, both oldest first. Retention ends at whichever comes
/// first, its age or its bytes; the newest snapshot before that end stays, and the log from it on.
#[must_use]
pub fn plan(
    closed: &[SegmentInfo],
    snapshots: &[SnapshotInfo],
    now_ms: u64,
    limits: &StoreLimits,
) -> Trim {
    let base = newest_beyond(closed, now_ms, limits).and_then(|end| {
        let is_before = |snapshot: &SnapshotInfo| snapshot.segment <= end;
        snapshots.iter().rposition(is_before)
    });
    let segments = base.map_or(SegmentId(0), |base| snapshots[base].segment);
    let older = &snapshots[..base.unwrap_or(0)];
    let between = crowded(closed, &snapshots[base.unwrap_or(0)..], limits);
    Trim {
        segments: closed
            .iter()
            .map(|info| info.id)
            .take_while(|id| *id <= segments)
            .collect(),
        snapshots: older
            .iter()
            .chain(between)
            .map(|one| one.revision)
            .collect(),
    }
}

/// The snapshots but the first and the last that follow one that stays too closely.
fn crowded<'a>(
    closed: &[SegmentInfo],
    snapshots: &'a [SnapshotInfo],
    limits: &StoreLimits,
) -> Vec<&'a SnapshotInfo> {
    let spacing = limits.retention_bytes / SPACING_SHARE;
    let bytes_between = |from: SegmentId, to: SegmentId| -> u64 {
        let inside = closed.iter().filter(|info| from < info.id && info.id <= to);
        inside.map(SegmentInfo::kept_bytes).sum()
    };
    let [first, between @ .., _] = snapshots else {
        return Vec::new();
    };
    let mut last = first.segment;
    let mut crowded = Vec::new();
    for snapshot in between {
        if bytes_between(last, snapshot.segment) < spacing {
            crowded.push(snapshot);
        } else {
            last = snapshot.segment;
        }
    }
    crowded
}

/// The newest segment that retention does not hold.
fn newest_beyond(closed: &[SegmentInfo], now_ms: u64, limits: &StoreLimits) -> Option<SegmentId> {
    let mut bytes = 0_u64;
    let beyond = closed.iter().rev().find(|info| {
        bytes = bytes.saturating_add(info.kept_bytes());
        bytes > limits.retention_bytes || is_aged(info, now_ms, limits)
    });
    beyond.map(|info| info.id)
}

/// Whether retention does not hold a segment for its age.
#[must_use]
pub fn is_aged(info: &SegmentInfo, now_ms: u64, limits: &StoreLimits) -> bool {
    now_ms.saturating_sub(info.last_time_ms) > limits.retention_ms
}

/// What reading or writing log and snapshots may cost for the sake of packs, which hold so much more:
/// then age alone is a cause.
const PACKS_SHARE: u64 = 16;

/// Whether so many bytes read or written are little beside what lies in packs.
#[must_use]
pub fn is_little_beside_packs(bytes: u64, pack_bytes: u64) -> bool {
    pack_bytes > 0 && bytes <= pack_bytes / PACKS_SHARE
}

/// By what age is a cause to make a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacksNow {
    /// The owner's clock, milliseconds since 1970.
    pub now_ms: u64,
    /// Bytes of all packs.
    pub bytes: u64,
}

/// Most segments that one snapshot takes in, or that wait for one: whoever reads over snapshot and
/// footers holds two files open for each.
pub const SNAPSHOT_SEGMENTS_MAX: usize = 128;

/// The closed segments that the next snapshot takes in, if it is time to make one: once they keep
/// more than `limits.snapshot_log_bytes`, and than half of the last snapshot, or are very many; or
/// once the oldest is past the retention, which lets go of what packs hold, and a snapshot is little
/// beside that.
#[must_use]
pub fn due<'a>(
    closed: &'a [SegmentInfo],
    newest: Option<&SnapshotInfo>,
    limits: &StoreLimits,
    packs: &PacksNow,
) -> Option<&'a [SegmentInfo]> {
    let covered = newest.map_or(SegmentId(0), |snapshot| snapshot.segment);
    let first = closed.partition_point(|info| info.id <= covered);
    let since = &closed[first..];
    let bytes = since.iter().map(SegmentInfo::kept_bytes);
    let bytes = bytes.fold(0, u64::saturating_add);
    let half = newest.map_or(0, |snapshot| snapshot.bytes / 2);
    let moved = since.last()?.last > newest.map_or(Revision(0), |snapshot| snapshot.revision);
    let log_bytes: u64 = since.iter().map(|info| info.bytes).sum();
    let cost = log_bytes + newest.map_or(0, |snapshot| snapshot.bytes);
    let is_old = is_aged(since.first()?, packs.now_ms, limits);
    let is_due = bytes >= limits.snapshot_log_bytes.max(half)
        || since.len() >= SNAPSHOT_SEGMENTS_MAX
        || (is_old && is_little_beside_packs(cost, packs.bytes));
    (moved && is_due).then(|| first_written(since))
}

/// The first segments, of which so many have transactions as one snapshot takes in; at least one
/// has, so that the snapshot is of another revision than the one before.
fn first_written(segments: &[SegmentInfo]) -> &[SegmentInfo] {
    let mut written = segments
        .iter()
        .enumerate()
        .filter(|(_, info)| info.has_transactions());
    match written.nth(SNAPSHOT_SEGMENTS_MAX) {
        Some((end, _)) => &segments[..end],
        None => segments,
    }
}

#[cfg(test)]
mod tests {
    use objsync_proto::ids::FrameIndex;

    use super::*;
    use crate::test_random::Random;

    const NO_PACKS: PacksNow = PacksNow {
        now_ms: u64::MAX,
        bytes: 0,
    };

    fn segment(id: u64, bytes: u64, last_time_ms: u64) -> SegmentInfo {
        SegmentInfo {
            id: SegmentId(id),
            first_index: FrameIndex(0),
            before: Revision((id - 1) * 10),
            last: Revision(id * 10),
            bytes,
            last_time_ms,
            chunk_bytes: 0,
        }
    }

    fn snapshot(segment: u64, bytes: u64) -> SnapshotInfo {
        SnapshotInfo {
            revision: Revision(segment * 10),
            segment: SegmentId(segment),
            bytes,
        }
    }

    fn limits() -> StoreLimits {
        StoreLimits {
            retention_bytes: 250,
            retention_ms: 1000,
            snapshot_log_bytes: 200,
            ..StoreLimits::default()
        }
    }

    fn ids(trim: &Trim) -> (Vec<u64>, Vec<u64>) {
        let segments = trim.segments.iter().map(|id| id.0).collect();
        (
            segments,
            trim.snapshots.iter().map(|revision| revision.0).collect(),
        )
    }

    #[test]
    fn without_a_snapshot_nothing_goes() {
        let closed: Vec<_> = (1..9).map(|id| segment(id, 100, 0)).collect();
        assert_eq!(plan(&closed, &[], 10_000, &limits()), Trim::default());
    }

    #[test]
    fn log_beyond_its_bytes_goes_up_to_the_snapshot_before() {
        let closed: Vec<_> = (1..9).map(|id| segment(id, 100, 5000)).collect();
        let snapshots = [snapshot(2, 1), snapshot(4, 1), snapshot(7, 1)];
        // Segments 7 and 8 are held; 6 is beyond; the newest snapshot before it covers 4.
        let trim = plan(&closed, &snapshots, 5000, &limits());
        assert_eq!(ids(&trim), (vec![1, 2, 3, 4], vec![20]));
    }

    #[test]
    fn log_beyond_its_age_goes_up_to_the_snapshot_before() {
        let closed = [segment(1, 1, 0), segment(2, 1, 100), segment(3, 1, 5000)];
        let snapshots = [snapshot(1, 1), snapshot(2, 1), snapshot(3, 1)];
        let trim = plan(&closed, &snapshots, 5500, &limits());
        assert_eq!(ids(&trim), (vec![1, 2], vec![10]));
    }

    #[test]
    fn snapshots_that_lie_close_together_go_but_the_first_and_the_last() {
        let closed: Vec<_> = (1..9).map(|id| segment(id, 50, 5000)).collect();
        let snapshots: Vec<_> = (1..8).map(|id| snapshot(id, 1)).collect();
        let limits = StoreLimits {
            retention_bytes: 400,
            ..limits()
        };
        // A quarter is 100 bytes: every second one stays.
        let trim = plan(&closed, &snapshots, 5000, &limits);
        assert_eq!(ids(&trim), (vec![], vec![20, 40, 60]));
        // What stays is not thinned again.
        let left: Vec<_> = [1, 3, 5, 7].map(|id| snapshot(id, 1)).to_vec();
        assert_eq!(plan(&closed, &left, 5000, &limits), Trim::default());
    }

    #[test]
    fn recovery_is_always_possible_after_a_trim() {
        for seed in 0..2000 {
            let mut random = Random::new(seed);
            let first = 1 + random.below(5);
            let closed: Vec<_> = (first..first + random.below(12))
                .map(|id| segment(id, random.below(200), random.below(3000)))
                .collect();
            let snapshots: Vec<_> = closed
                .iter()
                .filter(|_| random.below(3) == 0)
                .map(|info| snapshot(info.id.0, 100))
                .collect();
            let trim = plan(&closed, &snapshots, random.below(4000), &limits());
            let gone = trim.segments.len();
            let prefix: Vec<_> = closed[..gone].iter().map(|info| info.id).collect();
            assert_eq!(trim.segments, prefix, "seed {seed}: the oldest go");
            let left = snapshots
                .iter()
                .filter(|one| !trim.snapshots.contains(&one.revision));
            let oldest_left = left.min_by_key(|one| one.revision);
            let newest = snapshots.last().map(|newest| newest.revision);
            assert!(
                newest.is_none_or(|newest| !trim.snapshots.contains(&newest)),
                "seed {seed}: the newest stays"
            );
            if gone > 0 {
                let base = oldest_left.expect("a snapshot stays").segment;
                assert!(trim.segments.iter().all(|id| *id <= base), "seed {seed}");
            } else {
                assert!(
                    trim.snapshots.is_empty() || oldest_left.is_some(),
                    "seed {seed}"
                );
            }
        }
    }

    #[test]
    fn snapshot_is_due_after_enough_log_for_its_size() {
        let closed: Vec<_> = (1..=6).map(|id| segment(id, 100, 0)).collect();
        let due_ids = |newest: Option<SnapshotInfo>| {
            due(&closed, newest.as_ref(), &limits(), &NO_PACKS)
                .map(|infos| infos.iter().map(|info| info.id.0).collect::<Vec<_>>())
        };
        assert_eq!(due_ids(None), Some(vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(due_ids(Some(snapshot(4, 100))), Some(vec![5, 6]));
        assert_eq!(due_ids(Some(snapshot(5, 100))), None, "100 bytes of log");
        assert_eq!(
            due_ids(Some(snapshot(4, 500))),
            None,
            "less than half of it"
        );
        assert_eq!(due_ids(Some(snapshot(6, 0))), None, "nothing new");
        let many: Vec<_> = (1..=130).map(|id| segment(id, 1, 0)).collect();
        let taken = |count: usize| due(&many[..count], None, &limits(), &NO_PACKS).map(<[_]>::len);
        assert_eq!(taken(127), None);
        assert_eq!(
            taken(130),
            Some(128),
            "an owner that is killed often leaves many"
        );
        // Killed again and again without a write, then with one.
        let idle = (2..=200).map(|id| SegmentInfo {
            before: Revision(10),
            last: Revision(10),
            ..segment(id, 1, 0)
        });
        let mut idle: Vec<_> = [segment(1, 1, 0)].into_iter().chain(idle).collect();
        let newest = snapshot(1, 1);
        assert_eq!(
            due(&idle, Some(&newest), &limits(), &NO_PACKS),
            None,
            "nothing new"
        );
        idle.push(SegmentInfo {
            before: Revision(10),
            last: Revision(11),
            ..segment(201, 1, 0)
        });
        let taken = due(&idle, Some(&newest), &limits(), &NO_PACKS).unwrap();
        assert_eq!(
            taken.last().unwrap().last,
            Revision(11),
            "never a second snapshot of one revision"
        );
    }

    /// A large value takes some bytes of the log; what it put into packs stays as long as these.
    #[test]
    fn segments_count_with_what_was_put_into_packs_for_them() {
        let with_chunks = |id| SegmentInfo {
            chunk_bytes: 90,
            ..segment(id, 10, 0)
        };
        let closed: Vec<_> = (1..=6).map(with_chunks).collect();
        let snapshots = [2, 3, 4, 5].map(|segment| snapshot(segment, 10));
        let trim = plan(&closed, &snapshots, 0, &limits());
        assert_eq!(ids(&trim), (vec![1, 2, 3, 4], vec![20, 30]));
        let due = |from: usize| due(&closed[from..], None, &limits(), &NO_PACKS).is_some();
        assert_eq!((due(5), due(4)), (false, true), "100 bytes, and 200");
        // Those in the middle stay where the packs between them are a part of the retention.
        let few = plan(&closed, &snapshots, 0, &StoreLimits::default());
        assert_eq!(few.snapshots, [Revision(30), Revision(40)]);
        let spaced = StoreLimits {
            retention_bytes: 400,
            ..limits()
        };
        assert_eq!(plan(&closed, &snapshots, 0, &spaced).snapshots, []);
    }

    #[test]
    fn age_alone_makes_a_snapshot_due_where_packs_hold_far_more() {
        let closed = [segment(1, 10, 0), segment(2, 10, 900)];
        let due = |now_ms, bytes, newest: Option<&SnapshotInfo>| {
            due(&closed, newest, &limits(), &PacksNow { now_ms, bytes }).map(<[_]>::len)
        };
        assert_eq!(due(1001, 320, None), Some(2));
        assert_eq!(due(1000, 320, None), None, "the oldest is not past it");
        assert_eq!(due(1001, 319, None), None, "not so much more");
        let newest = snapshot(1, 30);
        assert_eq!(due(1901, 640, Some(&newest)), Some(1));
        assert_eq!(due(1900, 640, Some(&newest)), None);
        assert_eq!(
            due(1901, 639, Some(&newest)),
            None,
            "the last one was large"
        );
    }
}
