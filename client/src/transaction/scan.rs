//! Entries as a transaction sees them: those of its moment, with its own changes on top.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use objsync_proto::error::ErrorKind;
use objsync_proto::key;
use objsync_proto::wire::KeyRange;

use super::Transaction;
use crate::error::Result;
use crate::page::{PageValue, Unread};
use crate::scan::Scan;
use crate::wait::block_on;

/// Bytes of the first page, about: what is read is checked, so who wants little reads little.
const PAGE_BYTES_FIRST: usize = 2 << 10;
/// Bytes of a later page, about.
const PAGE_BYTES_MAX: usize = 256 << 10;

/// Entries of a range in key order, as a transaction sees them: see [`Transaction::scan`].
///
/// Iterates over `(encoded key, plain payload)`. Changes that the transaction makes meanwhile are
/// seen where the iteration has not been yet, up to a page.
pub struct TransactionScan {
    transaction: Transaction,
    /// What is still to come.
    rest: KeyRange,
    reverse: bool,
    with_values: bool,
    page_bytes: usize,
    /// Where only the owner has the entries.
    stream: Option<Box<Scan>>,
    page: VecDeque<(Bytes, Bytes)>,
    unread: Unread,
    ended: bool,
}

impl TransactionScan {
    pub(super) fn new(
        transaction: &Transaction,
        range: KeyRange,
        reverse: bool,
        with_values: bool,
    ) -> Self {
        Self {
            rest: transaction.shared.core.config.clip(range),
            transaction: transaction.clone(),
            reverse,
            with_values,
            page_bytes: PAGE_BYTES_FIRST,
            stream: None,
            page: VecDeque::new(),
            unread: Unread::default(),
            ended: false,
        }
    }

    /// The next entries, at most some 256 KiB of them; empty at the end.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn next_page(&mut self) -> Result<Vec<(Bytes, Bytes)>> {
        let core = Arc::clone(&self.transaction.shared.core);
        block_on(&core.config.what, self.next_page_async())?
    }

    /// As [`TransactionScan::next_page`], awaitable.
    ///
    /// # Cancel safety
    /// A page that was not returned is returned by the next call.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub async fn next_page_async(&mut self) -> Result<Vec<(Bytes, Bytes)>> {
        if !self.page.is_empty() {
            return Ok(std::mem::take(&mut self.page).into());
        }
        let core = Arc::clone(&self.transaction.shared.core);
        if let Some(page) = self.unread.next(&core).await? {
            return Ok(page);
        }
        while !self.ended {
            drop(self.transaction.made_mut()?);
            let read = self.read().await;
            let entries = self.transaction.noticed(read)?;
            let covered = self.cover(entries.last().map(|(key, _)| key.clone()));
            let page = self.overlay(entries, &covered)?;
            if !page.is_empty() {
                self.unread.fill(page);
                return Ok(self.unread.next(&core).await?.unwrap_or_default());
            }
        }
        Ok(Vec::new())
    }

    pub(super) async fn count_entries(mut self) -> Result<u64> {
        let mut count = 0;
        loop {
            let page = self.next_page_async().await?;
            if page.is_empty() {
                return Ok(count);
            }
            count += page.len() as u64;
        }
    }

    /// The next entries of the moment.
    async fn read(&mut self) -> Result<Vec<(Bytes, PageValue)>> {
        let shared = Arc::clone(&self.transaction.shared);
        shared.core.check_open()?;
        let bytes = self.page_bytes;
        self.page_bytes = PAGE_BYTES_MAX;
        if let Some(entries) = shared.moment.page(&self.rest, self.reverse, bytes)? {
            let value = |entry| PageValue::of(entry, self.with_values);
            return Ok(entries.into_iter().map(value).collect());
        }
        let stream = self.stream.get_or_insert_with(|| {
            let range = (self.rest.clone(), self.reverse);
            let at = (shared.moment.revision(), None);
            let scan = Scan::begin_at(Arc::clone(&shared.core), at, range, self.with_values);
            Box::new(scan.with_references())
        });
        let page = stream.next_page_async().await;
        if page
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::Unavailable)
        {
            // The owner went away in the middle: the next one is asked for another moment.
            self.transaction.made().overtaken = true;
        }
        let opened = |(key, payload): (Bytes, Bytes)| (key, payload.into());
        Ok(page?.into_iter().map(opened).collect())
    }

    /// Notes the part of the range up to the last key read, or all that was left of it, and gives
    /// that part.
    fn cover(&mut self, last: Option<Bytes>) -> KeyRange {
        let mut covered = self.rest.clone();
        match last {
            None => self.ended = true,
            Some(last) if self.reverse => {
                self.rest.end = Some(last.clone());
                covered.start = last;
            }
            Some(last) => {
                self.rest.start = key::successor(&last);
                covered.end = Some(self.rest.start.clone());
            }
        }
        covered
    }

    /// The entries with the transaction's own changes, in order. Notes that the part was read.
    fn overlay(
        &self,
        entries: Vec<(Bytes, PageValue)>,
        covered: &KeyRange,
    ) -> Result<Vec<(Bytes, PageValue)>> {
        let mut made = self.transaction.made_mut()?;
        made.ranges.push(covered.clone());
        let own: Vec<_> = made
            .changes
            .range::<[u8], _>((
                std::ops::Bound::Included(&covered.start[..]),
                std::ops::Bound::Unbounded,
            ))
            .take_while(|(key, _)| covered.contains(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        drop(made);
        if own.is_empty() {
            return Ok(entries);
        }
        let mut all: std::collections::BTreeMap<_, _> = entries.into_iter().collect();
        for (key, value) in own {
            match value {
                Some(value) if self.with_values => {
                    let config = &self.transaction.shared.core.config;
                    let payload = value.payload(config, &key)?;
                    all.insert(key, payload.into());
                }
                Some(_) => drop(all.insert(key, Bytes::new().into())),
                None => drop(all.remove(&key)),
            }
        }
        Ok(match self.reverse {
            true => all.into_iter().rev().collect(),
            false => all.into_iter().collect(),
        })
    }
}

impl Iterator for TransactionScan {
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

impl std::fmt::Debug for TransactionScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionScan")
            .field("rest", &self.rest)
            .finish_non_exhaustive()
    }
}
