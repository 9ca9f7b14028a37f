use std::time::Duration;

use async_nats::{ConnectError, ConnectErrorKind};
use crds::secret_ref::SecretValueFromSource;

use super::{CREDENTIALS, NKEY, delay, failure, is_harmless, is_refusal, needs, options, servers};
use crate::given::{Given, Need};
use crate::nats::spec::{NatsAuth, NatsSource, NatsTls};
use crate::secret::Secret;
use crate::source::SourceError;

fn at(key: &str) -> Option<SecretValueFromSource> {
    Some(SecretValueFromSource::at("nats", key))
}

fn with(auth: NatsAuth) -> NatsSource {
    NatsSource {
        servers: vec!["nats.example.com".to_owned()],
        auth: Some(auth),
        ..NatsSource::default()
    }
}

fn given(values: &[(&'static str, &str)]) -> Given {
    values.iter().map(|(field, value)| (*field, Secret::new(*value))).collect()
}

#[test]
fn each_secret_is_needed_under_its_field() {
    let spec = NatsSource {
        tls: Some(NatsTls { enable: true, ca_cert: at("ca"), cert: at("crt"), key: at("key") }),
        ..with(NatsAuth { user: at("u"), password: at("p"), ..NatsAuth::default() })
    };
    assert_eq!(
        needs(&spec),
        [
            Need::secret("auth.user", "nats", "u"),
            Need::secret("auth.password", "nats", "p"),
            Need::secret("tls.caCert", "nats", "ca"),
            Need::secret("tls.cert", "nats", "crt"),
            Need::secret("tls.key", "nats", "key"),
        ]
    );
    assert_eq!(needs(&NatsSource::default()), []);
}

#[test]
fn secrets_that_are_none_are_named_by_their_field_and_not_shown() {
    let creds = with(NatsAuth { credentials: at("c"), ..NatsAuth::default() });
    let error = options(&creds, &given(&[(CREDENTIALS, "s3cret")])).unwrap_err();
    assert_eq!(error.to_string(), "auth.credentials: it is not a NATS credentials file");
    let error = options(&creds, &Given::default()).unwrap_err();
    assert_eq!(error.to_string(), "auth.credentials: it is missing");
    let tls = NatsSource {
        tls: Some(NatsTls { ca_cert: at("ca"), ..NatsTls::default() }),
        ..NatsSource::default()
    };
    let error = options(&tls, &given(&[("tls.caCert", "s3cret")])).unwrap_err();
    assert_eq!(error.to_string(), "tls.caCert: it does not hold certificates in PEM");
}

#[test]
fn options_show_nothing_secret() {
    let user = with(NatsAuth { user: at("u"), password: at("p"), ..NatsAuth::default() });
    let values = given(&[("auth.user", "alice"), ("auth.password", "s3cret")]);
    let shown = format!("{:?}", options(&user, &values).unwrap());
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(options(&user, &given(&[("auth.user", "alice")])).is_err());
    for (auth, field) in [
        (NatsAuth { token: at("t"), ..NatsAuth::default() }, "auth.token"),
        (NatsAuth { nkey: at("n"), ..NatsAuth::default() }, NKEY),
    ] {
        let shown = format!("{:?}", options(&with(auth), &given(&[(field, "s3cret")])).unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

#[test]
fn servers_are_named_without_their_scheme() {
    let spec = NatsSource {
        servers: vec!["tls://a:1".to_owned(), "b".to_owned()],
        ..NatsSource::default()
    };
    let (names, addresses) = servers(&spec).unwrap();
    assert_eq!(names, "a:1, b:4222");
    assert!(addresses[0].tls_required() && !addresses[1].tls_required());
    let bad = NatsSource { servers: vec!["ftp://a".to_owned()], ..NatsSource::default() };
    assert!(matches!(servers(&bad), Err(SourceError::Config(_))));
}

#[test]
fn a_failure_to_connect_says_what_can_help() {
    let spec = with(NatsAuth { token: at("t"), ..NatsAuth::default() });
    let of = |kind, text: &str, spec: &NatsSource| {
        let error = ConnectError::with_source(kind, text.to_owned());
        failure("connect to NATS at a:4222".to_owned(), &error, spec)
    };
    let error = of(ConnectErrorKind::AuthorizationViolation, "", &spec);
    assert_eq!(error.to_string(), "connect to NATS at a:4222: it refused the credentials");
    assert_eq!(error.reason(), "CredentialsRefused");
    let error = of(ConnectErrorKind::AuthorizationViolation, "", &NatsSource::default());
    assert_eq!(
        error.to_string(),
        "connect to NATS at a:4222: it asks for credentials, and auth names none"
    );
    let error = of(ConnectErrorKind::Authentication, "", &spec);
    assert_eq!(error.to_string(), "auth.nkey: it is not the seed of an NKey");
    assert!(!error.is_retryable());
    let error = of(ConnectErrorKind::Io, "nats: User Authentication Expired", &spec);
    assert_eq!(error.reason(), "CredentialsRefused");
    let error = of(ConnectErrorKind::Io, "connection refused", &spec);
    assert_eq!(error.reason(), "UpstreamUnavailable");
    assert!(error.is_retryable());
}

#[test]
fn a_server_is_asked_again_soon_but_not_at_once() {
    let waits: Vec<u128> = (0..8).map(|attempt| delay(attempt).as_millis()).collect();
    assert_eq!(waits, [0, 0, 100, 200, 300, 400, 500, 500]);
    assert_eq!(delay(usize::MAX), Duration::from_millis(500));
}

#[test]
fn refusals_are_told_from_other_complaints() {
    for text in [
        "Authorization Violation",
        "User Authentication Expired",
        "Permissions Violation for Subscription to \"a\"",
    ] {
        assert!(is_refusal(text), "{text}");
    }
    for text in ["Maximum Payload Violation", "Stale Connection", "Slow Consumer"] {
        assert!(!is_refusal(text), "{text}");
    }
    for (text, to_listeners, to_readers) in [
        ("Permissions Violation for Publish to \"a\"", true, false),
        ("Permissions Violation for Subscription to \"_INBOX.x.*\"", true, false),
        ("Permissions Violation for Subscription to \"a\"", false, false),
        ("Permissions Violation for Publish to \"$JS.API.STREAM.MSG.GET.S\"", true, true),
    ] {
        assert_eq!(is_harmless(text, true), to_listeners, "{text}");
        assert_eq!(is_harmless(text, false), to_readers, "{text}");
    }
}
