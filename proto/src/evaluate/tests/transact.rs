//! Transactions and patches, case by case.

use bytes::Bytes;

use super::world::{SPACE, World};
use super::{int, key, text};
use crate::effect::{Cause, Change};
use crate::error::ErrorKind;
use crate::evaluate::{Decision, View};
use crate::ids::Revision;
use crate::limits::{CONTAINER_BYTES_MAX, TRANSACTION_RANGES_MAX, VALUE_DEPTH_MAX};
use crate::operation::{Edit, Fence, KeyRead, Operation, Outcome, Patch};
use crate::stored::{self, Codec, Compression};
use crate::value::{self, Value};
use crate::wire::KeyRange;

fn put(number: u8) -> Operation {
    Operation::Put {
        key: key(number),
        value: int(i64::from(number)),
    }
}

/// Puts a key, having read some others.
fn transact(reads: Vec<KeyRead>, ranges: Vec<KeyRange>, at: u64) -> Operation {
    Operation::Transact {
        reads,
        ranges,
        at: Revision(at),
        fences: Vec::new(),
        changes: vec![Change {
            key: key(100),
            value: Some(int(1)),
        }],
    }
}

fn outcome(decision: &Decision) -> &Outcome {
    &decision.as_ref().unwrap().outcome
}

fn read(number: u8, revision: Option<u64>) -> KeyRead {
    KeyRead {
        key: key(number),
        revision: revision.map(Revision),
    }
}

fn range(start: u8, end: u8) -> KeyRange {
    KeyRange {
        start: key(start),
        end: Some(key(end)),
    }
}

#[test]
fn key_that_was_written_again_refuses_a_transaction_and_names_it() {
    let mut world = World::default();
    world.run(&put(1)).unwrap();
    assert_eq!(
        outcome(&world.decide(&transact(vec![read(1, Some(1))], vec![], 0))),
        &Outcome::Done
    );
    world.run(&put(1)).unwrap();
    let decision = world.decide(&transact(vec![read(1, Some(1))], vec![], 0));
    let (key, revision) = (key(1), Revision(2));
    assert_eq!(outcome(&decision), &Outcome::Conflict { key, revision });
    assert!(decision.unwrap().changes.is_empty());
}

#[test]
fn key_that_came_or_went_refuses_a_transaction() {
    let mut world = World::default();
    world.run(&put(1)).unwrap();
    let came = world.decide(&transact(vec![read(1, None)], vec![], 0));
    assert!(matches!(outcome(&came), Outcome::Conflict { .. }));
    world.run(&Operation::Delete { key: key(1) }).unwrap();
    let went = world.decide(&transact(vec![read(1, Some(1))], vec![], 0));
    let (key, revision) = (key(1), Revision(2));
    assert_eq!(outcome(&went), &Outcome::Conflict { key, revision });
    let missed = world.decide(&transact(vec![read(1, None)], vec![], 0));
    assert_eq!(outcome(&missed), &Outcome::Done);
}

#[test]
fn phantom_in_a_range_refuses_a_transaction_and_one_outside_does_not() {
    let mut world = World::default();
    world.run(&put(5)).unwrap();
    world.run(&put(6)).unwrap();
    let inside = world.decide(&transact(vec![], vec![range(8, 9), range(6, 7)], 1));
    let (key, revision) = (key(6), Revision(2));
    assert_eq!(outcome(&inside), &Outcome::Conflict { key, revision });
    for (ranges, at) in [(vec![range(6, 7)], 2), (vec![range(7, 9)], 0)] {
        let outside = world.decide(&transact(vec![], ranges, at));
        assert_eq!(outcome(&outside), &Outcome::Done);
    }
    world.forgotten = Revision(2);
    let late = world.decide(&transact(vec![], vec![range(6, 7)], 1));
    let oldest = world.last();
    assert_eq!(outcome(&late), &Outcome::Outdated { oldest });
}

#[test]
fn transaction_that_demands_a_lock_happens_only_with_the_present_fence() {
    let mut world = World::default();
    let grant = Operation::GrantLease {
        ttl_ms: 10,
        presence: false,
    };
    let Outcome::Lease(lease) = world.run(&grant).unwrap().outcome else {
        panic!("a lease was asked for");
    };
    let name = key(9);
    let lock = Operation::Lock {
        name: name.clone(),
        lease,
    };
    let Outcome::Locked(Some(fence)) = world.run(&lock).unwrap().outcome else {
        panic!("nobody holds it");
    };
    let demand = |fence| {
        let Operation::Transact { changes, .. } = transact(vec![], vec![], 0) else {
            unreachable!("it was made so");
        };
        let name = name.clone();
        Operation::Transact {
            reads: vec![],
            ranges: vec![],
            at: Revision(0),
            fences: vec![Fence { name, fence }],
            changes,
        }
    };
    assert_eq!(outcome(&world.decide(&demand(fence))), &Outcome::Done);
    let fenced = Outcome::Fenced { name: name.clone() };
    assert_eq!(outcome(&world.decide(&demand(fence.next()))), &fenced);
    world.run(&Operation::RevokeLease { lease }).unwrap();
    assert_eq!(outcome(&world.decide(&demand(fence))), &fenced);
}

#[test]
fn transaction_with_too_many_ranges_is_refused() {
    let ranges = vec![range(1, 2); TRANSACTION_RANGES_MAX + 1];
    let failure = World::default()
        .decide(&transact(vec![], ranges, 0))
        .unwrap_err();
    assert_eq!(
        failure.message,
        "transaction has 1025 ranges read; the limit is 1024 ranges read"
    );
}

