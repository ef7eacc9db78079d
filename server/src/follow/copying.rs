//! One connection to the source: the log as it comes, and how it gets into the copy.
//!
//! Frames that arrive together are appended together, with one sync. When dropped half way, what
//! was given to the store is appended all the same; the next connection goes on after it.

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::PeerKey;
use objsync_proto::wire::codec;
use objsync_proto::wire::{Feed, InstallStart, LogFrame, Request, ToOwner, ToPeer};
use objsync_store::frame::FRAME_BODY_BYTES_MAX;
use objsync_store::{
    ChunkSink, Shipped, Stage, Store, StoreError, StoreOptions, discard_partial, partial_snapshot,
};
use quinn::{Connection, SendStream};
use std::collections::HashMap;
use tokio::sync::{mpsc, watch};

use super::Upstream;
use super::chunks::Fetching;
use super::hail::{Hail, Inbox, lost, nonsense};
use super::upstream::Asked;
use crate::session::stopped;

/// Bytes of frames that are appended at once, or one larger frame.
const APPEND_BYTES: usize = 4 << 20;
/// What a frame counts for beside its body: more than it takes in memory.
const FRAME_COST_BYTES: usize = 256;
/// The number of the stream on its connection.
const STREAM: u64 = 1;
/// The namespace that a follower names, because a hello names one.
const NAMESPACE: &str = "default";

/// Why a connection has ended.
pub(super) enum End {
    /// The copy is to be opened anew: what replaces it is there.
    Installed,
    /// The source is away, or at fault.
    Lost(Failure),
    /// The copy cannot take what was sent.
    Broken(StoreError),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Lost(failure)
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(failure) => Self::Lost(failure),
            other => Self::Broken(other),
        }
    }
}

/// What is told of keys whose grants have changed.
pub(super) type GrantsChanged = Arc<dyn Fn(&[PeerKey]) + Send + Sync>;

/// The copy, and its source.
#[derive(Clone)]
pub(super) struct Copying {
    pub(super) upstream: Arc<Upstream>,
    pub(super) directory: PathBuf,
    pub(super) options: StoreOptions,
    /// None while nothing is there yet.
    pub(super) store: Option<Store>,
    /// Told of keys whose grants have changed.
    pub(super) grants_changed: GrantsChanged,
    /// Set once the copy has all that its source had at some moment.
    pub(super) caught_up: Arc<watch::Sender<bool>>,
}

impl Copying {
    /// Follows the source until the connection ends.
    pub(super) async fn run(self) -> End {
        let end = match self.connect().await {
            Ok(hail) => self.follow(hail).await,
            Err(failure) => End::Lost(failure),
        };
        let why = match &end {
            End::Lost(failure) => failure.clone(),
            End::Broken(error) => error.to_failure(),
            End::Installed => Failure::new(ErrorKind::Unavailable, "the copy is being replaced"),
        };
        self.upstream.lost(&why);
        end
    }

    async fn connect(&self) -> Result<Hail, Failure> {
        let connection = self.upstream.dial().await?;
        Hail::new(connection, NAMESPACE, None).await
    }

    async fn follow(&self, hail: Hail) -> End {
        let Hail {
            connection,
            mut send,
            mut inbox,
            ..
        } = hail;
        if let Err(end) = self.ask(&connection, &mut send).await {
            return end;
        }
        let requests = self.upstream.connected();
        let mut output = Output {
            connection: connection.clone(),
            send,
            requests,
            asked: HashMap::new(),
            next: STREAM + 1,
        };
        let end = tokio::select! { biased;
            end = self.receive(&connection) => end,
            failure = output.run(&mut inbox) => End::Lost(failure),
        };
        connection.close(0_u32.into(), b"");
        end
    }

    /// Asks for the log from where the copy stands.
    async fn ask(&self, connection: &Connection, send: &mut SendStream) -> Result<(), End> {
        let this = self.clone();
        let (since, partial) = apart(move || {
            let since = this.store.as_ref().and_then(Store::copy_place);
            Ok((
                since,
                partial_snapshot(&this.directory, &*this.options.disk),
            ))
        })
        .await?;
        let request = Request::Replicate {
            subscription: STREAM,
            since,
            partial,
        };
        let mut out = BytesMut::new();
        codec::encode(&ToOwner::Request(STREAM, request), &mut out);
        let written = send.write_all(&out).await;
        written.map_err(|error| lost(connection, &error).into())
    }

    /// Takes the log as it comes.
    async fn receive(&self, connection: &Connection) -> End {
        match self.try_receive(connection).await {
            Ok(()) => End::Installed,
            Err(end) => end,
        }
    }

