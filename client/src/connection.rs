//! One connection to an owner: the operations stream, and the streams of the feed.
//!
//! Trail of a write: [`crate::core::Core::submit`] queues it -> [`drive`] takes it into
//! `proto::session`, which numbers it -> frames of all that is queued leave in one piece -> the
//! owner's answer comes back to [`Connection::receive`] -> the caller's channel.
//!
//! Everything runs on the I/O thread and nothing here blocks it. Each feed stream has a task of
//! its own, which ends with the connection.
//!
//! Cancel safety: [`drive`] is never dropped half way but with its runtime. Its waits keep what
//! they did not return: partial frames in `input`, unsent bytes in `output`.

mod feed_task;
mod greet;
mod joining;
mod local;
mod upload;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::limits::FRAME_BYTES_MAX;
use objsync_proto::replica::DigestCursor;
use objsync_proto::wire::codec;
use objsync_proto::wire::{Reply, Request, ToOwner, ToPeer, Welcome};
use objsync_server::closing;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::feed_task::FeedTask;
use self::greet::greet;
pub(crate) use self::local::end_of_file;
use crate::calls::Calls;
use crate::core::{Core, FeedKind, FeedSink, FeedWanted, Phase};
use crate::error::{ObjectError, Result};

/// Bytes that wait to be sent before no more frames are made.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Bytes taken from a stream at once.
const READ_BYTES: usize = 256 << 10;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long an owner may take to welcome us.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a handle that closes waits for its last answers.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the handshake with an owner's endpoint gives.
pub(crate) struct Link {
    /// The QUIC connection.
    pub(crate) quic: quinn::Connection,
    /// The end of file of this one tells that the owner is gone.
    pub(crate) local: Option<UnixStream>,
    /// Where the owner listens.
    pub(crate) address: SocketAddr,
    /// Its process, if it is on this machine.
    pub(crate) pid: Option<u32>,
}

/// How a connection ended.
pub(crate) enum End {
    /// The owner is gone, or the way to it: find one again.
    Lost(String),
    /// The handle was closed, and all it had to say was said.
    Closed,
    /// Finding an owner again would not help.
    Failed(ObjectError),
}

type Feeds = Arc<Mutex<HashMap<u64, (FeedSink, FeedWanted)>>>;

struct Connection<'a> {
    core: &'a Arc<Core>,
    calls: &'a mut Calls,
    quic: quinn::Connection,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    input: BytesMut,
    output: BytesMut,
    welcome: Welcome,
    feeds: Feeds,
    feed_count: u64,
    /// The subscription that the replica follows.
    main: Option<u64>,
    /// Requests of the connection itself for a stream, and which.
    asked: HashMap<u64, u64>,
    comparing: Comparing,
    tasks: JoinSet<()>,
    /// What feed streams tell the connection.
    told: mpsc::UnboundedSender<Told>,
}

/// The replica's part in a comparison with the owner.
#[derive(Default)]
struct Comparing {
    /// Which digests were sent; none when nothing is compared.
    cursor: Option<DigestCursor>,
    /// The request with the last ones, while it is not answered: no more are sent before.
    asked: Option<u64>,
}

enum Told {
    /// The owner waits for digests of what the replica holds.
    Compared,
    /// The replica's stream brought a part of a value that it could not apply.
    Unpatched,
    /// The replica's stream has failed.
    Broken(ObjectError),
    /// A stream has ended by itself.
    Ended(u64),
}

/// Lets a handle use an owner until one of them ends.
pub(crate) async fn drive(core: &Arc<Core>, calls: &mut Calls, link: Link) -> End {
    let Link {
        quic,
        mut local,
        address,
        pid,
    } = link;
    let greeted = tokio::time::timeout(WELCOME_TIMEOUT, greet(core, calls, &quic)).await;
    let (send, receive, input, welcome) = match greeted {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(error)) => {
            // A stream that breaks says less than the owner did when it closed the connection.
            let said = quic.close_reason().as_ref().and_then(closing::failure);
            return ended_by(core, said.map_or(error, ObjectError::from));
        }
        Err(_) => return End::Lost(format!("{address} accepts connections but does not answer")),
    };
    if let Some(offline) = &core.offline {
        match offline.open(welcome.position.store).await {
            Ok(resume) => {
                if calls.resume(core, resume) {
                    return End::Lost(String::from("the queue goes on in a session of its own"));
                }
            }
            Err(error) => return End::Failed(error),
        }
    }
    let (told, mut heard) = mpsc::unbounded_channel();
    let mut connection = Connection {
        core,
        calls,
        quic: quic.clone(),
        send,
        receive,
        input,
        output: BytesMut::new(),
        welcome,
        feeds: Feeds::default(),
        feed_count: 0,
        main: None,
        asked: HashMap::new(),
        comparing: Comparing::default(),
        tasks: JoinSet::new(),
        told,
    };
    connection
        .calls
        .session
        .connected(connection.welcome.session_known);
    connection.calls.may_write = connection.welcome.may_write;
    // What was lost with its session is told now: no message may ever come to tell it with.
    connection.calls.deliver(core);
    connection.core.note_session(connection.calls.session.id());
    connection.join();
    core.large.connected();
    core.enter(Phase::Peer { address, pid });
    let end = connection.run(&mut local, &mut heard).await;
    connection.calls.disconnected(&core.replica);
    drop(connection);
    core.replica.disconnected();
    quic.close(0_u32.into(), b"");
    end
}

