//! Sessions as a connection sees them: opened with the first write, closed with the last.

use std::sync::Arc;

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::limits::SESSION_BYTES_MAX;
use objsync_proto::wire::ToPeer;
use objsync_store::StoreError;

use crate::connection::{Dropped, all_returned, closed};
use crate::peer::{Peer, Session};

/// Opens a session. Later frames of the stream wait: they are writes in it.
pub(crate) async fn open(peer: &Arc<Peer>) -> Result<(), Dropped> {
    peer.may_write().map_err(Dropped::Refused)?;
    let (store, key) = (peer.serving.store.clone(), peer.session_key());
    let opened = peer.serving.apart(move || store.open_session(key)).await;
    let session = match opened {
        Ok(opened) => opened.map_err(|error| Dropped::Refused(refusal(&error)))?,
        Err(_) => return Err(Dropped::Refused(stopped())),
    };
    peer.set_session(Session::Open(session));
    peer.answers.push(&ToPeer::Opened(session));
    Ok(())
}

/// Why there is no session: the peer's writes fail with it, unless another owner will take them.
fn refusal(error: &StoreError) -> Failure {
    match error {
        StoreError::Closed => closed(),
        other => other.to_failure(),
    }
}

/// Ends the session once its writes are answered.
pub(crate) async fn close(peer: &Arc<Peer>) -> Result<(), Dropped> {
    let Session::Open(session) = peer.session() else {
        return Ok(());
    };
    all_returned(&peer.writes, SESSION_BYTES_MAX).await;
    peer.set_session(Session::None);
    let store = peer.serving.store.clone();
    let closed = peer
        .serving
        .apart(move || store.close_session(session))
        .await;
    if let Ok(Err(error)) = closed {
        // The peer has no use for it any more; it ends when it has been idle for long enough.
        tracing::debug!(%error, "a session stays open");
    }
    Ok(())
}

/// A task of the runtime was cut off: the process is ending.
pub(crate) fn stopped() -> Failure {
    Failure::new(ErrorKind::Unavailable, "the owner is ending")
}
