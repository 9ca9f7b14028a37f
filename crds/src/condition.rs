//! Conditions: what a controller says about a resource.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The condition that sums up all others.
pub const READY: &str = "Ready";

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody knows yet.
    #[default]
    Unknown,
}

/// One statement about a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// What it is about, as in `SinkProvided`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: Truth,
    /// Empty for an error, else `Warning` or `Info`; only errors count for `Ready`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub severity: String,
    /// When `status` last changed, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    /// Why, in one word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, in a sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Condition {
    /// A condition of that type.
    #[must_use]
    pub fn new(kind: impl Into<String>, status: Truth) -> Self {
        Self { kind: kind.into(), status, ..Self::default() }
    }

    /// The same condition with a reason and a sentence.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>, message: impl Into<String>) -> Self {
        self.reason = reason.into();
        self.message = message.into();
        self
    }
}

/// Where a resource can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Addressable {
    /// The scheme, when several addresses are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Certificates to trust there, PEM.
    #[serde(rename = "CACerts", skip_serializing_if = "Option::is_none")]
    pub ca_certs: Option<String>,
    /// The audience tokens must name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

/// The status of any resource: conditions, and where it is reached or sends to. Each kind fills in what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The generation this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The statements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// More for other controllers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where events are posted to; Brokers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Addressable>,
    /// Where events go; Triggers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriber_uri: Option<String>,
    /// Where dead letters go; Brokers and Triggers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_sink_uri: Option<String>,
    /// Where events go; sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink_uri: Option<String>,
    /// The types and sources of the events; sources.
    #[serde(rename = "ceAttributes", skip_serializing_if = "Vec::is_empty")]
    pub ce_attributes: Vec<CloudEventAttributes>,
    /// The webhook at GitHub; GitHub sources.
    #[serde(rename = "webhookIDKey", skip_serializing_if = "Option::is_none")]
    pub webhook_id_key: Option<String>,
}

/// What a source's events look like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CloudEventAttributes {
    /// The `type` attribute.
    #[serde(rename = "type")]
    pub kind: String,
    /// The `source` attribute.
    pub source: String,
}

impl Status {
    /// The condition of that type.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Whether the condition `Ready` holds.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.condition(READY).is_some_and(|condition| condition.status == Truth::True)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_ready_when_its_ready_condition_is_true() {
        let mut status = Status::default();
        assert!(!status.is_ready());
        status
            .conditions
            .push(Condition::new(READY, Truth::False).because("NoSink", "the sink is not there"));
        assert!(!status.is_ready());
        status.conditions = vec![Condition::new(READY, Truth::True)];
        assert!(status.is_ready());
        assert_eq!(
            serde_json::to_string(&status).unwrap(),
            r#"{"conditions":[{"type":"Ready","status":"True"}]}"#
        );
    }
}
