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
//! | [`operation`] | what a caller asks for, and what came of it |
//! | [`effect`] | what was decided: the content of the log and of the feed |
//! | [`wire`] | the messages between a peer and an owner |

pub mod effect;
pub mod error;
pub mod ids;
pub mod limits;
pub mod operation;
pub mod wire;
