//! Changes of parts of values: who asked for it is told by the part, everybody else by the value.

use bytes::Bytes;
use objsync_proto::effect::Cause;
use objsync_proto::ids::Revision;
use objsync_proto::operation::{Edit, Operation, Outcome};
use objsync_proto::patched;
use objsync_proto::stored::{self, Compression};
use objsync_proto::value::{self, Value};
use objsync_proto::wire::{Event, Feed, Held, KeyRange, Reply, Request, event};
use objsync_store::StoreLimits;

use crate::peer::{Client, NAMESPACE, Owner, encoded};

fn list(bulk: usize) -> Bytes {
    let bulk = Value::from("bulk".repeat(bulk / 4).as_str());
    let payload = value::encode(&Value::List(vec![bulk])).unwrap();
    stored::seal(&payload, Compression::None).unwrap()
}

async fn writer(owner: &Owner, bulk: usize) -> Client {
    let mut client = owner.client().await;
    client.open_session().await;
    let operation = Operation::Put {
        key: encoded("list"),
        value: list(bulk),
    };
    client.run(operation).await.unwrap();
    client
}

async fn append(writer: &mut Client, item: &str) -> Revision {
    let items = vec![value::to_payload(item).unwrap()];
    let operation = Operation::Patch {
        key: encoded("list"),
        patch: Edit::Append { items }.into(),
    };
    let (outcome, ack) = writer.run(operation).await.unwrap();
    assert!(matches!(outcome, Outcome::Number(_)));
    ack.revision
}

async fn take_patches(client: &mut Client, by_part: bool) {
    let reply = client.request(Request::TakePatches { by_part }).await;
    assert_eq!(reply, Ok(Reply::Done));
}

/// That events bring a value, which they are told of by the part, to the one in the store.
fn assert_by_part(events: &[Event], from: (Bytes, Revision), owner: &Owner) {
    let (mut value, mut revision) = from;
    for event in events {
        assert!(event.changes.is_empty(), "{event:?}");
        let [patch] = &event.patches[..] else {
            panic!("{event:?}");
        };
        assert_eq!((patch.base, event.cause), (revision, Cause::Patch));
        value = patched::apply(&value, std::slice::from_ref(&patch.edit)).unwrap();
        revision = event.revision;
    }
    assert_eq!((value, revision), now(owner));
}

fn now(owner: &Owner) -> (Bytes, Revision) {
    let namespace = owner.store.namespace(NAMESPACE).unwrap();
    let stored = owner.store.get(namespace.unwrap(), &encoded("list"));
    let stored = stored.unwrap().unwrap();
    (stored.value, stored.revision)
}

/// Bytes of an event on the wire for one append to a value.
async fn event_bytes(bulk: usize) -> usize {
    let owner = Owner::start();
    let mut writer = writer(&owner, bulk).await;
    take_patches(&mut writer, true).await;
    let mut inbox = writer.subscribe(Some(owner.store.position())).await;
    assert_eq!(inbox.next().await, Feed::Resume);
    append(&mut writer, "an item").await;
    event::encode(&inbox.events(1).await[0]).len()
}

#[tokio::test]
async fn event_of_a_part_is_as_short_for_a_large_value_as_for_a_small_one() {
    let (small, large) = (event_bytes(1 << 10).await, event_bytes(512 << 10).await);
    assert!(
        small.abs_diff(large) <= 2 && large < 100,
        "{small} and {large} bytes"
    );
}

#[tokio::test]
async fn parts_are_told_to_who_asked_and_values_to_everybody_else() {
    let owner = Owner::start();
    let mut writer = writer(&owner, 1 << 10).await;
    let before = now(&owner);
    let position = owner.store.position();
    let mut other = owner.client().await;
    let mut whole = other.subscribe(Some(position)).await;
    take_patches(&mut other, true).await;
    let mut by_part = other.subscribe(Some(position)).await;
    let mut watch = other
        .follow(KeyRange::default(), position, Held::Nothing)
        .await;
    for inbox in [&mut whole, &mut by_part, &mut watch] {
        assert_eq!(inbox.next().await, Feed::Resume);
    }
    for number in 0..5 {
        append(&mut writer, &format!("item {number}")).await;
    }
    assert_by_part(&by_part.events(5).await, before, &owner);
    for inbox in [&mut whole, &mut watch] {
        let told = inbox.events(5).await;
        assert!(told.iter().all(|event| event.patches.is_empty()));
        let last = told.last().unwrap();
        assert_eq!(last.changes[0].value.as_ref(), Some(&now(&owner).0));
        assert_eq!(last.cause, Cause::Patch);
    }
}

/// Where the ring does not reach back: from the log.
#[tokio::test]
async fn parts_and_values_come_from_the_log_too() {
    let limits = StoreLimits {
        ring_bytes_max: 2_000,
        ..StoreLimits::default()
    };
    let owner = Owner::start_with(limits);
    let mut writer = writer(&owner, 1 << 10).await;
    let before = now(&owner);
    let position = owner.store.position();
    let mut versions = Vec::new();
    for number in 0..100 {
        append(&mut writer, &format!("item {number}")).await;
        versions.push(now(&owner));
    }
    take_patches(&mut writer, true).await;
    let mut by_part = writer.subscribe(Some(position)).await;
    assert_eq!(by_part.next().await, Feed::Resume);
    assert_by_part(&by_part.events(100).await, before, &owner);
    let mut watch = writer
        .follow(KeyRange::default(), position, Held::Nothing)
        .await;
    assert_eq!(watch.next().await, Feed::Resume);
    let told = watch.events(100).await;
    let told = told.into_iter().map(|event| {
        let value = event.changes[0].value.clone().unwrap();
        (value, event.revision)
    });
    assert!(told.eq(versions), "each version, whole");
}
