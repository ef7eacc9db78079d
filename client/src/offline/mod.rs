//! Writes that wait on this client's own disk for an owner: `offline = "queue"`.
//!
//! Trail of a write: [`crate::core::Core::execute`] -> [`Offline::write`] -> the thread of
//! [`worker`], which puts it on disk -> the I/O thread, which gives it a number of its session -> the
//! thread again, which puts the number on disk -> the owner -> the thread, which notes the answer.
//!
//! Invariants
//! * A write is on disk before its caller hears of it, and its number is before it is sent.
//! * The owner keeps the answer to a write until its note is synced on disk; so after a kill each is sent
//!   again under its number, and happens once.
//! * What a caller heard to come to nothing, or not to be done, is not sent later.
//! * Writes go out in their order, also after an owner had no room for them.
//! * A queue belongs to one handle at a time, which never becomes the owner.
//! * Reads of the handle see what its callers were told of.

mod conflict;
mod journal;
mod overlay;
mod reload;
mod view;
mod worker;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Ack, Origin, Revision, Sequence, SessionId, StoreId};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::KeyRange;
use tokio::sync::oneshot;

pub use self::conflict::Conflict;
use self::conflict::Kept;
use self::overlay::Overlay;
pub(crate) use self::overlay::merge;
pub(crate) use self::reload::Resume;
use crate::core::Core;
use crate::error::{ObjectError, Result};
use crate::packing::Packer;
use crate::pending::Answered;

/// The queue of one handle.
pub(crate) struct Offline {
    state: Mutex<State>,
    /// Whether queued writes have a say in what is read.
    has_overlay: AtomicBool,
    jobs: Mutex<Option<Sender<Job>>>,
    lock_fd: AtomicI32,
    /// Writes that the thread has not seen yet.
    unseen: AtomicU64,
}

/// What is queued. The disk is touched without holding it.
#[derive(Default)]
struct State {
    entries: BTreeMap<u64, Entry>,
    bytes: u64,
    overlay: Overlay,
    conflicts: Vec<Kept>,
}

/// A write without an answer.
struct Entry {
    operation: Operation,
    time_ms: u64,
    /// Its number, once an owner may see it.
    number: Option<Origin>,
    caller: Caller,
    /// What it changes in the eyes of this handle.
    changes: Vec<Change>,
}

/// What the caller of a write knows.
enum Caller {
    /// Nothing yet.
    Waits(oneshot::Sender<Answered>, Instant),
    /// That it is queued, and will come to this.
    WasTold(Outcome),
    /// It was a process that has ended, or knows no number to ask by: what its write comes to is
    /// looked at as a conflict.
    IsGone,
    /// It was told that nobody knows yet, and the number to ask by.
    GaveUp,
}

/// Work for the thread of a queue, in order.
enum Job {
    Write(Operation, oneshot::Sender<Answered>),
    Open(StoreId, oneshot::Sender<Result<Resume>>),
    Number(SessionId, Sequence, Vec<u64>),
    Answered(u64, Option<Origin>, Result<(Outcome, Ack), Failure>),
    Online(bool),
    Clear(oneshot::Sender<Result<()>>),
    Close(oneshot::Sender<()>),
}

impl Offline {
    /// The queue of a handle; its thread runs until it is closed or `core` is gone.
    pub(crate) fn start(core: Weak<Core>) -> Result<Arc<Self>> {
        let (jobs, todo) = mpsc::channel();
        let offline = Arc::new(Self::new(jobs));
        let worker = worker::Worker::new(core, Arc::clone(&offline));
        let named = std::thread::Builder::new().name("objsync-queue".into());
        let spawned = named.spawn(move || worker.run(&todo));
        spawned.map_err(|source| ObjectError::Io {
            op: "start the thread of a queue of",
            path: std::env::current_exe().unwrap_or_default(),
            source: Arc::new(source),
        })?;
        Ok(offline)
    }

    /// An empty queue, which hands its work to this channel.
    fn new(jobs: Sender<Job>) -> Self {
        Self {
            state: Mutex::default(),
            has_overlay: AtomicBool::new(false),
            jobs: Mutex::new(Some(jobs)),
            lock_fd: AtomicI32::new(-1),
            unseen: AtomicU64::new(0),
        }
    }

    /// Whether an operation is one that can wait for an owner.
    pub(crate) fn takes(operation: &Operation) -> bool {
        match operation {
            Operation::Put { .. }
            | Operation::Delete { .. }
            | Operation::DeleteRange { .. }
            | Operation::CompareAndSet { .. }
            | Operation::Increment { .. }
            | Operation::Batch { .. }
            | Operation::Patch { .. } => true,
            Operation::PutLeased { lease, .. } => lease.is_none(),
            Operation::Transact { .. }
            | Operation::GrantLease { .. }
            | Operation::RevokeLease { .. }
            | Operation::Lock { .. }
            | Operation::Unlock { .. }
            | Operation::Settle
            | Operation::AddDictionary { .. } => false,
        }
    }

