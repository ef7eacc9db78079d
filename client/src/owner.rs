//! The owner's side of a handle: its calls go to the store of this process.

use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::dictionary::DictionaryId;
use objsync_proto::effect::Change;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Durability, NamespaceId, Origin, PeerKey, Position, Revision};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::{OwnerStatus, Reply, Request};
use objsync_server::Unlocks;
use objsync_store::{
    Answer, ChunkPins, Keeper, Reader, Stamp, Store, StoreError, Stored, Submission,
    SubmissionOrigin,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::core::{Asker, Command, FeedKind};
use crate::error::{ObjectError, Result};
use crate::large::{LargeValue, store_first, stored_of};
use crate::owned::{Owned, OwnedUse};
use crate::packing::Packer;
use crate::pending::Answered;

/// What a handle needs of the store that its process owns.
pub(crate) struct OwnerSide {
    owned: OwnedUse,
    namespace: NamespaceId,
    durability: Option<Durability>,
    runtime: Handle,
    /// Leases of presence that last as long as this handle does.
    keeper: Arc<Keeper>,
    unlocks: Arc<Unlocks>,
    packer: Arc<Packer>,
}

impl OwnerSide {
    /// Finds the dictionary, or makes it. Blocks on the disk.
    pub(crate) fn new(owned: OwnedUse, config: &Config, runtime: Handle) -> Result<Self> {
        let name = &config.options.namespace;
        let namespace = match owned.store.namespace(name)? {
            Some(namespace) => namespace,
            None => {
                let store = &owned.store;
                // What is put into chunks stays until the first content names it.
                let pins = store.chunks().pins();
                let content = first_content(config, Some((store, &pins)))?;
                store.create_namespace(name, content)?.0
            }
        };
        let durability = config.options.durability;
        Ok(Self {
            keeper: Arc::new(owned.store.keeper()),
            unlocks: Arc::new(Unlocks::of(&owned.store)),
            packer: Arc::clone(&config.packer),
            owned,
            namespace,
            durability,
            runtime,
        })
    }

    /// The store and who serves it.
    pub(crate) fn owned(&self) -> &OwnedUse {
        &self.owned
    }

    /// Ends the presence of this handle: that of others on the same store goes on.
    pub(crate) fn end_presence(&self) {
        self.keeper.end();
    }

    /// The store.
    pub(crate) fn store(&self) -> &Store {
        &self.owned.store
    }

    /// The dictionary's number.
    pub(crate) fn namespace(&self) -> NamespaceId {
        self.namespace
    }

    /// The payload of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        match self.store().get(self.namespace, key)? {
            Some(stored) => self.open(key, stored).map(Some),
            None => Ok(None),
        }
    }

    fn open(&self, key: &[u8], stored: Stored) -> Result<Bytes> {
        self.packer.open(key, stored.revision, stored.value)
    }

    /// As [`OwnerSide::get`], with the revision that wrote it.
    pub(crate) fn entry(&self, key: &[u8]) -> Result<Option<(Bytes, Option<Revision>)>> {
        match self.store().get(self.namespace, key)? {
            Some(stored) => {
                let revision = stored.revision;
                Ok(Some((self.open(key, stored)?, Some(revision))))
            }
            None => Ok(None),
        }
    }

    /// A reader of this moment.
    pub(crate) fn reader(&self) -> Reader {
        self.store().reader()
    }

    /// How far the store is.
    pub(crate) fn position(&self) -> Position {
        self.store().position()
    }

    pub(crate) fn stamp(&self, key: &[u8]) -> Stamp {
        self.store().stamp(self.namespace, key)
    }

    pub(crate) fn is_current(&self, stamp: Stamp) -> bool {
        self.store().is_current(stamp)
    }

    /// Decides a write in this thread.
    pub(crate) fn execute(&self, operation: Operation) -> Answered {
        let result = self.store().execute(self.submission(operation, None));
        keep_granted(&self.keeper, self.namespace, &result);
        answered(result)
    }

    /// Decides a write on the store's thread, after those submitted before.
    pub(crate) fn submit(
        &self,
        operation: Operation,
        origin: Option<SubmissionOrigin>,
        answer: oneshot::Sender<Answered>,
    ) {
        let submission = self.submission(operation, origin);
        let (keeper, namespace) = (Arc::clone(&self.keeper), self.namespace);
        let done = move |result| {
            keep_granted(&keeper, namespace, &result);
            drop(answer.send(answered(result)));
        };
        self.store().submit(submission, Box::new(done));
    }

    /// Answers what a peer would ask over the wire.
    pub(crate) fn request(&self, request: Request, reply: oneshot::Sender<Result<Reply>>) {
        let (owned, namespace) = (Arc::clone(&*self.owned), self.namespace);
        match request {
            Request::AwaitLock { name, timeout_ms } => {
                let unlocks = Arc::clone(&self.unlocks);
                self.runtime.spawn(async move {
                    let lock = (namespace, &name);
                    let waited = unlocks.wait(&owned.store, lock, timeout_ms).await;
                    let waited = waited.map(|fence| Reply::Lock { fence });
                    let _ = reply.send(waited.map_err(ObjectError::from));
                });
            }
            request => {
                let keeper = Arc::clone(&self.keeper);
                self.runtime.spawn_blocking(move || {
                    let answer = answer_request((&owned, &keeper), namespace, request);
                    let _ = reply.send(answer);
                });
            }
        }
    }

    /// Takes over what waited for an owner while this process became it.
    pub(crate) fn take(&self, command: Command) {
        match command {
            Command::Write {
                operation,
                answer: Asker::Caller(answer),
                ..
            } => self.submit(operation, None, answer),
            // A handle with a queue on disk never becomes the owner.
            Command::Write {
                answer: Asker::Queue(_) | Asker::Nobody,
                ..
            }
            | Command::Numbered { .. }
            | Command::Withdrawn(_)
            | Command::Finished(_) => {}
            Command::Request { request, reply, .. } => self.request(request, reply),
            Command::Upload(upload) => {
                let text = "this process has become the owner: store the chunks here";
                let _ = upload
                    .sent
                    .send(Err(ObjectError::new(ErrorKind::Unavailable, text)));
            }
            Command::Feed { wanted, sink } => {
                // Who reads a stream begins anew at the store when this one ends.
                let again = match &wanted.what {
                    FeedKind::Entries { .. } | FeedKind::Chunks(_) => "read again",
                    FeedKind::Changes(_) => "follow the store",
                };
                let text = format!("this process has become the owner: {again}");
                drop(sink.try_send(Err(ObjectError::new(ErrorKind::Unavailable, text))));
            }
        }
    }

    fn submission(&self, operation: Operation, origin: Option<SubmissionOrigin>) -> Submission {
        Submission {
            namespace: self.namespace,
            operation,
            origin,
            durability: self.durability,
        }
    }
}

