//! A copy from its first byte to its end: received, opened, served, and all of it again after a
//! break.
//!
//! While the source is away the copy is served as it is. While it is replaced the old one is
//! served, until the new one is whole; then the server ends, and comes back at the same address.

use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{PeerKey, Revision};
use objsync_proto::wire::FollowStatus;
use objsync_store::{Store, StoreError, StoreOptions};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Upstream;
use super::copying::{Copying, End};
use crate::error::ServerError;
use crate::server::{ServeOptions, Server};

/// First and longest pause between two attempts to reach the source.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How long clients get to read their last answers when the server comes back at once.
const GOODBYE: Duration = Duration::from_millis(500);
/// How long a port may be busy that nothing was served at yet.
const PORT_PATIENCE: Duration = Duration::from_secs(5);

/// How to follow.
#[derive(Clone)]
pub struct FollowOptions {
    /// Where the copy lies, or will.
    pub directory: PathBuf,
    /// Where to serve it. Port 0 takes a free one, and keeps it.
    pub listen: SocketAddr,
    /// How the copy is opened; `follow` and `create` are set here.
    pub store: StoreOptions,
}

/// How a follower is.
#[derive(Debug, Clone)]
enum State {
    /// There is nothing to serve yet.
    Waiting,
    Serving(SocketAddr),
    /// It cannot go on, and has ended.
    Failed(Failure),
    Ended,
}

/// A copy that follows its source and is served, until it is shut down. Dropped, it ends in the
/// background.
pub struct Follower {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    options: FollowOptions,
    upstream: Arc<Upstream>,
    stopping: CancellationToken,
    state: watch::Sender<State>,
    open: Mutex<Option<Open>>,
}

/// A copy that is served.
struct Open {
    store: Store,
    server: Arc<Server>,
}

impl Follower {
    /// Opens the copy, if there is one, and begins to follow on the runtime of `handle`. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// Of the store: the directory is in use, or holds something else.
    pub fn start(
        options: FollowOptions,
        upstream: Upstream,
        handle: &Handle,
    ) -> Result<Self, StoreError> {
        let mut options = options;
        options.store.follow = true;
        options.store.create = false;
        let store = open(&options)?;
        let shared = Arc::new(Shared {
            options,
            upstream: Arc::new(upstream),
            stopping: CancellationToken::new(),
            state: watch::Sender::new(State::Waiting),
            open: Mutex::new(None),
        });
        let task = handle.spawn(Arc::clone(&shared).run(store));
        Ok(Self {
            shared,
            task: Mutex::new(Some(task)),
        })
    }

    /// Waits until the copy is served, and tells where.
    ///
    /// # Errors
    /// Why it never will be.
    ///
    /// # Cancel safety
    /// Dropped half way, nothing changes.
    pub async fn serving(&self) -> Result<SocketAddr, Failure> {
        let mut state = self.shared.state.subscribe();
        loop {
            match &*state.borrow_and_update() {
                State::Serving(address) => return Ok(*address),
                State::Failed(failure) => return Err(failure.clone()),
                State::Ended => return Err(ended()),
                State::Waiting => {}
            }
            if state.changed().await.is_err() {
                return Err(ended());
            }
        }
    }

