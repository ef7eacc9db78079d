//! Frames: length of the rest as a varint, one type byte, a MessagePack body.
//!
//! The varint is little-endian base 128 (as in protobuf), in its shortest form. Types from
//! [`OPTIONAL_TYPE`] up are optional: who does not know one skips it; any other unknown type ends
//! the connection. A body is read to its last byte.
//!
//! Keys and values of a decoded message are slices of the buffer it was read from and keep that
//! buffer alive: who keeps a small one for long copies it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::fields::{Field, Malformed, Reader, put_array};
use super::{Feed, ToOwner, ToPeer, Write};
use crate::error::{ErrorKind, Failure};
use crate::ids::{Durability, Sequence};
use crate::limits::FRAME_BYTES_MAX;
use crate::operation::Operation;

/// Types from here up may be skipped by who does not know them.
pub const OPTIONAL_TYPE: u8 = 128;

/// Longest varint: it holds 28 bits, more than any frame is long.
const VARINT_BYTES_MAX: usize = 4;
const _: () = assert!(FRAME_BYTES_MAX < 1 << (7 * VARINT_BYTES_MAX));

/// Declares the type bytes of one kind of message, and the table of them.
macro_rules! types {
    ($(#[$doc:meta])* $module:ident { $($name:ident = $number:literal),* $(,)? }) => {
        $(#[$doc])*
        pub mod $module {
            $(
                #[doc = concat!("Type byte ", stringify!($number), ".")]
                pub const $name: u8 = $number;
            )*
            /// Every type with its name.
            pub const ALL: &[(u8, &str)] = &[$(($number, stringify!($name))),*];
        }
    };
}

types! {
    /// Type bytes of [`ToOwner`].
    to_owner_type { HELLO = 0, OPEN_SESSION = 1, WRITE = 2, REQUEST = 3, CLOSE_SESSION = 4 }
}
types! {
    /// Type bytes of [`ToPeer`].
    to_peer_type { WELCOME = 0, OPENED = 1, ANSWER = 2, REPLY = 3, GOODBYE = 4 }
}
types! {
    /// Type bytes of [`Feed`].
    feed_type {
        START = 0, RESUME = 1, RESET = 2, ENTRIES = 3, COMPLETE = 4, EVENTS = 5, BOOKMARK = 6,
        BARRIER = 7, FAILED = 8, COMPARE = 9, REPLACE = 10, GAP = 11, SKIP = 12, FRAMES = 13,
        BODY = 14, INSTALL = 15, PIECE = 16, REACHED = 17, CHUNKS = 24,
    }
}
types! {
    /// Type bytes of [`crate::wire::Upload`].
    upload_type { START = 0, CHUNKS = 1 }
}

/// Why bytes are no frame. The connection they came on cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame says that it is longer than allowed. No memory was taken for it.
    #[error("frame is {bytes} bytes; the limit is {bytes_max} bytes")]
    TooLong {
        /// The length it states.
        bytes: usize,
        /// The length allowed here.
        bytes_max: usize,
    },
    /// The length is not a varint in its shortest form, or zero.
    #[error("frame starts with no length")]
    NoLength,
    /// A required type that this version does not know.
    #[error("frame of type {0}, which this version does not know")]
    UnknownType(u8),
    /// The body is not what the type says.
    #[error("frame of type {frame_type} is malformed at byte {offset}: {reason}")]
    Malformed {
        /// The frame's type byte.
        frame_type: u8,
        /// Where in the body.
        offset: usize,
        /// What was wrong there.
        reason: &'static str,
    },
}

impl FrameError {
    /// What to tell the peer.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let kind = match self {
            Self::UnknownType(_) => ErrorKind::Unsupported,
            _ => ErrorKind::Invalid,
        };
        Failure::new(kind, self.to_string())
    }
}

/// A message that is sent as a frame: [`ToOwner`], [`ToPeer`], [`Feed`] or
/// [`crate::wire::Upload`].
pub trait Message: body::Body {}

mod upload;

mod body {
    use super::{Malformed, Reader};
    use bytes::BytesMut;

