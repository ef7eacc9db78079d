//! Leases, presence and locks of peers, and what came of their writes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use objsync_proto::effect::Cause;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{LeaseId, NamespaceId, Revision, Sequence, SessionId};
use objsync_proto::limits::LOCK_WAITS_MAX;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::{Event, Feed, Reply, Request, ToOwner, ToPeer};
use objsync_server::Unlocks;

use crate::peer::{Client, NAMESPACE, Owner, Subscriber, changes, encoded, guest, sealed};

/// Longer than any test.
const LONG_MS: u64 = 3_600_000;

fn leased(key: &str, lease: LeaseId) -> Operation {
    Operation::PutLeased {
        key: encoded(key),
        value: sealed(key),
        ttl_ms: None,
        lease: Some(lease),
    }
}

async fn run(client: &mut Client, operation: Operation) -> Outcome {
    client.run(operation).await.unwrap().0
}

async fn grant(client: &mut Client, presence: bool) -> LeaseId {
    let ttl_ms = LONG_MS;
    match run(client, Operation::GrantLease { ttl_ms, presence }).await {
        Outcome::Lease(lease) => lease,
        other => panic!("{other:?}"),
    }
}

async fn lock(client: &mut Client, lease: LeaseId) -> Option<Revision> {
    let name = encoded("l");
    match run(client, Operation::Lock { name, lease }).await {
        Outcome::Locked(fence) => fence,
        other => panic!("{other:?}"),
    }
}

async fn await_lock(client: &mut Client, timeout_ms: u64) -> Option<Revision> {
    let name = encoded("l");
    match client
        .request(Request::AwaitLock { name, timeout_ms })
        .await
    {
        Ok(Reply::Lock { fence }) => fence,
        other => panic!("{other:?}"),
    }
}

/// The next event with this cause.
async fn next_with(subscriber: &mut Subscriber, cause: Cause) -> Event {
    loop {
        let Feed::Events(events) = subscriber.next_told().await else {
            panic!("events follow");
        };
        if let Some(event) = events.into_iter().find(|event| event.cause == cause) {
            return event;
        }
    }
}

fn gone(keys: &[&str]) -> Vec<(String, Option<String>)> {
    keys.iter().map(|key| ((*key).to_owned(), None)).collect()
}

#[tokio::test]
async fn presence_ends_with_its_connection_as_one_visible_transaction() {
    let owner = Owner::start();
    let mut watching = owner.client().await;
    let mut events = watching.subscribe(None).await;
    events.state().await;
    for in_order in [true, false] {
        let mut present = owner.client().await;
        present.open_session().await;
        let (one, other) = (
            grant(&mut present, true).await,
            grant(&mut present, true).await,
        );
        let lasting = grant(&mut present, false).await;
        run(&mut present, leased("a", one)).await;
        run(&mut present, leased("b", one)).await;
        run(&mut present, leased("c", other)).await;
        run(&mut present, leased("stays", lasting)).await;
        match in_order {
            true => present.send.finish().unwrap(),
            false => present.connection.close(1_u32.into(), b"cut"),
        }
        let ended = next_with(&mut events, Cause::Expiry).await;
        let mut told = changes(&ended);
        told.sort();
        assert_eq!((told, ended.origin), (gone(&["a", "b", "c"]), None));
        assert_eq!(watching.get("stays").await.as_deref(), Some("stays"));
        drop(present);
    }
}

#[tokio::test]
async fn presence_that_another_connection_keeps_ends_with_that_one() {
    let owner = Owner::start();
    let mut first = owner.client().await;
    first.open_session().await;
    let lease = grant(&mut first, true).await;
    run(&mut first, leased("a", lease)).await;
    let mut second = owner.client().await;
    let mut events = second.subscribe(None).await;
    events.state().await;
    match second.request(Request::KeepLease { lease }).await {
        Ok(Reply::Lease(status)) => assert_eq!((status.ttl_ms, status.presence), (LONG_MS, true)),
        other => panic!("{other:?}"),
    }
    let left = grant(&mut first, true).await;
    run(&mut first, leased("left", left)).await;
    first.connection.close(1_u32.into(), b"cut");
    let ended = next_with(&mut events, Cause::Expiry).await;
    assert_eq!(changes(&ended), gone(&["left"]), "what nobody else keeps");
    assert_eq!(second.get("a").await.as_deref(), Some("a"));
    let mut third = owner.client().await;
    let mut events = third.subscribe(None).await;
    events.state().await;
    second.connection.close(1_u32.into(), b"cut");
    let ended = next_with(&mut events, Cause::Expiry).await;
    assert_eq!(changes(&ended), gone(&["a"]));
}

