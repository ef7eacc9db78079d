//! Random operations, chosen so that they meet what is there.

use super::world::{SPACE, World};
use super::{int, key, text};
use crate::effect::Change;
use crate::evaluate::{Changed, Due, Ranges, View};
use crate::ids::{LeaseId, NamespaceId, Revision};
use crate::operation::{Edit, Fence, KeyRead, Operation};
use crate::stored::{self, Compression};
use crate::value::{self, Value};
use crate::wire::KeyRange;
use bytes::Bytes;

/// Numbers that follow from a seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }

    pub(super) fn chance(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn key(&mut self) -> Bytes {
        key(u8::try_from(self.below(8)).unwrap())
    }

    fn value(&mut self) -> Bytes {
        let sealed = |value: &Value| {
            stored::seal(&value::encode(value).unwrap(), Compression::Zstd(3)).unwrap()
        };
        match self.below(8) {
            0..=2 => int(i64::try_from(self.below(5)).unwrap() - 2),
            3 => int(i64::MAX),
            4 => text("words"),
            5 => text(&"many words ".repeat(20)),
            6 => sealed(&Value::List(vec![1.into(), "a".into()])),
            _ => sealed(&Value::Set(vec![1.into(), "a".into(), "b".into()])),
        }
    }

    fn items(&mut self) -> Vec<Bytes> {
        let one = |random: &mut Self| {
            let value: Value = match random.below(6) {
                0 => 1.into(),
                1 => 1.0.into(),
                2 => true.into(),
                3 => "a".into(),
                4 => "c".into(),
                _ => Value::Tuple(vec![2.into()]),
            };
            value::encode(&value).unwrap()
        };
        (0..self.below(4)).map(|_| one(self)).collect()
    }

    fn changes(&mut self) -> Vec<Change> {
        let one = |random: &mut Self| Change {
            key: random.key(),
            value: (!random.chance(3)).then(|| random.value()),
        };
        (0..self.below(6)).map(|_| one(self)).collect()
    }

    fn range(&mut self) -> KeyRange {
        KeyRange {
            start: self.key(),
            end: (!self.chance(3)).then(|| self.key()),
        }
    }

    /// A revision that there was, or nearly.
    fn revision(&mut self, last: Revision) -> Revision {
        Revision(last.0.saturating_sub(self.below(6)))
    }

    fn lease(&mut self, last: Revision) -> LeaseId {
        LeaseId(self.below(last.0 + 1))
    }
}

pub(super) fn operation(random: &mut Random, world: &World) -> Operation {
    let last = world.last;
    let granted: Vec<LeaseId> = world
        .entries(NamespaceId::LEASES)
        .filter_map(|(entry, _)| match crate::lease::EntryKey::decode(&entry) {
            Some(crate::lease::EntryKey::Lease(_, lease)) => Some(lease),
            _ => None,
        })
        .collect();
    let lease = |random: &mut Random| match granted.is_empty() || random.chance(6) {
        true => random.lease(last),
        false => granted[usize::try_from(random.below(granted.len() as u64)).unwrap()],
    };
    match random.below(26) {
        0..=2 => Operation::Put {
            key: random.key(),
            value: random.value(),
        },
        3 => Operation::Delete { key: random.key() },
        4 => {
            let KeyRange { start, end } = random.range();
            let count_max = u32::try_from(random.below(5)).unwrap();
            Operation::DeleteRange {
                start,
                end,
                count_max,
            }
        }
        5 | 6 => Operation::CompareAndSet {
            key: random.key(),
            expected: (!random.chance(3)).then(|| stored::open(&random.value()).unwrap()),
            new: (!random.chance(3)).then(|| random.value()),
        },
        7 | 8 => Operation::Increment {
            key: random.key(),
            by: i64::try_from(random.below(9)).unwrap() - 4,
        },
        9 => Operation::Batch {
            changes: random.changes(),
        },
        10..=12 => transact(random, world),
        13..=15 => Operation::Patch {
            key: random.key(),
            patch: match random.below(3) {
                0 => Edit::Append {
                    items: random.items(),
                },
                1 => Edit::Add {
                    items: random.items(),
                },
                _ => Edit::Discard {
                    items: random.items(),
                },
            }
            .into(),
        },
        16..=18 => {
            let ttl_ms = (!random.chance(3)).then(|| 1 + random.below(40));
            let lease = (ttl_ms.is_none() || random.chance(2)).then(|| lease(random));
            Operation::PutLeased {
                key: random.key(),
                value: random.value(),
                ttl_ms,
                lease,
            }
        }
        19 => Operation::GrantLease {
            ttl_ms: 1 + random.below(40),
            presence: random.chance(2),
        },
        20 => Operation::RevokeLease {
            lease: lease(random),
        },
        21 | 22 => Operation::Lock {
            name: random.key(),
            lease: lease(random),
        },
        23 | 24 => fence(random, world, |name, fence| Operation::Unlock {
            name,
            fence,
        }),
        _ => Operation::Settle,
    }
}

/// The fence of a lock that is held, or of none.
fn fence<T>(random: &mut Random, world: &World, of: impl FnOnce(Bytes, Revision) -> T) -> T {
    use crate::lease::{EntryKey, HeldLock};
    let name = random.key();
    let entry = EntryKey::Lock(SPACE, name.clone()).encode();
    let Ok(held) = world.get(NamespaceId::LEASES, &entry);
    let held = held.and_then(|held| HeldLock::decode(&held.value));
    let fence = held.map_or(Revision(3), |held| held.fence);
    of(name, Revision(fence.0 + u64::from(random.chance(5))))
}

fn transact(random: &mut Random, world: &World) -> Operation {
    let read = |random: &mut Random| {
        let key = random.key();
        let Ok(present) = world.get(SPACE, &key);
        let revision = present.map(|present| present.revision);
        let revision = match random.chance(8) {
            true => Some(random.revision(world.last)),
            false => revision,
        };
        KeyRead { key, revision }
    };
    Operation::Transact {
        reads: (0..random.below(3)).map(|_| read(random)).collect(),
        ranges: (0..random.below(3)).map(|_| random.range()).collect(),
        at: random.revision(world.last),
        fences: (0..random.below(8) / 6)
            .map(|_| fence(random, world, |name, fence| Fence { name, fence }))
            .collect(),
        changes: random.changes(),
    }
}

pub(super) fn due(random: &mut Random, world: &World) -> Vec<Due> {
    let one = |random: &mut Random| match random.below(3) {
        0 => Due::Lease(SPACE, random.lease(world.last)),
        _ => Due::Key(SPACE, random.key()),
    };
    (0..random.below(6)).map(|_| one(random)).collect()
}

#[test]
fn world_tells_what_has_changed_after_a_revision() {
    let mut world = World::default();
    for number in [1, 2] {
        let value = int(0);
        world
            .run(&Operation::Put {
                key: key(number),
                value,
            })
            .unwrap();
    }
    let all = Ranges::new(&[KeyRange::default()]);
    let Ok(changed) = world.changed(SPACE, Revision(1), &all);
    assert_eq!(changed, Changed::Key(key(2), Revision(2)));
    let Ok(changed) = world.changed(SPACE, Revision(2), &all);
    assert_eq!(changed, Changed::Nothing);
}
