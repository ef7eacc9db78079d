//! Numbers for random tests: one seed, one run.

use bytes::Bytes;
use objsync_proto::wire::KeyRange;

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `end`, not included.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A short key out of few, so that keys meet again; the empty one among them.
    pub(crate) fn key(&mut self) -> Vec<u8> {
        let bytes = self.below(4);
        (0..bytes)
            .map(|_| [0, 1, b'a', 0xFF][self.below(4) as usize])
            .collect()
    }

    /// A short value.
    pub(crate) fn value(&mut self) -> Vec<u8> {
        let bytes = self.below(12);
        (0..bytes).map(|_| self.next() as u8).collect()
    }

    /// A range of such keys: whole, half open, or empty.
    pub(crate) fn range(&mut self) -> KeyRange {
        let start = if self.below(3) == 0 {
            Vec::new()
        } else {
            self.key()
        };
        let end = (self.below(3) > 0).then(|| Bytes::from(self.key()));
        KeyRange {
            start: start.into(),
            end,
        }
    }
}

#[test]
fn same_seed_gives_the_same_numbers() {
    let draw = |seed| {
        let mut random = Random::new(seed);
        [random.next(), random.next(), random.next()]
    };
    assert_eq!(draw(4), draw(4));
    assert_ne!(draw(4), draw(5));
}
