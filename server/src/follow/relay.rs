//! The writes of one client of a copy: passed on to the source over a connection of their own.
//!
//! The source binds the client's session to the client's own key, and so answers a repeat with the
//! first answer, whichever way it comes. What was passed on and not answered is kept here, and sent
//! again when the connection breaks, under the same numbers.
//!
//! While the source is away nothing is answered that it may have heard: its client gives up by its
//! own timeout, and knows that the outcome is unknown. A write that it surely did not hear is
//! answered as not done.
//!
//! Memory: what waits, and answers that wait for the copy, are bounded by the client's window
//! (`limits::SESSION_BYTES_MAX`) and by that of all clients together, whose places they hold until
//! the client is answered.

mod uploads;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::SessionId;
use objsync_proto::limits::{REQUESTS_IN_FLIGHT_MAX, SESSION_RESULTS_MAX};
use objsync_proto::wire::codec;
use objsync_proto::wire::{Reply, Request, ToOwner, ToPeer, Write};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Upstream;
use super::found::{Found, found, taken_back};
use super::hail::{Hail, away, lost, nonsense};
use crate::commits::CommitsSeen;
use crate::peer::{Peer, Session};
use crate::write::{self, Place};

/// Frames that wait to be taken up.
const INBOX_COUNT: usize = 64;
/// Most things that wait for an answer of the source: all the writes of a session, and a few more.
const WAITING_COUNT_MAX: usize = SESSION_RESULTS_MAX + REQUESTS_IN_FLIGHT_MAX;
/// Bytes that wait to be sent before no more frames are made.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// How long the source may take to take a client up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the source may be away before what it did not hear is answered so: well before its
/// client gives up (`limits::CALL_TIMEOUT_MS`), and long enough for it to be restarted.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the last words to the source may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What is passed on.
pub(crate) enum Forward {
    /// Open a session.
    Open,
    /// A write in it, with the room it takes.
    Write(Write, Place),
    /// A request of this id that is about the client's dictionary, session or leases, with the room
    /// it takes.
    Ask {
        id: u64,
        request: Request,
        _place: Place,
    },
    /// End the session.
    Close,
}

/// Something that the source has not answered.
struct Waiting {
    forward: Forward,
    /// The source may have heard it.
    was_sent: bool,
}

/// An answer, with the room that its question takes until it is given.
struct Held {
    answer: ToPeer,
    _place: Option<Place>,
}

struct Relay {
    peer: Arc<Peer>,
    upstream: Arc<Upstream>,
    inbox: mpsc::Receiver<Forward>,
    /// No more comes from the client; it may still wait for answers.
    is_ended: bool,
    waiting: VecDeque<Waiting>,
    /// How many of them are on the wire of this connection.
    sent_count: usize,
    /// Answers that wait until the copy has their revisions, in the order in which they came.
    held: VecDeque<Held>,
    /// The client named a session: what it sends first may be a repeat.
    may_repeat: bool,
    /// Since when the source could not be reached.
    away_since: Option<Instant>,
    commits: CommitsSeen,
}

/// Starts to pass on what one client asks. It ends when the sender is dropped and all is said.
pub(crate) fn start(peer: Arc<Peer>, upstream: Arc<Upstream>) -> mpsc::Sender<Forward> {
    let (forward, inbox) = mpsc::channel(INBOX_COUNT);
    let relay = Relay {
        may_repeat: peer.session() != Session::None,
        away_since: None,
        commits: peer.serving.commits.seen(),
        peer,
        upstream,
        inbox,
        is_ended: false,
        waiting: VecDeque::new(),
        sent_count: 0,
        held: VecDeque::new(),
    };
    tokio::spawn(relay.run());
    forward
}

