//! Registration with GitHub: the web hook of a repository or an organisation, made with an access token or in the name of
//! a GitHub App.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::spec::EVERY_EVENT;
use super::{ACCESS_TOKEN, CA_CERT, GitHubSource, PING, SECRET_TOKEN};
use crate::given::NotGiven;
use crate::registration::{self, Api, HookApi, Hooked, RegistrationError, Session, Verdict};
use crate::secret::Secret;
use crate::source::{Context, SourceError};

mod app;

pub use app::GitHubApp;
pub(super) use app::PRIVATE_KEY;

use app::AppKey;

/// The API of github.com.
const API: &str = "https://api.github.com";

/// The version of the API that this is written for.
const VERSION: (&str, &str) = ("x-github-api-version", "2022-11-28");

/// The field of the status with the number of the web hook.
const FACT: &str = "webhookIDKey";

/// The web hook of a source, at the API.
#[derive(Debug)]
struct GitHubHook {
    api: Api,
    base: String,
    owner: String,
    repository: Option<String>,
    url: String,
    events: BTreeSet<String>,
    secret: Secret,
    access: Access,
}

/// What proves who asks.
#[derive(Debug)]
enum Access {
    Token(Secret),
    App(AppKey),
}

/// A web hook as GitHub shows it, without the secret.
#[derive(Debug, Deserialize)]
struct Shown {
    id: i64,
    #[serde(default)]
    active: bool,
    #[serde(default)]
    events: BTreeSet<String>,
    #[serde(default)]
    config: Config,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    url: String,
    content_type: String,
    /// `"0"` or 0 unless GitHub is told not to check certificates.
    insecure_ssl: Value,
}

/// Says that the source runs, and keeps its web hook registered until it is to stop.
pub(super) async fn run(spec: &GitHubSource, ctx: &Context) {
    registration::run(|| GitHubHook::new(spec, ctx).map(Hooked), ctx).await;
}

/// Deletes the web hook.
///
/// # Errors
/// When GitHub cannot be asked now.
pub(super) async fn retire(spec: &GitHubSource, ctx: &Context) -> Result<(), SourceError> {
    registration::retire(|| GitHubHook::new(spec, ctx).map(Hooked), ctx).await
}

impl GitHubHook {
    fn new(spec: &GitHubSource, ctx: &Context) -> Result<Self, NotGiven> {
        let (owner, repository) = spec.owner_and_repository();
        let access = match &spec.github_app {
            Some(app) => Access::App(AppKey::new(app, ctx.given.require(PRIVATE_KEY)?)?),
            None => Access::Token(ctx.given.require(ACCESS_TOKEN)?.clone()),
        };
        let base = spec.github_api_url.as_deref().unwrap_or(API);
        let https = spec.secure == Some(true);
        let authorities = ctx.given.get(CA_CERT).map(|pem| (CA_CERT, pem.expose()));
        Ok(Self {
            api: Api::new(ctx.clock.clone(), authorities)?,
            base: base.trim_end_matches('/').to_owned(),
            owner: owner.to_owned(),
            repository: repository.map(str::to_owned),
            url: if https {
                ctx.url.replacen("http://", "https://", 1)
            } else {
                ctx.url.to_string()
            },
            events: events(&spec.event_types),
            secret: ctx.given.require(SECRET_TOKEN)?.clone(),
            access,
        })
    }

    /// The repository's or organisation's part of the API.
    fn place(&self) -> String {
        let (base, owner) = (&self.base, &self.owner);
        match &self.repository {
            Some(repository) => format!("{base}/repos/{owner}/{repository}"),
            None => format!("{base}/orgs/{owner}"),
        }
    }
}

impl HookApi for GitHubHook {
    type Hook = Shown;
    const UPDATE: Method = Method::PATCH;

    fn api(&self) -> &Api {
        &self.api
    }

    async fn open(&self) -> Result<Session, RegistrationError> {
        let place = self.place();
        let headers = match &self.access {
            Access::Token(token) => headers(ACCESS_TOKEN, token.expose())?,
            Access::App(key) => key.headers(&self.api, &self.base, &place).await?,
        };
        Ok(Session { place: format!("{place}/hooks"), headers })
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn wanted(&self) -> Value {
        json!({
            // The only name that GitHub takes.
            "name": "web",
            "active": true,
            "events": self.events,
            "config": {
                "url": self.url,
                "content_type": "json",
                "insecure_ssl": "0",
                // Without it a change of anything else would take the secret away.
                "secret": self.secret.expose(),
            },
        })
    }

    fn identify<'a>(&self, hook: &'a Shown) -> (i64, &'a str) {
        (hook.id, &hook.config.url)
    }

    fn judge(&self, hook: &Shown) -> Verdict {
        let secure = matches!(&hook.config.insecure_ssl, Value::Null)
            || hook.config.insecure_ssl == "0"
            || hook.config.insecure_ssl == 0;
        if hook.config.url != self.url {
            Verdict::Differs("its URL")
        } else if hook.config.content_type != "json" {
            Verdict::Differs("its content type")
        } else if !secure {
            Verdict::Differs("that certificates are checked")
        } else if !hook.active {
            Verdict::Differs("that it is active")
        } else if hook.events != self.events {
            Verdict::Differs("its events")
        } else {
            Verdict::Right
        }
    }

    fn fact(&self, id: i64) -> (&'static str, Value) {
        (FACT, id.to_string().into())
    }
}

/// What GitHub is told of the events. A ping comes to every web hook unasked.
fn events(wanted: &[String]) -> BTreeSet<String> {
    if wanted.iter().any(|event| event == EVERY_EVENT) {
        return BTreeSet::from([EVERY_EVENT.to_owned()]);
    }
    let others: BTreeSet<_> = wanted.iter().filter(|event| *event != PING).cloned().collect();
    if others.is_empty() { wanted.iter().cloned().collect() } else { others }
}

/// The headers of a call with a token that `field` of the spec led to.
fn headers(field: &'static str, token: &str) -> Result<HeaderMap, NotGiven> {
    let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .map_err(|_| NotGiven { field, why: "it is not a token" })?;
    authorization.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, authorization);
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
    headers.insert(VERSION.0, HeaderValue::from_static(VERSION.1));
    Ok(headers)
}

#[cfg(test)]
mod tests;
