//! Finding the owner of a store, or becoming it.
//!
//! On this machine the Unix socket of the directory names the owner. When there is none, or it
//! refuses, the lock decides: whoever gets it opens the store, binds and serves; the others look
//! again. No clock and no timeout is part of the safety argument: the kernel gives one lock to
//! one process, and frees it when that process ends, whatever it died of.
//!
//! Trail of a takeover: end of file in [`crate::connection`] -> [`run`] -> [`attempt`] wins the lock
//! -> [`become_owner`] -> `Core::become_owner`, which first finishes what was unanswered.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use objsync_proto::error::ErrorKind;
use objsync_proto::ids::PeerKey;
use objsync_proto::limits::MEMORY_BYTES_MIN;
use objsync_proto::wire::OwnerInfo;
use objsync_server::{Identity, Network, ServerError, dial, identity, local};
use objsync_store::{Store, StoreError, StoreLimits, StoreOptions};
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::calls::Calls;
use crate::config::{Config, Place};
use crate::connection::{End, Link, drive, end_of_file};
use crate::core::{Core, Phase};
use crate::error::{ObjectError, Result};
use crate::home;
use crate::owned::{DirectoryId, Owned, OwnedUse};
use crate::owner::OwnerSide;
use crate::process;

/// First and longest pause between two looks.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// How often deadlines are looked at while nobody is found.
const TICK: Duration = Duration::from_millis(20);
/// How long an owner may take to say who it is, and which part of the handle's own timeout: a
/// caller that gives up is to hear who it was that hung.
const INFO_TIMEOUT_PART: u32 = 4;
const INFO_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the end of an owner may take to be heard of after somebody else has its port.
const END_TIMEOUT: Duration = Duration::from_millis(100);
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// Who serves the store.
enum Found {
    /// Somebody else.
    Link(Link),
    /// This process.
    Owned(OwnedUse),
}

/// What one look at a directory finds.
enum Attempt {
    /// An owner that answers.
    Owner(OwnerInfo, StdUnixStream),
    /// This process owns it by now.
    Owned(OwnedUse),
    /// Nobody answers, for this reason, and the lock is not ours.
    Nobody(String),
}

/// The life of a handle on the I/O thread: seek, use, and seek again, until it is closed.
pub(crate) async fn run(core: Arc<Core>) {
    let mut calls = Calls::new(core.config.options.durability);
    let Some(phase) = live(&core, &mut calls).await else {
        return;
    };
    if let Some(offline) = &core.offline {
        offline.close().await;
    }
    core.end(phase);
    calls.fail(&core.end_error());
    core.replica.end_taps();
}

/// Gives the phase in which the handle ends; none when it has become the owner.
async fn live(core: &Arc<Core>, calls: &mut Calls) -> Option<Phase> {
    loop {
        let found = {
            let mut seeking = pin!(seek(core));
            loop {
                tokio::select! { biased;
                    found = &mut seeking => break Some(found),
                    () = core.closing() => break None,
                    () = tokio::time::sleep(TICK) => {
                        core.expire_queued(Instant::now());
                        calls.expire(core, Instant::now());
                    }
                }
            }
        };
        let error = match found {
            None => return Some(Phase::Closed),
            Some(Ok(Found::Link(link))) => match drive(core, calls, link).await {
                End::Lost(reason) => {
                    tracing::debug!(what = %core.config.what, reason, "the owner is lost");
                    core.enter(Phase::Seeking {
                        reason: Some(reason),
                        opening: false,
                    });
                    continue;
                }
                End::Closed => return Some(Phase::Closed),
                End::Failed(error) => error,
            },
            Some(Ok(Found::Owned(owned))) => match become_owner(core, calls, owned).await {
                Ok(()) => return None,
                Err(error) => error,
            },
            Some(Err(error)) => error,
        };
        tracing::debug!(what = %core.config.what, %error, "the handle cannot go on");
        return Some(Phase::Failed(error));
    }
}

