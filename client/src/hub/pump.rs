//! Who tells the watches of a handle that has no replica: one task, for as long as anybody watches.

use std::sync::Arc;

use objsync_proto::effect::Change;
use objsync_proto::ids::{NamespaceId, Position};
use objsync_proto::replica::Applied;
use objsync_proto::wire::{Feed, KeyRange};
use objsync_store::feed::{KeepOld, OnCommit};
use objsync_store::{FeedRead, Published, Store};
use tokio::sync::{Notify, mpsc};

use super::tap::Ended;
use super::{Hub, Joined};
use crate::core::{Command, Core, FeedKind, FeedWanted};
use crate::error::Result;
use crate::owner::OwnerSide;
use crate::replica::Extent;

/// Bytes of changes read from the store at once.
const READ_BYTES: usize = 256 << 10;
/// Frames that wait between the connection and the task.
const FRAMES_AHEAD: usize = 16;

/// Lets a watch that has reached `at` be told of a range from now on: from `start`, where nobody
/// tells yet.
pub(crate) fn join(core: &Arc<Core>, range: &KeyRange, at: Position, start: Position) -> Joined {
    let has_replica = core.owner().is_none() && core.replica.extent() != Extent::None;
    if has_replica && let Some((tap, position)) = core.replica.tap(range.clone()) {
        return Joined { tap, position };
    }
    let hub = Arc::clone(&core.hub);
    let mut inner = hub.inner();
    // A replica that has not joined yet ends all taps as it does.
    if !inner.is_pumped && !has_replica {
        inner.is_pumped = true;
        let pump = Pump {
            core: Arc::clone(core),
            hub: Arc::clone(&hub),
            ends: inner.ends,
        };
        if let Some(owner) = core.owner() {
            // The place comes first: from here on the store keeps what is needed of old values.
            let place = Place::new(owner);
            let position = owner.position();
            inner.position = Some(position);
            core.runtime().spawn(pump.of_store(place, position));
        } else {
            inner.position = Some(start);
            core.runtime().spawn(pump.of_stream(start));
        }
    }
    let position = inner.position.unwrap_or(at);
    let tap = hub.add(&mut inner, range.clone(), at);
    Joined { tap, position }
}

struct Pump {
    core: Arc<Core>,
    hub: Arc<Hub>,
    ends: u64,
}

/// A place in the feed of the store of this process.
struct Place {
    store: Store,
    namespace: NamespaceId,
    committed: Arc<Notify>,
    _wake: OnCommit,
    _keep_old: KeepOld,
}

impl Place {
    fn new(owner: &OwnerSide) -> Self {
        let store = owner.store().clone();
        let committed = Arc::new(Notify::new());
        let wake = Arc::clone(&committed);
        Self {
            namespace: owner.namespace(),
            _wake: store.feed().on_commit(Box::new(move || wake.notify_one())),
            _keep_old: store.feed().keep_old(),
            committed,
            store,
        }
    }
}

impl Pump {
    /// Tells what the store of this process commits. Ends with the last tap, or the handle.
    async fn of_store(self, place: Place, mut position: Position) {
        loop {
            let ended = tokio::select! {
                biased;
                () = self.is_over() => true,
                () = place.committed.notified() => false,
            };
            if ended && self.leave() {
                return;
            }
            loop {
                match place.store.feed().read(position.revision, READ_BYTES) {
                    FeedRead::UpToDate(_) => break,
                    FeedRead::Published(read) => {
                        let Some(last) = read.last() else { break };
                        position.revision = last.revision;
                        let changes: Vec<_> = (read.iter())
                            .flat_map(|published| applied(place.namespace, published))
                            .collect();
                        if !self.hub.tell_since(self.ends, &changes, position) {
                            return;
                        }
                    }
                    // Each reads on from the log by itself.
                    FeedRead::Behind => return self.end(Ended::Cut),
                }
            }
        }
    }

    /// Tells what the owner sends on a stream after a position.
    async fn of_stream(self, position: Position) {
        let (sink, mut stream) = mpsc::channel(FRAMES_AHEAD);
        let range = self.core.config.options.range.clone().unwrap_or_default();
        let what = FeedKind::Changes(position);
        (self.core).push(Command::Feed {
            wanted: FeedWanted { range, what },
            sink,
        });
        loop {
            let read = tokio::select! {
                biased;
                () = self.is_over() => {
                    if self.leave() {
                        return;
                    }
                    continue;
                }
                read = stream.recv() => read,
            };
            if let Err(why) = self.tell(read) {
                return self.end(why);
            }
        }
    }

    fn tell(&self, read: Option<Result<Feed>>) -> Result<(), Ended> {
        match read {
            Some(Ok(Feed::Events(events))) => {
                for event in events {
                    // Who holds nothing is told whole values.
                    if !event.patches.is_empty() {
                        return Err(Ended::Untold);
                    }
                    let at = |position: Position| Position {
                        revision: event.revision,
                        ..position
                    };
                    let Some(position) = self.hub.inner().position.map(at) else {
                        return Err(Ended::Untold);
                    };
                    let changes: Vec<_> = (event.changes.into_iter())
                        .map(|Change { key, value }| Applied {
                            key,
                            old: None,
                            new: value,
                            revision: event.revision,
                            cause: event.cause,
                            origin: event.origin,
                            time_ms: event.time_ms,
                        })
                        .collect();
                    if !self.hub.tell_since(self.ends, &changes, position) {
                        return Err(Ended::Untold);
                    }
                }
                Ok(())
            }
            Some(Ok(Feed::Bookmark { position } | Feed::Barrier { position, .. })) => {
                match self.hub.tell_since(self.ends, &[], position) {
                    true => Ok(()),
                    false => Err(Ended::Untold),
                }
            }
            Some(Ok(Feed::Gap(_) | Feed::Failed(_) | Feed::Reset)) => Err(Ended::Untold),
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => Err(Ended::Cut),
        }
    }

    /// Tells no more, unless others tell by now.
    fn end(&self, why: Ended) {
        let inner = self.hub.inner();
        if inner.ends == self.ends {
            self.hub.end_locked(inner, why);
        }
    }

    async fn is_over(&self) {
        tokio::select! {
            () = self.hub.idle.notified() => {}
            () = self.core.closing() => {}
        }
    }

    /// Stops telling, unless somebody has come again.
    fn leave(&self) -> bool {
        if self.core.is_closing() {
            self.end(Ended::Cut);
            return true;
        }
        let mut inner = self.hub.inner();
        if inner.ends != self.ends {
            return true;
        }
        if self.hub.is_wanted() {
            return false;
        }
        inner.is_pumped = false;
        inner.position = None;
        true
    }
}

fn applied(namespace: NamespaceId, published: &Published) -> impl Iterator<Item = Applied> {
    let changes = published.changes.iter().enumerate();
    changes
        .filter(move |(_, (of, _))| *of == namespace)
        .map(|(place, (_, change))| Applied {
            key: change.key.clone(),
            old: published.old.get(place).cloned().flatten(),
            new: change.value.clone(),
            revision: published.revision,
            cause: published.cause,
            origin: published.origin,
            time_ms: published.time_ms,
        })
}
