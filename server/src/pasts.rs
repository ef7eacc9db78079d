//! Revisions of the past that peers read, held open so that many reads of one pay for it once.
//!
//! A request names its revision, so nothing here belongs to a peer: what was let go is opened again.
//!
//! Invariants
//! * At most `PASTS_MAX` are held, and none that nobody has read for `PAST_IDLE_MS`: each keeps
//!   files open that may have been trimmed.
//! * At most `PASTS_OPENING_MAX` are being opened at once: each reads up to a segment of the log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use objsync_proto::ids::Revision;
use objsync_proto::limits::{PAST_IDLE_MS, PASTS_MAX, PASTS_OPENING_MAX};
use objsync_store::{Past, StoreError};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::serving::Serving;

/// How long one is held after it was last read.
const IDLE: Duration = Duration::from_millis(PAST_IDLE_MS);

/// Revisions of the past that are held open.
pub(crate) struct Pasts {
    held: Mutex<Held>,
    opening: Semaphore,
}

#[derive(Default)]
struct Held {
    /// The one read last at the end.
    pasts: Vec<(Past, Instant)>,
    /// A task looks for those that nobody reads.
    is_watched: bool,
}

impl Default for Pasts {
    fn default() -> Self {
        Self {
            held: Mutex::default(),
            opening: Semaphore::new(PASTS_OPENING_MAX),
        }
    }
}

impl Pasts {
    fn find(&self, revision: Revision) -> Option<Past> {
        let mut held = self.held();
        let is_it = |(past, _): &(Past, Instant)| past.position().revision == revision;
        let place = held.pasts.iter().position(is_it)?;
        let (past, _) = held.pasts.remove(place);
        held.pasts.push((past.clone(), Instant::now()));
        Some(past)
    }

    /// Holds one; tells whether nobody looks for those that are not read any more.
    fn hold(&self, past: Past) -> bool {
        let mut held = self.held();
        let over = if held.pasts.len() < PASTS_MAX {
            None
        } else {
            Some(held.pasts.remove(0))
        };
        held.pasts.push((past, Instant::now()));
        let was_watched = std::mem::replace(&mut held.is_watched, true);
        drop(held);
        // Its files are closed without the lock.
        drop(over);
        !was_watched
    }

    /// Lets go what nobody has read since; tells whether any is left.
    fn let_go(&self, since: Instant) -> bool {
        let mut held = self.held();
        let left = held.pasts.partition_point(|(_, read)| *read < since);
        let idle: Vec<_> = held.pasts.drain(..left).collect();
        held.is_watched = !held.pasts.is_empty();
        let is_watched = held.is_watched;
        drop(held);
        drop(idle);
        is_watched
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Serving {
    /// Everything as of a revision.
    ///
    /// # Errors
    /// As `Store::at`; none inside when the server stops.
    pub(crate) async fn past(
        self: &Arc<Self>,
        revision: Revision,
    ) -> Result<Past, Option<StoreError>> {
        if let Some(past) = self.pasts.find(revision) {
            return Ok(past);
        }
        // Refused only by a semaphore that is closed, which nobody does.
        let _turn = self.pasts.opening.acquire().await;
        // Somebody may have opened it while this waited.
        if let Some(past) = self.pasts.find(revision) {
            return Ok(past);
        }
        let store = self.store.clone();
        let opened = self.apart(move || store.at(revision)).await;
        let past = opened.map_err(|_| None)?.map_err(Some)?;
        if self.pasts.hold(past.clone()) {
            tokio::spawn(watch(Arc::clone(self)));
        }
        Ok(past)
    }
}

/// Lets go what is not read any more, until nothing is held or the server stops.
async fn watch(serving: Arc<Serving>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(IDLE) => {}
            () = serving.stopping.cancelled() => {}
        }
        let since = match serving.stopping.is_cancelled() {
            true => Instant::now() + IDLE,
            false => Instant::now() - IDLE,
        };
        if !serving.pasts.let_go(since) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use objsync_store::{Store, StoreOptions};

    use super::*;

    /// A store with so many revisions, which one can open.
    fn store(count: usize) -> (tempfile::TempDir, Store, Vec<Revision>) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
        let make = |number: usize| {
            let name = format!("namespace {number}");
            store.create_namespace(&name, Vec::new()).unwrap();
            store.position().revision
        };
        let revisions = (0..count).map(make).collect();
        (directory, store, revisions)
    }

    fn held(pasts: &Pasts) -> Vec<Revision> {
        let held = pasts.held();
        let revision = |(past, _): &(Past, Instant)| past.position().revision;
        held.pasts.iter().map(revision).collect()
    }

    #[test]
    fn one_unused_for_longest_goes_when_one_more_is_held() {
        let (_directory, store, revisions) = store(PASTS_MAX + 1);
        let pasts = Pasts::default();
        for (place, revision) in revisions[..PASTS_MAX].iter().enumerate() {
            assert_eq!(pasts.hold(store.at(*revision).unwrap()), place == 0);
        }
        assert!(pasts.find(revisions[0]).is_some());
        pasts.hold(store.at(revisions[PASTS_MAX]).unwrap());
        assert!(pasts.find(revisions[1]).is_none());
        let mut expected = revisions[2..PASTS_MAX].to_vec();
        expected.extend([revisions[0], revisions[PASTS_MAX]]);
        assert_eq!(held(&pasts), expected);
    }

    #[test]
    fn what_nobody_has_read_since_is_let_go() {
        let (_directory, store, revisions) = store(2);
        let pasts = Pasts::default();
        pasts.hold(store.at(revisions[0]).unwrap());
        let between = Instant::now();
        pasts.hold(store.at(revisions[1]).unwrap());
        assert!(pasts.let_go(between), "one was read since");
        assert_eq!(held(&pasts), [revisions[1]]);
        assert!(!pasts.let_go(Instant::now() + IDLE));
        assert!(held(&pasts).is_empty());
        let again = store.at(revisions[0]).unwrap();
        assert!(pasts.hold(again), "nobody looks any more");
    }
}
