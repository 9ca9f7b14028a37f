//! What is wanted of a GitHub source: its fields, and what is refused with which words.

use crds::annotation;
use crds::ce_overrides::CloudEventOverrides;
use crds::destination::Destination;
use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::resource::{AGE, READY, REASON, Resource, Version};
use crds::secret_ref::SecretValueFromSource;
use crds::source::{self, Fact, SINK, SourceSpec};
use crds::{FieldError, FieldErrors};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::hook::GitHubApp;

mod events;

use events::EVENTS;

/// In place of an event's name: all of them, as in GitHub's own API.
pub(super) const EVERY_EVENT: &str = "*";

/// A GitHub source makes an event of every webhook that GitHub sends about a repository or an organisation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["ownerAndRepository", "eventTypes", "secretToken", "sink"]))]
pub struct GitHubSource {
    /// What is listened to: `organisation`, or `owner/repository`.
    #[schemars(length(min = 1))]
    pub owner_and_repository: String,
    /// GitHub's names of the events, as in `push`; `*` stands for all, also those that GitHub adds later.
    #[schemars(length(min = 1), transform = with_event_names)]
    pub event_types: Vec<String>,
    /// The token with which the webhook is made at GitHub. Not needed if the annotation `weft.dev/register: "false"` says
    /// that it is made by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<SecretValueFromSource>,
    /// The GitHub App that makes the webhook, instead of an access token.
    #[serde(rename = "githubApp", skip_serializing_if = "Option::is_none")]
    pub github_app: Option<GitHubApp>,
    /// The secret with which GitHub signs what it sends; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_token: Option<SecretValueFromSource>,
    /// The API of a GitHub Enterprise server, as in `https://github.example.com/api/v3/`; that of github.com if it is
    /// absent.
    #[serde(rename = "githubAPIURL", skip_serializing_if = "Option::is_none")]
    pub github_api_url: Option<String>,
    /// Certificates to trust at the API beside the publicly trusted ones, PEM; for servers with certificates of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<SecretValueFromSource>,
    /// Whether the webhook's URL is https, whatever the URL that this mesh is reached at is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    /// The account that Knative's adapter ran as; accepted, and of no effect here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// Where the events go; required.
    pub sink: Destination,
    /// What is changed in the events before they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

impl SourceSpec for GitHubSource {
    const RESOURCE: Resource = Resource {
        kind: "GitHubSource",
        plural: "githubsources",
        singular: "githubsource",
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
        name: "webhookIDKey",
        kind: "string",
        description: "The number of the webhook at GitHub.",
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
        self.validate_fields(annotation::register(metadata).unwrap_or(true))
    }

    fn validate_annotations(metadata: &ObjectMeta) -> FieldErrors {
        annotation::register(metadata).err().unwrap_or_default()
    }
}

impl GitHubSource {
    /// The owner, and the repository unless this is about an organisation.
    pub(super) fn owner_and_repository(&self) -> (&str, Option<&str>) {
        match self.owner_and_repository.split_once('/') {
            Some((owner, repository)) => (owner, Some(repository)),
            None => (&self.owner_and_repository, None),
        }
    }

