//! What a handle with a queue on disk knows of its writes.

use super::Dict;
use crate::error::Result;
use crate::offline::Conflict;
use crate::pending::Pending;
use crate::read;

impl Dict {
    /// Writes that were queued ([`crate::OfflineMode::Queue`]), whose callers were told that they are
    /// done, and that the owner decided otherwise: the oldest first. They stay, on disk too, until
    /// [`Dict::clear_conflicts`]; each counts towards the limit of the queue.
    ///
    /// # Errors
    /// `Closed`.
    pub fn conflicts(&self) -> Result<Vec<Conflict>> {
        let core = self.core()?;
        core.check_open()?;
        let present = |key: &[u8]| read::at_once(core, key).ok().flatten().flatten();
        match &core.offline {
            Some(offline) => offline.conflicts(&core.config.packer, &present),
            None => Ok(Vec::new()),
        }
    }

    /// Forgets the conflicts so far.
    ///
    /// # Errors
    /// Of the disk; then they stay.
    pub fn clear_conflicts(&self) -> Pending<()> {
        self.call("the queue", |core| async move {
            core.check_open()?;
            match &core.offline {
                Some(offline) => offline.clear().await,
                None => Ok(()),
            }
        })
    }
}
