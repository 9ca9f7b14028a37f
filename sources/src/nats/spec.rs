//! What is wanted of a NATS source: its fields, and what is refused with which words.

use std::time::Duration;

use crds::ce_overrides::CloudEventOverrides;
use crds::destination::Destination;
use crds::iso_duration;
use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::resource::{AGE, Column, READY, REASON, Resource, Version};
use crds::secret_ref::SecretValueFromSource;
use crds::source::{self, SINK, SourceSpec};
use crds::{FieldError, FieldErrors};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::address::{Address, MAX_NAME, overlap, subject_rule, token_rule};
use crate::source::About;

/// How many servers a source can name. One is connected to at a time, and clusters have three or five.
const MAX_SERVERS: usize = 16;

/// How many subjects a source can name. Each is a subscription, or a filter that the server tries on each message.
const MAX_SUBJECTS: usize = 64;

/// How long a server waits for an acknowledgement when nobody says.
const DEFAULT_ACK_WAIT: &str = "30s";

/// Below it a server would have to be told several times a second that messages are still being handed over.
const MIN_ACK_WAIT: Duration = Duration::from_secs(1);

/// Above it what was in flight at a crash would come again later than anybody still waits for it.
const MAX_ACK_WAIT: Duration = Duration::from_hours(1);

/// NATS' own default. It leaves room for a batch that is handed over, one that waits and one that is on its way.
const DEFAULT_ACK_PENDING: i32 = 1000;

/// More is never in flight, whatever a consumer allows; the number only tells other users of the consumer.
const MAX_ACK_PENDING: i32 = 1_000_000;

const ALL: &str = "all";
const LAST: &str = "last";
const NEW: &str = "new";
const BY_START_SEQUENCE: &str = "byStartSequence";
const BY_START_TIME: &str = "byStartTime";
const POLICIES: [&str; 5] = [ALL, LAST, NEW, BY_START_SEQUENCE, BY_START_TIME];

/// A NATS source makes an event of every message of a JetStream stream, or of every message that core NATS brings while it
/// listens.
///
/// With `stream` it reads through a durable consumer and acknowledges messages once their events are stored: at least once.
/// Without, it subscribes: core NATS keeps nothing for those who are away or slow, so at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["servers", "sink"]))]
pub struct NatsSource {
    /// Where NATS is: `nats://host:4222`, `tls://host:4222` or `host`, without credentials. All are of one cluster; the first
    /// also names the `source` of the events, whichever is connected to.
    #[schemars(length(min = 1, max = 16))]
    pub servers: Vec<String>,
    /// Which messages: subjects, with the wildcards `*` and `>`. No two may have messages in common. Without `stream` at least
    /// one is required; with it none means all messages of the stream.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// The JetStream stream to read. It is not made: if there is none, the source waits for it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// The durable pull consumer of the stream to read through. One that exists is used as it is, and so are its subjects and
    /// its settings; one that does not is made, and stays when the source is deleted. If none is named, the source has one of
    /// its own, named after its namespace and name, that is kept up to date with the source and deleted with it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consumer: String,
    /// Without `stream`: the queue group in which to subscribe. Each message goes to one member of the group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub queue_group: String,
    /// Where a consumer that is made starts: `all` (the default), `last`, `new`, `byStartSequence` or `byStartTime`.
    #[schemars(extend("enum" = ["", ALL, LAST, NEW, BY_START_SEQUENCE, BY_START_TIME]))]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deliver_policy: String,
    /// With `byStartSequence`: the sequence of the first message, from 1.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opt_start_sequence: Option<i64>,
    /// With `byStartTime`: the time of the first message, as in `2026-01-31T12:00:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opt_start_time: Option<String>,
    /// How long a consumer that is made waits for an acknowledgement before it delivers a message again: from `1s` to `1h`, as
    /// in `30s` (the default) or `PT30S`. A sink that takes longer is no reason: the source tells that it is still at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_wait: Option<String>,
    /// How many messages a consumer that is made delivers without an acknowledgement: 1000 by default.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ack_pending: Option<i32>,
    /// As whom to connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<NatsAuth>,
    /// How connections are protected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<NatsTls>,
    /// Where the events go; required.
    pub sink: Destination,
    /// What is changed in the events before they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

/// As whom to connect to NATS: one of `credentials`, `nkey`, `token`, or `user` with `password`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NatsAuth {
    /// A credentials file (`.creds`): the user's JWT and the seed of the user's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretValueFromSource>,
    /// The seed of a user's `NKey`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<SecretValueFromSource>,
    /// A token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretValueFromSource>,
    /// The name of a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<SecretValueFromSource>,
    /// The password of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretValueFromSource>,
}

