//! A peer's calls without an answer yet, over all the connections it has in its life.
//!
//! Writes are numbered and repeated by `proto::session`; other requests change no key and are
//! simply asked again.

mod hold;
mod queued;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Durability, Origin, PeerKey};
use objsync_proto::limits::REQUESTS_IN_FLIGHT_MAX;
use objsync_proto::operation::Operation;
use objsync_proto::session::{CallId, ClientSession};
use objsync_proto::wire::codec;
use objsync_proto::wire::{Reply, Request, ToOwner};
use objsync_store::SubmissionOrigin;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::hold::Hold;
use crate::core::{Asker, Command, Core, FeedSink, FeedWanted, Upload};
use crate::error::{ObjectError, Result};
use crate::owner::OwnerSide;
use crate::replica::Replica;

/// What waits for answers.
pub(crate) struct Calls {
    /// The writes, by the rules that make each run once.
    pub(crate) session: ClientSession,
    /// Streams that somebody wants and that were not asked for yet.
    pub(crate) feeds: VecDeque<(FeedWanted, FeedSink)>,
    /// Chunks that are not on their way yet.
    pub(crate) uploads: VecDeque<Upload>,
    writes: HashMap<CallId, WaitingWrite>,
    call_count: u64,
    /// Writes that are not in the session yet, in order.
    beyond: VecDeque<Command>,
    requests: BTreeMap<u64, WaitingRequest>,
    request_count: u64,
    /// Requests on this connection without a reply.
    in_flight: usize,
    durability: Option<Durability>,
    /// Numbers are being put on disk.
    is_numbering: bool,
    /// The owner takes writes of this handle.
    pub(crate) may_write: bool,
    hold: Hold,
    start: Instant,
}

struct WaitingWrite {
    answer: Asker,
    bytes: u64,
}

struct WaitingRequest {
    request: Request,
    reply: oneshot::Sender<Result<Reply>>,
    deadline: Instant,
    sent: bool,
}

impl Calls {
    /// None yet.
    pub(crate) fn new(durability: Option<Durability>) -> Self {
        Self {
            session: ClientSession::new(),
            feeds: VecDeque::new(),
            uploads: VecDeque::new(),
            writes: HashMap::new(),
            call_count: 0,
            beyond: VecDeque::new(),
            requests: BTreeMap::new(),
            request_count: 0,
            in_flight: 0,
            durability,
            is_numbering: false,
            may_write: true,
            hold: Hold::default(),
            start: Instant::now(),
        }
    }

    /// Takes what callers have queued.
    pub(crate) fn take_queued(&mut self, core: &Core) {
        for command in core.take_queued() {
            match command {
                Command::Write {
                    answer: Asker::Queue(entry),
                    ..
                } => self.take_of_queue(core, entry, command),
                Command::Write { .. } => self.beyond.push_back(command),
                Command::Request {
                    request,
                    reply,
                    deadline,
                } => {
                    self.request_count += 1;
                    let waiting = WaitingRequest {
                        request,
                        reply,
                        deadline,
                        sent: false,
                    };
                    self.requests.insert(self.request_count, waiting);
                }
                Command::Feed { wanted, sink } => self.feeds.push_back((wanted, sink)),
                Command::Upload(upload) => self.uploads.push_back(upload),
                Command::Numbered { session, through } => {
                    self.is_numbering = false;
                    self.session.release(session, through);
                }
                Command::Withdrawn(entry) => {
                    self.hold.returned(entry);
                    self.withdraw(entry);
                }
                Command::Finished(op) => self.session.finish(op),
            }
        }
        self.retry_beyond(core);
        self.write_down(core);
    }

    /// A number for a request that the connection itself makes.
    pub(crate) fn request_number(&mut self) -> u64 {
        self.request_count += 1;
        self.request_count
    }

    /// Appends the frames that can go out now, until `out` holds `bytes_max` bytes.
    pub(crate) fn transmit(&mut self, replica: &Replica, out: &mut BytesMut, bytes_max: usize) {
        self.session.transmit(out, bytes_max);
        if self.in_flight == self.requests.len() {
            return;
        }
        for (number, waiting) in &mut self.requests {
            if self.in_flight >= REQUESTS_IN_FLIGHT_MAX || out.len() >= bytes_max {
                break;
            }
            if !waiting.sent {
                let request = waiting.request.clone();
                if let Request::Get { key } = &request {
                    replica.fetching(key);
                }
                codec::encode(&ToOwner::Request(*number, request), out);
                waiting.sent = true;
                self.in_flight += 1;
            }
        }
    }

