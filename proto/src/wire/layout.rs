//! The fields of everything that stands in a frame, in the order they are written.

use bytes::{BufMut, BytesMut};

use super::fields::{Field, Malformed, Reader, put_array};
use super::{
    ChunkPlace, CopyPlace, Digest, Entry, Event, FollowStatus, Gap, Grant, Held, Hello, IndexBuild,
    InstallStart, KeyRange, LeaseStatus, LogFrame, OwnerStatus, PartialSnapshot, Reply, Request,
    Version, Welcome, Write,
};
use crate::chunk::record::ChunkRecord;
use crate::effect::{Cause, Change, KeyPatch};
use crate::error::{ErrorKind, Failure};
use crate::ids::{
    Ack, ChunkId, Durability, Epoch, EpochName, FrameIndex, LeaseId, NamespaceId, Origin, PeerKey,
    Position, Revision, Sequence, SessionId, StoreId,
};
use crate::operation::{Edit, Fence, KeyRead, Operation, Outcome, Patch, Step};

/// A number or bytes with a type of its own is written as the number or bytes.
macro_rules! transparent {
    ($($type:ident),*) => {$(
        impl Field for $type {
            fn put(&self, out: &mut BytesMut) {
                self.0.put(out);
            }

            fn take(reader: &mut Reader) -> Result<Self, Malformed> {
                Field::take(reader).map(Self)
            }
        }
    )*};
}
transparent!(
    ChunkId,
    StoreId,
    EpochName,
    Revision,
    FrameIndex,
    LeaseId,
    Sequence,
    NamespaceId,
    PeerKey
);

/// A struct is an array of its fields.
macro_rules! record {
    ($($type:ident { $($field:ident),* })*) => {$(
        impl Field for $type {
            fn put(&self, out: &mut BytesMut) {
                put_array(out, [$(stringify!($field)),*].len());
                $(self.$field.put(out);)*
            }

            fn take(reader: &mut Reader) -> Result<Self, Malformed> {
                reader.array_of([$(stringify!($field)),*].len())?;
                Ok(Self { $($field: Field::take(reader)?),* })
            }
        }
    )*};
}
record! {
    Epoch { number, name }
    Position { store, epoch, revision }
    SessionId { epoch, frame }
    Origin { session, sequence }
    Ack { revision, epoch, durability }
    Change { key, value }
    Failure { kind, message }
    Hello { program, namespace, session }
    Write { sequence, floor, durability, operation }
    KeyRange { start, end }
    Grant { peer, scope, rights, expires_ms, label }
    Welcome { program, position, namespace, may_write, durability, session_known }
    OwnerStatus {
        program, pid, address, directory, position, durable, indexed, keys, peers, subscriptions,
        log_bytes, snapshot_bytes, index_bytes, index_build, uptime_s
    }
    IndexBuild { revision, done_count, total_count }
    Entry { key, value, revision }
    KeyPatch { key, base, edit }
    KeyRead { key, revision }
    Fence { name, fence }
    Patch { path, revision, create, edit }
    LeaseStatus { ttl_ms, left_ms, presence }
    Version { revision, time_ms, value, is_oldest_known }
    Digest { through, count, hash }
    Gap { after, oldest, same_history }
    CopyPlace { position, next }
    PartialSnapshot { revision, total_bytes, head_crc, held_bytes }
    InstallStart { position, segment, next, total_bytes, head_crc, start }
    LogFrame { kind, skippable, index, epoch, first, count, time_ms, body_bytes, body_crc, body }
    ChunkRecord { id, kind, codec, plain_bytes, payload }
    ChunkPlace { id, level, offset }
    FollowStatus { source, is_connected, source_revision, revision, behind_ms, trouble }
}

