//! The event as bytes for a log: compact, versioned, decoded without copying.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version of this layout, 1 |
//! | 1 | flags: which optional parts follow, and the specification version |
//! | … | `id`, `source`, `type`, then `subject`, `time`, `datacontenttype`, `dataschema` as flagged: length, UTF-8 |
//! | … | number of extensions; each: name, kind (0 string, 1 false, 2 true, 3 integer), value |
//! | … | payload as flagged: length, bytes |
//!
//! Lengths and counts are LEB128. What a length promises must be there, and nothing may follow.
//!
//! Decoding checks the shape (UTF-8, names, order) and not the rules for values: an event that was once accepted must stay
//! readable when a later version has stricter rules.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use bytestring::ByteString;

use crate::check;
use crate::event::{Attributes, Event, SpecVersion, Value};

const VERSION: u8 = 1;

const V03: u8 = 1;
const SUBJECT: u8 = 1 << 1;
const TIME: u8 = 1 << 2;
const CONTENT_TYPE: u8 = 1 << 3;
const SCHEMA: u8 = 1 << 4;
const DATA: u8 = 1 << 5;
const KNOWN: u8 = V03 | SUBJECT | TIME | CONTENT_TYPE | SCHEMA | DATA;

const STRING: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INTEGER: u8 = 3;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A later version of this program wrote it.
    #[error("the record has layout {found}; this version reads layout {VERSION}")]
    Version {
        /// The layout it has.
        found: u8,
    },
    /// It ends too early.
    #[error("the record is cut off")]
    Truncated,
    /// It is not what [`encode`] writes.
    #[error("the record is damaged: {what}")]
    Malformed {
        /// In which part.
        what: &'static str,
    },
}

