//! What an owner remembers of one session.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::ids::{Epoch, Revision, Sequence};
use crate::limits::{SESSION_BYTES_MAX, SESSION_RESULTS_MAX};
use crate::operation::Outcome;

/// The result of an operation, as its log entry has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// What the caller was answered.
    pub result: Result<Outcome, Failure>,
    /// Where it stands in the history.
    pub revision: Revision,
    /// Under which owner it was written.
    pub epoch: Epoch,
}

impl Recorded {
    /// What it counts towards [`SESSION_BYTES_MAX`].
    fn bytes(&self) -> usize {
        let text = match &self.result {
            Err(failure) => failure.message.len(),
            Ok(Outcome::Conflict { key, .. } | Outcome::Fenced { name: key }) => key.len(),
            Ok(Outcome::NeedChunks { ids }) => size_of_val(&ids[..]),
            Ok(_) => 0,
        };
        size_of::<(Sequence, Self)>() + text
    }
}

/// What is known of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check<'a> {
    /// It has not been run: run it.
    New,
    /// It has been run: answer this again, once it is as durable as asked for.
    Repeat(&'a Recorded),
    /// It may have been run, but its result is gone; or it comes too late to be run in order.
    /// Answer [`OutcomeUnknown`](crate::error::ErrorKind::OutcomeUnknown) and do not run it.
    Forgotten,
}

/// The results of a session from its client's floor on.
///
/// Bounded by [`SESSION_RESULTS_MAX`] and [`SESSION_BYTES_MAX`]: past them the lowest are
/// forgotten, which a client that keeps to its window never sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Results {
    floor: Sequence,
    kept: BTreeMap<Sequence, Recorded>,
    bytes: usize,
}

impl Results {
    /// Results as they were kept: those of [`iter`](Self::iter) and the [`floor`](Self::floor).
    #[must_use]
    pub fn restore(floor: Sequence, kept: impl IntoIterator<Item = (Sequence, Recorded)>) -> Self {
        let mut results = Self {
            floor,
            ..Self::default()
        };
        for (sequence, recorded) in kept {
            results.record(sequence, recorded);
        }
        results
    }

    /// What to do with an operation of this sequence.
    #[must_use]
    pub fn check(&self, sequence: Sequence) -> Check<'_> {
        if sequence < self.floor {
            return Check::Forgotten;
        }
        if let Some(recorded) = self.kept.get(&sequence) {
            return Check::Repeat(recorded);
        }
        // A client sends all that waits, in order, on each of its connections. So one that comes
        // after a later one has run was given up by its caller and is left over on an earlier
        // connection: running it now would undo what the caller did since.
        match self.kept.last_key_value() {
            Some((highest, _)) if sequence < *highest => Check::Forgotten,
            _ => Check::New,
        }
    }

    /// Keeps a result. One below the floor is dropped, a second one of a sequence too.
    pub fn record(&mut self, sequence: Sequence, recorded: Recorded) {
        if self.check(sequence) != Check::New {
            return;
        }
        self.bytes += recorded.bytes();
        self.kept.insert(sequence, recorded);
        while self.kept.len() > SESSION_RESULTS_MAX || self.bytes > SESSION_BYTES_MAX {
            let Some(lowest) = self.kept.first_key_value().map(|(sequence, _)| *sequence) else {
                break;
            };
            self.advance(lowest.next());
        }
    }

    /// The client needs nothing below `floor` any more. A floor never goes back.
    pub fn advance(&mut self, floor: Sequence) {
        self.floor = self.floor.max(floor);
        while let Some(lowest) = self
            .kept
            .first_entry()
            .filter(|entry| *entry.key() < self.floor)
        {
            self.bytes -= lowest.remove().bytes();
        }
    }

    /// The lowest sequence that is not forgotten.
    #[must_use]
    pub fn floor(&self) -> Sequence {
        self.floor
    }

    /// What is kept, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Sequence, &Recorded)> {
        self.kept
            .iter()
            .map(|(sequence, recorded)| (*sequence, recorded))
    }

    /// How many results are kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.kept.len()
    }

    /// Bytes that they count for.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
