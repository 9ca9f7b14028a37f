//! What a message becomes: the CloudEvent that it is, or an event about it.

use std::borrow::Cow;

use async_nats::{HeaderMap, Message, Subject};
use broker_event::{Event, EventBuilder, EventError, MAX_EXTENSION_NAME};
use bytestring::ByteString;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use uuid::Uuid;

use super::address::{Address, event_source, with_subject};
use crate::message;

/// The `type` of an event about a message.
pub(super) const TYPE: &str = "dev.knative.nats.event";

/// What the extension of a header begins with; the header's name follows, lower-cased, without all but letters and digits.
const HEADER: &str = "natsheader";

/// How many headers of a message become extensions. Each is a header of every delivery, and servers commonly refuse requests
/// with more than a hundred.
const MAX_HEADERS: usize = 64;

/// How much text the headers of a message may add to an event, names included. HTTP servers refuse requests whose headers have
/// more than 8 to 16 KiB together.
const MAX_HEADER_BYTES: usize = 6 << 10;

/// The longest message id that becomes an event's id; JetStream's own window of ids is in memory as well.
const MAX_ID: usize = 1024;

/// How the attributes of a CloudEvent are named (NATS protocol binding, 3.1.3.1).
const PREFIX: &str = "ce-";

/// The header that says what a message is.
const CONTENT_TYPE: &str = "content-type";

/// What that header says of an event in JSON. The binding (3) has it short, its implementations as HTTP has it.
const STRUCTURED: [&str; 2] = ["application/cloudevents", "application/cloudevents+json"];

/// Makes the events of one source.
#[derive(Debug)]
pub(super) struct Maker {
    /// The `source` of the events, to which the subject is added.
    source: String,
    stream: ByteString,
    consumer: ByteString,
    /// The subject of the message before, and what its event had of it: most messages have the same as that.
    last: (Subject, Place),
}

/// What an event has of its message's subject.
#[derive(Clone, Debug)]
struct Place {
    source: ByteString,
    subject: ByteString,
}

impl Place {
    fn of(source: &str, subject: &str) -> Self {
        Self {
            source: with_subject(source, subject).into(),
            subject: without_control(subject).into_owned().into(),
        }
    }
}

impl Maker {
    /// Makes the events of a stream that is read through a consumer; of both there is none in core NATS. The server is the
    /// first of the spec.
    pub(super) fn new(server: &Address, stream: &str, consumer: &str) -> Self {
        let source = event_source(server, stream, "");
        let last = (Subject::from_static(""), Place::of(&source, ""));
        Self { source, stream: stream.into(), consumer: consumer.into(), last }
    }

    /// The name of the consumer.
    pub(super) fn consumer(&self) -> &str {
        &self.consumer
    }

    /// The event of a message of the stream.
    ///
    /// # Errors
    /// Never, as long as the names of the stream and of the consumer are what the spec's rules ask for.
    pub(super) fn stored(
        &mut self,
        message: &Message,
        sequence: u64,
        time: Timestamp,
    ) -> Result<Event, EventError> {
        let fields = Fields::of(message.headers.as_ref());
        if let Some(event) = fields.cloud_event(message) {
            return Ok(event);
        }
        let id = format!("{}:{sequence}", self.stream);
        let builder = self
            .about(message, &fields, id, time)
            .extension(ByteString::from_static("natssequence"), sequence.to_string())
            .extension(ByteString::from_static("natsstream"), self.stream.clone())
            .extension(ByteString::from_static("natsconsumer"), self.consumer.clone());
        build(builder, &fields)
    }

    /// The event of a message that core NATS brought `now`. It has the id that its publisher gave the message, or one that no
    /// other event has: nothing else tells two equal messages apart.
    ///
    /// # Errors
    /// Never.
    pub(super) fn passed(
        &mut self,
        message: &Message,
        now: Timestamp,
    ) -> Result<Event, EventError> {
        let fields = Fields::of(message.headers.as_ref());
        if let Some(event) = fields.cloud_event(message) {
            return Ok(event);
        }
        let given = fields.get(async_nats::header::NATS_MESSAGE_ID.as_ref());
        let id = match given {
            Some(id) if id.len() <= MAX_ID && !id.trim().is_empty() && is_attribute(id) => {
                id.to_owned()
            }
            _ => Uuid::new_v4().to_string(),
        };
        build(self.about(message, &fields, id, now), &fields)
    }

    fn about(
        &mut self,
        message: &Message,
        fields: &Fields<'_>,
        id: String,
        time: Timestamp,
    ) -> EventBuilder {
        if self.last.0 != message.subject {
            let place = Place::of(&self.source, &message.subject);
            self.last = (message.subject.clone(), place);
        }
        let Place { source, subject } = self.last.1.clone();
        let mut builder = EventBuilder::new(id, source, ByteString::from_static(TYPE))
            .subject(subject)
            .time(time.to_string());
        for (name, value) in fields.extensions() {
            builder = builder.extension(name, value);
        }
        if message.payload.is_empty() { builder } else { builder.data(message.payload.clone()) }
    }
}

