//! From a row of a feed to an event. Pure.

use std::borrow::Cow;
use std::fmt::Write;

use broker_event::{Event, EventBuilder, EventError};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use thiserror::Error;

use super::rows::Row;
use super::sequence::Sequence;
use super::spec::Ids;

/// The type of the event of a document that was made or changed.
pub(super) const UPDATE: &str = "org.apache.couchdb.document.update";
/// The type of the event of a document that was deleted.
pub(super) const DELETE: &str = "org.apache.couchdb.document.delete";

/// How the events of one source look.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Their `source`.
    pub(super) source: String,
    /// What their `id` is.
    pub(super) ids: Ids,
    /// Whether their data is the document.
    pub(super) documents: bool,
}

/// What a row says.
#[derive(Clone, Debug)]
pub(super) enum Said {
    /// A document changed.
    Change {
        /// The event of it.
        event: Event,
        /// How far the changes are read with it, if the server says so.
        sequence: Option<Sequence>,
    },
    /// The feed ends here, and the changes are read so far.
    End(Sequence),
    /// The server failed amid the feed.
    Failed(String),
}

/// A row cannot be understood.
#[derive(Debug, Error)]
pub(super) enum NotSaid {
    /// It is no JSON, or no row.
    #[error("a row of the changes is not as CouchDB writes it")]
    Form(#[source] serde_json::Error),
    /// It has attributes that no event can have.
    #[error("a change cannot be an event")]
    Event(#[from] EventError),
}

/// A row, as the server writes it.
#[derive(Deserialize)]
struct Written<'a> {
    #[serde(default)]
    seq: Option<Sequence>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    changes: Vec<Leaf<'a>>,
    #[serde(default)]
    deleted: bool,
    #[serde(borrow, default)]
    doc: Option<&'a RawValue>,
    #[serde(default)]
    last_seq: Option<Sequence>,
    #[serde(default)]
    error: Value,
    #[serde(default)]
    reason: Value,
}

#[derive(Deserialize)]
struct Leaf<'a> {
    #[serde(borrow)]
    rev: Cow<'a, str>,
}

impl Shape {
    /// What a row says.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub(super) fn read(&self, row: &Row) -> Result<Said, NotSaid> {
        let written: Written<'_> = serde_json::from_slice(&row.json).map_err(NotSaid::Form)?;
        let Some(id) = written.id else {
            return Ok(match written.last_seq {
                Some(sequence) => Said::End(sequence),
                None => {
                    Said::Failed(format!("{}: {}", plain(&written.error), plain(&written.reason)))
                }
            });
        };
        let document = text(id);
        let ty = if written.deleted { DELETE } else { UPDATE };
        let event_id = self.id(&document, &written);
        let event = EventBuilder::new(event_id, self.source.as_str(), ty)
            .subject(attribute(&document).into_owned())
            .data_content_type("application/json")
            .data(self.data(row, &written))
            .build()?;
        Ok(Said::Change { event, sequence: written.seq })
    }

    fn id(&self, document: &str, written: &Written<'_>) -> String {
        let sequence = written.seq.as_ref().map(Sequence::text).unwrap_or_default();
        let sequence = attribute(&sequence);
        if self.ids == Ids::Sequence && !sequence.trim().is_empty() {
            return sequence.into_owned();
        }
        let revision = written.changes.first().map_or("", |leaf| &leaf.rev);
        attribute(&format!("{document}@{revision}")).into_owned()
    }

    /// The data: the document as the server wrote it, or the revisions.
    fn data(&self, row: &Row, written: &Written<'_>) -> Bytes {
        if self.documents && !row.is_cut {
            return match written.doc {
                Some(document) => row.json.slice_ref(document.get().as_bytes()),
                // The server no longer has it.
                None => Bytes::from_static(b"null"),
            };
        }
        let revisions: Vec<&str> = written.changes.iter().map(|leaf| &*leaf.rev).collect();
        serde_json::to_vec(&revisions).unwrap_or_default().into()
    }
}

/// The text of a JSON text. One that no text can be (a half of a surrogate pair, which JavaScript allows) stays escaped.
fn text(json: &RawValue) -> Cow<'_, str> {
    let text: Result<Cow<'_, str>, _> =
        serde_json::from_str::<Text<'_>>(json.get()).map(|text| text.0);
    text.unwrap_or_else(|_| Cow::Borrowed(json.get().trim_matches('"')))
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A text as an attribute may hold it: control characters, which no attribute may have, are percent-encoded, and then the
/// percent sign is too.
fn attribute(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        if char.is_control() || char == '%' {
            for byte in char.encode_utf8(&mut [0; 4]).bytes() {
                write!(encoded, "%{byte:02X}").expect("a String takes all that is written");
            }
        } else {
            encoded.push(char);
        }
    }
    Cow::Owned(encoded)
}

