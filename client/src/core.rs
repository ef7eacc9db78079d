//! What is behind a handle, for as long as its process lives: the role, and the calls on their way.
//!
//! ```text
//! Seeking --found an owner--> Peer --its end--> Seeking
//!    \--won the lock--> Owner            any --close--> Closed
//! ```
//!
//! Trail of a write: [`Core::execute`] -> `store::Store::execute` (owner), or
//! [`Core::submit`] -> [`crate::connection`] -> the owner's `server::connection` (peer).
//!
//! Invariants
//! * A core that became the owner stays it until closed; so `owner` is read without a lock.
//! * Calls leave in the order in which they were queued: the owner's place is taken with the queue
//!   locked and emptied into the store, so no later call overtakes one from before.
//! * Each queued call is answered once: by the owner, by its deadline, or by the end of the handle.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use objsync_proto::error::Failure;
use objsync_proto::ids::{Ack, Origin, Position, SessionId, StoreId};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::{Feed, KeyRange, Reply, Request};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::config::Config;
use crate::error::{ObjectError, Result};
use crate::owner::OwnerSide;
use crate::pending::{Answered, unexpected_reply};
use crate::process;
use crate::replica::{Extent, Replica};
use crate::seek;
use crate::wait::block_on;

/// Most unanswered writes of one handle.
pub(crate) const WINDOW_COUNT: u32 = 16_384;
/// Most bytes of unanswered writes of one handle: half of what a session may have in flight.
pub(crate) const WINDOW_BYTES: u64 = objsync_proto::limits::SESSION_BYTES_MAX as u64 / 2;

/// How long a read waits for what was acknowledged before it asks for a sign.
const CATCH_UP: Duration = Duration::from_millis(5);

/// What is behind a handle.
pub(crate) struct Core {
    /// What was asked for.
    pub(crate) config: Arc<Config>,
    /// The I/O thread of this process.
    pub(crate) runtime: Handle,
    /// What this handle holds in memory while it is a peer.
    pub(crate) replica: Replica,
    /// Woken when the phase changes.
    pub(crate) phase_changed: Notify,
    /// Set once, when this process owns the store.
    owner: OnceLock<OwnerSide>,
    phase: Mutex<Phase>,
    queue: Mutex<Queue>,
    queued: Notify,
    closing: AtomicBool,
    closed: AtomicBool,
    /// Counts changes of role: part of every stamp.
    role_count: AtomicU32,
    /// Highest acknowledged revision.
    acked: AtomicU64,
    acked_quietly: AtomicU64,
    last_ack: Mutex<Option<Ack>>,
    /// The store it has seen.
    store: Mutex<Option<StoreId>>,
    /// Its present session, by which it knows its own changes.
    session: Mutex<Option<SessionId>>,
    unanswered: Unanswered,
}

/// What the handle is at this moment.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// Looking for an owner, or racing to become it.
    Seeking {
        /// Why there is none yet.
        reason: Option<String>,
        /// The lock is ours and the store is being opened, which can take its time.
        opening: bool,
    },
    /// Connected to an owner.
    Peer {
        /// Where it listens.
        address: SocketAddr,
        /// Its process, if it is on this machine.
        pid: Option<u32>,
    },
    /// This process is the owner.
    Owner,
    /// It cannot go on.
    Failed(ObjectError),
    /// The handle was closed.
    Closed,
}

/// A call that waits for the I/O thread.
pub(crate) enum Command {
    /// Decide this.
    Write {
        /// What to decide.
        operation: Operation,
        /// Who waits.
        answer: oneshot::Sender<Answered>,
        /// Until when.
        deadline: Instant,
    },
    /// Answer this.
    Request {
        /// What is asked.
        request: Request,
        /// Who waits.
        reply: oneshot::Sender<Result<Reply>>,
        /// Until when.
        deadline: Instant,
    },
    /// Send a range's entries or changes to this sink.
    Feed {
        /// Which keys, in which way.
        wanted: FeedWanted,
        /// Where they go.
        sink: FeedSink,
    },
}

/// Where the frames of a stream go: bounded, so that a slow reader slows its own stream only.
pub(crate) type FeedSink = mpsc::Sender<Result<Feed>>;

/// A stream of its own that somebody wants from the owner.
#[derive(Debug, Clone)]
pub(crate) struct FeedWanted {
    /// Which keys.
    pub(crate) range: KeyRange,
    /// Entries as of one revision, or changes.
    pub(crate) what: FeedKind,
}

