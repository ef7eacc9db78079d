//! One peer: who it is, what it may do, and its dictionary and session.

use std::sync::{Arc, Mutex, PoisonError};

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::{Epoch, NamespaceId, PeerKey, SessionId};
use objsync_proto::limits::{
    LOCK_WAITS_MAX, NAMESPACE_BYTES_MAX, PAST_READS_IN_FLIGHT_MAX, REQUESTS_IN_FLIGHT_MAX,
    SESSION_BYTES_MAX, SESSION_RESULTS_MAX, STATES_IN_FLIGHT_MAX,
};
use objsync_proto::wire::{Hello, Welcome};
use objsync_store::Keeper;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::answers::Answers;
use crate::rights::Rights;
use crate::serving::{PROGRAM, Serving};
use crate::uploads::Uploads;

/// What a write counts for at least, so that bytes bound the number of writes too.
pub(crate) const WRITE_BYTES_MIN: usize = SESSION_BYTES_MAX / SESSION_RESULTS_MAX;

/// A peer that has been welcomed.
pub(crate) struct Peer {
    pub(crate) serving: Arc<Serving>,
    /// The epoch that it was told of: what it is sent is of this one.
    pub(crate) epoch: Epoch,
    pub(crate) key: PeerKey,
    pub(crate) rights: Rights,
    /// The name of its dictionary.
    pub(crate) name: String,
    pub(crate) answers: Answers,
    /// Bytes of writes that may still be given to the store before one is answered.
    pub(crate) writes: Arc<Semaphore>,
    /// Requests that may still be begun before one is answered.
    pub(crate) requests: Arc<Semaphore>,
    /// States and fetches that may still be begun before one is sent.
    pub(crate) states: Arc<Semaphore>,
    /// Reads of the past that may still be answered at once.
    pub(crate) past_reads: Arc<Semaphore>,
    /// Waits for locks that may still be begun before one is over.
    pub(crate) lock_waits: Arc<Semaphore>,
    /// Leases of presence that last as long as the connection does.
    pub(crate) keeper: Keeper,
    /// Chunks that it uploads.
    pub(crate) uploads: Uploads,
    /// Set when the connection ends.
    pub(crate) gone: CancellationToken,
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
struct State {
    namespace: Option<NamespaceId>,
    session: Session,
    /// For whom it speaks, if not for itself, and what that one may do.
    acting: Option<(PeerKey, Rights)>,
    /// It has asked to be told of changes of parts of values by the part.
    takes_patches: bool,
}

/// How a peer stands to the sessions of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Session {
    /// It has not asked for one.
    None,
    /// It named one that has ended: what it writes must not run again.
    Unknown,
    /// It has this one.
    Open(SessionId),
}

