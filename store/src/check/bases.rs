//! That every change of a part of a value lies on the entry that was there.

use std::collections::HashMap;

use bytes::Bytes;
use objsync_proto::effect::Transaction;
use objsync_proto::ids::{NamespaceId, Revision};

use super::files::Files;
use super::index::layered_at;
use crate::dict::Logged;
use crate::history::dict_changes;
use crate::index::LayeredIndex;
use crate::log::SegmentInfo;

/// The revisions of keys while a segment is read.
pub(super) struct Bases<'a> {
    files: &'a Files<'a>,
    info: SegmentInfo,
    /// What the segment has made of keys so far; none of one that is removed.
    made: HashMap<(NamespaceId, Bytes), Option<Revision>>,
    /// Everything before the segment, once it was asked for; none inside where it is not known.
    before: Option<Option<LayeredIndex>>,
}

impl<'a> Bases<'a> {
    pub(super) fn new(files: &'a Files<'a>, info: SegmentInfo) -> Self {
        Self {
            files,
            info,
            made: HashMap::new(),
            before: None,
        }
    }

    /// The keys of which a transaction changes a part of another entry than the one that is there.
    pub(super) fn wrong_in(&mut self, transaction: &Transaction) -> Vec<(NamespaceId, Bytes)> {
        let mut wrong = Vec::new();
        // That they can be read was seen before.
        for (namespace, change) in dict_changes(&transaction.effects).unwrap_or_default() {
            let key = Bytes::copy_from_slice(change.key());
            let made = match change {
                Logged::Whole(change) => change.value.map(|_| transaction.revision),
                Logged::Patch(patch) => {
                    let there = self.revision_of(namespace, &key);
                    if there.is_some_and(|there| there != Some(patch.base)) {
                        wrong.push((namespace, key.clone()));
                    }
                    Some(transaction.revision)
                }
            };
            self.made.insert((namespace, key), made);
        }
        wrong
    }

    /// The revision of a key's entry, none inside if it has none; none where that is not known.
    fn revision_of(&mut self, namespace: NamespaceId, key: &Bytes) -> Option<Option<Revision>> {
        if let Some(made) = self.made.get(&(namespace, key.clone())) {
            return Some(*made);
        }
        let (files, at) = (self.files, self.info.before);
        // What is damaged before is told where it is.
        let before = self
            .before
            .get_or_insert_with(|| layered_at(files, at).ok().flatten());
        before.as_ref()?.revision_of(namespace, key).ok()
    }
}
