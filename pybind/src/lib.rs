//! The compiled half of the Python package `objsync`; the other half is `pybind/python/objsync`.
//!
//! | module | what it knows |
//! |---|---|
//! | [`handle`] | the class under every object: reads, writes, iteration |
//! | [`handle_reads`] | what it reads, live where that is a container |
//! | [`codec`] | Python objects and their bytes |
//! | [`cache`] | decoded values, so that a hot read is a look into Python's memory |
//! | [`writes`] | pop, setdefault, compare-and-set, update: writes that look first |
//! | [`batch`], [`pipeline`] | one transaction; many writes in flight |
//! | [`scan`], [`watch`] | iteration; changes as they happen |
//! | [`transaction`] | several reads and writes as one |
//! | [`live`] | containers that write through: `objsync._nested` |
//! | [`leases`], [`patches`] | leases, locks and presence; changes of a part of a value |
//! | [`past`] | a dictionary as it was at a revision; what a key was |
//! | [`reads`] | how old a read may be, snapshots, lost writes, conflicts |
//! | [`values`] | values in parts, and files of values |
//! | [`calls`], [`awaitable`] | the same calls for an event loop |
//! | [`large`], [`files`] | values in chunks, whole and in pieces |
//! | [`waiting`], [`interrupt`] | how a Python thread waits, and what Ctrl-C does then |
//! | [`errors`], [`records`], [`options`] | exceptions, results and settings, to and from Python |

mod awaitable;
mod batch;
mod cache;
mod calls;
mod codec;
mod errors;
mod files;
mod handle;
mod handle_reads;
mod interrupt;
mod large;
mod leases;
mod live;
mod options;
mod past;
mod patches;
mod pipeline;
mod reads;
mod records;
mod scan;
mod transaction;
mod values;
mod waiting;
mod watch;
mod writes;

use pyo3::prelude::*;

/// The extension module `objsync._objsync`. It relies on the interpreter's lock: `_native.py` refuses
/// a Python without one, before this is loaded.
#[pymodule(gil_used = true)]
mod _objsync {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::awaitable::{
        Pages, connect, contains, count, delete, flush, get, incr, next_event, open, pages, set,
        sync, watch,
    };
    #[pymodule_export]
    use super::batch::Batch;
    #[pymodule_export]
    use super::calls::Calls;
    #[pymodule_export]
    use super::handle::Handle;
    #[pymodule_export]
    use super::past::{PastHandle, at, history, past_contains, past_count, past_get, past_pages};
    #[pymodule_export]
    use super::pipeline::Pipeline;
    #[pymodule_export]
    use super::reads::{
        clear_conflicts, conflicts, conflicts_clear, outcome, outcome_of, read_within, snapshot,
        snapshot_begin,
    };
    #[pymodule_export]
    use super::scan::ScanIterator;
    #[pymodule_export]
    use super::watch::Events;
    #[pymodule_export]
    use super::{decode_key, decode_value, encode_key, encode_value};

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "the name that Python looks for")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// Values as files, and how large ones are cut.
    #[pymodule]
    mod files {
        use pyo3::prelude::*;

        #[pymodule_export]
        use crate::files::{Reader, Writer, chunking, open_read, open_write, set_chunking};
        #[pymodule_export]
        use crate::past::Unread;

        #[pymodule_init]
        fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
            crate::importable(module, "files")
        }
    }

    /// Leases, locks and presence, and changes of a part of a value.
    #[pymodule]
    mod leases {
        use pyo3::prelude::*;

        #[pymodule_export]
        use crate::leases::{
            Lease, Lock, Presence, lease, lease_begin, lease_close, lock, lock_acquire, lock_enter,
            lock_release, presence, presence_begin, presence_close, set_leased,
        };
        #[pymodule_export]
        use crate::patches::patch_value;

        #[pymodule_init]
        fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
            crate::importable(module, "leases")
        }
    }

    /// Live values.
    #[pymodule]
    mod live {
        use pyo3::prelude::*;

        #[pymodule_export]
        use crate::live::{Place, fresh, patched, same_items};

        #[pymodule_export]
        const PATCH_ITEMS_MAX: usize = objsync::limits::PATCH_ITEMS_MAX;

        #[pymodule_init]
        fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
            crate::importable(module, "live")
        }
    }

    /// Several reads and writes as one.
    #[pymodule]
    mod transactions {
        use pyo3::prelude::*;

        #[pymodule_export]
        use crate::transaction::{
            AttemptsHandle, TransactionHandle, transact_begin, transact_commit, transact_contains,
            transact_count, transact_get, transact_pages,
        };

        #[pymodule_init]
        fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
            crate::importable(module, "transactions")
        }
    }

    /// Values in parts, and files of values.
    #[pymodule]
    mod values {
        use pyo3::prelude::*;

        #[pymodule_export]
        use crate::values::{join_value, split_value, unpack_zstd};

        #[pymodule_init]
        fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
            crate::importable(module, "values")
        }
    }

    #[pymodule_init]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        objsync::set_interrupt_check(super::interrupt::check);
        Ok(())
    }
}

/// Makes a part of this module one that can be imported: a file of its own would be found by name.
fn importable(part: &Bound<'_, PyModule>, name: &str) -> PyResult<()> {
    let modules = part.py().import("sys")?.getattr("modules")?;
    modules.set_item(format!("objsync._objsync.{name}"), part)
}

/// The stored bytes of a value, before compression.
#[pyfunction]
fn encode_value<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, pyo3::types::PyBytes>> {
    Ok(pyo3::types::PyBytes::new(
        value.py(),
        &codec::encode(value)?,
    ))
}

/// The value of stored bytes.
#[pyfunction]
fn decode_value<'py>(py: Python<'py>, payload: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    Ok(codec::decode(py, &objsync::Bytes::copy_from_slice(payload))?.object)
}

/// The stored bytes of a key, whose order is the order of keys.
#[pyfunction]
fn encode_key<'py>(key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, pyo3::types::PyBytes>> {
    Ok(pyo3::types::PyBytes::new(
        key.py(),
        &codec::encode_key(key)?,
    ))
}

/// The key of stored bytes.
#[pyfunction]
fn decode_key<'py>(py: Python<'py>, encoded: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    codec::decode_key(py, encoded)
}
