//! What a read waits for: what this handle was acknowledged.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

use objsync_proto::ids::{Ack, Position, Revision};
use objsync_proto::operation::Outcome;
use objsync_proto::wire::{Reply, Request};

use super::{Core, Phase};
use crate::error::Result;
use crate::pending::unexpected_reply;
use crate::replica::Extent;

/// How long a read waits for what was acknowledged before it asks for a sign.
const CATCH_UP: Duration = Duration::from_millis(5);

impl Core {
    /// Highest acknowledged revision of this handle.
    #[inline]
    pub(crate) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Acquire)
    }

    /// The newest acknowledgement.
    pub(crate) fn last_ack(&self) -> Option<Ack> {
        *self.last_ack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Highest acknowledged revision of a write that changed nothing: no event tells of it.
    fn acked_quietly(&self) -> u64 {
        self.acked_quietly.load(Ordering::Acquire)
    }

    /// Remembers an acknowledgement, so that reads wait for what it tells of.
    pub(crate) fn note_ack(&self, outcome: &Outcome, ack: &Ack) {
        let is_quiet = matches!(
            outcome,
            Outcome::Deleted(0)
                | Outcome::Swapped(false)
                | Outcome::Lease(_)
                | Outcome::Locked(_)
                | Outcome::Conflict { .. }
                | Outcome::Outdated { .. }
                | Outcome::Fenced { .. }
                | Outcome::NeedChunks { .. }
        );
        if is_quiet {
            self.note_quiet(ack.revision);
        }
        self.acked.fetch_max(ack.revision.0, Ordering::AcqRel);
        let mut last = self.last_ack.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.revision <= ack.revision) {
            *last = Some(*ack);
        }
    }

    /// Remembers that nothing in this dictionary changed at a revision that was acknowledged.
    pub(crate) fn note_quiet(&self, revision: Revision) {
        self.acked_quietly.fetch_max(revision.0, Ordering::AcqRel);
    }

    /// Remembers a revision that this handle was told of: reads wait for it.
    pub(crate) fn note_seen(&self, revision: Revision) {
        self.acked.fetch_max(revision.0, Ordering::AcqRel);
    }

    /// An owner there was found. One on our history has all that was acknowledged; on another
    /// one those acknowledgements mean nothing, and nobody must wait for them. Tells what is left.
    pub(crate) fn found_owner(&self, owner: Position) -> u64 {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(owner);
        let revision = owner.revision;
        self.acked_quietly.fetch_min(revision.0, Ordering::AcqRel);
        self.acked
            .fetch_min(revision.0, Ordering::AcqRel)
            .min(revision.0)
    }

    /// Whether what was read at a position is surely of the present owner's history; none while
    /// there is no owner. Of another owner's time only the owner itself can tell, so a peer takes
    /// that for another history.
    pub(crate) fn is_of_present(&self, position: &Position) -> Option<bool> {
        if let Some(owner) = self.owner() {
            return Some(owner.store().is_on_history(position));
        }
        if !matches!(self.phase(), Phase::Peer { .. }) {
            return None;
        }
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.map(|owner| (owner.store, owner.epoch) == (position.store, position.epoch))
    }

    /// Waits until reads find what this handle was acknowledged.
    ///
    /// # Errors
    /// When that takes longer than a call may, or the handle has ended.
    pub(crate) async fn readable(&self) -> Result<()> {
        self.check_open()?;
        let holds = || {
            let joined = matches!(self.replica.extent(), Extent::Whole | Extent::Partial);
            joined && self.replica.applied() >= self.acked()
        };
        if self.owner().is_some() || holds() {
            return self.still_good();
        }
        let soon = self.within(CATCH_UP, self.caught_up());
        if self.acked() > self.acked_quietly() && soon.await.is_some() {
            return self.still_good();
        }
        // What was acknowledged may have changed nothing that the replica follows: ask for a sign.
        let waited = async {
            if self.replica.extent() != Extent::Joining && self.owner().is_none() {
                self.request(Request::Barrier).await?;
            }
            self.caught_up().await;
            Ok(())
        };
        let timeout = self.config.options.timeout;
        match self.within(timeout, waited).await {
            Some(done) => done.and_then(|()| self.still_good()),
            None => Err(self.unreachable(timeout)),
        }
    }

    /// Whether reads find what was acknowledged by now. Who looks at what is queued asks after that:
    /// what was answered meanwhile is in the queue no longer, and in the replica maybe not yet.
    pub(crate) fn holds_acked(&self) -> bool {
        self.owner().is_some()
            || self.replica.extent() == Extent::None
            || self.replica.applied() >= self.acked()
    }

    async fn caught_up(&self) {
        let ended = || {
            self.owner().is_some()
                || self.check_open().is_err()
                || matches!(&*self.lock_phase(), Phase::Failed(_) | Phase::Closed)
        };
        self.replica.caught_up(|| self.acked(), ended).await;
    }

    fn still_good(&self) -> Result<()> {
        self.check_open()?;
        match self.phase() {
            Phase::Failed(error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until the replica has everything that was committed when this was called.
    pub(crate) async fn sync(&self) -> Result<Position> {
        let began = Instant::now();
        let position = match self.request(Request::Barrier).await? {
            Reply::Position(position) => position,
            other => return Err(unexpected_reply(&other)),
        };
        if self.owner().is_none() && self.replica.extent() != Extent::None {
            let ended = || self.owner().is_some() || self.check_open().is_err();
            let timeout = self.config.options.timeout;
            let reached = self.replica.reached(position, ended);
            if self.within(timeout, reached).await.is_none() {
                return Err(self.unreachable(timeout));
            }
            self.still_good()?;
        }
        self.note_barrier(began);
        Ok(position)
    }
}
