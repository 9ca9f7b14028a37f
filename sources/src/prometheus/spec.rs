//! What is wanted of a `PrometheusSource`: its fields, and what is refused with which words.

use crds::ce_overrides::CloudEventOverrides;
use crds::destination::Destination;
use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::resource::{AGE, READY, REASON, Resource, Version};
use crds::secret_ref::SecretValueFromSource;
use crds::source::{self, SINK, SourceSpec};
use crds::{FieldError, FieldErrors, annotation, name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::schedule::Schedule;
use super::step::Step;
use crate::source::About;

/// `"true"` makes an event of each series of an answer.
pub(super) const PER_SERIES: &str = "weft.dev/per-series";
/// `"true"` makes no event of an answer without series.
pub(super) const SKIP_EMPTY: &str = "weft.dev/skip-empty";

/// Bytes of a query. It is sent each time; the longest that people write by hand have a few hundred.
const MAX_QUERY: usize = 64 * 1024;

/// Linux' bound on a path.
const MAX_PATH: usize = 4096;

/// A `PrometheusSource` makes an event of the answer to a Prometheus query whenever its schedule says so, or of each
/// notification that an Alertmanager sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["sink"], "x-kubernetes-validations" = [{
    "rule": "has(self.promQL) != has(self.alertmanager)",
    "message": "expected exactly one of spec.promQL, spec.alertmanager",
}]))]
pub struct PrometheusSource {
    /// The account that Knative's adapter ran as; accepted, and of no effect here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// The URL of the Prometheus server, as in `https://prometheus.example.com:9090`; required with `promQL`.
    #[serde(rename = "serverURL", skip_serializing_if = "String::is_empty")]
    pub server_url: String,
    /// The query, in `PromQL`. It excludes `alertmanager`, and one of them is required.
    #[serde(rename = "promQL", skip_serializing_if = "String::is_empty")]
    pub prom_ql: String,
    /// The path of a file, where the mesh runs, that holds a token to show to the server. It is read again for each query.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_token_file: String,
    /// The token to show to the server, in a Secret. It excludes `authTokenFile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_token: Option<SecretValueFromSource>,
    /// The name of a `ConfigMap` whose key `service-ca.crt` holds certificates (PEM) to trust at the server.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ca_cert_config_map: String,
    /// When the query is asked: a cron expression of five fields, or of six that start with seconds, or `@hourly` and the
    /// like, or `@every 30s`. UTC, unless `CRON_TZ=Europe/Berlin` or the like stands before it. Required with `promQL`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub schedule: String,
    /// The resolution of a range query, as in `15s` or `1m30s`, or a number of seconds: with it the query is asked about the
    /// whole time since it was last asked, and without it about the moment.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub step: String,
    /// Take the notifications of an Alertmanager instead, which it posts to `/sources/{namespace}/{name}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alertmanager: Option<Alertmanager>,
    /// Where the events go; required.
    pub sink: Destination,
    /// What is changed in the events before they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

/// What is expected of an Alertmanager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Alertmanager {
    /// The token that it shows (`authorization` in its `http_config`), in a Secret. Without it, whoever reaches the listener
    /// can post.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_token: Option<SecretValueFromSource>,
}

/// What the annotations ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// An event of each series.
    pub(super) per_series: bool,
    /// No event of an answer without series.
    pub(super) skip_empty: bool,
}

impl SourceSpec for PrometheusSource {
    const RESOURCE: Resource = Resource {
        kind: "PrometheusSource",
        plural: "prometheussources",
        singular: "prometheussource",
        categories: &["all", "knative", "eventing", "sources"],
        versions: &[Version {
            name: "v1alpha1",
            deprecated: None,
            columns: &[READY, REASON, SINK, AGE],
            schema: source::schema::<Self>,
        }],
        annotations: &[(
            "registry.knative.dev/eventTypes",
            r#"[{"type":"dev.knative.prometheus.promql"},{"type":"dev.knative.prometheus.alertmanager"}]"#,
        )],
        ..source::resource::<Self>()
    };
    const ANNOTATIONS: &'static [&'static str] = &[PER_SERIES, SKIP_EMPTY];

    fn sink(&self) -> &Destination {
        &self.sink
    }

    fn sink_mut(&mut self) -> &mut Destination {
        &mut self.sink
    }

    fn ce_overrides(&self) -> Option<&CloudEventOverrides> {
        self.ce_overrides.as_ref()
    }

    fn validate(&self, _: &ObjectMeta, _: &Rules<'_>) -> FieldErrors {
        match &self.alertmanager {
            Some(alertmanager) => self.validate_receiving(alertmanager),
            None => self.validate_asking(),
        }
    }

    fn validate_annotations(metadata: &ObjectMeta) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for key in [PER_SERIES, SKIP_EMPTY] {
            if let Some(text) = metadata.annotation(key)
                && !["true", "false"].contains(&text)
            {
                let error = FieldError::invalid(text, annotation::path(key));
                errors.push(error.with_details("expected \"true\" or \"false\""));
            }
        }
        errors
    }
}

