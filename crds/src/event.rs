//! Kubernetes' Event: a note about an object for whoever looks at it later. Not a CloudEvent.
//!
//! What is checked is what Kubernetes checks of `core/v1` Events: the note is kept where the object is.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::{DEFAULT_NAMESPACE, ObjectMeta};
use crate::{FieldError, FieldErrors};

/// Group and version.
pub const API_VERSION: &str = "v1";
/// The kind.
pub const KIND: &str = "Event";

/// An Event is a note about what happened to an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["metadata", "involvedObject"]))]
pub struct Event {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always [`KIND`].
    pub kind: String,
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// The object that the note is about.
    pub involved_object: ObjectReference,
    /// Why it happened, in one word for programs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What happened, in a sentence for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Who noticed.
    pub source: EventSource,
    /// When it happened first, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_timestamp: Option<String>,
    /// When it happened last, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_timestamp: Option<String>,
    /// How often it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<i32>,
    /// `Normal` or `Warning`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub type_: String,
    /// When this series began, RFC 3339 with microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_time: Option<String>,
    /// That it goes on happening.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<EventSeries>,
    /// What was done about it, in one word for programs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// Another object that has to do with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub related: Option<ObjectReference>,
    /// The name of the controller that wrote the note, as in `weft.dev/controller`. Always written, as Kubernetes does.
    pub reporting_component: String,
    /// Which instance of it did. Always written, as Kubernetes does.
    pub reporting_instance: String,
}

/// Which object is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ObjectReference {
    /// Its kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its identity.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Its group and version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// The version of the object that is meant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// The part of it that is meant, as in `spec.subscriber`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_path: String,
}

/// Who noticed something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EventSource {
    /// The program.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub component: String,
    /// The machine it runs on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
}

/// That something goes on happening.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EventSeries {
    /// How often it happened up to the last time it was noticed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<i32>,
    /// When it was last noticed, RFC 3339 with microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_observed_time: Option<String>,
}

impl Event {
    /// Fills in what the user left out.
    pub fn defaults(&mut self) {
        self.metadata.defaults();
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> FieldErrors {
        let mut errors = self.metadata.validate();
        let about = &self.involved_object.namespace;
        // Notes about objects that are in no namespace are kept in `default`.
        let kept_in = if about.is_empty() { DEFAULT_NAMESPACE } else { about };
        if kept_in != self.metadata.namespace {
            let error = FieldError::invalid(format_args!("{about:?}"), "involvedObject.namespace");
            errors.push(error.with_details("does not match event.namespace"));
        }
        let observed = self.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
        for (time, path) in [
            (self.first_timestamp.as_ref(), "firstTimestamp"),
            (self.last_timestamp.as_ref(), "lastTimestamp"),
            (self.event_time.as_ref(), "eventTime"),
            (observed, "series.lastObservedTime"),
        ] {
            errors.also(validate_time(time, path));
        }
        errors
    }
}

/// Refuses what is not a time.
pub(crate) fn validate_time(time: Option<&String>, path: &str) -> FieldErrors {
    match time {
        Some(time) if time.parse::<Timestamp>().is_err() => {
            let error = FieldError::invalid(format_args!("{time:?}"), path);
            error.with_details("expected a time such as 2026-01-31T12:00:00Z").into()
        }
        _ => FieldErrors::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let mut event: Event = serde_json::from_str(text).unwrap();
        event.defaults();
        event.validate().to_string()
    }

    #[test]
    fn a_note_is_kept_where_its_object_is() {
        let about = |namespace: &str, object: &str| {
            refusal(&format!(
                r#"{{"metadata":{{"name":"e","namespace":"{namespace}"}},"involvedObject":{{"namespace":"{object}"}}}}"#
            ))
        };
        assert_eq!(about("a", "a"), "");
        assert_eq!(about("default", ""), "");
        let expected =
            "invalid value: \"b\": involvedObject.namespace\ndoes not match event.namespace";
        assert_eq!(about("a", "b"), expected);
        assert!(about("a", "").starts_with("invalid value: \"\": involvedObject.namespace\n"));
    }

    #[test]
    fn times_are_times() {
        let text = r#"{"metadata":{"name":"e"},"firstTimestamp":"2026-01-01T00:00:00Z",
            "eventTime":"2026-01-01T00:00:00.123456Z","lastTimestamp":"now","series":{"lastObservedTime":"x"}}"#;
        let refused = refusal(text);
        assert!(refused.contains("invalid value: \"now\": lastTimestamp\n"), "{refused}");
        assert!(refused.contains("invalid value: \"x\": series.lastObservedTime\n"), "{refused}");
        assert!(!refused.contains("eventTime"), "{refused}");
    }
}
