//! Why a server did not start, or a key or a peer was not accepted.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::PeerKey;

/// Why a call of this crate failed. Decide with [`ServerError::kind`]; report with `Display`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The operating system refused a call on a file or socket.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// The call, such as "read".
        what: &'static str,
        /// What it was for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The operating system refused the address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },

    /// Others than its owner may read the key, so it proves nothing.
    #[error("key {} has mode {mode:o}; the limit is 600: chmod 600 it", path.display())]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },

    /// The file is not an Ed25519 key of ours.
    #[error("key {} is not an Ed25519 private key in PKCS#8 of {} bytes", path.display(), expected_bytes)]
    KeyMalformed {
        /// The key file.
        path: PathBuf,
        /// How long it would be.
        expected_bytes: usize,
    },

    /// The key does not give the public half that was written down when it was made.
    #[error("key {} is damaged: it does not give the public key in key.pub; restore it from a backup", path.display())]
    KeyChanged {
        /// The key file.
        path: PathBuf,
    },

    /// There was a key, and it is gone. Another one would make the store a stranger to its peers.
    #[error("key {} is missing; restore it from a backup, or remove key.pub to have a new one made, which no link knows", path.display())]
    KeyMissing {
        /// The key file.
        path: PathBuf,
    },

    /// The file that tells the public half of the key is not what was written.
    #[error("public key {} is damaged; remove it, and it is made again from the key", path.display())]
    PublicKeyDamaged {
        /// The file.
        path: PathBuf,
    },

    /// The process at the other end of the Unix socket runs as another user.
    #[error("socket {} belongs to user {found}; this is user {expected}", path.display())]
    ForeignUser {
        /// The socket.
        path: PathBuf,
        /// The other end's user id.
        found: u32,
        /// Ours.
        expected: u32,
    },

    /// What came out of the Unix socket is not an owner's message.
    #[error("socket {} says something else than an owner would: {reason}", path.display())]
    NotAnOwner {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A server presented another key than the one expected: another store is served there.
    #[error("server has key {found}; the store's key is {expected}")]
    ForeignServer {
        /// The key that was presented.
        found: PeerKey,
        /// The key that was pinned.
        expected: PeerKey,
    },

    /// The owner would not have us, or nobody answered.
    #[error("{0}")]
    Refused(Failure),

    /// The TLS library refused our own key or settings.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),

    /// No certificate could be made of our own key.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),

    /// The cryptographic library refused a call.
    #[error("cannot {what}: the cryptographic library refused")]
    Crypto {
        /// The call, such as "draw a key".
        what: &'static str,
    },
}

impl ServerError {
    /// The stable class of this error: the wire code and the Python exception follow it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } | Self::Listen { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::StorageFull => ErrorKind::Full,
                _ => ErrorKind::Unavailable,
            },
            Self::KeyExposed { .. } | Self::ForeignUser { .. } | Self::ForeignServer { .. } => {
                ErrorKind::Denied
            }
            Self::Refused(failure) => failure.kind,
            Self::KeyMalformed { .. }
            | Self::KeyChanged { .. }
            | Self::KeyMissing { .. }
            | Self::PublicKeyDamaged { .. } => ErrorKind::Corrupt,
            Self::NotAnOwner { .. } => ErrorKind::Unsupported,
            Self::Tls(_) | Self::Certificate(_) | Self::Crypto { .. } => ErrorKind::Unavailable,
        }
    }

    /// Says which call on which path the system refused.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
