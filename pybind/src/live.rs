//! Live values: the containers that a handle has given to Python, and what they ask of it.
//!
//! A container comes out of a dictionary as an object of `objsync._nested`, which knows its [`Place`]:
//! the key. All its methods, also those of the containers in it, ask the place whether what they hold
//! is current, read it anew if not, and change it by patches. Nothing here runs in a thread of its own.
//!
//! Invariants
//! * One [`Place`] per key of a handle, for as long as somebody holds an object of it: so a key that
//!   is read twice gives the same object.
//! * A place that the cache hands out stays in the table: its objects are found when the key is replaced.
//! * What was read counts as read once the objects have taken it: none is current before that.
//! * Places know the dictionary and not the handle: the handle's table of places makes no cycle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use objsync::{Bytes, Dict, Edit, Patch, Revision, Stamp};
use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyDict, PyList, PySet, PyString, PyTuple, PyType, PyWeakrefMethods, PyWeakrefReference,
};

use crate::codec::{Fresh, decode, encode};
use crate::errors;
use crate::large;
use crate::waiting::{wait, wait_for_read};

mod edits;
mod places;

pub(crate) use edits::patched;
use edits::{edit_of, steps_of};
pub(crate) use places::{Ends, Places, attach};

type Object<'py> = Bound<'py, PyAny>;

/// Places that may be forgotten before the table is looked through for them.
const SWEEP_COUNT_MIN: usize = 64;

/// Where a value lies: a key of a dictionary, and what of it was read last.
#[pyclass(frozen, weakref, module = "objsync._objsync.live")]
pub(crate) struct Place {
    dict: Dict,
    key: Py<PyAny>,
    encoded: Bytes,
    state: Mutex<State>,
    /// Shared with the entries of the cache that hand this place out.
    used: Arc<()>,
}

/// A place that an entry of the cache hands out: it is not forgotten before the entry is.
pub(crate) struct Cached {
    pub(crate) place: Py<Place>,
    _used: Arc<()>,
}

impl Cached {
    pub(crate) fn new(place: Py<Place>) -> Self {
        let used = Arc::clone(&place.get().used);
        Self { place, _used: used }
    }
}

/// Stamp and revision of a value that was read.
type Read = (Stamp, Option<Revision>);

#[derive(Default)]
struct State {
    /// What was read is good for as long as this is current; none before the first read.
    stamp: Option<Stamp>,
    /// The revision that wrote it; none where it is not known.
    revision: Option<Revision>,
    /// What the newest read found; it is what was read once the objects have taken it.
    next: Option<Read>,
    /// The revision of the newest conditional patch from here: the value as it wrote it is the one
    /// that was read, with that change and no other.
    own: Option<Revision>,
    /// Weak references to the root of the objects, and to the object of the whole value.
    root: Option<Py<PyWeakrefReference>>,
    top: Option<Py<PyWeakrefReference>>,
}

impl Place {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object of the whole value, if somebody holds it.
    pub(crate) fn top<'py>(&self, py: Python<'py>) -> Option<Object<'py>> {
        let state = self.state();
        state.top.as_ref()?.bind(py).upgrade()
    }

    /// What the objects of the value ask: their root, or this place where only one has been made.
    fn root<'py>(&self, py: Python<'py>) -> PyResult<Option<Object<'py>>> {
        let root = {
            let state = self.state();
            state.root.as_ref().and_then(|root| root.bind(py).upgrade())
        };
        match (root, self.top(py)) {
            (Some(root), _) => Ok(Some(root)),
            (None, Some(top)) => top.getattr(intern!(py, "_root")).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Whether somebody holds an object of it, or the cache can make one.
    fn is_used(&self, py: Python<'_>) -> bool {
        if Arc::strong_count(&self.used) > 1 {
            return true;
        }
        let state = self.state();
        let held = [&state.root, &state.top];
        held.into_iter()
            .flatten()
            .any(|weak| weak.bind(py).upgrade().is_some())
    }
}

