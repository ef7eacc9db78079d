//! Followers: a copy that is served, and what it passes on to its source.

use std::sync::Arc;
use std::time::Duration;

use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{NamespaceId, Revision, Sequence};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::{Feed, Reply, Request, ToOwner, Write};
use objsync_server::{Identity, ServeOptions, Server, Udp, dial};
use objsync_store::{Store, StoreLimits, promote};
use tokio::runtime::Handle;

use crate::followers::{Copy, FOLLOW, Source, connect, follow, grant, increment, options};
use crate::peer::{Client, NAMESPACE, changes, put, within};

#[tokio::test]
async fn what_is_written_through_a_follower_is_read_there_and_at_the_source() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let friend = source.link(&["read", "write"]);
    copy.catch_up(&source.store).await;
    copy.grants_of(&source.store).await;
    let mut client = copy.client(&friend, None).await;
    let mut watcher = copy.own_client().await;
    let mut events = watcher.subscribe(None).await;
    events.state().await;
    client.open_session().await;
    for number in 0..20 {
        let text = number.to_string();
        client.put("a", &text).await;
        assert_eq!(
            client.get("a").await.as_deref(),
            Some(&*text),
            "its own write"
        );
    }
    let seen = events.events(20).await;
    assert_eq!(
        changes(&seen[19]),
        [("a".to_owned(), Some("19".to_owned()))]
    );
    let mut direct = connect(source.address(), source.server.key(), &friend).await;
    assert_eq!(direct.get("a").await.as_deref(), Some("19"));
    direct.open_session().await;
    direct.put("b", "direct").await;
    let barrier = watcher.request(Request::Barrier).await.unwrap();
    assert!(matches!(barrier, Reply::Position(_)), "{barrier:?}");
    assert_eq!(watcher.get("b").await.as_deref(), Some("direct"));
    let refused = copy
        .follower
        .store()
        .unwrap()
        .grant(grant(friend.peer(), "*", &["read"]));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn write_whose_answer_was_lost_lands_once_whichever_way_it_comes_again() {
    let source = Source::start();
    let friend = source.link(&["read", "write"]);
    let (one, other) = (Copy::of(&source).await, Copy::of(&source).await);
    one.grants_of(&source.store).await;
    other.grants_of(&source.store).await;
    let mut client = one.client(&friend, None).await;
    let session = client.open_session().await;
    client.write(1, increment()).await;
    client.write(2, increment()).await;
    let first = client.answer().await;
    assert!(client.answer().await.1.is_ok());
    // Its connection breaks, and it knows of no answer.
    client.connection.close(0_u32.into(), b"");
    let mut through_other = other.client(&friend, Some(session)).await;
    assert!(through_other.welcome.session_known);
    through_other.write(1, increment()).await;
    assert_eq!(through_other.answer().await, first);
    let connection = dial(&Udp, source.address(), &friend, source.server.key());
    let connection = within(connection).await.unwrap();
    let mut direct = Client::greet(connection, NAMESPACE, Some(session))
        .await
        .unwrap();
    assert!(
        direct.welcome.session_known,
        "bound to the client's own key"
    );
    direct.write(1, increment()).await;
    assert_eq!(direct.answer().await, first);
    direct.write(3, increment()).await;
    let (_, result) = direct.answer().await;
    assert_eq!(result.unwrap().0, Outcome::Number(3), "none was done twice");
    let stranger = source.link(&["read", "write"]);
    one.grants_of(&source.store).await;
    let mut stranger = one.client(&stranger, Some(session)).await;
    stranger.write(1, increment()).await;
    let (_, refused) = stranger.answer().await;
    assert_eq!(
        refused.unwrap_err().kind,
        ErrorKind::OutcomeUnknown,
        "another's session"
    );
    for sequence in 2..9 {
        stranger.write(sequence, increment()).await;
        let (answered, refused) = stranger.answer().await;
        assert_eq!(answered, sequence);
        assert_eq!(refused.unwrap_err().kind, ErrorKind::OutcomeUnknown);
    }
}

