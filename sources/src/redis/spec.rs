//! What is wanted of a `RedisStreamSource`: its fields, and what is refused with which words.

use crds::annotation::{self, START};
use crds::ce_overrides::CloudEventOverrides;
use crds::destination::Destination;
use crds::meta::ObjectMeta;
use crds::name;
use crds::object::Rules;
use crds::resource::{AGE, READY, REASON, Resource, Scale, Version};
use crds::secret_ref::{SecretKeySelector, SecretValueFromSource};
use crds::source::{self, Fact, SINK, SourceSpec};
use crds::{FieldError, FieldErrors};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::entry::Id;
use super::payload::Shape;
use crate::given::Need;

/// On a Redis source: in which form entries become JSON, `array` (Knative's, the default) or `object`; with `event`, entries
/// that hold the attributes of an event by name, as the Redis sink writes them, are that event, and others an `array`.
pub const PAYLOAD: &str = "weft.dev/payload";

/// The most consumers a source can have. Each is a connection, and together they share the memory that a source may use.
pub const MAX_CONSUMERS: i32 = 100;

/// Bytes of the names of streams and groups: longer ones are accidents, and each is a part of every event or command.
const MAX_NAME: usize = 1024;

/// The key of a Secret that holds a password and names none.
const PASSWORD_KEY: &str = "password";

/// The status field that says how many consumers there are.
pub(super) const CONSUMERS: &str = "consumers";

pub(super) const CA_CERT: &str = "dialOptions.caCert";
pub(super) const CERT: &str = "dialOptions.cert";
pub(super) const KEY: &str = "dialOptions.key";
pub(super) const PASSWORD: &str = "dialOptions.password";

/// A `RedisStreamSource` makes an event of every entry that is added to a stream of a Redis server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["address", "stream", "sink"]))]
pub struct RedisStreamSource {
    /// Where the server is, as in `redis://redis.example.com:6379`; `rediss://` is TLS. It may hold a user, a password and the
    /// number of a database: `redis://user:password@redis.example.com:6379/1`. A password is better kept in a Secret, see
    /// `dialOptions`.
    #[schemars(with = "String")]
    pub address: Address,
    /// How to connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dial_options: Option<DialOptions>,
    /// The name of the stream. It is made if it is not there.
    pub stream: String,
    /// The consumer group. If it is absent, the source has a group of its own, which is removed with the source.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// How many read the stream at the same time, each with a connection; 1 if it is absent, and 0 pauses the source. Entries
    /// come in their order only with 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub consumers: Option<i32>,
    /// Where the events go; required.
    pub sink: Destination,
    /// What is changed in the events before they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

/// How to connect to a Redis server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DialOptions {
    /// The password; it wins over one in the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordReference>,
    /// Whether to use TLS, whatever the address says.
    #[serde(rename = "useTLS", skip_serializing_if = "std::ops::Not::not")]
    pub use_tls: bool,
    /// Whether to trust any server, whatever certificate it shows. Whoever is in between can then read and change everything.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_verify: bool,
    /// The certificate to show to the server, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<SecretValueFromSource>,
    /// The key of that certificate, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretValueFromSource>,
    /// The certificates to trust, PEM, in place of the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<SecretValueFromSource>,
}

/// Where a password is: a key of a Secret like the other values, or, as Knative has it, a reference to a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PasswordReference {
    /// Which key of which Secret. Excludes `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeySelector>,
    /// The name of a Secret in the source's namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The key within the Secret of that name; `password` if it is absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_path: String,
    /// `Secret`, or absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// `v1`, or absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// The source's namespace, or absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Accepted, and of no effect.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Accepted, and of no effect.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
}

/// With which entry a new group begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Start {
    /// With what is added from now on.
    #[default]
    Now,
    /// With this one, or the first after it.
    At(Id),
}

