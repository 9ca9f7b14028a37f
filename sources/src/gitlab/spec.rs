//! What is wanted of a GitLab source: its fields, and what is refused with which words.

use crds::annotation;
use crds::ce_overrides::CloudEventOverrides;
use crds::destination::Destination;
use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::resource::{AGE, READY, REASON, Resource, Version};
use crds::secret_ref::SecretValueFromSource;
use crds::source::{self, Fact, SINK, SourceSpec};
use crds::{FieldError, FieldErrors};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

/// GitLab's names of what a web hook can be told to send, and the end of the type of the events that come then. Sorted.
/// Member, project and subgroup events are of groups alone; vulnerability events are of GitLab Ultimate.
pub(super) const EVENTS: &[(&str, &str)] = &[
    ("confidential_issues_events", "confidential_issue"),
    ("confidential_note_events", "confidential_note"),
    ("deployment_events", "deployment"),
    ("emoji_events", "emoji"),
    ("feature_flag_events", "feature_flag"),
    ("issues_events", "issue"),
    ("job_events", "job"),
    ("member_events", "member"),
    ("merge_requests_events", "merge_request"),
    ("milestone_events", "milestone"),
    ("note_events", "note"),
    ("pipeline_events", "pipeline"),
    ("project_events", "project"),
    ("push_events", "push"),
    ("releases_events", "release"),
    ("resource_access_token_events", "resource_access_token"),
    ("resource_deploy_token_events", "resource_deploy_token"),
    ("subgroup_events", "subgroup"),
    ("tag_push_events", "tag_push"),
    ("vulnerability_events", "vulnerability"),
    ("wiki_page_events", "wiki_page"),
];

/// The longest `projectUrl`; it is in each event, and GitLab's paths have 255 characters a part.
const MAX_URL: usize = 2048;

/// A GitLab source makes an event of every webhook that GitLab sends about a project or a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["projectUrl", "eventTypes", "secretToken", "sink"]))]
pub struct GitLabSource {
    /// The project that is listened to, as in `https://gitlab.example.com/group/project`; or a group, where GitLab has
    /// webhooks of groups. It becomes the source of the events.
    #[schemars(length(min = 1))]
    pub project_url: String,
    /// GitLab's names of the webhook's events, as in `push_events`.
    #[schemars(length(min = 1), transform = with_event_names)]
    pub event_types: Vec<String>,
    /// The access token with which the webhook is made at GitLab; it needs the scope `api`. Not needed if the annotation
    /// `weft.dev/register: "false"` says that the webhook is made by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<SecretValueFromSource>,
    /// The secret token that GitLab sends with each webhook; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_token: Option<SecretValueFromSource>,
    /// Whether GitLab checks the certificate of the webhook's URL.
    #[serde(rename = "sslverify", skip_serializing_if = "Option::is_none")]
    pub ssl_verify: Option<bool>,
    /// Certificates to trust at GitLab beside the publicly trusted ones, PEM; for servers with certificates of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<SecretValueFromSource>,
    /// The account that Knative's adapter ran as; accepted, and of no effect here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// Where the events go; required.
    pub sink: Destination,
    /// What is changed in the events before they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

impl SourceSpec for GitLabSource {
    const RESOURCE: Resource = Resource {
        kind: "GitLabSource",
        plural: "gitlabsources",
        singular: "gitlabsource",
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
    const FACTS: &'static [Fact] = &[Fact {
        name: "webhookID",
        kind: "integer",
        description: "The number of the webhook at GitLab.",
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

    fn validate(&self, metadata: &ObjectMeta, _: &Rules<'_>) -> FieldErrors {
        self.validate_fields(metadata)
    }

    fn validate_annotations(metadata: &ObjectMeta) -> FieldErrors {
        annotation::register(metadata).err().unwrap_or_default()
    }
}

impl GitLabSource {
    fn validate_fields(&self, metadata: &ObjectMeta) -> FieldErrors {
        let mut errors = FieldErrors::new();
        errors.also(self.validate_project());
        errors.also(self.validate_events());
        match &self.access_token {
            Some(token) => {
                errors.also(SecretValueFromSource::validate(Some(token)).via("accessToken"));
            }
            None if annotation::register(metadata).unwrap_or(true) => {
                errors.push(FieldError::missing("accessToken").with_details(format!(
                    "whoever makes the webhook by hand says so with the annotation {}: \"false\"",
                    annotation::REGISTER
                )));
            }
            None => {}
        }
        errors.also(SecretValueFromSource::validate(self.secret_token.as_ref()).via("secretToken"));
        errors.also(SecretValueFromSource::validate_optional(self.ca_cert.as_ref()).via("caCert"));
        errors
    }

