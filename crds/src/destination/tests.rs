//! Destinations: what is a place to send to, and what is refused with which words.

use super::*;

const ABSENT: &str = "expected at least one, got none: ref, uri";
const RELATIVE: &str = "invalid value: Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent: uri";

/// A self-signed certificate, made for this test and used nowhere.
const CERTIFICATE: &str = include_str!("test-ca.pem");

fn refusal(destination: &Destination) -> String {
    destination.validate(None).to_string()
}

fn service() -> KReference {
    KReference::to("v1", "Service", "s")
}

#[test]
fn absolute_http_urls_are_places_to_send_to() {
    for uri in [
        "http://127.0.0.1:9090/",
        "https://s.example",
        "http://[::1]:80/x?y=z",
        "HTTP://S.example/",
    ] {
        assert_eq!(refusal(&Destination::at(uri)), "", "{uri}");
    }
}

#[test]
fn other_urls_are_refused() {
    assert_eq!(refusal(&Destination::default()), ABSENT);
    for uri in ["", "/path", "s.example", "//s.example/", "http:///x", "http:x", "http://:80/"] {
        assert_eq!(refusal(&Destination::at(uri)), RELATIVE, "{uri}");
    }
    let ftp = refusal(&Destination::at("ftp://s.example/"));
    assert_eq!(
        ftp,
        "invalid value: ftp://s.example/: uri\nevents are sent to http and https URLs only"
    );
    for uri in [
        "http://a b/",
        "http://a/\r\nx: y",
        "http://a:99999/",
        "http://[::1/",
        "http://a/ü",
        "http://a\\b/",
    ] {
        assert!(refusal(&Destination::at(uri)).starts_with("invalid value: "), "{uri}");
    }
}

#[test]
fn a_url_with_credentials_is_refused_without_repeating_them() {
    for uri in
        ["http://user:hunter2@s.example/", "https://hunter2@s.example", "ftp://hunter2@s.example/"]
    {
        let refused = refusal(&Destination::at(uri));
        assert!(
            refused.starts_with("invalid value: a URL with credentials: uri\n")
                && !refused.contains("hunter2"),
            "{refused}"
        );
    }
    assert_eq!(refusal(&Destination::at("http://s.example/@me?to=a@b")), "");
}

#[test]
fn a_reference_may_have_a_relative_path_only() {
    let mut destination = Destination {
        reference: Some(service()),
        uri: Some("/a/b".to_owned()),
        ..Destination::default()
    };
    assert_eq!(refusal(&destination), "");
    destination.uri = Some("http://a/".to_owned());
    let expected = "Absolute URI is not allowed when Ref or [apiVersion, kind, name] is present: [apiVersion, kind, name], ref, uri";
    assert_eq!(refusal(&destination), expected);
}

#[test]
fn a_reference_names_kind_version_and_name() {
    let destination =
        Destination { reference: Some(KReference::default()), ..Destination::default() };
    assert_eq!(refusal(&destination), "missing field(s): ref.apiVersion, ref.kind, ref.name");
    let mut reference = service();
    reference.group = "core".to_owned();
    assert_eq!(reference.validate(None).to_string(), "must not set the field(s): group");
    assert_eq!(
        KReference::to("eventing.knative.dev/v1", "Broker", "b").api_group(),
        "eventing.knative.dev"
    );
    assert_eq!(service().api_group(), "");
}

#[test]
fn a_reference_leaves_its_namespace_only_where_allowed() {
    let mut reference = service();
    assert_eq!(reference.validate(Some("a")).to_string(), "");
    reference.defaults("b");
    assert_eq!(reference.validate(None).to_string(), "");
    let expected =
        "mismatched namespaces: namespace\nparent namespace: \"a\" does not match ref: \"b\"";
    assert_eq!(reference.validate(Some("a")).to_string(), expected);
}

#[test]
fn certificates_must_be_certificates() {
    let with = |text: &str| Destination {
        ca_certs: Some(text.to_owned()),
        ..Destination::at("https://s.example/")
    };
    assert_eq!(refusal(&with(CERTIFICATE)), "");
    assert_eq!(refusal(&with(&format!("{CERTIFICATE}{CERTIFICATE}"))), "");
    assert_eq!(refusal(&with("nope")), "invalid value: CA Cert provided is invalid: caCert");
    assert_eq!(refusal(&with("")), "invalid value: CA Cert provided is invalid: caCert");
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(refusal(&with(garbage)), "invalid value: CA Cert provided is invalid: caCert");
    assert_eq!(
        refusal(&with(&format!("{CERTIFICATE}{garbage}"))),
        "invalid value: CA Cert provided is invalid: caCert"
    );
    let key = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    assert_eq!(refusal(&with(key)), "invalid value: CA Cert provided is not a certificate: caCert");
}
