//! Events encoded once and sent to many.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::codec::{self, feed_type};
use super::fields::{Field, put_array};
use crate::effect::{Cause, Change, KeyPatch};
use crate::ids::{Origin, Revision};
use crate::limits::FEED_FRAME_BYTES;

/// One transaction as a subscriber sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the one order.
    pub revision: Revision,
    /// The owner's clock when it was decided, milliseconds since 1970.
    pub time_ms: u64,
    /// Who asked for it.
    pub origin: Option<Origin>,
    /// Why it happened.
    pub cause: Cause,
    /// Its changes inside the range, in the order they were made.
    pub changes: Vec<Change>,
    /// More of them: those that are told by the part that changed, only to who has asked for that
    /// by [`Request::TakePatches`](super::Request::TakePatches). No key is among both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<KeyPatch>,
}

/// The MessagePack of one event, as it stands inside [`Feed::Events`](super::Feed::Events).
#[must_use]
pub fn encode(event: &Event) -> Bytes {
    let bytes: usize = event
        .changes
        .iter()
        .map(|change| change.key.len() + change.value.as_ref().map_or(0, Bytes::len) + 10)
        .sum();
    let patches = event.patches.iter();
    let patches: usize = patches
        .map(|patch| patch.key.len() + patch.edit.len() + 20)
        .sum();
    let mut out = BytesMut::with_capacity(bytes + patches + 64);
    event.put(&mut out);
    out.freeze()
}

/// Appends [`Feed::Events`](super::Feed::Events) of events that [`encode`] made: one frame, or
/// several where they pass [`FEED_FRAME_BYTES`], since a reader refuses longer ones unless they
/// hold a single event.
pub fn encode_events(events: &[Bytes], out: &mut BytesMut) {
    let mut rest = events;
    while let Some(first) = rest.first() {
        let mut bytes = first.len();
        let more = rest[1..].iter().take_while(|event| {
            bytes += event.len();
            bytes <= FEED_FRAME_BYTES
        });
        let (frame, after) = rest.split_at(1 + more.count());
        encode_frame(frame, out);
        rest = after;
    }
}

fn encode_frame(events: &[Bytes], out: &mut BytesMut) {
    let bytes: usize = events.iter().map(Bytes::len).sum();
    let mut head = BytesMut::with_capacity(5);
    put_array(&mut head, events.len());
    codec::begin_sized(feed_type::EVENTS, head.len() + bytes, out);
    out.extend_from_slice(&head);
    events.iter().for_each(|event| out.extend_from_slice(event));
}
