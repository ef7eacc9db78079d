//! Every bound of the protocol and of the store, with its unit in the name.
//!
//! A length that comes from outside is compared with one of these before memory is taken for it.

/// Longest encoded key.
pub const KEY_BYTES_MAX: usize = 4 << 10;
/// Longest stored value, header included.
pub const VALUE_BYTES_MAX: usize = 8 << 20;
/// Deepest nesting of containers inside a value, and of tuples inside a key.
pub const VALUE_DEPTH_MAX: usize = 200;
/// Longest name of a registered class, in bytes of UTF-8.
pub const CLASS_NAME_BYTES_MAX: usize = 255;
/// Largest transaction: the encoded effects of one operation.
pub const TRANSACTION_BYTES_MAX: usize = 16 << 20;
/// Most effects in one transaction.
pub const TRANSACTION_EFFECTS_MAX: usize = 1 << 20;
/// Most keys that one removal of a range takes for sure, however long they are and whatever is
/// written about their end; of more, some may be left though fewer were removed than asked for.
pub const RANGE_REMOVAL_COUNT_MAX: u32 = 1_354;
/// Most keys that one transaction can have read.
pub const TRANSACTION_READS_MAX: usize = 65_536;
/// Most ranges that one transaction can have read.
pub const TRANSACTION_RANGES_MAX: usize = 1_024;
/// Most transactions looked at for what has changed in the ranges that one has read; ranges that
/// were read before so many are outdated.
pub const TRANSACTION_SCAN_COUNT_MAX: usize = 65_536;
/// Most locks that one transaction can demand.
pub const TRANSACTION_FENCES_MAX: usize = 64;
/// Most items that one patch names: elements of a list or a set, or fields of a dict.
pub const PATCH_ITEMS_MAX: usize = 65_536;
/// Most steps from the value of a key to the part that a patch changes.
pub const PATCH_STEPS_MAX: usize = VALUE_DEPTH_MAX;
/// Longest payload of a value that a patch may grow to. A longer one can still be put as a whole,
/// and patches that do not make it longer still work.
pub const CONTAINER_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a value that a chain of patches in the log may cost its reader, each step counting the
/// value once; then the log has the value whole again. Of a value that grew long, a chain has
/// [`PATCH_CHAIN_STEPS_MIN`] steps nevertheless.
pub const PATCH_CHAIN_BYTES_MAX: u64 = 64 << 20;
/// Fewest steps that a chain of patches in the log may have.
pub const PATCH_CHAIN_STEPS_MIN: u32 = 16;
/// Most patches of a chain in the log, however few steps they are.
pub const PATCH_CHAIN_COUNT_MAX: u32 = 65_536;
/// Bytes that the patches of a chain in the log may have in any case; above, as many as the value.
pub const PATCH_CHAIN_EDITS_BYTES_MIN: u64 = 256 << 10;
/// Lowest level of zstd that values can be packed at.
pub const COMPRESSION_LEVEL_MIN: i32 = 1;
/// Highest level of zstd that values can be packed at.
pub const COMPRESSION_LEVEL_MAX: i32 = 22;
/// Shortest zstd dictionary.
pub const DICTIONARY_BYTES_MIN: usize = 1 << 10;
/// Longest zstd dictionary.
pub const DICTIONARY_BYTES_MAX: usize = 512 << 10;
/// Most zstd dictionaries of one namespace: they are never removed.
pub const DICTIONARIES_MAX: u32 = 16;
/// Longest wire frame, its type byte included: a transaction and room for its envelope.
pub const FRAME_BYTES_MAX: usize = TRANSACTION_BYTES_MAX + (64 << 10);
/// Longest frame of a peer that has not yet been welcomed.
pub const HELLO_BYTES_MAX: usize = 4 << 10;
/// Longest namespace name, in bytes of UTF-8.
pub const NAMESPACE_BYTES_MAX: usize = 255;
/// Most namespaces in one store.
pub const NAMESPACES_MAX: usize = 1 << 16;
/// Longest text of an error on the wire; longer ones are cut.
pub const ERROR_BYTES_MAX: usize = 1 << 10;
/// Longest link.
pub const LINK_BYTES_MAX: usize = 4 << 10;
/// Most hosts in one link.
pub const LINK_HOSTS_MAX: usize = 16;

/// Most results kept per session, which is also the most operations in flight.
pub const SESSION_RESULTS_MAX: usize = 65_536;
/// Most bytes of results kept per session, which is also the most bytes in flight.
pub const SESSION_BYTES_MAX: usize = 16 << 20;
/// Writes of a session whose callers have given up, and that can still be asked about; the oldest
/// goes first.
pub const SESSION_GIVEN_UP_MAX: usize = 1_024;
/// Most sessions a store keeps; opening one more ends the one idle for longest.
pub const SESSIONS_MAX: usize = 65_536;
/// A session without an operation for this long ends.
pub const SESSION_IDLE_MS: u64 = 24 * 3600 * 1000;