/// An enum is an array of its variant's number and fields. With `unknown`, a number of a later
/// version is read as that variant, and its fields are passed over: it must be the last thing in
/// its frame.
macro_rules! numbered {
    (
        $type:ident {
            $($number:literal => $variant:ident { $($field:tt : $name:ident),* }),* $(,)?
        }
        $(unknown => $unknown:ident)?
    ) => {
        impl Field for $type {
            fn put(&self, out: &mut BytesMut) {
                match self {
                    $(Self::$variant { $($field: $name),* } => {
                        let fields = [$(stringify!($name)),*] as [&str; _];
                        put_array(out, 1 + fields.len());
                        out.put_u8($number);
                        $($name.put(out);)*
                    })*
                    $(Self::$unknown { number } => {
                        put_array(out, 1);
                        number.put(out);
                    })?
                }
            }

            fn take(reader: &mut Reader) -> Result<Self, Malformed> {
                let length = reader.array()?;
                match u8::take(reader)? {
                    $($number => {
                        let fields = [$(stringify!($name)),*] as [&str; _];
                        if length != 1 + fields.len() {
                            return Err(reader.malformed("a variant has other fields"));
                        }
                        Ok(Self::$variant { $($field: Field::take(reader)?),* })
                    })*
                    number => numbered!(@unknown $type, reader, number $(, $unknown)?),
                }
            }
        }
    };
    (@unknown $type:ident, $reader:ident, $number:ident) => {{
        let _ = $number;
        Err($reader.malformed(concat!("unknown number of ", stringify!($type))))
    }};
    (@unknown $type:ident, $reader:ident, $number:ident, $unknown:ident) => {{
        $reader.pass_over_rest();
        Ok(Self::$unknown { number: $number })
    }};
}

numbered!(Operation {
    0 => Put { key: key, value: value },
    1 => Delete { key: key },
    2 => DeleteRange { start: start, end: end, count_max: count_max },
    3 => CompareAndSet { key: key, expected: expected, new: new },
    4 => Increment { key: key, by: by },
    5 => Batch { changes: changes },
    6 => Transact { reads: reads, ranges: ranges, at: at, fences: fences, changes: changes },
    7 => Patch { key: key, patch: patch },
    8 => PutLeased { key: key, value: value, ttl_ms: ttl_ms, lease: lease },
    9 => GrantLease { ttl_ms: ttl_ms, presence: presence },
    10 => RevokeLease { lease: lease },
    11 => Lock { name: name, lease: lease },
    12 => Unlock { name: name, fence: fence },
    13 => Settle {},
    20 => AddDictionary { bytes: bytes },
});

numbered!(Step {
    0 => Field { key: key },
    1 => Index { index: index },
});

numbered!(Edit {
    0 => Append { items: items },
    1 => Add { items: items },
    2 => Discard { items: items },
    3 => SetField { field: field, value: value },
    4 => DeleteField { field: field },
    5 => Remove { item: item },
    6 => AddNumber { by: by },
    7 => Merge { fields: fields },
    8 => Clear {},
    9 => Splice { start: start, delete_count: delete_count, items: items },
    10 => Replace { value: value },
});

numbered!(Outcome {
    0 => Done {},
    1 => Deleted { 0: count },
    2 => Swapped { 0: swapped },
    3 => Number { 0: number },
    4 => Lease { 0: lease },
    5 => Locked { 0: fence },
    6 => Conflict { key: key, revision: revision },
    7 => Outdated { oldest: oldest },
    8 => Fenced { name: name },
    16 => NeedChunks { ids: ids },
});

