//! What was committed, in order, for everybody who follows: one ring, a cursor per follower.

use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::ids::{NamespaceId, Origin, Revision};

/// A committed transaction as followers see it: its changes of the dictionary.
pub struct Published {
    /// Its place in the one order.
    pub revision: Revision,
    /// The owner's clock when it was decided, milliseconds since 1970.
    pub time_ms: u64,
    /// Who asked for it.
    pub origin: Option<Origin>,
    /// What changed, in order. Empty when the operation found nothing to do.
    pub changes: Vec<(NamespaceId, Change)>,
}

impl Published {
    /// The MessagePack of the `wire::Event` of one namespace, encoded once for all followers;
    /// none when nothing changed there.
    pub fn encoded(&self, namespace: NamespaceId) -> Option<Bytes> {
        let _ = namespace;
        todo!()
    }
}

/// What a follower gets from the ring.
pub enum FeedRead {
    /// The next transactions.
    Published(Vec<Arc<Published>>),
    /// There is nothing after the follower's revision yet.
    UpToDate,
    /// The ring no longer holds what comes next: read the log.
    Behind,
}

/// The ring.
pub struct Feed {}

/// While this lives, the function given to [`Feed::on_commit`] is called.
pub struct OnCommit {}

impl Feed {
    /// The transactions after a revision, until they hold `bytes_max` bytes; at least one.
    pub fn read(&self, after: Revision, bytes_max: usize) -> FeedRead {
        let _ = (after, bytes_max);
        todo!()
    }

    /// Calls `wake` after each publish, from the writing thread: it must not block.
    pub fn on_commit(&self, wake: Box<dyn Fn() + Send + Sync>) -> OnCommit {
        let _ = wake;
        todo!()
    }
}
