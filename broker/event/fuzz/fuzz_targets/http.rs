//! A message with arbitrary headers and body: refused, or events that can be delivered and read again as they were.
//!
//! Input: header lines `name:value`, an empty line, the body.

#![no_main]

use broker_event::http as binding;
use broker_event::{Event, Value};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (headers, body) = message(input);
    let Ok(received) = binding::read(&headers, body) else { return };
    for event in received.events {
        let mut headers = HeaderMap::new();
        let body = binding::write_binary(&event, &mut headers);
        let again = binding::read(&headers, body).expect("what is written can be read");
        same(&event, &again.events[0]);
        if again.mode == binding::Mode::Binary {
            let kept = |event: &Event| event.data().filter(|data| !data.is_empty()).cloned();
            assert_eq!(kept(&event), kept(&again.events[0]), "an empty body is no payload");
        }
        let body = binding::write_structured(&event, &mut headers);
        let again = binding::read(&headers, body).expect("what is written can be read");
        same(&event, &again.events[0]);
    }
});

fn message(input: &[u8]) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    let mut rest = input;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(&line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    (headers, Bytes::copy_from_slice(rest))
}

fn same(left: &Event, right: &Event) {
    for name in ["specversion", "id", "source", "type", "subject", "time", "dataschema"] {
        assert_eq!(left.attribute(name), right.attribute(name), "{name}");
    }
    let extensions = |event: &Event| -> Vec<(String, String)> {
        event.extensions().map(|(name, value)| (name.to_owned(), text(value))).collect()
    };
    assert_eq!(extensions(left), extensions(right));
}

/// The binary mode makes strings of all values.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
    }
}
