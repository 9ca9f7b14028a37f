//! What is wanted of a Ceph source: its fields, and what is refused with which words.

use crds::annotation;
use crds::ce_overrides::CloudEventOverrides;
use crds::condition::{self, reason};
use crds::destination::Destination;
use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::resource::{AGE, READY, REASON, Resource, Version};
use crds::secret_ref::SecretValueFromSource;
use crds::source::{self, Fact, SINK, SourceSpec};
use crds::{FieldError, FieldErrors};
use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::given::Need;

/// The fields whose values are kept in Secrets.
pub(super) const ACCESS_KEY: &str = "gateway.accessKey";
pub(super) const SECRET_KEY: &str = "gateway.secretKey";
pub(super) const CA_CERT: &str = "gateway.caCert";

/// The account that Knative's adapter ran as unless another was named.
const DEFAULT_ACCOUNT: &str = "default";

/// What is notified of unless it is said: what the gateway itself takes for wanted.
const DEFAULT_EVENTS: [&str; 2] = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"];

/// The gateway does not look at it; clients have to sign with one.
const DEFAULT_REGION: &str = "us-east-1";

/// The buckets of one source: each is a request or two every few minutes.
const MAX_BUCKETS: usize = 100;

/// The longest name of a topic: the limit of the API that the gateway follows.
pub(super) const MAX_TOPIC: usize = 256;

/// A Ceph source makes an event of every notification that Ceph's object gateway sends about the objects of buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["port", "sink"]))]
pub struct CephSource {
    /// The port that Knative's adapter listened at; required, and of no effect here. Notifications are posted to the URL in
    /// the status.
    pub port: String,
    /// The secret that the gateway sends with each notification, as `?token=` in the URL or as a bearer token. Without it
    /// everybody who can reach the mesh can send events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_token: Option<SecretValueFromSource>,
    /// The object gateway, to tell it what to notify of. Without it, whoever runs the gateway does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<CephGateway>,
    /// The account that Knative's adapter ran as; accepted, and of no effect here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// Where the events go; required.
    pub sink: Destination,
    /// What is changed in the events before they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

/// An object gateway, and what it is to notify of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["endpoint", "buckets", "accessKey", "secretKey"]))]
pub struct CephGateway {
    /// Its URL, as in `https://rgw.example.com`.
    pub endpoint: String,
    /// The buckets to notify of; they must be there.
    #[schemars(length(min = 1, max = 100))]
    pub buckets: Vec<String>,
    /// What to notify of, as in `s3:ObjectCreated:Put`; if nothing is said, of all objects that are created or removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// The access key of the user whose buckets they are; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key: Option<SecretValueFromSource>,
    /// The secret key of that user; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<SecretValueFromSource>,
    /// Certificates to trust at the gateway beside the publicly trusted ones, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<SecretValueFromSource>,
    /// The region that requests are signed for; `us-east-1` if it is absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// The name of the topic that is made, which nothing else may use; made of the source's namespace and name if it is
    /// absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub topic: String,
    /// Whether the gateway keeps notifications until they are taken, which it does unless this is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
}

impl SourceSpec for CephSource {
    const RESOURCE: Resource = Resource {
        kind: "CephSource",
        plural: "cephsources",
        singular: "cephsource",
        categories: &["all", "knative", "eventing", "sources"],
        versions: &[Version {
            name: "v1alpha1",
            deprecated: None,
            columns: &[READY, REASON, SINK, AGE],
            schema: source::schema::<Self>,
        }],
        annotations: &[("registry.knative.dev/eventTypes", TYPES)],
        ..source::resource::<Self>()
    };
    const ANNOTATIONS: &'static [&'static str] = &[annotation::REGISTER];
    const FACTS: &'static [Fact] = &[
        Fact {
            name: "url",
            kind: "string",
            description: "Where the gateway posts to, without the secret token.",
        },
        Fact {
            name: "topicARN",
            kind: "string",
            description: "The topic that was made at the gateway.",
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

    fn defaults(&mut self, _: &ObjectMeta) {
        if self.service_account_name.is_empty() {
            DEFAULT_ACCOUNT.clone_into(&mut self.service_account_name);
        }
    }

    fn validate(&self, _: &ObjectMeta, _: &Rules<'_>) -> FieldErrors {
        self.validate_fields()
    }

    fn validate_annotations(metadata: &ObjectMeta) -> FieldErrors {
        annotation::register(metadata).err().unwrap_or_default()
    }
}

impl CephSource {
    fn validate_fields(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        // As Knative reads it: digits alone, without a sign.
        let is_port = self.port.bytes().all(|byte| byte.is_ascii_digit());
        if !is_port || self.port.parse::<u16>().is_err() {
            errors.push(FieldError::invalid(&self.port, "port"));
        }
        let token = self.secret_token.as_ref();
        errors.also(SecretValueFromSource::validate_optional(token).via("secretToken"));
        if let Some(gateway) = &self.gateway {
            errors.also(gateway.validate().via("gateway"));
        }
        errors
    }
}

impl CephGateway {
    /// What it needs of Secrets. Notifications are taken without.
    pub(super) fn needs(&self) -> Vec<Need> {
        let need = |field, value: &Option<_>, missing| {
            let need = Need::selected(field, value.as_ref())?;
            Some(need.wanted().or(condition::WEBHOOK_CONFIGURED, missing))
        };
        let access = need(ACCESS_KEY, &self.access_key, reason::ACCESS_TOKEN_NOT_FOUND);
        let secret = need(SECRET_KEY, &self.secret_key, reason::ACCESS_TOKEN_NOT_FOUND);
        let authority = need(CA_CERT, &self.ca_cert, "CertificatesNotFound");
        access.into_iter().chain(secret).chain(authority).collect()
    }

