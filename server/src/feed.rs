//! A subscription: a cursor over the store's history that sends what comes after it.
//!
//! Trail: a commit -> `Feed::on_commit` -> `Serving::commits` -> [`Subscription::run`] ->
//! `Feed::read` -> the subscriber's stream.
//!
//! Invariants
//! * Events are sent in order, each once, whole: the cursor is the last revision gathered.
//! * Memory per subscriber is one batch of at most `limits::FEED_FRAME_BYTES` (or one larger
//!   event), whatever it does: who does not read is held by QUIC's flow control, falls out of the
//!   ring, then reads the log, and in the end is helped over the gap (`feed/bridge.rs`). Nobody
//!   waits for anybody.
//! * The subscriber hears how far it is: at once when its own peer's write brought it nothing, or
//!   a barrier asks; else within `limits::BOOKMARK_MS`.
//!
//! When aborted, the stream is reset; the subscriber resumes from its position.

mod bridge;
mod happened;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{NamespaceId, Origin, Position, Revision};
use objsync_proto::limits::{BOOKMARK_MS, CALL_TIMEOUT_MS, FEED_FRAME_BYTES};
use objsync_proto::wire::{Feed, Held, KeyRange};
use objsync_store::{FeedRead, LogRead, LogValues};
use quinn::Connection;
use tokio::time::{Instant, sleep_until};

use crate::barriers::{Barrier, Barriers};
use crate::closing;
use crate::commits::CommitsSeen;
use crate::digests::Inlet;
use crate::feed::happened::{Gathered, Happened};
use crate::feed_stream::{FeedStream, Unsendable};
use crate::peer::{Peer, Session};

/// What was asked for.
pub(crate) struct Wanted {
    pub(crate) id: u64,
    pub(crate) namespace: NamespaceId,
    pub(crate) range: KeyRange,
    pub(crate) since: Option<Position>,
    /// What it has as of `since`; none if it did not say.
    pub(crate) held: Option<Held>,
    /// Where its digests come in.
    pub(crate) inlet: Inlet,
}

/// Sends a subscriber everything it asked for, until it or its connection goes.
pub(crate) async fn follow(
    peer: Arc<Peer>,
    connection: Connection,
    wanted: Wanted,
    barriers: Barriers,
) {
    let _counted = peer.serving.begin_subscription();
    let Ok(stream) = FeedStream::open(&connection, wanted.id, 0).await else {
        return;
    };
    let closer = connection.clone();
    let mut subscription = Subscription {
        commits: peer.serving.commits.seen(),
        by_part: peer.takes_patches() && wanted.held != Some(Held::Nothing),
        values: LogValues::default(),
        peer,
        stream,
        namespace: wanted.namespace,
        range: wanted.range,
        held: wanted.held,
        inlet: wanted.inlet,
        round: 0,
        cursor: Revision(0),
        told: Revision(0),
        told_at: Instant::now(),
        owed: false,
        asked: barriers,
        barriers: VecDeque::new(),
    };
    let Err(why) = subscription.run(wanted.since).await;
    if subscription.is_stale() {
        // Its positions would name the wrong epoch: it comes back, and goes on where it is.
        return closing::close(&closer, &moved());
    }
    subscription.stream.end(why).await;
}

/// The source of this copy has another owner, or another epoch of the same.
fn moved() -> Failure {
    let text = "the source of this copy has begun a new epoch; go on";
    Failure::new(ErrorKind::Unavailable, text)
}

/// Never a value: a subscription ends by an error or by being dropped.
enum Never {}

struct Subscription {
    peer: Arc<Peer>,
    stream: FeedStream,
    namespace: NamespaceId,
    range: KeyRange,
    held: Option<Held>,
    /// Whether it is told of a change of a part of a value by that part.
    by_part: bool,
    /// What the log has told of values, while it is read for a subscriber that gets them whole.
    values: LogValues,
    inlet: Inlet,
    /// Comparisons begun.
    round: u32,
    commits: CommitsSeen,
    /// Everything up to here has been sent, or did not concern the subscriber.
    cursor: Revision,
    /// What the subscriber knows it is at.
    told: Revision,
    told_at: Instant,
    /// The subscriber's own write brought it nothing: it waits to hear that it is past it.
    owed: bool,
    asked: Barriers,
    /// Barriers that were asked for and not sent yet.
    barriers: VecDeque<Barrier>,
}

