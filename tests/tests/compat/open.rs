//! Opens a copy of each store with this build.

use std::path::{Path, PathBuf};

use objsync::{Dict, GrantRequest, Options, PeerKey};
use objsync_proto::ids::{Durability, Revision};
use objsync_proto::operation::Operation;
use objsync_store::{Store, StoreOptions, Submission};
use serde_json::Value as Json;

use crate::golden::{PAYLOADS, bytes, digits};
use crate::listing;
use crate::settings::{PEER, SECRET, copy, folder, options};
use crate::write::{key_of, repeat};

/// Every store there is, with its listing.
fn stores() -> Vec<(PathBuf, Vec<Json>)> {
    let mut stores = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let text = std::fs::read_to_string(path.with_extension("jsonl")).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
            stores.push((path, lines.collect()));
        }
    }
    assert!(stores.len() >= 2, "{stores:?}");
    stores
}

/// Calls `look` with a copy of each store.
fn each(look: impl Fn(&Path, &[Json])) {
    for (path, lines) in stores() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("store");
        copy(&path, &directory);
        println!("{}", path.display());
        look(&directory, &lines);
    }
}

fn content(lines: &[Json]) -> Vec<Json> {
    let is_content = |line: &&Json| {
        ["namespace", "in", "grant"]
            .iter()
            .any(|it| line.get(it).is_some())
    };
    lines.iter().filter(is_content).cloned().collect()
}

fn assert_sound(directory: &Path) {
    let report = objsync_store::check(directory, &mut |_| ()).unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
}

#[test]
fn each_store_is_sound_and_holds_what_its_listing_says() {
    each(|directory, lines| {
        assert_sound(directory);
        for readonly in [true, false] {
            let options = StoreOptions {
                readonly,
                ..options()
            };
            let store = Store::open(directory, options).unwrap();
            similar(&listing::of(&store), &content(lines));
            store.close().unwrap();
        }
        assert_sound(directory);
    });
}

/// As `assert_eq`, naming the first line that differs.
fn similar(found: &[Json], expected: &[Json]) {
    let differ = found
        .iter()
        .zip(expected)
        .find(|(found, wanted)| found != wanted);
    assert_eq!(differ, None);
    assert_eq!(found.len(), expected.len());
}

#[test]
fn each_store_answers_a_repeat_as_it_did_and_does_nothing_twice() {
    each(|directory, lines| {
        let store = Store::open(directory, options()).unwrap();
        let namespace = store.namespace("default").unwrap().unwrap();
        let mut asked = 0;
        for line in lines {
            let Some(session) = listing::session(line) else {
                continue;
            };
            assert!(store.session_known(session, PEER));
            let sequence = line["sequence"].as_u64().unwrap();
            // What is asked does not matter: the sequence is known.
            let by = 1000;
            let key = key_of("kept counter");
            let answer = repeat(
                &store,
                namespace,
                session,
                sequence,
                Operation::Increment { key, by },
            );
            assert_eq!(listing::result(session, sequence, &answer), *line);
            asked += 1;
        }
        assert_eq!(asked, 6);
        for line in lines.iter().filter_map(|line| line.get("ended")) {
            let ended = listing::session(&serde_json::json!({"session": line})).unwrap();
            assert!(!store.session_known(ended, PEER));
        }
        similar(&listing::of(&store), &content(lines));
    });
}

#[test]
fn each_store_is_written_to_and_opened_again() {
    each(|directory, lines| {
        let increment = |store: &Store| {
            let submission = Submission {
                namespace: store.namespace("default").unwrap().unwrap(),
                operation: Operation::Increment {
                    key: key_of("counter"),
                    by: 1,
                },
                origin: None,
                durability: Some(Durability::Sync),
            };
            store.execute(submission).unwrap().ack.revision
        };
        let revisions = lines.iter().filter_map(|line| line["revision"].as_u64());
        let mut last = Revision(revisions.max().unwrap());
        for _ in 0..3 {
            let store = Store::open(directory, options()).unwrap();
            for _ in 0..200 {
                let next = increment(&store);
                assert!(next > last, "{next} after {last}");
                last = next;
            }
            store.close().unwrap();
            assert_sound(directory);
        }
    });
}

#[test]
fn each_store_opens_as_an_object_with_the_key_it_had() {
    each(|directory, lines| {
        let key = objsync_server::identity::load(directory).unwrap();
        assert_eq!(key.secret(), &SECRET);
        assert!(lines.iter().any(|line| {
            line["key"]
                .as_str()
                .is_some_and(|text| text.ends_with(&digits(&SECRET)))
        }));
        let dict = Dict::open(directory, Options::default()).unwrap();
        for (name, payload) in PAYLOADS {
            let found = dict.get(&key_of(&format!("value {name}"))).unwrap();
            let is_there = name != "42";
            assert_eq!(found, is_there.then(|| bytes(payload)), "{name}");
        }
        let packed = dict.get(&key_of("packed")).unwrap().unwrap();
        let text: String = objsync::value::from_payload(&packed).unwrap();
        assert_eq!(text, "packed and ".repeat(500));
        let link = dict.grant(GrantRequest::default()).wait().unwrap();
        assert_eq!(link.server, PeerKey(key.peer().0));
        dict.close().unwrap();
    });
}
