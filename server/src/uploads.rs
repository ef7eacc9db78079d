//! Chunks that a peer uploads: each stream a task of its own, each record checked as it arrives.
//!
//! Invariants
//! * A record is hashed before it is stored; one that is not what its id says ends the connection.
//! * Memory: of each upload one frame and what QUIC's window holds; all frames that are being stored
//!   share the room of the writes in flight, so that uploads and writes take turns.
//! * A peer that may not read the whole store can name, in a node or a value, only what it has
//!   uploaded itself or was told is there: knowing a hash gives nobody the content.
//!
//! When the connection ends, what was uploaded and not named is left to the next collection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use objsync_proto::chunk::record::{CheckedChunk, ChunkRecord};
use objsync_proto::chunk::{ChunkKind, Node};
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::ChunkId;
use objsync_proto::limits::{
    CHUNK_FRAME_BYTES_MAX, UPLOADED_COUNT_MAX, UPLOADS_MAX, WRITES_BYTES_MAX,
};
use objsync_proto::wire::{Reply, Upload};
use objsync_store::ChunkPins;
use quinn::{Connection, RecvStream, VarInt};
use tokio::sync::{Notify, Semaphore};

use crate::connection::Dropped;
use crate::frames::{FrameReader, Framed};
use crate::known::Known;
use crate::peer::Peer;
use crate::session::stopped;

/// Uploads that ended and were not asked about; more than a client has open at once.
const ENDED_MAX: usize = 64;

/// What a peer has uploaded.
pub(crate) struct Uploads {
    /// Keeps what was uploaded or asked for, while the connection lasts.
    pub(crate) pins: ChunkPins,
    /// What it is known to have, or was told is there, also on connections before this one.
    known: Known,
    streams: Mutex<BTreeMap<u64, Arrived>>,
    changed: Notify,
}

#[derive(Default)]
struct Arrived {
    count: u64,
    has_ended: bool,
    failure: Option<Failure>,
}

impl Uploads {
    pub(crate) fn new(pins: ChunkPins, known: Known) -> Self {
        Self {
            pins,
            known,
            streams: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Notes what the peer has, or was told is there.
    pub(crate) fn know(&self, ids: impl IntoIterator<Item = ChunkId>) {
        self.known.extend(ids);
    }

    /// Those of `ids` that the peer is not known to have.
    pub(crate) fn unknown(&self, ids: &[ChunkId]) -> Vec<ChunkId> {
        self.known.unknown(ids)
    }

    fn update(&self, upload: u64, change: impl FnOnce(&mut Arrived)) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        change(streams.entry(upload).or_default());
        while streams.len() > ENDED_MAX {
            streams.pop_first();
        }
        drop(streams);
        self.changed.notify_waiters();
    }

    /// How an upload ended, once so many records have arrived or no more will.
    fn ended(&self, upload: u64, count: u64) -> Option<Result<(), Failure>> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let arrived = streams.get(&upload)?;
        let ended = match (&arrived.failure, arrived.count) {
            (Some(failure), _) => Err(failure.clone()),
            (None, found) if found == count => Ok(()),
            (None, found) if found > count || arrived.has_ended => {
                let text = format!("upload {upload} has {found} chunks, not {count}");
                Err(Failure::new(ErrorKind::Invalid, text))
            }
            _ => return None,
        };
        streams.remove(&upload);
        Some(ended)
    }
}

/// Takes the uploads of a peer; ends when it breaks the protocol, else never.
pub(crate) async fn accept(peer: Arc<Peer>, connection: Connection) -> Dropped {
    let count = u32::try_from(UPLOADS_MAX).unwrap_or(1);
    if peer.rights.write && peer.serving.upstream.is_none() {
        connection.set_max_concurrent_uni_streams(VarInt::from_u32(count));
    }
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept_uni() => match accepted {
                Ok(stream) => {
                    tasks.spawn(receive(Arc::clone(&peer), stream));
                }
                Err(lost) => return lost.into(),
            },
            Some(ended) = tasks.join_next() => {
                if let Ok(Err(dropped)) = ended
                    && dropped.is_fault()
                {
                    return dropped;
                }
            }
        }
    }
}

/// Takes one upload to its end.
async fn receive(peer: Arc<Peer>, stream: RecvStream) -> Result<(), Dropped> {
    let mut reader: FrameReader<Upload> = FrameReader::new(stream);
    let Some(Framed {
        message: Upload::Start { upload },
        ..
    }) = reader.next(CHUNK_FRAME_BYTES_MAX).await?
    else {
        return Err(Dropped::Violation("an upload that does not begin as one"));
    };
    peer.uploads.update(upload, |_| {});
    // A failure is told when it is asked for; what comes behind it is not stored.
    let mut has_failed = false;
    let ended = loop {
        let framed = match reader.next(CHUNK_FRAME_BYTES_MAX).await {
            Ok(Some(framed)) => framed,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.into()),
        };
        let Upload::Chunks(records) = framed.message else {
            break Err(Dropped::Violation("an upload that begins twice"));
        };
        if has_failed {
            continue;
        }
        let count = records.len() as u64;
        match store_records(&peer, records, framed.bytes).await? {
            Ok(()) => peer
                .uploads
                .update(upload, |arrived| arrived.count += count),
            Err(failure) => {
                has_failed = true;
                let failure = Some(failure);
                peer.uploads
                    .update(upload, |arrived| arrived.failure = failure);
            }
        }
    };
    peer.uploads
        .update(upload, |arrived| arrived.has_ended = true);
    ended
}