/// Longest time to live of a key or a lease: ten years. The shortest is 1 ms.
pub const TTL_MS_MAX: u64 = 10 * 365 * 24 * 3600 * 1000;
/// Longest encoded key that can have a time to live, and longest name of a lock: a key with room
/// for what is written about it.
pub const LEASED_KEY_BYTES_MAX: usize = 4_082;
/// Most keys of a store that have a time to live or end with a lease. Each takes some 200 bytes of
/// the owner's memory beside its own.
pub const LEASED_KEYS_MAX: u64 = 1 << 20;
/// Most bytes of these keys together: the owner has them in memory.
pub const LEASED_BYTES_MAX: u64 = 256 << 20;
/// Most leases of a store.
pub const LEASES_MAX: u64 = 65_536;
/// Of each of these limits, the last of so many equal parts is for dictionaries that have little.
pub const LEASED_RESERVE_SHARE: u64 = 4;
/// A dictionary has little that has at most one of so many equal parts of such a limit.
pub const LEASED_LITTLE_SHARE: u64 = 256;
/// Most keys and locks of one lease, so that its end is one transaction.
pub const LEASE_MEMBERS_MAX: u32 = 1_024;
/// Most keys and leases that are ended by one transaction, unless a lease alone has more members.
pub const EXPIRY_COUNT_MAX: usize = 1_024;
/// Most keys and leases whose end is decided before other writes get their turn.
pub const EXPIRY_TURN_COUNT_MAX: usize = 8_192;
/// Most waits for a lock of one connection at once.
pub const LOCK_WAITS_MAX: usize = 256;
/// Longest wait for a lock in one request; a client asks again.
pub const LOCK_WAIT_MS_MAX: u64 = 60_000;

/// Most connections an owner accepts at once.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Most subscriptions of one connection.
pub const SUBSCRIPTIONS_MAX: usize = 256;
/// Most states and fetches that are sent on one connection at once; more wait for their turn.
pub const STATES_IN_FLIGHT_MAX: usize = 64;
/// Most threads that wait for the disk on behalf of peers.
pub const DISK_THREADS_MAX: usize = 16;
/// Most unanswered requests of one connection that are not writes.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 1_024;

/// Most handshakes under way at once before an unproven address is asked to prove itself.
pub const HANDSHAKES_MAX: usize = 64;
/// A peer that is not welcomed this long after its first packet is dropped.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 5_000;
/// Most connections to the Unix socket of a directory at once.
pub const LOCAL_CONNECTIONS_MAX: usize = 4_096;
/// Longest message on the Unix socket of a directory, its length not counted.
pub const OWNER_INFO_BYTES_MAX: usize = 4 << 10;
/// Most rights in one grant.
pub const GRANT_RIGHTS_MAX: usize = 64;
/// Longest scope, label or right of a grant, in bytes of UTF-8.
pub const GRANT_TEXT_BYTES_MAX: usize = 255;

/// Bytes that a client may send on its stream before the owner has read them.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes that an owner may send on one stream before the client has read them.
pub const FEED_WINDOW_BYTES: u32 = 2 << 20;
/// Bytes that a peer may send before it is welcomed.
pub const HELLO_WINDOW_BYTES: u32 = 64 << 10;
/// Bytes kept for one connection until they are acknowledged.
pub const SEND_WINDOW_BYTES: u64 = 8 << 20;
/// Bytes of answers that wait for a peer before its next request is read.
pub const ANSWERS_BYTES_MAX: usize = 4 << 20;
/// Bytes of writes in flight of all connections together; above it peers wait their turn.
pub const WRITES_BYTES_MAX: usize = 128 << 20;
/// Bytes of one frame of entries or events, unless a single one is larger.
pub const FEED_FRAME_BYTES: usize = 256 << 10;
/// A subscriber hears how far the store is at least this often, if it moves at all.
pub const BOOKMARK_MS: u64 = 1_000;

/// Least bytes of entries in a block that a replica is compared by, unless it is the last.
pub const BLOCK_BYTES_MIN: u64 = 4 << 10;
/// Bytes of entries that end a block at the latest.
pub const BLOCK_BYTES_MAX: u64 = 256 << 10;
/// Most digests of blocks in one request.
pub const DIGESTS_MAX: usize = 1_024;
/// Most bytes of keys in the digests of one request.
pub const DIGESTS_BYTES_MAX: usize = 256 << 10;
/// Longest an owner that compares waits for the next digests, milliseconds.
pub const DIGESTS_TIMEOUT_MS: u64 = 30_000;
/// Bytes of entries that are digested for one request, about.
pub const DIGEST_STEP_BYTES: u64 = 4 << 20;

