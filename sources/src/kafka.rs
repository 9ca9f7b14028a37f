//! Kafka: an event of every record of the topics, with the attributes Knative's `KafkaSource` gives it; a record that is an
//! event already stays what it is.
//!
//! The source is a consumer group. Each consumer is a client on a thread of its own, which polls, turns records into events
//! and commits; the deliveries run on the runtime. An offset is committed when that record and all before it in the
//! partition are safe, never before.
//!
//! What differs from Knative's, for the better: members come and go without stopping the whole group, nothing is dropped
//! after a number of retries, the position can be moved to a time (`weft.dev/start`), and a partition or a topic that is
//! made while the source is away is read from its beginning.

use std::collections::BTreeSet;

use crds::annotation;
use crds::ce_overrides::CloudEventOverrides;
use crds::condition::{self, CloudEventAttributes};
use crds::delivery::DeliverySpec;
use crds::destination::Destination;
use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::resource::{Column, Resource, Scale, Version};
use crds::secret_ref::SecretValueFromSource;
use crds::source::{self, AGE, Fact, READY, REASON, SourceSpec};
use crds::{FieldError, FieldErrors};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::given::{Given, Need};
use crate::source::{About, Context, Source, SourceError};

#[cfg(feature = "kafka")]
pub(crate) mod client;
#[cfg(feature = "kafka")]
mod group;
mod start;

use start::Start;

/// The type of an event that a record is made into.
const EVENT_TYPE: &str = "dev.knative.kafka.event";

/// Kafka's own bound on the name of a topic: it is the name of a directory.
pub(crate) const MAX_TOPIC: usize = 249;

/// More topics belong into more sources: the status names each, and a source starts by asking about one after the other.
const MAX_TOPICS: usize = 100;

/// A client asks one of the servers and learns of all others from it.
const MAX_SERVERS: usize = 64;

/// Kafka takes longer names of groups; they are keys of its own topic, and shown in every tool.
const MAX_GROUP: usize = 249;

/// Each consumer is a client with some five threads and a connection to every broker. KEDA's default maximum is 50.
const MAX_CONSUMERS: i32 = 64;

const SASL_USER: &str = "net.sasl.user";
const SASL_PASSWORD: &str = "net.sasl.password";
const SASL_TYPE: &str = "net.sasl.type";
const TLS_CERT: &str = "net.tls.cert";
const TLS_KEY: &str = "net.tls.key";
const TLS_CA_CERT: &str = "net.tls.caCert";

/// A `KafkaSource` sends an event to its sink for every record of its topics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["bootstrapServers", "topics", "sink"]))]
pub struct KafkaSource {
    /// The servers that are asked first, as in `kafka.example.com:9092`; they name all others of the cluster.
    #[schemars(length(min = 1, max = 64))]
    pub bootstrap_servers: Vec<String>,
    /// The topics whose records are read.
    #[schemars(length(min = 1, max = 100))]
    pub topics: Vec<String>,
    /// The consumer group, which keeps the position; it cannot be changed. If it is absent, the group is
    /// `knative-kafka-source-` and the uid of the source. Kafka forgets the position of a group that has had no consumer for
    /// a time, 7 days if it is not configured otherwise; then the source begins anew.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consumer_group: String,
    /// How many consumers share the partitions: 1 if it is absent, and 0 pauses the source. More than there are partitions
    /// have nothing to do.
    #[schemars(range(min = 0, max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumers: Option<i32>,
    /// Where a group without a position begins: `latest`, which is what comes after the source was made, or `earliest`, which
    /// is everything that Kafka still has. `latest` if it is absent. The annotation `weft.dev/start` knows more.
    #[schemars(extend("enum" = ["earliest", "latest"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_offset: Option<String>,
    /// `ordered` delivers the records of a partition one after the other; `unordered` only those with the same key, and others
    /// beside them. `ordered` if it is absent.
    #[schemars(extend("enum" = ["ordered", "unordered"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordering: Option<String>,
    /// How events are delivered; checked, and of no effect: a delivery is tried again until the sink takes the event, and what
    /// it refuses for good is parked. Dead letters and their sink are the Triggers' affair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliverySpec>,
    /// How the servers are reached: encryption and credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<KafkaNet>,
    /// Where the events go; required.
    pub sink: Destination,
    /// What is changed in the events before they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

/// How Kafka's servers are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KafkaNet {
    /// Credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
    /// Encryption, and certificates as credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
}

/// Credentials for Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KafkaSasl {
    /// Whether the source logs in.
    pub enable: bool,
    /// The user; required if `enable` is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<SecretValueFromSource>,
    /// The password; required if `enable` is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretValueFromSource>,
    /// The mechanism: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`; `PLAIN` if it is absent.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<SecretValueFromSource>,
    /// Whom tokens are asked of; accepted, and not supported: a source that has one does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_provider: Option<SecretValueFromSource>,
    /// The role that tokens are asked for; accepted, and not supported.
    #[serde(rename = "roleARN", skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<SecretValueFromSource>,
}

