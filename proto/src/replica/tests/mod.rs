//! The replica against an owner made of a list of transactions.

mod difference;
mod partial;
mod parts;
mod rules;
mod whole;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Applied, Exchanged, Replica, Sink};
use crate::effect::{Cause, Change};
use crate::ids::{Epoch, EpochName, Position, Revision, StoreId};
use crate::key::{Key, encode};
use crate::wire::{Entry, Event, Feed, KeyRange};

type Map = BTreeMap<Bytes, (Bytes, Revision)>;

fn key(number: u8) -> Bytes {
    encode(&Key::from(number)).unwrap().into()
}

/// An owner: its transactions, and the epoch it is in.
struct Owner {
    epoch: u64,
    events: Vec<Event>,
    next: u64,
}

impl Owner {
    fn new() -> Self {
        Self {
            epoch: 1,
            events: Vec::new(),
            next: 1,
        }
    }

    fn commit(&mut self, changes: Vec<Change>) -> Revision {
        let revision = Revision(self.next);
        self.next += 1;
        self.events.push(Event {
            revision,
            time_ms: revision.0 * 10,
            origin: None,
            cause: Cause::Write,
            changes,
            patches: Vec::new(),
        });
        revision
    }

    fn put(&mut self, number: u8, value: &'static [u8]) -> Revision {
        self.commit(vec![Change {
            key: key(number),
            value: Some(Bytes::from_static(value)),
        }])
    }

    fn put_each(&mut self, numbers: impl IntoIterator<Item = u8>, value: &'static [u8]) {
        for number in numbers {
            self.put(number, value);
        }
    }

    fn delete(&mut self, number: u8) -> Revision {
        self.commit(vec![Change {
            key: key(number),
            value: None,
        }])
    }

    /// The last transactions are lost and another history begins.
    fn lose(&mut self, count: usize) {
        let left = self.events.len().saturating_sub(count);
        self.events.truncate(left);
        self.epoch += 1;
        self.next += 100;
    }

    fn revision(&self) -> Revision {
        self.events
            .last()
            .map_or(Revision(0), |event| event.revision)
    }

    fn position_at(&self, revision: Revision) -> Position {
        let name = EpochName([u8::try_from(self.epoch).unwrap(); 16]);
        let epoch = Epoch {
            number: self.epoch,
            name,
        };
        Position {
            store: StoreId([9; 16]),
            epoch,
            revision,
        }
    }

    fn position(&self) -> Position {
        self.position_at(self.revision())
    }

    fn state_at(&self, revision: Revision) -> Map {
        let mut map = Map::new();
        for event in self
            .events
            .iter()
            .take_while(|event| event.revision <= revision)
        {
            for change in &event.changes {
                match &change.value {
                    Some(value) => {
                        map.insert(change.key.clone(), (value.clone(), event.revision));
                    }
                    None => {
                        map.remove(&change.key);
                    }
                }
            }
        }
        map
    }

    fn entries(&self) -> Vec<Entry> {
        let state = self.state_at(self.revision());
        let entry = |(key, (value, revision))| Entry {
            key,
            value,
            revision,
        };
        state.into_iter().map(entry).collect()
    }

    fn after(&self, revision: Revision) -> Vec<Event> {
        self.events
            .iter()
            .filter(|event| event.revision > revision)
            .cloned()
            .collect()
    }
}

/// Remembers what a replica told, and keeps a map by it.
#[derive(Default)]
struct Mirror {
    map: BTreeMap<Bytes, Bytes>,
    changes: Vec<Applied>,
    barriers: Vec<(u64, Position)>,
    exchanges: Vec<bool>,
}

impl Sink for Mirror {
    fn applied(&mut self, change: Applied) {
        match &change.new {
            Some(new) => self.map.insert(change.key.clone(), new.clone()),
            None => self.map.remove(&change.key),
        };
        self.changes.push(change);
    }

    fn barrier(&mut self, id: u64, position: Position) {
        self.barriers.push((id, position));
    }

    fn exchanged(&mut self, Exchanged { told, .. }: Exchanged) {
        self.exchanges.push(told);
    }
}

fn feed_all(replica: &mut Replica, mirror: &mut Mirror, frames: impl IntoIterator<Item = Feed>) {
    for frame in frames {
        replica.feed(frame, mirror).unwrap();
    }
}

/// A subscription that sends the state of the owner, in frames of two entries.
fn reset_frames(owner: &Owner) -> Vec<Feed> {
    let mut frames = vec![Feed::Start { subscription: 1 }, Feed::Reset];
    frames.extend(
        owner
            .entries()
            .chunks(2)
            .map(|entries| Feed::Entries(entries.to_vec())),
    );
    frames.push(Feed::Complete {
        position: owner.position(),
    });
    frames
}

fn join(replica: &mut Replica, mirror: &mut Mirror, owner: &Owner) {
    replica.connected(owner.position());
    feed_all(replica, mirror, reset_frames(owner));
}

fn resume(replica: &mut Replica, mirror: &mut Mirror, owner: &Owner) {
    replica.connected(owner.position());
    feed_all(
        replica,
        mirror,
        [Feed::Start { subscription: 2 }, Feed::Resume],
    );
}

/// Everything a whole replica holds, read in small pages.
fn content(replica: &Replica) -> Map {
    let mut map = Map::new();
    let mut rest = Some(KeyRange::default());
    while let Some(range) = rest {
        let page = replica.page(&range, false, 20).unwrap();
        map.extend(
            page.entries
                .into_iter()
                .map(|e| (e.key, (e.value, e.revision))),
        );
        rest = page.rest;
    }
    map
}
