//! Where a watch reads on, whatever the role of its handle is by then.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::effect::{Cause, Change};
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{NamespaceId, Origin, Position, Revision};
use objsync_proto::replica::Applied;
use objsync_proto::wire::{Event, Feed, Gap, KeyRange};
use objsync_store::{FeedRead, LogRead, LogValues, Published, Store};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::core::{Command, Core, FeedKind, FeedWanted};
use crate::error::{ObjectError, Result};
use crate::hub::tap::{Ended, Told};
use crate::hub::{self, Tapping};
use crate::owner::OwnerSide;
use crate::replica::Extent;
use crate::watch::{ChangeKind, Reading, Unread, WatchEvent};

/// Bytes of changes read from the store at once.
const READ_BYTES: usize = 256 << 10;
/// Frames that wait between the connection and a slow watch.
const FRAMES_AHEAD: usize = 16;

/// Where a watch reads on.
pub(super) enum Source {
    /// The hub of the handle tells.
    Tap(Tapping),
    /// What was missed, read alone up to where a tap begins.
    CatchUp { alone: Alone, meeting: Meeting },
    /// To be found, from the position reached; with a look at what the owner says of that.
    Find { must_ask: bool },
}

/// Where a watch reads what it missed.
pub(super) enum Alone {
    /// The owner sends it on a stream of its own, of which a handle has so many.
    Stream(
        mpsc::Receiver<Result<Feed>>,
        #[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit,
    ),
    /// The store of this process.
    Store(Cursor),
}

/// Where a watch that reads alone meets those who are told.
pub(super) struct Meeting {
    tap: Tapping,
    /// The tap has what comes after it.
    until: Revision,
    /// The tap may be of another history than the watch, and be told of a gap that the watch has
    /// heard of.
    is_astray: bool,
}

/// A place in the feed and the log of the store of this process.
pub(super) struct Cursor {
    store: Store,
    namespace: NamespaceId,
    /// What the log has told of values.
    values: LogValues,
}

impl Source {
    /// Where to begin, and from which position.
    pub(super) async fn first(
        core: &Arc<Core>,
        range: &KeyRange,
        since: Option<Revision>,
    ) -> Result<(Self, Position)> {
        if let Some(owner) = core.owner() {
            return Ok(Self::at(core, range, since, owner.position()));
        }
        if since.is_none()
            && let Some((tap, position)) = core.replica.tap(range.clone())
        {
            return Ok((Self::Tap(tap), position));
        }
        let position = core.sync().await?;
        Ok(Self::at(core, range, since, position))
    }

    /// From the present position, or as far back as was asked for.
    fn at(
        core: &Arc<Core>,
        range: &KeyRange,
        since: Option<Revision>,
        position: Position,
    ) -> (Self, Position) {
        if let Some(revision) = since {
            let position = Position {
                revision,
                ..position
            };
            return (Self::Find { must_ask: true }, position);
        }
        let joined = hub::join(core, range, position, position);
        // After this moment: what the hub has told before it joined was before.
        let is_later = joined.position.revision > position.revision;
        let position = if is_later { joined.position } else { position };
        (Self::Tap(joined.tap), position)
    }
}

impl Reading {
    /// Reads what comes next into `ready`. Cancel safe: each await is a read that keeps what it
    /// did not return.
    pub(super) async fn read_on(&mut self, core: &Arc<Core>, range: &KeyRange) -> Result<()> {
        match &mut self.source {
            Source::Find { must_ask } => {
                let must_ask = *must_ask;
                self.source = self.find(core, range, must_ask).await?;
            }
            Source::Tap(tap) => {
                let tapped = tap.take().await;
                for told in tapped.told {
                    self.ready.push_back(match told {
                        Told::Change(change) => Ok(of_tap(core, change)),
                        Told::Gap(gap) => Err(ObjectError::Gap(gap)),
                    });
                }
                self.position = tapped.position;
                if let Some(ended) = tapped.ended {
                    let must_ask = ended == Ended::Untold;
                    self.source = Source::Find { must_ask };
                }
            }
            Source::CatchUp { alone, meeting } => {
                let until = meeting.until();
                match alone {
                    Alone::Stream(stream, _) => match meeting.read(core, stream).await {
                        Some(Ok(None)) => {}
                        Some(Ok(Some(feed))) => {
                            let is_place = matches!(feed, Feed::Bookmark { .. });
                            self.read_feed(core, feed, until)?;
                            if is_place && self.position.revision < until {
                                // Nobody waits for the next one.
                                core.ask_for_barrier();
                            }
                        }
                        Some(Err(error)) if error.kind() != ErrorKind::Unavailable => {
                            return Err(error);
                        }
                        // Cut, or this process became the owner: on from the position.
                        Some(Err(_)) | None => self.source = Source::Find { must_ask: true },
                    },
                    Alone::Store(cursor) => {
                        let read = cursor.read(self.position.revision)?;
                        let Some((read, reached)) = read else {
                            let store = cursor.store.clone();
                            return Err(self.pass(&store));
                        };
                        let is_mine = |published: &&Arc<Published>| published.revision <= until;
                        for published in read.iter().filter(is_mine) {
                            cursor.events(core, range, published, &mut self.ready);
                        }
                        self.position.revision = reached.min(until);
                    }
                }
                self.leave_catch_up(core, range, until);
            }
        }
        Ok(())
    }

