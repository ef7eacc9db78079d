//! The log has a value whole again before the patches on it cost their readers too much, and the bytes
//! of a change still do not grow with the value.
//!
//! Method: alternating changes, of which none is one step with the one before, and runs of one kind.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "it is all tests"
)]

mod harness;

use bytes::Bytes;
use harness::*;
use objsync_proto::ids::{Durability, Revision};
use objsync_proto::limits::{PATCH_CHAIN_BYTES_MAX, PATCH_CHAIN_STEPS_MIN};
use objsync_proto::operation::{Edit, Operation, Outcome, Patch, Step as PathStep};
use objsync_proto::stored::{self, Compression};
use objsync_proto::value::{self, Value};
use objsync_store::dict::Logged;
use objsync_store::{FeedRead, IndexKind, LogRead, Store, StoreOptions};

fn text(value: &str) -> Bytes {
    value::to_payload(value).unwrap()
}

/// A store with a dict of a list, a number and so many bytes else under the key `k`.
fn with_dict(bulk: usize) -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        index: IndexKind::Memory,
        ..StoreOptions::default()
    };
    let store = open(directory.path(), options);
    let fields = vec![
        (Value::from("bulk"), Value::from("b".repeat(bulk).as_str())),
        (Value::from("list"), Value::List(Vec::new())),
        (Value::from("number"), Value::from(1)),
        (Value::from("other"), Value::from(1)),
    ];
    let payload = value::encode(&Value::Dict(fields)).unwrap();
    let operation = Operation::Put {
        key: key_of("k"),
        value: stored::seal(&payload, Compression::None).unwrap(),
    };
    let answer = execute(&store, operation, Durability::Buffered).unwrap();
    assert_eq!(answer.outcome, Ok(Outcome::Done));
    (directory, store)
}

fn patched(store: &Store, field: &str, edit: Edit) -> Revision {
    let patch = Patch {
        path: vec![PathStep::Field { key: text(field) }],
        revision: None,
        create: edit.creates(),
        edit,
    };
    let key = key_of("k");
    let answer = execute(store, Operation::Patch { key, patch }, Durability::Buffered).unwrap();
    assert!(
        matches!(answer.outcome, Ok(Outcome::Number(_))),
        "{answer:?}"
    );
    answer.ack.revision
}

fn append(store: &Store) -> Revision {
    let items = vec![text("an item")];
    patched(store, "list", Edit::Append { items })
}

/// The lengths of the chains of patches in the log, in order, and the bytes of what it says.
fn chains(store: &Store, after: Revision) -> (Vec<u32>, usize) {
    store.flush(store.position().revision).unwrap();
    let LogRead::Transactions(log) = store.read_log_by_part(after, usize::MAX).unwrap() else {
        panic!("the log reaches back");
    };
    let (mut chains, mut bytes) = (vec![0], 0);
    for (_, change) in log.iter().flat_map(|told| &told.changes) {
        match change {
            Logged::Patch(patch) => {
                *chains.last_mut().unwrap() += 1;
                bytes += patch.edit.len();
            }
            Logged::Whole(change) => {
                chains.push(0);
                bytes += change.value.as_ref().unwrap().len();
            }
        }
    }
    (chains, bytes)
}

#[test]
fn chain_of_changes_that_each_cost_a_copy_of_the_value_ends_in_time() {
    let bulk = 7 << 20;
    let (_directory, store) = with_dict(bulk);
    let put = store.position().revision;
    let mut values = Vec::new();
    for number in 0..40 {
        // Above 1 MiB a value grows no more by parts: these stay as long as they are.
        let field = ["number", "other"][number % 2];
        let revision = patched(&store, field, Edit::AddNumber { by: 1 });
        values.push((revision, store.get(NS, &key_of("k")).unwrap().unwrap()));
    }
    let (chains, _) = chains(&store, put);
    let most = PATCH_CHAIN_STEPS_MIN;
    assert_eq!(chains, [most, most, 40 - 2 * (most + 1)]);
    // What was so is so, on both sides of where the log has the value.
    for (revision, value) in values.iter().step_by(5) {
        let past = store.at(*revision).unwrap();
        assert_eq!(past.get(NS, &key_of("k")).unwrap().unwrap(), *value);
    }
    // The feed goes on in parts, also where the log has the value: at the seventh before the end.
    let FeedRead::Published(ring) = store.feed().read(values[32].0, usize::MAX) else {
        panic!("the ring has all of it");
    };
    assert_eq!(ring.len(), 7);
    assert!(
        ring.iter()
            .all(|one| one.patches.iter().all(Option::is_some))
    );
    store.close().unwrap();
}

#[test]
fn run_of_changes_of_one_kind_is_told_in_parts_however_long_it_is() {
    let (_directory, store) = with_dict(900 << 10);
    let put = store.position().revision;
    for _ in 0..400 {
        append(&store);
    }
    let (chains, bytes) = chains(&store, put);
    assert_eq!(chains, [400]);
    assert!(bytes < 400 * 40, "{bytes} bytes of 400 items");
}

/// One whole value in so many changes: its share of each is small.
#[test]
fn bytes_of_changes_hardly_grow_with_a_value_that_the_log_has_again_now_and_then() {
    let bulk = 128 << 10;
    let (_directory, store) = with_dict(bulk);
    let put = store.position().revision;
    let steps_max = PATCH_CHAIN_BYTES_MAX as usize / bulk;
    let count = 2 * steps_max;
    for number in 0..count {
        match number % 2 {
            0 => append(&store),
            _ => patched(&store, "number", Edit::AddNumber { by: 1 }),
        };
    }
    let (chains, bytes) = chains(&store, put);
    assert!((3..=4).contains(&chains.len()), "{chains:?}");
    let each = bytes / count;
    assert!(each < 500, "{each} bytes for a change of {bulk} bytes");
}
