//! A type of its own for each number that could be mistaken for another.

use std::fmt;

use serde::{Deserialize, Serialize, de::Error as _};

/// One history of changes, wherever its copies lie. Drawn at random when the store is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId(pub [u8; 16]);

/// A change of owner: a number above any seen, and a random name.
///
/// Two epochs of one number and different names are different histories: a copied directory, or
/// a restored backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// Counts changes of owner, from 1.
    pub number: u64,
    /// 128 random bits.
    pub name: EpochName,
}

/// The random part of an [`Epoch`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpochName(pub [u8; 16]);

/// The place of a transaction in the one order of a store. 0 is before the first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

/// A lease, by the revision of the transaction that granted it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub struct LeaseId(pub u64);

/// The count of frames before this one in a log, skippable ones included.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub struct FrameIndex(pub u64);

/// A point in the history of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Which history.
    pub store: StoreId,
    /// Under which owner the revision was given.
    pub epoch: Epoch,
    /// How far.
    pub revision: Revision,
}

/// A client's session: the log frame that opened it, by epoch number and frame index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId {
    /// Number of the epoch in which the session was opened.
    pub epoch: u64,
    /// Index of the frame that opened it.
    pub frame: FrameIndex,
}

/// The number of an operation within its session, from 1, never used twice.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub struct Sequence(pub u64);

/// Who asked for a transaction, so that a repeat is known as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The session it came through.
    pub session: SessionId,
    /// Its number there.
    pub sequence: Sequence,
}

/// A kind of thing kept in a store: the dictionary, later container, volumes, files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SurfaceId(pub u16);

impl SurfaceId {
    /// The dictionary.
    pub const DICT: Self = Self(1);
}

/// One dictionary within a store. The log knows namespaces by number only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamespaceId(pub u32);

impl NamespaceId {
    /// Where the names of the others stand: key is the name, value the number.
    pub const CATALOG: Self = Self(0);
    /// The number of the namespace called `default`.
    pub const DEFAULT: Self = Self(1);
    /// Where leases, times to live and locks of all the others stand.
    pub const LEASES: Self = Self(2);
    /// Where the dictionaries stand that values of all the others are packed with.
    pub const DICTIONARIES: Self = Self(3);
    /// The lowest number given to a name.
    pub const FIRST_NAMED: Self = Self(16);
}

/// A peer's Ed25519 public key: 32 raw bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerKey(pub [u8; 32]);

/// The name of a chunk of a large value: SHA-256 of its plain bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId(pub [u8; 32]);

/// How much of a write must have happened before it is acknowledged.
///
/// The numbers leave gaps for levels between and above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Durability {
    /// It is on the client's own disk, and no owner has it yet. Neither on the wire nor in a log.
    Queued = 20,
    /// It is with the operating system: a killed process loses nothing, a power cut up to 1 s.
    Buffered = 40,
    /// It is on disk and survives a power cut.
    #[default]
    Sync = 80,
}

impl std::str::FromStr for Durability {
    type Err = crate::error::Failure;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "buffered" => Ok(Self::Buffered),
            "sync" => Ok(Self::Sync),
            other => Err(crate::error::Failure::new(
                crate::error::ErrorKind::Invalid,
                format!("durability {other:?}: it is \"sync\" or \"buffered\""),
            )),
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "queued",
            Self::Buffered => "buffered",
            Self::Sync => "sync",
        })
    }
}

/// What a caller gets for a write: where it stands and how safe it was when answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ack {
    /// The write's place in the order of the store.
    pub revision: Revision,
    /// The owner's epoch when it was written.
    pub epoch: Epoch,
    /// The level that was reached before the answer.
    pub durability: Durability,
}

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Sequence {
    /// The sequence after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Durability {
    /// The number on the wire and in the log.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The level with this number, as owners know it.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            40 => Some(Self::Buffered),
            80 => Some(Self::Sync),
            _ => None,
        }
    }
}

/// Its number in MessagePack, its name in formats for people.
impl Serialize for Durability {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        serializer.serialize_u8(self.number())
    }
}

impl<'de> Deserialize<'de> for Durability {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?
                .parse()
                .map_err(D::Error::custom);
        }
        let number = u8::deserialize(deserializer)?;
        Self::from_number(number)
            .ok_or_else(|| D::Error::custom(format!("durability {number} is unknown")))
    }
}

/// Identifiers of random or hashed bytes: lower-case hex for people, raw bytes in MessagePack.
macro_rules! hex {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NotHex;

            fn from_str(text: &str) -> Result<Self, NotHex> {
                parse_hex(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    return serializer.collect_str(self);
                }
                serializer.serialize_bytes(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    return String::deserialize(deserializer)?.parse().map_err(D::Error::custom);
                }
                serde_bytes::ByteArray::deserialize(deserializer)
                    .map(|bytes| Self(bytes.into_array()))
            }
        }
    )*};
}
hex!(StoreId, EpochName, PeerKey, ChunkId);

/// A text that is not the lower-case hex of an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("identifier is not {digits} lower-case hex digits")]
pub struct NotHex {
    /// How many digits it takes.
    pub digits: usize,
}

/// Reads exactly `N` bytes of lower-case hex.
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], NotHex> {
    let wrong = NotHex { digits: N * 2 };
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return Err(wrong);
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return Err(wrong),
            };
            *byte = *byte << 4 | value;
        }
    }
    Ok(bytes)
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifier_comes_back_from_its_hex_and_other_text_does_not() {
        let store = StoreId(*b"0123456789abcdef");
        assert_eq!(store.to_string(), "30313233343536373839616263646566");
        assert_eq!(store.to_string().parse(), Ok(store));
        for text in [
            "",
            "30",
            "3031323334353637383961626364656",
            "3031323334353637383961626364656G",
        ] {
            assert_eq!(text.parse::<StoreId>(), Err(NotHex { digits: 32 }));
        }
    }

    #[test]
    fn identifier_is_raw_bytes_and_durability_a_number_in_messagepack() {
        let bytes = rmp_serde::to_vec(&(EpochName([7; 16]), Durability::Sync)).unwrap();
        assert_eq!(bytes[..3], [0x92, 0xC4, 16]);
        assert_eq!(bytes[19..], [80]);
        let back: (EpochName, Durability) = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(back, (EpochName([7; 16]), Durability::Sync));
        assert!(rmp_serde::from_slice::<Durability>(&[41]).is_err());
    }
}
