//! Transactions, the native side of `objsync.Transaction`, blocking and awaitable. The loop that runs
//! the user's function is in Python: `pybind/python/objsync/_transaction.py`.

use objsync::{Attempts, Transaction};
use pyo3::prelude::*;

use crate::awaitable::{Pages, plain};
use crate::calls::Calls;
use crate::codec::{decode, encode_key};
use crate::errors;
use crate::handle::{Handle, missing, range_of};
use crate::large::encode;
use crate::leases::Lock;
use crate::live::Ends;
use crate::scan::{AnyScan, ScanIterator, What};
use crate::waiting::{wait, wait_for_read};

type Object<'py> = Bound<'py, PyAny>;

/// A dictionary at one moment, with changes on top; `objsync.Transaction` is its public face.
#[pyclass(frozen, module = "objsync._objsync.transactions")]
pub(crate) struct TransactionHandle {
    transaction: Transaction,
}

impl TransactionHandle {
    fn read<'py>(&self, key: &Object<'py>) -> PyResult<Option<Object<'py>>> {
        let py = key.py();
        let payload = wait_for_read(py, self.transaction.get(&encode_key(key)?))?;
        payload
            .map(|payload| Ok(decode(py, &payload)?.object))
            .transpose()
    }

    fn done(py: Python<'_>, result: objsync::Result<()>) -> PyResult<()> {
        result.map_err(|error| errors::raise(py, &error))
    }
}

#[pymethods]
impl TransactionHandle {
    /// As of when it reads.
    #[getter]
    fn revision(&self) -> u64 {
        self.transaction.revision().0
    }

    fn __getitem__<'py>(&self, key: &Object<'py>) -> PyResult<Object<'py>> {
        self.read(key)?.ok_or_else(|| missing(key))
    }

    /// The value of `key`; `default` when there is no such key.
    #[pyo3(signature = (key, default=None, /))]
    fn get<'py>(
        &self,
        key: &Object<'py>,
        default: Option<Object<'py>>,
    ) -> PyResult<Option<Object<'py>>> {
        Ok(self.read(key)?.or(default))
    }

    fn __contains__(&self, key: &Object<'_>) -> PyResult<bool> {
        wait_for_read(key.py(), self.transaction.contains(&encode_key(key)?))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(usize::try_from(wait(py, self.transaction.count())?)?)
    }

    fn __setitem__(&self, key: &Object<'_>, value: &Object<'_>) -> PyResult<()> {
        let (encoded, payload) = (encode_key(key)?, encode(value)?);
        Self::done(key.py(), self.transaction.set(&encoded, payload))
    }

    fn __delitem__(&self, key: &Object<'_>) -> PyResult<()> {
        let encoded = encode_key(key)?;
        if !wait_for_read(key.py(), self.transaction.contains(&encoded))? {
            return Err(missing(key));
        }
        Self::done(key.py(), self.transaction.delete(&encoded))
    }

    /// Removes a key, whether it is there or not.
    fn discard(&self, key: &Object<'_>) -> PyResult<()> {
        let encoded = encode_key(key)?;
        Self::done(key.py(), self.transaction.delete(&encoded))
    }

    /// Demands that a lock is held when the transaction happens.
    fn require(&self, py: Python<'_>, lock: &Lock) -> PyResult<()> {
        Self::done(py, self.transaction.require(lock.lock()))
    }

    /// Entries of a range: `what` is "keys", "values" or "items".
    #[pyo3(signature = (what, start=None, stop=None, prefix=None, reverse=false))]
    fn _scan(
        &self,
        py: Python<'_>,
        what: &str,
        start: Option<&Object<'_>>,
        stop: Option<&Object<'_>>,
        prefix: Option<&Object<'_>>,
        reverse: bool,
    ) -> PyResult<ScanIterator> {
        let what = What::read(py, what)?;
        let range = range_of(start, stop, prefix)?;
        let scan = self.scan(what, range, reverse);
        Ok(ScanIterator::over(scan, what))
    }
}

impl TransactionHandle {
    fn scan(&self, what: What, range: objsync::KeyRange, reverse: bool) -> AnyScan {
        AnyScan::Transaction(match what {
            What::Keys => self.transaction.keys(range, reverse),
            What::Values | What::Items => self.transaction.scan(range, reverse),
        })
    }
}

