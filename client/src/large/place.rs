//! Where chunks are: in the store of this process, or at the owner.
//!
//! What comes from an owner is checked here, against the id that names it and the size that its parent
//! states: a server can refuse a chunk, and cannot pass off another.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use objsync_proto::chunk::record::{CheckedChunk, ChunkRecord};
use objsync_proto::chunk::{ChunkError, ChunkKind, Node};
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::ChunkId;
use objsync_proto::key;
use objsync_proto::limits::CHUNK_BYTES_MAX;
use objsync_proto::wire::{ChunkPlace, Feed, Reply, Request, record_bytes};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::moving::{longest, while_moving};
use super::own::{self, Hold};
use super::reference::LargeValue;
use super::upload::in_background;
use crate::core::{ChunksWanted, Command, Core, FeedKind, FeedWanted, Phase, Upload};
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
    let bytes: usize = (records.iter().map(|record| record_bytes(&record.payload))).sum();
    let bytes = bytes as u64;
    let (sent, was_sent) = oneshot::channel();
    // Dropped with this future, it has the sending end too.
    let (_wanted, given_up) = oneshot::channel();
    core.push(Command::Upload(Upload {
        records,
        sent,
        given_up,
    }));
    let timeout = core.config.options.timeout;
    let ended = async {
        let upload = was_sent.await.unwrap_or_else(|_| Err(cut(core)))?;
        let deadline = Instant::now() + longest(timeout, bytes);
        let request = Request::EndUpload { upload, count };
        core.ask_until(request, deadline).await
    };
    match while_moving(core, &core.large.sent, bytes, ended).await {
        Some(Ok(Reply::Done)) => Ok(()),
        Some(Ok(other)) => Err(unexpected_reply(&other)),
        Some(Err(error)) => Err(error),
        None => Err(core.unreachable(timeout)),
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
    let cached =
        |(place, _): &(ChunkPlace, u64)| Some((place.id, core.large.cache.get(&place.id)?));
    let mut found: HashMap<ChunkId, Bytes> = places.iter().filter_map(cached).collect();
    let mut tries = Tries::new(core);
    loop {
        let wanted = wanted(places, &found);
        if wanted.is_empty() {
            break;
        }
        let before = found.len();
        match ask(core, value, wanted, &mut found).await {
            Ok(()) => break,
            Err(error) => {
                if found.len() > before {
                    // It is a slow way, not none: what came is not asked for again.
                    tries = Tries::new(core);
                }
                tries.after(error).await?;
            }
        }
    }
    let chunk = |(place, bytes): &(ChunkPlace, u64)| match found.get(&place.id) {
        Some(chunk) if place.level > 0 || chunk.len() as u64 == *bytes => Ok(chunk.clone()),
        Some(chunk) => Err(corrupt(
            value,
            &ChunkError::WrongSize {
                id: place.id,
                stated: *bytes,
                found: chunk.len() as u64,
            },
        )),
        None => Err(gone(value, place.id)),
    };
    places.iter().map(chunk).collect()
}

/// Those places whose chunks were not found yet, each chunk once.
fn wanted(places: &[(ChunkPlace, u64)], found: &HashMap<ChunkId, Bytes>) -> Vec<(ChunkPlace, u64)> {
    let mut seen = HashSet::with_capacity(places.len());
    let is_wanted =
        |(place, _): &&(ChunkPlace, u64)| !found.contains_key(&place.id) && seen.insert(place.id);
    places.iter().filter(is_wanted).copied().collect()
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

/// Finds what is at these places, by id, checked; what is not there any more is left out. What came
/// before a failure is found too.
async fn ask(
    core: &Arc<Core>,
    value: &LargeValue,
    places: Vec<(ChunkPlace, u64)>,
    found: &mut HashMap<ChunkId, Bytes>,
) -> Result<()> {
    // A node states the bytes of all that is below it.
    let bytes = (places
        .iter()
        .map(|(_, bytes)| (*bytes).min(CHUNK_BYTES_MAX as u64)))
    .sum();
    let places: Vec<ChunkPlace> = places.into_iter().map(|(place, _)| place).collect();
    if core.owner().is_some() {
        let reading = Arc::clone(core);
        found.extend(in_background(core, move || own::chunks(&reading, &places)).await?);
        return Ok(());
    }
    let mut awaited: HashMap<ChunkId, ChunkKind> = places
        .iter()
        .map(|place| (place.id, kind_of(place)))
        .collect();
    // Each brings something, and the last may bring nothing.
    let mut frames_left = places.len() + 1;
    let mut stream = request(core, value, places);
    loop {
        let received = &core.large.received;
        let Some(frame) = while_moving(core, received, bytes, stream.recv()).await else {
            return Err(core.unreachable(core.config.options.timeout));
        };
        match frame {
            Some(Ok(Feed::Chunks(records))) if frames_left > 0 => {
                frames_left -= 1;
                take(core, value, records, (&mut awaited, found)).await?;
            }
            Some(Ok(Feed::Complete { .. })) => return Ok(()),
            Some(Ok(Feed::Failed(failure))) => return Err(failure.into()),
            Some(Ok(_)) => return Err(out_of_turn(value)),
            Some(Err(error)) => return Err(error),
            None => return Err(cut(core)),
        }
    }
}

/// Checks the chunks of a frame, each of which was asked for, once.
async fn take(
    core: &Core,
    value: &LargeValue,
    records: Vec<ChunkRecord>,
    (awaited, found): (
        &mut HashMap<ChunkId, ChunkKind>,
        &mut HashMap<ChunkId, Bytes>,
    ),
) -> Result<()> {
    for chunk in in_background(core, move || Ok(check(records))).await? {
        let (id, kind, plain) = chunk.map_err(|error| corrupt(value, &error))?;
        if awaited.remove(&id) != Some(kind) {
            let error = ChunkError::Malformed("a chunk came that was not asked for");
            return Err(corrupt(value, &error));
        }
        found.insert(id, plain);
    }
    Ok(())
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

fn out_of_turn(value: &LargeValue) -> ObjectError {
    let text = format!(
        "value of key {}: the owner sent more than the chunks that it was asked for",
        key::describe(&value.key)
    );
    ObjectError::new(ErrorKind::Unsupported, text)
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
