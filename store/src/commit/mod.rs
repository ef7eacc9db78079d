//! The write path: decide, append, sync, commit, answer.
//!
//! Trail: `Store::execute` -> [`Core::run_here`] -> [`batch::Batch`] (decide) ->
//! `log::LogWriter::append` -> `log::OpenSegment::sync` -> [`Core::publish`] -> the caller.
//!
//! The writer is a role, not a thread: whoever finds it free takes all that is queued, syncs once,
//! and answers for everybody. A lone writer wakes nobody.
//!
//! Invariants
//! * Whoever leads the queue is alone in here, so revisions have one order.
//! * Readers and followers see a transaction after its level is reached, callers after them.
//! * What was not appended is not seen by anybody: a failed append leaves everything as it was.
//!
//! On a crash: a write that was not answered may or may not be there; an answered one is.

mod batch;
mod chains;
mod chunks;
mod compact;
mod decide;
mod expiry;
mod job;
mod overlay;
mod publish;
mod queue;

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use objsync_proto::ids::{Durability, Revision};

pub(crate) use batch::Batch;
pub(crate) use chains::Chains;
pub(crate) use compact::{Memory, compact_all};
pub(crate) use job::{Given, Job, ReplyTo, Request};
pub(crate) use queue::{Lead, Queue};

use crate::core::Core;
use crate::error::StoreError;
use crate::format::{self, Feature};
use crate::frame::BatchBuilder;
use crate::log::LogWriter;

/// Bytes of a batch after which what is queued waits for the next.
pub(crate) const BATCH_BYTES: usize = 4 << 20;
/// Bytes of keys and values decided in a batch after which what is queued waits for the next: what
/// is told by the part takes as much memory as the values it leads to. Each batch waits for room in
/// the recent map, so this and one more change is what it can be over its bound by.
pub(crate) const BATCH_VALUE_BYTES: usize = 16 << 20;
/// Most transactions of a batch.
pub(crate) const BATCH_COUNT: usize = 65_536;

/// What only the leader touches.
pub(crate) struct Writer {
    pub(crate) log: LogWriter,
    pub(crate) builder: BatchBuilder,
    /// Number of the present epoch.
    pub(crate) epoch: u64,
    /// The revision given last.
    pub(crate) last: Revision,
    /// Revisions up to here are set aside on disk.
    pub(crate) revision_max: Revision,
    pub(crate) batch: Batch,
    pub(crate) closed: bool,
    pub(crate) patches: Patches,
    pub(crate) chains: Chains,
}

/// Whether the log has changes of values by the part, and `FORMAT` says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Patches {
    /// This owner has written none.
    #[default]
    None,
    /// One is in the next frame.
    Next,
    /// `FORMAT` says so.
    Named,
}

impl Patches {
    /// Another transaction goes into the next frame.
    pub(crate) fn note(&mut self, has_patches: bool) {
        if has_patches && *self == Self::None {
            *self = Self::Next;
        }
    }
}

impl Writer {
    /// The revision of the last transaction. After an unclean end that is below the revision given
    /// last: those between may have been given, and are of nothing that was kept.
    fn last_decided(&self) -> Revision {
        match self.builder.count() {
            0 => self.log.last(),
            _ => self.last,
        }
    }
}

impl Core {
    /// Before the first frame with a change of a value by the part: earlier programs must not read
    /// on here.
    pub(crate) fn name_patches(&self, writer: &mut Writer) -> Result<(), StoreError> {
        if writer.patches == Patches::Next {
            format::name_feature(&*self.disk, &self.directory, Feature::Patches)?;
            writer.patches = Patches::Named;
        }
        Ok(())
    }

    /// Has a request decided, and waits until it is answered.
    pub(crate) fn run_here(&self, request: Request) -> Result<Given, StoreError> {
        self.refuse_if_closed()?;
        self.wait_for_room()?;
        self.run_anyway(request)
    }

