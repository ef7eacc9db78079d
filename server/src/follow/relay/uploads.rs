//! Questions about uploads that cannot arrive any more.

use std::sync::Arc;

use objsync_proto::error::Failure;
use objsync_proto::wire::{Request, ToPeer};

use super::{Forward, Relay, away};

impl Relay {
    /// Answers those who wait for uploads that have failed, or for any once their connection is
    /// `broken`: what was sent over it does not arrive over the next one.
    pub(super) fn end_uploads(&mut self, broken: Option<&Failure>) {
        let peer = Arc::clone(&self.peer);
        self.waiting.retain(|one| {
            let Forward::Ask {
                id,
                request: Request::EndUpload { upload, .. },
                ..
            } = &one.forward
            else {
                return true;
            };
            let broken = broken.map(|why| away(&why.message));
            let failure = peer.uploads.failed(*upload).or(broken);
            if let Some(failure) = failure {
                peer.answers.push(&ToPeer::Reply(*id, Err(failure)));
                return false;
            }
            true
        });
    }
}
