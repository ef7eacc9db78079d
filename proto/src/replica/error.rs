//! Why a subscription cannot go on.

use crate::error::Failure;
use crate::ids::Revision;
use crate::key::KeyError;
use crate::limits::VALUE_BYTES_MAX;

/// Why a subscription cannot go on. Drop it and subscribe anew; what was held stays readable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// A frame that cannot come here.
    #[error("feed sent {frame} while {phase}")]
    OutOfPlace {
        /// Which frame.
        frame: &'static str,
        /// What the replica was doing.
        phase: &'static str,
    },
    /// The history went backwards.
    #[error("feed went back from revision {from} to {to}")]
    Backwards {
        /// What had been reached.
        from: Revision,
        /// What came.
        to: Revision,
    },
    /// Entries that are not in key order.
    #[error("feed sent an entry for key {0} out of order")]
    OutOfOrder(String),
    /// A block that is outside the range, or not behind the one before.
    #[error("feed sent a block from key {0} out of place")]
    BlockOutOfPlace(String),
    /// The end of a difference that was not announced.
    #[error("feed ended a difference at revision {0}, which it had not announced")]
    OtherDifference(Revision),
    /// A key outside the range asked for.
    #[error("feed sent key {0}, which is outside the range asked for")]
    OutOfRange(String),
    /// Bytes that are no key.
    #[error("feed sent a bad key")]
    BadKey(#[source] KeyError),
    /// A value over the limit.
    #[error(
        "feed sent a value of {bytes} bytes for key {key}; the limit is {VALUE_BYTES_MAX} bytes"
    )]
    ValueTooLarge {
        /// Its key.
        key: String,
        /// Its length.
        bytes: usize,
    },
    /// A part of a value that is not held, or is another one, or an edit that does not fit it. With
    /// whole values, from where the replica stands, it can go on.
    #[error("feed sent a part of the value of key {key} at revision {revision}: {what}")]
    Unpatchable {
        /// Its key.
        key: String,
        /// When it was changed.
        revision: Revision,
        /// Why it cannot be applied.
        what: String,
    },
    /// The owner ended the subscription.
    #[error("owner ended the subscription")]
    Failed(#[source] Failure),
}
