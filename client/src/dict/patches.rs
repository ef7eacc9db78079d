//! Changing a part of a value: the owner adds to what is there, so nothing is lost between two who
//! do.

use bytes::Bytes;
use objsync_proto::evaluate;
use objsync_proto::operation::{Operation, Outcome, Patch};

use super::Dict;
use crate::pending::{Pending, Step, unexpected};

impl Dict {
    /// Adds payloads to the end of a list, a missing one counting as empty; returns its new length.
    /// A time to live of the key stays.
    ///
    /// # Errors
    /// `Invalid` when the value is no list, or gets too large; as [`Dict::set`].
    ///
    /// # Examples
    /// ```
    /// use objsync::{Dict, Options, key, value};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let dict = Dict::open(folder.path().join("data.obj"), Options::default())?;
    /// let name = key::encode(&"jobs".into())?;
    /// let jobs = vec![value::to_payload("sweep")?, value::to_payload("wash")?];
    /// assert_eq!(dict.list_append(name.as_bytes(), jobs).wait()?, 2);
    /// let payload = dict.get(name.as_bytes())?.expect("it was made");
    /// assert_eq!(value::from_payload::<Vec<String>>(&payload)?, ["sweep", "wash"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list_append(&self, key: &[u8], items: Vec<Bytes>) -> Pending<u64> {
        self.patch(key, Patch::Append { items })
    }

    /// Adds payloads to a set, a missing one counting as empty; returns how many were not there.
    ///
    /// # Errors
    /// `Invalid` when the value is no set, an item is nothing that a set holds, or the set gets too
    /// large; as [`Dict::set`].
    pub fn set_add(&self, key: &[u8], items: Vec<Bytes>) -> Pending<u64> {
        self.patch(key, Patch::Add { items })
    }

    /// Removes payloads from a set, a missing one counting as empty; returns how many were there.
    ///
    /// # Errors
    /// As [`Dict::set_add`].
    pub fn set_discard(&self, key: &[u8], items: Vec<Bytes>) -> Pending<u64> {
        self.patch(key, Patch::Discard { items })
    }

    fn patch(&self, key: &[u8], patch: Patch) -> Pending<u64> {
        let step = |outcome, _ack| match outcome {
            Outcome::Number(number) => Ok(Step::Done(number.unsigned_abs())),
            other => Err(unexpected(&other)),
        };
        let operation = |config: &crate::config::Config| {
            let key = config.key(key)?;
            let operation = Operation::Patch { key, patch };
            evaluate::check(&operation)?;
            Ok(operation)
        };
        self.write(operation, step)
    }
}
