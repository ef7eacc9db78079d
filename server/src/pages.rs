//! The entries of a range as of one revision, page by page, read ahead of the one being sent.

use std::sync::Arc;

use objsync_proto::ids::{NamespaceId, Position};
use objsync_proto::key::successor;
use objsync_proto::limits::FEED_FRAME_BYTES;
use objsync_proto::wire::{Entry, KeyRange};
use objsync_store::{Reader, StoreError};
use tokio::task::{JoinError, JoinHandle};

use crate::feed_stream::Unsendable;
use crate::serving::Serving;

type Page = Result<Result<Vec<Entry>, StoreError>, JoinError>;

/// Pages of a pinned reader. At most two are in memory: the one given out and the next.
pub(crate) struct Pages {
    serving: Arc<Serving>,
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
        serving: &Arc<Serving>,
        namespace: NamespaceId,
        range: KeyRange,
        reverse: bool,
    ) -> Self {
        let mut pages = Self {
            serving: Arc::clone(serving),
            reader: Arc::new(serving.store.reader()),
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
        let page = reading.await???;
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
        let serving = Arc::clone(&self.serving);
        let read = move || reader.page(namespace, &range, reverse, FEED_FRAME_BYTES);
        tokio::spawn(async move { serving.apart(read).await })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // A page that nobody will send need not be read.
        if let Some(reading) = self.next.take() {
            reading.abort();
        }
    }
}
