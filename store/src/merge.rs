//! A snapshot and footers walked over together: each key once, with its newest entry.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::path::Path;

use bytes::Bytes;

use crate::error::StoreError;
use crate::footer::{Content, Footer, Gathered, OTHER_BASE, lies_on_older};
use crate::history::located;
use crate::table::{Section, TableEntry};

/// Walks over entries of several tables, which come in key order, or all against it.
pub(crate) struct Merge<'a> {
    sources: Vec<Source<'a>>,
    /// The next entry of each source that has one.
    heads: BinaryHeap<Head>,
    reverse: bool,
}

/// Entries of one table, without the system section.
pub(crate) struct Source<'a> {
    entries: Box<dyn Iterator<Item = Result<TableEntry, StoreError>> + 'a>,
    /// Where values are; none for a snapshot, which has them itself.
    footer: Option<&'a Footer>,
}

/// The newest entry of a key, and those that it lies on.
pub(crate) struct Merged<'a> {
    entry: TableEntry,
    footer: Option<&'a Footer>,
    /// The newest first.
    under: Vec<(TableEntry, Option<&'a Footer>)>,
}

struct Head {
    entry: TableEntry,
    source: usize,
    reverse: bool,
}

impl<'a> Source<'a> {
    /// Entries whose payloads are values.
    pub(crate) fn snapshot(
        entries: impl Iterator<Item = Result<TableEntry, StoreError>> + 'a,
    ) -> Self {
        let is_system = |entry: &Result<TableEntry, StoreError>| matches!(entry, Ok(entry) if entry.section.surface == Section::SYSTEM.surface);
        Self {
            entries: Box::new(entries.filter(move |entry| !is_system(entry))),
            footer: None,
        }
    }

    /// Entries of a footer.
    pub(crate) fn footer(
        footer: &'a Footer,
        entries: impl Iterator<Item = Result<TableEntry, StoreError>> + 'a,
    ) -> Self {
        Self {
            entries: Box::new(entries),
            footer: Some(footer),
        }
    }
}

impl<'a> Merge<'a> {
    /// Of two entries of a key and a revision, the one of the later source counts.
    pub(crate) fn new(sources: Vec<Source<'a>>, reverse: bool) -> Result<Self, StoreError> {
        let mut merge = Self {
            heads: BinaryHeap::with_capacity(sources.len()),
            sources,
            reverse,
        };
        for source in 0..merge.sources.len() {
            merge.advance(source)?;
        }
        Ok(merge)
    }

    fn advance(&mut self, source: usize) -> Result<(), StoreError> {
        if let Some(entry) = self.sources[source].entries.next().transpose()? {
            self.heads.push(Head {
                entry,
                source,
                reverse: self.reverse,
            });
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Merged<'a>>, StoreError> {
        let Some(Head { entry, source, .. }) = self.heads.pop() else {
            return Ok(None);
        };
        self.advance(source)?;
        let footer = self.sources[source].footer;
        let mut under: Vec<(TableEntry, _)> = Vec::new();
        while self
            .heads
            .peek()
            .is_some_and(|head| head.is_same_key(&entry))
        {
            let Some(older) = self.heads.pop() else { break };
            self.advance(older.source)?;
            let (above, of) = under
                .last()
                .map_or((&entry, footer), |(above, of)| (above, *of));
            if of.is_some() && lies_on_older(&above.payload) {
                under.push((older.entry, self.sources[older.source].footer));
            }
        }
        Ok(Some(Merged {
            entry,
            footer,
            under,
        }))
    }
}

impl<'a> Iterator for Merge<'a> {
    type Item = Result<Merged<'a>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.heads.clear();
        }
        step.transpose()
    }
}

impl Merged<'_> {
    pub(crate) fn section(&self) -> Section {
        self.entry.section
    }

    /// Whether the key has a value.
    pub(crate) fn exists(&self) -> Result<bool, StoreError> {
        match self.footer {
            None => Ok(true),
            Some(footer) => footer.has_value(&self.entry.payload),
        }
    }

    /// The entry with its value; none if the key was removed.
    pub(crate) fn resolve(mut self) -> Result<Option<TableEntry>, StoreError> {
        if self.footer.is_some() {
            let newest = (self.entry.clone(), self.footer);
            let under = self.under.into_iter().map(Ok);
            let Some(value) = gather(newest, under)? else {
                return Ok(None);
            };
            self.entry.payload = value;
        }
        Ok(Some(self.entry))
    }
}

/// The value of a key from its entries, the newest first, each with where it stands; none if it
/// was removed. Older entries are looked at only where a part of a value lies on them.
pub(crate) fn gather<'a>(
    newest: (TableEntry, Option<&'a Footer>),
    mut older: impl Iterator<Item = Result<(TableEntry, Option<&'a Footer>), StoreError>>,
) -> Result<Option<Bytes>, StoreError> {
    let (entry, footer) = newest;
    let mut path = footer.map(Footer::segment_path);
    let mut gathered = Gathered::begin(content(&entry, footer)?);
    loop {
        let chain = match gathered {
            Gathered::Done(value) => return Ok(value),
            Gathered::More(chain) => chain,
        };
        let path_of = path.unwrap_or(Path::new("log"));
        let Some((entry, footer)) = older.next().transpose()? else {
            return Err(StoreError::corrupt(path_of, 0, OTHER_BASE.0));
        };
        let added = chain.add(entry.revision, content(&entry, footer)?);
        gathered = located(added, path_of, 0)?;
        path = footer.map(Footer::segment_path).or(path);
    }
}

fn content(entry: &TableEntry, footer: Option<&Footer>) -> Result<Content, StoreError> {
    match footer {
        None => Ok(Content::Whole(entry.payload.clone())),
        Some(footer) => footer.content(&entry.payload),
    }
}

impl Head {
    fn is_same_key(&self, entry: &TableEntry) -> bool {
        self.entry.section == entry.section && self.entry.key == entry.key
    }
}

/// The greatest comes first out of the heap: the lowest key (against the order, the highest), and
/// of one key the newest.
impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_key =
            (other.entry.section, &other.entry.key).cmp(&(self.entry.section, &self.entry.key));
        let by_key = if self.reverse {
            by_key.reverse()
        } else {
            by_key
        };
        by_key
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
