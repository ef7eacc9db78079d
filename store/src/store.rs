//! The handle of a store: what the server, the client and tools call.

use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{
    Ack, Durability, NamespaceId, Origin, PeerKey, Position, Revision, Sequence, SessionId,
};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::{Gap, Grant};

use crate::commit::{Given, Job, ReplyTo, Request, is_leading};
use crate::core::Core;
use crate::error::StoreError;
use crate::feed::{Feed, Published};
use crate::grants::{GrantEvent, check_grant};
use crate::history::{self, Walk};
use crate::leases::{Keeper, OnUnlock, UnlockWaker};
use crate::options::StoreOptions;
use crate::packs::{Chunks, Collected};
use crate::reader::Reader;
use crate::recovery;
use crate::stamps::Stamp;
use crate::status::{Marks, StoreStatus};
use crate::steps::Step;

/// An open store. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

/// Closes the store with the last clone.
struct Handle {
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let core = Arc::clone(&self.core);
        let close = move || {
            if let Err(error) = core.close() {
                tracing::warn!(%error, "closing the store");
            }
        };
        // A callback of the writer, which let go of the last handle, must not wait for the writer.
        match is_leading() {
            true => drop(std::thread::spawn(close)),
            false => close(),
        }
    }
}

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
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process owns it.
    pub fn open(directory: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let core = Arc::new(recovery::open(directory, options)?);
        let handle = Arc::new(Handle { core: core.clone() });
        if core.has_threads {
            core.start_threads()?;
            core.index_may_follow();
        }
        Ok(Self { handle })
    }

    /// Does a piece of the work that the store's own threads do otherwise, in a store that was
    /// opened without them. Tells whether there was any.
    #[doc(hidden)]
    pub fn step(&self, step: Step) -> Result<bool, StoreError> {
        self.core().refuse_if_closed()?;
        self.core().step(step)
    }

    /// Where it lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.core().directory
    }

    /// The level of submissions that name none.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.core().durability
    }

    /// The owner's wall clock, milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.core().clock.now_ms()
    }

    /// Store, epoch and committed revision.
    #[must_use]
    pub fn position(&self) -> Position {
        self.core().position()
    }

    /// How far each step of the write path is.
    #[must_use]
    pub fn marks(&self) -> Marks {
        self.core().marks()
    }

    /// Decides a write, and returns when its level is reached. Blocks; the calling thread may
    /// write for others meanwhile.
    ///
    /// # Errors
    /// Of the store. A write that was refused is an [`Answer`] with the reason.
    pub fn execute(&self, submission: Submission) -> Result<Answer, StoreError> {
        answer(self.core().run_here(Request::Write(submission))?)
    }

    /// Decides a write on another thread; never blocks. The order of calls is the order of the
    /// log. `done` is called from the writing thread and must not block.
    pub fn submit(&self, submission: Submission, done: Done) {
        self.core().run_there(Job {
            request: Request::Write(submission),
            reply: ReplyTo::Done(done).into(),
        });
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
        let core = self.core();
        if submission.durability.unwrap_or(core.durability) != Durability::Buffered {
            return Err(submission);
        }
        match core.try_run_here(Request::Write(submission)) {
            Ok(given) => Ok(given.and_then(answer)),
            Err(Request::Write(submission)) => Err(submission),
            Err(_) => unreachable!("a request comes back as it went"),
        }
    }

    /// The committed value of a key.
    pub fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        core.state.get(namespace, key)
    }

    /// How many keys a dictionary has.
    pub fn count(&self, namespace: NamespaceId) -> Result<u64, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        core.state.count(namespace)
    }

    /// How many keys a dictionary has, if that is known without walking over all of them.
    #[must_use]
    pub fn count_at_once(&self, namespace: NamespaceId) -> Option<u64> {
        let core = self.core();
        core.refuse_if_closed().ok()?;
        core.state.count_at_once(namespace)
    }

    /// A reader of everything as of now.
    #[must_use]
    pub fn reader(&self) -> Reader {
        let core = self.core();
        let hold = self.chunks().hold();
        Reader::new((core.state.clone(), Some(hold)), |revision| {
            core.position_at(revision)
        })
    }

    /// The chunks of large values.
    #[must_use]
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks { core: self.core() }
    }

    /// Removes chunks that nothing names any more from which a value could still be read, and gives
    /// back their space. The store does this by itself when it pays.
    ///
    /// Cost: all snapshots and all of the retained log are read, while writes go on; then a pack of
    /// which less than half lives is rewritten.
    pub fn collect_chunks(&self) -> Result<Collected, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        core.collect_chunks()
    }

    /// What a cache keeps beside a decoded value. To be read before the value is.
    #[must_use]
    pub fn stamp(&self, namespace: NamespaceId, key: &[u8]) -> Stamp {
        self.core().stamps.stamp(namespace, key)
    }

    /// Whether a value read after `stamp` is still the committed one.
    #[must_use]
    pub fn is_current(&self, stamp: Stamp) -> bool {
        self.core().stamps.is_current(stamp)
    }

    /// What was committed, for followers.
    #[must_use]
    pub fn feed(&self) -> &Feed {
        &self.core().feed
    }

    /// Committed transactions after a revision, from the log, until they hold `bytes_max` bytes;
    /// at least one if there is one.
    pub fn read_log(&self, after: Revision, bytes_max: usize) -> Result<LogRead, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        let mut read = Vec::new();
        let mut bytes = 0;
        let walk = core.history.walk(after, core.committed(), &mut |logged| {
            let published = history::published(logged)?;
            bytes += published.bytes();
            if bytes > bytes_max && !read.is_empty() {
                return Ok(false);
            }
            read.push(published);
            Ok(true)
        })?;
        Ok(match walk {
            Walk::Done => LogRead::Transactions(read),
            Walk::Trimmed => LogRead::Trimmed,
        })
    }

    /// Whether what was read at `position` is a prefix of this store's history.
    #[must_use]
    pub fn is_on_history(&self, position: &Position) -> bool {
        let core = self.core();
        core.epochs().holds(position, core.committed())
    }

    /// The revisions that a follower at `position` cannot be told of any more; none when the log
    /// leads on from there.
    #[must_use]
    pub fn gap(&self, position: &Position) -> Option<Gap> {
        let core = self.core();
        let begin = core.history.log_begin();
        let after = position.revision;
        let common = core.epochs().common(position, core.committed());
        let same_history = common == Some(after);
        if same_history && after >= begin {
            return None;
        }
        Some(Gap {
            after,
            oldest: common.unwrap_or(begin).max(begin),
            same_history,
        })
    }

    /// The number of a dictionary.
    pub fn namespace(&self, name: &str) -> Result<Option<NamespaceId>, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        Ok(core.catalog().get(name))
    }

    /// Makes a dictionary with its first content, in one synced transaction, unless there is one
    /// of that name. Tells its number, and whether this call made it.
    pub fn create_namespace(
        &self,
        name: &str,
        content: Vec<Change>,
    ) -> Result<(NamespaceId, bool), StoreError> {
        let name = name.to_owned();
        match self
            .core()
            .run_here(Request::CreateNamespace { name, content })?
        {
            Given::Namespace(namespace, created) => Ok((namespace, created)),
            other => unreachable!("a namespace was asked for, not {other:?}"),
        }
    }

    /// Every dictionary, by name.
    #[must_use]
    pub fn namespaces(&self) -> Vec<(String, NamespaceId)> {
        self.core().catalog().list()
    }

    /// Opens a session for a peer.
    pub fn open_session(&self, peer: PeerKey) -> Result<SessionId, StoreError> {
        match self.core().run_here(Request::OpenSession(peer))? {
            Given::Session(session) => Ok(session),
            other => unreachable!("a session was asked for, not {other:?}"),
        }
    }

    /// Whether the session is open and the peer's own.
    #[must_use]
    pub fn session_known(&self, session: SessionId, peer: PeerKey) -> bool {
        self.core().system().sessions.is_known(session, peer)
    }

    /// What came of a write of a peer's session, as durable as it is by now; none for one that was
    /// not done, and never will be. `Operation::Settle` after it makes sure that this is known.
    ///
    /// # Errors
    /// `Denied` when the session is somebody else's, `OutcomeUnknown` when nobody knows any more,
    /// `Unavailable` while the write can still come; and [`StoreError::Poisoned`].
    pub fn outcome(&self, asked: Origin, peer: PeerKey) -> Result<Option<Answer>, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        let recorded = core.system().sessions.outcome(asked, peer);
        let Some(recorded) = recorded? else {
            // What a failed sync left in the log is not known here.
            core.poison.check()?;
            return Ok(None);
        };
        let durability = match core.open.durable() >= recorded.revision {
            true => Durability::Sync,
            false => Durability::Buffered,
        };
        let ack = Ack {
            revision: recorded.revision,
            epoch: recorded.epoch,
            durability,
        };
        let outcome = recorded.result;
        Ok(Some(Answer { outcome, ack }))
    }

    /// Somebody who keeps leases: those of presence end with it.
    #[must_use]
    pub fn keeper(&self) -> Keeper {
        Keeper::new(&self.handle.core)
    }

    /// The fence of who holds a lock; none when nobody does.
    pub fn lock_holder(
        &self,
        namespace: NamespaceId,
        name: &[u8],
    ) -> Result<Option<Revision>, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        core.lock_holder(namespace, name)
    }

    /// Calls `wake` with the locks that a batch has freed, each time, from the writing thread: it must not block.
    #[must_use]
    pub fn on_unlock(&self, wake: Arc<UnlockWaker>) -> OnUnlock {
        self.core().leases.on_unlock(wake)
    }

    /// The owner's time, milliseconds since 1970, as the next write would have it in the log.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        self.core().time.now_ms()
    }

    /// Ends a session; its results are gone.
    pub fn close_session(&self, session: SessionId) -> Result<(), StoreError> {
        self.core()
            .run_here(Request::CloseSession(session))
            .map(drop)
    }

    /// Lets a key in, in place of any grant it had; synced when it returns.
    pub fn grant(&self, grant: Grant) -> Result<(), StoreError> {
        if let Err(malformed) = check_grant(&grant) {
            return Err(Failure::new(ErrorKind::Invalid, malformed.0).into());
        }
        let request = Request::Grant(GrantEvent::Given(grant));
        self.core().run_here(request).map(drop)
    }

    /// All grants, expired ones included.
    #[must_use]
    pub fn grants(&self) -> Vec<Grant> {
        self.core().system().grants.list()
    }

    /// Takes a grant back; synced when it returns. Tells whether there was one.
    pub fn revoke(&self, peer: PeerKey) -> Result<bool, StoreError> {
        let request = Request::Grant(GrantEvent::TakenBack(peer));
        match self.core().run_here(request)? {
            Given::Flag(was_there) => Ok(was_there),
            other => unreachable!("a flag was asked for, not {other:?}"),
        }
    }

    /// Returns when everything up to a revision survives a power cut.
    pub fn flush(&self, revision: Revision) -> Result<Position, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        core.poison.check()?;
        if core.open.durable() < revision.min(core.committed()) {
            core.sync()?;
        }
        Ok(core.position_at(core.open.durable().min(core.committed())))
    }

    /// How the store is.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        self.core().status()
    }

    /// Syncs, leaves an end mark and frees the directory. Later calls do nothing.
    pub fn close(&self) -> Result<(), StoreError> {
        self.core().close()
    }

    /// Ends as a killed process does: nothing is synced, no end mark is left. For tests.
    #[doc(hidden)]
    pub fn kill(&self) {
        self.core().kill();
    }

    /// Descriptors that a forked child must close, so that it keeps nothing alive.
    #[must_use]
    pub fn inherited_fds(&self) -> Vec<RawFd> {
        self.core().inherited_fds()
    }

    pub(crate) fn core(&self) -> &Core {
        &self.handle.core
    }
}

fn answer(given: Given) -> Result<Answer, StoreError> {
    match given {
        Given::Answer(answer) => Ok(answer),
        other => unreachable!("a write was asked for, not {other:?}"),
    }
}
