//! Messages that are events, that are not, and that claim to be.

use broker_event::{SpecVersion, Value};
use bytes::Bytes;

use super::Message;

fn message(attributes: &[(&'static str, &'static str)]) -> Message<'static> {
    Message {
        content_type: Some("text/plain"),
        attributes: attributes.to_vec(),
        source: None,
        body: Some(Bytes::from_static(b"hello")),
    }
}

const WHOLE: [(&str, &str); 4] =
    [("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "t")];

#[test]
fn a_message_without_a_version_is_no_event() {
    assert!(message(&[]).event().is_none());
    assert!(message(&WHOLE[1..]).event().is_none());
}

#[test]
fn headers_are_attributes_and_the_body_is_the_data() {
    let more = [
        ("Subject", "x"),
        ("time", "2026-01-02T03:04:05Z"),
        ("dataschema", "http://schema.example/"),
        ("PartitionKey", "k"),
    ];
    let event = message(&[&WHOLE[..], &more[..]].concat()).event().unwrap().unwrap();
    assert_eq!((event.id(), event.source(), event.ty()), ("1", "/s", "t"));
    assert_eq!((event.subject(), event.time()), (Some("x"), Some("2026-01-02T03:04:05Z")));
    assert_eq!(event.data_schema(), Some("http://schema.example/"));
    assert_eq!(event.data_content_type(), Some("text/plain"));
    assert_eq!(event.extension("partitionkey"), Some(&Value::from("k")));
    assert_eq!(event.extensions().len(), 1, "the version is no extension");
    assert_eq!(event.data().unwrap(), "hello");
}

#[test]
fn a_message_without_a_body_has_no_data() {
    let empty = Message { body: None, ..message(&WHOLE) };
    assert_eq!(empty.event().unwrap().unwrap().data(), None);
}

#[test]
fn a_missing_source_can_be_filled_in() {
    let without = [("specversion", "1.0"), ("id", "1"), ("type", "t")];
    assert!(message(&without).event().unwrap().is_err());
    let filled = Message { source: Some("/default"), ..message(&without) };
    assert_eq!(filled.event().unwrap().unwrap().source(), "/default");
    let named = Message { source: Some("/default"), ..message(&WHOLE) };
    assert_eq!(named.event().unwrap().unwrap().source(), "/s");
}

#[test]
fn older_events_are_events_and_unknown_versions_are_none() {
    let version = |version| {
        let attributes = [("specversion", version), ("id", "1"), ("source", "/s"), ("type", "t")];
        message(&attributes).event().unwrap()
    };
    assert_eq!(version("0.3").unwrap().spec_version(), SpecVersion::V03);
    let refused = version("2.0").unwrap_err().to_string();
    assert!(refused.contains("specversion"), "{refused}");
}

#[test]
fn a_body_can_be_the_whole_event() {
    let json = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}"#;
    let structured = |body| Message {
        content_type: Some("Application/CloudEvents+JSON; charset=utf-8"),
        attributes: Vec::new(),
        source: None,
        body,
    };
    let event = structured(Some(Bytes::from_static(json))).event().unwrap().unwrap();
    assert_eq!(event.data().unwrap(), r#"{"a":1}"#);
    assert!(structured(Some(Bytes::from_static(b"{"))).event().unwrap().is_err());
    assert!(structured(None).event().unwrap().is_err());
}
