//! Notifications of an Alertmanager, which it posts: an event of each, with the body as it came.
//!
//! An Alertmanager posts again what was answered with 503, until the next notification of the group takes its place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker_event::{Event, EventBuilder};
use futures_util::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use super::ALERTMANAGER_TOKEN;
use super::answer::{source, stable_id};
use super::spec::Alertmanager;
use crate::respond::Refusal;
use crate::secret::Secret;
use crate::source::{Context, SourceError};
use crate::webhook::{Accepted, Hook, Request};

/// The type of the events.
pub(super) const TYPE: &str = "dev.knative.prometheus.alertmanager";

/// What an Alertmanager is told to wait when the sink does not say. It has a schedule of its own; people who look see it.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Bytes of a text that becomes an attribute, which is a header of every delivery. Longer ones stay in the data alone.
const MAX_ATTRIBUTE: usize = 1024;

/// Labels that all alerts of a notification may have in common, and that become extensions of those names.
const LABELS: [&str; 2] = ["alertname", "severity"];

/// Turns notifications into events.
#[derive(Debug)]
struct Receiver {
    token: Option<Secret>,
    ctx: Context,
}

/// What is read of a notification (version 4 of Alertmanager's, which others imitate).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notification {
    group_key: String,
    status: String,
    /// There must be some, though they are not looked at.
    #[serde(rename = "alerts")]
    _alerts: Vec<IgnoredAny>,
    #[serde(default)]
    receiver: Option<String>,
    #[serde(default)]
    common_labels: Option<BTreeMap<String, String>>,
}

/// Receives until the source is asked to stop.
///
/// # Errors
/// When another source receives the requests of this path, or the token is not there.
pub(super) async fn run(spec: &Alertmanager, ctx: &Context) -> Result<(), SourceError> {
    let token = match spec.auth_token {
        Some(_) => Some(ctx.given.require(ALERTMANAGER_TOKEN)?.clone()),
        None => None,
    };
    let receiver = Arc::new(Receiver { token, ctx: ctx.clone() });
    let about = &ctx.about;
    let _registration = ctx.hooks.register(&about.namespace, &about.name, receiver)?;
    ctx.report.running();
    ctx.stop.cancelled().await;
    Ok(())
}

impl Receiver {
    async fn receive(&self, request: &Request) -> Result<Accepted, Refusal> {
        let event = self.event(request)?;
        let Err(error) = self.ctx.emit.send(vec![event.clone()]).await else {
            return Ok(Accepted::Stored);
        };
        let busy = |reason, asked: Option<Duration>| Refusal::Busy {
            reason,
            retry_after: asked.unwrap_or(RETRY_AFTER),
        };
        if error.is_retryable() {
            return Err(busy(error.to_string(), error.retry_after()));
        }
        // An Alertmanager never posts again what was refused.
        let parked = self.ctx.park(event, error.to_string()).await;
        parked.map_err(|error| busy(error.to_string(), None))?;
        Ok(Accepted::Stored)
    }

    fn event(&self, request: &Request) -> Result<Event, Refusal> {
        let malformed = |why: String| {
            Refusal::Malformed(format!("the body is not a notification of an Alertmanager: {why}"))
        };
        let read: Result<Notification, _> = serde_json::from_slice(&request.body);
        let notification = read.map_err(|error| malformed(error.to_string()))?;
        let Notification { group_key, status, receiver, common_labels, .. } = notification;
        // The same notification is the same event, also when it is posted again because an answer was lost.
        let hash = format!("{:x}", Sha256::digest(&request.body));
        let about = &*self.ctx.about;
        let id = stable_id(&[&about.namespace, &about.name, &group_key, &status, &hash]);
        let mut builder = EventBuilder::new(id, source(about), TYPE)
            .time(self.ctx.clock.now().to_string())
            .data_content_type("application/json")
            .data(request.body.clone());
        if is_attribute(&group_key) {
            builder = builder.subject(group_key);
        }
        let labels = common_labels.unwrap_or_default();
        let labels = LABELS.iter().filter_map(|name| Some((*name, labels.get(*name)?.clone())));
        let texts = [("status", Some(status)), ("receiver", receiver)];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text?)));
        for (name, text) in texts.chain(labels).filter(|(_, text)| is_attribute(text)) {
            builder = builder.extension(name, text.as_str());
        }
        builder.build().map_err(|error| malformed(error.to_string()))
    }

    /// Whether the token that is wanted is shown.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, shown)) = shown.and_then(|value| value.split_once(' ')) else {
            return false;
        };
        // A line end after the token, as files have, is not part of it.
        let wanted = Secret::new(token.expose().trim());
        scheme.eq_ignore_ascii_case("bearer") && Secret::new(shown.trim()) == wanted
    }
}

impl Hook for Receiver {
    fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        if method != Method::POST {
            return Err(Refusal::Method { allowed: Method::POST });
        }
        if !self.knows(headers) {
            return Err(Refusal::Unauthorized("the bearer token is missing or wrong".to_owned()));
        }
        Ok(())
    }

    fn handle(&self, request: Request) -> BoxFuture<'_, Result<Accepted, Refusal>> {
        Box::pin(async move { self.receive(&request).await })
    }
}

fn is_attribute(text: &str) -> bool {
    text.len() <= MAX_ATTRIBUTE && !text.trim().is_empty() && !text.chars().any(char::is_control)
}