/// What a stream brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeedKind {
    /// Entries as of one revision.
    Entries {
        /// From the last key to the first.
        reverse: bool,
    },
    /// Changes after this position.
    Changes(Position),
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    /// No more are taken.
    ended: bool,
}

/// How many writes wait for an answer.
#[derive(Default)]
struct Unanswered {
    count: AtomicU32,
    bytes: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
    has_waiting: AtomicBool,
}

impl Core {
    /// Begins to look for the store.
    pub(crate) fn start(config: Arc<Config>) -> Result<Arc<Self>> {
        let process = process::current()?;
        let core = Arc::new(Self {
            replica: Replica::new(&config.options),
            config,
            runtime: process.runtime.clone(),
            phase_changed: Notify::new(),
            owner: OnceLock::new(),
            phase: Mutex::new(Phase::Seeking {
                reason: None,
                opening: false,
            }),
            queue: Mutex::default(),
            queued: Notify::new(),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            role_count: AtomicU32::new(0),
            acked: AtomicU64::new(0),
            acked_quietly: AtomicU64::new(0),
            last_ack: Mutex::new(None),
            store: Mutex::new(None),
            session: Mutex::new(None),
            unanswered: Unanswered::default(),
        });
        core.runtime.spawn(seek::run(Arc::clone(&core)));
        Ok(core)
    }

    /// Waits until the handle can be used, or cannot.
    pub(crate) async fn opened(&self) -> Result<()> {
        let timeout = self.config.options.timeout;
        loop {
            let usable = self.until(|phase| match phase {
                Phase::Seeking { .. } => None,
                Phase::Peer { .. } | Phase::Owner => Some(Ok(())),
                Phase::Failed(error) => Some(Err(error.clone())),
                Phase::Closed => Some(Err(self.closed_error())),
            });
            match self.within(timeout, usable).await {
                Some(usable) => return usable,
                None if matches!(self.phase(), Phase::Seeking { opening: true, .. }) => {}
                None => return Err(self.unreachable(timeout)),
            }
        }
    }

