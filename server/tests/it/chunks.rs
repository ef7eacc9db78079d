//! Chunks over the wire: asked for, uploaded, fetched; and who is told of which.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use objsync_proto::chunk::record::{CheckedChunk, ChunkRecord, Packer};
use objsync_proto::chunk::tree::TreeBuilder;
use objsync_proto::chunk::{Child, Cutter, Root, chunk_id};
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{ChunkId, NamespaceId, Revision};
use objsync_proto::limits::{CHUNK_FRAME_BYTES_MAX, CHUNKS_ASKED_MAX};
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::stored::Compression;
use objsync_proto::stored_chunks::{self, StoredChunks};
use objsync_proto::wire::codec;
use objsync_proto::wire::{ChunkPlace, Feed, Reply, Request, Upload};
use objsync_server::Identity;
use objsync_store::{Store, StoreLimits};
use quinn::SendStream;

use crate::followers::{Copy, Source, granted};
use crate::peer::{Client, NAMESPACE, Owner, encoded, within};
use crate::random::Random;

pub(crate) const CHUNK: usize = 1000;

/// A value in chunks.
pub(crate) struct Large {
    pub(crate) content: Vec<u8>,
    stored: Bytes,
    pub(crate) root: Root,
    /// With nodes, in the order in which they are to be sent.
    pub(crate) records: Vec<CheckedChunk>,
}

impl Large {
    pub(crate) fn new(seed: u64, bytes: usize) -> Self {
        let mut random = Random::new(seed);
        let content: Vec<u8> = (0..bytes)
            .map(|_| u8::try_from(random.below(256)).unwrap())
            .collect();
        let mut packer = Packer::new(Compression::Zstd(1)).unwrap();
        let (mut builder, mut records) = (TreeBuilder::default(), Vec::new());
        for piece in content.chunks(CHUNK) {
            let chunk = packer.chunk(Bytes::copy_from_slice(piece)).unwrap();
            let (id, bytes) = (chunk.id(), piece.len() as u64);
            records.push(chunk);
            builder.push(Child { id, bytes }, &mut records).unwrap();
        }
        let root = builder.finish(Cutter::default(), &mut records).unwrap();
        let mut head = vec![0xC6];
        head.extend_from_slice(&u32::try_from(bytes).unwrap().to_be_bytes());
        let stored = stored_chunks::seal(&StoredChunks {
            root: root.clone(),
            head: head.into(),
        });
        Self {
            content,
            stored: stored.unwrap(),
            root,
            records,
        }
    }

    pub(crate) fn ids(&self) -> Vec<ChunkId> {
        self.records.iter().map(CheckedChunk::id).collect()
    }

    pub(crate) fn put(&self, key: &str) -> Operation {
        Operation::Put {
            key: encoded(key),
            value: self.stored.clone(),
        }
    }

    /// Puts it straight into a store.
    fn store(&self, store: &Store, namespace: NamespaceId, key: &str) {
        let pins = store.chunks().pins();
        store.chunks().put(&pins, &self.records).unwrap();
        let submission = objsync_store::Submission {
            namespace,
            operation: self.put(key),
            origin: None,
            durability: None,
        };
        let answer = store.execute(submission).unwrap();
        assert_eq!(answer.outcome, Ok(Outcome::Done));
    }

    pub(crate) fn read(&self, store: &Store) -> Vec<u8> {
        let mut content = Vec::new();
        let range = (0, self.root.bytes());
        let read = store
            .chunks()
            .read_range(&self.root, range, &mut |_, piece| {
                content.extend_from_slice(&piece);
                Ok(())
            });
        read.map_or(Vec::new(), |()| content)
    }
}

/// Begins an upload.
pub(crate) async fn begin(client: &Client, upload: u64) -> SendStream {
    let mut stream = within(client.connection.open_uni()).await.unwrap();
    send(&mut stream, &Upload::Start { upload }).await;
    stream
}

pub(crate) async fn send(stream: &mut SendStream, message: &Upload) {
    let mut out = BytesMut::new();
    codec::encode(message, &mut out);
    within(stream.write_all(&out)).await.unwrap();
}

/// Uploads records, and waits until they are durable.
pub(crate) async fn upload(
    client: &mut Client,
    number: u64,
    records: &[CheckedChunk],
) -> Result<Reply, objsync_proto::error::Failure> {
    let mut stream = begin(client, number).await;
    for some in records.chunks(20) {
        let records = some.iter().map(|chunk| chunk.record().clone()).collect();
        send(&mut stream, &Upload::Chunks(records)).await;
    }
    stream.finish().unwrap();
    let count = records.len() as u64;
    let upload = number;
    client.request(Request::EndUpload { upload, count }).await
}

