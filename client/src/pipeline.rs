//! Many acknowledged writes in flight at once.

use bytes::Bytes;
use objsync_proto::ids::Ack;

use crate::dict::Dict;
use crate::error::Result;

/// Writes that are sent in order without waiting for each answer, with a bound on how many are
/// unanswered.
///
/// A failed write does not stop those after it; [`Pipeline::finish`] raises the first failure.
#[derive(Debug)]
pub struct Pipeline {
    dict: Dict,
}

impl Pipeline {
    pub(crate) fn new(dict: &Dict) -> Self {
        Self { dict: dict.clone() }
    }

    /// Starts a write; waits only when the window is full.
    ///
    /// # Errors
    /// `Interrupted` while waiting for room.
    pub fn set(&mut self, key: &[u8], value: impl Into<Bytes>) -> Result<()> {
        let _ = (&self.dict, key, value.into());
        todo!()
    }

    /// Starts a removal; waits only when the window is full.
    ///
    /// # Errors
    /// `Interrupted` while waiting for room.
    pub fn delete(&mut self, key: &[u8]) -> Result<()> {
        let _ = (&self.dict, key);
        todo!()
    }

    /// Waits for every answer and returns the last acknowledgement, if any write was made.
    ///
    /// # Errors
    /// The first failure of any write.
    pub fn finish(self) -> Result<Option<Ack>> {
        todo!()
    }
}
