//! Requests that a copy cannot answer by itself: its source is asked, and where the answer is of a
//! revision, the copy catches up with it first.

use std::sync::Arc;
use std::time::Duration;

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::PeerKey;
use objsync_proto::limits::CALL_TIMEOUT_MS;
use objsync_proto::wire::{Grant, Reply, Request, ToPeer};

use super::relay::Forward;
use super::{Upstream, answer_here, is_local};
use crate::barriers::Barrier;
use crate::peer::Peer;
use crate::streams::Streams;
use crate::write;

/// How long the copy may take to catch up with an answer.
const PATIENCE: Duration = Duration::from_millis(CALL_TIMEOUT_MS);

/// Answers a request of a client of a copy, now or later.
pub(super) async fn serve(
    peer: &Arc<Peer>,
    streams: &mut Streams,
    upstream: &Arc<Upstream>,
    (id, asked, bytes): (u64, Request, usize),
) {
    if is_local(&asked) {
        return answer_here(peer, streams, id, asked).await;
    }
    if let Some(failure) = refused(peer, &asked) {
        return peer.answers.push(&ToPeer::Reply(id, Err(failure)));
    }
    if is_of_client(&asked) {
        let forward = Forward::Ask {
            id,
            request: asked,
            _place: write::place(peer, bytes).await,
        };
        return streams.forward(upstream, forward).await;
    }
    // Refused only by a semaphore that is closed, which nobody does.
    let place = Arc::clone(&peer.requests).acquire_owned().await;
    let barriers = streams.barriers();
    let (peer, upstream) = (Arc::clone(peer), Arc::clone(upstream));
    tokio::spawn(async move {
        let reply = match asked {
            Request::Barrier => barrier(&peer, &upstream).await.inspect(|reply| {
                let Reply::Position(position) = *reply else {
                    return;
                };
                for subscription in barriers {
                    // One that has ended, or does not read, has no use for it.
                    subscription.put(Barrier { id, position });
                }
            }),
            Request::Grant(grant) => let_in(&peer, &upstream, grant).await,
            Request::Revoke { peer: key } => revoke(&peer, &upstream, key).await,
            other => upstream.request(other).await,
        };
        peer.answers.push(&ToPeer::Reply(id, reply));
        drop(place);
    });
}

/// Why an answer of the source need not be waited for.
fn refused(peer: &Peer, request: &Request) -> Option<Failure> {
    match request {
        Request::MissingChunks { .. } => peer.may_write().err(),
        Request::EndUpload { upload, .. } => {
            let failed = peer.uploads.failed(*upload);
            peer.may_write().err().or(failed)
        }
        _ => None,
    }
}

/// Whether the source has to know for whom it answers.
fn is_of_client(request: &Request) -> bool {
    matches!(
        request,
        Request::CreateNamespace { .. }
            | Request::KeepLease { .. }
            | Request::AwaitLock { .. }
            | Request::Outcome { .. }
            | Request::MissingChunks { .. }
            | Request::EndUpload { .. }
    )
}

/// Everything that was committed at the source when it was asked is in the copy when this ends.
async fn barrier(peer: &Peer, upstream: &Upstream) -> Result<Reply, Failure> {
    let Reply::Position(position) = upstream.request(Request::Barrier).await? else {
        return Err(out_of_turn());
    };
    let store = &peer.serving.store;
    caught_up(peer, || store.is_on_history(&position)).await?;
    Ok(Reply::Position(store.position()))
}

async fn let_in(peer: &Peer, upstream: &Upstream, grant: Grant) -> Result<Reply, Failure> {
    peer.may_administer()?;
    let reply = upstream.request(Request::Grant(grant.clone())).await?;
    // The source may have made its end an earlier one.
    let is_it = |held: &Grant| {
        let expires_ms = grant.expires_ms;
        *held
            == Grant {
                expires_ms: held.expires_ms,
                ..grant.clone()
            }
            && (held.expires_ms == expires_ms
                || held
                    .expires_ms
                    .is_some_and(|end| expires_ms.is_none_or(|asked| end < asked)))
    };
    let is_there = || peer.serving.store.grants().iter().any(is_it);
    caught_up(peer, is_there).await?;
    Ok(reply)
}

async fn revoke(peer: &Peer, upstream: &Upstream, key: PeerKey) -> Result<Reply, Failure> {
    peer.may_administer()?;
    let reply = upstream.request(Request::Revoke { peer: key }).await?;
    let is_gone = || {
        let grants = peer.serving.store.grants();
        grants.iter().all(|grant| grant.peer != key)
    };
    caught_up(peer, is_gone).await?;
    Ok(reply)
}

/// Waits until the copy is far enough.
async fn caught_up(peer: &Peer, is_there: impl Fn() -> bool) -> Result<(), Failure> {
    let mut commits = peer.serving.commits.seen();
    let waiting = async {
        loop {
            commits.see();
            if is_there() {
                return;
            }
            // The sender lives as long as the peer does.
            commits.changed().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.map_err(|_| {
        let text = "the source has answered, but this copy does not catch up with it";
        Failure::new(ErrorKind::Unavailable, text)
    })
}

fn out_of_turn() -> Failure {
    Failure::new(
        ErrorKind::Unsupported,
        "the source gave another answer than it was asked for",
    )
}
