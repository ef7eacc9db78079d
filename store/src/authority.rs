//! Where the right to write comes from, and when a write counts as committed.

use std::path::PathBuf;

use objsync_proto::ids::{Durability, Revision};

use crate::error::StoreError;

/// The kind of authority of a copy, as its manifest records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityKind {
    /// The lock on the directory is the right to write.
    Alone,
    /// A copy of another store: only what its source sent is appended.
    Follower,
}

impl AuthorityKind {
    /// The number in the manifest. 3 and 4 are set aside for quorum and lease.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Alone => 1,
            Self::Follower => 2,
        }
    }

    /// The kind with this number; none if it is not known here.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Alone),
            2 => Some(Self::Follower),
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

/// The source decides: this process appends what it sent, and nothing else.
#[derive(Debug, Clone)]
pub struct Follower {
    /// The copy's directory, for messages.
    pub directory: PathBuf,
}

impl Authority for Follower {
    fn kind(&self) -> AuthorityKind {
        AuthorityKind::Follower
    }

    fn may_append(&self) -> Result<(), StoreError> {
        let directory = self.directory.clone();
        Err(StoreError::Follows { directory })
    }

    fn committed(&self, _level: Durability, _appended: Revision, durable: Revision) -> Revision {
        durable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follower_may_append_nothing_of_its_own() {
        let directory = PathBuf::from("copy");
        let refused = Follower { directory }.may_append().unwrap_err();
        assert!(matches!(refused, StoreError::Follows { .. }), "{refused}");
    }

    #[test]
    fn alone_commits_what_the_level_asks_for() {
        let (appended, durable) = (Revision(9), Revision(5));
        let committed = |level| Alone.committed(level, appended, durable);
        assert_eq!(committed(Durability::Buffered), appended);
        assert_eq!(committed(Durability::Sync), durable);
    }
}
