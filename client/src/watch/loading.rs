//! The large value of the next event, on its way.
//!
//! It is fetched by a task of its own: who gives up waiting, for a moment or for good, does not make
//! the next one begin anew. While it cannot be fetched the event stays, and whoever reads is told why
//! each time; once it is known that it never can be, the event says so.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use objsync_proto::error::Failure;
use objsync_proto::ids::Revision;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Reading, Unread};
use crate::core::Core;
use crate::error::{ObjectError, Result};
use crate::large::{LargeValue, whole};

/// Before a value that could not be fetched is tried again: a reader may ask in a loop.
const PAUSE: Duration = Duration::from_millis(250);

/// A value on its way. Dropped, it is not fetched any more.
#[derive(Default)]
pub(super) struct Loading {
    task: Option<JoinHandle<Result<Bytes>>>,
    not_before: Option<Instant>,
}

impl Drop for Loading {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Loading {
    /// Waits for the value of a reference. Cancel safe: the next call waits for the same task.
    async fn wait(&mut self, core: &Arc<Core>, reference: &Bytes) -> Result<Bytes> {
        if let Some(not_before) = self.not_before {
            let left = not_before.saturating_duration_since(Instant::now());
            core.within(left, std::future::pending::<()>()).await;
            self.not_before = None;
        }
        let task = self.task.get_or_insert_with(|| {
            let (core, reference) = (Arc::clone(core), reference.clone());
            let runtime = core.runtime().clone();
            runtime.spawn(async move { whole(&core, reference).await })
        });
        let loaded = task
            .await
            .unwrap_or_else(|error| Err(ObjectError::stopped(&error)));
        self.task = None;
        loaded
    }
}

impl Unread {
    /// Opens the values. One that cannot be opened ends no watch: the event says why it is not there.
    fn open(&mut self, core: &Core) {
        if std::mem::replace(&mut self.is_opened, true) {
            return;
        }
        let event = &mut self.event;
        if let Some(value) = event.value.take() {
            match core.config.open(&event.key, event.revision, value) {
                Ok(value) => event.value = Some(value),
                Err(error) => event.unread = Some(failure(&error)),
            }
        }
        if let Some(old) = event.old_value.take() {
            // Which revision wrote it is not known: it was the present one just before.
            let before = Revision(event.revision.0.saturating_sub(1));
            event.old_value = core.config.open(&event.key, before, old).ok();
        }
    }
}

impl Reading {
    /// Reads the value of the first event, where that is large. Only this watch waits for it. Cancel
    /// safe.
    ///
    /// # Errors
    /// Why it cannot be read now; the event stays.
    pub(super) async fn load(&mut self, core: &Arc<Core>) -> Result<()> {
        let Some(Ok(unread)) = self.ready.front_mut() else {
            return Ok(());
        };
        unread.open(core);
        let event = &mut unread.event;
        let is_reference = |payload: &Bytes| LargeValue::is_reference(payload);
        if event.old_value.as_ref().is_some_and(is_reference) {
            event.old_value = None;
        }
        let Some(reference) = event.value.clone().filter(is_reference) else {
            return Ok(());
        };
        match self.loading.wait(core, &reference).await {
            Ok(payload) => event.value = Some(payload),
            Err(error) if error.can_pass() => {
                self.loading.not_before = Some(Instant::now() + PAUSE);
                return Err(error);
            }
            Err(error) => {
                event.value = None;
                event.unread = Some(failure(&error));
            }
        }
        Ok(())
    }
}

/// What an event says of a value that cannot be told.
fn failure(error: &ObjectError) -> Failure {
    Failure::new(error.kind(), error.to_string())
}
