//! Chance of a simulated store: as the seed says.

use std::sync::Mutex;

use objsync_store::clock::Entropy;

use crate::harness::random::Random;

/// Random bytes that are the same for the same seed.
pub struct SimEntropy(Mutex<Random>);

impl SimEntropy {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(Random::new(seed)))
    }
}

impl Entropy for SimEntropy {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        let mut random = self.0.lock().unwrap();
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&random.next().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}
