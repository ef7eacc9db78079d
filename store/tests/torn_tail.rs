//! A torn tail is cut silently for the caller, and said in the log of the program.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use harness::disk::SimDisk;
use harness::*;
use objsync_store::Store;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<String>>);

impl Subscriber for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Fields<'a>(&'a mut String);
        impl Visit for Fields<'_> {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                write!(self.0, "{}={value:?} ", field.name()).unwrap();
            }
        }
        event.record(&mut Fields(&mut self.0.lock().unwrap()));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn said_while_opening(is_torn: bool) -> String {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let store = open(directory.path(), options_on(&disk));
    set(&store, "a", "1");
    store.kill();
    if is_torn {
        let path = disk.files(".seg").pop().unwrap();
        let mut bytes = disk.read(&path).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[end + 64..end + 80].fill(7);
        disk.write(&path, bytes);
    }
    let kept = Kept::default();
    tracing::subscriber::with_default(kept.clone(), || {
        let store = Store::open(directory.path(), options_on(&disk)).unwrap();
        assert_eq!(get(&store, "a").as_deref(), Some("1"));
    });
    let said = kept.0.lock().unwrap();
    said.clone()
}

#[test]
fn torn_tail_is_cut_with_a_line_in_the_log_that_says_where() {
    let said = said_while_opening(true);
    assert!(said.contains("a torn tail of the log is cut"), "{said}");
    assert!(said.contains("segment=1") && said.contains("at="), "{said}");
    let said = said_while_opening(false);
    assert!(!said.contains("torn tail"), "zeros are no tail: {said}");
}
