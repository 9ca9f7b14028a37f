use serde_json::json;

use super::*;
use crate::kafka::tests::{about, secret, spec};
use crate::secret::Secret;

fn given(pairs: &[(&'static str, &str)]) -> Given {
    pairs.iter().map(|(field, value)| (*field, Secret::new(*value))).collect()
}

#[test]
fn the_client_is_told_what_the_spec_says() {
    let options = options(&spec(json!({"consumers": 4})), &about(), &Given::default()).unwrap();
    for (option, value) in [
        ("bootstrap.servers", "a:9092,b:9092"),
        ("group.id", "knative-kafka-source-1-2-3"),
        ("client.id", "weft-shop-orders"),
        ("security.protocol", "plaintext"),
        ("enable.auto.commit", "false"),
        ("isolation.level", "read_committed"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("queued.max.messages.kbytes", "1024"),
    ] {
        assert_eq!(options.get(option), Some(value), "{option}");
    }
    // The library knows every option, and takes every value.
    options.create_native_config().unwrap();
}

#[test]
fn credentials_go_to_the_client_and_nowhere_else() {
    let net = json!({"net": {
        "sasl": {"enable": true, "user": secret("u"), "password": secret("p"), "type": secret("t")},
        "tls": {"enable": true, "cert": secret("c"), "key": secret("k"), "caCert": secret("ca")},
    }});
    let all = [
        (SASL_USER, "alice"),
        (SASL_PASSWORD, "s3cret"),
        (SASL_TYPE, "SCRAM-SHA-512"),
        (TLS_CERT, "C"),
        (TLS_KEY, "K"),
        (TLS_CA_CERT, "CA"),
    ];
    let options = options(&spec(net.clone()), &about(), &given(&all)).unwrap();
    for (option, value) in [
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "alice"),
        ("sasl.password", "s3cret"),
        ("ssl.certificate.pem", "C"),
        ("ssl.key.pem", "K"),
        ("ssl.ca.pem", "CA"),
    ] {
        assert_eq!(options.get(option), Some(value), "{option}");
    }
    let refused = |field: &'static str, value: &str| {
        let mut pairs = all.to_vec();
        pairs.retain(|(have, _)| *have != field);
        pairs.push((field, value));
        super::options(&spec(net.clone()), &about(), &given(&pairs)).unwrap_err().to_string()
    };
    assert_eq!(refused(SASL_PASSWORD, ""), "net.sasl.password: it is empty");
    assert!(refused(SASL_USER, "a\0b").starts_with("net.sasl.user: it holds"));
    assert!(refused(SASL_TYPE, "hunter2").starts_with("net.sasl.type: it is none of"));
    assert!(!refused(SASL_TYPE, "hunter2").contains("hunter2"));
    assert!(refused(SASL_TYPE, "OAUTHBEARER").contains("is not supported"));
}

#[test]
fn the_mechanism_is_plain_unless_told() {
    let net =
        json!({"net": {"sasl": {"enable": true, "user": secret("u"), "password": secret("p")}}});
    let pairs = [(SASL_USER, "alice"), (SASL_PASSWORD, "p")];
    let options = options(&spec(net), &about(), &given(&pairs)).unwrap();
    assert_eq!(options.get("sasl.mechanism"), Some("PLAIN"));
    assert_eq!(options.get("security.protocol"), Some("sasl_plaintext"));
}

#[test]
fn what_openssl_refuses_is_told_without_the_key() {
    let net = json!({"net": {"tls": {"enable": true, "cert": secret("c"), "key": secret("k")}}});
    let pairs = [(TLS_CERT, "no certificate"), (TLS_KEY, "the-secret-key")];
    let options = options(&spec(net), &about(), &given(&pairs)).unwrap();
    let callbacks = Callbacks::new(Ledger::new(0), "".into());
    let Err(Trouble::Config(why)) = make(&options, callbacks) else {
        panic!("such a certificate was accepted");
    };
    assert!(why.starts_with("net.tls: ssl."), "{why}");
    assert!(!why.contains("the-secret-key"), "{why}");
}

#[test]
fn errors_mean_what_the_supervisor_is_told() {
    let of = |code| match meaning(code, "why") {
        Meaning::Final(trouble) => SourceError::from(trouble).reason(),
        Meaning::Down => "down",
        Meaning::Passing => "passing",
    };
    assert_eq!(of(Code::Authentication), "CredentialsRefused");
    assert_eq!(of(Code::GroupAuthorizationFailed), "CredentialsRefused");
    assert_eq!(of(Code::UnknownTopicOrPartition), "UpstreamNotFound");
    assert_eq!(of(Code::Fatal), "UpstreamUnavailable");
    assert_eq!(of(Code::InconsistentGroupProtocol), "UpstreamUnavailable");
    assert_eq!(of(Code::InvalidSessionTimeout), "InvalidSpec");
    assert_eq!(of(Code::AllBrokersDown), "down");
    assert_eq!(of(Code::BrokerTransportFailure), "down");
    assert_eq!(of(Code::LeaderNotAvailable), "passing");
}
