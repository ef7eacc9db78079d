//! One step of the indexer: a batch moves from the recent map into the index.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use objsync_proto::ids::{NamespaceId, Revision};

use super::{DictState, Mover, lock};
use crate::error::StoreError;
use crate::index::{Index, IndexBatch, IndexChange};
use crate::recent::Move;

/// Versions per batch: what a reader of the index waits for at most.
const BATCH_COUNT: usize = 1024;
/// Bytes per batch, one transaction above.
const BATCH_BYTES: usize = 1 << 20;
/// Versions let go of per taking of the recent map's lock: what a writer waits for at most.
pub(super) const RETIRE_COUNT: usize = 128;

impl DictState {
    /// Moves a batch into the index, towards `to`: the lower of durable and committed. Tells
    /// whether it moved one, so that there may be more. Any thread may call it.
    ///
    /// # Errors
    /// The index failed, and so did putting a stand-in in its place.
    pub fn advance(&self, to: Revision) -> Result<bool, StoreError> {
        let mut mover = self.mover();
        let index = self.index();
        let result = match mover.counts {
            Some(_) => self.advance_index(&mut mover, &*index, to),
            None => self.advance_stand_in(&mut mover, to),
        };
        drop(mover);
        let result = match result {
            Err(StoreError::Index { what }) => self.replace_broken(&index, &what).map(|()| true),
            result => result,
        };
        *lock(&self.room.failure) = result.as_ref().err().cloned();
        if result.is_err() {
            self.tell_waiters();
        }
        result
    }

    /// As [`DictState::advance`], by who holds `mover`, and on the index that is in place then.
    pub(super) fn advance_index(
        &self,
        mover: &mut Mover,
        index: &dyn Index,
        to: Revision,
    ) -> Result<bool, StoreError> {
        let Some((upto, mut moves)) = self.next_moves(to) else {
            return Ok(false);
        };
        // Neighbours lie in one page of the index.
        moves.sort_unstable_by(|a, b| (a.namespace, &a.key).cmp(&(b.namespace, &b.key)));
        self.resolve_moves(mover, index, &mut moves)?;
        self.apply_moves(mover, index, (upto, &moves))?;
        self.indexed.store(upto.0, Ordering::SeqCst);
        while self.recent_mut().retire(upto, RETIRE_COUNT) {}
        self.tell_waiters();
        Ok(true)
    }

    /// Applies moves in pieces, so that readers of the index never wait for a large transaction.
    ///
    /// All pieces but the last keep the mark as it was: what they add of later revisions is hidden
    /// by the recent map, and replayed after a crash. Each carries the counts of what it holds.
    fn apply_moves(
        &self,
        mover: &mut Mover,
        index: &dyn Index,
        (upto, moves): (Revision, &[Move]),
    ) -> Result<(), StoreError> {
        let mut applied = 0;
        for piece in pieces(moves) {
            let is_last = applied + piece.len() == moves.len();
            let at = if is_last { upto } else { mover.mark };
            let counts = changed_counts(mover, piece);
            let changes = piece.iter().cloned().map(|one| IndexChange {
                namespace: one.namespace,
                key: one.key,
                entry: one.entry,
            });
            let result = index.apply(&IndexBatch {
                changes: changes.collect(),
                counts: counts.iter().map(|(n, c)| (*n, *c)).collect(),
                mark: Some(self.options.history.mark_at(at)),
            });
            if let Err(error) = result {
                // The index may go on later: it has the pieces before.
                let mut recent = self.recent_mut();
                for one in &moves[..applied] {
                    recent.correct(one.namespace, &one.key, one.entry.is_some());
                }
                return Err(error);
            }
            mover.counts.get_or_insert_default().extend(counts);
            applied += piece.len();
        }
        mover.mark = upto;
        Ok(())
    }

    /// How far towards `to` the index may go: past no reader that is not too old.
    pub(super) fn bound(&self, to: Revision) -> Revision {
        let now_ms = self.options.clock.monotonic_ms();
        let too_old_ms = now_ms.saturating_sub(self.options.limits.reader_ms_max);
        self.pins.bound(to, too_old_ms)
    }

    /// What moves next: nothing past a reader, unless it is too old or stands in the way of
    /// writers.
    fn next_moves(&self, to: Revision) -> Option<(Revision, Vec<Move>)> {
        let mut bound = self.bound(to);
        let mut moves = self.recent().next_moves(bound, BATCH_COUNT, BATCH_BYTES);
        if moves.is_none() && bound < to && self.is_full() {
            tracing::info!("readers expire: the recent map is full");
            bound = self.pins.bound(to, u64::MAX);
            moves = self.recent().next_moves(bound, BATCH_COUNT, BATCH_BYTES);
        }
        if moves.is_none() {
            // Transactions that changed nothing need no batch.
            self.indexed.fetch_max(bound.0, Ordering::SeqCst);
        }
        moves
    }

    /// Looks up which keys the index has, where that is not known.
    fn resolve_moves(
        &self,
        mover: &Mover,
        index: &dyn Index,
        moves: &mut [Move],
    ) -> Result<(), StoreError> {
        let unknown = moves.iter_mut().filter(|one| one.in_index.is_none());
        let mut found = Vec::new();
        for one in unknown {
            let in_index = mover.has(index, one.namespace, &one.key)?;
            one.in_index = Some(in_index);
            found.push((one.namespace, one.key.clone(), in_index));
        }
        for part in found.chunks(RETIRE_COUNT) {
            let mut recent = self.recent_mut();
            for (namespace, key, in_index) in part {
                recent.resolve(*namespace, key, *in_index);
            }
        }
        Ok(())
    }
}

/// Cuts moves into pieces of about a batch.
fn pieces(mut moves: &[Move]) -> impl Iterator<Item = &[Move]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let is_inside = |one: &&Move| {
            let fits = bytes < BATCH_BYTES;
            bytes += one.key.len() + one.entry.as_ref().map_or(0, |entry| entry.value.len());
            fits
        };
        let count = moves.iter().take(BATCH_COUNT).take_while(is_inside).count();
        let (piece, rest) = moves.split_at(count);
        moves = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The counts of the namespaces whose number of keys the moves change.
fn changed_counts(mover: &Mover, moves: &[Move]) -> HashMap<NamespaceId, u64> {
    let mut changed: HashMap<NamespaceId, u64> = HashMap::new();
    for one in moves {
        let exists = one.entry.is_some();
        if one.in_index == Some(exists) {
            continue;
        }
        let counts = mover.counts.as_ref();
        let before = counts.and_then(|counts| counts.get(&one.namespace));
        let before = before.copied().unwrap_or(0);
        let count = changed.entry(one.namespace).or_insert(before);
        *count = if exists {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
    }
    changed
}
