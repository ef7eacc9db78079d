//! How much there is of what ends, counted as it comes and goes.

use objsync_proto::evaluate::Leased;
use objsync_proto::lease::EntryKey;

/// What [`Leased`] counts; of a batch, how much more or less there is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    keys: i64,
    key_bytes: i64,
    leases: i64,
}

impl Counts {
    /// So many more of an entry.
    pub(crate) fn add(&mut self, entry: &EntryKey, more: i64) {
        match entry {
            EntryKey::Hold(_, key) => {
                self.keys += more;
                let bytes = i64::try_from(key.len()).unwrap_or(i64::MAX);
                self.key_bytes += more * bytes;
            }
            EntryKey::Lease(..) => self.leases += more,
            EntryKey::Lock(..) | EntryKey::Member(..) => {}
        }
    }

    /// How much there is, if it was nothing before.
    pub(crate) fn leased(&self) -> Leased {
        self.beside(Leased::default())
    }

    /// How much there is, if it was so much before.
    pub(crate) fn beside(&self, before: Leased) -> Leased {
        Leased {
            keys: before.keys.saturating_add_signed(self.keys),
            key_bytes: before.key_bytes.saturating_add_signed(self.key_bytes),
            leases: before.leases.saturating_add_signed(self.leases),
        }
    }
}
