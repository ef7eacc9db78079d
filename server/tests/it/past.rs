//! What a peer can ask of the past: as of a revision, what a key was, and what is refused.

use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{Durability, Revision};
use objsync_proto::limits::PASTS_MAX;
use objsync_proto::operation::Operation;
use objsync_proto::wire::{KeyRange, Reply, Request, Version};
use objsync_store::{StoreLimits, Submission};

use crate::peer::{Client, NAMESPACE, Owner, PATIENCE, encoded, guest, put, text};

/// An owner with `a` = 1, then 2, then removed, and `b` = x beside; and the three revisions.
async fn with_history() -> (Owner, Client, [Revision; 3]) {
    let owner = Owner::start();
    let mut client = owner.client().await;
    client.open_session().await;
    client.put("b", "x").await;
    let first = client.put("a", "1").await.revision;
    let second = client.put("a", "2").await.revision;
    let removal = Operation::Delete { key: encoded("a") };
    let third = client.run(removal).await.unwrap().1.revision;
    (owner, client, [first, second, third])
}

async fn get_at(client: &mut Client, key: &str, revision: Revision) -> Option<String> {
    let key = encoded(key);
    match client.request(Request::GetAt { key, revision }).await {
        Ok(Reply::Entry { entry, as_of }) => {
            assert_eq!(as_of, revision);
            entry.map(|(value, _)| text(&value))
        }
        other => panic!("{other:?}"),
    }
}

async fn history(client: &mut Client, key: &str, count_max: u32) -> Vec<Version> {
    let (key, mut before) = (encoded(key), None);
    let mut all = Vec::new();
    loop {
        let request = Request::History {
            key: key.clone(),
            before,
            count_max,
        };
        match client.request(request).await {
            Ok(Reply::History {
                versions,
                before: next,
            }) => {
                all.extend(versions);
                before = next;
            }
            other => panic!("{other:?}"),
        }
        if before.is_none() {
            return all;
        }
    }
}

fn fetch_at(subscription: u64, reverse: bool, revision: Revision) -> Request {
    Request::FetchAt {
        subscription,
        range: KeyRange::default(),
        reverse,
        revision,
    }
}

#[tokio::test]
async fn key_count_and_entries_are_told_as_of_a_revision() {
    let (_owner, mut client, [first, second, third]) = with_history().await;
    for (revision, value, count) in [
        (first, Some("1"), 2),
        (second, Some("2"), 2),
        (third, None, 1),
    ] {
        let found = get_at(&mut client, "a", revision).await;
        assert_eq!(found.as_deref(), value);
        let counted = client.request(Request::CountAt { revision }).await.unwrap();
        let as_of = revision;
        assert_eq!(counted, Reply::Count { count, as_of });
        match client.request(Request::At { revision }).await.unwrap() {
            Reply::Position(position) => assert_eq!(position.revision, revision),
            other => panic!("{other:?}"),
        }
    }
    for (subscription, reverse) in [(7, false), (8, true)] {
        let request = fetch_at(subscription, reverse, first);
        assert_eq!(client.request(request).await, Ok(Reply::Done));
        let (mut entries, position) = client.accept(subscription).await.entries().await;
        assert_eq!(position.revision, first);
        if reverse {
            entries.reverse();
        }
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(entries, [pair("a", "1"), pair("b", "x")]);
    }
}

#[tokio::test]
async fn history_lists_what_a_key_was_newest_first_in_any_pages() {
    let (_owner, mut client, [first, second, third]) = with_history().await;
    for count_max in [1, 2, 100, u32::MAX] {
        let versions = history(&mut client, "a", count_max).await;
        let told: Vec<_> = versions
            .iter()
            .map(|version| (version.revision, version.value.as_ref().map(text)))
            .collect();
        let (one, two) = (Some("1".to_owned()), Some("2".to_owned()));
        assert_eq!(told, [(third, None), (second, two), (first, one)]);
        assert!(versions.iter().all(|version| version.time_ms.is_some()));
    }
    assert!(history(&mut client, "never", 10).await.is_empty());
}

#[tokio::test]
async fn revision_that_is_not_there_yet_is_invalid_and_names_the_newest() {
    let (_owner, mut client, [_, _, third]) = with_history().await;
    let revision = Revision(third.0 + 1);
    for request in [Request::At { revision }, fetch_at(5, false, revision)] {
        let refused = client.request(request).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Invalid);
        let text = format!("revision {revision} is not there yet; the newest is {third}");
        assert_eq!(refused.message, text);
    }
}

