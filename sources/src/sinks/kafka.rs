//! Kafka: a record of every event, in one topic, acknowledged by all replicas that are in sync.
//!
//! Events are written by an idempotent producer of librdkafka: what it sends again itself is not written twice, and records
//! of one key stay in their order. What a sender sends again is; a reader tells it by `source` and `id`.
//!
//! What differs from Knative's `KafkaSink`: a topic is never deleted with the sink, batches are taken, and a sink whose
//! Kafka is away answers at once that its senders should come again.

use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::resource::{Resource, Version};
use crds::sink::{self, AGE, READY, REASON, SinkSpec, URL};
use crds::{FieldError, FieldErrors, name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sink::{Context, EventSink};
use crate::given::Need;
use crate::kafka::{MAX_TOPIC, is_server, is_topic};
use crate::source::{About, SourceError};

#[cfg(feature = "kafka")]
mod writer;

/// The condition that says that the topic is there and can be written to.
const TOPIC_READY: &str = "TopicReady";

/// The contents of records, in the words of the spec.
const STRUCTURED: &str = "structured";
const BINARY: &str = "binary";

/// A client asks one of the servers and learns of all others from it.
const MAX_SERVERS: usize = 64;

/// Partitions of a topic that the sink makes. Kafka has no bound; each costs files and memory on every replica, and a topic
/// with more is made by its administrator.
const MAX_PARTITIONS: i32 = 10_000;

/// The type that Kafka gives the number.
const MAX_REPLICAS: i32 = i16::MAX as i32;

/// What the keys of the Secret are found under.
const PROTOCOL: &str = "auth.secret.ref protocol";
const MECHANISM: &str = "auth.secret.ref sasl.mechanism";
const USER: &str = "auth.secret.ref user";
const PASSWORD: &str = "auth.secret.ref password";
const CA_CERT: &str = "auth.secret.ref ca.crt";
const USER_CERT: &str = "auth.secret.ref user.crt";
const USER_KEY: &str = "auth.secret.ref user.key";
const USER_SKIP: &str = "auth.secret.ref user.skip";

/// A `KafkaSink` writes every event that is posted to it into a topic of Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["topic", "bootstrapServers"]))]
pub struct KafkaSink {
    /// The topic that is written to; it cannot be changed. The extension `partitionkey` of an event becomes the key of its
    /// record.
    pub topic: String,
    /// How many partitions the topic gets if it does not exist; it cannot be changed. If it or `replicationFactor` is absent,
    /// the topic must exist.
    #[schemars(range(min = 1, max = 10000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_partitions: Option<i32>,
    /// On how many servers each partition of a topic is kept that does not exist; it cannot be changed.
    #[schemars(range(min = 1, max = 32767))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i32>,
    /// The servers that are asked first, as in `kafka.example.com:9092`; they name all others of the cluster.
    #[schemars(length(min = 1, max = 64))]
    pub bootstrap_servers: Vec<String>,
    /// What a record holds: `structured`, the event in JSON, or `binary`, its data, with the attributes in headers;
    /// `structured` if it is absent.
    #[schemars(extend("enum" = ["structured", "binary"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_mode: Option<String>,
    /// How the servers are reached: encryption and credentials. Neither if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<KafkaAuth>,
}

/// How Kafka's servers are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KafkaAuth {
    /// The Secret that says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<KafkaAuthSecret>,
}

/// Where the Secret is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KafkaAuthSecret {
    /// A Secret in the namespace of the sink. Its keys: `protocol` (`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`;
    /// required), `sasl.mechanism` (`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`), `user` and `password`, `ca.crt`, and
    /// `user.crt` and `user.key`, which are not shown if `user.skip` is `true`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<KafkaAuthReference>,
}

/// The name of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["name"]))]
pub struct KafkaAuthReference {
    /// The name.
    pub name: String,
}

impl SinkSpec for KafkaSink {
    const RESOURCE: Resource = Resource {
        group: "eventing.knative.dev",
        kind: "KafkaSink",
        plural: "kafkasinks",
        singular: "kafkasink",
        categories: &["all", "knative", "eventing"],
        versions: &[Version {
            name: "v1alpha1",
            deprecated: None,
            columns: &[URL, AGE, READY, REASON],
            schema: sink::schema::<Self>,
        }],
        ..sink::resource::<Self>()
    };

