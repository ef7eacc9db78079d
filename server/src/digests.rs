//! Where the digests of a follower go: from the operations stream to the subscription that
//! compares them.
//!
//! Invariants
//! * One request's digests wait for a subscription at most, and only while it compares. A client
//!   sends the next ones when those before were answered, which is when they were compared.
//! * Every request is answered, also one that comes too late for its comparison.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::limits::{DIGESTS_BYTES_MAX, DIGESTS_MAX, KEY_BYTES_MAX};
use objsync_proto::wire::{Digest, Reply, ToPeer};
use tokio::sync::mpsc;

use crate::peer::Peer;

/// Digests that a follower has sent, to be answered once they are done with.
pub(crate) struct Sent {
    peer: Arc<Peer>,
    /// The request's id.
    id: u64,
    /// Of which comparison.
    pub(crate) round: u32,
    pub(crate) digests: Vec<Digest>,
}

impl Drop for Sent {
    fn drop(&mut self) {
        let done = ToPeer::Reply(self.id, Ok(Reply::Done));
        self.peer.answers.push(&done);
    }
}

/// The way to the comparison of one subscription; closed while it does not compare.
#[derive(Clone, Default)]
pub(crate) struct Inlet(Arc<Mutex<Option<mpsc::Sender<Sent>>>>);

/// While this lives, the inlet is open.
pub(crate) struct Outlet {
    inlet: Inlet,
    sent: mpsc::Receiver<Sent>,
}

impl Inlet {
    /// Opens it for a comparison.
    pub(crate) fn open(&self) -> Outlet {
        let (sender, sent) = mpsc::channel(1);
        *self.sender() = Some(sender);
        let inlet = self.clone();
        Outlet { inlet, sent }
    }

    /// Takes in what a follower has sent under request `id`, which is answered later.
    ///
    /// # Errors
    /// It sent too much at once, or did not wait for the answer.
    pub(crate) fn put(
        &self,
        peer: &Arc<Peer>,
        id: u64,
        (round, digests): (u32, Vec<Digest>),
    ) -> Result<(), Failure> {
        check_size(&digests)?;
        let sender = self.sender().clone();
        let place = match &sender {
            Some(sender) => sender.try_reserve(),
            None => Err(mpsc::error::TrySendError::Closed(())),
        };
        let sent = || Sent {
            peer: Arc::clone(peer),
            id,
            round,
            digests,
        };
        match place {
            Ok(place) => place.send(sent()),
            // Its comparison is over: only answered.
            Err(mpsc::error::TrySendError::Closed(())) => drop(sent()),
            Err(mpsc::error::TrySendError::Full(())) => {
                let text = "digests were sent before those of the request before were answered";
                return Err(Failure::new(ErrorKind::Full, text));
            }
        }
        Ok(())
    }

    fn sender(&self) -> MutexGuard<'_, Option<mpsc::Sender<Sent>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet {
    /// The next digests; waits for them. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Sent> {
        self.sent.recv().await
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        // Under the lock, so that nothing comes behind what is dropped, and so answered, here.
        *self.inlet.sender() = None;
    }
}

/// As much as a request may bring, and keys that can be keys.
fn check_size(digests: &[Digest]) -> Result<(), Failure> {
    let keys = || digests.iter().filter_map(|digest| digest.through.as_ref());
    let bytes: usize = keys().map(|key| key.len()).sum();
    let longest = keys().map(|key| key.len()).max().unwrap_or(0);
    let text = if digests.len() > DIGESTS_MAX {
        let count = digests.len();
        format!("request has {count} digests; the limit is {DIGESTS_MAX}")
    } else if bytes > DIGESTS_BYTES_MAX {
        format!("digests have {bytes} bytes of keys; the limit is {DIGESTS_BYTES_MAX} bytes")
    } else if longest > KEY_BYTES_MAX {
        format!("digest has a key of {longest} bytes; the limit is {KEY_BYTES_MAX} bytes")
    } else {
        return Ok(());
    };
    Err(Failure::new(ErrorKind::Invalid, text))
}
