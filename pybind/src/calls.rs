//! The awaitable door: calls of one event loop that are on their way.
//!
//! A call is a Rust future. When its answer comes, the thread that brings it notes the call's number
//! and writes one byte to a socket that the event loop watches; it never touches Python. The loop
//! then polls the noted calls in its own thread and completes their `asyncio` futures. The call of a
//! future that is cancelled is dropped before the task that awaited it goes on.
//!
//! Dropping a call half way does not take back a write that was handed over.

use std::collections::HashMap;
use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use objsync::ObjectError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::errors;

/// What becomes of a call's answer: a Python object, made in the event loop's thread.
type Answer = Box<dyn Send + FnOnce(Python<'_>) -> PyResult<Py<PyAny>>>;
type Call = Pin<Box<dyn Send + Future<Output = Result<Answer, ObjectError>>>>;

/// The calls of one event loop that are on their way.
#[pyclass(frozen, module = "objsync._objsync")]
pub(crate) struct Calls {
    wakeups: UnixStream,
    woken: Arc<Woken>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    last_number: u64,
    calls: HashMap<u64, (Call, Py<PyAny>)>,
    /// Numbers by the address of the future, which lives as long as its call waits.
    numbers: HashMap<usize, u64>,
}

/// Numbers of calls that can go on.
struct Woken {
    numbers: Mutex<Vec<u64>>,
    bell: UnixStream,
}

/// What a pending call wakes.
struct CallWaker {
    number: u64,
    woken: Arc<Woken>,
}

impl Wake for CallWaker {
    fn wake(self: Arc<Self>) {
        let mut numbers = self
            .woken
            .numbers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        numbers.push(self.number);
        if numbers.len() == 1 {
            // Full means that the loop has not yet read what rang before: it will.
            let _ = (&self.woken.bell).write(&[1]);
        }
    }
}

impl Calls {
    /// Starts a call and completes `future` with what `convert` makes of its answer.
    pub(crate) fn start<T>(
        &self,
        future: &Bound<'_, PyAny>,
        call: impl Future<Output = Result<T, ObjectError>> + Send + 'static,
        convert: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> PyResult<()>
    where
        T: Send + 'static,
    {
        let answered = async move {
            let answer = call.await?;
            Ok(Box::new(move |py: Python<'_>| convert(py, answer)) as Answer)
        };
        let number = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.last_number += 1;
            waiting.last_number
        };
        self.step(number, Box::pin(answered), future)
    }

    /// Polls one call; completes its future, or keeps it for the next time it is woken.
    fn step(&self, number: u64, mut call: Call, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        let waker = Waker::from(Arc::new(CallWaker {
            number,
            woken: Arc::clone(&self.woken),
        }));
        match call.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => complete(py, future, result),
            Poll::Pending => {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                waiting.numbers.insert(future.as_ptr() as usize, number);
                waiting
                    .calls
                    .insert(number, (call, future.clone().unbind()));
                Ok(())
            }
        }
    }

    fn take(&self, number: u64) -> Option<(Call, Py<PyAny>)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = waiting.calls.remove(&number)?;
        waiting.numbers.remove(&(taken.1.as_ptr() as usize));
        Some(taken)
    }

    fn take_of(&self, future: &Bound<'_, PyAny>) -> Option<(Call, Py<PyAny>)> {
        let number = {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.numbers.get(&(future.as_ptr() as usize)).copied()
        };
        self.take(number?)
    }
}

fn is_done(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    future
        .call_method0(intern!(future.py(), "done"))?
        .is_truthy()
}

fn complete(
    py: Python<'_>,
    future: &Bound<'_, PyAny>,
    result: Result<Answer, ObjectError>,
) -> PyResult<()> {
    if is_done(future)? {
        return Ok(());
    }
    let object = match result {
        Ok(answer) => answer(py),
        Err(error) => Err(errors::raise(py, &error)),
    };
    match object {
        Ok(object) => future.call_method1(intern!(py, "set_result"), (object,))?,
        Err(error) => future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))?,
    };
    Ok(())
}

#[pymethods]
impl Calls {
    #[new]
    fn new() -> PyResult<Self> {
        let (wakeups, bell) = UnixStream::pair()?;
        wakeups.set_nonblocking(true)?;
        bell.set_nonblocking(true)?;
        let woken = Arc::new(Woken {
            numbers: Mutex::default(),
            bell,
        });
        Ok(Self {
            wakeups,
            woken,
            waiting: Mutex::default(),
        })
    }

    /// The descriptor that becomes readable when a call can go on.
    fn fileno(&self) -> i32 {
        self.wakeups.as_raw_fd()
    }

    /// Drops the call of a future that is done without it. Called by the event loop.
    fn forget(&self, future: &Bound<'_, PyAny>) {
        drop(self.take_of(future));
    }

    /// Lets the calls that were woken go on. Called by the event loop.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        // The bell is emptied before the numbers are taken, so none is noted without a ring.
        let mut rings = [0; 64];
        while matches!((&self.wakeups).read(&mut rings), Ok(count) if count == rings.len()) {}
        let numbers = std::mem::take(
            &mut *self
                .woken
                .numbers
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for number in numbers {
            let Some((call, future)) = self.take(number) else {
                continue;
            };
            // A call whose future was cancelled is dropped, not polled: polled, it would take an
            // event that nobody then gets.
            if !is_done(future.bind(py))? {
                self.step(number, call, future.bind(py))?;
            }
        }
        Ok(())
    }
}
