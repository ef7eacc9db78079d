//! Sources that write without a pause, that go on with another history, and what their copies show.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use objsync_proto::error::Failure;
use objsync_proto::ids::Durability;
use objsync_proto::wire::{Reply, Request, ToOwner, ToPeer, codec};
use objsync_server::{ServeOptions, Server};
use objsync_store::{Store, StoreLimits, Submission};
use tokio::runtime::Handle;

use crate::followers::{Copy, FOLLOW, Source, connect, grant, increment, options};
use crate::peer::{Client, NAMESPACE, encoded, within};
use crate::random::Random;

/// The files of a store that is closed, once more.
fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_files(&entry.path(), &target);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Text that does not become small when it is packed.
fn noise(seed: u64, bytes: usize) -> String {
    let random = &mut Random::new(seed);
    let letter = |_| char::from(33 + u8::try_from(random.below(90)).unwrap());
    (0..bytes).map(letter).collect()
}

/// A store with a snapshot that takes a while to send, closed.
async fn large_store(limits: StoreLimits) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let source = Source::start_in(directory, "127.0.0.1:0".parse().unwrap(), limits);
    let link = source.link(&["read", "write"]);
    let mut client = connect(source.address(), source.server.key(), &link).await;
    client.open_session().await;
    for number in 0..60 {
        client
            .put(&format!("k{number}"), &noise(number, 256 << 10))
            .await;
    }
    while source.store.status().snapshot_bytes < (8 << 20) {
        tokio::task::yield_now().await;
    }
    source.server.shutdown(Duration::from_secs(1)).await;
    drop(source.server);
    source.store.close().unwrap();
    source.directory
}

#[tokio::test]
async fn nothing_of_another_history_is_answered_before_the_copy_is_replaced() {
    let limits = StoreLimits {
        segment_bytes: 1 << 20,
        snapshot_log_bytes: 2 << 20,
        ..StoreLimits::default()
    };
    let first = large_store(limits).await;
    let other = tempfile::tempdir().unwrap();
    copy_files(first.path(), other.path());
    // One more epoch than the files that were put aside: theirs gets the same number.
    let source = Source::start_in(first, "127.0.0.1:0".parse().unwrap(), limits);
    let copy = Copy::of(&source).await;
    let mut client = copy.own_client().await;
    client.open_session().await;
    for _ in 0..20 {
        client.put("a", "lost").await;
    }
    let (_lost, address, limits) = source.kill().await;
    let store = Store::open(other.path(), options(limits)).unwrap();
    store.grant(grant(copy.link.peer(), "*", FOLLOW)).unwrap();
    drop(client);
    let mut client = copy.own_client().await;
    let serving = ServeOptions {
        listen: address,
        ..ServeOptions::default()
    };
    let _server = Server::start(store, serving, &Handle::current()).unwrap();
    // Until it is replaced, the copy shows what the source no longer has.
    let replaced = async {
        while let Some(reply) = asked(&mut client, Request::Barrier).await {
            let Ok(reply) = reply else { continue };
            let get = Request::Get { key: encoded("a") };
            let got = asked(&mut client, get).await;
            assert!(
                matches!(got, None | Some(Ok(Reply::Entry { entry: None, .. }))),
                "{reply:?}, and then {got:?}"
            );
        }
    };
    within(replaced).await;
}

/// The answer of a request; none once the copy has said goodbye.
async fn asked(client: &mut Client, request: Request) -> Option<Result<Reply, Failure>> {
    let mut out = BytesMut::new();
    codec::encode(&ToOwner::Request(9, request), &mut out);
    client.send.write_all(&out).await.ok()?;
    match within(client.recv.next::<ToPeer>()).await.ok()?? {
        ToPeer::Reply(9, reply) => Some(reply),
        ToPeer::Goodbye(_) => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn copy_is_served_while_its_source_writes_without_a_pause() {
    let limits = StoreLimits {
        // Only what asks for it is synced: commits are ahead of that all the time.
        flush_delay_ms: 3_600_000,
        unsynced_ms_max: 3_600_000,
        ..StoreLimits::default()
    };
    let directory = tempfile::tempdir().unwrap();
    let source = Source::start_in(directory, "127.0.0.1:0".parse().unwrap(), limits);
    let link = source.link(FOLLOW);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (store, stop) = (source.store.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let namespace = store.namespace(NAMESPACE).unwrap().unwrap();
            while !stop.load(Ordering::Relaxed) {
                let submission = Submission {
                    namespace,
                    operation: increment(),
                    origin: None,
                    durability: Some(Durability::Buffered),
                };
                store.execute(submission).unwrap();
            }
        })
    };
    while source.store.position() == source.store.ship_position() {
        tokio::task::yield_now().await;
    }
    let copy = Copy::with(source.address(), source.server.key(), link).await;
    let status = copy.status_that(|status| status.behind_ms == Some(0)).await;
    assert!(status.is_connected);
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    source
        .store
        .flush(source.store.position().revision)
        .unwrap();
    copy.catch_up(&source.store).await;
    let mut client = copy.own_client().await;
    let count = client.get_number("count").await;
    assert_eq!(
        count,
        source.store.position().revision.0 - 1,
        "one made the namespace"
    );
}
