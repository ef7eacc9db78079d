//! Sources and followers for tests: on addresses that they keep, killed and started again.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use objsync_proto::ids::{PeerKey, SessionId};
use objsync_proto::operation::Operation;
use objsync_proto::wire::{FollowStatus, Grant, Reply, Request};
use objsync_server::{
    FollowOptions, Follower, Identity, ServeOptions, Server, Udp, Upstream, dial,
};
use objsync_store::{IndexKind, Store, StoreLimits, StoreOptions};
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::peer::{Client, NAMESPACE, encoded, within};

/// A source at an address that it keeps.
pub(crate) struct Source {
    pub(crate) server: Server,
    pub(crate) store: Store,
    pub(crate) directory: TempDir,
    pub(crate) limits: StoreLimits,
}

pub(crate) fn options(limits: StoreLimits) -> StoreOptions {
    StoreOptions {
        index: IndexKind::Memory,
        limits,
        ..StoreOptions::default()
    }
}

impl Source {
    pub(crate) fn start() -> Self {
        Self::start_in(
            tempfile::tempdir().unwrap(),
            "127.0.0.1:0".parse().unwrap(),
            StoreLimits::default(),
        )
    }

    pub(crate) fn start_in(directory: TempDir, listen: SocketAddr, limits: StoreLimits) -> Self {
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

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Dies as a process does that is killed.
    pub(crate) async fn kill(self) -> (TempDir, SocketAddr, StoreLimits) {
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

    pub(crate) fn link(&self, rights: &[&str]) -> Arc<Identity> {
        granted(&self.store, "*", rights)
    }
}

pub(crate) fn granted(store: &Store, scope: &str, rights: &[&str]) -> Arc<Identity> {
    let identity = Identity::generate().unwrap();
    store.grant(grant(identity.peer(), scope, rights)).unwrap();
    Arc::new(identity)
}

pub(crate) fn grant(peer: PeerKey, scope: &str, rights: &[&str]) -> Grant {
    Grant {
        peer,
        scope: scope.to_owned(),
        rights: rights.iter().map(|&right| right.to_owned()).collect(),
        expires_ms: None,
        label: String::new(),
    }
}

pub(crate) const FOLLOW: &[&str] = &["read", "write", "follow"];

pub(crate) fn follow(
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
pub(crate) struct Copy {
    pub(crate) follower: Follower,
    pub(crate) address: SocketAddr,
    pub(crate) directory: TempDir,
    pub(crate) link: Arc<Identity>,
}

impl Copy {
    pub(crate) async fn of(source: &Source) -> Self {
        let link = source.link(FOLLOW);
        Self::with(source.address(), source.server.key(), link).await
    }

    pub(crate) async fn with(address: SocketAddr, server: PeerKey, link: Arc<Identity>) -> Self {
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

    pub(crate) fn key(&self) -> PeerKey {
        self.follower.key().unwrap()
    }

    pub(crate) async fn client(&self, identity: &Identity, session: Option<SessionId>) -> Client {
        let connection = within(dial(&Udp, self.address, identity, self.key()))
            .await
            .unwrap();
        Client::greet(connection, NAMESPACE, session).await.unwrap()
    }

    /// A client of the copy's own user.
    pub(crate) async fn own_client(&self) -> Client {
        let identity = objsync_server::identity::load(self.directory.path()).unwrap();
        self.client(&identity, None).await
    }

    /// Waits until the copy is at least where the source is.
    pub(crate) async fn catch_up(&self, source: &Store) {
        let wanted = source.position();
        let there = async {
            loop {
                let held = self.follower.store().map(|store| store.position());
                if held.is_some_and(|held| {
                    held.epoch == wanted.epoch && held.revision >= wanted.revision
                }) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        within(there).await;
    }

    /// Waits until the copy has the grants of the source.
    pub(crate) async fn grants_of(&self, source: &Store) {
        within(async {
            while self
                .follower
                .store()
                .is_none_or(|held| held.grants() != source.grants())
            {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub(crate) async fn status_that(&self, is_it: impl Fn(&FollowStatus) -> bool) -> FollowStatus {
        let told = async {
            loop {
                let status = self.follower.status();
                if is_it(&status) {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        within(told).await
    }
}

pub(crate) fn increment() -> Operation {
    Operation::Increment {
        key: encoded("count"),
        by: 1,
    }
}

pub(crate) async fn connect(address: SocketAddr, server: PeerKey, identity: &Identity) -> Client {
    let connection = within(dial(&Udp, address, identity, server)).await.unwrap();
    Client::greet(connection, NAMESPACE, None).await.unwrap()
}

impl Client {
    pub(crate) async fn get_number(&mut self, key: &str) -> u64 {
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
