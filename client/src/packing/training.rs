//! Training a dictionary, and making it the present one.
//!
//! It runs on a thread that waits for the disk, not on the one of the writer that filled the
//! samples. Two handles that train at once do no harm: the one that is added later is the present
//! one, and values that were packed with the other find that too.

use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::dictionary::{Dictionary, DictionaryId, Trained, train};
use objsync_proto::error::ErrorKind;
use objsync_proto::operation::Operation;
use objsync_proto::wire::{Reply, Request};

use super::samples::Outcome;
use super::{Packer, Present, lock};
use crate::core::Core;
use crate::error::Result;
use crate::pending::unexpected_reply;
use crate::wait::block_on;

/// Trains in the background.
pub(super) fn begin(packer: &Packer) {
    let Some(core) = packer.core() else {
        return lock(&packer.samples).end(Outcome::Nothing);
    };
    let config = Arc::clone(&core.config);
    let weak = Arc::downgrade(&core);
    let runtime = core.runtime().clone();
    drop(core);
    runtime.spawn_blocking(move || {
        let packer = &config.packer;
        let outcome = match weak.upgrade() {
            Some(core) => run(packer, &core),
            None => Outcome::Nothing,
        };
        lock(&packer.samples).end(outcome);
    });
}

/// Trains in this thread.
pub(super) fn train_now(packer: &Packer, core: &Arc<Core>) {
    let outcome = run(packer, core);
    lock(&packer.samples).end(outcome);
}

fn run(packer: &Packer, core: &Arc<Core>) -> Outcome {
    // Another handle may have added one since this one looked.
    if block_on(&core.config.what, packer.refresh(core)).is_err() {
        return Outcome::Nothing;
    }
    let samples = lock(&packer.samples).take();
    let (Some(level), present) = (packer.level, packer.present()) else {
        return Outcome::Nothing;
    };
    let present = present.as_ref().map(|present| &*present.dictionary);
    let Some(dictionary) = train(&samples, level, present) else {
        return Outcome::Nothing;
    };
    match add(core, &dictionary) {
        Ok(()) => {
            // With the time that the owner gave it.
            match block_on(&core.config.what, packer.refresh(core)) {
                Ok(Ok(())) => Outcome::New,
                _ => Outcome::Nothing,
            }
        }
        Err(error) if error.kind() == ErrorKind::Full => Outcome::Over,
        Err(error) => {
            tracing::debug!(%error, "a dictionary was not added");
            Outcome::Nothing
        }
    }
}

/// Adds a dictionary and waits until it is durable, so that no value outlives it.
fn add(core: &Arc<Core>, dictionary: &Dictionary) -> Result<()> {
    let bytes = dictionary.bytes().clone();
    let (_, ack) = core.execute(Operation::AddDictionary { bytes })?;
    let revision = ack.revision;
    block_on(&core.config.what, core.request(Request::Flush { revision }))??;
    Ok(())
}

impl Packer {
    /// Asks which dictionary new values are packed with.
    pub(crate) async fn refresh(&self, core: &Core) -> Result<()> {
        if !self.uses_dictionary {
            return Ok(());
        }
        let present = match core.request(Request::Dictionary { id: None }).await {
            Ok(Reply::Entry { entry, .. }) => entry.and_then(|(value, _)| opened(&value)),
            Ok(other) => return Err(unexpected_reply(&other)),
            // An owner of an earlier version, or one where this link may only write.
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Denied) => {
                None
            }
            Err(error) => return Err(error),
        };
        self.set_present(present);
        Ok(())
    }

    /// What was the present one is unsure: this may be another owner, or another history.
    pub(crate) fn forget_present(&self) {
        if self.present().is_none() {
            return;
        }
        self.set_present(None);
        if let Some(core) = self.core() {
            let runtime = core.runtime().clone();
            let config = Arc::clone(&core.config);
            runtime.spawn(async move {
                // If that fails, values are packed without one until the next training.
                let _ = config.packer.refresh(&core).await;
            });
        }
    }
}

fn opened(entry: &Bytes) -> Option<Present> {
    let trained = Trained::decode(entry)?;
    let trained_ms = trained.at_ms;
    let dictionary = Arc::new(Dictionary::new(trained.bytes).ok()?);
    Some(Present {
        dictionary,
        trained_ms,
    })
}

/// A dictionary that an owner sent, if it is the one that was asked for.
pub(super) fn received(entry: &Bytes, id: DictionaryId) -> Option<Arc<Dictionary>> {
    Trained::decode(entry)?.open(id).ok().map(Arc::new)
}