#[pymethods]
impl Place {
    /// The key, as it was first asked for.
    #[getter]
    fn key(&self, py: Python<'_>) -> Py<PyAny> {
        self.key.clone_ref(py)
    }

    /// Whether what was read last is what a read would give now.
    fn is_current(&self) -> bool {
        let state = self.state();
        state
            .stamp
            .as_ref()
            .is_some_and(|stamp| self.dict.is_current(stamp))
    }

    /// Reads the value: `(changed, there, value, own)`. `own`: since the last read nothing but the
    /// newest conditional patch from here has changed it. It counts as read from `filled` on: one
    /// that could not be decoded, and one that the objects have not taken yet, are read again.
    fn read<'py>(&self, py: Python<'py>) -> PyResult<(bool, bool, Option<Object<'py>>, bool)> {
        let stamp = self.dict.stamp(&self.encoded);
        let found = wait_for_read(py, self.dict.fetch_entry(&self.encoded))?;
        let Some((payload, revision)) = found else {
            self.state().next = Some((stamp, None));
            return Ok((true, false, None, false));
        };
        let own = {
            let mut state = self.state();
            if revision.is_some() && revision == state.revision {
                state.next = Some((stamp, revision));
                return Ok((false, true, None, false));
            }
            revision.is_some() && revision == state.own
        };
        let value = large::object(py, &self.dict, payload)?;
        self.state().next = Some((stamp, revision));
        Ok((true, true, Some(value), own))
    }

    /// The objects have taken what the newest `read` found.
    fn filled(&self) {
        let mut state = self.state();
        if let Some((stamp, revision)) = state.next.take() {
            (state.stamp, state.revision) = (Some(stamp), revision);
        }
    }

    /// A value as it will be read: plain, and nobody else's.
    #[expect(
        clippy::unused_self,
        reason = "other sources of live values need theirs"
    )]
    fn stored<'py>(&self, value: &Object<'py>) -> PyResult<Object<'py>> {
        Ok(decode(value.py(), &encode(value)?.into())?.object)
    }

    /// Changes a part of the value; returns the number of the edit.
    ///
    /// `path` has a field of a dict, or an `Index`, for each step; `conditional`: only if the value
    /// is still what was read last.
    fn apply(
        &self,
        py: Python<'_>,
        path: &Bound<'_, PyTuple>,
        conditional: bool,
        what: &str,
        arguments: &Bound<'_, PyTuple>,
    ) -> PyResult<i64> {
        let path = steps_of(path)?;
        let edit = edit_of(py, what, arguments)?;
        let revision = if conditional {
            let revision = self.state().revision;
            if revision.is_none() {
                let text = "the value waits in this machine's queue for the owner of the store: \
                            until then only a change that names no index and no order can be made";
                let kind = objsync::ErrorKind::Unavailable;
                return Err(errors::of_kind(py, kind, text.to_owned()));
            }
            revision
        } else {
            None
        };
        let patch = Patch {
            path,
            revision,
            // A counter begins with 0; what else is changed is what somebody holds, and is there.
            create: matches!(edit, Edit::AddNumber { .. }),
            edit,
        };
        let (number, ack) = wait(py, self.dict.patch(&self.encoded, patch))?;
        if conditional {
            self.state().own = Some(ack.revision);
        }
        Ok(number)
    }

    /// Nobody gets the object of the whole value any more: it has ended.
    fn ended(&self) {
        self.state().top = None;
    }

    /// Remembers, without holding them, the root of the objects and the object of the whole value.
    fn held(&self, root: &Object<'_>, top: &Object<'_>) -> PyResult<()> {
        let root = PyWeakrefReference::new(root)?.unbind();
        let top = PyWeakrefReference::new(top)?.unbind();
        let mut state = self.state();
        (state.root, state.top) = (Some(root), Some(top));
        Ok(())
    }

    // What a root has and a place has not: an object is made without a root, which most never need.
    fn __getattr__<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Object<'py>> {
        let py = slf.py();
        let Some(top) = slf.get().top(py) else {
            return Err(PyAttributeError::new_err(name.to_string()));
        };
        let root = Types::get(py)?.root.bind(py);
        let root = root.call_method1(intern!(py, "of"), (slf, top))?;
        root.getattr(name)
    }
}

