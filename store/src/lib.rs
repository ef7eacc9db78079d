//! The store under objsync: a log that is the truth, and an index of it that can be made again.
//!
//! One process owns a store's directory (`LOCK`). Every write goes through one order:
//! evaluate, append to the log, sync, commit (recent map, feed), answer; the index follows behind.
//! Calls block; nothing here knows the network.
//!
//! | module | what it knows |
//! |---|---|
//! | [`store`] | the handle that callers hold |
//! | [`options`] | what a store is opened with |
//! | [`error`] | why a call failed |
//! | `commit` | the writer: a role that any caller may take, with group commit |
//! | [`frame`] | how a batch of transactions stands in the log |
//! | [`log`] | segments: append, roll, read, and what a torn tail is |
//! | `recovery` | from files to a running store |
//! | [`epoch`] | changes of owner, and which positions are on this history |
//! | [`sessions`], [`grants`] | who may repeat what, and who gets in |
//! | [`feed`] | the shared ring of what was committed |
//! | [`surfaces`], [`dict`] | who applies effects; the dictionary is the first |
//! | [`state`], `recent`, [`index`], [`reader`] | where values are found, at which revision |
//! | [`told`] | the log as it is told on: parts of values, and the values they lead to |
//! | [`past`], [`versions`] | the state as of an earlier revision; what a key was over time |
//! | [`table`], [`footer`], [`snapshot`] | immutable files of sorted entries, made of closed segments |
//! | [`packs`] | the chunks of large values, each stored once; which of them are dead |
//! | `dictionaries` | zstd dictionaries of the values, opened once |
//! | `leases` | what ends when: leases, times to live, locks |
//! | [`trim`], `keeper`, `upkeep` | what may go, when a snapshot is due, and the threads that see to it |
//! | [`steps`] | the work of these threads, one piece at a time |
//! | [`check`](mod@check) | reads every byte of a closed store |
//! | [`repair`](mod@repair) | saves what is sound of a damaged store |
//! | [`backup`](mod@backup) | copies a store as of one revision, and puts it back |
//! | [`disk`], [`clock`] | the world outside, as traits |

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        reason = "tests cut random numbers to size"
    )
)]

pub mod authority;
pub mod backup;
mod catalog;
pub mod check;
pub mod clock;
mod commit;
mod core;
pub mod dict;
mod dictionaries;
pub mod disk;
pub mod epoch;
pub mod error;
pub mod feed;
pub mod follow;
pub mod footer;
pub mod format;
pub mod frame;
pub mod grants;
mod history;
pub mod index;
mod keeper;
mod leases;
pub mod lock;
pub mod log;
pub mod manifest;
mod merge;
pub mod options;
pub mod packs;
pub mod past;
mod pins;
pub mod poison;
pub mod reader;
mod recent;
mod recovery;
pub mod repair;
pub mod sessions;
pub mod snapshot;
pub mod stamps;
pub mod state;
pub mod status;
pub mod steps;
pub mod store;
pub mod surfaces;
pub mod table;
#[cfg(test)]
mod test_log;
#[cfg(test)]
mod test_random;
pub mod told;
pub mod trim;
mod upkeep;
pub mod versions;

pub use backup::{BackupPart, BackupProgress, BackupReport, backup, restore};
pub use check::{CheckPart, CheckProgress, CheckReport, Problem, check};
pub use error::StoreError;
pub use feed::{Feed, FeedRead, Published};
pub use follow::{
    Applied, ChunkSink, Ship, ShipCursor, Shipped, Stage, Whole, discard_partial, partial_snapshot,
    promote,
};
pub use leases::{FreedLock, Keeper, OnUnlock, UnlockWaker};
pub use options::{IndexKind, StoreLimits, StoreOptions};
pub use packs::{ChunkHold, ChunkPins, ChunkStatus, Chunks, Collected};
pub use past::Past;
pub use reader::{ENTRY_BYTES as PAGE_ENTRY_BYTES, Reader};
pub use repair::{Loss, RepairPart, RepairProgress, RepairReport, repair};
pub use stamps::Stamp;
pub use state::BuildProgress;
pub use status::{Marks, StoreStatus};
pub use steps::Step;
pub use store::{Answer, Store, Stored, Submission, SubmissionOrigin};
pub use told::{LogRead, LogValues, Told};
pub use versions::HistoryPage;
