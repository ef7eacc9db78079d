//! Operations against a model: plain maps and a straightforward reading of what each promises.

mod dictionaries;
mod leases;
mod model;
mod random;
mod transact;
mod world;

use bytes::Bytes;
use proptest::prelude::*;

use super::{CHANGE_OVERHEAD_BYTES, Changed, Leased, Present, Ranges, View, evaluate};
use crate::effect::{Cause, Change};
use crate::error::ErrorKind;
use crate::ids::{NamespaceId, Revision};
use crate::key::{Key, encode};
use crate::limits::{TRANSACTION_BYTES_MAX, TRANSACTION_EFFECTS_MAX};
use crate::operation::{Operation, Outcome};
use crate::stored::{self, Compression};
use crate::value::int_payload;
use crate::wire::KeyRange;
use model::Model;
use world::{SPACE, World};

/// What it comes to, without the namespace of the dictionary.
fn decide(
    operation: &Operation,
    world: &World,
) -> Result<(Outcome, Vec<Change>), crate::error::Failure> {
    let decided = world.decide(operation)?;
    let changes = decided.changes.into_iter().map(|(namespace, change)| {
        assert_eq!(namespace, SPACE);
        change
    });
    Ok((decided.outcome, changes.collect()))
}

fn key(number: u8) -> Bytes {
    encode(&Key::from(number)).unwrap().into()
}

fn int(number: i64) -> Bytes {
    stored::seal(&int_payload(number), Compression::None).unwrap()
}

fn text(text: &str) -> Bytes {
    stored::seal(&rmp_serde::to_vec(text).unwrap(), Compression::Zstd(3)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn operations_do_what_the_model_says(seed: u64) {
        let mut random = random::Random(seed);
        let (mut world, mut model) = (World::default(), Model::default());
        for _ in 0..60 {
            world.now_ms += random.below(12);
            let (next, now_ms) = (world.last.next(), world.now_ms);
            if random.chance(6) {
                let due = random::due(&mut random, &world);
                let (decided, count) = world.expire(&due);
                prop_assert_eq!((decided.cause, count), (Cause::Expiry, due.len()));
                let removed = model.expire(&due, next, now_ms);
                prop_assert_eq!(decided.outcome, Outcome::Deleted(removed));
            } else {
                let operation = random::operation(&mut random, &world);
                let before = world.clone();
                let decision = world.run(&operation);
                let outcome = model.run(&operation, next, now_ms);
                prop_assert_eq!(decision.clone().ok().map(|done| done.outcome), outcome);
                if let Err(failure) = &decision {
                    prop_assert!(
                        matches!(failure.kind, ErrorKind::Invalid | ErrorKind::NotFound),
                        "{failure}"
                    );
                }
                let changes = decision.map(|decided| decided.changes).unwrap_or_default();
                let keys: std::collections::BTreeSet<_> =
                    changes.iter().map(|(of, change)| (*of, &change.key)).collect();
                prop_assert_eq!(keys.len(), changes.len(), "one change per key");
                for (of, change) in changes.iter().filter(|(_, change)| change.value.is_none()) {
                    let Ok(present) = before.get(*of, &change.key);
                    prop_assert!(present.is_some(), "deletes name present keys");
                }
            }
            model.last = world.last;
            model.compare(&world, SPACE);
        }
    }
}

#[test]
fn later_change_of_a_batch_wins_and_keeps_its_place() {
    let change = |number, value: Option<i64>| Change {
        key: key(number),
        value: value.map(int),
    };
    let changes = vec![
        change(1, Some(1)),
        change(2, Some(2)),
        change(1, Some(3)),
        change(3, None),
    ];
    let decision = decide(
        &Operation::Batch {
            changes: changes.clone(),
        },
        &World::default(),
    );
    assert_eq!(decision, Ok((Outcome::Done, changes[1..3].to_vec())));
}

#[test]
fn counter_that_holds_no_int_is_refused_with_key_and_type() {
    let model = World::with([(encode(&Key::from("hits")).unwrap().into(), text("many"))]);
    let operation = Operation::Increment {
        key: encode(&Key::from("hits")).unwrap().into(),
        by: 1,
    };
    let failure = decide(&operation, &model).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Invalid);
    assert_eq!(
        failure.message,
        "value of key \"hits\" is str; adding needs an int of 64 bits"
    );
}

#[test]
fn counter_that_would_overflow_is_refused_with_key_and_value() {
    let model = World::with([(key(7), int(i64::MAX))]);
    let failure = decide(&Operation::Increment { key: key(7), by: 1 }, &model).unwrap_err();
    let text = "counter 7 is 9223372036854775807; adding 1 passes the limit of 64 bits";
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (ErrorKind::Invalid, text)
    );
}

