//! From a JSON document to events.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::builder::{Draft, MAX_EXTENSIONS};
use crate::error::{EventError, ReadError, excerpt};
use crate::event::{Event, SpecVersion, Value};
use crate::media;

/// The media type that the format implies for `data` when `datacontenttype` is absent.
const IMPLIED_CONTENT_TYPE: ByteString = ByteString::from_static("application/json");

/// Reads one event. Attributes and payload are slices of `body` wherever JSON's escapes allow it.
///
/// # Errors
/// [`ReadError`], naming the attribute that is wrong.
pub fn read(body: &Bytes) -> Result<Event, ReadError> {
    let document = ByteString::try_from(body.clone())
        .map_err(|_| ReadError::NotUtf8 { part: "the body".to_owned() })?;
    let members: Members<'_> = parse(&document)?;
    let reader = Reader { document: &document };
    Ok(reader.draft(members)?.finish()?)
}

/// Reads a batch: all of it or nothing. The number of events is bounded by the size of `body` alone,
/// which its reader limits. Each event gets bytes of its own, so that one kept for long does not keep the whole batch.
///
/// # Errors
/// [`ReadError::InBatch`] with the number of the first bad event, or what is wrong with the array.
pub fn read_batch(body: &Bytes) -> Result<Vec<Event>, ReadError> {
    let document = std::str::from_utf8(body)
        .map_err(|_| ReadError::NotUtf8 { part: "the body".to_owned() })?;
    let elements: Vec<&RawValue> = parse(document)?;
    let numbered = (1..).zip(elements);
    numbered
        .map(|(number, element)| {
            let own = Bytes::copy_from_slice(element.get().as_bytes());
            read(&own).map_err(|reason| ReadError::InBatch { number, reason: Box::new(reason) })
        })
        .collect()
}

fn parse<'a, T: Deserialize<'a>>(document: &'a str) -> Result<T, ReadError> {
    serde_json::from_str(document)
        .map_err(|error| ReadError::Json { reason: excerpt(&error.to_string()) })
}

/// The members of an event's object, their values unread.
#[derive(Default)]
struct Members<'a> {
    spec_version: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    source: Option<&'a RawValue>,
    ty: Option<&'a RawValue>,
    subject: Option<&'a RawValue>,
    time: Option<&'a RawValue>,
    data_content_type: Option<&'a RawValue>,
    data_schema: Option<&'a RawValue>,
    schema_url: Option<&'a RawValue>,
    data_content_encoding: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    data_base64: Option<&'a RawValue>,
    extensions: Vec<(Cow<'a, str>, &'a RawValue)>,
    duplicate: Option<&'static str>,
}

