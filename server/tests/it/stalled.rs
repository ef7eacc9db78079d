//! Who does not read costs the owner constant memory, and others nothing.

use objsync_proto::effect::Change;
use objsync_proto::limits::FEED_WINDOW_BYTES;
use objsync_proto::operation::Operation;
use objsync_proto::wire::{Feed, Held, KeyRange};
use objsync_store::{StoreLimits, Submission};

use crate::memory::{in_own_process, resident_bytes};
use crate::peer::{Client, Owner, Subscriber, change};

/// Who does not read.
const STALLED: usize = 20;
/// Changes of one transaction, and bytes of each.
const CHANGES: usize = 1_000;
const VALUE_BYTES: usize = 100;

fn write(owner: &Owner, transactions: usize) {
    let namespace = owner.store.namespace("default").unwrap().unwrap();
    let value = "v".repeat(VALUE_BYTES);
    for round in 0..transactions {
        let name = |number: usize| format!("{:05}", (round * 7 + number) % 3_000);
        let changes: Vec<Change> = (0..CHANGES).map(|n| change(&name(n), &value)).collect();
        let submission = Submission {
            namespace,
            operation: Operation::Batch { changes },
            origin: None,
            durability: None,
        };
        owner.store.execute(submission).unwrap().outcome.unwrap();
    }
}

/// A subscription of each kind that will not be read any further.
async fn stall(owner: &Owner, number: usize) -> (Client, Subscriber) {
    let mut client = owner.client().await;
    let position = owner.store.position();
    let held = [Held::Whole, Held::Part, Held::Nothing][number % 3];
    let mut events = client.follow(KeyRange::default(), position, held).await;
    assert_eq!(events.next().await, Feed::Resume);
    (client, events)
}

/// An hour in which nobody of them reads is here what an hour of writes brings: far more than the
/// wire, the ring and the log hold. What they cost does not grow with it.
#[tokio::test(flavor = "current_thread")]
async fn subscribers_that_read_nothing_for_long_cost_constant_memory() {
    let name = "stalled::subscribers_that_read_nothing_for_long_cost_constant_memory";
    if !in_own_process(name) {
        return;
    }
    let owner = Owner::start_with(StoreLimits {
        segment_bytes: 4 << 20,
        snapshot_log_bytes: 8 << 20,
        retention_bytes: 16 << 20,
        recent_bytes_max: 8 << 20,
        ring_bytes_max: 4 << 20,
        ..StoreLimits::default()
    });
    let mut stalled = Vec::new();
    for number in 0..STALLED {
        stalled.push(stall(&owner, number).await);
    }
    let mut reader = owner.client().await;
    let position = owner.store.position();
    let mut quick = reader
        .follow(KeyRange::default(), position, Held::Whole)
        .await;
    assert_eq!(quick.next().await, Feed::Resume);
    // The first part fills every window; the second, six times as long, must add nothing.
    let part = 2 * FEED_WINDOW_BYTES as usize / (CHANGES * VALUE_BYTES) + 40;
    let mut after_first = 0;
    for transactions in [part, 6 * part] {
        for _ in 0..transactions {
            write(&owner, 1);
            let events = quick.events(1).await;
            assert_eq!(events[0].changes.len(), CHANGES, "others have each at once");
        }
        if after_first == 0 {
            after_first = resident_bytes();
        }
    }
    let (now, written) = (resident_bytes(), 6 * part * CHANGES * VALUE_BYTES);
    let grown = usize::try_from(now.saturating_sub(after_first)).unwrap();
    // If it were kept for each of them, it would be STALLED times what was written.
    assert!(
        grown < written / 2,
        "{grown} bytes more after {written} bytes of changes"
    );
    assert_eq!(
        reader.get("00000").await.map(|v| v.len()),
        Some(VALUE_BYTES)
    );
    drop(stalled);
}