impl Relay {
    async fn run(mut self) {
        while !self.is_over() {
            if self.waiting.is_empty() {
                self.gather().await;
                continue;
            }
            let session = match self.peer.session() {
                Session::Open(session) => Some(session),
                Session::None | Session::Unknown => None,
            };
            let (peer, upstream) = (Arc::clone(&self.peer), Arc::clone(&self.upstream));
            let hailed = async move {
                let joined_and_hailed = async {
                    upstream.joined().await;
                    hail(&peer, &upstream, session).await
                };
                tokio::time::timeout(CONNECT_TIMEOUT, joined_and_hailed)
                    .await
                    .unwrap_or_else(|_| Err(away("it does not answer")))
            };
            match self.taking(hailed).await {
                Ok((hail, session_known)) => {
                    self.sent_count = 0;
                    self.away_since = None;
                    if session.is_some() && !session_known {
                        self.forget_session();
                    }
                    self.end_uploads(None);
                    self.peer.uploads.way.set(Some(hail.connection.clone()));
                    let passed = self.pass_on(hail).await;
                    self.peer.uploads.way.set(None);
                    match passed {
                        Ok(()) => return,
                        Err(why) if self.is_turned_away(&why) => return,
                        Err(why) => {
                            tracing::debug!(%why, "the way to the source is broken");
                            self.end_uploads(Some(&why));
                            self.pause().await;
                        }
                    }
                }
                Err(why) if self.is_turned_away(&why) => return,
                Err(why) => self.refuse(&why).await,
            }
        }
    }

    /// Whether the source does not let this client have a session, or does not take what it sends;
    /// then it is told, and goes. The same again would come to the same end.
    fn is_turned_away(&self, why: &Failure) -> bool {
        let mut waiting = self.waiting.iter();
        let is_opening = waiting.any(|one| matches!(one.forward, Forward::Open));
        let is_final = match why.kind {
            ErrorKind::Unavailable | ErrorKind::Closed => false,
            ErrorKind::Invalid | ErrorKind::Unsupported => true,
            _ => is_opening,
        };
        if is_final {
            self.peer.answers.push(&ToPeer::Goodbye(why.clone()));
        }
        is_final
    }

    /// Whether nobody waits for anything any more.
    fn is_over(&self) -> bool {
        let is_answered = self.waiting.is_empty() && self.held.is_empty();
        self.is_ended && (is_answered || self.is_cut())
    }

    /// Whether the client is gone, or the copy's server ends.
    fn is_cut(&self) -> bool {
        self.peer.gone.is_cancelled() || self.peer.serving.stopping.is_cancelled()
    }

    async fn pause(&mut self) {
        self.taking(tokio::time::sleep(PAUSE)).await;
    }

    /// Waits for something, and takes what the client sends meanwhile: its reads must not wait.
    async fn taking<T>(&mut self, wanted: impl Future<Output = T>) -> T {
        let mut wanted = pin!(wanted);
        loop {
            tokio::select! { biased;
                done = &mut wanted => return done,
                forward = self.inbox.recv(), if self.has_room() => self.take(forward),
            }
        }
    }

    /// Writes are bounded by the places they hold; this bounds everything else.
    fn has_room(&self) -> bool {
        !self.is_ended && self.waiting.len() < WAITING_COUNT_MAX
    }

    /// Waits for something to do.
    async fn gather(&mut self) {
        self.release();
        let peer = Arc::clone(&self.peer);
        tokio::select! { biased;
            forward = self.inbox.recv(), if !self.is_ended => self.take(forward),
            () = self.commits.changed(), if !self.held.is_empty() => {}
            () = cut(&peer), if self.is_ended => {}
        }
    }

    fn take(&mut self, forward: Option<Forward>) {
        match forward {
            Some(Forward::Write(write, _)) if self.peer.session() == Session::Unknown => {
                let answer = ToPeer::Answer(write.sequence, Err(write::session_has_ended()));
                self.peer.answers.push(&answer);
            }
            Some(forward) => self.waiting.push_back(Waiting {
                forward,
                was_sent: false,
            }),
            None => self.is_ended = true,
        }
    }

    /// The session has ended: whether what waits in it was done cannot be known any more.
    fn forget_session(&mut self) {
        self.peer.set_session(Session::Unknown);
        let waiting = std::mem::take(&mut self.waiting);
        for one in waiting {
            match one.forward {
                Forward::Write(write, place) => {
                    let failure = write::session_has_ended();
                    let answer = ToPeer::Answer(write.sequence, Err(failure));
                    self.peer.answers.push(&answer);
                    drop(place);
                }
                Forward::Close => {}
                forward @ (Forward::Open | Forward::Ask { .. }) => {
                    self.waiting.push_back(Waiting {
                        forward,
                        was_sent: false,
                    });
                }
            }
        }
    }

