//! The event: context attributes and payload bytes.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::check;

/// The CloudEvents specification an event was written against. The SDK's 1.0 rules apply to both;
/// what differs is the name `schemaurl` (0.3) for `dataschema` (1.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpecVersion {
    /// CloudEvents 0.3, accepted because Knative's ingress accepts it.
    V03,
    /// CloudEvents 1.0.
    V10,
}

impl SpecVersion {
    /// The text of the `specversion` attribute.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V03 => "0.3",
            Self::V10 => "1.0",
        }
    }
}

/// The value of an extension attribute (CloudEvents 1.0 §1.4, "Type System").
///
/// The HTTP binary mode carries every value as a string; JSON tells booleans and integers apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// A string, or one of the types whose canonical form is one (URI, timestamp, base64 binary).
    String(ByteString),
    /// A boolean.
    Boolean(bool),
    /// A 32-bit signed integer, the only number the specification knows.
    Integer(i32),
}

/// A borrowed attribute value, as filters and CESQL see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueRef<'a> {
    /// A string.
    String(&'a str),
    /// A boolean.
    Boolean(bool),
    /// A 32-bit signed integer.
    Integer(i32),
}

/// The context attributes. Every string is non-empty where the specification asks for it;
/// [`Event`]s are only built by the parsers and by [`crate::EventBuilder`], which check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub(crate) spec_version: SpecVersion,
    pub(crate) id: ByteString,
    pub(crate) source: ByteString,
    pub(crate) ty: ByteString,
    pub(crate) subject: Option<ByteString>,
    /// RFC 3339 text, kept as it came.
    pub(crate) time: Option<ByteString>,
    pub(crate) data_content_type: Option<ByteString>,
    pub(crate) data_schema: Option<ByteString>,
    /// Sorted by name; names are unique, lower-case ASCII letters and digits.
    pub(crate) extensions: Vec<(ByteString, Value)>,
}

/// A CloudEvent: shared attributes and untouched payload bytes. Cloning costs two reference counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub(crate) attributes: Arc<Attributes>,
    pub(crate) data: Option<Bytes>,
}

impl Event {
    /// The specification version the event was written against.
    #[must_use]
    pub fn spec_version(&self) -> SpecVersion {
        self.attributes.spec_version
    }

    /// `id`: with [`source`](Self::source) the identity of the event.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.attributes.id
    }

    /// `source`: a URI reference to where it happened.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.attributes.source
    }

    /// `type`: what happened.
    #[must_use]
    pub fn ty(&self) -> &str {
        &self.attributes.ty
    }

    /// `subject`: what it happened to.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.attributes.subject.as_deref()
    }

    /// `time`: RFC 3339 text as it came.
    #[must_use]
    pub fn time(&self) -> Option<&str> {
        self.attributes.time.as_deref()
    }

    /// `datacontenttype`: the media type of the payload.
    #[must_use]
    pub fn data_content_type(&self) -> Option<&str> {
        self.attributes.data_content_type.as_deref()
    }

    /// `dataschema` (`schemaurl` in 0.3).
    #[must_use]
    pub fn data_schema(&self) -> Option<&str> {
        self.attributes.data_schema.as_deref()
    }

    /// The payload, byte for byte what the producer sent; `None` when the event carries none.
    #[must_use]
    pub fn data(&self) -> Option<&Bytes> {
        self.data.as_ref()
    }

    /// The extensions, sorted by name.
    pub fn extensions(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.attributes.extensions.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// One extension by name.
    #[must_use]
    pub fn extension(&self, name: &str) -> Option<&Value> {
        let extensions = &self.attributes.extensions;
        let at = extensions.binary_search_by(|(have, _)| (**have).cmp(name)).ok()?;
        extensions.get(at).map(|(_, value)| value)
    }

    /// Any context attribute or extension by its CloudEvents name; `None` when it is absent.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<ValueRef<'_>> {
        match name {
            "specversion" => Some(ValueRef::String(self.spec_version().as_str())),
            "id" => Some(ValueRef::String(self.id())),
            "source" => Some(ValueRef::String(self.source())),
            "type" => Some(ValueRef::String(self.ty())),
            "subject" => self.subject().map(ValueRef::String),
            "time" => self.time().map(ValueRef::String),
            "datacontenttype" => self.data_content_type().map(ValueRef::String),
            "dataschema" => self.data_schema().map(ValueRef::String),
            _ => self.extension(name).map(Value::as_ref),
        }
    }

    /// Sets (or replaces) an extension. The attributes are copied first if they are shared.
    ///
    /// # Panics
    /// When `name` is no extension's name in lower case. Names are the caller's own; what comes from outside goes through
    /// the parsers or [`crate::EventBuilder`]. Kept in the event, a bad name would make its record unreadable.
    pub fn set_extension(&mut self, name: impl Into<ByteString>, value: Value) {
        let name = name.into();
        let v03 = self.spec_version() == SpecVersion::V03;
        assert!(
            check::is_extension_name(&name) && !check::is_reserved(&name, v03),
            "{name:?} is no extension's name"
        );
        let extensions = &mut Arc::make_mut(&mut self.attributes).extensions;
        match extensions.binary_search_by(|(have, _)| have.cmp(&name)) {
            Ok(at) => {
                if let Some(entry) = extensions.get_mut(at) {
                    entry.1 = value;
                }
            }
            Err(at) => extensions.insert(at, (name, value)),
        }
    }

    /// Removes an extension and returns its value.
    pub fn remove_extension(&mut self, name: &str) -> Option<Value> {
        self.extension(name)?;
        let extensions = &mut Arc::make_mut(&mut self.attributes).extensions;
        let at = extensions.binary_search_by(|(have, _)| (**have).cmp(name)).ok()?;
        Some(extensions.remove(at).1)
    }
}

impl Value {
    /// Borrows the value.
    #[must_use]
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::String(text) => ValueRef::String(text),
            Self::Boolean(value) => ValueRef::Boolean(*value),
            Self::Integer(value) => ValueRef::Integer(*value),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(ByteString::from(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(ByteString::from(text))
    }
}

impl From<ByteString> for Value {
    fn from(text: ByteString) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Integer(value)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => f.write_str(text),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
        }
    }
}
