use super::*;
use crate::index::stored;
use crate::test_random::Random;

const NAMESPACE: NamespaceId = NamespaceId(1);

fn put(recent: &mut Recent, revision: u64, key: &'static [u8], value: Option<&'static [u8]>) {
    let value = value.map(Bytes::from_static);
    recent.apply(
        Revision(revision),
        NAMESPACE,
        &Bytes::from_static(key),
        value,
    );
}

fn keys(page: &RecentPage) -> Vec<&[u8]> {
    page.found.iter().map(|(key, _)| &key[..]).collect()
}

fn resolve_all(recent: &mut Recent, in_index: bool) {
    let (keys, number) = recent.unresolved(usize::MAX);
    for (namespace, key) in keys {
        recent.resolve(namespace, &key, in_index);
    }
    recent.resolved_up_to(number);
}

#[test]
fn each_revision_has_its_own_version() {
    let mut recent = Recent::new(Some(&[]));
    put(&mut recent, 2, b"k", Some(b"two"));
    put(&mut recent, 4, b"k", None);
    put(&mut recent, 6, b"k", Some(b"six"));
    let at = |revision| recent.get(NAMESPACE, b"k", Revision(revision));
    assert_eq!(at(1), None, "the index knows");
    assert_eq!(at(2), Some(Some(stored(b"two", 2))));
    assert_eq!(at(3), Some(Some(stored(b"two", 2))));
    assert_eq!(at(5), Some(None), "deleted");
    assert_eq!(at(6), Some(Some(stored(b"six", 6))));
}

#[test]
fn later_change_of_one_transaction_takes_the_place_of_the_earlier() {
    let mut recent = Recent::new(Some(&[]));
    put(&mut recent, 1, b"k", Some(b"first"));
    let bytes = recent.bytes();
    put(&mut recent, 1, b"k", Some(b"other"));
    assert_eq!(recent.bytes(), bytes);
    let (upto, moves) = recent.next_moves(Revision(1), 10, 1000).unwrap();
    assert_eq!((upto, moves.len()), (Revision(1), 1));
    assert_eq!(moves[0].entry, Some(stored(b"other", 1)));
}

#[test]
fn batch_holds_each_key_once_and_ends_between_transactions() {
    let mut recent = Recent::new(Some(&[]));
    put(&mut recent, 1, b"a", Some(b"1"));
    put(&mut recent, 2, b"a", Some(b"2"));
    put(&mut recent, 2, b"b", Some(b"2"));
    put(&mut recent, 3, b"b", None);
    let (upto, moves) = recent.next_moves(Revision(9), 2, 1000).unwrap();
    assert_eq!(upto, Revision(2), "the second transaction is not cut");
    let entries: Vec<_> = moves
        .iter()
        .map(|one| (&one.key[..], one.entry.clone()))
        .collect();
    let expected = [
        (&b"a"[..], Some(stored(b"2", 2))),
        (b"b", Some(stored(b"2", 2))),
    ];
    assert_eq!(entries, expected);
    assert_eq!(recent.next_moves(Revision(0), 2, 1000), None);
}