    /// The source is away, or does not want this client: what it surely did not hear is not done.
    async fn refuse(&mut self, why: &Failure) {
        let away_since = *self.away_since.get_or_insert_with(Instant::now);
        if why.kind == ErrorKind::Denied || away_since.elapsed() >= PATIENCE {
            self.answer_unheard(why);
        }
        self.pause().await;
    }

    fn answer_unheard(&mut self, why: &Failure) {
        let may_repeat = self.may_repeat;
        let peer = Arc::clone(&self.peer);
        self.waiting.retain(|one| match &one.forward {
            Forward::Write(write, _) if !one.was_sent && !may_repeat => {
                let answer = ToPeer::Answer(write.sequence, Err(why.clone()));
                peer.answers.push(&answer);
                false
            }
            Forward::Ask { id, .. } => {
                let reply = ToPeer::Reply(*id, Err(why.clone()));
                peer.answers.push(&reply);
                false
            }
            Forward::Close => false,
            Forward::Write(..) | Forward::Open => true,
        });
    }

    /// Passes on what waits and what comes, and answers back, until the client has gone or the
    /// connection breaks.
    async fn pass_on(&mut self, hail: Hail) -> Result<(), Failure> {
        let Hail {
            connection,
            mut send,
            mut inbox,
            ..
        } = hail;
        let mut output = BytesMut::new();
        let peer = Arc::clone(&self.peer);
        loop {
            self.release();
            self.fill(&mut output);
            if self.is_over() {
                if self.peer.serving.stopping.is_cancelled() {
                    // Unfinished: the client is still there, and comes back with its presence.
                    return Ok(());
                }
                let said = async {
                    send.write_all(&output).await.ok()?;
                    send.finish().ok()?;
                    send.stopped().await.ok()
                };
                let _ = tokio::time::timeout(LAST_WORDS, said).await;
                return Ok(());
            }
            let has_output = !output.is_empty();
            let has_room = output.len() < OUTPUT_BYTES_MAX && self.has_room();
            tokio::select! { biased;
                written = send.write(&output), if has_output => match written {
                    Ok(bytes) => output.advance(bytes),
                    Err(error) => return Err(lost(&connection, &error)),
                },
                message = inbox.next(&connection) => self.receive(message?)?,
                forward = self.inbox.recv(), if has_room => self.take(forward),
                () = self.commits.changed(), if !self.held.is_empty() => {}
                () = cut(&peer), if self.is_ended => {}
            }
        }
    }

    /// Makes frames of what is not on the wire yet.
    fn fill(&mut self, output: &mut BytesMut) {
        while output.len() < OUTPUT_BYTES_MAX
            && let Some(one) = self.waiting.get_mut(self.sent_count)
        {
            let message = match &one.forward {
                Forward::Open => ToOwner::OpenSession,
                Forward::Write(write, _) => ToOwner::Write(write.clone()),
                Forward::Ask { id, request, .. } => ToOwner::Request(*id, request.clone()),
                Forward::Close => ToOwner::CloseSession,
            };
            codec::encode(&message, output);
            one.was_sent = true;
            if matches!(one.forward, Forward::Close) {
                // Nobody answers it.
                self.waiting.remove(self.sent_count);
                self.peer.set_session(Session::None);
            } else {
                self.sent_count += 1;
            }
        }
    }

    fn receive(&mut self, message: ToPeer) -> Result<(), Failure> {
        match message {
            ToPeer::Opened(session) => {
                self.settle(|forward| matches!(forward, Forward::Open));
                self.may_repeat = false;
                self.peer.set_session(Session::Open(session));
                self.peer.answers.push(&ToPeer::Opened(session));
            }
            ToPeer::Answer(sequence, result) => {
                let settled = self.settle(|forward| {
                    matches!(forward, Forward::Write(write, _) if write.sequence == sequence)
                });
                self.hold(ToPeer::Answer(sequence, result), settled);
            }
            ToPeer::Reply(number, reply) => {
                let settled = self
                    .settle(|forward| matches!(forward, Forward::Ask { id, .. } if *id == number));
                self.hold(ToPeer::Reply(number, reply), settled);
            }
            ToPeer::Goodbye(failure) => return Err(failure),
            ToPeer::Welcome(_) => return Err(nonsense("a second welcome")),
        }
        Ok(())
    }