/// What a dictionary that does not exist yet is to hold, packed: large values go into chunks of the
/// store, if it is one of this process. An owner that is asked over the wire to make the dictionary
/// takes no chunks for it before, so there they stay in one piece.
pub(crate) fn first_content(
    config: &Config,
    store: Option<(&Store, &ChunkPins)>,
) -> Result<Vec<Change>> {
    let content = config.options.content.iter().flatten();
    content
        .map(|change| match &change.value {
            Some(value) => Ok(Change {
                key: change.key.clone(),
                value: Some(first_value(config, store, value)?),
            }),
            None => {
                let text = "the first content of a dictionary has a key without a value";
                Err(ObjectError::new(ErrorKind::Invalid, text))
            }
        })
        .collect()
}

fn first_value(
    config: &Config,
    store: Option<(&Store, &ChunkPins)>,
    payload: &Bytes,
) -> Result<Bytes> {
    if LargeValue::is_reference(payload) {
        return stored_of(payload);
    }
    if let Some(store) = store
        && let Some(stored) = store_first(config, store, payload)?
    {
        return Ok(stored);
    }
    config.packer.seal_first(payload)
}

fn answered(result: Result<Answer, StoreError>) -> Answered {
    let answer = result?;
    Ok((answer.outcome?, answer.ack))
}

