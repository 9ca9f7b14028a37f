//! The compact form in which a log keeps an event. Decoding copies nothing: the event's strings and payload are slices of
//! the record.
//!
//! ```text
//! byte 0        format: 1
//! byte 1        specversion: 3 = 0.3, 10 = 1.0
//! byte 2        which optional parts follow: bit 0 subject, 1 time, 2 datacontenttype, 3 dataschema, 4 payload
//! text × 3      id, source, type; a text is its length (LEB128) and its UTF-8 bytes
//! text × n      the optional texts, in the order of their bits
//! number        extensions: how many; each a text (name), a byte (0 text, 1 false, 2 true, 3 integer) and
//!               a text, nothing, or four bytes little endian
//! rest          the payload, if bit 4 is set; nothing otherwise
//! ```

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use thiserror::Error;

use crate::event::{Attributes, Event, SpecVersion, Value};

const FORMAT: u8 = 1;
const SUBJECT: u8 = 1;
const TIME: u8 = 2;
const CONTENT_TYPE: u8 = 4;
const SCHEMA: u8 = 8;
const DATA: u8 = 16;

/// Why bytes are no record of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Written by a newer version of this crate, or no record at all.
    #[error("record format {0} is not known to this version")]
    Format(u8),
    /// It ends early, or a length or tag makes no sense.
    #[error("the record is damaged")]
    Damaged,
}

impl DecodeError {
    /// Never: the bytes stay what they are.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Appends the record of `event` to `out`.
pub fn encode(event: &Event, out: &mut Vec<u8>) {
    let a = &event.attributes;
    let data = event.data.as_ref();
    let texts = [&a.id, &a.source, &a.ty];
    let optional = [
        (SUBJECT, &a.subject),
        (TIME, &a.time),
        (CONTENT_TYPE, &a.data_content_type),
        (SCHEMA, &a.data_schema),
    ];
    let mut flags = if data.is_some() { DATA } else { 0 };
    let mut length = texts.iter().map(|text| text.len()).sum::<usize>();
    for (flag, text) in &optional {
        if let Some(text) = text {
            flags |= flag;
            length = length.saturating_add(text.len());
        }
    }
    // Close enough to never grow for ordinary events; extensions add what they add.
    out.reserve(length.saturating_add(data.map_or(0, Bytes::len)).saturating_add(64));
    let version = match a.spec_version {
        SpecVersion::V03 => 3,
        SpecVersion::V10 => 10,
    };
    out.extend_from_slice(&[FORMAT, version, flags]);
    texts.into_iter().for_each(|text| put_text(text, out));
    optional.into_iter().filter_map(|(_, text)| text.as_ref()).for_each(|text| put_text(text, out));
    put_number(a.extensions.len(), out);
    for (name, value) in &a.extensions {
        put_text(name, out);
        match value {
            Value::String(text) => {
                out.push(0);
                put_text(text, out);
            }
            Value::Boolean(value) => out.push(if *value { 2 } else { 1 }),
            Value::Integer(value) => {
                out.push(3);
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
    if let Some(data) = data {
        out.extend_from_slice(data);
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_number(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

fn put_number(mut number: usize, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits fit");
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Reads a record back.
///
/// # Errors
/// When the bytes are not what [`encode`] wrote.
pub fn decode(record: Bytes) -> Result<Event, DecodeError> {
    let mut reader = Reader { rest: record };
    let format = reader.byte()?;
    if format != FORMAT {
        return Err(DecodeError::Format(format));
    }
    let spec_version = match reader.byte()? {
        3 => SpecVersion::V03,
        10 => SpecVersion::V10,
        _ => return Err(DecodeError::Damaged),
    };
    let flags = reader.byte()?;
    let (id, source, ty) = (reader.text()?, reader.text()?, reader.text()?);
    let mut optional = |flag: u8| (flags & flag != 0).then(|| reader.text()).transpose();
    let subject = optional(SUBJECT)?;
    let time = optional(TIME)?;
    let data_content_type = optional(CONTENT_TYPE)?;
    let data_schema = optional(SCHEMA)?;
    let extensions = reader.extensions()?;
    let data = match (flags & DATA != 0, reader.rest.is_empty()) {
        (true, _) => Some(reader.rest),
        (false, true) => None,
        (false, false) => return Err(DecodeError::Damaged),
    };
    let attributes = Attributes {
        spec_version,
        id,
        source,
        ty,
        subject,
        time,
        data_content_type,
        data_schema,
        extensions,
    };
    Ok(Event { attributes: Arc::new(attributes), data })
}

struct Reader {
    rest: Bytes,
}

impl Reader {
    fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        if length > self.rest.len() {
            return Err(DecodeError::Damaged);
        }
        Ok(self.rest.split_to(length))
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = self.rest.first().copied().ok_or(DecodeError::Damaged)?;
        bytes::Buf::advance(&mut self.rest, 1);
        Ok(byte)
    }

    fn number(&mut self) -> Result<usize, DecodeError> {
        let mut number = 0_usize;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError::Damaged)
    }

    fn text(&mut self) -> Result<ByteString, DecodeError> {
        let length = self.number()?;
        ByteString::try_from(self.take(length)?).map_err(|_| DecodeError::Damaged)
    }

    fn extensions(&mut self) -> Result<Vec<(ByteString, Value)>, DecodeError> {
        let count = self.number()?;
        // Each takes at least two bytes, so a hostile count cannot make this allocate more than the record's size.
        if count > self.rest.len() {
            return Err(DecodeError::Damaged);
        }
        let mut extensions: Vec<(ByteString, Value)> = Vec::with_capacity(count);
        for _ in 0..count {
            let name = self.text()?;
            let value = match self.byte()? {
                0 => Value::String(self.text()?),
                tag @ (1 | 2) => Value::Boolean(tag == 2),
                3 => {
                    let bytes = self.take(4)?;
                    let bytes = bytes.as_ref().try_into().map_err(|_| DecodeError::Damaged)?;
                    Value::Integer(i32::from_le_bytes(bytes))
                }
                _ => return Err(DecodeError::Damaged),
            };
            if extensions.last().is_some_and(|(last, _)| *last >= name) {
                return Err(DecodeError::Damaged);
            }
            extensions.push((name, value));
        }
        Ok(extensions)
    }
}