    /// Goes over to the tap once nothing is missing before it, having read alone up to `until` at
    /// most; makes room for others who missed something where there is none.
    fn leave_catch_up(&mut self, core: &Arc<Core>, range: &KeyRange, until: Revision) {
        let find = Source::Find { must_ask: true };
        let Source::CatchUp { alone, mut meeting } = std::mem::replace(&mut self.source, find)
        else {
            return;
        };
        if meeting.is_void() {
            if self.position.revision >= until {
                // What came behind that was left to a tap that has been told another story since.
                return;
            }
            meeting = Meeting::of(core, range, &self.position, self.position);
        }
        if self.position.revision >= meeting.until() {
            self.source = Source::Tap(meeting.tap);
        } else if matches!(alone, Alone::Store(_)) || core.hub.catch_ups.available_permits() > 0 {
            self.source = Source::CatchUp { alone, meeting };
        }
    }

    async fn find(&mut self, core: &Arc<Core>, range: &KeyRange, must_ask: bool) -> Result<Source> {
        if let Some(owner) = core.owner() {
            if owner.store().gap(&self.position).is_some() {
                return Err(self.pass(owner.store()));
            }
            let cursor = Cursor::new(owner);
            // From here on the positions are those of this owner's epoch.
            self.position.epoch = owner.position().epoch;
            let joined = hub::join(core, range, self.position, self.position);
            return Ok(match joined.missing(&self.position) {
                None => Source::Tap(joined.tap),
                Some(until) => Source::CatchUp {
                    alone: Alone::Store(cursor),
                    meeting: Meeting {
                        tap: joined.tap,
                        until,
                        is_astray: false,
                    },
                },
            });
        }
        if !must_ask {
            let joined = hub::join(core, range, self.position, self.position);
            if joined.missing(&self.position).is_none() {
                return Ok(Source::Tap(joined.tap));
            }
        }
        let permit = Arc::clone(&core.hub.catch_ups).acquire_owned().await;
        let permit = permit.map_err(|_| core.closed_error())?;
        // What it has reached may be no place to follow from.
        let present = match core.replica.extent() {
            Extent::None => match core.sync().await {
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    return Ok(Source::Find { must_ask });
                }
                present => present?,
            },
            _ => self.position,
        };
        let meeting = Meeting::of(core, range, &self.position, present);
        let (sink, stream) = mpsc::channel(FRAMES_AHEAD);
        let what = FeedKind::Changes(self.position);
        core.push(Command::Feed {
            wanted: FeedWanted {
                range: range.clone(),
                what,
            },
            sink,
        });
        Ok(Source::CatchUp {
            alone: Alone::Stream(stream, permit),
            meeting,
        })
    }

    /// Goes on behind the changes that a store no longer has; gives what to tell of them.
    fn pass(&mut self, store: &Store) -> ObjectError {
        // None if they are there after all, and nothing is missing.
        let gap = store.gap(&self.position).unwrap_or(Gap {
            after: self.position.revision,
            oldest: self.position.revision,
            same_history: true,
        });
        self.position = Position {
            revision: gap.oldest,
            ..store.position()
        };
        self.source = Source::Find { must_ask: true };
        ObjectError::Gap(gap)
    }

    fn read_feed(&mut self, core: &Core, feed: Feed, until: Revision) -> Result<()> {
        match feed {
            Feed::Events(events) => {
                for Event {
                    revision,
                    origin,
                    cause,
                    changes,
                    patches,
                    ..
                } in events
                {
                    if !patches.is_empty() {
                        let text = "the owner sent parts of values to a watch that holds none";
                        return Err(ObjectError::new(ErrorKind::Unsupported, text));
                    }
                    if revision > until {
                        // The tap has it, and what follows.
                        self.position.revision = until;
                        break;
                    }
                    for Change { key, value } in changes {
                        let by = By {
                            revision,
                            origin,
                            cause,
                        };
                        self.ready
                            .push_back(Ok(unread(core, key, (value, None), by)));
                    }
                    self.position.revision = revision;
                }
            }
            Feed::Bookmark { position } | Feed::Barrier { position, .. } => {
                self.position = position;
            }
            // Behind it comes a bookmark, which is where it goes on.
            Feed::Gap(gap) => return Err(ObjectError::Gap(gap)),
            Feed::Failed(failure) => return Err(failure.into()),
            // Not sent to who holds nothing.
            Feed::Start { .. }
            | Feed::Resume
            | Feed::Reset
            | Feed::Entries(_)
            | Feed::Complete { .. }
            | Feed::Compare { .. }
            | Feed::Replace { .. }
            | Feed::Skip { .. }
            | Feed::Frames(_)
            | Feed::Body(_)
            | Feed::Install(_)
            | Feed::Piece(_)
            | Feed::Reached { .. }
            | Feed::Chunks(_) => {}
        }
        Ok(())
    }
}