#[tokio::test]
async fn presence_waits_after_a_promotion_for_who_comes_to_keep_it() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    client.open_session().await;
    let (kept, left) = (
        grant(&mut client, true).await,
        grant(&mut client, true).await,
    );
    run(&mut client, leased("kept", kept)).await;
    run(&mut client, leased("left", left)).await;
    let owner = owner.restart().await;
    let mut client = owner.client().await;
    let mut events = client.subscribe(None).await;
    let (state, _) = events.state().await;
    assert_eq!(
        state.len(),
        2,
        "both are there after the promotion: {state:?}"
    );
    let keep = client.request(Request::KeepLease { lease: kept }).await;
    assert!(matches!(keep, Ok(Reply::Lease(_))), "{keep:?}");
    let ended = next_with(&mut events, Cause::Expiry).await;
    assert_eq!(changes(&ended), gone(&["left"]));
    assert_eq!(client.get("kept").await.as_deref(), Some("kept"));
    let again = client.request(Request::KeepLease { lease: left }).await;
    assert_eq!(again.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn who_waits_for_a_lock_hears_when_it_is_free_and_is_served_meanwhile() {
    let owner = Owner::start();
    let mut holder = owner.client().await;
    holder.open_session().await;
    assert_eq!(
        await_lock(&mut holder, LONG_MS).await,
        None,
        "nobody holds it"
    );
    let lease = grant(&mut holder, false).await;
    let fence = lock(&mut holder, lease).await.unwrap();
    let mut waiting = owner.client().await;
    assert_eq!(await_lock(&mut waiting, 0).await, Some(fence));
    assert_eq!(
        await_lock(&mut waiting, 20).await,
        Some(fence),
        "its time is over"
    );
    let name = encoded("l");
    let wait = Request::AwaitLock {
        name: name.clone(),
        timeout_ms: LONG_MS,
    };
    waiting.send(&ToOwner::Request(77, wait)).await;
    assert_eq!(waiting.get("other").await, None, "it is read on meanwhile");
    run(&mut holder, Operation::Unlock { name, fence }).await;
    let free = Reply::Lock { fence: None };
    assert_eq!(waiting.receive().await, ToPeer::Reply(77, Ok(free)));
}

/// Counts how often a task is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn freed_lock_wakes_who_waits_for_it_and_nobody_else() {
    let owner = Owner::start();
    let mut holder = owner.client().await;
    holder.open_session().await;
    let lease = grant(&mut holder, false).await;
    let unlocks = Unlocks::of(&owner.store);
    let names = ["l", "other"].map(encoded);
    for name in names.clone() {
        run(&mut holder, Operation::Lock { name, lease }).await;
    }
    let elsewhere = NamespaceId(NamespaceId::DEFAULT.0 + 1);
    let locks = [
        (NamespaceId::DEFAULT, &names[0]),
        (NamespaceId::DEFAULT, &names[1]),
        (NamespaceId::DEFAULT, &names[0]),
    ];
    let woken: Vec<_> = locks.iter().map(|_| Arc::<Woken>::default()).collect();
    let mut waits: Vec<_> = locks
        .iter()
        .map(|lock| Box::pin(unlocks.wait(&owner.store, *lock, LONG_MS)))
        .collect();
    let mut poll = |at: usize| {
        let waker = Waker::from(Arc::clone(&woken[at]));
        waits[at].as_mut().poll(&mut Context::from_waker(&waker))
    };
    for at in 0..locks.len() {
        assert!(poll(at).is_pending());
    }
    let free = unlocks.wait(&owner.store, (elsewhere, &names[0]), LONG_MS);
    assert_eq!(free.await.unwrap(), None, "another dictionary's");
    let Some(fence) = owner
        .store
        .lock_holder(NamespaceId::DEFAULT, &names[0])
        .unwrap()
    else {
        panic!("it is held");
    };
    let name = names[0].clone();
    run(&mut holder, Operation::Unlock { name, fence }).await;
    let counts: Vec<_> = woken
        .iter()
        .map(|woken| woken.0.load(Ordering::SeqCst))
        .collect();
    assert_eq!(counts, [1, 0, 1]);
    assert!(matches!(poll(0), Poll::Ready(Ok(None))));
    assert!(poll(1).is_pending());
    assert!(matches!(poll(2), Poll::Ready(Ok(None))));
}

#[tokio::test]
async fn lock_of_a_connection_that_is_cut_is_free_for_the_next() {
    let owner = Owner::start();
    let mut holder = owner.client().await;
    holder.open_session().await;
    let lease = grant(&mut holder, true).await;
    let fence = lock(&mut holder, lease).await.unwrap();
    let mut next = owner.client().await;
    next.open_session().await;
    let own = grant(&mut next, true).await;
    assert_eq!(lock(&mut next, own).await, None);
    holder.connection.close(1_u32.into(), b"cut");
    assert_eq!(await_lock(&mut next, LONG_MS).await, None);
    let later = lock(&mut next, own).await.expect("it is free");
    assert!(later > fence);
}