    /// Waits until following has ended.
    ///
    /// # Errors
    /// Why it could not go on; none after a shutdown.
    ///
    /// # Cancel safety
    /// Dropped half way, nothing changes.
    pub async fn ended(&self) -> Result<(), Failure> {
        let mut state = self.shared.state.subscribe();
        let is_over = |state: &State| matches!(state, State::Failed(_) | State::Ended);
        // The sender lives as long as this does.
        match state.wait_for(is_over).await.as_deref() {
            Ok(State::Failed(failure)) => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    /// How far the copy is behind its source.
    #[must_use]
    pub fn status(&self) -> FollowStatus {
        let open = self.shared.open();
        let revision = open.as_ref().map(|open| open.store.position().revision);
        drop(open);
        self.shared.upstream.status(revision.unwrap_or(Revision(0)))
    }

    /// The copy, while it is served.
    #[must_use]
    pub fn store(&self) -> Option<Store> {
        self.shared.open().as_ref().map(|open| open.store.clone())
    }

    /// The key that the copy's server proves, while it is served.
    #[must_use]
    pub fn key(&self) -> Option<PeerKey> {
        self.shared.open().as_ref().map(|open| open.server.key())
    }

    /// Says goodbye to the clients and closes the copy.
    ///
    /// # Cancel safety
    /// Dropped half way, it goes on in the background.
    pub async fn shutdown(&self) {
        self.shared.stopping.cancel();
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task
            && let Err(error) = task.await
            && error.is_panic()
        {
            warn!(%error, "following has panicked");
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.stopping.cancel();
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("directory", &self.shared.options.directory)
            .field("upstream", &self.shared.upstream)
            .finish_non_exhaustive()
    }
}

impl Shared {
    async fn run(self: Arc<Self>, store: Option<Store>) {
        // What is there is served at once: its source may be away for long.
        let mut copy = Ok(store.map(|store| (store, true)));
        let ended = loop {
            copy = match copy {
                Ok(copy) => self.round(copy).await,
                Err(end) => break end,
            };
        };
        self.close().await;
        if let State::Failed(failure) = &ended {
            warn!(%failure, "following has ended");
        }
        self.state.send_replace(ended);
    }

    /// Serves a copy, if there is one, and follows until it has to be opened anew, which is done
    /// then. A copy that was just begun is served once it has caught up: until then it would lack
    /// what clients have seen elsewhere.
    async fn round(
        self: &Arc<Self>,
        copy: Option<(Store, bool)>,
    ) -> Result<Option<(Store, bool)>, State> {
        let caught_up = Arc::new(watch::Sender::new(false));
        let (store, is_ready) = copy.unzip();
        caught_up.send_replace(is_ready.unwrap_or(false));
        let serving = async {
            let mut wait = caught_up.subscribe();
            // The sender lives as long as this does.
            let _ = wait.wait_for(|is_ready| *is_ready).await;
            match &store {
                Some(store) => self.serve(store.clone()).await,
                None => pending().await,
            }
        };
        let following = self.keep_following(store.clone(), &caught_up);
        let both = async {
            let (mut serving, mut following) = (pin!(serving), pin!(following));
            tokio::select! { biased;
                served = &mut serving => {
                    served?;
                    following.await
                }
                end = &mut following => end,
            }
        };
        let next = tokio::select! { biased;
            () = self.stopping.cancelled() => Err(State::Ended),
            next = both => next,
        };
        if self.open().is_none()
            && let Some(store) = store
        {
            close(store).await;
        }
        next?;
        tokio::select! { biased;
            () = self.stopping.cancelled() => Err(State::Ended),
            reopened = self.reopen() => reopened.map(Some),
        }
    }

    /// Follows until the copy has to be opened anew.
    async fn keep_following(
        self: &Arc<Self>,
        store: Option<Store>,
        caught_up: &Arc<watch::Sender<bool>>,
    ) -> Result<(), State> {
        let mut pause = PAUSE.0;
        loop {
            let begun = Instant::now();
            match self.copying(store.clone(), caught_up).run().await {
                End::Installed => return Ok(()),
                End::Broken(error) => match self.heal(&error).await? {
                    true if store.is_some() => return Ok(()),
                    _ => warn!(%error, "the copy takes nothing at the moment"),
                },
                // With nothing to serve, whoever started this is to hear of it.
                End::Lost(failure) if store.is_none() && is_final(&failure) => {
                    return Err(State::Failed(failure));
                }
                End::Lost(failure) => info!(%failure, "not following at the moment"),
            }
            if begun.elapsed() > PAUSE.1 {
                pause = PAUSE.0;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Whether a copy that could not take what was sent is to be opened anew, served or not.
    ///
    /// # Errors
    /// Why trying again would not help.
    async fn heal(&self, error: &StoreError) -> Result<bool, State> {
        if is_lasting(error) {
            return Err(State::Failed(error.to_failure()));
        }
        // After a failed sync a store takes nothing until it is opened again.
        let is_poisoned = matches!(error.kind(), ErrorKind::Closed | ErrorKind::OutcomeUnknown);
        if is_poisoned {
            warn!(%error, "the copy is opened anew");
            sleep(PAUSE.1).await;
        }
        Ok(is_poisoned)
    }

    fn copying(
        self: &Arc<Self>,
        store: Option<Store>,
        caught_up: &Arc<watch::Sender<bool>>,
    ) -> Copying {
        let shared = Arc::clone(self);
        Copying {
            upstream: Arc::clone(&self.upstream),
            directory: self.options.directory.clone(),
            options: self.options.store.clone(),
            store,
            grants_changed: Arc::new(move |peers| {
                let server = shared.open().as_ref().map(|open| Arc::clone(&open.server));
                if let Some(server) = server {
                    server.grants_changed(peers);
                }
            }),
            caught_up: Arc::clone(caught_up),
        }
    }

    /// Serves a copy, where it was served before; the port of the server before may take the kernel
    /// a moment.
    async fn serve(&self, store: Store) -> Result<(), State> {
        let (listen, was_served) = match *self.state.borrow() {
            State::Serving(address) => (address, true),
            _ => (self.options.listen, false),
        };
        let give_up = Instant::now() + PORT_PATIENCE;
        loop {
            let options = ServeOptions {
                listen,
                upstream: Some(Arc::clone(&self.upstream)),
                ..ServeOptions::default()
            };
            match Server::start(store.clone(), options, &Handle::current()) {
                Ok(server) => {
                    let server = Arc::new(server);
                    let address = server.address();
                    *self.open() = Some(Open { store, server });
                    self.state.send_replace(State::Serving(address));
                    return Ok(());
                }
                Err(ServerError::Listen { source, .. })
                    if source.kind() == io::ErrorKind::AddrInUse
                        && (was_served || Instant::now() < give_up) =>
                {
                    sleep(PAUSE.0).await;
                }
                Err(error) => {
                    let failure = Failure::new(error.kind(), error.to_string());
                    return Err(State::Failed(failure));
                }
            }
        }
    }

    /// Ends the server and opens what is there now; again and again while the disk refuses.
    async fn reopen(&self) -> Result<(Store, bool), State> {
        self.close().await;
        loop {
            let options = self.options.clone();
            let opened = tokio::task::spawn_blocking(move || open(&options)).await;
            match opened {
                Ok(Ok(Some(store))) => return Ok((store, false)),
                Ok(Ok(None)) => {
                    let failure = Failure::new(ErrorKind::Corrupt, "the copy is gone");
                    return Err(State::Failed(failure));
                }
                Ok(Err(error)) if is_lasting(&error) => {
                    return Err(State::Failed(error.to_failure()));
                }
                Ok(Err(error)) => warn!(%error, "the copy cannot be opened at the moment"),
                Err(_) => return Err(State::Ended),
            }
            sleep(PAUSE.1).await;
        }
    }

    /// Ends the server, and closes the copy.
    async fn close(&self) {
        let Some(Open { store, server }) = self.open().take() else {
            return;
        };
        server.shutdown(GOODBYE).await;
        // The name of the Unix socket goes while the lock is still ours.
        drop(server);
        close(store).await;
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn close(store: Store) {
    let closed = tokio::task::spawn_blocking(move || store.close()).await;
    if let Ok(Err(error)) = closed {
        warn!(%error, "the copy was not closed cleanly");
    }
}

/// The copy in a directory; none if nothing is there yet.
fn open(options: &FollowOptions) -> Result<Option<Store>, StoreError> {
    match Store::open(&options.directory, options.store.clone()) {
        Ok(store) => Ok(Some(store)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether trying again would not help with the files of a copy.
fn is_lasting(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::NotACopy { .. } | StoreError::Locked { .. } | StoreError::NotAStore { .. }
    ) || error.kind() == ErrorKind::Corrupt
}

/// Whether asking again would not help.
fn is_final(failure: &Failure) -> bool {
    matches!(
        failure.kind,
        ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::Unsupported | ErrorKind::Corrupt
    )
}

fn ended() -> Failure {
    Failure::new(ErrorKind::Closed, "the follower was shut down")
}
