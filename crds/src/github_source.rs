//! The GitHub source: webhooks of a repository or an organisation as events.

mod events;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::annotation;
use crate::ce_overrides::CloudEventOverrides;
use crate::condition::Status;
use crate::destination::Destination;
use crate::meta::ObjectMeta;
use crate::{FieldError, FieldErrors, name};

pub use events::EVENTS;

/// Group and version.
pub const API_VERSION: &str = "sources.knative.dev/v1alpha1";
/// The kind.
pub const KIND: &str = "GitHubSource";
/// In place of an event's name: all of them, as in GitHub's own API.
pub const EVERY_EVENT: &str = "*";
/// The API of github.com.
pub const DEFAULT_API_URL: &str = "https://api.github.com/";

/// A GitHub source makes an event of every webhook that GitHub sends about a repository or an organisation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GitHubSource {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always [`KIND`].
    pub kind: String,
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// What is wanted of the source.
    pub spec: GitHubSourceSpec,
    /// What the controller says about it; this may be a moment behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// What is wanted of a GitHub source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["ownerAndRepository", "eventTypes", "secretToken", "sink"]))]
pub struct GitHubSourceSpec {
    /// What is listened to: `organisation`, or `owner/repository`.
    #[schemars(length(min = 1))]
    pub owner_and_repository: String,
    /// GitHub's names of the events, as in `push`; `*` stands for all, also those that GitHub adds later.
    #[schemars(length(min = 1))]
    pub event_types: Vec<String>,
    /// The token with which the webhook is made at GitHub. Not needed if the annotation `weft.dev/register: "false"` says
    /// that it is made by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<SecretValueFromSource>,
    /// The secret with which GitHub signs what it sends; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_token: Option<SecretValueFromSource>,
    /// The API of a GitHub Enterprise server, as in `https://github.example.com/api/v3/`; that of github.com if it is
    /// absent.
    #[serde(rename = "githubAPIURL", skip_serializing_if = "Option::is_none")]
    pub github_api_url: Option<String>,
    /// Whether the webhook's URL is https.
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

/// A value that stands in a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretValueFromSource {
    /// Which key of which Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeySelector>,
}

/// A key of a Secret in the source's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["name", "key"]))]
pub struct SecretKeySelector {
    /// The name of the Secret, in the source's namespace.
    pub name: String,
    /// The key within it.
    pub key: String,
    /// Whether it may be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

impl GitHubSource {
    /// Fills in what the user left out.
    pub fn defaults(&mut self) {
        self.metadata.defaults();
        self.spec.sink.defaults(&self.metadata.namespace);
    }

    /// What is wrong with it, once defaults are filled in.
    #[must_use]
    pub fn validate(&self) -> FieldErrors {
        let mut errors = self.metadata.validate();
        let register = annotation::register(&self.metadata);
        let needs_access = *register.as_ref().unwrap_or(&true);
        errors.also(self.spec.validate(needs_access).via("spec"));
        errors.also(register.err().unwrap_or_default());
        errors.also(annotation::unknown(&self.metadata, KIND, annotation::ON_GITHUB_SOURCE));
        errors
    }

    /// Whether the mesh makes the webhook; if not, the user does.
    #[must_use]
    pub fn register(&self) -> bool {
        annotation::register(&self.metadata).unwrap_or(true)
    }
}

impl GitHubSourceSpec {
    /// The owner, and the repository unless this is about an organisation.
    #[must_use]
    pub fn owner_and_repository(&self) -> (&str, Option<&str>) {
        match self.owner_and_repository.split_once('/') {
            Some((owner, repository)) => (owner, Some(repository)),
            None => (&self.owner_and_repository, None),
        }
    }

    /// The key of the token with which the webhook is made.
    #[must_use]
    pub fn access_token(&self) -> Option<&SecretKeySelector> {
        self.access_token.as_ref()?.secret_key_ref.as_ref()
    }

    /// The key of the secret with which GitHub signs.
    #[must_use]
    pub fn secret_token(&self) -> Option<&SecretKeySelector> {
        self.secret_token.as_ref()?.secret_key_ref.as_ref()
    }

    fn validate(&self, needs_access: bool) -> FieldErrors {
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
            Some(token) => errors.also(validate_secret(Some(token)).via("accessToken")),
            None if needs_access => {
                errors.push(FieldError::missing("accessToken").with_details(format!(
                    "whoever makes the webhook by hand says so with the annotation {}: \"false\"",
                    annotation::REGISTER
                )))
            }
            None => {}
        }
        errors.also(validate_secret(self.secret_token.as_ref()).via("secretToken"));
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
        errors.also(self.sink.validate(None).via("sink"));
        if let Some(overrides) = &self.ce_overrides {
            errors.also(overrides.validate().via("ceOverrides"));
        }
        errors
    }
}

fn validate_secret(value: Option<&SecretValueFromSource>) -> FieldErrors {
    let Some(value) = value else {
        return FieldError::missing("").into();
    };
    let Some(selector) = &value.secret_key_ref else {
        return FieldError::missing("secretKeyRef").into();
    };
    let mut errors = FieldErrors::new();
    if selector.name.is_empty() {
        errors.push(FieldError::missing("name"));
    } else if let Err(rule) = name::subdomain(&selector.name) {
        errors.push(FieldError::invalid(&selector.name, "name").with_details(rule));
    }
    if selector.key.is_empty() {
        errors.push(FieldError::missing("key"));
    } else if let Err(rule) = name::config_key(&selector.key) {
        errors.push(FieldError::invalid(&selector.key, "key").with_details(rule));
    }
    errors.via("secretKeyRef")
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
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
    })
}

#[cfg(test)]
mod tests;