/// Encryption of the connections to Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KafkaTls {
    /// Whether connections are encrypted.
    pub enable: bool,
    /// The certificate that the source shows, PEM; needs `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<SecretValueFromSource>,
    /// The key of `cert`, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretValueFromSource>,
    /// The certificates that are trusted, PEM; those of the system if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<SecretValueFromSource>,
}

const COLUMNS: &[Column] = &[
    Column {
        name: "Topics",
        kind: "string",
        path: ".spec.topics",
        priority: 0,
        description: "Whose records it reads.",
    },
    Column {
        name: "BootstrapServers",
        kind: "string",
        path: ".spec.bootstrapServers",
        priority: 0,
        description: "The servers that are asked first.",
    },
    READY,
    REASON,
    AGE,
];

impl SourceSpec for KafkaSource {
    const RESOURCE: Resource = Resource {
        kind: "KafkaSource",
        plural: "kafkasources",
        singular: "kafkasource",
        categories: &["all", "knative", "eventing", "sources"],
        versions: &[
            Version {
                name: "v1beta1",
                deprecated: None,
                columns: COLUMNS,
                schema: source::schema::<Self>,
            },
            Version {
                name: "v1",
                deprecated: None,
                columns: COLUMNS,
                schema: source::schema::<Self>,
            },
        ],
        annotations: &[(
            "registry.knative.dev/eventTypes",
            r#"[{"type":"dev.knative.kafka.event"}]"#,
        )],
        scale: Some(Scale {
            spec_replicas: ".spec.consumers",
            status_replicas: ".status.consumers",
            label_selector: Some(".status.selector"),
        }),
        ..source::resource::<Self>()
    };
    const ANNOTATIONS: &'static [&'static str] = &[annotation::START];
    const FACTS: &'static [Fact] = &[
        Fact {
            name: "consumers",
            kind: "integer",
            description: "How many consumers of the group run here.",
        },
        Fact {
            name: "selector",
            kind: "string",
            description: "What selects the consumers' pods; there are none.",
        },
        Fact {
            name: "claims",
            kind: "string",
            description: "The partitions that are read here, by topic.",
        },
    ];

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
        self.consumers.get_or_insert(1);
        // Knative takes an empty text for none here, and only here.
        if self.initial_offset.as_ref().is_none_or(String::is_empty) {
            self.initial_offset = Some("latest".to_owned());
        }
        self.ordering.get_or_insert_with(|| "ordered".to_owned());
        if let Some(delivery) = &mut self.delivery {
            delivery.defaults(&metadata.namespace);
        }
    }

    fn validate(&self, _: &ObjectMeta, _: &Rules<'_>) -> FieldErrors {
        let mut errors = self.validate_lists();
        errors.also(self.validate_choices());
        errors
    }

    fn validate_annotations(metadata: &ObjectMeta) -> FieldErrors {
        let Some(text) = metadata.annotation(annotation::START) else { return FieldErrors::new() };
        match Start::parse(text) {
            Ok(_) => FieldErrors::new(),
            Err(rule) => FieldError::invalid(text, annotation::path(annotation::START))
                .with_details(rule)
                .into(),
        }
    }

    fn validate_update(&self, old: &Self) -> FieldErrors {
        if self.consumer_group == old.consumer_group {
            return FieldErrors::new();
        }
        let details =
            format!("{{string}}:\n\t-: {:?}\n\t+: {:?}\n", old.consumer_group, self.consumer_group);
        // Knative names the spec, not the field.
        FieldError::new("Immutable fields changed (-old +new)", [""]).with_details(details).into()
    }
}

impl Source for KafkaSource {
    const WORKS: &'static str = "ConsumerGroup";
    const CONDITIONS: &'static [&'static str] = &[condition::OIDC_IDENTITY_CREATED];

    fn needs(&self, _: &About) -> Vec<Need> {
        let mut needs = Vec::new();
        if let Some(sasl) = self.sasl() {
            needs.extend(Need::selected(SASL_USER, sasl.user.as_ref()));
            needs.extend(Need::selected(SASL_PASSWORD, sasl.password.as_ref()));
            needs.extend(Need::selected(SASL_TYPE, sasl.mechanism.as_ref()));
        }
        if let Some(tls) = self.tls() {
            needs.extend(Need::selected(TLS_CERT, tls.cert.as_ref()));
            needs.extend(Need::selected(TLS_KEY, tls.key.as_ref()));
            needs.extend(Need::selected(TLS_CA_CERT, tls.ca_cert.as_ref()));
        }
        needs
    }

    fn attributes(&self, about: &About, _: &Given) -> Vec<CloudEventAttributes> {
        let topics: BTreeSet<&String> = self.topics.iter().collect();
        let attributes = |topic: &String| CloudEventAttributes {
            kind: EVENT_TYPE.to_owned(),
            source: format!("{}{topic}", source_prefix(about)),
        };
        topics.into_iter().map(attributes).collect()
    }

    #[cfg(feature = "kafka")]
    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        let outcome = Box::pin(group::run(self, &ctx)).await;
        ctx.report.fact("consumers", 0);
        match outcome {
            Err(SourceError::Stopped) => Ok(()),
            outcome => outcome,
        }
    }

    #[cfg(not(feature = "kafka"))]
    async fn run(self, _: Context) -> Result<(), SourceError> {
        Err(SourceError::NotBuilt { feature: "kafka" })
    }
}

