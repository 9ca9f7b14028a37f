//! Building events: every rule about attributes is checked here, whatever binding they came through.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use thiserror::Error;

use crate::event::{Attributes, Event, SpecVersion, Value};

/// Names that are attributes of the specification or of its formats, and therefore no extensions.
const RESERVED: [&str; 12] = [
    "data",
    "data_base64",
    "datacontentencoding",
    "datacontenttype",
    "dataschema",
    "id",
    "schemaurl",
    "source",
    "specversion",
    "subject",
    "time",
    "type",
];

/// Why attributes make no event. Never retryable: the sender has to change something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EventError {
    /// A required attribute is absent.
    #[error("the attribute {0:?} is missing")]
    Missing(&'static str),
    /// A required attribute is empty.
    #[error("the attribute {0:?} must not be empty")]
    Empty(&'static str),
    /// Not a version this mesh speaks.
    #[error("specversion {0:?} is not supported: use \"1.0\" (or \"0.3\")")]
    SpecVersion(String),
    /// A value breaks the rule of its attribute.
    #[error("the attribute {name:?} {rule}")]
    Invalid {
        /// Which attribute.
        name: String,
        /// What it must be.
        rule: &'static str,
    },
    /// An extension's name breaks the naming rule.
    #[error("{0:?} is not an attribute name: use lower-case letters and digits only")]
    Name(String),
    /// The same attribute twice.
    #[error("the attribute {0:?} is given twice")]
    Duplicate(String),
}

impl EventError {
    /// Never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Collects attributes and payload; [`EventBuilder::build`] checks them all.
#[derive(Clone, Debug)]
pub struct EventBuilder {
    attributes: Attributes,
    data: Option<Bytes>,
    refused: Option<EventError>,
}

impl EventBuilder {
    /// An event of version 1.0 with the three attributes every event has.
    #[must_use]
    pub fn new(
        id: impl Into<ByteString>,
        source: impl Into<ByteString>,
        ty: impl Into<ByteString>,
    ) -> Self {
        let attributes = Attributes {
            spec_version: SpecVersion::V10,
            id: id.into(),
            source: source.into(),
            ty: ty.into(),
            subject: None,
            time: None,
            data_content_type: None,
            data_schema: None,
            extensions: Vec::new(),
        };
        Self { attributes, data: None, refused: None }
    }

    /// Sets the specification version.
    #[must_use]
    pub fn spec_version(mut self, version: SpecVersion) -> Self {
        self.attributes.spec_version = version;
        self
    }

    /// Sets `subject`.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<ByteString>) -> Self {
        self.attributes.subject = Some(subject.into());
        self
    }

    /// Sets `time`, RFC 3339 text.
    #[must_use]
    pub fn time(mut self, time: impl Into<ByteString>) -> Self {
        self.attributes.time = Some(time.into());
        self
    }

    /// Sets `datacontenttype`.
    #[must_use]
    pub fn data_content_type(mut self, ty: impl Into<ByteString>) -> Self {
        self.attributes.data_content_type = Some(ty.into());
        self
    }

    /// Sets `dataschema`, an absolute URI.
    #[must_use]
    pub fn data_schema(mut self, schema: impl Into<ByteString>) -> Self {
        self.attributes.data_schema = Some(schema.into());
        self
    }

    /// Sets an extension. Upper-case letters of the name are lowered, as Knative's SDK does.
    #[must_use]
    pub fn extension(mut self, name: impl Into<ByteString>, value: impl Into<Value>) -> Self {
        let name = name.into();
        if let Err(error) = self.insert(name, value.into()) {
            self.refused.get_or_insert(error);
        }
        self
    }

    fn insert(&mut self, name: ByteString, value: Value) -> Result<(), EventError> {
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            ByteString::from(name.to_ascii_lowercase())
        } else {
            name
        };
        let named = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if name.is_empty() || !named || RESERVED.contains(&&*name) {
            return Err(EventError::Name(name.to_string()));
        }
        let extensions = &mut self.attributes.extensions;
        match extensions.binary_search_by(|(have, _)| (**have).cmp(&name)) {
            Ok(_) => Err(EventError::Duplicate(name.to_string())),
            Err(at) => {
                extensions.insert(at, (name, value));
                Ok(())
            }
        }
    }

    /// Sets the payload.
    #[must_use]
    pub fn data(mut self, data: impl Into<Bytes>) -> Self {
        self.data = Some(data.into());
        self
    }

    /// Sets any attribute by its name, as the bindings read it.
    ///
    /// # Errors
    /// [`EventError::SpecVersion`], [`EventError::Name`] or [`EventError::Duplicate`].
    pub(crate) fn set(&mut self, name: &str, value: ByteString) -> Result<(), EventError> {
        let a = &mut self.attributes;
        let slot = match name {
            "id" => &mut a.id,
            "source" => &mut a.source,
            "type" => &mut a.ty,
            "subject" => a.subject.get_or_insert_default(),
            "time" => a.time.get_or_insert_default(),
            "datacontenttype" => a.data_content_type.get_or_insert_default(),
            "dataschema" | "schemaurl" => a.data_schema.get_or_insert_default(),
            "specversion" => {
                a.spec_version = match &*value {
                    "1.0" => SpecVersion::V10,
                    "0.3" => SpecVersion::V03,
                    _ => return Err(EventError::SpecVersion(value.to_string())),
                };
                return Ok(());
            }
            _ => return self.insert(ByteString::from(name), Value::String(value)),
        };
        if !slot.is_empty() {
            return Err(EventError::Duplicate(name.to_owned()));
        }
        *slot = value;
        Ok(())
    }

    /// Sets an extension that is no string.
    ///
    /// # Errors
    /// As [`EventBuilder::set`].
    pub(crate) fn set_value(&mut self, name: &str, value: Value) -> Result<(), EventError> {
        match value {
            Value::String(text) => self.set(name, text),
            value => self.insert(ByteString::from(name), value),
        }
    }

    pub(crate) fn id_is_empty(&self) -> bool {
        self.attributes.id.is_empty()
    }

    pub(crate) fn source_is_empty(&self) -> bool {
        self.attributes.source.is_empty()
    }

    pub(crate) fn type_is_empty(&self) -> bool {
        self.attributes.ty.is_empty()
    }

    /// Sets the payload in place.
    pub(crate) fn set_data(&mut self, data: Option<Bytes>) {
        self.data = data;
    }

    /// Checks everything and makes the event.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn build(self) -> Result<Event, EventError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        let mut a = self.attributes;
        for (name, value) in [("id", &a.id), ("source", &a.source), ("type", &a.ty)] {
            if value.is_empty() {
                return Err(EventError::Empty(name));
            }
            visible(name, value)?;
        }
        // Knative's broker takes an empty optional attribute for an absent one.
        a.subject = a.subject.filter(|text| !text.is_empty());
        a.time = a.time.filter(|text| !text.is_empty());
        a.data_schema = a.data_schema.filter(|text| !text.is_empty());
        a.data_content_type = a.data_content_type.filter(|text| !text.is_empty());
        let optional =
            [("subject", &a.subject), ("datacontenttype", &a.data_content_type)];
        for (name, value) in optional {
            value.as_ref().map_or(Ok(()), |value| visible(name, value))?;
        }
        if a.time.as_ref().is_some_and(|time| !is_rfc3339(time)) {
            return Err(invalid("time", "must be an RFC 3339 time such as 2026-11-24T08:00:00Z"));
        }
        if !is_uri_reference(&a.source) {
            return Err(invalid("source", "must be a URI reference"));
        }
        if a.data_schema.as_ref().is_some_and(|schema| !is_absolute_uri(schema)) {
            return Err(invalid("dataschema", "must be an absolute URI"));
        }
        for (name, value) in &a.extensions {
            if let Value::String(text) = value {
                visible(name, text)?;
            }
        }
        Ok(Event { attributes: Arc::new(a), data: self.data })
    }
}

