//! The data of events: an entry as JSON; or the event that it is.

use std::str::from_utf8;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker_event::Event;
use bytes::Bytes;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::message::Message;

/// The field of an entry that holds the data of an event.
pub(crate) const DATA: &str = "data";

/// In which form an entry becomes JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    /// Knative's: names and values in turn, `["name","value","name","value"]`.
    #[default]
    Array,
    /// `{"name":"value"}`. Redis allows a name several times in an entry; its values are then a list.
    Object,
    /// An entry that holds the attributes of an event by name, as the sink writes them, is that event. Of any other it is an array.
    Event,
}

/// An entry as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Payload {
    /// The JSON.
    pub(super) json: Vec<u8>,
    /// Whether all texts in it are Base64. JSON has no bytes that are not UTF-8, so where there is one such name or value,
    /// all of the entry is encoded; half of it would leave readers to guess.
    pub(super) base64: bool,
}

impl Shape {
    /// The shape of that name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "array" => Some(Self::Array),
            "object" => Some(Self::Object),
            "event" => Some(Self::Event),
            _ => None,
        }
    }
}

/// Makes JSON of the names and values of an entry.
///
/// # Errors
/// Never, as far as is known: texts are always JSON, and memory takes what is written to it.
pub(super) fn payload(fields: &[Vec<u8>], shape: Shape) -> Result<Payload, serde_json::Error> {
    let texts: Result<Vec<&str>, _> = fields.iter().map(|field| from_utf8(field)).collect();
    if let Ok(texts) = texts {
        return Ok(Payload { json: json(&texts, shape)?, base64: false });
    }
    let encoded: Vec<String> = fields.iter().map(|field| STANDARD.encode(field)).collect();
    let texts: Vec<&str> = encoded.iter().map(String::as_str).collect();
    Ok(Payload { json: json(&texts, shape)?, base64: true })
}

/// The event that an entry is, if it is one.
pub(super) fn own(fields: &[Vec<u8>]) -> Option<Event> {
    let mut message =
        Message { content_type: None, attributes: Vec::new(), source: None, body: None };
    for pair in fields.chunks_exact(2) {
        let [name, value] = pair else { continue };
        match from_utf8(name).ok()? {
            DATA => message.body = Some(Bytes::copy_from_slice(value)),
            name => message.attributes.push((name, from_utf8(value).ok()?)),
        }
    }
    message.event()?.ok()
}

fn json(texts: &[&str], shape: Shape) -> Result<Vec<u8>, serde_json::Error> {
    match shape {
        Shape::Array | Shape::Event => serde_json::to_vec(&InTurn(texts)),
        Shape::Object => serde_json::to_vec(&ByName(texts)),
    }
}

struct InTurn<'a>(&'a [&'a str]);

struct ByName<'a>(&'a [&'a str]);

/// The value of a name, or its values.
#[derive(Serialize)]
#[serde(untagged)]
enum Values<'a> {
    One(&'a str),
    Several(Vec<&'a str>),
}

impl Serialize for InTurn<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for text in self.0 {
            list.serialize_element(text)?;
        }
        list.end()
    }
}

impl Serialize for ByName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        for (name, values) in by_name(self.0) {
            object.serialize_entry(name, &values)?;
        }
        object.end()
    }
}