numbered!(Request {
    0 => CreateNamespace { content: content },
    1 => Get { key: key },
    2 => Count {},
    3 => Subscribe { subscription: subscription, range: range, since: since },
    4 => Unsubscribe { subscription: subscription },
    5 => Fetch { subscription: subscription, range: range, reverse: reverse },
    6 => Barrier {},
    7 => Flush { revision: revision },
    8 => Status {},
    9 => Grant { 0: grant },
    10 => Grants {},
    11 => Revoke { peer: peer },
    12 => At { revision: revision },
    13 => GetAt { key: key, revision: revision },
    14 => CountAt { revision: revision },
    15 => FetchAt { subscription: subscription, range: range, reverse: reverse, revision: revision },
    16 => History { key: key, before: before, count_max: count_max },
    17 => KeepLease { lease: lease },
    18 => AwaitLock { name: name, timeout_ms: timeout_ms },
    19 => Outcome { session: session, sequence: sequence },
    24 => Follow { subscription: subscription, range: range, since: since, held: held },
    25 => Digests { subscription: subscription, round: round, digests: digests },
    28 => OnBehalf { peer: peer, session: session },
    29 => Replicate { subscription: subscription, since: since, partial: partial },
    30 => Following {},
    31 => TakePatches { by_part: by_part },
    32 => Dictionary { id: id },
    40 => MissingChunks { key: key, ids: ids },
    41 => EndUpload { upload: upload, count: count },
    42 => FetchChunks { subscription: subscription, key: key, revision: revision, places: places },
} unknown => Unknown);

numbered!(Reply {
    0 => Done {},
    1 => Namespace { namespace: namespace, created: created },
    2 => Entry { entry: entry, as_of: as_of },
    3 => Count { count: count, as_of: as_of },
    4 => Position { 0: position },
    5 => Status { 0: status },
    6 => Grants { 0: grants },
    7 => History { versions: versions, before: before },
    8 => PastRetention { revision: revision, oldest: oldest },
    9 => Lease { 0: status },
    10 => Lock { fence: fence },
    11 => Outcome { 0: result },
    24 => Acting { may_write: may_write, session_known: session_known },
    25 => Following { 0: status },
    40 => MissingChunks { ids: ids },
});

/// A struct like the others, but for its last field: that is left out where there is nothing in it.
impl Field for Event {
    fn put(&self, out: &mut BytesMut) {
        let has_patches = !self.patches.is_empty();
        put_array(out, 5 + usize::from(has_patches));
        self.revision.put(out);
        self.time_ms.put(out);
        self.origin.put(out);
        self.cause.put(out);
        self.changes.put(out);
        if has_patches {
            self.patches.put(out);
        }
    }

    fn take(reader: &mut Reader) -> Result<Self, Malformed> {
        let has_patches = match reader.array()? {
            5 => false,
            6 => true,
            _ => return Err(reader.malformed("an array has another number of fields")),
        };
        let event = Self {
            revision: Field::take(reader)?,
            time_ms: Field::take(reader)?,
            origin: Field::take(reader)?,
            cause: Field::take(reader)?,
            changes: Field::take(reader)?,
            patches: match has_patches {
                true => Field::take(reader)?,
                false => Vec::new(),
            },
        };
        match has_patches && event.patches.is_empty() {
            true => Err(reader.malformed("no patches where some were announced")),
            false => Ok(event),
        }
    }
}

impl Field for Cause {
    fn put(&self, out: &mut BytesMut) {
        self.number().put(out);
    }

    fn take(reader: &mut Reader) -> Result<Self, Malformed> {
        Self::from_number(u8::take(reader)?)
            .ok_or_else(|| reader.malformed("unknown number of Cause"))
    }
}

impl Field for ErrorKind {
    fn put(&self, out: &mut BytesMut) {
        self.number().put(out);
    }

    fn take(reader: &mut Reader) -> Result<Self, Malformed> {
        u8::take(reader).map(Self::from_number)
    }
}

impl Field for Durability {
    fn put(&self, out: &mut BytesMut) {
        self.number().put(out);
    }

    fn take(reader: &mut Reader) -> Result<Self, Malformed> {
        Self::from_number(u8::take(reader)?)
            .ok_or_else(|| reader.malformed("unknown number of Durability"))
    }
}

impl Field for Held {
    fn put(&self, out: &mut BytesMut) {
        self.number().put(out);
    }

    fn take(reader: &mut Reader) -> Result<Self, Malformed> {
        Self::from_number(u8::take(reader)?)
            .ok_or_else(|| reader.malformed("unknown number of Held"))
    }
}