    /// Waits until the phase is one that `check` accepts.
    pub(crate) async fn until<T>(&self, mut check: impl FnMut(&Phase) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.phase_changed.notified());
            changed.as_mut().enable();
            if let Some(found) = check(&self.phase()) {
                return found;
            }
            changed.await;
        }
    }

    /// Runs a future for at most `timeout`, on whatever executor polls it.
    pub(crate) async fn within<T>(
        &self,
        timeout: Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let limited = {
            let _timer = self.runtime.enter();
            tokio::time::timeout(timeout, future)
        };
        limited.await.ok()
    }

    /// What the handle is at this moment.
    pub(crate) fn phase(&self) -> Phase {
        self.lock_phase().clone()
    }

    /// Enters a phase, unless the handle was closed. Caches of decoded values start anew.
    pub(crate) fn enter(&self, phase: Phase) {
        let mut now = self.lock_phase();
        if matches!(*now, Phase::Closed) {
            return;
        }
        *now = phase;
        drop(now);
        self.phase_changed.notify_waiters();
    }

    /// The owner's side, when this process is the owner.
    #[inline]
    pub(crate) fn owner(&self) -> Option<&OwnerSide> {
        self.owner.get()
    }

    /// Refuses calls on a handle that was closed, or cannot go on.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(self.end_error());
        }
        Ok(())
    }

    /// Part of every stamp: changes when the role does.
    #[inline]
    pub(crate) fn role_count(&self) -> u32 {
        self.role_count.load(Ordering::Acquire)
    }

    /// Highest acknowledged revision of this handle.
    #[inline]
    pub(crate) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Acquire)
    }

    /// The newest acknowledgement.
    pub(crate) fn last_ack(&self) -> Option<Ack> {
        *self.last_ack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Highest acknowledged revision of a write that changed nothing: no event tells of it.
    fn acked_quietly(&self) -> u64 {
        self.acked_quietly.load(Ordering::Acquire)
    }

    /// Remembers an acknowledgement, so that reads wait for what it tells of.
    pub(crate) fn note_ack(&self, outcome: &Outcome, ack: &Ack) {
        if matches!(outcome, Outcome::Deleted(0) | Outcome::Swapped(false)) {
            self.acked_quietly
                .fetch_max(ack.revision.0, Ordering::AcqRel);
        }
        self.acked.fetch_max(ack.revision.0, Ordering::AcqRel);
        let mut last = self.last_ack.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.revision <= ack.revision) {
            *last = Some(*ack);
        }
    }

    /// Decides a write and waits for the answer in this thread.
    pub(crate) fn execute(&self, operation: Operation) -> Answered {
        self.check_open()?;
        if let Some(owner) = self.owner() {
            let answered = owner.execute(operation);
            return self.noted(answered);
        }
        let mut operation = operation;
        let answer = loop {
            match self.submit(operation) {
                Ok(answer) => break answer,
                Err(refused) => operation = refused,
            }
            block_on(
                &self.config.what,
                std::future::poll_fn(|context| self.poll_room(context)),
            )?;
        };
        let answered = block_on(&self.config.what, answer)?;
        self.received(answered)
    }

    /// Hands a write over. Gives it back when too many are unanswered.
    #[expect(clippy::result_large_err, reason = "the operation is tried again")]
    pub(crate) fn submit(
        &self,
        operation: Operation,
    ) -> Result<oneshot::Receiver<Answered>, Operation> {
        let (answer, answered) = oneshot::channel();
        if self.check_open().is_err() {
            let _ = answer.send(Err(self.closed_error()));
            return Ok(answered);
        }
        if let Some(owner) = self.owner() {
            owner.submit(operation, None, answer);
            return Ok(answered);
        }
        if !self.unanswered.has_room() {
            return Err(operation);
        }
        let deadline = Instant::now() + self.config.options.timeout;
        self.push(Command::Write {
            operation,
            answer,
            deadline,
        });
        Ok(answered)
    }

    /// Asks something. Begins when polled.
    pub(crate) async fn request(&self, request: Request) -> Result<Reply> {
        self.check_open()?;
        let (reply, replied) = oneshot::channel();
        let deadline = Instant::now() + self.config.options.timeout;
        match self.owner() {
            Some(owner) => owner.request(request, reply),
            None => self.push(Command::Request {
                request,
                reply,
                deadline,
            }),
        }
        replied.await.unwrap_or_else(|_| Err(self.closed_error()))
    }

    /// Queues a command for the I/O thread, or gives it to the store when this process has just
    /// become the owner.
    pub(crate) fn push(&self, command: Command) {
        let mut queue = self.queue();
        if let Some(owner) = self.owner() {
            drop(queue);
            return owner.take(command);
        }
        if queue.ended {
            drop(queue);
            return command.fail(&self.end_error());
        }
        if let Command::Write { operation, .. } = &command {
            self.unanswered.add(operation_bytes(operation));
        }
        queue.commands.push_back(command);
        drop(queue);
        self.queued.notify_one();
    }

    /// The next command, in order; waits for one. Cancel safe.
    pub(crate) async fn queued(&self) {
        self.queued.notified().await;
    }

    /// Everything queued by now.
    pub(crate) fn take_queued(&self) -> VecDeque<Command> {
        std::mem::take(&mut self.queue().commands)
    }

    /// Fails what waits in the queue past its deadline.
    pub(crate) fn expire_queued(&self, now: Instant) {
        let mut expired = Vec::new();
        {
            let mut queue = self.queue();
            let commands = std::mem::take(&mut queue.commands);
            for command in commands {
                match command.deadline() {
                    Some(deadline) if deadline <= now => expired.push(command),
                    _ => queue.commands.push_back(command),
                }
            }
        }
        for command in expired {
            if let Command::Write { operation, .. } = &command {
                self.answered(operation_bytes(operation));
            }
            command.fail(&self.unreachable(self.config.options.timeout));
        }
    }

    /// Makes this process the owner: first gives it the writes that a former owner left
    /// unanswered, then what was queued, in order, and only then opens it to new calls.
    pub(crate) fn become_owner(&self, side: OwnerSide, first: impl FnOnce(&OwnerSide)) {
        let mut queue = self.queue();
        first(&side);
        for command in std::mem::take(&mut queue.commands) {
            side.take(command);
        }
        let taken = self.owner.set(side);
        debug_assert!(taken.is_ok(), "a core becomes the owner once");
        self.role_count.fetch_add(1, Ordering::AcqRel);
        drop(queue);
        self.unanswered.clear();
        self.enter(Phase::Owner);
    }

    /// The result of waiting for an answer.
    pub(crate) fn received(
        &self,
        answered: Result<Answered, oneshot::error::RecvError>,
    ) -> Answered {
        self.noted(answered.unwrap_or_else(|_| Err(self.closed_error())))
    }

    fn noted(&self, answered: Answered) -> Answered {
        if let Ok((outcome, ack)) = &answered {
            self.note_ack(outcome, ack);
        }
        answered
    }

    /// A write of so many bytes has its answer.
    pub(crate) fn answered(&self, bytes: u64) {
        self.unanswered.remove(bytes);
    }

    /// Unanswered writes.
    pub(crate) fn unanswered(&self) -> u32 {
        self.unanswered.count.load(Ordering::Relaxed)
    }

    /// Ready when a write can be submitted.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        self.unanswered.poll_room(context)
    }

    /// Checks that a store is the one this handle has always seen.
    pub(crate) fn check_store_seen(&self, found: StoreId) -> Result<()> {
        let mut seen = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_store(*seen, found)?;
        *seen = Some(found);
        Ok(())
    }

    fn check_store(&self, seen: Option<StoreId>, found: StoreId) -> Result<()> {
        if self.config.options.recover || seen.is_none_or(|seen| seen == found) {
            return Ok(());
        }
        let seen = seen.unwrap_or(found);
        Err(ObjectError::new(
            objsync_proto::error::ErrorKind::Conflict,
            format!(
                "{} now has store {found}; this handle saw store {seen}: open it anew, or with \
                 recover, to accept the other one",
                self.config.what
            ),
        ))
    }

    /// Remembers the session that writes of this handle go through.
    pub(crate) fn note_session(&self, session: Option<SessionId>) {
        if session.is_some() {
            *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session;
        }
    }

    /// Whether this handle asked for a change.
    pub(crate) fn is_own(&self, origin: Option<Origin>) -> bool {
        match origin {
            None => self.owner().is_some(),
            Some(origin) => {
                let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
                *session == Some(origin.session)
            }
        }
    }

    /// Waits until reads find what this handle was acknowledged.
    ///
    /// # Errors
    /// When that takes longer than a call may, or the handle has ended.
    pub(crate) async fn readable(&self) -> Result<()> {
        self.check_open()?;
        if self.owner().is_some() {
            return Ok(());
        }
        let soon = self.within(CATCH_UP, self.caught_up());
        if self.acked() > self.acked_quietly() && soon.await.is_some() {
            return self.still_good();
        }
        // What was acknowledged may have changed nothing that the replica follows: ask for a sign.
        let waited = async {
            if self.replica.extent() != Extent::Joining && self.owner().is_none() {
                self.request(Request::Barrier).await?;
            }
            self.caught_up().await;
            Ok(())
        };
        let timeout = self.config.options.timeout;
        match self.within(timeout, waited).await {
            Some(done) => done.and_then(|()| self.still_good()),
            None => Err(self.unreachable(timeout)),
        }
    }

    async fn caught_up(&self) {
        let ended = || {
            self.owner().is_some()
                || self.check_open().is_err()
                || matches!(&*self.lock_phase(), Phase::Failed(_) | Phase::Closed)
        };
        self.replica.caught_up(|| self.acked(), ended).await;
    }

    fn still_good(&self) -> Result<()> {
        self.check_open()?;
        match self.phase() {
            Phase::Failed(error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until the replica has everything that was committed when this was called.
    pub(crate) async fn sync(&self) -> Result<Position> {
        let position = match self.request(Request::Barrier).await? {
            Reply::Position(position) => position,
            other => return Err(unexpected_reply(&other)),
        };
        if self.owner().is_none() && self.replica.extent() != Extent::None {
            let target = position.revision.0;
            let ended = || self.owner().is_some() || self.check_open().is_err();
            let timeout = self.config.options.timeout;
            let reached = self.replica.caught_up(|| target, ended);
            if self.within(timeout, reached).await.is_none() {
                return Err(self.unreachable(timeout));
            }
            self.still_good()?;
        }
        Ok(position)
    }

    /// Waits for the beginning of the end of the handle. Cancel safe.
    pub(crate) async fn closing(&self) {
        loop {
            let mut changed = std::pin::pin!(self.phase_changed.notified());
            changed.as_mut().enable();
            if self.is_closing() {
                return;
            }
            changed.await;
        }
    }

    /// Asks the I/O task to finish what was started and to end.
    pub(crate) fn begin_close(&self) {
        self.closed.store(true, Ordering::Release);
        self.role_count.fetch_add(1, Ordering::AcqRel);
        self.closing.store(true, Ordering::Release);
        self.queued.notify_one();
        self.phase_changed.notify_waiters();
    }

    /// Whether the handle is being closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Ends the queue: what waits there, and what comes, fails.
    pub(crate) fn end(&self, phase: Phase) {
        self.enter(phase);
        self.closed.store(true, Ordering::Release);
        self.role_count.fetch_add(1, Ordering::AcqRel);
        let commands = {
            let mut queue = self.queue();
            queue.ended = true;
            std::mem::take(&mut queue.commands)
        };
        let error = self.end_error();
        for command in commands {
            command.fail(&error);
        }
        self.unanswered.clear();
        self.replica.wake();
        self.phase_changed.notify_waiters();
    }

    /// Why no call can succeed any more.
    pub(crate) fn end_error(&self) -> ObjectError {
        match self.phase() {
            Phase::Failed(error) => error,
            _ => self.closed_error(),
        }
    }

    pub(crate) fn closed_error(&self) -> ObjectError {
        ObjectError::Closed {
            what: self.config.what.clone(),
        }
    }

    /// The error of a call that nobody answered.
    pub(crate) fn unreachable(&self, waited: Duration) -> ObjectError {
        let reason = match self.phase() {
            Phase::Failed(error) => return error,
            Phase::Closed => return self.closed_error(),
            Phase::Seeking {
                reason: Some(reason),
                ..
            } => format!(": {reason}"),
            Phase::Seeking { .. } | Phase::Peer { .. } | Phase::Owner => String::new(),
        };
        ObjectError::Unreachable {
            what: self.config.what.clone(),
            waited,
            reason,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Command {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Write { deadline, .. } | Self::Request { deadline, .. } => Some(*deadline),
            Self::Feed { .. } => None,
        }
    }

    /// Answers it with an error. Who no longer waits does not hear it.
    pub(crate) fn fail(self, error: &ObjectError) {
        match self {
            Self::Write { answer, .. } => drop(answer.send(Err(error.clone()))),
            Self::Request { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Feed { sink, .. } => drop(sink.try_send(Err(error.clone()))),
        }
    }
}

impl Unanswered {
    fn has_room(&self) -> bool {
        self.count.load(Ordering::Acquire) < WINDOW_COUNT
            && self.bytes.load(Ordering::Acquire) < WINDOW_BYTES
    }

    fn add(&self, bytes: u64) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn remove(&self, bytes: u64) {
        let less = |now: u64| Some(now.saturating_sub(bytes));
        let _ = self
            .bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        let one_less = |now: u32| Some(now.saturating_sub(1));
        let _ = self
            .count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less);
        self.wake();
    }

    fn clear(&self) {
        self.count.store(0, Ordering::Release);
        self.bytes.store(0, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        if self.has_waiting.swap(false, Ordering::AcqRel) {
            let waiting = std::mem::take(&mut *self.waiting());
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting();
        waiting.retain(|waker| !waker.will_wake(context.waker()));
        waiting.push(context.waker().clone());
        self.has_waiting.store(true, Ordering::Release);
        drop(waiting);
        // An answer may have come before the waker was there.
        if self.has_room() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an operation counts in the window.
pub(crate) fn operation_bytes(operation: &Operation) -> u64 {
    let bytes = match operation {
        Operation::Put { key, value } => key.len() + value.len(),
        Operation::Delete { key } | Operation::Increment { key, .. } => key.len(),
        Operation::DeleteRange { start, end, .. } => {
            start.len() + end.as_ref().map_or(0, bytes::Bytes::len)
        }
        Operation::CompareAndSet { key, expected, new } => {
            let length = |value: &Option<bytes::Bytes>| value.as_ref().map_or(0, bytes::Bytes::len);
            key.len() + length(expected) + length(new)
        }
        Operation::Batch { changes } => changes
            .iter()
            .map(|change| change.key.len() + change.value.as_ref().map_or(0, bytes::Bytes::len))
            .sum(),
    };
    bytes as u64 + 64
}

impl From<Failure> for Phase {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.into())
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("what", &self.config.what)
            .finish_non_exhaustive()
    }
}
