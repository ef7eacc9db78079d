//! The work of a store's own threads, one piece at a time: what a test calls that decides the order
//! of everything.

use crate::core::Core;
use crate::error::StoreError;

/// A piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Decide and commit one batch of what was given to `Store::submit`.
    Queue,
    /// Sync buffered writes.
    Flush,
    /// Write zeros ahead of the writer.
    Grow,
    /// Move one batch from the recent map into the index.
    Index,
    /// Open the index, or make it again, and put it in the place of the stand-in.
    BuildIndex,
    /// Make footers and snapshots that are due, and remove what may go.
    Keep,
    /// End keys and leases that have had their time.
    Expire,
}

impl Step {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Queue,
        Self::Flush,
        Self::Grow,
        Self::Index,
        Self::BuildIndex,
        Self::Keep,
        Self::Expire,
    ];
}

impl Core {
    /// Does a piece of work; tells whether there was any.
    pub(crate) fn step(&self, step: Step) -> Result<bool, StoreError> {
        match step {
            Step::Queue => Ok(self.step_queue()),
            Step::Flush => {
                let is_behind = self.open.unsynced().bytes > 0;
                self.sync().map(|()| is_behind)
            }
            Step::Grow => self.grow_ahead().map(|()| true),
            Step::Index => self
                .state
                .advance(self.open.durable().min(self.committed())),
            Step::BuildIndex => self.state.build_index(),
            Step::Keep => self.keep().map(|()| true),
            Step::Expire => self.expire_here(),
        }
    }

    fn step_queue(&self) -> bool {
        let is_wanted = self.queue.enter_if_queued();
        if is_wanted {
            self.lead_queued();
        }
        is_wanted
    }

    /// Decides everything that is queued, in a store without threads: nobody else would, and who
    /// comes after it would wait for ever.
    pub(crate) fn drain_queue(&self) {
        while self.step_queue() {}
    }

    /// Moves the index on until the recent map has room, in a store without threads.
    pub(crate) fn make_room(&self) -> Result<(), StoreError> {
        while self.state.is_full() {
            self.poison.check()?;
            if !self.step(Step::Index)? {
                // The index goes no further than what is on disk.
                let is_behind = self.step(Step::Flush)?;
                if !is_behind {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
