//! Several processes on one store.

use objsync::{Dict, ErrorKind, Options};

use crate::peer::{Peer, k, text, until, v};

#[test]
fn second_process_works_through_the_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    assert_eq!(owner.ask("role"), "owner");
    assert_eq!(dict.status().role.to_string(), "peer");
    assert_eq!(dict.status().owner_pid, Some(owner.pid()));

    dict.set(&k("from peer"), v("1")).wait().unwrap();
    assert_eq!(owner.ask("set b 2"), "ok");
    dict.sync().wait().unwrap();
    assert_eq!(text(&dict, "b").as_deref(), Some("2"));
    assert_eq!(owner.ask("len"), "2");
}

#[test]
fn client_sees_the_state_before_its_first_read_returns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    for number in 0..50 {
        assert_eq!(owner.ask(&format!("set key{number} value{number}")), "ok");
    }
    let dict = Dict::open(&path, Options::default()).unwrap();
    assert_eq!(text(&dict, "key49").as_deref(), Some("value49"));
    assert_eq!(dict.len().unwrap(), 50);
}

#[test]
fn increments_of_many_threads_and_processes_all_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut others: Vec<_> = (0..2).map(|_| Peer::open(&path)).collect();
    let dict = Dict::open(&path, Options::default()).unwrap();
    others
        .iter_mut()
        .for_each(|other| other.tell("incr-many n 100"));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..100 {
                    dict.incr(&k("n"), 1).wait().unwrap();
                }
            });
        }
    });
    for other in &mut others {
        assert_eq!(other.answer(), "100 true");
    }
    assert_eq!(dict.incr(&k("n"), 0).wait().unwrap(), 500);
}

#[test]
fn pipeline_keeps_its_order_and_raises_the_first_failure_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    let mut pipeline = dict.pipeline();
    for number in 0..10_000 {
        pipeline
            .set(&k(&(number % 10).to_string()), v(&number.to_string()))
            .unwrap();
    }
    pipeline.finish().unwrap();
    for number in 0..10 {
        assert_eq!(
            text(&dict, &number.to_string()),
            Some((9_990 + number).to_string())
        );
    }
    let mut pipeline = dict.pipeline();
    pipeline.set(&k("good"), v("1")).unwrap();
    pipeline.set(b"bad", v("2")).unwrap();
    pipeline.set(&k("after"), v("3")).unwrap();
    assert_eq!(pipeline.finish().unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(text(&dict, "after").as_deref(), Some("3"));
}

#[test]
fn update_above_the_size_of_a_transaction_goes_as_several() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    let large = v(&"x".repeat(3 << 20));
    let pairs = (0..9).map(|number| (k(&number.to_string()), large.clone()));
    let ack = dict.update(pairs).unwrap().expect("there were pairs");
    assert_eq!(dict.len().unwrap(), 9);
    assert!(ack.revision.0 >= 2, "{ack:?}");
    assert_eq!(
        dict.update(Vec::<(Vec<u8>, objsync::Bytes)>::new())
            .unwrap(),
        None
    );
}

#[test]
fn scan_shows_one_moment_while_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    // More than one page.
    let value = v(&"x".repeat(1000));
    dict.update((0..1000).map(|number| (k(&format!("{number:04}")), value.clone())))
        .unwrap();
    let mut scan = dict.scan(Default::default(), false).unwrap();
    let first = scan.next_page().unwrap();
    assert!(first.len() < 1000);
    assert_eq!(owner.ask("set 0999 changed"), "ok");
    assert_eq!(owner.ask("set 0999a new"), "ok");
    dict.sync().wait().unwrap();
    let rest: Vec<_> = scan.map(Result::unwrap).collect();
    assert_eq!(first.len() + rest.len(), 1000);
    assert!(rest.iter().all(|(_, payload)| *payload == value));
    assert_eq!(text(&dict, "0999").as_deref(), Some("changed"));
}

#[test]
fn stamp_tells_when_a_value_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    dict.set(&k("a"), v("1")).wait().unwrap();
    assert_eq!(text(&dict, "a").as_deref(), Some("1"));
    let stamp = dict.stamp(&k("a"));
    assert!(dict.is_current(&stamp));
    assert_eq!(owner.ask("set a 2"), "ok");
    until("the change arrives", || !dict.is_current(&stamp));
    assert_eq!(text(&dict, "a").as_deref(), Some("2"));
}

#[test]
fn started_writes_finish_before_a_peer_closes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    let started: Vec<_> = (0..500)
        .map(|number| dict.set(&k(&number.to_string()), v("x")).start())
        .collect();
    dict.close().unwrap();
    for write in started {
        write.wait().unwrap();
    }
    assert_eq!(owner.ask("len"), "500");
}
