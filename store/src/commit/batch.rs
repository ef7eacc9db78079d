//! One batch on its way: what was decided, and what is to be answered.

use bytes::Bytes;
use objsync_proto::effect::{Cause, Change, KeyPatch};
use objsync_proto::error::Failure;
use objsync_proto::ids::{Durability, NamespaceId, Origin, Revision, Sequence, SessionId};
use objsync_proto::operation::Outcome;

use super::job::{Given, Reply};
use super::overlay::Overlay;
use crate::error::StoreError;
use crate::grants::GrantEvent;
use crate::sessions::SessionEvent;

/// The jobs of a batch, in order. Its memory is used again for the next.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) time_ms: u64,
    /// The highest level asked for.
    pub(crate) level: Durability,
    pub(crate) decided: Vec<Decided>,
    /// Of them, those whose frames are appended (or that need none).
    pub(crate) appended: usize,
    pub(crate) overlay: Overlay,
    /// Keys and values of what was decided, also where only a part of a value is logged.
    pub(crate) value_bytes: usize,
    /// Why nothing more goes into this batch.
    pub(crate) failure: Option<StoreError>,
}

/// A job that was decided.
pub(crate) struct Decided {
    pub(crate) reply: Reply,
    pub(crate) what: What,
}

/// What a job came to.
pub(crate) enum What {
    Transaction(Decision),
    Event(Event),
    /// Nothing to log; true of the state that the batch leaves.
    Unlogged(Given),
    /// Nothing to log; true whatever becomes of the batch.
    Settled(Result<Given, StoreError>),
}

/// A transaction that is to be logged.
pub(crate) struct Decision {
    pub(crate) revision: Revision,
    pub(crate) origin: Option<(Origin, Sequence)>,
    pub(crate) cause: Cause,
    pub(crate) result: Result<Outcome, Failure>,
    pub(crate) changes: Vec<(NamespaceId, Change)>,
    /// As `changes`, or empty: by which part a change is logged and told.
    pub(crate) patches: Vec<Option<KeyPatch>>,
    /// What the caller is told, once committed.
    pub(crate) given: Given,
}

impl Decision {
    fn value_bytes(&self) -> usize {
        let changes = self.changes.iter();
        let bytes =
            |change: &Change| change.key.len() + change.value.as_ref().map_or(0, Bytes::len);
        changes.map(|(_, change)| bytes(change)).sum()
    }
}

/// A frame that is no transaction.
pub(crate) enum Event {
    Session(SessionId, SessionEvent, Given),
    Grant(GrantEvent, Given),
    End,
}

impl Batch {
    /// Memory kept from one batch to the next.
    const DECIDED_COUNT_KEPT: usize = 1024;

    pub(crate) fn begin(&mut self, time_ms: u64) {
        debug_assert!(self.decided.is_empty());
        self.time_ms = time_ms;
        self.level = Durability::Buffered;
        self.appended = 0;
        self.overlay.clear();
        self.value_bytes = 0;
        self.failure = None;
    }

    pub(crate) fn push(&mut self, reply: Reply, what: What) {
        if let What::Transaction(decision) = &what {
            self.value_bytes += decision.value_bytes();
        }
        self.decided.push(Decided { reply, what });
    }

    pub(crate) fn raise(&mut self, level: Durability) {
        self.level = self.level.max(level);
    }

    /// Whether anything of it stands in the log.
    pub(crate) fn has_appended(&self) -> bool {
        let appended = self.decided[..self.appended].iter();
        appended
            .into_iter()
            .any(|decided| matches!(decided.what, What::Transaction(_) | What::Event(_)))
    }

    /// Whether an event stands in the log, which counts no revision.
    pub(crate) fn has_events(&self) -> bool {
        let appended = self.decided[..self.appended].iter();
        appended
            .into_iter()
            .any(|decided| matches!(decided.what, What::Event(_)))
    }

    /// The frame after `appended` did not reach the log: nothing in it, or decided upon it, was
    /// done. Gives the origins whose operations are as if never asked.
    pub(crate) fn fail_rest(&mut self, error: &StoreError) -> Vec<Origin> {
        self.failure = Some(error.clone());
        let mut origins = Vec::new();
        for decided in &mut self.decided[self.appended..] {
            if let What::Transaction(decision) = &decided.what {
                origins.extend(decision.origin.map(|(origin, _)| origin));
            }
            if !matches!(decided.what, What::Settled(_)) {
                decided.what = What::Settled(Err(error.clone()));
            }
        }
        self.appended = self.decided.len();
        origins
    }

    /// A sync failed: of everything in the batch nobody knows what will be kept.
    pub(crate) fn fail_all(&mut self, error: &StoreError) {
        for decided in &mut self.decided {
            if !matches!(decided.what, What::Settled(Err(_))) {
                decided.what = What::Settled(Err(error.clone()));
            }
        }
    }

    /// Answers everybody; gives the answer of the thread that leads.
    pub(crate) fn answer_all(&mut self) -> Option<Result<Given, StoreError>> {
        let mut inline = None;
        for decided in self.decided.drain(..) {
            let result = match decided.what {
                What::Transaction(decision) => Ok(decision.given),
                What::Event(Event::Session(_, _, given) | Event::Grant(_, given)) => Ok(given),
                What::Event(Event::End) => Ok(Given::Nothing),
                What::Unlogged(given) => Ok(given),
                What::Settled(result) => result,
            };
            decided.reply.give(result, &mut inline);
        }
        self.decided.shrink_to(Self::DECIDED_COUNT_KEPT);
        inline
    }
}
