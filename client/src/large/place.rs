//! Where chunks are: in the store of this process, or at the owner.
//!
//! What comes from an owner is checked here, against the id that names it and the size that its parent
//! states: a server can refuse a chunk, and cannot pass off another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use objsync_proto::chunk::record::{CheckedChunk, ChunkRecord};
use objsync_proto::chunk::{ChunkError, ChunkKind, Node};
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::ChunkId;
use objsync_proto::key;
use objsync_proto::wire::{ChunkPlace, Feed, Reply, Request};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::own::{self, Hold};
use super::reference::LargeValue;
use super::upload::in_background;
use crate::core::{ChunksWanted, Command, Core, FeedKind, FeedWanted, Phase};
use crate::error::{ObjectError, Result};
use crate::pending::unexpected_reply;

/// Frames that wait between the connection and whoever checks them.
const FRAMES_AHEAD: usize = 4;
/// How often the same is asked again once the handle's timeout is over.
const TRIES_MAX: u32 = 4;
/// Before the same is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// How often something is tried again: while nobody can be reached, up to the handle's timeout.
pub(super) struct Tries<'a> {
    core: &'a Core,
    until: Instant,
    left: u32,
}

impl<'a> Tries<'a> {
    pub(super) fn new(core: &'a Core) -> Self {
        Self {
            core,
            until: Instant::now() + core.config.options.timeout,
            left: TRIES_MAX,
        }
    }

    /// Waits a little after a failure that another try can help.
    ///
    /// # Errors
    /// The failure itself, when it is another, or the time is over.
    pub(super) async fn after(&mut self, error: ObjectError) -> Result<()> {
        self.core.check_open()?;
        // Who is connected again is tried again, however long it took.
        self.left = self.left.saturating_sub(1);
        let is_peer = matches!(self.core.phase(), Phase::Peer { .. } | Phase::Owner);
        let is_over = Instant::now() >= self.until && !(is_peer && self.left > 0);
        if error.kind() != ErrorKind::Unavailable || is_over {
            return Err(error);
        }
        self.core.within(PAUSE, std::future::pending::<()>()).await;
        Ok(())
    }
}

/// Which of these chunks are not there, as far as this handle may know. Those that are stay.
pub(super) async fn missing(
    core: &Arc<Core>,
    hold: &Arc<Hold>,
    key: &Bytes,
    ids: &[ChunkId],
) -> Result<Vec<ChunkId>> {
    let ids = ids.to_vec();
    if core.owner().is_some() {
        let hold = Arc::clone(hold);
        return in_background(core, move || hold.missing(&ids)).await;
    }
    let key = key.clone();
    match core.request(Request::MissingChunks { key, ids }).await? {
        Reply::MissingChunks { ids } => Ok(ids),
        other => Err(unexpected_reply(&other)),
    }
}

/// Has chunks stored; they are durable when it returns, and stay while this handle is connected.
pub(super) async fn put(
    core: &Arc<Core>,
    hold: &Arc<Hold>,
    records: Vec<CheckedChunk>,
) -> Result<()> {
    if core.owner().is_some() {
        let hold = Arc::clone(hold);
        return in_background(core, move || hold.put(&records)).await;
    }
    let _turn = core.large.upload_turn().await;
    let records: Vec<ChunkRecord> = records.into_iter().map(CheckedChunk::into_record).collect();
    let count = records.len() as u64;
    let (sent, was_sent) = oneshot::channel();
    core.push(Command::Upload { records, sent });
    let timeout = core.config.options.timeout;
    let upload = match core.within(timeout, was_sent).await {
        Some(sent) => sent.unwrap_or_else(|_| Err(cut(core)))?,
        None => return Err(core.unreachable(timeout)),
    };
    match core.request(Request::EndUpload { upload, count }).await? {
        Reply::Done => Ok(()),
        other => Err(unexpected_reply(&other)),
    }
}

/// Has all that was put survive a power cut: here, where no operation waits for it yet. A peer's
/// chunks are durable as each upload ends.
pub(super) async fn sync(core: &Arc<Core>, hold: &Arc<Hold>) -> Result<()> {
    if core.owner().is_none() {
        return Ok(());
    }
    let hold = Arc::clone(hold);
    in_background(core, move || hold.sync()).await
}

/// The chunks at these places of a value, each with the size that its parent states, in their order.
pub(super) async fn fetch(
    core: &Arc<Core>,
    value: &LargeValue,
    places: &[(ChunkPlace, u64)],
) -> Result<Vec<Bytes>> {
    let cached = |wanted: &(ChunkPlace, u64)| {
        let chunk = core.large.cache.get(&wanted.0.id);
        chunk.map(|chunk| sized(value, wanted, chunk)).transpose()
    };
    let mut found: Vec<Option<Bytes>> = places.iter().map(cached).collect::<Result<_>>()?;
    let mut tries = Tries::new(core);
    loop {
        let wanted: Vec<ChunkPlace> = places
            .iter()
            .zip(&found)
            .filter(|(_, found)| found.is_none())
            .map(|((place, _), _)| *place)
            .collect();
        if wanted.is_empty() {
            break;
        }
        let got = match ask(core, value, wanted).await {
            Ok(got) => got,
            Err(error) => {
                tries.after(error).await?;
                continue;
            }
        };
        for (wanted, found) in places.iter().zip(&mut found) {
            if found.is_some() {
                continue;
            }
            match got.get(&wanted.0.id) {
                Some(chunk) => *found = Some(sized(value, wanted, chunk.clone())?),
                None => return Err(gone(value, wanted.0.id)),
            }
        }
    }
    Ok(found.into_iter().flatten().collect())
}

