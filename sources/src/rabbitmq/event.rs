//! From a message to its event.

use std::borrow::Cow;
use std::collections::BTreeMap;

use broker_event::{Event, EventBuilder, MAX_EXTENSION_NAME, Value};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::amqp::{Delivery, Field, Properties};
use crate::message::Message;

/// The type of events that are made of messages which are none themselves.
pub(super) const TYPE: &str = "dev.knative.rabbitmq.event";

/// What precedes the names of extensions that are made of what a publisher said.
const PREFIX: &str = "rabbitmq";
const HEADER_PREFIX: &str = "rabbitmqheader";

/// How much of a message's headers becomes extensions, in bytes of their values. Deliveries carry extensions as HTTP headers,
/// of which servers commonly take 8 KiB to 16 KiB: with more, an event could be stored and never be delivered.
const MAX_HEADERS: usize = 6 << 10;

/// How many of them, for the same servers commonly refuse requests with more than a hundred headers.
const MAX_HEADER_COUNT: usize = 64;

/// How the attributes of an event are marked among the headers of a message: by Knative, by the AMQP binding of CloudEvents
/// (section 3.1), and by those who may not use a colon.
const MARKS: [&str; 3] = ["ce-", "cloudevents:", "cloudevents_"];

/// Headers in which `RabbitMQ` counts how often a message was delivered: they differ each time.
const COUNTS: [&str; 2] = ["x-delivery-count", "x-acquired-count"];

/// How the media types of events begin (HTTP binding, section 3.2.1).
const EVENTS: &str = "application/cloudevents";

/// Headers that are no attributes of an event: the first is a property, the others are of the message's journey.
const NOT_ATTRIBUTES: [&str; 4] = ["content-type", "traceparent", "tracestate", "data"];

/// The event that a message is; else the one that is made of it. `source` is that of the latter, and of the former if it names
/// none.
pub(super) fn event(delivery: &Delivery, source: &str) -> Event {
    let properties = delivery.properties();
    match own(delivery, &properties, source) {
        Some(event) => event,
        None => made(delivery, &properties, source),
    }
}

/// The event that the publisher sent. A message that claims to be one and is not is like any other.
fn own(delivery: &Delivery, properties: &Properties<'_>, source: &str) -> Option<Event> {
    let attributes = attributes(properties);
    let content_type = properties.content_type.and_then(text).or_else(|| {
        let named = |(name, _): &(&[u8], _)| name.eq_ignore_ascii_case(b"content-type");
        match properties.headers.clone()?.find(named)? {
            (_, Field::Text(value)) => text(value),
            _ => None,
        }
    });
    let message = Message {
        content_type,
        attributes: attributes.iter().map(|(name, value)| (name.as_str(), &**value)).collect(),
        source: Some(source),
        body: (!delivery.body.is_empty()).then(|| delivery.body.clone()),
    };
    match message.event()? {
        Ok(event) => Some(event),
        Err(error) => {
            tracing::debug!(%error, "a message claims to be an event and is none");
            None
        }
    }
}

/// The headers that can be attributes, by their names without the mark. Where a name comes with a mark and without, the mark
/// decides.
fn attributes<'a>(properties: &Properties<'a>) -> BTreeMap<String, Cow<'a, str>> {
    let mut marked = BTreeMap::new();
    let mut plain = BTreeMap::new();
    for (name, field) in properties.headers.clone().into_iter().flatten() {
        let Some(value) = written(field) else { continue };
        let Some(name) = text(name).map(str::to_ascii_lowercase) else { continue };
        let unmarked = MARKS.iter().find_map(|mark| name.strip_prefix(mark));
        let (into, name) = match unmarked {
            Some(name) => (&mut marked, name),
            None => (&mut plain, name.as_str()),
        };
        // A header that cannot be an attribute of any event is none of this one.
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_name && name.len() <= MAX_EXTENSION_NAME && !NOT_ATTRIBUTES.contains(&name) {
            into.insert(name.to_owned(), value);
        }
    }
    plain.extend(marked);
    plain
}

/// The event that stands for a message.
fn made(delivery: &Delivery, properties: &Properties<'_>, source: &str) -> Event {
    let id = match properties.message_id.and_then(text) {
        Some(id) => id.to_owned(),
        None => fingerprint(delivery, properties),
    };
    let mut builder = EventBuilder::new(id.as_str(), source, TYPE).subject(id.as_str());
    if let Some(time) = properties.timestamp.and_then(time) {
        builder = builder.time(time);
    }
    for (name, value) in extensions(delivery, properties) {
        builder = builder.extension(name, value);
    }
    if !delivery.body.is_empty() {
        builder = builder.data(delivery.body.clone());
    }
    let typed = properties.content_type.and_then(text).and_then(|content_type| {
        // What is no media type is left out rather than the message. So is that of events: receivers would look for one.
        let head = content_type.trim_start().get(..EVENTS.len());
        let claims = head.is_some_and(|head| head.eq_ignore_ascii_case(EVENTS));
        builder.clone().data_content_type(content_type).build().ok().filter(|_| !claims)
    });
    typed.unwrap_or_else(|| {
        let unchecked = "each attribute was checked for what an attribute cannot hold";
        builder.build().expect(unchecked)
    })
}

