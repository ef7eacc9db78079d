//! Large values written through a copy: uploaded to its source, for whoever uploads them.

use objsync_proto::chunk::Node;
use objsync_proto::chunk::record::CheckedChunk;
use objsync_proto::error::ErrorKind;
use objsync_proto::operation::Outcome;
use objsync_proto::wire::{Reply, Request, Upload};

use crate::chunks::{CHUNK, Large, begin, missing, send, upload};
use crate::followers::{Copy, Source, granted};
use crate::peer::{Client, NAMESPACE, within};

/// A source, a copy of it, and a guest's connection to the copy.
async fn guest_of_a_copy() -> (Source, Copy, Client) {
    let source = Source::start();
    let copy = Copy::of(&source).await;
    let guest = guest(&source, &copy).await;
    (source, copy, guest)
}

async fn guest(source: &Source, copy: &Copy) -> Client {
    let identity = granted(&source.store, NAMESPACE, &["read", "write"]);
    copy.grants_of(&source.store).await;
    let mut client = copy.client(&identity, None).await;
    client.open_session().await;
    client
}

#[tokio::test]
async fn large_value_written_through_a_copy_is_at_its_source_and_in_the_copy() {
    let (source, copy, mut guest) = guest_of_a_copy().await;
    let mut own = copy.own_client().await;
    own.open_session().await;
    for (seed, key, client) in [(1, "guest", &mut guest), (2, "own", &mut own)] {
        // Longer than what QUIC holds of one stream.
        let large = Large::new(seed, 6000 * CHUNK);
        assert_eq!(
            missing(client, key, large.ids()[..9].to_vec()).await,
            large.ids()[..9]
        );
        assert_eq!(upload(client, 1, &large.records).await, Ok(Reply::Done));
        assert_eq!(missing(client, key, large.ids()[..9].to_vec()).await, []);
        assert_eq!(client.run(large.put(key)).await.unwrap().0, Outcome::Done);
        // Answered once the copy has it.
        assert!(large.read(&source.store) == large.content, "{key}");
        let held = copy.follower.store().unwrap();
        assert!(large.read(&held) == large.content, "{key}");
    }
}

#[tokio::test]
async fn guests_of_one_copy_cannot_name_what_another_has_uploaded() {
    let (source, copy, mut one) = guest_of_a_copy().await;
    let mut other = guest(&source, &copy).await;
    let large = Large::new(3, 10 * CHUNK);
    assert_eq!(upload(&mut one, 1, &large.records).await, Ok(Reply::Done));
    assert_eq!(missing(&mut one, "a", large.ids()).await, []);
    assert_eq!(missing(&mut other, "a", large.ids()).await, large.ids());
    let node = Node::new(1, large.root.children().to_vec()).unwrap();
    let node = [CheckedChunk::node(&node)];
    let refused = upload(&mut other, 1, &node).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    let (outcome, _) = other.run(large.put("a")).await.unwrap();
    assert_eq!(outcome, Outcome::NeedChunks { ids: large.ids() });
    // Another connection of the first goes on with what it has.
    assert_eq!(one.run(large.put("a")).await.unwrap().0, Outcome::Done);
}

#[tokio::test]
async fn upload_whose_way_to_the_source_breaks_is_unavailable_and_can_be_sent_again() {
    let (source, _copy, mut guest) = guest_of_a_copy().await;
    let large = Large::new(4, 70 * CHUNK);
    assert_eq!(missing(&mut guest, "a", large.ids()).await, large.ids());
    let mut stream = begin(&guest, 1).await;
    let records = large.records[..9]
        .iter()
        .map(|chunk| chunk.record().clone());
    send(&mut stream, &Upload::Chunks(records.collect())).await;
    let there = async {
        while source.store.chunks().status().chunk_count < 9 {
            tokio::task::yield_now().await;
        }
    };
    within(there).await;
    let (directory, address, limits) = source.kill().await;
    // Told to stop, or to ask again: which comes first is chance.
    let _ = stream.finish();
    let ended = guest.request(Request::EndUpload {
        upload: 1,
        count: 9,
    });
    let (ended, source) = tokio::join!(ended, async {
        Source::start_in(directory, address, limits)
    });
    assert_eq!(ended.unwrap_err().kind, ErrorKind::Unavailable);
    let rest = missing(&mut guest, "a", large.ids()).await;
    assert_eq!(rest, large.ids(), "the new owner does not know what it has");
    assert_eq!(upload(&mut guest, 2, &large.records).await, Ok(Reply::Done));
    assert_eq!(guest.run(large.put("a")).await.unwrap().0, Outcome::Done);
    assert!(large.read(&source.store) == large.content);
}