impl Connection<'_> {
    async fn run(
        &mut self,
        local: &mut Option<UnixStream>,
        heard: &mut mpsc::UnboundedReceiver<Told>,
    ) -> End {
        let mut tick = std::pin::pin!(tokio::time::sleep(TICK));
        let mut closing_since = None;
        let core = Arc::clone(self.core);
        let quic = self.quic.clone();
        loop {
            self.fill();
            if core.is_closing() && self.is_done(&mut closing_since) {
                self.say_goodbye().await;
                return End::Closed;
            }
            let has_output = !self.output.is_empty();
            // A handle that waits for nothing sleeps until something happens.
            let has_deadlines = !self.calls.is_settled() || core.is_closing();
            tokio::select! {
                biased;
                written = self.send.write(&self.output), if has_output => match written {
                    Ok(bytes) => self.output.advance(bytes),
                    Err(error) => return self.stopped(&error),
                },
                chunk = self.receive.read_chunk(READ_BYTES, true) => match chunk {
                    Ok(Some(chunk)) => {
                        self.input.extend_from_slice(&chunk.bytes);
                        if let Err(end) = self.receive() {
                            return end;
                        }
                    }
                    Ok(None) => return End::Lost("the owner ended the connection".into()),
                    Err(error) => return self.stopped(&error),
                },
                () = core.queued() => {}
                stream = quic.accept_uni() => match stream {
                    Ok(stream) => self.accept(stream),
                    Err(error) => return self.stopped(&error),
                },
                Some(told) = heard.recv() => if let Err(end) = self.hear(told) {
                    return end;
                },
                () = end_of_file(local) => return End::Lost("the owner is gone".into()),
                () = &mut tick, if has_deadlines => {
                    self.calls.expire(&core, Instant::now());
                    tick.as_mut().reset(Instant::now() + TICK);
                }
            }
        }
    }

    /// Turns what callers have queued into frames.
    fn fill(&mut self) {
        self.calls.take_queued(self.core);
        while let Some((wanted, sink)) = self.calls.feeds.pop_front() {
            self.open_feed(wanted, sink);
        }
        while let Some(upload) = self.calls.uploads.pop_front() {
            let sending = upload::send(Arc::clone(self.core), self.quic.clone(), upload);
            self.tasks.spawn(sending);
        }
        if self.output.len() < OUTPUT_BYTES_MAX {
            self.calls
                .transmit(&self.core.replica, &mut self.output, OUTPUT_BYTES_MAX);
        }
    }

    /// Takes the messages that have arrived.
    fn receive(&mut self) -> Result<(), End> {
        loop {
            let decoded = codec::decode::<ToPeer>(&mut self.input, FRAME_BYTES_MAX);
            let message = match decoded {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => return Err(End::Failed(error.failure().into())),
            };
            match message {
                ToPeer::Answer(sequence, result) => self.calls.session.answered(sequence, result),
                ToPeer::Opened(id) => {
                    self.calls.opened(id);
                    self.core.note_session(Some(id));
                }
                ToPeer::Reply(number, reply) => {
                    let reply = read_reply(reply);
                    if self.comparing.asked == Some(number) {
                        self.comparing.asked = None;
                        reply.map_err(|error| ended_by(self.core, error))?;
                        self.send_digests();
                        continue;
                    }
                    match self.asked.remove(&number) {
                        Some(subscription) => self.stream_answered(subscription, reply)?,
                        None => self.calls.replied(self.core, number, reply),
                    }
                }
                ToPeer::Goodbye(failure) => return Err(self.sent_away(failure)),
                ToPeer::Welcome(_) => return Err(End::Failed(out_of_turn())),
            }
        }
        self.calls.deliver(self.core);
        Ok(())
    }

    /// The owner ends the connection. Where that is about a write only, the handle goes on: its
    /// reads need no session, and the next write may fare better.
    fn sent_away(&mut self, failure: Failure) -> End {
        if self.calls.refused(self.core, &failure) {
            return End::Lost(failure.to_string());
        }
        ended_by(self.core, failure.into())
    }

    /// Sends the next digests of what the replica holds, once those before were compared.
    fn send_digests(&mut self) {
        let (Some(subscription), None) = (self.main, self.comparing.asked) else {
            return;
        };
        let Some(cursor) = &mut self.comparing.cursor else {
            return;
        };
        let (round, digests) = (cursor.round(), self.core.replica.digests(cursor));
        let Some(digests) = digests else {
            self.comparing.cursor = None;
            return;
        };
        let number = self.calls.request_number();
        self.comparing.asked = Some(number);
        let request = Request::Digests {
            subscription,
            round,
            digests,
        };
        codec::encode(&ToOwner::Request(number, request), &mut self.output);
    }

    /// Asks for something whose answer comes as a stream.
    fn ask(&mut self, subscription: u64, request: Request) {
        let number = self.calls.request_number();
        self.asked.insert(number, subscription);
        codec::encode(&ToOwner::Request(number, request), &mut self.output);
    }

    /// The owner said whether it sends a stream.
    fn stream_answered(&mut self, subscription: u64, reply: Result<Reply>) -> Result<(), End> {
        let Err(error) = reply else { return Ok(()) };
        if Some(subscription) == self.main {
            return Err(ended_by(self.core, error));
        }
        if let Some((sink, _)) = lock(&self.feeds).remove(&subscription) {
            // A sink that is full has what its reader needs to go on.
            let _ = sink.try_send(Err(error));
        }
        Ok(())
    }

    fn open_feed(&mut self, wanted: FeedWanted, sink: FeedSink) {
        self.feed_count += 1;
        let subscription = self.feed_count;
        let request = wanted.request(subscription);
        lock(&self.feeds).insert(subscription, (sink, wanted));
        self.ask(subscription, request);
    }

    fn accept(&mut self, stream: quinn::RecvStream) {
        let task = FeedTask {
            core: Arc::clone(self.core),
            feeds: Arc::clone(&self.feeds),
            told: self.told.clone(),
            main: self.main,
            welcomed: self.welcome.position,
            input: BytesMut::new(),
            is_chunks: false,
            stream,
        };
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(task.run());
    }

    fn hear(&mut self, told: Told) -> Result<(), End> {
        match told {
            Told::Broken(error) => Err(ended_by(self.core, error)),
            Told::Unpatched => {
                self.join_again();
                Ok(())
            }
            Told::Compared => {
                self.comparing.cursor = self.core.replica.comparison();
                self.send_digests();
                Ok(())
            }
            Told::Ended(subscription) => {
                let was_open = lock(&self.feeds).remove(&subscription);
                if was_open.is_some_and(|(_, wanted)| matches!(wanted.what, FeedKind::Changes(_))) {
                    self.ask(subscription, Request::Unsubscribe { subscription });
                }
                Ok(())
            }
        }
    }

    /// Whether a handle that closes has nothing more to wait for.
    fn is_done(&self, since: &mut Option<Instant>) -> bool {
        let since = since.get_or_insert_with(Instant::now);
        // Its queue has a moment to note the last answers, so that the session can end.
        let is_done = self.calls.is_settled() && !self.calls.session.has_unfinished();
        is_done || since.elapsed() > CLOSE_TIMEOUT
    }

    /// Ends the session, so that the owner can forget it.
    async fn say_goodbye(&mut self) {
        if self.calls.has_queued() {
            // Whoever opens the queue next goes on in this session.
            return;
        }
        self.calls.session.close();
        self.calls.deliver(self.core);
        self.calls
            .session
            .transmit(&mut self.output, OUTPUT_BYTES_MAX);
        let said = async {
            self.send.write_all(&self.output).await.ok()?;
            self.send.finish().ok()?;
            self.send.stopped().await.ok()
        };
        let _ = tokio::time::timeout(Duration::from_millis(200), said).await;
    }

    fn stopped(&mut self, error: &dyn std::error::Error) -> End {
        match self.quic.close_reason() {
            Some(reason) => match closing::failure(&reason) {
                Some(failure) => self.sent_away(failure),
                None => End::Lost(reason.to_string()),
            },
            None => End::Lost(error.to_string()),
        }
    }
}