impl DecodeError {
    /// Never: the same bytes stay what they are.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Appends the record of `event` to `out`.
pub fn encode(event: &Event, out: &mut Vec<u8>) {
    let attributes = &*event.attributes;
    let optional = [
        (SUBJECT, &attributes.subject),
        (TIME, &attributes.time),
        (CONTENT_TYPE, &attributes.data_content_type),
        (SCHEMA, &attributes.data_schema),
    ];
    let mut flags = match attributes.spec_version {
        SpecVersion::V03 => V03,
        SpecVersion::V10 => 0,
    };
    for (flag, value) in optional {
        if value.is_some() {
            flags |= flag;
        }
    }
    if event.data.is_some() {
        flags |= DATA;
    }
    out.reserve(encoded_len_at_most(event));
    out.extend_from_slice(&[VERSION, flags]);
    for text in [&attributes.id, &attributes.source, &attributes.ty] {
        put(text.as_bytes(), out);
    }
    for text in optional.iter().filter_map(|(_, value)| value.as_ref()) {
        put(text.as_bytes(), out);
    }
    put_number(attributes.extensions.len(), out);
    for (name, value) in &attributes.extensions {
        put(name.as_bytes(), out);
        match value {
            Value::String(text) => {
                out.push(STRING);
                put(text.as_bytes(), out);
            }
            Value::Boolean(value) => out.push(if *value { TRUE } else { FALSE }),
            Value::Integer(value) => {
                out.push(INTEGER);
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
    if let Some(data) = &event.data {
        put(data, out);
    }
}

/// Reads a record. The texts and the payload are slices of `record`, which lives as long as they do.
///
/// # Errors
/// [`DecodeError`]; never a panic, whatever the bytes are.
pub fn decode(record: Bytes) -> Result<Event, DecodeError> {
    let mut reader = Reader { rest: record };
    let found = reader.byte()?;
    if found != VERSION {
        return Err(DecodeError::Version { found });
    }
    let flags = reader.byte()?;
    if flags & !KNOWN != 0 {
        return Err(DecodeError::Malformed { what: "unknown flags" });
    }
    let attributes = Attributes {
        spec_version: if flags & V03 == 0 { SpecVersion::V10 } else { SpecVersion::V03 },
        id: reader.required("id")?,
        source: reader.required("source")?,
        ty: reader.required("type")?,
        subject: reader.text_if(flags & SUBJECT != 0, "subject")?,
        time: reader.text_if(flags & TIME != 0, "time")?,
        data_content_type: reader.text_if(flags & CONTENT_TYPE != 0, "datacontenttype")?,
        data_schema: reader.text_if(flags & SCHEMA != 0, "dataschema")?,
        extensions: reader.extensions()?,
    };
    let data = if flags & DATA == 0 { None } else { Some(reader.bytes()?) };
    if !reader.rest.is_empty() {
        return Err(DecodeError::Malformed { what: "bytes behind the end" });
    }
    Ok(Event { attributes: Arc::new(attributes), data })
}

/// Bytes of a length at most (LEB128 of 64 bits).
const MAX_NUMBER: usize = 10;

fn encoded_len_at_most(event: &Event) -> usize {
    let attributes = &*event.attributes;
    let known = [Some(&attributes.id), Some(&attributes.source), Some(&attributes.ty)];
    let optional = [
        &attributes.subject,
        &attributes.time,
        &attributes.data_content_type,
        &attributes.data_schema,
    ];
    let texts =
        known.into_iter().chain(optional.map(Option::as_ref)).flatten().map(|text| text.len());
    let extensions = attributes.extensions.iter().map(|(name, value)| {
        let value = if let Value::String(text) = value { text.len() } else { size_of::<i32>() };
        name.len().saturating_add(value).saturating_add(MAX_NUMBER)
    });
    let data = event.data.as_ref().map_or(0, Bytes::len);
    let fixed = MAX_NUMBER.saturating_mul(10);
    texts.chain(extensions).fold(data.saturating_add(fixed), usize::saturating_add)
}

fn put(bytes: &[u8], out: &mut Vec<u8>) {
    put_number(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn put_number(mut number: usize, out: &mut Vec<u8>) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

struct Reader {
    rest: Bytes,
}

impl Reader {
    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.rest.try_get_u8().map_err(|_| DecodeError::Truncated)
    }

    fn number(&mut self) -> Result<usize, DecodeError> {
        let mut number = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            let part = low << shift;
            if part >> shift != low {
                break;
            }
            number |= part;
            if byte & 0x80 == 0 {
                return usize::try_from(number).map_err(|_| DecodeError::Truncated);
            }
        }
        Err(DecodeError::Malformed { what: "a length" })
    }

    fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.number()?;
        if length > self.rest.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(self.rest.split_to(length))
    }

    fn text(&mut self, what: &'static str) -> Result<ByteString, DecodeError> {
        ByteString::try_from(self.bytes()?).map_err(|_| DecodeError::Malformed { what })
    }

    fn required(&mut self, what: &'static str) -> Result<ByteString, DecodeError> {
        let text = self.text(what)?;
        if text.is_empty() { Err(DecodeError::Malformed { what }) } else { Ok(text) }
    }

    fn text_if(
        &mut self,
        present: bool,
        what: &'static str,
    ) -> Result<Option<ByteString>, DecodeError> {
        if present { self.text(what).map(Some) } else { Ok(None) }
    }

    fn extensions(&mut self) -> Result<Vec<(ByteString, Value)>, DecodeError> {
        const SMALLEST: usize = 3; // the name's length, one letter, the kind
        let malformed = DecodeError::Malformed { what: "an extension" };
        let count = self.number()?;
        if count > self.rest.len() / SMALLEST {
            return Err(DecodeError::Truncated);
        }
        let mut extensions: Vec<(ByteString, Value)> = Vec::with_capacity(count);
        for _ in 0..count {
            let name = self.text("an extension")?;
            let in_order = extensions.last().is_none_or(|(before, _)| *before < name);
            if !in_order || !check::is_extension_name(&name) {
                return Err(malformed);
            }
            let value = match self.byte()? {
                STRING => Value::String(self.text("an extension")?),
                FALSE => Value::Boolean(false),
                TRUE => Value::Boolean(true),
                INTEGER => {
                    Value::Integer(self.rest.try_get_i32_le().map_err(|_| DecodeError::Truncated)?)
                }
                _ => return Err(malformed),
            };
            extensions.push((name, value));
        }
        Ok(extensions)
    }
}

#[cfg(test)]
mod tests;
