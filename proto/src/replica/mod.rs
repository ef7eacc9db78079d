//! A copy of a dictionary that follows its owner, as a machine without I/O or clock.
//!
//! Fed with the frames of one subscription at a time; gives values, pages, changes for watchers
//! and the position to resume from. A reader holds what it got; applying never changes it.
//!
//! Invariants
//! * What is held whole is an exact prefix of the owner's history: transactions are applied whole,
//!   in order, each once.
//! * A new state is built beside the old one and takes its place in one step.
//! * Of one key, no reader ever sees an older revision after a newer one.
//!
//! | file | what |
//! |---|---|
//! | `follow.rs` | applying what the feed brings |
//! | `difference.rs` | catching up where the log does not lead on: digests out, blocks in |
//! | `patches.rs` | changes that are told by the part that changed |
//! | `ordered.rs` | everything, in key order: one allocation per entry |
//! | `cache.rs` | what was read, where everything is too much |
//! | `pin.rs` | pages of one moment while changes go on |

mod cache;
mod difference;
mod error;
mod follow;
mod ordered;
mod patches;
mod pin;

use bytes::Bytes;

use crate::effect::Cause;
use crate::ids::{Origin, Position, Revision};
use crate::limits::REPLICA_BYTES_AUTO;
use crate::wire::KeyRange;

use cache::Cache;
use difference::Difference;
use follow::Phase;
use ordered::Ordered;
use pin::Pins;

pub use difference::DigestCursor;
pub use error::ReplicaError;
pub use pin::{Page, PageError, PinId};

/// How much a replica holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything, however much it is.
    Full,
    /// Everything up to so many bytes; above that what was read, up to as much.
    Auto {
        /// Most bytes of entries.
        bytes_max: u64,
    },
}

impl Default for Mode {
    fn default() -> Self {
        Self::Auto {
            bytes_max: REPLICA_BYTES_AUTO,
        }
    }
}

/// Whether there is anything to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing complete has arrived yet.
    Joining,
    /// It can be read, and says in [`Replica::position`] what it is true of.
    Live,
}

/// A change that the replica holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The encoded key.
    pub key: Bytes,
    /// The stored value before; none if there was none, or if the replica did not hold it.
    pub old: Option<Bytes>,
    /// The stored value now; none when the key was deleted.
    pub new: Option<Bytes>,
    /// The transaction that did it; of a key that a new state lacks, the state's revision.
    pub revision: Revision,
    /// Why it happened; [`Cause::Write`] also where a new state does not tell.
    pub cause: Cause,
    /// Who asked for it; none also where a new state does not tell.
    pub origin: Option<Origin>,
    /// The owner's clock, milliseconds since 1970; 0 where a new state does not tell.
    pub time_ms: u64,
}

/// Who hears of what a replica does. Called while the replica changes: it must not wait.
pub trait Sink {
    /// The map holds a change now.
    fn applied(&mut self, change: Applied);

    /// Everything that was committed when barrier `id` was asked for is applied.
    fn barrier(&mut self, id: u64, position: Position);

    /// A key has become something that the replica does not hold. Only of keys that
    /// [`Sink::is_watched`] says nobody wants to be told of.
    fn touched(&mut self, key: &[u8]) {
        let _ = key;
    }

    /// Whether somebody is told what this key becomes, so that its new value has to be known.
    fn is_watched(&self, key: &[u8]) -> bool {
        let _ = key;
        true
    }

    /// A new state has taken the place of the old one, so what was remembered of any key is void.
    fn exchanged(&mut self, exchanged: Exchanged);
}

/// How a new state took the place of the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchanged {
    /// Each difference was given to [`Sink::applied`].
    pub told: bool,
    /// The old one was of the same history, as far as the owner has said.
    pub same_history: bool,
}

/// What a lookup found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The stored value and the revision it was written at.
    Hit(Bytes, Revision),
    /// There is no such key.
    Absent,
    /// The replica cannot tell: ask the owner, or wait until it is [`State::Live`].
    Unknown,
}

#[derive(Debug)]
enum Holding {
    Whole(Ordered),
    Part(Cache),
}

