//! Fresh copies of a decoded value: what a reader gets must be free to change without changing what
//! the next reader gets.
//!
//! What must be copied is found once, when the value enters the cache. A copy is then made by
//! Python's own copy of each container, and only those items that are containers themselves are put
//! in again: a flat dict costs one call.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet, PyTuple};

use super::array;

/// How to copy one decoded object.
pub(crate) enum Fresh {
    /// Nothing in it can change: everybody gets the object itself.
    Shared,
    /// A list, and how to copy its elements that can change.
    List(Vec<(usize, Fresh)>),
    /// A dict, and how to copy its values that can change.
    Dict(Vec<(Py<PyAny>, Fresh)>),
    /// A set: its elements cannot change.
    Set,
    /// A tuple with something in it that can change: built anew.
    Tuple(Vec<(usize, Fresh)>),
    /// An array of numpy: its elements cannot change, but its shape can, so each reader gets a view.
    Array,
}

impl Fresh {
    /// The plan for an object that `decode` made.
    pub(crate) fn plan(object: &Bound<'_, PyAny>) -> Self {
        if let Ok(dict) = object.cast_exact::<PyDict>() {
            let plan = |(key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
                Self::plan(&value)
                    .unless_shared()
                    .map(|fresh| (key.unbind(), fresh))
            };
            Self::Dict(dict.iter().filter_map(plan).collect())
        } else if let Ok(list) = object.cast_exact::<PyList>() {
            Self::List(Self::items(list.iter()))
        } else if let Ok(tuple) = object.cast_exact::<PyTuple>() {
            let items = Self::items(tuple.iter());
            if items.is_empty() {
                Self::Shared
            } else {
                Self::Tuple(items)
            }
        } else if object.cast_exact::<PySet>().is_ok() {
            Self::Set
        } else if is_array(object) {
            Self::Array
        } else {
            Self::Shared
        }
    }

    /// Whether all that a container holds can be shared, and it itself is left aside.
    pub(crate) fn holds_nothing_that_changes(object: &Bound<'_, PyAny>) -> bool {
        match Self::plan(object) {
            Self::Shared => true,
            Self::Dict(values) => values.is_empty(),
            _ => false,
        }
    }

    fn items<'py>(items: impl Iterator<Item = Bound<'py, PyAny>>) -> Vec<(usize, Self)> {
        items
            .enumerate()
            .filter_map(|(index, item)| {
                Self::plan(&item)
                    .unless_shared()
                    .map(|fresh| (index, fresh))
            })
            .collect()
    }

    fn unless_shared(self) -> Option<Self> {
        if matches!(self, Self::Shared) {
            None
        } else {
            Some(self)
        }
    }

    /// A copy of `object`, which is the one this plan was made for.
    pub(crate) fn copy<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Shared => Ok(object.clone()),
            Self::Dict(values) => {
                let dict = object.cast::<PyDict>()?.copy()?;
                for (key, fresh) in values {
                    let key = key.bind(object.py());
                    if let Some(value) = dict.get_item(key)? {
                        dict.set_item(key, fresh.copy(&value)?)?;
                    }
                }
                Ok(dict.into_any())
            }
            Self::List(elements) => {
                let list = object
                    .cast::<PyList>()?
                    .get_slice(0, isize::MAX.cast_unsigned());
                for (index, fresh) in elements {
                    let element = list.get_item(*index)?;
                    list.set_item(*index, fresh.copy(&element)?)?;
                }
                Ok(list.into_any())
            }
            Self::Set => {
                let set = object.cast::<PySet>()?;
                set.call_method0(pyo3::intern!(object.py(), "copy"))
            }
            Self::Array => object.call_method0(pyo3::intern!(object.py(), "view")),
            Self::Tuple(elements) => {
                let mut copy: Vec<_> = object.cast::<PyTuple>()?.iter().collect();
                for (index, fresh) in elements {
                    copy[*index] = fresh.copy(&copy[*index])?;
                }
                Ok(PyTuple::new(object.py(), copy)?.into_any())
            }
        }
    }
}

/// Whether `decode` made an array of numpy of it; scalars of numpy cannot change.
fn is_array(object: &Bound<'_, PyAny>) -> bool {
    let class = object.get_type();
    array::is_of_numpy(&class)
        && class
            .name()
            .is_ok_and(|name| name.to_str().is_ok_and(|name| name == "ndarray"))
}
