//! Following changes: from the start, from a position, from before the log, by range, slowly.

use objsync_proto::effect::Change;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{EpochName, Position};
use objsync_proto::key;
use objsync_proto::limits::SUBSCRIPTIONS_MAX;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::{Feed, KeyRange, Reply, Request};
use objsync_store::StoreLimits;

use crate::peer::{Client, Inbox, NAMESPACE, Owner, change, changes, put, within};

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

async fn writer(owner: &Owner) -> Client {
    let mut client = owner.client().await;
    client.open_session().await;
    client
}

#[tokio::test]
async fn subscriber_from_the_start_gets_the_state_and_then_every_change() {
    let owner = Owner::start();
    let mut writer = writer(&owner).await;
    writer.put("b", "2").await;
    let last = writer.put("a", "1").await;
    let mut events = writer.subscribe(None).await;
    let (entries, position) = events.state().await;
    assert_eq!(entries, pairs(&[("a", "1"), ("b", "2")]));
    assert_eq!(position.revision, last.revision);
    let ack = writer.put("c", "3").await;
    assert_eq!(events.events(1).await[0].revision, ack.revision);
}

#[tokio::test]
async fn state_of_many_pages_comes_whole_and_in_order() {
    let owner = Owner::start();
    let value = "v".repeat(2_000);
    for part in 0..10 {
        let name = |n: u32| format!("{:05}", part * 100 + n);
        let content = (0..100).map(|n| change(&name(n), &value)).collect();
        let submission = batch(&owner, content);
        owner.store.execute(submission).unwrap().outcome.unwrap();
    }
    let mut client = owner.client().await;
    let mut events = client.subscribe(None).await;
    let (entries, _) = events.state().await;
    assert_eq!(entries.len(), 1_000);
    assert!(entries.is_sorted());
    assert!(entries.iter().all(|(_, found)| *found == value));
}

fn batch(owner: &Owner, changes: Vec<Change>) -> objsync_store::Submission {
    objsync_store::Submission {
        namespace: owner.store.namespace(NAMESPACE).unwrap().unwrap(),
        operation: Operation::Batch { changes },
        origin: None,
        durability: None,
    }
}

#[tokio::test]
async fn subscriber_resumes_from_its_position_inside_the_ring() {
    let owner = Owner::start();
    let mut writer = writer(&owner).await;
    writer.put("a", "1").await;
    let position = owner.store.position();
    let mut wanted = Vec::new();
    for n in 0..50 {
        wanted.push(writer.put("a", &n.to_string()).await.revision);
    }
    let mut events = writer.subscribe(Some(position)).await;
    assert_eq!(events.next().await, Feed::Resume);
    let seen: Vec<_> = events
        .events(50)
        .await
        .iter()
        .map(|event| event.revision)
        .collect();
    assert_eq!(
        seen, wanted,
        "each once, in order, none before the position"
    );
}

#[tokio::test]
async fn subscriber_that_fell_out_of_the_ring_reads_the_log() {
    // A ring for a few transactions only.
    let limits = StoreLimits {
        ring_bytes_max: 2_000,
        ..StoreLimits::default()
    };
    let owner = Owner::start_with(limits);
    let mut writer = writer(&owner).await;
    writer.put("a", "1").await;
    let position = owner.store.position();
    let mut wanted = Vec::new();
    for n in 0..300 {
        wanted.push(writer.put("a", &n.to_string()).await.revision);
    }
    let mut events = writer.subscribe(Some(position)).await;
    assert_eq!(events.next().await, Feed::Resume);
    let seen: Vec<_> = events
        .events(300)
        .await
        .iter()
        .map(|event| event.revision)
        .collect();
    assert_eq!(seen, wanted);
    let next = writer.put("b", "2").await;
    assert_eq!(
        events.events(1).await[0].revision,
        next.revision,
        "and then the ring again"
    );
}

#[tokio::test]
async fn subscriber_resumes_across_owners() {
    let owner = Owner::start();
    let mut writer = writer(&owner).await;
    writer.put("a", "1").await;
    let position = owner.store.position();
    let missed = writer.put("a", "2").await;
    let owner = owner.restart().await;
    let mut client = owner.client().await;
    let mut events = client.subscribe(Some(position)).await;
    assert_eq!(events.next().await, Feed::Resume);
    let seen = events.events(1).await;
    assert_eq!(seen[0].revision, missed.revision);
    assert_eq!(changes(&seen[0]), [("a".to_owned(), Some("2".to_owned()))]);
}

#[tokio::test]
async fn subscriber_of_another_history_gets_the_state_anew() {
    let owner = Owner::start();
    let mut writer = writer(&owner).await;
    writer.put("a", "1").await;
    let here = owner.store.position();
    let mut epoch = here.epoch;
    epoch.name = EpochName([0xee; 16]);
    let mut store = here.store;
    store.0[0] ^= 1;
    for elsewhere in [Position { epoch, ..here }, Position { store, ..here }] {
        let mut events = writer.subscribe(Some(elsewhere)).await;
        assert_eq!(events.state().await.0, pairs(&[("a", "1")]));
    }
}

