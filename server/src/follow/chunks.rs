//! A copy fetches the chunks that frames and snapshots name before it takes these, so that it holds
//! everything that they lead to, durable.
//!
//! What it has already is not fetched again: equal content comes once, and a transfer that broke off
//! goes on where it was.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use objsync_proto::chunk::record::{CheckedChunk, ChunkRecord};
use objsync_proto::chunk::{ChunkError, ChunkKind, Node};
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{ChunkId, Revision};
use objsync_proto::limits::CHUNKS_ASKED_MAX;
use objsync_proto::wire::{ChunkPlace, Feed, Request};
use objsync_store::ChunkSink;
use quinn::Connection;

use super::Upstream;
use super::copying::{End, apart};
use super::hail::{Inbox, lost, nonsense};
use crate::named::node_of;

/// Chunks asked for at once: some MiB.
const ASKED_COUNT: usize = 64;
const _: () = assert!(ASKED_COUNT <= CHUNKS_ASKED_MAX);
/// The first number of a fetch on its connection.
const FIRST_FETCH: u64 = 1 << 32;

/// Fetches from one source over one connection, one batch after the other.
pub(super) struct Fetching {
    upstream: Arc<Upstream>,
    connection: Connection,
    next: AtomicU64,
}

impl Fetching {
    pub(super) fn new(upstream: &Arc<Upstream>, connection: &Connection) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            connection: connection.clone(),
            next: AtomicU64::new(FIRST_FETCH),
        }
    }

    /// Brings what is missing of these, and all that is below them, into `sink`.
    pub(super) async fn complete(
        &self,
        sink: &Arc<ChunkSink>,
        ids: Vec<ChunkId>,
    ) -> Result<(), End> {
        self.complete_level(sink, ids, None).await
    }

    async fn complete_level(
        &self,
        sink: &Arc<ChunkSink>,
        ids: Vec<ChunkId>,
        level: Option<u8>,
    ) -> Result<(), End> {
        for batch in ids.chunks(ASKED_COUNT) {
            self.complete_batch(sink, batch.to_vec(), level).await?;
        }
        Ok(())
    }

    /// What lies below a node comes before it; a node is of a level below that of who lists it,
    /// which is checked before it is looked below, so this ends.
    fn complete_batch<'a>(
        &'a self,
        sink: &'a Arc<ChunkSink>,
        ids: Vec<ChunkId>,
        level: Option<u8>,
    ) -> Pin<Box<dyn Future<Output = Result<(), End>> + Send + 'a>> {
        Box::pin(async move {
            let ids: HashSet<ChunkId> = sink.missing(&ids).into_iter().collect();
            if ids.is_empty() {
                return Ok(());
            }
            let (chunks, nodes) = self.fetch(Wanted { ids, level }).await?;
            let kept = Arc::clone(sink);
            apart(move || kept.put(&chunks)).await?;
            for (node, record) in nodes {
                let below = node.children().iter().map(|child| child.id);
                let level = Some(node.level().saturating_sub(1));
                self.complete_level(sink, below.collect(), level).await?;
                let kept = Arc::clone(sink);
                apart(move || kept.put(&[record])).await?;
            }
            Ok(())
        })
    }

    /// Chunks, and nodes.
    async fn fetch(&self, mut wanted: Wanted) -> Result<Fetched, End> {
        let subscription = self.next.fetch_add(1, Ordering::Relaxed);
        let place = |id: &ChunkId| ChunkPlace {
            id: *id,
            level: 0,
            offset: 0,
        };
        // Who follows may have each chunk by its id alone.
        let request = Request::FetchChunks {
            subscription,
            key: Bytes::new(),
            revision: Revision(0),
            places: wanted.ids.iter().map(place).collect(),
        };
        self.upstream.request_now(request).await?;
        let stream = self.connection.accept_uni().await;
        let mut inbox = Inbox::new(stream.map_err(|error| lost(&self.connection, &error))?);
        match inbox.next(&self.connection).await? {
            Feed::Start { subscription: of } if of == subscription => {}
            _ => return Err(nonsense("a stream that was not asked for").into()),
        }
        let mut fetched = Fetched::default();
        loop {
            match inbox.next(&self.connection).await? {
                Feed::Chunks(records) => {
                    let (more, nodes);
                    (wanted, more, nodes) = apart(move || {
                        let (more, nodes) = wanted.take(records)?;
                        Ok((wanted, more, nodes))
                    })
                    .await?;
                    fetched.0.extend(more);
                    fetched.1.extend(nodes);
                }
                Feed::Complete { .. } if wanted.ids.is_empty() => return Ok(fetched),
                Feed::Complete { .. } => {
                    let text = "the source does not have all chunks that its log names";
                    return Err(Failure::new(ErrorKind::Unavailable, text).into());
                }
                Feed::Failed(failure) => return Err(failure.into()),
                _ => return Err(nonsense("something else than chunks").into()),
            }
        }
    }
}

/// Chunks, and nodes with their records.
type Fetched = (Vec<CheckedChunk>, Vec<(Node, CheckedChunk)>);

/// What was asked for, and has not come.
struct Wanted {
    ids: HashSet<ChunkId>,
    /// How far above the chunks they are; none for what a value names, which may be of any level.
    level: Option<u8>,
}

impl Wanted {
    /// Takes what came, if each is one of these.
    fn take(&mut self, records: Vec<ChunkRecord>) -> Result<Fetched, Failure> {
        let mut fetched = Fetched::default();
        for record in records {
            // Each once: a source cannot send more than it was asked for.
            if !self.ids.remove(&record.id) {
                return Err(nonsense("a chunk that it was not asked for"));
            }
            let chunk = CheckedChunk::check(record).map_err(|error| corrupt(&error))?;
            let level = match chunk.kind() {
                ChunkKind::Chunk => {
                    fetched.0.push(chunk);
                    0
                }
                ChunkKind::Node => {
                    let node = node_of(&chunk).map_err(|error| corrupt(&error))?;
                    let level = node.level();
                    fetched.1.push((node, chunk));
                    level
                }
            };
            if self.level.is_some_and(|wanted| wanted != level) {
                return Err(nonsense("a chunk of another level than its parent says"));
            }
        }
        Ok(fetched)
    }
}

fn corrupt(error: &ChunkError) -> Failure {
    let text = format!("the source sent a chunk: {error}");
    Failure::new(ErrorKind::Corrupt, text)
}

#[cfg(test)]
mod tests;
