//! The beginning and the end of a server, and what a peer notices of them.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Durability, Sequence};
use objsync_proto::limits::IDLE_TIMEOUT_MS;
use objsync_proto::wire::{ToOwner, ToPeer, Write};
use objsync_server::{ServeOptions, Server, ServerError, local};
use objsync_store::StoreLimits;
use tokio::runtime::Handle;

use crate::memory::{in_own_process, resident_bytes};
use crate::peer::{Client, NAMESPACE, Owner, PATIENCE, put, within};

#[tokio::test]
async fn shutdown_answers_what_was_accepted_and_says_goodbye() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    client.open_session().await;
    const COUNT: u64 = 200;
    for sequence in 1..=COUNT {
        let write = Write {
            sequence: Sequence(sequence),
            floor: Sequence(1),
            durability: Some(Durability::Sync),
            operation: put(&sequence.to_string(), "x"),
        };
        client.send(&ToOwner::Write(write)).await;
    }
    // The first answer shows that the others are on their way in.
    assert_eq!(client.answer().await.0, 1);
    let namespace = client.welcome.namespace.unwrap();
    let store = owner.store.clone();
    let reading = async {
        let mut answered = 1;
        loop {
            match client.receive().await {
                ToPeer::Answer(sequence, result) => {
                    answered += 1;
                    assert_eq!(sequence.0, answered);
                    result.unwrap();
                }
                ToPeer::Goodbye(failure) => return (answered, failure),
                other => panic!("{other:?}"),
            }
        }
    };
    let ((answered, failure), ()) = tokio::join!(reading, owner.server.shutdown(PATIENCE));
    assert_eq!(failure.kind, ErrorKind::Unavailable);
    // Nothing was done without being answered, and nothing answered without being done.
    assert_eq!(store.count(namespace).unwrap(), answered);
    assert_eq!(client.closed().await.kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn port_and_socket_are_free_after_shutdown() {
    let owner = Owner::start();
    let _client = owner.client().await;
    let address = owner.server.address();
    let (_, mut stream) = local_connect(&owner).await;
    owner.server.shutdown(PATIENCE).await;
    drop(owner.server);
    use std::io::Read;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let ended = tokio::task::spawn_blocking(move || stream.read(&mut [0]));
    assert_eq!(within(ended).await.unwrap().unwrap(), 0, "end of file");
    let free = async {
        while UdpSocket::bind(address).is_err() {
            tokio::task::yield_now().await;
        }
    };
    within(free).await;
    assert!(!owner.directory.path().join(local::SOCKET_FILE).exists());
}

async fn local_connect(
    owner: &Owner,
) -> (
    objsync_proto::wire::OwnerInfo,
    std::os::unix::net::UnixStream,
) {
    let directory = owner.directory.path().to_owned();
    let connecting = tokio::task::spawn_blocking(move || local::connect(&directory, PATIENCE));
    within(connecting).await.unwrap().unwrap()
}

#[tokio::test]
async fn local_socket_leads_to_the_endpoint() {
    let owner = Owner::start();
    let (info, _stream) = local_connect(&owner).await;
    let position = owner.store.position();
    assert_eq!((info.store, info.epoch), (position.store, position.epoch));
    assert_eq!(info.pid, std::process::id());
    assert_eq!(info.address, owner.server.address());
}

#[tokio::test]
async fn dropped_server_ends_its_connections_at_once() {
    let owner = Owner::start();
    let client = owner.client().await;
    drop(owner.server);
    let error = within(client.connection.closed()).await;
    assert_eq!(crate::peer::reason(&error).kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn address_in_use_is_an_error_that_names_it() {
    let owner = Owner::start();
    let other = tempfile::tempdir().unwrap();
    let store = objsync_store::Store::open(other.path(), Default::default()).unwrap();
    let options = ServeOptions {
        listen: owner.server.address(),
        ..ServeOptions::default()
    };
    let error = Server::start(store, options, &Handle::current()).unwrap_err();
    assert!(matches!(error, ServerError::Listen { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(&owner.server.address().to_string())
    );
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

/// The owner is killed and another takes over its port: peers of the dead one must hear it from
/// the next one, long before silence would tell them.
#[tokio::test]
async fn next_owner_on_the_same_port_resets_the_connections_of_the_last() {
    let owner = Owner::start();
    let client = owner.client().await;
    let address = owner.server.address();
    let relay = Relay::start(address).await;
    let through = dial_through(&owner, relay.address).await;
    // Welcomed, so that both ends are past the handshake.
    let through = Client::greet(through, NAMESPACE, None).await.unwrap();
    // As a kill does: the owner is gone without a word, which the relay swallows.
    relay.swallow(true);
    drop(owner.server);
    within(client.connection.closed()).await;
    let free = async {
        while UdpSocket::bind(address).is_err() {
            tokio::task::yield_now().await;
        }
    };
    within(free).await;
    let options = ServeOptions {
        listen: address,
        ..ServeOptions::default()
    };
    let _next = Server::start(owner.store.clone(), options, &Handle::current()).unwrap();
    relay.swallow(false);
    let start = Instant::now();
    let error = within(through.connection.closed()).await;
    assert!(matches!(error, quinn::ConnectionError::Reset), "{error}");
    let silence = Duration::from_millis(IDLE_TIMEOUT_MS);
    assert!(start.elapsed() < silence, "{:?}", start.elapsed());
}

async fn dial_through(owner: &Owner, relay: std::net::SocketAddr) -> quinn::Connection {
    let (config, _) =
        objsync_server::client_config(&owner.identity(), owner.server.key(), relay.ip()).unwrap();
    let endpoint = crate::peer::endpoint();
    let connecting = endpoint.connect_with(config, relay, "objsync").unwrap();
    within(connecting).await.unwrap()
}

/// Passes datagrams of one client on to an address, unless it is told to swallow them.
struct Relay {
    address: std::net::SocketAddr,
    blocked: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    async fn start(to: std::net::SocketAddr) -> Self {
        let near = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let far = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        far.connect(to).await.unwrap();
        let address = near.local_addr().unwrap();
        let blocked = Arc::new(AtomicBool::new(false));
        let block = Arc::clone(&blocked);
        let task = tokio::spawn(async move {
            let (mut inward, mut outward) = (vec![0; 65_536], vec![0; 65_536]);
            let mut client = None;
            loop {
                tokio::select! {
                    Ok((bytes, from)) = near.recv_from(&mut inward) => {
                        client = Some(from);
                        if !block.load(Ordering::Relaxed) {
                            let _ = far.send(&inward[..bytes]).await;
                        }
                    }
                    received = far.recv(&mut outward) => {
                        // Refused while nobody listens there.
                        if let (Ok(bytes), Some(client), false) = (received, client, block.load(Ordering::Relaxed)) {
                            let _ = near.send_to(&outward[..bytes], client).await;
                        }
                    }
                }
            }
        });
        Self {
            address,
            blocked,
            task,
        }
    }

    fn swallow(&self, all: bool) {
        self.blocked.store(all, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn hundred_idle_connections_take_little_memory() {
    if !in_own_process("lifecycle::hundred_idle_connections_take_little_memory") {
        return;
    }
    let owner = Owner::start();
    let mut warm = owner.client().await;
    warm.subscribe(None).await.state().await;
    let before = resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = owner.client().await;
        let mut events = client.subscribe(None).await;
        events.state().await;
        clients.push((client, events));
    }
    let grown = resident_bytes().saturating_sub(before);
    // Both ends of each are in this process, and each client has an endpoint of its own.
    assert!(
        grown < 100 * (400 << 10),
        "{} KiB for each",
        grown / 100 / 1024
    );
    assert_eq!(owner.server.status().peers, 101);
}

#[tokio::test]
async fn idle_connection_stays_open() {
    let owner = Owner::start_with(StoreLimits::default());
    let mut client = Client::connect(&owner, &owner.identity(), NAMESPACE)
        .await
        .unwrap();
    let idle = Duration::from_millis(IDLE_TIMEOUT_MS) + Duration::from_millis(500);
    let ended = tokio::time::timeout(idle, client.connection.closed()).await;
    assert!(ended.is_err(), "keep-alives hold it: {ended:?}");
    assert_eq!(client.get("a").await, None);
}