impl<'a> Members<'a> {
    fn put(&mut self, name: Cow<'a, str>, value: &'a RawValue) {
        let (slot, attribute) = match &*name {
            "specversion" => (&mut self.spec_version, "specversion"),
            "id" => (&mut self.id, "id"),
            "source" => (&mut self.source, "source"),
            "type" => (&mut self.ty, "type"),
            "subject" => (&mut self.subject, "subject"),
            "time" => (&mut self.time, "time"),
            "datacontenttype" => (&mut self.data_content_type, "datacontenttype"),
            "dataschema" => (&mut self.data_schema, "dataschema"),
            "schemaurl" => (&mut self.schema_url, "schemaurl"),
            "datacontentencoding" => (&mut self.data_content_encoding, "datacontentencoding"),
            "data" => (&mut self.data, "data"),
            "data_base64" => (&mut self.data_base64, "data_base64"),
            _ => return self.extensions.push((name, value)),
        };
        if slot.replace(value).is_some() {
            self.duplicate = Some(attribute);
        }
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members::default();
                while let Some(Name(name)) = map.next_key()? {
                    members.put(name, map.next_value()?);
                    // Members that are null count too: the list must not outgrow the event.
                    if members.extensions.len() > MAX_EXTENSIONS {
                        return Err(A::Error::custom(format_args!(
                            "more than {MAX_EXTENSIONS} extensions"
                        )));
                    }
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// A member's name, borrowed unless it is written with escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

struct Reader<'a> {
    document: &'a ByteString,
}

impl<'a> Reader<'a> {
    fn draft(&self, mut members: Members<'a>) -> Result<Draft, ReadError> {
        if let Some(name) = members.duplicate {
            return Err(EventError::Duplicate { name: name.to_owned() }.into());
        }
        let version = self
            .text("specversion", members.spec_version)?
            .ok_or(EventError::Missing { attribute: "specversion" })?;
        let mut draft = match &*version {
            "1.0" => Draft::new(SpecVersion::V10),
            "0.3" => Draft::new(SpecVersion::V03),
            other => return Err(ReadError::SpecVersion { found: excerpt(other) }),
        };
        draft.id = self.text("id", members.id)?;
        draft.source = self.text("source", members.source)?;
        draft.ty = self.text("type", members.ty)?;
        draft.subject = self.text("subject", members.subject)?;
        draft.time = self.text("time", members.time)?;
        draft.data_content_type = self.text("datacontenttype", members.data_content_type)?;
        match draft.spec_version {
            SpecVersion::V10 => {
                draft.data_schema = self.text("dataschema", members.data_schema)?;
                draft.data =
                    self.payload(&mut draft.data_content_type, members.data, members.data_base64)?;
                let free = [
                    ("schemaurl", members.schema_url),
                    ("datacontentencoding", members.data_content_encoding),
                ];
                members.demote(free);
            }
            SpecVersion::V03 => {
                draft.data_schema = self.text("schemaurl", members.schema_url)?;
                let (plain, encoded) =
                    self.split_by_encoding(members.data_content_encoding, members.data)?;
                draft.data = self.payload(&mut draft.data_content_type, plain, encoded)?;
                // No legal names of extensions in 0.3: refused with the others that are none.
                let other =
                    [("dataschema", members.data_schema), ("data_base64", members.data_base64)];
                members.demote(other);
            }
        }
        draft.extensions.reserve_exact(members.extensions.len());
        for (name, raw) in members.extensions {
            if let Some(value) = self.value(&name, raw)? {
                let name = match name {
                    Cow::Borrowed(name) => self.document.slice_ref(name),
                    Cow::Owned(name) => ByteString::from(name),
                };
                draft.extensions.push((name, value));
            }
        }
        Ok(draft)
    }

    /// A string's text; `None` for null and for an absent member.
    fn text(
        &self,
        attribute: &str,
        raw: Option<&RawValue>,
    ) -> Result<Option<ByteString>, ReadError> {
        match raw.map(Kind::of) {
            None | Some(Kind::Null) => Ok(None),
            Some(Kind::String(quoted)) => self.unescape(attribute, quoted).map(Some),
            Some(other) => Err(unexpected(attribute, "a string", &other)),
        }
    }

    fn value(&self, name: &str, raw: &RawValue) -> Result<Option<Value>, ReadError> {
        match Kind::of(raw) {
            Kind::Null => Ok(None),
            Kind::String(quoted) => Ok(Some(Value::String(self.unescape(name, quoted)?))),
            Kind::Boolean(value) => Ok(Some(Value::Boolean(value))),
            Kind::Number(digits) => match digits.parse() {
                Ok(value) => Ok(Some(Value::Integer(value))),
                Err(_) => {
                    Err(EventError::Integer { name: excerpt(name), found: excerpt(digits) }.into())
                }
            },
            other => Err(unexpected(name, "a string, a boolean or an integer", &other)),
        }
    }

    /// `data_base64` wins over `data`, as it does with Knative.
    fn payload(
        &self,
        content_type: &mut Option<ByteString>,
        data: Option<&RawValue>,
        base64: Option<&RawValue>,
    ) -> Result<Option<Bytes>, ReadError> {
        if let Some(encoded) = self.text("data_base64", base64)? {
            return decode_base64("data_base64", encoded.as_bytes()).map(Some);
        }
        let Some(data) = data else {
            return Ok(None);
        };
        let content_type = content_type.get_or_insert(IMPLIED_CONTENT_TYPE);
        if content_type.trim().is_empty() {
            *content_type = IMPLIED_CONTENT_TYPE;
        }
        if media::is_json(content_type) {
            // Also null: it is a payload, unlike an attribute that is null.
            return Ok(Some(self.document.as_bytes().slice_ref(data.get().as_bytes())));
        }
        match Kind::of(data) {
            Kind::Null => Ok(None),
            Kind::String(quoted) => Ok(Some(self.unescape("data", quoted)?.into_bytes())),
            other => Err(unexpected("data", "a string, since datacontenttype is not JSON", &other)),
        }
    }

    /// Which of `data` and `data_base64` the `data` of 0.3 would be in 1.0.
    fn split_by_encoding(
        &self,
        encoding: Option<&RawValue>,
        data: Option<&'a RawValue>,
    ) -> Result<(Option<&'a RawValue>, Option<&'a RawValue>), ReadError> {
        match self.text("datacontentencoding", encoding)? {
            None => Ok((data, None)),
            Some(encoding) if encoding.eq_ignore_ascii_case("base64") => Ok((None, data)),
            Some(_) => Err(ReadError::Type {
                attribute: "datacontentencoding".to_owned(),
                expected: "base64",
                found: "another encoding",
            }),
        }
    }

    /// The text of a string that is known to be valid JSON.
    fn unescape(&self, attribute: &str, quoted: &str) -> Result<ByteString, ReadError> {
        let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match inner {
            Some(plain) if memchr::memchr(b'\\', plain.as_bytes()).is_none() => {
                Ok(self.document.slice_ref(plain))
            }
            // What is left to go wrong in valid JSON: `\ud800` alone is an escape, but no character.
            _ => serde_json::from_str::<String>(quoted).map(ByteString::from).map_err(|_| {
                ReadError::Type {
                    attribute: excerpt(attribute),
                    expected: "Unicode text",
                    found: "half a surrogate pair",
                }
            }),
        }
    }
}

impl<'a> Members<'a> {
    /// Treats members that are attributes of the other version as the extensions they are in this one.
    fn demote(&mut self, members: [(&'static str, Option<&'a RawValue>); 2]) {
        for (name, raw) in members {
            if let Some(raw) = raw {
                self.extensions.push((Cow::Owned(name.to_owned()), raw));
            }
        }
    }
}

/// What a valid JSON value is, by its first byte.
enum Kind<'a> {
    Null,
    Boolean(bool),
    Number(&'a str),
    /// With its quotes.
    String(&'a str),
    Array,
    Object,
}

impl<'a> Kind<'a> {
    fn of(raw: &'a RawValue) -> Self {
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'"') => Self::String(text),
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b't') => Self::Boolean(true),
            Some(b'f') => Self::Boolean(false),
            Some(b'n') => Self::Null,
            _ => Self::Number(text),
        }
    }
}

fn unexpected(attribute: &str, expected: &'static str, found: &Kind<'_>) -> ReadError {
    let found = match found {
        Kind::Null => "null",
        Kind::Boolean(_) => "a boolean",
        Kind::Number(_) => "a number",
        Kind::String(_) => "a string",
        Kind::Array => "an array",
        Kind::Object => "an object",
    };
    ReadError::Type { attribute: excerpt(attribute), expected, found }
}

/// Decodes a payload that came as base64.
pub(crate) fn decode_base64(part: &'static str, encoded: &[u8]) -> Result<Bytes, ReadError> {
    match STANDARD.decode(encoded) {
        Ok(data) => Ok(Bytes::from(data)),
        Err(error) => Err(ReadError::Base64 { part, reason: error.to_string() }),
    }
}
