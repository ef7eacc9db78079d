//! What only the writer's insides show.

use std::sync::Arc;

use objsync_proto::ids::{Durability, NamespaceId, Revision};
use objsync_proto::operation::Operation;

use super::{BATCH_COUNT, Request};
use crate::options::{IndexKind, StoreLimits, StoreOptions};
use crate::recovery;
use crate::store::Submission;

fn write(number: i64) -> Request {
    let payload = objsync_proto::value::int_payload(number);
    let compression = objsync_proto::stored::Compression::None;
    let operation = Operation::Put {
        key: objsync_proto::key::encode(&number.into())
            .unwrap()
            .into_bytes(),
        value: objsync_proto::stored::seal(&payload, compression).unwrap(),
    };
    Request::Write(Submission {
        namespace: NamespaceId::DEFAULT,
        operation,
        durability: Some(Durability::Sync),
        origin: None,
    })
}

/// It found room when it came; the batch it waited for took that.
#[test]
fn who_leads_after_others_waits_for_room_again() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        index: IndexKind::Memory,
        limits: StoreLimits {
            recent_bytes_max: 1,
            ..StoreLimits::default()
        },
        threads: false,
        ..StoreOptions::default()
    };
    let core = Arc::new(recovery::open(directory.path(), options).unwrap());
    let (name, content) = ("default".to_owned(), Vec::new());
    core.run_here(Request::CreateNamespace { name, content })
        .unwrap();
    core.make_room().unwrap();
    core.run_here(write(1)).unwrap();
    let taken = core.state.recent_bytes();
    assert!(taken > 0);
    assert!(
        core.queue.enter_if_free(),
        "as if another batch were on its way"
    );
    let waiting = Arc::clone(&core);
    let waiter = std::thread::spawn(move || waiting.run_anyway(write(2)));
    while core.queue.job_count() == 0 {
        assert!(!waiter.is_finished(), "it waits for its turn");
        std::thread::yield_now();
    }
    core.queue.leave();
    waiter.join().unwrap().unwrap();
    assert_eq!(core.state.recent_bytes(), taken, "its own change alone");
    core.kill();
}

#[test]
fn revisions_are_set_aside_in_the_manifest_before_the_last_ones_are_given() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        index: IndexKind::Memory,
        threads: false,
        ..StoreOptions::default()
    };
    let core = recovery::open(directory.path(), options).unwrap();
    let set_aside = core.manifest.get().revision_max;
    if let Some(writer) = core.writer().as_mut() {
        // As after nearly a million writes.
        writer.last = Revision(set_aside.0 + 1 - BATCH_COUNT as u64);
    }
    let name = "default".to_owned();
    let content = Vec::new();
    let request = Request::CreateNamespace { name, content };
    core.run_here(request).unwrap();
    assert!(core.manifest.get().revision_max > set_aside);
    core.kill();
}
