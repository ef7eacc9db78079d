//! One stream of the feed: the replica's own, or one for a watch or a scan.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::Position;
use objsync_proto::limits::FRAME_BYTES_MAX;
use objsync_proto::wire::{Feed, codec};
use tokio::sync::mpsc;

use super::{Feeds, READ_BYTES, Told, lock, lost};
use crate::core::{Core, FeedKind};
use crate::error::{ObjectError, Result};

/// Before a replica that was too slow for its owner's state asks for it again.
const SLOW_PAUSE: Duration = Duration::from_secs(1);

/// Reads one stream of the feed.
pub(super) struct FeedTask {
    pub(super) core: Arc<Core>,
    pub(super) feeds: Feeds,
    pub(super) told: mpsc::UnboundedSender<Told>,
    pub(super) main: Option<u64>,
    pub(super) welcomed: Position,
    pub(super) stream: quinn::RecvStream,
    pub(super) input: BytesMut,
    /// It brings chunks of large values, whose readers wait as long as they come.
    pub(super) is_chunks: bool,
}

impl FeedTask {
    /// Dropped with the connection: frames that were not read whole are read again on the next.
    pub(super) async fn run(mut self) {
        let Ok(Some(Feed::Start { subscription })) = self.next().await else {
            return;
        };
        if Some(subscription) == self.main {
            self.follow(subscription).await;
        } else {
            self.forward(subscription).await;
        }
    }

    async fn next(&mut self) -> Result<Option<Feed>> {
        loop {
            let decoded = codec::decode(&mut self.input, FRAME_BYTES_MAX);
            if let Some(feed) = decoded.map_err(|error| error.failure())? {
                self.core.learn_feed(&feed).await?;
                return Ok(Some(feed));
            }
            match self.stream.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => {
                    if self.is_chunks {
                        self.core.large.received.add(chunk.bytes.len() as u64);
                    }
                    self.input.extend_from_slice(&chunk.bytes);
                }
                // The connection tells why.
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }

    /// The replica's own stream.
    async fn follow(&mut self, subscription: u64) {
        if self
            .core
            .replica
            .follow(Feed::Start { subscription })
            .is_err()
        {
            return;
        }
        let by_part = !self.core.replica.wants_whole();
        loop {
            let followed = match self.next().await {
                Ok(Some(feed)) => {
                    let is_asked = matches!(feed, Feed::Compare { .. });
                    self.core.large.ahead.note(&self.core, &feed);
                    let followed = self.core.replica.follow(feed);
                    if is_asked {
                        let _ = self.told.send(Told::Compared);
                    }
                    followed
                }
                Ok(None) => Err(lost(&"the owner ended the replica's stream")),
                Err(error) => Err(error),
            };
            if let Err(error) = followed {
                if by_part && self.core.replica.wants_whole() {
                    let what = &self.core.config.what;
                    tracing::debug!(%what, %error, "whole values are asked for");
                    let _ = self.told.send(Told::Unpatched);
                    return;
                }
                let (pause, error) = before_next(error);
                tokio::time::sleep(pause).await;
                let _ = self.told.send(Told::Broken(error));
                return;
            }
        }
    }

    /// A stream for one watch or one scan. A full sink stops the reading, and by QUIC's window
    /// the sending, of this stream only.
    async fn forward(&mut self, subscription: u64) {
        let wanted = lock(&self.feeds).get(&subscription).cloned();
        if let Some((sink, wanted)) = wanted {
            self.is_chunks = matches!(wanted.what, FeedKind::Chunks(_));
            while let Ok(Some(feed)) = self.next().await {
                let feed = match (feed, &wanted.what) {
                    // From here on the positions are those of this owner's epoch.
                    (Feed::Resume, FeedKind::Changes(since)) => Feed::Bookmark {
                        position: Position {
                            revision: since.revision,
                            ..self.welcomed
                        },
                    },
                    (feed, _) => feed,
                };
                let gap = match &feed {
                    Feed::Gap(gap) => Some(gap.oldest),
                    _ => None,
                };
                if sink.send(Ok(feed)).await.is_err() {
                    break;
                }
                // Behind a gap the place is one of this owner's history.
                if let Some(revision) = gap {
                    let position = Position {
                        revision,
                        ..self.welcomed
                    };
                    let _ = sink.send(Ok(Feed::Bookmark { position })).await;
                }
            }
        }
        let _ = self.told.send(Told::Ended(subscription));
    }
}

/// What the end of the replica's stream means for the handle, and how long it waits before it tries
/// again. The owner gives up on one that is too slow for the state it is sent, while others write
/// much: another time it may be fast enough.
fn before_next(error: ObjectError) -> (Duration, ObjectError) {
    match error.kind() {
        ErrorKind::Conflict => (SLOW_PAUSE, lost(&error)),
        _ => (Duration::ZERO, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_that_was_too_slow_tries_again_after_a_pause() {
        let told = |kind| before_next(ObjectError::new(kind, "why"));
        let (pause, error) = told(ErrorKind::Conflict);
        assert_eq!((pause, error.kind()), (SLOW_PAUSE, ErrorKind::Unavailable));
        let (pause, error) = told(ErrorKind::Denied);
        assert_eq!((pause, error.kind()), (Duration::ZERO, ErrorKind::Denied));
    }
}
