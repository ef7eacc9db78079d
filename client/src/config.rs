//! What a handle was asked for: where its store is found, and how it is used.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use objsync_proto::cut::Chunking;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::PeerKey;
use objsync_proto::limits::NAMESPACE_BYTES_MAX;
use objsync_server::{Identity, identity};

use crate::error::{ObjectError, Result};
use crate::home;
use crate::options::{OfflineMode, Options, Target};
use crate::packing::Packer;

/// How a store is found.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// In this directory.
    Directory {
        /// As an absolute path.
        path: PathBuf,
        /// Own it and serve it there, or fail.
        serve_at: Option<SocketAddr>,
    },
    /// In the directory that belongs to this loopback address.
    Loopback(SocketAddr),
    /// At one of these addresses.
    Remote {
        /// `host:port` each.
        hosts: Vec<String>,
        /// The key the server must prove.
        server: PeerKey,
        /// The key this side proves.
        identity: Identity,
    },
}

/// What a handle was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// How the store is found.
    pub(crate) place: Place,
    /// The caller's options.
    pub(crate) options: Options,
    /// How this handle packs values, and opens those of others.
    pub(crate) packer: Arc<Packer>,
    /// Whether it cuts large values by their content; a forked child goes on with it.
    is_cut_by_content: Arc<AtomicBool>,
    /// The store's name in messages.
    pub(crate) what: String,
}

impl Config {
    /// Of a handle on a directory.
    pub(crate) fn directory(
        path: &Path,
        serve_at: Option<SocketAddr>,
        options: Options,
    ) -> Result<Self> {
        refuse_file(path)?;
        let path = std::path::absolute(path).map_err(ObjectError::io("look at", path))?;
        if options.readonly
            && matches!(
                objsync_store::format::format_path(&path).try_exists(),
                Ok(false)
            )
        {
            return Err(ObjectError::NoStore { path });
        }
        let what = format!("store {}", path.display());
        Self::new(Place::Directory { path, serve_at }, what, options)
    }

    /// Of a handle on what is served somewhere.
    pub(crate) fn target(target: &Target, mut options: Options) -> Result<Self> {
        let link = match (target, options.link.take()) {
            (Target::Link(link), _) => Some(link.clone()),
            (Target::Address { host, port }, Some(mut link)) => {
                link.hosts = vec![join(host, *port)];
                Some(link)
            }
            (Target::Address { .. }, None) => None,
        };
        match (link, target) {
            (Some(link), _) => {
                let what = link.hosts.join(", ");
                let identity = Identity::from_secret(link.secret)?;
                let server = link.server;
                if !link.namespace.is_empty() && options.namespace == Options::default().namespace {
                    options.namespace.clone_from(&link.namespace);
                }
                let hosts = link.hosts;
                Self::new(
                    Place::Remote {
                        hosts,
                        server,
                        identity,
                    },
                    what,
                    options,
                )
            }
            (None, Target::Address { host, port }) => Self::address(host, *port, options),
            (None, Target::Link(_)) => unreachable!("a target that is a link was taken above"),
        }
    }

    fn address(host: &str, port: u16, options: Options) -> Result<Self> {
        let what = join(host, port);
        if port == 0 {
            let text = format!("address {what}: the port is 1 to 65535");
            return Err(ObjectError::new(ErrorKind::Invalid, text));
        }
        if let Some(ip) = loopback(host) {
            return Self::new(Place::Loopback(SocketAddr::new(ip, port)), what, options);
        }
        // Another name of this machine, served by this user: its key is at hand.
        let directory = home::directory_of_port(port)?;
        match identity::load(&directory) {
            Ok(identity) => {
                let server = identity.peer();
                let hosts = vec![what.clone()];
                Self::new(
                    Place::Remote {
                        hosts,
                        server,
                        identity,
                    },
                    what,
                    options,
                )
            }
            Err(_) => Err(ObjectError::new(
                ErrorKind::Denied,
                format!("{what} is another machine: a link made there by `objsync link` is needed"),
            )),
        }
    }

    fn new(place: Place, what: String, options: Options) -> Result<Self> {
        let bytes = options.namespace.len();
        if bytes == 0 || bytes > NAMESPACE_BYTES_MAX {
            return Err(ObjectError::new(
                ErrorKind::Invalid,
                format!(
                    "namespace {:?} is {bytes} bytes; it is 1 to {NAMESPACE_BYTES_MAX} bytes",
                    options.namespace
                ),
            ));
        }
        let must_own = matches!(
            place,
            Place::Directory {
                serve_at: Some(_),
                ..
            }
        );
        if must_own && options.offline == OfflineMode::Queue {
            let text = "offline = \"queue\" is for a handle that is not the owner, and this one is \
                        asked to serve";
            return Err(ObjectError::new(ErrorKind::Invalid, text));
        }
        let packer = Arc::new(Packer::new(&options)?);
        let by_content = options.chunking == Chunking::Content;
        Ok(Self {
            place,
            options,
            packer,
            is_cut_by_content: Arc::new(AtomicBool::new(by_content)),
            what,
        })
    }

