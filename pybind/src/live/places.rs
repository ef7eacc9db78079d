//! The places of a handle, and the live objects that are made for them.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use objsync::{Bytes, Dict, KeyRange, Revision, Stamp};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyWeakrefReference};

use super::{Object, Place, SWEEP_COUNT_MIN, State, Types, is_live};
use crate::codec::encode_key;

/// The places of one handle, by encoded key.
pub(crate) struct Places {
    table: Arc<Mutex<Table>>,
}

struct Table {
    places: BTreeMap<Bytes, Py<Place>>,
    sweep_at: usize,
}

/// Nothing panics half way while it is locked, and no Python runs: places that leave the table are
/// dropped later.
fn locked(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Places {
    pub(crate) fn new(_py: Python<'_>) -> Self {
        let table = Table {
            places: BTreeMap::new(),
            sweep_at: SWEEP_COUNT_MIN,
        };
        Self {
            table: Arc::new(Mutex::new(table)),
        }
    }

    /// The place of a key; a new one if nobody holds an object of it.
    pub(crate) fn get<'py>(
        &self,
        dict: &Dict,
        key: &Object<'py>,
        encoded: &[u8],
    ) -> PyResult<Bound<'py, Place>> {
        let py = key.py();
        if let Some(place) = self.find(py, encoded) {
            return Ok(place);
        }
        let encoded = Bytes::copy_from_slice(encoded);
        let place = Place {
            dict: dict.clone(),
            key: key.clone().unbind(),
            encoded: encoded.clone(),
            state: Mutex::default(),
            used: Arc::default(),
        };
        let place = Bound::new(py, place)?;
        let (place, _swept) = {
            let mut table = locked(&self.table);
            let swept = table.sweep(py);
            // Another thread may have been faster: one key has one place.
            let known = table.places.entry(encoded);
            let known = known.or_insert_with(|| place.clone().unbind());
            (known.clone_ref(py), swept)
        };
        Ok(place.into_bound(py))
    }

    fn find<'py>(&self, py: Python<'py>, encoded: &[u8]) -> Option<Bound<'py, Place>> {
        let table = locked(&self.table);
        let place = table.places.get(encoded)?;
        Some(place.clone_ref(py).into_bound(py))
    }

    fn is_empty(&self) -> bool {
        locked(&self.table).places.is_empty()
    }

    /// Whether `value` is the live object of this very key: assigning it changes nothing.
    pub(crate) fn is_own(&self, key: &Object<'_>, value: &Object<'_>) -> PyResult<bool> {
        let py = key.py();
        if self.is_empty() || !is_live(value)? {
            return Ok(false);
        }
        let place = self.find(py, &encode_key(key)?);
        let top = place.and_then(|place| place.get().top(py));
        Ok(top.is_some_and(|top| top.is(value)))
    }

    /// The value of a key was replaced, or removed: objects of the old one end.
    pub(crate) fn replaced(&self, key: &Object<'_>) -> PyResult<()> {
        if self.is_empty() {
            return Ok(());
        }
        let place = self.find(key.py(), &encode_key(key)?);
        place.map_or(Ok(()), |place| end(&place))
    }

    /// For writes of many keys, which outlive this borrow.
    pub(crate) fn ends(&self, _py: Python<'_>) -> Ends {
        Ends {
            table: Arc::clone(&self.table),
        }
    }
}

impl Table {
    /// Forgets places that nobody uses, if there are many; returns them, to be dropped unlocked.
    fn sweep(&mut self, py: Python<'_>) -> Vec<Py<Place>> {
        if self.places.len() < self.sweep_at {
            return Vec::new();
        }
        let (used, unused): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.places)
            .into_iter()
            .partition(|(_, place)| place.get().is_used(py));
        self.places = used;
        self.sweep_at = (self.places.len() * 2).max(SWEEP_COUNT_MIN);
        unused.into_values().collect()
    }
}

/// Ends the live objects of what a write of many keys has replaced.
pub(crate) struct Ends {
    table: Arc<Mutex<Table>>,
}