    /// The first thing on the wire of this kind is answered.
    fn settle(&mut self, is_it: impl Fn(&Forward) -> bool) -> Option<Forward> {
        let sent = self.waiting.iter().take(self.sent_count);
        let place = sent.into_iter().position(|one| is_it(&one.forward))?;
        self.sent_count -= 1;
        self.waiting.remove(place).map(|one| one.forward)
    }

    fn hold(&mut self, answer: ToPeer, settled: Option<Forward>) {
        let place = match settled {
            Some(Forward::Write(_, place) | Forward::Ask { _place: place, .. }) => Some(place),
            Some(Forward::Open | Forward::Close) | None => None,
        };
        self.held.push_back(Held {
            answer,
            _place: place,
        });
    }

    /// Gives the client the answers of which the copy has the revisions. Looks at the first that it
    /// does not have, and no further: they come in the order of their revisions but for repeats.
    fn release(&mut self) {
        self.commits.see();
        while let Some(Held { answer, _place }) = self.held.pop_front() {
            let found = self.look_for(&answer);
            match (found, answer) {
                (Found::NotYet, answer) => {
                    return self.held.push_front(Held { answer, _place });
                }
                (Found::Lost, ToPeer::Answer(sequence, _)) => {
                    let answer = ToPeer::Answer(sequence, Err(taken_back()));
                    self.peer.answers.push(&answer);
                }
                (Found::Lost, ToPeer::Reply(id, _)) => {
                    self.peer
                        .answers
                        .push(&ToPeer::Reply(id, Err(taken_back())));
                }
                (_, answer) => self.peer.answers.push(&answer),
            }
        }
    }

    /// Whether the copy has what an answer tells of.
    fn look_for(&self, answer: &ToPeer) -> Found {
        let store = &self.peer.serving.store;
        match answer {
            ToPeer::Answer(_, Ok((_, ack)))
            | ToPeer::Reply(_, Ok(Reply::Outcome(Some(Ok((_, ack)))))) => found(store, ack),
            ToPeer::Reply(_, Ok(Reply::Namespace { namespace, .. })) => {
                let found = store.namespace(&self.peer.name).ok().flatten();
                if found != Some(*namespace) {
                    return Found::NotYet;
                }
                self.peer.set_namespace(*namespace);
                Found::Here
            }
            _ => Found::Here,
        }
    }
}

/// Ends when the client is gone, or the copy's server ends.
async fn cut(peer: &Peer) {
    tokio::select! { biased;
        () = peer.gone.cancelled() => {}
        () = peer.serving.stopping.cancelled() => {}
    }
}

/// Connects, as the client's key; tells whether its session is still known.
async fn hail(
    peer: &Peer,
    upstream: &Upstream,
    session: Option<SessionId>,
) -> Result<(Hail, bool), Failure> {
    let connection = upstream.dial().await.map_err(|why| match why.kind {
        // Something else listens there at the moment.
        ErrorKind::Unsupported => away(&why.message),
        _ => why,
    })?;
    let key = peer.session_key();
    if key == peer.serving.key {
        // Whoever administers the copy is, at the source, who the link was given to.
        let hail = Hail::new(connection, &peer.name, session).await?;
        let session_known = hail.welcome.session_known;
        return Ok((hail, session_known));
    }
    let mut hail = Hail::new(connection, &peer.name, None).await?;
    let mut output = BytesMut::new();
    let request = Request::OnBehalf { peer: key, session };
    codec::encode(&ToOwner::Request(0, request), &mut output);
    let written = hail.send.write_all(&output).await;
    written.map_err(|error| lost(&hail.connection, &error))?;
    match hail.inbox.next(&hail.connection).await? {
        ToPeer::Reply(0, Ok(Reply::Acting { session_known, .. })) => Ok((hail, session_known)),
        ToPeer::Reply(0, Err(failure)) | ToPeer::Goodbye(failure) => Err(failure),
        _ => Err(nonsense("something else than an answer")),
    }
}
