//! Why a store call failed: one enum, and the kind that tells a caller what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::Revision;

/// Why a store call failed. Decide with [`StoreError::kind`]; report with `Display`.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process owns the directory.
    #[error("store {} is in use by {}", directory.display(), owner_text(*pid))]
    Locked {
        /// The store's directory.
        directory: PathBuf,
        /// The owner's process id, when it could be read.
        pid: Option<u32>,
    },

    /// There is no store there, and `create` was not asked for.
    #[error("no store at {}", directory.display())]
    NotFound {
        /// Where one was looked for.
        directory: PathBuf,
    },

    /// Something that is no store stands where one was asked for.
    #[error("{} is not a store: {what}", path.display())]
    NotAStore {
        /// What was looked at.
        path: PathBuf,
        /// What it looks like instead.
        what: String,
    },

    /// The directory lies on a network file system, where a lock proves nothing.
    #[error("store {} lies on a network file system ({kind}); open it with force to do so anyway", directory.display())]
    NetworkFileSystem {
        /// The store's directory.
        directory: PathBuf,
        /// The kind of file system.
        kind: &'static str,
    },

    /// A newer program wrote this, or a feature is needed that this one does not have.
    #[error("{}: {what}; a newer objsync is needed", path.display())]
    Unsupported {
        /// The file that says so.
        path: PathBuf,
        /// What is not known here.
        what: String,
    },

    /// Stored bytes are not what was written. Nothing is changed; writes are refused.
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },

    /// The disk is full. Nothing was written; make room and try again.
    #[error("disk is full at {}", path.display())]
    Full {
        /// The file that could not grow.
        path: PathBuf,
    },

    /// The system allows this process no larger files (`ulimit -f`). Nothing was written.
    #[error("{} may not grow: this process is allowed no larger files (ulimit -f)", path.display())]
    FileLimit {
        /// The file that could not grow.
        path: PathBuf,
    },

    /// The file system takes no writes. It can be read.
    #[error("{} lies on a read-only file system; open the store with readonly, or remount it", path.display())]
    ReadOnlyDisk {
        /// The file that could not be written.
        path: PathBuf,
    },

    /// A write or a sync failed after bytes were handed to the system: it may have happened.
    #[error("the write may or may not be kept: {cause}")]
    OutcomeUnknown {
        /// What failed.
        cause: String,
    },

    /// An earlier sync failed. Reads go on; writes are refused until the store is opened again.
    #[error("store refuses writes since {cause}; close and open it again")]
    Poisoned {
        /// What failed then.
        cause: String,
    },

    /// The store was closed.
    #[error("store is closed")]
    Closed,

    /// The store was opened only for reading.
    #[error("store {} is open only for reading", directory.display())]
    ReadOnly {
        /// The store's directory.
        directory: PathBuf,
    },

    /// The directory holds a copy that follows another store. Nothing was written.
    #[error("{} is a copy that follows another store, and takes no writes of its own; serve it with objsync serve --follow LINK, or make it a store of its own with objsync promote", directory.display())]
    Follows {
        /// The copy's directory.
        directory: PathBuf,
    },

    /// A copy was asked for where a store of its own, or the copy of another one, lies.
    #[error("{} cannot hold the copy: {what}; follow into another directory", directory.display())]
    NotACopy {
        /// The directory.
        directory: PathBuf,
        /// What lies there.
        what: String,
    },

    /// A reader's revision is no longer kept: it was held too long, or memory ran out.
    #[error("the snapshot at revision {revision} has expired; read again")]
    SnapshotExpired {
        /// The revision that was pinned.
        revision: u64,
    },

    /// The revision asked for is before what log and snapshots still tell of.
    #[error("revision {revision} is no longer kept; the oldest that can be read is {oldest}")]
    PastRetention {
        /// The revision asked for.
        revision: Revision,
        /// The oldest that can be read.
        oldest: Revision,
    },

    /// The index failed; it can be made again from the log.
    #[error("index: {what}")]
    Index {
        /// What it said.
        what: String,
    },

    /// The request was refused: the request is at fault, not the store.
    #[error("{0}")]
    Refused(Failure),

    /// The operating system refused a call.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// The call, such as "sync".
        op: &'static str,
        /// The file it was for.
        path: PathBuf,
        /// What the system said.
        source: std::sync::Arc<io::Error>,
    },
}

impl StoreError {
    /// The stable class of this error: the wire number and the Python class follow it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::NotAStore { .. }
            | Self::NotACopy { .. }
            | Self::NetworkFileSystem { .. }
            | Self::PastRetention { .. } => ErrorKind::Invalid,
            Self::ReadOnly { .. } | Self::ReadOnlyDisk { .. } | Self::Follows { .. } => {
                ErrorKind::Denied
            }
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Corrupt { .. } | Self::Index { .. } => ErrorKind::Corrupt,
            Self::Full { .. } | Self::FileLimit { .. } => ErrorKind::Full,
            Self::OutcomeUnknown { .. } => ErrorKind::OutcomeUnknown,
            Self::Poisoned { .. } | Self::Closed => ErrorKind::Closed,
            Self::SnapshotExpired { .. } => ErrorKind::Conflict,
            Self::Refused(failure) => failure.kind,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                ErrorKind::Denied
            }
            Self::Locked { .. } | Self::Io { .. } => ErrorKind::Unavailable,
        }
    }

    /// Whether nothing can be written there, by others neither: what is there can still be read.
    #[must_use]
    pub fn is_unwritable(&self) -> bool {
        matches!(
            self,
            Self::Full { .. } | Self::FileLimit { .. } | Self::ReadOnlyDisk { .. }
        )
    }

    /// This error as it crosses the wire.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        match self {
            Self::Refused(failure) => failure.clone(),
            other => Failure::new(other.kind(), other.to_string()),
        }
    }

    /// The system refused `op` on `path`: a full disk becomes [`StoreError::Full`], and each limit
    /// that a caller would act on becomes an error of its own.
    #[must_use]
    pub fn io(op: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::FileTooLarge => Self::FileLimit { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnlyDisk { path },
            io::ErrorKind::InvalidData => Self::corrupt(&path, 0, source.to_string()),
            _ => Self::Io {
                op,
                path,
                source: std::sync::Arc::new(source),
            },
        }
    }

    /// Bytes at `offset` of `path` are not what was written.
    #[must_use]
    pub fn corrupt(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            offset,
            what: what.into(),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

fn owner_text(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}
