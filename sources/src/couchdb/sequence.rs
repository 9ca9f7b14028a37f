//! Update sequences: how far the changes of a database were read. Pure.
//!
//! `CouchDB` 1 and `PouchDB` count changes: a sequence is an integer. Since version 2 it is an opaque text that begins with a
//! count (`12-g1AAAA…`), and tells a node how far each of its shards was read. `BigCouch` had an array of the two. Whatever it
//! is goes back to the server as it came.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An update sequence, as the server wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Sequence(Value);

impl Sequence {
    /// Before the first change.
    pub(super) fn start() -> Self {
        Self(0.into())
    }

    /// As text: a text as it is, and anything else as JSON, so that an integer is decimal.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Value::String(text) => Cow::Borrowed(text),
            other => Cow::Owned(other.to_string()),
        }
    }

    /// How many changes there were, as far as it tells. In a cluster this is approximate.
    pub(super) fn count(&self) -> Option<u64> {
        match &self.0 {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.split('-').next()?.parse().ok(),
            Value::Array(parts) => parts.first()?.as_u64(),
            _ => None,
        }
    }

    /// Whether the server counts changes.
    pub(super) fn is_counted(&self) -> bool {
        self.0.is_number()
    }

    /// Whether a database that is at `now` cannot have told this sequence before: it is another database of the same name.
    ///
    /// Counted sequences only grow, and a server that counts answers nothing at all until it has passed a sequence it never
    /// had. A server with opaque ones needs no help: it knows the shards that they name, begins again with those that it
    /// does not know, and its count may go back a little when another copy of a shard answers.
    pub(super) fn is_not_of_database_at(&self, now: &Self) -> bool {
        if *self == Self::start() {
            return false;
        }
        match (&self.0, &now.0) {
            (Value::Number(_), Value::Number(_)) => self.count() > now.count(),
            // The one kind of server was replaced by the other.
            (Value::Number(_), Value::String(_) | Value::Array(_))
            | (Value::String(_) | Value::Array(_), Value::Number(_)) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Sequence;
    use serde_json::json;

    fn sequence(value: serde_json::Value) -> Sequence {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_form_is_told_as_text_and_counted() {
        for (value, text, count) in [
            (json!(42), "42", Some(42)),
            (json!("5-g1AAAA_x"), "5-g1AAAA_x", Some(5)),
            (json!([7, "g1AAA"]), r#"[7,"g1AAA"]"#, Some(7)),
            (json!("opaque"), "opaque", None),
            (json!(-1), "-1", None),
            (json!({"a": 1}), r#"{"a":1}"#, None),
        ] {
            let sequence = sequence(value);
            assert_eq!((sequence.text().as_ref(), sequence.count()), (text, count));
        }
    }

    #[test]
    fn it_survives_being_kept() {
        for value in [json!(9_007_199_254_740_993_u64), json!("12-abc"), json!([1, "x"])] {
            let kept = serde_json::to_string(&sequence(value.clone())).unwrap();
            assert_eq!(serde_json::from_str::<Sequence>(&kept).unwrap(), sequence(value));
        }
    }

    #[test]
    fn a_count_that_went_back_is_of_another_database() {
        let gone = |read, now| sequence(read).is_not_of_database_at(&sequence(now));
        assert!(gone(json!(9), json!(3)));
        assert!(!gone(json!(9), json!(9)));
        assert!(!gone(json!(9), json!(12)));
        assert!(!gone(json!(0), json!("0-abc")));
        assert!(gone(json!(9), json!("20-abc")));
        assert!(gone(json!("9-abc"), json!(20)));
        assert!(!gone(json!(9), json!(null)));
        // Such a server finds out by itself.
        assert!(!gone(json!("9-abc"), json!("3-def")));
    }
}
