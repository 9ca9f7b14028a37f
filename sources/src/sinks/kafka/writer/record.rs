//! From events to records (Kafka protocol binding of `CloudEvents` 1.0).

use std::borrow::Cow;

use broker_event::{Event, json};
use rdkafka::message::{Header, OwnedHeaders};

use crate::message::{self, attributes, has_binary_mode};

/// The extension whose value becomes the key of the record (partitioning extension).
const PARTITION_KEY: &str = "partitionkey";

/// A record, before it is copied into the client's queue.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) key: Option<Cow<'a, str>>,
    pub(super) headers: OwnedHeaders,
    /// None is a record without a value: in a compacted topic it removes those of its key.
    pub(super) value: Option<Cow<'a, [u8]>>,
}

impl<'a> Record<'a> {
    /// The record of an event.
    pub(super) fn of(event: &'a Event, binary: bool) -> Self {
        let key = event.extension(PARTITION_KEY).map(message::text);
        if !binary || !has_binary_mode(event) {
            let value = Some(Cow::Owned(json::write(event)));
            return Self { key, headers: content_type(message::STRUCTURED), value };
        }
        let mut headers = match event.data_content_type() {
            Some(media_type) => content_type(media_type),
            None => OwnedHeaders::new(),
        };
        for (name, value) in attributes(event) {
            let name = format!("ce_{name}");
            headers = headers.insert(Header { key: &name, value: Some(value.as_bytes()) });
        }
        Self { key, headers, value: event.data().map(|data| Cow::Borrowed(data.as_ref())) }
    }
}

fn content_type(media_type: &str) -> OwnedHeaders {
    OwnedHeaders::new().insert(Header { key: "content-type", value: Some(media_type.as_bytes()) })
}

#[cfg(test)]
mod tests {
    use broker_event::EventBuilder;
    use rdkafka::message::Headers;
    use serde_json::{Value, json};

    use super::Record;

    fn builder() -> EventBuilder {
        EventBuilder::new("1", "/s", "t")
            .subject("größe")
            .data_content_type("text/plain")
            .extension("partitionkey", "k 1")
            .data("hello")
    }

    fn headers(record: &Record<'_>) -> Vec<(String, String)> {
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        record
            .headers
            .as_borrowed()
            .iter()
            .map(|one| (one.key.to_owned(), text(one.value)))
            .collect()
    }

    #[test]
    fn binary_has_attributes_in_headers_and_data_as_it_is() {
        let event = builder().build().unwrap();
        let record = Record::of(&event, true);
        assert_eq!(record.key.as_deref(), Some("k 1"));
        assert_eq!(record.value.as_deref(), Some(&b"hello"[..]));
        let expected = [
            ("content-type", "text/plain"),
            ("ce_specversion", "1.0"),
            ("ce_id", "1"),
            ("ce_source", "/s"),
            ("ce_type", "t"),
            ("ce_subject", "größe"),
            ("ce_partitionkey", "k 1"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(headers(&record), expected);
    }

    #[test]
    fn structured_is_the_event_in_json() {
        let event = builder().build().unwrap();
        let record = Record::of(&event, false);
        assert_eq!(record.key.as_deref(), Some("k 1"));
        let media_type = "application/cloudevents+json".to_owned();
        assert_eq!(headers(&record), [("content-type".to_owned(), media_type)]);
        let value: Value = serde_json::from_slice(&record.value.unwrap()).unwrap();
        assert_eq!((&value["id"], &value["data"]), (&json!("1"), &json!("hello")));
    }

    #[test]
    fn no_data_is_no_value_and_an_event_in_an_event_is_structured() {
        let bare = EventBuilder::new("1", "/s", "t").build().unwrap();
        let record = Record::of(&bare, true);
        assert!(record.value.is_none() && record.key.is_none());
        let nested = builder().data_content_type("application/cloudevents+json").data("{}");
        let nested = nested.build().unwrap();
        let record = Record::of(&nested, true);
        assert_eq!(headers(&record).len(), 1);
        let value: Value = serde_json::from_slice(&record.value.unwrap()).unwrap();
        assert_eq!(value["datacontenttype"], "application/cloudevents+json");
    }
}
