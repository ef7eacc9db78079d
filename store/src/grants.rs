//! Who else may use this store: grants, kept in the log and in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use objsync_proto::ids::PeerKey;
use objsync_proto::wire::Grant;

use crate::frame::{BytesReader, Malformed, put_varint};

/// Most rights of one grant, and most bytes of one of its texts.
const RIGHTS_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 1024;

const GIVEN: u8 = 1;
const TAKEN_BACK: u8 = 2;

/// All grants, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants(BTreeMap<PeerKey, Grant>);

/// What the body of a grant frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantEvent {
    /// A key is let in, in place of what it had.
    Given(Grant),
    /// A key is let in no more.
    TakenBack(PeerKey),
}

impl Grants {
    /// Applies a frame.
    pub fn apply(&mut self, event: GrantEvent) {
        match event {
            GrantEvent::Given(grant) => {
                self.0.insert(grant.peer, grant);
            }
            GrantEvent::TakenBack(peer) => {
                self.0.remove(&peer);
            }
        }
    }

    /// The grant of a key.
    #[must_use]
    pub fn get(&self, peer: PeerKey) -> Option<&Grant> {
        self.0.get(&peer)
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> Vec<Grant> {
        self.0.values().cloned().collect()
    }

    /// Appends all of it to a snapshot's system section.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        put_varint(buffer, self.0.len() as u64);
        for grant in self.0.values() {
            put_grant(buffer, grant);
        }
    }

    /// Takes all of it from a snapshot's system section.
    pub fn take(reader: &mut BytesReader<'_>) -> Result<Self, Malformed> {
        let mut grants = Self::default();
        for _ in 0..reader.varint()? {
            grants.apply(GrantEvent::Given(take_grant(reader)?));
        }
        Ok(grants)
    }
}

impl GrantEvent {
    /// As the body of a frame.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::Given(grant) => {
                buffer.push(GIVEN);
                put_grant(buffer, grant);
            }
            Self::TakenBack(peer) => {
                buffer.push(TAKEN_BACK);
                buffer.extend_from_slice(&peer.0);
            }
        }
    }

    /// From the body of a frame.
    pub fn take(reader: &mut BytesReader<'_>) -> Result<Self, Malformed> {
        match reader.byte()? {
            GIVEN => Ok(Self::Given(take_grant(reader)?)),
            TAKEN_BACK => Ok(Self::TakenBack(PeerKey(reader.array()?))),
            _ => Err(Malformed("a grant event of an unknown kind")),
        }
    }
}

/// That a grant is short enough to be kept.
pub fn check_grant(grant: &Grant) -> Result<(), Malformed> {
    let texts = grant.rights.iter().chain([&grant.scope, &grant.label]);
    if grant.rights.len() > RIGHTS_MAX || texts.into_iter().any(|t| t.len() > TEXT_BYTES_MAX) {
        return Err(Malformed("a grant over the limits of its texts"));
    }
    Ok(())
}

fn put_grant(buffer: &mut Vec<u8>, grant: &Grant) {
    buffer.extend_from_slice(&grant.peer.0);
    put_text(buffer, &grant.scope);
    put_varint(buffer, grant.rights.len() as u64);
    for right in &grant.rights {
        put_text(buffer, right);
    }
    // 0 stands for "until revoked".
    put_varint(
        buffer,
        grant.expires_ms.map_or(0, |ms| ms.saturating_add(1)),
    );
    put_text(buffer, &grant.label);
}

fn take_grant(reader: &mut BytesReader<'_>) -> Result<Grant, Malformed> {
    let peer = PeerKey(reader.array()?);
    let scope = take_text(reader)?;
    let count = reader.number::<usize>()?;
    if count > RIGHTS_MAX {
        return Err(Malformed("a grant over the limits of its texts"));
    }
    let rights = (0..count)
        .map(|_| take_text(reader))
        .collect::<Result<_, _>>()?;
    let expires_ms = reader.varint()?.checked_sub(1);
    let label = take_text(reader)?;
    Ok(Grant {
        peer,
        scope,
        rights,
        expires_ms,
        label,
    })
}

fn put_text(buffer: &mut Vec<u8>, text: &str) {
    put_varint(buffer, text.len() as u64);
    buffer.extend_from_slice(text.as_bytes());
}

fn take_text(reader: &mut BytesReader<'_>) -> Result<String, Malformed> {
    let bytes: Bytes = reader.sized()?;
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(Malformed("a grant over the limits of its texts"));
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed("a text that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(peer: u8, label: &str) -> Grant {
        Grant {
            peer: PeerKey([peer; 32]),
            scope: "prices".to_owned(),
            rights: vec!["read".to_owned(), "write".to_owned()],
            expires_ms: Some(7),
            label: label.to_owned(),
        }
    }

    #[test]
    fn later_grant_of_a_key_takes_the_place_of_the_earlier() {
        let mut grants = Grants::default();
        grants.apply(GrantEvent::Given(grant(1, "first")));
        grants.apply(GrantEvent::Given(grant(1, "second")));
        assert_eq!(grants.list(), [grant(1, "second")]);
        grants.apply(GrantEvent::TakenBack(PeerKey([1; 32])));
        assert_eq!(grants.get(PeerKey([1; 32])), None);
    }

    #[test]
    fn event_comes_back_from_its_frame() {
        let forever = Grant {
            expires_ms: None,
            ..grant(2, "")
        };
        let events = [
            GrantEvent::Given(grant(1, "laptop")),
            GrantEvent::Given(forever),
            GrantEvent::TakenBack(PeerKey([3; 32])),
        ];
        for event in events {
            let mut body = Vec::new();
            event.encode(&mut body);
            let body = body.into();
            assert_eq!(GrantEvent::take(&mut BytesReader::new(&body)), Ok(event));
        }
    }

    #[test]
    fn grants_come_back_from_a_snapshot() {
        let mut grants = Grants::default();
        grants.apply(GrantEvent::Given(grant(1, "a")));
        grants.apply(GrantEvent::Given(grant(2, "b")));
        let mut bytes = Vec::new();
        grants.encode(&mut bytes);
        let bytes = bytes.into();
        assert_eq!(Grants::take(&mut BytesReader::new(&bytes)), Ok(grants));
    }

    #[test]
    fn grant_with_a_text_over_the_limit_is_refused() {
        assert!(check_grant(&grant(1, "short")).is_ok());
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        assert!(check_grant(&grant(1, &long)).is_err());
    }
}
