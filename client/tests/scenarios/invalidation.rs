//! Readers that hold values in memory, while a writer changes them and the network loses and reorders.
//!
//! The writer raises "first", then "second". Who has read "second" and then finds an older "first"
//! holds a value whose invalidation was lost, or was overtaken by the data of the other key.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use objsync::{Dict, ReplicaMode, value};
use objsync_tests::proxy::Faults;

use crate::peer::{k, until};
use crate::{client, number, owner_behind_a_network};

const COUNT: i64 = 600;

/// Reads until the writer has ended, and all of it once more; tells how many values it saw.
fn read_on(dict: &Dict, has_ended: &AtomicBool) -> usize {
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let is_last = has_ended.load(Ordering::Acquire);
        if is_last {
            dict.sync().wait().unwrap();
        }
        let stamp = dict.stamp(&k("first"));
        let held = number(dict, "first");
        let second = number(dict, "second");
        // As a cache of decoded values does: what is said to be current is not read again.
        let first = match dict.is_current(&stamp) {
            true => held,
            false => number(dict, "first"),
        };
        assert!(
            first >= second,
            "first {first} is older than second {second}"
        );
        seen.insert(second);
        if is_last {
            assert_eq!((first, second), (COUNT, COUNT));
            return seen.len();
        }
    }
}

#[test]
fn no_reader_holds_a_value_whose_change_was_lost_or_overtaken() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, proxy) = owner_behind_a_network(&folder.path().join("data"), 4);
    let readers = [ReplicaMode::Auto, ReplicaMode::Full, ReplicaMode::None]
        .map(|replica| client(&owner, &proxy, replica));
    proxy.set(Faults {
        drop_permille: 50,
        duplicate_permille: 50,
        late_permille: 200,
        late: Duration::from_millis(10),
        ..Faults::NONE
    });
    let has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading: Vec<_> = readers
            .iter()
            .map(|reader| scope.spawn(|| read_on(reader, &has_ended)))
            .collect();
        for count in 1..=COUNT {
            for name in ["first", "second"] {
                let payload = value::to_payload(&count).unwrap();
                owner.set(&k(name), payload).wait().unwrap();
            }
        }
        has_ended.store(true, Ordering::Release);
        for reader in reading {
            assert!(reader.join().unwrap() > 1, "it read while it was written");
        }
    });
    until("the network did something", || proxy.lost() > 0);
}
