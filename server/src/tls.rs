//! TLS by pinned keys: both sides present a certificate, and what counts is the key inside.
//!
//! * TLS 1.3 only, ALPN [`ALPN`], one signature algorithm (Ed25519), the aws-lc-rs provider
//!   passed explicitly: no process-wide default is read or set.
//! * The handshake's signature is verified by the provider: a certificate without its private key
//!   is worth nothing.
//! * A client accepts exactly the key it was given. A server accepts any well-formed key here and
//!   decides by its grants once the handshake has shown that the peer holds it, so that it can
//!   name the address in its log and the reason to the peer (`listen`).
//! * Sessions are not resumed, so no ticket outlives a revoked grant; no 0-RTT data.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use objsync_proto::ids::PeerKey;
use objsync_proto::wire::ALPN;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    SignatureScheme,
};

use crate::certificate;
use crate::error::ServerError;
use crate::identity::Identity;

/// The provider both sides use. AES-128 comes first: it is the fastest where it is in hardware,
/// and QUIC's first packets need it anyway.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = vec![
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ];
        Arc::new(provider)
    });
    PROVIDER.clone()
}

/// Settings of a server that presents `identity` and lets any key prove itself.
pub(crate) fn server_tls(identity: &Identity) -> Result<rustls::ServerConfig, ServerError> {
    let (chain, key) = presented(identity)?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(AnyKey))
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

/// Settings of a client that presents `identity` and accepts the key `server` only, and where
/// another key that a server presents is written down.
pub(crate) fn client_tls(
    identity: &Identity,
    server: PeerKey,
) -> Result<(rustls::ClientConfig, SeenServer), ServerError> {
    let (chain, key) = presented(identity)?;
    let seen = SeenServer::default();
    let pinned = PinnedKey {
        server,
        seen: seen.clone(),
    };
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok((config, seen))
}

type Presented = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn presented(identity: &Identity) -> Result<Presented, ServerError> {
    let key = PrivatePkcs8KeyDer::from(identity.pkcs8());
    Ok((vec![certificate::self_signed(identity)?], key.into()))
}

/// The key of a server that was refused because another one is pinned.
///
/// The error of a failed handshake carries text only; this carries the key.
#[derive(Debug, Clone, Default)]
pub struct SeenServer(Arc<Mutex<Option<PeerKey>>>);

impl SeenServer {
    /// The last key refused, if any was.
    #[must_use]
    pub fn refused(&self) -> Option<PeerKey> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, found: PeerKey) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }
}

/// A client's verifier: one key, the store's.
#[derive(Debug)]
struct PinnedKey {
    server: PeerKey,
    seen: SeenServer,
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = certificate::verify_chain(first, rest, now)?;
        if found != self.server {
            self.seen.note(found);
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_handshake(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// A server's verifier: any Ed25519 key, shown to be held. Who may do what comes after.
#[derive(Debug)]
struct AnyKey;

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        certificate::verify_chain(first, rest, now).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_handshake(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

fn verify_handshake(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = provider().signature_verification_algorithms;
    verify_tls13_signature(message, certificate, signature, &algorithms)
}