/// How connections to NATS are protected. A server that requires TLS gets it in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NatsTls {
    /// Whether a connection without TLS is refused. It is as well if one of the other fields is there or a server's scheme is
    /// `tls`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable: bool,
    /// Certificates of authorities to trust beside the public ones, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<SecretValueFromSource>,
    /// The certificate to show, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<SecretValueFromSource>,
    /// Its key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretValueFromSource>,
}

/// Where a consumer starts that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    All,
    Last,
    New,
    Sequence(u64),
    Time(Timestamp),
}

const STREAM: Column = Column {
    name: "Stream",
    kind: "string",
    path: ".spec.stream",
    priority: 0,
    description: "The stream it reads; nothing if it subscribes.",
};

impl SourceSpec for NatsSource {
    const RESOURCE: Resource = Resource {
        kind: "NatsSource",
        plural: "natssources",
        singular: "natssource",
        versions: &[Version {
            name: "v1alpha1",
            deprecated: None,
            columns: &[STREAM, READY, REASON, SINK, AGE],
            schema: source::schema::<Self>,
        }],
        annotations: &[(
            "registry.knative.dev/eventTypes",
            r#"[{ "type": "dev.knative.nats.event", "description": "A message from NATS that is no CloudEvent itself" }]"#,
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

    fn defaults(&mut self, _: &ObjectMeta) {
        if self.stream.is_empty() {
            return;
        }
        if self.deliver_policy.is_empty() {
            ALL.clone_into(&mut self.deliver_policy);
        }
        self.ack_wait.get_or_insert_with(|| DEFAULT_ACK_WAIT.to_owned());
        self.max_ack_pending.get_or_insert(DEFAULT_ACK_PENDING);
    }

    fn validate(&self, _: &ObjectMeta, _: &Rules<'_>) -> FieldErrors {
        let mut errors = self.validate_servers();
        errors.also(self.validate_subjects());
        if self.stream.is_empty() {
            errors.also(self.validate_core());
        } else {
            errors.also(self.validate_stream());
        }
        if let Some(auth) = &self.auth {
            errors.also(auth.validate().via("auth"));
        }
        if let Some(tls) = &self.tls {
            errors.also(tls.validate().via("tls"));
        }
        errors
    }

    /// Where a consumer starts is settled when it is made; afterwards its position says.
    fn validate_update(&self, old: &Self) -> FieldErrors {
        let same_consumer = self.stream == old.stream && self.consumer == old.consumer;
        if old.owns_consumer() && !same_consumer {
            // Only the consumer of the spec that is there last is removed with the source.
            let details = "the source's own consumer would stay on its stream; make another source";
            let error =
                FieldError::new("Immutable fields changed (-old +new)", ["stream", "consumer"]);
            return error.with_details(details).into();
        }
        if !same_consumer || self.start().ok() == old.start().ok() {
            return FieldErrors::new();
        }
        let shown = |spec: &Self| {
            let Self { deliver_policy, opt_start_sequence, opt_start_time, .. } = spec;
            format!("{deliver_policy:?} {opt_start_sequence:?} {opt_start_time:?}")
        };
        let details = format!("{{string}}:\n\t-: {}\n\t+: {}\n", shown(old), shown(self));
        let fields = ["deliverPolicy", "optStartSequence", "optStartTime"];
        FieldError::new("Immutable fields changed (-old +new)", fields).with_details(details).into()
    }
}

impl NatsSource {
    /// Where a consumer starts that is made.
    ///
    /// # Errors
    /// What is wrong with the three fields that say so.
    pub(super) fn start(&self) -> Result<Start, FieldErrors> {
        let mut errors = FieldErrors::new();
        let policy = if self.deliver_policy.is_empty() { ALL } else { &self.deliver_policy };
        if policy != BY_START_SEQUENCE && self.opt_start_sequence.is_some() {
            let error = FieldError::disallowed("optStartSequence");
            errors.push(error.with_details("only deliverPolicy byStartSequence has one"));
        }
        if policy != BY_START_TIME && self.opt_start_time.is_some() {
            let error = FieldError::disallowed("optStartTime");
            errors.push(error.with_details("only deliverPolicy byStartTime has one"));
        }
        let start = match policy {
            ALL => Ok(Start::All),
            LAST => Ok(Start::Last),
            NEW => Ok(Start::New),
            BY_START_SEQUENCE => self.start_sequence(),
            BY_START_TIME => self.start_time(),
            other => {
                let error = FieldError::invalid(other, "deliverPolicy");
                Err(error.with_details(format!("expected one of {}", POLICIES.join(", "))))
            }
        };
        match start {
            Ok(start) if errors.is_empty() => Ok(start),
            Ok(_) => Err(errors),
            Err(error) => {
                errors.push(error);
                Err(errors)
            }
        }
    }

    fn start_sequence(&self) -> Result<Start, FieldError> {
        let path = "optStartSequence";
        let sequence = self.opt_start_sequence.ok_or_else(|| FieldError::missing(path))?;
        match u64::try_from(sequence) {
            Ok(sequence @ 1..) => Ok(Start::Sequence(sequence)),
            _ => Err(FieldError::invalid(sequence, path).with_details("sequences begin with 1")),
        }
    }

    fn start_time(&self) -> Result<Start, FieldError> {
        let path = "optStartTime";
        let text = self.opt_start_time.as_ref().ok_or_else(|| FieldError::missing(path))?;
        let rule = "expected a time such as 2026-01-31T12:00:00Z";
        let invalid = |_| FieldError::invalid(text, path).with_details(rule);
        text.parse().map(Start::Time).map_err(invalid)
    }

    /// How long a consumer that is made waits for an acknowledgement.
    ///
    /// # Errors
    /// What is expected instead.
    pub(super) fn ack_wait(&self) -> Result<Duration, &'static str> {
        let text = self.ack_wait.as_deref().unwrap_or(DEFAULT_ACK_WAIT);
        let rule = "expected a duration from 1s to 1h, such as 30s or PT30S";
        // Knative's other fields are ISO 8601; `ackWait` of its NATS channel is written as Go writes durations.
        let wait = iso_duration::parse(text).ok().or_else(|| {
            let friendly: SignedDuration = text.parse().ok()?;
            friendly.try_into().ok()
        });
        wait.filter(|wait| (MIN_ACK_WAIT..=MAX_ACK_WAIT).contains(wait)).ok_or(rule)
    }

    /// How many messages a consumer that is made delivers without an acknowledgement.
    pub(super) fn max_ack_pending(&self) -> i64 {
        self.max_ack_pending.unwrap_or(DEFAULT_ACK_PENDING).into()
    }

    /// Whether the consumer is the source's own, so that it changes and goes with it.
    pub(super) fn owns_consumer(&self) -> bool {
        !self.stream.is_empty() && self.consumer.is_empty()
    }

    /// The name of the consumer.
    pub(super) fn consumer_name(&self, about: &About) -> String {
        if !self.consumer.is_empty() {
            return self.consumer.clone();
        }
        // Consumers have no dots in their names, and Kubernetes' names have no underscores: no two sources share a name.
        let name = format!("weft_{}_{}", about.namespace, about.name.replace('.', "_"));
        if name.len() <= MAX_NAME {
            return name;
        }
        let digest = Sha256::digest(name.as_bytes());
        let mut short = "weft_".to_owned();
        for byte in digest {
            short.push_str(&format!("{byte:02x}"));
        }
        short
    }

    /// Whether a connection without TLS is refused.
    pub(super) fn requires_tls(&self) -> bool {
        let Some(NatsTls { enable, ca_cert, cert, key }) = &self.tls else { return false };
        *enable || ca_cert.is_some() || cert.is_some() || key.is_some()
    }

    fn validate_servers(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.servers.is_empty() {
            errors.push(FieldError::missing("servers"));
        }
        if self.servers.len() > MAX_SERVERS {
            let error =
                FieldError::new(format!("{} are too many", self.servers.len()), ["servers"]);
            errors.push(error.with_details(format!("at most {MAX_SERVERS}")));
            return errors;
        }
        for (index, server) in self.servers.iter().enumerate() {
            if let Err(rule) = Address::parse(server) {
                // An address with credentials is refused without repeating them.
                let shown =
                    if server.contains('@') { "an address with credentials" } else { server };
                let error = FieldError::invalid(shown, format!("servers[{index}]"));
                errors.push(error.with_details(rule));
            }
        }
        errors
    }

    fn validate_subjects(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.subjects.len() > MAX_SUBJECTS {
            let error =
                FieldError::new(format!("{} are too many", self.subjects.len()), ["subjects"]);
            errors.push(error.with_details(format!("at most {MAX_SUBJECTS}")));
            return errors;
        }
        for (index, subject) in self.subjects.iter().enumerate() {
            let path = || format!("subjects[{index}]");
            if let Err(rule) = subject_rule(subject) {
                let error = FieldError::invalid(format_args!("{subject:?}"), path());
                errors.push(error.with_details(rule));
                continue;
            }
            let earlier = self.subjects.iter().take(index).find(|other| overlap(other, subject));
            if let Some(earlier) = earlier {
                let error = FieldError::invalid(format_args!("{subject:?}"), path());
                errors.push(error.with_details(format!(
                    "a message may be one of {earlier:?} as well, and would be two events"
                )));
            }
        }
        errors
    }

    fn validate_core(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.subjects.is_empty() {
            let error = FieldError::missing("subjects");
            errors.push(error.with_details("only a stream can be read as a whole"));
        }
        if !self.queue_group.is_empty()
            && let Err(rule) = token_rule(&self.queue_group)
        {
            let error = FieldError::invalid(format_args!("{:?}", self.queue_group), "queueGroup");
            errors.push(error.with_details(rule));
        }
        for (given, field) in [
            (!self.consumer.is_empty(), "consumer"),
            (!self.deliver_policy.is_empty(), "deliverPolicy"),
            (self.opt_start_sequence.is_some(), "optStartSequence"),
            (self.opt_start_time.is_some(), "optStartTime"),
            (self.ack_wait.is_some(), "ackWait"),
            (self.max_ack_pending.is_some(), "maxAckPending"),
        ] {
            if given {
                let error = FieldError::disallowed(field);
                errors.push(error.with_details("only a source with a stream has it"));
            }
        }
        errors
    }

    fn validate_stream(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for (name, field) in [(&self.stream, "stream"), (&self.consumer, "consumer")] {
            if !name.is_empty()
                && let Err(rule) = token_rule(name)
            {
                let error = FieldError::invalid(format_args!("{name:?}"), field);
                errors.push(error.with_details(rule));
            }
        }
        if !self.queue_group.is_empty() {
            let error = FieldError::disallowed("queueGroup");
            errors.push(error.with_details("a source with a stream shares its consumer instead"));
        }
        errors.also(self.start().err().unwrap_or_default());
        if let Err(rule) = self.ack_wait() {
            let text = self.ack_wait.as_deref().unwrap_or_default();
            errors.push(FieldError::invalid(text, "ackWait").with_details(rule));
        }
        if let Some(most) = self.max_ack_pending
            && !(1..=MAX_ACK_PENDING).contains(&most)
        {
            let error = FieldError::invalid(most, "maxAckPending");
            errors.push(error.with_details(format!("expected 1 to {MAX_ACK_PENDING}")));
        }
        errors
    }
}

impl NatsAuth {
    fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let ways = [
            ("credentials", &self.credentials),
            ("nkey", &self.nkey),
            ("token", &self.token),
            ("user", &self.user),
        ];
        for (field, value) in ways.into_iter().chain([("password", &self.password)]) {
            errors.also(SecretValueFromSource::validate_optional(value.as_ref()).via(field));
        }
        let given: Vec<&str> =
            ways.into_iter().filter(|(_, value)| value.is_some()).map(|(field, _)| field).collect();
        if given.len() > 1 {
            errors.push(FieldError::multiple_one_of(given));
        } else if given.is_empty() && self.password.is_none() {
            errors.push(FieldError::missing_one_of(ways.map(|(field, _)| field)));
        }
        match (&self.user, &self.password) {
            (Some(_), None) => errors.push(FieldError::missing("password")),
            (None, Some(_)) => errors.push(FieldError::missing("user")),
            _ => {}
        }
        errors
    }
}

impl NatsTls {
    fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for (field, value) in [("caCert", &self.ca_cert), ("cert", &self.cert), ("key", &self.key)]
        {
            errors.also(SecretValueFromSource::validate_optional(value.as_ref()).via(field));
        }
        match (&self.cert, &self.key) {
            (Some(_), None) => errors.push(FieldError::missing("key")),
            (None, Some(_)) => errors.push(FieldError::missing("cert")),
            _ => {}
        }
        errors
    }
}

#[cfg(test)]
mod tests;