    async fn try_receive(&self, connection: &Connection) -> Result<(), End> {
        let stream = connection.accept_uni().await;
        let mut inbox = Inbox::new(stream.map_err(|error| lost(connection, &error))?);
        match inbox.next(connection).await? {
            Feed::Start {
                subscription: STREAM,
            } => {}
            _ => return Err(nonsense("a stream that was not asked for").into()),
        }
        let mut frames = Assembly::default();
        let mut has_partial = true;
        let fetching = Fetching::new(&self.upstream, connection);
        loop {
            let message = match frames.is_full() {
                true => None,
                false => inbox.at_hand().await?,
            };
            let message = match message {
                Some(message) => message,
                None => {
                    self.append(&fetching, frames.take()).await?;
                    inbox.next(connection).await?
                }
            };
            match message {
                Feed::Frames(more) => {
                    self.upstream.joins();
                    frames.add(more)?;
                }
                Feed::Body(part) => frames.go_on(&part)?,
                Feed::Reached { position } => {
                    self.upstream.joins();
                    self.append(&fetching, frames.take()).await?;
                    self.discard_partial(&mut has_partial).await?;
                    if let Some(store) = &self.store {
                        let held = store.position().revision;
                        self.upstream.reached(position.revision, held);
                        if held >= position.revision {
                            self.caught_up.send_replace(true);
                        }
                    }
                }
                Feed::Install(start) => {
                    self.append(&fetching, frames.take()).await?;
                    return self
                        .install((connection, &mut inbox), &fetching, start)
                        .await;
                }
                Feed::Failed(failure) => return Err(failure.into()),
                _ => return Err(nonsense("a message that is not of the log").into()),
            }
        }
    }

    /// Appends frames to the copy.
    async fn append(&self, fetching: &Fetching, frames: Vec<Shipped>) -> Result<(), End> {
        if frames.is_empty() {
            return Ok(());
        }
        let Some(store) = self.store.clone() else {
            return Err(nonsense("frames before there is a copy").into());
        };
        // Kept until the frames that name them are in the log.
        let sink = Arc::new(ChunkSink::of(&store));
        let (ids, mut frames) = apart(move || {
            let named = frames.iter().map(Shipped::chunks);
            let ids: Vec<_> = named.collect::<Result<Vec<_>, _>>()?.concat();
            Ok((ids, frames))
        })
        .await?;
        fetching.complete(&sink, ids).await?;
        while !frames.is_empty() {
            let store = store.clone();
            let applied = apart(move || store.append_shipped(frames)).await?;
            if !applied.grants_changed.is_empty() {
                (self.grants_changed)(&applied.grants_changed);
            }
            frames = applied.rest;
        }
        drop(sink);
        Ok(())
    }

    /// The copy goes on by the log: a part of a snapshot that would replace it has no use.
    async fn discard_partial(&self, has_partial: &mut bool) -> Result<(), End> {
        if !std::mem::replace(has_partial, false) {
            return Ok(());
        }
        let this = self.clone();
        apart(move || discard_partial(&this.directory, &*this.options.disk)).await
    }

    /// Gathers what replaces the copy.
    async fn install(
        &self,
        (connection, inbox): (&Connection, &mut Inbox),
        fetching: &Fetching,
        start: InstallStart,
    ) -> Result<(), End> {
        tracing::info!(
            revision = start.position.revision.0,
            bytes = start.total_bytes,
            from = start.start,
            "the copy is replaced by what its source holds"
        );
        self.upstream.begins_anew();
        let (this, is_open) = (self.clone(), self.store.is_some());
        let begun = apart(move || Stage::begin(&this.directory, &this.options, start, is_open));
        let mut stage = begun.await?;
        while !stage.is_whole() {
            match inbox.next(connection).await? {
                Feed::Piece(piece) => {
                    let written = apart(move || stage.write(&piece).map(|()| stage));
                    stage = written.await?;
                }
                Feed::Failed(failure) => return Err(failure.into()),
                _ => return Err(nonsense("something else than a piece of its snapshot").into()),
            }
        }
        let first = match start.total_bytes {
            0 => Some(first_frame((connection, inbox)).await?),
            _ => None,
        };
        let stage = self.install_chunks(fetching, stage, start).await?;
        apart(move || stage.finish(first.as_ref())).await
    }

    /// Gathers the chunks that the snapshot names.
    async fn install_chunks(
        &self,
        fetching: &Fetching,
        stage: Stage,
        start: InstallStart,
    ) -> Result<Stage, End> {
        let this = self.clone();
        let (sink, stage, missing) = apart(move || {
            let sink = match &this.store {
                Some(store) => ChunkSink::of(store),
                None => ChunkSink::beside(&this.directory, &this.options, start.position.store)?,
            };
            let missing = stage.missing_chunks(&sink)?;
            Ok((sink, stage, missing))
        })
        .await?;
        let sink = Arc::new(sink);
        fetching.complete(&sink, missing).await?;
        let sink = Arc::into_inner(sink).ok_or_else(stopped)?;
        apart(move || sink.settle()).await?;
        Ok(stage)
    }
}

