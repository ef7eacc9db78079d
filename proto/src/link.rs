//! Links: how somebody who is not the owner's own user is let in.
//!
//! `objsync://host:port[,host:port]/namespace?server=<key>&key=<secret>`, both in hex: the public key
//! that the server must prove, and the seed of the key to come with.
//! Whoever holds a link has its rights, so it is shown only by [`Link::reveal`].

use std::fmt;
use std::str::FromStr;

use crate::ids::{PeerKey, parse_hex};
use crate::limits::{LINK_BYTES_MAX, LINK_HOSTS_MAX, NAMESPACE_BYTES_MAX};

const SCHEME: &str = "objsync://";

/// Where a store is served, which key it must prove, and a key that it lets in.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    /// Where to try, in order; at least one.
    pub hosts: Vec<HostPort>,
    /// The dictionary it is for; empty for one that the holder chooses.
    pub namespace: String,
    /// The store's public key, which whoever serves it must prove.
    pub server: PeerKey,
    /// The key to come with.
    pub secret: Secret,
}

/// A host and a port. The host may be a name, an IPv4 or an IPv6 address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Without the brackets of an IPv6 address.
    pub host: String,
    /// Not 0.
    pub port: u16,
}

/// The seed of an Ed25519 key. Neither `Debug` nor any error shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Wraps a seed.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self(seed)
    }

    /// The seed itself.
    #[must_use]
    pub fn reveal(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a text is no link. Nothing of the text is repeated: it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// It is over the limit.
    #[error("link is {bytes} bytes; the limit is {LINK_BYTES_MAX} bytes")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It starts with something else.
    #[error("link does not start with {SCHEME}")]
    Scheme,
    /// A host without a port, or with one that is no number from 1 to 65535, or no host at all.
    #[error("link needs a host and a port, as in {SCHEME}host:8080/name")]
    Host,
    /// More hosts than are tried.
    #[error("link has {count} hosts; the limit is {LINK_HOSTS_MAX}")]
    Hosts {
        /// How many.
        count: usize,
    },
    /// The namespace is too long or not percent-encoded UTF-8.
    #[error("link has a bad namespace; the limit is {NAMESPACE_BYTES_MAX} bytes of UTF-8")]
    Namespace,
    /// A part of the query is missing, doubled, or not 64 digits of hex.
    #[error("link needs {0}= with 64 digits of lower-case hex, once")]
    Query(&'static str),
    /// A part of the query that this version does not know.
    #[error("link has a part that this version does not know")]
    Unknown,
}

impl Link {
    /// The link as text, secret included.
    #[must_use]
    pub fn reveal(&self) -> String {
        let seed: String = self
            .secret
            .0
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{}&key={seed}", self.without_secret())
    }

    fn without_secret(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(HostPort::to_string).collect();
        let name = percent_encode(&self.namespace);
        format!("{SCHEME}{}/{name}?server={}", hosts.join(","), self.server)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({}&key=..)", self.without_secret())
    }
}

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        if text.len() > LINK_BYTES_MAX {
            return Err(LinkError::TooLong { bytes: text.len() });
        }
        let rest = text.trim().strip_prefix(SCHEME).ok_or(LinkError::Scheme)?;
        let (place, query) = rest.split_once('?').ok_or(LinkError::Query("server"))?;
        let (hosts, name) = place.split_once('/').unwrap_or((place, ""));
        let count = hosts.split(',').count();
        if count > LINK_HOSTS_MAX {
            return Err(LinkError::Hosts { count });
        }
        let namespace = percent_decode(name).ok_or(LinkError::Namespace)?;
        if namespace.len() > NAMESPACE_BYTES_MAX {
            return Err(LinkError::Namespace);
        }
        let (server, secret) = parse_query(query)?;
        let hosts = hosts.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self {
            hosts,
            namespace,
            server: PeerKey(server),
            secret: Secret(secret),
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = LinkError;

    /// Takes `host:port` and `[address]:port`.
    fn from_str(text: &str) -> Result<Self, LinkError> {
        let (host, port) = text.rsplit_once(':').ok_or(LinkError::Host)?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
            None if !host.is_empty() && host.bytes().all(is_host_byte) => host,
            _ => return Err(LinkError::Host),
        };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if port > 0 && digits => Ok(Self {
                host: host.to_owned(),
                port,
            }),
            _ => Err(LinkError::Host),
        }
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

fn parse_query(query: &str) -> Result<([u8; 32], [u8; 32]), LinkError> {
    let (mut server, mut secret) = (None, None);
    for part in query.split('&') {
        let (name, value) = part.split_once('=').ok_or(LinkError::Unknown)?;
        let (place, name) = match name {
            "server" => (&mut server, "server"),
            "key" => (&mut secret, "key"),
            _ => return Err(LinkError::Unknown),
        };
        let bytes = parse_hex(value).map_err(|_| LinkError::Query(name))?;
        if place.replace(bytes).is_some() {
            return Err(LinkError::Query(name));
        }
    }
    let server = server.ok_or(LinkError::Query("server"))?;
    Ok((server, secret.ok_or(LinkError::Query("key"))?))
}

fn percent_encode(text: &str) -> String {
    let piece = |byte: u8| {
        if is_host_byte(byte) || byte == b'~' {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(piece).collect()
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (pair, after) = rest.split_first_chunk::<2>()?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let value = digit(pair[0])? << 4 | digit(pair[1])?;
        bytes.push(u8::try_from(value).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn link(namespace: &str) -> Link {
        Link {
            hosts: vec![
                "db.example:8080".parse().unwrap(),
                "[::1]:9".parse().unwrap(),
            ],
            namespace: namespace.into(),
            server: PeerKey([0xAB; 32]),
            secret: Secret::new([0x5E; 32]),
        }
    }

    proptest! {
        #[test]
        fn link_comes_back_from_its_text(namespace in ".{0,30}", server: [u8; 32], seed: [u8; 32]) {
            let (server, secret) = (PeerKey(server), Secret::new(seed));
            let link = Link { server, secret, ..link(&namespace) };
            prop_assert_eq!(link.reveal().parse::<Link>(), Ok(link));
        }

        #[test]
        fn damaged_link_never_panics(cut in 0..250_usize, with in ".{0,3}") {
            let text = link("a b").reveal();
            let cut = cut.min(text.len());
            let _ = format!("{}{with}{}", &text[..cut], &text[cut..]).parse::<Link>();
            let _ = text[..cut].parse::<Link>();
        }
    }

    #[test]
    fn link_is_written_as_documented() {
        let text = format!(
            "objsync://db.example:8080,[::1]:9/a%2Fb%20%C3%A9?server={}&key={}",
            "ab".repeat(32),
            "5e".repeat(32)
        );
        assert_eq!(link("a/b \u{e9}").reveal(), text);
    }

    #[test]
    fn secret_is_in_neither_debug_nor_any_error() {
        let link = link("x");
        assert!(!format!("{link:?} {:?}", link.secret).contains("5e5e"));
        let bad = link.reveal().replace("server=", "sever=");
        let error = bad.parse::<Link>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("5e5e"));
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let good = link("x").reveal();
        let error = |text: String| text.parse::<Link>().unwrap_err();
        assert_eq!(error(good.replace("objsync:", "http:")), LinkError::Scheme);
        assert_eq!(error(good.replace(":8080", "")), LinkError::Host);
        assert_eq!(error(good.replace("8080", "0")), LinkError::Host);
        assert_eq!(error(good.replace("8080", "+80")), LinkError::Host);
        assert_eq!(error(good.replace("db.example", "")), LinkError::Host);
        assert_eq!(error(good.replace("[::1]", "::1")), LinkError::Host);
        assert_eq!(error(good.replace("/x?", "/%zz?")), LinkError::Namespace);
        assert_eq!(
            error(good.replace("server=ab", "server=AB")),
            LinkError::Query("server")
        );
        assert_eq!(
            error(good.replace("&key=", "&server=")),
            LinkError::Query("server")
        );
        assert_eq!(error(good.replace("&key=", "&quay=")), LinkError::Unknown);
        assert_eq!(
            error(good.split('&').next().unwrap().into()),
            LinkError::Query("key")
        );
        assert_eq!(error("objsync://h:1/x".into()), LinkError::Query("server"));
        let hosts = vec!["h:1"; LINK_HOSTS_MAX + 1].join(",");
        let many = format!("objsync://{hosts}/{}", good.split_once("/x").unwrap().1);
        assert_eq!(
            error(many),
            LinkError::Hosts {
                count: LINK_HOSTS_MAX + 1
            }
        );
        let long = LINK_BYTES_MAX + 1;
        assert_eq!(error("x".repeat(long)), LinkError::TooLong { bytes: long });
    }

    #[test]
    fn link_without_a_name_leaves_the_choice_to_its_holder() {
        let text = link("").reveal();
        assert_eq!(text.parse::<Link>().unwrap().namespace, "");
        assert_eq!(
            text.replace("/?", "?").parse::<Link>().unwrap().namespace,
            ""
        );
    }
}
