//! Iterations over values that take far more bytes than they are stored in.

use objsync::{Bytes, Dict, KeyRange, ObjectError, Options, ReplicaMode};
use objsync_tests::proxy::Proxy;

use crate::giant::{check_giant, with_a_giant};
use crate::large_peer::client_with;
use crate::peer::k;

fn all() -> KeyRange {
    KeyRange::default()
}

#[test]
fn value_that_is_too_long_for_an_iteration_is_an_error_in_its_place_and_the_others_come() {
    let folder = tempfile::tempdir().unwrap();
    let (dict, _) = with_a_giant(&folder.path().join("data"));
    let check = |entries: Vec<objsync::Result<(Bytes, Bytes)>>| {
        let [Ok((a, _)), Err(error), Ok((c, _))] = &entries[..] else {
            panic!("{entries:?}");
        };
        assert_eq!((&a[..], &c[..]), (&k("a")[..], &k("c")[..]));
        check_giant(error);
    };
    check(dict.scan(all(), false).unwrap().collect());
    let in_transaction = |t: &objsync::Transaction| {
        check(t.scan(all(), false).collect());
        Ok::<_, ObjectError>(())
    };
    dict.transact(in_transaction).unwrap();
    let mut scan = dict.scan(all(), false).unwrap();
    assert_eq!(scan.next_page().unwrap().len(), 1);
    check_giant(&scan.next_page().unwrap_err());
    assert_eq!(scan.next_page().unwrap().len(), 1);
    assert!(scan.next_page().unwrap().is_empty());
    assert_eq!(dict.keys(all(), false).unwrap().flatten().count(), 3);
    let scan = dict.scan(all(), false).unwrap().with_references();
    let entries: Vec<(Bytes, Bytes)> = scan.collect::<objsync::Result<_>>().unwrap();
    let reader = dict.reader_of(&entries[1].0, &entries[1].1).unwrap();
    assert_eq!(reader.content_bytes(), 5 << 30);
}

#[test]
fn iteration_unpacks_few_of_many_values_that_are_stored_in_few_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let packs = |replica| Options {
        compression: Some(5),
        replica,
        ..Options::default()
    };
    let owner = Dict::open(&path, packs(ReplicaMode::Auto)).unwrap();
    let bomb = objsync::value::to_payload(&vec![0_u8; 1 << 20]).unwrap();
    for number in 0..24 {
        let key = k(&format!("{number:02}"));
        owner.set(&key, bomb.clone()).wait().unwrap();
    }
    let address = owner.status().address.unwrap().parse().unwrap();
    let proxy = Proxy::start(address, 7).unwrap();
    let check = |page: &[(Bytes, Bytes)]| {
        assert!(page.len() <= 1, "{} values of 1 MiB at once", page.len());
        page.len()
    };
    let modes = [ReplicaMode::Full, ReplicaMode::None];
    let peers = modes.map(|replica| client_with(&owner, &proxy, packs(replica)));
    for dict in peers.iter().chain([&owner]) {
        let mut scan = dict.scan(all(), false).unwrap();
        let pages = std::iter::from_fn(|| Some(check(&scan.next_page().unwrap())));
        assert_eq!(pages.take_while(|count| *count > 0).count(), 24);
        let in_transaction = |t: &objsync::Transaction| {
            let mut scan = t.scan(all(), false);
            let pages = std::iter::from_fn(|| Some(check(&scan.next_page().unwrap())));
            Ok::<_, ObjectError>(pages.take_while(|count| *count > 0).count())
        };
        assert_eq!(dict.transact(in_transaction).unwrap(), 24);
    }
}
