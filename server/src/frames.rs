//! The receiving end of a stream, of operations or of an upload: bytes in, messages out.
//!
//! Invariant: what is held is at most one frame of the length allowed and one read of QUIC's; a
//! frame that states more is refused as soon as its length is there.

use std::marker::PhantomData;

use bytes::BytesMut;
use objsync_proto::wire::ToOwner;
use objsync_proto::wire::codec::{self, FrameError, Message};
use quinn::{ReadError, RecvStream};

/// Most bytes taken from QUIC at once.
const READ_BYTES_MAX: usize = 256 << 10;
/// An empty buffer that has grown over this is let go.
const IDLE_BYTES_MAX: usize = 16 << 10;

/// Why no further message can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// The peer broke the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream or the connection is gone.
    #[error(transparent)]
    Stream(#[from] ReadError),
}

/// Reads messages off a stream.
pub(crate) struct FrameReader<M = ToOwner> {
    stream: RecvStream,
    input: BytesMut,
    of: PhantomData<fn() -> M>,
}

/// A message and how long its frame was.
pub(crate) struct Framed<M = ToOwner> {
    pub(crate) message: M,
    pub(crate) bytes: usize,
}

impl<M: Message> FrameReader<M> {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            of: PhantomData,
        }
    }

    /// The next message; none when the peer has finished its stream.
    ///
    /// # Cancel safety
    /// Dropped half way, nothing is lost: the next call goes on.
    pub(crate) async fn next(&mut self, bytes_max: usize) -> Result<Option<Framed<M>>, Unreadable> {
        loop {
            if let Some(framed) = self.take(bytes_max)? {
                return Ok(Some(framed));
            }
            if self.input.is_empty() && self.input.capacity() > IDLE_BYTES_MAX {
                self.input = BytesMut::new();
            }
            match self.stream.read_chunk(READ_BYTES_MAX, true).await? {
                Some(chunk) => self.input.extend_from_slice(&chunk.bytes),
                None => return Ok(None),
            }
        }
    }

    /// The next message, if it is here already.
    pub(crate) fn take(&mut self, bytes_max: usize) -> Result<Option<Framed<M>>, FrameError> {
        let before = self.input.len();
        let message = codec::decode(&mut self.input, bytes_max)?;
        let bytes = before - self.input.len();
        Ok(message.map(|message| Framed { message, bytes }))
    }

    /// What was read and is no whole message yet, and the stream it goes on with.
    pub(crate) fn into_parts(self) -> (BytesMut, RecvStream) {
        (self.input, self.stream)
    }

    /// Whether more bytes than the last message's are here: the peer does not wait for answers.
    pub(crate) fn has_more(&self) -> bool {
        !self.input.is_empty()
    }
}
