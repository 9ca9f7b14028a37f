//! Bodies in Kubernetes' protobuf: `kubectl` sends its own kinds so, and has no other way to ask `auth can-i`.
//!
//! Only what a client sends is read; answers are JSON, which every client takes. The envelope is that of
//! `k8s.io/apimachinery/pkg/runtime`, the fields are those of the `generated.proto` files beside Kubernetes' Go types.
//! Fields that are not in [`messages`] are passed over, as protobuf wants it of older readers.

mod messages;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use messages::{Field, Kind};

/// What every body starts with.
const MAGIC: &[u8] = b"k8s\0";

/// Why a body is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtobufError {
    /// It is not protobuf, or not of this shape.
    #[error("the body of the request is not valid protobuf: {0}")]
    Malformed(&'static str),
    /// It is of a kind that is only read as JSON.
    #[error("{kind} in version {api_version:?} is only read as JSON")]
    Unsupported {
        /// As the envelope says.
        api_version: String,
        /// As the envelope says.
        kind: String,
    },
}

/// One field as it is on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Fixed-width numbers, of which no field here is one.
    Other,
}

/// Reads a body into the JSON that it stands for.
pub(crate) fn read(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::Malformed("no envelope"))?;
    let (mut header, mut raw, mut encoded) = (Map::new(), &[][..], false);
    while !rest.is_empty() {
        match next(&mut rest)? {
            (1, Wire::Bytes(inner)) => header = message(inner, messages::TYPE_META)?,
            (2, Wire::Bytes(inner)) => raw = inner,
            (3, Wire::Bytes(inner)) => encoded = !inner.is_empty(),
            _ => {}
        }
    }
    if encoded {
        return Err(ProtobufError::Malformed("its content is encoded once more"));
    }
    let text =
        |field: &str| header.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let fields = messages::of(&api_version, &kind);
    let Some(fields) = fields else {
        return Err(ProtobufError::Unsupported { api_version, kind });
    };
    let mut object = message(raw, fields)?;
    object.extend(header);
    Ok(object.into())
}

/// Reads a message. Nesting is that of the descriptions, which end.
fn message(mut bytes: &[u8], fields: &[Field]) -> Result<Map<String, Value>, ProtobufError> {
    let mut map = Map::new();
    while !bytes.is_empty() {
        let (number, wire) = next(&mut bytes)?;
        if let Some(field) = fields.iter().find(|field| field.number == number) {
            set(&mut map, field.name, &field.kind, &wire)?;
        }
    }
    Ok(map)
}

fn set(
    map: &mut Map<String, Value>,
    name: &str,
    kind: &Kind,
    wire: &Wire<'_>,
) -> Result<(), ProtobufError> {
    match kind {
        Kind::List(item) => {
            let value = single(item, wire)?;
            if let Value::Array(list) = map.entry(name).or_insert_with(|| Value::Array(Vec::new()))
            {
                list.extend(value);
            }
        }
        Kind::Map(value) => {
            let (key, value) = entry(value, wire)?;
            if let Value::Object(entries) =
                map.entry(name).or_insert_with(|| Value::Object(Map::new()))
            {
                entries.insert(key, value);
            }
        }
        kind => match single(kind, wire)? {
            // Go writes absent texts and times as empty ones.
            Some(Value::String(text)) if text.is_empty() => {}
            Some(value) => {
                map.insert(name.to_owned(), value);
            }
            None => {}
        },
    }
    Ok(())
}

fn single(kind: &Kind, wire: &Wire<'_>) -> Result<Option<Value>, ProtobufError> {
    Ok(match (kind, wire) {
        (Kind::Text, Wire::Bytes(bytes)) => Some(text(bytes)?.into()),
        (Kind::Bytes, Wire::Bytes(bytes)) => Some(STANDARD.encode(bytes).into()),
        (Kind::Flag, Wire::Number(number)) => Some((*number != 0).into()),
        (Kind::Number, Wire::Number(number)) => Some(number.cast_signed().into()),
        (Kind::Time, Wire::Bytes(bytes)) => time(bytes, "%Y-%m-%dT%H:%M:%SZ")?.map(Value::from),
        (Kind::MicroTime, Wire::Bytes(bytes)) => {
            time(bytes, "%Y-%m-%dT%H:%M:%S.%6fZ")?.map(Value::from)
        }
        (Kind::Json, Wire::Bytes(bytes)) => {
            let wrapped = message(bytes, messages::RAW)?;
            let json = wrapped.get("raw").and_then(Value::as_str).unwrap_or("null");
            let malformed = |_| ProtobufError::Malformed("a set of fields is not JSON");
            Some(serde_json::from_str(json).map_err(malformed)?)
        }
        (Kind::Message(fields), Wire::Bytes(bytes)) => Some(message(bytes, fields)?.into()),
        _ => return Err(ProtobufError::Malformed("a field has another type")),
    })
}

fn entry(kind: &Kind, wire: &Wire<'_>) -> Result<(String, Value), ProtobufError> {
    let Wire::Bytes(mut bytes) = *wire else {
        return Err(ProtobufError::Malformed("an entry of a map has another type"));
    };
    let (mut key, mut value) = (String::new(), Value::from(""));
    while !bytes.is_empty() {
        match next(&mut bytes)? {
            (1, Wire::Bytes(inner)) => text(inner)?.clone_into(&mut key),
            (2, wire) => value = single(kind, &wire)?.unwrap_or_default(),
            _ => {}
        }
    }
    Ok((key, value))
}

/// A time; none if it says nothing, which is how Go writes its zero.
fn time(bytes: &[u8], format: &str) -> Result<Option<String>, ProtobufError> {
    let parts = message(bytes, messages::TIME)?;
    let number = |field: &str| parts.get(field).and_then(Value::as_i64).unwrap_or_default();
    if parts.is_empty() {
        return Ok(None);
    }
    let nanos = i32::try_from(number("nanos")).unwrap_or_default();
    let time = Timestamp::new(number("seconds"), nanos)
        .map_err(|_| ProtobufError::Malformed("a time is out of range"))?;
    Ok(Some(time.strftime(format).to_string()))
}

fn text(bytes: &[u8]) -> Result<&str, ProtobufError> {
    std::str::from_utf8(bytes).map_err(|_| ProtobufError::Malformed("a text is not UTF-8"))
}

/// Takes the next field: its number and what is in it.
fn next<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Wire<'a>), ProtobufError> {
    let tag = varint(bytes)?;
    let wire = match tag & 7 {
        0 => Wire::Number(varint(bytes)?),
        1 => take(bytes, 8).map(|_| Wire::Other)?,
        2 => {
            let length = varint(bytes)?;
            Wire::Bytes(take(bytes, length)?)
        }
        5 => take(bytes, 4).map(|_| Wire::Other)?,
        _ => return Err(ProtobufError::Malformed("a field has no known type")),
    };
    Ok((tag >> 3, wire))
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], ProtobufError> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let (taken, rest) =
        bytes.split_at_checked(length).ok_or(ProtobufError::Malformed("it ends too early"))?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) =
            bytes.split_first().ok_or(ProtobufError::Malformed("it ends too early"))?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ProtobufError::Malformed("a number is too long"))
}

#[cfg(test)]
mod tests;
