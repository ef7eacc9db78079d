//! What a handle can be told when it is opened.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use objsync_proto::cut::Chunking;
use objsync_proto::effect::Change;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::Durability;
use objsync_proto::limits::CALL_TIMEOUT_MS;
use objsync_proto::wire::KeyRange;

use crate::error::{ObjectError, Result};
use crate::link::Link;
use crate::surroundings::Surroundings;

/// How a handle is opened. `Options::default()` is good for most.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which dictionary of the store; at most 255 bytes. Default: `default`.
    pub namespace: String,
    /// What a dictionary that does not exist yet holds from its first moment (values are plain
    /// payloads; a change without a value is refused). Ignored when it exists.
    pub content: Option<Vec<Change>>,
    /// The level of this handle's writes; none for the owner's default, which is `sync`.
    pub durability: Option<Durability>,
    /// Refuse every write through this handle with `Denied`. Then a store that nobody has open is
    /// opened where nothing can be written too, on a full disk or a read-only file system: as it
    /// lies there, held in memory, for this handle alone. Where there is no store, none is made
    /// ([`crate::ObjectError::NoStore`]).
    pub readonly: bool,
    /// zstd level for values written by this handle, 1 to 22; none to store them as they are.
    pub compression: Option<i32>,
    /// With `compression`: train dictionaries on the values of the namespace, and pack with them,
    /// so that small values shrink too. Default: true. A handle that queues its writes on disk uses
    /// none. Each dictionary takes up to 512 KiB of the store for good, and a namespace has at
    /// most 16.
    pub dictionary: bool,
    /// Become the owner when nobody serves the store (loopback addresses and directories only).
    pub promote: bool,
    /// How much of the dictionary this handle holds in memory when it is not the owner.
    pub replica: ReplicaMode,
    /// See and hold only this range of encoded keys.
    pub range: Option<KeyRange>,
    /// How long a call waits before it gives up. Default 5 s.
    pub timeout: Duration,
    /// What becomes of writes while there is no owner.
    pub offline: OfflineMode,
    /// Prove ourselves with this link's key only, and never become the owner.
    pub link: Option<Link>,
    /// Accept another store than the one this handle saw before, when it reconnects.
    pub recover: bool,
    /// The level of writes that name none, for every handle, while this one is the owner.
    pub serve_durability: Durability,
    /// Bytes that the store may take in memory while this handle is the owner: for changes ahead
    /// of the index, the ring of events, the index's cache and decoded values together. What the
    /// index takes beyond its cache is not in it. At least 16 MiB; none for
    /// [`memory_bytes`](crate::memory_bytes).
    pub memory_bytes: Option<u64>,
    /// Use a directory on a network file system, where locks may not hold.
    pub force_network_fs: bool,
    /// How this handle cuts what it puts into chunks: values above 64 KiB. Fixed unless told otherwise.
    pub chunking: Chunking,
    /// Where the handle runs; none for this process's own I/O thread and the kernel's UDP. A handle
    /// that is given others never becomes the owner.
    pub surroundings: Option<Surroundings>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: String::from("default"),
            content: None,
            durability: None,
            readonly: false,
            compression: None,
            dictionary: true,
            promote: true,
            replica: ReplicaMode::Auto,
            range: None,
            timeout: Duration::from_millis(CALL_TIMEOUT_MS),
            offline: OfflineMode::Wait,
            link: None,
            recover: false,
            serve_durability: Durability::Sync,
            memory_bytes: None,
            force_network_fs: false,
            chunking: Chunking::Fixed,
            surroundings: None,
        }
    }
}

/// What becomes of writes while there is no owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OfflineMode {
    /// They wait for one, up to the timeout.
    #[default]
    Wait,
    /// They go to a queue on this machine's disk (`$OBJSYNC_HOME/queues`) first, always, and are
    /// sent from there, in order, each once, also by a later process. While there is no owner they
    /// return once they are on that disk. Such a handle never becomes the owner. At most 64 MiB and
    /// 65,536 writes; it costs two syncs of the disk more per write.
    Queue,
}

impl FromStr for OfflineMode {
    type Err = ObjectError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "wait" => Ok(Self::Wait),
            "queue" => Ok(Self::Queue),
            other => Err(ObjectError::new(
                ErrorKind::Invalid,
                format!("offline {other:?}: it is \"wait\" or \"queue\""),
            )),
        }
    }
}

/// How much of the dictionary a handle that is not the owner holds in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplicaMode {
    /// All of it up to 256 MiB, above that what was read lately.
    #[default]
    Auto,
    /// All of it, whatever its size.
    Full,
    /// Nothing: each read is a round trip.
    None,
}

impl FromStr for ReplicaMode {
    type Err = ObjectError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "full" => Ok(Self::Full),
            "none" => Ok(Self::None),
            other => Err(ObjectError::new(
                ErrorKind::Invalid,
                format!("replica {other:?}: it is \"auto\", \"full\" or \"none\""),
            )),
        }
    }
}

/// Where a served store is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A host name or IP address, and a port.
    Address {
        /// The host, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A link made by `objsync link`.
    Link(Link),
}

impl Target {
    /// Reads `host:port`, `[v6]:port` or `objsync://...`.
    ///
    /// # Errors
    /// `Invalid` when the text is neither, or the port is missing.
    pub fn parse(text: &str) -> Result<Self> {
        if text.starts_with(Link::SCHEME) {
            return Link::parse(text).map(Self::Link);
        }
        let wrong = || {
            ObjectError::new(
                ErrorKind::Invalid,
                format!("address {text:?}: it is host:port, such as localhost:8080, or a link"),
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if host.is_empty() || (bare.is_none() && host.contains(':')) {
            return Err(wrong());
        }
        let port = port.parse().map_err(|_| wrong())?;
        Ok(Self::Address {
            host: bare.unwrap_or(host).to_owned(),
            port,
        })
    }
}

impl FromStr for Target {
    type Err = ObjectError;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// The range of all encoded keys whose bytes start with `prefix`.
pub fn prefix_range(prefix: &[u8]) -> KeyRange {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            break;
        }
        end.pop();
    }
    KeyRange {
        start: Bytes::copy_from_slice(prefix),
        end: (!end.is_empty()).then(|| end.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_read_with_and_without_brackets() {
        let read = |text| match Target::parse(text).unwrap() {
            Target::Address { host, port } => (host, port),
            Target::Link(link) => panic!("{link:?} is no address"),
        };
        assert_eq!(read("localhost:8080"), ("localhost".into(), 8080));
        assert_eq!(read("[::1]:7"), ("::1".into(), 7));
    }

    #[test]
    fn address_without_a_port_is_refused_by_name() {
        for text in ["localhost", "localhost:", ":80", "::1", "host:99999", ""] {
            let error = Target::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
            assert!(error.to_string().contains(&format!("{text:?}")));
        }
    }

    #[test]
    fn prefix_range_ends_after_the_last_key_with_the_prefix() {
        assert_eq!(prefix_range(b"ab").end.as_deref(), Some(&b"ac"[..]));
        assert_eq!(prefix_range(b"a\xff").end.as_deref(), Some(&b"b"[..]));
        assert_eq!(prefix_range(b"\xff").end, None);
        assert_eq!(prefix_range(b""), KeyRange::default());
    }
}
