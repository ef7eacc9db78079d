//! The whole values behind the parts in frames of a source, before any of the frames is appended.

use std::collections::HashMap;

use bytes::Bytes;
use objsync_proto::effect::{Change, KeyPatch};
use objsync_proto::ids::{NamespaceId, Revision};

use crate::core::Core;
use crate::dict::Logged;
use crate::error::StoreError;
use crate::state::{Changes, LoggedChanges};
use crate::store::Stored;
use crate::told;

/// A transaction's changes with their values, and by which part they can be told.
pub(super) type Unfolded = (Changes, Vec<Option<KeyPatch>>);

/// What transactions that are not applied yet make of keys; none for one that is removed.
pub(super) struct Unfolding<'a> {
    core: &'a Core,
    /// None while nothing has to be remembered: no part of a value follows.
    ahead: Option<HashMap<(NamespaceId, Bytes), Option<Stored>>>,
}

impl<'a> Unfolding<'a> {
    /// Of transactions that come next; `has_parts` says whether one of them has a part of a value.
    pub(super) fn new(core: &'a Core, has_parts: bool) -> Self {
        let ahead = has_parts.then(HashMap::new);
        Self { core, ahead }
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
        let mut patches = Vec::with_capacity(if self.ahead.is_some() {
            changes.len()
        } else {
            0
        });
        for (namespace, change) in changes {
            let (change, patch) = match change {
                Logged::Whole(change) => (change, None),
                Logged::Patch(patch) => match self.part(namespace, &patch)? {
                    Ok(change) => (change, Some(own(patch))),
                    Err(what) => return Ok(Err(what)),
                },
            };
            if let Some(ahead) = &mut self.ahead {
                let stored = |value: &Bytes| Stored {
                    value: value.clone(),
                    revision,
                };
                let made = change.value.as_ref().map(stored);
                ahead.insert((namespace, change.key.clone()), made);
                patches.push(patch);
            }
            whole.push((namespace, change));
        }
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

/// A copy: a piece of a frame would keep all of it for as long as ring and log have it.
fn own(patch: KeyPatch) -> KeyPatch {
    KeyPatch {
        edit: Bytes::copy_from_slice(&patch.edit),
        ..patch
    }
}
