//! Frames of a source, checked before any of them is appended: that they are what comes next, make
//! sense, and can be applied.
//!
//! Invariant: what is held is the frames and, of values that parts in them lead to, as much as a
//! batch of the writer may hold, or those of one transaction.

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{FrameIndex, PeerKey, Revision};

use super::Shipped;
use super::unfold::{self, Unfolded, Unfolding};
use crate::commit::Writer;
use crate::core::Core;
use crate::dict::Logged;
use crate::epoch::EpochStart;
use crate::error::StoreError;
use crate::frame::{BytesReader, Frame, FrameKind, LoggedTransaction, Malformed};
use crate::grants::GrantEvent;
use crate::history::dict_changes;
use crate::log::log_directory;
use crate::recovery;
use crate::sessions::SessionEvent;

/// A frame that was checked.
pub(super) struct Checked {
    pub(super) frame: Frame,
    pub(super) transactions: Vec<LoggedTransaction>,
    /// Of each transaction; none where the values are too much to be held at once.
    pub(super) changes: Option<Vec<Unfolded>>,
    pub(super) granted: Option<PeerKey>,
}

impl Checked {
    /// Its transactions with their values, where these are held.
    fn whole(&self) -> impl Iterator<Item = (&LoggedTransaction, &Unfolded)> {
        self.transactions.iter().zip(self.changes.iter().flatten())
    }

    pub(super) fn has_parts(&self) -> bool {
        match &self.changes {
            Some(changes) => changes.iter().any(|(_, parts)| !parts.is_empty()),
            None => true,
        }
    }
}

/// Frames that are appended together, and those after them.
pub(super) struct Piece {
    pub(super) checked: Vec<Checked>,
    pub(super) rest: Vec<Shipped>,
}

/// What the head of the next frame has to say.
struct Expected {
    next: FrameIndex,
    epoch: u64,
    last: Revision,
}

impl Expected {
    fn after(writer: &Writer) -> Self {
        Self {
            next: writer.log.next_index(),
            epoch: writer.epoch,
            last: writer.last,
        }
    }

    fn take(&mut self, frame: &Frame) -> Result<(), StoreError> {
        let header = &frame.header;
        if header.index != self.next {
            let what = format!("in the place of frame {}", self.next.0);
            return Err(refused(frame, &what));
        }
        match header.kind {
            FrameKind::Epoch if header.epoch > self.epoch => self.epoch = header.epoch,
            _ if header.epoch == self.epoch => {}
            _ => return Err(refused(frame, "of an epoch out of order")),
        }
        if header.kind == FrameKind::Transactions {
            let end = header.first.0.checked_add(u64::from(header.count));
            let is_after = header.first > self.last && header.count > 0;
            let Some(end) = end.filter(|_| is_after) else {
                return Err(refused(frame, "with revisions out of order"));
            };
            self.last = Revision(end - 1);
        }
        self.next.0 += 1;
        Ok(())
    }
}

impl Core {
    /// That these frames are what comes next, and that they can be applied: as many of them as
    /// take no more memory, by the values that parts in them lead to, than is there for a batch. Gives
    /// the others back.
    pub(super) fn check_piece(
        &self,
        writer: &Writer,
        frames: Vec<Shipped>,
    ) -> Result<Piece, StoreError> {
        let mut expected = Expected::after(writer);
        let mut unfolding = Unfolding::new(self);
        let mut checked: Vec<Checked> = Vec::with_capacity(frames.len());
        let mut frames = frames.into_iter();
        while let Some(Shipped(frame)) = frames.next() {
            expected.take(&frame)?;
            let (frame, transactions) = self.check(frame)?;
            let mut one = Checked {
                granted: event_of(&frame).map_err(|malformed| refused(&frame, malformed.0))?,
                changes: None,
                frame,
                transactions,
            };
            one.changes = self.unfold_frame(&mut unfolding, &one, &checked)?;
            match one.changes {
                Some(_) => checked.push(one),
                // The values of this frame alone are too much.
                None if checked.is_empty() => {
                    let fits = unfold::check_by_key(self, &one.transactions)?;
                    fits.map_err(|what| refused(&one.frame, &format!("with {what}")))?;
                    checked.push(one);
                    break;
                }
                None => {
                    let rest = std::iter::once(Shipped(one.frame)).chain(frames).collect();
                    return Ok(Piece { checked, rest });
                }
            }
        }
        let rest = frames.collect();
        Ok(Piece { checked, rest })
    }

    /// The changes of a frame behind others with their values; none if these are too much.
    fn unfold_frame(
        &self,
        unfolding: &mut Unfolding<'_>,
        one: &Checked,
        before: &[Checked],
    ) -> Result<Option<Vec<Unfolded>>, StoreError> {
        let mut unfolded = Vec::with_capacity(one.transactions.len());
        for logged in &one.transactions {
            let changes = dict_changes(&logged.transaction.effects);
            let changes = changes.map_err(|malformed| refused(&one.frame, malformed.0))?;
            let is_part = |(_, change): &(_, Logged)| matches!(change, Logged::Patch(_));
            if !unfolding.remembers() && changes.iter().any(is_part) {
                unfolding.remember(before.iter().flat_map(Checked::whole));
                unfolding.remember(one.transactions.iter().zip(&unfolded));
            }
            if unfolding.is_full() {
                return Ok(None);
            }
            let next = unfolding.next(logged.transaction.revision, changes)?;
            unfolded.push(next.map_err(|what| refused(&one.frame, &format!("with {what}")))?);
        }
        Ok(Some(unfolded))
    }

    fn check(&self, frame: Frame) -> Result<(Frame, Vec<LoggedTransaction>), StoreError> {
        let path = log_directory(&self.directory);
        if let FrameKind::Other(kind) = frame.header.kind
            && !frame.header.skippable
        {
            let what = format!("its source sends frames of kind {kind}");
            return Err(StoreError::Unsupported { path, what });
        }
        let transactions = recovery::take_transactions(&frame, &path, 0)?;
        Ok((frame, transactions))
    }
}

/// That the body of a frame without transactions can be read; the key of which it gives or takes
/// the grant.
pub(super) fn event_of(frame: &Frame) -> Result<Option<PeerKey>, Malformed> {
    let mut reader = BytesReader::new(&frame.body);
    match frame.header.kind {
        FrameKind::Epoch => {
            let start = EpochStart::take(&mut reader)?;
            if start.epoch.number != frame.header.epoch {
                return Err(Malformed("another number of its epoch"));
            }
            Ok(None)
        }
        FrameKind::Session => SessionEvent::take(&mut reader).map(|_| None),
        FrameKind::Grant => Ok(Some(match GrantEvent::take(&mut reader)? {
            GrantEvent::Given(grant) => grant.peer,
            GrantEvent::TakenBack(peer) => peer,
        })),
        FrameKind::Transactions | FrameKind::End | FrameKind::Other(_) => Ok(None),
    }
}

pub(super) fn refused(frame: &Frame, what: &str) -> StoreError {
    let text = format!("the source sent frame {} {what}", frame.header.index.0);
    Failure::new(ErrorKind::Corrupt, text).into()
}
