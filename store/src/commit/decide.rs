//! Deciding jobs in order, and building the frames of what they come to.

use std::collections::VecDeque;

use objsync_proto::effect::{Cause, Change};
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::evaluate::{Decided, evaluate};
use objsync_proto::ids::{Ack, Durability, NamespaceId, PeerKey, SessionId, SurfaceId};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::session::Recorded;

use super::batch::{Batch, Decision, Event, What};
use super::chunks::refuse_missing;
use super::compact::{Memory, compact_all};
use super::job::{Given, Job, Reply, Request};
use super::overlay::BatchView;
use super::{BATCH_BYTES, BATCH_COUNT, BATCH_VALUE_BYTES, Writer};
use crate::core::Core;
use crate::dict;
use crate::error::StoreError;
use crate::frame::{FrameKind, TransactionHead};
use crate::grants::GrantEvent;
use crate::log::FrameStart;
use crate::sessions::{Seen, SessionEvent};
use crate::store::{Answer, Submission, SubmissionOrigin};

/// A last segment below this is read in no time when the store is opened.
const SEAL_BYTES_MIN: u64 = 1 << 20;

/// Whether the batch goes on.
#[expect(clippy::large_enum_variant, reason = "made and matched in one place")]
enum Next {
    Go,
    /// This job belongs into the next batch.
    Keep(Job),
    /// This was the last job of the batch.
    Stop,
}

/// What is known of an operation with an origin.
enum Begun {
    New,
    /// Its first coming is in this batch.
    Pending,
    /// It is answered as it was, or must not be decided.
    Settled(Result<Given, StoreError>),
}

impl Core {
    /// Decides jobs until the batch is full, or one has to wait for what it decided.
    pub(super) fn decide_all(
        &self,
        writer: &mut Writer,
        batch: &mut Batch,
        jobs: &mut VecDeque<Job>,
    ) {
        while let Some(job) = jobs.pop_front() {
            // A large write can end as much again: that and a batch beside it is no frame.
            let full = writer.builder.body_bytes() >= BATCH_BYTES
                || batch.value_bytes >= BATCH_VALUE_BYTES
                || batch.decided.len() >= BATCH_COUNT
                || job.bytes() > BATCH_BYTES;
            if full && !batch.decided.is_empty() {
                jobs.push_front(job);
                return;
            }
            match self.decide(writer, batch, job, jobs.is_empty()) {
                Next::Go if batch.failure.is_none() => {}
                Next::Go | Next::Stop => return,
                Next::Keep(job) => return jobs.push_front(job),
            }
        }
    }

    fn decide(&self, writer: &mut Writer, batch: &mut Batch, job: Job, is_last: bool) -> Next {
        let Job { request, reply } = job;
        match request {
            Request::Write(submission) => {
                self.decide_write(writer, batch, submission, reply, is_last)
            }
            Request::OpenSession(peer) => self.decide_open_session(writer, batch, peer, reply),
            Request::CloseSession(id) => self.decide_close_session(writer, batch, id, reply),
            Request::Grant(event) => self.decide_grant(writer, batch, event, reply),
            // These look at, or end, what is committed: they begin a batch.
            request if !batch.decided.is_empty() => Next::Keep(Job { request, reply }),
            Request::Expire => {
                self.decide_expiry(writer, batch, reply);
                Next::Go
            }
            Request::CreateNamespace { name, content } => {
                self.decide_namespace(writer, batch, (&name, content), reply);
                Next::Stop
            }
            Request::Close => {
                writer.closed = true;
                batch.raise(Durability::Sync);
                self.seal(writer, batch.time_ms);
                self.append_event(writer, batch, reply, Event::End);
                Next::Stop
            }
        }
    }

    /// Closes a segment of some length before the end mark: whoever opens the store next finds its
    /// footer rather than read it.
    fn seal(&self, writer: &mut Writer, time_ms: u64) {
        if self.follows || writer.log.bytes() < SEAL_BYTES_MIN.min(self.limits.segment_bytes / 2) {
            return;
        }
        if let Err(error) = writer.log.roll(time_ms) {
            // The store ends where it is, or is poisoned and says so next.
            tracing::warn!(%error, "the last segment of the log stays open");
        }
    }

