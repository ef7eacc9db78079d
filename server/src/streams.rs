//! The one-way streams of a connection: subscriptions and fetches, each a task of its own.
//!
//! Dropping this ends them all.

use std::collections::BTreeMap;
use std::sync::Arc;

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::Position;
use objsync_proto::limits::SUBSCRIPTIONS_MAX;
use objsync_proto::wire::{Digest, Held, KeyRange, Reply};
use quinn::Connection;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::barriers::{Barrier, Barriers};
use crate::digests::Inlet;
use crate::follow::Upstream;
use crate::follow::relay::{self, Forward};
use crate::peer::Peer;
use crate::{chunks, feed, fetch, replicate};

/// The open streams of one peer.
pub(crate) struct Streams {
    peer: Arc<Peer>,
    connection: Connection,
    tasks: JoinSet<u64>,
    open: BTreeMap<u64, Open>,
    /// To the source, once something was to be passed on.
    relay: Option<mpsc::Sender<Forward>>,
}

struct Open {
    task: AbortHandle,
    /// Where barriers go; none for a fetch.
    barriers: Option<Barriers>,
    /// Where digests go.
    digests: Inlet,
}

impl Streams {
    pub(crate) fn new(peer: Arc<Peer>, connection: Connection) -> Self {
        Self {
            peer,
            connection,
            tasks: JoinSet::new(),
            open: BTreeMap::new(),
            relay: None,
        }
    }

    /// Begins a subscription.
    pub(crate) fn subscribe(
        &mut self,
        id: u64,
        range: KeyRange,
        (since, held): (Option<Position>, Option<Held>),
    ) -> Result<Reply, Failure> {
        self.check_free(id)?;
        let namespace = self.peer.namespace()?;
        let barriers = Barriers::default();
        let asked = barriers.clone();
        let digests = Inlet::default();
        let wanted = feed::Wanted {
            id,
            namespace,
            range,
            since,
            held,
            inlet: digests.clone(),
        };
        let (peer, connection) = (Arc::clone(&self.peer), self.connection.clone());
        let task = self.tasks.spawn(async move {
            feed::follow(peer, connection, wanted, asked).await;
            id
        });
        self.open.insert(
            id,
            Open {
                task,
                barriers: Some(barriers),
                digests,
            },
        );
        Ok(Reply::Done)
    }

    /// Begins to send the entries of a range.
    pub(crate) fn fetch(&mut self, wanted: fetch::Wanted) -> Result<(), Failure> {
        let id = wanted.id;
        self.check_free(id)?;
        let (peer, connection) = (Arc::clone(&self.peer), self.connection.clone());
        let task = self.tasks.spawn(async move {
            fetch::send(peer, connection, wanted).await;
            id
        });
        self.open.insert(
            id,
            Open {
                task,
                barriers: None,
                digests: Inlet::default(),
            },
        );
        Ok(())
    }

    /// Begins to send chunks.
    pub(crate) fn fetch_chunks(&mut self, wanted: chunks::Wanted) -> Result<Reply, Failure> {
        let id = wanted.id;
        self.check_free(id)?;
        let (peer, connection) = (Arc::clone(&self.peer), self.connection.clone());
        let task = self.tasks.spawn(async move {
            chunks::send(peer, connection, wanted).await;
            id
        });
        let open = Open {
            task,
            barriers: None,
            digests: Inlet::default(),
        };
        self.open.insert(id, open);
        Ok(Reply::Done)
    }

    /// Takes digests, sent under request `id`, to the subscription that compares them; it answers.
    pub(crate) fn digests(
        &mut self,
        id: u64,
        subscription: u64,
        sent: (u32, Vec<Digest>),
    ) -> Result<(), Failure> {
        self.reap();
        let Some(open) = self.open.get(&subscription) else {
            let text = format!("subscription {subscription} is not there on this connection");
            return Err(Failure::new(ErrorKind::NotFound, text));
        };
        open.digests.put(&self.peer, id, sent)
    }

    /// Begins to send the log to a follower.
    pub(crate) fn replicate(&mut self, wanted: replicate::Wanted) -> Result<Reply, Failure> {
        let id = wanted.id;
        self.check_free(id)?;
        let (peer, connection) = (Arc::clone(&self.peer), self.connection.clone());
        let task = self.tasks.spawn(async move {
            replicate::send(peer, connection, wanted).await;
            id
        });
        let open = Open {
            task,
            barriers: None,
            digests: Inlet::default(),
        };
        self.open.insert(id, open);
        Ok(Reply::Done)
    }

    /// The connection that the streams are on.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Where barriers of each subscription go.
    pub(crate) fn barriers(&self) -> Vec<Barriers> {
        let open = self.open.values();
        open.filter_map(|open| open.barriers.clone()).collect()
    }

    /// Passes something on to the source of this copy, after all that was passed on before.
    pub(crate) async fn forward(&mut self, upstream: &Arc<Upstream>, forward: Forward) {
        let peer = &self.peer;
        let relay = self
            .relay
            .get_or_insert_with(|| relay::start(Arc::clone(peer), Arc::clone(upstream)));
        // Refused only when it has ended, and then the connection is closed.
        let _ = relay.send(forward).await;
    }

    /// Ends a stream. One that has ended by itself is no mistake of the client's.
    pub(crate) fn unsubscribe(&mut self, id: u64) -> Result<Reply, Failure> {
        if let Some(open) = self.open.remove(&id) {
            open.task.abort();
        }
        Ok(Reply::Done)
    }

    /// Sends a barrier through every subscription.
    pub(crate) fn barrier(&mut self, id: u64, position: Position) {
        for open in self.open.values() {
            let Some(barriers) = &open.barriers else {
                continue;
            };
            barriers.put(Barrier { id, position });
        }
    }

    /// Forgets the streams that have ended.
    pub(crate) fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            // One that was aborted left the table when it was.
            if let Ok(id) = ended {
                self.open.remove(&id);
            }
        }
    }

    fn check_free(&mut self, id: u64) -> Result<(), Failure> {
        self.reap();
        if self.open.contains_key(&id) {
            let message = format!("subscription {id} is in use on this connection");
            return Err(Failure::new(ErrorKind::Invalid, message));
        }
        if self.open.len() >= SUBSCRIPTIONS_MAX {
            let message =
                format!("connection has {SUBSCRIPTIONS_MAX} subscriptions; that is the limit");
            return Err(Failure::new(ErrorKind::Full, message));
        }
        Ok(())
    }
}
