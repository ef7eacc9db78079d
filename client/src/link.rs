//! Links: how somebody else is let in.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use objsync_proto::error::ErrorKind;
use objsync_proto::ids::PeerKey;
use objsync_proto::link::{HostPort, LinkError};
use objsync_proto::wire::{Grant, Request};
use objsync_server::{Identity, identity};

use crate::config::Place;
use crate::core::{Core, Phase};
use crate::error::{ObjectError, Result};

/// An address, the server's key, and a secret that lets its holder in.
///
/// Written `objsync://host:port[,host:port]/namespace?server=<key>&key=<secret>`, both in hex.
/// Whoever has it has its rights: treat it as a password. `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    /// Where the store is served, tried in order: `host:port` each, at least one.
    pub hosts: Vec<String>,
    /// The dictionary it is for; empty for one that the holder chooses.
    pub namespace: String,
    /// The public key that the server must prove.
    pub server: PeerKey,
    /// The seed of the Ed25519 key that this side proves.
    pub secret: [u8; 32],
}

/// What to let somebody do.
#[derive(Debug, Clone, Default)]
pub struct GrantRequest {
    /// Only this dictionary; none for all of the store.
    pub namespace: Option<String>,
    /// Reading only.
    pub readonly: bool,
    /// For a follower: it may copy the whole store, speak for the clients that it has met, and
    /// make links. Only for all of the store.
    pub follow: bool,
    /// Until when, milliseconds since 1970; none for "until revoked".
    pub expires_ms: Option<u64>,
    /// A name for people.
    pub label: String,
    /// The hosts to name in the link (`host:port`); empty for the address served now.
    pub hosts: Vec<String>,
}

impl Link {
    /// What every link starts with.
    pub const SCHEME: &'static str = "objsync://";

    /// Reads a link.
    ///
    /// # Errors
    /// `Invalid`, without repeating the secret.
    pub fn parse(text: &str) -> Result<Self> {
        let link: objsync_proto::link::Link = text.parse().map_err(|error: LinkError| {
            // What is wrong, never what was read: it may hold the secret.
            ObjectError::new(ErrorKind::Invalid, error.to_string())
        })?;
        Ok(Self {
            hosts: link.hosts.iter().map(HostPort::to_string).collect(),
            namespace: link.namespace,
            server: link.server,
            secret: *link.secret.reveal(),
        })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}/", Self::SCHEME, self.hosts.join(","))?;
        for byte in self.namespace.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    write!(f, "{}", char::from(byte))?;
                }
                other => write!(f, "%{other:02X}")?,
            }
        }
        write!(f, "?server={}&key=", self.server)?;
        self.secret
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("hosts", &self.hosts)
            .field("namespace", &self.namespace)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl FromStr for Link {
    type Err = ObjectError;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// Draws a key, lets it in, and returns the link that proves it.
pub(crate) async fn grant(core: Arc<Core>, request: GrantRequest) -> Result<Link> {
    let stranger = Identity::generate()?;
    let scope = match &request.namespace {
        Some(name) if name.contains('/') => format!("dict/{name}"),
        Some(name) => name.clone(),
        None => String::from("*"),
    };
    let rights = match (request.readonly, request.follow) {
        (true, false) => &["read"][..],
        (true, true) => &["read", "follow"],
        (false, false) => &["read", "write"],
        (false, true) => &["read", "write", "follow"],
    };
    let grant = Grant {
        peer: stranger.peer(),
        scope,
        rights: rights.iter().map(|&right| right.to_owned()).collect(),
        expires_ms: request.expires_ms,
        label: request.label,
    };
    core.request(Request::Grant(grant)).await?;
    let (server, address) = server_of(&core)?;
    let hosts = if request.hosts.is_empty() {
        vec![address]
    } else {
        request.hosts
    };
    Ok(Link {
        hosts,
        namespace: request.namespace.unwrap_or_default(),
        server,
        secret: *stranger.secret(),
    })
}

/// The key and the address of whoever serves the store now.
fn server_of(core: &Core) -> Result<(PeerKey, String)> {
    if let Some(owner) = core.owner() {
        let address = owner.owned().address().map(|address| address.to_string());
        return match (owner.owned().key(), address) {
            (Some(key), Some(address)) => Ok((key, address)),
            _ => Err(core.closed_error()),
        };
    }
    let key = match (&core.config.place, core.config.local_directory()?) {
        (Place::Remote { server, .. }, _) => *server,
        (_, Some(directory)) => identity::load(&directory)?.peer(),
        (_, None) => return Err(core.unreachable(core.config.options.timeout)),
    };
    match core.phase() {
        Phase::Peer { address, .. } => Ok((key, address.to_string())),
        _ => Err(core.unreachable(core.config.options.timeout)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link {
            hosts: vec!["a.example:8080".into(), "[::1]:7".into()],
            namespace: "prices & caf\u{e9}".into(),
            server: PeerKey([7; 32]),
            secret: [0xab; 32],
        }
    }

    #[test]
    fn link_comes_back_from_its_text() {
        assert_eq!(Link::parse(&link().to_string()).unwrap(), link());
    }

    #[test]
    fn damaged_link_is_refused_without_repeating_its_secret() {
        let text = link().to_string();
        for cut in 0..text.len() {
            let error = Link::parse(&text[..cut]).unwrap_err().to_string();
            assert!(!error.contains("abab"), "{error}");
        }
    }

    #[test]
    fn debug_hides_the_secret() {
        assert!(!format!("{:?}", link()).contains("ab, "));
        assert!(!format!("{:?}", link()).contains("171"));
    }
}