    /// The URL of the server, and the path of the project or group there. Nothing if the URL is not of such a form.
    pub(super) fn server_and_path(&self) -> Option<(String, String)> {
        let url = Url::parse(&self.project_url).ok()?;
        let plain = self.project_url.bytes().all(|byte| byte.is_ascii_graphic())
            && matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let path = url.path().trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let is_path = !path.is_empty() && path.split('/').all(is_gitlab_name);
        (plain && is_path).then(|| (url.origin().ascii_serialization(), path.to_owned()))
    }

    fn validate_project(&self) -> FieldErrors {
        if self.project_url.is_empty() {
            return FieldError::missing("projectUrl").into();
        }
        if self.project_url.len() <= MAX_URL && self.server_and_path().is_some() {
            return FieldErrors::new();
        }
        // A URL with credentials is refused without repeating them.
        let shown = match self.project_url.as_str() {
            url if url.contains('@') => "a URL with credentials",
            url if url.len() > MAX_URL => "a URL of more than 2048 bytes",
            url => url,
        };
        let error = FieldError::invalid(shown, "projectUrl");
        error.with_details("expected a URL such as https://gitlab.example.com/group/project").into()
    }

    fn validate_events(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.event_types.is_empty() {
            errors.push(FieldError::missing("eventTypes"));
        }
        for (index, event) in self.event_types.iter().enumerate() {
            if ty(event).is_none() {
                let error = FieldError::invalid(event, format!("eventTypes[{index}]"));
                errors.push(error.with_details(
                    "not a name of GitLab's webhook events, such as push_events or merge_requests_events",
                ));
            }
        }
        errors
    }
}

/// The end of the type of the events that come when `event` is asked for.
pub(super) fn ty(event: &str) -> Option<&'static str> {
    EVENTS.iter().find(|(name, _)| *name == event).map(|(_, ty)| *ty)
}

/// Says which names there are, for `kubectl explain` and whoever checks against the schema.
fn with_event_names(schema: &mut Schema) {
    let names: Vec<_> = EVENTS.iter().map(|(name, _)| *name).collect();
    if let Some(Value::Object(items)) = schema.get_mut("items") {
        items.insert("enum".to_owned(), names.into());
    }
}

/// A part of the path of a project or a group.
fn is_gitlab_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.bytes().all(allowed) && name != "." && name != ".."
}

/// What `kn source list-types` offers.
const TYPES: &str = r#"[{"type":"dev.knative.sources.gitlab.confidential_issue","description":"A confidential issue is created, changed, closed or reopened."},
{"type":"dev.knative.sources.gitlab.confidential_note","description":"A confidential comment is made or edited."},
{"type":"dev.knative.sources.gitlab.deployment","description":"A deployment starts, succeeds, fails or is cancelled."},
{"type":"dev.knative.sources.gitlab.emoji","description":"An emoji reaction is added or removed."},
{"type":"dev.knative.sources.gitlab.feature_flag","description":"A feature flag is turned on or off."},
{"type":"dev.knative.sources.gitlab.issue","description":"An issue is created, changed, closed or reopened."},
{"type":"dev.knative.sources.gitlab.job","description":"The status of a job changes."},
{"type":"dev.knative.sources.gitlab.member","description":"A member is added to a group, changed or removed."},
{"type":"dev.knative.sources.gitlab.merge_request","description":"A merge request is created, changed, merged or closed, or gets a commit."},
{"type":"dev.knative.sources.gitlab.milestone","description":"A milestone is created, closed, reopened or deleted."},
{"type":"dev.knative.sources.gitlab.note","description":"A comment is made or edited on a commit, a merge request, an issue or a snippet."},
{"type":"dev.knative.sources.gitlab.pipeline","description":"The status of a pipeline changes."},
{"type":"dev.knative.sources.gitlab.project","description":"A project of a group is created or removed."},
{"type":"dev.knative.sources.gitlab.push","description":"Commits are pushed."},
{"type":"dev.knative.sources.gitlab.release","description":"A release is created, edited or deleted."},
{"type":"dev.knative.sources.gitlab.resource_access_token","description":"An access token of a project or a group is about to expire."},
{"type":"dev.knative.sources.gitlab.resource_deploy_token","description":"A deploy token of a project is about to expire."},
{"type":"dev.knative.sources.gitlab.subgroup","description":"A subgroup is created or removed."},
{"type":"dev.knative.sources.gitlab.tag_push","description":"A tag is created or deleted."},
{"type":"dev.knative.sources.gitlab.vulnerability","description":"A vulnerability is found or its state changes."},
{"type":"dev.knative.sources.gitlab.wiki_page","description":"A wiki page is created, edited or deleted."}]"#;

#[cfg(test)]
mod tests;
