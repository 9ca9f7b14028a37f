//! What is wanted of a `RabbitmqSource`: its fields, and what is refused with which words.

use crds::ce_overrides::CloudEventOverrides;
use crds::delivery::DeliverySpec;
use crds::destination::Destination;
use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::resource::{AGE, READY, REASON, Resource, Version};
use crds::source::{self, SINK, SourceSpec};
use crds::{FieldError, FieldErrors, name};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::server::Place;
use crate::source::About;

/// The virtual host that every server has.
const DEFAULT_VIRTUAL_HOST: &str = "/";

/// The longest name that AMQP can express.
const MAX_NAME: usize = 255;

/// Knative's bound of `parallelism`.
const MAX_PARALLELISM: i32 = 1000;

/// Messages that may be here without acknowledgement, unless the spec says otherwise: as many as one batch being written and
/// the next ones need, so that neither side waits for the other.
const DEFAULT_PREFETCH: u16 = 1000;

/// Beyond this a larger number brings nothing: the messages only wait here rather than in the queue.
const MAX_PREFETCH: i32 = 10_000;

/// How many binding keys a source may declare: each is a question at every start.
const MAX_KEYS: usize = 64;

/// The types of exchanges, the default first.
pub(crate) const EXCHANGE_TYPES: [&str; 4] = ["headers", "direct", "fanout", "topic"];

/// The types of queues, the default first.
const QUEUE_TYPES: [&str; 2] = ["quorum", "classic"];

/// What a fragment of a URI cannot hold (RFC 3986, section 3.5), and the sign that encodes it.
const NOT_IN_A_FRAGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A RabbitMQ source makes an event of every message in a queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["rabbitmqClusterReference", "sink"]))]
pub struct RabbitmqSource {
    /// Which server, and how to log in; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rabbitmq_cluster_reference: Option<ClusterReference>,
    /// Which queue, and what fills it; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rabbitmq_resources_config: Option<ResourcesConfig>,
    /// How often Knative's adapter tries to send an event before it gives the message up; accepted, and of no effect here:
    /// events are offered until the sink takes them, and those that it refuses for good are kept and listed as parked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryOptions>,
    /// The account that Knative's adapter runs as; accepted, and of no effect here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// What the container of Knative's adapter is called; accepted, and of no effect here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub adapter_container_name: String,
    /// Where the events go; required.
    pub sink: Destination,
    /// What is changed in the events before they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

/// Which server, and how to log in: one of `name` and `connectionSecret`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterReference {
    /// The name of a `RabbitmqCluster`. Its operator keeps address and credentials in the Secret `NAME-default-user`, with the
    /// keys `host`, `port`, `username` and `password`; port 5671 is spoken to with TLS.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The namespace of the Secret, which has to be that of this object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// A Secret with the keys `uri`, `username` and `password`, and if need be `port` and `ca.crt`. Of the URI of the management
    /// API, as in `https://rabbitmq.example.com`, scheme and host count: `https` is AMQP with TLS, to the port 5672 unless
    /// `port` says otherwise. `amqp` and `amqps` URIs are taken as well, with their port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_secret: Option<LocalReference>,
}

/// The name of an object in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LocalReference {
    /// The name.
    pub name: String,
}

/// Which queue, and what fills it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourcesConfig {
    /// The virtual host; `/` if it is absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vhost: String,
    /// The queue; required. It is declared durable unless it is predeclared. Streams are not queues in this sense.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub queue_name: String,
    /// The type that the queue is declared with: `quorum`, the default, or `classic`.
    #[schemars(extend("enum" = QUEUE_TYPES))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_type: Option<String>,
    /// The exchange that the queue is bound to; required unless `predeclared`. It is declared durable.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub exchange_name: String,
    /// The type that the exchange is declared with: `headers`, the default, `direct`, `fanout` or `topic`.
    #[schemars(extend("enum" = EXCHANGE_TYPES))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange_type: Option<String>,
    /// The routing keys, or of a topic exchange patterns, whose messages get into the queue; required for exchanges of the
    /// types `direct` and `topic`. The other types pass everything on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub binding_keys: Vec<String>,
    /// How many batches of messages are handed over at once. With 1, the default, events keep the order of the queue; with
    /// more they may overtake one another.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<i32>,
    /// How many messages may be here without acknowledgement; 1000 if it is absent.
    #[schemars(range(min = 1, max = 10000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefetch_count: Option<i32>,
    /// Whether exchange, queue and binding are made by somebody else: then it is only checked that they are there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub predeclared: bool,
}

/// How often Knative's adapter tries to send an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeliveryOptions {
    /// How often a failed delivery is tried again.
    #[schemars(range(min = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<i32>,
    /// How the wait before each further attempt grows: `linear` or `exponential`.
    #[schemars(extend("enum" = ["linear", "exponential"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_policy: Option<String>,
    /// The wait from which it grows: an ISO 8601 duration, as in `PT0.2S`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_delay: Option<String>,
}

