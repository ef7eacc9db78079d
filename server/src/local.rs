//! The Unix socket of a directory: where a process on this machine finds the owner, and hears of
//! its end.
//!
//! The owner says one [`OwnerInfo`] to whoever connects and then nothing more: end of file means
//! that the owner is gone, whatever it died of, as soon as the kernel knows.
//!
//! Invariants
//! * Only the owner's user gets an answer: mode 0600, and each end asks the kernel who the other
//!   is. A socket planted by somebody else in a shared directory is refused.
//! * The path is opened through the directory's descriptor, so its length has no limit of ours.
//! * Only the owner of the store's lock calls [`listen`]; so what lies there is stale.

use std::future::poll_fn;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use objsync_proto::limits::{LOCAL_CONNECTIONS_MAX, OWNER_INFO_BYTES_MAX};
use objsync_proto::wire::OwnerInfo;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener as TokioListener, UnixStream as TokioStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::error::ServerError;
use crate::inherited::Listed;

/// Name of the socket in a store's directory.
pub const SOCKET_FILE: &str = "sock";

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;
/// How long to wait when the process has no descriptor left for one more connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// The owner's end. Dropping it closes it and removes the name.
#[derive(Debug)]
pub struct LocalListener {
    listener: Listed<UnixListener>,
    name: Name,
}

/// The socket's name in its directory, removed when dropped.
#[derive(Debug)]
struct Name {
    directory: OwnedFd,
}

/// Listens on the socket of `directory`, in place of one that a dead owner left.
pub fn listen(directory: &Path) -> Result<LocalListener, ServerError> {
    let path = directory.join(SOCKET_FILE);
    let refused = |what| {
        let path = path.clone();
        move |error: rustix::io::Errno| ServerError::io(what, &path)(error.into())
    };
    let parent = open_directory(directory)?;
    match rustix::fs::unlinkat(&parent, SOCKET_FILE, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(refused("remove")(error)),
    }
    let listener = Listed::open(|| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        Ok(UnixListener::from(socket))
    })
    .map_err(ServerError::io("open", &path))?;
    rustix::net::bind(&*listener, &address(&parent).map_err(refused("name"))?)
        .map_err(refused("bind"))?;
    // Nobody can connect before `listen`, so nobody gets in before the mode is set.
    rustix::fs::chmodat(
        &parent,
        SOCKET_FILE,
        Mode::RUSR | Mode::WUSR,
        AtFlags::empty(),
    )
    .map_err(refused("chmod"))?;
    rustix::net::listen(&*listener, BACKLOG).map_err(refused("listen on"))?;
    Ok(LocalListener {
        listener,
        name: Name { directory: parent },
    })
}

/// Finds the owner of the store in `directory`: what it says, and the connection whose end of
/// file tells that it is gone. Blocks for at most `timeout` once it is connected.
///
/// The stream is in blocking mode; for tokio, call `set_nonblocking` and `from_std`.
///
/// # Errors
/// [`ServerError::Io`] with `NotFound` or `ConnectionRefused` when nobody owns the store, or its
/// owner has no socket (yet): try the lock.
pub fn connect(
    directory: &Path,
    timeout: Duration,
) -> Result<(OwnerInfo, UnixStream), ServerError> {
    let path = directory.join(SOCKET_FILE);
    let parent = open_directory(directory)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| ServerError::io("open", &path)(error.into()))?;
    address(&parent)
        .and_then(|address| rustix::net::connect(&socket, &address))
        .map_err(|error| ServerError::io("connect to", &path)(error.into()))?;
    let mut stream = UnixStream::from(socket);
    check_user(&stream, &path)?;
    stream
        .set_read_timeout(Some(timeout.max(Duration::from_millis(1))))
        .map_err(ServerError::io("set up", &path))?;
    let info = read_info(&mut stream, &path)?;
    stream
        .set_read_timeout(None)
        .map_err(ServerError::io("set up", &path))?;
    Ok((info, stream))
}

fn read_info(stream: &mut UnixStream, path: &Path) -> Result<OwnerInfo, ServerError> {
    let mut length = [0; 4];
    stream
        .read_exact(&mut length)
        .map_err(ServerError::io("read", path))?;
    let bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let not_an_owner = |reason: String| ServerError::NotAnOwner {
        path: path.to_owned(),
        reason,
    };
    if bytes > OWNER_INFO_BYTES_MAX {
        let reason = format!("a message of {bytes} bytes; the limit is {OWNER_INFO_BYTES_MAX}");
        return Err(not_an_owner(reason));
    }
    let mut body = vec![0; bytes];
    stream
        .read_exact(&mut body)
        .map_err(ServerError::io("read", path))?;
    rmp_serde::from_slice(&body).map_err(|error| not_an_owner(error.to_string()))
}

