//! Content on its way into chunks: cut, hashed, and sent where it is missing.
//!
//! ```text
//! content -> cut -> windows of chunks, some at once: hash -> which are missing? -> pack -> send
//!                            ids, in order -> tree -> nodes, sent too -> root
//! ```
//!
//! Memory: the windows under way, whatever the length of the content. What the owner has is not sent:
//! so an upload that begins again after a broken connection sends what was not there yet.
//!
//! Cancel safety: dropped half way, what was sent stays until the owner collects it, as nothing names
//! it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use objsync_proto::chunk::record::{CheckedChunk, Packer};
use objsync_proto::chunk::tree::TreeBuilder;
use objsync_proto::chunk::{Child, Root, chunk_id};
use objsync_proto::cut::Chunking;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::ChunkId;
use objsync_proto::limits::CONTENT_BYTES_MAX;
use objsync_proto::stored::Compression;
use tokio::task::JoinHandle;

use super::own::Hold;
use super::place;
use crate::core::Core;
use crate::error::{ObjectError, Result};

/// Bytes of content that are asked for and sent together, about.
const WINDOW_BYTES: usize = 2 << 20;
/// Windows under way at once: enough to hash on one core while others are sent and synced.
const WINDOWS_MAX: usize = 4;

/// One content on its way.
pub(super) struct Upload {
    core: Arc<Core>,
    hold: Arc<Hold>,
    key: Bytes,
    chunking: Chunking,
    /// Content that is not cut yet: less than one chunk, unless it came in one piece.
    rest: BytesMut,
    /// Chunks that were cut and are not under way.
    window: Vec<Bytes>,
    window_bytes: usize,
    under_way: VecDeque<Window>,
    tree: TreeBuilder,
    /// Bytes taken in.
    bytes: u64,
}

/// Chunks under way. Dropped, they are not waited for, and not sent any more.
struct Window(JoinHandle<Result<Vec<Child>>>);

impl Drop for Window {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Upload {
    /// Begins to take content for the value of a key.
    pub(super) fn new(core: &Arc<Core>, hold: &Arc<Hold>, key: Bytes, chunking: Chunking) -> Self {
        Self {
            core: Arc::clone(core),
            hold: Arc::clone(hold),
            key,
            chunking,
            rest: BytesMut::new(),
            window: Vec::new(),
            window_bytes: 0,
            under_way: VecDeque::new(),
            tree: TreeBuilder::default(),
            bytes: 0,
        }
    }

    /// Takes all of a content, without copying it.
    pub(super) async fn whole(mut self, content: &Bytes) -> Result<Root> {
        self.count(content.len())?;
        let mut at = 0;
        while let Some(length) = self.chunking.cut(&content[at..], true) {
            self.add(content.slice(at..at + length)).await?;
            at += length;
        }
        self.finish().await
    }

    /// Takes the next bytes of a content; waits while as much is under way as may be.
    pub(super) async fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.count(bytes.len())?;
        // In steps, so that a long piece is not copied whole before its first chunk leaves.
        for step in bytes.chunks(self.chunking.bytes_max()) {
            self.rest.extend_from_slice(step);
            self.cut_rest(false).await?;
        }
        Ok(())
    }

    /// Bytes taken in.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What was taken in, if that was so little that none of it is under way.
    pub(super) fn small(&self, bytes_max: usize) -> Option<&[u8]> {
        let is_small = self.rest.len() as u64 == self.bytes && self.rest.len() <= bytes_max;
        is_small.then_some(&self.rest)
    }

    /// Sends what is left; the root of all, once the owner has all of it.
    pub(super) async fn finish(mut self) -> Result<Root> {
        self.cut_rest(true).await?;
        self.send_window().await?;
        while let Some(window) = self.under_way.pop_front() {
            self.arrived(window).await?;
        }
        let mut nodes = Vec::new();
        let tree = std::mem::take(&mut self.tree);
        let root = tree.finish(self.chunking.cutter(), &mut nodes)?;
        send((&self.core, &self.hold), &self.key, nodes).await?;
        place::sync(&self.core, &self.hold).await?;
        Ok(root)
    }

    fn count(&mut self, more: usize) -> Result<()> {
        self.bytes += more as u64;
        if self.bytes <= CONTENT_BYTES_MAX {
            return Ok(());
        }
        let text = format!(
            "value of key {} is more than {CONTENT_BYTES_MAX} bytes, which is the limit",
            objsync_proto::key::describe(&self.key)
        );
        Err(ObjectError::new(ErrorKind::Invalid, text))
    }

    async fn cut_rest(&mut self, is_all: bool) -> Result<()> {
        while let Some(length) = self.chunking.cut(&self.rest, is_all) {
            let chunk = self.rest.split_to(length).freeze();
            self.add(chunk).await?;
        }
        Ok(())
    }

