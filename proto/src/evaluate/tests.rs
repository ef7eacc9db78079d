//! Operations against a model: a `BTreeMap` and a straightforward reading of what each promises.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound;

use bytes::Bytes;
use proptest::prelude::*;

use super::{CHANGE_OVERHEAD_BYTES, Decision, View, evaluate};
use crate::effect::Change;
use crate::error::ErrorKind;
use crate::key::{Key, encode};
use crate::limits::{TRANSACTION_BYTES_MAX, TRANSACTION_EFFECTS_MAX};
use crate::operation::{Operation, Outcome};
use crate::stored::{self, Compression};
use crate::value::int_payload;
use crate::wire::KeyRange;

type Model = BTreeMap<Bytes, Bytes>;

impl View for Model {
    type Error = Infallible;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Infallible> {
        Ok(BTreeMap::get(self, key).cloned())
    }

    fn keys(&self, range: &KeyRange, count_max: u32) -> Result<Vec<Bytes>, Infallible> {
        let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        if range.end.as_ref().is_some_and(|end| *end <= range.start) {
            return Ok(Vec::new());
        }
        let keys = self
            .range::<Bytes, _>((Bound::Included(&range.start), end))
            .map(|(key, _)| key.clone());
        Ok(keys.take(count_max as usize).collect())
    }
}

fn decide(operation: &Operation, model: &Model) -> Decision {
    evaluate(operation, model).unwrap_or_else(|never| match never {})
}

fn apply(model: &mut Model, changes: &[Change]) {
    for Change { key, value } in changes {
        match value {
            Some(value) => model.insert(key.clone(), value.clone()),
            None => model.remove(key),
        };
    }
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

fn any_value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        (-3..3_i64).prop_map(int),
        Just(int(i64::MAX)),
        Just(text("words")),
        Just(text(&"many words ".repeat(20))),
    ]
}

fn any_change() -> impl Strategy<Value = Change> {
    (0..8_u8, proptest::option::of(any_value())).prop_map(|(number, value)| Change {
        key: key(number),
        value,
    })
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let number = 0..8_u8;
    let payload = any_value().prop_map(|value| stored::open(&value).unwrap());
    prop_oneof![
        (number.clone(), any_value()).prop_map(|(number, value)| Operation::Put {
            key: key(number),
            value
        }),
        number
            .clone()
            .prop_map(|number| Operation::Delete { key: key(number) }),
        (
            number.clone(),
            proptest::option::of(number.clone()),
            0..5_u32
        )
            .prop_map(|(start, end, count_max)| Operation::DeleteRange {
                start: key(start),
                end: end.map(key),
                count_max
            }),
        (
            number.clone(),
            proptest::option::of(payload),
            proptest::option::of(any_value())
        )
            .prop_map(|(number, expected, new)| Operation::CompareAndSet {
                key: key(number),
                expected,
                new
            }),
        (number, prop_oneof![-3..3_i64, any::<i64>()]).prop_map(|(number, by)| {
            Operation::Increment {
                key: key(number),
                by,
            }
        }),
        proptest::collection::vec(any_change(), 0..12)
            .prop_map(|changes| Operation::Batch { changes }),
    ]
}

