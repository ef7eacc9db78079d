//! Lets go of what was uploaded once a write that names it is logged: from then on the log keeps it.
//!
//! The answer of a write is given on whichever thread committed it, so nothing is read there: what
//! needs reads waits for the task of its connection, one tree after the other. Where too many wait,
//! what lies below a root stays kept until the connection ends, which costs space until then.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use objsync_proto::chunk::Root;
use objsync_store::ChunkPins;
use tokio::sync::Notify;

use crate::peer::Peer;

/// Most trees that wait, of one connection: some 200 KiB.
const WAITING_MAX: usize = 64;

/// Trees of values that were logged, of one connection.
#[derive(Debug, Default)]
pub(crate) struct Letting {
    waiting: Mutex<VecDeque<Root>>,
    has_come: Notify,
}

impl Letting {
    /// Lets go of what a root names itself, and of the rest later. Does not wait.
    pub(crate) fn go(&self, pins: &ChunkPins, root: Root) {
        pins.release(root.children().iter().map(|child| child.id));
        let mut waiting = self.waiting();
        // A node that was stored keeps what it lists, so mostly nothing is left.
        if root.depth() == 0 || pins.count() == 0 || waiting.len() >= WAITING_MAX {
            return;
        }
        waiting.push_back(root);
        drop(waiting);
        self.has_come.notify_one();
    }

    fn take(&self) -> Option<Root> {
        self.waiting().pop_front()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Root>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets go of what lies below the roots as they come. Never ends.
///
/// # Cancel safety
/// Dropped half way, the rest stays kept as long as the pins live.
pub(crate) async fn run(peer: &Arc<Peer>) -> Infallible {
    let letting = &peer.uploads.letting;
    loop {
        while let Some(root) = letting.take() {
            let worker = Arc::clone(peer);
            let release = move || {
                let chunks = worker.serving.store.chunks();
                // What cannot be read stays until the connection ends.
                let _ = chunks.release(&worker.uploads.pins, &root);
            };
            let _ = peer.serving.apart(release).await;
        }
        letting.has_come.notified().await;
    }
}

#[cfg(test)]
mod tests;