/// The first frame of the log, for a copy that begins with it.
async fn first_frame((connection, inbox): (&Connection, &mut Inbox)) -> Result<Shipped, End> {
    let mut frames = Assembly::default();
    loop {
        match inbox.next(connection).await? {
            Feed::Frames(more) => frames.add(more)?,
            Feed::Body(part) => frames.go_on(&part)?,
            Feed::Reached { .. } => {}
            Feed::Failed(failure) => return Err(failure.into()),
            _ => return Err(nonsense("something else than the first frame").into()),
        }
        if let Some(first) = frames.take().into_iter().next() {
            return Ok(first);
        }
    }
}

/// Runs what may wait for the disk on another thread.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, End> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(End::from),
        Err(_) => Err(End::Lost(stopped())),
    }
}

/// Frames on their way, of which the last one may lack a part.
#[derive(Default)]
struct Assembly {
    whole: Vec<Shipped>,
    bytes: usize,
    part: Option<(LogFrame, BytesMut)>,
}

impl Assembly {
    fn add(&mut self, frames: Vec<LogFrame>) -> Result<(), End> {
        for mut frame in frames {
            if self.part.is_some() {
                return Err(nonsense("a frame in the middle of another").into());
            }
            let body = std::mem::take(&mut frame.body);
            let total = frame.body_bytes as usize;
            if total > FRAME_BODY_BYTES_MAX || body.len() > total {
                let text = format!("a frame of {total} bytes; the limit is {FRAME_BODY_BYTES_MAX}");
                return Err(nonsense(&text).into());
            }
            if body.len() == total {
                self.put(&frame, body)?;
            } else {
                // Memory for the rest is taken as it comes.
                self.part = Some((frame, BytesMut::from(&body[..])));
            }
        }
        Ok(())
    }

    fn go_on(&mut self, more: &Bytes) -> Result<(), End> {
        let Some((frame, mut body)) = self.part.take() else {
            return Err(nonsense("a part of no frame").into());
        };
        let total = frame.body_bytes as usize;
        if more.is_empty() || body.len() + more.len() > total {
            return Err(nonsense("more of a frame than it said there is").into());
        }
        body.extend_from_slice(more);
        match body.len() == total {
            true => self.put(&frame, body.freeze()),
            false => {
                self.part = Some((frame, body));
                Ok(())
            }
        }
    }

    fn put(&mut self, head: &LogFrame, body: Bytes) -> Result<(), End> {
        self.bytes += body.len() + FRAME_COST_BYTES;
        self.whole.push(Shipped::new(head, body)?);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.bytes >= APPEND_BYTES
    }

    /// The frames that are whole.
    fn take(&mut self) -> Vec<Shipped> {
        self.bytes = 0;
        std::mem::take(&mut self.whole)
    }
}

/// Requests to the source, and its replies.
struct Output {
    connection: Connection,
    send: SendStream,
    requests: mpsc::Receiver<Asked>,
    asked: HashMap<u64, tokio::sync::oneshot::Sender<Result<objsync_proto::wire::Reply, Failure>>>,
    next: u64,
}

impl Output {
    /// Until the connection ends, for this reason.
    async fn run(&mut self, inbox: &mut Inbox) -> Failure {
        loop {
            let done = tokio::select! { biased;
                message = inbox.next(&self.connection) => message.and_then(|message| self.hear(message)),
                asked = self.requests.recv() => match asked {
                    Some(asked) => self.ask(asked).await,
                    None => pending().await,
                },
            };
            if let Err(failure) = done {
                return failure;
            }
        }
    }

    fn hear(&mut self, message: ToPeer) -> Result<(), Failure> {
        match message {
            ToPeer::Reply(STREAM, reply) => reply.map(drop),
            ToPeer::Reply(id, reply) => {
                if let Some(waiting) = self.asked.remove(&id) {
                    // Whoever asked may have given up.
                    let _ = waiting.send(reply);
                }
                Ok(())
            }
            ToPeer::Goodbye(failure) => Err(failure),
            _ => Err(nonsense("something else than a reply")),
        }
    }

    async fn ask(&mut self, (request, reply): Asked) -> Result<(), Failure> {
        let id = self.next;
        self.next += 1;
        self.asked.retain(|_, waiting| !waiting.is_closed());
        self.asked.insert(id, reply);
        let mut out = BytesMut::new();
        codec::encode(&ToOwner::Request(id, request), &mut out);
        let written = self.send.write_all(&out).await;
        written.map_err(|error| lost(&self.connection, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_without_a_body_fill_a_batch_too() {
        let frame = |index: u64| LogFrame {
            kind: 1,
            skippable: false,
            index: objsync_proto::ids::FrameIndex(index),
            epoch: 1,
            first: objsync_proto::ids::Revision(1),
            count: 0,
            time_ms: 0,
            body_bytes: 0,
            body_crc: 0,
            body: Bytes::new(),
        };
        let mut frames = Assembly::default();
        let count_max = APPEND_BYTES / FRAME_COST_BYTES;
        for index in 0..count_max as u64 {
            assert!(!frames.is_full(), "{index} frames");
            assert!(frames.add(vec![frame(index)]).is_ok());
        }
        assert!(frames.is_full());
        assert_eq!(frames.take().len(), count_max);
        assert!(!frames.is_full());
    }
}