/// The classes of `objsync._nested`.
struct Types {
    dict: Py<PyType>,
    list: Py<PyType>,
    set: Py<PyType>,
    index: Py<PyType>,
    root: Py<PyType>,
    /// `dict.__new__` and its like: the classes refuse to be made.
    make_dict: Py<PyAny>,
    make_list: Py<PyAny>,
    make_set: Py<PyAny>,
    update_set: Py<PyAny>,
}

impl Types {
    fn get(py: Python<'_>) -> PyResult<&Self> {
        static TYPES: PyOnceLock<Types> = PyOnceLock::new();
        TYPES.get_or_try_init(py, || {
            let module = py.import("objsync._nested")?;
            let class = |name: &str| -> PyResult<Py<PyType>> {
                Ok(module.getattr(name)?.cast_into::<PyType>()?.unbind())
            };
            Ok(Self {
                dict: class("LiveDict")?,
                list: class("LiveList")?,
                set: class("LiveSet")?,
                index: class("Index")?,
                root: class("Root")?,
                make_dict: py.get_type::<PyDict>().getattr("__new__")?.unbind(),
                make_list: py.get_type::<PyList>().getattr("__new__")?.unbind(),
                make_set: py.get_type::<PySet>().getattr("__new__")?.unbind(),
                update_set: py.get_type::<PySet>().getattr("update")?.unbind(),
            })
        })
    }
}

/// Whether an object is one of a live value.
pub(crate) fn is_live(object: &Object<'_>) -> PyResult<bool> {
    let py = object.py();
    let class = object.get_type();
    // Nobody has one before the module was loaded, and loading it for every odd value is slow.
    let types = Types::get(py)?;
    Ok(class.is(types.dict.bind(py))
        || class.is(types.list.bind(py))
        || class.is(types.set.bind(py)))
}

/// What a live value holds now, to be read only; none for another object.
pub(crate) fn plain_of<'py>(object: &Object<'py>) -> PyResult<Option<Object<'py>>> {
    if !is_live(object)? {
        return Ok(None);
    }
    object
        .call_method0(intern!(object.py(), "_plain"))
        .map(Some)
}

/// Whether a value is one that comes out of a dictionary as a live one.
pub(crate) fn is_container(value: &Object<'_>) -> bool {
    value.cast_exact::<PyDict>().is_ok()
        || value.cast_exact::<PyList>().is_ok()
        || value.cast_exact::<PySet>().is_ok()
}

/// A value inside a live one, free to change where it can be changed at all.
#[pyfunction]
pub(crate) fn fresh<'py>(value: &Object<'py>) -> PyResult<Object<'py>> {
    let plan = Fresh::plan(value);
    if matches!(plan, Fresh::Array) {
        return plan.copy(value);
    }
    // Objects of users' classes can change too, and nobody but their codec knows how to copy them.
    Ok(decode(value.py(), &encode(value)?.into())?.object)
}

/// Whether two containers hold the very same objects, in the same order; a set: as many.
#[pyfunction]
pub(crate) fn same_items(one: &Object<'_>, other: &Object<'_>) -> PyResult<bool> {
    if let (Ok(one), Ok(other)) = (one.cast::<PyList>(), other.cast::<PyList>()) {
        let pairs = one.iter().zip(other.iter());
        return Ok(one.len() == other.len() && pairs.into_iter().all(|(a, b)| a.is(&b)));
    }
    if let (Ok(one), Ok(other)) = (one.cast::<PyDict>(), other.cast::<PyDict>()) {
        if one.len() != other.len() {
            return Ok(false);
        }
        for (key, value) in other.iter() {
            if !one.get_item(key)?.is_some_and(|found| found.is(&value)) {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let (one, other) = (one.cast::<PySet>()?, other.cast::<PySet>()?);
    if one.len() != other.len() {
        return Ok(false);
    }
    for item in other.iter() {
        if !one.contains(item)? {
            return Ok(false);
        }
    }
    Ok(true)
}
