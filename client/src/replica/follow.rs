//! Taking in what the owner sends, and telling the watches what came of it.

use std::sync::atomic::Ordering;

use objsync_proto::ids::{Position, Revision};
use objsync_proto::replica::{Applied, Exchanged, ReplicaError};
use objsync_proto::wire::Feed;

use super::told::Told;
use super::{Extent, Replica};
use crate::error::{ObjectError, Result};
use crate::hub::tap::Ended;

impl Replica {
    /// Takes in one frame of the feed. On the I/O thread only.
    ///
    /// # Errors
    /// When the owner broke the rules, or ended the subscription.
    pub(crate) fn follow(&self, frame: Feed) -> Result<()> {
        match frame {
            // A part is short, and its value may be long: no more of them are held for the watches
            // than those of one transaction, and readers get their turn between.
            Feed::Events(events) if events.iter().any(|event| !event.patches.is_empty()) => {
                let mut events = events.into_iter();
                events.try_for_each(|event| self.follow_step(Feed::Events(vec![event])))
            }
            frame => self.follow_step(frame),
        }
    }

    fn follow_step(&self, frame: Feed) -> Result<()> {
        // The same order as in `tap`: first the machine.
        let mut machine = self.write();
        let before = machine.position();
        let mut told = Told {
            stamps: &self.stamps,
            wanted: self.hub.is_wanted(),
            changes: Vec::new(),
            exchanged: None,
        };
        let fed = machine.feed(frame, &mut told);
        let Told {
            changes, exchanged, ..
        } = told;
        if let Some(position) = machine.position() {
            self.tell(changes, exchanged, (before, position));
            let extent = if machine.is_partial() {
                Extent::Partial
            } else {
                Extent::Whole
            };
            if exchanged.is_some() || extent != self.extent() {
                self.resets.fetch_add(1, Ordering::AcqRel);
            }
            self.extent.store(extent as u8, Ordering::Release);
            if machine.is_following() {
                self.applied.store(position.revision.0, Ordering::Release);
            }
        }
        drop(machine);
        self.changed.notify_waiters();
        if let Err(ReplicaError::Unpatchable { .. }) = &fed {
            self.wants_whole.store(true, Ordering::Release);
        }
        fed.map_err(ObjectError::from)
    }

    /// Tells the watches what came of a frame.
    fn tell(
        &self,
        changes: Vec<Applied>,
        exchanged: Option<Exchanged>,
        (before, position): (Option<Position>, Position),
    ) {
        match exchanged {
            // What happened meanwhile is not known: each watch finds out for itself.
            Some(Exchanged { told: false, .. }) => self.hub.end_all(Ended::Untold),
            _ if !self.hub.is_wanted() => {}
            // Watches that came before it had anything stand where it was not.
            Some(_) if before.is_none() => self.hub.end_all(Ended::Untold),
            Some(Exchanged { same_history, .. }) => {
                let changes = as_one_step(changes, position.revision);
                self.hub.exchange(&changes, same_history, position);
            }
            None => self.hub.tell(&changes, position),
        }
    }
}

/// How two states differ, in the order in which it came about, as far as the newer one tells: what
/// it lacks comes last. All of it bears the newer one's revision, as it takes its place in one step:
/// one that is lower would be a place to go on from that misses others.
fn as_one_step(mut changes: Vec<Applied>, revision: Revision) -> Vec<Applied> {
    changes.sort_by_key(|change| (change.new.is_none(), change.revision));
    for change in &mut changes {
        change.revision = revision;
    }
    changes
}
