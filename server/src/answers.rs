//! The sending end of an operations stream: answers from any thread, written in batches.
//!
//! Answers are appended to one buffer; whoever writes takes all of it at once, so what was ready
//! together leaves together. Memory: the reader of requests waits in [`Answers::room`] while more
//! than `limits::ANSWERS_BYTES_MAX` wait for the peer to read them.
//!
//! After [`Answers::finish`], or when the peer is gone, further answers are dropped.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use objsync_proto::limits::ANSWERS_BYTES_MAX;
use objsync_proto::wire::ToPeer;
use objsync_proto::wire::codec;
use quinn::{SendStream, WriteError};
use tokio::sync::Notify;

/// Answers on their way to one peer.
#[derive(Default)]
pub(crate) struct Answers {
    queue: Mutex<Queue>,
    ready: Notify,
    written: Notify,
}

#[derive(Default)]
struct Queue {
    bytes: BytesMut,
    finished: bool,
}

impl Answers {
    /// Appends an answer. Never blocks, may be called from any thread.
    pub(crate) fn push(&self, message: &ToPeer) {
        let mut queue = self.queue();
        if queue.finished {
            return;
        }
        let wake = queue.bytes.is_empty();
        codec::encode(message, &mut queue.bytes);
        drop(queue);
        if wake {
            self.ready.notify_one();
        }
    }

    /// No answer follows: [`Answers::write`] ends once it has written all there are.
    pub(crate) fn finish(&self) {
        self.queue().finished = true;
        self.ready.notify_one();
        self.written.notify_waiters();
    }

    /// Waits until fewer than `ANSWERS_BYTES_MAX` bytes wait to be written, or no more are taken.
    /// Several may wait.
    pub(crate) async fn room(&self) {
        loop {
            let mut written = pin!(self.written.notified());
            written.as_mut().enable();
            if self.has_room() {
                return;
            }
            written.await;
        }
    }

    /// Whether another request may be handled.
    pub(crate) fn has_room(&self) -> bool {
        let queue = self.queue();
        queue.finished || queue.bytes.len() < ANSWERS_BYTES_MAX
    }

    /// Writes answers to `stream` as they come, until finished. Only one may run.
    pub(crate) async fn write(&self, stream: &mut SendStream) -> Result<(), WriteError> {
        loop {
            let (bytes, finished) = self.take();
            if !bytes.is_empty() {
                stream.write_chunk(bytes).await?;
                self.written.notify_waiters();
            } else if finished {
                return Ok(());
            } else {
                self.ready.notified().await;
            }
        }
    }

    fn take(&self) -> (Bytes, bool) {
        let mut queue = self.queue();
        (queue.bytes.split().freeze(), queue.finished)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
