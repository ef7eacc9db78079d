//! A copy fetches the chunks that frames and snapshots name before it takes these, so that it holds
//! everything that they lead to, durable.
//!
//! What it has already is not fetched again: equal content comes once, and a transfer that broke off
//! goes on where it was.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use objsync_proto::chunk::record::{CheckedChunk, ChunkRecord};
use objsync_proto::chunk::{ChunkKind, Node};
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{ChunkId, Revision};
use objsync_proto::limits::CHUNKS_ASKED_MAX;
use objsync_proto::wire::{ChunkPlace, Feed, Request};
use objsync_store::{ChunkSink, StoreError};
use quinn::Connection;

use super::Upstream;
use super::copying::{End, apart};
use super::hail::{Inbox, lost, nonsense};

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
        for batch in ids.chunks(ASKED_COUNT) {
            self.complete_batch(sink, batch.to_vec()).await?;
        }
        Ok(())
    }

    /// What lies below a node comes before it; a node is of a level below that of who lists it, so
    /// this ends.
    fn complete_batch<'a>(
        &'a self,
        sink: &'a Arc<ChunkSink>,
        ids: Vec<ChunkId>,
    ) -> Pin<Box<dyn Future<Output = Result<(), End>> + Send + 'a>> {
        Box::pin(async move {
            let missing = sink.missing(&ids);
            if missing.is_empty() {
                return Ok(());
            }
            let (chunks, nodes) = self.fetch(missing).await?;
            let kept = Arc::clone(sink);
            apart(move || kept.put(&chunks)).await?;
            for (node, record) in nodes {
                let below = node.children().iter().map(|child| child.id);
                self.complete(sink, below.collect()).await?;
                let kept = Arc::clone(sink);
                apart(move || kept.put(&[record])).await?;
            }
            Ok(())
        })
    }

    /// Chunks, and nodes.
    async fn fetch(&self, ids: Vec<ChunkId>) -> Result<Fetched, End> {
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
            places: ids.iter().map(place).collect(),
        };
        self.upstream.request_now(request).await?;
        let stream = self.connection.accept_uni().await;
        let mut inbox = Inbox::new(stream.map_err(|error| lost(&self.connection, &error))?);
        match inbox.next(&self.connection).await? {
            Feed::Start { subscription: of } if of == subscription => {}
            _ => return Err(nonsense("a stream that was not asked for").into()),
        }
        let mut fetched = Fetched::default();
        let mut count = 0;
        loop {
            match inbox.next(&self.connection).await? {
                Feed::Chunks(records) => {
                    count += records.len();
                    if count > ids.len() {
                        return Err(nonsense("more chunks than it was asked for").into());
                    }
                    let (more, nodes) = apart(move || check_all(records)).await?;
                    fetched.0.extend(more);
                    fetched.1.extend(nodes);
                }
                Feed::Complete { .. } if count == ids.len() => return Ok(fetched),
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

fn check_all(records: Vec<ChunkRecord>) -> Result<Fetched, StoreError> {
    let invalid = |error: objsync_proto::chunk::ChunkError| -> StoreError {
        Failure::new(
            ErrorKind::Corrupt,
            format!("the source sent a chunk: {error}"),
        )
        .into()
    };
    let mut fetched = Fetched::default();
    for record in records {
        let chunk = CheckedChunk::check(record).map_err(invalid)?;
        match chunk.kind() {
            ChunkKind::Chunk => fetched.0.push(chunk),
            ChunkKind::Node => {
                let node = chunk.plain().and_then(|plain| Node::decode(&plain));
                fetched.1.push((node.map_err(invalid)?, chunk));
            }
        }
    }
    Ok(fetched)
}
