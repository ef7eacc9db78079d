//! A write is done, its answer is lost, and the client asks again on the next connection.

use objsync::ReplicaMode;
use objsync_tests::proxy::Faults;

use crate::peer::{k, until, v};
use crate::{client, number, owner_behind_a_network};

#[test]
fn put_retried_after_a_lost_answer_is_done_once() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, proxy) = owner_behind_a_network(&folder.path().join("data"), 1);
    let dict = client(&owner, &proxy, ReplicaMode::Full);
    assert_eq!(dict.incr(&k("n"), 1).wait().unwrap(), 1);
    let watch = owner.watch(Default::default(), None).unwrap();

    proxy.set(Faults {
        is_mute: true,
        ..Faults::NONE
    });
    let counted = dict.incr(&k("n"), 1).start();
    let put = dict.set(&k("a"), v("once")).start();
    until("both are done", || {
        number(&owner, "n") == 2 && owner.contains(&k("a")).unwrap()
    });
    until("the connection is given up", || {
        dict.status().role.to_string() == "offline"
    });
    // Somebody else goes on meanwhile: a second run would show.
    assert_eq!(owner.incr(&k("n"), 10).wait().unwrap(), 12);
    owner.set(&k("a"), v("later")).wait().unwrap();
    proxy.set(Faults::NONE);

    assert_eq!(counted.wait().unwrap(), 2);
    let ack = put.wait().unwrap();
    assert_eq!(number(&owner, "n"), 12);
    let revisions: Vec<_> = (0..4)
        .map(|_| watch.recv().unwrap().unwrap().revision)
        .collect();
    assert_eq!(revisions[1], ack.revision, "the answer is the first one's");
    assert!(
        watch.try_recv().unwrap().is_none(),
        "nothing was done again"
    );
    dict.sync().wait().unwrap();
    assert_eq!(crate::peer::text(&dict, "a").as_deref(), Some("later"));
}
