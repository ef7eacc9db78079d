//! The messages between a peer and an owner.
//!
//! A connection has one two-way stream, opened by the client, for [`ToOwner`] and [`ToPeer`]; a
//! one-way stream from the owner for each subscription; and one-way bulk streams for fetches, both
//! carrying [`Feed`]. A frame is: length of the rest as a varint, one type byte, a MessagePack body.

mod chunks;
pub mod codec;
mod difference;
pub mod edit;
mod entries;
pub mod event;
mod fields;
mod layout;
mod replicate;
mod status;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::chunk::record::ChunkRecord;
use crate::effect::Change;
use crate::error::Failure;
use crate::ids::{
    Ack, ChunkId, Durability, LeaseId, NamespaceId, PeerKey, Position, Revision, Sequence,
    SessionId,
};
use crate::operation::{Operation, Outcome};

pub use chunks::{ChunkPlace, Upload, record_bytes};
pub use difference::{DIGEST_HASH_BYTES, Digest, Gap, Held};
pub use entries::{Entry, KeyRange, Version};
pub use event::Event;
pub use replicate::{CopyPlace, FollowStatus, InstallStart, LogFrame, PartialSnapshot};
pub use status::{IndexBuild, LeaseStatus, OwnerInfo, OwnerStatus};

/// The TLS application protocol, which carries the major version.
pub const ALPN: &[u8] = b"objsync/1";

/// From a client to the owner, on the operations stream.
///
/// The variants' order is their type byte: append only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToOwner {
    /// First frame of a connection.
    Hello(Hello),
    /// Open a session; answered by [`ToPeer::Opened`].
    OpenSession,
    /// A write; answered by [`ToPeer::Answer`] with the same sequence.
    Write(Write),
    /// Anything else, answered by [`ToPeer::Reply`] with the same id.
    Request(u64, Request),
    /// This session has no further use.
    CloseSession,
}

/// What a client says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The client's version, for the log.
    pub program: String,
    /// The dictionary it wants, by name. If it is missing, [`Request::CreateNamespace`] makes it.
    pub namespace: String,
    /// The session it had before the connection broke.
    pub session: Option<SessionId>,
}

/// One write in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Its number in the session.
    pub sequence: Sequence,
    /// The lowest sequence whose answer the client still lacks: results below it can go.
    pub floor: Sequence,
    /// The level to reach before the answer; none for the owner's default.
    pub durability: Option<Durability>,
    /// What to do, in the namespace of the connection.
    pub operation: Operation,
}

