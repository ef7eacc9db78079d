//! Where the log does not lead on from where a subscriber stands: what it is sent instead.
//!
//! | it holds | it gets |
//! |---|---|
//! | nothing known: it subscribed from the start, or by `Subscribe` | everything (`Reset`) |
//! | everything of its range | what differs (`Compare`, `Replace`) |
//! | a part | word to drop it (`Skip`) |
//! | nothing: it wants every change | which ones are gone (`Gap`), and the end |
//!
//! What is sent is as of one revision, which a reader of the store holds. It expires after a
//! minute, or when writers need the memory: then it is begun anew, a few times.

use std::sync::Arc;
use std::time::Duration;

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::Position;
use objsync_proto::limits::DIGESTS_TIMEOUT_MS;
use objsync_proto::wire::{Feed, Gap, Held};
use tokio::time::timeout;

use super::Subscription;
use crate::comparison::Comparison;
use crate::digests::{Outlet, Sent};
use crate::feed_stream::Unsendable;
use crate::pages::{Pages, Source};

/// How often it is begun anew for a subscriber too slow for it, before it is told so.
const STATES_MAX: u32 = 3;

impl Subscription {
    /// Sends a subscriber what it needs to go on, or that it cannot.
    pub(super) async fn bridge(&mut self, from: Position) -> Result<(), Unsendable> {
        match self.held {
            None => Box::pin(self.send_state()).await,
            Some(Held::Whole) => Box::pin(self.send_difference(from)).await,
            Some(Held::Part) => self.skip().await,
            Some(Held::Nothing) => self.send_gap(from).await,
        }
    }

    /// Sends everything there is now, as of one revision, to go on from there.
    pub(super) async fn send_state(&mut self) -> Result<(), Unsendable> {
        for _ in 1..STATES_MAX {
            match self.try_send_state().await {
                Err(error) if is_expired(&error) => {}
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
        self.arrive(pages.position()).await
    }

    /// Has the subscriber tell what it holds, and sends what differs.
    async fn send_difference(&mut self, from: Position) -> Result<(), Unsendable> {
        let gap = self.peer.serving.store.gap(&from);
        let same_history = gap.is_none_or(|gap| gap.same_history);
        for _ in 1..STATES_MAX {
            match self.try_send_difference(same_history).await {
                Err(error) if is_expired(&error) => {}
                sent => return sent,
            }
        }
        self.try_send_difference(same_history).await
    }

    async fn try_send_difference(&mut self, same_history: bool) -> Result<(), Unsendable> {
        // Refused only by a semaphore that is closed, which nobody does.
        let _turn = Arc::clone(&self.peer.states).acquire_owned().await;
        // Not before: digests that wait for a comparison take memory, and only so many may compare.
        let mut outlet = self.inlet.open();
        self.round += 1;
        let round = self.round;
        let reader = self.peer.serving.store.reader();
        let mut comparison = Comparison::new(reader, self.namespace, self.range.clone());
        let position = comparison.position();
        self.stream.put(&Feed::Compare {
            round,
            position,
            same_history,
        });
        self.stream.flush().await?;
        while !comparison.is_over() {
            let Some(sent) = digests(&mut outlet).await? else {
                return Err(Unsendable::Gone);
            };
            if sent.round != round {
                continue;
            }
            if sent.digests.is_empty() {
                // It holds no longer all of it.
                return self.skip().await;
            }
            comparison = self.send_differing(comparison, &sent).await?;
        }
        self.arrive(position).await
    }

    /// Compares the digests of one request, and sends the blocks that differ.
    async fn send_differing(
        &mut self,
        mut comparison: Comparison,
        sent: &Sent,
    ) -> Result<Comparison, Unsendable> {
        comparison.take(&sent.digests).map_err(Unsendable::Failed)?;
        while !comparison.is_idle() {
            let step = move || comparison.step().map(|found| (comparison, found));
            let (back, found) = self.peer.serving.apart(step).await??;
            comparison = back;
            for message in &found {
                self.stream.put(message);
            }
            self.stream.flush().await?;
        }
        Ok(comparison)
    }

    /// What was sent is whole, as of a position.
    async fn arrive(&mut self, position: Position) -> Result<(), Unsendable> {
        if self.is_stale() {
            return Err(Unsendable::Failed(super::moved()));
        }
        self.stream.put(&Feed::Complete { position });
        self.stream.flush().await?;
        self.cursor = position.revision;
        self.mark_told(position.revision);
        Ok(())
    }

    /// Lets a subscriber that holds a part go on from now.
    async fn skip(&mut self) -> Result<(), Unsendable> {
        let position = self.peer.serving.store.position();
        self.stream.put(&Feed::Skip { position });
        self.stream.flush().await?;
        self.cursor = position.revision;
        self.mark_told(position.revision);
        Ok(())
    }

    /// Tells a subscriber of every change which ones it cannot have, and ends.
    async fn send_gap(&mut self, from: Position) -> Result<(), Unsendable> {
        // None if the log was trimmed further in between: its subscriber asks again and is told.
        let gap = self.peer.serving.store.gap(&from).unwrap_or(Gap {
            after: from.revision,
            oldest: from.revision,
            same_history: true,
        });
        self.stream.put(&Feed::Gap(gap));
        self.stream.flush().await?;
        Err(Unsendable::Said)
    }
}

/// The next digests: whoever does not send them makes room for others.
async fn digests(outlet: &mut Outlet) -> Result<Option<Sent>, Unsendable> {
    let limit = Duration::from_millis(DIGESTS_TIMEOUT_MS);
    timeout(limit, outlet.next()).await.map_err(|_| {
        let text = format!("no digests came for {DIGESTS_TIMEOUT_MS} ms; that is the limit");
        Unsendable::Failed(Failure::new(ErrorKind::Conflict, text))
    })
}

/// Whether what is sent has to be begun anew.
fn is_expired(error: &Unsendable) -> bool {
    match error {
        Unsendable::Failed(failure) if failure.kind == ErrorKind::Conflict => {
            tracing::debug!(%failure, "the state is sent anew");
            true
        }
        _ => false,
    }
}