    /// Waits until the recent map has room.
    pub(crate) fn wait_for_room(&self) -> Result<(), StoreError> {
        match self.has_threads {
            true => self.state.wait_for_room(&|| {
                // A sync may have come by a way of which nobody told the index.
                self.index_may_follow();
                self.poison.check()
            }),
            false => self.make_room(),
        }
    }

    /// As [`Core::run_here`], on a store that is closing too.
    pub(crate) fn run_anyway(&self, request: Request) -> Result<Given, StoreError> {
        if !self.has_threads {
            self.drain_queue();
        }
        match self.queue.enter(request) {
            Lead::Alone(request) => self.lead_with(request),
            Lead::Wait(slot) => {
                if let Some(result) = slot.wait() {
                    return result;
                }
                // Batches before this one may have taken the room that there was.
                let jobs = self.take_queued();
                self.lead(jobs);
                // The request was the first of what was queued.
                slot.wait().unwrap_or(Err(StoreError::Closed))
            }
        }
    }

    /// Leads with one request, for this thread.
    fn lead_with(&self, request: Request) -> Result<Given, StoreError> {
        let reply = ReplyTo::Inline.into();
        let jobs = VecDeque::from([Job { request, reply }]);
        self.lead(jobs).unwrap_or(Err(StoreError::Closed))
    }

    /// Runs one batch. Gives the answer of an inline job.
    fn lead(&self, mut jobs: VecDeque<Job>) -> Option<Result<Given, StoreError>> {
        let leading = Leading::new(self);
        let answer = match self.writer().as_mut() {
            Some(writer) => self.run_batch(writer, &mut jobs),
            None => refuse_all(&mut jobs, &self.no_writer()),
        };
        self.queue.give_back(jobs);
        drop(leading);
        answer
    }

    /// Runs a buffered write on this thread, if that waits for nothing; gives it back otherwise.
    #[expect(clippy::result_large_err, reason = "the request goes on to the queue")]
    pub(crate) fn try_run_here(
        &self,
        request: Request,
    ) -> Result<Result<Given, StoreError>, Request> {
        let unsynced = self.open.unsynced();
        let waits = self.state.is_full()
            || !self.open.has_room(request.bytes() as u64)
            || unsynced.bytes >= self.limits.unsynced_bytes_max
            || unsynced.age_ms >= self.limits.unsynced_ms_max;
        if waits || self.is_closed() || !self.queue.enter_if_free() {
            return Err(request);
        }
        Ok(self.lead_with(request))
    }

    /// Queues a job for the store's own thread. Never blocks.
    pub(crate) fn run_there(&self, job: Job) {
        match self.refuse_if_closed() {
            Ok(()) => self.queue.push(job),
            Err(error) => job.reply.give(Err(error), &mut None),
        }
    }

    /// What the store's own thread does until it is stopped.
    pub(crate) fn serve_queue(&self) {
        while self.queue.wait_for_lead(&|| self.expiry_wait_ms()) {
            self.lead_queued();
        }
    }

    /// Runs what is queued, as the store's own thread does. For who leads.
    pub(crate) fn lead_queued(&self) {
        let jobs = self.take_queued();
        // The store refuses writes after a panic, but somebody has to say so.
        let _ = catch_unwind(AssertUnwindSafe(|| self.lead(jobs)));
    }

    /// What is queued, once there is room for it; where there will be none, the end of the store
    /// alone, and the others are refused. For who leads.
    fn take_queued(&self) -> VecDeque<Job> {
        let room = self.wait_for_room();
        let mut jobs = self.queue.take();
        if let Err(error) = room {
            // The end of a store needs no room.
            let is_close = |job: &Job| matches!(job.request, Request::Close);
            let (closing, mut refused) = jobs.into_iter().partition(is_close);
            refuse_all(&mut refused, &error);
            jobs = closing;
        }
        jobs
    }

