//! Random operations on an owner and on peers of every kind, compared with a `BTreeMap`.

use std::collections::BTreeMap;

use objsync::{Bytes, Change, Dict, KeyRange, key, value};

use crate::peer::{Peer, without_replica};

/// A small generator, so that a seed gives the same run everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn key(&mut self) -> Bytes {
        let number = self.below(20);
        key::encode(&format!("key {number}").as_str().into())
            .unwrap()
            .into_bytes()
    }

    fn payload(&mut self) -> Bytes {
        match self.below(3) {
            0 => value::to_payload(&self.below(1000)).unwrap(),
            1 => value::to_payload(&"text ".repeat(self.below(2000) as usize)).unwrap(),
            _ => value::to_payload(&vec![self.below(9); 3]).unwrap(),
        }
    }
}

type Model = BTreeMap<Bytes, Bytes>;

fn step(random: &mut Random, dict: &Dict, model: &mut Model) {
    let (name, payload) = (random.key(), random.payload());
    match random.below(8) {
        0..3 => {
            dict.set(&name, payload.clone()).wait().unwrap();
            model.insert(name, payload);
        }
        3 => {
            let (was_there, _) = dict.delete(&name).wait().unwrap();
            assert_eq!(was_there, model.remove(&name).is_some());
        }
        4 => {
            let expected = if random.below(2) == 0 {
                model.get(&name).cloned()
            } else {
                None
            };
            let swapped = dict.compare_and_set(&name, expected.clone(), Some(payload.clone()));
            assert_eq!(
                swapped.wait().unwrap(),
                model.get(&name).cloned() == expected
            );
            if model.get(&name).cloned() == expected {
                model.insert(name, payload);
            }
        }
        5 => {
            let other = random.key();
            let changes = vec![
                Change {
                    key: name.clone(),
                    value: Some(payload.clone()),
                },
                Change {
                    key: other.clone(),
                    value: None,
                },
            ];
            dict.batch(changes).wait().unwrap();
            model.insert(name, payload);
            model.remove(&other);
        }
        6 => {
            let end = random.key();
            let range = KeyRange {
                start: name.clone().min(end.clone()),
                end: Some(name.max(end)),
            };
            let gone: Vec<_> = model
                .keys()
                .filter(|key| range.contains(key))
                .cloned()
                .collect();
            assert_eq!(dict.delete_range(range).wait().unwrap(), gone.len() as u64);
            gone.iter().for_each(|key| drop(model.remove(key)));
        }
        _ => {
            let number: Option<u64> = model.get(&name).and_then(|p| value::from_payload(p).ok());
            let is_number = !model.contains_key(&name) || number.is_some();
            match dict.incr(&name, 3).wait() {
                Ok(now) => {
                    assert!(is_number, "{name:?} is no number");
                    assert_eq!(now as u64, number.unwrap_or(0) + 3);
                    model.insert(name, value::to_payload(&now).unwrap());
                }
                Err(error) => assert!(!is_number, "{error}"),
            }
        }
    }
}

fn agree(dict: &Dict, model: &Model, random: &mut Random) {
    let name = random.key();
    assert_eq!(dict.get(&name).unwrap(), model.get(&name).cloned());
    assert_eq!(dict.contains(&name).unwrap(), model.contains_key(&name));
    assert_eq!(dict.len().unwrap(), model.len() as u64);
    let reverse = random.below(2) == 0;
    let mut all: Vec<_> = model.clone().into_iter().collect();
    if reverse {
        all.reverse();
    }
    let found: Vec<_> = dict
        .scan(KeyRange::default(), reverse)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(found, all);
    let keys = dict.keys(KeyRange::default(), reverse).unwrap();
    let names: Vec<_> = keys.map(|entry| entry.unwrap().0).collect();
    assert_eq!(
        names,
        all.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    );
}

fn run(dict: &Dict, seed: u64) {
    println!("seed {seed}");
    let (mut random, mut model) = (Random(seed), Model::new());
    for _ in 0..150 {
        step(&mut random, dict, &mut model);
        agree(dict, &model, &mut random);
    }
}

#[test]
fn owner_agrees_with_a_map_whatever_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let dict = Dict::open(folder.path().join("data"), Default::default()).unwrap();
    assert_eq!(dict.status().role.to_string(), "owner");
    run(&dict, 4417);
}

#[test]
fn owner_that_compresses_agrees_with_a_map() {
    let folder = tempfile::tempdir().unwrap();
    let options = objsync::Options {
        compression: Some(3),
        ..Default::default()
    };
    run(
        &Dict::open(folder.path().join("data"), options).unwrap(),
        99,
    );
}

#[test]
fn peer_with_a_replica_reads_its_own_writes_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    let dict = Dict::open(&path, Default::default()).unwrap();
    assert_eq!(dict.status().role.to_string(), "peer");
    run(&dict, 7);
}

#[test]
fn peer_without_a_replica_agrees_with_a_map() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    run(&Dict::open(&path, without_replica()).unwrap(), 8);
}
