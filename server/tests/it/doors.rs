//! Who gets in, and what whoever does may see and do.

use objsync_proto::error::ErrorKind;
use objsync_proto::wire::{Grant, Reply, Request, ToOwner};
use objsync_server::{Identity, ServerError, Udp, dial};
use quinn::ConnectionError;

use crate::peer::{Client, NAMESPACE, Owner, connect, endpoint, guest, put, within};

#[tokio::test]
async fn key_nobody_granted_is_refused_by_name() {
    let owner = Owner::start();
    let stranger = Identity::generate().unwrap();
    let refused = Client::connect(&owner, &stranger, NAMESPACE)
        .await
        .err()
        .unwrap();
    assert_eq!(refused.kind, ErrorKind::Denied);
    assert!(
        refused.message.contains(&stranger.peer().to_string()),
        "{refused}"
    );
}

#[tokio::test]
async fn server_with_another_key_is_refused_by_the_client() {
    let owner = Owner::start();
    let expected = Identity::generate().unwrap().peer();
    let (address, found) = (owner.server.address(), owner.server.key());
    match within(dial(&Udp, address, &owner.identity(), expected)).await {
        Err(ServerError::ForeignServer {
            found: named,
            expected: pinned,
        }) => {
            assert_eq!((named, pinned), (found, expected));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn client_without_a_certificate_is_refused() {
    let owner = Owner::start();
    let crypto = anonymous_client();
    let endpoint = endpoint();
    let config = quinn::ClientConfig::new(std::sync::Arc::new(crypto));
    let connecting = endpoint
        .connect_with(config, owner.server.address(), "objsync")
        .unwrap();
    // A client's side of TLS 1.3 is done before the server has seen what it presents.
    let error = match within(connecting).await {
        Ok(connection) => within(connection.closed()).await,
        Err(error) => error,
    };
    assert!(
        matches!(error, ConnectionError::ConnectionClosed(_)),
        "{error}"
    );
}

/// A TLS client that trusts anybody and presents nothing.
fn anonymous_client() -> quinn::crypto::rustls::QuicClientConfig {
    use quinn::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified};
    use quinn::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use quinn::rustls::{self, DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    struct Trusting;
    impl rustls::client::danger::ServerCertVerifier for Trusting {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(std::sync::Arc::new(Trusting))
        .with_no_client_auth();
    config.alpn_protocols = vec![objsync_proto::wire::ALPN.to_vec()];
    config.try_into().unwrap()
}

#[tokio::test]
async fn read_only_guest_reads_and_its_writes_are_denied() {
    let owner = Owner::start();
    let mut writer = owner.client().await;
    writer.open_session().await;
    writer.put("a", "1").await;
    let identity = guest(&owner, NAMESPACE, &["read"]);
    let mut reader = Client::connect(&owner, &identity, NAMESPACE).await.unwrap();
    assert!(!reader.welcome.may_write);
    assert_eq!(reader.get("a").await.as_deref(), Some("1"));
    let mut events = reader.subscribe(None).await;
    assert_eq!(events.state().await.0.len(), 1);
    // Even one that does not look at what it was told.
    reader.write(1, put("a", "2")).await;
    assert_eq!(reader.answer().await.1.unwrap_err().kind, ErrorKind::Denied);
    let made = reader
        .request(Request::CreateNamespace { content: vec![] })
        .await;
    assert_eq!(made.unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(writer.get("a").await.as_deref(), Some("1"));
    reader.send(&ToOwner::OpenSession).await;
    assert_eq!(reader.closed().await.kind, ErrorKind::Denied);
}

#[tokio::test]
async fn write_only_guest_sees_nothing() {
    let owner = Owner::start();
    let identity = guest(&owner, NAMESPACE, &["write"]);
    let mut blind = Client::connect(&owner, &identity, NAMESPACE).await.unwrap();
    blind.open_session().await;
    blind.put("a", "1").await;
    for request in [
        Request::Get {
            key: crate::peer::encoded("a"),
        },
        Request::Count,
        Request::Subscribe {
            subscription: 1,
            range: Default::default(),
            since: None,
        },
        Request::Fetch {
            subscription: 2,
            range: Default::default(),
            reverse: false,
        },
    ] {
        let denied = blind.request(request.clone()).await.unwrap_err();
        assert_eq!(denied.kind, ErrorKind::Denied, "{request:?}");
    }
}

#[tokio::test]
async fn guest_of_another_dictionary_sees_nothing_here() {
    let owner = Owner::start();
    owner.store.create_namespace("prices", vec![]).unwrap();
    let identity = guest(&owner, "prices", &["read", "write"]);
    for elsewhere in [NAMESPACE, "price", "missing"] {
        let refused = Client::connect(&owner, &identity, elsewhere)
            .await
            .err()
            .unwrap();
        assert_eq!(refused.kind, ErrorKind::Denied, "{elsewhere}");
    }
    assert!(Client::connect(&owner, &identity, "prices").await.is_ok());
}

#[tokio::test]
async fn grants_are_made_listed_and_revoked_by_the_stores_own_key_only() {
    let owner = Owner::start();
    let mut admin = owner.client().await;
    let friend = Identity::generate().unwrap();
    let grant = Grant {
        peer: friend.peer(),
        scope: NAMESPACE.to_owned(),
        rights: vec!["read".to_owned()],
        expires_ms: None,
        label: "friend".to_owned(),
    };
    assert_eq!(
        admin.request(Request::Grant(grant.clone())).await,
        Ok(Reply::Done)
    );
    let listed = admin.request(Request::Grants).await;
    assert_eq!(listed, Ok(Reply::Grants(vec![grant.clone()])));

    let mut guest = Client::connect(&owner, &friend, NAMESPACE).await.unwrap();
    let everything = Grant {
        rights: vec!["write".to_owned()],
        ..grant.clone()
    };
    for request in [
        Request::Grant(everything),
        Request::Grants,
        Request::Revoke {
            peer: friend.peer(),
        },
    ] {
        assert_eq!(
            guest.request(request).await.unwrap_err().kind,
            ErrorKind::Denied
        );
    }
    let revoke = || Request::Revoke {
        peer: friend.peer(),
    };
    assert_eq!(admin.request(revoke()).await, Ok(Reply::Done));
    assert_eq!(guest.closed().await.kind, ErrorKind::Denied, "cut at once");
    let refused = Client::connect(&owner, &friend, NAMESPACE)
        .await
        .err()
        .unwrap();
    assert_eq!(refused.kind, ErrorKind::Denied);
    assert_eq!(
        admin.request(revoke()).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
}

#[tokio::test]
async fn grant_ends_when_it_says_so() {
    let owner = Owner::start();
    let identity = Identity::generate().unwrap();
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let now_ms = u64::try_from(since.as_millis()).unwrap();
    let grant = |expires_ms| Grant {
        peer: identity.peer(),
        scope: "*".to_owned(),
        rights: vec!["read".to_owned()],
        expires_ms: Some(expires_ms),
        label: String::new(),
    };
    owner.store.grant(grant(now_ms - 1)).unwrap();
    let refused = Client::connect(&owner, &identity, NAMESPACE)
        .await
        .err()
        .unwrap();
    assert_eq!(refused.kind, ErrorKind::Denied, "already over");
    owner.store.grant(grant(now_ms + 1_000)).unwrap();
    let guest = Client::connect(&owner, &identity, NAMESPACE).await.unwrap();
    assert_eq!(
        guest.closed().await.kind,
        ErrorKind::Denied,
        "over while connected"
    );
}

#[tokio::test]
async fn guest_learns_nothing_of_the_owners_machine() {
    let owner = Owner::start();
    let directory = owner.directory.path().display().to_string();
    let status = owner.client().await.request(Request::Status).await.unwrap();
    assert!(matches!(status, Reply::Status(status) if status.directory == directory));
    let identity = guest(&owner, NAMESPACE, &["read"]);
    let mut guest = Client::connect(&owner, &identity, NAMESPACE).await.unwrap();
    let status = guest.request(Request::Status).await.unwrap();
    let Reply::Status(status) = status else {
        panic!("{status:?}")
    };
    assert_eq!((status.directory.as_str(), status.pid), ("", 0));
}

#[tokio::test]
async fn peer_with_another_protocol_does_not_connect() {
    let owner = Owner::start();
    let identity = owner.identity();
    assert!(connect(&owner, &identity).await.is_ok());
    let mut crypto = quinn::rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(
        quinn::rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_protocol_versions(&[&quinn::rustls::version::TLS13])
    .unwrap()
    .with_root_certificates(quinn::rustls::RootCertStore::empty())
    .with_no_client_auth();
    crypto.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(crypto).unwrap();
    let config = quinn::ClientConfig::new(std::sync::Arc::new(crypto));
    let endpoint = endpoint();
    let connecting = endpoint
        .connect_with(config, owner.server.address(), "objsync")
        .unwrap();
    assert!(within(connecting).await.is_err());
}
