//! What one process has one of: the I/O thread, and the table of the stores it owns.
//!
//! Both belong to a fork generation. A second open of a store that this process owns shares the
//! owner, because a lock of one's own cannot be told from a stranger's.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};

use crate::error::{ObjectError, Result};
use crate::fork;
use crate::generation::PerGeneration;
use crate::offline::Offline;
use crate::owned::{DirectoryId, Owned, OwnedUse};

static PROCESS: PerGeneration<Process> = PerGeneration::empty();

/// This process, as far as objsync is concerned.
pub(crate) struct Process {
    /// The I/O thread's runtime.
    pub(crate) runtime: Handle,
    owners: Mutex<HashMap<DirectoryId, Weak<Owned>>>,
    queues: Mutex<Vec<Weak<Offline>>>,
}

/// The process of this generation, with its I/O thread running.
pub(crate) fn current() -> Result<&'static Process> {
    PROCESS.get_or_try_make(Process::start)
}

/// Descriptors of stores that a forked child must close.
pub(crate) fn inherited() -> Vec<RawFd> {
    let Some(process) = PROCESS.get() else {
        return Vec::new();
    };
    let owners: Vec<_> = process
        .owners()
        .values()
        .filter_map(Weak::upgrade)
        .collect();
    let queues: Vec<_> = process.queues().iter().filter_map(Weak::upgrade).collect();
    owners
        .iter()
        .flat_map(|owned| owned.inherited_fds())
        .chain(queues.iter().filter_map(|queue| queue.inherited_fd()))
        .collect()
}

impl Process {
    fn start() -> Result<Self> {
        fork::install();
        let failed = |source| ObjectError::Io {
            op: "start the I/O thread of",
            path: std::env::current_exe().unwrap_or_default(),
            source: Arc::new(source),
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_keep_alive(Duration::from_secs(1))
            .thread_name("objsync-work")
            .build()
            .map_err(failed)?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name("objsync-io".into())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .map_err(failed)?;
        Ok(Self {
            runtime: handle,
            owners: Mutex::new(HashMap::new()),
            queues: Mutex::default(),
        })
    }

    /// The owner of a directory within this process, with one more user, unless it is closing.
    pub(crate) fn owner_of(&self, id: DirectoryId) -> Option<OwnedUse> {
        let owned = self.owners().get(&id).and_then(Weak::upgrade)?;
        owned.share().then(|| OwnedUse::new(owned))
    }

    /// Puts an owner into the table.
    pub(crate) fn add_owner(&self, owned: &Arc<Owned>) {
        let mut owners = self.owners();
        owners.retain(|_, owned| owned.strong_count() > 0);
        owners.insert(owned.id(), Arc::downgrade(owned));
    }

    /// Puts a queue on disk into the list.
    pub(crate) fn add_queue(&self, queue: &Arc<Offline>) {
        let mut queues = self.queues();
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(queue));
    }

    fn queues(&self) -> MutexGuard<'_, Vec<Weak<Offline>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<DirectoryId, Weak<Owned>>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
