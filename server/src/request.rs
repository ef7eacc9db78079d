//! Requests that change no key: one function each.
//!
//! What only looks into memory, or reads one key, runs on the I/O thread; what waits for the disk
//! runs on a thread of the runtime and answers when it is done.

use std::sync::Arc;

use objsync_proto::dictionary::DictionaryId;
use objsync_proto::effect::Change;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Origin, PeerKey, Revision, SessionId};
use objsync_proto::wire::{ChunkPlace, Grant, KeyRange, Reply, Request, ToPeer};
use objsync_store::StoreError;

use crate::peer::Peer;
use crate::serving::PROGRAM;
use crate::session::stopped;
use crate::streams::Streams;
use crate::{chunks, fetch, leases, past, replicate};

type Answered = Result<Reply, Failure>;

/// Answers a request, now or later.
pub(crate) async fn serve(peer: &Arc<Peer>, streams: &mut Streams, id: u64, request: Request) {
    let reply = match request {
        Request::Get { .. }
        | Request::Count
        | Request::Grants
        | Request::Dictionary { .. }
        | Request::KeepLease { .. }
        | Request::Outcome { .. }
        | Request::Following
        | Request::Unknown { .. } => look(peer, request),
        Request::Barrier => barrier(peer, streams, id),
        Request::Subscribe { .. } | Request::Follow { .. } => subscribe(peer, streams, request),
        Request::Digests {
            subscription,
            round,
            digests,
        } => match streams.digests(id, subscription, (round, digests)) {
            // Answered once they were compared.
            Ok(()) => return,
            Err(failure) => Err(failure),
        },
        Request::Fetch {
            subscription,
            range,
            reverse,
        } => fetch(peer, streams, (subscription, range, reverse), None).map(|()| Reply::Done),
        Request::FetchAt {
            subscription,
            range,
            reverse,
            revision,
        } => {
            let at = fetch::At { id, revision };
            match fetch(peer, streams, (subscription, range, reverse), Some(at)) {
                // Answered once the revision is open, or is known not to be there.
                Ok(()) => return,
                Err(failure) => Err(failure),
            }
        }
        Request::At { revision } => return past::at(peer, id, revision).await,
        Request::GetAt { key, revision } => return past::get(peer, id, key, revision).await,
        Request::CountAt { revision } => return past::count(peer, id, revision).await,
        Request::History {
            key,
            before,
            count_max,
        } => return past::history(peer, id, key, (before, count_max)).await,
        Request::AwaitLock { name, timeout_ms } => {
            return leases::await_lock(peer, id, name, timeout_ms);
        }
        Request::OnBehalf { peer: key, session } => act_for(peer, streams, key, session),
        Request::Replicate { .. } => replicate(peer, streams, request),
        Request::TakePatches { by_part } => take_patches(peer, by_part),
        Request::MissingChunks { .. } | Request::EndUpload { .. } | Request::FetchChunks { .. } => {
            return of_chunks(peer, streams, id, request).await;
        }
        Request::Unsubscribe { subscription } => streams.unsubscribe(subscription),
        Request::CreateNamespace { content } => create_namespace(peer, content).await,
        Request::Flush { revision } => {
            return apart(peer, id, move |peer| flush(peer, revision)).await;
        }
        Request::Status => return apart(peer, id, status).await,
        Request::Grant(grant) => return apart(peer, id, move |peer| let_in(peer, grant)).await,
        Request::Revoke { peer: key } => {
            return apart(peer, id, move |peer| revoke(peer, key)).await;
        }
    };
    peer.answers.push(&ToPeer::Reply(id, reply));
}

async fn of_chunks(peer: &Arc<Peer>, streams: &mut Streams, id: u64, request: Request) {
    let reply = match request {
        Request::MissingChunks { key, ids } => {
            return apart(peer, id, move |peer| chunks::missing(peer, &key, &ids)).await;
        }
        Request::EndUpload { upload, count } => {
            return chunks::end_upload(peer, id, upload, count).await;
        }
        Request::FetchChunks {
            subscription,
            key,
            revision,
            places,
        } => fetch_chunks(peer, streams, (subscription, key, revision), places),
        other => unreachable!("{other:?} is not about chunks"),
    };
    peer.answers.push(&ToPeer::Reply(id, reply));
}

/// Runs a request that may wait for the disk on another thread. Waits while too many do.
async fn apart(peer: &Arc<Peer>, id: u64, work: impl FnOnce(&Peer) -> Answered + Send + 'static) {
    let place = Arc::clone(&peer.requests).acquire_owned().await;
    let peer = Arc::clone(peer);
    tokio::spawn(async move {
        let worker = Arc::clone(&peer);
        let worked = peer.serving.apart(move || work(&worker)).await;
        let reply = worked.unwrap_or_else(|_| Err(stopped()));
        peer.answers.push(&ToPeer::Reply(id, reply));
        drop(place);
    });
}

/// Answers at once: from memory, or by one read.
fn look(peer: &Peer, request: Request) -> Answered {
    match request {
        Request::Get { key } => get(peer, &key),
        Request::Count => count(peer),
        Request::Grants => grants(peer),
        Request::Dictionary { id } => dictionary(peer, id),
        Request::KeepLease { lease } => leases::keep(peer, lease),
        Request::Outcome { session, sequence } => {
            leases::outcome(peer, Origin { session, sequence })
        }
        Request::Following => Ok(Reply::Following(peer.serving.following())),
        Request::Unknown { number } => Err(unknown(number)),
        other => unreachable!("{other:?} is more than a look"),
    }
}

