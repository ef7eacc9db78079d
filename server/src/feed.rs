//! A subscription: a cursor over the store's history that sends what comes after it.
//!
//! Trail: a commit -> `Feed::on_commit` -> `Serving::commits` -> [`Subscription::run`] ->
//! `Feed::read` -> the subscriber's stream.
//!
//! Invariants
//! * Events are sent in order, each once, whole: the cursor is the last revision gathered.
//! * Memory per subscriber is one batch of at most `limits::FEED_FRAME_BYTES` (or one larger
//!   event), whatever it does: who does not read is held by QUIC's flow control, falls out of the
//!   ring, then reads the log, and in the end gets the state anew. Nobody waits for anybody.
//! * The subscriber hears how far it is: at once when its own peer's write brought it nothing, or
//!   a barrier asks; else within `limits::BOOKMARK_MS`.
//!
//! When aborted, the stream is reset; the subscriber resumes from its position.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{NamespaceId, Position, Revision};
use objsync_proto::limits::{BOOKMARK_MS, FEED_FRAME_BYTES};
use objsync_proto::wire::{Event, Feed, KeyRange, event};
use objsync_store::{FeedRead, LogRead, Published};
use quinn::Connection;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::commits::CommitsSeen;
use crate::feed_stream::{FeedStream, Unsendable};
use crate::pages::{Pages, Source};
use crate::peer::{Peer, Session};
use crate::streams::Barrier;

/// How often the state is begun anew for a subscriber too slow for it, before it is told so.
const STATES_MAX: u32 = 3;

/// What was asked for.
pub(crate) struct Wanted {
    pub(crate) id: u64,
    pub(crate) namespace: NamespaceId,
    pub(crate) range: KeyRange,
    pub(crate) since: Option<Position>,
}

/// Sends a subscriber everything it asked for, until it or its connection goes.
pub(crate) async fn follow(
    peer: Arc<Peer>,
    connection: Connection,
    wanted: Wanted,
    barriers: mpsc::Receiver<Barrier>,
) {
    let _counted = peer.serving.begin_subscription();
    let Ok(stream) = FeedStream::open(&connection, wanted.id, 0).await else {
        return;
    };
    let mut subscription = Subscription {
        commits: peer.serving.commits.seen(),
        peer,
        stream,
        namespace: wanted.namespace,
        range: wanted.range,
        cursor: Revision(0),
        told: Revision(0),
        told_at: Instant::now(),
        owed: false,
        asked: barriers,
        barriers: VecDeque::new(),
    };
    let Err(why) = subscription.run(wanted.since).await;
    subscription.stream.fail(why).await;
}

/// Never a value: a subscription ends by an error or by being dropped.
enum Never {}

struct Subscription {
    peer: Arc<Peer>,
    stream: FeedStream,
    namespace: NamespaceId,
    range: KeyRange,
    commits: CommitsSeen,
    /// Everything up to here has been sent, or did not concern the subscriber.
    cursor: Revision,
    /// What the subscriber knows it is at.
    told: Revision,
    told_at: Instant,
    /// The subscriber's own write brought it nothing: it waits to hear that it is past it.
    owed: bool,
    asked: mpsc::Receiver<Barrier>,
    /// Barriers that were asked for and not sent yet.
    barriers: VecDeque<Barrier>,
}

impl Subscription {
    async fn run(&mut self, since: Option<Position>) -> Result<Never, Unsendable> {
        match since {
            Some(since) if self.peer.serving.store.is_on_history(&since) => {
                self.cursor = since.revision;
                self.told = since.revision;
                self.stream.put(&Feed::Resume);
                self.stream.flush().await?;
            }
            _ => self.send_state().await?,
        }
        loop {
            // Before the read: a commit during it wakes the wait below.
            self.commits.see();
            while let Ok(barrier) = self.asked.try_recv() {
                self.barriers.push_back(barrier);
            }
            match self
                .peer
                .serving
                .store
                .feed()
                .read(self.cursor, FEED_FRAME_BYTES)
            {
                FeedRead::Published(batch) => self.send(batch.iter().map(Arc::as_ref)).await?,
                FeedRead::UpToDate(revision) => self.rest(revision).await?,
                FeedRead::Behind => self.catch_up().await?,
            }
        }
    }

    /// Sends the next part of the log, or the state where the log begins later.
    async fn catch_up(&mut self) -> Result<(), Unsendable> {
        let (store, cursor) = (self.peer.serving.store.clone(), self.cursor);
        let serving = &self.peer.serving;
        // The log has all that is committed, also revisions that no transaction has.
        let committed = store.position().revision;
        let read = serving.apart(move || store.read_log(cursor, FEED_FRAME_BYTES));
        match read.await?? {
            LogRead::Transactions(batch) if batch.is_empty() => self.rest(committed).await,
            LogRead::Transactions(batch) => self.send(batch.iter()).await,
            LogRead::Trimmed => self.send_state().await,
        }
    }

