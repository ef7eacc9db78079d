//! Whether a copy has what its source has acknowledged.

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Ack, Position};
use objsync_store::Store;

/// Where the copy stands to what the source has acknowledged.
pub(super) enum Found {
    Here,
    NotYet,
    /// The copy is on, or past, an epoch that does not have it.
    Lost,
}

/// Looks for what was acknowledged, on the history of the copy.
pub(super) fn found(store: &Store, ack: &Ack) -> Found {
    let ours = store.position();
    let told = Position {
        epoch: ack.epoch,
        revision: ack.revision,
        ..ours
    };
    if store.is_on_history(&told) {
        return Found::Here;
    }
    match ours.epoch == ack.epoch || ours.epoch.number < ack.epoch.number {
        true => Found::NotYet,
        false => Found::Lost,
    }
}

/// The answer in the place of one whose write is lost.
pub(super) fn taken_back() -> Failure {
    let text = "the source has lost what it acknowledged, or goes on with another history";
    Failure::new(ErrorKind::OutcomeUnknown, text)
}
