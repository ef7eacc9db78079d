//! Sessions: which operations of a client were decided, and what it was answered.
//!
//! A repeat of an operation, after a cut, a restart or a promotion, gets the first answer. All of
//! this is memory that the log (or a snapshot and the log after it) makes again.

use std::collections::{BTreeMap, HashMap};

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{FrameIndex, Origin, PeerKey, Revision, Sequence, SessionId};
use objsync_proto::limits::{
    SESSION_BYTES_MAX, SESSION_IDLE_MS, SESSION_RESULTS_MAX, SESSIONS_MAX,
};
use objsync_proto::operation::Outcome;

use crate::frame::{BytesReader, Malformed, put_result, put_varint, take_result};
use crate::store::SubmissionOrigin;

/// Bytes that a kept result counts beside its text.
const RESULT_BYTES: usize = 64;

/// What came of an operation, kept for a repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptResult {
    /// What the caller was answered.
    pub result: Result<Outcome, Failure>,
    /// Where the transaction stands.
    pub revision: Revision,
    /// Number of the epoch that decided it.
    pub epoch: u64,
}

/// What is known of an operation that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It was not seen before, and is now pending.
    New,
    /// It is being decided in this very batch.
    Pending,
    /// It was decided, with this result.
    Decided(KeptResult),
}

/// All open sessions.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<SessionId, Session>);

#[derive(Debug)]
struct Session {
    peer: PeerKey,
    floor: Sequence,
    /// None while an operation is being decided.
    results: BTreeMap<Sequence, Option<KeptResult>>,
    bytes: usize,
    last_used_ms: u64,
}

impl Sessions {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Opens a session; at the limit, the one idle for longest ends.
    pub fn open(&mut self, id: SessionId, peer: PeerKey, now_ms: u64) {
        if self.0.contains_key(&id) {
            return;
        }
        if self.0.len() >= SESSIONS_MAX {
            self.end_idle(now_ms);
        }
        if self.0.len() >= SESSIONS_MAX
            && let Some(idle) = self
                .0
                .iter()
                .min_by_key(|(_, session)| session.last_used_ms)
        {
            let idle = *idle.0;
            self.0.remove(&idle);
        }
        let session = Session {
            peer,
            floor: Sequence(0),
            results: BTreeMap::new(),
            bytes: 0,
            last_used_ms: now_ms,
        };
        self.0.insert(id, session);
    }

    /// Ends a session. Tells whether there was one.
    pub fn close(&mut self, id: SessionId) -> bool {
        self.0.remove(&id).is_some()
    }

    /// Ends the sessions that were idle for too long.
    pub fn end_idle(&mut self, now_ms: u64) {
        self.0
            .retain(|_, session| now_ms.saturating_sub(session.last_used_ms) < SESSION_IDLE_MS);
    }

    /// Whether the session is open and the peer's own.
    #[must_use]
    pub fn is_known(&self, id: SessionId, peer: PeerKey) -> bool {
        self.0.get(&id).is_some_and(|session| session.peer == peer)
    }

    /// Looks an operation up before it is decided.
    ///
    /// # Errors
    /// It must not be decided: its session or its result is gone, or the window is full.
    pub fn begin(&mut self, asked: &SubmissionOrigin, now_ms: u64) -> Result<Seen, Failure> {
        let Origin {
            session: id,
            sequence,
        } = asked.origin;
        let session = self
            .0
            .get_mut(&id)
            .filter(|session| session.peer == asked.peer);
        let Some(session) = session else {
            return Err(unknown("its session has ended"));
        };
        session.last_used_ms = now_ms;
        session.raise_floor(asked.floor.min(sequence));
        if sequence < session.floor {
            return Err(unknown("its result is no longer kept"));
        }
        match session.results.get(&sequence) {
            Some(Some(kept)) => return Ok(Seen::Decided(kept.clone())),
            Some(None) => return Ok(Seen::Pending),
            None => {}
        }
        if session.results.len() >= SESSION_RESULTS_MAX || session.bytes >= SESSION_BYTES_MAX {
            return Err(Failure::new(
                ErrorKind::Invalid,
                format!(
                    "session has {} unanswered operations of {} bytes; the limits are \
                     {SESSION_RESULTS_MAX} operations and {SESSION_BYTES_MAX} bytes",
                    session.results.len(),
                    session.bytes
                ),
            ));
        }
        session.results.insert(sequence, None);
        Ok(Seen::New)
    }