/// A lease of presence that this handle was granted ends with it.
fn keep_granted(
    keeper: &Keeper,
    namespace: NamespaceId,
    result: &std::result::Result<Answer, StoreError>,
) {
    if let Ok(Answer {
        outcome: Ok(Outcome::Lease(lease)),
        ..
    }) = result
    {
        // A repeat can tell of one that has ended since; then there is nothing to keep.
        let _ = keeper.keep(namespace, *lease);
    }
}

fn answer_request(
    (owned, keeper): (&Owned, &Keeper),
    namespace: NamespaceId,
    request: Request,
) -> Result<Reply> {
    let store = &owned.store;
    Ok(match request {
        Request::Get { key } => {
            let entry = store.get(namespace, &key)?;
            let as_of = store.position().revision;
            Reply::Entry {
                entry: entry.map(|stored| (stored.value, stored.revision)),
                as_of,
            }
        }
        Request::Count => {
            let as_of = store.position().revision;
            Reply::Count {
                count: store.count(namespace)?,
                as_of,
            }
        }
        Request::Barrier => Reply::Position(store.position()),
        Request::Flush { revision } => Reply::Position(store.flush(revision)?),
        Request::Status => Reply::Status(status(owned, namespace)?),
        Request::Grant(grant) => {
            owned.grant(grant)?;
            Reply::Done
        }
        Request::Grants => Reply::Grants(store.grants()),
        Request::Revoke { peer } => revoke(owned, peer)?,
        Request::At { revision } => Reply::Position(store.at(revision)?.position()),
        Request::GetAt { key, revision } => {
            let stored = store.at(revision)?.get(namespace, &key)?;
            Reply::Entry {
                entry: stored.map(|stored| (stored.value, stored.revision)),
                as_of: revision,
            }
        }
        Request::CountAt { revision } => Reply::Count {
            count: store.at(revision)?.count(namespace)?,
            as_of: revision,
        },
        Request::History {
            key,
            before,
            count_max,
        } => {
            let page = store.history(namespace, &key, before, count_max)?;
            let (versions, before) = (page.versions, page.before);
            Reply::History { versions, before }
        }
        Request::KeepLease { lease } => Reply::Lease(keeper.keep(namespace, lease)?),
        Request::Outcome { session, sequence } => {
            let asked = Origin { session, sequence };
            let key = owned.key().ok_or_else(|| {
                ObjectError::new(ErrorKind::Closed, "the store is not served any more")
            })?;
            let answer = store.outcome(asked, key)?;
            Reply::Outcome(answer.map(|answer| answer.outcome.map(|done| (done, answer.ack))))
        }
        Request::Dictionary { id } => Reply::Entry {
            entry: (store.dictionary_entry(namespace, id.map(DictionaryId))?)
                .map(|stored| (stored.value, stored.revision)),
            as_of: store.position().revision,
        },
        Request::Following => Reply::Following(None),
        Request::CreateNamespace { .. }
        | Request::OnBehalf { .. }
        | Request::Replicate { .. }
        | Request::Subscribe { .. }
        | Request::Follow { .. }
        | Request::Digests { .. }
        | Request::TakePatches { .. }
        | Request::Unsubscribe { .. }
        | Request::Fetch { .. }
        | Request::FetchAt { .. }
        | Request::AwaitLock { .. }
        | Request::MissingChunks { .. }
        | Request::EndUpload { .. }
        | Request::FetchChunks { .. }
        | Request::Unknown { .. } => {
            let text = "this request is for a connection, and this process owns the store";
            return Err(ObjectError::new(ErrorKind::Invalid, text));
        }
    })
}

fn revoke(owned: &Owned, peer: PeerKey) -> Result<Reply> {
    match owned.revoke(peer)? {
        true => Ok(Reply::Done),
        false => {
            let text = format!("no link has key {peer}");
            Err(ObjectError::new(ErrorKind::NotFound, text))
        }
    }
}

fn status(owned: &Owned, namespace: NamespaceId) -> Result<OwnerStatus> {
    let mut status = owned
        .status()
        .ok_or_else(|| ObjectError::new(ErrorKind::Closed, "the store is not served any more"))?;
    status.keys = owned.store.count(namespace)?;
    Ok(status)
}
