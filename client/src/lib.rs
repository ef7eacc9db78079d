//! The dictionary that other programs share live: on disk when a write returns, in every peer's
//! memory a moment later.
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! let prices = objsync::DiskObject::open(folder.path().join("prices.obj"))?;
//! prices.set("apple", &1.25)?;
//! assert_eq!(prices.get::<f64>("apple")?, Some(1.25));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | you write | the store is |
//! |---|---|
//! | [`DiskObject::open`] | a directory, owned by this process or by the one that was first |
//! | [`CompressedDiskObject::open`] | the same, with values compressed |
//! | [`NetworkObject::connect`] | the one served at an address, or named by a link |
//! | [`Dict::serve_at`] | a directory, served at an address of your choice |
//!
//! The objects take any serde type under any [`Key`]; [`Dict`] under them works on encoded keys
//! and payloads ([`mod@key`], [`mod@value`]); [`aio`] has the same names, awaitable.
//!
//! | module | what it knows |
//! |---|---|
//! | `objects`, [`aio`] | the typed faces |
//! | `dict`, `pending`, `pipeline`, `scan`, `past`, `watch` | the bytes-level face |
//! | `core` | what is behind a handle: its role, and the calls on their way |
//! | `seek`, `owned`, `owner` | finding the owner, becoming it, being it |
//! | `connection`, `calls`, `replica`, `read` | being a peer |
//! | `large` | values that lie in chunks |
//! | `transaction`, `moment` | several reads and writes as one, and the moment they read |
//! | `lease`, `lock`, `presence` | what is there only as long as somebody keeps it |
//! | `process`, `generation`, `fork` | what a process has one of, and what a fork does to it |
//! | `wait` | how a thread waits |
//! | `surroundings` | what a handle takes from outside |
//! | [`home`], `link`, `config`, `options`, `memory` | where things lie, and what a handle was asked for |

pub mod aio;
mod backup;
mod calls;
mod check;
mod config;
mod connection;
mod core;
mod dict;
mod error;
mod follower;
mod fork;
mod generation;
mod held;
pub mod home;
mod hub;
mod large;
mod lease;
mod link;
mod lock;
mod memory;
mod moment;
mod objects;
mod offline;
mod operations;
mod options;
mod outcome;
mod owned;
mod owner;
mod packing;
mod page;
mod parts;
mod past;
mod pending;
mod pipeline;
mod presence;
mod process;
mod read;
mod replica;
mod scan;
mod seek;
mod status;
mod surroundings;
mod transaction;
mod wait;
mod watch;

pub use bytes::Bytes;
pub use objsync_proto::cut::Chunking;
pub use objsync_proto::effect::Change;
pub use objsync_proto::error::{ErrorKind, Failure};
pub use objsync_proto::ids::{
    Ack, Durability, Epoch, FrameIndex, LeaseId, NamespaceId, Origin, PeerKey, Position, Revision,
    Sequence, SessionId, StoreId,
};
pub use objsync_proto::key::Key;
pub use objsync_proto::operation::{Edit, Outcome, Patch, Step as PatchStep};
pub use objsync_proto::stored::{PAYLOAD_BYTES_MAX, frame};
pub use objsync_proto::value::Value;
pub use objsync_proto::wire::{FollowStatus, Gap, Grant, IndexBuild, KeyRange, OwnerStatus};
pub use objsync_proto::{bigint, key, limits, patch, value};
pub use objsync_store::backup::{BackupPart, BackupProgress, BackupReport};
pub use objsync_store::check::{CheckPart, CheckProgress, CheckReport, Problem};
pub use objsync_store::repair::{Loss, RepairPart, RepairProgress, RepairReport};

pub use crate::backup::{backup, repair, restore};
pub use crate::check::{check, store_of};
pub use crate::dict::{Dict, Stamp};
pub use crate::error::{ObjectError, Result};
pub use crate::follower::{Follower, promote};
pub use crate::large::{LargeReader, LargeValue, LargeWriter};
pub use crate::lease::Lease;
pub use crate::link::{GrantRequest, Link};
pub use crate::lock::Lock;
pub use crate::memory::{memory_bytes, parse_memory};
pub use crate::objects::{
    Batch, CompressedDiskObject, DiskObject, Entries, NetworkObject, Object, PastObject,
    TransactionEntries, TypedPipeline, TypedTransaction,
};
pub use crate::offline::Conflict;
pub use crate::options::{OfflineMode, Options, ReplicaMode, Target, prefix_range};
pub use crate::outcome::Done;
pub use crate::packing::CompressionStatus;
pub use crate::past::{Past, Version};
pub use crate::pending::Pending;
pub use crate::pipeline::Pipeline;
pub use crate::presence::Presence;
pub use crate::scan::Scan;
pub use crate::status::{Role, Status};
pub use crate::surroundings::Surroundings;
pub use crate::transaction::{Attempts, Transaction, TransactionScan};
pub use crate::wait::set_interrupt_check;
pub use crate::watch::{ChangeKind, Watch, WatchCallback, WatchEvent};
