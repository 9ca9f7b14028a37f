//! From a record to an event. Pure.
//!
//! A record that follows the Kafka binding of `CloudEvents` is that event. Of any other an event is made, in Knative's way;
//! also of one that claims to be an event and is not.

use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker_event::{Event, EventBuilder, EventError, MAX_EXTENSION_NAME, Value};
use bytes::Bytes;
use jiff::Timestamp;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message as _};

use crate::kafka::{EVENT_TYPE, source_prefix};
use crate::message::Message;
use crate::source::About;

/// How many headers become extensions. Each is a header of every delivery, and servers commonly refuse requests with more
/// than a hundred.
pub(super) const MAX_HEADERS: usize = 64;

/// Bytes of a header or a key that becomes an extension: common servers give all headers of a request 8 to 16 KiB. What is
/// longer is left out; the record itself is delivered.
pub(super) const MAX_TEXT: usize = 4096;

/// The header with the media type, by the binding.
const CONTENT_TYPE: &str = "content-type";

/// What the headers of attributes start with, by the binding.
const PREFIX: &str = "ce_";

/// What the keys of records are (the label `kafkasources.sources.knative.dev/key-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum KeyType {
    /// Text.
    #[default]
    String,
    /// An integer of four bytes, the highest first.
    Int,
    /// A floating-point number of four or eight bytes, the highest first.
    Float,
    /// Anything; the extension holds Base64.
    ByteArray,
}

/// A record as the client handed it over.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Milliseconds since 1970.
    pub(super) timestamp: Option<i64>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) headers: Vec<(&'a str, Option<&'a [u8]>)>,
    pub(super) value: Option<&'a [u8]>,
}

/// Makes the events of one source.
#[derive(Debug)]
pub(super) struct Mapper {
    /// The `source` of its events up to the topic.
    source: String,
    key_type: KeyType,
}

impl KeyType {
    /// Knative's words.
    pub(super) const ALLOWED: &str = "[string int float byte-array]";

    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "string" => Some(Self::String),
            "int" => Some(Self::Int),
            "float" => Some(Self::Float),
            "byte-array" => Some(Self::ByteArray),
            _ => None,
        }
    }
}

impl<'a> Record<'a> {
    pub(super) fn of(message: &'a BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            let count = headers.count();
            (0..count).filter_map(|index| header(headers, index)).collect()
        });
        Self {
            topic: message.topic(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key(),
            headers,
            value: message.payload(),
        }
    }

    /// Bytes that it has.
    pub(super) fn size(&self) -> usize {
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + length(*value));
        length(self.key) + length(self.value) + headers.sum::<usize>()
    }

    /// The value of the last header of that name, if it is text.
    fn text(&self, name: &str) -> Option<&'a str> {
        let (_, value) =
            self.headers.iter().rev().find(|(have, _)| have.eq_ignore_ascii_case(name))?;
        std::str::from_utf8((*value)?).ok()
    }

    fn attributes(&self) -> Vec<(&'a str, &'a str)> {
        let attribute = |(name, value): &(&'a str, Option<&'a [u8]>)| {
            Some((name.strip_prefix(PREFIX)?, std::str::from_utf8((*value)?).ok()?))
        };
        self.headers.iter().filter_map(attribute).collect()
    }
}

/// One header. The library panics at a name that is no UTF-8, which a producer can send and no broker refuses; such a header
/// is as good as none.
fn header(headers: &impl Headers, index: usize) -> Option<(&str, Option<&[u8]>)> {
    let read = catch_unwind(AssertUnwindSafe(|| headers.try_get(index)));
    let Header { key, value } = read.ok().flatten()?;
    Some((key, value))
}

impl Mapper {
    pub(super) fn new(about: &About, key_type: KeyType) -> Self {
        Self { source: source_prefix(about), key_type }
    }

    /// The event of a record. It fails only if not even place and value make one, which no source that was admitted meets.
    pub(super) fn event(&self, record: &Record<'_>) -> Result<Event, EventError> {
        let body = record.value.map(Bytes::copy_from_slice);
        let content_type = record.text(CONTENT_TYPE);
        let message = Message {
            content_type,
            attributes: record.attributes(),
            source: None,
            body: body.clone(),
        };
        match message.event() {
            Some(Ok(event)) => return Ok(event),
            Some(Err(error)) => {
                let Record { topic, partition, offset, .. } = record;
                tracing::debug!(topic, partition, offset, %error, "a record claims to be an event");
            }
            None => {}
        }
        // What cannot be an attribute is left out rather than the record.
        let whole = self.made(record, content_type, body.clone(), true);
        whole
            .or_else(|_| self.made(record, None, body.clone(), true))
            .or_else(|_| self.made(record, None, body, false))
    }

