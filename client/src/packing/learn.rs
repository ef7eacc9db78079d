//! Dictionaries of others: a peer asks for one before it takes the first value that needs it.
//!
//! So whatever a replica, a watch or a scan holds can be opened at once, also when the owner has
//! gone since.

use bytes::Bytes;
use objsync_proto::dictionary::DictionaryId;
use objsync_proto::stored;
use objsync_proto::wire::{Feed, Reply, Request};

use super::training::received;
use crate::core::Core;

impl Core {
    /// Asks for what the values of a frame need.
    pub(crate) async fn learn_feed(&self, feed: &Feed) {
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
        self.learn(wanted).await;
    }

    /// Asks for what the values of a reply need.
    pub(crate) async fn learn_reply(&self, reply: &Reply) {
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
        self.learn(wanted).await;
    }

    fn note(&self, value: &Bytes, wanted: &mut Vec<DictionaryId>) {
        if let Some(id) = stored::dictionary_of(value)
            && !wanted.contains(&id)
            && self.config.packer.known(id).is_none()
        {
            wanted.push(id);
        }
    }

    /// What cannot be had is told by whoever opens the value.
    async fn learn(&self, wanted: Vec<DictionaryId>) {
        for id in wanted {
            let asked = self.ask(Request::Dictionary { id: Some(id.0) }).await;
            if let Ok(Reply::Entry {
                entry: Some((entry, _)),
                ..
            }) = asked
                && let Some(dictionary) = received(&entry, id)
            {
                self.config.packer.know(dictionary);
            }
        }
    }
}
