//! How a tree is made of chunks that come one after the other.

use super::record::CheckedChunk;
use super::{Child, ChunkError, Cutter, Node, Root, chunk_id};
use crate::cut::Chunking;
use crate::limits::{CHUNK_DEPTH_MAX, NODE_CHILDREN_MAX, ROOT_CHILDREN_MAX};

/// Takes chunks in the order of the content, and gives the node records above them as they become
/// full. The same chunks give the same tree.
///
/// Memory: at most `NODE_CHILDREN_MAX` children of each level, some 160 KiB.
#[derive(Debug, Default)]
pub struct TreeBuilder {
    levels: Vec<Vec<Child>>,
}

/// The root of a content that is in memory, cut in this way; its nodes are made and dropped.
///
/// Cost: one SHA-256 over the content, and for [`Chunking::Content`] a look at each byte.
///
/// # Errors
/// When the content is empty, or over the limit of a value.
pub fn root_of(chunking: Chunking, content: &[u8]) -> Result<Root, ChunkError> {
    let (mut tree, mut nodes) = (TreeBuilder::default(), Vec::new());
    let mut rest = content;
    while let Some(length) = chunking.cut(rest, true) {
        let (chunk, after) = rest.split_at(length);
        let child = Child {
            id: chunk_id(chunk),
            bytes: chunk.len() as u64,
        };
        tree.push(child, &mut nodes)?;
        nodes.clear();
        rest = after;
    }
    tree.finish(chunking.cutter(), &mut nodes)
}

impl TreeBuilder {
    /// Adds the next chunk. Node records that it completes are appended to `nodes`: they are to be
    /// stored after the chunks that they list.
    pub fn push(&mut self, child: Child, nodes: &mut Vec<CheckedChunk>) -> Result<(), ChunkError> {
        self.push_at(0, child, nodes)
    }

    /// The root of all that came; at least one chunk must have.
    pub fn finish(
        mut self,
        cutter: Cutter,
        nodes: &mut Vec<CheckedChunk>,
    ) -> Result<Root, ChunkError> {
        let mut level = 0;
        loop {
            let is_last = self.levels.iter().skip(level + 1).all(Vec::is_empty);
            let children = self.levels.get_mut(level).map(std::mem::take);
            let children = children.unwrap_or_default();
            if is_last && children.len() <= ROOT_CHILDREN_MAX {
                let depth = u8::try_from(level).unwrap_or(u8::MAX);
                return Root::new(cutter, depth, children);
            }
            if !children.is_empty() {
                self.close(level, children, nodes)?;
            }
            level += 1;
        }
    }

    fn push_at(
        &mut self,
        level: usize,
        child: Child,
        nodes: &mut Vec<CheckedChunk>,
    ) -> Result<(), ChunkError> {
        if level > usize::from(CHUNK_DEPTH_MAX) {
            let depth = u8::try_from(level).unwrap_or(u8::MAX);
            return Err(ChunkError::Depth { depth });
        }
        if self.levels.len() <= level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(child);
        if self.levels[level].len() == NODE_CHILDREN_MAX {
            let children = std::mem::take(&mut self.levels[level]);
            self.close(level, children, nodes)?;
        }
        Ok(())
    }

    /// Makes a node of `children`, which are of `level`, and adds it one level up.
    fn close(
        &mut self,
        level: usize,
        children: Vec<Child>,
        nodes: &mut Vec<CheckedChunk>,
    ) -> Result<(), ChunkError> {
        let above = u8::try_from(level + 1).unwrap_or(u8::MAX);
        let node = Node::new(above, children)?;
        let record = CheckedChunk::node(&node);
        let child = Child {
            id: record.id(),
            bytes: node.bytes(),
        };
        nodes.push(record);
        self.push_at(level + 1, child, nodes)
    }
}