    /// Forgets that an operation was begun: nothing came of it.
    pub fn cancel(&mut self, origin: Origin) {
        if let Some(session) = self.0.get_mut(&origin.session)
            && session.results.get(&origin.sequence) == Some(&None)
        {
            session.results.remove(&origin.sequence);
        }
    }

    /// Keeps what came of an operation, which the log now holds.
    pub fn finish(&mut self, origin: Origin, floor: Sequence, kept: KeptResult, time_ms: u64) {
        let Some(session) = self.0.get_mut(&origin.session) else {
            return;
        };
        session.last_used_ms = session.last_used_ms.max(time_ms);
        session.raise_floor(floor.min(origin.sequence));
        if origin.sequence < session.floor {
            return;
        }
        session.bytes += result_bytes(&kept);
        if let Some(Some(old)) = session.results.insert(origin.sequence, Some(kept)) {
            session.bytes -= result_bytes(&old);
        }
    }

    /// Appends all of it to a snapshot's system section.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        put_varint(buffer, self.0.len() as u64);
        for (id, session) in &self.0 {
            put_varint(buffer, id.epoch);
            put_varint(buffer, id.frame.0);
            buffer.extend_from_slice(&session.peer.0);
            put_varint(buffer, session.floor.0);
            put_varint(buffer, session.last_used_ms);
            let decided = || {
                let results = session.results.iter();
                results.filter_map(|(sequence, kept)| Some((sequence, kept.as_ref()?)))
            };
            put_varint(buffer, decided().count() as u64);
            for (sequence, kept) in decided() {
                put_varint(buffer, sequence.0);
                put_varint(buffer, kept.revision.0);
                put_varint(buffer, kept.epoch);
                put_result(buffer, &kept.result);
            }
        }
    }

    /// Takes all of it from a snapshot's system section.
    pub fn take(reader: &mut BytesReader<'_>) -> Result<Self, Malformed> {
        let mut sessions = Self::default();
        for _ in 0..reader.varint()? {
            let id = SessionId {
                epoch: reader.varint()?,
                frame: FrameIndex(reader.varint()?),
            };
            let peer = PeerKey(reader.array()?);
            let floor = Sequence(reader.varint()?);
            let time_ms = reader.varint()?;
            sessions.open(id, peer, time_ms);
            for _ in 0..reader.varint()? {
                let sequence = Sequence(reader.varint()?);
                let kept = KeptResult {
                    revision: Revision(reader.varint()?),
                    epoch: reader.varint()?,
                    result: take_result(reader)?,
                };
                let origin = Origin {
                    session: id,
                    sequence,
                };
                sessions.finish(origin, floor, kept, time_ms);
            }
            if let Some(session) = sessions.0.get_mut(&id) {
                session.floor = floor;
            }
        }
        Ok(sessions)
    }
}

impl Session {
    fn raise_floor(&mut self, floor: Sequence) {
        if floor <= self.floor {
            return;
        }
        self.floor = floor;
        while let Some(oldest) = self
            .results
            .first_entry()
            .filter(|entry| *entry.key() < floor)
        {
            if let Some(kept) = oldest.remove() {
                self.bytes -= result_bytes(&kept);
            }
        }
    }
}

/// What the body of a session frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEvent {
    /// This very frame opens a session for a peer.
    Opened(PeerKey),
    /// A session ends.
    Closed(SessionId),
}

const OPENED: u8 = 1;
const CLOSED: u8 = 2;

impl SessionEvent {
    /// As the body of a frame.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::Opened(peer) => {
                buffer.push(OPENED);
                buffer.extend_from_slice(&peer.0);
            }
            Self::Closed(id) => {
                buffer.push(CLOSED);
                put_varint(buffer, id.epoch);
                put_varint(buffer, id.frame.0);
            }
        }
    }

    /// From the body of a frame.
    pub fn take(reader: &mut BytesReader<'_>) -> Result<Self, Malformed> {
        match reader.byte()? {
            OPENED => Ok(Self::Opened(PeerKey(reader.array()?))),
            CLOSED => Ok(Self::Closed(SessionId {
                epoch: reader.varint()?,
                frame: FrameIndex(reader.varint()?),
            })),
            _ => Err(Malformed("a session event of an unknown kind")),
        }
    }
}

fn result_bytes(kept: &KeptResult) -> usize {
    RESULT_BYTES
        + match &kept.result {
            Ok(_) => 0,
            Err(failure) => failure.message.len(),
        }
}

fn unknown(why: &str) -> Failure {
    Failure::new(
        ErrorKind::OutcomeUnknown,
        format!("the write may or may not have happened: {why}"),
    )
}

#[cfg(test)]
mod tests;