    fn validate_fields(&self, needs_access: bool) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (owner, repository) = self.owner_and_repository();
        if self.owner_and_repository.is_empty() {
            errors.push(FieldError::missing("ownerAndRepository"));
        } else if !is_github_name(owner) || !repository.is_none_or(is_github_name) {
            let error = FieldError::invalid(&self.owner_and_repository, "ownerAndRepository");
            errors.push(error.with_details("expected organisation or owner/repository"));
        }
        if self.event_types.is_empty() {
            errors.push(FieldError::missing("eventTypes"));
        }
        for (index, event) in self.event_types.iter().enumerate() {
            if event != EVERY_EVENT && EVENTS.binary_search(&event.as_str()).is_err() {
                let error = FieldError::invalid(event, format!("eventTypes[{index}]"));
                errors.push(error.with_details(
                    "not a name of GitHub's webhook events, such as push or pull_request; \"*\" stands for all",
                ));
            }
        }
        match &self.access_token {
            Some(token) => {
                errors.also(SecretValueFromSource::validate(Some(token)).via("accessToken"))
            }
            None if needs_access && self.github_app.is_none() => {
                errors.push(FieldError::missing("accessToken").with_details(format!(
                    "whoever makes the webhook by hand says so with the annotation {}: \"false\"",
                    annotation::REGISTER
                )))
            }
            None => {}
        }
        if let Some(app) = &self.github_app {
            if self.access_token.is_some() {
                errors.push(FieldError::multiple_one_of(["accessToken", "githubApp"]));
            }
            errors.also(app.validate().via("githubApp"));
        }
        errors.also(SecretValueFromSource::validate(self.secret_token.as_ref()).via("secretToken"));
        errors.also(SecretValueFromSource::validate_optional(self.ca_cert.as_ref()).via("caCert"));
        if let Some(url) = &self.github_api_url
            && !is_api_url(url)
        {
            // A URL with credentials is refused without repeating them.
            let shown = if url.contains('@') { "a URL with credentials" } else { url };
            let error = FieldError::invalid(shown, "githubAPIURL");
            errors.push(
                error.with_details("expected a URL such as https://github.example.com/api/v3/"),
            );
        }
        errors
    }
}

/// Names the events that can be asked for.
fn with_event_names(schema: &mut schemars::Schema) {
    if let Some(Value::Object(items)) = schema.get_mut("items") {
        let names = std::iter::once(&EVERY_EVENT).chain(EVENTS);
        items.insert("enum".to_owned(), names.map(|name| Value::from(*name)).collect());
    }
}

fn is_github_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty()
        && name.len() <= 100
        && name.bytes().all(allowed)
        && name != "."
        && name != ".."
}

fn is_api_url(text: &str) -> bool {
    let parsed = Url::parse(text).ok();
    parsed.is_some_and(|url| {
        // Paths are added to it as it is written.
        text.bytes().all(|byte| byte.is_ascii_graphic())
            && matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

/// What `kn source list-types` offers: Knative's own selection. The type of any other event of GitHub's is formed in the same way.
const TYPES: &str = r#"[{"type":"dev.knative.source.github.check_suite"},
{"type":"dev.knative.source.github.commit_comment"},
{"type":"dev.knative.source.github.create"},
{"type":"dev.knative.source.github.delete"},
{"type":"dev.knative.source.github.deployment"},
{"type":"dev.knative.source.github.deployment_status"},
{"type":"dev.knative.source.github.fork"},
{"type":"dev.knative.source.github.gollum"},
{"type":"dev.knative.source.github.installation"},
{"type":"dev.knative.source.github.integration_installation"},
{"type":"dev.knative.source.github.issue_comment"},
{"type":"dev.knative.source.github.issues"},
{"type":"dev.knative.source.github.label"},
{"type":"dev.knative.source.github.member"},
{"type":"dev.knative.source.github.membership"},
{"type":"dev.knative.source.github.milestone"},
{"type":"dev.knative.source.github.organization"},
{"type":"dev.knative.source.github.org_block"},
{"type":"dev.knative.source.github.page_build"},
{"type":"dev.knative.source.github.ping"},
{"type":"dev.knative.source.github.project_card"},
{"type":"dev.knative.source.github.project_column"},
{"type":"dev.knative.source.github.project"},
{"type":"dev.knative.source.github.public"},
{"type":"dev.knative.source.github.pull_request"},
{"type":"dev.knative.source.github.pull_request_review"},
{"type":"dev.knative.source.github.pull_request_review_comment"},
{"type":"dev.knative.source.github.push"},
{"type":"dev.knative.source.github.release"},
{"type":"dev.knative.source.github.repository"},
{"type":"dev.knative.source.github.status"},
{"type":"dev.knative.source.github.team"},
{"type":"dev.knative.source.github.team_add"},
{"type":"dev.knative.source.github.watch"}]"#;

#[cfg(test)]
mod tests;