    /// Queues a write. Its answer comes from the owner, or says that it is queued.
    pub(crate) fn write(&self, operation: Operation) -> oneshot::Receiver<Answered> {
        let (answer, answered) = oneshot::channel();
        self.unseen.fetch_add(1, Ordering::AcqRel);
        self.give(Job::Write(operation, answer));
        answered
    }

    /// Finds the queue of a store on disk, once; what was left in it is to be sent.
    pub(crate) async fn open(&self, store: StoreId) -> Result<Resume> {
        self.ask(|reply| Job::Open(store, reply)).await?
    }

    /// Writes are about to be sent under these numbers.
    pub(crate) fn number(&self, session: SessionId, first: Sequence, entries: Vec<u64>) {
        self.give(Job::Number(session, first, entries));
    }

    /// A queued write has its answer.
    pub(crate) fn answered(
        &self,
        entry: u64,
        op: Option<Origin>,
        result: Result<(Outcome, Ack), Failure>,
    ) {
        self.give(Job::Answered(entry, op, result));
    }

    /// There is an owner now, or none any more.
    pub(crate) fn online(&self, is_online: bool) {
        self.give(Job::Online(is_online));
    }

    /// Forgets the conflicts so far, on disk too.
    pub(crate) async fn clear(&self) -> Result<()> {
        self.ask(Job::Clear).await?
    }

    /// Ends the thread and frees the queue for others. What is in it stays on disk.
    pub(crate) async fn close(&self) {
        let _ = self.ask(Job::Close).await;
        drop(self.jobs().take());
    }

    /// How many writes are queued.
    pub(crate) fn count(&self) -> u64 {
        let state = self.state();
        state.entries.len() as u64 + self.unseen.load(Ordering::Acquire)
    }

    /// How many conflicts are kept.
    pub(crate) fn conflict_count(&self) -> u64 {
        self.state().conflicts.len() as u64
    }

    /// The conflicts so far; `present` looks a key up.
    pub(crate) fn conflicts(
        &self,
        packer: &Packer,
        present: &dyn Fn(&[u8]) -> Option<Bytes>,
    ) -> Result<Vec<Conflict>> {
        let kept = self.state().conflicts.clone();
        let mut conflicts = Vec::new();
        for conflict in &kept {
            conflict.open(packer, present, &mut conflicts)?;
        }
        Ok(conflicts)
    }

    /// Whether queued writes have a say in anything that is read. An atomic.
    #[inline]
    pub(crate) fn has_overlay(&self) -> bool {
        self.has_overlay.load(Ordering::Acquire)
    }

    /// The payload of a key, if queued writes have a say in it.
    pub(crate) fn get(&self, packer: &Packer, key: &[u8]) -> Result<Option<Option<Bytes>>> {
        if !self.has_overlay() {
            return Ok(None);
        }
        let stored = self.state().overlay.get(key);
        stored
            .map(|stored| {
                stored
                    .map(|stored| packer.open(key, Revision::default(), stored))
                    .transpose()
            })
            .transpose()
    }

    /// The keys of a range that queued writes have a say in, in the order of a scan.
    pub(crate) fn range(
        &self,
        packer: &Packer,
        range: &KeyRange,
        reverse: bool,
    ) -> Result<VecDeque<(Bytes, Option<Bytes>)>> {
        if !self.has_overlay() {
            return Ok(VecDeque::new());
        }
        let mut queued = self.state().overlay.range(range);
        if reverse {
            queued.reverse();
        }
        let opened = |(key, value): (Bytes, Option<Bytes>)| {
            let value = value
                .map(|stored| packer.open(&key, Revision::default(), stored))
                .transpose()?;
            Ok((key, value))
        };
        queued.into_iter().map(opened).collect()
    }

    /// Whether a write is queued still: not if its store was replaced.
    pub(crate) fn has(&self, entry: u64) -> bool {
        self.state().entries.contains_key(&entry)
    }

    /// The operation of a queued write.
    fn operation(&self, entry: u64) -> Option<Operation> {
        let state = self.state();
        state
            .entries
            .get(&entry)
            .map(|entry| entry.operation.clone())
    }

    /// What a forked child must close.
    pub(crate) fn inherited_fd(&self) -> Option<RawFd> {
        let fd = self.lock_fd.load(Ordering::Acquire);
        (fd >= 0).then_some(fd)
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T> {
        let (reply, replied) = oneshot::channel();
        self.give(job(reply));
        replied.await.map_err(|_| closed())
    }

    /// A job that nobody takes any more is dropped, and who waits for it hears so.
    fn give(&self, job: Job) {
        if let Some(jobs) = &*self.jobs() {
            let _ = jobs.send(job);
        }
    }

    fn jobs(&self) -> MutexGuard<'_, Option<Sender<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> ObjectError {
    ObjectError::new(ErrorKind::Closed, "the queue of this object is closed")
}

/// How an answer is told to a caller.
fn answered(op: Option<Origin>, result: Result<(Outcome, Ack), Failure>) -> Answered {
    result.map_err(|failure| match (failure.kind, op) {
        (ErrorKind::OutcomeUnknown, Some(op)) => ObjectError::Unanswered { failure, op },
        _ => ObjectError::from(failure),
    })
}
