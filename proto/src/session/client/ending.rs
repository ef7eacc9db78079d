//! How calls end, and what that does to the floor.

use super::{ClientSession, Completion, Connection, Slot};
use crate::error::Failure;
use crate::ids::{Ack, Origin, Sequence};
use crate::limits::SESSION_GIVEN_UP_MAX;
use crate::operation::Outcome;

impl ClientSession {
    /// Completes the call in a slot, if one still waits there.
    pub(super) fn settle(&mut self, place: usize, result: Result<(Outcome, Ack), Failure>) {
        let sequence = self.sequence_at(place);
        let op = match self.id {
            Some(session) if sequence <= self.sent => Some(Origin { session, sequence }),
            _ => None,
        };
        let Some(slot) = self.slots.get_mut(place) else {
            return;
        };
        if !matches!(slot, Slot::Waiting(_)) {
            return;
        }
        // A client that writes its answers down says when it has: the owner keeps them until then.
        let done = if self.released.is_some() && op.is_some() {
            Slot::Unfinished
        } else {
            Slot::Done
        };
        if let Slot::Waiting(waiting) = std::mem::replace(slot, done) {
            self.waiting -= 1;
            self.bytes -= waiting.bytes;
            self.completions.push_back(Completion {
                call: waiting.call,
                op,
                result,
            });
        }
    }

    /// Keeps the number of a call that has ended without an answer, so that it can be asked about.
    /// Of too many, the oldest is let go.
    pub(super) fn give_up(&mut self, place: usize) {
        if self.given_up >= SESSION_GIVEN_UP_MAX
            && let Some(oldest) = (self.slots.iter()).position(|slot| matches!(slot, Slot::GivenUp))
        {
            self.let_go(oldest);
        }
        self.slots[place] = Slot::GivenUp;
        self.given_up += 1;
    }

    pub(super) fn let_go(&mut self, place: usize) {
        if let Some(slot @ Slot::GivenUp) = self.slots.get_mut(place) {
            *slot = Slot::Done;
            self.given_up -= 1;
        }
    }

    /// Lets go of what holds the floor back though nobody waits for it.
    pub(super) fn let_go_in_front(&mut self) {
        while let Some(Slot::GivenUp) = self.slots.front() {
            self.let_go(0);
            self.drop_settled();
        }
    }

    pub(super) fn fail_sent(&mut self, failure: &dyn Fn() -> Failure) {
        for place in 0..self.slots.len() {
            if self.sequence_at(place) <= self.sent {
                self.settle(place, Err(failure()));
                self.let_go(place);
                if let Some(slot @ Slot::Unfinished) = self.slots.get_mut(place) {
                    *slot = Slot::Done;
                }
            }
        }
        self.drop_settled();
    }

    /// Moves the floor to the first call that waits or can be asked about; leaves a session that
    /// retires once nothing that was sent waits.
    pub(super) fn move_floor(&mut self) {
        self.drop_settled();
        // Only with a connection: the owner has to hear that the old session is closed, or what is
        // left of it on an earlier connection could run after writes of the new one.
        if self.retiring && self.connection != Connection::Down && !self.sent_waits() {
            self.renew();
        }
    }

    pub(super) fn sent_waits(&self) -> bool {
        let sent = (self.sent.0 + 1).saturating_sub(self.floor.0);
        let sent = usize::try_from(sent).unwrap_or(usize::MAX);
        let mut slots = self.slots.iter().take(sent);
        self.waiting > 0 && slots.any(|slot| matches!(slot, Slot::Waiting(_)))
    }

    pub(super) fn drop_settled(&mut self) {
        while let Some(Slot::Done) = self.slots.front() {
            self.slots.pop_front();
            self.floor = self.floor.next();
        }
    }

    /// Leaves the session; what waits goes into the next one, numbered anew. Nothing that waits
    /// may have been sent.
    pub(super) fn renew(&mut self) {
        debug_assert!(!self.sent_waits(), "what was sent stays");
        self.closing = self.id.take().is_some() && self.connection != Connection::Down;
        self.slots.retain(|slot| matches!(slot, Slot::Waiting(_)));
        self.given_up = 0;
        self.floor = Sequence(1);
        self.sent = Sequence(0);
        self.cursor = Sequence(0);
        self.retiring = false;
        self.released = self.released.map(|_| Sequence(0));
    }
}
