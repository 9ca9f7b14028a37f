//! From events to headers and a body.

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;
use bytestring::ByteString;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::text;
use crate::event::{Event, SpecVersion, Value};
use crate::json;
use crate::media;

static CE_SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");
static CE_ID: HeaderName = HeaderName::from_static("ce-id");
static CE_SOURCE: HeaderName = HeaderName::from_static("ce-source");
static CE_TYPE: HeaderName = HeaderName::from_static("ce-type");
static CE_SUBJECT: HeaderName = HeaderName::from_static("ce-subject");
static CE_TIME: HeaderName = HeaderName::from_static("ce-time");
static CE_DATASCHEMA: HeaderName = HeaderName::from_static("ce-dataschema");
static CE_SCHEMAURL: HeaderName = HeaderName::from_static("ce-schemaurl");

/// The media type of one event in JSON.
const STRUCTURED: &str = "application/cloudevents+json";

/// Sets the headers of the binary mode and returns the body, which is the payload itself.
///
/// A payload that is an event in an envelope of its own (`datacontenttype: application/cloudevents…`) has no binary mode,
/// since its reader would take the inner event for the outer; such an event is written as [`write_structured`] does.
#[must_use]
pub fn write_binary(event: &Event, headers: &mut HeaderMap) -> Bytes {
    if has_envelope(event) {
        return write_structured(event, headers);
    }
    headers.remove(CONTENT_TYPE);
    binary(event, |name, value| {
        headers.insert(name.into_header(), value.into_header());
    });
    event.data.clone().unwrap_or_default()
}

/// Appends the headers of the binary mode to the head of an HTTP/1 message, a line each, and returns the body:
/// [`write_binary`] without the map, which costs more than the rest of it. The extension `left_out` is not written.
#[must_use]
pub fn write_binary_lines(event: &Event, left_out: Option<&str>, head: &mut Vec<u8>) -> Bytes {
    if has_envelope(event) {
        return write_structured_lines(event, left_out, head);
    }
    binary(event, |name, value| {
        if let Name::Extension(name) = &name
            && left_out == Some(&***name)
        {
            return;
        }
        name.append_to(head);
        head.extend_from_slice(b": ");
        value.append_to(head);
        head.extend_from_slice(b"\r\n");
    });
    event.data.clone().unwrap_or_default()
}

/// Appends the content type of the structured mode to the head of an HTTP/1 message and returns the event in JSON, without
/// the extension `left_out`.
#[must_use]
pub fn write_structured_lines(event: &Event, left_out: Option<&str>, head: &mut Vec<u8>) -> Bytes {
    for part in ["content-type: ", STRUCTURED, "\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    let Some(left_out) = left_out.filter(|name| event.extension(name).is_some()) else {
        return Bytes::from(json::write(event));
    };
    let mut event = event.clone();
    event.remove_extension(left_out);
    Bytes::from(json::write(&event))
}

/// Whether the payload would be taken for the event itself.
fn has_envelope(event: &Event) -> bool {
    event.data_content_type().and_then(media::envelope).is_some()
}

/// The name of a header.
enum Name<'a> {
    Known(&'static HeaderName),
    Extension(&'a ByteString),
}

impl Name<'_> {
    fn into_header(self) -> HeaderName {
        match self {
            Self::Known(name) => name.clone(),
            Self::Extension(name) => extension_name(name),
        }
    }

    fn append_to(&self, head: &mut Vec<u8>) {
        match self {
            Self::Known(name) => head.extend_from_slice(name.as_str().as_bytes()),
            Self::Extension(name) => {
                head.extend_from_slice(b"ce-");
                head.extend_from_slice(name.as_bytes());
            }
        }
    }
}

/// The value of a header.
enum Text<'a> {
    Literal(&'static str),
    Attribute(&'a ByteString),
    Integer(i32),
    /// A header value already: it came as one, or was checked for control characters.
    ContentType(&'a ByteString),
}

impl Text<'_> {
    fn into_header(self) -> HeaderValue {
        match self {
            Self::Literal(text) => HeaderValue::from_static(text),
            Self::Attribute(text) => text::encode(text),
            Self::Integer(value) => HeaderValue::from(value),
            Self::ContentType(text) => HeaderValue::from_maybe_shared(text.as_bytes().clone())
                .unwrap_or_else(|_| text::encode(text)),
        }
    }

    fn append_to(&self, head: &mut Vec<u8>) {
        match self {
            Self::Literal(text) => head.extend_from_slice(text.as_bytes()),
            Self::Integer(value) => head.extend_from_slice(value.to_string().as_bytes()),
            Self::ContentType(text) if text::is_header_value(text) => {
                head.extend_from_slice(text.as_bytes());
            }
            Self::Attribute(text) | Self::ContentType(text) => text::append_encoded(text, head),
        }
    }
}

/// Tells every header of the binary mode.
fn binary<'a>(event: &'a Event, mut put: impl FnMut(Name<'a>, Text<'a>)) {
    let attributes = &event.attributes;
    let (version, schema) = match attributes.spec_version {
        SpecVersion::V10 => ("1.0", &CE_DATASCHEMA),
        SpecVersion::V03 => ("0.3", &CE_SCHEMAURL),
    };
    put(Name::Known(&CE_SPECVERSION), Text::Literal(version));
    put(Name::Known(&CE_ID), Text::Attribute(&attributes.id));
    put(Name::Known(&CE_SOURCE), Text::Attribute(&attributes.source));
    put(Name::Known(&CE_TYPE), Text::Attribute(&attributes.ty));
    let optional = [
        (&CE_SUBJECT, &attributes.subject),
        (&CE_TIME, &attributes.time),
        (schema, &attributes.data_schema),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            put(Name::Known(name), Text::Attribute(value));
        }
    }
    for (name, value) in &attributes.extensions {
        let value = match value {
            Value::String(text) => Text::Attribute(text),
            Value::Boolean(true) => Text::Literal("true"),
            Value::Boolean(false) => Text::Literal("false"),
            Value::Integer(value) => Text::Integer(*value),
        };
        put(Name::Extension(name), value);
    }
    if let Some(content_type) = &attributes.data_content_type {
        put(Name::Known(&CONTENT_TYPE), Text::ContentType(content_type));
    }
}

/// Sets the content type of the structured mode and returns the event in JSON.
#[must_use]
pub fn write_structured(event: &Event, headers: &mut HeaderMap) -> Bytes {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(STRUCTURED));
    Bytes::from(json::write(event))
}

/// Sets the content type of the batched mode and returns the events in JSON.
#[must_use]
pub fn write_batch(events: &[Event], headers: &mut HeaderMap) -> Bytes {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents-batch+json"));
    Bytes::from(json::write_batch(events))
}

/// Names that a thread remembers. The events of a mesh share a few dozen; who sends others by the thousand gets them made anew.
const MOST_NAMES: usize = 256;

thread_local! {
    /// The headers of extensions: to make one is to allocate twice, for each of the extensions of every event.
    static NAMES: RefCell<HashMap<ByteString, HeaderName>> = RefCell::default();
}

fn extension_name(name: &ByteString) -> HeaderName {
    NAMES.with_borrow_mut(|names| {
        if let Some(header) = names.get(name) {
            return header.clone();
        }
        let header = HeaderName::try_from(format!("ce-{name}"))
            .expect("extension names are short, of lower-case letters and digits");
        if names.len() < MOST_NAMES {
            // A copy of its own: the name may be a part of a large request.
            names.insert(ByteString::from(name.to_string()), header.clone());
        }
        header
    })
}
