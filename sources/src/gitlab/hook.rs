//! Registration with GitLab: the web hook of a project or a group.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderMap, HeaderValue, Method};
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use super::spec::EVENTS;
use super::{ACCESS_TOKEN, CA_CERT, GitLabSource, SECRET_TOKEN};
use crate::given::NotGiven;
use crate::registration::{
    self, Api, COMPONENT, HookApi, Hooked, RegistrationError, Session, Verdict,
};
use crate::secret::Secret;
use crate::source::{Context, SourceError};

/// The field of the status with the number of the web hook.
const FACT: &str = "webhookID";

/// The web hook of a source, at the API.
#[derive(Debug)]
struct GitLabHook {
    api: Api,
    /// The URL of the API.
    base: String,
    /// The path of the project or group, as a part of a URL.
    path: String,
    /// Whether it is a project or a group, once that is known: `projects` or `groups`.
    kind: OnceCell<&'static str>,
    url: String,
    events: BTreeSet<String>,
    ssl_verify: bool,
    token: Secret,
    headers: HeaderMap,
}

/// A web hook as GitLab shows it, without the token.
#[derive(Debug, Deserialize)]
struct Shown {
    id: i64,
    #[serde(default)]
    url: String,
    #[serde(default)]
    enable_ssl_verification: bool,
    /// Since 15.0: `executable`, `temporarily_disabled` or `disabled`.
    #[serde(default)]
    alert_status: Option<String>,
    #[serde(default)]
    disabled_until: Option<String>,
    /// The events among the rest; one that this server or this kind of web hook does not know is not there.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Says that the source runs, and keeps its web hook registered until it is to stop.
pub(super) async fn run(spec: &GitLabSource, ctx: &Context) {
    registration::run(|| GitLabHook::new(spec, ctx).map(Hooked), ctx).await;
}

/// Deletes the web hook.
///
/// # Errors
/// When GitLab cannot be asked now.
pub(super) async fn retire(spec: &GitLabSource, ctx: &Context) -> Result<(), SourceError> {
    registration::retire(|| GitLabHook::new(spec, ctx).map(Hooked), ctx).await
}

impl GitLabHook {
    fn new(spec: &GitLabSource, ctx: &Context) -> Result<Self, NotGiven> {
        let wrong = || NotGiven { field: "projectUrl", why: "it is not the URL of a project" };
        let (server, path) = spec.server_and_path().ok_or_else(wrong)?;
        let access = ctx.given.require(ACCESS_TOKEN)?;
        let mut token = HeaderValue::from_str(access.expose().trim())
            .map_err(|_| NotGiven { field: ACCESS_TOKEN, why: "it is not a token" })?;
        token.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert("private-token", token);
        // So GitLab writes the URLs of groups; no user and no other group can be called like this.
        let (kind, path) = match path.strip_prefix("groups/") {
            Some(path) => (OnceCell::new_with(Some("groups")), path),
            None => (OnceCell::new(), path.as_str()),
        };
        let authorities = ctx.given.get(CA_CERT).map(|pem| (CA_CERT, pem.expose()));
        Ok(Self {
            api: Api::new(ctx.clock.clone(), authorities)?,
            base: format!("{server}/api/v4"),
            path: utf8_percent_encode(path, COMPONENT).to_string(),
            kind,
            url: ctx.url.to_string(),
            events: spec.event_types.iter().cloned().collect(),
            ssl_verify: spec.ssl_verify.unwrap_or(false),
            token: ctx.given.require(SECRET_TOKEN)?.clone(),
            headers,
        })
    }

    /// A project if there is one of that path, else a group.
    async fn find_kind(&self) -> Result<&'static str, RegistrationError> {
        match self.look_up("projects").await {
            Err(RegistrationError::Absent { .. }) => self.look_up("groups").await,
            found => found,
        }
    }

    async fn look_up(&self, kind: &'static str) -> Result<&'static str, RegistrationError> {
        let url = format!("{}/{kind}/{}", self.base, self.path);
        let (what, call) = ("look up the project or group", (Method::GET, url.as_str()));
        let found = self.api.json::<IgnoredAny>(what, call, &self.headers, None::<&Value>).await;
        found.map(|_| kind)
    }
}

impl HookApi for GitLabHook {
    type Hook = Shown;
    const UPDATE: Method = Method::PUT;

    fn api(&self) -> &Api {
        &self.api
    }

    async fn open(&self) -> Result<Session, RegistrationError> {
        let kind = self.kind.get_or_try_init(|| self.find_kind()).await?;
        let place = format!("{}/{kind}/{}/hooks", self.base, self.path);
        Ok(Session { place, headers: self.headers.clone() })
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn wanted(&self) -> Value {
        // All events are said: of those that are not, GitLab takes some for wanted. What it does not know it passes over.
        let mut wanted: Map<String, Value> = EVENTS
            .iter()
            .map(|(event, _)| ((*event).to_owned(), self.events.contains(*event).into()))
            .collect();
        wanted.insert("url".to_owned(), self.url.as_str().into());
        wanted.insert("enable_ssl_verification".to_owned(), self.ssl_verify.into());
        wanted.insert("token".to_owned(), self.token.expose().into());
        wanted.into()
    }

    fn identify<'a>(&self, hook: &'a Shown) -> (i64, &'a str) {
        (hook.id, &hook.url)
    }

    fn judge(&self, hook: &Shown) -> Verdict {
        let shown = |event: &str| hook.rest.get(event).and_then(Value::as_bool);
        if hook.alert_status.as_deref() == Some("disabled") {
            // A test delivery would wake it too, and be an event of something that never happened.
            return Verdict::Dead;
        }
        if hook.url != self.url {
            return Verdict::Differs("its URL");
        }
        if hook.enable_ssl_verification != self.ssl_verify {
            return Verdict::Differs("whether certificates are checked");
        }
        let differs =
            |event: &str| shown(event).is_some_and(|on| on != self.events.contains(event));
        if EVENTS.iter().any(|(event, _)| differs(event)) {
            return Verdict::Differs("its events");
        }
        if hook.alert_status.as_deref() == Some("temporarily_disabled") {
            let until = hook.disabled_until.as_deref().unwrap_or("some time from now");
            let why = format!("deliveries failed, and GitLab sends none until {until}");
            return Verdict::Lacking("WebhookDisabled", why);
        }
        let unknown: Vec<_> =
            self.events.iter().map(String::as_str).filter(|event| shown(event).is_none()).collect();
        if !unknown.is_empty() {
            let why = format!("GitLab has no {} for this web hook", unknown.join(", "));
            return Verdict::Lacking("EventTypesNotSupported", why);
        }
        Verdict::Right
    }

    fn fact(&self, id: i64) -> (&'static str, Value) {
        (FACT, id.into())
    }
}

#[cfg(test)]
mod tests;
