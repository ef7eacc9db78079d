//! Followers: a copy that is served, and what it passes on to its source.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Durability, PeerKey, SessionId};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::{Feed, FollowStatus, Grant, Reply, Request, ToOwner};
use objsync_server::{FollowOptions, Follower, Identity, ServeOptions, Server, Upstream, dial};
use objsync_store::{IndexKind, Store, StoreLimits, StoreOptions, promote};
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::peer::{Client, NAMESPACE, PATIENCE, changes, encoded, put, within};

/// A source at an address that it keeps.
struct Source {
    server: Server,
    store: Store,
    directory: TempDir,
    limits: StoreLimits,
}

fn options(limits: StoreLimits) -> StoreOptions {
    StoreOptions {
        index: IndexKind::Memory,
        limits,
        ..StoreOptions::default()
    }
}

impl Source {
    fn start() -> Self {
        Self::start_in(
            tempfile::tempdir().unwrap(),
            "127.0.0.1:0".parse().unwrap(),
            StoreLimits::default(),
        )
    }

    fn start_in(directory: TempDir, listen: SocketAddr, limits: StoreLimits) -> Self {
        let store = Store::open(directory.path(), options(limits)).unwrap();
        store.create_namespace(NAMESPACE, Vec::new()).unwrap();
        let options = ServeOptions {
            listen,
            ..ServeOptions::default()
        };
        let server = Server::start(store.clone(), options, &Handle::current()).unwrap();
        Self {
            server,
            store,
            directory,
            limits,
        }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Dies as a process does that is killed.
    async fn kill(self) -> (TempDir, SocketAddr, StoreLimits) {
        let address = self.address();
        drop(self.server);
        self.store.kill();
        drop(self.store);
        // The port is free once the endpoint's task has ended.
        loop {
            if std::net::UdpSocket::bind(address).is_ok() {
                return (self.directory, address, self.limits);
            }
            tokio::task::yield_now().await;
        }
    }

    fn link(&self, rights: &[&str]) -> Arc<Identity> {
        granted(&self.store, "*", rights)
    }
}

fn granted(store: &Store, scope: &str, rights: &[&str]) -> Arc<Identity> {
    let identity = Identity::generate().unwrap();
    store.grant(grant(identity.peer(), scope, rights)).unwrap();
    Arc::new(identity)
}

fn grant(peer: PeerKey, scope: &str, rights: &[&str]) -> Grant {
    Grant {
        peer,
        scope: scope.to_owned(),
        rights: rights.iter().map(|&right| right.to_owned()).collect(),
        expires_ms: None,
        label: String::new(),
    }
}

const FOLLOW: &[&str] = &["read", "write", "follow"];

fn follow(
    directory: &Path,
    address: SocketAddr,
    server: PeerKey,
    link: &Identity,
) -> Result<Follower, objsync_store::StoreError> {
    let options = FollowOptions {
        directory: directory.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        store: options(StoreLimits::default()),
    };
    let upstream = Upstream::new(vec![address.to_string()], server, link.clone());
    Follower::start(options, upstream, &Handle::current())
}

/// A follower with the directory of its copy.
struct Copy {
    follower: Follower,
    address: SocketAddr,
    directory: TempDir,
    link: Arc<Identity>,
}

impl Copy {
    async fn of(source: &Source) -> Self {
        let link = source.link(FOLLOW);
        Self::with(source.address(), source.server.key(), link).await
    }

    async fn with(address: SocketAddr, server: PeerKey, link: Arc<Identity>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let follower = follow(directory.path(), address, server, &link).unwrap();
        let address = within(follower.serving()).await.unwrap();
        Self {
            follower,
            address,
            directory,
            link,
        }
    }

    fn key(&self) -> PeerKey {
        self.follower.key().unwrap()
    }

    async fn client(&self, identity: &Identity, session: Option<SessionId>) -> Client {
        let connection = within(dial(self.address, identity, self.key()))
            .await
            .unwrap();
        Client::greet(connection, NAMESPACE, session).await.unwrap()
    }

    /// A client of the copy's own user.
    async fn own_client(&self) -> Client {
        let identity = objsync_server::identity::load(self.directory.path()).unwrap();
        self.client(&identity, None).await
    }

