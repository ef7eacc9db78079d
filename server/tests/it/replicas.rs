//! Whatever way changes reach a follower (ring, log, or the state anew), it ends equal to the
//! store.

use std::collections::BTreeMap;

use objsync_proto::ids::Position;
use objsync_proto::operation::Operation;
use objsync_proto::wire::{Feed, KeyRange, Reply, Request};
use objsync_proto::{effect::Change, key};
use objsync_store::StoreLimits;

use crate::peer::{Client, Owner, change, encoded, key_text, put, text, trim, within};
use crate::random::Random;

/// So little of everything that every way is taken.
fn small() -> StoreLimits {
    StoreLimits {
        segment_bytes: 16 << 10,
        snapshot_log_bytes: 40 << 10,
        retention_bytes: 64 << 10,
        recent_bytes_max: 64 << 10,
        ring_bytes_max: 8 << 10,
        ..StoreLimits::default()
    }
}

/// What a follower holds, by nothing but what it was sent.
#[derive(Default)]
struct Replica {
    entries: BTreeMap<String, String>,
    position: Option<Position>,
    resets: u32,
    resumes: u32,
}

impl Replica {
    fn apply(&mut self, message: Feed, epoch: Position) {
        match message {
            Feed::Reset => {
                self.entries.clear();
                self.resets += 1;
            }
            Feed::Resume => self.resumes += 1,
            Feed::Entries(entries) => {
                for entry in entries {
                    let fresh = self
                        .entries
                        .insert(key_text(&entry.key), text(&entry.value));
                    assert_eq!(fresh, None, "each key once");
                }
            }
            Feed::Events(events) => {
                for event in events {
                    assert!(self.position.is_none_or(|at| at.revision < event.revision));
                    event.changes.iter().for_each(|change| self.change(change));
                    self.position = Some(Position {
                        revision: event.revision,
                        ..epoch
                    });
                }
            }
            Feed::Complete { position }
            | Feed::Bookmark { position }
            | Feed::Barrier { position, .. } => {
                assert!(
                    self.position
                        .is_none_or(|at| at.revision <= position.revision)
                );
                self.position = Some(position);
            }
            other => panic!("{other:?}"),
        }
    }

    fn change(&mut self, change: &Change) {
        let key = key_text(&change.key);
        match &change.value {
            Some(value) => self.entries.insert(key, text(value)),
            None => self.entries.remove(&key),
        };
    }

    /// Follows until everything that is committed now has come.
    async fn follow(&mut self, client: &mut Client, range: KeyRange) {
        let epoch = client.welcome.position;
        let mut events = client.subscribe_range(range, self.position).await;
        let asked = client.request(Request::Barrier).await.unwrap();
        assert!(matches!(asked, Reply::Position(_)));
        loop {
            let message = events.next().await;
            let done = matches!(message, Feed::Barrier { .. });
            self.apply(message, epoch);
            if done {
                break;
            }
        }
        let stop = Request::Unsubscribe {
            subscription: events.subscription,
        };
        client.request(stop).await.unwrap();
    }
}

/// The store's own view of a range.
async fn fetched(client: &mut Client, range: KeyRange) -> BTreeMap<String, String> {
    let request = Request::Fetch {
        subscription: 1,
        range,
        reverse: false,
    };
    assert_eq!(client.request(request).await, Ok(Reply::Done));
    let mut stream = client.accept(1).await;
    let (entries, _) = stream.entries().await;
    assert_eq!(within(stream.inbox.next::<Feed>()).await.unwrap(), None);
    entries.into_iter().collect()
}

fn operation(random: &mut Random) -> Operation {
    let key =
        |random: &mut Random| format!("{}{:02}", ["a", "b"][random.below(2)], random.below(40));
    let value = |random: &mut Random| "v".repeat(random.below(300));
    match random.below(8) {
        0 => Operation::Delete {
            key: encoded(&key(random)),
        },
        1 => Operation::DeleteRange {
            start: encoded(&key(random)),
            end: None,
            count_max: 5,
        },
        2 => Operation::Batch {
            changes: (0..random.below(20))
                .map(|_| change(&key(random), &value(random)))
                .collect(),
        },
        _ => put(&key(random), &value(random)),
    }
}

#[tokio::test]
async fn followers_that_come_and_go_end_equal_to_the_store() {
    const SEED: u64 = 0x7265_706c_6963_6101;
    println!("seed {SEED:#x}");
    let owner = Owner::start_with(small());
    let mut random = Random::new(SEED);
    let mut writer = owner.client().await;
    writer.open_session().await;
    let ranges = [
        KeyRange::default(),
        key::str_prefix("b"),
        key::str_prefix("none"),
    ];
    let mut replicas: [Replica; 3] = Default::default();
    for _ in 0..60 {
        for _ in 0..random.below(120) {
            writer.run(operation(&mut random)).await.unwrap();
        }
        for (replica, range) in replicas.iter_mut().zip(&ranges) {
            if random.below(3) > 0 {
                continue;
            }
            let mut client = owner.client().await;
            replica.follow(&mut client, range.clone()).await;
            assert_eq!(replica.entries, fetched(&mut client, range.clone()).await);
        }
    }
    let [all, part, nothing] = &replicas;
    assert!(!all.entries.is_empty() && !part.entries.is_empty());
    assert!(nothing.entries.is_empty());
    for replica in &replicas {
        assert!(replica.resumes > 5, "{} resumed", replica.resumes);
    }
}

#[tokio::test]
async fn follower_from_before_the_log_gets_the_state_anew() {
    let owner = Owner::start_with(small());
    let mut writer = owner.client().await;
    writer.open_session().await;
    writer.put("gone", "x").await;
    let mut replica = Replica::default();
    replica.follow(&mut writer, KeyRange::default()).await;
    let early = replica.position.unwrap();
    writer
        .run(Operation::Delete {
            key: encoded("gone"),
        })
        .await
        .unwrap();
    trim(&owner, &mut writer, &early).await;
    replica.follow(&mut writer, KeyRange::default()).await;
    assert_eq!(replica.resets, 2, "at the beginning, and now");
    assert!(
        !replica.entries.contains_key("gone"),
        "what was deleted meanwhile is gone"
    );
    assert_eq!(
        replica.entries,
        fetched(&mut writer, KeyRange::default()).await
    );
}

#[tokio::test]
async fn follower_that_sleeps_while_the_log_is_trimmed_ends_equal_to_the_store() {
    let owner = Owner::start_with(small());
    let mut writer = owner.client().await;
    writer.open_session().await;
    let mut sleeper = owner.client().await;
    let mut events = sleeper.subscribe(None).await;
    // More than the wire holds, so that the owner stands still in the middle of the log.
    for round in 0_u32..300 {
        let key = format!("{:03}", round % 50);
        writer.put(&key, &"v".repeat(60_000)).await;
    }
    let written = owner.store.position();
    trim(&owner, &mut writer, &written).await;
    assert!(matches!(
        sleeper.request(Request::Barrier).await,
        Ok(Reply::Position(_))
    ));
    let mut replica = Replica::default();
    loop {
        let message = events.next().await;
        let done = matches!(message, Feed::Barrier { .. });
        replica.apply(message, sleeper.welcome.position);
        if done {
            break;
        }
    }
    assert!(replica.resets > 1, "it fell out of the log on the way");
    assert_eq!(replica.entries.len(), 50 + 5);
    assert_eq!(
        replica.entries,
        fetched(&mut sleeper, KeyRange::default()).await
    );
}
