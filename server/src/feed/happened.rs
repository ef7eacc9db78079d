//! A transaction on its way to a subscriber: from the ring, or from the log.

use bytes::Bytes;
use objsync_proto::ids::{NamespaceId, Origin, Revision};
use objsync_proto::wire::{KeyRange, event};
use objsync_store::{Published, Told};

/// What a subscriber gets of a transaction.
pub(super) struct Gathered {
    pub(super) revision: Revision,
    /// Encoded; none if nothing concerns it.
    pub(super) event: Option<Bytes>,
    /// Its own peer asked for the transaction.
    pub(super) is_own: bool,
}

/// Something that happened, wherever it was read.
pub(super) trait Happened {
    fn revision(&self) -> Revision;

    fn origin(&self) -> Option<Origin>;

    /// What happened in a namespace, encoded; none if nothing did. Without a range, all of it. With
    /// `by_part`, changes of parts of values are told by the part.
    fn encoded(
        &self,
        namespace: NamespaceId,
        by_part: bool,
        range: Option<&KeyRange>,
    ) -> Option<Bytes>;
}

impl Happened for Published {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn origin(&self) -> Option<Origin> {
        self.origin
    }

    fn encoded(
        &self,
        namespace: NamespaceId,
        by_part: bool,
        range: Option<&KeyRange>,
    ) -> Option<Bytes> {
        match range {
            // Encoded once for all who want all of it.
            None => Published::encoded(self, namespace, by_part),
            Some(range) => {
                let event = self.event(namespace, by_part, &|key| range.contains(key))?;
                Some(event::encode(&event))
            }
        }
    }
}

/// Read for those only who are told by part.
impl Happened for Told {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn origin(&self) -> Option<Origin> {
        self.origin
    }

    fn encoded(
        &self,
        namespace: NamespaceId,
        _by_part: bool,
        range: Option<&KeyRange>,
    ) -> Option<Bytes> {
        let is_wanted = |key: &[u8]| range.is_none_or(|range| range.contains(key));
        Some(event::encode(&self.event(namespace, &is_wanted)?))
    }
}
