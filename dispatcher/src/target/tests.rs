use broker_event::EventBuilder;
use http::header::HOST;
use proptest::prelude::proptest;

use super::*;

fn endpoint(url: &str) -> Result<Endpoint, TargetError> {
    let mut clients = Clients::new();
    Endpoint::new(
        &Target::new(url.parse().unwrap()),
        Role::Subscriber,
        None,
        "default",
        &mut clients,
    )
}

/// A header of every request.
fn header(endpoint: &Endpoint, name: &HeaderName) -> Option<String> {
    let event = EventBuilder::new("1", "/s", "t").build().unwrap();
    let head = String::from_utf8(endpoint.message(&event).head).unwrap();
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(have, _)| name == have).map(|(_, value)| value.to_owned())
}

#[test]
fn an_address_is_an_absolute_web_url() {
    for url in ["/relative", "host", "ftp://host/", "host:80", "*"] {
        let error = endpoint(url).unwrap_err();
        assert_eq!(error.to_string(), format!("{url} is not an absolute http or https URL"));
    }
    assert_eq!(endpoint("http://host").unwrap().url().to_string(), "http://host/");
    assert_eq!(
        endpoint("https://host:8443/a?b=c").unwrap().url().to_string(),
        "https://host:8443/a?b=c"
    );
}

#[test]
fn the_host_header_leaves_out_the_port_the_scheme_implies() {
    for (url, host) in [
        ("http://host:80/", "host"),
        ("https://host:443/", "host"),
        ("http://host:443/", "host:443"),
        ("http://[::1]:8080/", "[::1]:8080"),
    ] {
        assert_eq!(header(&endpoint(url).unwrap(), &HOST).unwrap(), host);
    }
}

#[test]
fn credentials_are_shown_nowhere() {
    let endpoint = endpoint("http://user:secret@host/path").unwrap();
    assert_eq!(endpoint.url().to_string(), "http://host/path");
    assert_eq!(header(&endpoint, &AUTHORIZATION).unwrap(), "Basic dXNlcjpzZWNyZXQ=");
    assert!(!format!("{endpoint:?}").contains("dXNlcjpzZWNyZXQ"));
    let error = self::endpoint("ftp://user:secret@host/").unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn a_reason_is_one_line_of_bounded_length() {
    assert_eq!(bounded("a\r\nb\u{0}c\u{1b}"), "a  b c ");
    assert_eq!(bounded(&"é".repeat(1000)).len(), Outcome::MAX_REASON);
}

#[test]
fn an_error_is_described_with_its_causes_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("top: {0}")]
    struct Top(#[source] Outer);

    let error = Top(Outer(std::io::Error::other("refused")));
    assert_eq!(describe(&error), "top: outer: refused");
}

proptest! {
    #[test]
    fn any_text_makes_a_reason_that_fits(text: String) {
        let reason = bounded(&text);
        assert!(reason.len() <= Outcome::MAX_REASON && !reason.contains(char::is_control));
    }
}
