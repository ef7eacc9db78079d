//! Requests about the past: one function each. The right to read is the right to read the past.
//!
//! They read the disk, so each runs apart from the I/O thread, and as their answers may be large
//! and come when they are ready, only a few of a connection run at once, each when there is room
//! for its answer.

use std::sync::Arc;

use objsync_proto::error::Failure;
use objsync_proto::ids::{NamespaceId, Revision};
use objsync_proto::wire::{Reply, ToPeer};
use objsync_store::{HistoryPage, Past, StoreError};

use crate::peer::Peer;
use crate::session::stopped;

type Answered = Result<Reply, Failure>;

/// Whether a revision can be read.
pub(crate) async fn at(peer: &Arc<Peer>, id: u64, revision: Revision) {
    in_past(peer, id, revision, |past, _| {
        Ok(Reply::Position(past.position()))
    })
    .await;
}

/// The value of a key as of a revision.
pub(crate) async fn get(peer: &Arc<Peer>, id: u64, key: bytes::Bytes, revision: Revision) {
    in_past(peer, id, revision, move |past, namespace| {
        let stored = past.get(namespace, &key)?;
        Ok(Reply::Entry {
            entry: stored.map(|stored| (stored.value, stored.revision)),
            as_of: revision,
        })
    })
    .await;
}

/// How many keys there were as of a revision.
pub(crate) async fn count(peer: &Arc<Peer>, id: u64, revision: Revision) {
    in_past(peer, id, revision, move |past, namespace| {
        Ok(Reply::Count {
            count: past.count(namespace)?,
            as_of: revision,
        })
    })
    .await;
}

/// A page of what a key was.
pub(crate) async fn history(
    peer: &Arc<Peer>,
    id: u64,
    key: bytes::Bytes,
    (before, count_max): (Option<Revision>, u32),
) {
    in_turn(peer, id, async move |peer, namespace| {
        let store = peer.serving.store.clone();
        let read = move || store.history(namespace, &key, before, count_max);
        let page = peer.serving.apart(read).await.map_err(|_| stopped())?;
        answered(page.map(|HistoryPage { versions, before }| Reply::History { versions, before }))
    })
    .await;
}

/// Opens a revision for a stream and answers the request for it; none if it cannot be read.
pub(crate) async fn open(peer: &Arc<Peer>, id: u64, revision: Revision) -> Option<Past> {
    let (reply, past) = match peer.serving.past(revision).await {
        Ok(past) => (Ok(Reply::Done), Some(past)),
        Err(Some(error)) => (answered(Err(error)), None),
        Err(None) => (Err(stopped()), None),
    };
    peer.answers.push(&ToPeer::Reply(id, reply));
    past
}

async fn in_past(
    peer: &Arc<Peer>,
    id: u64,
    revision: Revision,
    read: impl FnOnce(&Past, NamespaceId) -> Result<Reply, StoreError> + Send + 'static,
) {
    in_turn(peer, id, async move |peer, namespace| {
        let past = match peer.serving.past(revision).await {
            Ok(past) => past,
            Err(Some(error)) => return answered(Err(error)),
            Err(None) => return Err(stopped()),
        };
        let read = peer.serving.apart(move || read(&past, namespace)).await;
        answered(read.map_err(|_| stopped())?)
    })
    .await;
}

/// Answers a request when its turn has come. Waits while too many of the peer wait for theirs.
async fn in_turn<F>(
    peer: &Arc<Peer>,
    id: u64,
    answer: impl FnOnce(Arc<Peer>, NamespaceId) -> F + Send + 'static,
) where
    F: Future<Output = Answered> + Send,
{
    // Refused only by semaphores that are closed, which nobody does.
    let place = Arc::clone(&peer.requests).acquire_owned().await;
    let peer = Arc::clone(peer);
    tokio::spawn(async move {
        let turn = Arc::clone(&peer.past_reads).acquire_owned().await;
        peer.answers.room().await;
        let reply = match peer.may_read().and_then(|()| peer.namespace()) {
            Ok(namespace) => answer(Arc::clone(&peer), namespace).await,
            Err(failure) => Err(failure),
        };
        peer.answers.push(&ToPeer::Reply(id, reply));
        drop((turn, place));
    });
}

/// What is past the retention is told with its numbers, anything else by its text.
fn answered(read: Result<Reply, StoreError>) -> Answered {
    match read {
        Ok(reply) => Ok(reply),
        Err(StoreError::PastRetention { revision, oldest }) => {
            Ok(Reply::PastRetention { revision, oldest })
        }
        Err(error) => Err(error.to_failure()),
    }
}
