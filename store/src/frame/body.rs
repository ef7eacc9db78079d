//! The body of a frame of transactions, written straight into the buffer that goes to the disk.

use bytes::Bytes;
use objsync_proto::effect::{Cause, Effect, Transaction};
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{
    ChunkId, FrameIndex, LeaseId, NamespaceId, Origin, Revision, Sequence, SessionId, SurfaceId,
};
use objsync_proto::operation::Outcome;

use super::{
    BytesReader, FRAME_ALIGN_BYTES, FRAME_HEADER_BYTES, FrameHeader, HeaderSeed, LoggedTransaction,
    Malformed, put_varint,
};

/// Flag of a transaction: an origin follows.
const HAS_ORIGIN: u8 = 1;
/// Flags of a transaction: why it happened, in two bits above the first.
const CAUSE_SHIFT: u8 = 1;
const CAUSE_BITS: u8 = 0b110;

const DONE: u8 = 0;
const DELETED: u8 = 1;
const NOT_SWAPPED: u8 = 2;
const SWAPPED: u8 = 3;
const NUMBER: u8 = 4;
const FAILED: u8 = 5;
const LEASE: u8 = 6;
const LOCKED: u8 = 7;
const NOT_LOCKED: u8 = 8;
const CONFLICT: u8 = 9;
const OUTDATED: u8 = 10;
const FENCED: u8 = 11;
const NEED_CHUNKS: u8 = 16;

/// Builds one frame in a buffer that is used again for the next.
pub struct BatchBuilder {
    buffer: Vec<u8>,
    count: u32,
}

/// What stands before the effects of a transaction.
pub struct TransactionHead<'a> {
    /// Who asked, and the lowest sequence still unanswered there.
    pub origin: Option<(Origin, Sequence)>,
    /// Why it happened.
    pub cause: Cause,
    /// What the caller is answered.
    pub result: &'a Result<Outcome, Failure>,
    /// How many effects follow.
    pub effect_count: u64,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self {
            buffer: vec![0; FRAME_HEADER_BYTES],
            count: 0,
        }
    }
}

impl BatchBuilder {
    /// Memory kept from one frame to the next.
    const BUFFER_BYTES_KEPT: usize = 4 << 20;

    /// Forgets what was built.
    pub fn clear(&mut self) {
        self.buffer.truncate(FRAME_HEADER_BYTES);
        self.buffer.shrink_to(Self::BUFFER_BYTES_KEPT);
        self.count = 0;
    }

    /// Transactions so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the body so far.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.buffer.len() - FRAME_HEADER_BYTES
    }

    /// Begins a transaction; so many calls of [`Self::effect`] follow as the head says.
    pub fn begin(&mut self, head: &TransactionHead<'_>) {
        self.count += 1;
        let buffer = &mut self.buffer;
        let cause = head.cause.number() << CAUSE_SHIFT;
        match head.origin {
            None => buffer.push(cause),
            Some((origin, floor)) => {
                buffer.push(HAS_ORIGIN | cause);
                put_varint(buffer, origin.session.epoch);
                put_varint(buffer, origin.session.frame.0);
                put_varint(buffer, origin.sequence.0);
                put_varint(buffer, floor.0);
            }
        }
        put_result(buffer, head.result);
        put_varint(buffer, head.effect_count);
    }

    /// Adds an effect of `body_bytes` bytes, which `write` appends, and which needs these chunks.
    pub fn effect(
        &mut self,
        surface: SurfaceId,
        namespace: NamespaceId,
        chunks: &[ChunkId],
        body_bytes: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let buffer = &mut self.buffer;
        put_varint(buffer, u64::from(surface.0));
        put_varint(buffer, u64::from(namespace.0));
        put_ids(buffer, chunks);
        put_varint(buffer, body_bytes as u64);
        let start = buffer.len();
        buffer.reserve(body_bytes);
        write(buffer);
        assert_eq!(buffer.len() - start, body_bytes, "an effect's own length");
    }

    /// Takes a body of so many transactions, whole, as another log has it.
    pub(crate) fn shipped(&mut self, body: &[u8], count: u32) {
        self.clear();
        self.buffer.extend_from_slice(body);
        self.count = count;
    }

    /// Adds a body of another kind of frame, whole.
    pub fn raw(&mut self, body: &[u8]) {
        self.buffer.extend_from_slice(body);
    }

    /// The frame, ready for the disk. Count, length and checksum of the header are filled in.
    pub fn seal(&mut self, mut header: FrameHeader, seed: HeaderSeed) -> &[u8] {
        let (head, body) = self
            .buffer
            .split_first_chunk_mut::<FRAME_HEADER_BYTES>()
            .expect("the buffer begins with room for a header");
        header.count = self.count;
        header.body_bytes = u32::try_from(body.len()).expect("a body is at most 32 MiB");
        header.body_crc = crc32c::crc32c(body);
        seed.encode(&header, head);
        let padded = self.buffer.len().next_multiple_of(FRAME_ALIGN_BYTES);
        self.buffer.resize(padded, 0);
        &self.buffer
    }
}

