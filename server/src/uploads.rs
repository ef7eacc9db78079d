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

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use objsync_proto::chunk::record::{CheckedChunk, ChunkRecord};
use objsync_proto::chunk::{ChunkKind, Node};
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::ChunkId;
use objsync_proto::limits::{
    CHUNK_FRAME_BYTES_MAX, UPLOADED_COUNT_MAX, UPLOADS_MAX, WRITES_BYTES_MAX,
};
use objsync_proto::wire::{Reply, Upload};
use objsync_store::{ChunkPins, Chunks};
use quinn::{Connection, RecvStream, VarInt};
use tokio::sync::{Notify, Semaphore};

use crate::connection::Dropped;
use crate::follow::piping::{self, Way};
use crate::frames::{FrameReader, Framed};
use crate::known::Known;
use crate::letting::{self, Letting};
use crate::named::{node, node_of};
use crate::peer::Peer;
use crate::session::stopped;

/// Uploads that ended and were not asked about; more than a client has open at once.
const ENDED_MAX: usize = 64;

/// What a peer has uploaded.
pub(crate) struct Uploads {
    /// Keeps what was uploaded or asked for, while the connection lasts.
    pub(crate) pins: ChunkPins,
    /// What it is known to have, or was told is there, also on connections before this one.
    known: Mutex<Known>,
    /// What writes have named, to be let go.
    pub(crate) letting: Letting,
    /// Most chunks that are kept. From half of it on it is looked whether those that are there are
    /// nodes, whose children need not be kept.
    count_max: usize,
    /// Where those of a client of a copy go.
    pub(crate) way: Way,
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
            known: Mutex::new(known),
            way: Way::default(),
            letting: Letting::default(),
            count_max: UPLOADED_COUNT_MAX,
            streams: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// What the peer is known to have, or was told is there.
    pub(crate) fn known(&self) -> Known {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The peer speaks for another from here on, who is known to have other chunks.
    pub(crate) fn speak_for(&self, known: Known) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// An upload cannot arrive: whoever asks about it is told why.
    pub(crate) fn fail(&self, upload: u64, failure: Failure) {
        self.update(upload, |arrived| arrived.failure = Some(failure));
    }

    /// Why an upload cannot arrive, if it cannot.
    pub(crate) fn failed(&self, upload: u64) -> Option<Failure> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.get(&upload)?.failure.as_ref()?;
        streams.remove(&upload)?.failure
    }

    /// Keeps chunks that the peer was told are there; gives those that are.
    ///
    /// # Errors
    /// `Full` when too many are kept.
    pub(crate) fn keep(
        &self,
        chunks: &Chunks<'_>,
        ids: &HashSet<ChunkId>,
    ) -> Result<HashSet<ChunkId>, Failure> {
        self.check_room()?;
        let ids: Vec<ChunkId> = ids.iter().copied().collect();
        let lost = chunks.missing(&self.pins, &ids);
        self.pins.release(lost.iter().copied());
        if self.pins.count() > self.count_max / 2 {
            for id in &ids {
                let node = node(chunks, *id).map_err(|error| error.to_failure())?;
                node.iter().for_each(|node| self.let_go_below(node));
            }
        }
        let there = ids.into_iter().filter(|id| !lost.contains(id));
        Ok(there.collect())
    }

    /// Stores one chunk after the other, and keeps it. For a peer that may not read everything, a
    /// node may list only what it has.
    ///
    /// # Errors
    /// `Conflict` when a node lists what is not there: it was collected, or another owner had it;
    /// `Full` when too many are kept; or the disk refused a call.
    fn put(
        &self,
        chunks: &Chunks<'_>,
        checked: Vec<CheckedChunk>,
        reads_all: bool,
    ) -> Result<(), Failure> {
        self.check_room()?;
        let put = |some: &[CheckedChunk]| {
            let put = chunks.put(&self.pins, some);
            put.map_err(|error| error.to_failure())
        };
        let known = self.known();
        let know = |chunk: &CheckedChunk| known.extend([(chunk.id(), chunk.kind())]);
        // A node comes after what it lists, also within a frame.
        for some in checked.chunk_by(|one, next| one.kind() == next.kind()) {
            if some[0].kind() == ChunkKind::Chunk {
                some.iter().for_each(know);
                put(some)?;
                continue;
            }
            for chunk in some {
                let node = node_of(chunk).map_err(|error| {
                    // It was read as it was checked.
                    Failure::new(ErrorKind::Invalid, error.to_string())
                })?;
                // Until the node keeps what it lists.
                let listed = chunks.pins();
                self.may_list(chunks, &listed, &node, reads_all)?;
                know(chunk);
                put(std::slice::from_ref(chunk))?;
                self.let_go_below(&node);
            }
        }
        Ok(())
    }