impl SourceSpec for RedisStreamSource {
    const RESOURCE: Resource = Resource {
        kind: "RedisStreamSource",
        plural: "redisstreamsources",
        singular: "redisstreamsource",
        categories: &["all", "knative", "eventing", "sources"],
        versions: &[Version {
            name: "v1alpha1",
            deprecated: None,
            columns: &[SINK, AGE, READY, REASON],
            schema: source::schema::<Self>,
        }],
        annotations: &[(
            "registry.knative.dev/eventTypes",
            r#"[{"type":"dev.knative.sources.redisstream","description":"An entry that was added to a Redis stream"}]"#,
        )],
        scale: Some(Scale {
            spec_replicas: ".spec.consumers",
            status_replicas: ".status.consumers",
            label_selector: None,
        }),
        ..source::resource::<Self>()
    };
    const ANNOTATIONS: &'static [&'static str] = &[START, PAYLOAD];
    const FACTS: &'static [Fact] = &[Fact {
        name: CONSUMERS,
        kind: "integer",
        description: "How many read the stream at the same time.",
    }];

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
        // `kubectl scale` reads it from here.
        self.consumers.get_or_insert(1);
    }

    fn validate(&self, metadata: &ObjectMeta, _: &Rules<'_>) -> FieldErrors {
        let mut errors = self.validate_address();
        for (field, text) in [("stream", &self.stream), ("group", &self.group)] {
            if text.len() > MAX_NAME {
                let error = FieldError::invalid(format_args!("{} bytes", text.len()), field);
                errors.push(error.with_details(format!("at most {MAX_NAME} bytes")));
            }
        }
        if self.stream.is_empty() {
            errors.push(FieldError::missing("stream"));
        }
        if let Some(consumers) = self.consumers
            && !(0..=MAX_CONSUMERS).contains(&consumers)
        {
            let message = format!("expected 0 <= {consumers} <= {MAX_CONSUMERS}");
            errors.push(FieldError::new(message, ["consumers"]));
        }
        if let Some(options) = &self.dial_options {
            errors.also(options.validate(&metadata.namespace).via("dialOptions"));
        }
        errors
    }

    fn validate_annotations(metadata: &ObjectMeta) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let start =
            "expected now, earliest, a time such as 2026-01-31T12:00:00Z, or the id of an entry";
        let payload = "expected array, object or event";
        for (key, is_valid, rule) in [
            (START, (|text| Start::parse(text).is_some()) as fn(&str) -> bool, start),
            (PAYLOAD, |text| Shape::parse(text).is_some(), payload),
        ] {
            if let Some(text) = metadata.annotation(key).filter(|text| !is_valid(text)) {
                errors.push(FieldError::invalid(text, annotation::path(key)).with_details(rule));
            }
        }
        errors
    }
}

impl RedisStreamSource {
    /// How many read the stream.
    pub(super) fn readers(&self) -> usize {
        usize::try_from(self.consumers.unwrap_or(1).clamp(0, MAX_CONSUMERS)).unwrap_or(0)
    }

    /// How to connect, as far as it is said.
    pub(super) fn options(&self) -> DialOptions {
        self.dial_options.clone().unwrap_or_default()
    }

    /// What it needs of Secrets.
    pub(crate) fn secrets(&self) -> Vec<Need> {
        let Some(options) = &self.dial_options else { return Vec::new() };
        let password = options.password.as_ref().and_then(PasswordReference::need);
        let files = [(CA_CERT, &options.ca_cert), (CERT, &options.cert), (KEY, &options.key)];
        let files =
            files.into_iter().filter_map(|(field, value)| Need::selected(field, value.as_ref()));
        password.into_iter().chain(files).collect()
    }