    /// How this handle cuts large values.
    pub(crate) fn chunking(&self) -> Chunking {
        match self.is_cut_by_content.load(Ordering::Relaxed) {
            true => Chunking::Content,
            false => Chunking::Fixed,
        }
    }

    /// Has the writes that begin from now on cut otherwise.
    pub(crate) fn set_chunking(&self, chunking: Chunking) {
        let by_content = chunking == Chunking::Content;
        self.is_cut_by_content.store(by_content, Ordering::Relaxed);
    }

    /// What a forked child asks for: the same, but it need not be the owner.
    pub(crate) fn in_child(&self) -> Arc<Self> {
        let mut child = self.clone();
        // The parent's may have been in use by a thread that the child does not have.
        if let Ok(packer) = Packer::new(&self.options) {
            child.packer = Arc::new(packer);
        }
        if let Place::Directory { serve_at, .. } = &mut child.place {
            *serve_at = None;
        }
        Arc::new(child)
    }

    /// Whether this handle may own the store when nobody else does.
    pub(crate) fn may_own(&self) -> bool {
        if self.options.surroundings.is_some() {
            return false;
        }
        match &self.place {
            Place::Directory {
                serve_at: Some(_), ..
            } => true,
            Place::Directory { .. } | Place::Loopback(_) => {
                // What is queued goes through a session, which an owner has none of.
                let queues = self.options.offline == OfflineMode::Queue;
                self.options.promote && self.options.link.is_none() && !queues
            }
            Place::Remote { .. } => false,
        }
    }

    /// Whether this handle must own the store.
    pub(crate) fn must_own(&self) -> bool {
        matches!(
            self.place,
            Place::Directory {
                serve_at: Some(_),
                ..
            }
        )
    }

    /// The store's directory, if it is on this machine. Asked anew each time: the directory of a
    /// port is the one last served there.
    pub(crate) fn local_directory(&self) -> Result<Option<PathBuf>> {
        match &self.place {
            Place::Directory { path, .. } => Ok(Some(path.clone())),
            Place::Loopback(address) => home::directory_of_port(address.port()).map(Some),
            Place::Remote { .. } => Ok(None),
        }
    }

    /// Where to listen as the owner.
    pub(crate) fn listen(&self) -> SocketAddr {
        match &self.place {
            Place::Directory {
                serve_at: Some(address),
                ..
            }
            | Place::Loopback(address) => *address,
            Place::Directory { serve_at: None, .. } | Place::Remote { .. } => {
                SocketAddr::from(([127, 0, 0, 1], 0))
            }
        }
    }
}

/// The address that a loopback name binds.
fn loopback(host: &str) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(IpAddr::from([127, 0, 0, 1]));
    }
    host.parse().ok().filter(IpAddr::is_loopback)
}

fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// A store is a directory; a file there is most often the state of an older program.
fn refuse_file(path: &Path) -> Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    let mut start = [0; 4];
    let bytes = File::open(path)
        .and_then(|mut file| file.read(&mut start))
        .unwrap_or(0);
    let hint = match &start[..bytes] {
        [0x80, 2..=5, ..] => {
            "; it looks like an old pickle: read it with Python's pickle.load, which runs code \
             that it holds, and give the result to a new store as default_value"
        }
        [0x28, 0xb5, 0x2f, 0xfd] => {
            "; it looks like an old compressed pickle: unpack it with zstd -d, read it with \
             Python's pickle.load, which runs code that it holds, and give the result to a new \
             store as default_value"
        }
        _ => "",
    };
    Err(ObjectError::NotADirectory {
        path: path.to_owned(),
        hint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_looks_like_an_old_pickle_is_named_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.pkl");
        let said = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let error = Config::directory(&path, None, Options::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            error.to_string()
        };
        assert!(said(b"\x80\x04\x95").contains("old pickle"));
        assert!(said(b"\x28\xb5\x2f\xfd").contains("compressed pickle"));
        assert!(said(b"hello").ends_with("is a file, and a store is a directory"));
        assert!(said(b"").ends_with("is a file, and a store is a directory"));
    }

    #[test]
    fn only_loopback_names_and_directories_may_own() {
        let may = |host: &str| {
            let target = Target::Address {
                host: host.into(),
                port: 1,
            };
            Config::target(&target, Options::default()).map(|config| config.may_own())
        };
        assert!(may("localhost").unwrap());
        assert!(may("127.3.2.1").unwrap());
        assert!(may("::1").unwrap());
        assert_eq!(may("192.0.2.1").unwrap_err().kind(), ErrorKind::Denied);
    }
}
