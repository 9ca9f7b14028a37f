use broker_event::{SpecVersion, Value};
use proptest::prelude::*;

use super::*;

fn about() -> About {
    About { namespace: "shop".into(), name: "orders".into(), uid: "u".into(), ..About::default() }
}

fn record<'a>() -> Record<'a> {
    Record {
        topic: "orders.v1",
        partition: 3,
        offset: 42,
        timestamp: Some(1_767_225_600_123),
        key: None,
        headers: Vec::new(),
        value: Some(b"{\"a\":1}"),
    }
}

fn event(record: &Record<'_>, key_type: KeyType) -> Event {
    Mapper::new(&about(), key_type).event(record).unwrap()
}

fn extension(event: &Event, name: &str) -> Option<String> {
    event.extension(name).map(|value| match value {
        Value::String(text) => text.to_string(),
        other => format!("{other:?}"),
    })
}

#[test]
fn a_record_becomes_knatives_event() {
    let event = event(
        &Record {
            key: Some(b"k1"),
            headers: vec![
                ("content-type", Some(b"application/json")),
                ("Trace_ID", Some(b"abc")),
                ("empty", None),
            ],
            ..record()
        },
        KeyType::String,
    );
    assert_eq!(event.spec_version(), SpecVersion::V10);
    assert_eq!(event.ty(), "dev.knative.kafka.event");
    assert_eq!(event.source(), "/apis/v1/namespaces/shop/kafkasources/orders#orders.v1");
    assert_eq!(event.id(), "partition:3/offset:42");
    assert_eq!(event.subject(), Some("partition:3#42"));
    assert_eq!(event.time(), Some("2026-01-01T00:00:00.123Z"));
    assert_eq!(event.data_content_type(), Some("application/json"));
    assert_eq!(event.data_schema(), None);
    assert_eq!(event.data().unwrap().as_ref(), b"{\"a\":1}");
    let extensions: Vec<_> = event.extensions().map(|(name, _)| name).collect();
    assert_eq!(extensions, ["kafkaheadertraceid", "key", "partitionkey"]);
    assert_eq!(extension(&event, "kafkaheadertraceid").unwrap(), "abc");
    assert_eq!(extension(&event, "key").unwrap(), "k1");
    assert_eq!(extension(&event, "partitionkey").unwrap(), "k1");
}

#[test]
fn what_a_record_has_not_its_event_has_not() {
    let event = event(
        &Record { timestamp: None, key: Some(b""), value: None, ..record() },
        KeyType::String,
    );
    assert_eq!(event.time(), None);
    assert_eq!(event.data(), None);
    assert_eq!(event.data_content_type(), None);
    assert_eq!(event.extensions().count(), 0);
    let empty = Record { value: Some(b""), ..record() };
    assert_eq!(self::event(&empty, KeyType::String).data().unwrap().len(), 0);
}

#[test]
fn keys_are_read_as_the_label_says() {
    let key = |bytes: &[u8], key_type| {
        let event = event(&Record { key: Some(bytes), ..record() }, key_type);
        assert_eq!(event.extension("key"), event.extension("partitionkey"));
        event.extension("key").cloned().unwrap()
    };
    assert_eq!(key(&[0, 0, 1, 0], KeyType::Int), Value::Integer(256));
    assert_eq!(key(&[255; 4], KeyType::Int), Value::Integer(-1));
    assert_eq!(key(b"12345", KeyType::Int), Value::from("12345"));
    assert_eq!(key(&1.5_f32.to_be_bytes(), KeyType::Float), Value::from("1.5"));
    assert_eq!(key(&0.1_f64.to_be_bytes(), KeyType::Float), Value::from("0.1"));
    assert_eq!(key(b"abc", KeyType::Float), Value::from("abc"));
    assert_eq!(key(&[0, 255], KeyType::ByteArray), Value::from("AP8="));
    assert_eq!(key(b"x", KeyType::String), Value::from("x"));
}