    /// How a message becomes a frame. Private: the set of messages is closed.
    pub trait Body: Sized {
        #[allow(missing_docs, reason = "not reachable from outside")]
        fn frame_type(&self) -> u8;
        #[allow(missing_docs, reason = "not reachable from outside")]
        fn put_body(&self, out: &mut BytesMut);
        /// None if the type is unknown.
        #[allow(private_interfaces, reason = "not reachable from outside")]
        fn take_body(frame_type: u8, reader: &mut Reader) -> Result<Option<Self>, Malformed>;
    }
}
use body::Body;

/// Appends a message as one frame.
///
/// # Panics
/// If the frame passes [`FRAME_BYTES_MAX`]. What callers send is bounded before.
pub fn encode<M: Message>(message: &M, out: &mut BytesMut) {
    let start = begin(message.frame_type(), out);
    message.put_body(out);
    finish(start, out);
}

/// Appends a [`ToOwner::Write`] without owning its operation.
pub fn encode_write(write: WriteRef<'_>, out: &mut BytesMut) {
    let start = begin(to_owner_type::WRITE, out);
    put_array(out, 4);
    write.sequence.put(out);
    write.floor.put(out);
    write.durability.put(out);
    write.operation.put(out);
    finish(start, out);
}

/// A [`Write`] whose operation is borrowed.
#[derive(Debug, Clone, Copy)]
pub struct WriteRef<'a> {
    /// As [`Write::sequence`].
    pub sequence: Sequence,
    /// As [`Write::floor`].
    pub floor: Sequence,
    /// As [`Write::durability`].
    pub durability: Option<Durability>,
    /// As [`Write::operation`].
    pub operation: &'a Operation,
}

/// Takes the first message off `input`; none if it is not all there yet.
///
/// A frame that states a length over `bytes_max` is refused as soon as its length is there.
/// Optional frames of unknown type are skipped.
pub fn decode<M: Message>(input: &mut BytesMut, bytes_max: usize) -> Result<Option<M>, FrameError> {
    while let Some(mut frame) = split_frame(input, bytes_max)? {
        let frame_type = frame.get_u8();
        let mut reader = Reader::new(frame);
        let malformed = |Malformed { offset, reason }| FrameError::Malformed {
            frame_type,
            offset,
            reason,
        };
        match M::take_body(frame_type, &mut reader).map_err(malformed)? {
            Some(message) => {
                reader.end().map_err(malformed)?;
                return Ok(Some(message));
            }
            None if frame_type >= OPTIONAL_TYPE => {}
            None => return Err(FrameError::UnknownType(frame_type)),
        }
    }
    Ok(None)
}

/// Takes type byte and body of the first frame off `input`.
fn split_frame(input: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some((length, head)) = read_varint(input)? else {
        return Ok(None);
    };
    if length == 0 {
        return Err(FrameError::NoLength);
    }
    if length > bytes_max {
        return Err(FrameError::TooLong {
            bytes: length,
            bytes_max,
        });
    }
    if input.len() - head < length {
        return Ok(None);
    }
    input.advance(head);
    Ok(Some(input.split_to(length).freeze()))
}

/// The varint at the start of `input` and its own length.
fn read_varint(input: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut value = 0;
    for (place, byte) in input.iter().take(VARINT_BYTES_MAX).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            let shortest = place == 0 || *byte != 0;
            return if shortest {
                Ok(Some((value, place + 1)))
            } else {
                Err(FrameError::NoLength)
            };
        }
    }
    if input.len() >= VARINT_BYTES_MAX {
        Err(FrameError::NoLength)
    } else {
        Ok(None)
    }
}

/// Starts a frame of unknown length; gives where it starts.
fn begin(frame_type: u8, out: &mut BytesMut) -> usize {
    let start = out.len();
    out.put_u8(0);
    out.put_u8(frame_type);
    start
}

/// Writes the length of the frame that starts at `start`, moving the body where the length takes
/// more than the one byte that most frames need.
fn finish(start: usize, out: &mut BytesMut) {
    let length = out.len() - start - 1;
    assert!(
        length <= FRAME_BYTES_MAX,
        "frame of {length} bytes; the limit is {FRAME_BYTES_MAX}"
    );
    let (varint, bytes) = varint(length);
    if bytes > 1 {
        out.put_bytes(0, bytes - 1);
        out.copy_within(start + 1..start + 1 + length, start + bytes);
    }
    out[start..start + bytes].copy_from_slice(&varint[..bytes]);
}

