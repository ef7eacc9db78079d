//! Following a feed: one frame at a time, one transaction at a time.

use bytes::Bytes;

use super::cache::Cache;
use super::error::ReplicaError;
use super::ordered::{Ordered, Packed};
use super::pin::Pins;
use super::{Applied, Exchanged, Holding, Replica, Sink};
use crate::effect::{Cause, Change};
use crate::ids::{Origin, Position, Revision};
use crate::key;
use crate::limits::VALUE_BYTES_MAX;
use crate::wire::{Entry, Event, Feed};

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    Started,
    Resetting,
    Comparing,
    Following,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Idle => "no subscription was started",
            Self::Started => "neither resumed nor reset",
            Self::Resetting => "a new state arrives",
            Self::Comparing => "a difference arrives",
            Self::Following => "following",
        }
    }
}

impl Replica {
    /// Takes the next frame of the subscription.
    ///
    /// # Errors
    /// What came cannot be right, or the owner ended the subscription. Nothing of the frame is
    /// applied, except that events before a bad one in the same frame are.
    pub fn feed(&mut self, frame: Feed, sink: &mut dyn Sink) -> Result<(), ReplicaError> {
        match (frame, self.phase) {
            (Feed::Start { .. }, Phase::Idle) => {
                self.phase = Phase::Started;
                self.last = Revision(0);
            }
            (Feed::Resume, Phase::Started) if self.position.is_some() => self.resume(),
            (Feed::Reset, Phase::Started | Phase::Following) => self.reset(),
            (Feed::Entries(entries), Phase::Resetting) => self.stage(&entries)?,
            (Feed::Complete { position }, Phase::Resetting) => self.complete(position, sink),
            (
                Feed::Compare {
                    round,
                    position,
                    same_history,
                },
                Phase::Started | Phase::Following | Phase::Comparing,
            ) if self.position.is_some() => self.compare(round, position, same_history)?,
            (Feed::Replace { range, entries }, Phase::Comparing) => {
                self.stage_block(range, &entries)?;
            }
            (Feed::Complete { position }, Phase::Comparing) => {
                self.complete_difference(position, sink)?;
            }
            // Whoever holds everything is never told to forget it.
            (Feed::Skip { position }, Phase::Started | Phase::Following | Phase::Comparing)
                if self.position.is_some() && self.is_partial() =>
            {
                self.skip(position, sink)?;
            }
            (Feed::Events(events), Phase::Following) => {
                for event in events {
                    self.apply(event, sink)?;
                }
            }
            (Feed::Bookmark { position }, Phase::Following) => self.bookmark(position)?,
            (Feed::Barrier { id, position }, Phase::Following) => {
                self.bookmark(position)?;
                sink.barrier(id, position);
            }
            (Feed::Failed(failure), _) => return Err(ReplicaError::Failed(failure)),
            (frame, phase) => {
                let (frame, phase) = (frame_name(&frame), phase.name());
                return Err(ReplicaError::OutOfPlace { frame, phase });
            }
        }
        Ok(())
    }

    fn resume(&mut self) {
        self.phase = Phase::Following;
        // The owner has found our position on its history, of which its epoch is the name now.
        if let (Some(position), Some(owner)) = (&mut self.position, self.owner) {
            position.epoch = owner.epoch;
        }
    }

    fn reset(&mut self) {
        self.phase = Phase::Resetting;
        self.difference = None;
        self.staging = if self.is_partial() {
            None
        } else {
            Some(Ordered::default())
        };
    }

    fn stage(&mut self, entries: &[Entry]) -> Result<(), ReplicaError> {
        for entry in entries {
            self.check_entry(&entry.key, Some(&entry.value))?;
            let Some(staging) = &mut self.staging else {
                continue;
            };
            if staging
                .last()
                .is_some_and(|last| last.key() >= &entry.key[..])
            {
                return Err(ReplicaError::OutOfOrder(key::describe(&entry.key)));
            }
            staging.put(Packed::new(&entry.key, &entry.value, entry.revision));
            if self.mode.is_passed_by(staging.bytes()) {
                self.staging = None;
            }
        }
        Ok(())
    }

    /// The state that was staged takes the place of the old one.
    fn complete(&mut self, position: Position, sink: &mut dyn Sink) {
        let before = self.position;
        self.phase = Phase::Following;
        self.last = position.revision;
        self.position = Some(position);
        // It is not said: another epoch may be of another history.
        let same_history = before.is_none_or(|before| before.epoch == position.epoch);
        let Some(new) = self.staging.take() else {
            self.hold_part(Cache::default(), position.revision);
            return sink.exchanged(Exchanged {
                told: before.is_none(),
                same_history,
            });
        };
        let Holding::Whole(old) = std::mem::replace(&mut self.holding, Holding::Whole(new)) else {
            unreachable!("nothing is staged beside a part");
        };
        if before.is_some() {
            self.tell_differences(&old, position.revision, sink);
        }
        sink.exchanged(Exchanged {
            told: true,
            same_history,
        });
    }

