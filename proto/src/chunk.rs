//! Chunks: the pieces of a large value, each known by the hash of its content.
//!
//! A value names at most [`ROOT_CHILDREN_MAX`] ids. Longer lists of chunks are node records: a tree
//! in which each id stands beside the bytes of content below it, so that any offset is found from
//! the root, and any value has one root.
//!
//! | module | what it knows |
//! |---|---|
//! | here | ids, the children of a root or a node, and what they must be |
//! | [`tree`] | how a tree is made of chunks that come one after the other |
//! | [`record`] | a chunk or a node as it is sent and stored: packed, and checked by its id |
//!
//! Invariants
//! * The id of a chunk is the SHA-256 of its plain bytes. That of a node is the SHA-256 of its
//!   record with every bit inverted, so that no content is ever taken for a node.
//! * Bytes from outside become a [`Node`], a [`Root`] or a [`record::CheckedChunk`] only when all of
//!   it was checked: counts before memory, sizes that add up, a depth that is bounded.

pub mod record;
pub mod tree;

use bytes::{BufMut, Bytes};
use sha2::{Digest as _, Sha256};

use crate::ids::ChunkId;
use crate::limits::{
    CHUNK_BYTES, CHUNK_BYTES_MAX, CHUNK_DEPTH_MAX, CONTENT_BYTES_MAX, NODE_CHILDREN_MAX,
    ROOT_CHILDREN_MAX,
};

/// Bytes of one child in a root or a node record: its id, and the bytes of content below it.
pub const CHILD_BYTES: usize = 32 + 8;
/// Bytes of a node record before its children.
pub const NODE_HEADER_BYTES: usize = 4;
/// Longest node record.
pub const NODE_BYTES_MAX: usize = NODE_HEADER_BYTES + NODE_CHILDREN_MAX * CHILD_BYTES;

const NODE_VERSION: u8 = 1;

/// The id of a chunk with this content.
///
/// Cost: one SHA-256 over it.
#[must_use]
pub fn chunk_id(plain: &[u8]) -> ChunkId {
    ChunkId(sha256(plain))
}

/// The id of a node with this record.
#[must_use]
pub fn node_id(record: &[u8]) -> ChunkId {
    ChunkId(sha256(record).map(|byte| !byte))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(&Sha256::digest(bytes));
    hash
}

/// What an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkKind {
    /// A piece of content.
    Chunk,
    /// A list of chunks or of nodes.
    Node,
}

impl ChunkKind {
    /// The number on the wire and in packs.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Chunk => 0,
            Self::Node => 1,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Chunk),
            1 => Some(Self::Node),
            _ => None,
        }
    }

    /// The id of something of this kind.
    #[must_use]
    pub fn id_of(self, plain: &[u8]) -> ChunkId {
        match self {
            Self::Chunk => chunk_id(plain),
            Self::Node => node_id(plain),
        }
    }

    /// Most plain bytes of something of this kind.
    #[must_use]
    pub const fn plain_bytes_max(self) -> usize {
        match self {
            Self::Chunk => CHUNK_BYTES_MAX,
            Self::Node => NODE_BYTES_MAX,
        }
    }
}

/// Where content is cut into chunks. Written beside the root, so that a later version of the same
/// value can be cut alike; who reads needs only the sizes in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cutter {
    /// Every so many bytes from the start.
    Fixed {
        /// Bytes of each chunk but the last.
        bytes: u32,
    },
    /// Where the content says so.
    FastCdc {
        /// Which variant of the algorithm: 1 is `v2020` of the `fastcdc` crate, normalization 1.
        variant: u8,
        /// Least bytes of a chunk.
        bytes_min: u32,
        /// Bytes of a chunk, about.
        bytes_average: u32,
        /// Most bytes of a chunk.
        bytes_max: u32,
    },
}

impl Default for Cutter {
    fn default() -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "64 KiB")]
        Self::Fixed {
            bytes: CHUNK_BYTES as u32,
        }
    }
}

/// One entry of a root or a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// Its id.
    pub id: ChunkId,
    /// Bytes of content below it, at least 1.
    pub bytes: u64,
}

/// A node record that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    level: u8,
    children: Vec<Child>,
    bytes: u64,
}

impl Node {
    /// Over `children`: chunks at level 1, nodes of the level below at a higher one.
    pub fn new(level: u8, children: Vec<Child>) -> Result<Self, ChunkError> {
        if !(1..=CHUNK_DEPTH_MAX).contains(&level) {
            return Err(ChunkError::Depth { depth: level });
        }
        let bytes = check_children(&children, level - 1, NODE_CHILDREN_MAX)?;
        Ok(Self {
            level,
            children,
            bytes,
        })
    }

    /// How far above the chunks; 1 for a list of chunks.
    #[must_use]
    pub fn level(&self) -> u8 {
        self.level
    }

    /// What it lists, in the order of the content.
    #[must_use]
    pub fn children(&self) -> &[Child] {
        &self.children
    }