    /// What to notify of.
    pub(super) fn events(&self) -> Vec<&str> {
        if self.events.is_empty() {
            return DEFAULT_EVENTS.to_vec();
        }
        self.events.iter().map(String::as_str).collect()
    }

    /// The region that requests are signed for.
    pub(super) fn region(&self) -> &str {
        if self.region.is_empty() { DEFAULT_REGION } else { &self.region }
    }

    fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.endpoint.is_empty() {
            errors.push(FieldError::missing("endpoint"));
        } else if !is_endpoint(&self.endpoint) {
            // A URL with credentials is refused without repeating them.
            let secret = self.endpoint.contains('@');
            let shown = if secret { "a URL with credentials" } else { &self.endpoint };
            let error = FieldError::invalid(shown, "endpoint");
            errors.push(error.with_details("expected a URL such as https://rgw.example.com"));
        }
        if self.buckets.is_empty() {
            errors.push(FieldError::missing("buckets"));
        } else if self.buckets.len() > MAX_BUCKETS {
            let error =
                FieldError::invalid(format_args!("{} buckets", self.buckets.len()), "buckets");
            errors.push(error.with_details(format!("at most {MAX_BUCKETS}")));
        }
        for (index, bucket) in self.buckets.iter().enumerate() {
            if !is_bucket(bucket) {
                errors.push(FieldError::invalid(bucket, format!("buckets[{index}]")));
            }
        }
        for (index, event) in self.events.iter().enumerate() {
            if !is_event(event) {
                let error = FieldError::invalid(event, format!("events[{index}]"));
                errors.push(error.with_details("expected a name such as s3:ObjectCreated:*"));
            }
        }
        for (value, field) in [(&self.access_key, "accessKey"), (&self.secret_key, "secretKey")] {
            errors.also(SecretValueFromSource::validate(value.as_ref()).via(field));
        }
        errors.also(SecretValueFromSource::validate_optional(self.ca_cert.as_ref()).via("caCert"));
        let is_word = |text: &str, also: &[u8]| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte))
        };
        if self.region.len() > MAX_TOPIC || !is_word(&self.region, b"-_") {
            errors.push(FieldError::invalid(&self.region, "region"));
        }
        if self.topic.len() > MAX_TOPIC || !is_word(&self.topic, b"-_") {
            let error = FieldError::invalid(&self.topic, "topic");
            errors.push(error.with_details("letters, digits, - and _, 256 at most"));
        }
        errors
    }
}

fn is_endpoint(text: &str) -> bool {
    // Requests are made with the text as it is, so it has to be one without the repairs that this parser makes.
    let is_plain = text.parse::<Uri>().is_ok_and(|uri| uri.scheme().is_some());
    let parsed = Url::parse(text).ok().filter(|_| is_plain);
    parsed.is_some_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

/// The gateway's rule for the names of buckets where it is not strict; the bounds are S3's old ones.
fn is_bucket(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (3..=255).contains(&name.len())
        && name.bytes().all(allowed)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

fn is_event(name: &str) -> bool {
    let mut parts = name.split(':');
    let is_word =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    parts.next() == Some("s3")
        && parts.next().is_some_and(is_word)
        && parts.next().is_none_or(|part| part == "*" || is_word(part))
        && parts.next().is_none_or(|part| part == "*" || is_word(part))
        && parts.next().is_none()
        && name.len() <= MAX_TOPIC
}

/// What `kn source list-types` offers: Knative's own list.
const TYPES: &str = r#"[{"type":"com.amazonaws.s3:ObjectCreated:Put"},
{"type":"com.amazonaws.s3:ObjectCreated:Post"},
{"type":"com.amazonaws.s3:ObjectCreated:Copy"},
{"type":"com.amazonaws.s3:ObjectCreated:CompleteMultipartUpload"},
{"type":"com.amazonaws.s3:ObjectRemoved:Delete"},
{"type":"com.amazonaws.s3:ObjectRemoved:DeleteMarkerCreated"}]"#;

#[cfg(test)]
mod tests;