#[tokio::test]
async fn ten_thousand_waits_for_a_lock_are_bounded_and_end_with_the_connection() {
    const WAITS: u64 = 10_000;
    let owner = Owner::start();
    let mut holder = owner.client().await;
    holder.open_session().await;
    let lease = grant(&mut holder, false).await;
    let fence = lock(&mut holder, lease).await.unwrap();
    let mut hostile = owner.client().await;
    for id in 0..WAITS {
        let name = encoded("l");
        let wait = Request::AwaitLock {
            name,
            timeout_ms: u64::MAX,
        };
        hostile.send(&ToOwner::Request(id, wait)).await;
    }
    // All above the limit are refused at once, and the others wait.
    for _ in LOCK_WAITS_MAX as u64..WAITS {
        match hostile.receive().await {
            ToPeer::Reply(_, Err(failure)) => assert_eq!(failure.kind, ErrorKind::Unavailable),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(holder.get("other").await, None, "others are served");
    let name = encoded("l");
    run(&mut holder, Operation::Unlock { name, fence }).await;
    for _ in 0..LOCK_WAITS_MAX {
        match hostile.receive().await {
            ToPeer::Reply(_, Ok(Reply::Lock { fence: None })) => {}
            other => panic!("{other:?}"),
        }
    }
    // There is room again, and a wait that is open holds up no end.
    lock(&mut holder, lease).await.unwrap();
    let name = encoded("l");
    let timeout_ms = u64::MAX;
    let wait = Request::AwaitLock { name, timeout_ms };
    hostile.send(&ToOwner::Request(1, wait)).await;
    hostile.send.finish().unwrap();
    crate::peer::within(hostile.connection.closed()).await;
    owner.stop().await;
}

#[tokio::test]
async fn who_may_only_read_may_wait_for_a_lock_and_keep_or_take_nothing() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    client.open_session().await;
    let lease = grant(&mut client, false).await;
    let reader = guest(&owner, "default", &["read"]);
    let mut reader = Client::connect(&owner, &reader, NAMESPACE).await.unwrap();
    assert_eq!(await_lock(&mut reader, 0).await, None);
    let kept = reader.request(Request::KeepLease { lease }).await;
    assert_eq!(kept.unwrap_err().kind, ErrorKind::Denied);
    let writer = guest(&owner, "default", &["write"]);
    let mut writer = Client::connect(&owner, &writer, NAMESPACE).await.unwrap();
    let (name, timeout_ms) = (encoded("l"), 0);
    let waited = writer
        .request(Request::AwaitLock { name, timeout_ms })
        .await;
    assert_eq!(waited.unwrap_err().kind, ErrorKind::Denied);
    let kept = writer.request(Request::KeepLease { lease }).await;
    assert!(matches!(kept, Ok(Reply::Lease(_))), "{kept:?}");
}

async fn outcome(
    client: &mut Client,
    session: SessionId,
    sequence: u64,
) -> Result<Reply, ErrorKind> {
    let sequence = Sequence(sequence);
    let asked = client.request(Request::Outcome { session, sequence }).await;
    asked.map_err(|failure| failure.kind)
}

#[tokio::test]
async fn outcome_is_told_to_the_sessions_own_peer_and_denied_to_others() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    let session = client.open_session().await;
    let ack = client.put("a", "1").await;
    let done = Reply::Outcome(Some(Ok((Outcome::Done, ack))));
    assert_eq!(outcome(&mut client, session, 1).await, Ok(done.clone()));
    assert_eq!(
        outcome(&mut client, session, 2).await,
        Err(ErrorKind::Unavailable),
        "it can still come"
    );
    client.write(3, Operation::Settle).await;
    client.answer().await.1.unwrap();
    assert_eq!(
        outcome(&mut client, session, 2).await,
        Ok(Reply::Outcome(None))
    );
    let other = guest(&owner, "*", &["read", "write"]);
    let mut other = Client::connect(&owner, &other, NAMESPACE).await.unwrap();
    for sequence in [1, 2, 9] {
        let denied = outcome(&mut other, session, sequence).await;
        assert_eq!(denied, Err(ErrorKind::Denied));
    }
    let never = SessionId {
        epoch: session.epoch + 1,
        ..session
    };
    assert_eq!(
        outcome(&mut other, never, 1).await,
        Err(ErrorKind::OutcomeUnknown)
    );
    let owner = owner.restart().await;
    let mut client = owner.client().await;
    assert_eq!(outcome(&mut client, session, 1).await.map(|_| ()), Ok(()));
    assert_eq!(
        outcome(&mut client, session, 2).await,
        Ok(Reply::Outcome(None))
    );
}