    fn tell_differences(&mut self, old: &Ordered, revision: Revision, sink: &mut dyn Sink) {
        let Holding::Whole(new) = &self.holding else {
            return;
        };
        for (before, after) in old.differences(new) {
            let key = before.or(after).map(Packed::key).unwrap_or_default();
            self.pins.record(key, before);
            sink.applied(Applied::of_difference(before, after, revision));
        }
    }

    fn apply(&mut self, event: Event, sink: &mut dyn Sink) -> Result<(), ReplicaError> {
        if event.revision <= self.last {
            return Err(ReplicaError::Backwards {
                from: self.last,
                to: event.revision,
            });
        }
        // All of the transaction or nothing of it.
        for change in &event.changes {
            self.check_entry(&change.key, change.value.as_ref())?;
        }
        self.last = event.revision;
        let Some(position) = &mut self.position else {
            return Ok(());
        };
        if event.revision <= position.revision {
            return Ok(());
        }
        position.revision = event.revision;
        for change in event.changes {
            let told = Told {
                revision: event.revision,
                cause: event.cause,
                origin: event.origin,
                time_ms: event.time_ms,
            };
            match &mut self.holding {
                Holding::Whole(ordered) => apply_whole(ordered, &mut self.pins, change, told, sink),
                Holding::Part(cache) => {
                    cache.follow(&change, event.revision, self.mode.bytes_max());
                    sink.applied(told.of(change, None));
                }
            }
        }
        self.shrink();
        Ok(())
    }

    fn bookmark(&mut self, position: Position) -> Result<(), ReplicaError> {
        let from = self.last.max(self.applied());
        if position.revision < from {
            return Err(ReplicaError::Backwards {
                from,
                to: position.revision,
            });
        }
        self.position = Some(position);
        Ok(())
    }

    pub(super) fn check_entry(
        &self,
        key: &[u8],
        value: Option<&Bytes>,
    ) -> Result<(), ReplicaError> {
        key::check(key).map_err(ReplicaError::BadKey)?;
        if !self.range.contains(key) {
            return Err(ReplicaError::OutOfRange(key::describe(key)));
        }
        match value {
            Some(value) if value.len() > VALUE_BYTES_MAX => {
                let (key, bytes) = (key::describe(key), value.len());
                Err(ReplicaError::ValueTooLarge { key, bytes })
            }
            _ => Ok(()),
        }
    }

    /// Once everything is too much, goes on with a part.
    pub(super) fn shrink(&mut self) {
        let Holding::Whole(ordered) = &mut self.holding else {
            return;
        };
        if self.mode.is_passed_by(ordered.bytes()) {
            let as_of = self
                .position
                .map_or(Revision(0), |position| position.revision);
            let cache = Cache::from_whole(std::mem::take(ordered), as_of, self.mode.bytes_max());
            self.hold_part(cache, Revision(0));
        }
    }
}

impl Applied {
    /// What a new state holds of a key in another way than the old one.
    pub(super) fn of_difference(
        before: Option<&Packed>,
        after: Option<&Packed>,
        revision: Revision,
    ) -> Self {
        let key = before.or(after).map(Packed::key).unwrap_or_default();
        Self {
            key: Bytes::copy_from_slice(key),
            old: before.map(Packed::value),
            new: after.map(Packed::value),
            revision: after.map_or(revision, Packed::revision),
            cause: Cause::Write,
            origin: None,
            time_ms: 0,
        }
    }
}

/// What an event tells of each of its changes.
#[derive(Clone, Copy)]
struct Told {
    revision: Revision,
    cause: Cause,
    origin: Option<Origin>,
    time_ms: u64,
}

impl Told {
    fn of(self, change: Change, old: Option<Bytes>) -> Applied {
        let Self {
            revision,
            cause,
            origin,
            time_ms,
        } = self;
        Applied {
            key: change.key,
            old,
            new: change.value,
            revision,
            cause,
            origin,
            time_ms,
        }
    }
}

fn apply_whole(
    ordered: &mut Ordered,
    pins: &mut Pins,
    change: Change,
    told: Told,
    sink: &mut dyn Sink,
) {
    let old = match &change.value {
        Some(value) => ordered.put(Packed::new(&change.key, value, told.revision)),
        None => ordered.remove(&change.key),
    };
    pins.record(&change.key, old.as_ref());
    if old.is_some() || change.value.is_some() {
        sink.applied(told.of(change, old.map(Packed::into_value)));
    }
}

fn frame_name(frame: &Feed) -> &'static str {
    match frame {
        Feed::Start { .. } => "a start",
        Feed::Resume => "a resume",
        Feed::Reset => "a reset",
        Feed::Entries(_) => "entries",
        Feed::Complete { .. } => "the end of entries",
        Feed::Events(_) => "events",
        Feed::Bookmark { .. } => "a bookmark",
        Feed::Barrier { .. } => "a barrier",
        Feed::Failed(_) => "a failure",
        Feed::Compare { .. } => "a comparison",
        Feed::Replace { .. } => "a block",
        Feed::Gap(_) => "a gap",
        Feed::Skip { .. } => "a skip",
        Feed::Frames(_) | Feed::Body(_) => "frames of the log",
        Feed::Install(_) | Feed::Piece(_) => "a snapshot's file",
        Feed::Reached { .. } => "how far the source is",
        Feed::Chunks(_) => "chunks",
    }
}
