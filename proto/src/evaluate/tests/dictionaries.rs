use bytes::Bytes;

use super::world::{SPACE, World};
use super::{int, key};
use crate::dictionary::tests::{sample, trained};
use crate::dictionary::{Dictionary, DictionaryId, EntryKey};
use crate::effect::Change;
use crate::error::{ErrorKind, Failure};
use crate::evaluate::View;
use crate::ids::NamespaceId;
use crate::limits::DICTIONARIES_MAX;
use crate::operation::{Edit, Operation, Outcome, Patch};
use crate::stored::{self, Compression};
use crate::value::{self, Value, int_payload};

fn add(dictionary: &Dictionary) -> Operation {
    let bytes = dictionary.bytes().clone();
    Operation::AddDictionary { bytes }
}

fn packed(payload: &[u8], dictionary: &Dictionary) -> Bytes {
    let stored = stored::seal_with(payload, Compression::Zstd(5), Some(dictionary)).unwrap();
    assert_eq!(stored::dictionary_of(&stored), Some(dictionary.id()));
    stored
}

fn put(number: u8, value: &Bytes) -> Operation {
    let (key, value) = (key(number), value.clone());
    Operation::Put { key, value }
}

fn present(world: &World) -> Option<DictionaryId> {
    let Ok(entry) = world.get(
        NamespaceId::DICTIONARIES,
        &EntryKey::Present(SPACE).encode(),
    );
    DictionaryId::decode_present(&entry?.value)
}

fn refused(world: &mut World, operation: &Operation) -> Failure {
    world.run(operation).unwrap_err()
}

#[test]
fn dictionary_is_added_once_and_the_last_one_is_the_present_one() {
    let (one, two) = (trained(0), trained(1));
    let mut world = World::default();
    world.now_ms = 1_234;
    for dictionary in [&one, &two, &one] {
        let decided = world.run(&add(dictionary)).unwrap();
        assert_eq!(decided.outcome, Outcome::Number(dictionary.id().0.into()));
        assert_eq!(present(&world), Some(dictionary.id()));
    }
    assert_eq!(world.entries(NamespaceId::DICTIONARIES).count(), 3);
    let Ok(found) = world.dictionary(SPACE, two.id());
    assert_eq!(found.unwrap().bytes(), two.bytes());
}

#[test]
fn value_that_needs_a_dictionary_is_refused_where_that_is_not() {
    let dictionary = trained(0);
    let value = packed(&sample(1), &dictionary);
    let mut world = World::default();
    let change = Change {
        key: key(1),
        value: Some(value.clone()),
    };
    let operations = [
        put(1, &value),
        Operation::PutLeased {
            key: key(1),
            value: value.clone(),
            ttl_ms: Some(5),
            lease: None,
        },
        Operation::CompareAndSet {
            key: key(1),
            expected: None,
            new: Some(value.clone()),
        },
        Operation::Batch {
            changes: vec![change.clone()],
        },
        Operation::Transact {
            reads: vec![],
            ranges: vec![],
            at: world.last,
            fences: vec![],
            changes: vec![change],
        },
    ];
    for operation in &operations {
        let failure = refused(&mut world, operation);
        assert_eq!(failure.kind, ErrorKind::Unavailable);
        assert!(failure.message.contains(&dictionary.id().to_string()));
    }
    world.run(&add(&dictionary)).unwrap();
    for operation in &operations[..2] {
        world.run(operation).unwrap();
    }
}

#[test]
fn values_with_a_dictionary_are_compared_counted_and_patched_as_others_are() {
    let dictionary = trained(0);
    let mut world = World::default();
    world.run(&add(&dictionary)).unwrap();
    world
        .run(&put(1, &packed(&sample(1), &dictionary)))
        .unwrap();
    let swap = |expected: Bytes| Operation::CompareAndSet {
        key: key(1),
        expected: Some(expected),
        new: Some(int(1)),
    };
    assert_eq!(
        world.run(&swap(sample(2))).unwrap().outcome,
        Outcome::Swapped(false)
    );
    assert_eq!(
        world.run(&swap(sample(1))).unwrap().outcome,
        Outcome::Swapped(true)
    );

    let text = Value::Str(String::from_utf8(sample(3).to_vec()).unwrap());
    let list = value::encode(&Value::List(vec![text.clone(), text.clone()])).unwrap();
    world.run(&put(2, &packed(&list, &dictionary))).unwrap();
    let items = vec![value::encode(&text).unwrap()];
    let patch = Patch::from(Edit::Append { items });
    let operation = Operation::Patch { key: key(2), patch };
    let decided = world.run(&operation).unwrap();
    assert_eq!(decided.outcome, Outcome::Number(3));
    assert_eq!(decided.patches.iter().flatten().count(), 0, "told whole");
    let Ok(Some(stored)) = world.get(SPACE, &key(2)) else {
        panic!("it was put");
    };
    assert_eq!(stored::dictionary_of(&stored.value), Some(dictionary.id()));
    let payload = stored::open_with(&stored.value, |_| Some(&*dictionary)).unwrap();
    let three = Value::List(vec![text.clone(), text.clone(), text]);
    assert_eq!(value::decode(&payload).unwrap(), three);

    let operation = Operation::Increment { key: key(2), by: 1 };
    assert_eq!(refused(&mut world, &operation).kind, ErrorKind::Invalid);
}

#[test]
fn damaged_dictionary_makes_what_needs_it_corrupt_and_nothing_else() {
    let dictionary = trained(0);
    let mut world = World::default();
    world.run(&add(&dictionary)).unwrap();
    world
        .run(&put(1, &packed(&sample(1), &dictionary)))
        .unwrap();
    world.damage(
        NamespaceId::DICTIONARIES,
        &EntryKey::Dictionary(SPACE, dictionary.id()).encode(),
    );
    let operation = Operation::CompareAndSet {
        key: key(1),
        expected: Some(sample(1)),
        new: None,
    };
    assert_eq!(refused(&mut world, &operation).kind, ErrorKind::Corrupt);
    let operation = Operation::Increment { key: key(1), by: 1 };
    assert_eq!(refused(&mut world, &operation).kind, ErrorKind::Corrupt);
    world.run(&put(1, &int(1))).unwrap();
    world.run(&operation).unwrap();
}

#[test]
fn dictionaries_are_limited_in_number_and_none_goes() {
    let mut world = World::default();
    let all: Vec<_> = (0..=u64::from(DICTIONARIES_MAX)).map(trained).collect();
    for dictionary in &all[..DICTIONARIES_MAX as usize] {
        world.run(&add(dictionary)).unwrap();
    }
    let failure = refused(&mut world, &add(&all[DICTIONARIES_MAX as usize]));
    assert_eq!(failure.kind, ErrorKind::Full);
    assert!(
        failure.message.contains("16 dictionaries"),
        "{}",
        failure.message
    );
    world.run(&add(&all[3])).unwrap();
    assert_eq!(present(&world), Some(all[3].id()));
    let clear = Operation::DeleteRange {
        start: Bytes::new(),
        end: None,
        count_max: 1000,
    };
    world.run(&clear).unwrap();
    let Ok(first) = world.dictionary(SPACE, all[0].id());
    assert!(first.is_some());
}

#[test]
fn bytes_that_are_no_dictionary_are_not_added() {
    let mut world = World::default();
    for bytes in [Bytes::new(), int_payload(3).into(), vec![7; 2000].into()] {
        let failure = refused(&mut world, &Operation::AddDictionary { bytes });
        assert_eq!(failure.kind, ErrorKind::Invalid);
    }
    assert_eq!(world.entries(NamespaceId::DICTIONARIES).count(), 0);
}