impl Subscription {
    async fn run(&mut self, since: Option<Position>) -> Result<Never, Unsendable> {
        if let Some(since) = &since {
            self.wait_for(since).await;
        }
        match since {
            Some(since) if self.peer.serving.store.is_on_history(&since) => {
                self.cursor = since.revision;
                self.told = since.revision;
                self.stream.put(&Feed::Resume);
                self.stream.flush().await?;
            }
            Some(since) => self.bridge(since).await?,
            // On the heap while it lasts: who follows for days pays for no more than that.
            None => Box::pin(self.send_state()).await?,
        }
        loop {
            // Before the read: a commit during it wakes the wait below.
            self.commits.see();
            self.barriers.append(&mut self.asked.take());
            match self
                .peer
                .serving
                .store
                .feed()
                .read(self.cursor, FEED_FRAME_BYTES)
            {
                _ if self.is_stale() => return Err(Unsendable::Failed(moved())),
                FeedRead::Published(batch) => {
                    let batch = batch.iter().map(|one| self.gather(&**one));
                    let batch = batch.collect();
                    self.send(batch).await?;
                }
                FeedRead::UpToDate(revision) => {
                    self.values = LogValues::default();
                    self.rest(revision).await?;
                }
                FeedRead::Behind => Box::pin(self.catch_up()).await?,
            }
        }
    }

    /// Whether the epoch that the subscriber was told of is over. An owner's never is; a copy's ends
    /// with its source's, before anything of the next one can be read here.
    fn is_stale(&self) -> bool {
        let peer = &self.peer;
        peer.serving.upstream.is_some() && peer.serving.store.position().epoch != peer.epoch
    }

    /// A subscriber that has seen more than a copy holds, elsewhere, is not taken back: the copy
    /// catches up first. Not for ever: it may have seen what is no history any more.
    async fn wait_for(&mut self, since: &Position) {
        let serving = Arc::clone(&self.peer.serving);
        if serving.upstream.is_none() || since.store != serving.store.position().store {
            return;
        }
        let give_up = Instant::now() + Duration::from_millis(CALL_TIMEOUT_MS);
        loop {
            self.commits.see();
            let ours = serving.store.position();
            let is_ahead = since.epoch.number > ours.epoch.number
                || (since.epoch == ours.epoch && since.revision > ours.revision);
            if !is_ahead || serving.store.is_on_history(since) {
                return;
            }
            tokio::select! { biased;
                // The sender lives as long as the peer does.
                () = self.commits.changed() => {}
                () = sleep_until(give_up) => return,
            }
        }
    }

    /// Sends the next part of the log, or what helps where the log begins later.
    async fn catch_up(&mut self) -> Result<(), Unsendable> {
        let (store, cursor) = (self.peer.serving.store.clone(), self.cursor);
        let serving = &self.peer.serving;
        // The log has all that is committed, also revisions that no transaction has.
        let committed = store.position().revision;
        let read = match self.by_part {
            true => {
                let read = move || store.read_log_by_part(cursor, FEED_FRAME_BYTES);
                self.gathered(serving.apart(read).await??)
            }
            false => {
                let mut values = std::mem::take(&mut self.values);
                let read = move || {
                    let read = store.read_log_on(&mut values, cursor, FEED_FRAME_BYTES);
                    read.map(|read| (values, read))
                };
                let (values, read) = serving.apart(read).await??;
                self.values = values;
                self.gathered(read)
            }
        };
        match read {
            _ if self.is_stale() => Err(Unsendable::Failed(moved())),
            LogRead::Transactions(batch) if batch.is_empty() => self.rest(committed).await,
            LogRead::Transactions(batch) => self.send(batch).await,
            LogRead::Trimmed => self.bridge(self.at(cursor)).await,
        }
    }

    fn gathered(&self, read: LogRead<impl Happened>) -> LogRead<Gathered> {
        match read {
            LogRead::Transactions(batch) => {
                LogRead::Transactions(batch.iter().map(|one| self.gather(one)).collect())
            }
            LogRead::Trimmed => LogRead::Trimmed,
        }
    }

    /// What the subscriber gets of a transaction.
    fn gather(&self, happened: &impl Happened) -> Gathered {
        let is_whole = self.range.start.is_empty() && self.range.end.is_none();
        let range = (!is_whole).then_some(&self.range);
        Gathered {
            revision: happened.revision(),
            event: happened.encoded(self.namespace, self.by_part, range),
            is_own: self.is_own(happened.origin()),
        }
    }

    /// Sends what of a batch concerns the subscriber.
    async fn send(&mut self, batch: Vec<Gathered>) -> Result<(), Unsendable> {
        let mut events: Vec<Bytes> = Vec::new();
        for gathered in batch {
            match gathered.event {
                Some(event) => {
                    events.push(event);
                    self.owed = false;
                    self.told = gathered.revision;
                }
                None => self.owed |= gathered.is_own,
            }
            self.cursor = gathered.revision;
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

    /// Whether the subscriber's own peer asked for a transaction.
    fn is_own(&self, origin: Option<Origin>) -> bool {
        origin.is_some_and(|origin| self.peer.session() == Session::Open(origin.session))
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
            () = self.asked.filled() => {}
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
