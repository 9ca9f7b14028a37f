//! What is written is read back, and no input makes a reader panic.

use broker_event::http as binding;
use broker_event::{Event, EventBuilder, Value, json, record};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

use crate::events::event;

/// The event as a binary message can carry it: every value a string, an empty payload none.
fn in_headers(event: &Event) -> Event {
    let mut carried = event.clone();
    for (name, value) in event.extensions() {
        let text = match value {
            Value::String(text) => text.to_string(),
            Value::Boolean(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
        };
        carried.set_extension(name, Value::from(text));
    }
    if carried.data().is_some_and(Bytes::is_empty) {
        return without_data(&carried);
    }
    carried
}

fn without_data(event: &Event) -> Event {
    let mut out = EventBuilder::new(event.id(), event.source(), event.ty())
        .spec_version(event.spec_version());
    for (name, value) in event.extensions() {
        out = out.extension(name, value.clone());
    }
    out = event.subject().map_or(out.clone(), |text| out.subject(text));
    out = event.time().map_or(out.clone(), |text| out.time(text));
    out = event.data_schema().map_or(out.clone(), |text| out.data_schema(text));
    out = event.data_content_type().map_or(out.clone(), |text| out.data_content_type(text));
    out.build().expect("a part of a good event is good")
}

/// The event as a JSON document carries it: payload embedded as JSON is said to be JSON, without space around it.
fn in_json(event: Event) -> Event {
    let is_json =
        event.data_content_type().is_none_or(|content_type| content_type.ends_with("json"));
    let trimmed = match event.data() {
        Some(data) if is_json && serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok() => {
            let start = data.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            data.slice(start..start + data.trim_ascii().len())
        }
        _ => return event,
    };
    let content_type = event.data_content_type().unwrap_or("application/json").to_owned();
    EventBuilder::from(event)
        .data_content_type(content_type)
        .data(trimmed)
        .build()
        .expect("still good")
}

fn header() -> impl Strategy<Value = (String, Vec<u8>)> {
    let name = prop_oneof![
        "ce-(specversion|id|source|type|subject|time|dataschema|schemaurl|datacontentencoding|x|x-y)",
        Just("content-type".to_owned()),
        "ce-[a-z0-9]{0,6}",
    ];
    let value = prop_oneof![
        "(1\\.0|0\\.3|/s|t|2026-11-23T10:00:00Z|base64)".prop_map(String::into_bytes),
        "application/(cloudevents(-batch)?(\\+json)?|json)(; charset=[a-z0-9-]{0,6})?"
            .prop_map(String::into_bytes),
        "[\"%0-9A-F\\\\a-z é]{0,10}".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..12),
    ];
    (name, value)
}

/// The headers of lines, each with its end.
fn parse(lines: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let lines = std::str::from_utf8(lines).unwrap();
    for line in lines.split_terminator("\r\n") {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    headers
}

proptest! {
    #[test]
    fn a_record_is_read_back(event in event()) {
        let mut out = Vec::new();
        record::encode(&event, &mut out);
        prop_assert_eq!(record::decode(Bytes::from(out)), Ok(event));
    }

    #[test]
    fn a_binary_message_is_read_back(event in event()) {
        let mut headers = HeaderMap::new();
        let body = binding::write_binary(&event, &mut headers);
        let received = binding::read(&headers, body).unwrap();
        let expected = match received.mode {
            binding::Mode::Binary => in_headers(&event),
            _ => in_json(event),
        };
        prop_assert_eq!(received.events, [expected]);
    }

    #[test]
    fn the_lines_of_a_message_are_its_headers(event in event(), some in any::<proptest::sample::Index>()) {
        let mut headers = HeaderMap::new();
        let body = binding::write_binary(&event, &mut headers);
        let mut lines = Vec::new();
        prop_assert_eq!(binding::write_binary_lines(&event, None, &mut lines), body);
        prop_assert_eq!(parse(&lines), headers);

        let names: Vec<_> = event.extensions().map(|(name, _)| name.to_owned()).collect();
        if !names.is_empty() {
            let left_out = some.get(&names);
            let mut without = event.clone();
            without.remove_extension(left_out);
            let mut headers = HeaderMap::new();
            let body = binding::write_binary(&without, &mut headers);
            let mut lines = Vec::new();
            prop_assert_eq!(binding::write_binary_lines(&event, Some(left_out), &mut lines), body);
            prop_assert_eq!(parse(&lines), headers);
        }
    }

    #[test]
    fn a_structured_message_is_read_back(event in event()) {
        let mut headers = HeaderMap::new();
        let body = binding::write_structured(&event, &mut headers);
        let received = binding::read(&headers, body).unwrap();
        prop_assert_eq!(received.events, [in_json(event)]);
    }

    #[test]
    fn a_batch_is_read_back(events in vec(event(), 0..4)) {
        let mut headers = HeaderMap::new();
        let body = binding::write_batch(&events, &mut headers);
        let received = binding::read(&headers, body).unwrap();
        let expected: Vec<_> = events.into_iter().map(in_json).collect();
        prop_assert_eq!(received.events, expected);
    }

    #[test]
    fn a_damaged_record_is_an_error_or_an_event_that_can_be_written(
        event in event(),
        damage in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = Vec::new();
        record::encode(&event, &mut bytes);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(event) = record::decode(Bytes::from(bytes)) {
            let _body = binding::write_binary(&event, &mut HeaderMap::new());
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&json::write(&event)).is_ok());
        }
    }

    #[test]
    fn no_bytes_make_the_record_reader_panic(bytes in vec(any::<u8>(), 0..128)) {
        let _decoded = record::decode(Bytes::from(bytes));
    }

    #[test]
    fn no_bytes_make_the_json_reader_panic(bytes in prop_oneof![
        vec(any::<u8>(), 0..128),
        "(\\{|\\}|\\[|\\]|:|,|\"(specversion|id|data|x)\"|\"1\\.0\"|\\\\u[d0-9]{4}|1|null| ){0,24}".prop_map(String::into_bytes),
    ]) {
        let bytes = Bytes::from(bytes);
        let _one = json::read(&bytes);
        let _many = json::read_batch(&bytes);
    }

    #[test]
    fn whatever_headers_are_accepted_can_be_delivered(
        fields in vec(header(), 0..10),
        body in prop_oneof![vec(any::<u8>(), 0..32), event().prop_map(|event| json::write(&event))],
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(&value)) {
                headers.append(name, value);
            }
        }
        if let Ok(received) = binding::read(&headers, Bytes::from(body)) {
            for event in received.events {
                let mut written = HeaderMap::new();
                let body = binding::write_binary(&event, &mut written);
                let again = binding::read(&written, body).unwrap();
                prop_assert_eq!(again.events[0].id(), event.id());
            }
        }
    }
}
