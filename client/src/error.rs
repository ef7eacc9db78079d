//! Why a call failed, and what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use objsync_proto::chunk::ChunkError;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{LeaseId, Origin, Revision};
use objsync_proto::key::{self, KeyError};
use objsync_proto::stored::StoredError;
use objsync_proto::stored_chunks::StoredChunksError;
use objsync_proto::value::ValueError;
use objsync_proto::wire::Gap;
use objsync_server::ServerError;
use objsync_store::StoreError;

/// What a call on an object returns.
pub type Result<T, E = ObjectError> = std::result::Result<T, E>;

/// Why a call on an object failed. Decide with [`ObjectError::kind`]; report with `Display`.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The owner of the store refused, or the request was wrong before it left.
    #[error("{0}")]
    Failed(#[from] Failure),

    /// The store that this process owns failed.
    #[error(transparent)]
    Store(StoreError),

    /// The server, a key or a socket of this process failed.
    #[error("{0}")]
    Server(Arc<ServerError>),

    /// The path of a store is a file.
    #[error("{} is a file, and a store is a directory{hint}", path.display())]
    NotADirectory {
        /// The path given.
        path: PathBuf,
        /// What the file looks like, and how to import it; empty when it looks like nothing known.
        hint: &'static str,
    },

    /// There is no store at a path, and the handle is read-only: it makes none.
    #[error("there is no store at {}, and a handle for reading only makes none", path.display())]
    NoStore {
        /// The path given.
        path: PathBuf,
    },

    /// Nobody answered within the timeout. A write that failed so was never sent.
    #[error("{what}: no answer within {:.1} s{reason}", waited.as_secs_f64())]
    Unreachable {
        /// Which store or address.
        what: String,
        /// How long the call waited.
        waited: Duration,
        /// Why, as far as known (who holds the lock, what the last attempt said); or empty.
        reason: String,
    },

    /// A write was sent, and what came of it is not known. [`crate::Dict::outcome`] asks.
    #[error("{failure}")]
    Unanswered {
        /// What happened.
        failure: Failure,
        /// Which write.
        op: Origin,
    },

    /// A moment that was held for reading is held no longer: more has changed since than is kept,
    /// or it was held for too long.
    #[error("the snapshot at revision {revision} is no longer held: take a new one")]
    SnapshotExpired {
        /// Its revision.
        revision: Revision,
    },

    /// The revision asked for is before what the owner's log and snapshots still tell of.
    #[error("revision {revision} is no longer kept; the oldest that can be read is {oldest}")]
    PastRetention {
        /// The revision asked for.
        revision: Revision,
        /// The oldest that can be read.
        oldest: Revision,
    },

    /// Changes that a watch has not told of are no longer kept. It goes on after `oldest` when it
    /// is read again: read the state if all that matters is how things are.
    #[error("{}", gap_text(.0))]
    Gap(Gap),

    /// Others changed what a transaction had read, each time it was run, until the timeout.
    /// Nothing was done.
    #[error(
        "{what}: {} by others during each of {attempts} attempts within {:.1} s",
        overtaken_by(key.as_ref()), waited.as_secs_f64()
    )]
    Overtaken {
        /// Which store or address.
        what: String,
        /// What was changed the last time, encoded; none when that is not known.
        key: Option<Bytes>,
        /// How often it was run.
        attempts: u32,
        /// How long that took.
        waited: Duration,
    },

    /// Others wrote a value between the read that a change was meant for and the change. Nothing was
    /// done: read it again and decide again.
    #[error(
        "{what}: key {} was changed by others since it was read",
        key::describe(key)
    )]
    Moved {
        /// Which store or address.
        what: String,
        /// The key, encoded.
        key: Bytes,
    },

    /// A lock is not held any more by who took it: its lease has ended, and another may hold it.
    /// Nothing was done.
    #[error(
        "{what}: lock {} was lost: the lease under it ended, and another may hold it",
        key::describe(name)
    )]
    Fenced {
        /// Which store or address.
        what: String,
        /// The name of the lock, encoded.
        name: Bytes,
    },

    /// Somebody else held a lock for as long as the caller waited.
    #[error("{what}: lock {} was held by another for {:.1} s", key::describe(name), waited.as_secs_f64())]
    LockTimeout {
        /// Which store or address.
        what: String,
        /// The name of the lock, encoded.
        name: Bytes,
        /// How long the call waited.
        waited: Duration,
    },

    /// A lease has ended: it was not kept for its whole time, or closed. What lay under it is
    /// removed.
    #[error("{what}: lease {} has ended: it was not kept in time, or closed", lease.0)]
    LeaseEnded {
        /// Which store or address.
        what: String,
        /// Which lease.
        lease: LeaseId,
    },

    /// There is no memory for a value in one piece: read it in pieces ([`crate::Dict::open_read`]).
    #[error(
        "value of key {} is {bytes} bytes, for which there is no memory: read it in pieces (open)",
        key::describe(key)
    )]
    NoMemory {
        /// The key, encoded.
        key: Bytes,
        /// Bytes of the value.
        bytes: u64,
    },

    /// The object was closed.
    #[error("{what} is closed")]
    Closed {
        /// Which store or address.
        what: String,
    },

    /// The interrupt check said so while the call waited. A write may still happen.
    #[error("interrupted while waiting for {what}")]
    Interrupted {
        /// What the call waited for.
        what: String,
    },

    /// The operating system refused a call.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// The call, such as "create".
        op: &'static str,
        /// The file it was for.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl ObjectError {
    /// The stable class of this error: the exit code and the Python exception follow it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed(failure) => failure.kind,
            Self::Store(error) => error.kind(),
            Self::Server(error) => error.kind(),
            Self::NotADirectory { .. } | Self::PastRetention { .. } => ErrorKind::Invalid,
            Self::NoStore { .. } => ErrorKind::NotFound,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    ErrorKind::Denied
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
                _ => ErrorKind::Unavailable,
            },
            Self::Gap(_) => ErrorKind::Conflict,
            Self::Overtaken { .. }
            | Self::Moved { .. }
            | Self::Fenced { .. }
            | Self::LockTimeout { .. }
            | Self::LeaseEnded { .. } => ErrorKind::Conflict,
            Self::Unreachable { .. } => ErrorKind::Unavailable,
            Self::Unanswered { .. } => ErrorKind::OutcomeUnknown,
            Self::SnapshotExpired { .. } => ErrorKind::Conflict,
            Self::NoMemory { .. } => ErrorKind::Full,
            Self::Closed { .. } => ErrorKind::Closed,
            Self::Interrupted { .. } => ErrorKind::Interrupted,
        }
    }

    /// Whether another process has the store, or the backup, open.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Store(StoreError::Locked { .. }))
    }

    /// Whether the request was at fault, such as by a directory that was not fit for it.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Store(StoreError::Refused(_)))
    }

    /// A failure of `kind` found on this side.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::Failed(Failure::new(kind, message))
    }

    /// A stored value that cannot be packed or opened.
    fn of_stored(error: &StoredError) -> Self {
        let kind = match error {
            StoredError::TooLarge { .. } | StoredError::Reference => ErrorKind::Invalid,
            StoredError::Unsupported { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Corrupt,
        };
        Self::new(kind, error.to_string())
    }

    /// Says which call on which path the system refused.
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            op,
            path,
            source: Arc::new(source),
        }
    }

    /// A thread of ours panicked or its runtime is gone.
    /// Whether the same read can be answered at another time: an owner that is away may come back, and
    /// one that closes is followed by another. What a handle that is closed itself says, it says once.
    pub(crate) fn can_pass(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unavailable | ErrorKind::Closed)
    }

    pub(crate) fn stopped(cause: &dyn std::error::Error) -> Self {
        Self::new(
            ErrorKind::Closed,
            format!("a task of the object stopped: {cause}"),
        )
    }
}

