//! The source of a copy: where it is, how far it is, and requests on the one connection that all of
//! the copy comes over.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use objsync_proto::error::Failure;
use objsync_proto::ids::{PeerKey, Revision};
use objsync_proto::limits::{CALL_TIMEOUT_MS, REQUESTS_IN_FLIGHT_MAX};
use objsync_proto::wire::{FollowStatus, Reply, Request};
use quinn::Connection;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::hail::away;
use crate::dial;
use crate::error::ServerError;
use crate::identity::Identity;
use crate::network::Udp;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the source may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(CALL_TIMEOUT_MS);

/// A request for the source, and who waits for its reply.
pub(super) type Asked = (Request, oneshot::Sender<Result<Reply, Failure>>);

/// The source of a copy.
pub struct Upstream {
    hosts: Vec<String>,
    server: PeerKey,
    identity: Identity,
    known: Mutex<Known>,
    /// Whether the source has shown, on the present connection, that the copy is of its history.
    is_joined: watch::Sender<bool>,
}

/// What is known of the source.
struct Known {
    /// Where requests go while there is a connection.
    requests: Option<mpsc::Sender<Asked>>,
    /// Where it was reached last.
    address: Option<String>,
    revision: Revision,
    /// When the copy was last known to have all that the source had.
    caught_up: Option<Instant>,
    is_behind: bool,
    trouble: String,
}

impl Upstream {
    /// The source at one of `hosts` (`host:port` each), which proves `server`, for who proves
    /// `identity`.
    #[must_use]
    pub fn new(hosts: Vec<String>, server: PeerKey, identity: Identity) -> Self {
        Self {
            hosts,
            server,
            identity,
            is_joined: watch::Sender::new(false),
            known: Mutex::new(Known {
                requests: None,
                address: None,
                revision: Revision(0),
                caught_up: None,
                is_behind: true,
                trouble: String::from("it was not reached yet"),
            }),
        }
    }

    /// How far a copy at `revision` is behind.
    #[must_use]
    pub fn status(&self, revision: Revision) -> FollowStatus {
        let known = self.known();
        let hosts = || self.hosts.join(", ");
        let is_connected = known.requests.is_some();
        let behind = known.caught_up.map(|then| match is_connected {
            true if !known.is_behind => Duration::ZERO,
            _ => then.elapsed(),
        });
        FollowStatus {
            source: known.address.clone().unwrap_or_else(hosts),
            is_connected,
            source_revision: known.revision.max(revision),
            revision,
            behind_ms: behind.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            trouble: known.trouble.clone(),
        }
    }

    /// Connects to the first host that answers.
    pub(super) async fn dial(&self) -> Result<Connection, Failure> {
        let mut reason = away("its link names no host");
        for host in &self.hosts {
            let addresses = match tokio::net::lookup_host(host).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    reason = away(&format!("{host}: {error}"));
                    continue;
                }
            };
            for address in addresses {
                let dialed = dial(&Udp, address, &self.identity, self.server);
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, dialed).await {
                    Ok(Ok(connection)) => {
                        self.known().address = Some(address.to_string());
                        return Ok(connection);
                    }
                    Ok(Err(ServerError::Refused(failure))) => reason = failure,
                    Ok(Err(error)) => reason = Failure::new(error.kind(), error.to_string()),
                    Err(_) => reason = away(&format!("{host} does not answer the handshake")),
                }
            }
        }
        Err(reason)
    }

    /// Asks the source, and waits for its reply.
    ///
    /// # Errors
    /// Of the source; [`objsync_proto::error::ErrorKind::Unavailable`] while it is away.
    pub(super) async fn request(&self, request: Request) -> Result<Reply, Failure> {
        let Some(requests) = self.known().requests.clone() else {
            return Err(away(&self.known().trouble));
        };
        let (reply, replied) = oneshot::channel();
        let asked = async {
            self.joined().await;
            let gone = || away("its connection broke");
            requests.send((request, reply)).await.map_err(|_| gone())?;
            replied.await.unwrap_or_else(|_| Err(gone()))
        };
        let timed_out = |_| Err(away("it does not answer"));
        tokio::time::timeout(ANSWER_TIMEOUT, asked)
            .await
            .unwrap_or_else(timed_out)
    }

    /// As [`Upstream::request`], while the copy is not joined to its source yet.
    pub(super) async fn request_now(&self, request: Request) -> Result<Reply, Failure> {
        let Some(requests) = self.known().requests.clone() else {
            return Err(away(&self.known().trouble));
        };
        let (reply, replied) = oneshot::channel();
        let gone = || away("its connection broke");
        requests.send((request, reply)).await.map_err(|_| gone())?;
        replied.await.unwrap_or_else(|_| Err(gone()))
    }

    /// There is a connection: what is asked for on it comes out of what this returns.
    pub(super) fn connected(&self) -> mpsc::Receiver<Asked> {
        let (requests, asked) = mpsc::channel(REQUESTS_IN_FLIGHT_MAX);
        let mut known = self.known();
        known.requests = Some(requests);
        known.trouble = String::new();
        asked
    }

    /// The source goes on with the log of this copy: what it answers is of the copy's history.
    pub(super) fn joins(&self) {
        self.is_joined
            .send_if_modified(|is_joined| !std::mem::replace(is_joined, true));
    }

    /// Waits until the source's history is the copy's. Before that its answers could tell of
    /// another one, which the copy is about to be replaced by.
    pub(super) async fn joined(&self) {
        let mut is_joined = self.is_joined.subscribe();
        // The sender lives as long as this does.
        let _ = is_joined.wait_for(|is_joined| *is_joined).await;
    }

    /// There is no connection any more, or none could be made.
    pub(super) fn lost(&self, why: &Failure) {
        self.is_joined.send_replace(false);
        let mut known = self.known();
        known.requests = None;
        known.trouble.clone_from(&why.message);
    }

    /// The source is that far, and the copy has `held` of it.
    pub(super) fn reached(&self, source: Revision, held: Revision) {
        let mut known = self.known();
        known.revision = known.revision.max(source);
        known.is_behind = held < source;
        if !known.is_behind {
            known.caught_up = Some(Instant::now());
        }
    }

    /// The source's history is another one: it may be at a lower revision.
    pub(super) fn begins_anew(&self) {
        let mut known = self.known();
        known.revision = Revision(0);
        known.is_behind = true;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("hosts", &self.hosts)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}
