//! What objsync's parts agree on: ids, keys, values, operations, frames, limits, errors, and the
//! rules by which a client's session and replica follow an owner.
//!
//! Nothing here does I/O, reads a clock or draws a random number: time, chance and bytes come in
//! as arguments, so a test or a simulator drives exactly the code that ships.
//!
//! | module | what it knows |
//! |---|---|
//! | [`limits`] | every bound, with its unit in the name |
//! | [`ids`] | store, epoch, revision, session, namespace: a type for each number |
//! | [`error`] | the stable classes of errors that callers act on |
//! | [`key`] | what may be a key, and its bytes, whose order is key order |
//! | [`value`] | what may be a value, and its MessagePack payload |
//! | [`bigint`] | integers of any size |
//! | [`cut`] | where a large value is cut into chunks |
//! | [`stored`] | how the store keeps a value: a header and the packed payload |
//! | [`chunk`] | the pieces of a large value, and the tree over them |
//! | [`stored_chunks`] | how the store keeps a value whose content lies in chunks |
//! | [`dictionary`] | zstd dictionaries, by which small values shrink |
//! | [`operation`] | what a caller asks for, and what came of it |
//! | [`evaluate`] | what an operation comes to, given what the dictionary holds |
//! | [`patch`] | what a change of a part makes of a value |
//! | [`lease`] | how leases, times to live and locks stand in the store |
//! | [`patched`] | patches that were decided, and what they make of a value |
//! | [`effect`] | what was decided: the content of the log and of the feed |
//! | [`session`] | exactly once: the client's side, and the results an owner keeps |
//! | [`replica`] | a copy of a dictionary that follows its owner |
//! | [`link`] | the text that lets somebody else in |
//! | [`wire`] | the messages between a peer and an owner |

pub mod bigint;
pub mod chunk;
pub mod cut;
pub mod dictionary;
pub mod digest;
pub mod effect;
pub mod error;
pub mod evaluate;
pub mod ids;
pub mod key;
pub mod lease;
pub mod limits;
pub mod link;
mod numbered;
pub mod operation;
pub mod patch;
pub mod patched;
pub mod replica;
pub mod session;
pub mod stored;
pub mod stored_chunks;
pub mod value;
pub mod wire;