impl SourceSpec for RabbitmqSource {
    const RESOURCE: Resource = Resource {
        kind: "RabbitmqSource",
        plural: "rabbitmqsources",
        singular: "rabbitmqsource",
        short_names: &["rmqsource"],
        categories: &["all", "knative", "eventing", "sources", "importers"],
        versions: &[Version {
            name: "v1alpha1",
            deprecated: None,
            columns: &[READY, REASON, SINK, AGE],
            schema: source::schema::<Self>,
        }],
        annotations: &[(
            "registry.knative.dev/eventTypes",
            r#"[{"type":"dev.knative.rabbitmq.event","description":"A message of a RabbitMQ queue"}]"#,
        )],
        ..source::resource::<Self>()
    };

    fn sink(&self) -> &Destination {
        &self.sink
    }

    fn sink_mut(&mut self) -> &mut Destination {
        &mut self.sink
    }

    fn ce_overrides(&self) -> Option<&CloudEventOverrides> {
        self.ce_overrides.as_ref()
    }

    fn defaults(&mut self, metadata: &ObjectMeta) {
        if let Some(reference) = &mut self.rabbitmq_cluster_reference
            && reference.namespace.is_empty()
        {
            metadata.namespace.clone_into(&mut reference.namespace);
        }
        if let Some(config) = &mut self.rabbitmq_resources_config {
            config.parallelism.get_or_insert(1);
        }
    }

    fn validate(&self, metadata: &ObjectMeta, _: &Rules<'_>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        match &self.rabbitmq_resources_config {
            None => errors.push(FieldError::missing("rabbitmqResourcesConfig")),
            Some(config) => errors.also(config.validate().via("rabbitmqResourcesConfig")),
        }
        match &self.rabbitmq_cluster_reference {
            None => errors.push(FieldError::missing("rabbitmqClusterReference")),
            Some(reference) => {
                errors.also(reference.validate(metadata).via("rabbitmqClusterReference"));
            }
        }
        if let Some(delivery) = &self.delivery {
            errors.also(delivery.validate().via("delivery"));
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.fixed() != old.fixed() {
            // As Knative's: it compares whole specs. What Knative's has not may change, as far as nothing is declared with it.
            let error = FieldError::new("Immutable fields changed (-old +new)", [""]);
            errors.push(error.with_details(
                "only ceOverrides and rabbitmqResourcesConfig.prefetchCount can change; make another source",
            ));
        }
        errors
    }
}

impl RabbitmqSource {
    /// What cannot change.
    fn fixed(&self) -> Self {
        let mut fixed = Self { ce_overrides: None, ..self.clone() };
        if let Some(config) = &mut fixed.rabbitmq_resources_config {
            config.prefetch_count = None;
        }
        fixed
    }
}

impl ClusterReference {
    pub(crate) fn place(&self) -> Option<Place<'_>> {
        match &self.connection_secret {
            Some(secret) => Some(Place::Secret(&secret.name)),
            None if self.name.is_empty() => None,
            None => Some(Place::Cluster(&self.name)),
        }
    }

    pub(crate) fn validate(&self, metadata: &ObjectMeta) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let named = match &self.connection_secret {
            None if self.name.is_empty() => {
                errors.push(FieldError::missing("name"));
                None
            }
            None => Some((&self.name, "name")),
            Some(_) if !self.name.is_empty() => {
                let message = "rabbitmqClusterReference.name and rabbitmqClusterReference.connectionSecret must not be set simultaneously";
                errors.push(FieldError::new(message, ["connectionSecret"]));
                None
            }
            Some(secret) if secret.name.is_empty() => {
                errors.push(FieldError::missing("connectionSecret.name"));
                None
            }
            Some(secret) => Some((&secret.name, "connectionSecret.name")),
        };
        if let Some((value, path)) = named
            && let Err(rule) = name::subdomain(value)
        {
            errors.push(FieldError::invalid(value, path).with_details(rule));
        }
        if !self.namespace.is_empty() && self.namespace != metadata.namespace {
            let error = FieldError::invalid(&self.namespace, "namespace");
            errors.push(error.with_details(
                "Secrets are read in the namespace of this object only; copy it there",
            ));
        }
        errors
    }
}

impl ResourcesConfig {
    pub(super) fn virtual_host(&self) -> &str {
        virtual_host(&self.vhost)
    }

    pub(super) fn exchange_type(&self) -> &str {
        self.exchange_type.as_deref().unwrap_or(EXCHANGE_TYPES[0])
    }

    pub(super) fn queue_type(&self) -> &str {
        self.queue_type.as_deref().unwrap_or(QUEUE_TYPES[0])
    }

