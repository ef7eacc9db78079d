//! Counters that tell a cache of decoded values whether what it holds is still current.
//!
//! A cache reads the stamp of a key, then the value, and keeps both. Each committed change counts
//! the stripe of its key up after the maps hold it and before anybody is told: a value read before
//! that has an older stamp.

use std::sync::atomic::{AtomicU64, Ordering};

use objsync_proto::ids::NamespaceId;

/// Stripes; a power of two.
const STRIPE_COUNT: usize = 4096;

/// What a cache keeps beside a value. Equal stamps mean that the value did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which counter.
    pub stripe: u32,
    /// What it showed.
    pub count: u64,
}

/// The counters.
pub struct Stamps(Box<[AtomicU64]>);

impl Default for Stamps {
    fn default() -> Self {
        Self((0..STRIPE_COUNT).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Stamps {
    /// The stamp of a key. To be read before the value is.
    #[must_use]
    pub fn stamp(&self, namespace: NamespaceId, key: &[u8]) -> Stamp {
        let stripe = stripe(namespace, key);
        Stamp {
            stripe,
            count: self.0[stripe as usize].load(Ordering::Acquire),
        }
    }

    /// Whether no key of the stamp's stripe changed since.
    #[must_use]
    pub fn is_current(&self, stamp: Stamp) -> bool {
        self.0
            .get(stamp.stripe as usize)
            .is_some_and(|counter| counter.load(Ordering::Acquire) == stamp.count)
    }

    /// Tells that a key changed, and readers find the new value.
    pub fn bump(&self, namespace: NamespaceId, key: &[u8]) {
        self.0[stripe(namespace, key) as usize].fetch_add(1, Ordering::AcqRel);
    }
}

/// FNV-1a, folded: two keys in one stripe cost a needless decoding, nothing else.
fn stripe(namespace: NamespaceId, key: &[u8]) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ u64::from(namespace.0);
    for byte in key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    #[expect(clippy::cast_possible_truncation, reason = "masked to the stripes")]
    let stripe = ((hash >> 32) ^ hash) as u32 & (STRIPE_COUNT as u32 - 1);
    stripe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamp_read_before_a_change_is_stale_after_it() {
        let stamps = Stamps::default();
        let before = stamps.stamp(NamespaceId(1), b"key");
        assert!(stamps.is_current(before));
        stamps.bump(NamespaceId(1), b"key");
        assert!(!stamps.is_current(before));
        assert!(stamps.is_current(stamps.stamp(NamespaceId(1), b"key")));
    }

    #[test]
    fn keys_spread_over_the_stripes() {
        let stamps = Stamps::default();
        let stripes: std::collections::HashSet<u32> = (0..4096_u32)
            .map(|i| stamps.stamp(NamespaceId(1), &i.to_be_bytes()).stripe)
            .collect();
        assert!(stripes.len() > 2000, "{} stripes", stripes.len());
    }

    #[test]
    fn stamp_of_an_unknown_stripe_is_never_current() {
        let stamp = Stamp {
            stripe: u32::MAX,
            count: 0,
        };
        assert!(!Stamps::default().is_current(stamp));
    }
}
