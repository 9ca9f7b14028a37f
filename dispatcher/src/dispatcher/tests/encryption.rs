//! Targets with certificates of their own.

use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::subscriber::{Subscriber, answer};
use super::world::{World, event, trigger};

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap()
}

fn acceptor(certified: &CertifiedKey<KeyPair>) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A world whose only trigger trusts `ca_certs` and whose subscriber shows `shown`.
async fn world(ca_certs: Option<String>, shown: &CertifiedKey<KeyPair>) -> (World, Subscriber) {
    let subscriber = Subscriber::encrypted(acceptor(shown), |_| answer(202, "")).await;
    let mut only =
        trigger("t", format!("https://127.0.0.1:{}/", subscriber.port()).parse().unwrap());
    only.subscriber.ca_certs = ca_certs;
    let world = World::with(vec![only]).await;
    world.send(event("1")).await;
    world.drained("t").await;
    (world, subscriber)
}

#[tokio::test]
async fn a_target_is_trusted_by_the_certificates_it_comes_with() {
    let certified = certificate();
    let (world, subscriber) = world(Some(certified.cert.pem()), &certified).await;
    assert_eq!(subscriber.ids(), ["1"]);
    assert_eq!(subscriber.calls()[0].header("host"), format!("127.0.0.1:{}", subscriber.port()));
    assert!(world.store.parked("default/t").is_empty());
}

#[tokio::test]
async fn a_target_nobody_vouches_for_gets_nothing() {
    let shown = certificate();
    for trusted in [None, Some(certificate().cert.pem())] {
        let (world, subscriber) = world(trusted, &shown).await;
        assert!(subscriber.calls().is_empty());
        let parked = world.store.parked("default/t");
        assert!(parked[0].reason.contains("certificate"), "{}", parked[0].reason);
    }
}
