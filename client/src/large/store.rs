//! Operations whose values are too large for the log: their content goes into chunks first, then the
//! operation names them.
//!
//! An owner that lacks chunks by then, as it is another one or has collected them, refuses the
//! operation and changes nothing. Then what is missing is sent again, and the operation is asked for
//! anew, with a number of its own: it is done once.

use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Ack, Revision};
use objsync_proto::limits::CHUNK_BYTES;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::stored_chunks::{self, StoredChunks};

use super::own::Hold;
use super::place::Tries;
use super::split::{Split, is_wanted, split};
use super::upload::Upload;
use crate::config::Config;
use crate::core::Core;
use crate::error::{ObjectError, Result};
use crate::pending::{Pending, Step, unexpected};

/// A value that is to be written.
#[derive(Debug, Clone)]
pub(crate) enum Packed {
    /// As it is stored.
    Sealed(Bytes),
    /// Its content has to go into chunks first.
    Large(Split),
}

impl Packed {
    /// A payload in two parts, if it goes into chunks; else the parts again.
    pub(crate) fn large(
        config: &Config,
        head: Bytes,
        content: Bytes,
    ) -> std::result::Result<Self, (Bytes, Bytes)> {
        if is_wanted(config) && content.len() > CHUNK_BYTES {
            return Ok(Self::Large(Split { head, content }));
        }
        Err((head, content))
    }

    /// Its payload again, where it was written under this key.
    pub(crate) fn payload(&self, config: &Config, key: &[u8]) -> Result<Bytes> {
        match self {
            Self::Sealed(stored) => config.open(key, Revision::default(), stored.clone()),
            Self::Large(Split { head, content }) => Ok([&head[..], content].concat().into()),
        }
    }

    /// Bytes that it takes in an operation.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Sealed(stored) => stored.len(),
            Self::Large(_) => ROOT_BYTES_MAX,
        }
    }
}

/// Bytes that a value in chunks takes in an operation, at most.
const ROOT_BYTES_MAX: usize = {
    use objsync_proto::chunk::CHILD_BYTES;
    use objsync_proto::limits::{CHUNK_HEAD_BYTES_MAX, ROOT_CHILDREN_MAX};
    32 + ROOT_CHILDREN_MAX * CHILD_BYTES + CHUNK_HEAD_BYTES_MAX
};

impl Config {
    /// A payload as it is to be written.
    pub(crate) fn pack(&self, payload: &Bytes) -> Result<Packed> {
        match split(self, payload) {
            Some(split) => Ok(Packed::Large(split)),
            None => self.seal(payload).map(Packed::Sealed),
        }
    }
}

/// An operation on values of which some are large. `build` is given the values as they are stored, in
/// their order.
pub(crate) fn write<T: Send + 'static>(
    core: &Arc<Core>,
    (key, values): (Bytes, Vec<Packed>),
    build: impl Fn(&Config, Vec<Bytes>) -> Result<Operation> + Send + 'static,
    step: impl FnMut(Outcome, Ack) -> Result<Step<T>> + Send + 'static,
) -> Pending<T> {
    let sealed = values.iter().map(|value| match value {
        Packed::Sealed(stored) => Some(stored.clone()),
        Packed::Large(_) => None,
    });
    if let Some(sealed) = sealed.collect() {
        return match build(&core.config, sealed) {
            Ok(operation) => Pending::write(Arc::clone(core), operation, step),
            Err(error) => Pending::ready(Err(error)),
        };
    }
    let core = Arc::clone(core);
    Pending::call("a large value", async move {
        let mut step = step;
        let mut tries = Tries::new(&core);
        loop {
            // What was found or put under it stays until the operation is answered.
            let hold = Arc::new(Hold::new(&core));
            let connections = core.large.connection_count();
            let stored = match store_all(&core, &hold, &key, &values).await {
                Ok(stored) => stored,
                // What was sent may be unknown on another connection: it is asked about anew.
                Err(_) if core.large.connection_count() != connections => {
                    tries.after(moved(&core)).await?;
                    continue;
                }
                // Not of one that nobody answered, which has waited for as long as it may.
                Err(error @ ObjectError::Failed(_)) => {
                    tries.after(error).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let operation = build(&core.config, stored)?;
            let (outcome, ack) = answer(&core, operation).await?;
            drop(hold);
            match outcome {
                lost @ Outcome::NeedChunks { .. } => tries.after(unexpected(&lost)).await?,
                outcome => {
                    let next = step(outcome, ack)?;
                    return follow(&core, next, step).await;
                }
            }
        }
    })
}

fn moved(core: &Core) -> ObjectError {
    let text = format!(
        "{}: the owner changed while a large value was sent",
        core.config.what
    );
    ObjectError::new(ErrorKind::Unavailable, text)
}

/// The values as they are stored, once their content is.
async fn store_all(
    core: &Arc<Core>,
    hold: &Arc<Hold>,
    key: &Bytes,
    values: &[Packed],
) -> Result<Vec<Bytes>> {
    let mut stored = Vec::with_capacity(values.len());
    for value in values {
        stored.push(match value {
            Packed::Sealed(stored) => stored.clone(),
            Packed::Large(Split { head, content }) => {
                let chunking = core.config.chunking();
                let upload = Upload::new(core, hold, key.clone(), chunking);
                let root = upload.whole(content).await?;
                let head = head.clone();
                stored_chunks::seal(&StoredChunks { root, head })?
            }
        });
    }
    Ok(stored)
}

/// What follows on the first answer, where something does.
async fn follow<T>(
    core: &Arc<Core>,
    mut next: Step<T>,
    mut step: impl FnMut(Outcome, Ack) -> Result<Step<T>> + Send,
) -> Result<T> {
    loop {
        match next {
            Step::Done(value) => return Ok(value),
            Step::Next(operation) => {
                let (outcome, ack) = answer(core, operation).await?;
                next = step(outcome, ack)?;
            }
        }
    }
}

async fn answer(core: &Arc<Core>, operation: Operation) -> Result<(Outcome, Ack)> {
    let both = |outcome, ack| Ok(Step::Done((outcome, ack)));
    Pending::write(Arc::clone(core), operation, both).await
}
