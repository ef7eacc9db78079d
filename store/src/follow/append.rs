//! The copy's side: frames of the source become frames here, durable, then visible.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use objsync_proto::effect::Transaction;
use objsync_proto::ids::{PeerKey, Position};

use super::Shipped;
use super::piece::{Checked, Piece, refused};
use super::unfold::{Unfolded, Unfolding};
use crate::commit::{BATCH_VALUE_BYTES, Memory, Writer, compact_all};
use crate::core::Core;
use crate::error::StoreError;
use crate::feed::Published;
use crate::frame::{Frame, FrameKind, LoggedTransaction};
use crate::history::dict_changes;
use crate::log::{FrameStart, log_directory};
use crate::recovery;
use crate::store::Store;

/// What came of frames that were appended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "some of the frames may be left"]
pub struct Applied {
    /// Where the copy stands: all of it is durable.
    pub position: Position,
    /// Keys whose grants have changed: what they may do is to be looked up again.
    pub grants_changed: Vec<PeerKey>,
    /// Frames that were left for the next call, which is to be given them.
    pub rest: Vec<Shipped>,
}

impl Store {
    /// Appends the next frames of the source to a copy; they are durable, and readers see them,
    /// when this returns. Where parts of values in them lead to values of more than 16 MiB together,
    /// it takes the first frames only, one at least, and gives the others back; one that makes no
    /// sense refuses all that would be taken with it. Waits while the index is too far behind.
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
        let Piece { checked, rest } = self.check_piece(writer, frames)?;
        self.admit_shipped(&checked)?;
        writer.patches.note(checked.iter().any(Checked::has_parts));
        self.name_patches(writer)?;
        let before = writer.log.next_index();
        let failed = checked
            .iter()
            .try_for_each(|one| append(writer, &one.frame));
        let appended = writer.log.next_index().0 - before.0;
        let appended = usize::try_from(appended).unwrap_or(usize::MAX);
        self.appended.store(writer.last.0, Ordering::Release);
        self.sync()?;
        let applied = self.apply_all(checked.into_iter().take(appended));
        let grants_changed = applied.inspect_err(|error| {
            // What is in the log and is not shown is shown by whoever opens the copy next.
            self.poison.set(error);
        })?;
        for closed in writer.log.take_closed() {
            self.segment_closed(closed);
        }
        self.index_may_follow();
        failed?;
        Ok(Applied {
            position: self.position(),
            grants_changed,
            rest,
        })
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
        let published = match changes {
            Some(changes) => {
                let each = transactions.iter().zip(changes);
                let each = each.map(|(logged, unfolded)| self.apply_one(logged, unfolded));
                each.collect()
            }
            None => self.apply_by_parts(&transactions)?,
        };
        self.show(&published);
        self.keep_system(&frame, transactions)?;
        if published.is_empty() {
            self.feed.wake();
        } else {
            self.feed.publish(published.into_iter());
        }
        Ok(())
    }

    /// Applies the transactions of a frame whose values are too much at once. Gives the last of them,
    /// which are not shown yet; of those before nobody waits for the frame's end.
    fn apply_by_parts(
        &self,
        transactions: &[LoggedTransaction],
    ) -> Result<Vec<Published>, StoreError> {
        let (mut published, mut bytes) = (Vec::new(), 0);
        for logged in transactions {
            if bytes >= BATCH_VALUE_BYTES {
                self.show(&published);
                self.feed
                    .publish(std::mem::take(&mut published).into_iter());
                bytes = 0;
                self.index_may_follow();
                self.wait_for_room()?;
            }
            let Transaction {
                revision, effects, ..
            } = &logged.transaction;
            let mut unfolding = Unfolding::new(self);
            unfolding.remember(std::iter::empty());
            let unfolded = unfolding.next(*revision, dict_changes(effects)?)?;
            // Checked before the frame was appended.
            let unfolded =
                unfolded.map_err(|what| StoreError::corrupt(&self.directory, 0, what))?;
            let one = self.apply_one(logged, unfolded);
            bytes += one.bytes();
            published.push(one);
        }
        Ok(published)
    }

    /// Puts a transaction where nobody sees it yet.
    fn apply_one(&self, logged: &LoggedTransaction, (changes, patches): Unfolded) -> Published {
        let Transaction {
            revision,
            time_ms,
            cause,
            ..
        } = logged.transaction;
        let (changes, patches) = compact_all(changes, patches, Memory::Shared);
        let old: Vec<Option<Bytes>> = match self.feed.keeps_old() {
            true => self.old_values(&changes),
            false => Vec::new(),
        };
        self.apply_changes(revision, &changes);
        let one = Published::new(revision, time_ms, (logged.origin(), cause), changes);
        one.with_patches(patches).with_old(old)
    }

    /// Lets readers see transactions that were applied.
    fn show(&self, published: &[Published]) {
        if let Some(last) = published.last() {
            self.state.publish(last.revision);
        }
        for one in published {
            for (namespace, change) in &one.changes {
                self.stamps.bump(*namespace, &change.key);
            }
        }
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