/// A copy of a range of one dictionary. See the module.
#[derive(Debug)]
pub struct Replica {
    range: KeyRange,
    mode: Mode,
    holding: Holding,
    /// What `holding` is true of; none while joining.
    position: Option<Position>,
    phase: Phase,
    /// The owner's position when the connection was made: its epoch is that of what follows.
    owner: Option<Position>,
    /// Highest revision of an event on this subscription.
    last: Revision,
    /// The state that arrives; none inside once it passed what is held whole.
    staging: Option<Ordered>,
    /// The difference that arrives.
    difference: Option<Difference>,
    /// Highest revision that a reader may have seen or been acknowledged.
    seen: Revision,
    pins: Pins,
}

impl Replica {
    /// An empty replica of the keys in `range`.
    #[must_use]
    pub fn new(range: KeyRange, mode: Mode) -> Self {
        Self {
            range,
            mode,
            holding: Holding::Whole(Ordered::default()),
            position: None,
            phase: Phase::Idle,
            owner: None,
            last: Revision(0),
            staging: None,
            difference: None,
            seen: Revision(0),
            pins: Pins::default(),
        }
    }

    /// A connection to an owner at this position was made; its subscription comes next.
    pub fn connected(&mut self, owner: Position) {
        self.disconnected();
        // An owner on our history has all that was acknowledged. On another one (a restored
        // backup) those acknowledgements mean nothing, and nobody must wait for them.
        self.seen = self.seen.min(owner.revision);
        self.owner = Some(owner);
    }

