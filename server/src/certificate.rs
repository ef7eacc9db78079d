//! Certificates as envelopes of keys: what is pinned is the raw Ed25519 key inside.
//!
//! A peer presents one certificate of its own key, or two: a node's, signed by the key that the
//! peer is known by, and that key's own. Names in a certificate mean nothing here, dates only in
//! the node's certificate of a chain of two.

use objsync_proto::ids::PeerKey;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

use crate::error::ServerError;
use crate::identity::Identity;
use crate::tls::provider;

/// The name in our certificates and in the TLS hello. Nobody checks it.
pub const SERVER_NAME: &str = "objsync";

/// What stands before the 32 bytes of an Ed25519 key in a certificate (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Makes the certificate of `identity`, signed by itself.
pub(crate) fn self_signed(identity: &Identity) -> Result<CertificateDer<'static>, ServerError> {
    let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(identity.pkcs8()))?;
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, SERVER_NAME);
    Ok(params.self_signed(&pair)?.der().clone())
}

/// The key that a chain speaks for, after checking the signature inside a chain of two.
///
/// That the peer holds the first certificate's key is shown by the handshake, not here.
pub(crate) fn verify_chain(
    first: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<PeerKey, Error> {
    let own = key_inside(first)?;
    let [issuer] = rest else {
        return if rest.is_empty() {
            Ok(own)
        } else {
            Err(CertificateError::BadEncoding.into())
        };
    };
    let key = key_inside(issuer)?;
    let mut anchors = RootCertStore::empty();
    anchors.add(issuer.clone().into_owned())?;
    verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(first)?,
        &anchors,
        &[],
        now,
        provider().signature_verification_algorithms.all,
    )?;
    Ok(key)
}

/// The key that a chain speaks for, once [`verify_chain`] has passed it.
pub(crate) fn chain_key(chain: &[CertificateDer<'_>]) -> Option<PeerKey> {
    key_inside(chain.last()?).ok()
}

fn key_inside(certificate: &CertificateDer<'_>) -> Result<PeerKey, Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    parsed
        .subject_public_key_info()
        .strip_prefix(&SPKI_PREFIX)
        .and_then(|key| key.try_into().ok())
        .map(PeerKey)
        .ok_or_else(|| CertificateError::BadSignature.into())
}

#[cfg(test)]
mod tests;