    /// That what a node lists is there, as far as the peer may know; then it stays while `listed` does.
    fn may_list(
        &self,
        chunks: &Chunks<'_>,
        listed: &ChunkPins,
        node: &Node,
        reads_all: bool,
    ) -> Result<(), Failure> {
        let ids: Vec<_> = node.children().iter().map(|child| child.id).collect();
        let mut absent = match reads_all {
            true => Vec::new(),
            false => self.known().unknown(&ids),
        };
        if absent.is_empty() {
            absent = chunks.missing(listed, &ids);
        }
        match absent.first() {
            None => Ok(()),
            Some(id) => {
                let text = format!(
                    "chunk {id} is listed by a node and is not there: ask which are missing, and \
                     upload those"
                );
                Err(Failure::new(ErrorKind::Conflict, text))
            }
        }
    }

    /// A node that is kept keeps what it lists.
    fn let_go_below(&self, node: &Node) {
        let below = node.children().iter().map(|child| child.id);
        self.pins.release(below);
    }

    fn check_room(&self) -> Result<(), Failure> {
        let count_max = self.count_max;
        if self.pins.count() <= count_max {
            return Ok(());
        }
        let text = format!(
            "this connection keeps more than {count_max} chunks that neither a value nor a \
             node lists: upload the nodes above them, write the value, or connect anew"
        );
        Err(Failure::new(ErrorKind::Full, text))
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

/// Takes the uploads of a peer, and lets go of what its writes name; ends when it breaks the protocol,
/// else never.
pub(crate) async fn accept(peer: Arc<Peer>, connection: Connection) -> Dropped {
    tokio::select! { biased;
        dropped = accept_streams(&peer, connection) => dropped,
        never = letting::run(&peer) => match never {},
    }
}

async fn accept_streams(peer: &Arc<Peer>, connection: Connection) -> Dropped {
    let count = u32::try_from(UPLOADS_MAX).unwrap_or(1);
    if peer.rights.write {
        connection.set_max_concurrent_uni_streams(VarInt::from_u32(count));
    }
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept_uni() => match accepted {
                Ok(stream) => {
                    let peer = Arc::clone(peer);
                    match peer.serving.upstream {
                        None => tasks.spawn(receive(peer, stream)),
                        Some(_) => tasks.spawn(piping::pipe(peer, stream)),
                    };
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

/// Reads how an upload begins: its number.
pub(crate) async fn begun(reader: &mut FrameReader<Upload>) -> Result<u64, Dropped> {
    match reader.next(CHUNK_FRAME_BYTES_MAX).await? {
        Some(Framed {
            message: Upload::Start { upload },
            ..
        }) => Ok(upload),
        _ => Err(Dropped::Violation("an upload that does not begin as one")),
    }
}

/// Takes one upload to its end.
async fn receive(peer: Arc<Peer>, stream: RecvStream) -> Result<(), Dropped> {
    let mut reader: FrameReader<Upload> = FrameReader::new(stream);
    let upload = begun(&mut reader).await?;
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
                peer.uploads.fail(upload, failure);
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
    let _place = room(&peer.serving.writes, bytes).await;
    let worker = Arc::clone(peer);
    let worked = peer.serving.apart(move || check_and_put(&worker, records));
    match worked.await {
        Ok(done) => done,
        Err(_) => Ok(Err(stopped())),
    }
}

async fn room(writes: &Arc<Semaphore>, bytes: usize) -> Option<tokio::sync::OwnedSemaphorePermit> {
    let bytes = u32::try_from(bytes.clamp(1, WRITES_BYTES_MAX)).unwrap_or(u32::MAX);
    // Refused only by a semaphore that is closed, which nobody does.
    Arc::clone(writes).acquire_many_owned(bytes).await.ok()
}

fn check_and_put(peer: &Peer, records: Vec<ChunkRecord>) -> Result<Result<(), Failure>, Dropped> {
    let check = |record| {
        CheckedChunk::check(record)
            .map_err(|error| Dropped::Refused(Failure::new(ErrorKind::Invalid, error.to_string())))
    };
    let checked = records.into_iter().map(check);
    let checked = checked.collect::<Result<Vec<_>, _>>()?;
    let chunks = peer.serving.store.chunks();
    Ok(peer.uploads.put(&chunks, checked, peer.reads_all()))
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
mod tests;
