//! The Python classes that values are made of and that have no type of their own in PyO3's stable
//! interface, each imported when the first value needs it.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// The classes of values that are neither containers nor scalars.
pub(crate) struct ValueTypes {
    pub(crate) datetime: Py<PyType>,
    pub(crate) date: Py<PyType>,
    pub(crate) time: Py<PyType>,
    pub(crate) timedelta: Py<PyType>,
    pub(crate) timezone: Py<PyType>,
    pub(crate) utc: Py<PyAny>,
    pub(crate) zone_info: Py<PyType>,
    pub(crate) decimal: Py<PyType>,
    pub(crate) uuid: Py<PyType>,
}

impl ValueTypes {
    /// The classes, imported by the first call.
    pub(crate) fn get(py: Python<'_>) -> PyResult<&Self> {
        static TYPES: PyOnceLock<ValueTypes> = PyOnceLock::new();
        TYPES.get_or_try_init(py, || {
            let class = |module: &str, name: &str| -> PyResult<Py<PyType>> {
                Ok(py
                    .import(module)?
                    .getattr(name)?
                    .cast_into::<PyType>()?
                    .unbind())
            };
            let timezone = class("datetime", "timezone")?;
            Ok(Self {
                datetime: class("datetime", "datetime")?,
                date: class("datetime", "date")?,
                time: class("datetime", "time")?,
                timedelta: class("datetime", "timedelta")?,
                utc: timezone.bind(py).getattr(intern!(py, "utc"))?.unbind(),
                timezone,
                zone_info: class("zoneinfo", "ZoneInfo")?,
                decimal: class("decimal", "Decimal")?,
                uuid: class("uuid", "UUID")?,
            })
        })
    }
}
