//! Generated events.

use std::collections::BTreeMap;

use broker_event::{Event, EventBuilder, SpecVersion, Value};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

/// Any text an attribute may hold.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,12}", "[^\\pC\\x7f]{0,8}", "(%[0-9A-F]{2}|%|\"|\\\\|é| ){0,6}"]
}

fn required() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("x{text}"))
}

fn source() -> impl Strategy<Value = String> {
    prop_oneof![
        "/([a-z%é][a-z/ %é]{0,11})?",
        "https://example\\.org(:80)?/[a-z]{0,4}(\\?[a-z]=[0-9])?",
        "urn:[a-z]{1,8}"
    ]
}

/// Timestamps that both chrono and RFC 3339 know.
fn time() -> impl Strategy<Value = String> {
    let offset = prop_oneof![Just("Z".to_owned()), "[+-](0[0-9]|1[0-3]):[0-5][0-9]"];
    let day = "20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])";
    let clock = "T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?";
    (day, clock, offset).prop_map(|(day, clock, offset)| format!("{day}{clock}{offset}"))
}

fn schema() -> impl Strategy<Value = String> {
    "https://example\\.org/[a-z]{1,8}"
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        text().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from)
    ]
}

fn extensions() -> impl Strategy<Value = BTreeMap<String, Value>> {
    btree_map("ext[a-z0-9]{0,20}", value(), 0..5)
}

/// A document that is JSON, as bytes.
pub(crate) fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i32>().prop_map(|value| value.to_string()),
        text().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|all| format!("[{}]", all.join(", "))),
            btree_map("[a-z]{1,4}", inner, 0..4).prop_map(|all| {
                let members: Vec<_> =
                    all.iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// Payload, perhaps not what its content type says.
fn payload() -> impl Strategy<Value = (Option<&'static str>, Option<Vec<u8>>)> {
    let content_type = prop_oneof![
        Just(None),
        Just(Some("application/json")),
        Just(Some("application/vnd.x+json")),
        Just(Some("text/plain")),
        Just(Some("application/octet-stream")),
        Just(Some("application/cloudevents+json")),
    ];
    let data = prop_oneof![
        vec(any::<u8>(), 0..64),
        json_text().prop_map(String::into_bytes),
        text().prop_map(String::into_bytes)
    ];
    (content_type, option::of(data))
}

/// Any event there can be.
pub(crate) fn event() -> impl Strategy<Value = Event> {
    let version = prop_oneof![Just(SpecVersion::V10), Just(SpecVersion::V03)];
    let names = (version, required(), source(), required());
    let optional = (option::of(text()), option::of(time()), option::of(schema()));
    (names, optional, extensions(), payload()).prop_map(|(names, optional, extensions, payload)| {
        let (version, id, source, ty) = names;
        let (subject, time, schema) = optional;
        let (content_type, data) = payload;
        let mut builder = EventBuilder::new(id, source, ty).spec_version(version);
        if let Some(subject) = subject {
            builder = builder.subject(subject);
        }
        if let Some(time) = time {
            builder = builder.time(time);
        }
        if let Some(schema) = schema {
            builder = builder.data_schema(schema);
        }
        if let Some(content_type) = content_type {
            builder = builder.data_content_type(content_type);
        }
        for (name, value) in extensions {
            builder = builder.extension(name, value);
        }
        if let Some(data) = data {
            builder = builder.data(data);
        }
        builder.build().expect("the generator keeps the rules")
    })
}