/// A key that is written again and again fills a batch once: with its last version.
#[test]
fn batch_counts_of_each_key_what_it_writes() {
    static LARGE: [u8; 1000] = [7; 1000];
    let mut recent = Recent::new(Some(&[]));
    for revision in 1..=10 {
        put(&mut recent, revision, b"hot", Some(&LARGE));
    }
    put(&mut recent, 11, b"other", Some(&LARGE));
    put(&mut recent, 12, b"third", Some(&LARGE));
    let bytes_max = 2 * (VERSION_BYTES + 3 + LARGE.len());
    let (upto, moves) = recent.next_moves(Revision(12), 100, bytes_max).unwrap();
    assert_eq!((upto, moves.len()), (Revision(11), 2), "two that are large");
    resolve_all(&mut recent, false);
    recent.retire(Revision(4), 1000);
    let (upto, moves) = recent.next_moves(Revision(12), 100, bytes_max).unwrap();
    assert_eq!(
        (upto, moves.len()),
        (Revision(11), 2),
        "those before have gone"
    );
    recent.retire(Revision(10), 1000);
    let (upto, moves) = recent.next_moves(Revision(12), 100, bytes_max).unwrap();
    assert_eq!((upto, moves.len()), (Revision(12), 2));
    // Within one transaction the later change counts, whatever the earlier took.
    put(&mut recent, 13, b"once", Some(b"small"));
    put(&mut recent, 13, b"once", Some(&LARGE));
    put(&mut recent, 14, b"last", Some(b"small"));
    recent.retire(Revision(12), 1000);
    let (upto, _) = recent.next_moves(Revision(14), 100, LARGE.len()).unwrap();
    assert_eq!(upto, Revision(13));
}

#[test]
fn everything_is_given_back_when_all_has_moved() {
    let mut recent = Recent::new(Some(&[]));
    for revision in 1..100 {
        put(&mut recent, revision, b"hot", Some(b"value"));
    }
    resolve_all(&mut recent, false);
    assert!(recent.retire(Revision(50), 10), "there are more than ten");
    assert!(!recent.retire(Revision(50), 1000));
    assert_eq!(recent.get(NAMESPACE, b"hot", Revision(50)), None);
    assert_eq!(
        recent.get(NAMESPACE, b"hot", Revision(51)),
        Some(Some(stored(b"value", 51)))
    );
    recent.retire(Revision(99), 1000);
    assert!(recent.is_empty());
    assert_eq!(recent.bytes(), 0);
    assert_eq!(
        recent.count(NAMESPACE, Revision(99)),
        1,
        "the index has it now"
    );
}

#[test]
fn page_says_how_far_it_looked() {
    let mut recent = Recent::new(Some(&[]));
    for key in [b"a", b"b", b"c", b"d"] {
        put(&mut recent, 1, key, Some(b"v"));
    }
    put(&mut recent, 5, b"bb", Some(b"later"));
    let all = KeyRange::default();
    let page = recent.page(NAMESPACE, &all, false, Revision(1), 3);
    assert_eq!(keys(&page), [b"a", b"b"]);
    assert_eq!(
        page.more_after.as_deref(),
        Some(&b"bb"[..]),
        "looked at, though not visible"
    );
    let page = recent.page(NAMESPACE, &all, true, Revision(1), 9);
    assert_eq!(keys(&page), [b"d", b"c", b"b", b"a"]);
    assert_eq!(page.more_after, None);
}

#[test]
fn count_leaves_out_what_is_not_committed_yet() {
    let mut recent = Recent::new(Some(&[(NAMESPACE, 10)]));
    put(&mut recent, 1, b"new", Some(b"v"));
    put(&mut recent, 2, b"new", None);
    put(&mut recent, 3, b"new", Some(b"v"));
    put(&mut recent, 3, b"more", Some(b"v"));
    resolve_all(&mut recent, false);
    let counts = [0, 1, 2, 3].map(|at| recent.count(NAMESPACE, Revision(at)));
    assert_eq!(counts, [10, 11, 10, 12]);
}

/// What a change costs while a writer holds its role: about a microsecond (release build).
#[test]
fn adding_a_version_does_not_depend_on_how_many_there_are() {
    let mut random = Random::new(3);
    let mut recent = Recent::new(Some(&[]));
    for revision in 1..=20_000 {
        let key = Bytes::copy_from_slice(&(random.next() % 10_000).to_be_bytes());
        recent.apply(Revision(revision), NAMESPACE, &key, Some(key.clone()));
    }
    let (keys, _) = recent.unresolved(usize::MAX);
    assert_eq!(
        keys.len(),
        20_000,
        "one place in the queue for each version"
    );
    assert!(recent.bytes() < 20_000 * 2 * VERSION_BYTES);
}
