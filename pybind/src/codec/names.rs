//! Strings that occur again and again as keys of dicts: one Python object each.
//!
//! A decoded value of 60,000 dicts would else hold 60,000 copies of every field's name, each made
//! and hashed anew. Per thread and of a fixed size: a name that meets another in its slot replaces
//! it, so a hostile choice of names costs speed only.

use std::cell::RefCell;

use pyo3::prelude::*;
use pyo3::types::PyString;

/// Names remembered by each thread.
const SLOTS: usize = 512;

thread_local! {
    static NAMES: RefCell<Vec<Option<Py<PyString>>>> = const { RefCell::new(Vec::new()) };
}

pub(super) struct Names;

impl Names {
    /// The string object for a short text.
    pub(super) fn get<'py>(py: Python<'py>, text: &str) -> Bound<'py, PyString> {
        NAMES.with_borrow_mut(|names| {
            names.resize_with(SLOTS, || None);
            let slot = &mut names[slot_of(text.as_bytes())];
            if let Some(name) = slot.as_ref().map(|name| name.bind(py))
                && name.to_str().is_ok_and(|known| known == text)
            {
                return name.clone();
            }
            let name = PyString::new(py, text);
            *slot = Some(name.clone().unbind());
            name
        })
    }
}

/// FNV-1a, folded to the number of slots.
fn slot_of(text: &[u8]) -> usize {
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    usize::try_from((hash >> 32) & (SLOTS as u64 - 1)).unwrap_or(0)
}
