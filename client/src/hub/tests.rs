//! Who is told of what, and who is not even looked at.

use objsync_proto::effect::Cause;
use objsync_proto::ids::{Epoch, EpochName, StoreId};
use objsync_proto::key;
use objsync_proto::wire::Gap;

use super::tap::Told;
use super::*;

fn at(revision: u64) -> Position {
    Position {
        store: StoreId([1; 16]),
        epoch: Epoch {
            number: 1,
            name: EpochName([1; 16]),
        },
        revision: Revision(revision),
    }
}

fn change(name: &str, revision: u64, bytes: usize) -> Applied {
    Applied {
        key: Bytes::copy_from_slice(name.as_bytes()),
        old: None,
        new: Some(vec![0; bytes].into()),
        revision: Revision(revision),
        cause: Cause::Write,
        origin: None,
        time_ms: 1,
    }
}

fn single(name: &str) -> KeyRange {
    let start = Bytes::copy_from_slice(name.as_bytes());
    let end = Some(key::successor(&start));
    KeyRange { start, end }
}

/// What waits in a tap: the revisions, and whether that is all.
fn waiting(tap: &Tapping) -> (Vec<u64>, Option<Ended>, u64) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match Box::pin(tap.take()).as_mut().poll(&mut context) {
        std::task::Poll::Ready(tapped) => (
            tapped
                .told
                .iter()
                .map(|told| match told {
                    Told::Change(change) => change.revision.0,
                    Told::Gap(gap) => panic!("nobody told of {gap:?}"),
                })
                .collect(),
            tapped.ended,
            tapped.position.revision.0,
        ),
        std::task::Poll::Pending => (Vec::new(), None, 0),
    }
}

#[test]
fn change_looks_at_the_watches_of_its_key_and_its_prefixes_only() {
    let hub = Hub::new();
    let taps: Vec<_> = (0..5_000)
        .map(|number| hub.add_at(single(&format!("key{number:04}")), at(1)))
        .collect();
    let prefix = hub.add_at(prefix_range(b"key00"), at(1));
    let all = hub.add_at(KeyRange::default(), at(1));
    let odd = hub.add_at(
        KeyRange {
            start: Bytes::from_static(b"key0003"),
            end: Some(Bytes::from_static(b"key0005")),
        },
        at(1),
    );
    let looked_at = |name: &str| {
        hub.inner()
            .taps_of(&Bytes::copy_from_slice(name.as_bytes()))
            .count()
    };
    assert_eq!(
        looked_at("key0004"),
        4,
        "its own, the prefix, all, and the odd one"
    );
    assert_eq!(looked_at("key4999"), 3);
    assert_eq!(looked_at("other"), 2);
    hub.tell(&[change("key0004", 2, 1), change("key4999", 2, 1)], at(2));
    assert_eq!(waiting(&taps[4]), (vec![2], None, 2));
    assert_eq!(waiting(&taps[5]), (vec![], None, 0));
    assert_eq!(waiting(&prefix).0, [2]);
    assert_eq!(waiting(&all).0, [2, 2]);
    assert_eq!(waiting(&odd).0, [2]);
    drop((taps, prefix, all, odd));
    assert!(!hub.is_wanted());
    assert_eq!(looked_at("key0004"), 0, "nothing is left of them");
}

#[test]
fn full_tap_ends_where_all_was_told_and_others_go_on() {
    let hub = Hub::new();
    let (slow, other) = (
        hub.add_at(single("a"), at(1)),
        hub.add_at(single("b"), at(1)),
    );
    let large = 9 << 20;
    hub.tell(&[change("a", 2, large)], at(2));
    hub.tell(&[], at(5));
    hub.tell(&[change("a", 6, large)], at(6));
    hub.tell(&[change("b", 7, 1)], at(7));
    assert_eq!(waiting(&slow), (vec![2], Some(Ended::Cut), 5));
    assert_eq!(waiting(&other), (vec![7], None, 7));
}