impl Meeting {
    /// Where a watch that has reached `at` meets the others.
    fn of(core: &Arc<Core>, range: &KeyRange, at: &Position, present: Position) -> Self {
        // Looked at before the tap is there: what is exchanged later, the tap tells of.
        let may_change = !may_be_met(core);
        let joined = hub::join(core, range, *at, present);
        Self {
            is_astray: may_change || joined.position.epoch != at.epoch,
            until: joined.position.revision.max(at.revision),
            tap: joined.tap,
        }
    }

    /// Whether the tap is told, or may be, of what this watch hears from its own stream: where a
    /// state takes the place of another, each hears of the gap, and what is behind it.
    fn is_void(&self) -> bool {
        self.is_astray || self.tap.is_exchanged()
    }

    /// Up to where the watch reads alone: for as long as there is no place to meet, without end.
    fn until(&self) -> Revision {
        match self.is_void() {
            true => Revision(u64::MAX),
            false => self.until,
        }
    }

    /// The next frame; none inside when the replica has come to where it can be met. Cancel safe.
    async fn read(
        &self,
        core: &Core,
        stream: &mut mpsc::Receiver<Result<Feed>>,
    ) -> Option<Result<Option<Feed>>> {
        let may_change = self.is_void() && !may_be_met(core);
        tokio::select! { biased;
            next = stream.recv() => next.map(|next| next.map(Some)),
            () = core.replica.followed(), if may_change => Some(Ok(None)),
        }
    }
}

/// Whether what the replica holds is of the owner's history, as far as that is known.
fn may_be_met(core: &Core) -> bool {
    core.replica.extent() == Extent::None || core.replica.is_following()
}

impl Cursor {
    fn new(owner: &OwnerSide) -> Self {
        Self {
            namespace: owner.namespace(),
            store: owner.store().clone(),
            values: LogValues::default(),
        }
    }

    /// What a transaction did to the keys of a range.
    fn events(
        &self,
        core: &Core,
        range: &KeyRange,
        published: &Published,
        ready: &mut VecDeque<Result<Unread>>,
    ) {
        let by = By {
            revision: published.revision,
            origin: published.origin,
            cause: published.cause,
        };
        for (place, (namespace, change)) in published.changes.iter().enumerate() {
            if *namespace == self.namespace && range.contains(&change.key) {
                let Change { key, value } = change.clone();
                let old = published.old.get(place).cloned().flatten();
                ready.push_back(Ok(unread(core, key, (value, old), by)));
            }
        }
    }

    /// The transactions after a revision, and how far they reach. None when they are no longer kept.
    fn read(&mut self, after: Revision) -> Result<Option<(Vec<Arc<Published>>, Revision)>> {
        let read = match self.store.feed().read(after, READ_BYTES) {
            FeedRead::Published(read) => read,
            FeedRead::UpToDate(at) => {
                // What readers see is in the ring in a moment.
                std::thread::yield_now();
                return Ok(Some((Vec::new(), at.max(after))));
            }
            FeedRead::Behind => match self
                .store
                .read_log_on(&mut self.values, after, READ_BYTES)?
            {
                LogRead::Transactions(read) => read.into_iter().map(Arc::new).collect(),
                LogRead::Trimmed => return Ok(None),
            },
        };
        let reached = read.last().map_or(after, |last| last.revision);
        Ok(Some((read, reached)))
    }
}

fn of_tap(core: &Core, change: Applied) -> Unread {
    let Applied {
        key,
        old,
        new,
        revision,
        origin,
        cause,
        ..
    } = change;
    let by = By {
        revision,
        origin,
        cause,
    };
    unread(core, key, (new, old), by)
}

/// The transaction that changed a key.
#[derive(Clone, Copy)]
struct By {
    revision: Revision,
    origin: Option<Origin>,
    cause: Cause,
}

/// A change of a key from one stored value to another.
fn unread(core: &Core, key: Bytes, (new, old): (Option<Bytes>, Option<Bytes>), by: By) -> Unread {
    let event = WatchEvent {
        kind: ChangeKind::of(by.cause, new.is_some()),
        value: new,
        unread: None,
        old_value: old,
        key,
        revision: by.revision,
        origin: by.origin,
        origin_is_self: by.cause != Cause::Expiry && core.is_own(by.origin),
    };
    Unread {
        event,
        is_opened: false,
    }
}