    pub(super) fn parallelism(&self) -> usize {
        self.parallelism.and_then(|count| usize::try_from(count).ok()).unwrap_or(1).max(1)
    }

    pub(super) fn prefetch(&self) -> u16 {
        self.prefetch_count.and_then(|count| u16::try_from(count).ok()).unwrap_or(DEFAULT_PREFETCH)
    }

    /// With which keys the queue is bound; without one a headers exchange passes everything on.
    pub(super) fn keys(&self) -> Vec<Option<&str>> {
        match self.exchange_type() {
            "headers" => vec![None],
            "fanout" => vec![Some("")],
            _ => self.binding_keys.iter().map(|key| Some(key.as_str())).collect(),
        }
    }

    pub(super) fn queue_shown(&self) -> String {
        format!("queue {:?}", self.queue_name)
    }

    /// The source of the events.
    pub(super) fn event_source(&self, about: &About) -> String {
        let queue = utf8_percent_encode(&self.queue_name, NOT_IN_A_FRAGMENT);
        format!("/apis/v1/namespaces/{}/rabbitmqsources/{}#{queue}", about.namespace, about.name)
    }

    fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if !self.predeclared && self.exchange_name.is_empty() {
            let message = "Name of exchange must be provided when spec.predeclared is false";
            errors.push(FieldError::new(message, ["exchangeName"]));
        }
        if self.queue_name.is_empty() {
            errors.push(FieldError::missing("queueName"));
        }
        let names = [
            (&self.exchange_name, "exchangeName"),
            (&self.queue_name, "queueName"),
            (&self.vhost, "vhost"),
        ];
        for (value, path) in names {
            errors.also(validate_name(value, path));
        }
        errors.also(one_of(self.queue_type.as_deref(), &QUEUE_TYPES, "queueType"));
        errors.also(one_of(self.exchange_type.as_deref(), &EXCHANGE_TYPES, "exchangeType"));
        errors.also(in_bounds(self.parallelism, MAX_PARALLELISM, "parallelism"));
        errors.also(in_bounds(self.prefetch_count, MAX_PREFETCH, "prefetchCount"));
        errors.also(self.validate_keys());
        errors
    }

    fn validate_keys(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let takes_keys = matches!(self.exchange_type(), "direct" | "topic");
        if takes_keys && !self.predeclared && self.binding_keys.is_empty() {
            errors.push(FieldError::missing("bindingKeys"));
        }
        if !self.binding_keys.is_empty() && (!takes_keys || self.predeclared) {
            let error = FieldError::disallowed("bindingKeys");
            errors.push(error.with_details(
                "they are for exchanges of the types direct and topic that the source binds its queue to",
            ));
        }
        if self.binding_keys.len() > MAX_KEYS {
            let found = self.binding_keys.len();
            let error =
                FieldError::new(format!("{found} binding keys are too many"), ["bindingKeys"]);
            errors.push(error.with_details(format!("at most {MAX_KEYS}")));
        }
        for (index, key) in self.binding_keys.iter().enumerate().take(MAX_KEYS) {
            errors.also(validate_name(key, &format!("bindingKeys[{index}]")));
        }
        errors
    }
}

impl DeliveryOptions {
    fn validate(&self) -> FieldErrors {
        let Self { retry, backoff_policy, backoff_delay } = self.clone();
        DeliverySpec { retry, backoff_policy, backoff_delay, ..DeliverySpec::default() }
            .validate(None)
    }
}

/// The virtual host that a spec names.
pub(crate) fn virtual_host(named: &str) -> &str {
    if named.is_empty() { DEFAULT_VIRTUAL_HOST } else { named }
}

/// What AMQP can express, and the server's log can show.
pub(crate) fn validate_name(text: &str, path: &str) -> FieldErrors {
    let rule = if text.len() > MAX_NAME {
        "a name has at most 255 bytes"
    } else if text.chars().any(char::is_control) {
        "a name has no control characters"
    } else {
        return FieldErrors::new();
    };
    FieldError::invalid(format_args!("{text:?}"), path).with_details(rule).into()
}

pub(crate) fn one_of(text: Option<&str>, known: &[&str], path: &str) -> FieldErrors {
    match text {
        Some(text) if !known.contains(&text) => {
            let error = FieldError::invalid(text, path);
            error.with_details(format!("expected one of: {}", known.join(", "))).into()
        }
        _ => FieldErrors::new(),
    }
}

fn in_bounds(value: Option<i32>, most: i32, path: &str) -> FieldErrors {
    match value {
        Some(value) if !(1..=most).contains(&value) => {
            FieldError::new(format!("expected 1 <= {value} <= {most}"), [path]).into()
        }
        _ => FieldErrors::new(),
    }
}

#[cfg(test)]
mod tests;