/// What the operation promises, done directly to the model; none when it is refused.
fn expect(model: &mut Model, operation: &Operation) -> Option<Outcome> {
    match operation {
        Operation::Put { key, value } => {
            model.insert(key.clone(), value.clone());
            Some(Outcome::Done)
        }
        Operation::Delete { key } => Some(Outcome::Deleted(model.remove(key).map_or(0, |_| 1))),
        Operation::DeleteRange {
            start,
            end,
            count_max,
        } => {
            let inside = |key: &&Bytes| *key >= start && end.as_ref().is_none_or(|end| *key < end);
            let keys: Vec<Bytes> = model
                .keys()
                .filter(inside)
                .take(*count_max as usize)
                .cloned()
                .collect();
            keys.iter().for_each(|key| drop(model.remove(key)));
            Some(Outcome::Deleted(keys.len() as u64))
        }
        Operation::CompareAndSet { key, expected, new } => {
            let present = model
                .get(key.as_ref() as &[u8])
                .map(|value| stored::open(value).unwrap());
            if present != *expected {
                return Some(Outcome::Swapped(false));
            }
            apply(
                model,
                &[Change {
                    key: key.clone(),
                    value: new.clone(),
                }],
            );
            Some(Outcome::Swapped(true))
        }
        Operation::Increment { key, by } => {
            let present = match model.get(key.as_ref() as &[u8]) {
                Some(value) => rmp_serde::from_slice(&stored::open(value).unwrap()).ok()?,
                None => 0_i64,
            };
            let sum = present.checked_add(*by)?;
            model.insert(key.clone(), int(sum));
            Some(Outcome::Number(sum))
        }
        Operation::Batch { changes } => {
            apply(model, changes);
            Some(Outcome::Done)
        }
        Operation::Settle => Some(Outcome::Done),
        other => panic!("the model does not do {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn operations_do_what_the_model_says(
        operations in proptest::collection::vec(any_operation(), 1..30),
    ) {
        let mut model = Model::new();
        for operation in operations {
            let decision = decide(&operation, &model);
            let mut decided = model.clone();
            let mut expected = model;
            let outcome = expect(&mut expected, &operation);
            if let Ok((_, changes)) = &decision {
                let before = changes.len();
                let keys: std::collections::BTreeSet<_> = changes.iter().map(|c| &c.key).collect();
                prop_assert_eq!(keys.len(), before, "one change per key");
                for change in changes.iter().filter(|change| change.value.is_none()) {
                    prop_assert!(decided.contains_key(&change.key), "deletes name present keys");
                }
                apply(&mut decided, changes);
            }
            prop_assert_eq!(decision.as_ref().ok().map(|(outcome, _)| outcome), outcome.as_ref());
            if let Err(failure) = &decision {
                prop_assert_eq!(failure.kind, ErrorKind::Invalid);
                expected = decided.clone();
            }
            prop_assert_eq!(&decided, &expected);
            model = decided;
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
        &Model::new(),
    );
    assert_eq!(decision, Ok((Outcome::Done, changes[1..3].to_vec())));
}

#[test]
fn counter_that_holds_no_int_is_refused_with_key_and_type() {
    let model = Model::from([(encode(&Key::from("hits")).unwrap().into(), text("many"))]);
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
    let model = Model::from([(key(7), int(i64::MAX))]);
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
    let model = Model::from([(key(1), text(&words))]);
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
        fn get(&self, _: &[u8]) -> Result<Option<Bytes>, ()> {
            Err(())
        }
        fn keys(&self, _: &KeyRange, _: u32) -> Result<Vec<Bytes>, ()> {
            Err(())
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
            evaluate(&operation, &Blind).unwrap().unwrap_err().kind,
            ErrorKind::Invalid
        );
    }
    assert_eq!(
        evaluate(&Operation::Delete { key: key(1) }, &Blind),
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
            &Model::new()
        )
        .is_ok()
    );
    changes.push(put(10, &int(0)));
    let failure = decide(&Operation::Batch { changes }, &Model::new()).unwrap_err();
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
    let model: Model = (0..keys)
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
    let (outcome, changes) = decide(&all, &model).unwrap();
    assert_eq!(outcome, Outcome::Deleted(changes.len() as u64));
    assert!(
        changes.len() < keys as usize && changes.len() > 4_000,
        "{}",
        changes.len()
    );
    assert!(changes.len() < TRANSACTION_EFFECTS_MAX);
    let expected: Vec<&Bytes> = model.keys().take(changes.len()).collect();
    assert_eq!(
        changes.iter().map(|change| &change.key).collect::<Vec<_>>(),
        expected
    );
}
