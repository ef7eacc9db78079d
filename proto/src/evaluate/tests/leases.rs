//! Bounds of leases and times to live, case by case.

use bytes::Bytes;

use super::world::{SPACE, World};
use super::{int, key};
use crate::error::ErrorKind;
use crate::evaluate::{Due, Leased};
use crate::ids::{LeaseId, NamespaceId};
use crate::key::{Key, encode};
use crate::limits::{
    EXPIRY_COUNT_MAX, KEY_BYTES_MAX, LEASE_MEMBERS_MAX, LEASED_BYTES_MAX, LEASED_KEY_BYTES_MAX,
    LEASED_KEYS_MAX, LEASES_MAX, RANGE_REMOVAL_COUNT_MAX, TRANSACTION_BYTES_MAX, TTL_MS_MAX,
};
use crate::operation::{Operation, Outcome};

fn put(key: Bytes, ttl_ms: Option<u64>, lease: Option<LeaseId>) -> Operation {
    Operation::PutLeased {
        key,
        value: int(1),
        ttl_ms,
        lease,
    }
}

fn grant(world: &mut World) -> LeaseId {
    let grant = Operation::GrantLease {
        ttl_ms: 10,
        presence: false,
    };
    match world.run(&grant).unwrap().outcome {
        Outcome::Lease(lease) => lease,
        other => panic!("{other:?}"),
    }
}

/// A key of exactly so many bytes.
fn long_key(bytes: usize) -> Bytes {
    let empty = encode(&Key::from("")).unwrap().into_bytes().len();
    let key = encode(&Key::from("x".repeat(bytes - empty))).unwrap();
    assert_eq!(key.as_bytes().len(), bytes);
    key.into_bytes()
}

#[test]
fn time_to_live_and_key_are_within_their_limits() {
    let world = World::default();
    for (operation, is_fine) in [
        (put(key(1), Some(0), None), false),
        (put(key(1), Some(1), None), true),
        (put(key(1), Some(TTL_MS_MAX), None), true),
        (put(key(1), Some(TTL_MS_MAX + 1), None), false),
        (put(key(1), None, None), false),
        (put(long_key(LEASED_KEY_BYTES_MAX), Some(1), None), true),
        (
            put(long_key(LEASED_KEY_BYTES_MAX + 1), Some(1), None),
            false,
        ),
    ] {
        let decision = world.decide(&operation);
        assert_eq!(decision.is_ok(), is_fine, "{operation:?}");
        for (_, change) in decision.map(|done| done.changes).unwrap_or_default() {
            assert!(change.key.len() <= KEY_BYTES_MAX);
        }
    }
}

#[test]
fn longest_key_of_a_lease_has_entries_within_the_limit_of_a_key() {
    let mut world = World::default();
    let lease = grant(&mut world);
    world
        .run(&put(long_key(LEASED_KEY_BYTES_MAX), None, Some(lease)))
        .unwrap();
    let longest = world
        .entries(NamespaceId::LEASES)
        .map(|(entry, _)| entry.len())
        .max();
    assert_eq!(longest, Some(KEY_BYTES_MAX));
}

#[test]
fn store_full_of_keys_that_end_or_of_leases_takes_no_more() {
    let mut world = World::default();
    world.leased_min = Leased {
        keys: LEASED_KEYS_MAX - 1,
        leases: LEASES_MAX - 1,
        ..Leased::default()
    };
    world.run(&put(key(1), Some(5), None)).unwrap();
    grant(&mut world);
    world.leased_min.keys += 1;
    world.leased_min.leases += 1;
    let failure = world.decide(&put(key(2), Some(5), None)).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Full);
    world
        .decide(&put(key(1), Some(6), None))
        .expect("it is one of those");
    let another = Operation::GrantLease {
        ttl_ms: 10,
        presence: false,
    };
    assert_eq!(world.decide(&another).unwrap_err().kind, ErrorKind::Full);
}

