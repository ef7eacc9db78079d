//! One connection, from its hello to its end.
//!
//! Trail of a write: [`attend`] -> [`operate`] -> [`write::submit`] ->
//! `Store::submit` -> [`Answers::push`](crate::answers::Answers::push) -> the same stream.
//!
//! Invariants
//! * Writes are given to the store in the order of the stream.
//! * Reader and writer of the operations stream run in one task, so an answer that is ready when
//!   a request has been handled leaves before the task sleeps, and with it what the commit woke.
//! * A peer that breaks the protocol is dropped; nothing it sends can panic the owner.
//!
//! When this task is aborted the connection closes; what the store was given it still does.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::PeerKey;
use objsync_proto::limits::{
    FRAME_BYTES_MAX, HANDSHAKE_TIMEOUT_MS, HELLO_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX,
    SESSION_BYTES_MAX, STREAM_WINDOW_BYTES, UPLOADS_MAX,
};
use objsync_proto::wire::{Hello, ToOwner, ToPeer};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::closing;
use crate::frames::{FrameReader, Framed, Unreadable};
use crate::peer::Peer;
use crate::serving::Serving;
use crate::streams::Streams;
use crate::{follow, request, session, uploads, write};

/// Frames handled before other connections get their turn.
const FRAMES_PER_TURN: usize = 64;
/// How long a peer that is turned away gets to read why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a peer was dropped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Dropped {
    /// It may not come in, or may not stay.
    #[error("{0}")]
    Refused(Failure),
    /// It did what no client of ours does.
    #[error("broke the protocol: {0}")]
    Violation(&'static str),
    /// It sent what is no message, or is gone.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It is gone.
    #[error(transparent)]
    Gone(#[from] quinn::ConnectionError),
}

impl Dropped {
    /// What to tell the peer.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Refused(failure) => failure.clone(),
            Self::Unreadable(Unreadable::Frame(error)) => error.failure(),
            other => Failure::new(ErrorKind::Invalid, other.to_string()),
        }
    }

    /// Whether the peer is at fault, rather than its network.
    pub(crate) fn is_fault(&self) -> bool {
        !matches!(
            self,
            Self::Gone(_) | Self::Unreadable(Unreadable::Stream(_))
        )
    }
}

/// Why a connection ended in order.
enum Ended {
    /// The peer has finished its stream.
    Finished,
    /// The server shuts down.
    Stopping,
}

/// Serves a peer that has proved to hold `key`, until it goes or is dropped.
pub(crate) async fn attend(
    serving: Arc<Serving>,
    connection: &Connection,
    key: PeerKey,
) -> Result<(), Dropped> {
    let (mut send, mut reader, hello) = first_words(&serving, connection).await?;
    let (peer, welcome) = match Peer::meet(serving, key, hello) {
        Ok(met) => met,
        Err(failure) => {
            turn_away(send, &failure).await;
            return Err(Dropped::Refused(failure));
        }
    };
    // Room for the operations beside the uploads, if these are not read for a while.
    let streams = u32::try_from(1 + UPLOADS_MAX).unwrap_or(1);
    connection.set_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES * streams));
    // Answers go before events and bulk data that wait for room on the wire.
    let _ = send.set_priority(1);
    let peer = Arc::new(peer);
    let _end = End(Arc::clone(&peer));
    peer.answers.push(&ToPeer::Welcome(welcome));
    let both = async {
        let reading = async {
            let ended = operate(&peer, connection, &mut reader).await;
            conclude(&peer, &ended).await;
            ended
        };
        let writing = async {
            if peer.answers.write(&mut send).await.is_err() {
                // Nobody reads the answers: there is no use in doing more.
                connection.close(VarInt::from_u32(0), b"");
            }
        };
        let (ended, ()) = tokio::join!(biased; reading, writing);
        ended
    };
    let uploading = uploads::accept(Arc::clone(&peer), connection.clone());
    tokio::select! { biased;
        ended = both => {
            let ended = ended?;
            hang_up(connection, send, &ended).await;
            Ok(())
        }
        lost = connection.closed() => Err(lost.into()),
        dropped = uploading => Err(dropped),
    }
}

/// Ends what belongs to a peer that has gone, and lets go of who waits for room among its answers.
struct End(Arc<Peer>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end(false);
    }
}

/// The operations stream and the hello, which must come soon.
async fn first_words(
    serving: &Serving,
    connection: &Connection,
) -> Result<(SendStream, FrameReader, Hello), Dropped> {
    let words = async {
        let (send, recv): (SendStream, RecvStream) = connection.accept_bi().await?;
        let mut reader = FrameReader::new(recv);
        match reader.next(HELLO_BYTES_MAX).await? {
            Some(Framed {
                message: ToOwner::Hello(hello),
                ..
            }) => Ok((send, reader, hello)),
            Some(_) => Err(Dropped::Violation("the first frame is no hello")),
            None => Err(Dropped::Violation("the stream ended before a hello")),
        }
    };
    tokio::select! { biased;
        () = serving.stopping.cancelled() => Err(Dropped::Refused(closed())),
        words = timeout(Duration::from_millis(HANDSHAKE_TIMEOUT_MS), words) => {
            words.unwrap_or(Err(Dropped::Violation("no hello came in time")))
        }
    }
}