    /// Whether what is held is on the history of the owner that was connected to: it has said so, or
    /// sent its state. Until then it may be another history's, with the same revisions.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.phase == Phase::Following
    }

    /// The subscription is gone. What is held stays readable; a state half arrived is dropped.
    pub fn disconnected(&mut self) {
        self.phase = Phase::Idle;
        self.staging = None;
        self.difference = None;
    }

    /// Goes on without the content, as a replica of what will be read: subscribe with `since` this
    /// position. For a dictionary that is known to be too large to hold.
    pub fn skip_content(&mut self, position: Position) {
        self.hold_part(Cache::default(), position.revision);
        self.disconnected();
        self.position = Some(position);
    }

    /// Whether there is anything to read.
    #[must_use]
    pub fn state(&self) -> State {
        if self.position.is_some() {
            State::Live
        } else {
            State::Joining
        }
    }

    /// Whether only what was read is held, so that counting and iterating go to the owner.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        matches!(self.holding, Holding::Part(_))
    }

    /// What the replica is true of: where to resume from. None while joining.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// The revision up to which everything is applied; 0 while joining.
    #[must_use]
    pub fn applied(&self) -> Revision {
        self.position
            .map_or(Revision(0), |position| position.revision)
    }

    /// A write was acknowledged at this revision, or a reader has seen it elsewhere: lookups in a
    /// partial replica must not answer from before it.
    pub fn saw(&mut self, revision: Revision) {
        self.seen = self.seen.max(revision);
    }

    /// Whether everything that [`saw`](Self::saw) was told of is applied.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.applied() >= self.seen
    }

    /// How many keys are held.
    #[must_use]
    pub fn count(&self) -> u64 {
        match &self.holding {
            Holding::Whole(ordered) => ordered.count(),
            Holding::Part(cache) => cache.count(),
        }
    }

    /// Bytes that entries take, with what it costs to hold them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.holding {
            Holding::Whole(ordered) => ordered.bytes(),
            Holding::Part(cache) => cache.bytes(),
        }
    }

    /// Looks for a key.
    ///
    /// A replica that holds everything answers as of [`position`](Self::position); the caller
    /// waits for [`is_current`](Self::is_current) first where it has to read its own writes.
    #[must_use]
    pub fn lookup(&self, key: &[u8]) -> Lookup {
        if self.position.is_none() || !self.range.contains(key) {
            return Lookup::Unknown;
        }
        match &self.holding {
            Holding::Whole(ordered) => match ordered.get(key) {
                Some(packed) => Lookup::Hit(packed.value(), packed.revision()),
                None => Lookup::Absent,
            },
            Holding::Part(cache) => cache.lookup(key, self.applied(), self.seen),
        }
    }

    /// Whether there is a key, as [`lookup`](Self::lookup) without the value; none for unknown.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> Option<bool> {
        if self.position.is_none() || !self.range.contains(key) {
            return None;
        }
        match &self.holding {
            Holding::Whole(ordered) => Some(ordered.get(key).is_some()),
            Holding::Part(cache) => match cache.lookup(key, self.applied(), self.seen) {
                Lookup::Hit(..) => Some(true),
                Lookup::Absent => Some(false),
                Lookup::Unknown => None,
            },
        }
    }

    /// The owner is being asked for a key that [`lookup`](Self::lookup) could not tell. Each call
    /// is followed by one of [`fetched`](Self::fetched) or [`fetch_failed`](Self::fetch_failed).
    pub fn fetching(&mut self, key: &Bytes) {
        if let Holding::Part(cache) = &mut self.holding {
            cache.fetching(key);
        }
    }

    /// The owner's answer to a get: `entry` as of `as_of`. Gives what the reader is to see, which
    /// is newer where the feed was faster than the answer.
    pub fn fetched(
        &mut self,
        key: &Bytes,
        entry: Option<(Bytes, Revision)>,
        as_of: Revision,
    ) -> Option<(Bytes, Revision)> {
        self.saw(as_of);
        match (&mut self.holding, self.mode) {
            (Holding::Part(cache), Mode::Auto { bytes_max }) => {
                cache.fetched(key, entry, as_of, bytes_max)
            }
            _ => entry,
        }
    }

    /// The owner did not answer a get.
    pub fn fetch_failed(&mut self, key: &Bytes) {
        if let Holding::Part(cache) = &mut self.holding {
            cache.fetch_failed(key);
        }
    }

    /// Entries of a range, in key order or from the last to the first, as of the present position:
    /// up to `bytes_max` bytes of them, at least one if there is one.
    ///
    /// # Errors
    /// [`PageError::NotHeld`] while joining, and if only a part is held.
    pub fn page(
        &self,
        range: &KeyRange,
        reverse: bool,
        bytes_max: usize,
    ) -> Result<Page, PageError> {
        let ordered = self.whole()?;
        Ok(pin::page(ordered, None, range, reverse, bytes_max))
    }

    /// Holds the present moment for [`page_at`](Self::page_at) until [`unpin`](Self::unpin). Costs
    /// memory for what changes meanwhile; a pin that costs too much expires.
    ///
    /// # Errors
    /// As [`page`](Self::page).
    pub fn pin(&mut self) -> Result<PinId, PageError> {
        self.whole()?;
        Ok(self.pins.pin())
    }

    /// As [`page`](Self::page), as of the moment of the pin.
    ///
    /// # Errors
    /// [`PageError::Expired`] if more has changed since than a pin may hold.
    pub fn page_at(
        &self,
        pin: PinId,
        range: &KeyRange,
        reverse: bool,
        bytes_max: usize,
    ) -> Result<Page, PageError> {
        let overlay = self.pins.overlay(pin)?;
        Ok(pin::page(
            self.whole()?,
            Some(overlay),
            range,
            reverse,
            bytes_max,
        ))
    }

    /// How many keys there were at the moment of the pin.
    ///
    /// # Errors
    /// As [`page_at`](Self::page_at).
    pub fn count_at(&self, pin: PinId) -> Result<u64, PageError> {
        let overlay = self.pins.overlay(pin)?;
        Ok(overlay.count(self.whole()?))
    }

    /// Lets go of a pin.
    pub fn unpin(&mut self, pin: PinId) {
        self.pins.unpin(pin);
    }

    fn whole(&self) -> Result<&Ordered, PageError> {
        match &self.holding {
            Holding::Whole(ordered) if self.position.is_some() => Ok(ordered),
            _ => Err(PageError::NotHeld),
        }
    }

    /// Holds this part from here on; gets answered as of before `floor` missed changes.
    fn hold_part(&mut self, cache: Cache, floor: Revision) {
        // Gets on their way are still on their way.
        match &mut self.holding {
            Holding::Part(old) => old.exchange(cache, floor),
            Holding::Whole(_) => self.holding = Holding::Part(cache),
        }
        self.pins.expire_all();
    }
}

impl Mode {
    fn bytes_max(self) -> u64 {
        match self {
            Self::Full => u64::MAX,
            Self::Auto { bytes_max } => bytes_max,
        }
    }

    fn is_passed_by(self, bytes: u64) -> bool {
        bytes > self.bytes_max()
    }
}

#[cfg(test)]
mod tests;
