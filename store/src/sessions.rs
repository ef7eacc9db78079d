//! Sessions: which operations of a client were decided, and what it was answered.
//!
//! A repeat of an operation, after a cut, a restart or a promotion, gets the first answer. All of
//! this is memory that the log (or a snapshot and the log after it) makes again.

use std::collections::{BTreeSet, HashMap};

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Epoch, EpochName, FrameIndex, Origin, PeerKey, Revision};
use objsync_proto::ids::{Sequence, SessionId};
use objsync_proto::limits::SESSIONS_MAX;
use objsync_proto::session::{Check, Recorded, Results, is_idle};

use crate::frame::{BytesReader, Malformed, put_result, put_varint, take_result};
use crate::store::SubmissionOrigin;

/// What is known of an operation that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It was not seen before, and is now pending.
    New,
    /// It is being decided in this very batch.
    Pending,
    /// It was decided, with this result.
    Decided(Recorded),
}

/// All open sessions.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<SessionId, Session>);

#[derive(Debug)]
struct Session {
    peer: PeerKey,
    results: Results,
    /// Operations that are being decided.
    pending: BTreeSet<Sequence>,
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
        self.0.insert(id, Session::new(peer, now_ms));
    }

    /// Ends a session. Tells whether there was one.
    pub fn close(&mut self, id: SessionId) -> bool {
        self.0.remove(&id).is_some()
    }

    /// Ends the sessions that were idle for too long.
    pub fn end_idle(&mut self, now_ms: u64) {
        self.0
            .retain(|_, session| !is_idle(session.last_used_ms, now_ms));
    }

    /// Whether the session is open and the peer's own.
    #[must_use]
    pub fn is_known(&self, id: SessionId, peer: PeerKey) -> bool {
        self.0.get(&id).is_some_and(|session| session.peer == peer)
    }

    /// Looks an operation up before it is decided.
    ///
    /// # Errors
    /// It must not be decided: its session or its result is gone.
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
        session.results.advance(asked.floor.min(sequence));
        match session.results.check(sequence) {
            Check::Repeat(recorded) => Ok(Seen::Decided(recorded.clone())),
            Check::Forgotten => Err(unknown("its result is no longer kept")),
            Check::New if session.pending.contains(&sequence) => Ok(Seen::Pending),
            // As in `Results::check`: left over on a connection that its client has given up.
            Check::New if session.pending.last() > Some(&sequence) => {
                Err(unknown("a later one is being decided"))
            }
            Check::New => {
                session.pending.insert(sequence);
                Ok(Seen::New)
            }
        }
    }

    /// What came of an operation; none for one that was not decided, and will not be, because a
    /// later one was.
    ///
    /// # Errors
    /// `Denied` when the session is somebody else's, `OutcomeUnknown` when it has ended or the
    /// result is no longer kept, `Unavailable` as long as the operation can still come.
    pub fn outcome(&self, asked: Origin, peer: PeerKey) -> Result<Option<Recorded>, Failure> {
        let session = self.0.get(&asked.session);
        let session = session.ok_or_else(|| unknown("its session has ended"))?;
        if session.peer != peer {
            let text = "the session belongs to another key";
            return Err(Failure::new(ErrorKind::Denied, text));
        }
        let results = &session.results;
        match results.check(asked.sequence) {
            Check::Repeat(recorded) => Ok(Some(recorded.clone())),
            Check::Forgotten if asked.sequence < results.floor() => {
                Err(unknown("its result is no longer kept"))
            }
            Check::Forgotten => Ok(None),
            Check::New => {
                let sequence = asked.sequence.0;
                let text = format!(
                    "write {sequence} of the session was not decided yet; it will not be once a \
                     later one is"
                );
                Err(Failure::new(ErrorKind::Unavailable, text))
            }
        }
    }

    /// Forgets that an operation was begun: nothing came of it.
    pub fn cancel(&mut self, origin: Origin) {
        if let Some(session) = self.0.get_mut(&origin.session) {
            session.pending.remove(&origin.sequence);
        }
    }

    /// Keeps what came of an operation, which the log now holds.
    pub fn finish(&mut self, origin: Origin, floor: Sequence, recorded: Recorded, time_ms: u64) {
        let Some(session) = self.0.get_mut(&origin.session) else {
            return;
        };
        session.pending.remove(&origin.sequence);
        session.last_used_ms = session.last_used_ms.max(time_ms);
        session.results.advance(floor.min(origin.sequence));
        session.results.record(origin.sequence, recorded);
    }

    /// Appends all of it to a snapshot's system section.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        put_varint(buffer, self.0.len() as u64);
        // In order, so that the same sessions are the same bytes.
        let mut ids: Vec<_> = self.0.iter().collect();
        ids.sort_unstable_by_key(|(id, _)| **id);
        for (id, session) in ids {
            put_varint(buffer, id.epoch);
            put_varint(buffer, id.frame.0);
            buffer.extend_from_slice(&session.peer.0);
            put_varint(buffer, session.last_used_ms);
            put_varint(buffer, session.results.floor().0);
            put_varint(buffer, session.results.count() as u64);
            for (sequence, recorded) in session.results.iter() {
                put_varint(buffer, sequence.0);
                put_varint(buffer, recorded.revision.0);
                put_varint(buffer, recorded.epoch.number);
                buffer.extend_from_slice(&recorded.epoch.name.0);
                put_result(buffer, &recorded.result);
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
            let mut session = Session::new(PeerKey(reader.array()?), reader.varint()?);
            let floor = Sequence(reader.varint()?);
            let mut kept = Vec::new();
            for _ in 0..reader.varint()? {
                kept.push((Sequence(reader.varint()?), take_recorded(reader)?));
            }
            session.results = Results::restore(floor, kept);
            sessions.0.insert(id, session);
        }
        Ok(sessions)
    }
}

impl Session {
    fn new(peer: PeerKey, now_ms: u64) -> Self {
        Self {
            peer,
            results: Results::default(),
            pending: BTreeSet::new(),
            last_used_ms: now_ms,
        }
    }
}

fn take_recorded(reader: &mut BytesReader<'_>) -> Result<Recorded, Malformed> {
    Ok(Recorded {
        revision: Revision(reader.varint()?),
        epoch: Epoch {
            number: reader.varint()?,
            name: EpochName(reader.array()?),
        },
        result: take_result(reader)?,
    })
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

fn unknown(why: &str) -> Failure {
    Failure::new(
        ErrorKind::OutcomeUnknown,
        format!("the write may or may not have happened: {why}"),
    )
}

#[cfg(test)]
mod tests;
