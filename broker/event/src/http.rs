//! The HTTP binding of `CloudEvents` 1.0: binary, structured and batched mode, without any I/O.

use bytes::Bytes;
use bytestring::ByteString;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue};

use crate::builder::{EventBuilder, EventError};
use crate::error::ReadError;
use crate::event::{Event, Value};
use crate::json;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const PREFIX: &str = "application/cloudevents";

/// How events were put into a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Attributes in headers, the payload as body.
    Binary,
    /// One JSON document.
    Structured,
    /// A JSON array of events.
    Batch,
}

/// What a message held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// How.
    pub mode: Mode,
    /// One event; any number in batched mode, also none.
    pub events: Vec<Event>,
}

/// Reads a request or a response.
///
/// # Errors
/// A sentence for the sender.
pub fn read(headers: &HeaderMap, body: Bytes) -> Result<Received, ReadError> {
    let content_type = text(headers, &CONTENT_TYPE)?;
    match content_type.as_deref().and_then(format) {
        Some(Ok(Mode::Batch)) => Ok(Received { mode: Mode::Batch, events: json::read_batch(&body)? }),
        Some(Ok(mode)) => Ok(Received { mode, events: vec![json::read(&body)?] }),
        Some(Err(error)) => Err(error),
        None => Ok(Received { mode: Mode::Binary, events: vec![binary(headers, content_type, body)?] }),
    }
}

/// The mode that a `CloudEvents` media type asks for; `None` for every other media type.
fn format(content_type: &str) -> Option<Result<Mode, ReadError>> {
    let start = content_type.get(..PREFIX.len())?;
    if !start.eq_ignore_ascii_case(PREFIX) {
        return None;
    }
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    Some(if essence.eq_ignore_ascii_case(STRUCTURED) {
        Ok(Mode::Structured)
    } else if essence.eq_ignore_ascii_case(BATCH) {
        Ok(Mode::Batch)
    } else {
        Err(ReadError::UnsupportedMediaType(essence.to_owned()))
    })
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Result<Option<ByteString>, ReadError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let value = std::str::from_utf8(value.as_bytes());
    value.map(|text| Some(text.into())).map_err(|_| ReadError::HeaderText(name.to_string()))
}

fn binary(
    headers: &HeaderMap,
    content_type: Option<ByteString>,
    body: Bytes,
) -> Result<Event, ReadError> {
    let mut builder = EventBuilder::new("", "", "");
    let mut present = 0_u8;
    let mut any = false;
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix("ce-") else { continue };
        any = true;
        present |= match attribute {
            "specversion" => 1,
            "id" => 2,
            "source" => 4,
            "type" => 8,
            // The payload's type is the Content-Type header's to say.
            "datacontenttype" => continue,
            _ => 0,
        };
        builder.set(attribute, decoded(name, value)?)?;
    }
    if !any {
        return Err(ReadError::NotAnEvent);
    }
    for (bit, name) in [(1, "specversion"), (2, "id"), (4, "source"), (8, "type")] {
        if present & bit == 0 {
            return Err(EventError::Missing(name).into());
        }
    }
    if let Some(content_type) = content_type {
        builder = builder.data_content_type(content_type);
    }
    if !body.is_empty() {
        builder.set_data(Some(body));
    }
    Ok(builder.build()?)
}

/// A header value as text: percent-encoding undone. A percent sign that encodes nothing stands for itself.
fn decoded(name: &HeaderName, value: &HeaderValue) -> Result<ByteString, ReadError> {
    let bytes = value.as_bytes();
    let not_text = || ReadError::HeaderText(name.to_string());
    if memchr::memchr(b'%', bytes).is_none() {
        return std::str::from_utf8(bytes).map(Into::into).map_err(|_| not_text());
    }
    let plain: Vec<u8> = percent_encoding::percent_decode(bytes).collect();
    ByteString::try_from(plain).map_err(|_| not_text())
}

/// Puts an event into a message in binary mode; answers the body.
#[must_use]
pub fn write_binary(event: &Event, headers: &mut HeaderMap) -> Bytes {
    let attribute = |name: &'static str| HeaderName::from_static(name);
    headers.insert(attribute("ce-specversion"), HeaderValue::from_static(event.spec_version().as_str()));
    let schema = match event.spec_version() {
        crate::event::SpecVersion::V03 => "ce-schemaurl",
        crate::event::SpecVersion::V10 => "ce-dataschema",
    };
    let texts = [
        ("ce-id", Some(event.id())),
        ("ce-source", Some(event.source())),
        ("ce-type", Some(event.ty())),
        ("ce-subject", event.subject()),
        ("ce-time", event.time()),
        (schema, event.data_schema()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            headers.insert(attribute(name), encoded(text));
        }
    }
    for (name, value) in event.extensions() {
        let header = HeaderName::from_bytes(format!("ce-{name}").as_bytes());
        let header = header.expect("an attribute name is a header name");
        headers.insert(header, match value {
            Value::String(text) => encoded(text),
            Value::Boolean(value) => HeaderValue::from_static(if *value { "true" } else { "false" }),
            Value::Integer(value) => HeaderValue::from(*value),
        });
    }
    if let Some(media_type) = event.data_content_type().and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(CONTENT_TYPE, media_type);
    }
    event.data().cloned().unwrap_or_default()
}

/// Text as a header value: what is not printable ASCII, and space, quote and percent, percent-encoded.
fn encoded(text: &str) -> HeaderValue {
    let plain = |byte: u8| (0x21..=0x7e).contains(&byte) && byte != b'"' && byte != b'%';
    if text.bytes().all(plain) {
        return HeaderValue::from_str(text).expect("printable ASCII is a header value");
    }
    let mut out = String::with_capacity(text.len().saturating_mul(2));
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(percent_encoding::percent_encode_byte(byte));
        }
    }
    HeaderValue::from_str(&out).expect("percent-encoded text is a header value")
}

/// Puts an event into a message in structured mode; answers the body.
#[must_use]
pub fn write_structured(event: &Event, headers: &mut HeaderMap) -> Bytes {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(STRUCTURED));
    json::write(event).into()
}

/// Puts events into a message in batched mode; answers the body.
#[must_use]
pub fn write_batch(events: &[Event], headers: &mut HeaderMap) -> Bytes {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(BATCH));
    json::write_batch(events).into()
}
