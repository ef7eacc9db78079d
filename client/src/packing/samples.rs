//! Values to train from, and when it is time to.
//!
//! What is kept is spread evenly over all that was shown since the last training, so it is of
//! recent values. Each training makes the wait for the next longer: values that cannot be compressed cost a
//! handful of trainings, however many they are.

use bytes::Bytes;

/// Bytes of samples that are kept.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// Longest value that is a sample: longer ones hardly need a dictionary.
const SAMPLE_BYTES_MAX: usize = 16 << 10;
/// Shortest value that is a sample: zstd makes nothing of shorter ones.
const SAMPLE_BYTES_MIN: usize = 8;
/// The first training is after so many values, or so many bytes of them.
const FIRST_COUNT: u64 = 1_000;
const FIRST_BYTES: u64 = 1 << 20;
/// Fewest values for one, however long.
const LEAST_COUNT: u64 = 200;
/// The next training is after so many times as much as the one before.
const FACTOR_STEP: u64 = 4;
/// But while trainings pay, after so many times the first amount at most; and while they do not, after so
/// many: values may become others.
const FACTOR_MAX: u64 = 64;
const FACTOR_IDLE_MAX: u64 = 4_096;

/// Values to train from.
pub(super) struct Samples {
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// Shown since the last training.
    count: u64,
    bytes: u64,
    /// How many times the first amount the next training needs.
    factor: u64,
    is_training: bool,
    /// No training can come to anything any more.
    is_over: bool,
    trainings: u64,
}

impl Default for Samples {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            kept_bytes: 0,
            count: 0,
            bytes: 0,
            factor: 1,
            is_training: false,
            is_over: false,
            trainings: 0,
        }
    }
}

/// What came of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is a new dictionary.
    New,
    /// None that is better than what there is.
    Nothing,
    /// There cannot be any more.
    Over,
}

impl Samples {
    /// Takes in a value. A copy, while there is room; later ever more rarely.
    pub(super) fn show(&mut self, payload: &[u8]) {
        if !(SAMPLE_BYTES_MIN..=SAMPLE_BYTES_MAX).contains(&payload.len()) || self.is_over {
            return;
        }
        self.count += 1;
        self.bytes += payload.len() as u64;
        if self.kept_bytes + payload.len() <= KEPT_BYTES_MAX {
            self.kept_bytes += payload.len();
            self.kept.push(Bytes::copy_from_slice(payload));
            return;
        }
        // Each value shown is kept with the same chance; a count will do for that.
        let place = scramble(self.count) % self.count;
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if let Some(kept) = self.kept.get_mut(place) {
            self.kept_bytes = self.kept_bytes - kept.len() + payload.len();
            *kept = Bytes::copy_from_slice(payload);
        }
        while self.kept_bytes > KEPT_BYTES_MAX {
            let last = self.kept.pop().map_or(0, |last| last.len());
            self.kept_bytes -= last;
        }
    }

    /// Whether it is time to train, and nobody does. Then a training has begun.
    pub(super) fn begin(&mut self) -> bool {
        let is_due = self.count >= FIRST_COUNT.saturating_mul(self.factor)
            || self.bytes >= FIRST_BYTES.saturating_mul(self.factor) && self.count >= LEAST_COUNT;
        let begins = is_due && !self.is_training && !self.is_over;
        self.is_training |= begins;
        begins
    }

    /// What to train from. What is shown from here on is for the next training.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.kept_bytes = 0;
        self.count = 0;
        self.bytes = 0;
        std::mem::take(&mut self.kept)
    }

    /// A training has ended.
    pub(super) fn end(&mut self, outcome: Outcome) {
        self.trainings += 1;
        self.is_training = false;
        self.is_over = outcome == Outcome::Over;
        let factor_max = match outcome {
            Outcome::New => FACTOR_MAX,
            Outcome::Nothing | Outcome::Over => FACTOR_IDLE_MAX,
        };
        self.factor = (self.factor * FACTOR_STEP).min(factor_max);
    }

    /// How many trainings there were.
    pub(super) fn trainings(&self) -> u64 {
        self.trainings
    }
}

/// A number that looks like any other (splitmix64).
fn scramble(count: u64) -> u64 {
    let mut mixed = count.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_be_compressed_cost_a_handful_of_trainings() {
        let mut samples = Samples::default();
        let mut trainings = 0;
        for number in 0..1_000_000_u64 {
            samples.show(&scramble(number).to_be_bytes());
            if samples.begin() {
                assert!(!samples.begin(), "one at a time");
                samples.take();
                samples.end(Outcome::Nothing);
                trainings += 1;
            }
        }
        assert_eq!(trainings, samples.trainings());
        assert!((2..=8).contains(&trainings), "{trainings} trainings");
    }

    #[test]
    fn samples_are_bounded_and_of_all_that_was_shown() {
        let mut samples = Samples::default();
        for number in 0..20_000_u64 {
            let mut value = vec![0; 1000];
            value[..8].copy_from_slice(&number.to_be_bytes());
            samples.show(&value);
        }
        let kept = samples.take();
        let bytes: usize = kept.iter().map(Bytes::len).sum();
        assert!(bytes <= KEPT_BYTES_MAX && bytes > KEPT_BYTES_MAX / 2);
        let number = |kept: &Bytes| u64::from_be_bytes(kept[..8].try_into().unwrap());
        let late = kept.iter().filter(|kept| number(kept) >= 10_000).count();
        assert!(late > kept.len() / 3, "{late} of {}", kept.len());
    }

    #[test]
    fn after_the_last_dictionary_nothing_is_kept() {
        let mut samples = Samples::default();
        samples.end(Outcome::Over);
        for _ in 0..100_000 {
            samples.show(b"a value that is short");
            assert!(!samples.begin());
        }
        assert!(samples.take().is_empty());
    }
}
