//! Copies of a whole store: what a source gives away of its log, and how a copy takes it.
//!
//! A copy has the store id, the epochs, the frames and so the revisions, sessions and grants of its
//! source; only how the frames lie in segments is its own. So any copy can be a source of further
//! ones, and a client finds the same history in each.
//!
//! Trail: `Store::ship_after` -> `Store::ship` (source) -> the wire -> [`Shipped`] ->
//! `Store::append_shipped` (copy). Where the log does not do: `Store::ship_all` -> [`Stage`] ->
//! [`install::finish`], when the copy is opened the next time.
//!
//! Invariants
//! * Only what is committed and durable leaves the source: nothing in a copy can be lost there.
//! * A frame's index and its epoch's name tell it from every other frame. So a copy whose last frame
//!   is on the source's log is a prefix of it, and any other copy is replaced.
//! * A copy shows nothing that is not durable in the copy itself.

mod append;
mod chunks;
pub mod install;
mod piece;
mod promote;
mod ship;
mod unfold;

pub use append::Applied;
pub use chunks::ChunkSink;
pub use install::{Stage, discard_partial, partial_snapshot};
pub use promote::promote;
pub use ship::{Ship, ShipCursor, Whole};

use bytes::Bytes;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::wire::LogFrame;

use crate::error::StoreError;
use crate::frame::{FRAME_BODY_BYTES_MAX, Frame, FrameHeader, FrameKind};

/// A frame of a source's log, whole, whose checksum was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipped(Frame);

impl Shipped {
    /// The frame as a source sent it, with its whole body.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when the body is not the one that the head tells of.
    pub fn new(head: &LogFrame, body: Bytes) -> Result<Self, StoreError> {
        let body_bytes = body.len();
        if body_bytes > FRAME_BODY_BYTES_MAX || body_bytes as u64 != u64::from(head.body_bytes) {
            let what = format!(
                "a body of {body_bytes} bytes in place of {}",
                head.body_bytes
            );
            return Err(malformed(head, &what));
        }
        if crc32c::crc32c(&body) != head.body_crc {
            return Err(malformed(head, "a body with another checksum"));
        }
        let header = FrameHeader {
            kind: FrameKind::from_number(head.kind),
            skippable: head.skippable,
            index: head.index,
            epoch: head.epoch,
            first: head.first,
            count: head.count,
            time_ms: head.time_ms,
            synced_to: 0,
            body_bytes: head.body_bytes,
            body_crc: head.body_crc,
        };
        Ok(Self(Frame { header, body }))
    }

    /// What goes before its body on the wire, with the first `part_bytes` bytes of that.
    #[must_use]
    pub fn head(&self, part_bytes: usize) -> LogFrame {
        let header = &self.0.header;
        LogFrame {
            kind: header.kind.number(),
            skippable: header.skippable,
            index: header.index,
            epoch: header.epoch,
            first: header.first,
            count: header.count,
            time_ms: header.time_ms,
            body_bytes: header.body_bytes,
            body_crc: header.body_crc,
            body: self.0.body.slice(..part_bytes.min(self.0.body.len())),
        }
    }

    /// Its whole body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.0.body
    }
}

/// As [`malformed`], of a frame whose content makes no sense.
fn malformed_frame(frame: &Frame, what: &str) -> StoreError {
    let text = format!("the source sent frame {} with {what}", frame.header.index.0);
    Failure::new(ErrorKind::Corrupt, text).into()
}

/// What a source sent makes no sense: it is at fault, or damaged, and the copy stays as it was.
fn malformed(head: &LogFrame, what: &str) -> StoreError {
    let text = format!("the source sent frame {} with {what}", head.index.0);
    Failure::new(ErrorKind::Corrupt, text).into()
}
