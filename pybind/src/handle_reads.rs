//! What a handle reads: from the cache of decoded values, or from the dictionary.

use objsync::Dict;
use pyo3::prelude::*;

use crate::codec::{encode_key, is_cacheable};
use crate::errors;
use crate::handle::Handle;
use crate::large;
use crate::live::{attach, is_container};
use crate::waiting::wait_for_read;

impl Handle {
    /// The dictionary, once the handle was opened.
    pub(crate) fn dict(&self, py: Python<'_>) -> PyResult<&Dict> {
        self.dict
            .get()
            .ok_or_else(|| errors::closed(py, String::from("this object was never opened")))
    }

    /// Takes the dictionary that was opened for this handle.
    pub(crate) fn opened(&self, py: Python<'_>, dict: Dict) -> PyResult<()> {
        self.dict
            .set(dict)
            .map_err(|_| errors::invalid(py, String::from("this object is open already")))
    }

    /// The value under a key: live if it is a container, else free to change.
    pub(crate) fn read<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = key.py();
        let dict = self.dict(py)?;
        let cacheable = is_cacheable(key);
        if cacheable && let Some(hit) = self.cache.get(dict, key)? {
            return Ok(Some(hit));
        }
        let encoded = encode_key(key)?;
        let stamp = dict.stamp(&encoded);
        let Some((payload, revision)) = wait_for_read(py, dict.fetch_entry(&encoded))? else {
            return Ok(None);
        };
        if large::is_large(&payload) {
            return large::object(py, dict, payload).map(Some);
        }
        let value = large::decoded(py, dict, &payload)?;
        if is_container(&value.object) {
            let place = self.places.get(dict, key, &encoded)?;
            let read = (stamp, revision);
            let live = attach(&place, &value.object, Some(read))?;
            if cacheable {
                self.cache.put_live(key, read, value, place.unbind())?;
            }
            return Ok(Some(live));
        }
        if cacheable {
            self.cache.put(key, stamp, value).map(Some)
        } else {
            Ok(Some(value.object))
        }
    }

    /// A value that was read without a stamp, as of some moment: live if it is a container.
    pub(crate) fn live<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        value: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if !is_container(&value) {
            return Ok(value);
        }
        let place = self
            .places
            .get(self.dict(key.py())?, key, &encode_key(key)?)?;
        attach(&place, &value, None)
    }

    /// The value of a key was replaced through this handle, or removed.
    pub(crate) fn replaced(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        self.places.replaced(key)
    }
}
