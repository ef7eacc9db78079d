//! What a handle takes from outside: the runtime that its connection runs on, and its network.

use std::sync::Arc;

use objsync_server::{Network, Udp};
use tokio::runtime::Handle;

use crate::error::Result;
use crate::process;

/// Where a handle runs. Programs have no use for one but their process's own; a test that runs many
/// handles on virtual time, over a network of its own, gives another.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Drives the connection; time is what it is there.
    pub runtime: Handle,
    /// Where packets go.
    pub network: Arc<dyn Network>,
}

impl Surroundings {
    /// The I/O thread of this process, and the kernel's UDP.
    pub(crate) fn of_process() -> Result<Self> {
        Ok(Self {
            runtime: process::current()?.runtime.clone(),
            network: Arc::new(Udp),
        })
    }
}