/// The attempts at one transaction.
#[pyclass(frozen, module = "objsync._objsync.transactions", name = "Attempts")]
pub(crate) struct AttemptsHandle {
    attempts: Attempts,
    ends: Ends,
}

#[pymethods]
impl AttemptsHandle {
    #[new]
    fn new(py: Python<'_>, handle: &Handle) -> PyResult<Self> {
        let attempts = Attempts::new(handle.dict(py)?);
        let ends = handle.places.ends(py);
        Ok(Self { attempts, ends })
    }

    /// A transaction at a moment that holds what made the attempt before fail.
    fn begin(&self, py: Python<'_>) -> PyResult<TransactionHandle> {
        let transaction = wait_for_read(py, self.attempts.begin())?;
        Ok(TransactionHandle { transaction })
    }

    /// Makes its changes; false when what it read has changed, so that it has to be run again.
    fn commit(&self, py: Python<'_>, transaction: &TransactionHandle) -> PyResult<bool> {
        let transaction = &transaction.transaction;
        let keys = transaction.changed_keys();
        let is_done = wait(py, self.attempts.commit(transaction))?;
        if is_done {
            self.ends.replaced(py, keys.iter().map(|key| &key[..]))?;
        }
        Ok(is_done)
    }

    /// Ends a transaction that has failed; true when it has to be run again, because its moment is
    /// no longer held.
    fn give_up(&self, py: Python<'_>, transaction: &TransactionHandle) -> PyResult<bool> {
        let again = self.attempts.give_up(&transaction.transaction);
        again.map_err(|error| errors::raise(py, &error))
    }
}

/// `Attempts.begin`; completes with `TransactionHandle`.
#[pyfunction]
pub(crate) fn transact_begin(
    calls: &Calls,
    future: &Object<'_>,
    attempts: &AttemptsHandle,
) -> PyResult<()> {
    calls.start(future, attempts.attempts.begin(), |py, transaction| {
        Ok(Py::new(py, TransactionHandle { transaction })?.into_any())
    })
}

/// `Attempts.commit`; completes with whether it was made.
#[pyfunction]
pub(crate) fn transact_commit(
    calls: &Calls,
    future: &Object<'_>,
    attempts: &AttemptsHandle,
    transaction: &TransactionHandle,
) -> PyResult<()> {
    let call = attempts.attempts.commit(&transaction.transaction);
    calls.start(future, call, plain)
}

/// The value of a key; `default` when there is none, or `KeyError` when `is_required`.
#[pyfunction]
pub(crate) fn transact_get(
    calls: &Calls,
    future: &Object<'_>,
    transaction: &TransactionHandle,
    key: &Object<'_>,
    default: Py<PyAny>,
    is_required: bool,
) -> PyResult<()> {
    let call = transaction.transaction.get(&encode_key(key)?);
    let key = key.clone().unbind();
    calls.start(future, call, move |py, payload| match payload {
        Some(payload) => Ok(decode(py, &payload)?.object.unbind()),
        None if is_required => Err(missing(key.bind(py))),
        None => Ok(default),
    })
}

/// Whether there is such a key.
#[pyfunction]
pub(crate) fn transact_contains(
    calls: &Calls,
    future: &Object<'_>,
    transaction: &TransactionHandle,
    key: &Object<'_>,
) -> PyResult<()> {
    let call = transaction.transaction.contains(&encode_key(key)?);
    calls.start(future, call, plain)
}

/// How many keys there are.
#[pyfunction]
pub(crate) fn transact_count(
    calls: &Calls,
    future: &Object<'_>,
    transaction: &TransactionHandle,
) -> PyResult<()> {
    calls.start(future, transaction.transaction.count(), plain)
}

/// Starts to read keys, values or items; completes with `Pages`.
#[pyfunction]
#[pyo3(signature = (calls, future, transaction, what, bounds, reverse))]
pub(crate) fn transact_pages(
    calls: &Calls,
    future: &Object<'_>,
    transaction: &TransactionHandle,
    what: &str,
    bounds: (Option<Object<'_>>, Option<Object<'_>>, Option<Object<'_>>),
    reverse: bool,
) -> PyResult<()> {
    let what = What::read(future.py(), what)?;
    let (start, stop, prefix) = bounds;
    let range = range_of(start.as_ref(), stop.as_ref(), prefix.as_ref())?;
    let scan = transaction.scan(what, range, reverse);
    calls.start(future, std::future::ready(Ok(scan)), move |py, scan| {
        Pages::over(py, scan, what)
    })
}
