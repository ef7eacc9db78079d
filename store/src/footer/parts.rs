//! What a footer says of a key of whose value the segment has parts: where they stand, and on
//! what they lie.

use bytes::Bytes;
use objsync_proto::ids::Revision;
use objsync_proto::patched;

use super::ValuePlace;
use crate::frame::{BytesReader, Malformed, put_varint};

/// Edits of one value, in order, in one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    /// The value that the first of them changes, if the segment has it; else it is in what came
    /// before.
    pub(super) whole: Option<ValuePlace>,
    /// The revision of that value.
    pub(super) base: Revision,
    /// Where each stands.
    pub(super) edits: Vec<EditPlace>,
    /// The CRC-32C of all of them, one behind the other.
    pub(super) crc: u32,
}

/// Where an edit stands in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EditPlace {
    pub(super) offset: u64,
    pub(super) bytes: u32,
}

impl EditPlace {
    /// Where it ends. A place that was read or made ends within 64 bits.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.bytes))
    }
}

impl Parts {
    pub(super) fn put(&self, buffer: &mut Vec<u8>) {
        buffer.push(u8::from(self.whole.is_some()));
        if let Some(whole) = &self.whole {
            whole.put(buffer);
        }
        put_varint(buffer, self.base.0);
        buffer.extend_from_slice(&self.crc.to_le_bytes());
        put_varint(buffer, self.edits.len() as u64);
        let mut behind = 0;
        for edit in &self.edits {
            put_varint(buffer, edit.offset - behind);
            put_varint(buffer, u64::from(edit.bytes));
            behind = edit.end();
        }
    }

    pub(super) fn take(reader: &mut BytesReader<'_>) -> Result<Self, Malformed> {
        let whole = match reader.byte()? {
            0 => None,
            1 => Some(ValuePlace::take(reader)?),
            _ => return Err(Malformed("a footer's entry of an unknown kind")),
        };
        let base = Revision(reader.varint()?);
        let crc = u32::from_le_bytes(reader.array()?);
        let count = reader.number::<usize>()?;
        // Each takes 2 bytes at least.
        if count == 0 || count > reader.remaining() / 2 {
            return Err(Malformed("a footer's entry with more parts than it holds"));
        }
        let mut edits = Vec::with_capacity(count);
        let mut behind = 0_u64;
        for _ in 0..count {
            let past = Malformed("a part of a value past the segment's end");
            let offset = behind.checked_add(reader.varint()?).ok_or(past)?;
            let bytes: u32 = reader.number()?;
            behind = offset.checked_add(u64::from(bytes)).ok_or(past)?;
            edits.push(EditPlace { offset, bytes });
        }
        Ok(Self {
            whole,
            base,
            edits,
            crc,
        })
    }
}

/// What an entry of a footer comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The key was removed.
    Removed,
    /// Its value.
    Whole(Bytes),
    /// What was done, in order, to the value that the key had at a revision before the segment.
    Parts {
        /// The revision of that value.
        base: Revision,
        /// What was done.
        edits: Vec<Bytes>,
    },
}

/// A value that is put together from the newest part down to the whole one.
#[derive(Debug)]
pub(crate) struct Chain {
    /// The revision that the next older entry must have.
    base: Revision,
    /// Parts by layer, the newest layer first.
    layers: Vec<Vec<Bytes>>,
}

/// What of a key is known so far.
pub(crate) enum Gathered {
    /// All there is; none if it was removed.
    Done(Option<Bytes>),
    /// What is older is needed too.
    More(Chain),
}

impl Gathered {
    /// Begins with the newest entry of a key.
    pub(crate) fn begin(content: Content) -> Self {
        match content {
            Content::Removed => Self::Done(None),
            Content::Whole(value) => Self::Done(Some(value)),
            Content::Parts { base, edits } => Self::More(Chain {
                base,
                layers: vec![edits],
            }),
        }
    }
}

impl Chain {
    /// Goes on with the next older entry of the key.
    pub(crate) fn add(
        mut self,
        revision: Revision,
        content: Content,
    ) -> Result<Gathered, Malformed> {
        if revision != self.base {
            return Err(OTHER_BASE);
        }
        match content {
            Content::Removed => Err(OTHER_BASE),
            Content::Parts { base, edits } => {
                self.base = base;
                self.layers.push(edits);
                Ok(Gathered::More(self))
            }
            Content::Whole(value) => {
                let edits: Vec<Bytes> = self.layers.into_iter().rev().flatten().collect();
                let value = patched::apply(&value, &edits).map_err(|_| UNFIT)?;
                Ok(Gathered::Done(Some(value)))
            }
        }
    }
}

/// A part of a value whose base is not the entry before it.
pub(crate) const OTHER_BASE: Malformed =
    Malformed("a patch of an entry of another revision than the one that is there");
/// A part that cannot be applied.
pub(crate) const UNFIT: Malformed = Malformed("a patch that does not fit its value");
