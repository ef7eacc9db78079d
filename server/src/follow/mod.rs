//! The follower: a copy of a whole store, served as its owner would, that writes nothing of its own.
//!
//! | module | what it knows |
//! |---|---|
//! | `follower` | a copy from its first byte to its end: receive, open, serve, and again after a break |
//! | `copying` | one connection to the source: the log as it comes, and how it gets into the copy |
//! | `chunks` | the chunks that the log names, fetched before it is taken |
//! | `upstream` | the source: where it is, how far, and what it is asked besides |
//! | `hail` | the first words on a connection to the source |
//! | `piping` | the uploads of one client, passed on as they come |
//! | `relay` | the writes of one client, passed on and answered once the copy has them |
//! | `found` | whether the copy has what the source has acknowledged |
//! | `ask` | requests that only the source can answer |
//!
//! Invariants
//! * A client's session at the source belongs to the client's own key. So it may come back through
//!   this follower, another one, or to the source itself, and each write is done once.
//! * An answer is passed on once the copy holds its revision: what was acknowledged is read here.

mod ask;
mod chunks;
mod copying;
mod follower;
mod found;
mod hail;
pub(crate) mod piping;
pub(crate) mod relay;
mod upstream;

use std::sync::Arc;

use objsync_proto::wire::{Request, ToOwner, ToPeer};

pub use follower::{FollowOptions, Follower};
pub use upstream::Upstream;

use crate::connection::Dropped;
use crate::frames::Framed;
use crate::peer::{Peer, Session};
use crate::streams::Streams;
use crate::{request, write};
use relay::Forward;

/// Handles what a client of a copy asks: here what can be read, at the source what changes it.
pub(crate) async fn handle(
    peer: &Arc<Peer>,
    streams: &mut Streams,
    upstream: &Arc<Upstream>,
    framed: Framed,
) -> Result<(), Dropped> {
    match framed.message {
        ToOwner::OpenSession => {
            peer.may_write().map_err(Dropped::Refused)?;
            streams.forward(upstream, Forward::Open).await;
        }
        ToOwner::CloseSession => {
            if peer.session() != Session::None {
                streams.forward(upstream, Forward::Close).await;
            }
        }
        ToOwner::Write(write) => {
            if let Err(failure) = peer.may_write() {
                let answer = ToPeer::Answer(write.sequence, Err(failure));
                peer.answers.push(&answer);
                return Ok(());
            }
            if peer.session() == Session::None {
                return Err(Dropped::Violation("a write without a session"));
            }
            if write.floor > write.sequence {
                return Err(Dropped::Violation("a write below its own floor"));
            }
            let place = write::place(peer, framed.bytes).await;
            streams
                .forward(upstream, Forward::Write(write, place))
                .await;
        }
        ToOwner::Request(id, asked) => {
            ask::serve(peer, streams, upstream, (id, asked, framed.bytes)).await;
        }
        ToOwner::Hello(_) => return Err(Dropped::Violation("a second hello")),
    }
    Ok(())
}

/// Whether a request is answered here as an owner does.
fn is_local(request: &Request) -> bool {
    !matches!(
        request,
        Request::CreateNamespace { .. }
            | Request::KeepLease { .. }
            | Request::AwaitLock { .. }
            | Request::Outcome { .. }
            | Request::MissingChunks { .. }
            | Request::EndUpload { .. }
            | Request::Barrier
            | Request::Flush { .. }
            | Request::Grant(_)
            | Request::Revoke { .. }
    )
}

/// Answers a request from the copy.
async fn answer_here(peer: &Arc<Peer>, streams: &mut Streams, id: u64, asked: Request) {
    request::serve(peer, streams, id, asked).await;
}
