//! From events to entries of a stream: fields and values.

use std::borrow::Cow;

use broker_event::Event;
use thiserror::Error;

use crate::message::attributes;
use crate::redis::DATA;

/// A field and its value.
pub(super) type Field<'a> = (Cow<'a, str>, Cow<'a, [u8]>);

/// Why an event has no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Unwritable {
    /// The fields and values are not pairs.
    #[error(
        "the data is a JSON array of texts, which is field, value, field, value, and so on; this one has {0}"
    )]
    Unpaired(usize),
}

/// The fields of an event's entry. Data that is a JSON array of texts is the entry itself, as Knative's sink has it. Of any
/// other event they are its attributes by name, `datacontenttype` if there is one, and its data, as it is, under `data`.
pub(super) fn entry(event: &Event) -> Result<Vec<Field<'_>>, Unwritable> {
    if let Some(texts) = texts(event) {
        if texts.is_empty() || texts.len() % 2 == 1 {
            return Err(Unwritable::Unpaired(texts.len()));
        }
        let mut texts = texts.into_iter();
        let pair = || Some((texts.next()?, texts.next()?));
        let pairs = std::iter::from_fn(pair);
        return Ok(pairs.map(|(name, value)| (name.into(), value.into_bytes().into())).collect());
    }
    let text = |value| match value {
        Cow::Borrowed(text) => Cow::Borrowed(str::as_bytes(text)),
        Cow::Owned(text) => Cow::Owned(String::into_bytes(text)),
    };
    let mut fields: Vec<Field<'_>> =
        attributes(event).map(|(name, value)| (name.into(), text(value))).collect();
    if let Some(media_type) = event.data_content_type() {
        fields.push(("datacontenttype".into(), media_type.as_bytes().into()));
    }
    if let Some(data) = event.data() {
        fields.push((DATA.into(), data.as_ref().into()));
    }
    Ok(fields)
}

fn texts(event: &Event) -> Option<Vec<String>> {
    let data = event.data()?;
    // Spares most data from being parsed.
    let first = data.iter().find(|byte| !byte.is_ascii_whitespace())?;
    (*first == b'[').then(|| serde_json::from_slice(data).ok())?
}

#[cfg(test)]
mod tests {
    use broker_event::{EventBuilder, Value};

    use super::{Unwritable, entry};

    fn fields(data: Option<&'static str>) -> Result<Vec<String>, Unwritable> {
        let mut builder = EventBuilder::new("1", "/s", "t")
            .data_content_type("application/json")
            .extension("number", Value::Integer(7));
        if let Some(data) = data {
            builder = builder.data(data);
        }
        let event = builder.build().unwrap();
        let shown = entry(&event)?.into_iter().map(|(name, value)| {
            format!("{name}={}", String::from_utf8(value.into_owned()).unwrap())
        });
        Ok(shown.collect())
    }

    #[test]
    fn an_array_of_texts_is_the_entry() {
        assert_eq!(fields(Some(r#" ["a","1","b","x y"]"#)).unwrap(), ["a=1", "b=x y"]);
        assert_eq!(fields(Some(r#"["a","1","b"]"#)), Err(Unwritable::Unpaired(3)));
        assert_eq!(fields(Some("[]")), Err(Unwritable::Unpaired(0)));
    }

    #[test]
    fn any_other_event_is_its_attributes_and_its_data() {
        let attributes = ["specversion=1.0", "id=1", "source=/s", "type=t", "number=7"];
        let attributes = [&attributes[..], &["datacontenttype=application/json"]].concat();
        for data in [r#"{"a":1}"#, r#"["a",1]"#, "[broken", "text"] {
            let mut expected = attributes.clone();
            let last = format!("data={data}");
            expected.push(&last);
            assert_eq!(fields(Some(data)).unwrap(), expected);
        }
        assert_eq!(fields(None).unwrap(), attributes);
    }
}
