//! The state at the end of the last segment, in order: each key once, with its newest value.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::error::StoreError;
use crate::footer::Footer;
use crate::table::{Section, TableCursor, TableEntry};

/// Walks over a snapshot and footers together.
pub(super) struct Merge<'a> {
    sources: Vec<Source<'a>>,
    /// The next entry of each source that has one.
    heads: BinaryHeap<Head>,
}

struct Source<'a> {
    cursor: TableCursor,
    /// Where values are; none for a snapshot, which has them itself.
    footer: Option<&'a Footer>,
}

struct Head {
    entry: TableEntry,
    source: usize,
}

impl<'a> Merge<'a> {
    pub(super) fn new(
        previous: Option<TableCursor>,
        footers: &'a [Footer],
    ) -> Result<Self, StoreError> {
        let previous = previous.map(|cursor| Source {
            cursor,
            footer: None,
        });
        let footers = footers.iter().map(|footer| Source {
            cursor: footer.table.iter(),
            footer: Some(footer),
        });
        let sources: Vec<_> = previous.into_iter().chain(footers).collect();
        let mut merge = Self {
            heads: BinaryHeap::with_capacity(sources.len()),
            sources,
        };
        for source in 0..merge.sources.len() {
            merge.advance(source)?;
        }
        Ok(merge)
    }

    /// Takes the next entry of a source; its system section is left out: it is made anew.
    fn advance(&mut self, source: usize) -> Result<(), StoreError> {
        let entries = self.sources[source].cursor.by_ref();
        let next = entries.find(
            |entry| !matches!(entry, Ok(entry) if entry.section.surface == Section::SYSTEM.surface),
        );
        if let Some(entry) = next.transpose()? {
            self.heads.push(Head { entry, source });
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Option<TableEntry>, StoreError> {
        while let Some(Head { mut entry, source }) = self.heads.pop() {
            self.advance(source)?;
            while self
                .heads
                .peek()
                .is_some_and(|head| head.is_same_key(&entry))
            {
                if let Some(older) = self.heads.pop() {
                    self.advance(older.source)?;
                }
            }
            match self.sources[source].footer {
                None => return Ok(Some(entry)),
                Some(footer) => {
                    if let Some(value) = footer.value(&entry.payload)? {
                        entry.payload = value.into();
                        return Ok(Some(entry));
                    }
                }
            }
        }
        Ok(None)
    }
}

impl Iterator for Merge<'_> {
    type Item = Result<TableEntry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.heads.clear();
        }
        step.transpose()
    }
}

impl Head {
    fn is_same_key(&self, entry: &TableEntry) -> bool {
        self.entry.section == entry.section && self.entry.key == entry.key
    }
}

/// The greatest comes first out of the heap: the lowest key, and of one key the newest.
impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |head: &Self| (head.entry.section, head.entry.key.clone());
        key(other)
            .cmp(&key(self))
            .then(self.entry.revision.cmp(&other.entry.revision))
            .then(self.source.cmp(&other.source))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}
