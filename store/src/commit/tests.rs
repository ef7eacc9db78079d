//! What only the writer's insides show.

use objsync_proto::ids::Revision;

use super::{BATCH_COUNT, Request};
use crate::options::{IndexKind, StoreOptions};
use crate::recovery;

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