/// With the content type, unless that is none.
fn build(builder: EventBuilder, fields: &Fields<'_>) -> Result<Event, EventError> {
    let Some(content_type) = fields.get(CONTENT_TYPE) else { return builder.build() };
    let typed = builder.clone().data_content_type(content_type).build();
    if let Err(EventError::ContentType { .. } | EventError::ControlCharacter { .. }) = typed {
        return builder.build();
    }
    typed
}

/// The headers of a message, in the order of their names; of several values of a name the last. The client keeps them in no
/// order at all, but a message that comes again must be the same event.
#[derive(Debug)]
struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    fn of(headers: Option<&'a HeaderMap>) -> Self {
        let all = headers.into_iter().flat_map(HeaderMap::iter);
        let mut fields: Vec<_> = all
            .filter_map(|(name, values)| Some((name.as_ref(), values.last()?.as_str())))
            .collect();
        fields.sort_unstable();
        Self(fields)
    }

    /// The value under a name, whatever the case of its letters.
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// The event that the message is; nothing if it is none or only claims to be.
    fn cloud_event(&self, message: &Message) -> Option<Event> {
        let content_type = self.get(CONTENT_TYPE);
        let body = Some(message.payload.clone()).filter(|payload| !payload.is_empty());
        let media_type = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
        let structured = media_type
            .is_some_and(|text| STRUCTURED.iter().any(|name| name.eq_ignore_ascii_case(text)));
        let decoded = if structured { Vec::new() } else { self.attributes()? };
        let attributes: Vec<_> = decoded.iter().map(|(name, value)| (*name, &**value)).collect();
        // The binding knows the header only as the mark of an event in JSON, and has an attribute of its own for the data.
        let is_typed =
            attributes.iter().any(|(name, _)| name.eq_ignore_ascii_case("datacontenttype"));
        let content_type = match content_type {
            Some(_) if structured => STRUCTURED.last().copied(),
            given => given.filter(|_| !is_typed),
        };
        let claimed = message::Message { content_type, attributes, source: None, body }.event()?;
        if let Err(error) = &claimed {
            tracing::debug!(%error, "a message says that it is a CloudEvent and is none");
        }
        claimed.ok()
    }

    /// The attributes that headers hold; nothing if one of them is not written as the binding says (3.1.3.2).
    fn attributes(&self) -> Option<Vec<(&'a str, Cow<'a, str>)>> {
        let named = self.0.iter().filter_map(|(name, value)| {
            let (prefix, attribute) = name.split_at_checked(PREFIX.len())?;
            prefix.eq_ignore_ascii_case(PREFIX).then_some((attribute, *value))
        });
        named.map(|(name, value)| Some((name, decode(value)?))).collect()
    }

    /// What the headers add to an event about the message. Headers that cannot be an attribute, or are too many or too long,
    /// stay out.
    fn extensions(&self) -> impl Iterator<Item = (String, &'a str)> {
        let named = self.0.iter().filter_map(|(name, value)| {
            let letters = name.chars().filter(char::is_ascii_alphanumeric);
            let letters: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
            let fits = !letters.is_empty()
                && HEADER.len() + letters.len() <= MAX_EXTENSION_NAME
                && is_attribute(value);
            fits.then(|| (format!("{HEADER}{letters}"), *value))
        });
        let mut bytes = 0;
        let bounded = named.filter(move |(name, value)| {
            let grown = bytes + name.len() + value.len();
            let fits = grown <= MAX_HEADER_BYTES;
            if fits {
                bytes = grown;
            }
            fits
        });
        bounded.take(MAX_HEADERS)
    }
}

/// The text of an attribute in a header: quotes around the whole value are taken off, then `%XX` is decoded once. A percent
/// sign that starts no escape stays, since many senders never encode. Nothing if what comes out is no UTF-8.
fn decode(value: &str) -> Option<Cow<'_, str>> {
    match unquote(value) {
        Cow::Borrowed(plain) => percent_decode_str(plain).decode_utf8().ok(),
        Cow::Owned(plain) => {
            let text = percent_decode_str(&plain).decode_utf8().ok()?;
            Some(Cow::Owned(text.into_owned()))
        }
    }
}

/// Takes a quoted string out of its quotes; anything else, also one with a stray quote inside, is itself.
fn unquote(value: &str) -> Cow<'_, str> {
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let Some(quoted) = quoted else { return Cow::Borrowed(value) };
    let mut plain = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => return Cow::Borrowed(value),
            '\\' => match chars.next() {
                Some(escaped) => plain.push(escaped),
                None => return Cow::Borrowed(value),
            },
            other => plain.push(other),
        }
    }
    Cow::Owned(plain)
}

/// Whether a text can be an attribute: CloudEvents keeps control characters out of all of them.
fn is_attribute(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn without_control(text: &str) -> Cow<'_, str> {
    if is_attribute(text) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char })
        .collect()
}

#[cfg(test)]
mod tests;