/// A request that changes no key.
///
/// The variants' order is their wire number: append only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Make the namespace of the hello, with its first content, unless somebody has made it by
    /// now; answered by [`Reply::Namespace`].
    CreateNamespace {
        /// What it holds from the start, in the same transaction.
        content: Vec<Change>,
    },
    /// The value of a key; answered by [`Reply::Entry`].
    Get {
        /// The encoded key.
        key: Bytes,
    },
    /// How many keys there are; answered by [`Reply::Count`].
    Count,
    /// Follow changes, on a stream of its own; answered by [`Reply::Done`].
    Subscribe {
        /// Chosen by the client, not in use on this connection.
        subscription: u64,
        /// Which keys.
        range: KeyRange,
        /// Where the subscriber stands; none for "send the state first".
        since: Option<Position>,
    },
    /// Stop a subscription and its stream; answered by [`Reply::Done`].
    Unsubscribe {
        /// Which.
        subscription: u64,
    },
    /// Send the entries of a range as of one revision, on a bulk stream; answered by
    /// [`Reply::Done`].
    Fetch {
        /// Chosen by the client, not in use on this connection; shares numbers with subscriptions.
        subscription: u64,
        /// Which keys.
        range: KeyRange,
        /// From the last key to the first.
        reverse: bool,
    },
    /// Answered by [`Reply::Position`], and in the stream of each subscription of this connection
    /// by a [`Feed::Barrier`] with the same id, once that stream holds all that was committed.
    Barrier,
    /// Make everything up to a revision survive a power cut; answered by [`Reply::Position`].
    Flush {
        /// How far.
        revision: Revision,
    },
    /// How the owner is; answered by [`Reply::Status`].
    Status,
    /// Let a key in; owner's own user only; answered by [`Reply::Done`].
    Grant(Grant),
    /// All grants; answered by [`Reply::Grants`].
    Grants,
    /// Take a grant back and cut its connections; answered by [`Reply::Done`] or not found.
    Revoke {
        /// The grant's key.
        peer: PeerKey,
    },
    /// Whether a revision of the past can be read; answered by [`Reply::Position`]. This and the
    /// requests below may be answered by [`Reply::PastRetention`].
    At {
        /// Which.
        revision: Revision,
    },
    /// The value of a key as of a revision; answered by [`Reply::Entry`].
    GetAt {
        /// The encoded key.
        key: Bytes,
        /// As of when.
        revision: Revision,
    },
    /// How many keys there were as of a revision; answered by [`Reply::Count`].
    CountAt {
        /// As of when.
        revision: Revision,
    },
    /// As [`Request::Fetch`], as of a revision of the past.
    FetchAt {
        /// Chosen by the client, not in use on this connection; shares numbers with subscriptions.
        subscription: u64,
        /// Which keys.
        range: KeyRange,
        /// From the last key to the first.
        reverse: bool,
        /// As of when.
        revision: Revision,
    },
    /// What a key was, newest first; answered by [`Reply::History`].
    History {
        /// The encoded key.
        key: Bytes,
        /// Only what was before this revision; none for "from the newest on".
        before: Option<Revision>,
        /// At most so many versions.
        count_max: u32,
    },
    /// Keep a lease for its whole time again, and have it end with this connection from here on if
    /// it is one of presence; answered by [`Reply::Lease`], or not found when it has ended.
    KeepLease {
        /// Which.
        lease: LeaseId,
    },
    /// Who holds a lock; answered by [`Reply::Lock`], once that is nobody or the time is over.
    AwaitLock {
        /// The name of the lock, as an encoded key.
        name: Bytes,
        /// How long to wait; 0 for an answer at once.
        timeout_ms: u64,
    },
    /// What came of a write of a session of this peer; answered by [`Reply::Outcome`].
    Outcome {
        /// The session.
        session: SessionId,
        /// The write.
        sequence: Sequence,
    },
    /// Follow changes from a position on, as [`Request::Subscribe`], and hear what concerns who
    /// `held` so much where the log does not lead on from there; answered by [`Reply::Done`].
    Follow {
        /// Chosen by the client, not in use on this connection.
        subscription: u64,
        /// Which keys.
        range: KeyRange,
        /// Where the follower stands.
        since: Position,
        /// What it has as of there.
        held: Held,
    },
    /// The next digests of what a follower holds, after a [`Feed::Compare`]; answered by
    /// [`Reply::Done`] once they were compared, and then the next ones may be sent.
    Digests {
        /// Which subscription.
        subscription: u64,
        /// The number of the comparison.
        round: u32,
        /// Blocks in key order; none at all says that the range is not held whole any more.
        digests: Vec<Digest>,
    },
    /// This connection speaks for another key from here on: its session belongs to that key, and
    /// so do its rights, as far as they are also the follower's own. For who has the right to
    /// follow, once, before a session is opened; answered by [`Reply::Acting`].
    OnBehalf {
        /// The key that proved itself to the follower.
        peer: PeerKey,
        /// The session that it had before its connection broke.
        session: Option<SessionId>,
    },
    /// Send the log as it is written, on a stream of its own, for a follower that keeps a copy of
    /// the whole store; answered by [`Reply::Done`].
    Replicate {
        /// Chosen by the client, not in use on this connection; shares numbers with subscriptions.
        subscription: u64,
        /// Where the copy stands; none for one that does not hold anything yet.
        since: Option<CopyPlace>,
        /// What it holds already of a snapshot whose transfer broke off.
        partial: Option<PartialSnapshot>,
    },
    /// How far a follower is behind its source; answered by [`Reply::Following`].
    Following,
    /// Whether streams that are asked for from here on tell of a change of a part of a value by that
    /// part. Who holds nothing is told whole values all the same. Answered by [`Reply::Done`].
    TakePatches {
        /// By the part; if not, by the whole value, as before the first of these requests.
        by_part: bool,
    },
    /// A zstd dictionary of this namespace, which the right to read is enough for; answered by
    /// [`Reply::Entry`] with the stored value of `dictionary::Trained`.
    Dictionary {
        /// Which; none for the one that new values are packed with.
        id: Option<u32>,
    },
    /// Which of these chunks the owner lacks, as far as this peer may know; those that it has are
    /// kept for this connection. Answered by [`Reply::MissingChunks`].
    MissingChunks {
        /// The key that they are meant for: what its present value names is known to who may read
        /// it.
        key: Bytes,
        /// At most `limits::CHUNKS_ASKED_MAX`.
        ids: Vec<ChunkId>,
    },
    /// Answered by [`Reply::Done`] once an upload has brought so many chunks, all of them are
    /// durable, and they are kept for this connection.
    EndUpload {
        /// Which.
        upload: u64,
        /// Chunks and nodes that were sent in it.
        count: u64,
    },
    /// Send chunks and nodes of a value, on a bulk stream: [`Feed::Chunks`] with those that are
    /// there and that this peer may read, and [`Feed::Complete`]. Answered by [`Reply::Done`].
    FetchChunks {
        /// Chosen by the client, not in use on this connection; shares numbers with subscriptions.
        subscription: u64,
        /// The key of the value.
        key: Bytes,
        /// The revision that wrote the value.
        revision: Revision,
        /// At most `limits::CHUNKS_ASKED_MAX`.
        places: Vec<ChunkPlace>,
    },
    /// A request of a later version, of which only its number is known; it is answered by a
    /// failure that says so. Never sent.
    Unknown {
        /// Its number.
        number: u8,
    },
}