/// Appends the result of an operation.
pub(crate) fn put_result(buffer: &mut Vec<u8>, result: &Result<Outcome, Failure>) {
    match result {
        Ok(Outcome::Done) => buffer.push(DONE),
        Ok(Outcome::Deleted(count)) => {
            buffer.push(DELETED);
            put_varint(buffer, *count);
        }
        Ok(Outcome::Swapped(false)) => buffer.push(NOT_SWAPPED),
        Ok(Outcome::Swapped(true)) => buffer.push(SWAPPED),
        Ok(Outcome::Number(number)) => {
            buffer.push(NUMBER);
            buffer.extend_from_slice(&number.to_le_bytes());
        }
        Ok(Outcome::Lease(lease)) => {
            buffer.push(LEASE);
            put_varint(buffer, lease.0);
        }
        Ok(Outcome::Locked(Some(fence))) => {
            buffer.push(LOCKED);
            put_varint(buffer, fence.0);
        }
        Ok(Outcome::Locked(None)) => buffer.push(NOT_LOCKED),
        Ok(Outcome::Conflict { key, revision }) => {
            buffer.push(CONFLICT);
            put_varint(buffer, revision.0);
            put_varint(buffer, key.len() as u64);
            buffer.extend_from_slice(key);
        }
        Ok(Outcome::Outdated { oldest }) => {
            buffer.push(OUTDATED);
            put_varint(buffer, oldest.0);
        }
        Ok(Outcome::Fenced { name }) => {
            buffer.push(FENCED);
            put_varint(buffer, name.len() as u64);
            buffer.extend_from_slice(name);
        }
        Ok(Outcome::NeedChunks { ids }) => {
            buffer.push(NEED_CHUNKS);
            put_ids(buffer, ids);
        }
        Err(failure) => {
            buffer.push(FAILED);
            buffer.push(failure.kind.number());
            put_varint(buffer, failure.message.len() as u64);
            buffer.extend_from_slice(failure.message.as_bytes());
        }
    }
}

/// Takes the result of an operation.
pub(crate) fn take_result(
    reader: &mut BytesReader<'_>,
) -> Result<Result<Outcome, Failure>, Malformed> {
    Ok(Ok(match reader.byte()? {
        DONE => Outcome::Done,
        DELETED => Outcome::Deleted(reader.varint()?),
        NOT_SWAPPED => Outcome::Swapped(false),
        SWAPPED => Outcome::Swapped(true),
        NUMBER => Outcome::Number(i64::from_le_bytes(reader.array()?)),
        LEASE => Outcome::Lease(LeaseId(reader.varint()?)),
        LOCKED => Outcome::Locked(Some(Revision(reader.varint()?))),
        NOT_LOCKED => Outcome::Locked(None),
        CONFLICT => Outcome::Conflict {
            revision: Revision(reader.varint()?),
            key: reader.sized()?,
        },
        OUTDATED => Outcome::Outdated {
            oldest: Revision(reader.varint()?),
        },
        FENCED => Outcome::Fenced {
            name: reader.sized()?,
        },
        NEED_CHUNKS => Outcome::NeedChunks {
            ids: take_ids(reader)?,
        },
        FAILED => {
            let kind = ErrorKind::from_number(reader.byte()?);
            let message = reader.sized()?;
            let message = String::from_utf8_lossy(&message).into_owned();
            return Ok(Err(Failure::new(kind, message)));
        }
        _ => return Err(Malformed("an outcome of an unknown kind")),
    }))
}

/// Takes the transactions of a body.
pub(super) fn decode_transactions(
    header: &FrameHeader,
    body: &Bytes,
) -> Result<Vec<LoggedTransaction>, Malformed> {
    let mut reader = BytesReader::new(body);
    // A transaction takes 3 bytes at least, whatever the header says.
    let count_max = reader.remaining() / 3;
    let mut transactions = Vec::with_capacity(count_max.min(header.count as usize));
    for place in 0..u64::from(header.count) {
        let revision = header.first.0.checked_add(place);
        let revision = revision.ok_or(Malformed("a revision over 64 bits"))?;
        transactions.push(take_transaction(&mut reader, header, Revision(revision))?);
    }
    reader.finish()?;
    Ok(transactions)
}

fn take_transaction(
    reader: &mut BytesReader<'_>,
    header: &FrameHeader,
    revision: Revision,
) -> Result<LoggedTransaction, Malformed> {
    let flags = reader.byte()?;
    let unknown = Malformed("a transaction with unknown flags");
    let cause = Cause::from_number((flags & CAUSE_BITS) >> CAUSE_SHIFT).ok_or(unknown)?;
    let (origin, floor) = match flags & !CAUSE_BITS {
        0 => (None, Sequence(0)),
        HAS_ORIGIN => {
            let session = SessionId {
                epoch: reader.varint()?,
                frame: FrameIndex(reader.varint()?),
            };
            let sequence = Sequence(reader.varint()?);
            let floor = Sequence(reader.varint()?);
            (Some(Origin { session, sequence }), floor)
        }
        _ => return Err(unknown),
    };
    let result = take_result(reader)?;
    let count = reader.number::<usize>()?;
    // An effect takes 4 bytes at least.
    let mut effects = Vec::with_capacity(count.min(reader.remaining() / 4));
    for _ in 0..count {
        effects.push(take_effect(reader)?);
    }
    let transaction = Transaction {
        revision,
        time_ms: header.time_ms,
        origin,
        cause,
        result,
        effects,
    };
    Ok(LoggedTransaction { transaction, floor })
}

fn take_effect(reader: &mut BytesReader<'_>) -> Result<Effect, Malformed> {
    let surface = SurfaceId(reader.number()?);
    let namespace = NamespaceId(reader.number()?);
    let chunks = take_ids(reader)?;
    let body = reader.sized()?;
    Ok(Effect {
        surface,
        namespace,
        chunks,
        body,
    })
}

fn put_ids(buffer: &mut Vec<u8>, ids: &[ChunkId]) {
    put_varint(buffer, ids.len() as u64);
    ids.iter().for_each(|id| buffer.extend_from_slice(&id.0));
}

fn take_ids(reader: &mut BytesReader<'_>) -> Result<Vec<ChunkId>, Malformed> {
    let count = reader.number::<usize>()?;
    if count > reader.remaining() / size_of::<ChunkId>() {
        return Err(Malformed("a length past the end"));
    }
    (0..count).map(|_| reader.array().map(ChunkId)).collect()
}
