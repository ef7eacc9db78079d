//! The end of keys and leases, as transactions of their own.

use std::sync::atomic::Ordering;

use objsync_proto::evaluate::{Due, Expired, expire};
use objsync_proto::ids::Durability;
use objsync_proto::limits::EXPIRY_TURN_COUNT_MAX;

use super::batch::{Batch, Decision, What};
use super::compact::{Memory, compact_all};
use super::decide::add_transaction;
use super::job::{Given, Reply};
use super::{BATCH_BYTES, Writer};
use crate::core::Core;
use crate::error::StoreError;

/// Turns, one a second, that fail as a whole before what cannot be read is left out: a disk that
/// fails for a moment puts nothing off. From then on it is left out at once.
const FAILED_TURNS_MAX: u64 = 30;

impl Core {
    /// Ends what has had its time, in as many transactions as it takes; of very much, the first.
    /// The answer says whether there was any.
    pub(super) fn decide_expiry(&self, writer: &mut Writer, batch: &mut Batch, reply: Reply) {
        let due = self.leases.due(
            batch.time_ms,
            self.clock.monotonic_ms(),
            EXPIRY_TURN_COUNT_MAX,
        );
        let mut rest = &due[..];
        let mut has_ended = false;
        while !rest.is_empty() && writer.builder.body_bytes() < BATCH_BYTES {
            let view = self.view(writer, batch);
            let Expired {
                decided,
                count,
                failed,
            } = expire(rest, &view);
            if let Err(error) = self.put_off(&failed, batch.time_ms) {
                return batch.push(reply, What::Settled(Err(error)));
            }
            rest = &rest[count..];
            if decided.changes.is_empty() {
                continue;
            }
            has_ended = true;
            let decision = Decision {
                revision: writer.last.next(),
                origin: None,
                cause: decided.cause,
                result: Ok(decided.outcome),
                changes: compact_all(decided.changes, Vec::new(), Memory::Own).0,
                patches: Vec::new(),
                given: Given::Nothing,
            };
            batch.overlay.put_all(&decision, &self.leases);
            add_transaction(writer, batch, Reply::nobody(), decision);
        }
        if self.leases.failed_turns.load(Ordering::Relaxed) < FAILED_TURNS_MAX {
            self.leases.failed_turns.store(0, Ordering::Relaxed);
        }
        batch.raise(Durability::Buffered);
        if !has_ended {
            self.leases.go_on();
        }
        batch.push(reply, What::Unlogged(Given::Flag(has_ended)));
    }

    /// What cannot be read is looked at again later, and keeps nobody waiting until then.
    ///
    /// # Errors
    /// It may pass: all of it is tried again soon, until that has failed for a while.
    fn put_off(&self, failed: &[(Due, StoreError)], now_ms: u64) -> Result<(), StoreError> {
        let Some((_, error)) = failed.first() else {
            return Ok(());
        };
        let failed_turns = self.leases.failed_turns.load(Ordering::Relaxed);
        if failed_turns < FAILED_TURNS_MAX {
            let turns = failed_turns + 1;
            self.leases.failed_turns.store(turns, Ordering::Relaxed);
            return Err(error.clone());
        }
        let count = failed.len();
        tracing::warn!(%error, count, "what has had its time cannot be read: it stays");
        let monotonic_ms = self.clock.monotonic_ms();
        for (due, _) in failed {
            self.leases.put_off(due, now_ms, monotonic_ms);
        }
        Ok(())
    }

    /// Ends what has had its time, on this thread. Tells whether there was any.
    pub(crate) fn expire_here(&self) -> Result<bool, StoreError> {
        match self.run_here(super::Request::Expire)? {
            Given::Flag(has_ended) => Ok(has_ended),
            other => unreachable!("a flag was asked for, not {other:?}"),
        }
    }
}