impl From<Event> for EventBuilder {
    fn from(event: Event) -> Self {
        let attributes = Arc::unwrap_or_clone(event.attributes);
        Self { attributes, data: event.data, refused: None }
    }
}

fn invalid(name: &str, rule: &'static str) -> EventError {
    EventError::Invalid { name: name.to_owned(), rule }
}

/// Attribute strings hold no control characters (`CloudEvents` 1.0 §1.4).
fn visible(name: &str, value: &str) -> Result<(), EventError> {
    // Printable ASCII is the usual case and needs no decoding.
    let plain = value.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let fine = plain || !value.chars().any(|c| c.is_control() || is_noncharacter(c));
    if fine { Ok(()) } else { Err(invalid(name, "must not contain control characters")) }
}

fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or_default();
    let shaped = at(4) == b'-'
        && at(7) == b'-'
        && matches!(at(10), b'T' | b't' | b' ')
        && at(13) == b':'
        && at(16) == b':';
    shaped && text.parse::<jiff::Timestamp>().is_ok()
}

/// A URI reference may be almost anything; what it cannot hold are spaces at its ends or a scheme without a name.
/// Inner spaces are tolerated, as Knative's ingress does, and percent-encoded on the way out.
fn is_uri_reference(text: &str) -> bool {
    !text.starts_with(':') && text.trim() == text && is_encoded_properly(text)
}

fn is_absolute_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let mut letters = scheme.bytes();
    letters.next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && !rest.is_empty()
        && !text.contains(' ')
        && is_encoded_properly(text)
}

fn is_encoded_properly(text: &str) -> bool {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'%', bytes).all(|at| {
        let hex = |step: usize| {
            at.checked_add(step).and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_hexdigit)
        };
        hex(1) && hex(2)
    })
}

/// Whether a name is an attribute of the specification.
pub(crate) fn is_context_attribute(name: &str) -> bool {
    RESERVED.contains(&name)
}
