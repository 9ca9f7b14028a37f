//! Builds events and checks them.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::check;
use crate::error::{EventError, excerpt};
use crate::event::{Attributes, Event, SpecVersion, Value};
use crate::media;

/// Extensions one event may have. HTTP servers take between 100 and 2,000 header fields,
/// so an event with more could be stored but hardly ever delivered.
pub const MAX_EXTENSIONS: usize = 1024;

/// Bytes of an extension's name. The specification advises 20; header names must end somewhere.
pub const MAX_EXTENSION_NAME: usize = 255;

/// Builds an [`Event`]; [`build`](Self::build) checks all of it.
///
/// Empty text for an optional attribute (`subject`, `datacontenttype`, `dataschema`) means that it is absent.
#[derive(Clone, Debug)]
pub struct EventBuilder {
    draft: Draft,
}

impl EventBuilder {
    /// Starts an event with the attributes every event has.
    #[must_use]
    pub fn new(
        id: impl Into<ByteString>,
        source: impl Into<ByteString>,
        ty: impl Into<ByteString>,
    ) -> Self {
        let draft = Draft {
            id: Some(id.into()),
            source: Some(source.into()),
            ty: Some(ty.into()),
            ..Draft::new(SpecVersion::V10)
        };
        Self { draft }
    }

    /// The version of the specification; 1.0 unless told.
    #[must_use]
    pub fn spec_version(mut self, version: SpecVersion) -> Self {
        self.draft.spec_version = version;
        self
    }

    /// `id`, in place of the one given at the start.
    #[must_use]
    pub fn id(mut self, id: impl Into<ByteString>) -> Self {
        self.draft.id = Some(id.into());
        self
    }

    /// `source`, in place of the one given at the start.
    #[must_use]
    pub fn source(mut self, source: impl Into<ByteString>) -> Self {
        self.draft.source = Some(source.into());
        self
    }

    /// `type`, in place of the one given at the start.
    #[must_use]
    pub fn ty(mut self, ty: impl Into<ByteString>) -> Self {
        self.draft.ty = Some(ty.into());
        self
    }

    /// `subject`.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<ByteString>) -> Self {
        self.draft.subject = Some(subject.into());
        self
    }

    /// `time`: RFC 3339 text, kept as it is.
    #[must_use]
    pub fn time(mut self, time: impl Into<ByteString>) -> Self {
        self.draft.time = Some(time.into());
        self
    }

    /// `datacontenttype`.
    #[must_use]
    pub fn data_content_type(mut self, content_type: impl Into<ByteString>) -> Self {
        self.draft.data_content_type = Some(content_type.into());
        self
    }

    /// `dataschema` (`schemaurl` in 0.3).
    #[must_use]
    pub fn data_schema(mut self, schema: impl Into<ByteString>) -> Self {
        self.draft.data_schema = Some(schema.into());
        self
    }

    /// An extension. Upper case is folded to lower; a second value for a name replaces the first.
    #[must_use]
    pub fn extension(mut self, name: impl Into<ByteString>, value: impl Into<Value>) -> Self {
        let mut name = name.into();
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            name = name.to_ascii_lowercase().into();
        }
        let extensions = &mut self.draft.extensions;
        match extensions.iter_mut().find(|(have, _)| *have == name) {
            Some(entry) => entry.1 = value.into(),
            None => extensions.push((name, value.into())),
        }
        self
    }

    /// The payload.
    #[must_use]
    pub fn data(mut self, data: impl Into<Bytes>) -> Self {
        self.draft.data = Some(data.into());
        self
    }

    /// Checks everything and makes the event.
    ///
    /// # Errors
    /// The first rule that is broken, with the attribute's name.
    pub fn build(self) -> Result<Event, EventError> {
        self.draft.finish()
    }
}

impl From<Event> for EventBuilder {
    fn from(event: Event) -> Self {
        let Attributes {
            spec_version,
            id,
            source,
            ty,
            subject,
            time,
            data_content_type,
            data_schema,
            extensions,
        } = Arc::unwrap_or_clone(event.attributes);
        let draft = Draft {
            spec_version,
            id: Some(id),
            source: Some(source),
            ty: Some(ty),
            subject,
            time,
            data_content_type,
            data_schema,
            extensions,
            data: event.data,
        };
        Self { draft }
    }
}

