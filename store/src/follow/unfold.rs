//! The whole values behind the parts in frames of a source, before any of the frames is appended.

use std::collections::HashMap;

use bytes::Bytes;
use objsync_proto::effect::{Change, KeyPatch};
use objsync_proto::ids::{NamespaceId, Revision};
use objsync_proto::limits::TRANSACTION_BYTES_MAX;

use crate::commit::BATCH_VALUE_BYTES;
use crate::core::Core;
use crate::dict::Logged;
use crate::error::StoreError;
use crate::frame::LoggedTransaction;
use crate::history::dict_changes;
use crate::state::{Changes, LoggedChanges};
use crate::store::Stored;
use crate::told;

/// A transaction's changes with their values, and by which part they can be told.
pub(super) type Unfolded = (Changes, Vec<Option<KeyPatch>>);

/// What transactions that are not applied yet make of keys; none for one that is removed.
pub(super) struct Unfolding<'a> {
    core: &'a Core,
    /// None while nothing has to be remembered: no part of a value has come.
    ahead: Option<HashMap<(NamespaceId, Bytes), Option<Stored>>>,
    /// Bytes of the values that parts have led to.
    made_bytes: usize,
}

impl<'a> Unfolding<'a> {
    /// Of transactions that come next.
    pub(super) fn new(core: &'a Core) -> Self {
        Self {
            core,
            ahead: None,
            made_bytes: 0,
        }
    }

    /// Whether what transactions make of keys is remembered, in case that parts of it change.
    pub(super) fn remembers(&self) -> bool {
        self.ahead.is_some()
    }

    /// Remembers from now on, and what was before.
    pub(super) fn remember<'b>(
        &mut self,
        before: impl Iterator<Item = (&'b LoggedTransaction, &'b Unfolded)>,
    ) {
        let ahead = self.ahead.get_or_insert_default();
        for (logged, (changes, _)) in before {
            for (namespace, change) in changes {
                let made = stored(change, logged.transaction.revision);
                ahead.insert((*namespace, change.key.clone()), made);
            }
        }
    }

    /// Whether the values are as many as are held at once.
    pub(super) fn is_full(&self) -> bool {
        self.made_bytes >= BATCH_VALUE_BYTES
    }

    /// The next transaction.
    ///
    /// # Errors
    /// Inside, why a part cannot be applied to what is there.
    pub(super) fn next(
        &mut self,
        revision: Revision,
        changes: LoggedChanges,
    ) -> Result<Result<Unfolded, String>, StoreError> {
        let mut whole = Vec::with_capacity(changes.len());
        let mut patches = Vec::with_capacity(if self.remembers() { changes.len() } else { 0 });
        let mut made_bytes = 0;
        for (namespace, change) in changes {
            let (change, patch) = match change {
                Logged::Whole(change) => (change, None),
                Logged::Patch(patch) => match self.part(namespace, &patch)? {
                    Ok(change) => (change, Some(own(patch))),
                    Err(what) => return Ok(Err(what)),
                },
            };
            if patch.is_some() {
                made_bytes += change.value.as_ref().map_or(0, Bytes::len);
                if let Err(what) = check_made(made_bytes) {
                    return Ok(Err(what));
                }
            }
            if let Some(ahead) = &mut self.ahead {
                let made = stored(&change, revision);
                ahead.insert((namespace, change.key.clone()), made);
                patches.push(patch);
            }
            whole.push((namespace, change));
        }
        self.made_bytes += made_bytes;
        if patches.iter().all(Option::is_none) {
            patches.clear();
        }
        Ok(Ok((whole, patches)))
    }

    fn part(
        &self,
        namespace: NamespaceId,
        patch: &KeyPatch,
    ) -> Result<Result<Change, String>, StoreError> {
        let ahead = self.ahead.as_ref();
        let there = match ahead.and_then(|ahead| ahead.get(&(namespace, patch.key.clone()))) {
            Some(made) => made.clone(),
            None => self.core.state.get_latest(namespace, &patch.key)?,
        };
        Ok(told::whole(there.as_ref(), patch).map(|value| Change {
            key: patch.key.clone(),
            value: Some(value),
        }))
    }
}

/// That transactions which come next can be applied, key by key: one value is held at a time.
///
/// # Errors
/// Inside, why a part cannot be applied to what is there.
pub(super) fn check_by_key(
    core: &Core,
    transactions: &[LoggedTransaction],
) -> Result<Result<(), String>, StoreError> {
    let mut by_key: HashMap<(NamespaceId, Bytes), Vec<(Revision, Logged)>> = HashMap::new();
    for logged in transactions {
        let transaction = &logged.transaction;
        for (namespace, change) in dict_changes(&transaction.effects)? {
            let key = (namespace, Bytes::copy_from_slice(change.key()));
            let changes = by_key.entry(key).or_default();
            changes.push((transaction.revision, change));
        }
    }
    let mut made_bytes: HashMap<Revision, usize> = HashMap::new();
    for ((namespace, key), changes) in by_key {
        let mut there = match changes.first() {
            Some((_, Logged::Patch(_))) => core.state.get_latest(namespace, &key)?,
            _ => None,
        };
        for (revision, change) in changes {
            let value = match change {
                Logged::Whole(change) => change.value,
                Logged::Patch(patch) => match told::whole(there.as_ref(), &patch) {
                    Ok(value) => {
                        let made = made_bytes.entry(revision).or_default();
                        *made += value.len();
                        if let Err(what) = check_made(*made) {
                            return Ok(Err(what));
                        }
                        Some(value)
                    }
                    Err(what) => return Ok(Err(what)),
                },
            };
            there = value.map(|value| Stored { value, revision });
        }
    }
    Ok(Ok(()))
}

/// Transactions are held whole, and an owner makes none that is so large.
fn check_made(bytes: usize) -> Result<(), String> {
    match bytes <= TRANSACTION_BYTES_MAX {
        true => Ok(()),
        false => Err(format!(
            "parts of values that make {bytes} bytes of one transaction; the limit is \
             {TRANSACTION_BYTES_MAX} bytes"
        )),
    }
}

fn stored(change: &Change, revision: Revision) -> Option<Stored> {
    let value = change.value.clone()?;
    Some(Stored { value, revision })
}

/// A copy: a piece of a frame would keep all of it for as long as ring and log have it.
fn own(patch: KeyPatch) -> KeyPatch {
    KeyPatch {
        edit: Bytes::copy_from_slice(&patch.edit),
        ..patch
    }
}
