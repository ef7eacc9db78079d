//! The descriptors that a forked child must close, so that it keeps no dead owner alive.
//!
//! A child inherits every socket. One that sleeps on would keep the owner's port busy and its
//! Unix connections open after the owner was killed, so its peers would not hear the end.
//!
//! Invariant: a socket of ours is opened and closed only under the lock of the list it stands on.
//! A fork handler that takes [`hold`] before the fork finds exactly the open ones on the list:
//! none missing, and none whose number already belongs to somebody else's file.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, UdpPoller};

static LISTED: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// While this lives, no socket of ours is opened or closed.
pub struct Held(MutexGuard<'static, Vec<RawFd>>);

/// Stops the opening and closing of sockets: to be called before a fork, kept over it, and
/// dropped in parent and child; the child first closes what [`Held::fds`] names.
#[must_use]
pub fn hold() -> Held {
    Held(LISTED.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Held {
    /// Every socket of this crate that is open in this process.
    #[must_use]
    pub fn fds(&self) -> &[RawFd] {
        &self.0
    }

    /// Forgets them all: they are the parent's. For the child, once it has closed them.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&*self.0).finish()
    }
}

/// A socket that stands on the list for as long as it is open.
#[derive(Debug)]
pub(crate) struct Listed<T> {
    /// None only while it is dropped.
    socket: Option<T>,
    fd: RawFd,
}

impl<T: AsRawFd> Listed<T> {
    /// Opens a socket and puts it on the list, in one step as seen by a fork. `open` must not
    /// block.
    pub(crate) fn open(open: impl FnOnce() -> io::Result<T>) -> io::Result<Self> {
        match Self::poll_open(|| Poll::Ready(open())) {
            Poll::Ready(opened) => opened,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// The same for what may have to wait.
    pub(crate) fn poll_open(open: impl FnOnce() -> Poll<io::Result<T>>) -> Poll<io::Result<Self>> {
        let mut held = hold();
        open().map_ok(|socket| {
            let fd = socket.as_raw_fd();
            held.0.push(fd);
            Self {
                socket: Some(socket),
                fd,
            }
        })
    }
}

impl<T> Listed<T> {
    /// The same place on the list for another form of the same socket.
    pub(crate) fn try_map<U>(
        mut self,
        map: impl FnOnce(T) -> io::Result<U>,
    ) -> io::Result<Listed<U>> {
        // `map` closes the socket if it fails, so it runs under the lock.
        let held = hold();
        let mapped = self.socket.take().map(map);
        drop(held);
        match mapped {
            Some(Ok(socket)) => {
                let fd = std::mem::replace(&mut self.fd, -1);
                Ok(Listed {
                    socket: Some(socket),
                    fd,
                })
            }
            Some(Err(error)) => Err(error),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl<T> Deref for Listed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.socket
            .as_ref()
            .expect("it is taken out only by what consumes or drops it")
    }
}

impl<T: AsRawFd> AsRawFd for Listed<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl<T> Drop for Listed<T> {
    fn drop(&mut self) {
        let mut held = hold();
        drop(self.socket.take());
        if let Some(place) = held.0.iter().position(|&fd| fd == self.fd) {
            held.0.swap_remove(place);
        }
    }
}

/// Gives a bound UDP socket that stands on the list to QUIC.
pub(crate) fn quic_socket(
    socket: Listed<UdpSocket>,
    runtime: &dyn Runtime,
) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let socket = socket.try_map(|socket| runtime.wrap_udp_socket(socket))?;
    Ok(Arc::new(ListedUdp { socket }))
}

/// QUIC's own socket, on the list until its last user drops it.
#[derive(Debug)]
struct ListedUdp {
    socket: Listed<Arc<dyn AsyncUdpSocket>>,
}

impl AsyncUdpSocket for ListedUdp {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        let poller = Arc::clone(&self.socket).create_io_poller();
        Box::pin(ListedPoller {
            poller,
            _socket: self,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

/// A poller shares the socket with its maker; the order of the fields lets go of the inner share
/// first, so that the last share to go is always the listed one.
#[derive(Debug)]
struct ListedPoller {
    poller: Pin<Box<dyn UdpPoller>>,
    _socket: Arc<ListedUdp>,
}

impl UdpPoller for ListedPoller {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poller.as_mut().poll_writable(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_stands_on_the_list_exactly_while_it_is_open() {
        let socket = Listed::open(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
        let fd = socket.as_raw_fd();
        assert!(hold().fds().contains(&fd));
        let mapped = socket.try_map(Ok::<_, io::Error>).unwrap();
        assert!(hold().fds().contains(&fd));
        drop(mapped);
        assert!(!hold().fds().contains(&fd));
    }

    #[test]
    fn socket_that_does_not_open_leaves_nothing_on_the_list() {
        let before = hold().fds().len();
        let refused = io::ErrorKind::AddrInUse;
        assert!(Listed::<UdpSocket>::open(|| Err(refused.into())).is_err());
        assert!(hold().fds().len() <= before);
    }
}