impl Peer {
    /// Meets a peer that holds `key`: finds its rights, its dictionary and its old session.
    ///
    /// # Errors
    /// Why it is turned away.
    pub(crate) fn meet(
        serving: Arc<Serving>,
        key: PeerKey,
        hello: Hello,
    ) -> Result<(Self, Welcome), Failure> {
        let name = hello.namespace;
        if name.is_empty() || name.len() > NAMESPACE_BYTES_MAX {
            let bytes = name.len();
            let message = format!(
                "namespace name has {bytes} bytes; it needs 1 to {NAMESPACE_BYTES_MAX} bytes"
            );
            return Err(Failure::new(ErrorKind::Invalid, message));
        }
        let rights = serving.rights(key, &name);
        if !rights.any() {
            let message = format!("key {key} has no grant for namespace {name:?}");
            return Err(Failure::new(ErrorKind::Denied, message));
        }
        let store = &serving.store;
        let namespace = store.namespace(&name).map_err(|error| error.to_failure())?;
        let session = match hello.session {
            // Only the source of a copy knows. If it has ended, writes are answered accordingly.
            Some(session) if serving.upstream.is_some() => Session::Open(session),
            Some(session) if store.session_known(session, key) => Session::Open(session),
            Some(_) => Session::Unknown,
            None => Session::None,
        };
        let position = store.position();
        let welcome = Welcome {
            program: PROGRAM.to_owned(),
            position,
            namespace,
            may_write: rights.write,
            durability: serving.durability,
            session_known: matches!(session, Session::Open(_)),
        };
        let peer = Self {
            keeper: store.keeper(),
            uploads: Uploads::new(store.chunks().pins(), serving.known.of(key)),
            gone: CancellationToken::new(),
            lock_waits: Arc::new(Semaphore::new(LOCK_WAITS_MAX)),
            serving,
            epoch: position.epoch,
            key,
            rights,
            name,
            answers: Answers::default(),
            writes: Arc::new(Semaphore::new(SESSION_BYTES_MAX)),
            requests: Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX)),
            states: Arc::new(Semaphore::new(STATES_IN_FLIGHT_MAX)),
            past_reads: Arc::new(Semaphore::new(PAST_READS_IN_FLIGHT_MAX)),
            state: Mutex::new(State {
                namespace,
                session,
                acting: None,
                takes_patches: false,
            }),
        };
        Ok((peer, welcome))
    }

    /// Its dictionary.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] while nobody has made it. It may be made through another
    /// connection, so the store is asked again.
    pub(crate) fn namespace(&self) -> Result<NamespaceId, Failure> {
        if let Some(namespace) = self.state().namespace {
            return Ok(namespace);
        }
        let name = &self.name;
        let found = self.serving.store.namespace(name);
        let namespace = found.map_err(|error| error.to_failure())?.ok_or_else(|| {
            Failure::new(
                ErrorKind::NotFound,
                format!("namespace {name:?} does not exist"),
            )
        })?;
        self.set_namespace(namespace);
        Ok(namespace)
    }

    /// Its dictionary has been made.
    pub(crate) fn set_namespace(&self, namespace: NamespaceId) {
        self.update(|state| state.namespace = Some(namespace));
    }

    /// Whether it is told of changes of parts of values by the part.
    pub(crate) fn takes_patches(&self) -> bool {
        self.state().takes_patches
    }

    /// It is told of them so from here on, or by whole values.
    pub(crate) fn take_patches(&self, by_part: bool) {
        self.update(|state| state.takes_patches = by_part);
    }

    /// How it stands to sessions.
    pub(crate) fn session(&self) -> Session {
        self.state().session
    }

    /// It has this session from here on.
    pub(crate) fn set_session(&self, session: Session) {
        self.update(|state| state.session = session);
    }

    /// The connection has ended, in order if `is_finished`: its presence ends with it, unless it is
    /// the owner who goes, or a follower whose client may still be there. Only the first call counts.
    pub(crate) fn end(&self, is_finished: bool) {
        self.gone.cancel();
        let is_follower = self.rights.follow && !self.rights.admin;
        match self.serving.stopping.is_cancelled() || (is_follower && !is_finished) {
            true => self.keeper.leave(),
            false => self.keeper.end(),
        }
        self.answers.finish();
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The key that its session belongs to.
    pub(crate) fn session_key(&self) -> PeerKey {
        self.state().acting.map_or(self.key, |(key, _)| key)
    }

    /// What may be done here.
    fn allowed(&self) -> Rights {
        self.state()
            .acting
            .map_or(self.rights, |(_, rights)| rights)
    }

    /// When what it may do here ends, milliseconds since 1970.
    pub(crate) fn expires_ms(&self) -> Option<u64> {
        self.allowed().expires_ms
    }

    /// Speaks for another key from here on, which was met by this follower. Gives what that one
    /// may do, and whether the session is still its own.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] without the right to follow, for the store's own key, and for a key
    /// without a grant; [`ErrorKind::Invalid`] once a session is open.
    pub(crate) fn act_for(
        &self,
        key: PeerKey,
        session: Option<SessionId>,
    ) -> Result<(Rights, bool), Failure> {
        self.may_follow()?;
        let state = self.state();
        if state.acting.is_some() || state.session != Session::None {
            let text = "this connection has a session, or speaks for a key already";
            return Err(Failure::new(ErrorKind::Invalid, text));
        }
        let found = self.serving.rights(key, &self.name);
        let rights = found.within(self.rights);
        if key == self.serving.key || !rights.any() {
            let name = &self.name;
            let message = format!("key {key} has no grant for namespace {name:?}");
            return Err(Failure::new(ErrorKind::Denied, message));
        }
        let of_copy = self.serving.upstream.is_some();
        let session = session.map_or(Session::None, |session| {
            match of_copy || self.serving.store.session_known(session, key) {
                true => Session::Open(session),
                false => Session::Unknown,
            }
        });
        self.uploads.speak_for(self.serving.known.of(key));
        self.update(|state| {
            state.acting = Some((key, rights));
            state.session = session;
        });
        Ok((rights, matches!(session, Session::Open(_))))
    }

    /// Whether it may read every dictionary of the store, so that nothing in it is kept from it.
    pub(crate) fn reads_all(&self) -> bool {
        let allowed = self.allowed();
        allowed.admin || (allowed.follow && allowed.read)
    }

    /// # Errors
    /// [`ErrorKind::Denied`] unless the peer may read.
    pub(crate) fn may_read(&self) -> Result<(), Failure> {
        self.may(self.allowed().read, "read")
    }

    /// # Errors
    /// [`ErrorKind::Denied`] unless the peer may write.
    pub(crate) fn may_write(&self) -> Result<(), Failure> {
        self.may(self.allowed().write, "write")
    }

    /// # Errors
    /// [`ErrorKind::Denied`] unless the peer may copy all of the store.
    pub(crate) fn may_follow(&self) -> Result<(), Failure> {
        self.may(self.rights.follow, "follow, nor speak for others in")
    }

    /// # Errors
    /// [`ErrorKind::Denied`] unless the peer holds the store's own key, or follows and writes: then
    /// it asks for whoever administers the copy.
    pub(crate) fn may_administer(&self) -> Result<(), Failure> {
        let allowed = self.allowed();
        self.may(
            allowed.admin || (allowed.follow && allowed.write),
            "administer",
        )
    }

    fn may(&self, allowed: bool, what: &str) -> Result<(), Failure> {
        if allowed {
            return Ok(());
        }
        let (key, name) = (self.session_key(), &self.name);
        let message = format!("key {key} may not {what} namespace {name:?}");
        Err(Failure::new(ErrorKind::Denied, message))
    }
}
