//! An owner and a small client: it says exactly what a test wants said.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use objsync_proto::effect::Change;
use objsync_proto::error::Failure;
use objsync_proto::ids::{Ack, Durability, Position, Sequence, SessionId};
use objsync_proto::key::{self, Key};
use objsync_proto::limits::FRAME_BYTES_MAX;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::stored::{self, Compression};
use objsync_proto::wire::codec::{self, Message};
use objsync_proto::wire::{
    Entry, Event, Feed, Held, Hello, KeyRange, Reply, Request, ToOwner, ToPeer, Welcome, Write,
};
use objsync_server::{Identity, ServeOptions, Server, ServerError, Udp, closing, dial, identity};
use objsync_store::{IndexKind, LogRead, Store, StoreLimits, StoreOptions};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use tempfile::TempDir;
use tokio::runtime::Handle;

/// Longer than anything takes on a busy machine; a test that waits for this has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const NAMESPACE: &str = "default";

/// Waits for something that must happen soon.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it happens in time")
}

/// A store, served on a free port of this machine.
pub(crate) struct Owner {
    pub(crate) server: Server,
    pub(crate) store: Store,
    pub(crate) directory: TempDir,
}

impl Owner {
    pub(crate) fn start() -> Self {
        Self::start_with(StoreLimits::default())
    }

    pub(crate) fn start_with(limits: StoreLimits) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), limits)
    }

    pub(crate) fn start_in(directory: TempDir, limits: StoreLimits) -> Self {
        let options = StoreOptions {
            index: IndexKind::Memory,
            durability: Durability::Buffered,
            limits,
            ..StoreOptions::default()
        };
        let store = Store::open(directory.path(), options).unwrap();
        store.create_namespace(NAMESPACE, Vec::new()).unwrap();
        let server =
            Server::start(store.clone(), ServeOptions::default(), &Handle::current()).unwrap();
        Self {
            server,
            store,
            directory,
        }
    }

    /// Ends this owner and starts another on the same directory.
    pub(crate) async fn restart(self) -> Self {
        let directory = self.stop().await;
        Self::start_in(directory, StoreLimits::default())
    }

    pub(crate) async fn stop(self) -> TempDir {
        self.server.shutdown(PATIENCE).await;
        drop(self.server);
        self.store.close().unwrap();
        self.directory
    }

    /// The identity of a process of the same user.
    pub(crate) fn identity(&self) -> Identity {
        identity::load(self.directory.path()).unwrap()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self, &self.identity(), NAMESPACE)
            .await
            .unwrap()
    }
}

/// A connection whose operations stream is driven by hand.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) recv: Inbox,
    pub(crate) welcome: Welcome,
    sequence: u64,
    request: u64,
}

/// Why a peer was not let in, as it sees it.
pub(crate) fn reason(error: &ConnectionError) -> Failure {
    closing::failure(error).unwrap_or_else(|| panic!("closed without a reason: {error}"))
}

/// An endpoint of its own, as each process has one.
pub(crate) fn endpoint() -> Endpoint {
    Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap()
}

/// A QUIC connection without any stream.
pub(crate) async fn connect(owner: &Owner, identity: &Identity) -> Result<Connection, Failure> {
    let (address, server) = (owner.server.address(), owner.server.key());
    match within(dial(&Udp, address, identity, server)).await {
        Ok(connection) => Ok(connection),
        Err(ServerError::Refused(failure)) => Err(failure),
        Err(other) => panic!("{other}"),
    }
}

impl Client {
    pub(crate) async fn connect(
        owner: &Owner,
        identity: &Identity,
        namespace: &str,
    ) -> Result<Self, Failure> {
        Self::connect_as(owner, identity, namespace, None).await
    }

    pub(crate) async fn connect_as(
        owner: &Owner,
        identity: &Identity,
        namespace: &str,
        session: Option<SessionId>,
    ) -> Result<Self, Failure> {
        let connection = connect(owner, identity).await?;
        Self::greet(connection, namespace, session).await
    }

