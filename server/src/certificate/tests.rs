use rcgen::{Issuer, date_time_ymd};

use super::*;

fn identity() -> Identity {
    Identity::generate().unwrap()
}

fn pair(identity: &Identity) -> KeyPair {
    KeyPair::try_from(&PrivatePkcs8KeyDer::from(identity.pkcs8())).unwrap()
}

/// A certificate of `node`, signed by `signer` in the name of our self-signed certificates.
fn signed(node: &Identity, signer: &Identity, until_year: i32) -> CertificateDer<'static> {
    let mut name = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
    name.distinguished_name = DistinguishedName::new();
    name.distinguished_name
        .push(DnType::CommonName, SERVER_NAME);
    let mut params = name.clone();
    params.not_after = date_time_ymd(until_year, 1, 1);
    let issuer = Issuer::new(name, pair(signer));
    params
        .signed_by(&pair(node), &issuer)
        .unwrap()
        .der()
        .clone()
}

#[test]
fn certificate_gives_back_the_key_it_was_made_of() {
    let identity = identity();
    let certificate = self_signed(&identity).unwrap();
    let key = verify_chain(&certificate, &[], UnixTime::now()).unwrap();
    assert_eq!(key, identity.peer());
    assert_eq!(chain_key(&[certificate]), Some(identity.peer()));
}

#[test]
fn node_signed_by_the_store_speaks_for_the_store() {
    let (store, node) = (identity(), identity());
    let chain = [signed(&node, &store, 4000), self_signed(&store).unwrap()];
    let key = verify_chain(&chain[0], &chain[1..], UnixTime::now()).unwrap();
    assert_eq!(key, store.peer());
    assert_eq!(chain_key(&chain), Some(store.peer()));
}

#[test]
fn node_that_the_store_did_not_sign_is_refused() {
    let (store, thief) = (identity(), identity());
    // The store's certificate is public, so a thief can append it to one of his own.
    let issuer = self_signed(&store).unwrap();
    for first in [signed(&thief, &thief, 4000), self_signed(&thief).unwrap()] {
        assert!(verify_chain(&first, std::slice::from_ref(&issuer), UnixTime::now()).is_err());
    }
}

#[test]
fn node_whose_certificate_has_expired_is_refused() {
    let (store, node) = (identity(), identity());
    let first = signed(&node, &store, 2001);
    assert!(verify_chain(&first, &[self_signed(&store).unwrap()], UnixTime::now()).is_err());
}

#[test]
fn chain_of_three_is_refused() {
    let (store, node) = (identity(), identity());
    let issuer = self_signed(&store).unwrap();
    let first = signed(&node, &store, 4000);
    assert!(verify_chain(&first, &[issuer.clone(), issuer], UnixTime::now()).is_err());
}

#[test]
fn key_of_another_algorithm_is_refused() {
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
    let certificate = params.self_signed(&pair).unwrap().der().clone();
    assert!(verify_chain(&certificate, &[], UnixTime::now()).is_err());
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    for bytes in [vec![], vec![0x30], vec![0xff; 300]] {
        assert!(verify_chain(&CertificateDer::from(bytes), &[], UnixTime::now()).is_err());
    }
}