/// Starts a frame whose body is `body_bytes` long.
pub(super) fn begin_sized(frame_type: u8, body_bytes: usize, out: &mut BytesMut) {
    let length = body_bytes + 1;
    assert!(
        length <= FRAME_BYTES_MAX,
        "frame of {length} bytes; the limit is {FRAME_BYTES_MAX}"
    );
    let (varint, bytes) = varint(length);
    out.reserve(bytes + length);
    out.extend_from_slice(&varint[..bytes]);
    out.put_u8(frame_type);
}

fn varint(mut value: usize) -> ([u8; VARINT_BYTES_MAX], usize) {
    let mut varint = [0; VARINT_BYTES_MAX];
    for (place, byte) in varint.iter_mut().enumerate() {
        *byte = u8::try_from(value & 0x7F).expect("7 bits");
        value >>= 7;
        if value == 0 {
            return (varint, place + 1);
        }
        *byte |= 0x80;
    }
    unreachable!("frames are shorter than a varint reaches")
}

impl Message for ToOwner {}

impl Body for ToOwner {
    fn frame_type(&self) -> u8 {
        match self {
            Self::Hello(_) => to_owner_type::HELLO,
            Self::OpenSession => to_owner_type::OPEN_SESSION,
            Self::Write(_) => to_owner_type::WRITE,
            Self::Request(..) => to_owner_type::REQUEST,
            Self::CloseSession => to_owner_type::CLOSE_SESSION,
        }
    }

    fn put_body(&self, out: &mut BytesMut) {
        match self {
            Self::OpenSession | Self::CloseSession => {}
            Self::Hello(hello) => hello.put(out),
            Self::Write(write) => write.put(out),
            Self::Request(id, request) => {
                put_array(out, 2);
                id.put(out);
                request.put(out);
            }
        }
    }

    #[allow(private_interfaces, reason = "not reachable from outside")]
    fn take_body(frame_type: u8, reader: &mut Reader) -> Result<Option<Self>, Malformed> {
        Ok(Some(match frame_type {
            to_owner_type::HELLO => Self::Hello(Field::take(reader)?),
            to_owner_type::OPEN_SESSION => Self::OpenSession,
            to_owner_type::WRITE => Self::Write(Write::take(reader)?),
            to_owner_type::REQUEST => {
                let (id, request) = Field::take(reader)?;
                Self::Request(id, request)
            }
            to_owner_type::CLOSE_SESSION => Self::CloseSession,
            _ => return Ok(None),
        }))
    }
}

impl Message for ToPeer {}

impl Body for ToPeer {
    fn frame_type(&self) -> u8 {
        match self {
            Self::Welcome(_) => to_peer_type::WELCOME,
            Self::Opened(_) => to_peer_type::OPENED,
            Self::Answer(..) => to_peer_type::ANSWER,
            Self::Reply(..) => to_peer_type::REPLY,
            Self::Goodbye(_) => to_peer_type::GOODBYE,
        }
    }

    fn put_body(&self, out: &mut BytesMut) {
        match self {
            Self::Welcome(welcome) => welcome.put(out),
            Self::Opened(session) => session.put(out),
            Self::Answer(sequence, result) => {
                put_array(out, 2);
                sequence.put(out);
                result.put(out);
            }
            Self::Reply(id, result) => {
                put_array(out, 2);
                id.put(out);
                result.put(out);
            }
            Self::Goodbye(failure) => failure.put(out),
        }
    }

    #[allow(private_interfaces, reason = "not reachable from outside")]
    fn take_body(frame_type: u8, reader: &mut Reader) -> Result<Option<Self>, Malformed> {
        Ok(Some(match frame_type {
            to_peer_type::WELCOME => Self::Welcome(Field::take(reader)?),
            to_peer_type::OPENED => Self::Opened(Field::take(reader)?),
            to_peer_type::ANSWER => {
                let (sequence, result) = Field::take(reader)?;
                Self::Answer(sequence, result)
            }
            to_peer_type::REPLY => {
                let (id, result) = Field::take(reader)?;
                Self::Reply(id, result)
            }
            to_peer_type::GOODBYE => Self::Goodbye(Field::take(reader)?),
            _ => return Ok(None),
        }))
    }
}

impl Message for Feed {}

