//! Who may do what: the store's own key everything, another key what its grant says.
//!
//! A grant names a scope `surface/name`, a set of rights and perhaps an end. What is not
//! understood denies: a right this program does not know voids the whole grant, so that an owner
//! of an older version never lets somebody do more than was meant.

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::PeerKey;
use objsync_proto::limits::{GRANT_RIGHTS_MAX, GRANT_TEXT_BYTES_MAX};
use objsync_proto::wire::Grant;

/// The right to see keys and values.
pub(crate) const READ: &str = "read";
/// The right to change them.
pub(crate) const WRITE: &str = "write";

/// The right to keep a copy of the whole store, and to write there for those whom its follower
/// has met.
pub(crate) const FOLLOW: &str = "follow";

/// The surface that a scope without one means.
const DICT: &str = "dict";
/// The scope that means everything.
const ALL_SCOPES: &str = "*";

/// What a peer may do in one dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rights {
    /// See keys, values and changes.
    pub(crate) read: bool,
    /// Make changes.
    pub(crate) write: bool,
    /// Let others in. Only whoever holds the store's key.
    pub(crate) admin: bool,
    /// Copy all of it, and speak for other keys.
    pub(crate) follow: bool,
    /// When all of this ends, milliseconds since 1970.
    pub(crate) expires_ms: Option<u64>,
}

impl Rights {
    const ALL: Self = Self {
        read: true,
        write: true,
        admin: true,
        follow: true,
        expires_ms: None,
    };

    /// What may be done for the holder of these rights by somebody who has `others`.
    pub(crate) fn within(self, others: Self) -> Self {
        Self {
            read: self.read && others.read,
            write: self.write && others.write,
            admin: false,
            follow: false,
            expires_ms: [self.expires_ms, others.expires_ms]
                .into_iter()
                .flatten()
                .min(),
        }
    }

    /// Whether there is anything the peer may do.
    pub(crate) fn any(&self) -> bool {
        self.read || self.write
    }
}

/// The rights of `peer` in the dictionary `namespace`, of a store whose key is `store`.
pub(crate) fn rights(
    store: PeerKey,
    grants: &[Grant],
    peer: PeerKey,
    namespace: &str,
    now_ms: u64,
) -> Rights {
    if peer == store {
        return Rights::ALL;
    }
    valid(grants, peer, now_ms)
        .find(|grant| covers(&grant.scope, namespace))
        .map_or_else(Rights::default, |grant| Rights {
            read: holds(grant, READ),
            write: holds(grant, WRITE),
            admin: false,
            follow: holds(grant, FOLLOW) && grant.scope == ALL_SCOPES,
            expires_ms: grant.expires_ms,
        })
}

/// Whether `peer` may do anything at all here, in whatever dictionary.
pub(crate) fn admits(store: PeerKey, grants: &[Grant], peer: PeerKey, now_ms: u64) -> bool {
    peer == store || valid(grants, peer, now_ms).next().is_some()
}

fn valid(grants: &[Grant], peer: PeerKey, now_ms: u64) -> impl Iterator<Item = &Grant> {
    grants.iter().filter(move |grant| {
        let known = |right: &String| matches!(right.as_str(), READ | WRITE | FOLLOW);
        grant.peer == peer
            && grant.expires_ms.is_none_or(|end| now_ms < end)
            && !grant.rights.is_empty()
            && grant.rights.iter().all(known)
    })
}

fn holds(grant: &Grant, right: &str) -> bool {
    grant.rights.iter().any(|held| held == right)
}

/// Whether a scope means this dictionary. A dictionary whose name has a slash is only named in
/// full, `dict/a/b`, so that no other surface is ever mistaken for one.
fn covers(scope: &str, namespace: &str) -> bool {
    let name = match scope.split_once('/') {
        Some((DICT, name)) => name,
        Some(_) => return false,
        None => scope,
    };
    name == ALL_SCOPES || name == namespace
}

/// Refuses a grant that is too large to keep or could never let anybody in.
pub(crate) fn check(grant: &Grant) -> Result<(), Failure> {
    let refuse = |message: String| Err(Failure::new(ErrorKind::Invalid, message));
    if grant.rights.len() > GRANT_RIGHTS_MAX {
        let count = grant.rights.len();
        return refuse(format!(
            "grant has {count} rights; the limit is {GRANT_RIGHTS_MAX}"
        ));
    }
    let mut texts = grant.rights.iter().chain([&grant.scope, &grant.label]);
    if let Some(text) = texts.find(|text| text.len() > GRANT_TEXT_BYTES_MAX) {
        let bytes = text.len();
        return refuse(format!(
            "a text of the grant has {bytes} bytes; the limit is {GRANT_TEXT_BYTES_MAX}"
        ));
    }
    let unknown = grant
        .rights
        .iter()
        .find(|right| !matches!(right.as_str(), READ | WRITE | FOLLOW));
    if let Some(right) = unknown {
        return refuse(format!(
            "right {right:?}: it is {READ:?}, {WRITE:?} or {FOLLOW:?}"
        ));
    }
    if holds(grant, FOLLOW) && grant.scope != ALL_SCOPES {
        let scope = &grant.scope;
        return refuse(format!(
            "scope {scope:?}: a follower copies the whole store, so its scope is {ALL_SCOPES:?}"
        ));
    }
    if grant.rights.is_empty() || grant.scope.is_empty() {
        return refuse("a grant needs a scope and at least one right".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
