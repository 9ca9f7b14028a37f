//! Secrets as servers, and answers as errors.

use super::*;
use crate::given::Necessity;

fn given(values: &[(&'static str, &str)]) -> Given {
    values.iter().map(|(field, value)| (*field, Secret::new(*value))).collect()
}

fn login(values: &[(&'static str, &str)]) -> Given {
    given(&[&[(field::USER, "shop"), (field::PASSWORD, "p:/@%")], values].concat())
}

fn server(values: &[(&'static str, &str)]) -> Result<(String, u16, bool), String> {
    match Server::new(&login(values)) {
        Ok(server) => Ok((server.host, server.port, server.tls.is_some())),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_host_is_that_of_the_uri_and_the_port_that_of_amqp() {
    let at = |uri| server(&[(field::URI, uri)]);
    let found = |host: &str, port, tls| Ok((host.to_owned(), port, tls));
    assert_eq!(at("http://rabbit.example.com"), found("rabbit.example.com", 5672, false));
    assert_eq!(at("http://rabbit:15672/api?a=b"), found("rabbit", 5672, false));
    assert_eq!(at("rabbit:15672\n"), found("rabbit", 5672, false));
    assert_eq!(at("HTTPS://rabbit:15671"), found("rabbit", 5672, true));
    assert_eq!(at("amqp://rabbit"), found("rabbit", 5672, false));
    assert_eq!(at("amqps://user:p@rabbit/vhost"), found("rabbit", 5671, true));
    assert_eq!(at("amqp://[::1]:5673"), found("::1", 5673, false));
    assert_eq!(at("http://[::1]:15672"), found("::1", 5672, false));
    for wrong in [
        "ftp://rabbit",
        "http://",
        "amqp://rabbit:0",
        "amqp://rabbit:x",
        "http://[::1",
        "http://a b",
    ] {
        let expected = "rabbitmqClusterReference.connectionSecret.uri: it is not a URL such as http://rabbitmq.example.com";
        assert_eq!(at(wrong), Err(expected.to_owned()), "{wrong}");
    }
}

#[test]
fn a_port_of_its_own_decides() {
    let at = |port| server(&[(field::URI, "amqps://rabbit:1"), (field::PORT, port)]);
    assert_eq!(at(" 5679\n"), Ok(("rabbit".to_owned(), 5679, true)));
    let refused = Err("rabbitmqClusterReference.port: it is not a port".to_owned());
    assert_eq!(at("70000"), refused);
    assert_eq!(at("0"), refused);
}

#[test]
fn a_cluster_speaks_tls_on_the_port_for_it() {
    let at = |port| server(&[(field::HOST, "c.n.svc"), (field::PORT, port)]);
    assert_eq!(at("5672"), Ok(("c.n.svc".to_owned(), 5672, false)));
    assert_eq!(at("5671"), Ok(("c.n.svc".to_owned(), 5671, true)));
    assert_eq!(server(&[(field::HOST, "c")]), Ok(("c".to_owned(), 5672, false)));
}

#[test]
fn what_is_missing_or_wrong_is_named_without_its_value() {
    let error = Server::new(&given(&[(field::URI, "rabbit"), (field::USER, "u")])).unwrap_err();
    assert_eq!(error.to_string(), "rabbitmqClusterReference.password: it is missing");
    let wrong = server(&[(field::URI, "https://rabbit"), (field::AUTHORITIES, "no certificate")]);
    let expected = "rabbitmqClusterReference.ca.crt: it does not hold certificates in PEM";
    assert_eq!(wrong, Err(expected.to_owned()));
    let shown = format!("{:?}", Server::new(&login(&[(field::URI, "rabbit")])).unwrap());
    assert!(!shown.contains("shop") && !shown.contains("p:/@%"), "{shown}");
}

#[test]
fn a_secret_or_that_of_a_cluster_is_needed() {
    let named = |place| {
        let needs = needs(place).into_iter();
        needs
            .map(|need| (need.name, need.key, need.necessity == Necessity::Optional))
            .collect::<Vec<_>>()
    };
    let parts = |secret: &str, address: &str| {
        [
            (address, false),
            ("username", false),
            ("password", false),
            ("port", true),
            ("ca.crt", true),
        ]
        .map(|(key, optional)| (secret.to_owned(), Some(key.to_owned()), optional))
    };
    assert_eq!(named(Place::Secret("s")), parts("s", "uri"));
    assert_eq!(named(Place::Cluster("c")), parts("c-default-user", "host"));
    let missing = needs(Place::Secret("s")).remove(0).missing;
    assert_eq!(missing, Some(("SecretReady", "SecretFailure")));
}

#[test]
fn an_answer_says_what_can_be_done() {
    let server = Server::new(&login(&[(field::URI, "rabbit")])).unwrap();
    let reason = |code, text: &str| {
        let error = server.failed("try", AmqpError::Refused { code, text: text.to_owned() });
        assert!(error.is_retryable());
        (error.reason(), error.to_string())
    };
    let (refused, text) =
        reason(403, "ACCESS_REFUSED - access to queue 'q' refused for user 'shop'");
    assert_eq!(refused, "CredentialsRefused");
    assert_eq!(
        text,
        "try: the server answered 403: ACCESS_REFUSED - access to queue 'q' refused for user '…'"
    );
    assert_eq!(reason(403, "queue 'q' in exclusive use").0, "UpstreamUnavailable");
    assert_eq!(reason(404, "NOT_FOUND - no queue 'q'").0, "UpstreamNotFound");
    assert_eq!(reason(530, "NOT_ALLOWED - vhost v not found").0, "UpstreamNotFound");
    assert_eq!(reason(530, "NOT_ALLOWED - access to vhost refused").0, "CredentialsRefused");
    assert_eq!(reason(320, "CONNECTION_FORCED - broker forced").0, "UpstreamUnavailable");
    assert_eq!(reason(406, "PRECONDITION_FAILED - inequivalent arg").0, "UpstreamUnavailable");
    let broken = server.failed("try", AmqpError::Silent(Duration::from_secs(1)));
    assert_eq!(broken.reason(), "UpstreamUnavailable");
}