#[test]
fn dictionary_that_has_much_leaves_the_last_quarter_to_those_that_have_little() {
    let grant = Operation::GrantLease {
        ttl_ms: 10,
        presence: false,
    };
    let put = put(key(1), Some(5), None);
    let bytes = key(1).len() as u64;
    type Set = fn(&mut Leased, u64);
    let cases: [(&Operation, Set, u64, u64); 3] = [
        (&grant, |of, number| of.leases = number, 1, LEASES_MAX),
        (&put, |of, number| of.keys = number, 1, LEASED_KEYS_MAX),
        (
            &put,
            |of, number| of.key_bytes = number,
            bytes,
            LEASED_BYTES_MAX,
        ),
    ];
    for (operation, set, more, max) in cases {
        let (open, little) = (max / 4 * 3, max / 256);
        for (all, own, has_room) in [
            (open - more, open - more, true),
            (open - more + 1, open - more + 1, false),
            (open - more + 1, little - more, true),
            (max - more, little - more, true),
            (max - more, little - more + 1, false),
            (max - more + 1, 0, false),
        ] {
            let mut world = World::default();
            set(&mut world.leased_min, all);
            set(&mut world.leased_own, own);
            let decision = world.decide(operation);
            let kind = decision.map(drop).map_err(|failure| failure.kind);
            let expected = has_room.then_some(()).ok_or(ErrorKind::Full);
            assert_eq!(kind, expected, "{own} of {all}, at most {max}");
        }
    }
}

#[test]
fn lease_with_as_many_of_the_longest_keys_as_it_may_have_ends_in_one_transaction() {
    let mut world = World::default();
    let lease = grant(&mut world);
    for number in 0..LEASE_MEMBERS_MAX {
        let padded = format!("{number:04}{}", "x".repeat(LEASED_KEY_BYTES_MAX - 10));
        let key = encode(&Key::from(padded)).unwrap().into_bytes();
        world.run(&put(key, None, Some(lease))).unwrap();
    }
    let failure = world.decide(&put(key(1), None, Some(lease))).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Full);
    let other = grant(&mut world);
    let due = [Due::Lease(SPACE, lease), Due::Lease(SPACE, other)];
    let (decided, count) = world.expire(&due);
    assert_eq!(count, 1, "the other one waits for the next transaction");
    assert_eq!(
        decided.outcome,
        Outcome::Deleted(u64::from(LEASE_MEMBERS_MAX))
    );
    let bytes = decided.changes.iter();
    let bytes = bytes.map(|(_, change)| super::super::change_bytes(&change.key, None));
    assert!(bytes.sum::<usize>() <= TRANSACTION_BYTES_MAX);
    assert_eq!(world.entries(NamespaceId::LEASES).count(), 1);
}

#[test]
fn very_many_keys_end_in_several_transactions_each_once() {
    let mut world = World::default();
    let keys = 2 * EXPIRY_COUNT_MAX + 10;
    let mut due = Vec::new();
    for number in 0..keys {
        let key = encode(&Key::from(number as i64)).unwrap().into_bytes();
        world.run(&put(key.clone(), Some(5), None)).unwrap();
        due.push(Due::Key(SPACE, key));
    }
    world.now_ms = 5;
    let (mut rest, mut removed) = (&due[..], 0);
    while !rest.is_empty() {
        let (decided, count) = world.expire(rest);
        let Outcome::Deleted(number) = decided.outcome else {
            panic!("keys are removed");
        };
        assert!(decided.changes.len() <= 3 * EXPIRY_COUNT_MAX);
        removed += number;
        rest = &rest[count..];
    }
    assert_eq!(removed, keys as u64);
    assert_eq!(
        world.entries(SPACE).count() + world.entries(NamespaceId::LEASES).count(),
        0
    );
    assert!(world.expire(&due).0.changes.is_empty());
}

#[test]
fn removal_of_a_range_takes_as_many_of_the_longest_keys_as_it_promises() {
    let mut world = World::default();
    let leases = [(); 2].map(|()| grant(&mut world));
    for number in 0..2 * LEASE_MEMBERS_MAX {
        let padded = format!("{number:04}{}", "x".repeat(LEASED_KEY_BYTES_MAX - 10));
        let key = encode(&Key::from(padded)).unwrap().into_bytes();
        let lease = leases[number as usize % 2];
        world.run(&put(key, Some(5), Some(lease))).unwrap();
    }
    let all = Operation::DeleteRange {
        start: Bytes::new(),
        end: None,
        count_max: RANGE_REMOVAL_COUNT_MAX,
    };
    let left = 2 * LEASE_MEMBERS_MAX - RANGE_REMOVAL_COUNT_MAX;
    for removed in [RANGE_REMOVAL_COUNT_MAX, left, 0] {
        let decided = world.run(&all).unwrap();
        assert_eq!(decided.outcome, Outcome::Deleted(removed.into()));
        let bytes = decided.changes.iter();
        let bytes = bytes.map(|(_, change)| super::super::change_bytes(&change.key, None));
        assert!(bytes.sum::<usize>() <= TRANSACTION_BYTES_MAX);
    }
    let entries = world.entries(NamespaceId::LEASES).count();
    assert_eq!(entries, leases.len(), "the leases themselves");
}
