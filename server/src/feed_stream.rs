//! The sending end of a one-way stream: feed messages, gathered and written together.
//!
//! Invariant: a stream ends with FIN only when it was finished; one that is cut off half way, by
//! an error or because its task was aborted, is reset, so the peer never takes a part for a whole.

use bytes::{Bytes, BytesMut};
use objsync_proto::error::Failure;
use objsync_proto::wire::codec;
use objsync_proto::wire::{Feed, event};
use quinn::{Connection, SendStream, VarInt};

use crate::session::stopped;

/// Why nothing more can be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsendable {
    /// The peer is gone, or does not want this stream any more.
    #[error("the peer does not read it")]
    Gone,
    /// Everything was said that there is to say.
    #[error("nothing more follows")]
    Said,
    /// What was to be sent cannot be read.
    #[error("{0}")]
    Failed(Failure),
}

impl From<quinn::WriteError> for Unsendable {
    fn from(_: quinn::WriteError) -> Self {
        Self::Gone
    }
}

impl From<quinn::ConnectionError> for Unsendable {
    fn from(_: quinn::ConnectionError) -> Self {
        Self::Gone
    }
}

impl From<objsync_store::StoreError> for Unsendable {
    fn from(error: objsync_store::StoreError) -> Self {
        Self::Failed(error.to_failure())
    }
}

impl From<tokio::task::JoinError> for Unsendable {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::Failed(stopped())
    }
}

/// What an entry takes in a frame beside its key and value, at most.
const ENTRY_BYTES: usize = 24;

/// A one-way stream to a subscriber or fetcher.
pub(crate) struct FeedStream {
    stream: SendStream,
    out: BytesMut,
    finished: bool,
}

impl FeedStream {
    /// Opens the stream of `subscription`. Waits while the peer allows no more streams.
    pub(crate) async fn open(
        connection: &Connection,
        subscription: u64,
        priority: i32,
    ) -> Result<Self, Unsendable> {
        let stream = connection.open_uni().await?;
        // Refused only for a stream that is closed, which the next write tells.
        let _ = stream.set_priority(priority);
        let mut opened = Self {
            stream,
            out: BytesMut::new(),
            finished: false,
        };
        opened.put(&Feed::Start { subscription });
        Ok(opened)
    }

    /// Appends a message to what is sent next.
    pub(crate) fn put(&mut self, message: &Feed) {
        if let Feed::Entries(entries) | Feed::Replace { entries, .. } = message {
            let bytes = entries.iter().map(|e| e.key.len() + e.value.len());
            self.out
                .reserve(bytes.sum::<usize>() + ENTRY_BYTES * entries.len());
        }
        codec::encode(message, &mut self.out);
    }

    /// Appends events that are encoded already.
    pub(crate) fn put_events(&mut self, events: &[Bytes]) {
        event::encode_events(events, &mut self.out);
    }

    /// Sends what was appended; waits while the peer has no room.
    pub(crate) async fn flush(&mut self) -> Result<(), Unsendable> {
        if !self.out.is_empty() {
            // The memory goes with the bytes: an idle subscriber holds none.
            let bytes = std::mem::take(&mut self.out).freeze();
            self.stream.write_chunk(bytes).await?;
        }
        Ok(())
    }

    /// Ends the stream after what was sent.
    pub(crate) fn finish(&mut self) {
        self.finished = self.stream.finish().is_ok();
    }

    /// Ends the stream, and tells the peer why, if it is still there.
    pub(crate) async fn end(&mut self, why: Unsendable) {
        let failure = match why {
            Unsendable::Gone => return,
            Unsendable::Said => return self.finish(),
            Unsendable::Failed(failure) => failure,
        };
        self.put(&Feed::Failed(failure));
        if self.flush().await.is_ok() {
            self.finish();
        }
    }
}

impl Drop for FeedStream {
    fn drop(&mut self) {
        if !self.finished {
            // Refused only for a stream that has ended.
            let _ = self.stream.reset(VarInt::from_u32(0));
        }
    }
}
