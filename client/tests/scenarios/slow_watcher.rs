//! A watcher does not read while more happens than anybody keeps in memory for it.

use objsync::{Dict, KeyRange, Options, Watch, value};

use crate::LONG;
use crate::peer::{Peer, k};

const COUNT: i64 = 2_000;
/// Together 32 MiB; the server keeps 4 MiB in memory for its feed.
const VALUE_BYTES: usize = 16 << 10;

fn check(watch: &Watch) {
    for number in 0..COUNT {
        let event = watch.recv_timeout(LONG).unwrap();
        let event = event.expect("no event is dropped");
        let payload = event.value.unwrap();
        let (found, _) = value::from_payload::<(i64, String)>(&payload).unwrap();
        assert_eq!(found, number, "in order, each once");
        assert_eq!(event.key, k(&format!("{:02}", number % 100)));
    }
    assert!(watch.try_recv().unwrap().is_none());
}

#[test]
fn no_event_is_dropped_for_a_watcher_that_does_not_keep_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut server = Peer::start(folder.path());
    assert_eq!(server.ask(&format!("open-small {}", path.display())), "ok");
    let dict = Dict::open(&path, Options::default()).unwrap();
    let begin = dict.sync().wait().unwrap().revision;
    // What the replica tells, what is streamed from the start, and what is asked for afterwards.
    let told = dict.watch(KeyRange::default(), None).unwrap();
    let streamed = dict.watch(KeyRange::default(), Some(begin)).unwrap();
    let text = "x".repeat(VALUE_BYTES);
    let mut pipeline = dict.pipeline();
    for number in 0..COUNT {
        let payload = value::to_payload(&(number, &text)).unwrap();
        pipeline
            .set(&k(&format!("{:02}", number % 100)), payload)
            .unwrap();
    }
    pipeline.finish().unwrap();
    dict.sync().wait().unwrap();
    check(&told);
    check(&streamed);
    check(&dict.watch(KeyRange::default(), Some(begin)).unwrap());
    assert_eq!(server.ask("role"), "owner");
}
