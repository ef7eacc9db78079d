//! Who may follow, and for whom a follower may speak.

use objsync_proto::error::{ErrorKind, Failure};
use objsync_proto::ids::PeerKey;
use objsync_proto::wire::{Grant, Reply, Request, ToOwner, ToPeer};
use objsync_server::{Udp, dial};
use objsync_store::{Store, StoreLimits};

use crate::followers::{Copy, FOLLOW, Source, connect, follow, grant, options};
use crate::peer::{Client, NAMESPACE, within};

fn denied(result: Result<Reply, Failure>) {
    assert_eq!(result.unwrap_err().kind, ErrorKind::Denied);
}

#[tokio::test]
async fn only_who_may_follow_copies_or_speaks_for_others() {
    let source = Source::start();
    let (friend, reader) = (source.link(&["read", "write"]), source.link(&["read"]));
    let follower = source.link(FOLLOW);
    let (address, key) = (source.address(), source.server.key());
    let on_behalf = |peer: PeerKey| Request::OnBehalf {
        peer,
        session: None,
    };
    let replicate = || Request::Replicate {
        subscription: 5,
        since: None,
        partial: None,
    };
    let mut client = connect(address, key, &friend).await;
    denied(client.request(replicate()).await);
    denied(client.request(on_behalf(reader.peer())).await);
    denied(
        client
            .request(Request::Grant(grant(friend.peer(), "*", FOLLOW)))
            .await,
    );

    let mut client = connect(address, key, &follower).await;
    denied(client.request(on_behalf(key)).await);
    denied(client.request(on_behalf(PeerKey([3; 32]))).await);
    let acting = client.request(on_behalf(reader.peer())).await;
    let expected = Reply::Acting {
        may_write: false,
        session_known: false,
    };
    assert_eq!(acting, Ok(expected));
    let again = client.request(on_behalf(friend.peer())).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::Invalid, "once");
    denied(client.request(Request::Grants).await);
    client.send(&ToOwner::OpenSession).await;
    assert_eq!(
        client.closed().await.kind,
        ErrorKind::Denied,
        "the reader may not write"
    );

    let read_only = source.link(&["read", "follow"]);
    let mut client = connect(address, key, &read_only).await;
    denied(
        client
            .request(Request::Grant(grant(PeerKey([4; 32]), "*", &["read"])))
            .await,
    );
    let acting = client.request(on_behalf(friend.peer())).await;
    let expected = Reply::Acting {
        may_write: false,
        session_known: false,
    };
    assert_eq!(acting, Ok(expected), "no more than the follower itself");

    let mut client = connect(address, key, &follower).await;
    client.request(on_behalf(friend.peer())).await.unwrap();
    assert!(source.server.revoke(friend.peer()).unwrap());
    assert_eq!(
        client.closed().await.kind,
        ErrorKind::Denied,
        "cut with whom it spoke for"
    );
    let narrow = source.server.grant(grant(friend.peer(), NAMESPACE, FOLLOW));
    assert_eq!(narrow.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn link_taken_back_at_the_source_is_cut_at_the_follower() {
    let source = Source::start();
    let friend = source.link(&["read"]);
    let copy = Copy::of(&source).await;
    copy.grants_of(&source.store).await;
    let mut client = copy.client(&friend, None).await;
    assert_eq!(client.get("a").await, None);
    source.server.revoke(friend.peer()).unwrap();
    assert_eq!(client.closed().await.kind, ErrorKind::Denied);
    let again = within(dial(&Udp, copy.address, &friend, copy.key())).await;
    let connection = match again {
        Err(_) => return,
        Ok(connection) => connection,
    };
    let refused = Client::greet(connection, NAMESPACE, None).await;
    assert_eq!(refused.map(drop).unwrap_err().kind, ErrorKind::Denied);
}

#[tokio::test]
async fn follower_without_the_right_says_so_and_holds_nothing() {
    let source = Source::start();
    let friend = source.link(&["read", "write"]);
    let directory = tempfile::tempdir().unwrap();
    let follower = follow(
        directory.path(),
        source.address(),
        source.server.key(),
        &friend,
    );
    let refused = within(follower.unwrap().serving()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied, "{refused}");
    let own = tempfile::tempdir().unwrap();
    Store::open(own.path(), options(StoreLimits::default()))
        .unwrap()
        .close()
        .unwrap();
    let refused = follow(own.path(), source.address(), source.server.key(), &friend);
    assert!(refused.is_err(), "a store of its own stays one");
}

#[tokio::test]
async fn writes_through_a_follower_that_may_only_read_are_denied() {
    let source = Source::start();
    let link = source.link(&["read", "follow"]);
    let copy = Copy::with(source.address(), source.server.key(), link).await;
    let friend = source.link(&["read", "write"]);
    copy.grants_of(&source.store).await;
    let own = objsync_server::identity::load(copy.directory.path()).unwrap();
    for identity in [&own, &*friend] {
        let mut client = copy.client(identity, None).await;
        client.send(&ToOwner::OpenSession).await;
        match client.receive().await {
            ToPeer::Goodbye(failure) => assert_eq!(failure.kind, ErrorKind::Denied),
            other => panic!("{other:?}"),
        }
    }
    let mut client = copy.client(&own, None).await;
    denied(
        client
            .request(Request::Grant(grant(PeerKey([4; 32]), "*", &["read"])))
            .await,
    );
}

/// So many milliseconds from now.
fn end_ms(after_ms: u64) -> u64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap() + after_ms
}

#[tokio::test]
async fn connection_that_speaks_for_a_key_ends_with_its_grant() {
    let source = Source::start();
    let follower = source.link(FOLLOW);
    let friend = source.link(&["read", "write"]);
    let short = Grant {
        expires_ms: Some(end_ms(1_000)),
        ..grant(friend.peer(), "*", &["read", "write"])
    };
    source.store.grant(short).unwrap();
    let mut client = connect(source.address(), source.server.key(), &follower).await;
    let on_behalf = Request::OnBehalf {
        peer: friend.peer(),
        session: None,
    };
    client.request(on_behalf).await.unwrap();
    assert_eq!(client.closed().await.kind, ErrorKind::Denied);
}

#[tokio::test]
async fn follower_lets_nobody_in_for_longer_than_itself() {
    let source = Source::start();
    let link = source.link(FOLLOW);
    let end = end_ms(600_000);
    let limited = Grant {
        expires_ms: Some(end),
        ..grant(link.peer(), "*", FOLLOW)
    };
    source.store.grant(limited).unwrap();
    let copy = Copy::with(source.address(), source.server.key(), link).await;
    let mut client = copy.own_client().await;
    let key = PeerKey([4; 32]);
    for (asked, kept) in [(None, end), (Some(end + 5), end), (Some(end - 5), end - 5)] {
        let wanted = Grant {
            expires_ms: asked,
            ..grant(key, "*", &["read"])
        };
        let reply = client.request(Request::Grant(wanted)).await;
        assert_eq!(reply, Ok(Reply::Done));
        for store in [&source.store, &copy.follower.store().unwrap()] {
            let grants = store.grants();
            let held = grants.iter().find(|grant| grant.peer == key).unwrap();
            assert_eq!(held.expires_ms, Some(kept), "asked for {asked:?}");
        }
    }
}
