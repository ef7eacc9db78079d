//! The recent map: every version of every key since the index's mark.
//!
//! It is looked into before the index. A version goes once the index holds it or a later one, so
//! at any revision between the index's mark and the newest, a read is exact: the newest version
//! up to that revision is here, or what the index has is the answer.
//!
//! It also knows what it changes in the number of keys. For that it must know whether a key is in
//! the index; finding out costs a look there, so it is put off until somebody counts.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;
use objsync_proto::ids::{NamespaceId, Revision};
use objsync_proto::wire::KeyRange;

use crate::store::Stored;

/// What a version takes in memory beside the bytes of its key and value, about.
const VERSION_BYTES: usize = 200;

/// Versions of keys, ahead of the index.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    nodes: HashMap<NamespaceId, BTreeMap<Bytes, Node>>,
    /// One entry per version, in the order of revisions.
    queue: VecDeque<Queued>,
    /// Versions that ever left the queue: the number of its first entry.
    retired_count: u64,
    /// Entries of the queue below this number belong to keys whose `in_index` is known.
    resolved_count: u64,
    /// Keys by namespace at the newest revision, as far as keys are resolved; none while nobody has
    /// counted those of the index.
    totals: Option<HashMap<NamespaceId, i64>>,
    bytes: usize,
}

/// The versions of one key: at least one.
#[derive(Debug)]
struct Node {
    latest: Version,
    /// The place of `latest` in the queue, counted as `Recent::retired_count` does.
    number: u64,
    /// Older ones, the oldest first.
    older: VecDeque<Version>,
    /// Whether the index has the key; none when nobody has looked yet.
    in_index: Option<bool>,
}

#[derive(Debug, Clone)]
struct Version {
    revision: Revision,
    /// None when the key was deleted.
    value: Option<Bytes>,
}

#[derive(Debug)]
struct Queued {
    revision: Revision,
    namespace: NamespaceId,
    key: Bytes,
    /// What the version takes.
    bytes: usize,
    /// The place of the version before it of the same key; none if there was none when it came.
    before: Option<u64>,
}

/// A key as of some revision: its entry, or that it was deleted.
pub(crate) type Found = Option<Stored>;

/// What a batch of the index gets of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) namespace: NamespaceId,
    pub(crate) key: Bytes,
    pub(crate) entry: Found,
    /// Whether the index has the key now, if known.
    pub(crate) in_index: Option<bool>,
}

/// Part of a range, as far as it was looked at.
#[derive(Debug, Default)]
pub(crate) struct RecentPage {
    /// Keys that have a version, in the direction of the walk.
    pub(crate) found: Vec<(Bytes, Found)>,
    /// The last key looked at, when there may be more behind it.
    pub(crate) more_after: Option<Bytes>,
}

impl Recent {
    /// Starts with the number of keys that the index has, if known.
    pub(crate) fn new(counts: Option<&[(NamespaceId, u64)]>) -> Self {
        let total = |(namespace, count): &(NamespaceId, u64)| {
            (*namespace, i64::try_from(*count).unwrap_or(i64::MAX))
        };
        Self {
            totals: counts.map(|counts| counts.iter().map(total).collect()),
            ..Self::default()
        }
    }

    /// The number of keys in the index is no longer known: another index is about to be there.
    pub(crate) fn forget_counts(&mut self) {
        self.totals = None;
    }