    /// One batch, from decision to answers. What does not go into it stays in `jobs`.
    fn run_batch(
        &self,
        writer: &mut Writer,
        jobs: &mut VecDeque<Job>,
    ) -> Option<Result<Given, StoreError>> {
        let refused = self
            .poison
            .check()
            .and_then(|()| self.authority.may_append());
        let refused = refused.and_then(|()| match writer.closed {
            true => Err(StoreError::Closed),
            false => self.set_revisions_aside(writer),
        });
        if let Err(error) = refused {
            return refuse_all_but_close(jobs, &error);
        }
        let mut batch = std::mem::take(&mut writer.batch);
        batch.begin(self.time.now_ms());
        self.decide_all(writer, &mut batch, jobs);
        self.append_decided(writer, &mut batch);
        self.sync_batch(&mut batch);
        self.publish(&mut batch);
        let answer = batch.answer_all();
        writer.batch = batch;
        for closed in writer.log.take_closed() {
            self.segment_closed(closed);
        }
        answer
    }

    /// Syncs if a level of the batch asks for it, or if too much is not synced yet.
    fn sync_batch(&self, batch: &mut Batch) {
        let appended = Revision(self.appended.load(Ordering::Acquire));
        let behind = self.open.durable() < appended || batch.has_events();
        let asked = batch.level == Durability::Sync && (batch.has_appended() || behind);
        let unsynced = self.open.unsynced();
        let overdue = unsynced.bytes >= self.limits.unsynced_bytes_max
            || unsynced.age_ms >= self.limits.unsynced_ms_max;
        if !(asked || overdue) {
            return;
        }
        match self.sync() {
            Ok(()) => {}
            // Something failed since this batch was appended: some of it may be kept.
            Err(StoreError::Poisoned { cause }) => {
                batch.fail_all(&StoreError::OutcomeUnknown { cause });
            }
            Err(error) => batch.fail_all(&error),
        }
    }

    /// Makes everything appended before the call durable, and lets the index follow.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.open.sync()?;
        self.index_may_follow();
        self.feed.wake_durable();
        Ok(())
    }

    /// Sets revisions aside on disk, so that none is given twice whatever happens.
    fn set_revisions_aside(&self, writer: &mut Writer) -> Result<(), StoreError> {
        if writer.last.0 + BATCH_COUNT as u64 <= writer.revision_max.0 {
            return Ok(());
        }
        let next = Revision(writer.revision_max.0 + objsync_proto::limits::REVISION_STEP);
        self.manifest
            .update(|manifest| manifest.revision_max = next)?;
        writer.revision_max = next;
        Ok(())
    }
}

thread_local! {
    static IS_LEADING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in the middle of a batch, so that it must not wait for the writer.
pub(crate) fn is_leading() -> bool {
    IS_LEADING.get()
}

/// Gives up the lead at the end, however that comes.
struct Leading<'a> {
    core: &'a Core,
}

impl<'a> Leading<'a> {
    fn new(core: &'a Core) -> Self {
        IS_LEADING.set(true);
        Self { core }
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        IS_LEADING.set(false);
        if std::thread::panicking() {
            let core = self.core;
            let panicked = std::io::Error::other("the writer panicked");
            core.poison
                .set(&StoreError::io("write", &core.directory, panicked));
        }
        self.core.queue.leave();
    }
}

/// Answers everything that is queued with one error.
fn refuse_all(jobs: &mut VecDeque<Job>, error: &StoreError) -> Option<Result<Given, StoreError>> {
    let mut inline = None;
    for job in jobs.drain(..) {
        job.reply.give(Err(error.clone()), &mut inline);
    }
    inline
}

/// As [`refuse_all`]; a store that refuses writes can still be closed, without an end mark.
fn refuse_all_but_close(
    jobs: &mut VecDeque<Job>,
    error: &StoreError,
) -> Option<Result<Given, StoreError>> {
    let mut inline = None;
    for job in jobs.drain(..) {
        let result = match job.request {
            Request::Close => Ok(Given::Nothing),
            _ => Err(error.clone()),
        };
        job.reply.give(result, &mut inline);
    }
    inline
}

#[cfg(test)]
mod tests;
