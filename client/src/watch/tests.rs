//! What waits for a watch.

use objsync_proto::value::{self, Value};

use super::*;
use crate::dict::Dict;
use crate::options::Options;

/// Text that is packed well waits as it is stored; each event was opened when it was put there.
#[test]
fn changes_that_wait_are_not_unpacked_before_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        compression: Some(3),
        ..Options::default()
    };
    let dict = Dict::open(folder.path().join("data"), options).unwrap();
    let watch = dict.watch(KeyRange::default(), None).unwrap();
    let list = Value::List(vec![Value::from("x".repeat(100 << 10).as_str()); 5]);
    let payload = value::encode(&list).unwrap();
    let key = |number: i64| {
        objsync_proto::key::encode(&number.into())
            .unwrap()
            .into_bytes()
    };
    let pairs = (0..20).map(|number| (key(number), payload.clone()));
    dict.update(pairs).unwrap();
    let first = watch.recv().unwrap().unwrap();
    assert_eq!(first.value.as_ref(), Some(&payload));
    let reading = watch.shared.reading.try_lock().unwrap();
    assert_eq!(reading.ready.len(), 19, "one transaction is told at once");
    let values = reading.ready.iter().map(|ready| ready.as_ref().unwrap());
    let bytes = values.map(|unread| unread.event.value.as_ref().map_or(0, Bytes::len));
    let bytes: usize = bytes.sum();
    assert!(bytes < payload.len(), "{bytes} bytes");
    drop(reading);
    for _ in 1..20 {
        let event = watch.recv().unwrap().unwrap();
        assert_eq!(event.value.as_ref(), Some(&payload));
    }
}