#[tokio::test]
async fn write_below_its_own_floor_is_not_passed_on() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let mut client = copy.own_client().await;
    client.open_session().await;
    client.put("a", "1").await;
    let write = Write {
        sequence: Sequence(2),
        floor: Sequence(3),
        durability: None,
        operation: put("a", "2"),
    };
    client.send(&ToOwner::Write(write)).await;
    assert_eq!(client.closed().await.kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn client_that_has_said_its_last_gets_all_answers() {
    const WRITES: u32 = 50;
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let mut client = copy.own_client().await;
    client.open_session().await;
    for sequence in 1..=WRITES {
        client.write(u64::from(sequence), increment()).await;
    }
    client.send.finish().unwrap();
    for sequence in 1..=WRITES {
        let (answered, result) = client.answer().await;
        assert_eq!(answered, u64::from(sequence));
        assert_eq!(result.unwrap().0, Outcome::Number(i64::from(sequence)));
    }
}

#[tokio::test]
async fn presence_outlives_the_follower_it_came_through() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let friend = source.link(&["read", "write"]);
    copy.grants_of(&source.store).await;
    let mut direct = connect(source.address(), source.server.key(), &friend).await;
    let mut client = copy.client(&friend, None).await;
    client.open_session().await;
    let granted = client
        .run(Operation::GrantLease {
            ttl_ms: 60_000,
            presence: true,
        })
        .await;
    let Ok((Outcome::Lease(lease), _)) = granted else {
        panic!("{granted:?}");
    };
    within(copy.follower.shutdown()).await;
    let alone = async {
        while source.server.status().peers > 1 {
            tokio::task::yield_now().await;
        }
    };
    within(alone).await;
    let kept = direct.request(Request::KeepLease { lease }).await;
    assert!(matches!(kept, Ok(Reply::Lease(_))), "{kept:?}");
}

#[tokio::test]
async fn follower_of_a_follower_holds_all_and_passes_writes_on() {
    let source = Source::start();
    let first = Copy::of(&source).await;
    let mut admin = first.own_client().await;
    let link = Arc::new(Identity::generate().unwrap());
    let asked = admin.request(Request::Grant(grant(link.peer(), "*", FOLLOW)));
    assert_eq!(
        asked.await,
        Ok(Reply::Done),
        "made at the follower, kept at the source"
    );
    assert!(
        source
            .store
            .grants()
            .iter()
            .any(|one| one.peer == link.peer())
    );
    let second = Copy::with(first.address, first.key(), link).await;
    let friend = source.link(&["read", "write"]);
    second.grants_of(&source.store).await;
    let mut client = second.client(&friend, None).await;
    let session = client.open_session().await;
    client.put("a", "through two").await;
    assert_eq!(client.get("a").await.as_deref(), Some("through two"));
    let mut own = second.own_client().await;
    own.open_session().await;
    own.put("b", "by its own user").await;
    assert!(
        source.store.session_known(session, friend.peer()),
        "its own key, two hops away"
    );
    second.catch_up(&source.store).await;
    let held = second.follower.store().unwrap();
    assert_eq!(held.position(), source.store.position());
    assert!(held.session_known(session, friend.peer()));
}