impl PrometheusSource {
    fn validate_receiving(&self, alertmanager: &Alertmanager) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if !self.prom_ql.is_empty() {
            errors.push(FieldError::multiple_one_of(["alertmanager", "promQL"]));
        }
        for (field, is_set) in [
            ("serverURL", !self.server_url.is_empty()),
            ("schedule", !self.schedule.is_empty()),
            ("step", !self.step.is_empty()),
            ("authTokenFile", !self.auth_token_file.is_empty()),
            ("authToken", self.auth_token.is_some()),
            ("caCertConfigMap", !self.ca_cert_config_map.is_empty()),
        ] {
            if is_set {
                let error = FieldError::disallowed(field);
                errors.push(error.with_details("nothing is asked where an Alertmanager posts"));
            }
        }
        let token = SecretValueFromSource::validate_optional(alertmanager.auth_token.as_ref());
        errors.also(token.via("authToken").via("alertmanager"));
        errors
    }

    fn validate_asking(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.server_url.is_empty() {
            errors.push(FieldError::missing("serverURL"));
        } else if let Err(rule) = server(&self.server_url) {
            // A URL with credentials is refused without repeating them.
            let shown = if self.server_url.contains('@') {
                "a URL with credentials"
            } else {
                &self.server_url
            };
            errors.push(FieldError::invalid(shown, "serverURL").with_details(rule));
        }
        if self.prom_ql.trim().is_empty() {
            errors.push(FieldError::missing("promQL"));
        } else if self.prom_ql.len() > MAX_QUERY {
            let error =
                FieldError::new(format!("{} bytes are too many", self.prom_ql.len()), ["promQL"]);
            errors.push(error.with_details(format!("at most {MAX_QUERY}")));
        }
        if self.schedule.is_empty() {
            errors.push(FieldError::missing("schedule"));
        } else if let Err(error) = Schedule::check(&self.schedule) {
            errors.push(error);
        }
        if !self.step.is_empty()
            && let Err(rule) = Step::parse(&self.step)
        {
            errors.push(
                FieldError::invalid(format_args!("{:?}", self.step), "step").with_details(rule),
            );
        }
        errors.also(self.validate_access());
        errors
    }

    fn validate_access(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let file = &self.auth_token_file;
        if !file.is_empty() && self.auth_token.is_some() {
            errors.push(FieldError::multiple_one_of(["authToken", "authTokenFile"]));
        }
        let token = SecretValueFromSource::validate_optional(self.auth_token.as_ref());
        errors.also(token.via("authToken"));
        let is_path = file.starts_with('/')
            && file.len() <= MAX_PATH
            && !file.chars().any(char::is_control)
            && file.split('/').all(|part| part != "..");
        if !file.is_empty() && !is_path {
            let error = FieldError::invalid(format_args!("{file:?}"), "authTokenFile");
            errors.push(error.with_details("expected an absolute path without .."));
        }
        let map = &self.ca_cert_config_map;
        if let Err(rule) = name::subdomain(map)
            && !map.is_empty()
        {
            errors.push(
                FieldError::invalid(format_args!("{map:?}"), "caCertConfigMap").with_details(rule),
            );
        }
        errors
    }
}

impl Wishes {
    pub(super) fn of(about: &About) -> Self {
        let is_true = |key| about.annotations.get(key).is_some_and(|text| text == "true");
        Self { per_series: is_true(PER_SERIES), skip_empty: is_true(SKIP_EMPTY) }
    }
}

/// Reads the URL of a server.
///
/// # Errors
/// The rule that is broken.
pub(super) fn server(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text)
        .map_err(|_| "expected a URL such as https://prometheus.example.com:9090")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL is shown in many places, so it must hold no secret");
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("expected an http or https URL");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("expected a URL without query and fragment");
    }
    Ok(url)
}
