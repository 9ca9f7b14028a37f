//! Messages as events: every attribute, events in messages, and what strangers may put into a queue.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::rabbitmq::amqp::tests::Content;

const SOURCE: &str = "/apis/v1/namespaces/default/rabbitmqsources/one#q";

fn event_of(content: &Content) -> Event {
    event(&content.delivery(1), SOURCE)
}

fn names(event: &Event) -> Vec<&str> {
    event.extensions().map(|(name, _)| name).collect()
}

#[test]
fn a_message_becomes_knatives_event() {
    let content = Content::new(b"{}")
        .content_type(b"application/json")
        .message_id(b"m-1")
        .timestamp(1_700_000_000);
    let event = event_of(&content);
    assert_eq!(event.ty(), "dev.knative.rabbitmq.event");
    assert_eq!(event.source(), SOURCE);
    assert_eq!((event.id(), event.subject()), ("m-1", Some("m-1")));
    assert_eq!(event.time(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(event.data_content_type(), Some("application/json"));
    assert_eq!(event.data(), Some(&Bytes::from_static(b"{}")));
    assert_eq!(names(&event), [""; 0]);
}

#[test]
fn what_a_publisher_said_becomes_extensions() {
    let content = Content::new(b"x")
        .routed("orders", "eu.new")
        .text("X-Tenant", b"blue")
        .text("region", b"eu")
        .flag("urgent")
        .int("retries", 3)
        .long("big", i64::MAX)
        .time("since", 0)
        .content_encoding(b"gzip")
        .correlation_id(b"c-1")
        .reply_to(b"answers")
        .kind(b"OrderPlaced")
        .user_id(b"shop")
        .app_id(b"web")
        .priority(4);
    let event = event_of(&content);
    let expected = [
        ("rabbitmqappid", Value::from("web")),
        ("rabbitmqcontentencoding", Value::from("gzip")),
        ("rabbitmqcorrelationid", Value::from("c-1")),
        ("rabbitmqexchange", Value::from("orders")),
        ("rabbitmqheaderbig", Value::from("9223372036854775807")),
        ("rabbitmqheaderregion", Value::from("eu")),
        ("rabbitmqheaderretries", Value::Integer(3)),
        ("rabbitmqheadersince", Value::from("1970-01-01T00:00:00Z")),
        ("rabbitmqheaderurgent", Value::Boolean(true)),
        ("rabbitmqheaderxtenant", Value::from("blue")),
        ("rabbitmqpriority", Value::Integer(4)),
        ("rabbitmqreplyto", Value::from("answers")),
        ("rabbitmqroutingkey", Value::from("eu.new")),
        ("rabbitmqtype", Value::from("OrderPlaced")),
        ("rabbitmquserid", Value::from("shop")),
    ];
    let found: Vec<_> = event.extensions().map(|(name, value)| (name, value.clone())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_message_without_an_id_has_the_same_at_each_delivery() {
    let content = || Content::new(b"x").routed("e", "k").text("b", b"1").text("a", b"2");
    let first = event_of(&content());
    assert_eq!(uuid::Uuid::parse_str(first.id()).unwrap().get_version_num(), 8);
    assert_eq!(first.subject(), Some(first.id()));
    // Quorum queues count deliveries in a header, and sort the headers for it.
    let again = Content::new(b"x").routed("e", "k").text("a", b"2").text("b", b"1");
    assert_eq!(event_of(&again.int("x-delivery-count", 1)), first);
    let others = [
        content().timestamp(0),
        content().correlation_id(b"c"),
        content().text("c", b""),
        Content::new(b"y").routed("e", "k").text("b", b"1").text("a", b"2"),
        Content::new(b"x").routed("ek", "").text("b", b"1").text("a", b"2"),
    ];
    for other in others {
        assert_ne!(event_of(&other).id(), first.id());
    }
}

#[test]
fn an_event_in_headers_is_passed_on_whatever_its_mark() {
    for mark in ["ce-", "cloudEvents:", "cloudEvents_", "CE-", ""] {
        let name = |name: &str| format!("{mark}{name}");
        let content = Content::new(b"{}")
            .content_type(b"application/json")
            .message_id(b"not-this")
            .text(&name("specversion"), b"1.0")
            .text(&name("id"), b"7")
            .text(&name("type"), b"com.example.order")
            .text(&name("source"), b"/orders")
            .text(&name("subject"), b"new")
            .time(&name("time"), 1_700_000_000)
            .int(&name("sequence"), 12)
            .text("traceparent", b"00-00000000000000000000000000000001-0000000000000001-01")
            .text("x-match-me", b"no");
        let event = event_of(&content);
        assert_eq!((event.id(), event.source()), ("7", "/orders"), "{mark}");
        assert_eq!((event.ty(), event.subject()), ("com.example.order", Some("new")));
        assert_eq!(event.time(), Some("2023-11-14T22:13:20Z"));
        assert_eq!(event.data_content_type(), Some("application/json"));
        assert_eq!(event.extensions().collect::<Vec<_>>(), [("sequence", &Value::from("12"))]);
        assert_eq!(event.data(), Some(&Bytes::from_static(b"{}")));
    }
}

#[test]
fn an_event_in_headers_without_source_gets_that_of_the_queue() {
    // As Knative's own brokers write them: content-type among the headers.
    let content = Content::new(b"hi")
        .text("content-type", b"text/plain")
        .text("specversion", b"1.0")
        .text("id", b"7")
        .text("type", b"t")
        .text("knativebrokerttl", b"254");
    let event = event_of(&content);
    assert_eq!((event.source(), event.data_content_type()), (SOURCE, Some("text/plain")));
    assert_eq!(names(&event), ["knativebrokerttl"]);
}

#[test]
fn a_marked_attribute_wins_over_a_header_of_the_same_name() {
    let content = Content::new(b"")
        .text("ce-specversion", b"1.0")
        .text("ce-id", b"7")
        .text("ce-type", b"t")
        .text("type", b"something else")
        .text("id", b"something else");
    let event = event_of(&content);
    assert_eq!((event.id(), event.ty()), ("7", "t"));
}

#[test]
fn an_event_in_the_body_is_passed_on() {
    let json = br#"{"specversion":"1.0","id":"7","source":"/s","type":"t","data":{"a":1}}"#;
    let content = Content::new(json).content_type(b"application/cloudevents+json; charset=UTF-8");
    let event = event_of(&content);
    assert_eq!((event.id(), event.source(), event.ty()), ("7", "/s", "t"));
    assert_eq!(event.data(), Some(&Bytes::from_static(br#"{"a":1}"#)));
}

#[test]
fn what_claims_to_be_an_event_and_is_none_is_a_message_like_any_other() {
    let claims = [
        Content::new(b"no json").content_type(b"application/cloudevents+json"),
        Content::new(b"{}").content_type(b"application/cloudevents+json"),
        Content::new(b"[]").content_type(b"application/cloudevents-batch+json"),
        Content::new(b"x").text("ce-specversion", b"1.0"),
        Content::new(b"x").text("ce-specversion", b"9.9").text("ce-id", b"1").text("ce-type", b"t"),
        Content::new(b"x").text("specversion", b"of our schema"),
        Content::new(b"x")
            .text("ce-specversion", b"1.0")
            .text("ce-id", b"1")
            .text("ce-type", b"t")
            .text("ce-time", b"yesterday"),
    ];
    for content in claims {
        let event = event_of(&content);
        assert_eq!((event.ty(), event.source()), (TYPE, SOURCE));
        // Receivers would look for an event in it again.
        assert_eq!((event.data(), event.data_content_type()), (Some(&content.body), None));
    }
}

#[test]
fn what_no_attribute_can_hold_is_left_out() {
    let content = Content::new(b"x")
        .content_type(b"not a media type")
        .message_id(b"two\nlines")
        .timestamp(u64::MAX)
        .correlation_id(b"\xff\xfe")
        .reply_to(b" ")
        .text("\u{fffd}", b"nameless")
        .text("control", b"\x07")
        .text("latin", b"caf\xe9")
        .nested("x-death", 1);
    let event = event_of(&content);
    assert_eq!(event.data_content_type(), None);
    assert_eq!(event.time(), None);
    assert_eq!(uuid::Uuid::parse_str(event.id()).unwrap().get_version_num(), 8);
    assert_eq!(names(&event), [""; 0]);
    // Milliseconds where seconds are meant.
    assert_eq!(event_of(&Content::new(b"x").timestamp(1_700_000_000_000)).time(), None);
}

#[test]
fn headers_make_no_event_that_cannot_be_sent() {
    let mut content = Content::new(b"x");
    for index in 0..200 {
        content = content.text(&format!("h{index:03}"), b"1");
    }
    assert_eq!(names(&event_of(&content)).len(), MAX_HEADER_COUNT);
    let long = "a".repeat(MAX_HEADERS / 2 + 1);
    let content = Content::new(b"x")
        .text("a", long.as_bytes())
        .text("b", long.as_bytes())
        .text("c", b"small")
        .text(&"n".repeat(250), b"small");
    assert_eq!(names(&event_of(&content)), ["rabbitmqheadera", "rabbitmqheaderc"]);
}

#[test]
fn tables_within_tables_are_passed_over_however_deep() {
    let content = Content::new(b"x").nested("a", 20_000).text("b", b"after it");
    let event = event_of(&content);
    assert_eq!(event.extension("rabbitmqheaderb"), Some(&Value::from("after it")));
}

#[test]
fn an_empty_body_is_no_data() {
    assert_eq!(event_of(&Content::new(b"").content_type(b"text/plain")).data(), None);
}

proptest! {
    #[test]
    fn any_properties_and_any_body_make_an_event(
        flags: u16,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        key in prop::collection::vec(any::<u8>(), 0..255),
        body in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let properties = [&flags.to_be_bytes()[..], &bytes].concat();
        let mut delivery = Content::new(&body).delivery(1);
        delivery.properties = properties.into();
        delivery.routing_key = key.into();
        let made = event(&delivery, SOURCE);
        prop_assert_eq!(event(&delivery, SOURCE), made);
    }

    #[test]
    fn any_header_makes_an_event(
        name in prop::collection::vec(any::<u8>(), 0..255),
        value in prop::collection::vec(any::<u8>(), 0..300),
        id in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let content = Content::new(b"x")
            .message_id(&id)
            .raw(&name, &[&[b'S'][..], &u32::try_from(value.len()).unwrap().to_be_bytes(), &value].concat())
            .text("ce-specversion", b"1.0")
            .text("ce-id", &id)
            .text("ce-type", &value);
        prop_assert!(!event_of(&content).id().is_empty());
    }
}
