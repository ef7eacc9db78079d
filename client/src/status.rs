//! How a handle is.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use objsync_proto::ids::{Position, Revision};

use crate::config::Config;
use crate::core::{Core, Phase};
use crate::error::ObjectError;
use crate::packing::CompressionStatus;
use crate::replica::Extent;

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
    /// For how long nobody has told this handle of changes: zero for an owner and while connected.
    pub stale: Duration,
    /// Writes that wait on this machine's disk, of a handle that queues them.
    pub queued: u64,
    /// How it compresses, of a handle that does.
    pub compression: Option<CompressionStatus>,
    /// Writes that were queued and came to something else: see [`crate::Dict::conflicts`].
    pub conflicts: u64,
}

impl Status {
    /// Of a handle that is in use.
    pub(crate) fn of(core: &Core) -> Self {
        let mut status = Self::empty(&core.config);
        status.unanswered = core.unanswered();
        status.stale = core.staleness();
        status.compression = core.config.packer.status();
        if let Some(offline) = &core.offline {
            status.queued = offline.count();
            status.conflicts = offline.conflict_count();
        }
        if let Some(owner) = core.owner() {
            let position = owner.position();
            status.role = Role::Owner;
            status.address = owner.owned().address().map(|address| address.to_string());
            status.directory = Some(owner.owned().directory().to_owned());
            status.position = Some(position);
            status.newest = position.revision;
            status.peers = Some(owner.owned().peers());
            status.keys = owner.store().count_at_once(owner.namespace());
            status.owner_pid = Some(std::process::id());
        } else {
            let applied = Revision(core.replica.applied());
            status.position = core.replica.position();
            status.newest = applied.max(Revision(core.acked()));
            status.lag = status.newest.0 - applied.0;
            if core.replica.extent() == Extent::Whole {
                status.keys = core.replica.count();
            }
            status.see_phase(core.phase());
        }
        if core.check_open().is_err() {
            status.role = Role::Closed;
        }
        status
    }

    /// Of a handle that cannot be used.
    pub(crate) fn closed(config: &Config, error: &ObjectError) -> Self {
        let reason = Some(error.to_string());
        Self {
            role: Role::Closed,
            reason,
            ..Self::empty(config)
        }
    }

    fn see_phase(&mut self, phase: Phase) {
        match phase {
            Phase::Seeking { reason, .. } => self.reason = reason,
            Phase::Peer { address, pid } => {
                self.role = Role::Peer;
                self.address = Some(address.to_string());
                self.owner_pid = pid;
            }
            Phase::Failed(error) => self.reason = Some(error.to_string()),
            Phase::Owner | Phase::Closed => {}
        }
    }

    fn empty(config: &Config) -> Self {
        Self {
            role: Role::Offline,
            address: None,
            directory: config.local_directory().ok().flatten(),
            namespace: config.options.namespace.clone(),
            position: None,
            newest: Revision(0),
            lag: 0,
            peers: None,
            keys: None,
            unanswered: 0,
            owner_pid: None,
            reason: None,
            stale: Duration::ZERO,
            queued: 0,
            compression: None,
            conflicts: 0,
        }
    }
}
