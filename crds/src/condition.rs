//! Conditions: what a controller says about a resource.

pub mod reason;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The condition that sums up all others.
pub const READY: &str = "Ready";

/// Of a Broker: it takes events in.
pub const INGRESS_READY: &str = "IngressReady";
/// Of a Broker: its Triggers are served.
pub const FILTER_READY: &str = "FilterReady";
/// Of a Broker or a sink: its address is known.
pub const ADDRESSABLE: &str = "Addressable";
/// Of a Broker: who may send to it is settled.
pub const EVENT_POLICIES_READY: &str = "EventPoliciesReady";
/// Of a Broker or a Trigger: it is known where dead letters go, or that they go nowhere.
pub const DEAD_LETTER_SINK_RESOLVED: &str = "DeadLetterSinkResolved";
/// Of a Trigger: its Broker is ready.
pub const BROKER_READY: &str = "BrokerReady";
/// Of a Trigger: the dispatcher delivers for it.
pub const SUBSCRIPTION_READY: &str = "SubscriptionReady";
/// Of a Trigger: what it depends on is ready.
pub const DEPENDENCY_READY: &str = "DependencyReady";
/// Of a Trigger: it is known where its events go.
pub const SUBSCRIBER_RESOLVED: &str = "SubscriberResolved";
/// Of a Trigger or a source: it has an identity of its own, or needs none.
pub const OIDC_IDENTITY_CREATED: &str = "OIDCIdentityCreated";
/// Of a source: it is known where its events go.
pub const SINK_PROVIDED: &str = "SinkProvided";
/// Of a `PingSource`: somebody keeps its schedule.
pub const DEPLOYED: &str = "Deployed";
/// Of a GitHub source: its Secrets hold what it needs.
pub const SECRETS_PROVIDED: &str = "SecretsProvided";
/// Of a GitHub source: GitHub knows where to send to.
pub const WEBHOOK_CONFIGURED: &str = "WebhookConfigured";
/// Of an API server source: its service account may watch what it is to watch.
pub const SUFFICIENT_PERMISSIONS: &str = "SufficientPermissions";

/// Of a `SinkBinding`: its subjects are told where to send to.
pub const SINK_BINDING_AVAILABLE: &str = "SinkBindingAvailable";
/// Of a `SinkBinding`: its subjects have a token for their sink, or need none.
pub const OIDC_TOKEN_SECRET_CREATED: &str = "OIDCTokenSecretCreated";
/// Of a `SinkBinding`: its subjects have the certificates that all trust, or there are none.
pub const TRUST_BUNDLE_PROPAGATED: &str = "TrustBundlePropagated";

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["type", "status"]))]
pub struct Condition {
    /// What the statement is about, as in `SinkProvided`; `Ready` sums up all others.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds: `True`, `False`, or `Unknown` as long as nobody knows.
    pub status: Truth,
    /// How bad it is if it does not hold: empty for an error, else `Warning` or `Info`. Only errors count for `Ready`.
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Addressable {
    /// The name of this address among several: its scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Certificates to trust there beside the system's, PEM.
    #[serde(rename = "CACerts", skip_serializing_if = "Option::is_none")]
    pub ca_certs: Option<String>,
    /// The audience that tokens sent there must name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

/// The identity under which a resource sends events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthStatus {
    /// The name of its service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// The names of its service accounts, where it has several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_account_names: Vec<String>,
}

/// A policy that says who may send events to a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AppliedPolicy {
    /// Group and version of the policy.
    pub api_version: String,
    /// Its name.
    pub name: String,
}

/// The status of any resource: conditions, and where it is reached or sends to. Each kind fills in what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of it right now, one statement a type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// More, for other controllers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where events are posted to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Addressable>,
    /// All addresses that events can be posted to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Addressable>,
    /// Where events go, resolved to a URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriber_uri: Option<String>,
    /// Certificates to trust at the subscriber, PEM.
    #[serde(rename = "subscriberCACerts", skip_serializing_if = "Option::is_none")]
    pub subscriber_ca_certs: Option<String>,
    /// The audience of tokens sent to the subscriber.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriber_audience: Option<String>,
    /// Where dead letters go, resolved to a URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_sink_uri: Option<String>,
    /// Certificates to trust at the dead letter sink, PEM.
    #[serde(rename = "deadLetterSinkCACerts", skip_serializing_if = "Option::is_none")]
    pub dead_letter_sink_ca_certs: Option<String>,
    /// The audience of tokens sent to the dead letter sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_sink_audience: Option<String>,
    /// Where events go, resolved to a URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink_uri: Option<String>,
    /// Certificates to trust at the sink, PEM.
    #[serde(rename = "sinkCACerts", skip_serializing_if = "Option::is_none")]
    pub sink_ca_certs: Option<String>,
    /// The audience of tokens sent to the sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink_audience: Option<String>,
    /// The types and sources of the events.
    #[serde(rename = "ceAttributes", skip_serializing_if = "Vec::is_empty")]
    pub ce_attributes: Vec<CloudEventAttributes>,
    /// The identity under which events are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthStatus>,
    /// The policies that say who may send events to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<AppliedPolicy>,
    /// What a kind's status has beside. Whatever was written is kept, whoever wrote it; the names of the fields above stand
    /// for those.
    #[serde(flatten, deserialize_with = "facts")]
    #[schemars(skip)]
    pub facts: BTreeMap<String, Value>,
}

/// Null means absent, as in Kubernetes.
fn facts<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Value>, D::Error> {
    let mut facts = BTreeMap::<String, Value>::deserialize(from)?;
    facts.retain(|_, value| !value.is_null());
    Ok(facts)
}

/// What a source's events look like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

    #[test]
    fn facts_are_kept_whoever_wrote_them_and_null_is_none() {
        let text =
            r#"{"sinkUri":"http://s/","webhookIDKey":"7","newer":{"a":[null,1.5]},"older":null}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        assert_eq!(status.sink_uri.as_deref(), Some("http://s/"));
        assert_eq!(status.facts.keys().collect::<Vec<_>>(), ["newer", "webhookIDKey"]);
        let expected = r#"{"sinkUri":"http://s/","newer":{"a":[null,1.5]},"webhookIDKey":"7"}"#;
        assert_eq!(serde_json::to_string(&status).unwrap(), expected);
    }
}
