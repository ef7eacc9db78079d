//! Random transactions, patches, leases and locks, chosen so that they meet what is there.

use bytes::Bytes;
use objsync_proto::ids::{LeaseId, NamespaceId, Revision};
use objsync_proto::operation::{Edit, Fence, KeyRead, Operation, Patch};

use crate::harness::random::Random;
use crate::harness::{key_of, payload_of, value_of};
use crate::model::State;
use crate::work::{changes, key, text};
use crate::world::STAND_IN;

/// A transaction, a patch, or something about leases.
pub fn operation(random: &mut Random, state: &State, namespace: NamespaceId) -> Operation {
    let leases: Vec<_> = state
        .leases()
        .filter(|(of, lease, _)| *of == namespace && lease.0 < STAND_IN)
        .map(|(_, lease, _)| lease)
        .collect();
    let lease = |random: &mut Random| match leases.is_empty() || random.chance(8) {
        // Never one that was granted, of which perhaps nobody was told.
        true => LeaseId(random.below(2)),
        false => leases[random.below(leases.len() as u64) as usize],
    };
    let ttl_ms = |random: &mut Random| 1 + random.of_bits(0, 11);
    match random.below(24) {
        0..=4 => {
            let lease = random.chance(2).then(|| lease(random));
            let is_timed = lease.is_none() || random.chance(2);
            Operation::PutLeased {
                key: key(random),
                value: value_of(&text(random)),
                ttl_ms: is_timed.then(|| ttl_ms(random)),
                lease,
            }
        }
        5..=7 => Operation::GrantLease {
            ttl_ms: ttl_ms(random),
            presence: random.chance(2),
        },
        8 => Operation::RevokeLease {
            lease: lease(random),
        },
        9..=12 => Operation::Lock {
            name: lock_name(random),
            lease: lease(random),
        },
        13 => {
            let Fence { name, fence } = fence(random, state, namespace);
            Operation::Unlock { name, fence }
        }
        14..=18 => transact(random, state, namespace),
        19..=22 => Operation::Patch {
            key: match random.chance(10) {
                true => key(random),
                false => key_of(&format!("p{}", random.below(2))),
            },
            patch: patch(random),
        },
        _ => Operation::Settle,
    }
}

fn lock_name(random: &mut Random) -> Bytes {
    key_of(&format!("lock{}", random.below(2)))
}

/// What somebody demands who holds a lock, or thinks so.
fn fence(random: &mut Random, state: &State, namespace: NamespaceId) -> Fence {
    let name = lock_name(random);
    let mut locks = state.locks();
    let held = locks.find(|(of, held, _)| (*of, held) == (namespace, &name));
    let fence = held.map_or(Revision(2), |(_, _, held)| held.fence);
    match fence.0 < STAND_IN && !random.chance(6) {
        true => Fence { name, fence },
        false => {
            let fence = Revision(1);
            Fence { name, fence }
        }
    }
}

fn transact(random: &mut Random, state: &State, namespace: NamespaceId) -> Operation {
    let read = |random: &mut Random| {
        let key = key(random);
        let held = state.content.get(&(namespace, key.clone()));
        let revision = match random.chance(8) {
            true => Some(Revision(1)),
            false => held.map(|held| held.revision.unwrap_or(Revision(1))),
        };
        KeyRead { key, revision }
    };
    Operation::Transact {
        reads: (0..random.below(3)).map(|_| read(random)).collect(),
        ranges: Vec::new(),
        at: Revision(0),
        fences: (0..random.below(8) / 6)
            .map(|_| fence(random, state, namespace))
            .collect(),
        changes: changes(random),
    }
}

fn patch(random: &mut Random) -> Patch {
    let item = |random: &mut Random| payload_of(&format!("item {}", random.below(5)));
    let items: Vec<Bytes> = (0..random.below(4)).map(|_| item(random)).collect();
    match random.below(4) {
        0 => Edit::Append { items },
        1 => Edit::Discard { items },
        _ => Edit::Add { items },
    }
    .into()
}
