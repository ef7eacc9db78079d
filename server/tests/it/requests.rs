//! What a peer can ask beside writing and following.

use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{NamespaceId, Revision};
use objsync_proto::limits::NAMESPACE_BYTES_MAX;
use objsync_proto::wire::{KeyRange, Reply, Request};

use crate::peer::{Client, NAMESPACE, Owner, change, encoded};

#[tokio::test]
async fn get_tells_value_and_revision_as_of_now() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    client.open_session().await;
    let ack = client.put("a", "1").await;
    match client
        .request(Request::Get { key: encoded("a") })
        .await
        .unwrap()
    {
        Reply::Entry {
            entry: Some((value, revision)),
            as_of,
        } => {
            assert_eq!(crate::peer::text(&value), "1");
            assert_eq!(revision, ack.revision);
            assert!(as_of >= ack.revision);
        }
        other => panic!("{other:?}"),
    }
    match client
        .request(Request::Get { key: encoded("b") })
        .await
        .unwrap()
    {
        Reply::Entry { entry: None, as_of } => assert!(as_of >= ack.revision),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn count_and_status_follow_the_writes() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    client.open_session().await;
    let _events = client.subscribe(None).await;
    let mut last = Revision(0);
    for key in ["a", "b", "a"] {
        last = client.put(key, "x").await.revision;
    }
    match client.request(Request::Count).await.unwrap() {
        Reply::Count { count, as_of } => assert_eq!((count, as_of), (2, last)),
        other => panic!("{other:?}"),
    }
    let Reply::Status(status) = client.request(Request::Status).await.unwrap() else {
        panic!("a status")
    };
    assert_eq!(status.position, owner.store.position());
    assert_eq!((status.keys, status.peers, status.subscriptions), (2, 1, 1));
    assert_eq!(status.pid, std::process::id());
    assert_eq!(status.address, Some(owner.server.address().to_string()));
    assert_eq!(owner.server.status().keys, 2);
}

#[tokio::test]
async fn flush_returns_when_the_revision_is_on_disk() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    client.open_session().await;
    let ack = client.put("a", "1").await;
    let flushed = client
        .request(Request::Flush {
            revision: ack.revision,
        })
        .await
        .unwrap();
    let Reply::Position(position) = flushed else {
        panic!("{flushed:?}")
    };
    assert!(position.revision >= ack.revision);
    assert!(owner.store.marks().durable >= ack.revision);
}

#[tokio::test]
async fn namespace_is_made_once_with_the_first_content_given() {
    let owner = Owner::start();
    let identity = owner.identity();
    let mut first = Client::connect(&owner, &identity, "new").await.unwrap();
    let mut second = Client::connect(&owner, &identity, "new").await.unwrap();
    assert_eq!(first.welcome.namespace, None);
    let missing = first.request(Request::Count).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound);
    let with = |value| Request::CreateNamespace {
        content: vec![change("k", value)],
    };
    let made = first.request(with("1")).await.unwrap();
    let Reply::Namespace {
        namespace,
        created: true,
    } = made
    else {
        panic!("{made:?}")
    };
    assert!(namespace >= NamespaceId::FIRST_NAMED);
    let again = second.request(with("2")).await.unwrap();
    assert_eq!(
        again,
        Reply::Namespace {
            namespace,
            created: false
        }
    );
    assert_eq!(second.get("k").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn namespace_made_by_another_peer_is_found_without_reconnecting() {
    let owner = Owner::start();
    let identity = owner.identity();
    let mut early = Client::connect(&owner, &identity, "late").await.unwrap();
    owner
        .store
        .create_namespace("late", vec![change("k", "1")])
        .unwrap();
    assert_eq!(early.get("k").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn name_that_no_namespace_can_have_is_refused() {
    let owner = Owner::start();
    for name in [String::new(), "n".repeat(NAMESPACE_BYTES_MAX + 1)] {
        let refused = Client::connect(&owner, &owner.identity(), &name)
            .await
            .err()
            .unwrap();
        assert_eq!(refused.kind, ErrorKind::Invalid, "{} bytes", name.len());
    }
}

#[tokio::test]
async fn welcome_tells_where_the_store_stands() {
    let owner = Owner::start();
    let client = owner.client().await;
    let welcome = &client.welcome;
    assert_eq!(welcome.position, owner.store.position());
    assert_eq!(welcome.namespace, owner.store.namespace(NAMESPACE).unwrap());
    assert_eq!(welcome.durability, owner.store.durability());
    assert!(welcome.may_write && !welcome.session_known);
}

#[tokio::test]
async fn requests_sent_together_are_each_answered() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    let range = KeyRange::default();
    let requests = [
        Request::Count,
        Request::Status,
        Request::Flush {
            revision: Revision(1),
        },
        Request::Get { key: encoded("a") },
        Request::Fetch {
            subscription: 9,
            range,
            reverse: false,
        },
        Request::Barrier,
        Request::Grants,
    ];
    let count = requests.len() as u64;
    for (id, request) in (0..).zip(requests) {
        client
            .send(&objsync_proto::wire::ToOwner::Request(id, request))
            .await;
    }
    let mut answered = Vec::new();
    for _ in 0..count {
        match client.receive().await {
            objsync_proto::wire::ToPeer::Reply(id, Ok(_)) => answered.push(id),
            other => panic!("{other:?}"),
        }
    }
    // Those that wait for the disk may come later than those that do not.
    answered.sort_unstable();
    assert_eq!(answered, (0..count).collect::<Vec<_>>());
}