    fn decide_write(
        &self,
        writer: &mut Writer,
        batch: &mut Batch,
        submission: Submission,
        reply: Reply,
        is_last: bool,
    ) -> Next {
        let level = submission.durability.unwrap_or(self.durability);
        let Submission {
            namespace, origin, ..
        } = submission;
        if let Some(asked) = origin {
            match self.begin(&asked, batch.time_ms, level) {
                Begun::New => {}
                Begun::Settled(result) => {
                    batch.raise(level);
                    batch.push(reply, What::Settled(result));
                    return Next::Go;
                }
                Begun::Pending => {
                    let request = Request::Write(submission);
                    return Next::Keep(Job { request, reply });
                }
            }
        }
        let decision = match self.check_namespace(namespace) {
            Ok(()) => {
                let decided = self.evaluate(writer, batch, namespace, &submission.operation);
                self.admit_chunks(decided)
            }
            Err(failure) => Ok(Err(failure)),
        };
        let memory = match origin {
            Some(_) => Memory::Shared,
            None => Memory::Own,
        };
        let (result, cause, (changes, patches)) = match decision {
            Ok(Ok(Decided {
                outcome,
                cause,
                changes,
                patches,
            })) => (Ok(outcome), cause, compact_all(changes, patches, memory)),
            Ok(Err(failure)) => (Err(failure), Cause::Write, Default::default()),
            Err(error) => {
                if let Some(asked) = origin {
                    self.system().sessions.cancel(asked.origin);
                }
                batch.push(reply, What::Settled(Err(error)));
                return Next::Go;
            }
        };
        batch.raise(level);
        if changes.is_empty() && origin.is_none() {
            let answer = self.answer(result, writer.last_decided(), level);
            batch.push(reply, What::Unlogged(answer));
            return Next::Go;
        }
        let revision = writer.last.next();
        let decision = Decision {
            revision,
            origin: origin.map(|asked| (asked.origin, asked.floor)),
            cause,
            given: self.answer(result.clone(), revision, level),
            result,
            changes,
            patches,
        };
        if !is_last {
            batch.overlay.put_all(&decision, &self.leases);
        }
        add_transaction(writer, batch, reply, decision);
        Next::Go
    }

    /// Whether an operation with an origin is to be decided.
    fn begin(&self, asked: &SubmissionOrigin, now_ms: u64, level: Durability) -> Begun {
        let seen = self.system().sessions.begin(asked, now_ms);
        match seen {
            Ok(Seen::New) => Begun::New,
            Ok(Seen::Pending) => Begun::Pending,
            Ok(Seen::Decided(recorded)) => Begun::Settled(Ok(repeat(recorded, level))),
            Err(failure) => Begun::Settled(Err(failure.into())),
        }
    }

    fn evaluate(
        &self,
        writer: &Writer,
        batch: &Batch,
        namespace: NamespaceId,
        operation: &Operation,
    ) -> Result<objsync_proto::evaluate::Decision, StoreError> {
        evaluate(namespace, operation, &self.view(writer, batch))
    }

    /// What the next decision of a batch sees.
    pub(super) fn view<'a>(&'a self, writer: &Writer, batch: &'a Batch) -> BatchView<'a> {
        BatchView {
            core: self,
            overlay: &batch.overlay,
            next: writer.last.next(),
            last: writer.last_decided(),
            time_ms: batch.time_ms,
        }
    }

    fn check_namespace(&self, namespace: NamespaceId) -> Result<(), Failure> {
        if self.catalog().holds(namespace) {
            return Ok(());
        }
        let message = format!("no dictionary has the number {}", namespace.0);
        Err(Failure::new(ErrorKind::NotFound, message))
    }

    fn answer(
        &self,
        outcome: Result<Outcome, Failure>,
        revision: objsync_proto::ids::Revision,
        durability: Durability,
    ) -> Given {
        let ack = Ack {
            revision,
            epoch: self.epoch(),
            durability,
        };
        Given::Answer(Answer { outcome, ack })
    }

    fn decide_open_session(
        &self,
        writer: &mut Writer,
        batch: &mut Batch,
        peer: PeerKey,
        reply: Reply,
    ) -> Next {
        self.append_decided(writer, batch);
        let id = SessionId {
            epoch: writer.epoch,
            frame: writer.log.next_index(),
        };
        let event = Event::Session(id, SessionEvent::Opened(peer), Given::Session(id));
        self.append_event(writer, batch, reply, event);
        Next::Go
    }

    fn decide_close_session(
        &self,
        writer: &mut Writer,
        batch: &mut Batch,
        id: SessionId,
        reply: Reply,
    ) -> Next {
        let event = Event::Session(id, SessionEvent::Closed(id), Given::Nothing);
        self.append_event(writer, batch, reply, event);
        Next::Go
    }

    fn decide_grant(
        &self,
        writer: &mut Writer,
        batch: &mut Batch,
        event: GrantEvent,
        reply: Reply,
    ) -> Next {
        let was_there = match &event {
            GrantEvent::Given(_) => true,
            GrantEvent::TakenBack(peer) => self.system().grants.get(*peer).is_some(),
        };
        if !was_there {
            batch.push(reply, What::Settled(Ok(Given::Flag(false))));
            return Next::Go;
        }
        batch.raise(Durability::Sync);
        self.append_event(writer, batch, reply, Event::Grant(event, Given::Flag(true)));
        Next::Go
    }