    fn defaults(&mut self, _: &ObjectMeta) {
        let mode = self.content_mode.get_or_insert_default();
        if mode.is_empty() {
            STRUCTURED.clone_into(mode);
        }
    }

    fn validate(&self, _: &ObjectMeta, _: &Rules<'_>) -> FieldErrors {
        let mut errors = self.validate_servers();
        if !is_topic(&self.topic) {
            errors.push(FieldError::invalid(&self.topic, "topic").with_details(format!(
                "expected 1 to {MAX_TOPIC} letters, digits, dots, underscores and hyphens"
            )));
        }
        for (field, number, most) in [
            ("numPartitions", self.num_partitions, MAX_PARTITIONS),
            ("replicationFactor", self.replication_factor, MAX_REPLICAS),
        ] {
            if let Some(number) = number.filter(|number| !(1..=most).contains(number)) {
                let error = FieldError::invalid(number, field);
                errors.push(error.with_details(format!("expected 1 to {most}")));
            }
        }
        if let Some(mode) = &self.content_mode
            && ![STRUCTURED, BINARY].contains(&mode.as_str())
        {
            errors.push(FieldError::invalid(mode, "contentMode"));
        }
        errors.also(self.validate_secret().via("ref").via("secret").via("auth"));
        errors
    }

    fn validate_update(&self, old: &Self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for (field, same) in [
            ("topic", self.topic == old.topic),
            ("replicationFactor", self.replication_factor == old.replication_factor),
            ("numPartitions", self.num_partitions == old.num_partitions),
        ] {
            if !same {
                errors.push(FieldError::new("Immutable field updated", [field]));
            }
        }
        errors
    }
}

impl EventSink for KafkaSink {
    const WORKS: &'static str = TOPIC_READY;

    fn needs(&self, _: &About) -> Vec<Need> {
        let Some(KafkaAuthReference { name }) = self.secret() else { return Vec::new() };
        let need = |field, key| Need::secret(field, name.as_str(), key);
        let optional = [
            (MECHANISM, "sasl.mechanism"),
            (USER, "user"),
            (PASSWORD, "password"),
            (CA_CERT, "ca.crt"),
            (USER_CERT, "user.crt"),
            (USER_KEY, "user.key"),
            (USER_SKIP, "user.skip"),
        ];
        let required = need(PROTOCOL, "protocol").or(TOPIC_READY, "SecretNotFound");
        std::iter::once(required)
            .chain(optional.into_iter().map(|(field, key)| need(field, key).optional()))
            .collect()
    }

    #[cfg(feature = "kafka")]
    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        match writer::run(self, &ctx).await {
            Err(SourceError::Stopped) => Ok(()),
            outcome => outcome,
        }
    }

    #[cfg(not(feature = "kafka"))]
    async fn run(self, _: Context) -> Result<(), SourceError> {
        Err(SourceError::NotBuilt { feature: "kafka" })
    }
}

impl KafkaSink {
    /// The Secret that says how the servers are reached.
    fn secret(&self) -> Option<&KafkaAuthReference> {
        self.auth.as_ref()?.secret.as_ref()?.reference.as_ref()
    }

    /// The servers, of which one entry may name several, as in Knative.
    fn servers(&self) -> impl Iterator<Item = &str> {
        self.bootstrap_servers.iter().flat_map(|entry| entry.split(',')).map(str::trim)
    }

    fn validate_servers(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        match self.servers().count() {
            0 => errors.push(FieldError::invalid("[]", "bootstrapServers")),
            1..=MAX_SERVERS => {}
            count => {
                let error = FieldError::new(format!("{count} are too many"), ["bootstrapServers"]);
                errors.push(error.with_details(format!("at most {MAX_SERVERS}")));
            }
        }
        for (index, entry) in self.bootstrap_servers.iter().enumerate() {
            if !entry.split(',').map(str::trim).all(is_server) {
                let error = FieldError::invalid(entry, format!("bootstrapServers[{index}]"));
                errors.push(error.with_details("expected host:port"));
            }
        }
        errors
    }

    fn validate_secret(&self) -> FieldErrors {
        let Some(KafkaAuthReference { name }) = self.secret() else { return FieldErrors::new() };
        if name.is_empty() {
            return FieldError::missing("name").into();
        }
        match name::subdomain(name) {
            Ok(()) => FieldErrors::new(),
            Err(rule) => FieldError::invalid(name, "name").with_details(rule).into(),
        }
    }
}

#[cfg(test)]
mod tests;