    /// Bytes of content below it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The record: version 1, level, count as u16, then id and bytes as u64 of each child; numbers
    /// little-endian.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut record = Vec::with_capacity(NODE_HEADER_BYTES + self.children.len() * CHILD_BYTES);
        record.push(NODE_VERSION);
        record.push(self.level);
        #[expect(clippy::cast_possible_truncation, reason = "at most NODE_CHILDREN_MAX")]
        record.put_u16_le(self.children.len() as u16);
        put_children(&self.children, &mut record);
        record.into()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Of any byte that is not as [`Node::encode`] writes it.
    pub fn decode(record: &[u8]) -> Result<Self, ChunkError> {
        let Some((&[version, level, low, high], rest)) = record.split_first_chunk() else {
            return Err(ChunkError::Malformed("a node is shorter than its header"));
        };
        if version != NODE_VERSION {
            return Err(ChunkError::Unknown {
                field: "version of a node",
                number: version,
            });
        }
        let count = usize::from(u16::from_le_bytes([low, high]));
        if count > NODE_CHILDREN_MAX || rest.len() != count * CHILD_BYTES {
            return Err(ChunkError::Malformed(
                "the count of a node does not match its length",
            ));
        }
        Self::new(level, take_children(rest))
    }
}

/// What a value knows of its chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    cutter: Cutter,
    depth: u8,
    children: Vec<Child>,
    bytes: u64,
}

impl Root {
    /// Over `children`: chunks at depth 0, nodes of that level at a higher one.
    pub fn new(cutter: Cutter, depth: u8, children: Vec<Child>) -> Result<Self, ChunkError> {
        if depth > CHUNK_DEPTH_MAX {
            return Err(ChunkError::Depth { depth });
        }
        let bytes = check_children(&children, depth, ROOT_CHILDREN_MAX)?;
        Ok(Self {
            cutter,
            depth,
            children,
            bytes,
        })
    }

    /// How the content was cut.
    #[must_use]
    pub fn cutter(&self) -> Cutter {
        self.cutter
    }

    /// Levels of nodes below the root; 0 when it names chunks itself.
    #[must_use]
    pub fn depth(&self) -> u8 {
        self.depth
    }

    /// What it names, in the order of the content.
    #[must_use]
    pub fn children(&self) -> &[Child] {
        &self.children
    }

    /// Bytes of the whole content.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The children whose content overlaps `start..end`, each with the offset at which it begins. The
/// content of the first child begins at `base`.
pub fn overlapping(
    children: &[Child],
    base: u64,
    start: u64,
    end: u64,
) -> impl Iterator<Item = (u64, Child)> + '_ {
    let placed = children.iter().scan(base, |next, child| {
        let at = *next;
        *next += child.bytes;
        Some((at, *child))
    });
    placed
        .skip_while(move |(at, child)| at + child.bytes <= start)
        .take_while(move |(at, _)| *at < end)
}

/// Checks a list of children, which are chunks at level 0 and nodes of that level above it, and adds
/// up their bytes.
fn check_children(children: &[Child], level: u8, count_max: usize) -> Result<u64, ChunkError> {
    if children.is_empty() || children.len() > count_max {
        return Err(ChunkError::Count {
            count: children.len(),
            count_max,
        });
    }
    let each_max = match level {
        0 => CHUNK_BYTES_MAX as u64,
        _ => CONTENT_BYTES_MAX,
    };
    let mut sum = 0_u64;
    for child in children {
        if child.bytes == 0 || child.bytes > each_max {
            return Err(ChunkError::Size {
                bytes: child.bytes,
                bytes_max: each_max,
            });
        }
        // Each is at most the limit, and there are few: the sum cannot overflow.
        sum += child.bytes;
    }
    if sum > CONTENT_BYTES_MAX {
        return Err(ChunkError::Size {
            bytes: sum,
            bytes_max: CONTENT_BYTES_MAX,
        });
    }
    Ok(sum)
}

pub(crate) fn put_children(children: &[Child], out: &mut Vec<u8>) {
    for child in children {
        out.put_slice(&child.id.0);
        out.put_u64_le(child.bytes);
    }
}

/// Reads children from bytes whose length is a multiple of [`CHILD_BYTES`].
pub(crate) fn take_children(bytes: &[u8]) -> Vec<Child> {
    let child = |entry: &[u8]| {
        let (mut id, mut size) = ([0; 32], [0; 8]);
        id.copy_from_slice(&entry[..32]);
        size.copy_from_slice(&entry[32..]);
        Child {
            id: ChunkId(id),
            bytes: u64::from_le_bytes(size),
        }
    };
    bytes.chunks_exact(CHILD_BYTES).map(child).collect()
}

/// Why bytes are no chunk, no node or no root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// The content is not what the id names.
    #[error("chunk {id} has other content: it hashes to {found}")]
    WrongHash {
        /// The id that it came under.
        id: ChunkId,
        /// The id of what came.
        found: ChunkId,
    },
    /// A list of children has none, or too many.
    #[error("list of chunks has {count} entries; the limits are 1 and {count_max}")]
    Count {
        /// How many.
        count: usize,
        /// The limit.
        count_max: usize,
    },
    /// A tree is too deep.
    #[error("tree of chunks has depth {depth}; the limit is {CHUNK_DEPTH_MAX}")]
    Depth {
        /// How deep.
        depth: u8,
    },
    /// A size is not possible.
    #[error("content below a chunk id is {bytes} bytes; the limits are 1 and {bytes_max} bytes")]
    Size {
        /// The size stated.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// Content that has another length than was stated.
    #[error("chunk {id} is {found} bytes, where {stated} bytes are stated")]
    WrongSize {
        /// Which.
        id: ChunkId,
        /// Bytes stated where it is named.
        stated: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// A number that this program does not know.
    #[error("{field} is {number}, which this version does not know")]
    Unknown {
        /// Which field.
        field: &'static str,
        /// What stands there.
        number: u8,
    },
    /// The bytes are not what they should be.
    #[error("malformed: {0}")]
    Malformed(&'static str),
}

#[cfg(test)]
mod tests;
