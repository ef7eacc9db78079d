//! Changing a part of a value: the owner changes what is there, so nothing is lost between two who
//! do.

use bytes::Bytes;
use objsync_proto::evaluate;
use objsync_proto::ids::Ack;
use objsync_proto::operation::{Edit, Operation, Outcome, Patch};

use super::Dict;
use crate::error::ObjectError;
use crate::pending::{Pending, Step, unexpected};

impl Dict {
    /// Changes a part of a value: sends the change, not the value, and the owner decides it on what
    /// is there. Returns the number that [`Edit`] says, and where the write stands. A time to live of
    /// the key stays.
    ///
    /// What names an index or an order needs the revision that [`Dict::fetch_entry`] gave.
    ///
    /// # Errors
    /// [`ObjectError::Moved`] when the value was written since by another revision than the patch's;
    /// `NotFound` when there is no such key or part; `Invalid` when the part is of a type that
    /// cannot be changed so, or the value gets too large; as [`Dict::set`]. Nothing is changed then.
    ///
    /// # Examples
    /// ```
    /// use objsync::{Dict, Edit, Options, Patch, PatchStep, Value, key, value};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let dict = Dict::open(folder.path().join("data.obj"), Options::default())?;
    /// let name = key::encode(&"config".into())?;
    /// let inner = Value::Dict(vec![("y".into(), 1.into())]);
    /// let whole = Value::Dict(vec![("x".into(), inner)]);
    /// dict.set(name.as_bytes(), value::encode(&whole)?).wait()?;
    /// let patch = Patch {
    ///     path: vec![PatchStep::Field { key: value::to_payload("x")? }],
    ///     revision: None,
    ///     create: false,
    ///     edit: Edit::SetField {
    ///         field: value::to_payload("y")?,
    ///         value: value::to_payload(&3)?,
    ///     },
    /// };
    /// assert_eq!(dict.patch(name.as_bytes(), patch).wait()?.0, 0, "y is no new field");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn patch(&self, key: &[u8], patch: impl Into<Patch>) -> Pending<(i64, Ack)> {
        self.patched(key, patch.into(), |number, ack| (number, ack))
    }

    fn patched<T: 'static>(&self, key: &[u8], patch: Patch, done: fn(i64, Ack) -> T) -> Pending<T> {
        let handle = self.clone();
        let step = move |outcome, ack| match outcome {
            Outcome::Number(number) => Ok(Step::Done(done(number, ack))),
            Outcome::Conflict { key, revision } => {
                let core = handle.core()?;
                core.note_seen(revision);
                let what = core.config.what.clone();
                Err(ObjectError::Moved { what, key })
            }
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
        self.patched(key, Edit::Append { items }.into(), count)
    }

    /// Adds payloads to a set, a missing one counting as empty; returns how many were not there.
    ///
    /// # Errors
    /// `Invalid` when the value is no set, an item is nothing that a set holds, or the set gets too
    /// large; as [`Dict::set`].
    pub fn set_add(&self, key: &[u8], items: Vec<Bytes>) -> Pending<u64> {
        self.patched(key, Edit::Add { items }.into(), count)
    }

    /// Removes payloads from a set, a missing one counting as empty; returns how many were there.
    ///
    /// # Errors
    /// As [`Dict::set_add`].
    pub fn set_discard(&self, key: &[u8], items: Vec<Bytes>) -> Pending<u64> {
        self.patched(key, Edit::Discard { items }.into(), count)
    }
}

fn count(number: i64, _ack: Ack) -> u64 {
    number.unsigned_abs()
}