    /// The owner replied to a request, or it has waited for too long.
    pub(crate) fn replied(&mut self, core: &Core, number: u64, reply: Result<Reply>) {
        let Some(waiting) = self.requests.remove(&number) else {
            return;
        };
        self.in_flight -= usize::from(waiting.sent);
        if let Ok(Reply::Outcome(Some(Ok((outcome, ack))))) = &reply {
            core.note_ack(outcome, ack);
        }
        let reply = match (&waiting.request, reply) {
            (Request::Get { key }, Ok(Reply::Entry { entry, as_of })) => Ok(Reply::Entry {
                entry: core.replica.fetched(key, entry, as_of),
                as_of,
            }),
            (Request::Get { key }, Err(error)) if waiting.sent => {
                core.replica.fetch_failed(key);
                Err(error)
            }
            (_, reply) => reply,
        };
        let _ = waiting.reply.send(reply);
    }

    /// Gives finished writes to who waits for them.
    pub(crate) fn deliver(&mut self, core: &Core) {
        while let Some((op, result)) = self.session.late() {
            if let Ok((outcome, ack)) = &result {
                core.note_ack(outcome, ack);
            }
            core.keep_late(op, result);
        }
        while let Some(done) = self.session.completion() {
            let Some(waiting) = self.writes.remove(&done.call) else {
                continue;
            };
            let answer = match waiting.answer {
                Asker::Caller(answer) => answer,
                Asker::Queue(entry) => {
                    // First, so that no reader falls between the queue and the replica.
                    if let Ok((outcome, ack)) = &done.result {
                        core.note_ack(outcome, ack);
                    }
                    if done.op.is_none() {
                        self.hold.refused(entry);
                    }
                    if let Some(offline) = &core.offline {
                        offline.answered(entry, done.op, done.result);
                    }
                    continue;
                }
                Asker::Nobody => {
                    self.finish(done.op);
                    continue;
                }
            };
            self.finish(done.op);
            let answered = done
                .result
                .map_err(|failure| match (failure.kind, done.op) {
                    (ErrorKind::Unavailable, _) => core.unreachable(core.config.options.timeout),
                    (ErrorKind::OutcomeUnknown, Some(op)) => {
                        ObjectError::Unanswered { failure, op }
                    }
                    _ => ObjectError::from(failure),
                });
            core.answered(waiting.bytes);
            if let Ok((outcome, ack)) = &answered {
                core.note_ack(outcome, ack);
            }
            let _ = answer.send(answered);
        }
    }

    fn finish(&mut self, op: Option<Origin>) {
        if let Some(op) = op {
            self.session.finish(op);
        }
    }

    /// The connection is gone: what was not answered is asked again on the next one.
    pub(crate) fn disconnected(&mut self, replica: &Replica) {
        self.session.disconnected();
        self.in_flight = 0;
        self.end_uploads();
        for waiting in self.requests.values_mut() {
            let was_sent = std::mem::take(&mut waiting.sent);
            if let (Request::Get { key }, true) = (&waiting.request, was_sent) {
                replica.fetch_failed(key);
            }
        }
    }

