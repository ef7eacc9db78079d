//! Transactions as the log has them, and the whole values that parts in them lead to.
//!
//! Who holds the values follows by the parts alone ([`Told::event`]). For everybody else
//! [`LogValues`] puts the values together: from what the log said before, as far as that is kept,
//! else from snapshot and footers.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use objsync_proto::effect::{Cause, Change, KeyPatch};
use objsync_proto::ids::{NamespaceId, Origin, Revision};
use objsync_proto::patched;
use objsync_proto::wire::Event;

use crate::dict::Logged;
use crate::error::StoreError;
use crate::feed::Published;
use crate::history::{self, LogHistory, Walk};
use crate::index::{Index, LayeredIndex};
use crate::log::log_directory;
use crate::state::LoggedChanges;
use crate::store::{Store, Stored};

/// Values kept in case that parts of them follow.
const VALUES_BYTES_MAX: usize = 8 << 20;
/// What a value takes beside its bytes, about.
const VALUE_BYTES: usize = 200;
/// Bytes that a transaction counts beside its changes, as one of the ring does.
const TOLD_BYTES: usize = 160;
/// Bytes that a change counts beside its key and what it says.
const CHANGE_BYTES: usize = 80;

/// A transaction of the log: its changes of the dictionary, of some only the part that changed.
#[derive(Debug)]
pub struct Told {
    /// Its place in the one order.
    pub revision: Revision,
    /// The owner's clock when it was decided, milliseconds since 1970.
    pub time_ms: u64,
    /// Who asked for it.
    pub origin: Option<Origin>,
    /// Why it happened.
    pub cause: Cause,
    /// What changed, in order.
    pub changes: LoggedChanges,
}

impl Told {
    /// What happened to the keys of a namespace that `is_wanted` says, changes of parts by the
    /// part; none if nothing did.
    pub fn event(
        &self,
        namespace: NamespaceId,
        is_wanted: &dyn Fn(&[u8]) -> bool,
    ) -> Option<Event> {
        let mut event = Event {
            revision: self.revision,
            time_ms: self.time_ms,
            origin: self.origin,
            cause: self.cause,
            changes: Vec::new(),
            patches: Vec::new(),
        };
        for (of, change) in &self.changes {
            if *of == namespace && is_wanted(change.key()) {
                match change {
                    Logged::Whole(change) => event.changes.push(change.clone()),
                    Logged::Patch(patch) => event.patches.push(patch.clone()),
                }
            }
        }
        (!event.changes.is_empty() || !event.patches.is_empty()).then_some(event)
    }

    /// Bytes it counts towards the bound of a read.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let says = |change: &Logged| match change {
            Logged::Whole(change) => change.value.as_ref().map_or(0, Bytes::len),
            Logged::Patch(patch) => patch.edit.len(),
        };
        let changes = self.changes.iter();
        let changes = changes.map(|(_, one)| CHANGE_BYTES + one.key().len() + says(one));
        TOLD_BYTES + changes.sum::<usize>()
    }
}

/// What is left in the log.
#[derive(Debug)]
pub enum LogRead<T = Published> {
    /// The next transactions; empty at the end.
    Transactions(Vec<T>),
    /// The log no longer reaches back that far.
    Trimmed,
}

impl Store {
    /// Committed transactions after a revision, from the log, until they hold `bytes_max` bytes;
    /// at least one if there is one. Where parts of values changed, the values are put together,
    /// which can cost a look into snapshot and log; who reads on uses [`Store::read_log_on`].
    pub fn read_log(&self, after: Revision, bytes_max: usize) -> Result<LogRead, StoreError> {
        self.read_log_on(&mut LogValues::default(), after, bytes_max)
    }

    /// As [`Store::read_log`], with what earlier reads have found.
    pub fn read_log_on(
        &self,
        values: &mut LogValues,
        after: Revision,
        bytes_max: usize,
    ) -> Result<LogRead, StoreError> {
        let history = &self.core().history;
        self.read((after, bytes_max), Published::bytes, &mut |told| {
            values.published(history, told)
        })
    }

    /// As [`Store::read_log`], with the parts of values alone, as the log has them.
    pub fn read_log_by_part(
        &self,
        after: Revision,
        bytes_max: usize,
    ) -> Result<LogRead<Told>, StoreError> {
        self.read((after, bytes_max), Told::bytes, &mut |told| Ok(Some(told)))
    }

    fn read<T>(
        &self,
        (after, bytes_max): (Revision, usize),
        bytes_of: impl Fn(&T) -> usize,
        each: &mut dyn FnMut(Told) -> Result<Option<T>, StoreError>,
    ) -> Result<LogRead<T>, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        let mut read = Vec::new();
        let (mut bytes, mut is_trimmed) = (0, false);
        let history = &core.history;
        let walk = history.walk(after, core.committed(), &mut |logged| {
            let Some(one) = each(history::told(logged)?)? else {
                is_trimmed = true;
                return Ok(false);
            };
            bytes += bytes_of(&one);
            if bytes > bytes_max && !read.is_empty() {
                return Ok(false);
            }
            read.push(one);
            Ok(true)
        })?;
        Ok(match walk {
            Walk::Trimmed => LogRead::Trimmed,
            Walk::Done if is_trimmed && read.is_empty() => LogRead::Trimmed,
            Walk::Done => LogRead::Transactions(read),
        })
    }
}