pub(crate) async fn missing(client: &mut Client, key: &str, ids: Vec<ChunkId>) -> Vec<ChunkId> {
    let key = encoded(key);
    match client.request(Request::MissingChunks { key, ids }).await {
        Ok(Reply::MissingChunks { ids }) => ids,
        other => panic!("{other:?}"),
    }
}

/// Fetches places of a value.
async fn fetch(
    client: &mut Client,
    (key, revision): (&str, Revision),
    places: Vec<ChunkPlace>,
) -> Vec<ChunkRecord> {
    let subscription = 77;
    let request = Request::FetchChunks {
        subscription,
        key: encoded(key),
        revision,
        places,
    };
    assert_eq!(client.request(request).await, Ok(Reply::Done));
    let mut stream = client.accept(subscription).await;
    let mut fetched = Vec::new();
    loop {
        match stream.next().await {
            Feed::Chunks(records) => fetched.extend(records),
            Feed::Complete { .. } => return fetched,
            other => panic!("{other:?}"),
        }
    }
}

/// The places of all chunks of a value whose root names them itself.
fn places(root: &Root) -> Vec<ChunkPlace> {
    assert_eq!(root.depth(), 0);
    let mut offset = 0;
    let place = |child: &Child| {
        let at = offset;
        offset += child.bytes;
        ChunkPlace {
            id: child.id,
            level: 0,
            offset: at,
        }
    };
    root.children().iter().map(place).collect()
}

fn guest(owner: &Owner, scope: &str, rights: &[&str]) -> Arc<Identity> {
    granted(&owner.store, scope, rights)
}

#[tokio::test]
async fn value_is_uploaded_once_named_and_fetched_in_any_order() {
    let owner = Owner::start();
    let mut client = owner.client().await;
    client.open_session().await;
    let large = Large::new(1, 70 * CHUNK);
    assert_eq!(missing(&mut client, "a", large.ids()).await, large.ids());
    let (outcome, _) = client.run(large.put("a")).await.unwrap();
    let roots = large.root.children().iter().map(|child| child.id).collect();
    assert_eq!(outcome, Outcome::NeedChunks { ids: roots });
    assert_eq!(
        upload(&mut client, 1, &large.records).await,
        Ok(Reply::Done)
    );
    assert_eq!(missing(&mut client, "a", large.ids()).await, []);
    let (outcome, ack) = client.run(large.put("a")).await.unwrap();
    assert_eq!(outcome, Outcome::Done);
    // A second connection, as after a break: nothing has to be sent again.
    let mut other = owner.client().await;
    assert_eq!(missing(&mut other, "b", large.ids()).await, []);
    let node = large.root.children()[0];
    let place = |id, level, offset| ChunkPlace { id, level, offset };
    let wanted = vec![
        place(large.records[3].id(), 0, 3 * CHUNK as u64),
        place(node.id, 1, 0),
        place(chunk_id(b"nobody has it"), 0, 0),
    ];
    let fetched = fetch(&mut other, ("a", ack.revision), wanted).await;
    assert_eq!(fetched.len(), 2, "what is not there is left out");
    assert_eq!(fetched[0], *large.records[3].record());
    CheckedChunk::check(fetched[1].clone()).unwrap();
    assert_eq!(large.read(&owner.store), large.content);
}

