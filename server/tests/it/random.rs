//! Repeatable randomness: the same seed gives the same run.

/// A small generator (xorshift64*): the tests need damage, not chance.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 11).unwrap() % end
    }

    pub(crate) fn bytes(&mut self, count_max: usize) -> Vec<u8> {
        let count = self.below(count_max);
        (0..count).map(|_| self.next().to_le_bytes()[7]).collect()
    }
}
