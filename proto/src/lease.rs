//! The entries of [`NamespaceId::LEASES`]: leases, what ends with them or by time, and locks.
//!
//! They are written in the same transaction as what they concern, so a log, a snapshot or a backup
//! has both or neither. `docs/format.md` "Leases" has the bytes. Nobody reads this namespace as a
//! dictionary.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::{LeaseId, NamespaceId, Revision};
use crate::limits::{KEY_BYTES_MAX, LEASED_KEY_BYTES_MAX};
use crate::wire::KeyRange;

/// Bytes that the longest key of an entry has beside the key or name that it is about.
pub const ENTRY_KEY_BYTES: usize = 1 + 4 + 8 + 1;

// What is written about the longest key that ends is a key itself.
const _: () = assert!(LEASED_KEY_BYTES_MAX + ENTRY_KEY_BYTES == KEY_BYTES_MAX);

const LEASE: u8 = 1;
const HOLD: u8 = 2;
const LOCK: u8 = 3;
const MEMBER: u8 = 4;

const VERSION: u8 = 0;
const PRESENCE: u8 = 1;
const HAS_DEADLINE: u8 = 1;
const HAS_LEASE: u8 = 2;

/// What an entry is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKey {
    /// A lease that lasts; the value is a [`Lease`].
    Lease(NamespaceId, LeaseId),
    /// A key that does not stay for ever; the value is a [`Hold`].
    Hold(NamespaceId, Bytes),
    /// A lock that is held; the value is a [`HeldLock`].
    Lock(NamespaceId, Bytes),
    /// What ends with a lease.
    Member(NamespaceId, LeaseId, Member),
}

/// What ends with a lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Member {
    /// A key.
    Key(Bytes),
    /// A lock, by its name.
    Lock(Bytes),
}

/// A lease that lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Milliseconds that it lasts after it was last kept.
    pub ttl_ms: u64,
    /// A connection keeps it.
    pub presence: bool,
}

/// When a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The owner's time, milliseconds since 1970, from which on it is removed.
    pub deadline_ms: Option<u64>,
    /// The lease with which it ends.
    pub lease: Option<LeaseId>,
}

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLock {
    /// The lease with which it is freed.
    pub lease: LeaseId,
    /// What taking it gave.
    pub fence: Revision,
}

impl EntryKey {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let about = match self {
            Self::Lease(..) => 0,
            Self::Hold(_, about) | Self::Lock(_, about) => about.len(),
            Self::Member(_, _, Member::Key(about) | Member::Lock(about)) => about.len(),
        };
        let mut bytes = BytesMut::with_capacity(ENTRY_KEY_BYTES + about);
        match self {
            Self::Lease(namespace, lease) => {
                put_head(&mut bytes, LEASE, *namespace);
                bytes.put_u64(lease.0);
            }
            Self::Hold(namespace, key) => {
                put_head(&mut bytes, HOLD, *namespace);
                bytes.put_slice(key);
            }
            Self::Lock(namespace, name) => {
                put_head(&mut bytes, LOCK, *namespace);
                bytes.put_slice(name);
            }
            Self::Member(namespace, lease, member) => {
                put_head(&mut bytes, MEMBER, *namespace);
                bytes.put_u64(lease.0);
                let (kind, about) = match member {
                    Member::Key(key) => (HOLD, key),
                    Member::Lock(name) => (LOCK, name),
                };
                bytes.put_u8(kind);
                bytes.put_slice(about);
            }
        }
        bytes.freeze()
    }

    /// What these bytes are about; none for what this version does not write.
    #[must_use]
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (namespace, rest) = rest.split_first_chunk()?;
        let namespace = NamespaceId(u32::from_be_bytes(*namespace));
        let lease = |rest: &[u8]| {
            let (lease, rest) = rest.split_first_chunk()?;
            Some((LeaseId(u64::from_be_bytes(*lease)), rest.len()))
        };
        let about = |count: usize| bytes.slice(bytes.len() - count..);
        match *kind {
            LEASE => match lease(rest)? {
                (lease, 0) => Some(Self::Lease(namespace, lease)),
                _ => None,
            },
            HOLD => Some(Self::Hold(namespace, about(rest.len()))),
            LOCK => Some(Self::Lock(namespace, about(rest.len()))),
            MEMBER => {
                let (lease, count) = lease(rest)?;
                let about = about(count);
                let member = match *about.first()? {
                    HOLD => Member::Key(about.slice(1..)),
                    LOCK => Member::Lock(about.slice(1..)),
                    _ => return None,
                };
                Some(Self::Member(namespace, lease, member))
            }
            _ => None,
        }
    }
}

/// The entries that name everything which ends with a lease.
#[must_use]
pub fn members(namespace: NamespaceId, lease: LeaseId) -> KeyRange {
    let mut start = BytesMut::with_capacity(ENTRY_KEY_BYTES);
    put_head(&mut start, MEMBER, namespace);
    start.put_u64(lease.0);
    let mut end = start.clone();
    // Above both kinds of members.
    end.put_u8(u8::MAX);
    KeyRange {
        start: start.freeze(),
        end: Some(end.freeze()),
    }
}