/// What the publisher said beside the body.
fn extensions(delivery: &Delivery, properties: &Properties<'_>) -> BTreeMap<String, Value> {
    let mut extensions = BTreeMap::new();
    let mut room = MAX_HEADERS;
    for (name, field) in sorted(properties).into_iter().take(MAX_HEADER_COUNT) {
        let letters = name.iter().filter(|byte| byte.is_ascii_alphanumeric());
        let name: String = letters.map(|byte| char::from(byte.to_ascii_lowercase())).collect();
        let name = format!("{HEADER_PREFIX}{name}");
        let Some(value) = value(field).filter(|_| name != HEADER_PREFIX) else { continue };
        let length = match &value {
            Value::String(text) => text.len(),
            Value::Boolean(_) | Value::Integer(_) => 0,
        };
        if name.len() <= MAX_EXTENSION_NAME && length <= room {
            room -= length;
            extensions.insert(name, value);
        }
    }
    let said = [
        ("exchange", Some(&*delivery.exchange)),
        ("routingkey", Some(&*delivery.routing_key)),
        ("correlationid", properties.correlation_id),
        ("replyto", properties.reply_to),
        ("contentencoding", properties.content_encoding),
        ("type", properties.kind),
        ("userid", properties.user_id),
        ("appid", properties.app_id),
    ];
    for (name, value) in said {
        if let Some(value) = value.and_then(text) {
            extensions.insert(format!("{PREFIX}{name}"), value.into());
        }
    }
    if let Some(priority) = properties.priority {
        extensions.insert(format!("{PREFIX}priority"), Value::Integer(priority.into()));
    }
    extensions
}

/// The headers by name, but those that differ at each delivery.
fn sorted<'a>(properties: &Properties<'a>) -> Vec<(&'a [u8], Field<'a>)> {
    let headers = properties.headers.clone().into_iter().flatten();
    let lasting = |name: &[u8]| !COUNTS.iter().any(|count| count.as_bytes() == name);
    let mut headers: Vec<_> = headers.filter(|(name, _)| lasting(name)).collect();
    headers.sort_by_key(|(name, _)| *name);
    headers
}

/// The id of a message that has none: made of all that the publisher said, so that it is the same when the message is
/// delivered again. Messages that agree in everything, timestamps too, share it.
fn fingerprint(delivery: &Delivery, properties: &Properties<'_>) -> String {
    let mut hash = Sha256::new();
    // With its length before it, so that no two messages are written alike.
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    add(&delivery.exchange);
    add(&delivery.routing_key);
    let texts = [
        properties.content_type,
        properties.content_encoding,
        properties.correlation_id,
        properties.reply_to,
        properties.message_id,
        properties.kind,
        properties.user_id,
        properties.app_id,
    ];
    for text in texts {
        add(&[u8::from(text.is_some())]);
        add(text.unwrap_or_default());
    }
    add(properties.timestamp.map(u64::to_be_bytes).as_ref().map_or(&[][..], |bytes| bytes));
    for (name, field) in sorted(properties) {
        add(name);
        match field {
            Field::Text(text) => add(text),
            Field::Bool(value) => add(&[value.into()]),
            Field::Int(value) => add(&value.to_be_bytes()),
            Field::Float(value) => add(&value.to_be_bytes()),
            Field::Time(value) => add(&value.to_be_bytes()),
            Field::Other => add(&[]),
        }
    }
    add(&delivery.body);
    let digest = hash.finalize();
    let mut half = [0; 16];
    half.copy_from_slice(digest.split_at(16).0);
    // Version 8 of RFC 9562 is the one for what others than its authors thought of.
    uuid::Builder::from_custom_bytes(half).into_uuid().to_string()
}

/// The value of an extension. Tables, arrays and bytes are none.
fn value(field: Field<'_>) -> Option<Value> {
    Some(match field {
        Field::Bool(value) => Value::Boolean(value),
        Field::Int(value) => match i32::try_from(value) {
            Ok(value) => Value::Integer(value),
            Err(_) => value.to_string().into(),
        },
        field => written(field)?.into_owned().into(),
    })
}

/// The value of an attribute in a header, as the text that attributes are in binary mode.
fn written(field: Field<'_>) -> Option<Cow<'_, str>> {
    Some(match field {
        Field::Text(value) => text(value)?.into(),
        Field::Bool(value) => value.to_string().into(),
        Field::Int(value) => value.to_string().into(),
        Field::Float(value) => value.to_string().into(),
        Field::Time(value) => time(value)?.into(),
        Field::Other => return None,
    })
}

/// Bytes as an attribute can hold them: UTF-8 without control characters, and not blank.
fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.trim().is_empty() && !text.chars().any(char::is_control)).then_some(text)
}

/// Seconds since 1970 in RFC 3339, up to the year 9999. Publishers that count milliseconds are beyond.
fn time(seconds: u64) -> Option<String> {
    let timestamp = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    Some(timestamp.to_string())
}

#[cfg(test)]
mod tests;
