use async_nats::{HeaderMap, Message, Subject};
use broker_event::{Event, Value};
use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;

use super::{Maker, TYPE, decode};
use crate::nats::address::Address;

fn server() -> Address {
    Address::parse("nats.example.com").unwrap()
}

fn maker() -> Maker {
    Maker::new(&server(), "ORDERS", "weft_default_one")
}

fn message(subject: &str, headers: &[(&str, &str)], payload: &'static [u8]) -> Message {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, *value);
    }
    Message {
        subject: Subject::from(subject),
        reply: None,
        payload: Bytes::from_static(payload),
        headers: (!headers.is_empty()).then_some(map),
        status: None,
        description: None,
        length: payload.len(),
    }
}

fn stored(message: &Message) -> Event {
    let time: Timestamp = "2026-01-31T12:00:00.123456789Z".parse().unwrap();
    maker().stored(message, 42, time).unwrap()
}

fn passed(message: &Message) -> Event {
    let mut core = Maker::new(&server(), "", "");
    core.passed(message, "2026-01-31T12:00:00Z".parse().unwrap()).unwrap()
}

fn extension<'a>(event: &'a Event, name: &str) -> Option<&'a str> {
    match event.extension(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

#[test]
fn a_message_of_a_stream_is_an_event_about_it() {
    let headers = [("Content-Type", "text/plain"), ("X-Trace-Id", "7")];
    let event = stored(&message("orders.new", &headers, b"hello"));
    assert_eq!(event.ty(), "dev.knative.nats.event");
    assert_eq!(event.source(), "nats://nats.example.com:4222/ORDERS#orders.new");
    assert_eq!(event.id(), "ORDERS:42");
    assert_eq!(event.subject(), Some("orders.new"));
    assert_eq!(event.time(), Some("2026-01-31T12:00:00.123456789Z"));
    assert_eq!(event.data_content_type(), Some("text/plain"));
    assert_eq!(event.data().map(|data| &data[..]), Some(&b"hello"[..]));
    let extensions: Vec<_> = event.extensions().map(|(name, _)| name).collect();
    assert_eq!(
        extensions,
        [
            "natsconsumer",
            "natsheadercontenttype",
            "natsheaderxtraceid",
            "natssequence",
            "natsstream"
        ]
    );
    assert_eq!(extension(&event, "natssequence"), Some("42"));
    assert_eq!(extension(&event, "natsstream"), Some("ORDERS"));
    assert_eq!(extension(&event, "natsconsumer"), Some("weft_default_one"));
    assert_eq!(extension(&event, "natsheaderxtraceid"), Some("7"));
}

#[test]
fn a_message_of_core_nats_has_the_id_of_its_publisher_or_one_of_its_own() {
    let event = passed(&message("a.b", &[("Nats-Msg-Id", "order-7")], b""));
    assert_eq!(event.ty(), TYPE);
    assert_eq!(event.source(), "nats://nats.example.com:4222#a.b");
    assert_eq!(event.id(), "order-7");
    assert_eq!(event.subject(), Some("a.b"));
    assert_eq!(event.time(), Some("2026-01-31T12:00:00Z"));
    assert_eq!(event.data(), None);
    assert_eq!(event.extension("natssequence"), None);
    let same = message("a.b", &[], b"x");
    let ids = [passed(&same), passed(&same)].map(|event| event.id().to_owned());
    assert_ne!(ids[0], ids[1]);
    assert!(ids.iter().all(|id| uuid::Uuid::parse_str(id).is_ok()), "{ids:?}");
    for unusable in ["  ", "a\u{1}b", &"x".repeat(1025)] {
        let event = passed(&message("a", &[("Nats-Msg-Id", unusable)], b""));
        assert!(uuid::Uuid::parse_str(event.id()).is_ok(), "{unusable:?}");
    }
}

#[test]
fn a_binary_cloud_event_is_passed_on_as_it_is() {
    let headers = [
        ("CE-SpecVersion", "1.0"),
        ("ce-id", "1234"),
        ("ce-source", "/mycontext"),
        ("ce-type", "com.example.someevent"),
        ("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("ce-time", "2018-04-05T03:56:24Z"),
        ("ce-datacontenttype", "application/json"),
        ("ce-comexample", "\"a \\\"b\\\"\""),
        ("content-type", "text/plain"),
        ("X-Other", "1"),
    ];
    let event = stored(&message("orders.new", &headers, b"{}"));
    assert_eq!((event.id(), event.source()), ("1234", "/mycontext"));
    assert_eq!(event.ty(), "com.example.someevent");
    assert_eq!(event.subject(), Some("Euro € 😀"));
    assert_eq!(event.time(), Some("2018-04-05T03:56:24Z"));
    assert_eq!(event.data_content_type(), Some("application/json"));
    assert_eq!(event.data().map(|data| &data[..]), Some(&b"{}"[..]));
    let extensions: Vec<_> = event.extensions().map(|(name, _)| name).collect();
    assert_eq!(extensions, ["comexample"]);
    assert_eq!(extension(&event, "comexample"), Some("a \"b\""));
}

#[test]
fn the_content_type_of_a_binary_event_may_stand_in_the_usual_header() {
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("Content-Type", "application/xml"),
    ];
    assert_eq!(
        stored(&message("a", &headers, b"<a/>")).data_content_type(),
        Some("application/xml")
    );
}

#[test]
fn a_structured_cloud_event_is_passed_on_as_it_is() {
    let body = br#"{"specversion":"1.0","id":"9","source":"/s","type":"t","data":{"a":1}}"#;
    for media_type in [
        "application/cloudevents",
        "application/cloudevents+json",
        "Application/CloudEvents+JSON; charset=utf-8",
    ] {
        let event = passed(&message("a", &[("Content-Type", media_type)], body));
        assert_eq!((event.id(), event.source(), event.ty()), ("9", "/s", "t"), "{media_type}");
        assert_eq!(event.data().map(|data| &data[..]), Some(&br#"{"a":1}"#[..]));
    }
}

#[test]
fn what_only_claims_to_be_a_cloud_event_is_an_event_about_the_message() {
    let incomplete = [("ce-specversion", "1.0"), ("ce-id", "1")];
    let not_utf8 =
        [("ce-specversion", "1.0"), ("ce-id", "%C0%A0"), ("ce-source", "/s"), ("ce-type", "t")];
    let structured = [("content-type", "application/cloudevents+json")];
    let unknown =
        [("ce-specversion", "9.9"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];
    let no_version = [("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];
    for headers in [&incomplete[..], &not_utf8, &structured, &unknown, &no_version] {
        let event = stored(&message("a", headers, b"not json"));
        assert_eq!((event.id(), event.ty()), ("ORDERS:42", TYPE), "{headers:?}");
        assert_eq!(event.data().map(|data| &data[..]), Some(&b"not json"[..]));
    }
}

#[test]
fn a_message_that_comes_again_is_the_same_event() {
    let headers = [("B", "1"), ("a", "2"), ("A", "3"), ("a-", "4"), ("B", "5"), ("c", "6")];
    let first = stored(&message("a", &headers, b""));
    assert_eq!(extension(&first, "natsheaderb"), Some("5"), "the last value of a name");
    assert_eq!(extension(&first, "natsheadera"), Some("4"), "the last of names that fall together");
    // Each map has its own order.
    for _ in 0..50 {
        assert_eq!(stored(&message("a", &headers, b"")), first);
    }
}

#[test]
fn headers_that_cannot_be_attributes_stay_out() {
    let long = "x".repeat(7 << 10);
    let name = "n".repeat(250);
    let headers = [
        ("good", "1"),
        ("bad", "a\u{7f}b"),
        ("-", "x"),
        ("long", long.as_str()),
        (name.as_str(), "x"),
    ];
    let event = stored(&message("a", &headers, b""));
    let names: Vec<_> = event
        .extensions()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("natsheader"))
        .collect();
    assert_eq!(names, ["natsheadergood"]);
    let many: Vec<_> = (0..500).map(|index| format!("h{index}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "x")).collect();
    let event = stored(&message("a", &many, b""));
    assert_eq!(event.extensions().len(), 64 + 3);
}

#[test]
fn a_content_type_that_is_none_stays_a_header() {
    for content_type in ["no/media/type", "a b", "\u{1}"] {
        let event = stored(&message("a", &[("content-type", content_type)], b"x"));
        assert_eq!(event.data_content_type(), None, "{content_type:?}");
        assert_eq!(event.id(), "ORDERS:42");
    }
}

#[test]
fn values_are_decoded_as_the_binding_says() {
    assert_eq!(decode("a%20b%25").as_deref(), Some("a b%"));
    assert_eq!(decode("100%").as_deref(), Some("100%"));
    assert_eq!(decode("\"a%20\\\\b\"").as_deref(), Some("a \\b"));
    assert_eq!(decode("\"a\"b\"").as_deref(), Some("\"a\"b\""));
    assert_eq!(decode("\"").as_deref(), Some("\""));
    assert_eq!(decode("\"a\\\"").as_deref(), Some("\"a\\\""));
    assert_eq!(decode("é").as_deref(), Some("é"));
    assert_eq!(decode("%ff"), None);
}

proptest! {
    #[test]
    fn any_message_is_an_event(
        subject in "[^ \t\r\n]{1,40}",
        headers in prop::collection::vec(("[!-9;-~]{1,12}|ce-[a-z]{1,8}|content-type", "[^\r\n]{0,30}"), 0..8),
        payload in prop::collection::vec(any::<u8>(), 0..64),
        sequence in any::<u64>(),
    ) {
        let mut map = HeaderMap::new();
        for (name, value) in &headers {
            map.append(name.as_str(), value.as_str());
        }
        let message = Message {
            headers: Some(map),
            payload: payload.clone().into(),
            ..message(&subject, &[], b"")
        };
        let event = maker().stored(&message, sequence, Timestamp::UNIX_EPOCH).unwrap();
        if event.ty() == TYPE {
            prop_assert_eq!(event.id(), format!("ORDERS:{sequence}"));
            prop_assert_eq!(event.data().map_or(&b""[..], |data| data), &payload[..]);
        }
        let mut core = Maker::new(&server(), "", "");
        prop_assert!(core.passed(&message, Timestamp::MAX).is_ok());
    }
}
