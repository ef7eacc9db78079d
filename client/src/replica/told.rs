//! What the machine tells while it takes in a frame.

use objsync_proto::ids::Position;
use objsync_proto::replica::{Applied, Exchanged, Sink};
use objsync_store::stamps::Stamps;

use super::ONLY;

/// What the machine tells of one frame.
pub(super) struct Told<'a> {
    pub(super) stamps: &'a Stamps,
    pub(super) wanted: bool,
    pub(super) changes: Vec<Applied>,
    pub(super) exchanged: Option<Exchanged>,
}

impl Sink for Told<'_> {
    fn touched(&mut self, key: &[u8]) {
        self.stamps.bump(ONLY, key);
    }

    fn is_watched(&self, _key: &[u8]) -> bool {
        self.wanted
    }

    fn applied(&mut self, change: Applied) {
        self.stamps.bump(ONLY, &change.key);
        if self.wanted {
            self.changes.push(change);
        }
    }

    fn barrier(&mut self, _id: u64, _position: Position) {}

    fn exchanged(&mut self, exchanged: Exchanged) {
        self.exchanged = Some(exchanged);
    }
}
