//! The copy's side: frames of the source become frames here, durable, then visible.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use objsync_proto::effect::Change;
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{NamespaceId, PeerKey, Position, Revision};

use super::Shipped;
use crate::commit::{Writer, compact};
use crate::core::Core;
use crate::epoch::EpochStart;
use crate::error::StoreError;
use crate::feed::Published;
use crate::frame::{BytesReader, Frame, FrameKind, LoggedTransaction, Malformed};
use crate::grants::GrantEvent;
use crate::history::dict_changes;
use crate::log::{FrameStart, log_directory};
use crate::recovery;
use crate::sessions::SessionEvent;
use crate::store::Store;

/// What came of frames that were appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Where the copy stands: all of it is durable.
    pub position: Position,
    /// Keys whose grants have changed: what they may do is to be looked up again.
    pub grants_changed: Vec<PeerKey>,
}

/// A frame that was checked.
struct Checked {
    frame: Frame,
    transactions: Vec<LoggedTransaction>,
    changes: Vec<Vec<(NamespaceId, Change)>>,
    granted: Option<PeerKey>,
}

impl Store {
    /// Appends the next frames of the source to a copy; they are durable, and readers see them,
    /// when this returns. One that makes no sense refuses all of them.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the frames are not what comes next; the copy is as it was.
    /// Of the disk: some of the first may have been appended, and then readers see those.
    pub fn append_shipped(&self, frames: Vec<Shipped>) -> Result<Applied, StoreError> {
        let core = self.core();
        core.refuse_if_closed()?;
        core.wait_for_room()?;
        core.append_shipped(frames)
    }
}

impl Core {
    fn append_shipped(&self, frames: Vec<Shipped>) -> Result<Applied, StoreError> {
        let mut writer = self.writer();
        let Some(writer) = writer.as_mut().filter(|_| self.follows) else {
            return Err(self.no_writer());
        };
        if writer.closed {
            return Err(StoreError::Closed);
        }
        self.poison.check()?;
        let checked = self.check_all(writer, frames)?;
        self.admit_shipped(&checked)?;
        let before = writer.log.next_index();
        let failed = checked
            .iter()
            .try_for_each(|one| append(writer, &one.frame));
        let appended = writer.log.next_index().0 - before.0;
        let appended = usize::try_from(appended).unwrap_or(usize::MAX);
        self.appended.store(writer.last.0, Ordering::Release);
        self.sync()?;
        let grants_changed = self.apply_all(checked.into_iter().take(appended))?;
        for closed in writer.log.take_closed() {
            self.segment_closed(closed);
        }
        self.index_may_follow();
        failed?;
        Ok(Applied {
            position: self.position(),
            grants_changed,
        })
    }

    /// That these frames are what comes next, and that all of them can be applied.
    fn check_all(&self, writer: &Writer, frames: Vec<Shipped>) -> Result<Vec<Checked>, StoreError> {
        let mut next = writer.log.next_index();
        let mut epoch = writer.epoch;
        let mut last = writer.last;
        let mut checked = Vec::with_capacity(frames.len());
        for Shipped(frame) in frames {
            let header = &frame.header;
            if header.index != next {
                let what = format!("in the place of frame {}", next.0);
                return Err(refused(&frame, &what));
            }
            match header.kind {
                FrameKind::Epoch if header.epoch > epoch => epoch = header.epoch,
                _ if header.epoch == epoch => {}
                _ => return Err(refused(&frame, "of an epoch out of order")),
            }
            if header.kind == FrameKind::Transactions {
                let end = header.first.0.checked_add(u64::from(header.count));
                let is_after = header.first > last && header.count > 0;
                let Some(end) = end.filter(|_| is_after) else {
                    return Err(refused(&frame, "with revisions out of order"));
                };
                last = Revision(end - 1);
            }
            next.0 += 1;
            checked.push(self.check(frame)?);
        }
        Ok(checked)
    }

    /// The chunks that frames name came before them.
    fn admit_shipped(&self, checked: &[Checked]) -> Result<(), StoreError> {
        for one in checked {
            let effects = one
                .transactions
                .iter()
                .flat_map(|logged| &logged.transaction.effects);
            let ids: Vec<_> = effects.flat_map(|effect| &effect.chunks).copied().collect();
            if ids.is_empty() {
                continue;
            }
            if let Some(id) = self.packs.admit_ids(&ids)?.first() {
                let what = format!("that names chunk {id}, which did not come before it");
                return Err(refused(&one.frame, &what));
            }
        }
        Ok(())
    }

