//! The entries of a range as of one revision, page by page, read ahead of the one being sent.

use std::sync::Arc;

use objsync_proto::ids::{NamespaceId, Position};
use objsync_proto::key::successor;
use objsync_proto::limits::FEED_FRAME_BYTES;
use objsync_proto::wire::{Entry, KeyRange};
use objsync_store::{Past, Reader, StoreError};
use tokio::task::{JoinError, JoinHandle};

use crate::feed_stream::Unsendable;
use crate::serving::Serving;

type Page = Result<Result<Vec<Entry>, StoreError>, JoinError>;

/// What pages are read of.
pub(crate) enum Source {
    /// The present revision, which is pinned when reading begins.
    Now,
    /// One of the past.
    Past(Past),
}

#[derive(Clone)]
enum Open {
    Reader(Arc<Reader>),
    Past(Past),
}

impl Open {
    fn page(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        reverse: bool,
    ) -> Result<Vec<Entry>, StoreError> {
        match self {
            Self::Reader(reader) => reader.page(namespace, range, reverse, FEED_FRAME_BYTES),
            Self::Past(past) => past.page(namespace, range, reverse, FEED_FRAME_BYTES),
        }
    }
}

/// Pages as of one revision. At most two are in memory: the one given out and the next.
pub(crate) struct Pages {
    serving: Arc<Serving>,
    open: Open,
    namespace: NamespaceId,
    reverse: bool,
    /// What is left after the page being read.
    rest: KeyRange,
    next: Option<JoinHandle<Page>>,
}

impl Pages {
    /// Begins to read a range of a dictionary, in one direction.
    pub(crate) fn new(
        serving: &Arc<Serving>,
        source: Source,
        (namespace, range, reverse): (NamespaceId, KeyRange, bool),
    ) -> Self {
        let open = match source {
            Source::Now => Open::Reader(Arc::new(serving.store.reader())),
            Source::Past(past) => Open::Past(past),
        };
        let mut pages = Self {
            serving: Arc::clone(serving),
            open,
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
        match &self.open {
            Open::Reader(reader) => reader.position(),
            Open::Past(past) => past.position(),
        }
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
        let (open, namespace) = (self.open.clone(), self.namespace);
        let (range, reverse) = (self.rest.clone(), self.reverse);
        let serving = Arc::clone(&self.serving);
        let read = move || open.page(namespace, &range, reverse);
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
