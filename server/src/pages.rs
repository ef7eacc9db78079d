//! The entries of a range as of one revision, page by page, read ahead of the one being sent.

use std::sync::Arc;

use objsync_proto::ids::{NamespaceId, Position};
use objsync_proto::key::successor;
use objsync_proto::limits::FEED_FRAME_BYTES;
use objsync_proto::wire::{Entry, KeyRange};
use objsync_store::{Reader, Store, StoreError};
use tokio::task::JoinHandle;

use crate::feed_stream::Unsendable;

type Page = Result<Vec<Entry>, StoreError>;

/// Pages of a pinned reader. At most two are in memory: the one given out and the next.
pub(crate) struct Pages {
    reader: Arc<Reader>,
    namespace: NamespaceId,
    reverse: bool,
    /// What is left after the page being read.
    rest: KeyRange,
    next: Option<JoinHandle<Page>>,
}

impl Pages {
    /// Pins the present revision and begins to read.
    pub(crate) fn new(
        store: &Store,
        namespace: NamespaceId,
        range: KeyRange,
        reverse: bool,
    ) -> Self {
        let mut pages = Self {
            reader: Arc::new(store.reader()),
            namespace,
            reverse,
            rest: range,
            next: None,
        };
        pages.next = Some(pages.read());
        pages
    }

    /// What the entries are as of.
    pub(crate) fn position(&self) -> Position {
        self.reader.position()
    }

    /// The next entries; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Entry>>, Unsendable> {
        let Some(reading) = self.next.take() else {
            return Ok(None);
        };
        let page = reading.await??;
        let Some(last) = page.last() else {
            return Ok(None);
        };
        if self.reverse {
            self.rest.end = Some(last.key.clone());
        } else {
            self.rest.start = successor(&last.key);
        }
        self.next = Some(self.read());
        Ok(Some(page))
    }

    fn read(&self) -> JoinHandle<Page> {
        let (reader, namespace) = (Arc::clone(&self.reader), self.namespace);
        let (range, reverse) = (self.rest.clone(), self.reverse);
        tokio::task::spawn_blocking(move || {
            reader.page(namespace, &range, reverse, FEED_FRAME_BYTES)
        })
    }
}