fn get(peer: &Peer, key: &[u8]) -> Answered {
    peer.may_read()?;
    let namespace = peer.namespace()?;
    let store = &peer.serving.store;
    // Read before the value: what is committed in between makes the value newer, never older.
    let as_of = store.position().revision;
    let stored = store.get(namespace, key).map_err(failure)?;
    let as_of = stored
        .as_ref()
        .map_or(as_of, |stored| as_of.max(stored.revision));
    let entry = stored.map(|stored| (stored.value, stored.revision));
    Ok(Reply::Entry { entry, as_of })
}

fn take_patches(peer: &Peer, by_part: bool) -> Answered {
    peer.take_patches(by_part);
    Ok(Reply::Done)
}

/// Who may read values may read what they are packed with.
fn dictionary(peer: &Peer, id: Option<u32>) -> Answered {
    peer.may_read()?;
    let namespace = peer.namespace()?;
    let store = &peer.serving.store;
    let as_of = store.position().revision;
    let stored = store.dictionary_entry(namespace, id.map(DictionaryId));
    let stored = stored.map_err(failure)?;
    let entry = stored.map(|stored| (stored.value, stored.revision));
    Ok(Reply::Entry { entry, as_of })
}

fn subscribe(peer: &Peer, streams: &mut Streams, request: Request) -> Answered {
    peer.may_read()?;
    match request {
        Request::Subscribe {
            subscription,
            range,
            since,
        } => streams.subscribe(subscription, range, (since, None)),
        Request::Follow {
            subscription,
            range,
            since,
            held,
        } => streams.subscribe(subscription, range, (Some(since), Some(held))),
        other => unreachable!("{other:?} subscribes to nothing"),
    }
}

fn fetch(
    peer: &Peer,
    streams: &mut Streams,
    (id, range, reverse): (u64, KeyRange, bool),
    at: Option<fetch::At>,
) -> Result<(), Failure> {
    peer.may_read()?;
    let namespace = peer.namespace()?;
    streams.fetch(fetch::Wanted {
        id,
        namespace,
        range,
        reverse,
        at,
    })
}

fn fetch_chunks(
    peer: &Peer,
    streams: &mut Streams,
    (id, key, revision): (u64, bytes::Bytes, Revision),
    places: Vec<ChunkPlace>,
) -> Answered {
    peer.may_read()?;
    chunks::check_count(places.len())?;
    let namespace = peer.namespace()?;
    streams.fetch_chunks(chunks::Wanted {
        id,
        namespace,
        key,
        revision,
        places,
    })
}

fn replicate(peer: &Peer, streams: &mut Streams, request: Request) -> Answered {
    peer.may_follow()?;
    match request {
        Request::Replicate {
            subscription: id,
            since,
            partial,
        } => streams.replicate(replicate::Wanted { id, since, partial }),
        other => unreachable!("{other:?} replicates nothing"),
    }
}

fn act_for(peer: &Peer, streams: &Streams, key: PeerKey, session: Option<SessionId>) -> Answered {
    // Noted first: a grant that is taken back after the look at it then cuts the connection.
    peer.serving.note_acting(streams.connection(), key);
    let (rights, session_known) = peer.act_for(key, session)?;
    Ok(Reply::Acting {
        may_write: rights.write,
        session_known,
    })
}

/// A later version of the protocol has more requests than this one.
fn unknown(number: u8) -> Failure {
    let text = format!("request {number} is not known to {PROGRAM}, which serves this store");
    Failure::new(ErrorKind::Unsupported, text)
}

fn count(peer: &Peer) -> Answered {
    peer.may_read()?;
    let namespace = peer.namespace()?;
    let store = &peer.serving.store;
    let as_of = store.position().revision;
    let count = store.count(namespace).map_err(failure)?;
    Ok(Reply::Count { count, as_of })
}

fn barrier(peer: &Peer, streams: &mut Streams, id: u64) -> Answered {
    let position = peer.serving.store.position();
    streams.barrier(id, position);
    Ok(Reply::Position(position))
}

async fn create_namespace(peer: &Arc<Peer>, content: Vec<Change>) -> Answered {
    peer.may_write()?;
    let worker = Arc::clone(peer);
    let made = peer
        .serving
        .apart(move || worker.serving.store.create_namespace(&worker.name, content));
    let (namespace, created) = made.await.map_err(|_| stopped())?.map_err(failure)?;
    peer.set_namespace(namespace);
    Ok(Reply::Namespace { namespace, created })
}

fn flush(peer: &Peer, revision: Revision) -> Answered {
    let position = peer.serving.store.flush(revision).map_err(failure)?;
    Ok(Reply::Position(position))
}

/// Whoever is not of the owner's user learns nothing of the owner's machine.
fn status(peer: &Peer) -> Answered {
    let mut status = peer.serving.status(peer.namespace().ok());
    if !peer.rights.admin {
        status.directory = String::new();
        status.pid = 0;
    }
    Ok(Reply::Status(status))
}

/// A follower lets nobody in for longer than it may come itself.
fn let_in(peer: &Peer, mut grant: Grant) -> Answered {
    peer.may_administer()?;
    let ends = [grant.expires_ms, peer.expires_ms()];
    grant.expires_ms = ends.into_iter().flatten().min();
    peer.serving.grant(grant).map_err(failure)?;
    Ok(Reply::Done)
}

fn grants(peer: &Peer) -> Answered {
    peer.may_administer()?;
    Ok(Reply::Grants(peer.serving.store.grants()))
}

fn revoke(peer: &Peer, key: PeerKey) -> Answered {
    peer.may_administer()?;
    if peer.serving.revoke(key).map_err(failure)? {
        return Ok(Reply::Done);
    }
    Err(Failure::new(
        ErrorKind::NotFound,
        format!("key {key} has no grant"),
    ))
}

fn failure(error: StoreError) -> Failure {
    error.to_failure()
}
