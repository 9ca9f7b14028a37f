//! What is wanted of a `CouchDbSource`: its fields, and what is refused with which words.

use crds::ce_overrides::CloudEventOverrides;
use crds::destination::Destination;
use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::resource::{AGE, READY, REASON, Resource, Version};
use crds::source::{self, SINK, SourceSpec};
use crds::{FieldError, FieldErrors, annotation, name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::source::About;

/// What an event's `id` is: [`Ids`].
pub(super) const EVENT_ID: &str = "weft.dev/event-id";

/// The feed of a source that names none.
const CONTINUOUS: &str = "continuous";
const NORMAL: &str = "normal";

/// `CouchDB`'s own bound on the name of a database.
const MAX_NAME: usize = 238;

/// The databases whose names begin with an underscore, which no others may.
const SYSTEM: [&str; 3] = ["_users", "_replicator", "_global_changes"];

/// Bytes of a selector. It is sent with each request, and the server tries it on each change.
const MAX_SELECTOR: usize = 64 * 1024;

/// A `CouchDbSource` makes an event of every change of a document in a `CouchDB` database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["database", "credentials", "sink"]))]
pub struct CouchDbSource {
    /// The account that Knative's adapter ran as; accepted, and of no effect here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// The Secret that says where the server is: its key `url` holds the URL, with user and password if they are needed,
    /// as in `https://user:password@couch.example.com:6984`. A key `ca.crt` may hold certificates (PEM) to trust there.
    pub credentials: CredentialsReference,
    /// How changes are asked for: `continuous` keeps a request open, `normal` asks every two seconds, for what stands
    /// between that allows no open requests. `continuous` if it is absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(extend("enum" = [CONTINUOUS, NORMAL]))]
    pub feed: String,
    /// The database whose changes become events.
    #[schemars(length(min = 1, max = MAX_NAME))]
    pub database: String,
    /// Whether the data of an event is the document as it is when the change is read, instead of the list of its
    /// revisions.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub include_docs: bool,
    /// Of which documents changes are told: a selector, as `_find` takes it. `CouchDB` 2 or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub selector: Option<Map<String, Value>>,
    /// Where the events go; required.
    pub sink: Destination,
    /// What is changed in the events before they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

/// A reference to a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["name"]))]
pub struct CredentialsReference {
    /// Always `v1`, if it is given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Always `Secret`, if it is given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The name of the Secret.
    pub name: String,
    /// Its namespace: that of the source, if it is given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// What the `id` of an event is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ids {
    /// Its update sequence, as with Knative. Since `CouchDB` 2 a sequence says how far each shard was told, in whatever order
    /// that happened, and a database has two shards at least unless it is made otherwise: a change that is told again may
    /// have another. A database that is made anew may use the same for other changes.
    #[default]
    Sequence,
    /// The document's id and the revision: the same wherever and whenever the change is told.
    Revision,
}

impl SourceSpec for CouchDbSource {
    const RESOURCE: Resource = Resource {
        kind: "CouchDbSource",
        plural: "couchdbsources",
        singular: "couchdbsource",
        categories: &["all", "knative", "eventing", "sources"],
        versions: &[Version {
            name: "v1alpha1",
            deprecated: None,
            columns: &[READY, REASON, SINK, AGE],
            schema: source::schema::<Self>,
        }],
        annotations: &[(
            "registry.knative.dev/eventTypes",
            r#"[{"type":"org.apache.couchdb.document.update"},{"type":"org.apache.couchdb.document.delete"}]"#,
        )],
        ..source::resource::<Self>()
    };
    const ANNOTATIONS: &'static [&'static str] = &[annotation::START, EVENT_ID];

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
        if self.feed.is_empty() {
            CONTINUOUS.clone_into(&mut self.feed);
        }
    }

    fn validate(&self, metadata: &ObjectMeta, _: &Rules<'_>) -> FieldErrors {
        let mut errors = self.credentials.validate(&metadata.namespace).via("credentials");
        if self.database.is_empty() {
            errors.push(FieldError::missing("database"));
        } else if !is_database(&self.database) {
            let error = FieldError::invalid(format_args!("{:?}", self.database), "database");
            errors.push(error.with_details(format!(
                "a database's name has at most {MAX_NAME} of a-z, 0-9, _, $, (, ), +, - and /, and begins with a letter"
            )));
        }
        if ![CONTINUOUS, NORMAL].contains(&self.feed.as_str()) {
            let error = FieldError::invalid(format_args!("{:?}", self.feed), "feed");
            errors.push(error.with_details("expected continuous or normal"));
        }
        if let Some(selector) = &self.selector {
            let bytes = serde_json::to_vec(selector).map_or(usize::MAX, |text| text.len());
            if bytes > MAX_SELECTOR {
                let error = FieldError::new(format!("{bytes} bytes are too many"), ["selector"]);
                errors.push(error.with_details(format!("at most {MAX_SELECTOR}")));
            }
        }
        errors
    }

    fn validate_annotations(metadata: &ObjectMeta) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for (key, words) in
            [(annotation::START, ["earliest", "now"]), (EVENT_ID, ["sequence", "revision"])]
        {
            if let Some(text) = metadata.annotation(key)
                && !words.contains(&text)
            {
                let error = FieldError::invalid(text, annotation::path(key));
                errors.push(error.with_details(format!("expected {}", words.join(" or "))));
            }
        }
        errors
    }
}

impl CouchDbSource {
    /// Whether one request is kept open.
    pub(super) fn is_continuous(&self) -> bool {
        self.feed != NORMAL
    }
}

impl CredentialsReference {
    fn validate(&self, namespace: &str) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.name.is_empty() {
            errors.push(FieldError::missing("name"));
        } else if let Err(rule) = name::subdomain(&self.name) {
            errors.push(FieldError::invalid(&self.name, "name").with_details(rule));
        }
        if !self.namespace.is_empty() && self.namespace != namespace {
            let details = format!("the Secret must be in the source's own namespace, {namespace}");
            errors.push(
                FieldError::new("mismatched namespaces", ["namespace"]).with_details(details),
            );
        }
        let is_secret = matches!(self.kind.as_str(), "" | "Secret");
        if !is_secret || !matches!(self.api_version.as_str(), "" | "v1") {
            let field = if is_secret { "apiVersion" } else { "kind" };
            let found = if is_secret { &self.api_version } else { &self.kind };
            let error = FieldError::invalid(format_args!("{found:?}"), field);
            errors.push(error.with_details("expected a v1 Secret"));
        }
        errors
    }
}

impl Ids {
    pub(super) fn of(about: &About) -> Self {
        match about.annotations.get(EVENT_ID).map(String::as_str) {
            Some("revision") => Self::Revision,
            _ => Self::Sequence,
        }
    }
}

fn is_database(text: &str) -> bool {
    let inner =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_$()+-/".contains(&byte);
    let begins = text.starts_with(|first: char| first.is_ascii_lowercase());
    text.len() <= MAX_NAME && (begins && text.bytes().all(inner) || SYSTEM.contains(&text))
}
