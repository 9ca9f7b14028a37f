//! From events to a JSON document.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;

use crate::event::{Event, SpecVersion, Value};
use crate::media;

/// What an event's member names, quotes and commas take, about.
const ENVELOPE_BYTES: usize = 256;

/// Writes one event as a JSON object.
///
/// JSON payload is embedded as it is, once it has proved to be JSON; UTF-8 text becomes a string;
/// everything else goes into `data_base64`.
#[must_use]
pub fn write(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(size_hint(event));
    write_into(event, &mut out);
    out
}

/// Writes a batch as a JSON array.
#[must_use]
pub fn write_batch(events: &[Event]) -> Vec<u8> {
    let size = events.iter().map(size_hint).fold(2, usize::saturating_add);
    let mut out = Vec::with_capacity(size);
    out.push(b'[');
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_into(event, &mut out);
    }
    out.push(b']');
    out
}

fn size_hint(event: &Event) -> usize {
    event.data().map_or(0, Bytes::len).saturating_add(ENVELOPE_BYTES)
}

fn write_into(event: &Event, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"specversion\":");
    string(event.spec_version().as_str(), out);
    member("id", event.id(), out);
    member("source", event.source(), out);
    member("type", event.ty(), out);
    let schema = match event.spec_version() {
        SpecVersion::V03 => "schemaurl",
        SpecVersion::V10 => "dataschema",
    };
    let optional = [
        ("subject", event.subject()),
        ("time", event.time()),
        ("datacontenttype", event.data_content_type()),
        (schema, event.data_schema()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            member(name, value, out);
        }
    }
    for (name, value) in event.extensions() {
        match value {
            Value::String(text) => member(name, text, out),
            Value::Boolean(value) => raw_member(name, if *value { b"true" } else { b"false" }, out),
            Value::Integer(value) => raw_member(name, value.to_string().as_bytes(), out),
        }
    }
    if let Some(data) = event.data() {
        payload(event, data, out);
    }
    out.push(b'}');
}

fn payload(event: &Event, data: &[u8], out: &mut Vec<u8>) {
    match form(event.data_content_type(), data) {
        Form::Json => raw_member("data", data, out),
        Form::Text(text) => member("data", text, out),
        Form::Base64 => {
            let name = match event.spec_version() {
                SpecVersion::V10 => "data_base64",
                SpecVersion::V03 => {
                    member("datacontentencoding", "base64", out);
                    "data"
                }
            };
            let mut encoded =
                Vec::with_capacity(data.len().div_ceil(3).saturating_mul(4).saturating_add(2));
            encoded.push(b'"');
            encoded.extend_from_slice(STANDARD.encode(data).as_bytes());
            encoded.push(b'"');
            raw_member(name, &encoded, out);
        }
    }
}

enum Form<'a> {
    Json,
    Text(&'a str),
    Base64,
}

/// Without a content type the format implies JSON, which is checked like promised JSON.
fn form<'a>(content_type: Option<&str>, data: &'a [u8]) -> Form<'a> {
    if content_type.is_none_or(media::is_json) {
        let parsed: Result<&RawValue, _> = serde_json::from_slice(data);
        return if parsed.is_ok() { Form::Json } else { Form::Base64 };
    }
    match std::str::from_utf8(data) {
        Ok(text) if content_type.is_some_and(media::is_utf8_text) => Form::Text(text),
        _ => Form::Base64,
    }
}

fn member(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b',');
    string(name, out);
    out.push(b':');
    string(value, out);
}

fn raw_member(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.push(b',');
    string(name, out);
    out.push(b':');
    out.extend_from_slice(value);
}

fn string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is always JSON and a Vec always takes it");
}