#[tokio::test]
async fn chunk_of_a_namespace_that_a_guest_may_not_read_is_like_a_missing_one() {
    let owner = Owner::start();
    let (secret, _) = owner.store.create_namespace("secret", vec![]).unwrap();
    let hidden = Large::new(2, 10 * CHUNK);
    hidden.store(&owner.store, secret, "hidden");
    let shown = Large::new(3, 10 * CHUNK);
    shown.store(&owner.store, NamespaceId::DEFAULT, "shown");
    let identity = guest(&owner, NAMESPACE, &["read", "write"]);
    let mut client = Client::connect(&owner, &identity, NAMESPACE).await.unwrap();
    client.open_session().await;
    let ids = [hidden.ids(), shown.ids()].concat();
    assert_eq!(missing(&mut client, "other", ids.clone()).await, ids);
    // Asked again, it has learnt nothing by asking.
    assert_eq!(missing(&mut client, "other", ids.clone()).await, ids);
    assert_eq!(missing(&mut client, "shown", ids).await, hidden.ids());
    // To name it would be to get it.
    let (outcome, _) = client.run(hidden.put("mine")).await.unwrap();
    assert_eq!(outcome, Outcome::NeedChunks { ids: hidden.ids() });
    let node = objsync_proto::chunk::Node::new(1, hidden.root.children().to_vec()).unwrap();
    let refused = upload(&mut client, 1, &[CheckedChunk::node(&node)]).await;
    let refused = refused.unwrap_err();
    let unknown = Child {
        id: chunk_id(b"no one"),
        bytes: 6,
    };
    let node = objsync_proto::chunk::Node::new(1, vec![unknown]).unwrap();
    let absent = upload(&mut client, 2, &[CheckedChunk::node(&node)])
        .await
        .unwrap_err();
    assert_eq!(refused.kind, absent.kind);
    let text = |failure: &objsync_proto::error::Failure, id: ChunkId| {
        failure.message.replace(&id.to_string(), "ID")
    };
    assert_eq!(text(&refused, hidden.ids()[0]), text(&absent, unknown.id));
    // Fetched by its place in a value that is readable, and by no other.
    let revision = owner
        .store
        .get(NamespaceId::DEFAULT, &encoded("shown"))
        .unwrap()
        .unwrap()
        .revision;
    let wanted = [places(&shown.root), places(&hidden.root)].concat();
    let fetched = fetch(&mut client, ("shown", revision), wanted.clone()).await;
    let ids: Vec<_> = fetched.iter().map(|record| record.id).collect();
    assert_eq!(ids, shown.ids());
    assert_eq!(
        fetch(&mut client, ("hidden", revision), wanted.clone()).await,
        []
    );
    assert_eq!(fetch(&mut client, ("shown", Revision(1)), wanted).await, []);
    // What it has, it may write; and it is stored once.
    let count = owner.store.chunks().status().chunk_count;
    assert_eq!(
        upload(&mut client, 3, &hidden.records).await,
        Ok(Reply::Done)
    );
    assert_eq!(owner.store.chunks().status().chunk_count, count);
    assert_eq!(
        client.run(hidden.put("mine")).await.unwrap().0,
        Outcome::Done
    );
}

#[tokio::test]
async fn value_that_was_replaced_is_fetched_as_of_its_revision() {
    let owner = Owner::start();
    let (old, new) = (Large::new(4, 5 * CHUNK), Large::new(5, 5 * CHUNK));
    old.store(&owner.store, NamespaceId::DEFAULT, "a");
    let revision = owner.store.position().revision;
    new.store(&owner.store, NamespaceId::DEFAULT, "a");
    let identity = guest(&owner, NAMESPACE, &["read"]);
    let mut reader = Client::connect(&owner, &identity, NAMESPACE).await.unwrap();
    let fetched = fetch(&mut reader, ("a", revision), places(&old.root)).await;
    assert_eq!(fetched.len(), 5);
    let now = owner.store.position().revision;
    assert_eq!(fetch(&mut reader, ("a", now), places(&old.root)).await, []);
    let refused = reader.request(Request::MissingChunks {
        key: encoded("a"),
        ids: vec![],
    });
    assert_eq!(
        refused.await.unwrap_err().kind,
        ErrorKind::Denied,
        "it may not write"
    );
}

#[tokio::test]
async fn hostile_uploads_end_their_connection_and_nobody_elses() {
    let owner = Owner::start();
    let large = Large::new(6, 3 * CHUNK);
    let good = large.records[0].record().clone();
    let changed = |change: &dyn Fn(&mut ChunkRecord)| {
        let mut record = good.clone();
        change(&mut record);
        Upload::Chunks(vec![record])
    };
    for (what, message) in [
        ("wrong hash", changed(&|record| record.id.0[0] ^= 1)),
        ("wrong size", changed(&|record| record.plain_bytes += 1)),
        (
            "huge size",
            changed(&|record| record.plain_bytes = u32::MAX),
        ),
        ("no size", changed(&|record| record.plain_bytes = 0)),
        ("a chunk as a node", changed(&|record| record.kind = 1)),
        ("no kind", changed(&|record| record.kind = 9)),
        ("no codec", changed(&|record| record.codec = 9)),
        ("a bomb", changed(&|record| record.codec = 1)),
        ("begun twice", Upload::Start { upload: 1 }),
    ] {
        let client = owner.client().await;
        let mut stream = begin(&client, 1).await;
        send(&mut stream, &message).await;
        assert_eq!(client.closed().await.kind, ErrorKind::Invalid, "{what}");
    }
    let client = owner.client().await;
    let mut stream = within(client.connection.open_uni()).await.unwrap();
    send(&mut stream, &Upload::Chunks(vec![])).await;
    assert_eq!(client.closed().await.kind, ErrorKind::Invalid, "not begun");
    let client = owner.client().await;
    let mut stream = begin(&client, 1).await;
    let mut long = good.clone();
    long.payload = vec![0; CHUNK_FRAME_BYTES_MAX].into();
    let mut out = BytesMut::new();
    codec::encode(&Upload::Chunks(vec![long]), &mut out);
    let _ = stream.write_all(&out).await;
    assert_eq!(
        client.closed().await.kind,
        ErrorKind::Invalid,
        "a long frame"
    );
    let mut client = owner.client().await;
    let ids = vec![good.id; CHUNKS_ASKED_MAX + 1];
    let many = client
        .request(Request::MissingChunks {
            key: encoded("a"),
            ids,
        })
        .await;
    assert!(many.unwrap_err().message.contains("1024"));
    // More and fewer than were said to come.
    let count = upload(&mut client, 7, &large.records).await;
    assert_eq!(count, Ok(Reply::Done));
    let mut stream = begin(&client, 8).await;
    send(&mut stream, &Upload::Chunks(vec![good.clone()])).await;
    stream.finish().unwrap();
    let fewer = client
        .request(Request::EndUpload {
            upload: 8,
            count: 2,
        })
        .await;
    assert_eq!(fewer.unwrap_err().kind, ErrorKind::Invalid);
    // A reader has no way to upload.
    let identity = guest(&owner, NAMESPACE, &["read"]);
    let mut reader = Client::connect(&owner, &identity, NAMESPACE).await.unwrap();
    let asked = reader
        .request(Request::EndUpload {
            upload: 1,
            count: 1,
        })
        .await;
    assert_eq!(asked.unwrap_err().kind, ErrorKind::Denied);
    let opened = tokio::time::timeout(
        std::time::Duration::from_millis(100),
        reader.connection.open_uni(),
    );
    assert!(opened.await.is_err(), "no stream is allowed");
}