/// Makes this process the owner as far as one handle is concerned.
async fn become_owner(core: &Arc<Core>, calls: &mut Calls, owned: OwnedUse) -> Result<()> {
    core.check_store_seen(owned.store.position().store)?;
    let peer = owned.key();
    let worker = Arc::clone(core);
    let side = tokio::task::spawn_blocking(move || {
        OwnerSide::new(owned, &worker.config, worker.runtime().clone())
    });
    let side = side
        .await
        .map_err(|stopped| ObjectError::stopped(&stopped))??;
    core.become_owner(side, |side| calls.take_over(side, peer));
    core.replica.end_taps();
    core.replica.retire();
    Ok(())
}

/// Looks until somebody serves the store.
///
/// # Errors
/// When looking again would not help.
async fn seek(core: &Arc<Core>) -> Result<Found> {
    let mut pause = PAUSE.0;
    loop {
        let reason = match &core.config.place {
            Place::Remote {
                hosts,
                server,
                identity,
            } => match connect_to_any(core, hosts, *server, identity).await? {
                Ok(link) => return Ok(Found::Link(link)),
                Err(reason) => reason,
            },
            Place::Directory { .. } | Place::Loopback(_) => match look(core).await? {
                Ok(found) => return Ok(found),
                Err(reason) => reason,
            },
        };
        core.enter(Phase::Seeking {
            reason: Some(reason),
            opening: false,
        });
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// One look at a store of this machine. The inner error is why it found nobody.
async fn look(core: &Arc<Core>) -> Result<Result<Found, String>> {
    let worker = Arc::clone(core);
    let attempted = tokio::task::spawn_blocking(move || attempt(&worker)).await;
    match attempted.map_err(|stopped| ObjectError::stopped(&stopped))?? {
        Attempt::Owned(owned) => Ok(Ok(Found::Owned(owned))),
        Attempt::Nobody(reason) => Ok(Err(reason)),
        Attempt::Owner(info, stream) => {
            let Some(directory) = core.config.local_directory()? else {
                return Ok(Err(String::from(
                    "the store has no directory on this machine",
                )));
            };
            connect_locally(core, &directory, &info, stream)
                .await
                .map(|link| link.map(Found::Link))
        }
    }
}

/// Asks the directory's owner, or tries to become it. Blocks.
fn attempt(core: &Core) -> Result<Attempt> {
    let config = &core.config;
    let Some(directory) = config.local_directory()? else {
        return Ok(Attempt::Nobody(
            "the store has no directory on this machine".into(),
        ));
    };
    let process = process::current()?;
    if config.may_own()
        && let Ok(id) = DirectoryId::of(&directory)
        && let Some(owned) = process.owner_of(id)
    {
        return share(config, owned);
    }
    let mut nobody = None;
    if !config.must_own() {
        let timeout = INFO_TIMEOUT.min(config.options.timeout / INFO_TIMEOUT_PART);
        match local::connect(&directory, timeout) {
            Ok((info, stream)) => return Ok(Attempt::Owner(info, stream)),
            Err(error) if is_fatal(&error) => return Err(error.into()),
            Err(ServerError::Io { source, .. }) if is_absent(&source) => {}
            Err(error) => nobody = Some(error.to_string()),
        }
    }
    if !config.may_own() {
        return Ok(Attempt::Nobody(nobody.unwrap_or_else(|| unserved(config))));
    }
    match own(core, &directory) {
        Ok(owned) => {
            // Who may write must not find one that cannot.
            if !owned.is_private() {
                process.add_owner(&owned);
            }
            Ok(Attempt::Owned(owned))
        }
        Err(ObjectError::Store(locked @ StoreError::Locked { .. })) => {
            Ok(Attempt::Nobody(locked.to_string()))
        }
        // Its follower may be back in a moment; nobody else may take its place.
        Err(ObjectError::Store(follows @ StoreError::Follows { .. })) if !config.must_own() => {
            Ok(Attempt::Nobody(follows.to_string()))
        }
        Err(error) => Err(error),
    }
}

/// Why nobody answers, when the directory has no socket that does.
fn unserved(config: &Config) -> String {
    let reason = match config.place {
        Place::Loopback(address) if is_port_held(address.port()) => {
            "the port is held by another user or another program; another user's store takes a link"
        }
        _ => "nobody serves it",
    };
    String::from(reason)
}

/// Another handle of this process owns the store: use it, at the address asked for too.
fn share(config: &Config, owned: OwnedUse) -> Result<Attempt> {
    let wanted = config.listen();
    if wanted.port() != 0 {
        owned.listen(wanted)?;
    }
    Ok(Attempt::Owned(owned))
}

/// Takes the lock, opens the store and serves it.
fn own(core: &Core, directory: &Path) -> Result<OwnedUse> {
    let config = &core.config;
    if let Place::Loopback(_) = config.place
        && let Some(parent) = directory.parent()
    {
        home::make_private(parent)?;
    }
    let memory_bytes = match config.options.memory_bytes {
        Some(bytes) => bytes.max(MEMORY_BYTES_MIN),
        None => crate::memory_bytes()?,
    };
    let options = StoreOptions {
        durability: config.options.serve_durability,
        force_network_fs: config.options.force_network_fs,
        limits: StoreLimits::within(memory_bytes),
        ..StoreOptions::default()
    };
    // Why nobody was found before stays known: a caller may give up in this moment.
    let reason = match core.phase() {
        Phase::Seeking { reason, .. } => reason,
        _ => None,
    };
    core.enter(Phase::Seeking {
        reason: reason.clone(),
        opening: true,
    });
    let served = match Store::open(directory, options.clone()) {
        Err(error) if config.options.readonly && error.is_unwritable() => {
            only_read(directory, options)
        }
        opened => opened
            .map_err(ObjectError::from)
            .and_then(|store| serve(core, directory, store)),
    };
    core.enter(Phase::Seeking {
        reason,
        opening: false,
    });
    served
}

/// Opens a store as it lies there, without lock and socket, for this handle alone.
fn only_read(directory: &Path, options: StoreOptions) -> Result<OwnedUse> {
    let options = StoreOptions {
        readonly: true,
        ..options
    };
    let store = Store::open(directory, options)?;
    tracing::info!(directory = %directory.display(), "opened for reading only");
    Owned::only_read(store)
}

/// Binds and serves. The port of an owner that has just died may take the kernel a moment.
fn serve(core: &Core, directory: &Path, store: Store) -> Result<OwnedUse> {
    let listen = core.config.listen();
    let give_up = Instant::now() + core.config.options.timeout;
    loop {
        match Owned::start(store.clone(), listen) {
            Ok(owned) => {
                // Whoever serves on a free port tells others which one it was.
                if let (true, Some(address)) = (core.config.must_own(), owned.address()) {
                    owned.remember(address)?;
                }
                return Ok(owned);
            }
            Err(error)
                if is_port_taken(&error) && Instant::now() < give_up && !core.is_closing() =>
            {
                std::thread::sleep(PAUSE.0);
            }
            Err(error) => {
                let key = identity::load(directory).map(|identity| identity.peer());
                let _ = store.close();
                return Err(match key {
                    Ok(key) if is_port_taken(&error) => port_taken(core, directory, key, listen),
                    _ => error,
                });
            }
        }
    }
}

/// Whether somebody on this machine has the UDP port, going by the kernel's list. Only a hint for
/// people: binding it to find out would be in the way of an owner that starts.
fn is_port_held(port: u16) -> bool {
    let wanted = format!(":{port:04X}");
    ["/proc/net/udp", "/proc/net/udp6"]
        .iter()
        .filter_map(|list| std::fs::read_to_string(list).ok())
        .any(|list| {
            let mut locals = list
                .lines()
                .filter_map(|line| line.split_whitespace().nth(1));
            locals.any(|local| local.ends_with(&wanted))
        })
}

fn is_port_taken(error: &ObjectError) -> bool {
    matches!(error, ObjectError::Server(error)
        if matches!(&**error, ServerError::Listen { source, .. }
            if source.kind() == io::ErrorKind::AddrInUse))
}

/// Who has the port that this store should be served at, as far as a handshake can tell.
fn port_taken(core: &Core, directory: &Path, key: PeerKey, listen: SocketAddr) -> ObjectError {
    let holder = Identity::generate().ok().and_then(|stranger| {
        let asked = core.runtime().block_on(tokio::time::timeout(
            HANDSHAKE_TIMEOUT / 3,
            handshake(core.network(), listen, key, &stranger),
        ));
        match asked {
            Ok(Err(ObjectError::Server(error))) => match &*error {
                ServerError::ForeignServer { found, .. } => {
                    Some(format!("the store of key {found}"))
                }
                _ => None,
            },
            _ => None,
        }
    });
    let holder = holder.unwrap_or_else(|| String::from("another program"));
    let directory = directory.display();
    ObjectError::new(
        ErrorKind::Denied,
        format!(
            "{listen} is held by {holder}; the store {directory} of key {key} cannot be served there"
        ),
    )
}

/// Whether looking again for the owner of a directory would not help.
fn is_fatal(error: &ServerError) -> bool {
    matches!(
        error,
        ServerError::ForeignUser { .. } | ServerError::KeyExposed { .. }
    )
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Connects to the owner that a directory's socket has named.
async fn connect_locally(
    core: &Core,
    directory: &Path,
    info: &OwnerInfo,
    stream: StdUnixStream,
) -> Result<Result<Link, String>> {
    let path: PathBuf = directory.to_owned();
    let ours = match identity::load(&path) {
        Ok(ours) => ours,
        Err(error) if is_fatal(&error) => return Err(error.into()),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let local = stream
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(stream));
    let local = local.map_err(ObjectError::io("wait on the socket of", directory))?;
    let mut local = Some(local);
    let shaken = in_time(handshake(core.network(), info.address, ours.peer(), &ours)).await;
    match shaken {
        Ok(Ok(quic)) => {
            let (address, pid) = (info.address, Some(info.pid));
            Ok(Ok(Link {
                quic,
                local,
                address,
                pid,
            }))
        }
        Ok(Err(reason)) => Ok(Err(format!("process {} owns it: {reason}", info.pid))),
        // A dead owner's port may belong to another store by now.
        Err(error) => match tokio::time::timeout(END_TIMEOUT, end_of_file(&mut local)).await {
            Ok(()) => Ok(Err(format!("process {} is gone: {error}", info.pid))),
            Err(_) => Err(error),
        },
    }
}

/// Connects to the first of several hosts that answers.
async fn connect_to_any(
    core: &Core,
    hosts: &[String],
    server: PeerKey,
    identity: &Identity,
) -> Result<Result<Link, String>> {
    let mut reason = String::from("the link names no host");
    for host in hosts {
        let addresses = match tokio::net::lookup_host(host).await {
            Ok(addresses) => addresses,
            Err(error) => {
                reason = format!("{host}: {error}");
                continue;
            }
        };
        for address in addresses {
            match in_time(handshake(core.network(), address, server, identity)).await? {
                Ok(quic) => {
                    return Ok(Ok(Link {
                        quic,
                        local: None,
                        address,
                        pid: None,
                    }));
                }
                Err(error) => reason = format!("{host}: {error}"),
            }
        }
    }
    Ok(Err(reason))
}

/// Sorts a handshake's errors: the outer ones will be the same next time.
async fn in_time(
    handshake: impl Future<Output = Result<quinn::Connection>>,
) -> Result<Result<quinn::Connection, String>> {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(quic)) => Ok(Ok(quic)),
        Ok(Err(error)) if error.kind() == ErrorKind::Unavailable => Ok(Err(error.to_string())),
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(Err(String::from("no answer to the handshake"))),
    }
}

/// Makes a QUIC connection, proving `identity` and accepting the key `server` only.
async fn handshake(
    network: &dyn Network,
    address: SocketAddr,
    server: PeerKey,
    identity: &Identity,
) -> Result<quinn::Connection> {
    match dial(network, address, identity, server).await {
        Ok(connection) => Ok(connection),
        Err(ServerError::Refused(failure)) => Err(failure.into()),
        Err(other) => Err(other.into()),
    }
}
