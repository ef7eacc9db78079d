//! What was decided: the content of the log, of the feed and of every replica.
//!
//! An effect holds no condition and no request, so every version and every peer that applies it
//! reaches the same state. Applying is idempotent: an entry that is already at the transaction's
//! revision or later is left alone.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::ids::{ChunkId, NamespaceId, Origin, Revision, SurfaceId};
use crate::operation::Outcome;

/// One step of the history: all of its effects happen, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its place in the one order.
    pub revision: Revision,
    /// The owner's clock when it was decided, milliseconds since 1970.
    pub time_ms: u64,
    /// Who asked, when the caller has a session.
    pub origin: Option<Origin>,
    /// Why it happened.
    pub cause: Cause,
    /// What the caller was answered, kept so that a repeat gets the same.
    pub result: Result<Outcome, Failure>,
    /// What changed. Empty for an operation that found nothing to do.
    pub effects: Vec<Effect>,
}

/// Why a transaction happened. The numbers are part of the wire and of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Cause {
    /// Somebody put or removed whole values.
    #[default]
    Write,
    /// A time to live or a lease ended; nobody asked.
    Expiry,
    /// Somebody changed a part of a value: added to a list or a set.
    Patch,
}

impl Cause {
    /// The number on the wire and in the log.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Write => 0,
            Self::Expiry => 1,
            Self::Patch => 2,
        }
    }

    /// The cause with this number; none if it is not known here.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Write),
            1 => Some(Self::Expiry),
            2 => Some(Self::Patch),
            _ => None,
        }
    }
}

impl From<Cause> for u8 {
    fn from(cause: Cause) -> Self {
        cause.number()
    }
}

impl TryFrom<u8> for Cause {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        Self::from_number(number).ok_or_else(|| format!("a transaction has no cause {number}"))
    }
}

/// One change of one surface, opaque to the store but for where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// Which surface applies it.
    pub surface: SurfaceId,
    /// Within which namespace.
    pub namespace: NamespaceId,
    /// The chunks it needs, which must be durable before it is logged.
    pub chunks: Vec<ChunkId>,
    /// The surface's own encoding; for the dictionary a [`Change`] or a [`KeyPatch`].
    pub body: Bytes,
}

/// An effect of the dictionary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The encoded key (see `proto::key`).
    pub key: Bytes,
    /// The stored value (see `proto::stored`), or none when the key is deleted.
    pub value: Option<Bytes>,
}

/// A change of a part of a value: what was done, without the rest of the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPatch {
    /// The encoded key.
    pub key: Bytes,
    /// The revision of the entry that it changes: on any other it means something else.
    pub base: Revision,
    /// What was done, as `proto::patched` writes it.
    pub edit: Bytes,
}