/// The message with its length before it, as it goes over the socket.
fn framed(info: &OwnerInfo) -> io::Result<Vec<u8>> {
    let body = rmp_serde::to_vec_named(info).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    Ok([length.to_be_bytes().as_slice(), &body].concat())
}

fn open_directory(directory: &Path) -> Result<OwnedFd, ServerError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty())
        .map_err(|error| ServerError::io("open", directory)(error.into()))
}

fn address(directory: &OwnedFd) -> rustix::io::Result<SocketAddrUnix> {
    let directory = directory.as_raw_fd();
    SocketAddrUnix::new(format!("/proc/self/fd/{directory}/{SOCKET_FILE}"))
}

/// Refuses a process of another user at the other end.
fn check_user(stream: &impl AsFd, path: &Path) -> Result<(), ServerError> {
    let credentials = rustix::net::sockopt::socket_peercred(stream)
        .map_err(|error| ServerError::io("ask who is at", path)(error.into()))?;
    let (found, expected) = (credentials.uid, rustix::process::geteuid());
    if found == expected {
        return Ok(());
    }
    Err(ServerError::ForeignUser {
        path: path.to_owned(),
        found: found.as_raw(),
        expected: expected.as_raw(),
    })
}

impl LocalListener {
    /// Answers whoever connects with `info`, until dropped; open connections end with it.
    ///
    /// # Errors
    /// When the kernel refuses to wait on the socket; a single failed connection is logged.
    pub async fn serve(self, info: &OwnerInfo, directory: &Path) -> io::Result<()> {
        let path: Arc<Path> = directory.join(SOCKET_FILE).into();
        let message: Arc<[u8]> = framed(info)?.into();
        let listener = self.listener.try_map(TokioListener::from_std)?;
        let _name = self.name;
        let places = Arc::new(Semaphore::new(LOCAL_CONNECTIONS_MAX));
        // Dropped with this future, and every connection with it.
        let mut open = tokio::task::JoinSet::new();
        loop {
            let accepted = poll_fn(|context| {
                Listed::poll_open(|| listener.poll_accept(context).map_ok(|(stream, _)| stream))
            });
            let accepted = accepted.await;
            while open.try_join_next().is_some() {}
            match accepted.map(|stream| (stream, Arc::clone(&places).try_acquire_owned())) {
                Ok((stream, Ok(place))) => {
                    let (message, path) = (Arc::clone(&message), Arc::clone(&path));
                    open.spawn(async move {
                        if let Err(error) = attend(&stream, &message, &path).await {
                            debug!(%error, "local connection ended");
                        }
                        drop((stream, place));
                    });
                }
                Ok((_, Err(_))) => {
                    warn!(
                        limit = LOCAL_CONNECTIONS_MAX,
                        "local connection refused: too many"
                    );
                }
                Err(error) => {
                    warn!(%error, path = %path.display(), "cannot accept a local connection");
                    // Out of descriptors, most likely: leave others time to close theirs.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Says who the owner is, then holds the connection until the other end closes it.
async fn attend(stream: &TokioStream, message: &[u8], path: &Path) -> Result<(), ServerError> {
    check_user(stream, path)?;
    // A fresh socket's buffer holds many times the limit of this message.
    let written = stream
        .try_write(message)
        .map_err(ServerError::io("write", path))?;
    debug_assert_eq!(
        written,
        message.len(),
        "the buffer of a new socket took the message"
    );
    loop {
        stream
            .readable()
            .await
            .map_err(ServerError::io("wait on", path))?;
        match stream.try_read(&mut [0; 64]) {
            Ok(0) => return Ok(()),
            // What a peer says here means nothing.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(ServerError::io("read", path)(error)),
        }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // The lock is still ours: a name that lies there now is ours too.
        let removed = rustix::fs::unlinkat(&self.directory, SOCKET_FILE, AtFlags::empty());
        if let Err(error) = removed {
            debug!(%error, "the local socket had no name to remove");
        }
    }
}

#[cfg(test)]
mod tests;
