//! Dictionaries of others: a peer asks for one before it takes the first value that needs it.
//!
//! So whatever a replica, a watch or a scan holds can be opened at once, also when the owner has
//! gone since.

use bytes::Bytes;
use objsync_proto::dictionary::DictionaryId;
use objsync_proto::error::ErrorKind;
use objsync_proto::stored;
use objsync_proto::wire::{Feed, Reply, Request};

use super::KNOWN_MAX;
use super::training::received;
use crate::core::Core;
use crate::error::Result;

impl Core {
    /// Asks for what the values of a frame need.
    ///
    /// # Errors
    /// When nobody answers. Then the values are not to be taken.
    pub(crate) async fn learn_feed(&self, feed: &Feed) -> Result<()> {
        let mut wanted = Vec::new();
        match feed {
            Feed::Entries(entries) => {
                entries
                    .iter()
                    .for_each(|entry| self.note(&entry.value, &mut wanted));
            }
            Feed::Replace { entries, .. } => {
                entries
                    .iter()
                    .for_each(|entry| self.note(&entry.value, &mut wanted));
            }
            Feed::Events(events) => {
                let changes = events.iter().flat_map(|event| &event.changes);
                let values = changes.filter_map(|change| change.value.as_ref());
                values.for_each(|value| self.note(value, &mut wanted));
            }
            _ => {}
        }
        self.learn(wanted).await
    }

    /// Asks for what the values of a reply need.
    ///
    /// # Errors
    /// As [`Core::learn_feed`].
    pub(crate) async fn learn_reply(&self, reply: &Reply) -> Result<()> {
        let mut wanted = Vec::new();
        match reply {
            Reply::Entry {
                entry: Some((value, _)),
                ..
            } => self.note(value, &mut wanted),
            Reply::History { versions, .. } => {
                let values = versions.iter().filter_map(|version| version.value.as_ref());
                values.for_each(|value| self.note(value, &mut wanted));
            }
            _ => {}
        }
        self.learn(wanted).await
    }

    /// No owner has more dictionaries than a handle knows, so whoever names more is asked for no more: a
    /// frame costs so many round trips at most.
    fn note(&self, value: &Bytes, wanted: &mut Vec<DictionaryId>) {
        if wanted.len() < KNOWN_MAX
            && let Some(id) = stored::dictionary_of(value)
            && !wanted.contains(&id)
            && self.config.packer.known(id).is_none()
        {
            wanted.push(id);
        }
    }

    /// What is not there, or may not be had, is told by whoever opens the value.
    async fn learn(&self, wanted: Vec<DictionaryId>) -> Result<()> {
        for id in wanted {
            let reply = match self.ask(Request::Dictionary { id: Some(id.0) }).await {
                Ok(reply) => reply,
                Err(error) if is_final(error.kind()) => continue,
                Err(error) => return Err(error),
            };
            if let Reply::Entry {
                entry: Some((entry, _)),
                ..
            } = reply
                && let Some(dictionary) = received(&entry, id)
            {
                self.config.packer.know(dictionary);
            }
        }
        Ok(())
    }
}

/// Whether an owner that answers so would do it again.
fn is_final(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unsupported | ErrorKind::Denied | ErrorKind::Corrupt
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::alone::alone;
    use crate::options::Options;

    #[test]
    fn frame_that_names_a_thousand_dictionaries_costs_few_round_trips() {
        let core = alone(Options::default(), |_| None);
        let mut wanted = Vec::new();
        for number in 0..1_000_u32 {
            // A frame of zstd whose header has room for the number of a dictionary.
            let frame = [&[0x28, 0xB5, 0x2F, 0xFD, 0x03][..], &[0]].concat();
            let id = (40_000 + number).to_le_bytes();
            let value = [&[0, 2, 0][..], &frame, &id, &[0; 8]].concat().into();
            core.note(&value, &mut wanted);
        }
        assert_eq!(wanted.len(), KNOWN_MAX);
    }
}
