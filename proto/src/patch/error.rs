//! Why a patch cannot be applied, and how that is told.

use super::locate::describe;
use crate::error::{ErrorKind, Failure};
use crate::key;
use crate::limits::CONTAINER_BYTES_MAX;
use crate::operation::{Edit, Patch};
use crate::value::type_name;

/// Why a patch cannot be applied to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatchError {
    /// There is no such part.
    NotFound {
        /// The way to it, such as `["a"][3]`; empty for the key itself.
        path: String,
    },
    /// The part is of a type that cannot be changed so.
    WrongType {
        /// The way to it.
        path: String,
        /// Its type, as Python calls it.
        found: &'static str,
        /// What would be needed.
        needed: &'static str,
    },
    /// A number passes the limit of 64 bits.
    Overflow {
        /// The way to it.
        path: String,
        /// The number.
        present: i64,
        /// What was to be added.
        by: i64,
    },
    /// The value would grow past [`CONTAINER_BYTES_MAX`].
    TooLarge {
        /// The length of its payload then.
        bytes: u64,
    },
    /// The value is no whole payload.
    Malformed,
}

impl PatchError {
    /// As the caller is told, who asked it of the value of `key`.
    #[must_use]
    pub fn failure(&self, key: &[u8]) -> Failure {
        let name = key::describe(key);
        let (kind, message) = match self {
            Self::NotFound { path } if path.is_empty() => {
                (ErrorKind::NotFound, format!("there is no key {name}"))
            }
            Self::NotFound { path } => {
                let text = format!("value of key {name} has no part {path}");
                (ErrorKind::NotFound, text)
            }
            Self::WrongType {
                path,
                found,
                needed,
            } => {
                let text = format!("value of key {name}{path} is {found}; {needed}");
                (ErrorKind::Invalid, text)
            }
            Self::Overflow { path, present, by } => {
                let text = format!(
                    "value of key {name}{path} is {present}; adding {by} passes the limit of 64 \
                     bits"
                );
                (ErrorKind::Invalid, text)
            }
            Self::TooLarge { bytes } => {
                let text = format!(
                    "value of key {name} would be {bytes} bytes; the limit of a value that grows \
                     by parts is {CONTAINER_BYTES_MAX} bytes: use one key per item"
                );
                (ErrorKind::Invalid, text)
            }
            Self::Malformed => {
                let text = format!("value of key {name} is no whole value");
                (ErrorKind::Corrupt, text)
            }
        };
        Failure::new(kind, message)
    }
}

pub(super) fn wrong_type(part: &[u8], patch: &Patch) -> PatchError {
    let needed = match &patch.edit {
        Edit::Append { .. } => "appending needs a list",
        Edit::Remove { .. } => "removing an element needs a list",
        Edit::Splice { .. } => "changing elements needs a list",
        Edit::Add { .. } | Edit::Discard { .. } => "adding and discarding need a set",
        Edit::SetField { .. } | Edit::DeleteField { .. } | Edit::Merge { .. } => {
            "changing fields needs a dict"
        }
        Edit::Clear => "clearing needs a dict, a list or a set",
        Edit::AddNumber { .. } => "adding needs an int of 64 bits",
        Edit::Replace { .. } => "it cannot be replaced",
    };
    PatchError::WrongType {
        path: describe(&patch.path),
        found: type_name(part),
        needed,
    }
}