    /// Waits until the copy is at least where the source is.
    async fn catch_up(&self, source: &Store) {
        let wanted = source.position();
        let there = async {
            loop {
                let held = self.follower.store().map(|store| store.position());
                if held.is_some_and(|held| {
                    held.epoch == wanted.epoch && held.revision >= wanted.revision
                }) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(there).await;
    }

    /// Waits until the copy has the grants of the source.
    async fn grants_of(&self, source: &Store) {
        within(async {
            while self
                .follower
                .store()
                .is_none_or(|held| held.grants() != source.grants())
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    async fn status_that(&self, is_it: impl Fn(&FollowStatus) -> bool) -> FollowStatus {
        let told = async {
            loop {
                let status = self.follower.status();
                if is_it(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(told).await
    }
}

fn increment() -> Operation {
    Operation::Increment {
        key: encoded("count"),
        by: 1,
    }
}

async fn connect(address: SocketAddr, server: PeerKey, identity: &Identity) -> Client {
    let connection = within(dial(address, identity, server)).await.unwrap();
    Client::greet(connection, NAMESPACE, None).await.unwrap()
}

#[tokio::test]
async fn what_is_written_through_a_follower_is_read_there_and_at_the_source() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let friend = source.link(&["read", "write"]);
    copy.catch_up(&source.store).await;
    copy.grants_of(&source.store).await;
    let mut client = copy.client(&friend, None).await;
    let mut watcher = copy.own_client().await;
    let mut events = watcher.subscribe(None).await;
    events.state().await;
    client.open_session().await;
    for number in 0..20 {
        let text = number.to_string();
        client.put("a", &text).await;
        assert_eq!(
            client.get("a").await.as_deref(),
            Some(&*text),
            "its own write"
        );
    }
    let seen = events.events(20).await;
    assert_eq!(
        changes(&seen[19]),
        [("a".to_owned(), Some("19".to_owned()))]
    );
    let mut direct = connect(source.address(), source.server.key(), &friend).await;
    assert_eq!(direct.get("a").await.as_deref(), Some("19"));
    direct.open_session().await;
    direct.put("b", "direct").await;
    let barrier = watcher.request(Request::Barrier).await.unwrap();
    assert!(matches!(barrier, Reply::Position(_)), "{barrier:?}");
    assert_eq!(watcher.get("b").await.as_deref(), Some("direct"));
    let refused = copy
        .follower
        .store()
        .unwrap()
        .grant(grant(friend.peer(), "*", &["read"]));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn write_whose_answer_was_lost_lands_once_whichever_way_it_comes_again() {
    let source = Source::start();
    let friend = source.link(&["read", "write"]);
    let (one, other) = (Copy::of(&source).await, Copy::of(&source).await);
    one.grants_of(&source.store).await;
    other.grants_of(&source.store).await;
    let mut client = one.client(&friend, None).await;
    let session = client.open_session().await;
    client.write(1, increment()).await;
    client.write(2, increment()).await;
    let first = client.answer().await;
    assert!(client.answer().await.1.is_ok());
    // Its connection breaks, and it knows of no answer.
    client.connection.close(0_u32.into(), b"");
    let mut through_other = other.client(&friend, Some(session)).await;
    assert!(through_other.welcome.session_known);
    through_other.write(1, increment()).await;
    assert_eq!(through_other.answer().await, first);
    let connection = dial(source.address(), &friend, source.server.key());
    let connection = within(connection).await.unwrap();
    let mut direct = Client::greet(connection, NAMESPACE, Some(session))
        .await
        .unwrap();
    assert!(
        direct.welcome.session_known,
        "bound to the client's own key"
    );
    direct.write(1, increment()).await;
    assert_eq!(direct.answer().await, first);
    direct.write(3, increment()).await;
    let (_, result) = direct.answer().await;
    assert_eq!(result.unwrap().0, Outcome::Number(3), "none was done twice");
    let stranger = source.link(&["read", "write"]);
    one.grants_of(&source.store).await;
    let mut stranger = one.client(&stranger, Some(session)).await;
    stranger.write(1, increment()).await;
    let (_, refused) = stranger.answer().await;
    assert_eq!(
        refused.unwrap_err().kind,
        ErrorKind::OutcomeUnknown,
        "another's session"
    );
}

#[tokio::test]
async fn follower_of_a_follower_holds_all_and_passes_writes_on() {
    let source = Source::start();
    let first = Copy::of(&source).await;
    let mut admin = first.own_client().await;
    let link = Arc::new(Identity::generate().unwrap());
    let asked = admin.request(Request::Grant(grant(link.peer(), "*", FOLLOW)));
    assert_eq!(
        asked.await,
        Ok(Reply::Done),
        "made at the follower, kept at the source"
    );
    assert!(
        source
            .store
            .grants()
            .iter()
            .any(|one| one.peer == link.peer())
    );
    let second = Copy::with(first.address, first.key(), link).await;
    let friend = source.link(&["read", "write"]);
    second.grants_of(&source.store).await;
    let mut client = second.client(&friend, None).await;
    let session = client.open_session().await;
    client.put("a", "through two").await;
    assert_eq!(client.get("a").await.as_deref(), Some("through two"));
    let mut own = second.own_client().await;
    own.open_session().await;
    own.put("b", "by its own user").await;
    assert!(
        source.store.session_known(session, friend.peer()),
        "its own key, two hops away"
    );
    second.catch_up(&source.store).await;
    let held = second.follower.store().unwrap();
    assert_eq!(held.position(), source.store.position());
    assert!(held.session_known(session, friend.peer()));
}

#[tokio::test]
async fn while_the_source_is_away_reads_go_on_and_writes_say_so() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let mut client = copy.own_client().await;
    client.open_session().await;
    client.put("a", "1").await;
    let status = copy.status_that(|status| status.behind_ms == Some(0)).await;
    assert!(status.is_connected);
    assert_eq!(status.lag(), 0);
    assert_eq!(status.source, source.address().to_string());
    let key = source.server.key();
    let (directory, address, limits) = source.kill().await;

    let status = copy.status_that(|status| !status.is_connected).await;
    assert!(!status.trouble.is_empty());
    assert!(status.behind_ms.is_some());
    assert_eq!(client.get("a").await.as_deref(), Some("1"));
    let mut fresh = copy.own_client().await;
    assert_eq!(
        fresh.get("a").await.as_deref(),
        Some("1"),
        "who comes now reads too"
    );
    // The way to the source is known to be broken before this one is passed on.
    let refused = fresh.request(Request::Barrier).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused}");
    let reply = fresh.request(Request::Following).await.unwrap();
    assert!(
        matches!(&reply, Reply::Following(Some(status)) if !status.is_connected),
        "{reply:?}"
    );

    let source = Source::start_in(directory, address, limits);
    assert_eq!(source.server.key(), key);
    copy.catch_up(&source.store).await;
    let status = copy.status_that(|status| status.behind_ms == Some(0)).await;
    assert!(status.is_connected);
    // The epoch has changed: who was connected comes back.
    let mut client = copy.own_client().await;
    client.open_session().await;
    client.put("a", "2").await;
    assert_eq!(client.get("a").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn write_that_surely_did_not_reach_the_source_is_answered_as_not_done() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let mut client = copy.own_client().await;
    client.open_session().await;
    client.put("a", "1").await;
    let (_directory, ..) = source.kill().await;
    copy.status_that(|status| !status.is_connected).await;
    // What the dead connection swallowed may have been heard: that one is not answered.
    client.write(2, put("a", "2")).await;
    tokio::time::sleep(Duration::from_millis(4000)).await;
    client.write(3, put("a", "3")).await;
    let (sequence, answer) = client.answer().await;
    assert!(sequence >= 2);
    assert_eq!(answer.unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(client.get("a").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn writes_that_were_passed_on_are_sent_again_to_the_source_that_comes_back() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let friend = source.link(&["read", "write"]);
    copy.grants_of(&source.store).await;
    let mut source = Some(source);
    for round in 0..4_u64 {
        let mut client = copy.client(&friend, None).await;
        client.open_session().await;
        for sequence in 1..=50 {
            client.write(sequence, increment()).await;
        }
        if round % 2 == 1 {
            let (directory, address, limits) = source.take().unwrap().kill().await;
            source = Some(Source::start_in(directory, address, limits));
        }
        let mut answered = 0;
        while answered < 50 {
            let (_, answer) = client.answer().await;
            let (outcome, _) = answer.unwrap();
            assert!(matches!(outcome, Outcome::Number(_)));
            answered += 1;
        }
        let store = &source.as_ref().unwrap().store;
        let mut direct = copy.own_client().await;
        copy.catch_up(store).await;
        drop(direct.get("a").await);
        let count = direct.get_number("count").await;
        assert_eq!(count, 50 * (round + 1), "round {round}: each once");
    }
}

impl Client {
    async fn get_number(&mut self, key: &str) -> u64 {
        let reply = self
            .request(Request::Get { key: encoded(key) })
            .await
            .unwrap();
        let Reply::Entry {
            entry: Some((value, _)),
            ..
        } = reply
        else {
            panic!("{reply:?}");
        };
        let payload = objsync_proto::stored::open(&value).unwrap();
        rmp_serde::from_slice(&payload).unwrap()
    }
}

#[tokio::test]
async fn subscriber_of_a_follower_goes_on_over_an_epoch_of_the_source() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let mut client = copy.own_client().await;
    let mut events = client.subscribe(None).await;
    let (_, start) = events.state().await;
    source.store.create_namespace("other", Vec::new()).unwrap();
    let (directory, address, limits) = source.kill().await;
    let source = Source::start_in(directory, address, limits);
    let friend = source.link(&["read", "write"]);
    let mut direct = connect(source.address(), source.server.key(), &friend).await;
    direct.open_session().await;
    direct.put("a", "after").await;
    let closed = client.closed().await;
    assert_eq!(closed.kind, ErrorKind::Unavailable, "{closed}");
    let mut client = copy.own_client().await;
    let mut events = client.subscribe(Some(start)).await;
    assert_eq!(events.next().await, Feed::Resume, "nothing is sent twice");
    let seen = events.events(1).await;
    assert_eq!(
        changes(&seen[0]),
        [("a".to_owned(), Some("after".to_owned()))]
    );
}

#[tokio::test]
async fn copy_that_was_away_for_too_long_gets_a_snapshot_and_goes_on() {
    let limits = StoreLimits {
        segment_bytes: 16 << 10,
        snapshot_log_bytes: 32 << 10,
        retention_bytes: 64 << 10,
        ..StoreLimits::default()
    };
    let directory = tempfile::tempdir().unwrap();
    let source = Source::start_in(directory, "127.0.0.1:0".parse().unwrap(), limits);
    let copy = Copy::of(&source).await;
    let Copy {
        follower,
        directory,
        link,
        ..
    } = copy;
    within(follower.shutdown()).await;
    let friend = source.link(&["read", "write"]);
    let mut direct = connect(source.address(), source.server.key(), &friend).await;
    direct.open_session().await;
    let noise = "0123456789abcdef".repeat(64);
    let trimmed = async {
        let mut number = 0_u32;
        while source.store.at(objsync_proto::ids::Revision(1)).is_ok() {
            direct
                .put(&format!("k{}", number % 40), &format!("{number}{noise}"))
                .await;
            number += 1;
        }
    };
    within(trimmed).await;
    let follower = follow(
        directory.path(),
        source.address(),
        source.server.key(),
        &link,
    )
    .unwrap();
    let address = within(follower.serving()).await.unwrap();
    let copy = Copy {
        follower,
        address,
        directory,
        link,
    };
    copy.catch_up(&source.store).await;
    direct.put("last", "one").await;
    copy.catch_up(&source.store).await;
    let mut client = copy.own_client().await;
    assert_eq!(client.get("last").await.as_deref(), Some("one"));
    let held = copy.follower.store().unwrap();
    assert_eq!(
        held.count(objsync_proto::ids::NamespaceId::DEFAULT)
            .unwrap(),
        41
    );
}

#[tokio::test]
async fn promoted_copy_is_another_history_to_clients_of_the_source() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let mut client = copy.own_client().await;
    client.open_session().await;
    client.put("a", "shared").await;
    let shared = source.store.position();
    within(copy.follower.shutdown()).await;
    let friend = source.link(&["read", "write"]);
    let mut direct = connect(source.address(), source.server.key(), &friend).await;
    direct.open_session().await;
    direct.put("a", "only at the source").await;
    let ahead = source.store.position();
    promote(copy.directory.path(), false).unwrap();
    let promoted = Store::open(copy.directory.path(), options(StoreLimits::default())).unwrap();
    assert!(promoted.is_on_history(&shared));
    assert!(!promoted.is_on_history(&ahead));
    let server = Server::start(promoted, ServeOptions::default(), &Handle::current()).unwrap();
    let own = objsync_server::identity::load(copy.directory.path()).unwrap();
    let mut client = connect(server.address(), server.key(), &own).await;
    let mut events = client.subscribe(Some(ahead)).await;
    let (entries, _) = events.state().await;
    assert_eq!(
        entries,
        [("a".to_owned(), "shared".to_owned())],
        "the state anew"
    );
}

#[tokio::test]
async fn only_who_may_follow_copies_or_speaks_for_others() {
    let source = Source::start();
    let (friend, reader) = (source.link(&["read", "write"]), source.link(&["read"]));
    let follower = source.link(FOLLOW);
    let (address, key) = (source.address(), source.server.key());
    let on_behalf = |peer: PeerKey| Request::OnBehalf {
        peer,
        session: None,
    };
    let replicate = || Request::Replicate {
        subscription: 5,
        since: None,
        partial: None,
    };
    let denied = |result: Result<Reply, Failure>| {
        assert_eq!(result.unwrap_err().kind, ErrorKind::Denied);
    };
    let mut client = connect(address, key, &friend).await;
    denied(client.request(replicate()).await);
    denied(client.request(on_behalf(reader.peer())).await);
    denied(
        client
            .request(Request::Grant(grant(friend.peer(), "*", FOLLOW)))
            .await,
    );

    let mut client = connect(address, key, &follower).await;
    denied(client.request(on_behalf(key)).await);
    denied(client.request(on_behalf(PeerKey([3; 32]))).await);
    let acting = client.request(on_behalf(reader.peer())).await;
    let expected = Reply::Acting {
        may_write: false,
        session_known: false,
    };
    assert_eq!(acting, Ok(expected));
    let again = client.request(on_behalf(friend.peer())).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::Invalid, "once");
    denied(client.request(Request::Grants).await);
    client.send(&ToOwner::OpenSession).await;
    assert_eq!(
        client.closed().await.kind,
        ErrorKind::Denied,
        "the reader may not write"
    );

    let read_only = source.link(&["read", "follow"]);
    let mut client = connect(address, key, &read_only).await;
    denied(
        client
            .request(Request::Grant(grant(PeerKey([4; 32]), "*", &["read"])))
            .await,
    );
    let acting = client.request(on_behalf(friend.peer())).await;
    let expected = Reply::Acting {
        may_write: false,
        session_known: false,
    };
    assert_eq!(acting, Ok(expected), "no more than the follower itself");

    let mut client = connect(address, key, &follower).await;
    client.request(on_behalf(friend.peer())).await.unwrap();
    assert!(source.server.revoke(friend.peer()).unwrap());
    assert_eq!(
        client.closed().await.kind,
        ErrorKind::Denied,
        "cut with whom it spoke for"
    );
    let narrow = source.server.grant(grant(friend.peer(), NAMESPACE, FOLLOW));
    assert_eq!(narrow.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn link_taken_back_at_the_source_is_cut_at_the_follower() {
    let source = Source::start();
    let friend = source.link(&["read"]);
    let copy = Copy::of(&source).await;
    copy.grants_of(&source.store).await;
    let mut client = copy.client(&friend, None).await;
    assert_eq!(client.get("a").await, None);
    source.server.revoke(friend.peer()).unwrap();
    assert_eq!(client.closed().await.kind, ErrorKind::Denied);
    let again = within(dial(copy.address, &friend, copy.key())).await;
    let connection = match again {
        Err(_) => return,
        Ok(connection) => connection,
    };
    let refused = Client::greet(connection, NAMESPACE, None).await;
    assert_eq!(refused.map(drop).unwrap_err().kind, ErrorKind::Denied);
}

#[tokio::test]
async fn follower_without_the_right_says_so_and_holds_nothing() {
    let source = Source::start();
    let friend = source.link(&["read", "write"]);
    let directory = tempfile::tempdir().unwrap();
    let follower = follow(
        directory.path(),
        source.address(),
        source.server.key(),
        &friend,
    );
    let refused = within(follower.unwrap().serving()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied, "{refused}");
    let own = tempfile::tempdir().unwrap();
    Store::open(own.path(), options(StoreLimits::default()))
        .unwrap()
        .close()
        .unwrap();
    let refused = follow(own.path(), source.address(), source.server.key(), &friend);
    assert!(refused.is_err(), "a store of its own stays one");
}

#[tokio::test]
async fn long_transactions_cross_in_parts() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let mut client = copy.own_client().await;
    client.open_session().await;
    let value: String = (0..3_000_000_u32)
        .map(|n| char::from(b'a' + (n % 23) as u8))
        .collect();
    client.put("long", &value).await;
    assert_eq!(client.get("long").await.as_deref(), Some(&*value));
    let _ = (PATIENCE, Durability::Sync);
}
