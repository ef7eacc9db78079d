//! The handle of a store: what the server, the client and tools call.

use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::error::Failure;
use objsync_proto::ids::{
    Ack, Durability, NamespaceId, Origin, PeerKey, Position, Revision, Sequence, SessionId,
};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::Grant;

use crate::error::StoreError;
use crate::feed::{Feed, Published};
use crate::options::StoreOptions;
use crate::reader::Reader;
use crate::stamps::Stamp;
use crate::status::{Marks, StoreStatus};

/// An open store. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Store {}

/// A write that asks to be decided.
#[derive(Debug, Clone)]
pub struct Submission {
    /// In which dictionary.
    pub namespace: NamespaceId,
    /// What to do.
    pub operation: Operation,
    /// Who asks, so that a repeat is known as one; none for callers that never repeat.
    pub origin: Option<SubmissionOrigin>,
    /// The level to reach before the answer; none for the store's default.
    pub durability: Option<Durability>,
}

/// Who asks for a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubmissionOrigin {
    /// Session and sequence.
    pub origin: Origin,
    /// The lowest sequence whose answer the client still lacks.
    pub floor: Sequence,
    /// The key the session is bound to.
    pub peer: PeerKey,
}

/// What came of a write that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The outcome, or why the operation was refused.
    pub outcome: Result<Outcome, Failure>,
    /// Where it stands in the order. For a write that changed nothing: what it had seen.
    pub ack: Ack,
}

/// A value and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The stored value (see `proto::stored`).
    pub value: Bytes,
    /// The revision that wrote it.
    pub revision: Revision,
}

/// What is read from the log.
pub enum LogRead {
    /// The next transactions; empty at the end.
    Transactions(Vec<Published>),
    /// The log no longer reaches back that far: read the state.
    Trimmed,
}

/// What a write that was given to [`Store::submit`] calls when it is answered.
pub type Done = Box<dyn FnOnce(Result<Answer, StoreError>) + Send>;

impl Store {
    /// Opens the store in `directory`, and owns it until closed.
    pub fn open(directory: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let _ = (directory, options);
        todo!()
    }

    /// Where it lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        todo!()
    }

    /// The level of submissions that name none.
    #[must_use]
    pub fn durability(&self) -> Durability {
        todo!()
    }

    /// Store, epoch and committed revision.
    #[must_use]
    pub fn position(&self) -> Position {
        todo!()
    }

    /// How far each step of the write path is.
    #[must_use]
    pub fn marks(&self) -> Marks {
        todo!()
    }

    /// Decides a write, and returns when its level is reached. Blocks; the calling thread may
    /// write for others meanwhile.
    ///
    /// # Errors
    /// Of the store. A write that was refused is an [`Answer`] with the reason.
    pub fn execute(&self, submission: Submission) -> Result<Answer, StoreError> {
        let _ = submission;
        todo!()
    }

    /// Decides a write on another thread; never blocks. The order of calls is the order of the
    /// log. `done` is called from the writing thread and must not block.
    pub fn submit(&self, submission: Submission, done: Done) {
        let _ = (submission, done);
        todo!()
    }

    /// Runs a buffered write on this thread, if nothing is queued and nobody writes: that does
    /// not wait for the disk. Gives the submission back otherwise.
    #[expect(
        clippy::result_large_err,
        reason = "the submission goes on to `submit`"
    )]
    pub fn try_execute_inline(
        &self,
        submission: Submission,
    ) -> Result<Result<Answer, StoreError>, Submission> {
        Err(submission)
    }

    /// The committed value of a key.
    pub fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let _ = (namespace, key);
        todo!()
    }

    /// How many keys a dictionary has.
    pub fn count(&self, namespace: NamespaceId) -> Result<u64, StoreError> {
        let _ = namespace;
        todo!()
    }

    /// A reader of everything as of now.
    #[must_use]
    pub fn reader(&self) -> Reader {
        todo!()
    }

    /// What a cache keeps beside a decoded value. To be read before the value is.
    #[must_use]
    pub fn stamp(&self, namespace: NamespaceId, key: &[u8]) -> Stamp {
        let _ = (namespace, key);
        todo!()
    }

    /// Whether a value read after `stamp` is still the committed one.
    #[must_use]
    pub fn is_current(&self, stamp: Stamp) -> bool {
        let _ = stamp;
        todo!()
    }

    /// What was committed, for followers.
    #[must_use]
    pub fn feed(&self) -> &Feed {
        todo!()
    }

    /// Committed transactions after a revision, from the log, until they hold `bytes_max` bytes;
    /// at least one if there is one.
    pub fn read_log(&self, after: Revision, bytes_max: usize) -> Result<LogRead, StoreError> {
        let _ = (after, bytes_max);
        todo!()
    }

    /// Whether what was read at `position` is a prefix of this store's history.
    #[must_use]
    pub fn is_on_history(&self, position: &Position) -> bool {
        let _ = position;
        todo!()
    }

    /// The number of a dictionary.
    pub fn namespace(&self, name: &str) -> Result<Option<NamespaceId>, StoreError> {
        let _ = name;
        todo!()
    }

    /// Makes a dictionary with its first content, in one synced transaction, unless there is one
    /// of that name. Tells its number, and whether this call made it.
    pub fn create_namespace(
        &self,
        name: &str,
        content: Vec<Change>,
    ) -> Result<(NamespaceId, bool), StoreError> {
        let _ = (name, content);
        todo!()
    }

    /// Every dictionary, by name.
    #[must_use]
    pub fn namespaces(&self) -> Vec<(String, NamespaceId)> {
        todo!()
    }

    /// Opens a session for a peer.
    pub fn open_session(&self, peer: PeerKey) -> Result<SessionId, StoreError> {
        let _ = peer;
        todo!()
    }

    /// Whether the session is open and the peer's own.
    #[must_use]
    pub fn session_known(&self, session: SessionId, peer: PeerKey) -> bool {
        let _ = (session, peer);
        todo!()
    }

    /// Ends a session; its results are gone.
    pub fn close_session(&self, session: SessionId) -> Result<(), StoreError> {
        let _ = session;
        todo!()
    }

    /// Lets a key in, in place of any grant it had; synced when it returns.
    pub fn grant(&self, grant: Grant) -> Result<(), StoreError> {
        let _ = grant;
        todo!()
    }

    /// All grants, expired ones included.
    #[must_use]
    pub fn grants(&self) -> Vec<Grant> {
        todo!()
    }

    /// Takes a grant back; synced when it returns. Tells whether there was one.
    pub fn revoke(&self, peer: PeerKey) -> Result<bool, StoreError> {
        let _ = peer;
        todo!()
    }

    /// Returns when everything up to a revision survives a power cut.
    pub fn flush(&self, revision: Revision) -> Result<Position, StoreError> {
        let _ = revision;
        todo!()
    }

    /// How the store is.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        todo!()
    }

    /// Syncs, leaves an end mark and frees the directory. Later calls do nothing.
    pub fn close(&self) -> Result<(), StoreError> {
        todo!()
    }

    /// Descriptors that a forked child must close, so that it keeps nothing alive.
    #[must_use]
    pub fn inherited_fds(&self) -> Vec<RawFd> {
        todo!()
    }
}

#[allow(dead_code, reason = "fixes that a handle can be shared")]
fn handle_is_shared(store: Store) -> Arc<dyn Send + Sync> {
    Arc::new(store)
}