impl Body for Feed {
    fn frame_type(&self) -> u8 {
        match self {
            Self::Start { .. } => feed_type::START,
            Self::Resume => feed_type::RESUME,
            Self::Reset => feed_type::RESET,
            Self::Entries(_) => feed_type::ENTRIES,
            Self::Complete { .. } => feed_type::COMPLETE,
            Self::Events(_) => feed_type::EVENTS,
            Self::Bookmark { .. } => feed_type::BOOKMARK,
            Self::Barrier { .. } => feed_type::BARRIER,
            Self::Failed(_) => feed_type::FAILED,
            Self::Compare { .. } => feed_type::COMPARE,
            Self::Replace { .. } => feed_type::REPLACE,
            Self::Gap(_) => feed_type::GAP,
            Self::Skip { .. } => feed_type::SKIP,
            Self::Frames(_) => feed_type::FRAMES,
            Self::Body(_) => feed_type::BODY,
            Self::Install(_) => feed_type::INSTALL,
            Self::Piece(_) => feed_type::PIECE,
            Self::Reached { .. } => feed_type::REACHED,
            Self::Chunks(_) => feed_type::CHUNKS,
        }
    }

    fn put_body(&self, out: &mut BytesMut) {
        match self {
            Self::Resume | Self::Reset => {}
            Self::Start { subscription } => subscription.put(out),
            Self::Entries(entries) => entries.put(out),
            Self::Complete { position }
            | Self::Bookmark { position }
            | Self::Skip { position }
            | Self::Reached { position } => position.put(out),
            Self::Frames(frames) => frames.put(out),
            Self::Install(start) => start.put(out),
            Self::Body(bytes) | Self::Piece(bytes) => bytes.put(out),
            Self::Chunks(records) => records.put(out),
            Self::Events(events) => events.put(out),
            Self::Barrier { id, position } => {
                put_array(out, 2);
                id.put(out);
                position.put(out);
            }
            Self::Failed(failure) => failure.put(out),
            Self::Compare {
                round,
                position,
                same_history,
            } => {
                put_array(out, 3);
                round.put(out);
                position.put(out);
                same_history.put(out);
            }
            Self::Replace { range, entries } => {
                put_array(out, 2);
                range.put(out);
                entries.put(out);
            }
            Self::Gap(gap) => gap.put(out),
        }
    }

    #[allow(private_interfaces, reason = "not reachable from outside")]
    fn take_body(frame_type: u8, reader: &mut Reader) -> Result<Option<Self>, Malformed> {
        Ok(Some(match frame_type {
            feed_type::START => Self::Start {
                subscription: Field::take(reader)?,
            },
            feed_type::RESUME => Self::Resume,
            feed_type::RESET => Self::Reset,
            feed_type::ENTRIES => Self::Entries(Field::take(reader)?),
            feed_type::COMPLETE => Self::Complete {
                position: Field::take(reader)?,
            },
            feed_type::EVENTS => Self::Events(Field::take(reader)?),
            feed_type::BOOKMARK => Self::Bookmark {
                position: Field::take(reader)?,
            },
            feed_type::BARRIER => {
                let (id, position) = Field::take(reader)?;
                Self::Barrier { id, position }
            }
            feed_type::FAILED => Self::Failed(Field::take(reader)?),
            feed_type::COMPARE => {
                reader.array_of(3)?;
                Self::Compare {
                    round: Field::take(reader)?,
                    position: Field::take(reader)?,
                    same_history: Field::take(reader)?,
                }
            }
            feed_type::REPLACE => {
                let (range, entries) = Field::take(reader)?;
                Self::Replace { range, entries }
            }
            feed_type::GAP => Self::Gap(Field::take(reader)?),
            feed_type::SKIP => Self::Skip {
                position: Field::take(reader)?,
            },
            feed_type::FRAMES => Self::Frames(Field::take(reader)?),
            feed_type::BODY => Self::Body(Field::take(reader)?),
            feed_type::INSTALL => Self::Install(Field::take(reader)?),
            feed_type::PIECE => Self::Piece(Field::take(reader)?),
            feed_type::REACHED => Self::Reached {
                position: Field::take(reader)?,
            },
            feed_type::CHUNKS => Self::Chunks(Field::take(reader)?),
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests;