impl Ends {
    /// Whether there may be objects that a write ends: only then its keys need to be remembered.
    pub(crate) fn is_needed(&self, _py: Python<'_>) -> bool {
        !locked(&self.table).places.is_empty()
    }

    /// The values of these keys were replaced, or removed. Costs one look into the table a key.
    pub(crate) fn replaced<'a>(
        &self,
        py: Python<'_>,
        keys: impl IntoIterator<Item = &'a [u8]>,
    ) -> PyResult<()> {
        let held: Vec<Py<Place>> = {
            let table = locked(&self.table);
            let places = keys.into_iter().filter_map(|key| table.places.get(key));
            places.map(|place| place.clone_ref(py)).collect()
        };
        held.iter().try_for_each(|place| end(place.bind(py)))
    }

    /// All keys of a range were removed.
    pub(crate) fn removed(&self, py: Python<'_>, range: &KeyRange) -> PyResult<()> {
        let end_of_range = range.end.as_ref().map_or(Unbounded, Excluded);
        if range.end.as_ref().is_some_and(|end| *end <= range.start) {
            return Ok(());
        }
        let held: Vec<Py<Place>> = {
            let table = locked(&self.table);
            let places = table
                .places
                .range::<Bytes, _>((Included(&range.start), end_of_range));
            places.map(|(_, place)| place.clone_ref(py)).collect()
        };
        held.iter().try_for_each(|place| end(place.bind(py)))
    }
}

fn end(place: &Bound<'_, Place>) -> PyResult<()> {
    let py = place.py();
    if let Some(root) = place.get().root(py)? {
        root.call_method0(intern!(py, "replaced"))?;
    }
    Ok(())
}

/// The live object of a value; `read`: the stamp that was taken before, and the revision.
pub(crate) fn attach<'py>(
    place: &Bound<'py, Place>,
    value: &Object<'py>,
    read: Option<(Stamp, Option<Revision>)>,
) -> PyResult<Object<'py>> {
    let py = place.py();
    if let Some(root) = place.get().root(py)? {
        // Somebody holds objects of it: they see to it themselves that they are current.
        let top = root.call_method0(intern!(py, "top"))?;
        if !top.is_none() {
            return Ok(top);
        }
    }
    let top = made(place, value)?;
    let weak = PyWeakrefReference::new(&top)?.unbind();
    let (stamp, revision) = read.unzip();
    let new = State {
        stamp,
        revision: revision.flatten(),
        top: Some(weak),
        ..State::default()
    };
    let (top, _old) = {
        let mut state = place.get().state();
        let known = state.top.as_ref().and_then(|top| top.bind(py).upgrade());
        match known {
            // Another thread was faster, and a place has one object.
            Some(known) => (known, None),
            None => (top, Some(std::mem::replace(&mut *state, new))),
        }
    };
    Ok(top)
}

/// A live object with this content, which asks its place until it needs a root.
fn made<'py>(place: &Bound<'py, Place>, value: &Object<'py>) -> PyResult<Object<'py>> {
    let py = place.py();
    let types = Types::get(py)?;
    let (class, make) = if value.cast_exact::<PyDict>().is_ok() {
        (&types.dict, &types.make_dict)
    } else if value.cast_exact::<PyList>().is_ok() {
        (&types.list, &types.make_list)
    } else {
        (&types.set, &types.make_set)
    };
    let top = make.bind(py).call1((class.bind(py),))?;
    top.setattr(intern!(py, "_root"), place)?;
    top.setattr(intern!(py, "_path"), PyTuple::empty(py))?;
    top.setattr(intern!(py, "_base"), value)?;
    if value.cast_exact::<PyList>().is_ok() {
        top.setattr(intern!(py, "_seen"), value)?;
    }
    if let (Ok(top), Ok(value)) = (top.cast::<PyDict>(), value.cast::<PyDict>()) {
        top.update(value.as_mapping())?;
    } else if let Ok(top) = top.cast::<PyList>() {
        top.set_slice(0, 0, value)?;
    } else {
        types.update_set.bind(py).call1((&top, value))?;
    }
    Ok(top)
}