    fn made(
        &self,
        record: &Record<'_>,
        content_type: Option<&str>,
        body: Option<Bytes>,
        extended: bool,
    ) -> Result<Event, EventError> {
        let Record { topic, partition, offset, .. } = record;
        let mut builder = EventBuilder::new(
            format!("partition:{partition}/offset:{offset}"),
            format!("{}{topic}", self.source),
            EVENT_TYPE,
        )
        .subject(format!("partition:{partition}#{offset}"));
        if let Some(time) = record.timestamp.and_then(time) {
            builder = builder.time(time);
        }
        if let Some(content_type) = content_type {
            builder = builder.data_content_type(content_type);
        }
        if extended {
            builder = self.extended(builder, record);
        }
        if let Some(body) = body {
            builder = builder.data(body);
        }
        builder.build()
    }

    fn extended(&self, mut builder: EventBuilder, record: &Record<'_>) -> EventBuilder {
        if let Some(key) = record.key.and_then(|key| self.key(key)) {
            builder = builder.extension("partitionkey", key.clone()).extension("key", key);
        }
        let headers =
            record.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(CONTENT_TYPE));
        for (name, value) in headers.take(MAX_HEADERS) {
            let Some(value) = value.filter(|value| value.len() <= MAX_TEXT) else { continue };
            let name = extension_name(name);
            if name.len() <= MAX_EXTENSION_NAME {
                builder = builder.extension(name, text(value));
            }
        }
        builder
    }

    /// The key as an extension. An empty one is none, as in Knative.
    fn key(&self, key: &[u8]) -> Option<Value> {
        if key.is_empty() || key.len() > MAX_TEXT {
            return None;
        }
        let number = match self.key_type {
            KeyType::String => None,
            KeyType::ByteArray => Some(Value::from(STANDARD.encode(key))),
            KeyType::Int => {
                key.try_into().ok().map(|bytes| Value::Integer(i32::from_be_bytes(bytes)))
            }
            KeyType::Float => float(key).map(Value::from),
        };
        Some(number.unwrap_or_else(|| Value::from(text(key))))
    }
}

/// Text with what no attribute can hold replaced, so that whoever looks sees that there was something.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.chars().any(char::is_control) {
        text.chars()
            .map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char })
            .collect()
    } else {
        text.into_owned()
    }
}

/// The name of the extension that a header becomes.
fn extension_name(header: &str) -> String {
    let mut name = String::with_capacity("kafkaheader".len() + header.len());
    name.push_str("kafkaheader");
    name.extend(
        header.chars().map(|char| char.to_ascii_lowercase()).filter(char::is_ascii_alphanumeric),
    );
    name
}

/// A timestamp as an attribute has it. A producer may write any number; RFC 3339 ends with the year 9999 and begins with 0.
fn time(milliseconds: i64) -> Option<String> {
    const YEAR_0: i64 = -62_167_219_200_000;
    let within = Some(milliseconds).filter(|milliseconds| *milliseconds >= YEAR_0)?;
    Some(Timestamp::from_millisecond(within).ok()?.to_string())
}

/// A floating-point number as Knative's events hold it: as Java writes it.
fn float(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = bytes.try_into() {
        let number = f32::from_be_bytes(bytes);
        return Some(java(number.into(), &format!("{number:?}"), &format!("{number:e}")));
    }
    let number = f64::from_be_bytes(bytes.try_into().ok()?);
    Some(java(number, &format!("{number:?}"), &format!("{number:e}")))
}

/// Java's `toString`: plain from 0.001 to 10 million, beyond that with an exponent. The digits are the fewest that tell the
/// number from its neighbours, in Rust as in Java.
fn java(number: f64, plain: &str, scientific: &str) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if number.is_nan() || number == 0.0 || (1e-3..1e7).contains(&number.abs()) {
        return plain.to_owned();
    }
    match scientific.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => format!("{digits}E{exponent}"),
        Some((digits, exponent)) => format!("{digits}.0E{exponent}"),
        None => scientific.to_owned(),
    }
}

#[cfg(test)]
mod tests;