impl KafkaSource {
    /// The credentials, if the source logs in.
    fn sasl(&self) -> Option<&KafkaSasl> {
        self.net.as_ref()?.sasl.as_ref().filter(|sasl| sasl.enable)
    }

    /// The encryption, if connections are encrypted.
    fn tls(&self) -> Option<&KafkaTls> {
        self.net.as_ref()?.tls.as_ref().filter(|tls| tls.enable)
    }

    /// The servers, of which one entry may name several, as in Knative.
    fn servers(&self) -> impl Iterator<Item = &str> {
        self.bootstrap_servers.iter().flat_map(|entry| entry.split(',')).map(str::trim)
    }

    fn validate_choices(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if let Some(consumers) = self.consumers
            && !(0..=MAX_CONSUMERS).contains(&consumers)
        {
            let error = FieldError::invalid(consumers, "consumers");
            errors.push(error.with_details(format!("expected 0 to {MAX_CONSUMERS}")));
        }
        if self.consumer_group.len() > MAX_GROUP
            || self.consumer_group.chars().any(char::is_control)
        {
            let error =
                FieldError::invalid(format_args!("{:?}", self.consumer_group), "consumerGroup");
            errors.push(error.with_details(format!(
                "expected at most {MAX_GROUP} characters, none of them a control character"
            )));
        }
        for (field, text, known) in [
            ("initialOffset", &self.initial_offset, ["earliest", "latest"]),
            ("ordering", &self.ordering, ["ordered", "unordered"]),
        ] {
            if let Some(text) = text.as_ref().filter(|text| !known.contains(&text.as_str())) {
                errors.push(FieldError::invalid(text, field));
            }
        }
        if let Some(delivery) = &self.delivery {
            errors.also(delivery.validate(None).via("delivery"));
        }
        if let Some(net) = &self.net {
            errors.also(net.validate().via("net"));
        }
        errors
    }

    fn validate_lists(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for (field, length, most) in [
            ("topics", self.topics.len(), MAX_TOPICS),
            ("bootstrapServers", self.servers().count(), MAX_SERVERS),
        ] {
            if length == 0 {
                errors.push(FieldError::missing(field));
            } else if length > most {
                let error = FieldError::new(format!("{length} {field} are too many"), [field]);
                errors.push(error.with_details(format!("at most {most}")));
            }
        }
        for (index, topic) in self.topics.iter().enumerate() {
            if !is_topic(topic) {
                let error = FieldError::invalid(topic, format!("topics[{index}]"));
                errors.push(error.with_details(format!(
                    "expected 1 to {MAX_TOPIC} letters, digits, dots, underscores and hyphens"
                )));
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
}

impl KafkaNet {
    fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if let Some(sasl) = &self.sasl {
            errors.also(sasl.validate().via("sasl"));
        }
        if let Some(tls) = &self.tls {
            errors.also(tls.validate().via("tls"));
        }
        errors
    }
}

impl KafkaSasl {
    fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        // Who has tokens has neither.
        let required = self.enable && !named(self.token_provider.as_ref());
        for (field, value) in [("user", &self.user), ("password", &self.password)] {
            let found = if required {
                SecretValueFromSource::validate(value.as_ref())
            } else {
                optional(value.as_ref())
            };
            errors.also(found.via(field));
        }
        errors.also(optional(self.mechanism.as_ref()).via("type"));
        errors.also(optional(self.token_provider.as_ref()).via("tokenProvider"));
        errors.also(optional(self.role_arn.as_ref()).via("roleARN"));
        errors
    }
}

impl KafkaTls {
    fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for (field, value) in [("cert", &self.cert), ("key", &self.key), ("caCert", &self.ca_cert)]
        {
            errors.also(optional(value.as_ref()).via(field));
        }
        match (named(self.cert.as_ref()), named(self.key.as_ref())) {
            (true, false) => errors.push(FieldError::missing("key")),
            (false, true) => errors.push(FieldError::missing("cert")),
            _ => {}
        }
        errors
    }
}

/// The `source` of a source's events, up to the topic.
fn source_prefix(about: &About) -> String {
    format!("/apis/v1/namespaces/{}/kafkasources/{}#", about.namespace, about.name)
}

/// What is wrong with a value that may be left out. Knative's clients write `{}` for one that is.
fn optional(value: Option<&SecretValueFromSource>) -> FieldErrors {
    let given = value.filter(|value| value.selector().is_some());
    SecretValueFromSource::validate_optional(given)
}

fn named(value: Option<&SecretValueFromSource>) -> bool {
    value.is_some_and(|value| value.selector().is_some())
}

/// Whether Kafka could have a topic of that name. A name that starts with `^` would be taken for a pattern.
pub(crate) fn is_topic(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_TOPIC).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(inner)
}

/// Whether that is a host and a port.
pub(crate) fn is_server(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address,
        None if host.contains(':') => return false,
        None => host,
    };
    let inner =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':' | b'%');
    (1..=255).contains(&bare.len())
        && bare.bytes().all(inner)
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests;
