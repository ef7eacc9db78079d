//! Many entries in key order, as of one revision.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::Revision;
use objsync_proto::key;
use objsync_proto::wire::{Entry, Feed, KeyRange};
use objsync_store::{Past, Reader};
use tokio::sync::mpsc;

use crate::core::{Command, Core, FeedKind, FeedWanted};
use crate::error::{ObjectError, Result};
use crate::held::Held;
use crate::offline::merge;
use crate::page::{PageValue, Unread};
use crate::replica::{Extent, Pin};
use crate::wait::block_on;

/// Bytes of the first page, about: who wants one entry pays for few.
const PAGE_BYTES_FIRST: usize = 2 << 10;
/// Bytes of a later page, about: each is larger than the one before, up to this.
const PAGE_BYTES_MAX: usize = 256 << 10;
/// How much larger.
const PAGE_GROWTH: usize = 8;
/// Pages that wait between the connection and a slow reader.
const PAGES_AHEAD: usize = 4;

/// Entries of a range in key order, all as of one revision.
///
/// Iterates over `(encoded key, plain payload)`; the payload is empty for [`crate::Dict::keys`].
///
/// A value that cannot be read, as it is damaged, or too long to be one payload (4 GiB), is an error in
/// its place, which names the key; the entries behind it follow. Any other error ends the iteration.
pub struct Scan {
    core: Arc<Core>,
    /// What is still to come.
    range: KeyRange,
    reverse: bool,
    with_values: bool,
    source: Source,
    page: VecDeque<(Bytes, Bytes)>,
    page_bytes: usize,
    unread: Unread,
    ended: bool,
    /// What this handle has queued on disk of what is still to come.
    queued: VecDeque<(Bytes, Option<Bytes>)>,
}

enum Source {
    /// This process owns the store.
    Store(Reader),
    /// The same, as of a revision of the past.
    Past(Past),
    /// A moment that is held for a snapshot.
    Held(Arc<Held>),
    /// The replica holds all of it.
    Replica(Pin),
    /// The owner sends it.
    Stream(mpsc::Receiver<Result<Feed>>),
}

impl Scan {
    /// Begins to read; waits until the replica holds what was acknowledged.
    pub(crate) async fn begin(
        core: Arc<Core>,
        range: KeyRange,
        reverse: bool,
        with_values: bool,
    ) -> Result<Self> {
        let range = core.config.clip(range);
        let queued = queued(&core, &range, reverse).await?;
        let source = Source::choose(&core, &range, reverse);
        let mut scan = Self::over(core, source, (range, reverse), with_values);
        scan.queued = queued;
        Ok(scan)
    }

    /// Begins to read a revision of the past: from what this process opened of it, or from the owner.
    pub(crate) fn begin_at(
        core: Arc<Core>,
        (revision, opened): (Revision, Option<Past>),
        (range, reverse): (KeyRange, bool),
        with_values: bool,
    ) -> Self {
        let range = core.config.clip(range);
        let source = match opened {
            Some(past) => Source::Past(past),
            None => Source::stream(&core, &range, reverse, Some(revision)),
        };
        Self::over(core, source, (range, reverse), with_values)
    }

    /// Begins to read a moment that is held.
    pub(crate) fn begin_held(
        core: Arc<Core>,
        held: Arc<Held>,
        (range, reverse): (KeyRange, bool),
        with_values: bool,
    ) -> Self {
        let range = core.config.clip(range);
        Self::over(core, Source::Held(held), (range, reverse), with_values)
    }

    fn over(
        core: Arc<Core>,
        source: Source,
        (range, reverse): (KeyRange, bool),
        with_values: bool,
    ) -> Self {
        let page = VecDeque::new();
        Self {
            core,
            range,
            reverse,
            with_values,
            source,
            page,
            page_bytes: PAGE_BYTES_FIRST,
            unread: Unread::default(),
            ended: false,
            queued: VecDeque::new(),
        }
    }

    /// Gives each value in chunks as a reference to it ([`crate::LargeValue`]), of which nothing is
    /// fetched: [`crate::Dict::load`] reads it whole, [`crate::Dict::reader_of`] in pieces.
    #[must_use]
    pub fn with_references(mut self) -> Self {
        self.unread.keep_references();
        self
    }

    /// The next entries, at most some 256 KiB of them unless one alone is longer; empty at the end.
    /// Blocks as [`crate::Dict::get`].
    ///
    /// # Errors
    /// `Unavailable` when the owner is gone, `Conflict` when the reader was too slow (60 s). Of one
    /// value, whose key is named: `Invalid`, `Corrupt` or `Conflict`; the next call goes on behind it.
    pub fn next_page(&mut self) -> Result<Vec<(Bytes, Bytes)>> {
        let core = Arc::clone(&self.core);
        block_on(&core.config.what, self.next_page_async())?
    }