#[tokio::test]
async fn what_was_uploaded_stays_until_it_is_named_or_the_connection_ends() {
    let owner = Owner::start();
    let large = Large::new(8, 70 * CHUNK);
    let mut client = owner.client().await;
    client.open_session().await;
    assert_eq!(
        upload(&mut client, 1, &large.records).await,
        Ok(Reply::Done)
    );
    owner.store.collect_chunks().unwrap();
    assert_eq!(client.run(large.put("a")).await.unwrap().0, Outcome::Done);
    let other = Large::new(9, 70 * CHUNK);
    assert_eq!(
        upload(&mut client, 2, &other.records).await,
        Ok(Reply::Done)
    );
    client.connection.close(0_u32.into(), b"");
    drop(client);
    let gone = async {
        while owner.store.collect_chunks().unwrap().dead_count == 0 {
            tokio::task::yield_now().await;
        }
    };
    within(gone).await;
    assert_eq!(large.read(&owner.store), large.content);
    let again = other.ids();
    assert_eq!(
        missing(&mut owner.client().await, "b", again.clone()).await,
        again
    );
}

#[tokio::test]
async fn copy_holds_every_chunk_that_its_log_and_its_snapshot_name() {
    let limits = StoreLimits {
        segment_bytes: 64 << 10,
        snapshot_log_bytes: 64 << 10,
        retention_bytes: 256 << 10,
        ..StoreLimits::default()
    };
    let source = Source::start_in(
        tempfile::tempdir().unwrap(),
        "127.0.0.1:0".parse().unwrap(),
        limits,
    );
    let namespace = source.store.namespace(NAMESPACE).unwrap().unwrap();
    let before = Large::new(10, 300 * CHUNK);
    before.store(&source.store, namespace, "before");
    let mut client = crate::followers::connect(
        source.address(),
        source.server.key(),
        &source.link(&["read", "write"]),
    )
    .await;
    client.open_session().await;
    // Until the log begins after it: the copy begins with a snapshot.
    let mut number = 0;
    while source.store.status().snapshot_bytes == 0 {
        assert!(number < 5_000, "no snapshot comes");
        client
            .put(&format!("filler {}", number % 3), &"x".repeat(8_000))
            .await;
        source
            .store
            .flush(source.store.position().revision)
            .unwrap();
        number += 1;
    }
    let copy = Copy::of(&source).await;
    copy.catch_up(&source.store).await;
    let held = copy.follower.store().unwrap();
    assert_eq!(before.read(&held), before.content);
    let after = Large::new(11, 80 * CHUNK);
    after.store(&source.store, namespace, "after");
    source
        .store
        .flush(source.store.position().revision)
        .unwrap();
    copy.catch_up(&source.store).await;
    assert_eq!(after.read(&held), after.content);
    // Read through the copy.
    let mut reader = copy.own_client().await;
    let place = ChunkPlace {
        id: after.records[0].id(),
        level: 0,
        offset: 0,
    };
    let fetched = fetch(
        &mut reader,
        ("after", held.position().revision),
        vec![place],
    )
    .await;
    assert_eq!(fetched.len(), 1);
}
