//! The places of a handle, and the live objects that are made for them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use objsync::{Bytes, Dict, KeyRange, Revision, Stamp};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFrozenSet, PyList, PyTuple, PyWeakrefReference};

use super::{Object, Place, SWEEP_COUNT_MIN, Types, is_live};
use crate::codec::{encode_key, is_cacheable};

/// The places of one handle, by key.
pub(crate) struct Places {
    table: Py<PyDict>,
    sweep_at: AtomicUsize,
}

impl Places {
    pub(crate) fn new(py: Python<'_>) -> Self {
        Self {
            table: PyDict::new(py).unbind(),
            sweep_at: SWEEP_COUNT_MIN.into(),
        }
    }

    /// The place of a key; a new one if nobody holds an object of it.
    pub(crate) fn get<'py>(
        &self,
        dict: &Dict,
        key: &Object<'py>,
        encoded: &[u8],
    ) -> PyResult<Bound<'py, Place>> {
        if let Some(place) = self.find(key)? {
            return Ok(place);
        }
        let py = key.py();
        let place = Place {
            dict: dict.clone(),
            key: key.clone().unbind(),
            encoded: Bytes::copy_from_slice(encoded),
            state: Mutex::default(),
        };
        let place = Bound::new(py, place)?;
        let table = self.table.bind(py);
        let limit = &self.sweep_at;
        if table.len() >= limit.load(Ordering::Relaxed) {
            self.sweep(py)?;
            let next = (table.len() * 2).max(SWEEP_COUNT_MIN);
            limit.store(next, Ordering::Relaxed);
        }
        table.set_item(name_of(key)?, &place)?;
        Ok(place)
    }

    fn find<'py>(&self, key: &Object<'py>) -> PyResult<Option<Bound<'py, Place>>> {
        let found = self.table.bind(key.py()).get_item(name_of(key)?)?;
        Ok(found.map(|found| found.cast_into::<Place>()).transpose()?)
    }

    fn sweep(&self, py: Python<'_>) -> PyResult<()> {
        let table = self.table.bind(py);
        for (key, place) in table.copy()?.iter() {
            if !place.cast::<Place>()?.get().is_held(py) {
                table.del_item(key)?;
            }
        }
        Ok(())
    }

    /// Whether `value` is the live object of this very key: assigning it changes nothing.
    pub(crate) fn is_own(&self, key: &Object<'_>, value: &Object<'_>) -> PyResult<bool> {
        let py = key.py();
        if self.table.bind(py).is_empty() || !is_live(value)? {
            return Ok(false);
        }
        let top = self.find(key)?.and_then(|place| place.get().top(py));
        Ok(top.is_some_and(|top| top.is(value)))
    }

    /// The value of a key was replaced, or removed: objects of the old one end.
    pub(crate) fn replaced(&self, key: &Object<'_>) -> PyResult<()> {
        if self.table.bind(key.py()).is_empty() {
            return Ok(());
        }
        self.find(key)?.map_or(Ok(()), |place| end(&place))
    }

    /// For writes of many keys, which outlive this borrow.
    pub(crate) fn ends(&self, py: Python<'_>) -> Ends {
        Ends {
            table: self.table.clone_ref(py),
        }
    }
}

/// Ends the live objects of what a write of many keys has replaced.
pub(crate) struct Ends {
    table: Py<PyDict>,
}

impl Ends {
    /// Whether there may be objects that a write ends: only then its keys need to be remembered.
    pub(crate) fn is_needed(&self, py: Python<'_>) -> bool {
        !self.table.bind(py).is_empty()
    }

    /// The values of these keys were replaced, or removed. Costs as much as places are held, and keys.
    pub(crate) fn replaced<'a>(
        &self,
        py: Python<'_>,
        keys: impl IntoIterator<Item = &'a [u8]>,
    ) -> PyResult<()> {
        if !self.is_needed(py) {
            return Ok(());
        }
        let places = self.places(py)?;
        let mut held: HashMap<&[u8], &Bound<'_, Place>> = places
            .iter()
            .map(|place| (&place.get().encoded[..], place))
            .collect();
        keys.into_iter()
            .filter_map(|key| held.remove(key))
            .try_for_each(end)
    }

    /// All keys of a range were removed.
    pub(crate) fn removed(&self, py: Python<'_>, range: &KeyRange) -> PyResult<()> {
        let is_in = |place: &&Bound<'_, Place>| range.contains(&place.get().encoded);
        self.places(py)?.iter().filter(is_in).try_for_each(end)
    }

    fn places<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, Place>>> {
        let places = self.table.bind(py).values();
        places.iter().map(|place| Ok(place.cast_into()?)).collect()
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
    {
        let mut state = place.get().state();
        let (stamp, revision) = read.unzip();
        (state.stamp, state.revision, state.own) = (stamp, revision.flatten(), None);
        (state.root, state.top) = (None, None);
    }
    let top = made(place, value)?;
    place.get().state().top = Some(PyWeakrefReference::new(&top)?.unbind());
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
    if let (Ok(top), Ok(value)) = (top.cast::<PyDict>(), value.cast::<PyDict>()) {
        top.update(value.as_mapping())?;
    } else if let Ok(top) = top.cast::<PyList>() {
        top.set_slice(0, 0, value)?;
    } else {
        types.update_set.bind(py).call1((&top, value))?;
    }
    Ok(top)
}

/// What a key is called in the table: itself, if keys that are equal are one key of the dictionary.
fn name_of<'py>(key: &Object<'py>) -> PyResult<Object<'py>> {
    if is_cacheable(key) {
        return Ok(key.clone());
    }
    // No key is a frozenset.
    let encoded = PyBytes::new(key.py(), &encode_key(key)?);
    Ok(PyFrozenSet::new(key.py(), [encoded])?.into_any())
}