#[tokio::test]
async fn range_shows_what_is_inside_and_how_far_the_rest_is() {
    let owner = Owner::start();
    let mut writer = writer(&owner).await;
    writer.put("user:1", "a").await;
    writer.put("zebra", "b").await;
    let mut events = writer.subscribe_range(key::str_prefix("user:"), None).await;
    assert_eq!(events.state().await.0, pairs(&[("user:1", "a")]));
    let both = Operation::Batch {
        changes: vec![change("user:2", "c"), change("zoo", "d")],
    };
    writer.run(both).await.unwrap();
    let seen = events.events(1).await;
    assert_eq!(
        changes(&seen[0]),
        [("user:2".to_owned(), Some("c".to_owned()))]
    );
    let outside = writer.put("zoo", "e").await;
    match events.next().await {
        Feed::Bookmark { position } => assert_eq!(position.revision, outside.revision),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn barrier_comes_after_everything_that_was_committed_before_it() {
    let owner = Owner::start();
    let mut writer = writer(&owner).await;
    let mut client = owner.client().await;
    let mut events = client.subscribe(None).await;
    events.state().await;
    for round in 0..20 {
        let ack = writer.put("a", &round.to_string()).await;
        let reply = client.request(Request::Barrier).await.unwrap();
        let Reply::Position(position) = reply else {
            panic!("{reply:?}")
        };
        assert!(position.revision >= ack.revision);
        let mut seen = None;
        loop {
            match events.next_told().await {
                Feed::Events(events) => seen = events.last().map(|event| event.revision),
                Feed::Barrier { position, .. } => {
                    assert!(position.revision >= ack.revision);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, Some(ack.revision));
    }
}

#[tokio::test]
async fn barrier_of_an_idle_dictionary_is_answered_too() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    let mut events = client.subscribe(None).await;
    events.state().await;
    client.request(Request::Barrier).await.unwrap();
    assert!(matches!(events.next_told().await, Feed::Barrier { .. }));
}

#[tokio::test]
async fn fetch_sends_a_range_once_either_way() {
    let owner = Owner::start();
    let mut writer = writer(&owner).await;
    for key in ["a", "b", "c", "d"] {
        writer.put(key, key).await;
    }
    let range = KeyRange {
        start: crate::peer::encoded("b"),
        end: Some(crate::peer::encoded("d")),
    };
    for (subscription, reverse, wanted) in [
        (1, false, [("b", "b"), ("c", "c")]),
        (2, true, [("c", "c"), ("b", "b")]),
    ] {
        let request = Request::Fetch {
            subscription,
            range: range.clone(),
            reverse,
        };
        assert_eq!(writer.request(request).await, Ok(Reply::Done));
        let mut fetch = writer.accept(subscription).await;
        let (entries, position) = fetch.entries().await;
        assert_eq!(entries, pairs(&wanted));
        assert_eq!(position.revision, owner.store.position().revision);
        assert_eq!(
            within(fetch.inbox.next::<Feed>()).await.unwrap(),
            None,
            "and ends"
        );
    }
}

#[tokio::test]
async fn more_states_than_are_sent_at_once_all_come_in_the_end() {
    let owner = Owner::start();
    let mut writer = writer(&owner).await;
    writer.put("big", &"x".repeat(1 << 20)).await;
    // None is read before all are asked for, and together they are more than the wire holds.
    const COUNT: usize = SUBSCRIPTIONS_MAX;
    for subscription in 0..COUNT as u64 {
        let request = Request::Fetch {
            subscription,
            range: KeyRange::default(),
            reverse: false,
        };
        assert_eq!(writer.request(request).await, Ok(Reply::Done));
    }
    for _ in 0..COUNT {
        let stream = within(writer.connection.accept_uni()).await.unwrap();
        let mut inbox = Inbox::new(stream);
        assert!(matches!(
            within(inbox.next::<Feed>()).await,
            Ok(Some(Feed::Start { .. }))
        ));
        assert!(matches!(
            within(inbox.next::<Feed>()).await,
            Ok(Some(Feed::Entries(_)))
        ));
        assert!(matches!(
            within(inbox.next::<Feed>()).await,
            Ok(Some(Feed::Complete { .. }))
        ));
    }
}

#[tokio::test]
async fn subscription_over_the_limit_is_refused_and_the_others_go_on() {
    let owner = Owner::start();
    let mut writer = writer(&owner).await;
    let subscribe = |subscription| Request::Subscribe {
        subscription,
        range: KeyRange::default(),
        since: None,
    };
    for subscription in 0..SUBSCRIPTIONS_MAX as u64 {
        assert_eq!(
            writer.request(subscribe(subscription)).await,
            Ok(Reply::Done)
        );
    }
    let refused = writer.request(subscribe(u64::MAX)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Full);
    let stop = Request::Unsubscribe { subscription: 0 };
    assert_eq!(writer.request(stop).await, Ok(Reply::Done));
    assert_eq!(writer.request(subscribe(u64::MAX)).await, Ok(Reply::Done));
}

#[tokio::test]
async fn unsubscribed_stream_ends_and_its_number_is_free_again() {
    let owner = Owner::start();
    let mut writer = writer(&owner).await;
    let mut events = writer.subscribe(None).await;
    events.state().await;
    let subscription = events.subscription;
    let again = Request::Subscribe {
        subscription,
        range: KeyRange::default(),
        since: None,
    };
    assert!(writer.request(again.clone()).await.is_err(), "in use");
    let stop = Request::Unsubscribe { subscription };
    assert_eq!(writer.request(stop).await, Ok(Reply::Done));
    assert!(
        within(events.inbox.next::<Feed>()).await.is_err(),
        "reset, not finished"
    );
    assert_eq!(writer.request(again).await, Ok(Reply::Done));
    writer.accept(subscription).await.state().await;
}

#[tokio::test]
async fn subscriber_that_does_not_read_delays_nobody_and_misses_nothing() {
    let limits = StoreLimits {
        ring_bytes_max: 1 << 20,
        ..StoreLimits::default()
    };
    let owner = Owner::start_with(limits);
    let mut writer = writer(&owner).await;
    let mut slow_peer = owner.client().await;
    let mut slow = slow_peer.subscribe(None).await;
    slow.state().await;
    let mut quick_peer = owner.client().await;
    let mut quick = quick_peer.subscribe(None).await;
    quick.state().await;
    // Far more than the windows and the ring together hold.
    let value = "x".repeat(100_000);
    let mut wanted = Vec::new();
    for n in 0..200 {
        let ack = writer.put(&format!("{n:03}"), &value).await;
        wanted.push(ack.revision);
        assert_eq!(quick.events(1).await[0].revision, ack.revision);
    }
    // Only now does the slow one read: from the wire, then the log, then the ring.
    let seen: Vec<_> = slow
        .events(200)
        .await
        .iter()
        .map(|event| event.revision)
        .collect();
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn dictionaries_do_not_see_each_other() {
    let owner = Owner::start();
    let mut here = writer(&owner).await;
    let identity = owner.identity();
    let mut there = Client::connect(&owner, &identity, "other").await.unwrap();
    assert_eq!(there.welcome.namespace, None);
    let content = vec![change("first", "1")];
    let made = there
        .request(Request::CreateNamespace { content })
        .await
        .unwrap();
    assert!(
        matches!(made, Reply::Namespace { created: true, .. }),
        "{made:?}"
    );
    let mut events = there.subscribe(None).await;
    assert_eq!(events.state().await.0, pairs(&[("first", "1")]));
    here.put("a", "1").await;
    there.open_session().await;
    assert_eq!(there.run(put("b", "2")).await.unwrap().0, Outcome::Done);
    let seen = events.events(1).await;
    assert_eq!(changes(&seen[0]), [("b".to_owned(), Some("2".to_owned()))]);
    assert_eq!(here.get("b").await, None);
}

/// A barrier that was asked for between the moment a change became visible and the moment
/// followers could read it told them that they had it: they passed over it when it came.
#[tokio::test]
async fn barrier_never_passes_a_change_that_is_just_being_committed() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    let mut events = client.subscribe(Some(owner.store.position())).await;
    assert_eq!(events.next().await, Feed::Resume);
    let (store, one) = (owner.store.clone(), batch(&owner, vec![change("a", "1")]));
    let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let over = std::sync::Arc::clone(&is_over);
    let writer = std::thread::spawn(move || {
        while !over.load(std::sync::atomic::Ordering::Relaxed) {
            store.execute(one.clone()).unwrap().outcome.unwrap();
        }
    });
    let (mut passed, mut barriers) = (0, 0);
    let asking = tokio::spawn(async move {
        for _ in 0..3_000 {
            let asked = client.request(Request::Barrier).await;
            assert!(matches!(asked, Ok(Reply::Position(_))));
        }
        client
    });
    while barriers < 3_000 {
        match events.next().await {
            Feed::Events(events) => {
                let late = events.iter().find(|event| event.revision.0 <= passed);
                assert!(late.is_none(), "{late:?} after a barrier at {passed}");
            }
            Feed::Barrier { position, .. } => {
                passed = position.revision.0;
                barriers += 1;
            }
            Feed::Bookmark { position } => passed = position.revision.0,
            other => panic!("{other:?}"),
        }
    }
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    asking.await.unwrap();
}
