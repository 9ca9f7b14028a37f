//! The body of a request: bounded, in JSON or protobuf, with keys that stand twice reported.

use std::cell::RefCell;
use std::fmt;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::server::protobuf::{self, ProtobufError};
use crate::status::Refusal;

/// More keys that stand twice are not reported: one is enough to refuse.
const MAX_DUPLICATES: usize = 32;

/// What objects may be written in.
const OBJECTS: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// What a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Yaml,
    Protobuf,
    JsonPatch,
    MergePatch,
    StrategicPatch,
    ApplyPatch,
}

impl Media {
    /// What `Content-Type` says; nothing means JSON.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Self::Json) };
        let text = value.to_str().unwrap_or_default();
        match text.split(';').next().unwrap_or_default().trim() {
            "" | "*/*" | "application/json" => Ok(Self::Json),
            "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Ok(Self::Protobuf),
            "application/json-patch+json" => Ok(Self::JsonPatch),
            "application/merge-patch+json" => Ok(Self::MergePatch),
            "application/strategic-merge-patch+json" => Ok(Self::StrategicPatch),
            "application/apply-patch+yaml" => Ok(Self::ApplyPatch),
            _ => Err(unsupported(OBJECTS)),
        }
    }

    /// The same, for whole objects and options.
    pub(crate) fn of_object(headers: &HeaderMap) -> Result<Self, Refusal> {
        match Self::of(headers)? {
            media @ (Self::Json | Self::Yaml | Self::Protobuf) => Ok(media),
            _ => Err(unsupported(OBJECTS)),
        }
    }
}

/// The refusal of a body in none of these media types.
pub(crate) fn unsupported(accepted: &str) -> Refusal {
    Refusal::UnsupportedMediaType(format!(
        "the body of the request was in an unknown format - accepted media types include: {accepted}"
    ))
}

/// Reads a body to its end, or to the limit.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Refusal::TooLarge(format!("Request entity too large: limit is {limit}")))
        }
        Err(_) => Err(Refusal::BadRequest("the body of the request broke off".to_owned())),
    }
}

/// A value, and what stands twice in it.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) value: Value,
    /// As in `duplicate field "spec.x"`.
    pub(crate) duplicates: Vec<String>,
}

/// Parses JSON, or YAML or protobuf where the client says so.
pub(crate) fn parse(bytes: &[u8], media: Media) -> Result<Parsed, Refusal> {
    if media == Media::Protobuf {
        return match protobuf::read(bytes) {
            Ok(value) => Ok(Parsed { value, duplicates: Vec::new() }),
            Err(error @ ProtobufError::Malformed(_)) => Err(Refusal::BadRequest(error.to_string())),
            Err(error @ ProtobufError::Unsupported { .. }) => {
                Err(Refusal::UnsupportedMediaType(error.to_string()))
            }
        };
    }
    match (json(bytes), media) {
        (Ok(parsed), _) => Ok(parsed),
        // What clients send under these names is nearly always JSON, which is much faster to read.
        (Err(_), Media::Yaml | Media::ApplyPatch) => yaml(bytes),
        (Err(error), _) => {
            Err(Refusal::BadRequest(format!("the body of the request is not valid JSON: {error}")))
        }
    }
}

/// Parses YAML, which refuses keys that are there twice.
fn yaml(bytes: &[u8]) -> Result<Parsed, Refusal> {
    let refuse = |reason: String| {
        Refusal::BadRequest(format!("the body of the request is not valid YAML: {reason}"))
    };
    let text = std::str::from_utf8(bytes).map_err(|error| refuse(error.to_string()))?;
    let value = crds::manifest::value(text).map_err(refuse)?;
    Ok(Parsed { value, duplicates: Vec::new() })
}

/// Parses JSON. Nesting is bounded by the parser, at 128 levels.
fn json(bytes: &[u8]) -> Result<Parsed, serde_json::Error> {
    let duplicates = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let place = Place { parent: None, key: Key::Root };
    let value = Reader { place: &place, duplicates: &duplicates }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Parsed { value, duplicates: duplicates.into_inner() })
}

/// Where in a value the reader is: only spelt out when something stands there twice.
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    key: Key<'a>,
}

enum Key<'a> {
    Root,
    Field(&'a str),
    Index(usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let first = self.parent.is_none_or(|parent| matches!(parent.key, Key::Root));
        match self.key {
            Key::Root => Ok(()),
            Key::Field(name) if first => f.write_str(name),
            Key::Field(name) => write!(f, ".{name}"),
            Key::Index(index) => write!(f, "[{index}]"),
        }
    }
}

struct Reader<'a> {
    place: &'a Place<'a>,
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is too large"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let place = Place { parent: Some(self.place), key: Key::Index(list.len()) };
            let reader = Reader { place: &place, duplicates: self.duplicates };
            match items.next_element_seed(reader)? {
                Some(item) => list.push(item),
                None => return Ok(list.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            let place = Place { parent: Some(self.place), key: Key::Field(&key) };
            let reader = Reader { place: &place, duplicates: self.duplicates };
            let value = fields.next_value_seed(reader)?;
            let mut duplicates = self.duplicates.borrow_mut();
            if map.contains_key(&key) && duplicates.len() < MAX_DUPLICATES {
                duplicates.push(format!("duplicate field {:?}", place.to_string()));
            }
            drop(duplicates);
            map.insert(key, value);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_that_stand_twice_are_named_with_their_path() {
        let text = br#"{"a":1,"spec":{"l":[{"x":1,"x":2}]},"a":2}"#;
        let parsed = parse(text, Media::Json).unwrap();
        assert_eq!(parsed.value, json!({"a": 2, "spec": {"l": [{"x": 2}]}}));
        assert_eq!(
            parsed.duplicates,
            [r#"duplicate field "spec.l[0].x""#, r#"duplicate field "a""#]
        );
    }

    #[test]
    fn deep_nesting_is_refused() {
        let text = "[".repeat(100_000);
        let refusal = parse(text.as_bytes(), Media::Json).unwrap_err();
        assert_eq!(refusal.to_status()["code"], 400);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let refusal = read(Body::from(vec![b' '; 11]), 10).await.unwrap_err();
        assert_eq!(refusal.to_status()["code"], 413);
        assert_eq!(read(Body::from(vec![b' '; 10]), 10).await.unwrap().len(), 10);
    }
}
