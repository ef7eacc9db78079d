//! zstd dictionaries: who may ask for one is who may read the values that it was made of.

use bytes::Bytes;
use objsync_proto::dictionary::{Dictionary, Trained, train};
use objsync_proto::error::ErrorKind;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::stored::{self, Compression};
use objsync_proto::wire::{Reply, Request};

use crate::peer::{Client, NAMESPACE, Owner, encoded, guest};

fn sample(number: u64) -> Bytes {
    let scrambled = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 30;
    format!("secret of user {scrambled:x}: lives in Bergen, likes {number} and green tea").into()
}

fn dictionary() -> Dictionary {
    let samples: Vec<Bytes> = (0..1000).map(sample).collect();
    train(&samples, 5, None).unwrap()
}

fn add(dictionary: &Dictionary) -> Operation {
    let bytes = dictionary.bytes().clone();
    Operation::AddDictionary { bytes }
}

fn entry(reply: Reply) -> Option<Trained> {
    match reply {
        Reply::Entry { entry, .. } => entry.map(|(value, _)| Trained::decode(&value).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whoever_may_read_values_may_read_what_they_are_packed_with_and_nobody_else() {
    let owner = Owner::start();
    owner.store.create_namespace("prices", vec![]).unwrap();
    let dictionary = dictionary();
    let asked = |id| Request::Dictionary { id };
    let all = [None, Some(dictionary.id().0)];
    let mut writer = owner.client().await;
    writer.open_session().await;
    for id in all {
        assert_eq!(entry(writer.request(asked(id)).await.unwrap()), None);
    }
    let (outcome, _) = writer.run(add(&dictionary)).await.unwrap();
    assert_eq!(outcome, Outcome::Number(dictionary.id().0.into()));

    let reads = guest(&owner, NAMESPACE, &["read"]);
    let mut reader = Client::connect(&owner, &reads, NAMESPACE).await.unwrap();
    let writes = guest(&owner, NAMESPACE, &["write"]);
    let mut blind = Client::connect(&owner, &writes, NAMESPACE).await.unwrap();
    let elsewhere = guest(&owner, "prices", &["read", "write"]);
    let mut other = Client::connect(&owner, &elsewhere, "prices").await.unwrap();
    for id in all {
        let trained = entry(reader.request(asked(id)).await.unwrap()).unwrap();
        assert_eq!(trained.bytes, dictionary.bytes());
        assert!(trained.at_ms > 1_600_000_000_000);
        let denied = blind.request(asked(id)).await.unwrap_err();
        assert_eq!(denied.kind, ErrorKind::Denied);
        assert_eq!(entry(other.request(asked(id)).await.unwrap()), None);
    }
    // Not even by a value that names it.
    let value = stored::seal_with(&sample(5), Compression::Zstd(5), Some(&dictionary)).unwrap();
    let key = encoded("a");
    let put = Operation::Put { key, value };
    writer.run(put.clone()).await.unwrap();
    other.open_session().await;
    let refused = other.run(put).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn reader_adds_no_dictionary_and_nobody_adds_what_is_none() {
    let owner = Owner::start();
    let reads = guest(&owner, NAMESPACE, &["read"]);
    let mut reader = Client::connect(&owner, &reads, NAMESPACE).await.unwrap();
    reader.write(1, add(&dictionary())).await;
    assert_eq!(reader.answer().await.1.unwrap_err().kind, ErrorKind::Denied);
    let mut writer = owner.client().await;
    writer.open_session().await;
    for bytes in [Bytes::new(), vec![7; 1 << 20].into(), sample(1)] {
        let refused = writer.run(Operation::AddDictionary { bytes }).await;
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Invalid);
    }
    let asked = writer.request(Request::Dictionary { id: None }).await;
    assert_eq!(entry(asked.unwrap()), None);
}

#[tokio::test]
async fn dictionary_is_there_after_a_restart() {
    let owner = Owner::start();
    let dictionary = dictionary();
    let mut writer = owner.client().await;
    writer.open_session().await;
    writer.run(add(&dictionary)).await.unwrap();
    drop(writer);
    let owner = owner.restart().await;
    let mut reader = owner.client().await;
    let asked = reader.request(Request::Dictionary { id: None }).await;
    let trained = entry(asked.unwrap()).unwrap();
    assert_eq!(trained.bytes, dictionary.bytes());
}
