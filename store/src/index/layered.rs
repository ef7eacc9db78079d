//! Snapshot and footers as an index: everything as of one revision, without any index of its own.
//!
//! It stands in for the real index while that is opened or made again, and reads the past. A read
//! looks into the footers from the newest on and then into the snapshot, each a block of 16 KiB,
//! so it costs some ten times what the real index takes. Its files stay readable while it lives,
//! whatever is removed meanwhile.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::ids::{NamespaceId, Revision, SurfaceId};
use objsync_proto::wire::KeyRange;

use super::{Index, IndexBatch, Visit, is_empty_range};
use crate::error::StoreError;
use crate::footer::Footer;
use crate::merge::{self, Merge, Source};
use crate::snapshot::Snapshot;
use crate::store::Stored;
use crate::table::{Section, TableEntry};

/// The state as of a revision, read-only.
pub(crate) struct LayeredIndex {
    snapshot: Option<Snapshot>,
    /// The footers since, oldest first; the last one may end within its segment.
    layers: Vec<Arc<Footer>>,
    revision: Revision,
}

impl LayeredIndex {
    /// Over a snapshot and what followed it, oldest first.
    pub(crate) fn new(
        snapshot: Option<Snapshot>,
        layers: Vec<Arc<Footer>>,
        revision: Revision,
    ) -> Self {
        Self {
            snapshot,
            layers,
            revision,
        }
    }

    /// What it shows.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// The revision of a key's entry; none if it has none. Cheaper than the entry.
    pub(crate) fn revision_of(
        &self,
        namespace: NamespaceId,
        key: &[u8],
    ) -> Result<Option<Revision>, StoreError> {
        let Some((entry, layer)) = self.find(namespace, key)? else {
            return Ok(None);
        };
        let has_value = layer.is_none_or(|layer| layer.has_value(&entry.payload).unwrap_or(true));
        Ok(has_value.then_some(entry.revision))
    }

    /// The entries of a key, the newest first, each with the layer it stands in; none for the
    /// snapshot.
    fn entries<'a>(
        &'a self,
        namespace: NamespaceId,
        key: &'a [u8],
    ) -> impl Iterator<Item = Result<(TableEntry, Option<&'a Footer>), StoreError>> {
        let section = Section::dict(namespace);
        let layers = self
            .layers
            .iter()
            .rev()
            .map(|layer| (&layer.table, Some(&**layer)));
        let snapshot = self
            .snapshot
            .iter()
            .map(|snapshot| (snapshot.table(), None));
        layers.chain(snapshot).filter_map(move |(table, layer)| {
            let entry = table.get(section, key).transpose()?;
            Some(entry.map(|entry| (entry, layer)))
        })
    }

    fn find<'a>(
        &'a self,
        namespace: NamespaceId,
        key: &'a [u8],
    ) -> Result<Option<(TableEntry, Option<&'a Footer>)>, StoreError> {
        self.entries(namespace, key).next().transpose()
    }

    /// All entries of a range of a namespace, removed keys included.
    fn range(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        reverse: bool,
    ) -> Result<Merge<'_>, StoreError> {
        let section = Section::dict(namespace);
        let snapshot = self.snapshot.iter().map(|snapshot| {
            Source::snapshot(snapshot.table().range(section, range.clone(), reverse))
        });
        let layers = self.layers.iter().map(|layer| {
            let entries = layer.table.range(section, range.clone(), reverse);
            Source::footer(layer, entries)
        });
        Merge::new(snapshot.chain(layers).collect(), reverse)
    }

    /// All entries of the dictionary, by namespace and key, removed keys included.
    pub(crate) fn iter(&self) -> Result<Merge<'_>, StoreError> {
        let snapshot = self.snapshot.iter();
        let snapshot = snapshot.map(|snapshot| Source::snapshot(snapshot.table().iter()));
        let layers = self.layers.iter();
        let layers = layers.map(|layer| Source::footer(layer, layer.table.iter()));
        Merge::new(snapshot.chain(layers).collect(), false)
    }
}

impl Index for LayeredIndex {
    fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let mut entries = self.entries(namespace, key);
        let Some((entry, layer)) = entries.next().transpose()? else {
            return Ok(None);
        };
        let revision = entry.revision;
        let value = merge::gather((entry, layer), entries)?;
        Ok(value.map(|value| Stored { value, revision }))
    }

    fn contains(&self, namespace: NamespaceId, key: &[u8]) -> Result<bool, StoreError> {
        match self.find(namespace, key)? {
            None => Ok(false),
            Some((_, None)) => Ok(true),
            Some((entry, Some(layer))) => layer.has_value(&entry.payload),
        }
    }

    fn scan(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if is_empty_range(range) {
            return Ok(());
        }
        for merged in self.range(namespace, range, reverse)? {
            let Some(entry) = merged?.resolve()? else {
                continue;
            };
            let stored = Stored {
                value: entry.payload,
                revision: entry.revision,
            };
            if let ControlFlow::Break(()) = visit(entry.key, stored) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn apply(&self, _: &IndexBatch) -> Result<(), StoreError> {
        let what = "snapshot and footers take no changes".to_owned();
        Err(StoreError::Index { what })
    }

    fn mark(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }

    /// Walks over every key: about a quarter of a second per million.
    fn counts(&self) -> Result<Vec<(NamespaceId, u64)>, StoreError> {
        let mut counts: BTreeMap<NamespaceId, u64> = BTreeMap::new();
        for merged in self.iter()? {
            let merged = merged?;
            let section = merged.section();
            if section.surface == SurfaceId::DICT && merged.exists()? {
                *counts.entry(section.namespace).or_default() += 1;
            }
        }
        Ok(counts.into_iter().collect())
    }

    fn bytes(&self) -> u64 {
        0
    }
}
