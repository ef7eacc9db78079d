//! Many acknowledged writes in flight at once.

use std::collections::VecDeque;

use bytes::Bytes;
use objsync_proto::ids::Ack;

use crate::dict::Dict;
use crate::error::{ObjectError, Result};
use crate::pending::Pending;

/// Most unanswered writes of one pipeline. Once they are reached, half of them are waited for, so
/// that the thread sleeps rarely and for long.
const WINDOW_COUNT: usize = 4_096;
/// Most bytes of them, at which all are waited for.
const WINDOW_BYTES: usize = 4 << 20;

/// Writes that are sent in order without waiting for each answer, with a bound on how many are
/// unanswered.
///
/// A failed write does not stop those after it; [`Pipeline::finish`] raises the first failure. A
/// pipeline that is dropped does not take back what it started.
#[derive(Debug)]
pub struct Pipeline {
    dict: Dict,
    unanswered: VecDeque<Pending<Ack>>,
    bytes: usize,
    last: Option<Ack>,
    failed: Option<ObjectError>,
}

impl Pipeline {
    pub(crate) fn new(dict: &Dict) -> Self {
        Self {
            dict: dict.clone(),
            unanswered: VecDeque::new(),
            bytes: 0,
            last: None,
            failed: None,
        }
    }

    /// Starts a write; waits only when the window is full.
    ///
    /// # Errors
    /// `Interrupted` while waiting for room.
    pub fn set(&mut self, key: &[u8], value: impl Into<Bytes>) -> Result<()> {
        let value = value.into();
        let bytes = key.len() + value.len();
        self.add(self.dict.set(key, value), bytes)
    }

    /// Starts a removal; waits only when the window is full.
    ///
    /// # Errors
    /// `Interrupted` while waiting for room.
    pub fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.add(self.dict.delete(key).map(|(_, ack)| ack), key.len())
    }

    /// Waits for every answer and returns the last acknowledgement, if any write was made.
    ///
    /// # Errors
    /// The first failure of any write.
    pub fn finish(mut self) -> Result<Option<Ack>> {
        self.wait_until(0)?;
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.last),
        }
    }

    fn add(&mut self, write: Pending<Ack>, bytes: usize) -> Result<()> {
        if self.bytes + bytes > WINDOW_BYTES {
            self.wait_until(0)?;
        } else if self.unanswered.len() >= WINDOW_COUNT {
            self.wait_until(WINDOW_COUNT / 2)?;
        }
        if !write.is_startable() {
            // A large value: it begins when it is waited for, so those after it wait too.
            self.unanswered.push_back(write);
            return self.wait_until(0);
        }
        self.bytes += bytes;
        self.unanswered.push_back(write.start());
        Ok(())
    }

    /// Waits for the oldest until `count` are left.
    fn wait_until(&mut self, count: usize) -> Result<()> {
        while self.unanswered.len() > count {
            let Some(oldest) = self.unanswered.pop_front() else {
                break;
            };
            match oldest.wait() {
                Ok(ack) => self.last = Some(ack),
                Err(error @ ObjectError::Interrupted { .. }) => return Err(error),
                Err(error) => self.failed = self.failed.take().or(Some(error)),
            }
        }
        if self.unanswered.is_empty() {
            self.bytes = 0;
        }
        Ok(())
    }
}
