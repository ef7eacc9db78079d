//! The first words on a connection to the source, and its messages after that.
//!
//! The source is hostile until shown otherwise: a frame's length is checked before memory is taken,
//! and one that makes no sense ends the connection.

use bytes::BytesMut;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::SessionId;
use objsync_proto::limits::FRAME_BYTES_MAX;
use objsync_proto::wire::codec::{self, Message};
use objsync_proto::wire::{Hello, ToOwner, ToPeer, Welcome};
use quinn::{Connection, RecvStream, SendStream};

use crate::closing;
use crate::serving::PROGRAM;

/// Most bytes taken from QUIC at once.
const READ_BYTES_MAX: usize = 256 << 10;

/// A connection that was welcomed.
pub(super) struct Hail {
    pub(super) connection: Connection,
    pub(super) send: SendStream,
    pub(super) inbox: Inbox,
    pub(super) welcome: Welcome,
}

impl Hail {
    /// Says hello.
    pub(super) async fn new(
        connection: Connection,
        namespace: &str,
        session: Option<SessionId>,
    ) -> Result<Self, Failure> {
        let opened = connection.open_bi().await;
        let (mut send, recv) = opened.map_err(|error| lost(&connection, &error))?;
        let hello = Hello {
            program: PROGRAM.to_owned(),
            namespace: namespace.to_owned(),
            session,
        };
        say(&mut send, &ToOwner::Hello(hello))
            .await
            .map_err(|error| lost(&connection, &error))?;
        let mut inbox = Inbox::new(recv);
        match inbox.next(&connection).await? {
            ToPeer::Welcome(welcome) => Ok(Self {
                connection,
                send,
                inbox,
                welcome,
            }),
            ToPeer::Goodbye(failure) => Err(failure),
            _ => Err(nonsense("something else than a welcome")),
        }
    }
}

async fn say(send: &mut SendStream, message: &ToOwner) -> Result<(), quinn::WriteError> {
    let mut out = BytesMut::new();
    codec::encode(message, &mut out);
    send.write_all(&out).await
}

/// The receiving end of a stream.
pub(super) struct Inbox {
    stream: RecvStream,
    input: BytesMut,
}

impl Inbox {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
        }
    }

    /// The next message.
    ///
    /// # Cancel safety
    /// Dropped half way, nothing is lost: the next call goes on.
    pub(super) async fn next<M: Message>(&mut self, connection: &Connection) -> Result<M, Failure> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            match self.stream.read_chunk(READ_BYTES_MAX, true).await {
                Ok(Some(chunk)) => self.input.extend_from_slice(&chunk.bytes),
                Ok(None) => return Err(away("the source ended its stream")),
                Err(error) => return Err(lost(connection, &error)),
            }
        }
    }

    /// The next message, if it is here already, or at hand without waiting.
    pub(super) async fn at_hand<M: Message>(&mut self) -> Result<Option<M>, Failure> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let read = self.stream.read_chunk(READ_BYTES_MAX, true);
            let chunk = tokio::select! { biased;
                chunk = read => chunk,
                () = std::future::ready(()) => return Ok(None),
            };
            match chunk {
                Ok(Some(chunk)) => self.input.extend_from_slice(&chunk.bytes),
                // Whoever waits for the next one hears why.
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }

    fn take<M: Message>(&mut self) -> Result<Option<M>, Failure> {
        codec::decode(&mut self.input, FRAME_BYTES_MAX).map_err(|error| error.failure())
    }
}

/// The way to the source is broken; what it said last, if it said why.
pub(super) fn lost(connection: &Connection, error: &dyn std::error::Error) -> Failure {
    let said = connection.close_reason();
    let said = said.as_ref().and_then(closing::failure);
    said.unwrap_or_else(|| away(&error.to_string()))
}

/// The source cannot be reached.
pub(super) fn away(why: &str) -> Failure {
    Failure::new(ErrorKind::Unavailable, format!("the source is away: {why}"))
}

/// The source breaks the protocol.
pub(super) fn nonsense(what: &str) -> Failure {
    Failure::new(ErrorKind::Invalid, format!("the source sent {what}"))
}
