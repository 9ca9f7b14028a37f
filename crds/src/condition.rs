//! Conditions: what a controller says about a resource.

pub mod reason;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The condition that sums up all others.
pub const READY: &str = "Ready";

/// Of a Broker: it takes events in.
pub const INGRESS_READY: &str = "IngressReady";
/// Of a Broker: its Triggers are served.
pub const FILTER_READY: &str = "FilterReady";
/// Of a Broker: its address is known.
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

/// What makes a Broker ready. Knative's `TriggerChannelReady` is left out: there is no channel.
pub const OF_BROKER: &[&str] =
    &[INGRESS_READY, FILTER_READY, ADDRESSABLE, DEAD_LETTER_SINK_RESOLVED, EVENT_POLICIES_READY];
/// What makes a Trigger ready.
pub const OF_TRIGGER: &[&str] = &[
    BROKER_READY,
    SUBSCRIPTION_READY,
    DEPENDENCY_READY,
    SUBSCRIBER_RESOLVED,
    DEAD_LETTER_SINK_RESOLVED,
    OIDC_IDENTITY_CREATED,
];
/// What makes a `PingSource` ready.
pub const OF_PING_SOURCE: &[&str] = &[SINK_PROVIDED, DEPLOYED, OIDC_IDENTITY_CREATED];
/// What makes a GitHub source ready.
pub const OF_GITHUB_SOURCE: &[&str] = &[SECRETS_PROVIDED, SINK_PROVIDED, WEBHOOK_CONFIGURED];

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
    /// The number of the webhook at GitHub.
    #[serde(rename = "webhookIDKey", skip_serializing_if = "Option::is_none")]
    pub webhook_id_key: Option<String>,
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

    /// States a condition. `now` is RFC 3339; it becomes the time of transition if the condition is new or holds in
    /// another way than before, else the time stays: a reason may change without a transition. Conditions are kept in the
    /// order of their types, as Knative writes them.
    pub fn set(&mut self, mut condition: Condition, now: &str) {
        let found =
            self.conditions.binary_search_by(|known| known.kind.as_str().cmp(&condition.kind));
        // Conditions that somebody else wrote may be in any order.
        let found = found.or_else(|_| {
            self.conditions.sort_by(|a, b| a.kind.cmp(&b.kind));
            self.conditions.binary_search_by(|known| known.kind.as_str().cmp(&condition.kind))
        });
        match found.map(|index| self.conditions.get_mut(index)) {
            Ok(Some(known)) => {
                let kept = (known.status == condition.status)
                    .then(|| known.last_transition_time.take())
                    .flatten();
                condition.last_transition_time = kept.or_else(|| Some(now.to_owned()));
                *known = condition;
            }
            Ok(None) => {}
            Err(index) => {
                condition.last_transition_time = Some(now.to_owned());
                self.conditions.insert(index, condition);
            }
        }
    }

    /// States `Ready` from the conditions it depends on: False, with reason and sentence, if one of them is False, else
    /// Unknown if one is Unknown or was never stated, else True. Of several, the first of `dependents` speaks.
    pub fn settle(&mut self, dependents: &[&str], now: &str) {
        let with = |truth| {
            let stated = dependents.iter().filter_map(|kind| self.condition(kind));
            stated.into_iter().find(|condition| condition.status == truth)
        };
        let ready = match with(Truth::False).or_else(|| with(Truth::Unknown)) {
            Some(first) => Condition::new(READY, first.status)
                .because(first.reason.as_str(), first.message.as_str()),
            None if dependents.iter().any(|kind| self.condition(kind).is_none()) => {
                Condition::new(READY, Truth::Unknown)
            }
            None => Condition::new(READY, Truth::True),
        };
        self.set(ready, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: &str = "2026-01-01T00:00:00Z";
    const NOW: &str = "2026-01-02T00:00:00Z";

    fn times(status: &Status) -> Vec<(&str, &str)> {
        let time = |condition: &'_ Condition| {
            condition
                .last_transition_time
                .as_deref()
                .map(|time| if time == NOW { "now" } else { "earlier" })
        };
        status.conditions.iter().map(|one| (one.kind.as_str(), time(one).unwrap())).collect()
    }

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
    fn a_transition_is_a_change_of_truth_and_of_nothing_else() {
        let mut status = Status::default();
        status.set(Condition::new(SINK_PROVIDED, Truth::True), EARLIER);
        status.set(Condition::new(DEPLOYED, Truth::True), EARLIER);
        assert_eq!(times(&status), [("Deployed", "earlier"), ("SinkProvided", "earlier")]);
        status.set(Condition::new(SINK_PROVIDED, Truth::True).because("Moved", "to b"), NOW);
        assert_eq!(times(&status), [("Deployed", "earlier"), ("SinkProvided", "earlier")]);
        assert_eq!(status.condition(SINK_PROVIDED).unwrap().reason, "Moved");
        status.set(Condition::new(DEPLOYED, Truth::False), NOW);
        assert_eq!(times(&status), [("Deployed", "now"), ("SinkProvided", "earlier")]);
    }

    #[test]
    fn conditions_in_any_order_are_found_and_sorted() {
        let mut status = Status::default();
        for kind in ["c", "b", "a"] {
            let condition = Condition::new(kind, Truth::True);
            status
                .conditions
                .push(Condition { last_transition_time: Some(EARLIER.to_owned()), ..condition });
        }
        status.set(Condition::new("c", Truth::True), NOW);
        assert_eq!(times(&status), [("a", "earlier"), ("b", "earlier"), ("c", "earlier")]);
        // One that was written without a time gets one.
        status.conditions.push(Condition::new("d", Truth::True));
        status.set(Condition::new("d", Truth::True), NOW);
        assert_eq!(times(&status).last(), Some(&("d", "now")));
    }

    #[test]
    fn ready_follows_from_what_it_depends_on() {
        let ready = |stated: &[(&str, Truth)]| {
            let mut status = Status::default();
            for (kind, truth) in stated {
                status.set(Condition::new(*kind, *truth).because(*kind, "sentence"), NOW);
            }
            status.settle(OF_PING_SOURCE, NOW);
            let ready = status.condition(READY).unwrap().clone();
            (ready.status, ready.reason)
        };
        let (yes, no, unknown) = (Truth::True, Truth::False, Truth::Unknown);
        let all = |sink, deployed, identity| {
            ready(&[(SINK_PROVIDED, sink), (DEPLOYED, deployed), (OIDC_IDENTITY_CREATED, identity)])
        };
        assert_eq!(all(yes, yes, yes), (yes, String::new()));
        assert_eq!(all(unknown, yes, no), (no, OIDC_IDENTITY_CREATED.to_owned()));
        assert_eq!(all(no, no, yes), (no, SINK_PROVIDED.to_owned()));
        assert_eq!(all(yes, unknown, yes), (unknown, DEPLOYED.to_owned()));
        assert_eq!(ready(&[(SINK_PROVIDED, yes)]), (unknown, String::new()));
        assert_eq!(ready(&[("Other", no)]), (unknown, String::new()));
    }
}
