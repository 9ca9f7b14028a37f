//! What the HTTP binding reads, refuses and writes.

use ::http::HeaderMap;
use ::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use bytes::Bytes;

use super::*;
use crate::event::{SpecVersion, Value};
use crate::{EventBuilder, MAX_EXTENSIONS};

const REQUIRED: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];

fn headers<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> HeaderMap {
    let field = |(name, value): (&str, &str)| {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        (HeaderName::try_from(name).unwrap(), value)
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields.into_iter().map(field) {
        headers.append(name, value);
    }
    headers
}

fn try_binary(more: &[(&str, &str)], body: &'static [u8]) -> Result<Event, ReadError> {
    let fields = REQUIRED.into_iter().chain(more.iter().copied());
    let mut received = read(&headers(fields), Bytes::from_static(body))?;
    assert_eq!(received.mode, Mode::Binary);
    Ok(received.events.remove(0))
}

fn binary(more: &[(&str, &str)]) -> Event {
    try_binary(more, b"").unwrap()
}

fn refused(more: &[(&str, &str)]) -> String {
    try_binary(more, b"").unwrap_err().to_string()
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> &'a [u8] {
    headers[name].as_bytes()
}

#[test]
fn a_binary_message_is_headers_and_untouched_body() {
    let more = [
        ("ce-subject", "sub"),
        ("ce-time", "2026-11-23T10:00:00Z"),
        ("ce-dataschema", "urn:x"),
        ("ce-myext", "v"),
        ("content-type", "application/json"),
        ("x-other", "ignored"),
    ];
    let event = try_binary(&more, b"{ not json").unwrap();
    assert_eq!(event.data().unwrap(), "{ not json");
    assert_eq!(event.data_content_type(), Some("application/json"));
    assert_eq!(event.subject(), Some("sub"));
    assert_eq!(event.time(), Some("2026-11-23T10:00:00Z"));
    assert_eq!(event.data_schema(), Some("urn:x"));
    assert_eq!(event.extensions().collect::<Vec<_>>(), [("myext", &Value::from("v"))]);
}

#[test]
fn the_attributes_share_one_buffer() {
    let event = binary(&[("ce-subject", "sub"), ("content-type", "text/plain")]);
    let (id, last) = (event.id().as_ptr(), event.data_content_type().unwrap().as_ptr());
    assert!(last.addr() > id.addr() && last.addr() - id.addr() < 64);
}

#[test]
fn percent_escapes_are_decoded_once_and_strays_stay() {
    for (value, text) in [
        ("caf%C3%A9", "café"),
        ("café", "café"),
        ("100%", "100%"),
        ("%zz%4", "%zz%4"),
        ("%2541", "%41"),
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("\"quoted \\\"text\\\" 100%25\"", "quoted \"text\" 100%"),
        ("\"stray\" quote\"", "\"stray\" quote\""),
        ("\"", "\""),
        ("\"open\\\"", "\"open\\\""),
    ] {
        assert_eq!(binary(&[("ce-subject", value)]).subject(), Some(text), "{value}");
    }
}

#[test]
fn what_headers_cannot_carry_is_escaped() {
    let event = EventBuilder::new("a b", "/s", "\"t\"")
        .subject("100% café~")
        .extension("plain", "!#az~")
        .extension("count", 7)
        .extension("yes", true)
        .extension("no", false)
        .extension("none", "")
        .build()
        .unwrap();
    let mut headers = HeaderMap::new();
    assert_eq!(write_binary(&event, &mut headers), Bytes::new());
    let expected: [(&str, &str); 9] = [
        ("ce-id", "a%20b"),
        ("ce-source", "/s"),
        ("ce-type", "%22t%22"),
        ("ce-subject", "100%25%20caf%C3%A9~"),
        ("ce-plain", "!#az~"),
        ("ce-count", "7"),
        ("ce-yes", "true"),
        ("ce-no", "false"),
        ("ce-none", ""),
    ];
    for (name, value) in expected {
        assert_eq!(field(&headers, name), value.as_bytes(), "{name}");
    }
    assert!(!headers.contains_key(CONTENT_TYPE));
}

#[test]
fn headers_of_an_earlier_message_are_replaced() {
    let event = binary(&[]);
    let mut headers = headers([("content-type", "text/plain"), ("ce-id", "old")]);
    let _body = write_binary(&event, &mut headers);
    assert_eq!(field(&headers, "ce-id"), b"1");
    assert!(!headers.contains_key(CONTENT_TYPE));
}

#[test]
fn each_refusal_names_the_header() {
    for (name, value, sentence) in [
        ("ce-id", "2", "attribute id is given more than once"),
        ("ce-subject", "%FF", "header ce-subject is not valid UTF-8"),
        ("ce-subject", "%C0%A0", "header ce-subject is not valid UTF-8"),
        ("ce-subject", "a%0Ab", "attribute subject contains the control character U+000A"),
        ("ce-subject", "a\tb", "attribute subject contains the control character U+0009"),
        ("ce-a-b", "x", "extension name \"a-b\" must be 1 to 255 ASCII letters and digits"),
        ("ce-", "x", "extension name \"\" must be 1 to 255 ASCII letters and digits"),
        (
            "ce-datacontenttype",
            "text/plain",
            "datacontenttype is the name of a context attribute and cannot be an extension here",
        ),
    ] {
        assert_eq!(refused(&[(name, value)]), sentence);
    }
    assert_eq!(refused(&[("ce-x", "1"), ("ce-x", "1")]), "attribute x is given more than once");
    assert_eq!(
        refused(&[("content-type", "a/b"), ("content-type", "a/b")]),
        "attribute content-type is given more than once"
    );
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    for name in ["ce-subject", "content-type", "ce-specversion"] {
        let mut headers = headers(REQUIRED);
        headers
            .insert(HeaderName::from_static(name), HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        assert!(read(&headers, Bytes::new()).is_err(), "{name}");
    }
}

#[test]
fn what_is_no_event_is_told_from_half_an_event() {
    let plain = read(&headers([("content-type", "application/json")]), Bytes::from_static(b"{}"));
    assert_eq!(plain, Err(ReadError::NotAnEvent));
    let half = read(&headers([("ce-id", "1")]), Bytes::new()).unwrap_err();
    assert_eq!(half.to_string(), "header ce-specversion is missing, although ce-id is there");
    let version = read(&headers([("ce-specversion", "1.1")]), Bytes::new()).unwrap_err();
    assert_eq!(version.to_string(), "attribute specversion must be 1.0 or 0.3, not \"1.1\"");
}

#[test]
fn formats_that_are_not_spoken_are_unsupported() {
    for content_type in [
        "application/cloudevents",
        "application/cloudevents+avro",
        "application/cloudevents+xml; charset=utf-8",
        "application/cloudevents-batch+protobuf",
        "application/cloudevents+json; charset=utf-16",
    ] {
        let fields = REQUIRED.into_iter().chain([("content-type", content_type)]);
        let error = read(&headers(fields), Bytes::from_static(b"x")).unwrap_err();
        assert_eq!(
            error,
            ReadError::UnsupportedMediaType { content_type: content_type.to_owned() }
        );
    }
}

#[test]
fn the_content_type_decides_the_mode() {
    let one = r#"{"specversion":"1.0","id":"inner","source":"/s","type":"t"}"#;
    let structured = |content_type: &'static str, body: String| {
        let fields = REQUIRED.into_iter().chain([("content-type", content_type)]);
        read(&headers(fields), Bytes::from(body)).unwrap()
    };
    let received = structured("application/cloudevents+json; charset=UTF-8", one.to_owned());
    assert_eq!((received.mode, received.events[0].id()), (Mode::Structured, "inner"));
    let received = structured("application/cloudevents-batch+json", format!("[{one},{one}]"));
    assert_eq!((received.mode, received.events.len()), (Mode::Batch, 2));
    let received = structured("application/cloudevents-batch+json", "[]".to_owned());
    assert_eq!((received.mode, received.events.len()), (Mode::Batch, 0));
}

#[test]
fn a_media_type_is_read_in_any_case_and_kept_as_it_came() {
    let content_type = "Application/JSON; Charset=\"UTF-8\"";
    let event = try_binary(&[("content-type", content_type)], b"{}").unwrap();
    assert_eq!(event.data_content_type(), Some(content_type));
    let mut written = HeaderMap::new();
    assert_eq!(write_binary(&event, &mut written), "{}");
    assert_eq!(field(&written, "content-type"), content_type.as_bytes());
    let document = json::write(&event);
    assert!(document.ends_with(b"\"data\":{}}"), "{}", String::from_utf8_lossy(&document));
}

#[test]
fn headers_that_no_context_attribute_may_hold_are_refused() {
    for control in ["%00", "%1F", "%7F", "%C2%80", "%C2%9F"] {
        let sentence = refused(&[("ce-subject", control)]);
        assert!(sentence.starts_with("attribute subject contains the control character U+00"));
    }
    for truncated in ["%C3", "\"%C3\"", "%F0%9F%98", "%ED%A0%80"] {
        assert_eq!(refused(&[("ce-x", truncated)]), "header ce-x is not valid UTF-8");
    }
}

#[test]
fn a_payload_in_an_envelope_is_delivered_inside_its_own() {
    let inner = r#"{"specversion":"1.0","id":"inner","source":"/s","type":"t"}"#;
    let outer = EventBuilder::new("outer", "/s", "t")
        .data_content_type("application/cloudevents+json")
        .data(inner.as_bytes())
        .build()
        .unwrap();
    let mut headers = HeaderMap::new();
    let body = write_binary(&outer, &mut headers);
    assert_eq!(read(&headers, body).unwrap().events, [outer]);
}

#[test]
fn version_0_3_has_its_own_headers() {
    let fields = [
        ("ce-specversion", "0.3"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-schemaurl", "/schema"),
        ("ce-datacontentencoding", "base64"),
    ];
    let received = read(&headers(fields), Bytes::from_static(b"aGk=")).unwrap();
    let event = &received.events[0];
    assert_eq!(event.spec_version(), SpecVersion::V03);
    assert_eq!(event.data_schema(), Some("/schema"));
    assert_eq!(event.data().unwrap(), "hi");
    assert_eq!(event.extensions().len(), 0);
    let mut written = HeaderMap::new();
    assert_eq!(write_binary(event, &mut written), "hi");
    assert_eq!(field(&written, "ce-schemaurl"), b"/schema");
    assert_eq!(field(&written, "ce-specversion"), b"0.3");
    assert!(read(&headers(fields), Bytes::from_static(b"%")).is_err());
}

#[test]
fn more_extensions_than_allowed_are_refused() {
    let names: Vec<_> = (0..=MAX_EXTENSIONS).map(|n| format!("ce-e{n}")).collect();
    let fields = REQUIRED.into_iter().chain(names.iter().map(|name| (name.as_str(), "x")));
    let error = read(&headers(fields), Bytes::new()).unwrap_err();
    assert_eq!(error, EventError::TooManyExtensions { found: MAX_EXTENSIONS + 1 }.into());
}

#[test]
fn structured_and_batched_messages_are_read_back() {
    let event = binary(&[("ce-ext", "v")]);
    let mut headers = HeaderMap::new();
    let body = write_structured(&event, &mut headers);
    let expected = Received { mode: Mode::Structured, events: vec![event.clone()] };
    assert_eq!(read(&headers, body), Ok(expected));
    let events = vec![event.clone(), event];
    let body = write_batch(&events, &mut headers);
    assert_eq!(read(&headers, body), Ok(Received { mode: Mode::Batch, events }));
}
