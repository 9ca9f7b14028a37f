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

/// Sets the headers of the binary mode and returns the body, which is the payload itself.
///
/// A payload that is an event in an envelope of its own (`datacontenttype: application/cloudevents…`) has no binary mode,
/// since its reader would take the inner event for the outer; such an event is written as [`write_structured`] does.
#[must_use]
pub fn write_binary(event: &Event, headers: &mut HeaderMap) -> Bytes {
    if event.data_content_type().and_then(media::envelope).is_some() {
        return write_structured(event, headers);
    }
    let attributes = &event.attributes;
    let (version, schema) = match attributes.spec_version {
        SpecVersion::V10 => (HeaderValue::from_static("1.0"), &CE_DATASCHEMA),
        SpecVersion::V03 => (HeaderValue::from_static("0.3"), &CE_SCHEMAURL),
    };
    headers.insert(&CE_SPECVERSION, version);
    headers.insert(&CE_ID, text::encode(&attributes.id));
    headers.insert(&CE_SOURCE, text::encode(&attributes.source));
    headers.insert(&CE_TYPE, text::encode(&attributes.ty));
    let optional = [
        (&CE_SUBJECT, &attributes.subject),
        (&CE_TIME, &attributes.time),
        (schema, &attributes.data_schema),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            headers.insert(name, text::encode(value));
        }
    }
    for (name, value) in &attributes.extensions {
        headers.insert(extension_name(name), extension_value(value));
    }
    match &attributes.data_content_type {
        Some(content_type) => headers.insert(CONTENT_TYPE, content_type_value(content_type)),
        None => headers.remove(CONTENT_TYPE),
    };
    event.data.clone().unwrap_or_default()
}

/// Sets the content type of the structured mode and returns the event in JSON.
#[must_use]
pub fn write_structured(event: &Event, headers: &mut HeaderMap) -> Bytes {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json"));
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

fn extension_value(value: &Value) -> HeaderValue {
    match value {
        Value::String(text) => text::encode(text),
        Value::Boolean(true) => HeaderValue::from_static("true"),
        Value::Boolean(false) => HeaderValue::from_static("false"),
        Value::Integer(value) => HeaderValue::from(*value),
    }
}

/// A content type is a header value already: it came as one, or was checked for control characters.
fn content_type_value(content_type: &ByteString) -> HeaderValue {
    HeaderValue::from_maybe_shared(content_type.as_bytes().clone())
        .unwrap_or_else(|_| text::encode(content_type))
}
