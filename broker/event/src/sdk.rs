//! To and from `cloudevents::Event`, the type of the official SDK.
//!
//! The SDK keeps `time` as an instant in UTC and `dataschema` as a parsed URL, so their texts may come back in another
//! spelling; everything else, the payload's bytes included, comes back as it was.

use bytes::Bytes;
use bytestring::ByteString;
use cloudevents::event::{Data, EventBuilderError, ExtensionValue};
use cloudevents::{
    AttributesReader, AttributesWriter, EventBuilder, EventBuilderV03, EventBuilderV10,
};
use url::Url;

use crate::builder::Draft;
use crate::error::{EventError, excerpt};
use crate::event::{Event, SpecVersion, Value};

/// Why an event has no equal in the SDK.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToSdkError {
    /// The SDK takes absolute URLs only.
    #[error("attribute dataschema is no URL the SDK can hold: {reason}")]
    Schema {
        /// What its parser says.
        reason: String,
    },
    /// The SDK cannot hold an attribute's value.
    #[error("the SDK does not take the event: {reason}")]
    Attribute {
        /// What it says.
        reason: String,
    },
}

impl ToSdkError {
    /// Never: the same event is refused again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl TryFrom<&Event> for cloudevents::Event {
    type Error = ToSdkError;

    /// The payload becomes `Data::Binary`, as it does when the SDK itself reads the binary mode.
    fn try_from(event: &Event) -> Result<Self, ToSdkError> {
        let mut made = match event.spec_version() {
            SpecVersion::V10 => {
                let builder =
                    EventBuilderV10::new().id(event.id()).source(event.source()).ty(event.ty());
                event.time().map_or(builder.clone(), |time| builder.time(time)).build()
            }
            SpecVersion::V03 => {
                let builder =
                    EventBuilderV03::new().id(event.id()).source(event.source()).ty(event.ty());
                event.time().map_or(builder.clone(), |time| builder.time(time)).build()
            }
        }
        .map_err(|error: EventBuilderError| ToSdkError::Attribute {
            reason: excerpt(&error.to_string()),
        })?;
        made.set_subject(event.subject());
        made.set_datacontenttype(event.data_content_type());
        let schema = event.data_schema().map(Url::parse).transpose();
        made.set_dataschema(
            schema.map_err(|error| ToSdkError::Schema { reason: error.to_string() })?,
        );
        for (name, value) in event.extensions() {
            let value = match value {
                Value::String(text) => ExtensionValue::String(text.to_string()),
                Value::Boolean(value) => ExtensionValue::Boolean(*value),
                Value::Integer(value) => ExtensionValue::Integer(i64::from(*value)),
            };
            made.set_extension(name, value);
        }
        if let Some(data) = event.data() {
            made.set_data_unchecked(Data::Binary(data.to_vec()));
        }
        Ok(made)
    }
}

impl TryFrom<cloudevents::Event> for Event {
    type Error = EventError;

    /// Checks what the SDK does not: empty attributes, names, control characters, the range of integers.
    fn try_from(mut event: cloudevents::Event) -> Result<Self, EventError> {
        let mut draft = Draft::new(match event.specversion() {
            cloudevents::event::SpecVersion::V03 => SpecVersion::V03,
            cloudevents::event::SpecVersion::V10 => SpecVersion::V10,
        });
        draft.id = Some(ByteString::from(event.id()));
        draft.source = Some(ByteString::from(event.source().as_str()));
        draft.ty = Some(ByteString::from(event.ty()));
        draft.subject = event.subject().map(ByteString::from);
        draft.time = event.time().map(|time| utc(&time.to_rfc3339()));
        for (name, value) in event.iter_extensions() {
            let value = match value {
                ExtensionValue::String(text) => Value::from(text.as_str()),
                ExtensionValue::Boolean(value) => Value::Boolean(*value),
                ExtensionValue::Integer(value) => match i32::try_from(*value) {
                    Ok(value) => Value::Integer(value),
                    Err(_) => {
                        return Err(EventError::Integer {
                            name: excerpt(name),
                            found: value.to_string(),
                        });
                    }
                },
            };
            draft.extensions.push((ByteString::from(name), value));
        }
        let (content_type, schema, data) = event.take_data();
        draft.data_content_type = content_type.map(ByteString::from);
        draft.data_schema = schema.map(|schema| ByteString::from(String::from(schema)));
        draft.data = data.map(|data| match data {
            Data::Binary(bytes) => Bytes::from(bytes),
            Data::String(text) => Bytes::from(text),
            Data::Json(value) => Bytes::from(value.to_string()),
        });
        draft.finish()
    }
}

/// The usual spelling of a timestamp in UTC.
fn utc(time: &str) -> ByteString {
    match time.strip_suffix("+00:00") {
        Some(local) => ByteString::from(format!("{local}Z")),
        None => ByteString::from(time),
    }
}

#[cfg(test)]
mod tests;