    /// Says hello on a connection.
    pub(crate) async fn greet(
        connection: Connection,
        namespace: &str,
        session: Option<SessionId>,
    ) -> Result<Self, Failure> {
        let (mut send, recv) = within(connection.open_bi()).await.map_err(|e| reason(&e))?;
        let hello = Hello {
            program: "test".to_owned(),
            namespace: namespace.to_owned(),
            session,
        };
        let mut out = BytesMut::new();
        codec::encode(&ToOwner::Hello(hello), &mut out);
        // A connection that was refused may already be closed here: reading tells why.
        let _ = send.write_all(&out).await;
        let mut recv = Inbox::new(recv);
        let welcome = match within(recv.next::<ToPeer>()).await {
            Ok(Some(ToPeer::Welcome(welcome))) => welcome,
            Ok(Some(ToPeer::Goodbye(failure))) => return Err(failure),
            Ok(other) => panic!("{other:?}"),
            Err(_) => return Err(reason(&within(connection.closed()).await)),
        };
        Ok(Self {
            connection,
            send,
            recv,
            welcome,
            sequence: 0,
            request: 0,
        })
    }

    pub(crate) async fn send(&mut self, message: &ToOwner) {
        let mut out = BytesMut::new();
        codec::encode(message, &mut out);
        within(self.send.write_all(&out)).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> ToPeer {
        within(self.recv.next())
            .await
            .unwrap()
            .expect("another message")
    }

    pub(crate) async fn open_session(&mut self) -> SessionId {
        self.send(&ToOwner::OpenSession).await;
        match self.receive().await {
            ToPeer::Opened(session) => session,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a write and does not wait.
    pub(crate) async fn write(&mut self, sequence: u64, operation: Operation) {
        let write = Write {
            sequence: Sequence(sequence),
            floor: Sequence(1),
            durability: None,
            operation,
        };
        self.send(&ToOwner::Write(write)).await;
    }

    pub(crate) async fn answer(&mut self) -> (u64, Result<(Outcome, Ack), Failure>) {
        match self.receive().await {
            ToPeer::Answer(sequence, result) => (sequence.0, result),
            other => panic!("{other:?}"),
        }
    }

    /// Writes with the next sequence of the session and waits for the answer.
    pub(crate) async fn run(&mut self, operation: Operation) -> Result<(Outcome, Ack), Failure> {
        self.sequence += 1;
        let sequence = self.sequence;
        self.write(sequence, operation).await;
        let (answered, result) = self.answer().await;
        assert_eq!(answered, sequence);
        result
    }

    pub(crate) async fn put(&mut self, key: &str, value: &str) -> Ack {
        self.run(put(key, value)).await.unwrap().1
    }

    pub(crate) async fn request(&mut self, request: Request) -> Result<Reply, Failure> {
        self.request += 1;
        let id = self.request;
        self.send(&ToOwner::Request(id, request)).await;
        match self.receive().await {
            ToPeer::Reply(answered, result) if answered == id => result,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn get(&mut self, key: &str) -> Option<String> {
        match self
            .request(Request::Get { key: encoded(key) })
            .await
            .unwrap()
        {
            Reply::Entry { entry, .. } => entry.map(|(value, _)| text(&value)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn subscribe(&mut self, since: Option<Position>) -> Subscriber {
        self.subscribe_range(KeyRange::default(), since).await
    }

    pub(crate) async fn subscribe_range(
        &mut self,
        range: KeyRange,
        since: Option<Position>,
    ) -> Subscriber {
        let subscription = 1_000 + self.request;
        let request = Request::Subscribe {
            subscription,
            range,
            since,
        };
        assert_eq!(self.request(request).await, Ok(Reply::Done));
        self.accept(subscription).await
    }

    /// Subscribes from a position, and says what is held as of there.
    pub(crate) async fn follow(
        &mut self,
        range: KeyRange,
        since: Position,
        held: Held,
    ) -> Subscriber {
        let subscription = 1_000 + self.request;
        let request = Request::Follow {
            subscription,
            range,
            since,
            held,
        };
        assert_eq!(self.request(request).await, Ok(Reply::Done));
        self.accept(subscription).await
    }

    /// The stream of a subscription or fetch that was just asked for.
    pub(crate) async fn accept(&mut self, subscription: u64) -> Subscriber {
        let stream = within(self.connection.accept_uni()).await.unwrap();
        let mut subscriber = Subscriber {
            inbox: Inbox::new(stream),
            subscription,
        };
        assert_eq!(subscriber.next().await, Feed::Start { subscription });
        subscriber
    }

    /// Why the owner closed this connection.
    pub(crate) async fn closed(&self) -> Failure {
        reason(&within(self.connection.closed()).await)
    }
}

/// The receiving end of a subscription or fetch.
pub(crate) struct Subscriber {
    pub(crate) inbox: Inbox,
    pub(crate) subscription: u64,
}

impl Subscriber {
    pub(crate) async fn next(&mut self) -> Feed {
        within(self.inbox.next())
            .await
            .unwrap()
            .expect("another message")
    }

    /// The next message that is no bookmark.
    pub(crate) async fn next_told(&mut self) -> Feed {
        loop {
            match self.next().await {
                Feed::Bookmark { .. } => {}
                other => return other,
            }
        }
    }

    /// The entries of a state that follows, and where it stands.
    pub(crate) async fn state(&mut self) -> (Vec<(String, String)>, Position) {
        assert_eq!(self.next().await, Feed::Reset);
        self.entries().await
    }

    pub(crate) async fn entries(&mut self) -> (Vec<(String, String)>, Position) {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Feed::Entries(entries) => all.extend(entries.iter().map(|entry| {
                    let Entry { key, value, .. } = entry;
                    (key_text(key), text(value))
                })),
                Feed::Complete { position } => return (all, position),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next `count` events, in one frame or several.
    pub(crate) async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            match self.next_told().await {
                Feed::Events(more) => events.extend(more),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(events.len(), count, "no more than were made");
        events
    }
}

/// Frames of one stream.
pub(crate) struct Inbox {
    pub(crate) stream: RecvStream,
    input: BytesMut,
}

impl Inbox {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
        }
    }

    /// The next message; none at the end; the text of what went wrong.
    pub(crate) async fn next<M: Message>(&mut self) -> Result<Option<M>, String> {
        loop {
            let decoded = codec::decode(&mut self.input, FRAME_BYTES_MAX);
            if let Some(message) = decoded.map_err(|error| error.to_string())? {
                return Ok(Some(message));
            }
            let chunk = self.stream.read_chunk(64 << 10, true).await;
            match chunk.map_err(|error| error.to_string())? {
                Some(chunk) => self.input.extend_from_slice(&chunk.bytes),
                None => return Ok(None),
            }
        }
    }
}

pub(crate) fn encoded(key: &str) -> Bytes {
    key::encode(&Key::from(key)).unwrap().into_bytes()
}

pub(crate) fn key_text(encoded: &Bytes) -> String {
    match key::KeyBytes::new(encoded.clone()).unwrap().decode() {
        Key::Str(text) => text.to_string(),
        other => panic!("{other:?}"),
    }
}

/// A stored value that holds a text.
pub(crate) fn sealed(value: &str) -> Bytes {
    let payload = rmp_serde::to_vec(value).unwrap();
    stored::seal(&payload, Compression::None).unwrap()
}

pub(crate) fn text(stored: &Bytes) -> String {
    rmp_serde::from_slice(&stored::open(stored).unwrap()).unwrap()
}

pub(crate) fn put(key: &str, value: &str) -> Operation {
    Operation::Put {
        key: encoded(key),
        value: sealed(value),
    }
}

pub(crate) fn change(key: &str, value: &str) -> Change {
    Change {
        key: encoded(key),
        value: Some(sealed(value)),
    }
}

/// What an event changed, as texts; none for a deletion.
pub(crate) fn changes(event: &Event) -> Vec<(String, Option<String>)> {
    let change = |change: &Change| (key_text(&change.key), change.value.as_ref().map(text));
    event.changes.iter().map(change).collect()
}

/// Lets `peer` do what `rights` say, and gives its identity.
pub(crate) fn guest(owner: &Owner, scope: &str, rights: &[&str]) -> Arc<Identity> {
    let identity = Identity::generate().unwrap();
    let grant = objsync_proto::wire::Grant {
        peer: identity.peer(),
        scope: scope.to_owned(),
        rights: rights.iter().map(|right| (*right).to_owned()).collect(),
        expires_ms: None,
        label: "guest".to_owned(),
    };
    owner.store.grant(grant).unwrap();
    Arc::new(identity)
}

/// Writes five keys again and again until the log no longer reaches back to a position.
pub(crate) async fn trim(owner: &Owner, writer: &mut Client, from: &Position) {
    let trimmed = async {
        for round in 0_u32.. {
            let name = format!("busy{}", round % 5);
            writer.put(&name, &"v".repeat(1_000)).await;
            if round % 50 == 0 {
                owner.store.flush(owner.store.position().revision).unwrap();
                let read = owner.store.read_log(from.revision, 1).unwrap();
                if matches!(read, LogRead::Trimmed) {
                    break;
                }
            }
        }
    };
    within(trimmed).await;
}
