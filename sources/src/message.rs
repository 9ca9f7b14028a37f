//! Events in messages: the bindings that Kafka, NATS and AMQP share but for the names of headers. Attributes are headers of
//! the message (binary), or the whole event is its body (structured). Sources read what sinks write.

use broker_event::{Event, EventBuilder, ReadError, SpecVersion, json};
use bytes::Bytes;

mod write;

#[cfg(feature = "kafka")]
pub(crate) use write::text;
pub(crate) use write::{attributes, fingerprint, has_binary_mode};

/// The media type of an event in JSON.
pub(crate) const STRUCTURED: &str = "application/cloudevents+json";
/// The attribute that every event has, and other messages have not.
const SPEC_VERSION: &str = "specversion";

/// A message as its protocol handed it over.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// The media type of the body.
    pub(crate) content_type: Option<&'a str>,
    /// The attributes that headers hold, without the protocol's prefix. Values that are no UTF-8 are no attributes.
    pub(crate) attributes: Vec<(&'a str, &'a str)>,
    /// What is used if an event of this message names no source.
    pub(crate) source: Option<&'a str>,
    /// The body.
    pub(crate) body: Option<Bytes>,
}

impl Message<'_> {
    /// The event that the message is, if it is one.
    pub(crate) fn event(&self) -> Option<Result<Event, ReadError>> {
        let media_type =
            self.content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
        if media_type.is_some_and(|text| text.eq_ignore_ascii_case(STRUCTURED)) {
            return Some(json::read(self.body.as_ref().unwrap_or(&Bytes::new())));
        }
        let version =
            self.attributes.iter().find(|(name, _)| name.eq_ignore_ascii_case(SPEC_VERSION))?;
        Some(self.binary(version.1).map_err(ReadError::from))
    }

    fn binary(&self, version: &str) -> Result<Event, broker_event::EventError> {
        let mut builder = EventBuilder::new("", self.source.unwrap_or_default(), "");
        builder = match version.trim() {
            "0.3" => builder.spec_version(SpecVersion::V03),
            "1.0" => builder.spec_version(SpecVersion::V10),
            // Refused by name when it is built.
            other => builder.extension(SPEC_VERSION, other),
        };
        for (name, value) in &self.attributes {
            let (name, value) = (name.to_ascii_lowercase(), (*value).to_owned());
            builder = match name.as_str() {
                SPEC_VERSION => builder,
                "id" => builder.id(value),
                "source" => builder.source(value),
                "type" => builder.ty(value),
                "subject" => builder.subject(value),
                "time" => builder.time(value),
                "dataschema" => builder.data_schema(value),
                // As version 0.3 has it.
                "schemaurl" if version.trim() == "0.3" => builder.data_schema(value),
                "datacontenttype" => builder.data_content_type(value),
                _ => builder.extension(name, value.as_str()),
            };
        }
        if let Some(content_type) = self.content_type {
            builder = builder.data_content_type(content_type);
        }
        if let Some(body) = &self.body {
            builder = builder.data(body.clone());
        }
        builder.build()
    }
}

#[cfg(test)]
mod tests;