/// A text without quotes; anything else as JSON.
fn plain(value: &Value) -> Cow<'_, str> {
    value.as_str().map_or_else(|| Cow::Owned(value.to_string()), Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::{NotSaid, Said, Shape};
    use crate::couchdb::rows::Row;
    use crate::couchdb::spec::Ids;
    use broker_event::Event;

    fn shape() -> Shape {
        Shape { source: "couch.example.com/shop".to_owned(), ids: Ids::Sequence, documents: false }
    }

    fn row(json: &str) -> Row {
        Row { json: json.to_owned().into(), is_cut: false }
    }

    fn event(shape: &Shape, json: &str) -> Event {
        match shape.read(&row(json)).unwrap() {
            Said::Change { event, .. } => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_update_has_the_attributes_of_knatives() {
        let said = shape().read(&row(
            r#"{"seq":"3-g1AAAA","id":"order 1","changes":[{"rev":"2-7051"},{"rev":"1-aa"}]}"#,
        ));
        let Ok(Said::Change { event, sequence }) = said else { panic!("{said:?}") };
        assert_eq!(event.ty(), "org.apache.couchdb.document.update");
        assert_eq!(event.source(), "couch.example.com/shop");
        assert_eq!(event.id(), "3-g1AAAA");
        assert_eq!(event.subject(), Some("order 1"));
        assert_eq!(event.data_content_type(), Some("application/json"));
        assert_eq!(event.data().unwrap(), r#"["2-7051","1-aa"]"#);
        assert_eq!(event.time(), None);
        assert_eq!(event.extensions().count(), 0);
        assert_eq!(sequence.unwrap().text(), "3-g1AAAA");
    }

    #[test]
    fn a_deletion_has_its_own_type_and_counted_sequences_are_decimal() {
        let deleted = r#"{"id":"a","changes":[{"rev":"3-b"}],"deleted":true,"seq":17}"#;
        let event = event(&shape(), deleted);
        assert_eq!((event.ty(), event.id()), ("org.apache.couchdb.document.delete", "17"));
    }

    #[test]
    fn a_document_is_passed_on_as_it_is_written() {
        let shape = Shape { documents: true, ..shape() };
        let json = r#"{"seq":1,"id":"a","changes":[{"rev":"1-b"}],"doc":{"_id":"a", "n": 1.0, "u":"\ud800"}}"#;
        let data = event(&shape, json).data().unwrap().clone();
        assert_eq!(data, r#"{"_id":"a", "n": 1.0, "u":"\ud800"}"#);
        let gone = r#"{"seq":1,"id":"a","changes":[{"rev":"1-b"}],"doc":null}"#;
        assert_eq!(event(&shape, gone).data().unwrap(), "null");
        let cut = Row { is_cut: true, ..row(gone) };
        let Ok(Said::Change { event, .. }) = shape.read(&cut) else { panic!("a change") };
        assert_eq!(event.data().unwrap(), r#"["1-b"]"#);
    }

    #[test]
    fn an_id_by_revision_does_not_depend_on_who_tells() {
        let shape = Shape { ids: Ids::Revision, ..shape() };
        let one = event(&shape, r#"{"seq":"3-x","id":"a","changes":[{"rev":"1-b"}]}"#);
        let other = event(&shape, r#"{"seq":"4-y","id":"a","changes":[{"rev":"1-b"}]}"#);
        assert_eq!((one.id(), other.id()), ("a@1-b", "a@1-b"));
    }

    #[test]
    fn a_change_without_sequence_still_has_an_id() {
        for seq in ["null", "\"\""] {
            let json = format!(r#"{{"seq":{seq},"id":"a","changes":[{{"rev":"1-b"}}]}}"#);
            assert_eq!(event(&shape(), &json).id(), "a@1-b");
        }
    }

    #[test]
    fn names_that_no_attribute_can_hold_are_encoded() {
        let odd = event(&shape(), r#"{"seq":1,"id":"a\u0000%\u0085b","changes":[]}"#);
        assert_eq!(odd.subject(), Some("a%00%25%C2%85b"));
        let half = event(&shape(), r#"{"seq":1,"id":"\ud800","changes":[]}"#);
        assert_eq!(half.subject(), Some(r"\ud800"));
        assert_eq!(event(&shape(), r#"{"seq":"1\n","id":" ","changes":[]}"#).id(), "1%0A");
    }

    #[test]
    fn the_end_of_a_feed_and_a_failure_are_told_apart() {
        let end = shape().read(&row(r#"{"last_seq":"9-x","pending":0}"#)).unwrap();
        assert!(matches!(end, Said::End(sequence) if sequence.text() == "9-x"));
        let failed = shape().read(&row(r#"{"error":"timeout","reason":"too slow"}"#)).unwrap();
        assert!(matches!(failed, Said::Failed(text) if text == "timeout: too slow"));
        for broken in ["{}x", r#"{"id":"a","changes":7}"#, r#"{"seq":1,}"#] {
            assert!(matches!(shape().read(&row(broken)), Err(NotSaid::Form(_))), "{broken}");
        }
    }
}
