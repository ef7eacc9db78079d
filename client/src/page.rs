//! A page of entries on its way to the caller, opened one by one.
//!
//! A page has few bytes as it is stored, and far more as the caller is to see it: values are packed, a
//! thousand times where they repeat, or lie in chunks. So what is given at once is counted in bytes of
//! payloads, and the rest of the page stays as it is stored until it is asked for.
//!
//! A value that cannot be read is told once, in its place, and the entries behind it follow. Where that
//! may pass, as the absence of an owner does, it stays and is tried again.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::ids::Revision;
use objsync_proto::wire::Entry;

use crate::core::Core;
use crate::error::{ObjectError, Result};
use crate::large::{LargeValue, whole};

/// Bytes of entries that are given at once, about.
const PAGE_BYTES: usize = 256 << 10;

/// A value of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PageValue {
    /// Its payload.
    Payload(Bytes),
    /// As it is stored, and the revision that wrote it.
    Stored(Revision, Bytes),
}

impl PageValue {
    /// An entry as it came, or its key alone.
    pub(crate) fn of(entry: Entry, with_values: bool) -> (Bytes, Self) {
        let value = match with_values {
            true => Self::Stored(entry.revision, entry.value),
            false => Self::Payload(Bytes::new()),
        };
        (entry.key, value)
    }

    async fn payload(&self, core: &Arc<Core>, key: &[u8], is_whole: bool) -> Result<Bytes> {
        let payload = match self {
            Self::Payload(payload) => payload.clone(),
            Self::Stored(revision, value) => core.config.open(key, *revision, value.clone())?,
        };
        match is_whole && LargeValue::is_reference(&payload) {
            true => whole(core, payload).await,
            false => Ok(payload),
        }
    }
}

impl From<Bytes> for PageValue {
    fn from(payload: Bytes) -> Self {
        Self::Payload(payload)
    }
}

/// Entries of a page that were not given yet.
#[derive(Default)]
pub(crate) struct Unread {
    closed: VecDeque<(Bytes, PageValue)>,
    opened: Vec<(Bytes, Bytes)>,
    opened_bytes: usize,
    /// Why the entry behind those that are open could not be read.
    failed: Option<ObjectError>,
    /// The error that was given last was of one entry, which is passed over.
    has_passed: bool,
    keeps_references: bool,
}

impl Unread {
    /// Gives large values as their references from now on.
    pub(crate) fn keep_references(&mut self) {
        self.keeps_references = true;
    }

    /// Takes the next page, once the one before was given.
    pub(crate) fn fill(&mut self, page: Vec<(Bytes, PageValue)>) {
        self.closed.extend(page);
    }

    /// The next of those that wait; none when there are none. Cancel safe: what was opened is given by
    /// the next call.
    pub(crate) async fn next(&mut self, core: &Arc<Core>) -> Result<Option<Vec<(Bytes, Bytes)>>> {
        let is_whole = !self.keeps_references;
        while self.opened_bytes < PAGE_BYTES
            && self.failed.is_none()
            && let Some((key, value)) = self.closed.front()
        {
            let read = value.payload(core, key, is_whole).await;
            if read.as_ref().is_err_and(ObjectError::can_pass) {
                self.failed = read.err();
                break;
            }
            let Some((key, _)) = self.closed.pop_front() else {
                break;
            };
            match read {
                Ok(payload) => {
                    self.opened_bytes += key.len() + payload.len();
                    self.opened.push((key, payload));
                }
                Err(error) => self.failed = Some(error),
            }
        }
        if !self.opened.is_empty() {
            self.opened_bytes = 0;
            return Ok(Some(std::mem::take(&mut self.opened)));
        }
        match self.failed.take() {
            Some(error) => {
                self.has_passed = !error.can_pass();
                Err(error)
            }
            None => Ok(None),
        }
    }

    /// Whether the error that was given last was of one entry, so that the others follow. For an
    /// iterator that ends at any other: then nothing more is given.
    pub(crate) fn goes_on(&mut self) -> bool {
        let goes_on = std::mem::take(&mut self.has_passed);
        if !goes_on {
            self.closed.clear();
            self.opened.clear();
        }
        goes_on
    }
}
