//! Which chunks the present value of a key names: a peer that reads the value may know that these
//! are there, and need not upload them.
//!
//! Invariant: a node is read once in a walk, and a walk reads a bounded number of nodes. A peer makes
//! the trees that are walked here, and one of a few records can say that it has millions of children.

use std::collections::HashSet;

use objsync_proto::chunk::record::CheckedChunk;
use objsync_proto::chunk::{Child, ChunkError, ChunkKind, Node, Root};
use objsync_proto::ids::ChunkId;
use objsync_proto::stored_chunks;
use objsync_store::{Chunks, StoreError, Stored};

use crate::peer::Peer;

/// Nodes that are read of one value, whose chunks of 64 KiB are 8 GiB. What lies behind them is
/// uploaded again.
const NODES_READ_MAX: usize = 128;

/// Those of `wanted` that the present value of a key names, as far as the peer may read it.
///
/// Cost: none without `wanted`; else at most [`NODES_READ_MAX`] reads. Blocks.
pub(crate) fn named_by(
    peer: &Peer,
    key: &[u8],
    wanted: HashSet<ChunkId>,
) -> Result<Vec<(ChunkId, ChunkKind)>, StoreError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let store = &peer.serving.store;
    let (Ok(()), Ok(namespace)) = (peer.may_read(), peer.namespace()) else {
        return Ok(Vec::new());
    };
    match store.get(namespace, key)?.and_then(root_of) {
        Some(root) => among(&store.chunks(), &root, wanted, NODES_READ_MAX),
        None => Ok(Vec::new()),
    }
}

/// The root of a value; none if its content is not in chunks.
pub(crate) fn root_of(stored: Stored) -> Option<Root> {
    let opened = stored_chunks::open(&stored.value).ok()?;
    Some(opened?.root)
}

fn among(
    chunks: &Chunks<'_>,
    root: &Root,
    mut wanted: HashSet<ChunkId>,
    reads_max: usize,
) -> Result<Vec<(ChunkId, ChunkKind)>, StoreError> {
    let mut named = Vec::new();
    let mut look = |level: u8, children: &[Child]| {
        let found = children.iter().filter(|child| wanted.remove(&child.id));
        named.extend(found.map(|child| (child.id, kind_of(level))));
        wanted.is_empty()
    };
    let mut is_all = look(root.depth(), root.children());
    // Nodes that are to be read, those of the end first.
    let mut next: Vec<ChunkId> = nodes_of(root.depth(), root.children());
    let mut visited = HashSet::new();
    while !is_all
        && visited.len() < reads_max
        && let Some(id) = next.pop()
    {
        if !visited.insert(id) {
            continue;
        }
        // One that is gone or damaged names nothing.
        if let Some(node) = node(chunks, id)? {
            let level = node.level().saturating_sub(1);
            is_all = look(level, node.children());
            next.extend(nodes_of(level, node.children()));
        }
    }
    Ok(named)
}

/// The nodes in a list of children of a level, those of the end first.
fn nodes_of(level: u8, children: &[Child]) -> Vec<ChunkId> {
    if kind_of(level) == ChunkKind::Chunk {
        return Vec::new();
    }
    children.iter().rev().map(|child| child.id).collect()
}

/// What a list of children of a level names.
fn kind_of(level: u8) -> ChunkKind {
    match level {
        0 => ChunkKind::Chunk,
        _ => ChunkKind::Node,
    }
}

/// A node that is there; none for a chunk, and for what is damaged.
///
/// # Errors
/// The disk refused a read.
pub(crate) fn node(chunks: &Chunks<'_>, id: ChunkId) -> Result<Option<Node>, StoreError> {
    let record = match chunks.get(id) {
        Ok(Some(record)) if record.kind == ChunkKind::Node.number() => record,
        Ok(_) | Err(StoreError::Corrupt { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let checked = CheckedChunk::check(record).and_then(|checked| node_of(&checked));
    Ok(checked.ok())
}

/// What a node lists.
pub(crate) fn node_of(checked: &CheckedChunk) -> Result<Node, ChunkError> {
    Node::decode(&checked.plain()?)
}

#[cfg(test)]
mod tests;
