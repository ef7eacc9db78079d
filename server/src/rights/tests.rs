use super::*;

const STORE: PeerKey = PeerKey([1; 32]);
const GUEST: PeerKey = PeerKey([2; 32]);
const NOW: u64 = 1_000;

fn grant(scope: &str, rights: &[&str]) -> Grant {
    Grant {
        peer: GUEST,
        scope: scope.to_owned(),
        rights: rights.iter().map(|right| (*right).to_owned()).collect(),
        expires_ms: None,
        label: String::new(),
    }
}

fn of(grant: Grant, namespace: &str) -> Rights {
    rights(STORE, &[grant], GUEST, namespace, NOW)
}

#[test]
fn stores_own_key_may_do_everything_without_a_grant() {
    assert_eq!(rights(STORE, &[], STORE, "any", NOW), Rights::ALL);
    assert!(admits(STORE, &[], STORE, NOW));
}

#[test]
fn key_without_a_grant_may_do_nothing() {
    let other = Grant {
        peer: PeerKey([3; 32]),
        ..grant("*", &[READ])
    };
    assert!(!rights(STORE, std::slice::from_ref(&other), GUEST, "any", NOW).any());
    assert!(!admits(STORE, &[other], GUEST, NOW));
}

#[test]
fn grant_covers_its_own_dictionary_only() {
    for (scope, namespace, covered) in [
        ("prices", "prices", true),
        ("dict/prices", "prices", true),
        ("*", "prices", true),
        ("dict/*", "prices", true),
        ("prices", "other", false),
        ("price", "prices", false),
        ("volume/prices", "prices", false),
        ("volume/*", "prices", false),
        ("dict/a/b", "a/b", true),
        ("a/b", "a/b", false),
        ("", "prices", false),
    ] {
        let found = of(grant(scope, &[READ]), namespace);
        assert_eq!(found.any(), covered, "{scope:?} on {namespace:?}");
    }
}

#[test]
fn rights_are_those_named_and_admin_never() {
    let found = of(grant("*", &[READ]), "x");
    assert_eq!((found.read, found.write, found.admin), (true, false, false));
    let found = of(grant("*", &[WRITE]), "x");
    assert_eq!((found.read, found.write, found.admin), (false, true, false));
    let found = of(grant("*", &[READ, WRITE]), "x");
    assert_eq!((found.read, found.write, found.admin), (true, true, false));
}

#[test]
fn unknown_right_voids_the_grant() {
    assert!(!of(grant("*", &[READ, "append"]), "x").any());
    assert!(!of(grant("*", &[]), "x").any());
    assert!(!of(grant("*", &["READ"]), "x").any());
}

#[test]
fn expired_grant_admits_nobody() {
    for (expires_ms, admitted) in [(NOW + 1, true), (NOW, false), (0, false)] {
        let grant = Grant {
            expires_ms: Some(expires_ms),
            ..grant("*", &[READ])
        };
        assert_eq!(
            admits(STORE, std::slice::from_ref(&grant), GUEST, NOW),
            admitted
        );
        assert_eq!(of(grant, "x").any(), admitted);
    }
}

#[test]
fn grant_that_could_not_work_is_refused() {
    assert!(check(&grant("prices", &[READ, WRITE])).is_ok());
    let long = "x".repeat(GRANT_TEXT_BYTES_MAX + 1);
    let many = vec![READ; GRANT_RIGHTS_MAX + 1];
    for bad in [
        grant("", &[READ]),
        grant("*", &[]),
        grant("*", &["rule"]),
        grant(&long, &[READ]),
        grant("*", &many),
    ] {
        assert_eq!(check(&bad).unwrap_err().kind, ErrorKind::Invalid, "{bad:?}");
    }
}