#[tokio::test]
async fn revision_past_the_retention_is_answered_with_the_oldest() {
    let owner = Owner::start_with(StoreLimits {
        segment_bytes: 16 << 10,
        snapshot_log_bytes: 32 << 10,
        retention_bytes: 48 << 10,
        ..StoreLimits::default()
    });
    let mut client = owner.client().await;
    client.open_session().await;
    let first = client.put("a", "1").await.revision;
    let deadline = std::time::Instant::now() + PATIENCE;
    // The log is trimmed behind segments that are closed and on disk.
    while owner.store.at(first).is_ok() {
        assert!(std::time::Instant::now() < deadline, "it is trimmed");
        owner
            .store
            .execute(Submission {
                namespace: client.welcome.namespace.unwrap(),
                operation: put("b", &"x".repeat(4 << 10)),
                origin: None,
                durability: Some(Durability::Sync),
            })
            .unwrap();
    }
    let key = encoded("a");
    for request in [
        Request::At { revision: first },
        Request::GetAt {
            key,
            revision: first,
        },
        Request::CountAt { revision: first },
        fetch_at(5, false, first),
    ] {
        let Reply::PastRetention { revision, oldest } = client.request(request).await.unwrap()
        else {
            panic!("it is past the retention")
        };
        assert!(revision == first && oldest > first);
        assert_eq!(get_at(&mut client, "a", oldest).await.as_deref(), Some("1"));
    }
    let versions = history(&mut client, "a", 10).await;
    let [known] = &versions[..] else {
        panic!("{versions:?}")
    };
    assert!(known.is_oldest_known && known.time_ms.is_none());
    assert_eq!(known.revision, first, "when it was written is kept");
}

#[tokio::test]
async fn right_to_read_the_past_is_the_right_to_read() {
    let (owner, _client, [first, ..]) = with_history().await;
    let writer = guest(&owner, NAMESPACE, &["write"]);
    let mut writer = Client::connect(&owner, &writer, NAMESPACE).await.unwrap();
    let key = encoded("a");
    let history = Request::History {
        key: key.clone(),
        before: None,
        count_max: 1,
    };
    let get = Request::GetAt {
        key,
        revision: first,
    };
    for request in [
        Request::At { revision: first },
        get,
        Request::CountAt { revision: first },
        fetch_at(5, false, first),
        history,
    ] {
        let denied = writer.request(request).await.unwrap_err();
        assert_eq!(denied.kind, ErrorKind::Denied);
    }
    let reader = guest(&owner, NAMESPACE, &["read"]);
    let mut reader = Client::connect(&owner, &reader, NAMESPACE).await.unwrap();
    assert_eq!(get_at(&mut reader, "a", first).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn past_of_a_dictionary_is_its_own() {
    let (owner, _client, [_, _, third]) = with_history().await;
    let identity = owner.identity();
    let mut other = Client::connect(&owner, &identity, "other").await.unwrap();
    let missing = other.request(Request::At { revision: third }).await;
    assert_eq!(missing.unwrap_err().kind, ErrorKind::NotFound);
    let made = Request::CreateNamespace {
        content: Vec::new(),
    };
    other.request(made).await.unwrap();
    assert_eq!(get_at(&mut other, "b", third).await, None);
    assert!(history(&mut other, "b", 10).await.is_empty());
    let count = other.request(Request::CountAt { revision: third }).await;
    let as_of = third;
    assert_eq!(count, Ok(Reply::Count { count: 0, as_of }));
}

#[tokio::test]
async fn more_revisions_than_are_held_open_are_read_by_turns() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    client.open_session().await;
    let mut revisions = Vec::new();
    for number in 0..3 * PASTS_MAX {
        revisions.push(client.put("a", &number.to_string()).await.revision);
    }
    for _ in 0..2 {
        for (number, revision) in revisions.iter().enumerate() {
            let found = get_at(&mut client, "a", *revision).await;
            assert_eq!(found, Some(number.to_string()));
        }
    }
    // The store closes at once although some are held.
    owner.stop().await;
}

#[tokio::test]
async fn request_of_a_later_version_is_unsupported_and_the_connection_goes_on() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    let later = client.request(Request::Unknown { number: 200 }).await;
    let refused = later.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unsupported);
    assert!(
        refused
            .message
            .starts_with("request 200 is not known to objsync "),
        "{refused}"
    );
    let count = client.request(Request::Count).await.unwrap();
    assert!(matches!(count, Reply::Count { count: 0, .. }));
}

/// Whoever asks for much and reads nothing makes the owner hold a few answers, not all.
#[tokio::test]
async fn peer_that_does_not_read_its_answers_holds_up_only_itself() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    client.open_session().await;
    let revision = client.put("a", &"x".repeat(1 << 20)).await.revision;
    let count = 100;
    for id in 0..count {
        let key = encoded("a");
        let request = Request::GetAt { key, revision };
        client
            .send(&objsync_proto::wire::ToOwner::Request(1_000 + id, request))
            .await;
    }
    let mut other = owner.client().await;
    assert!(get_at(&mut other, "a", revision).await.is_some());
    for _ in 0..count {
        match client.receive().await {
            objsync_proto::wire::ToPeer::Reply(_, Ok(Reply::Entry { entry, .. })) => {
                assert!(entry.is_some());
            }
            other => panic!("{other:?}"),
        }
    }
}
