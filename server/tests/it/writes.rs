//! Writes, their answers, and what happens to them when they come twice.

use objsync_proto::error::ErrorKind;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::Feed;

use crate::peer::{Client, NAMESPACE, Owner, changes, encoded, guest, put, sealed};

#[tokio::test]
async fn write_is_answered_seen_by_the_other_peer_and_read_back() {
    let owner = Owner::start();
    let (mut writer, mut watcher) = (owner.client().await, owner.client().await);
    let mut events = watcher.subscribe(None).await;
    assert_eq!(events.state().await.0, []);
    writer.open_session().await;
    let ack = writer.put("a", "1").await;
    let seen = events.events(1).await.remove(0);
    assert_eq!(seen.revision, ack.revision);
    assert_eq!(changes(&seen), [("a".to_owned(), Some("1".to_owned()))]);
    assert_eq!(watcher.get("a").await.as_deref(), Some("1"));
    assert_eq!(watcher.get("b").await, None);
}

#[tokio::test]
async fn answers_and_events_come_in_the_order_of_the_writes() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    let mut events = client.subscribe(None).await;
    events.state().await;
    client.open_session().await;
    // Sent without waiting, as a pipeline does: some run on the I/O thread, some do not.
    const COUNT: u64 = 500;
    for sequence in 1..=COUNT {
        client
            .write(sequence, put("key", &sequence.to_string()))
            .await;
    }
    let mut acked = Vec::new();
    for sequence in 1..=COUNT {
        let (answered, result) = client.answer().await;
        assert_eq!(answered, sequence);
        acked.push(result.unwrap().1.revision);
    }
    let seen = events.events(usize::try_from(COUNT).unwrap()).await;
    let revisions: Vec<_> = seen.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, acked);
    assert!(
        acked.is_sorted_by(|a, b| a < b),
        "one order, without repeats"
    );
    assert_eq!(
        changes(&seen[499]),
        [("key".to_owned(), Some("500".to_owned()))]
    );
}

#[tokio::test]
async fn every_operation_has_its_outcome() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    client.open_session().await;
    let key = || encoded("n");
    let swap = |expected: Option<&str>, new: &str| Operation::CompareAndSet {
        key: encoded("s"),
        expected: expected.map(|text| rmp_serde::to_vec(text).unwrap().into()),
        new: Some(sealed(new)),
    };
    for (operation, outcome) in [
        (
            Operation::Increment { key: key(), by: 5 },
            Outcome::Number(5),
        ),
        (
            Operation::Increment { key: key(), by: -7 },
            Outcome::Number(-2),
        ),
        (Operation::Delete { key: key() }, Outcome::Deleted(1)),
        (Operation::Delete { key: key() }, Outcome::Deleted(0)),
        (swap(None, "x"), Outcome::Swapped(true)),
        (swap(None, "y"), Outcome::Swapped(false)),
        (swap(Some("x"), "z"), Outcome::Swapped(true)),
        (
            Operation::DeleteRange {
                start: encoded(""),
                end: None,
                count_max: 10,
            },
            Outcome::Deleted(1),
        ),
    ] {
        assert_eq!(client.run(operation).await.unwrap().0, outcome);
    }
}

#[tokio::test]
async fn repeat_of_a_write_gets_the_first_answer_and_runs_once() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    let session = client.open_session().await;
    let increment = Operation::Increment {
        key: encoded("n"),
        by: 1,
    };
    client.write(1, increment.clone()).await;
    let first = client.answer().await;
    client.write(1, increment.clone()).await;
    assert_eq!(client.answer().await, first, "on the same connection");

    let mut again = Client::connect_as(&owner, &owner.identity(), NAMESPACE, Some(session))
        .await
        .unwrap();
    assert!(again.welcome.session_known);
    again.write(1, increment.clone()).await;
    assert_eq!(again.answer().await, first, "on another connection");

    let owner = owner.restart().await;
    let mut later = Client::connect_as(&owner, &owner.identity(), NAMESPACE, Some(session))
        .await
        .unwrap();
    assert!(later.welcome.session_known);
    later.write(1, increment.clone()).await;
    assert_eq!(later.answer().await, first, "of another owner");
    later.write(2, increment).await;
    let (_, second) = later.answer().await;
    assert_eq!(second.unwrap().0, Outcome::Number(2), "it ran once so far");
}

#[tokio::test]
async fn write_of_a_session_that_has_ended_is_not_run() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    let session = client.open_session().await;
    client.put("a", "1").await;
    owner.store.close_session(session).unwrap();
    let mut late = Client::connect_as(&owner, &owner.identity(), NAMESPACE, Some(session))
        .await
        .unwrap();
    assert!(!late.welcome.session_known);
    late.write(2, put("a", "2")).await;
    assert_eq!(
        late.answer().await.1.unwrap_err().kind,
        ErrorKind::OutcomeUnknown
    );
    assert_eq!(late.get("a").await.as_deref(), Some("1"));
    late.open_session().await;
    late.put("a", "3").await;
    assert_eq!(late.get("a").await.as_deref(), Some("3"));
}

#[tokio::test]
async fn session_of_one_key_is_of_no_use_to_another() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    let session = client.open_session().await;
    client.put("a", "1").await;
    let guest = guest(&owner, NAMESPACE, &["read", "write"]);
    let thief = Client::connect_as(&owner, &guest, NAMESPACE, Some(session))
        .await
        .unwrap();
    assert!(!thief.welcome.session_known);
}

#[tokio::test]
async fn refused_write_changes_nothing_and_the_session_goes_on() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    let mut events = client.subscribe(None).await;
    events.state().await;
    client.open_session().await;
    client.put("text", "x").await;
    events.events(1).await;
    let increment = Operation::Increment {
        key: encoded("text"),
        by: 1,
    };
    assert_eq!(
        client.run(increment).await.unwrap_err().kind,
        ErrorKind::Invalid
    );
    assert_eq!(client.get("text").await.as_deref(), Some("x"));
    client.put("text", "y").await;
    let last = events.events(1).await.remove(0);
    assert_eq!(changes(&last), [("text".to_owned(), Some("y".to_owned()))]);
}

#[tokio::test]
async fn own_write_that_changed_nothing_is_heard_of_at_once() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    let mut events = client.subscribe(None).await;
    events.state().await;
    client.open_session().await;
    let (_, ack) = client
        .run(Operation::Delete {
            key: encoded("nothing"),
        })
        .await
        .unwrap();
    // Without this the replica could not tell that it has reached the revision it was acked.
    match events.next().await {
        Feed::Bookmark { position } => assert!(position.revision >= ack.revision),
        other => panic!("{other:?}"),
    }
}
