//! The binary mode: attributes in `ce-` headers.

use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;
use http::HeaderMap;

use super::text;
use crate::builder::{Draft, MAX_EXTENSIONS};
use crate::error::{EventError, ReadError, excerpt};
use crate::event::{Event, SpecVersion, Value};
use crate::json;

const PREFIX: &str = "ce-";

/// Reads the event of a binary message whose content type is that of its payload.
pub(super) fn read(
    headers: &HeaderMap,
    content_type: Option<&str>,
    body: Bytes,
) -> Result<Event, ReadError> {
    let version = spec_version(headers)?;
    let mut fields = Fields {
        packed: String::with_capacity(size_hint(headers, content_type)),
        ..Fields::default()
    };
    for (name, value) in headers {
        if let Some(attribute) = name.as_str().strip_prefix(PREFIX) {
            fields.take(attribute, value.as_bytes(), version)?;
        }
    }
    let content_type = content_type.map(|text| fields.pack(text));
    let mut draft = fields.draft(version, content_type);
    draft.data = payload(headers, version, body)?;
    Ok(draft.finish()?)
}

fn spec_version(headers: &HeaderMap) -> Result<SpecVersion, ReadError> {
    let Some(field) = headers.get("ce-specversion") else {
        let beside = headers.keys().find(|name| name.as_str().starts_with(PREFIX));
        return Err(match beside {
            Some(name) => ReadError::NoSpecVersion { beside: excerpt(name.as_str()) },
            None => ReadError::NotAnEvent,
        });
    };
    match field.as_bytes() {
        b"1.0" => Ok(SpecVersion::V10),
        b"0.3" => Ok(SpecVersion::V03),
        other => Err(ReadError::SpecVersion { found: excerpt(&String::from_utf8_lossy(other)) }),
    }
}

/// An empty body is no payload: HTTP cannot tell the two apart.
fn payload(
    headers: &HeaderMap,
    version: SpecVersion,
    body: Bytes,
) -> Result<Option<Bytes>, ReadError> {
    if body.is_empty() {
        return Ok(None);
    }
    // In 0.3 the sender may have had to make text of bytes, and says so.
    let encoding = headers.get("ce-datacontentencoding").filter(|_| version == SpecVersion::V03);
    match encoding {
        Some(encoding) if encoding.as_bytes().eq_ignore_ascii_case(b"base64") => {
            json::decode_base64("the body", &body).map(Some)
        }
        Some(_) => Err(ReadError::Type {
            attribute: "datacontentencoding".to_owned(),
            expected: "base64",
            found: "another encoding",
        }),
        None => Ok(Some(body)),
    }
}

/// Bytes all the attributes take at most, so that packing them allocates once.
fn size_hint(headers: &HeaderMap, content_type: Option<&str>) -> usize {
    let fields = headers.iter().filter(|(name, _)| name.as_str().starts_with(PREFIX));
    fields.fold(content_type.map_or(0, str::len), |sum, (name, value)| {
        sum.saturating_add(name.as_str().len()).saturating_add(value.len())
    })
}

/// The attributes, packed one behind the other into a single buffer that the event's texts then share.
#[derive(Default)]
struct Fields {
    packed: String,
    spec_version: Option<Range<usize>>,
    id: Option<Range<usize>>,
    source: Option<Range<usize>>,
    ty: Option<Range<usize>>,
    subject: Option<Range<usize>>,
    time: Option<Range<usize>>,
    data_schema: Option<Range<usize>>,
    encoding: Option<Range<usize>>,
    extensions: Vec<(Range<usize>, Range<usize>)>,
}

impl Fields {
    fn take(
        &mut self,
        attribute: &str,
        value: &[u8],
        version: SpecVersion,
    ) -> Result<(), ReadError> {
        let start = self.packed.len();
        text::decode(attribute, value, &mut self.packed)?;
        let value = start..self.packed.len();
        let slot = match attribute {
            "specversion" => &mut self.spec_version,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.ty,
            "subject" => &mut self.subject,
            "time" => &mut self.time,
            "dataschema" if version == SpecVersion::V10 => &mut self.data_schema,
            "schemaurl" if version == SpecVersion::V03 => &mut self.data_schema,
            "datacontentencoding" if version == SpecVersion::V03 => &mut self.encoding,
            _ => {
                if self.extensions.len() >= MAX_EXTENSIONS {
                    let found = MAX_EXTENSIONS.saturating_add(1);
                    return Err(EventError::TooManyExtensions { found }.into());
                }
                let name = self.pack(attribute);
                self.extensions.push((name, value));
                return Ok(());
            }
        };
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(EventError::Duplicate { name: attribute.to_owned() }.into()),
        }
    }

    fn pack(&mut self, text: &str) -> Range<usize> {
        let start = self.packed.len();
        self.packed.push_str(text);
        start..self.packed.len()
    }

    fn draft(self, version: SpecVersion, content_type: Option<Range<usize>>) -> Draft {
        let packed = ByteString::from(self.packed);
        let text = |range: Range<usize>| packed.slice_ref(packed.get(range).unwrap_or_default());
        let extension = |(name, value)| (text(name), Value::String(text(value)));
        Draft {
            id: self.id.map(text),
            source: self.source.map(text),
            ty: self.ty.map(text),
            subject: self.subject.map(text),
            time: self.time.map(text),
            data_content_type: content_type.map(text),
            data_schema: self.data_schema.map(text),
            extensions: self.extensions.into_iter().map(extension).collect(),
            ..Draft::new(version)
        }
    }
}