/// The value that a patch makes of the entry that is there, or why that is not the one it was
/// decided on.
pub(crate) fn whole(there: Option<&Stored>, patch: &KeyPatch) -> Result<Bytes, String> {
    let key = || objsync_proto::key::describe(&patch.key);
    let base = there.filter(|there| there.revision == patch.base);
    let base = base.ok_or_else(|| {
        let found = there.map_or(String::from("no entry"), |there| {
            format!("an entry of revision {}", there.revision)
        });
        let base = patch.base;
        format!(
            "a patch of key {} changes revision {base}, and {found} is there",
            key()
        )
    })?;
    let value = patched::apply(&base.value, std::slice::from_ref(&patch.edit));
    value.map_err(|error| format!("a patch of key {} cannot be applied: {error}", key()))
}

/// The values behind the parts in a log that is read on from some revision. Keeps what it has read
/// lately, so that parts that follow each other cost no look at the files; bounded memory.
#[derive(Default)]
pub struct LogValues {
    held: HashMap<(NamespaceId, Bytes), Stored>,
    /// The order in which they came; a key stands there once for each value.
    order: VecDeque<(NamespaceId, Bytes, Revision)>,
    bytes: usize,
    /// Everything as of some earlier revision.
    before: Option<LayeredIndex>,
}

impl LogValues {
    /// A transaction of the log with all its values; none if what it changes is no longer kept.
    pub(crate) fn published(
        &mut self,
        history: &LogHistory,
        told: Told,
    ) -> Result<Option<Published>, StoreError> {
        let Told { revision, .. } = told;
        let mut changes = Vec::with_capacity(told.changes.len());
        let mut patches = Vec::with_capacity(told.changes.len());
        for (namespace, change) in told.changes {
            let (change, patch) = match change {
                Logged::Whole(change) => (change, None),
                Logged::Patch(patch) => {
                    let Some(base) = self.base(history, namespace, &patch, revision)? else {
                        return Ok(None);
                    };
                    let value = whole(Some(&base), &patch).map_err(|what| {
                        StoreError::corrupt(&log_directory(&history.directory), 0, what)
                    })?;
                    let key = patch.key.clone();
                    let value = Some(value);
                    (Change { key, value }, Some(patch))
                }
            };
            self.keep(namespace, &change, revision);
            changes.push((namespace, change));
            patches.push(patch);
        }
        if patches.iter().all(Option::is_none) {
            patches.clear();
        }
        let by = (told.origin, told.cause);
        let published = Published::new(revision, told.time_ms, by, changes);
        Ok(Some(published.with_patches(patches)))
    }

    /// The entry that a patch changes.
    fn base(
        &mut self,
        history: &LogHistory,
        namespace: NamespaceId,
        patch: &KeyPatch,
        revision: Revision,
    ) -> Result<Option<Stored>, StoreError> {
        let is_it = |stored: &&Stored| stored.revision == patch.base;
        let held = self.held.get(&(namespace, patch.key.clone()));
        if let Some(stored) = held.filter(is_it) {
            return Ok(Some(stored.clone()));
        }
        if let Some(before) = &self.before
            && let Some(stored) = before.get(namespace, &patch.key)?
            && is_it(&&stored)
        {
            return Ok(Some(stored));
        }
        let just_before = Revision(revision.0.saturating_sub(1));
        self.before = history.layered_at(just_before)?;
        let Some(before) = &self.before else {
            return Ok(None);
        };
        let stored = before.get(namespace, &patch.key)?;
        Ok(Some(stored.unwrap_or(Stored {
            value: Bytes::new(),
            revision: Revision(0),
        })))
    }

    /// Keeps a value in case that a part of it changes next.
    fn keep(&mut self, namespace: NamespaceId, change: &Change, revision: Revision) {
        let key = (namespace, Bytes::copy_from_slice(&change.key));
        let cost = |key: &Bytes, stored: &Stored| VALUE_BYTES + key.len() + stored.value.len();
        let Some(value) = &change.value else {
            if let Some(old) = self.held.remove(&key) {
                self.bytes -= cost(&key.1, &old);
            }
            return;
        };
        // A copy: a piece of a frame would keep all of it.
        let value = Bytes::copy_from_slice(value);
        let stored = Stored { value, revision };
        self.bytes += cost(&key.1, &stored);
        self.order.push_back((namespace, key.1.clone(), revision));
        if let Some(old) = self.held.insert(key.clone(), stored) {
            self.bytes -= cost(&key.1, &old);
        }
        while self.bytes > VALUES_BYTES_MAX || self.order.len() > 2 * self.held.len() + 64 {
            let Some((namespace, key, revision)) = self.order.pop_front() else {
                break;
            };
            let key = (namespace, key);
            let is_it = |stored: &Stored| stored.revision == revision;
            if self.held.get(&key).is_some_and(is_it)
                && let Some(old) = self.held.remove(&key)
            {
                self.bytes -= cost(&key.1, &old);
            }
        }
    }
}