    fn decide_namespace(
        &self,
        writer: &mut Writer,
        batch: &mut Batch,
        (name, content): (&str, Vec<Change>),
        reply: Reply,
    ) {
        batch.raise(Durability::Sync);
        let there = self.catalog().get(name);
        if let Some(namespace) = there {
            let given = Given::Namespace(namespace, false);
            return batch.push(reply, What::Unlogged(given));
        }
        let planned = self.catalog().plan(name);
        let decided = planned
            .map_err(StoreError::from)
            .and_then(|(namespace, entry)| {
                let operation = Operation::Batch { changes: content };
                let decided = self.evaluate(writer, batch, namespace, &operation);
                let decided = refuse_missing(self.admit_chunks(decided)??)?;
                let entry = [(NamespaceId::CATALOG, entry)].into_iter();
                Ok((namespace, entry.chain(decided.changes).collect()))
            });
        match decided {
            Err(error) => batch.push(reply, What::Settled(Err(error))),
            Ok((namespace, changes)) => {
                let decision = Decision {
                    revision: writer.last.next(),
                    origin: None,
                    cause: Cause::Write,
                    result: Ok(Outcome::Done),
                    changes,
                    patches: Vec::new(),
                    given: Given::Namespace(namespace, true),
                };
                add_transaction(writer, batch, reply, decision);
            }
        }
    }

    /// Appends what was decided since the last frame, as one frame.
    pub(super) fn append_decided(&self, writer: &mut Writer, batch: &mut Batch) {
        let count = u64::from(writer.builder.count());
        if count == 0 {
            if batch.failure.is_none() {
                batch.appended = batch.decided.len();
            }
            return;
        }
        let first = objsync_proto::ids::Revision(writer.last.0 + 1 - count);
        let named = self.name_patches(writer);
        let appended = match named {
            Ok(()) => append(writer, batch, FrameKind::Transactions, first),
            Err(error) => {
                writer.builder.clear();
                Err(error)
            }
        };
        match appended {
            Ok(()) => {
                batch.appended = batch.decided.len();
                self.appended
                    .store(writer.last.0, std::sync::atomic::Ordering::Release);
            }
            Err(error) => {
                // None of these revisions was given to anybody.
                writer.last.0 -= count;
                self.fail_rest(batch, &error);
            }
        }
    }

    /// Appends a frame of its own.
    fn append_event(&self, writer: &mut Writer, batch: &mut Batch, reply: Reply, event: Event) {
        self.append_decided(writer, batch);
        if let Some(error) = batch.failure.clone() {
            return batch.push(reply, What::Settled(Err(error)));
        }
        let mut body = Vec::new();
        let kind = match &event {
            Event::Session(_, event, _) => {
                event.encode(&mut body);
                FrameKind::Session
            }
            Event::Grant(event, _) => {
                event.encode(&mut body);
                FrameKind::Grant
            }
            Event::End => FrameKind::End,
        };
        writer.builder.raw(&body);
        // The revision given last, be it lost or not: who goes on from a clean end begins there.
        let appended = append(writer, batch, kind, writer.last);
        batch.push(reply, What::Event(event));
        match appended {
            Ok(()) => batch.appended = batch.decided.len(),
            Err(error) => self.fail_rest(batch, &error),
        }
    }

    fn fail_rest(&self, batch: &mut Batch, error: &StoreError) {
        let origins = batch.fail_rest(error);
        let mut system = self.system();
        for origin in origins {
            system.sessions.cancel(origin);
        }
    }
}

/// The first answer of an operation that came again.
fn repeat(recorded: Recorded, durability: Durability) -> Given {
    let ack = Ack {
        revision: recorded.revision,
        epoch: recorded.epoch,
        durability,
    };
    let outcome = recorded.result;
    Given::Answer(Answer { outcome, ack })
}

fn append(
    writer: &mut Writer,
    batch: &Batch,
    kind: FrameKind,
    first: objsync_proto::ids::Revision,
) -> Result<(), StoreError> {
    let start = FrameStart {
        kind,
        skippable: false,
        epoch: writer.epoch,
        first,
        time_ms: batch.time_ms,
    };
    let sync_follows = batch.level == Durability::Sync;
    let appended = writer.log.append(&mut writer.builder, start, sync_follows);
    writer.builder.clear();
    appended.map(drop)
}

pub(super) fn add_transaction(
    writer: &mut Writer,
    batch: &mut Batch,
    reply: Reply,
    decision: Decision,
) {
    debug_assert_eq!(decision.revision, writer.last.next());
    writer.last = decision.revision;
    writer
        .patches
        .note(decision.patches.iter().any(Option::is_some));
    writer.builder.begin(&TransactionHead {
        origin: decision.origin,
        cause: decision.cause,
        result: &decision.result,
        effect_count: decision.changes.len() as u64,
    });
    for (place, (namespace, change)) in decision.changes.iter().enumerate() {
        let patch = decision.patches.get(place).and_then(Option::as_ref);
        let made = (decision.revision, change);
        let patch = writer.chains.logged(*namespace, patch, made);
        let bytes = dict::change_bytes(change, patch);
        // What is changed in part lies in one piece.
        let chunks = dict::chunks(change);
        let write = |buffer: &mut Vec<u8>| dict::encode_change(change, patch, buffer);
        let builder = &mut writer.builder;
        builder.effect(SurfaceId::DICT, *namespace, &chunks, bytes, write);
    }
    batch.push(reply, What::Transaction(decision));
}
