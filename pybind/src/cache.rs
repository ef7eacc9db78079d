//! Decoded values of one handle, so that a hot read neither decodes nor leaves Python's memory.
//!
//! Two generations: entries are looked for in the young one, then in the old one, from where a hit
//! moves to the young. When the young is half the limit it becomes the old one and what was old is
//! forgotten: a rough LRU without lists or locks.
//!
//! An entry is good for as long as `Dict::is_current` says so of the stamp taken before its value
//! was read. Nobody tells the cache of changes.

use std::sync::atomic::{AtomicUsize, Ordering};

use objsync::limits::MEMORY_BYTES_DEFAULT;
use objsync::{Dict, Revision, Stamp};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::codec::{Decoded, Fresh};
use crate::live::{Cached, Place, attach};

/// A generation takes an eighth of the memory of a store: both take a quarter.
const GENERATION_SHARE: u64 = 8;
/// Values above this part of a generation are decoded each time.
const ENTRY_SHARE: usize = 16;
/// What an entry takes besides its value: itself, its key, its place in the dict.
const ENTRY_BYTES: usize = 200;

/// The decoded values of one handle. Keys are Python keys for which `codec::is_cacheable` holds.
pub(crate) struct Cache {
    young: Py<PyDict>,
    old: Py<PyDict>,
    young_bytes: AtomicUsize,
    generation_bytes_max: usize,
}

/// One decoded value.
#[pyclass(frozen)]
struct Entry {
    stamp: Stamp,
    object: Py<PyAny>,
    kind: Kind,
    weight_bytes: usize,
}

/// What a reader gets of an entry.
enum Kind {
    /// The object, or a copy of it.
    Copy(Fresh),
    /// The live object of this place, which the decoded one is the content of.
    Live(Cached, Option<Revision>),
}

impl Cache {
    pub(crate) fn new(py: Python<'_>) -> Self {
        // A variable that makes no sense is refused where a store is opened.
        let memory_bytes = objsync::memory_bytes().unwrap_or(MEMORY_BYTES_DEFAULT);
        Self {
            young: PyDict::new(py).unbind(),
            old: PyDict::new(py).unbind(),
            young_bytes: AtomicUsize::new(0),
            generation_bytes_max: usize::try_from(memory_bytes / GENERATION_SHARE)
                .unwrap_or(usize::MAX),
        }
    }

    /// The value under `key`, free to change or live, if it is here and current.
    pub(crate) fn get<'py>(
        &self,
        dict: &Dict,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = key.py();
        let mut found = self.young.bind(py).get_item(key)?;
        let is_old = found.is_none();
        if is_old {
            found = self.old.bind(py).get_item(key)?;
        }
        let Some(found) = found else {
            return Ok(None);
        };
        let entry = found.cast_exact::<Entry>()?.get();
        if !dict.is_current(&entry.stamp) {
            return Ok(None);
        }
        if is_old {
            self.insert(key, &found, entry.weight_bytes)?;
        }
        match &entry.kind {
            Kind::Copy(fresh) => fresh.copy(entry.object.bind(py)).map(Some),
            Kind::Live(cached, revision) => {
                let place = cached.place.bind(py);
                if let Some(top) = place.get().top(py) {
                    return Ok(Some(top));
                }
                let read = Some((entry.stamp, *revision));
                attach(place, entry.object.bind(py), read).map(Some)
            }
        }
    }

    /// Remembers a value that was read after `stamp` was taken; returns one that is free to change.
    pub(crate) fn put<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        stamp: Stamp,
        value: Decoded<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if value.is_single || value.weight_bytes > self.generation_bytes_max / ENTRY_SHARE {
            return Ok(value.object);
        }
        let fresh = Fresh::plan(&value.object);
        let copy = fresh.copy(&value.object)?;
        self.insert_new(key, stamp, value, Kind::Copy(fresh))?;
        Ok(copy)
    }

    /// As [`Cache::put`], of what a live object of a place was made from.
    pub(crate) fn put_live(
        &self,
        key: &Bound<'_, PyAny>,
        (stamp, revision): (Stamp, Option<Revision>),
        value: Decoded<'_>,
        place: Py<Place>,
    ) -> PyResult<()> {
        if value.weight_bytes > self.generation_bytes_max / ENTRY_SHARE {
            return Ok(());
        }
        self.insert_new(key, stamp, value, Kind::Live(Cached::new(place), revision))
    }

    fn insert_new(
        &self,
        key: &Bound<'_, PyAny>,
        stamp: Stamp,
        value: Decoded<'_>,
        kind: Kind,
    ) -> PyResult<()> {
        let weight_bytes = value.weight_bytes + ENTRY_BYTES;
        let entry = Entry {
            stamp,
            object: value.object.unbind(),
            kind,
            weight_bytes,
        };
        self.insert(key, Bound::new(key.py(), entry)?.as_any(), weight_bytes)
    }

    /// Forgets everything.
    pub(crate) fn clear(&self, py: Python<'_>) {
        self.young_bytes.store(0, Ordering::Relaxed);
        self.young.bind(py).clear();
        self.old.bind(py).clear();
    }

    fn insert(
        &self,
        key: &Bound<'_, PyAny>,
        entry: &Bound<'_, PyAny>,
        weight_bytes: usize,
    ) -> PyResult<()> {
        let young = self.young.bind(key.py());
        // Replaced entries are counted again: the generation only turns a little earlier.
        if self.young_bytes.fetch_add(weight_bytes, Ordering::Relaxed) > self.generation_bytes_max {
            let old = self.old.bind(key.py());
            old.clear();
            old.update(young.as_mapping())?;
            young.clear();
            self.young_bytes.store(weight_bytes, Ordering::Relaxed);
        }
        young.set_item(key, entry)
    }
}
