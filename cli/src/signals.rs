//! Signals that end the program in order, and one that must not end it.

use std::path::PathBuf;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on both are caught. Call it within a runtime.
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A runtime for signals only; the store and its server have their own threads.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::Io {
            op: "start",
            path: PathBuf::from("the thread for signals"),
            source,
        })
}

/// A file that reaches the limit of this process (`ulimit -f`) is an error of the write, which is
/// answered, and not the end of the process.
pub(crate) fn survive_file_limit() -> Result<(), Failure> {
    let kind = SignalKind::from_raw(libc::SIGXFSZ);
    // What is caught once stays caught when the runtime goes.
    runtime()?.block_on(async { catch(kind) }).map(drop)
}

/// From now on the signal is caught. Call it within a runtime.
fn catch(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|source| Failure::Io {
        op: "catch signals of",
        path: PathBuf::from("this process"),
        source,
    })
}
