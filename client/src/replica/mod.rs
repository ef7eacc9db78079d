//! What a peer holds in memory: `proto::replica` behind a lock, and who waits for it.
//!
//! Trail of a change that arrives: [`crate::connection`] -> [`Replica::follow`] ->
//! `proto::replica::Replica::feed` -> the [`Hub`] of the watches.
//!
//! Only the I/O thread changes a replica; any thread reads it. Reads take a lock that is held for
//! a lookup or a page, and for writing only while a frame that has arrived is applied.
//!
//! Invariants
//! * The counters of [`Replica::stamp`] move after the map holds a change, in the eyes of whoever
//!   takes the lock, and before anybody is told that it was applied.
//! * A reader who was acknowledged a write waits until the map has it.

mod entry;
mod follow;
mod told;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{NamespaceId, Position, Revision};
use objsync_proto::replica::{
    DigestCursor, Lookup, Mode, Page, PageError, PinId, Replica as Machine, ReplicaError, State,
};
use objsync_proto::wire::{Digest, Entry, Held, KeyRange};
use objsync_store::Stamp;
use objsync_store::stamps::Stamps;
use tokio::sync::Notify;

use crate::error::{ObjectError, Result};
use crate::hub::tap::Ended;
use crate::hub::{Hub, Tapping};
use crate::options::{Options, ReplicaMode};
use crate::packing::Packer;

/// One dictionary per replica, so its stamps need no number of it.
const ONLY: NamespaceId = NamespaceId::DEFAULT;

/// How much is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Extent {
    /// Nothing complete was received yet: readers wait.
    Joining = 0,
    /// All of it.
    Whole = 1,
    /// What was read lately.
    Partial = 2,
    /// Nothing, ever.
    None = 3,
}

/// What a replica knows about a key.
pub(crate) enum Found {
    /// Its payload, or that there is no such key.
    Known(Option<Bytes>),
    /// Only the owner knows.
    Ask,
    /// A moment later it will know.
    Wait,
}

/// What a peer holds.
pub(crate) struct Replica {
    machine: RwLock<Machine>,
    extent: AtomicU8,
    applied: AtomicU64,
    stamps: Stamps,
    /// Counts what makes all stamps old at once.
    resets: AtomicU32,
    /// Who is told of changes.
    hub: Arc<Hub>,
    /// Moments held for scans.
    pin_count: AtomicU32,
    /// A part of a value came that could not be applied: whole values are asked for.
    wants_whole: AtomicBool,
    changed: Notify,
    packer: Arc<Packer>,
}

/// A moment of a replica that is held for a scan.
pub(crate) struct Pin {
    id: PinId,
}

impl Replica {
    /// An empty one.
    pub(crate) fn new(options: &Options, hub: Arc<Hub>, packer: Arc<Packer>) -> Self {
        let (extent, mode) = match options.replica {
            ReplicaMode::Auto => (Extent::Joining, Mode::default()),
            ReplicaMode::Full => (Extent::Joining, Mode::Full),
            ReplicaMode::None => (Extent::None, Mode::default()),
        };
        Self {
            machine: RwLock::new(Machine::new(
                options.range.clone().unwrap_or_default(),
                mode,
            )),
            extent: AtomicU8::new(extent as u8),
            applied: AtomicU64::new(0),
            stamps: Stamps::default(),
            resets: AtomicU32::new(0),
            hub,
            pin_count: AtomicU32::new(0),
            wants_whole: AtomicBool::new(false),
            changed: Notify::new(),
            packer,
        }
    }

    /// How much is held.
    #[inline]
    pub(crate) fn extent(&self) -> Extent {
        match self.extent.load(Ordering::Acquire) {
            0 => Extent::Joining,
            1 => Extent::Whole,
            2 => Extent::Partial,
            _ => Extent::None,
        }
    }

    /// Highest revision that is held.
    #[inline]
    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// How far it is; none before the first state has come.
    pub(crate) fn position(&self) -> Option<Position> {
        self.read().position()
    }

    /// Whether what is held is of the history of the owner who is connected.
    pub(crate) fn is_following(&self) -> bool {
        self.read().is_following()
    }

    /// What is known of a key by somebody who was acknowledged revision `acked`.
    pub(crate) fn find(&self, key: &[u8], acked: u64) -> Result<Found> {
        match self.extent() {
            Extent::None => return Ok(Found::Ask),
            Extent::Joining => return Ok(Found::Wait),
            Extent::Whole | Extent::Partial if self.applied() < acked => return Ok(Found::Wait),
            Extent::Whole | Extent::Partial => {}
        }
        let found = self.read().lookup(key);
        Ok(match found {
            Lookup::Hit(value, revision) => {
                Found::Known(Some(self.packer.open(key, revision, value)?))
            }
            Lookup::Absent => Found::Known(None),
            Lookup::Unknown => Found::Ask,
        })
    }

