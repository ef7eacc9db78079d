//! An index against what snapshot and log say, entry by entry.

use std::cmp::Ordering;
use std::fmt;
use std::ops::ControlFlow;

use bytes::Bytes;
use objsync_proto::ids::{NamespaceId, Revision, SurfaceId};
use objsync_proto::wire::KeyRange;

use super::{Index, LayeredIndex};
use crate::error::StoreError;
use crate::merge::Merge;
use crate::store::Stored;
use crate::table::TableEntry;

/// Something in which an index differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Difference {
    /// A key with another entry, one too many or one too few.
    Key(NamespaceId, Bytes),
    /// A namespace whose number of keys is not the one it counts.
    Count {
        /// Which.
        namespace: NamespaceId,
        /// Keys that are there.
        seen: u64,
        /// Keys that it counts.
        counted: u64,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(namespace, _) => write!(
                f,
                "a key of namespace {} is not as snapshot and log have it",
                namespace.0
            ),
            Self::Count {
                namespace,
                seen,
                counted,
            } => write!(
                f,
                "namespace {} has {seen} keys and counts {counted}",
                namespace.0
            ),
        }
    }
}

/// Entries between two questions whether to stop.
const STOP_CHECK_COUNT: u64 = 1024;

/// Compares all of `index`, whose mark is the revision of `then`, and tells `each` difference
/// until it breaks. Tells how many entries were looked at.
///
/// An entry later than the mark is left from a transaction that was applied in part. It is right
/// if `now`, the end of the log, has a later entry of the key too: replaying the log brings that.
///
/// # Errors
/// [`StoreError::Closed`] once `is_stopped`, which is asked now and then.
pub(crate) fn compare(
    index: &dyn Index,
    (then, now): (&LayeredIndex, &dyn Index),
    is_stopped: &dyn Fn() -> bool,
    each: &mut dyn FnMut(Difference) -> ControlFlow<()>,
) -> Result<u64, StoreError> {
    let mut comparison = Comparison {
        truth: Truth::new(then)?,
        mark: then.revision(),
        now,
        is_stopped,
        each,
        seen: 0,
    };
    let compared = comparison.run(index);
    match compared {
        Ok(()) | Err(Stop::Asked) => Ok(comparison.seen),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Why a comparison ends early.
enum Stop {
    Asked,
    Failed(StoreError),
}

struct Comparison<'a> {
    truth: Truth<'a>,
    mark: Revision,
    now: &'a dyn Index,
    is_stopped: &'a dyn Fn() -> bool,
    each: &'a mut dyn FnMut(Difference) -> ControlFlow<()>,
    seen: u64,
}

impl Comparison<'_> {
    fn run(&mut self, index: &dyn Index) -> Result<(), Stop> {
        let mut namespaces = index.counts()?;
        namespaces.sort_unstable();
        for (namespace, counted) in namespaces {
            let before = self.seen;
            self.run_namespace(index, namespace)?;
            let seen = self.seen - before;
            if seen != counted {
                self.tell(Difference::Count {
                    namespace,
                    seen,
                    counted,
                })?;
            }
        }
        // What is left lies in no namespace, or behind the last key, of the index.
        while self.truth.next.is_some() {
            self.tell_next()?;
        }
        Ok(())
    }

    fn run_namespace(&mut self, index: &dyn Index, namespace: NamespaceId) -> Result<(), Stop> {
        let mut stop = None;
        index.scan(
            namespace,
            &KeyRange::default(),
            false,
            &mut |key, found| match self.take(namespace, key, &found) {
                Ok(()) => ControlFlow::Continue(()),
                Err(why) => {
                    stop = Some(why);
                    ControlFlow::Break(())
                }
            },
        )?;
        stop.map_or(Ok(()), Err)
    }

    /// Takes an entry of the index.
    fn take(&mut self, namespace: NamespaceId, key: Bytes, found: &Stored) -> Result<(), Stop> {
        self.seen += 1;
        if self.seen.is_multiple_of(STOP_CHECK_COUNT) && (self.is_stopped)() {
            return Err(Stop::Failed(StoreError::Closed));
        }
        loop {
            let order = match &self.truth.next {
                None => Ordering::Greater,
                Some(next) => (next.section.namespace, &next.key).cmp(&(namespace, &key)),
            };
            let is_ahead = found.revision > self.mark;
            match order {
                Ordering::Less => self.tell_next()?,
                Ordering::Equal => {
                    let next = self.truth.advance()?;
                    let is_equal = next.is_some_and(|next| {
                        next.revision == found.revision && next.payload == found.value
                    });
                    let is_right = is_equal || (is_ahead && self.is_replayed(namespace, &key)?);
                    return self.tell_unless(is_right, namespace, key);
                }
                Ordering::Greater => {
                    let is_right = is_ahead && self.is_replayed(namespace, &key)?;
                    return self.tell_unless(is_right, namespace, key);
                }
            }
        }
    }

    /// Whether the log has a change of the key behind the mark.
    fn is_replayed(&self, namespace: NamespaceId, key: &[u8]) -> Result<bool, Stop> {
        let now = self.now.get(namespace, key)?;
        Ok(now.is_some_and(|now| now.revision > self.mark))
    }

    /// The index lacks the next key.
    fn tell_next(&mut self) -> Result<(), Stop> {
        match self.truth.advance()? {
            Some(missing) => self.tell_unless(false, missing.section.namespace, missing.key),
            None => Ok(()),
        }
    }

    fn tell_unless(
        &mut self,
        is_right: bool,
        namespace: NamespaceId,
        key: Bytes,
    ) -> Result<(), Stop> {
        match is_right {
            true => Ok(()),
            false => self.tell(Difference::Key(namespace, key)),
        }
    }

    fn tell(&mut self, difference: Difference) -> Result<(), Stop> {
        match (self.each)(difference) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Stop::Asked),
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// The entries that an index must have, in order.
struct Truth<'a> {
    merge: Merge<'a>,
    next: Option<TableEntry>,
}

impl<'a> Truth<'a> {
    fn new(then: &'a LayeredIndex) -> Result<Self, StoreError> {
        let mut truth = Self {
            merge: then.iter()?,
            next: None,
        };
        truth.advance()?;
        Ok(truth)
    }

    /// Gives the next entry and looks at the one behind it.
    fn advance(&mut self) -> Result<Option<TableEntry>, StoreError> {
        let given = self.next.take();
        for merged in self.merge.by_ref() {
            let merged = merged?;
            if merged.section().surface != SurfaceId::DICT {
                continue;
            }
            if let Some(entry) = merged.resolve()? {
                self.next = Some(entry);
                break;
            }
        }
        Ok(given)
    }
}
