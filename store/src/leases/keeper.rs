//! Somebody whose presence is known: leases of presence last as long as it does.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use objsync_proto::ids::{LeaseId, NamespaceId};
use objsync_proto::limits::IDLE_TIMEOUT_MS;
use objsync_proto::wire::LeaseStatus;

use crate::core::Core;
use crate::error::StoreError;

/// Keeps leases. Those of presence that it granted or kept last end with it.
pub struct Keeper {
    core: Weak<Core>,
    number: u64,
    /// Held while a lease is kept, so that none is kept after the end.
    has_ended: Mutex<bool>,
}

impl Keeper {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        Self {
            core: Arc::downgrade(core),
            number: core.leases.next_keeper.fetch_add(1, Ordering::Relaxed),
            has_ended: Mutex::new(false),
        }
    }

    /// Keeps a lease for its whole time again. One of presence ends with this keeper from here on;
    /// at once, if that has ended already. Only memory changes, nothing is written.
    ///
    /// # Errors
    /// `NotFound`, as [`StoreError::Refused`], when there is no such lease; [`StoreError::Closed`].
    pub fn keep(&self, namespace: NamespaceId, lease: LeaseId) -> Result<LeaseStatus, StoreError> {
        let core = self.core.upgrade().ok_or(StoreError::Closed)?;
        core.refuse_if_closed()?;
        let has_ended = self
            .has_ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let kept = core.keep_lease((namespace, lease), self.number);
        if *has_ended {
            self.let_go(&core, 0);
        }
        kept
    }

    /// Ends every lease of presence that it keeps, soon, as one transaction. Later calls do
    /// nothing; dropping it does the same.
    pub fn end(&self) {
        self.end_after(0);
    }

    /// As [`Keeper::end`], but another keeper has a while (`limits::IDLE_TIMEOUT_MS`) to go on
    /// keeping them: the owner goes, not who is present.
    pub fn leave(&self) {
        self.end_after(IDLE_TIMEOUT_MS);
    }

    fn end_after(&self, grace_ms: u64) {
        let mut has_ended = self
            .has_ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let had_ended = std::mem::replace(&mut *has_ended, true);
        if let Some(core) = self.core.upgrade().filter(|_| !had_ended) {
            self.let_go(&core, grace_ms);
        }
    }

    fn let_go(&self, core: &Core, grace_ms: u64) {
        let end_ms = core.clock.monotonic_ms().saturating_add(grace_ms);
        if core.leases.table().end_kept(self.number, end_ms) {
            core.queue.look();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}