    /// The stored value of a key as the replica has it now, whoever was acknowledged what; none when
    /// it cannot tell.
    pub(crate) fn stored(&self, key: &[u8]) -> Option<Option<Bytes>> {
        match self.read().lookup(key) {
            Lookup::Hit(value, _) => Some(Some(value)),
            Lookup::Absent => Some(None),
            Lookup::Unknown => None,
        }
    }

    /// Entries of a range as the replica has them now; none when it does not hold all.
    pub(crate) fn present_page(&self, range: &KeyRange, bytes_max: usize) -> Option<Vec<Entry>> {
        let page = self.read().page(range, false, bytes_max).ok()?;
        Some(page.entries)
    }

    /// Makes what was remembered of a key old.
    pub(crate) fn touch(&self, key: &[u8]) {
        self.stamps.bump(ONLY, key);
    }

    /// Whether there is a key, where that is known.
    pub(crate) fn has(&self, key: &[u8], acked: u64) -> Option<bool> {
        if !matches!(self.extent(), Extent::Whole | Extent::Partial) || self.applied() < acked {
            return None;
        }
        self.read().contains(key)
    }

    /// How many keys are held, when that is all of them.
    pub(crate) fn count(&self) -> Option<u64> {
        let machine = self.read();
        let is_whole = machine.state() == State::Live && !machine.is_partial();
        is_whole.then(|| machine.count())
    }

    /// Holds this moment for a scan; none when not everything is held.
    pub(crate) fn pin(&self) -> Option<Pin> {
        let id = self.write().pin().ok()?;
        self.pin_count.fetch_add(1, Ordering::AcqRel);
        Some(Pin { id })
    }

    /// As [`Replica::pin`], and which moment it is.
    pub(crate) fn pin_at(&self) -> Option<(Pin, Position)> {
        let mut machine = self.write();
        let at = machine.position()?;
        let id = machine.pin().ok()?;
        self.pin_count.fetch_add(1, Ordering::AcqRel);
        Some((Pin { id }, at))
    }

    /// Lets go of a moment.
    pub(crate) fn unpin(&self, pin: &Pin) {
        self.write().unpin(pin.id);
        self.pin_count.fetch_sub(1, Ordering::AcqRel);
    }

    /// Entries of a range as of a pinned moment, stored values.
    ///
    /// # Errors
    /// `Conflict` when too much has changed since.
    pub(crate) fn page(
        &self,
        pin: &Pin,
        range: &KeyRange,
        reverse: bool,
        bytes_max: usize,
    ) -> Result<Page> {
        let page = self.read().page_at(pin.id, range, reverse, bytes_max);
        page.map_err(|error: PageError| ObjectError::new(ErrorKind::Conflict, error.to_string()))
    }

    /// What a cache keeps beside a decoded value.
    #[inline]
    pub(crate) fn stamp(&self, key: &[u8]) -> Stamp {
        self.stamps.stamp(ONLY, key)
    }

    /// Whether what was read after `stamp` is what a read would find now.
    #[inline]
    pub(crate) fn is_current(&self, stamp: Stamp, acked: u64) -> bool {
        self.stamps.is_current(stamp)
            && matches!(self.extent(), Extent::Whole | Extent::Partial)
            && self.applied() >= acked
    }

    /// Changes when all stamps become old at once.
    #[inline]
    pub(crate) fn resets(&self) -> u32 {
        self.resets.load(Ordering::Acquire)
    }

