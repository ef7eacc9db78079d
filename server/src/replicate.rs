//! The log, sent to a follower as it is written: a cursor, as a subscription is one.
//!
//! Trail: a sync or a commit -> `Serving::durables`, `Serving::commits` -> [`Sending::run`] ->
//! `Store::ship` -> the follower's stream.
//!
//! Memory per follower is one batch of about `limits::FEED_FRAME_BYTES`, or one larger frame of the
//! log. Who does not read is held by QUIC's flow control, and nobody waits for it: when the log no
//! longer reaches back to it, it gets the newest snapshot.
//!
//! When aborted, the stream is reset; the follower comes back from where it is.

use std::sync::Arc;
use std::time::Duration;

use objsync_proto::ids::Position;
use objsync_proto::limits::{BOOKMARK_MS, FEED_FRAME_BYTES};
use objsync_proto::wire::{CopyPlace, Feed, PartialSnapshot};
use objsync_store::{ChunkHold, Ship, ShipCursor, Shipped, Store, StoreError, Whole};
use quinn::Connection;
use tokio::time::Instant;

use crate::commits::CommitsSeen;
use crate::feed_stream::{FeedStream, Unsendable};
use crate::peer::Peer;

/// A follower hears how far its source is at least this often.
const BOOKMARK: Duration = Duration::from_millis(BOOKMARK_MS);

/// What was asked for.
pub(crate) struct Wanted {
    pub(crate) id: u64,
    pub(crate) since: Option<CopyPlace>,
    pub(crate) partial: Option<PartialSnapshot>,
}

/// Sends a follower the log, until it or its connection goes.
pub(crate) async fn send(peer: Arc<Peer>, connection: Connection, wanted: Wanted) {
    let _counted = peer.serving.begin_subscription();
    let Ok(stream) = FeedStream::open(&connection, wanted.id, 0).await else {
        return;
    };
    let mut sending = Sending {
        commits: peer.serving.commits.seen(),
        durables: peer.serving.durables.seen(),
        peer,
        stream,
        hold: None,
    };
    let Err(why) = sending.run(wanted).await;
    sending.stream.end(why).await;
}

/// Never a value: the stream ends by an error or by being dropped.
enum Never {}

struct Sending {
    peer: Arc<Peer>,
    stream: FeedStream,
    /// A copy that begins anew fetches the chunks of its snapshot until it ends the connection.
    hold: Option<ChunkHold>,
    commits: CommitsSeen,
    durables: CommitsSeen,
}

impl Sending {
    async fn run(&mut self, wanted: Wanted) -> Result<Never, Unsendable> {
        let found = match wanted.since {
            Some(place) => self.ask(move |store| store.ship_after(&place)).await?,
            None => None,
        };
        let mut cursor = match found {
            Some(cursor) => cursor,
            None => self.install(wanted.partial).await?,
        };
        let mut told = Instant::now();
        loop {
            // Before the read: what comes during it wakes the wait below.
            self.commits.see();
            self.durables.see();
            let store = &self.peer.serving.store;
            let waits_for_commit = store.ship_waits_for_commit();
            let position = store.ship_position();
            let shipped = self.ask(move |store| {
                let ship = store.ship(&mut cursor, FEED_FRAME_BYTES);
                ship.map(|ship| (ship, cursor))
            });
            let (ship, next) = shipped.await?;
            cursor = next;
            match ship {
                Ship::Frames(frames) => {
                    self.send_frames(&frames).await?;
                    // There may always be more: a follower that is close is to know it.
                    if told.elapsed() >= BOOKMARK {
                        self.reached(position).await?;
                        told = Instant::now();
                    }
                }
                Ship::Trimmed => cursor = self.install(None).await?,
                Ship::UpToDate => {
                    self.reached(position).await?;
                    told = Instant::now();
                    self.rest(waits_for_commit).await;
                }
            }
        }
    }

    async fn reached(&mut self, position: Position) -> Result<(), Unsendable> {
        self.stream.put(&Feed::Reached { position });
        self.stream.flush().await
    }

    /// Waits until there may be more, or it is time to say that there is not. What is committed
    /// before it is durable is shipped later, and not looked for at each commit.
    async fn rest(&mut self, waits_for_commit: bool) {
        tokio::select! { biased;
            // The senders live as long as the peer does.
            () = self.durables.changed() => {}
            () = self.commits.changed(), if waits_for_commit => {}
            () = tokio::time::sleep(BOOKMARK) => {}
        }
    }

    /// Asks the store what may wait for the disk.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Unsendable> {
        let store = self.peer.serving.store.clone();
        Ok(self.peer.serving.apart(move || work(&store)).await??)
    }

    /// Sends all that a copy begins with, and gives where the log goes on.
    async fn install(
        &mut self,
        partial: Option<PartialSnapshot>,
    ) -> Result<ShipCursor, Unsendable> {
        // Refused only by a semaphore that is closed, which nobody does.
        let _turn = Arc::clone(&self.peer.states).acquire_owned().await;
        self.hold = Some(self.peer.serving.store.chunks().hold());
        let whole = self.ask(move |store| store.ship_all(partial.as_ref()));
        let Whole {
            start,
            file,
            cursor,
        } = whole.await?;
        self.stream.put(&Feed::Install(start));
        let mut at = start.start;
        while let Some(file) = file.clone().filter(|_| at < start.total_bytes) {
            let bytes = (start.total_bytes - at).min(FEED_FRAME_BYTES as u64);
            let bytes = usize::try_from(bytes).unwrap_or(FEED_FRAME_BYTES);
            let piece = self.ask(move |_| {
                let mut piece = vec![0; bytes];
                let read = file.read_exact_at(&mut piece, at);
                let path = std::path::Path::new("snapshots");
                read.map_err(|error| StoreError::io("read", path, error))?;
                Ok(piece)
            });
            let piece = piece.await?;
            at += piece.len() as u64;
            self.stream.put(&Feed::Piece(piece.into()));
            self.stream.flush().await?;
        }
        self.stream.flush().await?;
        Ok(cursor)
    }

    /// Sends frames; the body of a long one in parts.
    async fn send_frames(&mut self, frames: &[Shipped]) -> Result<(), Unsendable> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for frame in frames {
            let body = frame.body();
            if bytes + body.len() > FEED_FRAME_BYTES && !batch.is_empty() {
                self.stream.put(&Feed::Frames(std::mem::take(&mut batch)));
                self.stream.flush().await?;
                bytes = 0;
            }
            batch.push(frame.head(FEED_FRAME_BYTES));
            bytes += body.len();
            if bytes <= FEED_FRAME_BYTES {
                continue;
            }
            self.stream.put(&Feed::Frames(std::mem::take(&mut batch)));
            bytes = 0;
            let mut rest = body.slice(FEED_FRAME_BYTES..);
            while !rest.is_empty() {
                self.stream.flush().await?;
                let part = rest.split_to(rest.len().min(FEED_FRAME_BYTES));
                self.stream.put(&Feed::Body(part));
            }
        }
        if !batch.is_empty() {
            self.stream.put(&Feed::Frames(batch));
        }
        self.stream.flush().await
    }
}