fn gap_text(gap: &Gap) -> String {
    let Gap {
        after,
        oldest,
        same_history,
    } = gap;
    if *same_history {
        format!("the changes after revision {after} up to {oldest} are no longer kept")
    } else {
        format!(
            "revision {after} is not on this store's history; it can be followed after revision \
             {oldest}"
        )
    }
}

fn overtaken_by(key: Option<&Bytes>) -> String {
    match key {
        Some(key) => format!("key {} was changed", key::describe(key)),
        None => String::from("what a transaction had read was changed"),
    }
}

impl From<StoreError> for ObjectError {
    fn from(error: StoreError) -> Self {
        match error {
            // The same, whether this process owns the store or another one.
            StoreError::PastRetention { revision, oldest } => {
                Self::PastRetention { revision, oldest }
            }
            StoreError::SnapshotExpired { revision } => Self::SnapshotExpired {
                revision: Revision(revision),
            },
            other => Self::Store(other),
        }
    }
}

impl From<StoredError> for ObjectError {
    fn from(error: StoredError) -> Self {
        Self::of_stored(&error)
    }
}

impl From<StoredChunksError> for ObjectError {
    fn from(error: StoredChunksError) -> Self {
        match error {
            StoredChunksError::Stored(error) => Self::of_stored(&error),
            StoredChunksError::Chunks(error) => error.into(),
            other => Self::new(ErrorKind::Corrupt, other.to_string()),
        }
    }
}

impl From<ChunkError> for ObjectError {
    fn from(error: ChunkError) -> Self {
        let kind = match error {
            ChunkError::Unknown { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Corrupt,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<KeyError> for ObjectError {
    fn from(error: KeyError) -> Self {
        Self::new(ErrorKind::Invalid, error.to_string())
    }
}

impl From<ValueError> for ObjectError {
    fn from(error: ValueError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}
