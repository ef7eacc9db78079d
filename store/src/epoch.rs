//! Changes of owner, and which positions lie on this history.
//!
//! Each owner begins with an epoch frame. After a clean end its epoch goes on where the last one
//! stopped; after any other end some revisions were given and may be lost, and the new epoch says
//! up to where the old ones were kept.

use std::collections::VecDeque;

use objsync_proto::ids::{Epoch, EpochName, Position, Revision, StoreId};

use crate::frame::{BytesReader, Malformed, put_varint};

/// Most epochs remembered; a peer that saw none of them starts anew.
const EPOCHS_MAX: usize = 65_536;

/// An epoch of this history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// Its number and name.
    pub epoch: Epoch,
    /// The last revision of the epochs before that was kept.
    pub after: Revision,
}

/// The epochs of a history, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epochs {
    store: StoreId,
    starts: VecDeque<EpochStart>,
}

impl EpochStart {
    /// As the body of an epoch frame.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        put_varint(buffer, self.epoch.number);
        buffer.extend_from_slice(&self.epoch.name.0);
        put_varint(buffer, self.after.0);
    }

    /// From the front of a frame's body.
    pub fn take(reader: &mut BytesReader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            epoch: Epoch {
                number: reader.varint()?,
                name: EpochName(reader.array()?),
            },
            after: Revision(reader.varint()?),
        })
    }
}

impl Epochs {
    /// None yet.
    #[must_use]
    pub fn new(store: StoreId) -> Self {
        Self {
            store,
            starts: VecDeque::new(),
        }
    }

    /// Adds a change of owner. One that is known already changes nothing.
    pub fn push(&mut self, start: EpochStart) {
        let last = self.starts.back();
        if last.is_some_and(|last| last.epoch.number >= start.epoch.number) {
            return;
        }
        self.starts.push_back(start);
        if self.starts.len() > EPOCHS_MAX {
            self.starts.pop_front();
        }
    }

    /// The present epoch.
    #[must_use]
    pub fn current(&self) -> Option<Epoch> {
        self.starts.back().map(|start| start.epoch)
    }

    /// The epoch with this number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<Epoch> {
        let found = self.find(number)?;
        Some(self.starts[found].epoch)
    }

    /// Whether what was read at a position is a prefix of this history, which is at `committed`.
    #[must_use]
    pub fn holds(&self, position: &Position, committed: Revision) -> bool {
        self.common(position, committed) == Some(position.revision)
    }

    /// The last revision up to which what was read at a position is a prefix of this history,
    /// which is at `committed`; none if it has nothing to do with it.
    #[must_use]
    pub fn common(&self, position: &Position, committed: Revision) -> Option<Revision> {
        if position.store != self.store {
            return None;
        }
        let found = self.find(position.epoch.number)?;
        let kept_to = match self.starts.get(found + 1) {
            Some(next) => next.after,
            None => committed,
        };
        let is_same = self.starts[found].epoch == position.epoch;
        is_same.then(|| position.revision.min(kept_to))
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &EpochStart> {
        self.starts.iter()
    }

    fn find(&self, number: u64) -> Option<usize> {
        self.starts
            .binary_search_by_key(&number, |start| start.epoch.number)
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([1; 16]);

    fn epoch(number: u64, name: u8) -> Epoch {
        Epoch {
            number,
            name: EpochName([name; 16]),
        }
    }

    fn history() -> Epochs {
        let mut epochs = Epochs::new(STORE);
        for (number, after) in [(1, 0), (2, 10), (5, 20)] {
            let after = Revision(after);
            epochs.push(EpochStart {
                epoch: epoch(number, 7),
                after,
            });
        }
        epochs
    }

    fn holds(number: u64, name: u8, revision: u64) -> bool {
        let position = Position {
            store: STORE,
            epoch: epoch(number, name),
            revision: Revision(revision),
        };
        history().holds(&position, Revision(1_000_030))
    }

    #[test]
    fn position_is_on_the_history_up_to_where_its_epoch_was_kept() {
        assert!(holds(1, 7, 0));
        assert!(holds(1, 7, 10));
        assert!(!holds(1, 7, 11), "lost with the end of epoch 1");
        assert!(holds(2, 7, 20));
        assert!(!holds(2, 7, 21));
        assert!(holds(5, 7, 1_000_030));
        assert!(!holds(5, 7, 1_000_031), "not committed");
    }

    #[test]
    fn same_number_with_another_name_is_another_history() {
        assert!(!holds(2, 8, 15));
        assert!(!holds(3, 7, 15), "an epoch that never was");
    }

    #[test]
    fn other_store_is_another_history() {
        let position = Position {
            store: StoreId([2; 16]),
            epoch: epoch(1, 7),
            revision: Revision(0),
        };
        assert!(!history().holds(&position, Revision(100)));
    }

    #[test]
    fn epoch_seen_again_changes_nothing() {
        let mut epochs = history();
        epochs.push(EpochStart {
            epoch: epoch(2, 9),
            after: Revision(3),
        });
        assert_eq!(epochs, history());
    }

    #[test]
    fn start_comes_back_from_its_frame() {
        let start = EpochStart {
            epoch: epoch(300, 7),
            after: Revision(1 << 40),
        };
        let mut body = Vec::new();
        start.encode(&mut body);
        let body = body.into();
        assert_eq!(EpochStart::take(&mut BytesReader::new(&body)), Ok(start));
    }

    #[test]
    fn common_part_of_a_history_ends_where_its_epoch_was_kept_to() {
        let epochs = history();
        let common = |number, name, revision| {
            let position = Position {
                store: STORE,
                epoch: epoch(number, name),
                revision: Revision(revision),
            };
            epochs.common(&position, Revision(30))
        };
        assert_eq!(common(1, 7, 9), Some(Revision(9)));
        assert_eq!(common(1, 7, 15), Some(Revision(10)), "the rest was lost");
        assert_eq!(common(5, 7, 40), Some(Revision(30)), "it is not there yet");
        assert_eq!(common(2, 8, 15), None, "an epoch of another owner");
        assert_eq!(common(3, 7, 15), None);
        let elsewhere = Position {
            store: StoreId([2; 16]),
            epoch: epoch(1, 7),
            revision: Revision(9),
        };
        assert_eq!(epochs.common(&elsewhere, Revision(30)), None);
    }
}