/// What parsers fill in: nothing checked yet, extensions in any order and perhaps twice.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) spec_version: SpecVersion,
    pub(crate) id: Option<ByteString>,
    pub(crate) source: Option<ByteString>,
    pub(crate) ty: Option<ByteString>,
    pub(crate) subject: Option<ByteString>,
    pub(crate) time: Option<ByteString>,
    pub(crate) data_content_type: Option<ByteString>,
    pub(crate) data_schema: Option<ByteString>,
    pub(crate) extensions: Vec<(ByteString, Value)>,
    pub(crate) data: Option<Bytes>,
}

impl Draft {
    pub(crate) fn new(spec_version: SpecVersion) -> Self {
        Self {
            spec_version,
            id: None,
            source: None,
            ty: None,
            subject: None,
            time: None,
            data_content_type: None,
            data_schema: None,
            extensions: Vec::new(),
            data: None,
        }
    }

    /// Checks every rule; the only way from text to an [`Event`].
    pub(crate) fn finish(self) -> Result<Event, EventError> {
        let v03 = self.spec_version == SpecVersion::V03;
        let attributes = Attributes {
            spec_version: self.spec_version,
            id: required("id", self.id)?,
            source: source(self.source)?,
            ty: required("type", self.ty)?,
            subject: optional("subject", self.subject)?,
            time: time(self.time)?,
            data_content_type: content_type(self.data_content_type)?,
            data_schema: schema(self.data_schema, v03)?,
            extensions: extensions(self.extensions, v03)?,
        };
        Ok(Event { attributes: Arc::new(attributes), data: self.data })
    }
}

fn required(attribute: &'static str, value: Option<ByteString>) -> Result<ByteString, EventError> {
    let value = value.ok_or(EventError::Missing { attribute })?;
    if value.trim().is_empty() {
        return Err(EventError::Empty { attribute });
    }
    check::no_control(attribute, &value)?;
    Ok(value)
}

fn optional(
    attribute: &'static str,
    value: Option<ByteString>,
) -> Result<Option<ByteString>, EventError> {
    let Some(value) = value.filter(|value| !value.trim().is_empty()) else {
        return Ok(None);
    };
    check::no_control(attribute, &value)?;
    Ok(Some(value))
}

fn source(value: Option<ByteString>) -> Result<ByteString, EventError> {
    let value = required("source", value)?;
    if check::is_uri_reference(&value) {
        Ok(value)
    } else {
        Err(EventError::Source { found: excerpt(&value) })
    }
}

fn time(value: Option<ByteString>) -> Result<Option<ByteString>, EventError> {
    match value {
        Some(value) if !check::is_timestamp(&value) => {
            Err(EventError::Time { found: excerpt(&value) })
        }
        value => Ok(value),
    }
}

fn content_type(value: Option<ByteString>) -> Result<Option<ByteString>, EventError> {
    match optional("datacontenttype", value)? {
        Some(value) if !media::is_media_type(&value) => {
            Err(EventError::ContentType { found: excerpt(&value) })
        }
        value => Ok(value.map(|value| value.slice_ref(value.trim()))),
    }
}

fn schema(value: Option<ByteString>, v03: bool) -> Result<Option<ByteString>, EventError> {
    let (attribute, expected) =
        if v03 { ("schemaurl", "a URI reference") } else { ("dataschema", "an absolute URI") };
    let value = optional(attribute, value)?;
    let is_good = if v03 { check::is_uri_reference } else { check::is_absolute_uri };
    match value {
        Some(value) if !is_good(&value) => {
            Err(EventError::Schema { attribute, expected, found: excerpt(&value) })
        }
        value => Ok(value),
    }
}

/// Folds the names to lower case, sorts by them and refuses what is no extension.
fn extensions(
    mut extensions: Vec<(ByteString, Value)>,
    v03: bool,
) -> Result<Vec<(ByteString, Value)>, EventError> {
    if extensions.len() > MAX_EXTENSIONS {
        return Err(EventError::TooManyExtensions { found: extensions.len() });
    }
    for (name, value) in &mut extensions {
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            *name = ByteString::from(name.to_ascii_lowercase());
        }
        if check::is_reserved(name, v03) {
            return Err(EventError::Reserved { name: name.to_string() });
        }
        if !check::is_extension_name(name) {
            return Err(EventError::ExtensionName { name: excerpt(name) });
        }
        if let Value::String(text) = value {
            check::no_control(name, text)?;
        }
    }
    extensions.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    for ((left, _), (right, _)) in extensions.iter().zip(extensions.iter().skip(1)) {
        if left == right {
            return Err(EventError::Duplicate { name: left.to_string() });
        }
    }
    Ok(extensions)
}

#[cfg(test)]
mod tests;
