//! The JSON format of `CloudEvents`: one event, or a batch. Payloads are slices of the document, never re-encoded.

use std::collections::HashSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::builder::{EventBuilder, EventError};
use crate::error::ReadError;
use crate::event::{Event, SpecVersion, Value};

/// The members of an object in order, values unparsed; a name may appear once.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut members, mut seen) = (Vec::new(), HashSet::new());
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("the member {name:?} is given twice")));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Reads one event.
///
/// # Errors
/// A sentence that names what is wrong.
pub fn read(document: &Bytes) -> Result<Event, ReadError> {
    let text = text(document)?;
    let members: Members<'_> = serde_json::from_str(text).map_err(|error| json(&error))?;
    event(document, members)
}

/// Reads a batch: a JSON array of events. All of them or none.
///
/// # Errors
/// As [`read`], with the index of the event.
pub fn read_batch(document: &Bytes) -> Result<Vec<Event>, ReadError> {
    let text = text(document)?;
    let batch: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| json(&error))?;
    let one = |(index, raw): (usize, &&RawValue)| {
        let members = serde_json::from_str(raw.get()).map_err(|error| json(&error));
        members
            .and_then(|members| event(document, members))
            .map_err(|error| ReadError::Batch { index, source: Box::new(error) })
    };
    batch.iter().enumerate().map(one).collect()
}

fn text(document: &Bytes) -> Result<&str, ReadError> {
    std::str::from_utf8(document).map_err(|_| ReadError::Json("it is not UTF-8".to_owned()))
}

fn json(error: &serde_json::Error) -> ReadError {
    ReadError::Json(error.to_string())
}

fn event(document: &Bytes, Members(members): Members<'_>) -> Result<Event, ReadError> {
    let mut builder = EventBuilder::new("", "", "");
    let (mut versioned, mut data, mut base64, mut encoded) = (false, None, None, false);
    let mut content_type = None;
    for (name, raw) in members {
        if raw.get() == "null" {
            continue;
        }
        match name.as_str() {
            "data" => data = Some(raw),
            "data_base64" => base64 = Some(string(&name, raw)?),
            "datacontentencoding" => encoded = string(&name, raw)?.eq_ignore_ascii_case("base64"),
            _ => {
                versioned |= name == "specversion";
                let value = value(&name, raw)?;
                if let (true, Value::String(text)) = (name == "datacontenttype", &value) {
                    content_type = Some(text.clone());
                }
                builder.set_value(&name, value)?;
            }
        }
    }
    if !versioned {
        return Err(EventError::Missing("specversion").into());
    }
    let decode = |text: &str| STANDARD.decode(text).map(Bytes::from).map_err(|_| ReadError::Base64);
    builder.set_data(match (base64, data) {
        (Some(text), _) => Some(decode(&text)?),
        (None, Some(raw)) if encoded => Some(decode(&string("data", raw)?)?),
        (None, Some(raw)) => Some(payload(document, raw, content_type.as_deref())?),
        (None, None) => None,
    });
    for (name, missing) in [("id", builder.id_is_empty()), ("source", builder.source_is_empty()), ("type", builder.type_is_empty())] {
        if missing {
            return Err(EventError::Missing(name).into());
        }
    }
    Ok(builder.build()?)
}

/// `data`: JSON as it stands in the document; text, where the content type says it is none, without its quotes.
fn payload(document: &Bytes, raw: &RawValue, content_type: Option<&str>) -> Result<Bytes, ReadError> {
    let slice = document.slice_ref(raw.get().as_bytes());
    if slice.first() != Some(&b'"') || content_type.is_none_or(is_json) {
        return Ok(slice);
    }
    string("data", raw).map(Bytes::from)
}

fn string(name: &str, raw: &RawValue) -> Result<String, ReadError> {
    let wrong = |_| ReadError::Member { name: name.to_owned(), expected: "a string" };
    serde_json::from_str(raw.get()).map_err(wrong)
}

fn value(name: &str, raw: &RawValue) -> Result<Value, ReadError> {
    let text = raw.get();
    if text.starts_with('"') {
        return Ok(Value::String(ByteString::from(string(name, raw)?)));
    }
    let context = crate::builder::is_context_attribute(name);
    let expected = if context { "a string" } else { "a string, a boolean or a 32-bit integer" };
    let wrong = || ReadError::Member { name: name.to_owned(), expected };
    match text {
        _ if context => Err(wrong()),
        "true" => Ok(Value::Boolean(true)),
        "false" => Ok(Value::Boolean(false)),
        number => number.parse().map(Value::Integer).map_err(|_| wrong()),
    }
}

/// Whether a media type promises JSON: `*/json`, or a `+json` suffix.
pub(crate) fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let ends = |suffix: &str| {
        let at = essence.len().checked_sub(suffix.len());
        at.and_then(|at| essence.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    };
    ends("/json") || ends("+json")
}

/// Writes one event. A payload that is JSON is embedded as it is; other text as a string if its type is textual; anything
/// else as `data_base64`.
#[must_use]
pub fn write(event: &Event) -> Vec<u8> {
    let length = event.data().map_or(0, Bytes::len);
    let mut out = Vec::with_capacity(length.saturating_add(512));
    write_to(event, &mut out);
    out
}

/// Writes a batch.
#[must_use]
pub fn write_batch(events: &[Event]) -> Vec<u8> {
    let mut out = vec![b'['];
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_to(event, &mut out);
    }
    out.push(b']');
    out
}

fn write_to(event: &Event, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"specversion\":\"");
    out.extend_from_slice(event.spec_version().as_str().as_bytes());
    out.push(b'"');
    let schema = match event.spec_version() {
        SpecVersion::V03 => "schemaurl",
        SpecVersion::V10 => "dataschema",
    };
    let texts = [
        ("id", Some(event.id())),
        ("source", Some(event.source())),
        ("type", Some(event.ty())),
        ("subject", event.subject()),
        ("time", event.time()),
        ("datacontenttype", event.data_content_type()),
        (schema, event.data_schema()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            put_name(name, out);
            put_string(text, out);
        }
    }
    for (name, value) in event.extensions() {
        put_name(name, out);
        match value {
            Value::String(text) => put_string(text, out),
            Value::Boolean(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Value::Integer(value) => out.extend_from_slice(value.to_string().as_bytes()),
        }
    }
    if let Some(data) = event.data() {
        put_data(event, data, out);
    }
    out.push(b'}');
}

fn put_data(event: &Event, data: &Bytes, out: &mut Vec<u8>) {
    let media_type = event.data_content_type();
    let text = std::str::from_utf8(data).ok();
    if media_type.is_none_or(is_json)
        && text.is_some_and(|text| serde_json::from_str::<&RawValue>(text).is_ok())
    {
        put_name("data", out);
        return out.extend_from_slice(data);
    }
    match text {
        Some(text) if media_type.is_some_and(|ty| !is_json(ty) && is_textual(ty)) => {
            put_name("data", out);
            put_string(text, out);
        }
        _ => {
            let v03 = event.spec_version() == SpecVersion::V03;
            if v03 {
                put_name("datacontentencoding", out);
                put_string("base64", out);
            }
            put_name(if v03 { "data" } else { "data_base64" }, out);
            put_string(&STANDARD.encode(data), out);
        }
    }
}

fn is_textual(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/") || essence.ends_with("/xml") || essence.ends_with("+xml")
}

fn put_name(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn put_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("writing text to memory cannot fail");
}
