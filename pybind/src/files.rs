//! `d.open(key)`: values read and written in pieces, the native side of `objsync._files`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use objsync::{Ack, LargeReader, LargeWriter};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::codec::encode_key;
use crate::handle::{Handle, missing};
use crate::waiting::{blocking, wait};
use crate::{errors, large, records};

type Object<'py> = Bound<'py, PyAny>;

/// Bytes that one read gives at most, unless all are asked for.
const READ_BYTES_MAX: u64 = 1 << 20;

/// Bytes that are read in pieces; under `objsync.ValueReader`.
#[pyclass(frozen, module = "objsync._objsync.files")]
pub(crate) struct Reader {
    reader: Mutex<LargeReader>,
}

/// Opens the bytes under a key to read them.
#[pyfunction]
pub(crate) fn open_read(handle: &Handle, key: &Object<'_>) -> PyResult<Reader> {
    let py = key.py();
    let dict = handle.dict(py)?;
    let encoded = encode_key(key)?;
    let Some(payload) = wait(py, dict.find(&encoded))? else {
        return Err(missing(key));
    };
    let reader = dict.reader_of(&encoded, &payload);
    match reader {
        Ok(reader) if reader.type_name() == "bytes" => Ok(Reader {
            reader: Mutex::new(reader),
        }),
        Ok(reader) => Err(not_bytes(key, reader.type_name())),
        Err(error) if error.kind() == objsync::ErrorKind::Invalid => {
            Err(not_bytes(key, objsync::value::type_name(&payload)))
        }
        Err(error) => Err(errors::raise(py, &error)),
    }
}

fn not_bytes(key: &Object<'_>, type_name: &str) -> PyErr {
    let shown = key
        .repr()
        .map_or_else(|_| String::from("?"), |repr| repr.to_string());
    PyTypeError::new_err(format!(
        "value of key {shown} is of type {type_name}: only bytes are opened as a file"
    ))
}

#[pymethods]
impl Reader {
    /// Bytes of the value.
    #[getter]
    fn size(&self, py: Python<'_>) -> u64 {
        self.with(py, |reader| reader.content_bytes())
    }

    /// Where the next read begins.
    fn tell(&self, py: Python<'_>) -> u64 {
        self.with(py, |reader| reader.position())
    }

    /// Goes to a place.
    fn seek(&self, py: Python<'_>, position: u64) {
        self.with(py, |reader| reader.set_position(position));
    }

    /// The next bytes, at most `count` and 1 MiB of them; none at the end.
    fn read<'py>(&self, py: Python<'py>, count: u64) -> PyResult<Object<'py>> {
        self.take(py, count.min(READ_BYTES_MAX))
    }

    /// All that is left.
    fn read_all<'py>(&self, py: Python<'py>) -> PyResult<Object<'py>> {
        self.take(py, u64::MAX)
    }
}

impl Reader {
    fn take<'py>(&self, py: Python<'py>, count: u64) -> PyResult<Object<'py>> {
        let left = self.with(py, |reader| {
            reader.content_bytes().saturating_sub(reader.position())
        });
        let count = usize::try_from(count.min(left))?;
        // Each part begins where the one before ended.
        large::from_start(py, count, |_, buffer| {
            self.with(py, |reader| reader.read_exact_bytes(buffer))
                .map_err(|error| errors::raise(py, &error))
        })
    }

    /// Never with the interpreter's lock: another thread that reads may ask for it.
    fn with<T: Send>(&self, py: Python<'_>, work: impl Send + FnOnce(&mut LargeReader) -> T) -> T {
        py.detach(|| work(&mut self.reader.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Bytes that are written in pieces; under `objsync.ValueWriter`.
#[pyclass(frozen, module = "objsync._objsync.files")]
pub(crate) struct Writer {
    writer: Mutex<Option<LargeWriter>>,
}

/// How a handle cuts large values.
#[pyfunction]
pub(crate) fn chunking(py: Python<'_>, handle: &Handle) -> PyResult<&'static str> {
    let dict = handle.dict(py)?;
    blocking(py, || dict.chunking()).map(objsync::Chunking::name)
}

/// Has a handle cut large values otherwise.
#[pyfunction]
pub(crate) fn set_chunking(py: Python<'_>, handle: &Handle, name: &str) -> PyResult<()> {
    let (dict, chunking) = (handle.dict(py)?, parsed(py, name)?);
    blocking(py, || dict.set_chunking(chunking))
}

fn parsed(py: Python<'_>, name: &str) -> PyResult<objsync::Chunking> {
    name.parse()
        .map_err(|error| errors::invalid(py, format!("{error}")))
}

/// Begins to write bytes under a key.
#[pyfunction]
#[pyo3(signature = (handle, key, chunking=None))]
pub(crate) fn open_write(
    handle: &Handle,
    key: &Object<'_>,
    chunking: Option<&str>,
) -> PyResult<Writer> {
    let py = key.py();
    let dict = handle.dict(py)?;
    let encoded = encode_key(key)?;
    let writer = match chunking {
        None => blocking(py, || dict.open_write(&encoded))?,
        Some(name) => {
            let chunking = parsed(py, name)?;
            blocking(py, || dict.open_write_cut(&encoded, chunking))?
        }
    };
    Ok(Writer {
        writer: Mutex::new(Some(writer)),
    })
}

#[pymethods]
impl Writer {
    /// Takes the next bytes; returns how many.
    fn write(&self, data: &Object<'_>) -> PyResult<usize> {
        let py = data.py();
        let bytes = match data.cast_exact::<PyBytes>() {
            Ok(bytes) => {
                objsync::Bytes::from_owner(pyo3::pybacked::PyBackedBytes::from(bytes.clone()))
            }
            // What can change while it is read is copied.
            Err(_) => PyBuffer::<u8>::get(data)?.to_vec(py)?.into(),
        };
        let pushed = py.detach(|| {
            let mut writer = self.lock();
            writer.as_mut().map(|writer| writer.push_bytes(&bytes))
        });
        match pushed {
            Some(Ok(())) => Ok(bytes.len()),
            Some(Err(error)) => Err(errors::raise(py, &error)),
            None => Err(closed(py)),
        }
    }

    /// Puts what was written under the key; gives its `Ack`.
    fn commit<'py>(&self, py: Python<'py>) -> PyResult<Object<'py>> {
        let Some(writer) = py.detach(|| self.lock().take()) else {
            return Err(closed(py));
        };
        let ack: Ack = wait(py, writer.commit())?;
        records::ack(py, ack)
    }

    /// Forgets what was written: the key stays as it is.
    fn abort(&self, py: Python<'_>) {
        py.detach(|| drop(self.lock().take()));
    }
}

impl Writer {
    fn lock(&self) -> MutexGuard<'_, Option<LargeWriter>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed(py: Python<'_>) -> PyErr {
    errors::closed(py, String::from("this value is closed"))
}