/// Each name once, where it came first.
fn by_name<'a>(texts: &'a [&'a str]) -> Vec<(&'a str, Values<'a>)> {
    let mut places = std::collections::HashMap::new();
    let mut named: Vec<(&str, Values<'_>)> = Vec::with_capacity(texts.len() / 2);
    for pair in texts.chunks_exact(2) {
        let &[name, value] = pair else { continue };
        let place = *places.entry(name).or_insert(named.len());
        match named.get_mut(place) {
            None => named.push((name, Values::One(value))),
            Some((_, Values::Several(values))) => values.push(value),
            Some((_, values @ Values::One(_))) => {
                if let Values::One(first) = *values {
                    *values = Values::Several(vec![first, value]);
                }
            }
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::{Shape, own, payload};
    use proptest::prelude::*;

    fn made(fields: &[&[u8]], shape: Shape) -> (String, bool) {
        let fields: Vec<Vec<u8>> = fields.iter().map(|field| field.to_vec()).collect();
        let payload = payload(&fields, shape).unwrap();
        (String::from_utf8(payload.json).unwrap(), payload.base64)
    }

    #[test]
    fn names_and_values_are_listed_in_turn() {
        let made = |fields: &[&[u8]]| made(fields, Shape::Array);
        let fruit = made(&[b"fruit", b"banana", b"color", b"yellow"]);
        assert_eq!(fruit, (r#"["fruit","banana","color","yellow"]"#.to_owned(), false));
        assert_eq!(made(&[b"a", b"\"\n\0"]).0, r#"["a","\"\n\u0000"]"#);
        assert_eq!(made(&["é".as_bytes(), b""]).0, r#"["é",""]"#);
        assert_eq!(made(&[]).0, "[]");
    }

    #[test]
    fn an_object_keeps_the_order_and_every_value() {
        let made = |fields: &[&[u8]]| made(fields, Shape::Object).0;
        assert_eq!(made(&[b"z", b"1", b"a", b"2"]), r#"{"z":"1","a":"2"}"#);
        assert_eq!(
            made(&[b"a", b"1", b"b", b"2", b"a", b"3", b"a", b"4"]),
            r#"{"a":["1","3","4"],"b":"2"}"#
        );
    }

    #[test]
    fn what_is_no_text_is_base64_as_a_whole() {
        let array = made(&[b"fruit", b"\xff\x00"], Shape::Array);
        assert_eq!(array, (r#"["ZnJ1aXQ=","/wA="]"#.to_owned(), true));
        let object = made(&[b"\xff", b"x"], Shape::Object);
        assert_eq!(object, (r#"{"/w==":"eA=="}"#.to_owned(), true));
    }

    #[test]
    fn an_entry_with_attributes_is_an_event() {
        let read = |fields: &[&str]| {
            own(&fields.iter().map(|field| field.as_bytes().to_vec()).collect::<Vec<_>>())
        };
        let attributes =
            ["specversion", "1.0", "id", "7", "source", "/s", "type", "t", "team", "a"];
        let event =
            read(&[&attributes[..], &["datacontenttype", "text/plain", "data", "x"]].concat());
        let event = event.unwrap();
        assert_eq!((event.id(), event.data_content_type()), ("7", Some("text/plain")));
        assert_eq!(event.data().unwrap(), "x");
        assert_eq!(event.extensions().count(), 1);
        assert!(read(&attributes[..6]).is_none(), "an event has a type");
        assert!(read(&["fruit", "banana"]).is_none());
        assert!(read(&[&attributes[..], &["not a name", "x"]].concat()).is_none());
        assert_eq!(made(&[b"fruit", b"banana"], Shape::Event).0, r#"["fruit","banana"]"#);
    }

    proptest! {
        #[test]
        fn any_entry_is_json_that_gives_it_back(pairs in prop::collection::vec(any::<(String, String)>(), 0..8)) {
            let fields: Vec<String> = pairs.into_iter().flat_map(|(name, value)| [name, value]).collect();
            let bytes: Vec<Vec<u8>> = fields.iter().map(|field| field.clone().into_bytes()).collect();
            let made = payload(&bytes, Shape::Array).unwrap();
            let back: Vec<String> = serde_json::from_slice(&made.json).unwrap();
            prop_assert_eq!(back, fields);
        }

        #[test]
        fn any_bytes_are_json(fields in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8), object: bool) {
            let shape = if object { Shape::Object } else { Shape::Array };
            let made = payload(&fields, shape).unwrap();
            let parsed: serde_json::Value = serde_json::from_slice(&made.json).unwrap();
            prop_assert_eq!(parsed.is_object(), object);
        }
    }
}
