//! A value of the replica with the revision that wrote it.

use objsync_proto::replica::Lookup;

use super::{Extent, Replica};
use crate::error::Result;
use crate::read::Entry;

impl Replica {
    /// The payload of a key and the revision that wrote it, as somebody may see it who was
    /// acknowledged revision `acked`; none when that is not known here, or not yet.
    pub(crate) fn entry(&self, key: &[u8], acked: u64) -> Result<Option<Option<Entry>>> {
        if !matches!(self.extent(), Extent::Whole | Extent::Partial) || self.applied() < acked {
            return Ok(None);
        }
        let found = self.read().lookup(key);
        Ok(match found {
            Lookup::Hit(value, revision) => {
                let payload = self.packer.open(key, revision, value)?;
                Some(Some((payload, Some(revision))))
            }
            Lookup::Absent => Some(None),
            Lookup::Unknown => None,
        })
    }
}