    /// Another connection knows nothing of the uploads of this one: who waits asks anew what is
    /// missing.
    fn end_uploads(&mut self) {
        let is_upload = |waiting: &WaitingRequest| {
            waiting.sent && matches!(waiting.request, Request::EndUpload { .. })
        };
        let numbers: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, waiting)| is_upload(waiting))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            if let Some(waiting) = self.requests.remove(&number) {
                let text = "the connection broke while chunks were sent";
                let error = ObjectError::new(ErrorKind::Unavailable, text);
                let _ = waiting.reply.send(Err(error));
            }
        }
    }

    /// Ends what has waited for too long.
    pub(crate) fn expire(&mut self, core: &Core, now: Instant) {
        self.session.expire(self.millis(now));
        self.deliver(core);
        // The end of an upload has far longer than others, and who waits for it may give up before.
        let is_left = |waiting: &WaitingRequest| {
            waiting.reply.is_closed() && matches!(waiting.request, Request::EndUpload { .. })
        };
        let late = |waiting: &WaitingRequest| waiting.deadline <= now || is_left(waiting);
        let late_write = |command: &Command| matches!(command, Command::Write { deadline, .. } if *deadline <= now);
        let (late_writes, beyond): (VecDeque<_>, VecDeque<_>) =
            self.beyond.drain(..).partition(late_write);
        self.beyond = beyond;
        for command in late_writes {
            let error = core.unreachable(core.config.options.timeout);
            self.fail_beyond(core, command, &error);
        }
        let numbers: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, waiting)| late(waiting))
            .map(|(n, _)| *n)
            .collect();
        for number in numbers {
            let error = core.unreachable(core.config.options.timeout);
            self.replied(core, number, Err(error));
        }
        self.retry_beyond(core);
    }

    /// Whether nothing waits for an answer.
    pub(crate) fn is_settled(&self) -> bool {
        self.session.is_settled() && self.beyond.is_empty() && self.requests.is_empty()
    }

    /// Fails everything that still waits.
    pub(crate) fn fail(&mut self, error: &ObjectError) {
        for waiting in std::mem::take(&mut self.writes).into_values() {
            if let Asker::Caller(answer) = waiting.answer {
                let _ = answer.send(Err(error.clone()));
            }
        }
        for waiting in std::mem::take(&mut self.requests).into_values() {
            let _ = waiting.reply.send(Err(error.clone()));
        }
        for command in self.beyond.drain(..) {
            command.fail(error);
        }
        for (wanted, sink) in self.feeds.drain(..) {
            Command::Feed { wanted, sink }.fail(error);
        }
        for upload in self.uploads.drain(..) {
            Command::Upload(upload).fail(error);
        }
    }

    /// Gives everything to the store of this process, which has become the owner. What a former
    /// owner may have done goes under its number, so that it is done once.
    pub(crate) fn take_over(&mut self, side: &OwnerSide, peer: Option<PeerKey>) {
        let left = self.session.take_over();
        for call in left.calls {
            let Some(waiting) = self.writes.remove(&call.call) else {
                continue;
            };
            let origin = match (left.session, call.sequence, peer) {
                (Some(session), Some(sequence), Some(peer)) => Some(SubmissionOrigin {
                    origin: Origin { session, sequence },
                    floor: left.floor,
                    peer,
                }),
                _ => None,
            };
            if let Asker::Caller(answer) = waiting.answer {
                side.submit(call.operation, origin, answer);
            }
        }
        if let (Some(session), Some(peer)) = (left.session, peer) {
            // What was given up before is decided now or never.
            let sequence = left.next;
            let origin = SubmissionOrigin {
                origin: Origin { session, sequence },
                floor: left.floor,
                peer,
            };
            let (answer, _) = oneshot::channel();
            side.submit(Operation::Settle, Some(origin), answer);
        }
        for command in self.beyond.drain(..) {
            side.take(command);
        }
        for waiting in std::mem::take(&mut self.requests).into_values() {
            side.request(waiting.request, waiting.reply);
        }
        for (wanted, sink) in self.feeds.drain(..) {
            side.take(Command::Feed { wanted, sink });
        }
        for upload in self.uploads.drain(..) {
            side.take(Command::Upload(upload));
        }
    }

    fn submit(&mut self, operation: Operation, answer: Asker, deadline: Instant) {
        self.call_count += 1;
        let call = CallId(self.call_count);
        let bytes = operation.bytes() as u64;
        let (deadline_ms, now_ms) = (self.millis(deadline), self.millis(Instant::now()));
        if self.session.is_settled() {
            // A session that was idle for long is left before the owner ends it.
            self.session.expire(now_ms);
        }
        match self
            .session
            .submit(call, operation, self.durability, deadline_ms, now_ms)
        {
            Ok(()) => drop(self.writes.insert(call, WaitingWrite { answer, bytes })),
            Err(operation) => {
                self.beyond.push_front(Command::Write {
                    operation,
                    answer,
                    deadline,
                });
            }
        }
    }

    fn retry_beyond(&mut self, core: &Core) {
        if self.hold.is_on(Instant::now()) {
            return;
        }
        let mut left = self.beyond.len();
        while left > 0 {
            left -= 1;
            if let Some(Command::Write {
                operation,
                answer,
                deadline,
            }) = self.beyond.pop_front()
            {
                if let (Asker::Queue(entry), false) = (&answer, self.may_write) {
                    queued::deny(core, *entry);
                    continue;
                }
                let before = self.beyond.len();
                self.submit(operation, answer, deadline);
                if self.beyond.len() > before {
                    return;
                }
            }
        }
    }

    fn millis(&self, at: Instant) -> u64 {
        let since: Duration = at.saturating_duration_since(self.start);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
