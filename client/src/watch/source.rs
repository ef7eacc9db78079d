//! Where a watch reads on, whatever the role of its handle is by then.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{NamespaceId, Origin, Position, Revision};
use objsync_proto::replica::Applied;
use objsync_proto::wire::{Event, Feed, KeyRange};
use objsync_store::feed::{KeepOld, OnCommit};
use objsync_store::{FeedRead, LogRead, Published, Store};
use tokio::sync::{Notify, mpsc};

use crate::core::{Command, Core, FeedKind, FeedWanted};
use crate::error::{ObjectError, Result};
use crate::operations::open;
use crate::owner::OwnerSide;
use crate::replica::Extent;
use crate::replica::tap::Tap;
use crate::watch::{ChangeKind, Reading, WatchEvent};

/// Bytes of changes read from the store at once.
const READ_BYTES: usize = 256 << 10;
/// Frames that wait between the connection and a slow watch.
const FRAMES_AHEAD: usize = 16;

/// Where a watch reads on.
pub(super) enum Source {
    /// The replica tells what it applies.
    Tap(Arc<Tap>),
    /// The owner sends changes on a stream of their own.
    Stream(mpsc::Receiver<Result<Feed>>),
    /// The store of this process.
    Store(Cursor),
    /// To be found, from the position reached.
    Find,
}

/// A place in the feed of the store of this process.
pub(super) struct Cursor {
    store: Store,
    namespace: NamespaceId,
    committed: Arc<Notify>,
    _wake: OnCommit,
    _keep_old: KeepOld,
}

impl Source {
    /// Where to begin, and from which position.
    pub(super) async fn first(
        core: &Arc<Core>,
        range: &KeyRange,
        since: Option<Revision>,
    ) -> Result<(Self, Position)> {
        if let Some(owner) = core.owner() {
            // The cursor comes first: from here on the store keeps what is needed of old values.
            let cursor = Cursor::new(owner);
            let position = owner.position();
            let revision = since.unwrap_or(position.revision);
            let position = Position {
                revision,
                ..position
            };
            return Ok((Self::Store(cursor), position));
        }
        let is_followed = matches!(core.replica.extent(), Extent::Whole | Extent::Partial);
        if is_followed
            && since.is_none()
            && let Some(tap) = core.replica.tap(range.clone())
        {
            let position = tap.position();
            return Ok((Self::Tap(tap), position));
        }
        let position = core.sync().await?;
        let revision = since.unwrap_or(position.revision);
        Ok((
            Self::Find,
            Position {
                revision,
                ..position
            },
        ))
    }
}

impl Reading {
    /// Reads what comes next into `ready`. Cancel safe: each await is a read that keeps what it
    /// did not return.
    pub(super) async fn read_on(&mut self, core: &Arc<Core>, range: &KeyRange) -> Result<()> {
        match &mut self.source {
            Source::Find => self.source = self.find(core, range),
            Source::Tap(tap) => {
                let tapped = tap.take().await;
                for change in tapped.changes {
                    self.ready.push_back(of_tap(core, change)?);
                }
                self.position = tapped.position;
                if tapped.ended {
                    self.source = Source::Find;
                }
            }
            Source::Stream(stream) => match stream.recv().await {
                Some(Ok(feed)) => self.read_feed(core, feed)?,
                Some(Err(error)) if error.kind() != ErrorKind::Unavailable => return Err(error),
                // Cut, or this process became the owner: on from the position.
                Some(Err(_)) | None => self.source = Source::Find,
            },
            Source::Store(cursor) => {
                let (read, reached) = cursor.read(self.position.revision).await?;
                for published in &read {
                    cursor.events(core, range, published, &mut self.ready)?;
                }
                self.position.revision = reached;
            }
        }
        Ok(())
    }

    fn find(&self, core: &Arc<Core>, range: &KeyRange) -> Source {
        if let Some(owner) = core.owner() {
            return Source::Store(Cursor::new(owner));
        }
        let (sink, stream) = mpsc::channel(FRAMES_AHEAD);
        let what = FeedKind::Changes(self.position);
        core.push(Command::Feed {
            wanted: FeedWanted {
                range: range.clone(),
                what,
            },
            sink,
        });
        Source::Stream(stream)
    }

    fn read_feed(&mut self, core: &Core, feed: Feed) -> Result<()> {
        match feed {
            Feed::Events(events) => {
                for Event {
                    revision,
                    origin,
                    changes,
                    ..
                } in events
                {
                    for Change { key, value } in changes {
                        let cause = By { revision, origin };
                        self.ready.push_back(event(core, key, value, None, cause)?);
                    }
                    self.position.revision = revision;
                }
            }
            Feed::Bookmark { position } | Feed::Barrier { position, .. } => {
                self.position = position;
            }
            Feed::Reset => return Err(gone(self.position.revision)),
            Feed::Failed(failure) => return Err(failure.into()),
            Feed::Start { .. } | Feed::Resume | Feed::Entries(_) | Feed::Complete { .. } => {}
        }
        Ok(())
    }
}

impl Cursor {
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

    /// What a transaction did to the keys of a range.
    fn events(
        &self,
        core: &Core,
        range: &KeyRange,
        published: &Published,
        ready: &mut VecDeque<WatchEvent>,
    ) -> Result<()> {
        let cause = By {
            revision: published.revision,
            origin: published.origin,
        };
        for (place, (namespace, change)) in published.changes.iter().enumerate() {
            if *namespace == self.namespace && range.contains(&change.key) {
                let Change { key, value } = change.clone();
                let old = published.old.get(place).cloned().flatten();
                ready.push_back(event(core, key, value, old, cause)?);
            }
        }
        Ok(())
    }

    /// The transactions after a revision, and how far they reach; waits for some. Cancel safe.
    async fn read(&self, after: Revision) -> Result<(Vec<Arc<Published>>, Revision)> {
        loop {
            let read = match self.store.feed().read(after, READ_BYTES) {
                FeedRead::Published(read) => read,
                FeedRead::UpToDate(_) => {
                    self.committed.notified().await;
                    continue;
                }
                FeedRead::Behind => match self.store.read_log(after, READ_BYTES)? {
                    LogRead::Transactions(read) => read.into_iter().map(Arc::new).collect(),
                    LogRead::Trimmed => return Err(gone(after)),
                },
            };
            match read.last().map(|last| last.revision) {
                Some(reached) => return Ok((read, reached)),
                None => self.committed.notified().await,
            }
        }
    }
}

fn gone(revision: Revision) -> ObjectError {
    let text = format!(
        "the changes since revision {revision} are no longer kept: read the state and watch anew"
    );
    ObjectError::new(ErrorKind::Conflict, text)
}

fn of_tap(core: &Core, change: Applied) -> Result<WatchEvent> {
    let Applied {
        key,
        old,
        new,
        revision,
        origin,
        ..
    } = change;
    event(core, key, new, old, By { revision, origin })
}

/// The transaction that changed a key.
#[derive(Clone, Copy)]
struct By {
    revision: Revision,
    origin: Option<Origin>,
}

fn event(
    core: &Core,
    key: Bytes,
    new: Option<Bytes>,
    old: Option<Bytes>,
    cause: By,
) -> Result<WatchEvent> {
    Ok(WatchEvent {
        key,
        kind: if new.is_some() {
            ChangeKind::Set
        } else {
            ChangeKind::Delete
        },
        value: new.map(open).transpose()?,
        old_value: old.map(open).transpose()?,
        revision: cause.revision,
        origin: cause.origin,
        origin_is_self: core.is_own(cause.origin),
    })
}
