//! The dictionary that other programs share live: on disk when a write returns, in every peer's
//! memory a moment later.
//!
//! | you write | the store is |
//! |---|---|
//! | [`Dict::open`] | a directory, owned by this process or by the one that was first |
//! | [`Dict::connect`] | the one served at an address, or named by a link |
//! | [`Dict::serve_at`] | a directory, served at an address of your choice |
//!
//! [`Dict`] works on encoded keys and values.

mod calls;
mod config;
mod connection;
mod core;
mod dict;
mod error;
mod fork;
mod generation;
pub mod home;
mod link;
mod operations;
mod options;
mod owned;
mod owner;
mod pending;
mod pipeline;
mod process;
mod read;
mod replica;
mod scan;
mod seek;
mod status;
mod wait;
mod watch;

pub use bytes::Bytes;
pub use objsync_proto::effect::Change;
pub use objsync_proto::error::{ErrorKind, Failure};
pub use objsync_proto::ids::{
    Ack, Durability, Epoch, Origin, PeerKey, Position, Revision, Sequence, SessionId, StoreId,
};
pub use objsync_proto::stored::PAYLOAD_BYTES_MAX;
pub use objsync_proto::wire::{Grant, KeyRange, OwnerStatus};
pub use objsync_proto::{bigint, key, limits, value};

pub use crate::dict::{Dict, Stamp};
pub use crate::error::{ObjectError, Result};
pub use crate::link::{GrantRequest, Link};
pub use crate::options::{Options, ReplicaMode, Target, prefix_range};
pub use crate::pending::Pending;
pub use crate::pipeline::Pipeline;
pub use crate::scan::Scan;
pub use crate::status::{Role, Status};
pub use crate::wait::set_interrupt_check;
pub use crate::watch::{ChangeKind, Watch, WatchCallback, WatchEvent};
