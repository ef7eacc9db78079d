//! Where the right to write comes from, and when a write counts as committed.

use objsync_proto::ids::{Durability, Revision};

use crate::error::StoreError;

/// The kind of authority of a copy, as its manifest records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityKind {
    /// The lock on the directory is the right to write.
    Alone,
}

impl AuthorityKind {
    /// The number in the manifest. 2 to 4 are set aside for follower, quorum and lease.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Alone => 1,
        }
    }

    /// The kind with this number; none if it is not known here.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Alone),
            _ => None,
        }
    }
}

/// Decides who may write and how far the log is committed.
pub trait Authority: Send + Sync + 'static {
    /// Its kind.
    fn kind(&self) -> AuthorityKind;

    /// That this process may append now.
    fn may_append(&self) -> Result<(), StoreError>;

    /// How far the log is committed for writes of a level, when so much of it is appended and
    /// durable.
    fn committed(&self, level: Durability, appended: Revision, durable: Revision) -> Revision;
}

/// The lock is the authority: who holds it decides alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Authority for Alone {
    fn kind(&self) -> AuthorityKind {
        AuthorityKind::Alone
    }

    fn may_append(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn committed(&self, level: Durability, appended: Revision, durable: Revision) -> Revision {
        match level {
            Durability::Queued | Durability::Buffered => appended,
            Durability::Sync => durable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_commits_what_the_level_asks_for() {
        let (appended, durable) = (Revision(9), Revision(5));
        let committed = |level| Alone.committed(level, appended, durable);
        assert_eq!(committed(Durability::Buffered), appended);
        assert_eq!(committed(Durability::Sync), durable);
    }
}
