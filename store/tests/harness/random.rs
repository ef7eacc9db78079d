//! Numbers that are the same for the same seed.

/// xorshift64*.
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    /// A number of at most so many bits; small ones come as often as large ones.
    pub fn of_bits(&mut self, from: u64, to: u64) -> u64 {
        let bits = from + self.below(to - from + 1);
        self.below(1 << bits)
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}