/// A reply, or why there is none: one of the reasons is a reply itself, for its numbers.
fn read_reply(reply: Result<Reply, Failure>) -> Result<Reply> {
    match reply? {
        Reply::PastRetention { revision, oldest } => {
            Err(ObjectError::PastRetention { revision, oldest })
        }
        reply => Ok(reply),
    }
}

/// What to do after an error that ended a connection.
fn ended_by(core: &Core, error: ObjectError) -> End {
    match error.kind() {
        // The owner closes, or is overtaken: there is or will be another one.
        ErrorKind::Closed | ErrorKind::Unavailable => {
            tracing::debug!(what = %core.config.what, %error, "connection ended");
            End::Lost(error.to_string())
        }
        _ => End::Failed(error),
    }
}

fn lost(error: &dyn std::fmt::Display) -> ObjectError {
    ObjectError::new(ErrorKind::Unavailable, error.to_string())
}

fn out_of_turn() -> ObjectError {
    ObjectError::new(
        ErrorKind::Unsupported,
        "the owner sent a message out of turn",
    )
}

fn lock(feeds: &Feeds) -> std::sync::MutexGuard<'_, HashMap<u64, (FeedSink, FeedWanted)>> {
    feeds.lock().unwrap_or_else(PoisonError::into_inner)
}