/// A chunk that has the size which its parent in this value states, wherever it came from: another
/// value can name the same chunk with another size. What is below a node is checked with the node.
fn sized(value: &LargeValue, (place, stated): &(ChunkPlace, u64), chunk: Bytes) -> Result<Bytes> {
    let found = chunk.len() as u64;
    if place.level > 0 || found == *stated {
        return Ok(chunk);
    }
    let (id, stated) = (place.id, *stated);
    Err(corrupt(value, &ChunkError::WrongSize { id, stated, found }))
}

/// A node of a value.
pub(super) async fn node(
    core: &Arc<Core>,
    value: &LargeValue,
    place: ChunkPlace,
    bytes: u64,
) -> Result<Node> {
    let record = fetch(core, value, &[(place, bytes)]).await?;
    let record = record.first().ok_or_else(|| gone(value, place.id))?;
    let node = Node::decode(record).map_err(|error| corrupt(value, &error))?;
    if node.level() != place.level || node.bytes() != bytes {
        let error =
            ChunkError::Malformed("a node is of another level or size than its parent says");
        return Err(corrupt(value, &error));
    }
    core.large.cache.put(place.id, record.clone());
    Ok(node)
}

/// What is at these places, by id, checked; what is not there any more is left out.
async fn ask(
    core: &Arc<Core>,
    value: &LargeValue,
    places: Vec<ChunkPlace>,
) -> Result<HashMap<ChunkId, Bytes>> {
    if core.owner().is_some() {
        let reading = Arc::clone(core);
        return in_background(core, move || own::chunks(&reading, &places)).await;
    }
    let kinds: HashMap<ChunkId, ChunkKind> = places
        .iter()
        .map(|place| (place.id, kind_of(place)))
        .collect();
    let mut stream = request(core, value, places);
    let mut found = HashMap::with_capacity(kinds.len());
    let timeout = core.config.options.timeout;
    loop {
        let Some(frame) = core.within(timeout, stream.recv()).await else {
            return Err(core.unreachable(timeout));
        };
        match frame {
            Some(Ok(Feed::Chunks(records))) => {
                let checked = in_background(core, move || Ok(check(records))).await?;
                for chunk in checked {
                    let (id, kind, plain) = chunk.map_err(|error| corrupt(value, &error))?;
                    if kinds.get(&id) != Some(&kind) {
                        let error = ChunkError::Malformed("a chunk came that was not asked for");
                        return Err(corrupt(value, &error));
                    }
                    found.insert(id, plain);
                }
            }
            Some(Ok(Feed::Complete { .. })) => return Ok(found),
            Some(Ok(Feed::Failed(failure))) => return Err(failure.into()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(cut(core)),
        }
    }
}

fn request(
    core: &Core,
    value: &LargeValue,
    places: Vec<ChunkPlace>,
) -> mpsc::Receiver<Result<Feed>> {
    let (sink, stream) = mpsc::channel(FRAMES_AHEAD);
    let wanted = ChunksWanted {
        key: value.key.clone(),
        revision: value.revision,
        places,
    };
    core.push(Command::Feed {
        wanted: FeedWanted {
            range: Default::default(),
            what: FeedKind::Chunks(Arc::new(wanted)),
        },
        sink,
    });
    stream
}

type Checked = std::result::Result<(ChunkId, ChunkKind, Bytes), ChunkError>;

fn check(records: Vec<ChunkRecord>) -> Vec<Checked> {
    let check = |record| {
        let chunk = CheckedChunk::check(record)?;
        Ok((chunk.id(), chunk.kind(), chunk.plain()?))
    };
    records.into_iter().map(check).collect()
}

/// What stands at a place.
pub(crate) fn kind_of(place: &ChunkPlace) -> ChunkKind {
    match place.level {
        0 => ChunkKind::Chunk,
        _ => ChunkKind::Node,
    }
}

fn cut(core: &Core) -> ObjectError {
    let text = format!(
        "{}: the owner went away while chunks were sent",
        core.config.what
    );
    ObjectError::new(ErrorKind::Unavailable, text)
}

/// A value that was replaced, and is no longer kept.
fn gone(value: &LargeValue, id: ChunkId) -> ObjectError {
    let text = format!(
        "chunk {id} of key {} at revision {} is not there: the value was replaced, and is no longer \
         kept",
        key::describe(&value.key),
        value.revision
    );
    ObjectError::new(ErrorKind::Conflict, text)
}

fn corrupt(value: &LargeValue, error: &ChunkError) -> ObjectError {
    let text = format!("value of key {}: {error}", key::describe(&value.key));
    ObjectError::new(ErrorKind::Corrupt, text)
}

#[cfg(test)]
mod tests;