fn patch(world: &mut World, patch: impl Into<Patch>) -> Decision {
    let patch = patch.into();
    world.run(&Operation::Patch { key: key(1), patch })
}

fn payload(value: impl Into<Value>) -> Bytes {
    value::encode(&value.into()).unwrap()
}

fn present(world: &World) -> Value {
    let Ok(present) = world.get(SPACE, &key(1));
    value::decode(&stored::open(&present.unwrap().value).unwrap()).unwrap()
}

#[test]
fn patch_is_told_as_one_and_nothing_changes_when_there_is_nothing_to_do() {
    let mut world = World::default();
    let items = vec![payload(1), payload("a")];
    let appended = patch(&mut world, Edit::Append { items }).unwrap();
    assert_eq!(
        (appended.outcome, appended.cause),
        (Outcome::Number(2), Cause::Patch)
    );
    assert_eq!(present(&world), Value::List(vec![1.into(), "a".into()]));
    let nothing = patch(&mut world, Edit::Append { items: vec![] }).unwrap();
    assert_eq!(nothing.outcome, Outcome::Number(2));
    assert!(nothing.changes.is_empty());
}

#[test]
fn patch_of_another_type_is_refused_with_key_and_type() {
    let mut world = World::with([(key(1), text("words"))]);
    let items = vec![payload(1)];
    for (change, needed) in [
        (
            Edit::Append {
                items: items.clone(),
            },
            "appending needs a list",
        ),
        (
            Edit::Add {
                items: items.clone(),
            },
            "adding and discarding need a set",
        ),
        (Edit::Discard { items }, "adding and discarding need a set"),
    ] {
        let failure = patch(&mut world, change).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Invalid);
        assert_eq!(failure.message, format!("value of key 1 is str; {needed}"));
    }
}

#[test]
fn patch_over_the_limit_of_a_value_is_refused_and_changes_nothing() {
    let mut world = World::default();
    let half = Bytes::from(vec![0; CONTAINER_BYTES_MAX / 2]);
    let items = vec![payload(half)];
    patch(
        &mut world,
        Edit::Append {
            items: items.clone(),
        },
    )
    .unwrap();
    let failure = patch(&mut world, Edit::Append { items }).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Invalid);
    assert!(
        failure.message.ends_with(
            "the limit of a value that grows by parts is 1048576 bytes: use one key per item"
        ),
        "{failure}"
    );
}

#[test]
fn item_that_is_no_value_or_is_nested_too_deep_or_unhashable_is_refused() {
    let mut world = World::default();
    let deep = [vec![0x91; VALUE_DEPTH_MAX], vec![0]].concat();
    let shallow = deep[1..].to_vec();
    for bad in [
        Bytes::new(),
        Bytes::from_static(&[0xC1]),
        Bytes::from_static(&[1, 1]),
        deep.into(),
    ] {
        let items = vec![bad];
        let failure = patch(&mut world, Edit::Append { items }).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Invalid);
    }
    let items = vec![shallow.into()];
    patch(&mut world, Edit::Append { items }).unwrap();
    value::check(&stored::open(&world.entries(SPACE).next().unwrap().1).unwrap()).unwrap();
    let items = vec![payload(Value::List(vec![]))];
    let failure = patch(&mut world, Edit::Add { items }).unwrap_err();
    assert_eq!(
        failure.message,
        "item for key 1 is a list, which no set holds"
    );
}

#[test]
fn value_that_was_compressed_is_compressed_after_a_patch() {
    let list = Value::List(vec!["many words ".repeat(20).as_str().into()]);
    let stored = stored::seal(&value::encode(&list).unwrap(), Compression::Zstd(3)).unwrap();
    let mut world = World::with([(key(1), stored)]);
    let items = vec![payload(1)];
    let appended = patch(&mut world, Edit::Append { items }).unwrap();
    let value = appended.changes[0].1.value.clone().unwrap();
    assert!(matches!(stored::check(&value), Ok(Codec::Zstd { .. })));
}

#[test]
fn patch_of_another_revision_is_a_conflict_and_one_of_a_place_needs_a_revision() {
    let mut world = World::with([(key(1), text("words"))]);
    let items = vec![payload(1)];
    world.run(&Operation::Delete { key: key(1) }).unwrap();
    patch(
        &mut world,
        Edit::Append {
            items: items.clone(),
        },
    )
    .unwrap();
    let Ok(written) = world.get(SPACE, &key(1));
    let written = written.unwrap().revision;
    let splice = |revision| Patch {
        path: Vec::new(),
        revision,
        create: false,
        edit: Edit::Splice {
            start: 0,
            delete_count: 1,
            items: items.clone(),
        },
    };
    let failure = patch(&mut world, splice(None)).unwrap_err();
    assert_eq!(
        failure.message,
        "patch of key 1 names an index or an order, and no revision that it is meant for"
    );
    let refused = patch(&mut world, splice(Some(Revision(written.0 - 1)))).unwrap();
    let conflict = Outcome::Conflict {
        key: key(1),
        revision: written,
    };
    assert_eq!((refused.outcome, refused.changes.len()), (conflict, 0));
    let done = patch(&mut world, splice(Some(written))).unwrap();
    assert_eq!(done.outcome, Outcome::Number(1));
}