/// Bytes of events an owner keeps in memory for all subscribers together; small ones lie there
/// encoded too, once somebody follows.
pub const RING_BYTES_MAX: usize = 64 << 20;
/// Bytes of a replica held whole under `replica="auto"`; above it only what was read is held.
pub const REPLICA_BYTES_AUTO: u64 = 256 << 20;
/// Bytes that one iteration over a replica may keep of what changed since it began.
pub const PIN_BYTES_MAX: u64 = 64 << 20;
/// Most iterations over a replica that are open at once; one more ends the oldest.
pub const PINS_MAX: usize = 1_024;
/// Bytes of writes that a client queues on its own disk while there is no owner.
pub const QUEUE_BYTES_MAX: u64 = 64 << 20;
/// Most writes queued by a client, and conflicts not yet cleared, together.
pub const QUEUE_WRITES_MAX: usize = 65_536;
/// Most queues of one dictionary on one machine, each of one handle at a time.
pub const QUEUES_MAX: u32 = 256;
/// Bytes that a store may take in memory unless told otherwise: a quarter each for changes ahead
/// of the index, the ring of events, the index's cache, and decoded values.
pub const MEMORY_BYTES_DEFAULT: u64 = 256 << 20;
/// Least bytes that a store can be told to take in memory.
pub const MEMORY_BYTES_MIN: u64 = 16 << 20;

/// Most versions of a key in one reply.
pub const HISTORY_VERSIONS_MAX: usize = 16_384;
/// Bytes of the versions in one reply, unless a single one is larger.
pub const HISTORY_BYTES_MAX: usize = 256 << 10;
/// Bytes of log that are read for one reply, about: the segment in which they are reached is read
/// to its end.
pub const HISTORY_LOG_BYTES: u64 = 128 << 20;
/// Most replies without a version that a client takes one after the other: an owner with so much log
/// between two writes of a key keeps far more than anybody does.
pub const HISTORY_EMPTY_PAGES_MAX: u32 = 4096;
/// Versions of a key that a call lists when it is not told how many.
pub const HISTORY_COUNT_DEFAULT: u32 = 1_000;
/// Most revisions of the past that an owner holds open for its peers; the one unused for longest
/// goes first.
pub const PASTS_MAX: usize = 8;
/// A revision of the past that no peer has read for this long is let go.
pub const PAST_IDLE_MS: u64 = 30_000;
/// Most reads of the past that are answered on one connection at once; more wait for their turn.
pub const PAST_READS_IN_FLIGHT_MAX: usize = 4;
/// Most revisions of the past that are being opened for peers at once; more wait for their turn.
pub const PASTS_OPENING_MAX: usize = 2;

/// Bytes of content from which on it is put into chunks, and of each chunk but the last, unless the
/// content is cut by what it holds.
pub const CHUNK_BYTES: usize = 64 << 10;
/// Most plain bytes of a chunk, however it is cut.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Most chunks or nodes that a value names itself.
pub const ROOT_CHILDREN_MAX: usize = 64;
/// Most chunks or nodes that a node names.
pub const NODE_CHILDREN_MAX: usize = 1_024;
/// Most levels of nodes between a value and its chunks.
pub const CHUNK_DEPTH_MAX: u8 = 3;
/// Longest content of a value in chunks.
pub const CONTENT_BYTES_MAX: u64 = 1 << 44;
/// Longest payload of a value in chunks that is read as one value; a longer one is read in pieces.
pub const PAYLOAD_BYTES_WHOLE_MAX: u64 = 4_294_967_295;
/// Values in chunks up to this many bytes are fetched ahead by a peer that holds the dictionary;
/// larger ones when they are read.
pub const CONTENT_BYTES_AHEAD_MAX: u64 = 4 << 20;
/// Longest part of a value in chunks that stands before its content.
pub const CHUNK_HEAD_BYTES_MAX: usize = 4 << 10;
/// Most ids in one request about chunks, and most missing ones that are named in an answer.
pub const CHUNKS_ASKED_MAX: usize = 1_024;
/// Longest frame of an upload of chunks, or of chunks that are fetched, unless one alone is longer.
pub const CHUNK_FRAME_BYTES: usize = 256 << 10;
/// Longest frame of an upload: one chunk of any size, or several, and room for what stands beside.
pub const CHUNK_FRAME_BYTES_MAX: usize = CHUNK_BYTES_MAX + CHUNK_FRAME_BYTES;
/// Most uploads of one connection at once.
pub const UPLOADS_MAX: usize = 2;
/// Most chunks that a connection is known to have, or that are kept for it, at once: a node that is
/// kept stands for all that it lists.
pub const UPLOADED_COUNT_MAX: usize = 1 << 20;

/// Slowest that chunks may come or go, in bytes a second of a handle's timeout: who moves fewer is taken
/// for absent.
pub const LINK_BYTES_PER_SECOND_MIN: u64 = 1 << 10;

/// A peer sends something at least this often.
pub const KEEP_ALIVE_MS: u64 = 1_000;
/// A connection on which nothing was heard for this long is dead.
pub const IDLE_TIMEOUT_MS: u64 = 3_000;
/// How long a call waits by default before it raises.
pub const CALL_TIMEOUT_MS: u64 = 5_000;

/// Bytes of the longest segment of the log that is looked through for its end.
pub const SEGMENT_BYTES_MAX: u64 = 4 << 30;
/// Revisions are set aside on disk in steps of this many, so that none is used twice.
pub const REVISION_STEP: u64 = 1_000_000;
/// How far the revisions of a promoted copy begin behind its last, so that its source, which may go
/// on writing, never gives the same.
pub const PROMOTED_REVISION_STEP: u64 = 1 << 40;
