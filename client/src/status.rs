//! How a handle is.

use std::fmt;
use std::path::PathBuf;

use objsync_proto::ids::{Position, Revision};

/// What a handle is at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// This process holds the store and serves it.
    Owner,
    /// Another process holds it; this one is connected.
    Peer,
    /// Nobody was found yet, or the owner has just gone.
    Offline,
    /// The handle was closed.
    Closed,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owner => "owner",
            Self::Peer => "peer",
            Self::Offline => "offline",
            Self::Closed => "closed",
        })
    }
}

/// How a handle is, from what it knows itself: asking costs no round trip.
#[derive(Debug, Clone)]
pub struct Status {
    /// What the handle is.
    pub role: Role,
    /// Where the store is served, if it is known.
    pub address: Option<String>,
    /// The store's directory, if it is on this machine.
    pub directory: Option<PathBuf>,
    /// The dictionary's name.
    pub namespace: String,
    /// How far this handle has seen the history; none before it first reached an owner.
    pub position: Option<Position>,
    /// The newest revision known to exist.
    pub newest: Revision,
    /// Revisions between what is known to exist and what this handle holds.
    pub lag: u64,
    /// Connected peers, when this handle is the owner.
    pub peers: Option<u32>,
    /// Keys in the dictionary, if that is known without asking.
    pub keys: Option<u64>,
    /// Writes without an answer yet.
    pub unanswered: u32,
    /// Process id of the owner, if it is on this machine.
    pub owner_pid: Option<u32>,
    /// Why the handle is offline, as far as known.
    pub reason: Option<String>,
}
