//! The HTTP binding of `CloudEvents`: binary, structured and batched messages.
//!
//! Works on headers and a whole body; who reads the body limits it.

use ::http::HeaderMap;
use ::http::header::CONTENT_TYPE;
use bytes::Bytes;

use crate::error::{EventError, ReadError, excerpt};
use crate::event::Event;
use crate::json;
use crate::media::{self, Envelope};

mod binary;
mod text;
mod write;

pub use write::{
    write_batch, write_binary, write_binary_lines, write_structured, write_structured_lines,
};

/// How a message carries events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Attributes in `ce-` headers, payload as the body.
    Binary,
    /// One event in JSON as the body.
    Structured,
    /// Several events in JSON as the body.
    Batch,
}

/// What a message carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// How.
    pub mode: Mode,
    /// Exactly one, except in a batch: there any number, also none.
    pub events: Vec<Event>,
}

/// Reads the events of a message. `body` becomes the payload, or the payloads are slices of it.
///
/// # Errors
/// [`ReadError`]: nothing of the message can be taken.
pub fn read(headers: &HeaderMap, body: Bytes) -> Result<Received, ReadError> {
    let content_type = content_type(headers)?;
    let (mode, events) = match content_type.and_then(media::envelope) {
        None => (Mode::Binary, vec![binary::read(headers, content_type, body)?]),
        Some(Envelope::Json) => (Mode::Structured, vec![json::read(&body)?]),
        Some(Envelope::JsonBatch) => (Mode::Batch, json::read_batch(&body)?),
        Some(Envelope::Unknown) => {
            let content_type = excerpt(content_type.unwrap_or_default());
            return Err(ReadError::UnsupportedMediaType { content_type });
        }
    };
    Ok(Received { mode, events })
}

/// The one `content-type` field.
fn content_type(headers: &HeaderMap) -> Result<Option<&str>, ReadError> {
    let mut fields = headers.get_all(CONTENT_TYPE).iter();
    let Some(field) = fields.next() else {
        return Ok(None);
    };
    if fields.next().is_some() {
        return Err(EventError::Duplicate { name: CONTENT_TYPE.as_str().to_owned() }.into());
    }
    let text = std::str::from_utf8(field.as_bytes())
        .map_err(|_| ReadError::NotUtf8 { part: format!("header {CONTENT_TYPE}") })?;
    Ok(Some(text.trim()))
}

#[cfg(test)]
mod tests;