    /// Sends everything there is now, as of one revision, to go on from there.
    async fn send_state(&mut self) -> Result<(), Unsendable> {
        for _ in 1..STATES_MAX {
            match self.try_send_state().await {
                Err(Unsendable::Failed(failure)) if failure.kind == ErrorKind::Conflict => {
                    tracing::debug!(%failure, "the state is sent anew");
                }
                sent => return sent,
            }
        }
        self.try_send_state().await
    }

    async fn try_send_state(&mut self) -> Result<(), Unsendable> {
        self.stream.put(&Feed::Reset);
        // Refused only by a semaphore that is closed, which nobody does.
        let _turn = Arc::clone(&self.peer.states).acquire_owned().await;
        let serving = &self.peer.serving;
        let wanted = (self.namespace, self.range.clone(), false);
        let mut pages = Pages::new(serving, Source::Now, wanted);
        while let Some(page) = pages.next().await? {
            self.stream.put(&Feed::Entries(page));
            self.stream.flush().await?;
        }
        let position = pages.position();
        self.stream.put(&Feed::Complete { position });
        self.stream.flush().await?;
        self.cursor = position.revision;
        self.mark_told(position.revision);
        Ok(())
    }

    /// Sends what of a batch concerns the subscriber.
    async fn send(&mut self, batch: impl Iterator<Item = &Published>) -> Result<(), Unsendable> {
        let mut events: Vec<Bytes> = Vec::new();
        for published in batch {
            match self.event(published) {
                Some(event) => {
                    events.push(event);
                    self.owed = false;
                    self.told = published.revision;
                }
                None => self.owed |= self.is_own(published),
            }
            self.cursor = published.revision;
        }
        if !events.is_empty() {
            self.stream.put_events(&events);
            self.told_at = Instant::now();
        }
        self.send_barriers(self.cursor);
        self.stream.flush().await?;
        // A subscriber that reads fast could keep the thread to itself.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// What the subscriber gets of a transaction, encoded; none if nothing concerns it.
    fn event(&self, published: &Published) -> Option<Bytes> {
        if self.range.start.is_empty() && self.range.end.is_none() {
            return published.encoded(self.namespace);
        }
        let inside = |key: &Bytes| {
            *key >= self.range.start && self.range.end.as_ref().is_none_or(|end| key < end)
        };
        let changes: Vec<_> = published
            .changes
            .iter()
            .filter(|(namespace, change)| *namespace == self.namespace && inside(&change.key))
            .map(|(_, change)| change.clone())
            .collect();
        (!changes.is_empty()).then(|| {
            event::encode(&Event {
                revision: published.revision,
                time_ms: published.time_ms,
                origin: published.origin,
                cause: published.cause,
                changes,
            })
        })
    }

    /// Whether the subscriber's own peer asked for a transaction.
    fn is_own(&self, published: &Published) -> bool {
        published
            .origin
            .is_some_and(|origin| self.peer.session() == Session::Open(origin.session))
    }

    /// Nothing is left to send up to a revision: says so where somebody waits to hear it, then
    /// waits for more.
    async fn rest(&mut self, revision: Revision) -> Result<(), Unsendable> {
        self.send_barriers(revision.max(self.cursor));
        if self.owed {
            self.send_bookmark();
        }
        self.stream.flush().await?;
        let silent = self.cursor <= self.told;
        let due = self.told_at + Duration::from_millis(BOOKMARK_MS);
        tokio::select! { biased;
            () = self.commits.changed() => {}
            Some(barrier) = self.asked.recv() => self.barriers.push_back(barrier),
            () = sleep_until(due), if !silent => self.owed = true,
        }
        Ok(())
    }

    fn send_bookmark(&mut self) {
        let position = self.at(self.cursor);
        self.stream.put(&Feed::Bookmark { position });
        self.mark_told(self.cursor);
    }

    /// Sends the barriers up to a revision, before which nothing is left to send. A barrier that is
    /// ahead of it waits: its subscriber would pass over the changes between.
    fn send_barriers(&mut self, revision: Revision) {
        let (cursor, before) = (self.cursor, self.barriers.len());
        while let Some(&Barrier { id, position }) = self.barriers.front()
            && position.revision <= revision
        {
            self.barriers.pop_front();
            let position = self.at(cursor.max(position.revision));
            self.stream.put(&Feed::Barrier { id, position });
        }
        if self.barriers.len() < before {
            self.mark_told(cursor);
        }
    }

    fn at(&self, revision: Revision) -> Position {
        Position {
            revision,
            ..self.peer.serving.store.position()
        }
    }

    fn mark_told(&mut self, revision: Revision) {
        self.told = self.told.max(revision);
        self.told_at = Instant::now();
        self.owed = false;
    }
}