#[test]
fn all_taps_together_hold_a_bounded_number_of_bytes() {
    let hub = Hub::new();
    let taps: Vec<_> = (0..20)
        .map(|_| hub.add_at(KeyRange::default(), at(1)))
        .collect();
    for revision in 2..4 {
        hub.tell(&[change("a", revision, 7 << 20)], at(revision));
    }
    assert!(hub.all_bytes.load(Ordering::Relaxed) <= tap::ALL_BYTES_MAX + 20 * (8 << 20));
    let ended = taps.iter().filter(|tap| waiting(tap).1.is_some()).count();
    assert!(ended > 0, "some read on from the log");
    assert_eq!(
        hub.all_bytes.load(Ordering::Relaxed),
        0,
        "what was taken is free again"
    );
}

#[test]
fn end_is_told_with_how_far_the_hub_was_and_old_tasks_tell_nothing_after_it() {
    let hub = Hub::new();
    let tap = hub.add_at(single("a"), at(1));
    let ends = hub.inner().ends;
    assert!(hub.tell_since(ends, &[], at(9)));
    hub.end_all(Ended::Cut);
    assert_eq!(waiting(&tap), (vec![], Some(Ended::Cut), 9));
    let next = hub.add_at(single("a"), at(9));
    assert!(!hub.tell_since(ends, &[change("a", 10, 1)], at(10)));
    assert_eq!(waiting(&next), (vec![], None, 0));
    drop(tap);
    assert!(hub.is_wanted(), "the end of an ended tap does not count");
}

#[test]
fn watch_that_is_ahead_of_the_hub_hears_nothing_twice() {
    let hub = Hub::new();
    let _first = hub.add_at(single("a"), at(5));
    let ahead = hub.add(&mut hub.inner(), single("a"), at(7));
    hub.tell(&[change("a", 7, 1)], at(7));
    hub.tell(&[change("a", 8, 1)], at(8));
    assert_eq!(waiting(&ahead).0, [8]);
    let joined = Joined {
        tap: ahead,
        position: at(5),
    };
    assert_eq!(joined.missing(&at(7)), None);
    assert_eq!(joined.missing(&at(4)), Some(Revision(5)));
    let other = Position {
        epoch: Epoch {
            number: 2,
            ..at(1).epoch
        },
        ..at(9)
    };
    assert_eq!(
        joined.missing(&other),
        Some(Revision(9)),
        "another owner is asked"
    );
}

#[test]
fn state_that_takes_the_place_of_another_is_told_as_a_gap_and_then_as_one_step() {
    let hub = Hub::new();
    let taps = [
        hub.add_at(single("a"), at(5)),
        hub.add_at(prefix_range(b""), at(5)),
        hub.add(&mut hub.inner(), single("other"), at(9)),
    ];
    let told = |tap: &Tapping| {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match Box::pin(tap.take()).as_mut().poll(&mut context) {
            std::task::Poll::Ready(tapped) => tapped.told.into(),
            std::task::Poll::Pending => Vec::new(),
        }
    };
    let gap = |after| {
        Told::Gap(Gap {
            after: Revision(after),
            oldest: Revision(7),
            same_history: false,
        })
    };
    let [a, b] = [change("a", 7, 1), change("b", 7, 1)];
    hub.exchange(&[b.clone(), a.clone()], false, at(7));
    let [a, b] = [a, b].map(Told::Change);
    assert_eq!(told(&taps[0]), [gap(5), a.clone()]);
    assert_eq!(told(&taps[1]), [gap(5), b, a]);
    assert_eq!(told(&taps[2]), [gap(9)], "what it had of another state");
    hub.tell(&[change("other", 8, 1)], at(8));
    let other = Told::Change(change("other", 8, 1));
    assert_eq!(told(&taps[2]), [other], "is behind the gap");
}