/// Permission for a key to use this store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Who: the public key.
    pub peer: PeerKey,
    /// What: a namespace by name, or `*` for every one.
    pub scope: String,
    /// Which rights; an unknown one denies.
    pub rights: Vec<String>,
    /// Until when, milliseconds since 1970; none for "until revoked".
    pub expires_ms: Option<u64>,
    /// A name for people.
    pub label: String,
}

/// From the owner to a client, on the operations stream.
///
/// The variants' order is their type byte: append only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToPeer {
    /// Answers [`ToOwner::Hello`].
    Welcome(Welcome),
    /// Answers [`ToOwner::OpenSession`].
    Opened(SessionId),
    /// Answers [`ToOwner::Write`]. The ack stands beside a refusal too when it was logged.
    Answer(Sequence, Result<(Outcome, Ack), Failure>),
    /// Answers [`ToOwner::Request`].
    Reply(u64, Result<Reply, Failure>),
    /// The owner closes, or refuses this peer: no more answers follow on this connection.
    Goodbye(Failure),
}

/// What an owner says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The owner's version, for the log.
    pub program: String,
    /// The store, its epoch and how far it is.
    pub position: Position,
    /// The number of the namespace asked for; none when it does not exist yet.
    pub namespace: Option<NamespaceId>,
    /// Whether this peer may write.
    pub may_write: bool,
    /// The level of writes that name none.
    pub durability: Durability,
    /// Whether the session named in the hello is still known. `false` also when none was named.
    pub session_known: bool,
}