#[tokio::test]
async fn while_the_source_is_away_reads_go_on_and_writes_say_so() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let mut client = copy.own_client().await;
    client.open_session().await;
    client.put("a", "1").await;
    let status = copy.status_that(|status| status.behind_ms == Some(0)).await;
    assert!(status.is_connected);
    assert_eq!(status.lag(), 0);
    assert_eq!(status.source, source.address().to_string());
    let key = source.server.key();
    let (directory, address, limits) = source.kill().await;

    let status = copy.status_that(|status| !status.is_connected).await;
    assert!(!status.trouble.is_empty());
    assert!(status.behind_ms.is_some());
    assert_eq!(client.get("a").await.as_deref(), Some("1"));
    let mut fresh = copy.own_client().await;
    assert_eq!(
        fresh.get("a").await.as_deref(),
        Some("1"),
        "who comes now reads too"
    );
    // The way to the source is known to be broken before this one is passed on.
    let refused = fresh.request(Request::Barrier).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused}");
    let reply = fresh.request(Request::Following).await.unwrap();
    assert!(
        matches!(&reply, Reply::Following(Some(status)) if !status.is_connected),
        "{reply:?}"
    );

    let source = Source::start_in(directory, address, limits);
    assert_eq!(source.server.key(), key);
    copy.catch_up(&source.store).await;
    let status = copy.status_that(|status| status.behind_ms == Some(0)).await;
    assert!(status.is_connected);
    // The epoch has changed: who was connected comes back.
    let mut client = copy.own_client().await;
    client.open_session().await;
    client.put("a", "2").await;
    assert_eq!(client.get("a").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn write_that_surely_did_not_reach_the_source_is_answered_as_not_done() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let mut client = copy.own_client().await;
    client.open_session().await;
    client.put("a", "1").await;
    let (_directory, ..) = source.kill().await;
    copy.status_that(|status| !status.is_connected).await;
    // What the dead connection swallowed may have been heard, and is not answered: then the next is.
    let refused = async {
        for sequence in 2.. {
            client.write(sequence, put("a", "2")).await;
            let answer = tokio::time::timeout(Duration::from_secs(5), client.answer());
            if let Ok((_, result)) = answer.await {
                return result;
            }
        }
        unreachable!("there are many numbers")
    };
    let refused = within(refused).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused}");
    assert_eq!(client.get("a").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn writes_that_were_passed_on_are_sent_again_to_the_source_that_comes_back() {
    const WRITES: u64 = 300;
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let friend = source.link(&["read", "write"]);
    copy.grants_of(&source.store).await;
    let mut source = Some(source);
    for round in 0..4_u64 {
        let mut client = copy.client(&friend, None).await;
        client.open_session().await;
        let before = source.as_ref().unwrap().store.position().revision;
        for sequence in 1..=WRITES {
            client.write(sequence, increment()).await;
        }
        if round % 2 == 1 {
            let done = async {
                while source.as_ref().unwrap().store.position().revision == before {
                    tokio::task::yield_now().await;
                }
            };
            within(done).await;
            // Some are done, and nothing has run that could have carried their answers away.
            let (directory, address, limits) = source.take().unwrap().kill().await;
            source = Some(Source::start_in(directory, address, limits));
        }
        let mut answered = 0;
        while answered < WRITES {
            let (_, answer) = client.answer().await;
            let (outcome, _) = answer.unwrap();
            assert!(matches!(outcome, Outcome::Number(_)));
            answered += 1;
        }
        let store = &source.as_ref().unwrap().store;
        let mut direct = copy.own_client().await;
        copy.catch_up(store).await;
        let count = direct.get_number("count").await;
        assert_eq!(count, WRITES * (round + 1), "round {round}: each once");
    }
}

#[tokio::test]
async fn subscriber_of_a_follower_goes_on_over_an_epoch_of_the_source() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let mut client = copy.own_client().await;
    let mut events = client.subscribe(None).await;
    let (_, start) = events.state().await;
    source.store.create_namespace("other", Vec::new()).unwrap();
    let (directory, address, limits) = source.kill().await;
    let source = Source::start_in(directory, address, limits);
    let friend = source.link(&["read", "write"]);
    let mut direct = connect(source.address(), source.server.key(), &friend).await;
    direct.open_session().await;
    direct.put("a", "after").await;
    let closed = client.closed().await;
    assert_eq!(closed.kind, ErrorKind::Unavailable, "{closed}");
    let mut client = copy.own_client().await;
    let mut events = client.subscribe(Some(start)).await;
    assert_eq!(events.next().await, Feed::Resume, "nothing is sent twice");
    let seen = events.events(1).await;
    assert_eq!(
        changes(&seen[0]),
        [("a".to_owned(), Some("after".to_owned()))]
    );
}

