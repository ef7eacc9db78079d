//! From a call's arguments to the operation that is sent: checked and packed once, here.

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::Revision;
use objsync_proto::limits::{KEY_BYTES_MAX, RANGE_REMOVAL_COUNT_MAX};
use objsync_proto::operation::Operation;
use objsync_proto::wire::KeyRange;
use objsync_proto::{evaluate, key};

use crate::config::Config;
use crate::error::{ObjectError, Result};
use crate::large::{LargeValue, stored_of};

impl Config {
    /// Refuses a change that this handle may not make.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.options.readonly {
            let text = format!("{} was opened by this handle for reading only", self.what);
            return Err(ObjectError::new(ErrorKind::Denied, text));
        }
        Ok(())
    }

    /// Whether a key is one that this handle sees.
    pub(crate) fn sees(&self, key: &[u8]) -> bool {
        self.options
            .range
            .as_ref()
            .is_none_or(|range| range.contains(key))
    }

    /// The part of a range that this handle sees.
    pub(crate) fn clip(&self, range: KeyRange) -> KeyRange {
        match &self.options.range {
            Some(seen) => intersection(seen, &range),
            None => range,
        }
    }

    pub(crate) fn put(&self, key: &[u8], value: &Bytes) -> Result<Operation> {
        Ok(Operation::Put {
            key: self.key(key)?,
            value: self.seal(value)?,
        })
    }

    pub(crate) fn remove(&self, key: &[u8]) -> Result<Operation> {
        Ok(Operation::Delete {
            key: self.key(key)?,
        })
    }

    pub(crate) fn remove_range(&self, range: KeyRange) -> Result<Operation> {
        self.check_writable()?;
        let KeyRange { start, end } = self.clip(range);
        // As many as fit into one transaction, whatever the length of the keys.
        Ok(Operation::DeleteRange {
            start,
            end,
            count_max: RANGE_REMOVAL_COUNT_MAX,
        })
    }

    pub(crate) fn increment(&self, key: &[u8], by: i64) -> Result<Operation> {
        Ok(Operation::Increment {
            key: self.key(key)?,
            by,
        })
    }

    /// All of them in one transaction, or a refusal that names the limit.
    pub(crate) fn batch(&self, changes: Vec<Change>) -> Result<Operation> {
        self.check_writable()?;
        let operation = Operation::Batch { changes };
        evaluate::check(&operation)?;
        Ok(operation)
    }

    pub(crate) fn key(&self, key: &[u8]) -> Result<Bytes> {
        self.check_writable()?;
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let text = format!(
                "key is {} bytes when encoded; the limit is {KEY_BYTES_MAX} bytes",
                key.len()
            );
            return Err(ObjectError::new(ErrorKind::Invalid, text));
        }
        if !self.sees(key) {
            let text = format!(
                "key {} is outside of this handle's range",
                key::describe(key)
            );
            return Err(ObjectError::new(ErrorKind::Invalid, text));
        }
        Ok(Bytes::copy_from_slice(key))
    }

    /// A payload as it is stored, in one piece; of the reference of a large value, which is in chunks
    /// already, what it refers to.
    pub(crate) fn seal(&self, payload: &Bytes) -> Result<Bytes> {
        if LargeValue::is_reference(payload) {
            return stored_of(payload);
        }
        self.packer.seal(payload)
    }

    /// The plain payload of the stored value that a revision put under a key: the same memory, where
    /// it is not compressed; a reference, where it lies in chunks.
    pub(crate) fn open(&self, key: &[u8], revision: Revision, value: Bytes) -> Result<Bytes> {
        self.packer.open(key, revision, value)
    }
}

/// What two ranges have in common; an empty range when that is nothing.
pub(crate) fn intersection(one: &KeyRange, other: &KeyRange) -> KeyRange {
    let start = one.start.clone().max(other.start.clone());
    let end = match (&one.end, &other.end) {
        (Some(one), Some(other)) => Some(one.min(other).clone()),
        (one, other) => one.as_ref().or(other.as_ref()).cloned(),
    };
    let end = end.map(|end| end.max(start.clone()));
    KeyRange { start, end }
}
