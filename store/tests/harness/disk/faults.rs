//! What a disk is told to do wrong, and when.

use std::io;

/// A call of the `Disk` traits, by what can go wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Open,
    Read,
    Write,
    Sync,
    Rename,
    Remove,
    List,
    SyncDirectory,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO. A write then has written any part; a sync has synced any part, and what it has not
    /// is never synced by a later one.
    Error,
    /// One bit of what is read is wrong, once. Of another call: [`Fault::Error`].
    FlippedBit,
}

/// A fault that waits for its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    pub call: Call,
    /// Calls of that kind before it.
    pub after: u64,
    /// It meets every later one too.
    pub stays: bool,
    pub fault: Fault,
    /// The power goes so many calls after it.
    pub then_off: Option<u64>,
}

impl Planned {
    /// The next call of a kind fails, and no other.
    pub fn next(call: Call) -> Self {
        Self {
            call,
            after: 0,
            stays: false,
            fault: Fault::Error,
            then_off: None,
        }
    }
}

/// What is still to come.
#[derive(Default)]
pub(super) struct Faults {
    planned: Vec<Planned>,
    /// The power goes after so many more calls.
    pub(super) calls_left: Option<u64>,
    pub(super) syncs: bool,
    pub(super) directory_syncs: bool,
    pub(super) writes: bool,
    pub(super) panics: bool,
    /// Bytes that the disk holds.
    pub(super) bytes_max: Option<u64>,
}

impl Faults {
    pub(super) fn plan(&mut self, planned: Planned) {
        self.planned.push(planned);
    }

    /// Ends all faults but those that a test switched on by name.
    pub(super) fn clear_planned(&mut self) {
        self.planned.clear();
        self.calls_left = None;
        self.bytes_max = None;
    }

    /// Counts a call: an error if the power is off, a fault if one was planned for it.
    pub(super) fn meet(&mut self, call: Call) -> io::Result<Option<Fault>> {
        match &mut self.calls_left {
            Some(0) => return Err(io::Error::other("the power is off")),
            Some(left) => *left -= 1,
            None => {}
        }
        let (mut met, mut off) = (None, None);
        self.planned.retain_mut(|planned| {
            if planned.call != call {
                return true;
            }
            if planned.after > 0 {
                planned.after -= 1;
                return true;
            }
            met = met.or(Some(planned.fault));
            // The call itself is not counted any more.
            off = off.or(planned.then_off.take());
            planned.stays
        });
        self.calls_left = off.or(self.calls_left);
        Ok(met)
    }
}