    /// As [`Scan::next_page`], awaitable. A store of this process is read by the polling thread.
    ///
    /// # Cancel safety
    /// A page that was not returned is returned by the next call.
    ///
    /// # Errors
    /// As [`Scan::next_page`].
    pub async fn next_page_async(&mut self) -> Result<Vec<(Bytes, Bytes)>> {
        if !self.page.is_empty() {
            return Ok(std::mem::take(&mut self.page).into());
        }
        let core = Arc::clone(&self.core);
        if let Some(page) = self.unread.next(&core).await? {
            return Ok(page);
        }
        if self.ended {
            return Ok(Vec::new());
        }
        self.core.check_open()?;
        loop {
            let page = self.read_page().await?;
            match page.last() {
                Some((last, _)) if self.reverse => self.range.end = Some(last.clone()),
                Some((last, _)) => self.range.start = key::successor(last),
                None => self.ended = true,
            }
            let page = merge(page, &mut self.queued, self.reverse);
            if self.ended || !page.is_empty() {
                self.unread.fill(page);
                return Ok(self.unread.next(&core).await?.unwrap_or_default());
            }
        }
    }

    /// How many entries are left.
    pub(crate) async fn count_entries(mut self) -> Result<u64> {
        let mut count = 0;
        loop {
            let page = self.next_page_async().await?;
            if page.is_empty() {
                return Ok(count);
            }
            count += page.len() as u64;
        }
    }

    async fn read_page(&mut self) -> Result<Vec<(Bytes, PageValue)>> {
        let (with_values, bytes) = (self.with_values, self.page_bytes);
        self.page_bytes = (bytes * PAGE_GROWTH).min(PAGE_BYTES_MAX);
        match &mut self.source {
            Source::Store(reader) => {
                let owner = self.core.owner().ok_or_else(|| self.core.closed_error())?;
                let namespace = owner.namespace();
                let entries = reader.page(namespace, &self.range, self.reverse, bytes)?;
                Ok(values(entries, with_values))
            }
            Source::Past(past) => {
                let owner = self.core.owner().ok_or_else(|| self.core.closed_error())?;
                let namespace = owner.namespace();
                let entries = past.page(namespace, &self.range, self.reverse, bytes)?;
                Ok(values(entries, with_values))
            }
            Source::Held(held) => {
                let entries = held.page(&self.range, self.reverse, bytes)?;
                Ok(values(entries, with_values))
            }
            Source::Replica(pin) => {
                let page = self
                    .core
                    .replica
                    .page(pin, &self.range, self.reverse, bytes)?;
                Ok(values(page.entries, with_values))
            }
            Source::Stream(stream) => loop {
                match stream.recv().await {
                    Some(Ok(Feed::Entries(entries))) if !entries.is_empty() => {
                        break Ok(values(entries, with_values));
                    }
                    Some(Ok(Feed::Complete { .. })) => break Ok(Vec::new()),
                    Some(Ok(Feed::Failed(failure))) => break Err(failure.into()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break Err(error),
                    None => break Err(interrupted(&self.core)),
                }
            },
        }
    }
}

/// Waits until reads find what was acknowledged; gives what is queued on top of that.
async fn queued(
    core: &Core,
    range: &KeyRange,
    reverse: bool,
) -> Result<VecDeque<(Bytes, Option<Bytes>)>> {
    loop {
        core.readable().await?;
        let Some(offline) = &core.offline else {
            return Ok(VecDeque::new());
        };
        let queued = offline.range(&core.config.packer, range, reverse)?;
        if core.holds_acked() {
            return Ok(queued);
        }
    }
}

impl Source {
    fn choose(core: &Arc<Core>, range: &KeyRange, reverse: bool) -> Self {
        if let Some(owner) = core.owner() {
            return Self::Store(owner.reader());
        }
        if core.replica.extent() == Extent::Whole
            && let Some(pin) = core.replica.pin()
        {
            return Self::Replica(pin);
        }
        Self::stream(core, range, reverse, None)
    }

    fn stream(core: &Core, range: &KeyRange, reverse: bool, at: Option<Revision>) -> Self {
        let (sink, stream) = mpsc::channel(PAGES_AHEAD);
        let what = FeedKind::Entries { reverse, at };
        core.push(Command::Feed {
            wanted: FeedWanted {
                range: range.clone(),
                what,
            },
            sink,
        });
        Self::Stream(stream)
    }
}

fn values(entries: Vec<Entry>, with_values: bool) -> Vec<(Bytes, PageValue)> {
    let value = |entry| PageValue::of(entry, with_values);
    entries.into_iter().map(value).collect()
}

fn interrupted(core: &Core) -> ObjectError {
    let text = format!(
        "{}: the owner went away while entries were read: read again",
        core.config.what
    );
    ObjectError::new(ErrorKind::Unavailable, text)
}

impl Drop for Scan {
    fn drop(&mut self) {
        if let Source::Replica(pin) = &self.source {
            self.core.replica.unpin(pin);
        }
    }
}

impl Iterator for Scan {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() {
            match self.next_page() {
                Ok(page) => self.page = page.into(),
                Err(error) => {
                    self.ended |= !self.unread.goes_on();
                    return Some(Err(error));
                }
            }
        }
        self.page.pop_front().map(Ok)
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}
