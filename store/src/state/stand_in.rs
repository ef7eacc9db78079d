//! What answers while there is no index: snapshot and footers, and how they follow the log.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use objsync_proto::ids::{NamespaceId, Revision};

use super::advance::RETIRE_COUNT;
use super::{DictState, Mover};
use crate::error::StoreError;
use crate::index::Index;

impl DictState {
    /// Whether a stand-in answers, and the index is wanted.
    #[must_use]
    pub fn stands_in(&self) -> bool {
        self.mover().counts.is_none()
    }

    /// Moves the stand-in on once so much is ahead of it that writers would soon wait. It reads
    /// the keys of the open segment for that, so it goes in large steps.
    pub(super) fn advance_stand_in(
        &self,
        mover: &mut Mover,
        to: Revision,
    ) -> Result<bool, StoreError> {
        if !self.is_filling() {
            return Ok(false);
        }
        let mut bound = self.bound(to);
        if bound <= self.indexed() && bound < to && self.is_full() {
            tracing::info!("readers expire: the recent map is full");
            bound = self.pins.bound(to, u64::MAX);
        }
        if bound <= self.indexed() {
            return Ok(false);
        }
        self.put_stand_in(mover, bound)?;
        Ok(true)
    }

    /// Puts a stand-in in the place of `broken`, unless somebody has done so by now. The index is
    /// then opened or made again beside it.
    pub(super) fn replace_broken(
        &self,
        broken: &Arc<dyn Index>,
        what: &str,
    ) -> Result<(), StoreError> {
        let mut mover = self.mover();
        if !Arc::ptr_eq(broken, &self.index()) {
            return Ok(());
        }
        tracing::warn!(what, "the index failed: it is made again");
        // It may have panicked: dropping it could hang. It keeps its memory and its files.
        std::mem::forget(Arc::clone(broken));
        self.put_stand_in(&mut mover, self.indexed())?;
        self.want_index();
        Ok(())
    }

    fn put_stand_in(&self, mover: &mut Mover, at: Revision) -> Result<(), StoreError> {
        let (at, stand_in) = self.find_stand_in(at)?;
        self.put_index(stand_in, (at, None));
        *mover = Mover {
            counts: None,
            mark: at,
        };
        self.tell_waiters();
        Ok(())
    }

    /// A stand-in as of a revision, or of a later one if the log was trimmed beyond that, and beyond
    /// what readers pinned.
    fn find_stand_in(&self, at: Revision) -> Result<(Revision, Arc<dyn Index>), StoreError> {
        let history = &self.options.history;
        let mut at = history.reachable(at);
        loop {
            match history.stand_in(at) {
                Ok(stand_in) => return Ok((at, stand_in)),
                Err(error) => {
                    // It may have been trimmed just now.
                    let reachable = history.reachable(at);
                    if reachable == at {
                        return Err(error);
                    }
                    at = reachable;
                }
            }
        }
    }

    /// Puts an index as of `at` in the place of the one that is there, with its counts if they are
    /// known. For who holds `mover`.
    pub(super) fn put_index(
        &self,
        index: Arc<dyn Index>,
        (at, counts): (Revision, Option<&[(NamespaceId, u64)]>),
    ) {
        self.pins.expire_before(at);
        // First of all: what is retired below would be missing in a count.
        self.recent_mut().forget_counts();
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
        while self.recent_mut().retire(at, RETIRE_COUNT) {}
        self.recent_mut().rebase(at, counts);
        self.indexed.store(at.0, Ordering::SeqCst);
    }

    /// Counts the keys of the stand-in, unless they are counted, or an index is in place.
    pub(super) fn count_stand_in(&self, mover: &Mover) -> Result<(), StoreError> {
        if !self.recent().is_counted() {
            let counts = self.index().counts()?;
            self.recent_mut().rebase(mover.mark, Some(&counts));
        }
        Ok(())
    }
}