    /// Whether the number of keys in the index is known.
    pub(crate) fn is_counted(&self) -> bool {
        self.totals.is_some()
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the index has everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Adds a version, or removes the key with no `value`. Revisions never go back; within one
    /// revision the later change of a key takes the place of the earlier.
    pub(crate) fn apply(
        &mut self,
        revision: Revision,
        namespace: NamespaceId,
        key: &Bytes,
        value: Option<Bytes>,
    ) {
        let exists = value.is_some();
        let version = Version { revision, value };
        let added = cost(key, &version);
        let number = self.retired_count + self.queue.len() as u64;
        let nodes = self.nodes.entry(namespace).or_default();
        let Some(node) = nodes.get_mut(key) else {
            let node = Node {
                latest: version,
                number,
                older: VecDeque::new(),
                in_index: None,
            };
            nodes.insert(key.clone(), node);
            self.bytes += added;
            self.enqueue((revision, namespace), key, added, None);
            return;
        };
        debug_assert!(node.latest.revision <= revision, "revisions go up");
        let old = std::mem::replace(&mut node.latest, version);
        if let (Some(_), Some(totals)) = (node.in_index, &mut self.totals) {
            *totals.entry(namespace).or_default() +=
                i64::from(exists) - i64::from(old.value.is_some());
        }
        self.bytes += added;
        if old.revision == revision {
            self.bytes -= cost(key, &old);
            let number = node.number;
            if let Some(queued) = self.queued_mut(number) {
                queued.bytes = added;
            }
        } else {
            node.older.push_back(old);
            let before = std::mem::replace(&mut node.number, number);
            self.enqueue((revision, namespace), key, added, Some(before));
        }
    }

    fn enqueue(
        &mut self,
        (revision, namespace): (Revision, NamespaceId),
        key: &Bytes,
        bytes: usize,
        before: Option<u64>,
    ) {
        self.queue.push_back(Queued {
            revision,
            namespace,
            key: key.clone(),
            bytes,
            before,
        });
    }

    /// The entry of the queue at a place; none once its version has gone.
    fn queued(&self, number: u64) -> Option<&Queued> {
        let place = number.checked_sub(self.retired_count)?;
        self.queue.get(usize::try_from(place).ok()?)
    }

    fn queued_mut(&mut self, number: u64) -> Option<&mut Queued> {
        let place = number.checked_sub(self.retired_count)?;
        self.queue.get_mut(usize::try_from(place).ok()?)
    }

    /// The key as of `at`; none when the index has the answer.
    pub(crate) fn get(&self, namespace: NamespaceId, key: &[u8], at: Revision) -> Option<Found> {
        let node = self.nodes.get(&namespace)?.get(key)?;
        node.at(at).map(Version::found)
    }

    /// The keys of a range that have a version up to `at`, looking at `count_max` keys at most.
    pub(crate) fn page(
        &self,
        namespace: NamespaceId,
        range: &KeyRange,
        reverse: bool,
        at: Revision,
        count_max: usize,
    ) -> RecentPage {
        let Some(nodes) = self.nodes.get(&namespace) else {
            return RecentPage::default();
        };
        let end = match &range.end {
            Some(end) if *end <= range.start => return RecentPage::default(),
            Some(end) => Bound::Excluded(&end[..]),
            None => Bound::Unbounded,
        };
        let nodes = nodes.range::<[u8], _>((Bound::Included(&range.start[..]), end));
        if reverse {
            collect_page(nodes.rev(), at, count_max)
        } else {
            collect_page(nodes, at, count_max)
        }
    }

    /// What the next batch of the index holds: whole transactions from the oldest on, up to `to`,
    /// ending after `count_max` versions or `bytes_max` bytes of what it holds. Each key once, so
    /// that versions which a later one in it takes the place of cost no bytes. None when there is
    /// nothing up to `to`.
    pub(crate) fn next_moves(
        &self,
        to: Revision,
        count_max: usize,
        bytes_max: usize,
    ) -> Option<(Revision, Vec<Move>)> {
        let (upto, count) = self.batch_end(to, count_max, bytes_max)?;
        let moves = self.queue.iter().take(count).filter_map(|queued| {
            let node = self.node(queued)?;
            let newest = node.at(upto)?;
            (newest.revision == queued.revision).then(|| Move {
                namespace: queued.namespace,
                key: queued.key.clone(),
                entry: newest.found(),
                in_index: node.in_index,
            })
        });
        Some((upto, moves.collect()))
    }

    /// The last revision of a batch, and how many versions it takes from the queue.
    fn batch_end(
        &self,
        to: Revision,
        count_max: usize,
        bytes_max: usize,
    ) -> Option<(Revision, usize)> {
        let mut upto = None;
        let (mut count, mut bytes) = (0, 0);
        for queued in &self.queue {
            let is_next_transaction = upto != Some(queued.revision);
            let is_full = count >= count_max || bytes >= bytes_max;
            if queued.revision > to || (is_next_transaction && is_full) {
                break;
            }
            upto = Some(queued.revision);
            count += 1;
            bytes += queued.bytes;
            // What is still in the queue before it is in the batch, and is no longer written.
            let before = queued.before.and_then(|number| self.queued(number));
            bytes -= before.map_or(0, |before| before.bytes);
        }
        upto.map(|upto| (upto, count))
    }

    /// Lets go of up to `count_max` versions which the index now holds: those up to `upto`.
    /// Tells whether there are more. Their keys must have been resolved.
    pub(crate) fn retire(&mut self, upto: Revision, count_max: usize) -> bool {
        for _ in 0..count_max {
            match self.queue.front() {
                Some(queued) if queued.revision <= upto => {}
                _ => return false,
            }
            if let Some(queued) = self.queue.pop_front() {
                self.retired_count += 1;
                self.retire_version(&queued);
            }
        }
        true
    }

    fn retire_version(&mut self, queued: &Queued) {
        let Some(nodes) = self.nodes.get_mut(&queued.namespace) else {
            return;
        };
        let Some(node) = nodes.get_mut(&queued.key) else {
            return;
        };
        if let Some(version) = node.older.pop_front() {
            debug_assert_eq!(version.revision, queued.revision);
            node.in_index = Some(version.value.is_some());
            self.bytes -= cost(&queued.key, &version);
            return;
        }
        debug_assert_eq!(node.latest.revision, queued.revision);
        self.bytes -= cost(&queued.key, &node.latest);
        nodes.remove(&queued.key);
        if nodes.is_empty() {
            self.nodes.remove(&queued.namespace);
        }
    }

    /// Another index is in place, as of `upto`, with these counts if they are known: everything is
    /// to be asked anew.
    pub(crate) fn rebase(&mut self, upto: Revision, counts: Option<&[(NamespaceId, u64)]>) {
        self.retire(upto, usize::MAX);
        for node in self.nodes.values_mut().flat_map(BTreeMap::values_mut) {
            node.in_index = None;
        }
        self.resolved_count = self.retired_count;
        self.totals = Self::new(counts).totals;
    }

    /// The next keys of which nobody has asked yet whether the index has them, and the number to
    /// give to [`Recent::resolved_up_to`] once that is known.
    pub(crate) fn unresolved(&self, count_max: usize) -> (Vec<(NamespaceId, Bytes)>, u64) {
        let mut number = self.resolved_count.max(self.retired_count);
        let mut keys = Vec::new();
        while keys.len() < count_max {
            let Some(queued) = self.queued(number) else {
                break;
            };
            if self
                .node(queued)
                .is_some_and(|node| node.in_index.is_none())
            {
                keys.push((queued.namespace, queued.key.clone()));
            }
            number += 1;
        }
        (keys, number)
    }

    /// Everything that [`Recent::unresolved`] had looked at is resolved.
    pub(crate) fn resolved_up_to(&mut self, number: u64) {
        self.resolved_count = self.resolved_count.max(number);
    }

    /// Tells whether the index has a key.
    pub(crate) fn resolve(&mut self, namespace: NamespaceId, key: &[u8], in_index: bool) {
        let node = self
            .nodes
            .get_mut(&namespace)
            .and_then(|nodes| nodes.get_mut(key));
        if let Some(node) = node
            && node.in_index.is_none()
        {
            node.in_index = Some(in_index);
            if let Some(totals) = &mut self.totals {
                *totals.entry(namespace).or_default() +=
                    i64::from(node.latest.value.is_some()) - i64::from(in_index);
            }
        }
    }

    /// Tells that the index has, or lacks, a key by a batch that was applied in part.
    pub(crate) fn correct(&mut self, namespace: NamespaceId, key: &[u8], in_index: bool) {
        let node = self
            .nodes
            .get_mut(&namespace)
            .and_then(|nodes| nodes.get_mut(key));
        if let Some(node) = node {
            node.in_index = Some(in_index);
        }
    }

    /// How many keys there are as of `at`, which is not far behind the newest revision. Exact
    /// once everything is resolved.
    pub(crate) fn count(&self, namespace: NamespaceId, at: Revision) -> u64 {
        let totals = self.totals.as_ref();
        let total = totals.and_then(|totals| totals.get(&namespace));
        let mut total = total.copied().unwrap_or(0);
        let later = self.queue.iter().rev();
        for queued in later.take_while(|queued| queued.revision > at) {
            let node = self.node(queued).filter(|_| queued.namespace == namespace);
            // A key with several later versions is counted at its newest only; one that is not
            // resolved is not in the total either.
            let node = node.filter(|node| node.latest.revision == queued.revision);
            if let Some((node, in_index)) = node.and_then(|node| Some((node, node.in_index?))) {
                let before = node
                    .at(at)
                    .map_or(in_index, |version| version.value.is_some());
                total += i64::from(before) - i64::from(node.latest.value.is_some());
            }
        }
        u64::try_from(total).unwrap_or(0)
    }

    fn node(&self, queued: &Queued) -> Option<&Node> {
        self.nodes.get(&queued.namespace)?.get(&queued.key)
    }
}

impl Node {
    /// The newest version up to a revision.
    fn at(&self, revision: Revision) -> Option<&Version> {
        if self.latest.revision <= revision {
            return Some(&self.latest);
        }
        let count = self
            .older
            .partition_point(|version| version.revision <= revision);
        self.older.get(count.checked_sub(1)?)
    }
}

impl Version {
    fn found(&self) -> Found {
        self.value.as_ref().map(|value| Stored {
            value: value.clone(),
            revision: self.revision,
        })
    }
}

fn cost(key: &Bytes, version: &Version) -> usize {
    VERSION_BYTES + key.len() + version.value.as_ref().map_or(0, Bytes::len)
}

fn collect_page<'a>(
    nodes: impl Iterator<Item = (&'a Bytes, &'a Node)>,
    at: Revision,
    count_max: usize,
) -> RecentPage {
    let mut page = RecentPage::default();
    let mut last: Option<&Bytes> = None;
    for (count, (key, node)) in nodes.enumerate() {
        if count == count_max {
            page.more_after = last.cloned();
            break;
        }
        last = Some(key);
        if let Some(version) = node.at(at) {
            page.found.push((key.clone(), version.found()));
        }
    }
    page
}

#[cfg(test)]
mod tests;
