//! The stable classes of errors: a number on the wire, a class in Python, a remedy for the caller.

use serde::{Deserialize, Serialize};

use crate::limits::ERROR_BYTES_MAX;

/// What a caller can do about a failure.
///
/// The number goes over the wire and is never reused or renumbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum ErrorKind {
    /// The request itself is wrong (too large, wrong type, malformed): change it.
    Invalid = 1,
    /// There is no such key, namespace or link.
    NotFound = 2,
    /// Something changed in between: read again and decide again.
    Conflict = 3,
    /// This peer may not do that: a link with more rights is needed.
    Denied = 4,
    /// Nobody answers, or not in time, and nothing was done: trying again is safe.
    Unavailable = 5,
    /// Stored bytes are damaged: `objsync check` tells where.
    Corrupt = 6,
    /// The disk or a bound of the store is full: make room.
    Full = 7,
    /// The object is closed, or its store refuses writes after a failed one: open it again.
    Closed = 8,
    /// The write may or may not have happened, and cannot be asked about any more.
    OutcomeUnknown = 9,
    /// A format or protocol version this program does not know: upgrade it.
    Unsupported = 10,
    /// The caller was interrupted while it waited.
    Interrupted = 11,
}

impl ErrorKind {
    /// Every kind, in the order of the wire numbers.
    pub const ALL: [Self; 11] = [
        Self::Invalid,
        Self::NotFound,
        Self::Conflict,
        Self::Denied,
        Self::Unavailable,
        Self::Corrupt,
        Self::Full,
        Self::Closed,
        Self::OutcomeUnknown,
        Self::Unsupported,
        Self::Interrupted,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind with this wire number; an unknown number is [`ErrorKind::Unsupported`].
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        Self::ALL
            .into_iter()
            .find(|kind| kind.number() == number)
            .unwrap_or(Self::Unsupported)
    }
}

impl Serialize for ErrorKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

impl<'de> Deserialize<'de> for ErrorKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u8::deserialize(deserializer).map(Self::from_number)
    }
}

/// A failure as it crosses the wire or stands in the log as the result of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What the caller can do about it.
    pub kind: ErrorKind,
    /// The thing, the value and the limit, in that order, for a person to read.
    pub message: String,
}

impl Failure {
    /// A failure of `kind`; a message over [`ERROR_BYTES_MAX`] is cut at a character.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        let cut = (0..=ERROR_BYTES_MAX)
            .rev()
            .find(|place| message.is_char_boundary(*place));
        message.truncate(cut.unwrap_or(0));
        Self { kind, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_from_its_number() {
        for (place, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(
                usize::from(kind.number()),
                place + 1,
                "numbers have no gaps"
            );
            assert_eq!(ErrorKind::from_number(kind.number()), kind);
        }
        assert_eq!(ErrorKind::from_number(0), ErrorKind::Unsupported);
        assert_eq!(ErrorKind::from_number(255), ErrorKind::Unsupported);
    }

    #[test]
    fn long_message_is_cut_at_a_character() {
        let failure = Failure::new(ErrorKind::Invalid, "\u{20ac}".repeat(ERROR_BYTES_MAX));
        assert!(failure.message.len() <= ERROR_BYTES_MAX);
        assert!(failure.message.chars().all(|c| c == '\u{20ac}'));
    }
}