/// Answers a [`Request`]. The variants' order is their wire number: append only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It was done.
    Done,
    /// The number of a namespace.
    Namespace {
        /// Its number.
        namespace: NamespaceId,
        /// Whether this request made it: the content was used.
        created: bool,
    },
    /// A value and the revision it was written at, as of a revision.
    Entry {
        /// The stored value and its revision; none when there is no such key.
        entry: Option<(Bytes, Revision)>,
        /// The revision this is true of.
        as_of: Revision,
    },
    /// How many keys, as of a revision.
    Count {
        /// Keys.
        count: u64,
        /// The revision this is true of.
        as_of: Revision,
    },
    /// Where the store stands.
    Position(Position),
    /// How the owner is.
    Status(OwnerStatus),
    /// All grants.
    Grants(Vec<Grant>),
    /// What a key was, newest first, as far as one reply goes.
    History {
        /// The versions; may be none although more follow.
        versions: Vec<Version>,
        /// Where the next request goes on; none when nothing earlier is kept.
        before: Option<Revision>,
    },
    /// The revision asked for is no longer kept.
    PastRetention {
        /// The one asked for.
        revision: Revision,
        /// The oldest that can be read.
        oldest: Revision,
    },
    /// A lease lasts.
    Lease(LeaseStatus),
    /// A lock.
    Lock {
        /// The fence of who holds it; none when nobody does.
        fence: Option<Revision>,
    },
    /// What came of a write; none for "it was not done, and never will be".
    Outcome(Option<Result<(Outcome, Ack), Failure>>),
    /// The connection speaks for another key.
    Acting {
        /// The rights of that key here, as far as the follower has them too.
        may_write: bool,
        /// Whether the session named is still known. `false` also when none was named.
        session_known: bool,
    },
    /// How far a follower is behind its source; none from an owner.
    Following(Option<FollowStatus>),
    /// Chunks to be uploaded.
    MissingChunks {
        /// Those of the ids asked for, in their order.
        ids: Vec<ChunkId>,
    },
}

/// From the owner to a subscriber or fetcher, on a one-way stream.
///
/// The variants' order is their type byte: append only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feed {
    /// First frame of every such stream: whose it is.
    Start {
        /// The client's number.
        subscription: u64,
    },
    /// The subscriber's position is on this history: changes after it follow.
    Resume,
    /// What the subscriber holds is to be replaced whole by the entries that follow.
    Reset,
    /// Entries in key order.
    Entries(Vec<Entry>),
    /// The entries so far are the whole range, as of this position.
    Complete {
        /// Where they stand in the history.
        position: Position,
    },
    /// Transactions in order, each with its changes inside the range.
    Events(Vec<Event>),
    /// Everything up to this revision that concerns the range has been sent.
    Bookmark {
        /// How far.
        position: Position,
    },
    /// Everything committed when barrier `id` was asked for has been sent.
    Barrier {
        /// The id of the request.
        id: u64,
        /// How far that is.
        position: Position,
    },
    /// The stream ends with an error.
    Failed(Failure),
    /// The log does not lead on from where the follower stands: it is to send the digests of what
    /// it holds, and is sent what differs.
    Compare {
        /// The number of this comparison, for [`Request::Digests`]. One that comes later voids
        /// those before.
        round: u32,
        /// What is sent is as of here.
        position: Position,
        /// Whether the follower's own position is on the owner's history, of which the log only
        /// begins later.
        same_history: bool,
    },
    /// Of the keys in a range there are these and no others. Ranges come in key order; those not
    /// named are as the follower holds them. [`Feed::Complete`] ends them.
    Replace {
        /// Which keys.
        range: KeyRange,
        /// What they are, in key order.
        entries: Vec<Entry>,
    },
    /// Changes that are not kept any more; the stream ends.
    Gap(Gap),
    /// What the follower holds is void: it goes on from here with nothing.
    Skip {
        /// Where the changes that follow go on.
        position: Position,
    },
    /// Frames of the log, in order, to a follower. The body of the last one may be cut: the rest
    /// follows in [`Feed::Body`].
    Frames(Vec<LogFrame>),
    /// The next part of the body that was cut.
    Body(Bytes),
    /// What the follower holds is to be replaced: by a snapshot, and the frames that follow.
    Install(InstallStart),
    /// The next bytes of the snapshot's file.
    Piece(Bytes),
    /// Everything that is durable at the source up to here has been sent.
    Reached {
        /// How far the source is.
        position: Position,
    },
    /// Chunks and nodes that were asked for, or that the frames which follow name.
    Chunks(Vec<ChunkRecord>),
}
