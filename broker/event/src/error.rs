//! Why an event was refused.

/// An attribute that breaks the rules of the specification, or of a broker that must be able to pass it on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// A required attribute is absent.
    #[error("attribute {attribute} is missing")]
    Missing {
        /// Which one.
        attribute: &'static str,
    },
    /// A required attribute is empty or blank.
    #[error("attribute {attribute} must not be empty")]
    Empty {
        /// Which one.
        attribute: &'static str,
    },
    /// The specification keeps control characters out of attributes, and no header could carry them.
    #[error("attribute {attribute} contains the control character U+{code:04X}")]
    ControlCharacter {
        /// Which one.
        attribute: String,
        /// The character.
        code: u32,
    },
    /// `source` is not a URI reference.
    #[error("attribute source must be a URI reference, not {found:?}")]
    Source {
        /// What it was, shortened.
        found: String,
    },
    /// `dataschema` is not an absolute URI (or `schemaurl`, in 0.3, no URI reference).
    #[error("attribute {attribute} must be {expected}, not {found:?}")]
    Schema {
        /// Its name in the version of the event.
        attribute: &'static str,
        /// What it must be in the version of the event.
        expected: &'static str,
        /// What it was, shortened.
        found: String,
    },
    /// `time` is not an RFC 3339 timestamp.
    #[error(
        "attribute time must be an RFC 3339 timestamp such as 2026-01-31T12:00:00Z, not {found:?}"
    )]
    Time {
        /// What it was, shortened.
        found: String,
    },
    /// `datacontenttype` is not a media type.
    #[error(
        "attribute datacontenttype must be a media type such as application/json, not {found:?}"
    )]
    ContentType {
        /// What it was, shortened.
        found: String,
    },
    /// An extension's name has other characters than letters and digits, or is too long.
    #[error(
        "extension name {name:?} must be 1 to {max} ASCII letters and digits",
        max = crate::MAX_EXTENSION_NAME
    )]
    ExtensionName {
        /// The name, shortened.
        name: String,
    },
    /// The name of a context attribute, used as an extension's.
    #[error("{name} is the name of a context attribute and cannot be an extension here")]
    Reserved {
        /// The name, in lower case.
        name: String,
    },
    /// The same attribute twice.
    #[error("attribute {name} is given more than once")]
    Duplicate {
        /// The name, in lower case.
        name: String,
    },
    /// An integer that does not fit the 32 bits the specification gives it.
    #[error("extension {name} must be an integer from -2147483648 to 2147483647, not {found}")]
    Integer {
        /// The extension.
        name: String,
        /// What it was, shortened.
        found: String,
    },
    /// More extensions than receivers take header fields.
    #[error("an event may have {max} extensions, not {found}", max = crate::MAX_EXTENSIONS)]
    TooManyExtensions {
        /// How many there were.
        found: usize,
    },
}

impl EventError {
    /// Never: the same event is refused again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Why a message holds no event that can be taken. Every sentence names what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A format of `CloudEvents` that is not spoken here (415).
    #[error(
        "media type {content_type:?} is not supported; send application/cloudevents+json, \
         application/cloudevents-batch+json or the binary mode, in UTF-8"
    )]
    UnsupportedMediaType {
        /// What the message said, shortened.
        content_type: String,
    },
    /// Nothing in the message speaks of an event.
    #[error(
        "the message is not a CloudEvent: it has neither a ce-specversion header (binary mode) \
         nor the content type application/cloudevents+json (structured mode)"
    )]
    NotAnEvent,
    /// Some `ce-` headers, but not the one that makes them an event.
    #[error("header ce-specversion is missing, although {beside} is there")]
    NoSpecVersion {
        /// One of the other headers, shortened.
        beside: String,
    },
    /// A version of the specification that is not spoken here.
    #[error("attribute specversion must be 1.0 or 0.3, not {found:?}")]
    SpecVersion {
        /// What it was, shortened.
        found: String,
    },
    /// An attribute breaks the rules.
    #[error(transparent)]
    Event(#[from] EventError),
    /// Bytes that are no UTF-8 where text is required.
    #[error("{part} is not valid UTF-8")]
    NotUtf8 {
        /// Which part of the message.
        part: String,
    },
    /// The document is no JSON, or no object (array, for a batch) of it.
    #[error("the body is not a CloudEvent in JSON: {reason}")]
    Json {
        /// What the parser says.
        reason: String,
    },
    /// A member of the JSON object has a type it cannot have.
    #[error("attribute {attribute} must be {expected}, not {found}")]
    Type {
        /// The member, shortened.
        attribute: String,
        /// What it may be.
        expected: &'static str,
        /// What it was.
        found: &'static str,
    },
    /// Payload that is announced as base64 and is not.
    #[error("{part} is not valid base64: {reason}")]
    Base64 {
        /// Where the payload was.
        part: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// One event of a batch.
    #[error("event {number} of the batch: {reason}")]
    InBatch {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        reason: Box<ReadError>,
    },
}

impl ReadError {
    /// Never: the same message is refused again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// The start of `text`, short enough for a sentence. Senders choose the length of what they get wrong.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