    /// Waits until it has joined and holds what was acknowledged, or `ended` says that it never
    /// will.
    pub(crate) async fn caught_up(&self, acked: impl Fn() -> u64, ended: impl Fn() -> bool) {
        let holds = || {
            let joined = self.extent() != Extent::Joining;
            joined && (self.extent() == Extent::None || self.applied() >= acked())
        };
        self.until(|| ended() || holds()).await;
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if holds() {
                return;
            }
            changed.await;
        }
    }

    /// Wakes who waits in [`Replica::caught_up`].
    pub(crate) fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// Follows the changes of a range from where the replica stands; none before it has joined.
    pub(crate) fn tap(&self, range: KeyRange) -> Option<(Tapping, Position)> {
        // Nothing is applied between the look at the position and the first change told.
        let machine = self.write();
        let position = machine.position()?;
        Some((self.hub.add_at(range, position), position))
    }

    /// Ends every tap: what was applied has been told, and nothing more comes from here.
    pub(crate) fn end_taps(&self) {
        self.hub.end_all(Ended::Cut);
    }

    /// This process owns the store now: what was held is in the store, and its memory is free
    /// again, unless a scan is still at it.
    pub(crate) fn retire(&self) {
        let mut machine = self.write();
        if self.pin_count.load(Ordering::Acquire) == 0 {
            *machine = Machine::new(KeyRange::default(), Mode::default());
        }
        drop(machine);
        self.changed.notify_waiters();
    }

    /// A connection was welcomed by an owner at `owner`; its subscription starts from what this
    /// returns, and what is held as of there, or from nothing. Under another epoch, what is held
    /// counts for no more than was `acked` before, until the owner has said that it is on its
    /// history: revisions of another history say nothing about what this owner acknowledges.
    pub(crate) fn connected(&self, owner: Position, acked: u64) -> Option<(Position, Held)> {
        let mut machine = self.write();
        machine.connected(owner);
        let position = machine.position()?;
        if position.epoch != owner.epoch {
            self.applied.fetch_min(acked, Ordering::AcqRel);
        }
        Some((position, held(&machine)))
    }

    /// Its subscription is asked for again, of the same owner: it starts from what this returns.
    pub(crate) fn again(&self) -> Option<(Position, Held)> {
        let mut machine = self.write();
        machine.disconnected();
        Some((machine.position()?, held(&machine)))
    }

    /// Whether it has met a part of a value that it could not apply. From then on it is told whole
    /// values.
    pub(crate) fn wants_whole(&self) -> bool {
        self.wants_whole.load(Ordering::Acquire)
    }

    /// The comparison that the owner waits for digests of, if it does.
    pub(crate) fn comparison(&self) -> Option<DigestCursor> {
        self.read().comparison()
    }

    /// The next digests of a comparison; none once all were given.
    pub(crate) fn digests(&self, cursor: &mut DigestCursor) -> Option<Vec<Digest>> {
        self.read().digests(cursor)
    }

    /// Waits until what is held is at a position of its owner, or later on its history, or until
    /// `ended` says that it never will.
    pub(crate) async fn reached(&self, target: Position, ended: impl Fn() -> bool) {
        let is_there = || {
            let machine = self.read();
            // Until it follows, what is held may be of another history, with the same revisions and
            // a later epoch: a restored backup counts its epochs on from there.
            let position = machine.position().filter(|_| machine.is_following());
            position.is_some_and(|position| {
                // Two epochs of one number are two histories. A later one goes on from the
                // target, but what is held may still lie before both.
                let same = position.epoch == target.epoch;
                let later = position.epoch.number > target.epoch.number;
                (same || later) && position.revision >= target.revision
            })
        };
        let holds = || self.extent() == Extent::None || is_there();
        self.until(|| ended() || holds()).await;
    }

    /// Waits until what is held is of the history of the owner who is connected. Cancel safe.
    pub(crate) async fn followed(&self) {
        self.until(|| self.is_following()).await;
    }

    /// The subscription has ended.
    pub(crate) fn disconnected(&self) {
        self.write().disconnected();
    }

    /// A key is asked for. On the I/O thread only, as the two that follow.
    pub(crate) fn fetching(&self, key: &Bytes) {
        if self.extent() == Extent::Partial {
            self.write().fetching(key);
        }
    }

    /// The owner's answer about a key: gives what the reader is to see.
    pub(crate) fn fetched(
        &self,
        key: &Bytes,
        entry: Option<(Bytes, Revision)>,
        as_of: Revision,
    ) -> Option<(Bytes, Revision)> {
        if self.extent() != Extent::Partial {
            return entry;
        }
        self.write().fetched(key, entry, as_of)
    }

    /// The owner did not answer about a key.
    pub(crate) fn fetch_failed(&self, key: &Bytes) {
        if self.extent() == Extent::Partial {
            self.write().fetch_failed(key);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Machine> {
        self.machine.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Machine> {
        self.machine.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn held(machine: &Machine) -> Held {
    match machine.is_partial() {
        true => Held::Part,
        false => Held::Whole,
    }
}

impl From<ReplicaError> for ObjectError {
    fn from(error: ReplicaError) -> Self {
        match error {
            ReplicaError::Failed(failure) => failure.into(),
            // What the owner sent makes no sense: another connection may bring better.
            other => Self::new(ErrorKind::Unavailable, other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