#[test]
fn floating_point_keys_look_as_in_java() {
    let shown = |number: f64| float(&number.to_be_bytes()).unwrap();
    for (number, expected) in [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (0.001, "0.001"),
        (0.000_999, "9.99E-4"),
        (9_999_999.0, "9999999.0"),
        (1e7, "1.0E7"),
        (-1.25e-9, "-1.25E-9"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
        (f64::NAN, "NaN"),
    ] {
        assert_eq!(shown(number), expected);
    }
    assert_eq!(float(&0.1_f32.to_be_bytes()).unwrap(), "0.1");
    assert_eq!(float(&[0; 5]), None);
}

#[test]
fn an_event_in_headers_stays_what_it_is() {
    let headers = vec![
        ("ce_specversion", Some(b"1.0".as_slice())),
        ("ce_type", Some(b"com.example.ordered")),
        ("ce_source", Some(b"/shop")),
        ("ce_id", Some(b"7")),
        ("ce_subject", Some(b"s")),
        ("ce_time", Some(b"2026-01-01T00:00:00Z")),
        ("ce_region", Some(b"eu")),
        ("content-type", Some(b"text/plain")),
        ("other", Some(b"x")),
    ];
    let event = event(&Record { key: Some(b"k"), headers, ..record() }, KeyType::String);
    assert_eq!((event.ty(), event.source(), event.id()), ("com.example.ordered", "/shop", "7"));
    assert_eq!(event.subject(), Some("s"));
    assert_eq!(event.time(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(event.data_content_type(), Some("text/plain"));
    assert_eq!(event.data().unwrap().as_ref(), b"{\"a\":1}");
    assert_eq!(event.extensions().map(|(name, _)| name).collect::<Vec<_>>(), ["region"]);
}

#[test]
fn an_event_in_json_stays_what_it_is() {
    let value = br#"{"specversion":"1.0","type":"t","source":"/s","id":"1","data":{"a":2}}"#;
    let headers =
        vec![("content-type", Some(b"application/cloudevents+json; charset=utf-8".as_slice()))];
    let event = event(&Record { headers, value: Some(value), ..record() }, KeyType::String);
    assert_eq!((event.ty(), event.source(), event.id()), ("t", "/s", "1"));
    assert_eq!(event.data().unwrap().as_ref(), br#"{"a":2}"#);
}

#[test]
fn what_only_claims_to_be_an_event_is_made_into_one() {
    let lies = [
        vec![("ce_specversion", Some(b"1.0".as_slice())), ("ce_id", Some(b"7"))],
        vec![("ce_specversion", Some(b"9.9")), ("ce_id", Some(b"7"))],
        vec![
            ("ce_specversion", Some(b"1.0")),
            ("ce_id", Some(b"7\n")),
            ("ce_type", Some(b"t")),
            ("ce_source", Some(b"/s")),
        ],
        vec![("content-type", Some(b"application/cloudevents+json"))],
    ];
    for headers in lies {
        let event = event(&Record { headers, value: Some(b"{"), ..record() }, KeyType::String);
        assert_eq!(event.ty(), "dev.knative.kafka.event");
        assert_eq!(event.id(), "partition:3/offset:42");
        assert_eq!(event.data().unwrap().as_ref(), b"{");
    }
}

#[test]
fn what_no_attribute_can_hold_is_replaced_or_left_out() {
    let long = vec![b'x'; MAX_TEXT + 1];
    let long_name = "n".repeat(MAX_EXTENSION_NAME);
    let event = event(
        &Record {
            key: Some(&[b'a', 0xff, b'\n', b'z']),
            headers: vec![
                ("content-type", Some(b"no media type")),
                ("bell", Some(b"\x07")),
                ("long", Some(&long)),
                (&long_name, Some(b"x")),
                ("---", Some(b"x")),
            ],
            ..record()
        },
        KeyType::String,
    );
    assert_eq!(extension(&event, "key").unwrap(), "a\u{fffd}\u{fffd}z");
    assert_eq!(extension(&event, "kafkaheaderbell").unwrap(), "\u{fffd}");
    assert_eq!(extension(&event, "kafkaheader").unwrap(), "x");
    assert_eq!(event.extensions().count(), 4);
    assert_eq!(event.data_content_type(), None);
    let event = self::event(&Record { key: Some(&long), ..record() }, KeyType::String);
    assert_eq!(event.extension("key"), None);
}

#[test]
fn a_flood_of_headers_is_cut() {
    let names: Vec<String> = (0..MAX_HEADERS + 10).map(|number| format!("h{number}")).collect();
    let headers = names.iter().map(|name| (name.as_str(), Some(b"v".as_slice()))).collect();
    let event = event(&Record { headers, ..record() }, KeyType::String);
    assert_eq!(event.extensions().count(), MAX_HEADERS);
}

#[test]
fn only_times_that_can_be_written_are() {
    assert_eq!(time(0).unwrap(), "1970-01-01T00:00:00Z");
    assert_eq!(time(-1).unwrap(), "1969-12-31T23:59:59.999Z");
    for out in [i64::MIN, i64::MAX, -62_167_219_200_001] {
        assert_eq!(time(out), None);
        assert_eq!(event(&Record { timestamp: Some(out), ..record() }, KeyType::Int).time(), None);
    }
}

proptest! {
    #[test]
    fn of_any_record_an_event_is_made(
        key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..12)),
        names in proptest::collection::vec("(ce_)?\\PC{0,12}|ce_specversion|ce_id|ce_type|ce_source|content-type", 0..8),
        values in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..12)), 8),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..64)),
        timestamp in proptest::option::of(any::<i64>()),
        kind in 0..4_usize,
    ) {
        let headers =
            names.iter().zip(&values).map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let record = Record { key: key.as_deref(), headers, value: value.as_deref(), timestamp, ..record() };
        let kinds = [KeyType::String, KeyType::Int, KeyType::Float, KeyType::ByteArray];
        let event = Mapper::new(&about(), kinds[kind]).event(&record);
        prop_assert!(event.is_ok(), "{event:?}");
    }
}

/// Headers as the library shows them, of which the second has a name that is no UTF-8.
struct Broken;

impl Headers for Broken {
    fn count(&self) -> usize {
        3
    }

    fn try_get(&self, index: usize) -> Option<Header<'_, &[u8]>> {
        assert_ne!(index, 1, "the name is no UTF-8");
        Some(Header { key: "good", value: Some(b"x") })
    }
}

#[test]
fn a_header_that_the_library_cannot_read_is_none() {
    let read: Vec<_> = (0..3).map(|index| header(&Broken, index).is_some()).collect();
    assert_eq!(read, [true, false, true]);
}