#[test]
fn compare_and_set_sees_through_compression() {
    let words = "many words ".repeat(20);
    let model = World::with([(key(1), text(&words))]);
    let raw = Bytes::from(rmp_serde::to_vec(&words).unwrap());
    let operation = Operation::CompareAndSet {
        key: key(1),
        expected: Some(raw),
        new: Some(int(1)),
    };
    assert_eq!(
        decide(&operation, &model).unwrap().0,
        Outcome::Swapped(true)
    );
}

#[test]
fn key_or_value_that_is_none_is_refused_before_the_view_is_asked() {
    struct Blind;
    impl View for Blind {
        type Error = ();
        fn get(&self, _: NamespaceId, _: &[u8]) -> Result<Option<Present>, ()> {
            Err(())
        }
        fn keys(&self, _: NamespaceId, _: &KeyRange, _: u32) -> Result<Vec<Bytes>, ()> {
            Err(())
        }
        fn changed(&self, _: NamespaceId, _: Revision, _: &Ranges) -> Result<Changed, ()> {
            Err(())
        }
        fn leased(&self) -> Leased {
            Leased::default()
        }
        fn revision(&self) -> Revision {
            Revision(1)
        }
        fn last(&self) -> Revision {
            Revision(0)
        }
        fn now_ms(&self) -> u64 {
            0
        }
    }
    let bad_key = Bytes::from_static(&[0x99]);
    let bad_value = Bytes::from_static(&[0, 7, 0, 1]);
    for operation in [
        Operation::Put {
            key: bad_key.clone(),
            value: int(1),
        },
        Operation::Put {
            key: key(1),
            value: bad_value.clone(),
        },
        Operation::Delete {
            key: bad_key.clone(),
        },
        Operation::Increment {
            key: bad_key.clone(),
            by: 1,
        },
        Operation::CompareAndSet {
            key: key(1),
            expected: None,
            new: Some(bad_value),
        },
        Operation::Batch {
            changes: vec![Change {
                key: bad_key,
                value: None,
            }],
        },
    ] {
        assert_eq!(
            evaluate(SPACE, &operation, &Blind)
                .unwrap()
                .unwrap_err()
                .kind,
            ErrorKind::Invalid
        );
    }
    assert_eq!(
        evaluate(SPACE, &Operation::Delete { key: key(1) }, &Blind),
        Err(()),
        "cause is kept"
    );
}

#[test]
fn batch_over_the_transaction_limit_is_refused_and_at_the_limit_is_not() {
    let value = stored::seal(&vec![1; 4 << 20], Compression::None).unwrap();
    let put = |number: u8, value: &Bytes| Change {
        key: key(number),
        value: Some(value.clone()),
    };
    let mut changes: Vec<Change> = (0..3).map(|number| put(number, &value)).collect();
    let bytes = |c: &Change| super::change_bytes(&c.key, c.value.as_deref());
    let used: usize = changes.iter().map(bytes).sum();
    let left = TRANSACTION_BYTES_MAX - used - key(9).len() - CHANGE_OVERHEAD_BYTES;
    let fill = stored::seal(&vec![1; left - 3], Compression::None).unwrap();
    changes.push(put(9, &fill));
    assert!(
        decide(
            &Operation::Batch {
                changes: changes.clone()
            },
            &World::default()
        )
        .is_ok()
    );
    changes.push(put(10, &int(0)));
    let failure = decide(&Operation::Batch { changes }, &World::default()).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Invalid);
    assert!(
        failure
            .message
            .contains("the limit of a transaction is 16777216 bytes"),
        "{failure}"
    );
}

#[test]
fn wide_delete_range_stops_at_the_size_of_a_transaction() {
    let long = "x".repeat(4_000);
    let keys = 10_000_u32;
    let content: Vec<(Bytes, Bytes)> = (0..keys)
        .map(|n| {
            (
                encode(&Key::from(format!("{n:06}{long}"))).unwrap().into(),
                int(1),
            )
        })
        .collect();
    let all = Operation::DeleteRange {
        start: Bytes::new(),
        end: None,
        count_max: u32::MAX,
    };
    let model = World::with(content.clone());
    let (outcome, changes) = decide(&all, &model).unwrap();
    assert_eq!(outcome, Outcome::Deleted(changes.len() as u64));
    assert!(
        changes.len() < keys as usize && changes.len() > 4_000,
        "{}",
        changes.len()
    );
    assert!(changes.len() < TRANSACTION_EFFECTS_MAX);
    let expected: Vec<&Bytes> = content
        .iter()
        .map(|(key, _)| key)
        .take(changes.len())
        .collect();
    assert_eq!(
        changes.iter().map(|change| &change.key).collect::<Vec<_>>(),
        expected
    );
}