    async fn add(&mut self, chunk: Bytes) -> Result<()> {
        self.window_bytes += chunk.len();
        self.window.push(chunk);
        if self.window_bytes >= WINDOW_BYTES {
            self.send_window().await?;
        }
        Ok(())
    }

    async fn send_window(&mut self) -> Result<()> {
        if self.window.is_empty() {
            return Ok(());
        }
        while self.under_way.len() >= WINDOWS_MAX {
            if let Some(oldest) = self.under_way.pop_front() {
                self.arrived(oldest).await?;
            }
        }
        self.window_bytes = 0;
        let chunks = std::mem::take(&mut self.window);
        let (core, hold) = (Arc::clone(&self.core), Arc::clone(&self.hold));
        let sending =
            self.core
                .runtime()
                .spawn(send_chunks((core, hold), self.key.clone(), chunks));
        self.under_way.push_back(Window(sending));
        Ok(())
    }

    /// Waits for a window, and puts its chunks into the tree.
    async fn arrived(&mut self, mut window: Window) -> Result<()> {
        let children = (&mut window.0)
            .await
            .unwrap_or_else(|error| Err(ObjectError::stopped(&error)))?;
        let mut nodes = Vec::new();
        for child in children {
            self.tree.push(child, &mut nodes)?;
        }
        send((&self.core, &self.hold), &self.key, nodes).await
    }
}

/// Sends those chunks of a window that the owner lacks.
async fn send_chunks(
    (core, hold): (Arc<Core>, Arc<Hold>),
    key: Bytes,
    chunks: Vec<Bytes>,
) -> Result<Vec<Child>> {
    let (chunks, children) = in_background(&core, move || {
        let child = |chunk: &Bytes| Child {
            id: chunk_id(chunk),
            bytes: chunk.len() as u64,
        };
        let children: Vec<Child> = chunks.iter().map(child).collect();
        Ok((chunks, children))
    })
    .await?;
    let ids: Vec<ChunkId> = children.iter().map(|child| child.id).collect();
    let mut tries = place::Tries::new(&core);
    let mut missing_count = usize::MAX;
    loop {
        let before = missing_count;
        let sent = async {
            let missing = place::missing(&core, &hold, &key, &ids).await?;
            missing_count = missing.len();
            let wanted: Vec<(Bytes, _)> = chunks
                .iter()
                .zip(&children)
                .filter(|(_, child)| missing.contains(&child.id))
                .map(|(chunk, child)| (chunk.clone(), child.id))
                .collect();
            if wanted.is_empty() {
                return Ok(());
            }
            let compression = core.config.packer.compression();
            let records = in_background(&core, move || pack(wanted, compression)).await?;
            place::put(&core, &hold, records).await
        };
        match sent.await {
            Ok(()) => return Ok(children),
            Err(error) => {
                if missing_count < before {
                    // It is a slow way, not none: what arrived is not sent again.
                    tries = place::Tries::new(&core);
                }
                tries.after(error).await?;
            }
        }
    }
}

/// Sends nodes, of which there are few.
///
/// # Errors
/// `Unavailable` when the owner does not have what they list: it was replaced, or has collected it.
async fn send(
    (core, hold): (&Arc<Core>, &Arc<Hold>),
    key: &Bytes,
    nodes: Vec<CheckedChunk>,
) -> Result<()> {
    if nodes.is_empty() {
        return Ok(());
    }
    let ids: Vec<ChunkId> = nodes.iter().map(CheckedChunk::id).collect();
    let mut tries = place::Tries::new(core);
    loop {
        let sent = async {
            let missing = place::missing(core, hold, key, &ids).await?;
            let records: Vec<_> = nodes
                .iter()
                .filter(|node| missing.contains(&node.id()))
                .cloned()
                .collect();
            if records.is_empty() {
                return Ok(());
            }
            place::put(core, hold, records).await
        };
        match sent.await {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Conflict => return Err(lost(key, &error)),
            Err(error) => tries.after(error).await?,
        }
    }
}

fn lost(key: &Bytes, error: &ObjectError) -> ObjectError {
    let text = format!(
        "value of key {}: the owner lost chunks that it had taken, write the value anew: {error}",
        objsync_proto::key::describe(key)
    );
    ObjectError::new(ErrorKind::Unavailable, text)
}

fn pack(chunks: Vec<(Bytes, ChunkId)>, compression: Compression) -> Result<Vec<CheckedChunk>> {
    let mut packer = Packer::new(compression)?;
    let pack = |(chunk, id)| packer.known_chunk(id, chunk);
    Ok(chunks
        .into_iter()
        .map(pack)
        .collect::<std::result::Result<_, _>>()?)
}

/// Runs work that takes a core for a while beside the I/O thread.
pub(super) async fn in_background<T: Send + 'static>(
    core: &Core,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let working = core.runtime().spawn_blocking(work);
    working
        .await
        .unwrap_or_else(|error| Err(ObjectError::stopped(&error)))
}