/// Tells a peer why it may not come in, and waits a moment for it to hear.
async fn turn_away(mut send: SendStream, failure: &Failure) {
    let answers = crate::answers::Answers::default();
    answers.push(&ToPeer::Goodbye(failure.clone()));
    answers.finish();
    let told = async {
        if answers.write(&mut send).await.is_ok() && send.finish().is_ok() {
            let _ = send.stopped().await;
        }
    };
    let _ = timeout(LAST_WORDS, told).await;
}

/// Reads and handles what the peer asks, until it or the server ends.
async fn operate(
    peer: &Arc<Peer>,
    connection: &Connection,
    reader: &mut FrameReader,
) -> Result<Ended, Dropped> {
    let mut streams = Streams::new(Arc::clone(peer), connection.clone());
    loop {
        let framed = tokio::select! { biased;
            () = peer.serving.stopping.cancelled() => return Ok(Ended::Stopping),
            // Looked up each time: it may have begun to speak for somebody else.
            () = expiry(peer) => return Err(Dropped::Refused(expired())),
            framed = next(peer, reader) => framed?,
        };
        let Some(framed) = framed else {
            return Ok(Ended::Finished);
        };
        let alone = !reader.has_more();
        handle(peer, &mut streams, framed, alone).await?;
        for _ in 1..FRAMES_PER_TURN {
            if !peer.answers.has_room() {
                break;
            }
            let Some(framed) = reader.take(FRAME_BYTES_MAX).map_err(Unreadable::from)? else {
                break;
            };
            handle(peer, &mut streams, framed, false).await?;
        }
        streams.reap();
        if !alone {
            tokio::task::yield_now().await;
        }
    }
}

/// The next frame, once there is room for what answers it.
async fn next(peer: &Peer, reader: &mut FrameReader) -> Result<Option<Framed>, Unreadable> {
    peer.answers.room().await;
    reader.next(FRAME_BYTES_MAX).await
}

/// `alone`: nothing else of this peer waits to be handled.
async fn handle(
    peer: &Arc<Peer>,
    streams: &mut Streams,
    framed: Framed,
    alone: bool,
) -> Result<(), Dropped> {
    if let Some(upstream) = &peer.serving.upstream {
        return follow::handle(peer, streams, upstream, framed).await;
    }
    match framed.message {
        ToOwner::Write(write) => write::submit(peer, write, framed.bytes, alone).await,
        ToOwner::Request(id, request) => {
            request::serve(peer, streams, id, request).await;
            Ok(())
        }
        ToOwner::OpenSession => session::open(peer).await,
        ToOwner::CloseSession => session::close(peer).await,
        ToOwner::Hello(_) => Err(Dropped::Violation("a second hello")),
    }
}

/// Answers what was accepted, and says goodbye if it is us who go.
async fn conclude(peer: &Peer, ended: &Result<Ended, Dropped>) {
    if let Ok(ended) = ended {
        all_returned(&peer.writes, SESSION_BYTES_MAX).await;
        all_returned(&peer.requests, REQUESTS_IN_FLIGHT_MAX).await;
        if matches!(ended, Ended::Stopping) {
            peer.answers.push(&ToPeer::Goodbye(closed()));
        }
    }
    peer.end(matches!(ended, Ok(Ended::Finished)));
}

/// Waits until everything that took a part of `places` has given it back.
pub(crate) async fn all_returned(places: &Semaphore, count: usize) {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    // An error would mean that the semaphore was closed, which nobody does.
    let _ = places.acquire_many(count).await;
}

/// Waits until the peer has all answers, then closes. Bounded by the grace of a shutdown, and by
/// QUIC's idle timeout.
async fn hang_up(connection: &Connection, mut send: SendStream, ended: &Ended) {
    if send.finish().is_ok() {
        let _ = send.stopped().await;
    }
    match ended {
        Ended::Finished => connection.close(VarInt::from_u32(0), b""),
        Ended::Stopping => closing::close(connection, &closed()),
    }
}

/// Ends when a grant does, its own or that of whom it speaks for; never, for one without an end.
async fn expiry(peer: &Peer) {
    match peer.expires_ms() {
        Some(end_ms) => {
            let left_ms = end_ms.saturating_sub(peer.serving.now_ms());
            tokio::time::sleep(Duration::from_millis(left_ms)).await;
        }
        None => pending().await,
    }
}

fn expired() -> Failure {
    Failure::new(ErrorKind::Denied, "the grant has expired")
}

pub(crate) fn closed() -> Failure {
    Failure::new(ErrorKind::Unavailable, "the owner of the store closes it")
}