#[tokio::test]
async fn subscriber_that_has_seen_more_elsewhere_is_not_taken_back() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let friend = source.link(&["read", "write"]);
    copy.grants_of(&source.store).await;
    let mut direct = connect(source.address(), source.server.key(), &friend).await;
    direct.open_session().await;
    for number in 0..20 {
        let text = number.to_string();
        direct.put("a", &text).await;
        let seen = source.store.position();
        let mut client = copy.client(&friend, None).await;
        let mut events = client.subscribe(Some(seen)).await;
        assert_eq!(events.next().await, Feed::Resume, "write {number}");
        assert_eq!(client.get("a").await, Some(text));
    }
}

#[tokio::test]
async fn copy_that_was_away_for_too_long_gets_a_snapshot_and_goes_on() {
    let limits = StoreLimits {
        segment_bytes: 16 << 10,
        snapshot_log_bytes: 32 << 10,
        retention_bytes: 64 << 10,
        ..StoreLimits::default()
    };
    let directory = tempfile::tempdir().unwrap();
    let source = Source::start_in(directory, "127.0.0.1:0".parse().unwrap(), limits);
    let copy = Copy::of(&source).await;
    let Copy {
        follower,
        directory,
        link,
        ..
    } = copy;
    within(follower.shutdown()).await;
    let friend = source.link(&["read", "write"]);
    let mut direct = connect(source.address(), source.server.key(), &friend).await;
    direct.open_session().await;
    let noise = "0123456789abcdef".repeat(64);
    let trimmed = async {
        let mut number = 0_u32;
        while source.store.at(Revision(1)).is_ok() {
            direct
                .put(&format!("k{}", number % 40), &format!("{number}{noise}"))
                .await;
            number += 1;
        }
    };
    within(trimmed).await;
    let follower = follow(
        directory.path(),
        source.address(),
        source.server.key(),
        &link,
    )
    .unwrap();
    let address = within(follower.serving()).await.unwrap();
    let copy = Copy {
        follower,
        address,
        directory,
        link,
    };
    copy.catch_up(&source.store).await;
    direct.put("last", "one").await;
    copy.catch_up(&source.store).await;
    let mut client = copy.own_client().await;
    assert_eq!(client.get("last").await.as_deref(), Some("one"));
    let held = copy.follower.store().unwrap();
    assert_eq!(held.count(NamespaceId::DEFAULT).unwrap(), 41);
}

#[tokio::test]
async fn promoted_copy_is_another_history_to_clients_of_the_source() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let mut client = copy.own_client().await;
    client.open_session().await;
    client.put("a", "shared").await;
    let shared = source.store.position();
    within(copy.follower.shutdown()).await;
    let friend = source.link(&["read", "write"]);
    let mut direct = connect(source.address(), source.server.key(), &friend).await;
    direct.open_session().await;
    direct.put("a", "only at the source").await;
    let ahead = source.store.position();
    promote(copy.directory.path(), false).unwrap();
    let promoted = Store::open(copy.directory.path(), options(StoreLimits::default())).unwrap();
    assert!(promoted.is_on_history(&shared));
    assert!(!promoted.is_on_history(&ahead));
    let server = Server::start(promoted, ServeOptions::default(), &Handle::current()).unwrap();
    let own = objsync_server::identity::load(copy.directory.path()).unwrap();
    let mut client = connect(server.address(), server.key(), &own).await;
    let mut events = client.subscribe(Some(ahead)).await;
    let (entries, _) = events.state().await;
    assert_eq!(
        entries,
        [("a".to_owned(), "shared".to_owned())],
        "the state anew"
    );
}

#[tokio::test]
async fn long_transactions_cross_in_parts() {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let mut client = copy.own_client().await;
    client.open_session().await;
    let value: String = (0..3_000_000_u32)
        .map(|n| char::from(b'a' + u8::try_from(n % 23).unwrap()))
        .collect();
    client.put("long", &value).await;
    assert_eq!(client.get("long").await.as_deref(), Some(&*value));
}