    fn validate_address(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.address.is_empty() {
            errors.push(FieldError::missing("address"));
            return errors;
        }
        let place = match self.address.place() {
            Ok(place) => place,
            Err(rule) => {
                // Without the credentials, which are nobody's business who reads the refusal.
                let error = FieldError::invalid(self.address.shown(), "address");
                errors.push(error.with_details(rule.to_string()));
                return errors;
            }
        };
        let options = self.options();
        if !place.tls && !options.use_tls && (options.skip_verify || options.has_certificates()) {
            let error = FieldError::missing("dialOptions.useTLS");
            errors.push(error.with_details(
                "certificates mean something with TLS only: say useTLS: true, or rediss:// in the address",
            ));
        }
        errors
    }
}

impl DialOptions {
    fn has_certificates(&self) -> bool {
        [&self.ca_cert, &self.cert, &self.key].into_iter().any(|value| is_given(value.as_ref()))
    }

    fn validate(&self, namespace: &str) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if let Some(password) = &self.password {
            errors.also(password.validate(namespace).via("password"));
        }
        for (field, value) in [("caCert", &self.ca_cert), ("cert", &self.cert), ("key", &self.key)]
        {
            if is_given(value.as_ref()) {
                errors.also(SecretValueFromSource::validate(value.as_ref()).via(field));
            }
        }
        match (is_given(self.cert.as_ref()), is_given(self.key.as_ref())) {
            (true, false) => errors.push(FieldError::missing("key")),
            (false, true) => errors.push(FieldError::missing("cert")),
            _ => {}
        }
        errors
    }
}

/// Programs written in Go send `{}` for a value that is left out.
fn is_given(value: Option<&SecretValueFromSource>) -> bool {
    value.is_some_and(|value| value.selector().is_some())
}

impl PasswordReference {
    fn need(&self) -> Option<Need> {
        if let Some(SecretKeySelector { name, key, optional }) = &self.secret_key_ref {
            let need = Need::secret(PASSWORD, name.as_str(), key.as_str());
            return Some(if *optional == Some(true) { need.optional() } else { need });
        }
        let key = if self.field_path.is_empty() { PASSWORD_KEY } else { &self.field_path };
        (!self.name.is_empty()).then(|| Need::secret(PASSWORD, self.name.as_str(), key))
    }

    fn validate(&self, namespace: &str) -> FieldErrors {
        // All of it left out is what programs written in Go send for no password.
        if *self == Self::default() {
            return FieldErrors::new();
        }
        if let Some(selector) = &self.secret_key_ref {
            let mut errors = selector.validate().via("secretKeyRef");
            if !self.name.is_empty() {
                errors.push(FieldError::multiple_one_of(["name", "secretKeyRef"]));
            }
            return errors;
        }
        let mut errors = FieldErrors::new();
        if self.name.is_empty() {
            errors.push(FieldError::missing("name"));
        } else if let Err(rule) = name::subdomain(&self.name) {
            errors.push(FieldError::invalid(&self.name, "name").with_details(rule));
        }
        if !self.field_path.is_empty()
            && let Err(rule) = name::config_key(&self.field_path)
        {
            errors.push(FieldError::invalid(&self.field_path, "fieldPath").with_details(rule));
        }
        for (field, value, only) in [
            ("kind", &self.kind, "Secret"),
            ("apiVersion", &self.api_version, "v1"),
            ("namespace", &self.namespace, namespace),
        ] {
            if !value.is_empty() && value != only {
                let error = FieldError::invalid(value, field);
                errors.push(
                    error.with_details(format!("a password is in a Secret; expected {only}")),
                );
            }
        }
        errors
    }
}

impl Start {
    /// Reads the annotation `weft.dev/start`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "now" => return Some(Self::Now),
            "earliest" => return Some(Self::At(Id::ZERO)),
            _ => {}
        }
        if let Some(id) = Id::parse(text) {
            return Some(Self::At(id));
        }
        // The ids that Redis makes begin with the time.
        let time: Timestamp = text.parse().ok()?;
        let milliseconds = u64::try_from(time.as_millisecond()).ok()?;
        Some(Self::At(Id { milliseconds, sequence: 0 }))
    }
}

#[cfg(test)]
mod tests;
