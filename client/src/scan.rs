//! Many entries in key order, as of one revision.

use bytes::Bytes;

use crate::error::Result;

/// Entries of a range in key order, all as of one revision.
///
/// Iterates over `(encoded key, plain payload)`; the payload is empty for [`crate::Dict::keys`].
#[derive(Debug)]
pub struct Scan {
    page: std::vec::IntoIter<(Bytes, Bytes)>,
}

impl Scan {
    /// The next entries, some 256 KiB of them; empty at the end. Blocks as [`crate::Dict::get`].
    ///
    /// # Errors
    /// `Unavailable` when the owner is gone, `Conflict` when the reader was too slow (60 s).
    pub fn next_page(&mut self) -> Result<Vec<(Bytes, Bytes)>> {
        todo!()
    }

    /// As [`Scan::next_page`], awaitable.
    ///
    /// # Cancel safety
    /// A page that was not returned is returned by the next call.
    ///
    /// # Errors
    /// As [`Scan::next_page`].
    pub async fn next_page_async(&mut self) -> Result<Vec<(Bytes, Bytes)>> {
        todo!()
    }
}

impl Iterator for Scan {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.page.next().map(Ok)
    }
}
