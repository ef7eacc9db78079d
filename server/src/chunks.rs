//! Requests about chunks: which are missing, and the content of those that a peer may read.
//!
//! Invariant: a chunk that the peer may not know of is answered like one that is not there.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::chunk::Root;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Ack, ChunkId, Durability, NamespaceId, Revision};
use objsync_proto::limits::{CHUNK_FRAME_BYTES, CHUNKS_ASKED_MAX};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::stored_chunks;
use objsync_proto::wire::{ChunkPlace, Feed, Reply, ToPeer, record_bytes};
use objsync_store::{ChunkPins, Chunks, Store, StoreError};
use quinn::Connection;

use crate::feed_stream::{FeedStream, Unsendable};
use crate::named::{named_by, root_of};
use crate::peer::Peer;
use crate::session::stopped;
use crate::uploads;

/// After answers and events.
const PRIORITY: i32 = -2;

/// Chunks that were asked for.
pub(crate) struct Wanted {
    pub(crate) id: u64,
    pub(crate) namespace: NamespaceId,
    pub(crate) key: Bytes,
    pub(crate) revision: Revision,
    pub(crate) places: Vec<ChunkPlace>,
}

/// Refuses more than a request may ask for.
pub(crate) fn check_count(count: usize) -> Result<(), Failure> {
    if count <= CHUNKS_ASKED_MAX {
        return Ok(());
    }
    let text = format!("request names {count} chunks; the limit is {CHUNKS_ASKED_MAX} chunks");
    Err(Failure::new(ErrorKind::Invalid, text))
}

/// Which of these chunks the peer is to upload. Blocks.
///
/// Cost: a read of each that is there, once the connection keeps very many.
pub(crate) fn missing(peer: &Peer, key: &[u8], ids: &[ChunkId]) -> Result<Reply, Failure> {
    check_count(ids.len())?;
    peer.may_write()?;
    let chunks = peer.serving.store.chunks();
    let look = Look::new(&chunks, ids);
    let told = match peer.reads_all() {
        true => look.there(ids).into_iter().collect(),
        false => told(peer, key, look.there(ids)).map_err(|error| error.to_failure())?,
    };
    let told = peer.uploads.keep(&chunks, &told)?;
    drop(look);
    let rest = ids.iter().filter(|id| !told.contains(id)).copied();
    Ok(Reply::MissingChunks {
        ids: rest.collect(),
    })
}

/// Which chunks are there. They stay while it lives: under pins of its own, so that what an upload
/// of the same connection keeps meanwhile is not let go with it.
pub(crate) struct Look {
    _pins: ChunkPins,
    absent: HashSet<ChunkId>,
}

impl Look {
    pub(crate) fn new(chunks: &Chunks<'_>, ids: &[ChunkId]) -> Self {
        let pins = chunks.pins();
        let absent = chunks.missing(&pins, ids).into_iter().collect();
        Self {
            _pins: pins,
            absent,
        }
    }

    /// Those that are.
    pub(crate) fn there(&self, ids: &[ChunkId]) -> Vec<ChunkId> {
        let there = ids.iter().filter(|id| !self.absent.contains(id));
        there.copied().collect()
    }
}

/// Those of `there` that the peer may know of; it is known to have them from here on.
fn told(peer: &Peer, key: &[u8], there: Vec<ChunkId>) -> Result<HashSet<ChunkId>, StoreError> {
    let unknown: HashSet<_> = peer.uploads.known().unknown(&there).into_iter().collect();
    let mut told: HashSet<_> = there.into_iter().collect();
    told.retain(|id| !unknown.contains(id));
    peer.uploads.known().refresh(told.iter().copied());
    let named = named_by(peer, key, unknown)?;
    told.extend(named.iter().map(|(id, _)| *id));
    peer.uploads.known().extend(named);
    Ok(told)
}

/// Answers once an upload is on disk.
pub(crate) async fn end_upload(peer: &Arc<Peer>, id: u64, upload: u64, count: u64) {
    // Refused only by a semaphore that is closed, which nobody does.
    let place = Arc::clone(&peer.requests).acquire_owned().await;
    let peer = Arc::clone(peer);
    tokio::spawn(async move {
        let reply = match peer.may_write() {
            Ok(()) => uploads::end(Arc::clone(&peer), upload, count).await,
            Err(failure) => Err(failure),
        };
        peer.answers.push(&ToPeer::Reply(id, reply));
        drop(place);
    });
}