/// The value of the entry of a [`Member`].
#[must_use]
pub fn member_value() -> Bytes {
    Bytes::from_static(&[VERSION])
}

impl Lease {
    /// The value of its entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(10);
        bytes.put_slice(&[VERSION, u8::from(self.presence) * PRESENCE]);
        bytes.put_u64(self.ttl_ms);
        bytes.freeze()
    }

    /// From the value of its entry.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        let [VERSION, flags, rest @ ..] = value else {
            return None;
        };
        Some(Self {
            ttl_ms: u64::from_be_bytes(rest.try_into().ok()?),
            presence: flags & PRESENCE != 0,
        })
    }
}

impl Hold {
    /// The value of its entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(18);
        let flag = |is_there: bool, flag: u8| u8::from(is_there) * flag;
        bytes.put_u8(VERSION);
        bytes.put_u8(
            flag(self.deadline_ms.is_some(), HAS_DEADLINE) | flag(self.lease.is_some(), HAS_LEASE),
        );
        if let Some(deadline_ms) = self.deadline_ms {
            bytes.put_u64(deadline_ms);
        }
        if let Some(lease) = self.lease {
            bytes.put_u64(lease.0);
        }
        bytes.freeze()
    }

    /// From the value of its entry.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        let [VERSION, flags, rest @ ..] = value else {
            return None;
        };
        let mut rest = rest;
        let mut take = |flag: u8| {
            if flags & flag == 0 {
                return Some(None);
            }
            let (number, after) = rest.split_first_chunk()?;
            rest = after;
            Some(Some(u64::from_be_bytes(*number)))
        };
        let hold = Self {
            deadline_ms: take(HAS_DEADLINE)?,
            lease: take(HAS_LEASE)?.map(LeaseId),
        };
        rest.is_empty().then_some(hold)
    }
}

impl HeldLock {
    /// The value of its entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(17);
        bytes.put_u8(VERSION);
        bytes.put_u64(self.lease.0);
        bytes.put_u64(self.fence.0);
        bytes.freeze()
    }

    /// From the value of its entry.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        let [VERSION, rest @ ..] = value else {
            return None;
        };
        let (lease, fence) = rest.split_first_chunk()?;
        Some(Self {
            lease: LeaseId(u64::from_be_bytes(*lease)),
            fence: Revision(u64::from_be_bytes(fence.try_into().ok()?)),
        })
    }
}

fn put_head(bytes: &mut BytesMut, kind: u8, namespace: NamespaceId) {
    bytes.put_u8(kind);
    bytes.put_u32(namespace.0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_come_back_as_they_were_encoded() {
        let (space, lease) = (NamespaceId(17), LeaseId(300));
        let key = Bytes::from_static(b"key");
        for entry in [
            EntryKey::Lease(space, lease),
            EntryKey::Hold(space, key.clone()),
            EntryKey::Lock(space, key.clone()),
            EntryKey::Member(space, lease, Member::Key(key.clone())),
            EntryKey::Member(space, lease, Member::Lock(key.clone())),
        ] {
            let bytes = entry.encode();
            assert!(bytes.len() <= ENTRY_KEY_BYTES + key.len());
            assert_eq!(EntryKey::decode(&bytes), Some(entry.clone()));
            let is_member = matches!(entry, EntryKey::Member(..));
            assert_eq!(members(space, lease).contains(&bytes), is_member);
            assert!(!members(space, LeaseId(301)).contains(&bytes));
        }
        let granted = Lease {
            ttl_ms: 5,
            presence: true,
        };
        assert_eq!(Lease::decode(&granted.encode()), Some(granted));
        for (deadline_ms, lease) in [(Some(7), None), (None, Some(lease)), (Some(7), Some(lease))] {
            let hold = Hold { deadline_ms, lease };
            assert_eq!(Hold::decode(&hold.encode()), Some(hold));
        }
        let fence = Revision(9);
        let lock = HeldLock { lease, fence };
        assert_eq!(HeldLock::decode(&lock.encode()), Some(lock));
    }

    #[test]
    fn bytes_are_the_golden_ones() {
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        let (space, lease) = (NamespaceId(1), LeaseId(0x0203));
        let member = Member::Key(Bytes::from_static(b"k"));
        let member = EntryKey::Member(space, lease, member).encode();
        assert_eq!(
            hex(&member),
            "040000000100000000000002030 26b".replace(' ', "")
        );
        let hold = Hold {
            deadline_ms: Some(256),
            lease: Some(lease),
        };
        assert_eq!(hex(&hold.encode()), "000300000000000001000000000000000203");
        let granted = Lease {
            ttl_ms: 10,
            presence: true,
        };
        assert_eq!(hex(&granted.encode()), "0001000000000000000a");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_entry_that_encodes_to_them_or_none(
            bytes in proptest::collection::vec(0..6_u8, 0..24),
        ) {
            let bytes = Bytes::from(bytes);
            if let Some(entry) = EntryKey::decode(&bytes) {
                prop_assert_eq!(entry.encode(), bytes);
            } else {
                let _ = (Lease::decode(&bytes), Hold::decode(&bytes), HeldLock::decode(&bytes));
            }
        }
    }
}