    fn check(&self, frame: Frame) -> Result<Checked, StoreError> {
        let path = log_directory(&self.directory);
        if let FrameKind::Other(kind) = frame.header.kind
            && !frame.header.skippable
        {
            let what = format!("its source sends frames of kind {kind}");
            return Err(StoreError::Unsupported { path, what });
        }
        let transactions = recovery::take_transactions(&frame, &path, 0)?;
        let changes = transactions
            .iter()
            .map(|logged| dict_changes(&logged.transaction.effects))
            .collect::<Result<_, _>>();
        let changes = changes.map_err(|malformed| refused(&frame, malformed.0))?;
        let granted = event_of(&frame).map_err(|malformed| refused(&frame, malformed.0))?;
        Ok(Checked {
            frame,
            transactions,
            changes,
            granted,
        })
    }

    /// Shows frames that are durable. Gives the keys whose grants have changed.
    fn apply_all(
        &self,
        checked: impl Iterator<Item = Checked>,
    ) -> Result<Vec<PeerKey>, StoreError> {
        let mut grants_changed = Vec::new();
        for one in checked {
            grants_changed.extend(one.granted);
            self.apply_frame(one)?;
        }
        Ok(grants_changed)
    }

    /// In the order of `Core::publish`: readers, stamps, sessions, then followers.
    fn apply_frame(&self, checked: Checked) -> Result<(), StoreError> {
        let Checked {
            frame,
            transactions,
            changes,
            ..
        } = checked;
        let keeps_old = self.feed.keeps_old();
        let mut published = Vec::with_capacity(transactions.len());
        for (logged, changes) in transactions.iter().zip(changes) {
            let revision = logged.transaction.revision;
            let changes: Vec<_> = changes.into_iter().map(compact).collect();
            let old: Vec<Option<Bytes>> = match keeps_old {
                true => self.old_values(&changes),
                false => Vec::new(),
            };
            self.apply_changes(revision, &changes);
            let time_ms = frame.header.time_ms;
            let origin = (logged.origin(), logged.transaction.cause);
            let one = Published::new(revision, time_ms, origin, changes);
            published.push(one.with_old(old));
        }
        if !published.is_empty() {
            self.state.publish(frame.last());
        }
        for one in &published {
            for (namespace, change) in &one.changes {
                self.stamps.bump(*namespace, &change.key);
            }
        }
        self.keep_system(&frame, transactions)?;
        if published.is_empty() {
            self.feed.wake();
        } else {
            self.feed.publish(published.into_iter());
        }
        Ok(())
    }

    fn keep_system(
        &self,
        frame: &Frame,
        transactions: Vec<LoggedTransaction>,
    ) -> Result<(), StoreError> {
        let path = log_directory(&self.directory);
        let mut system = self.system();
        let mut epochs = self
            .epochs
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let state = (&mut *system, &mut *epochs);
        recovery::take_frame(frame, transactions, (&path, 0), state)
    }
}

/// Appends a frame as its source has it.
fn append(writer: &mut Writer, frame: &Frame) -> Result<(), StoreError> {
    let header = &frame.header;
    writer.builder.shipped(&frame.body, header.count);
    let start = FrameStart {
        kind: header.kind,
        skippable: header.skippable,
        epoch: header.epoch,
        first: header.first,
        time_ms: header.time_ms,
    };
    let appended = writer.log.append(&mut writer.builder, start, true);
    writer.builder.clear();
    appended?;
    writer.epoch = header.epoch;
    if header.kind == FrameKind::Transactions {
        writer.last = frame.last();
    }
    Ok(())
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

fn refused(frame: &Frame, what: &str) -> StoreError {
    let text = format!("the source sent frame {} {what}", frame.header.index.0);
    Failure::new(ErrorKind::Corrupt, text).into()
}

#[cfg(test)]
mod tests {
    use crate::{Ship, Stage, Store, StoreError, StoreOptions};

    #[test]
    fn nothing_is_appended_behind_the_end_that_was_written_down() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy");
        let from = folder.path().join("source");
        let source = Store::open(&from, StoreOptions::default()).unwrap();
        source.create_namespace("default", Vec::new()).unwrap();
        let options = StoreOptions {
            follow: true,
            ..StoreOptions::default()
        };
        let mut whole = source.ship_all(None).unwrap();
        let Ship::Frames(mut frames) = source.ship(&mut whole.cursor, usize::MAX).unwrap() else {
            panic!("a log begins with a frame");
        };
        let rest = frames.split_off(1);
        let stage = Stage::begin(&path, &options, whole.start, false).unwrap();
        stage.finish(frames.first()).unwrap();
        let copy = Store::open(&path, options).unwrap();
        copy.core().end_log().unwrap();
        // One that found the copy open before that.
        let late = copy.append_shipped(rest);
        assert!(matches!(late, Err(StoreError::Closed)), "{late:?}");
        copy.close().unwrap();
    }
}