/// The chunks that a write names, of all its values; none for one that names none.
pub(crate) fn roots_of(operation: &Operation) -> Vec<Root> {
    let values: Vec<&Bytes> = match operation {
        Operation::Put { value, .. } | Operation::PutLeased { value, .. } => vec![value],
        Operation::CompareAndSet { new, .. } => new.iter().collect(),
        Operation::Batch { changes } | Operation::Transact { changes, .. } => changes
            .iter()
            .filter_map(|change| change.value.as_ref())
            .collect(),
        _ => Vec::new(),
    };
    let chunked = values
        .into_iter()
        .filter(|value| stored_chunks::is_chunked(value));
    // One that makes no sense is refused by the store.
    let opened = chunked.filter_map(|value| stored_chunks::open(value).ok().flatten());
    opened.map(|opened| opened.root).collect()
}

/// The answer of a write that names chunks which the peer is not known to have; none when it may go
/// on to the store, which knows whether they are there.
pub(crate) fn refused(peer: &Peer, roots: &[Root]) -> Option<(Outcome, Ack)> {
    if roots.is_empty() || peer.reads_all() {
        return None;
    }
    let ids: Vec<_> = roots
        .iter()
        .flat_map(Root::children)
        .map(|child| child.id)
        .collect();
    let mut ids = peer.uploads.known().unknown(&ids);
    if ids.is_empty() {
        return None;
    }
    ids.truncate(CHUNKS_ASKED_MAX);
    let position = peer.serving.store.position();
    let ack = Ack {
        revision: position.revision,
        epoch: position.epoch,
        durability: Durability::Buffered,
    };
    Some((Outcome::NeedChunks { ids }, ack))
}

/// Sends chunks, or why they cannot be sent. When aborted, the stream is reset.
pub(crate) async fn send(peer: Arc<Peer>, connection: Connection, wanted: Wanted) {
    // Refused only by a semaphore that is closed, which nobody does.
    let _turn = Arc::clone(&peer.states).acquire_owned().await;
    let Ok(mut stream) = FeedStream::open(&connection, wanted.id, PRIORITY).await else {
        return;
    };
    match send_all(&peer, &mut stream, wanted).await {
        Ok(()) => stream.finish(),
        Err(why) => stream.end(why).await,
    }
}

async fn send_all(
    peer: &Arc<Peer>,
    stream: &mut FeedStream,
    wanted: Wanted,
) -> Result<(), Unsendable> {
    let root = match peer.reads_all() {
        true => None,
        false => Some(readable(peer, &wanted).await?),
    };
    let mut places = wanted.places.into_iter();
    loop {
        let store = peer.serving.store.clone();
        let root = root.clone();
        let read = move || {
            let batch = gather(&store, root.as_ref(), &mut places);
            (batch, places)
        };
        let (batch, rest) = peer.serving.apart(read).await?;
        let batch = batch?;
        places = rest;
        if batch.is_empty() && places.len() == 0 {
            break;
        }
        stream.put(&Feed::Chunks(batch));
        stream.flush().await?;
    }
    let position = peer.serving.store.position();
    stream.put(&Feed::Complete { position });
    stream.flush().await
}

/// The next chunks that there are, about a frame of them. Those that are damaged are left out.
fn gather(
    store: &Store,
    root: Option<&Option<Root>>,
    places: &mut std::vec::IntoIter<ChunkPlace>,
) -> Result<Vec<objsync_proto::chunk::record::ChunkRecord>, StoreError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < CHUNK_FRAME_BYTES
        && let Some(place) = places.next()
    {
        let ChunkPlace { id, level, offset } = place;
        let may_have = match root {
            None => true,
            Some(None) => false,
            Some(Some(root)) => store.chunks().stands_at(root, (id, level, offset))?,
        };
        if !may_have {
            continue;
        }
        match store.chunks().get(id) {
            Ok(Some(record)) => {
                bytes += record_bytes(&record.payload);
                batch.push(record);
            }
            Ok(None) => {}
            Err(StoreError::Corrupt { path, offset, what }) => {
                tracing::warn!(path = %path.display(), offset, what, "a chunk cannot be sent");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(batch)
}

/// The root of the value that is asked about; none if it is not there, or not in chunks.
async fn readable(peer: &Arc<Peer>, wanted: &Wanted) -> Result<Option<Root>, Unsendable> {
    let (namespace, key, revision) = (wanted.namespace, wanted.key.clone(), wanted.revision);
    let store = peer.serving.store.clone();
    let now = peer.serving.apart({
        let key = key.clone();
        move || store.get(namespace, &key)
    });
    if let Some(stored) = now.await??
        && stored.revision == revision
    {
        return Ok(root_of(stored));
    }
    let past = match peer.serving.past(revision).await {
        Ok(past) => past,
        // It is no longer kept, or was never there.
        Err(Some(_)) => return Ok(None),
        Err(None) => return Err(Unsendable::Failed(stopped())),
    };
    let then = peer
        .serving
        .apart(move || past.get(namespace, &key))
        .await??;
    Ok(then
        .filter(|stored| stored.revision == revision)
        .and_then(root_of))
}
