//! A session whose client writes down the number of each call before it is sent, and the answer
//! before the owner forgets it: so that another process can go on with it.

use super::{CallId, ClientSession, Slot};
use crate::ids::{Origin, Sequence, SessionId};

impl ClientSession {
    /// The session of a client that writes down the number of each call before it is sent, see
    /// [`unwritten`](Self::unwritten): as it was left, or none. Calls submitted now get the
    /// sequences from `floor` on, of which an owner may have seen those up to `sent`.
    #[must_use]
    pub fn written_down(left: Option<(SessionId, Sequence, Sequence)>) -> Self {
        let mut session = Self {
            released: Some(Sequence(0)),
            ..Self::new()
        };
        if let Some((id, floor, sent)) = left {
            session.id = Some(id);
            session.floor = floor;
            session.sent = sent;
            session.released = Some(sent);
        }
        session
    }

    /// Calls whose numbers have to be written down before they are sent, in order: the session,
    /// the number of the first, and which they are (none for one that has ended). None when there
    /// are none, or no session yet.
    #[must_use]
    pub fn unwritten(&self) -> Option<(SessionId, Sequence, Vec<Option<CallId>>)> {
        let (id, released) = (self.id?, self.released?);
        if self.retiring {
            return None;
        }
        let first = released.next().max(self.floor);
        let place = usize::try_from(first.0 - self.floor.0).ok()?;
        let slots = self.slots.iter().skip(place);
        let calls: Vec<_> = slots
            .map(|slot| match slot {
                Slot::Waiting(waiting) => Some(waiting.call),
                Slot::Done | Slot::GivenUp | Slot::Unfinished => None,
            })
            .collect();
        (!calls.is_empty()).then_some((id, first, calls))
    }

    /// The numbers of a session up to this one are written down.
    pub fn release(&mut self, session: SessionId, through: Sequence) {
        if self.id == Some(session) {
            self.released = self.released.map(|released| released.max(through));
        }
    }

    /// Takes back a call that was never sent: it does not complete, and its number, if it has one,
    /// stands for nothing. Tells whether it was such a call.
    pub fn withdraw(&mut self, call: CallId) -> bool {
        let is_it = |slot: &Slot| matches!(slot, Slot::Waiting(waiting) if waiting.call == call);
        let Some(place) = self.slots.iter().position(is_it) else {
            return false;
        };
        if self.sequence_at(place) <= self.sent {
            return false;
        }
        if let Slot::Waiting(waiting) = std::mem::replace(&mut self.slots[place], Slot::Done) {
            self.waiting -= 1;
            self.bytes -= waiting.bytes;
        }
        self.move_floor();
        true
    }

    /// Whether answers came that are not written down yet: the owner has to keep them.
    #[must_use]
    pub fn has_unfinished(&self) -> bool {
        (self.slots.iter()).any(|slot| matches!(slot, Slot::Unfinished))
    }

    /// The answer to a call is written down: the owner need not keep it any more.
    pub fn finish(&mut self, op: Origin) {
        let place = (op.sequence.0.checked_sub(self.floor.0))
            .filter(|_| self.id == Some(op.session))
            .and_then(|place| usize::try_from(place).ok());
        if let Some(slot @ Slot::Unfinished) = place.and_then(|place| self.slots.get_mut(place)) {
            *slot = Slot::Done;
            self.move_floor();
        }
    }
}