/// Checks and stores the records of one frame.
async fn store_records(
    peer: &Arc<Peer>,
    records: Vec<ChunkRecord>,
    bytes: usize,
) -> Result<Result<(), Failure>, Dropped> {
    if let Err(failure) = check_kept(peer.uploads.pins.count()) {
        return Ok(Err(failure));
    }
    let _place = room(&peer.serving.writes, bytes).await;
    let worker = Arc::clone(peer);
    let worked = peer.serving.apart(move || check_and_put(&worker, records));
    match worked.await {
        Ok(done) => done,
        Err(_) => Ok(Err(stopped())),
    }
}

/// Refuses more for a connection for which so many chunks are kept.
pub(crate) fn check_kept(count: usize) -> Result<(), Failure> {
    if count <= UPLOADED_COUNT_MAX {
        return Ok(());
    }
    let text = format!(
        "this connection has {count} chunks that no value names yet; the limit is \
         {UPLOADED_COUNT_MAX} chunks: write the value, or connect anew"
    );
    Err(Failure::new(ErrorKind::Full, text))
}

async fn room(writes: &Arc<Semaphore>, bytes: usize) -> Option<tokio::sync::OwnedSemaphorePermit> {
    let bytes = u32::try_from(bytes.clamp(1, WRITES_BYTES_MAX)).unwrap_or(u32::MAX);
    // Refused only by a semaphore that is closed, which nobody does.
    Arc::clone(writes).acquire_many_owned(bytes).await.ok()
}

fn check_and_put(peer: &Peer, records: Vec<ChunkRecord>) -> Result<Result<(), Failure>, Dropped> {
    let mut checked = Vec::with_capacity(records.len());
    for record in records {
        let chunk = CheckedChunk::check(record).map_err(|error| {
            Dropped::Refused(Failure::new(ErrorKind::Invalid, error.to_string()))
        })?;
        if let Err(failure) = may_list(peer, &chunk) {
            return Ok(Err(failure));
        }
        peer.uploads.know([chunk.id()]);
        checked.push(chunk);
    }
    let put = peer
        .serving
        .store
        .chunks()
        .put(&peer.uploads.pins, &checked);
    Ok(put.map_err(|error| error.to_failure()))
}

/// That a peer which may not read everything lists in a node only what it has.
fn may_list(peer: &Peer, chunk: &CheckedChunk) -> Result<(), Failure> {
    if chunk.kind() == ChunkKind::Chunk || peer.reads_all() {
        return Ok(());
    }
    let plain = chunk.plain();
    let node = plain.and_then(|plain| Node::decode(&plain));
    let node = node.map_err(|error| Failure::new(ErrorKind::Invalid, error.to_string()))?;
    let ids: Vec<_> = node.children().iter().map(|child| child.id).collect();
    match peer.uploads.unknown(&ids).first() {
        None => Ok(()),
        // As of one that is not there.
        Some(id) => {
            let text = format!("chunk {id} is listed by a node and is not there: upload it first");
            Err(Failure::new(ErrorKind::Invalid, text))
        }
    }
}

/// Waits for the rest of an upload, and until all of it is on disk.
pub(crate) async fn end(peer: Arc<Peer>, upload: u64, count: u64) -> Result<Reply, Failure> {
    loop {
        let changed = peer.uploads.changed.notified();
        tokio::pin!(changed);
        // Before it is looked, so that nothing is missed between.
        changed.as_mut().enable();
        if let Some(ended) = peer.uploads.ended(upload, count) {
            ended?;
            break;
        }
        tokio::select! { biased;
            () = peer.gone.cancelled() => return Err(stopped()),
            () = changed => {}
        }
    }
    let worker = Arc::clone(&peer);
    let synced = peer
        .serving
        .apart(move || worker.serving.store.chunks().sync());
    synced
        .await
        .map_err(|_| stopped())?
        .map_err(|error| error.to_failure())?;
    Ok(Reply::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_for_which_too_many_chunks_are_kept_gets_no_more_kept() {
        assert_eq!(check_kept(UPLOADED_COUNT_MAX), Ok(()));
        let refused = check_kept(UPLOADED_COUNT_MAX + 1).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Full);
    }
}
