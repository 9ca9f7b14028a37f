//! GitHub: web hook deliveries, with the attributes Knative's `GitHubSource` gives them.
//!
//! What differs from Knative's, for the better: SHA-256 signatures, the payload's bytes untouched, 202 only once the
//! event is durable or parked and 503 otherwise, and every event GitHub has, not only the 39 known in 2020.

use std::collections::BTreeSet;
use std::sync::Arc;

use broker_event::{Event, EventBuilder};
use bytes::Bytes;
use crds::condition::{self, CloudEventAttributes, reason};
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode;

use crate::given::{Given, Need};
use crate::receive;
use crate::respond::Refusal;
use crate::secret::Secret;
use crate::source::{About, Context, Source, SourceError};
use crate::webhook::{Accepted, Hook, Request};

mod attributes;
mod hook;
mod signature;
mod spec;

pub use crate::payload::PayloadError;
pub use attributes::{Attributes, attributes};
pub use hook::GitHubApp;
pub use spec::GitHubSource;

use spec::EVERY_EVENT;

/// What the types of the events begin with; GitHub's name of the event follows.
const TYPE: &str = "dev.knative.source.github.";

/// The field with the token that hooks are made with.
const ACCESS_TOKEN: &str = "accessToken";

/// The field with the secret that deliveries are signed with.
const SECRET_TOKEN: &str = "secretToken";

/// The field with the certificates that the API's own is checked with.
const CA_CERT: &str = "caCert";

/// GitHub's event names have up to 40 characters; whatever is longer did not come from there.
const MAX_EVENT_NAME: usize = 64;

/// A delivery's id is a UUID of 36 characters; Gitea and others who imitate GitHub stay well below this too.
const MAX_DELIVERY: usize = 128;

/// The event GitHub sends when a web hook is made.
const PING: &str = "ping";

/// What is needed to turn deliveries into events; made from a [`GitHubSource`].
#[derive(Debug)]
struct Receiver {
    source: String,
    /// `None`: all of them.
    events: Option<BTreeSet<String>>,
    secret: Secret,
    ctx: Context,
}

/// The headers of a delivery.
struct Delivery<'a> {
    event: &'a str,
    id: &'a str,
}

impl Source for GitHubSource {
    const CONDITIONS: &'static [&'static str] =
        &[condition::SECRETS_PROVIDED, condition::WEBHOOK_CONFIGURED];

    fn hook(&self) -> bool {
        true
    }

    fn needs(&self, about: &About) -> Vec<Need> {
        let (field, access) = match &self.github_app {
            Some(app) => (hook::PRIVATE_KEY, app.private_key.as_ref()),
            None => (ACCESS_TOKEN, self.access_token.as_ref()),
        };
        let access = Need::selected(field, access)
            .map(|need| need.or(condition::SECRETS_PROVIDED, reason::ACCESS_TOKEN_NOT_FOUND));
        let authority = Need::selected(CA_CERT, self.ca_cert.as_ref())
            .map(|need| need.or(condition::SECRETS_PROVIDED, "CertificatesNotFound"));
        let asking = access
            .into_iter()
            .chain(authority)
            // Without registering nothing is asked of GitHub, so no access is needed.
            .filter(|_| about.register())
            .map(Need::wanted);
        let signing = Need::selected(SECRET_TOKEN, self.secret_token.as_ref())
            .map(|need| need.or(condition::SECRETS_PROVIDED, reason::SECRET_TOKEN_NOT_FOUND));
        signing.into_iter().chain(asking).collect()
    }

    fn attributes(&self, _: &About, _: &Given) -> Vec<CloudEventAttributes> {
        let source = self.events_source();
        // All of them would be a list that grows with GitHub.
        let named = self.event_types.iter().filter(|event| *event != EVERY_EVENT);
        named
            .map(|event| CloudEventAttributes {
                kind: format!("{TYPE}{event}"),
                source: source.clone(),
            })
            .collect()
    }

    fn leaves_traces(&self, about: &About) -> bool {
        about.register()
    }

    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        let secret = ctx.given.require(SECRET_TOKEN)?.clone();
        let receiver = Arc::new(Receiver::new(&self, secret, ctx.clone()));
        let about = &ctx.about;
        let _registration = ctx.hooks.register(&about.namespace, &about.name, receiver)?;
        hook::run(&self, &ctx).await;
        Ok(())
    }

    async fn retire(self, ctx: Context) -> Result<(), SourceError> {
        hook::retire(&self, &ctx).await
    }
}

impl GitHubSource {
    fn events_source(&self) -> String {
        format!("https://github.com/{}", self.owner_and_repository)
    }
}

impl Receiver {
    fn new(spec: &GitHubSource, secret: Secret, ctx: Context) -> Self {
        let all = spec.event_types.iter().any(|event| event == EVERY_EVENT);
        Self {
            source: spec.events_source(),
            events: (!all).then(|| spec.event_types.iter().cloned().collect()),
            secret,
            ctx,
        }
    }

    fn wants(&self, event: &str) -> bool {
        self.events.as_ref().is_none_or(|events| events.contains(event))
    }

    async fn receive(&self, request: &Request) -> Result<Accepted, Refusal> {
        let delivery = Delivery::read(&request.headers)?;
        signature::verify(&request.headers, &request.body, &self.secret)
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        let payload = payload(&request.headers, &request.body)?;
        if !self.wants(delivery.event) {
            // Only `ping` is admitted unwanted: it proves to whoever makes the hook that it works.
            return Ok(Accepted::Ignored);
        }
        let event = self.event(&delivery, payload)?;
        receive::store(&self.ctx, vec![event]).await?;
        Ok(Accepted::Stored)
    }

    fn event(&self, delivery: &Delivery<'_>, payload: Bytes) -> Result<Event, Refusal> {
        let Attributes { subject, extensions } =
            attributes(delivery.event, &payload).map_err(|error| {
                let why = std::error::Error::source(&error);
                Refusal::Malformed(match why {
                    Some(why) => format!("{error}: {why}"),
                    None => error.to_string(),
                })
            })?;
        let ty = format!("{TYPE}{}", delivery.event);
        let mut builder = EventBuilder::new(delivery.id, self.source.as_str(), ty.as_str())
            .data_content_type("application/json")
            .data(payload);
        if let Some(subject) = subject {
            builder = builder.subject(subject);
        }
        for (name, value) in extensions {
            builder = builder.extension(name, value);
        }
        builder.build().map_err(|error| Refusal::Malformed(error.to_string()))
    }
}

impl Hook for Receiver {
    fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        if method != Method::POST {
            return Err(Refusal::Method { allowed: Method::POST });
        }
        let delivery = Delivery::read(headers)?;
        if !self.wants(delivery.event) && delivery.event != PING {
            return Err(Refusal::NotFound(format!(
                "Event not found: {:?} is not one of this source's eventTypes",
                delivery.event
            )));
        }
        if !signature::is_present(headers) {
            return Err(Refusal::Malformed(signature::SignatureError::Missing.to_string()));
        }
        Ok(())
    }

    fn handle(&self, request: Request) -> BoxFuture<'_, Result<Accepted, Refusal>> {
        Box::pin(async move { self.receive(&request).await })
    }
}

impl<'a> Delivery<'a> {
    fn read(headers: &'a HeaderMap) -> Result<Self, Refusal> {
        let event = header(headers, "X-GitHub-Event")?;
        let id = header(headers, "X-GitHub-Delivery")?;
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if event.len() > MAX_EVENT_NAME || !event.bytes().all(is_name) {
            return Err(Refusal::Malformed(
                "X-GitHub-Event is not the name of an event".to_owned(),
            ));
        }
        if id.len() > MAX_DELIVERY || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Refusal::Malformed("X-GitHub-Delivery is not a delivery's id".to_owned()));
        }
        Ok(Self { event, id })
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Refusal> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|value| !value.is_empty())
        .ok_or_else(|| Refusal::Malformed(format!("the header {name} is missing or not readable")))
}

/// The JSON of a delivery: the body itself, or what a form calls `payload`.
fn payload(headers: &HeaderMap, body: &Bytes) -> Result<Bytes, Refusal> {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    if !media_type.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
        return Ok(body.clone());
    }
    let fields = body.split(|byte| *byte == b'&');
    let encoded = fields
        .filter_map(|field| field.strip_prefix(b"payload="))
        .next()
        .ok_or_else(|| Refusal::Malformed("the form has no field called \"payload\"".to_owned()))?;
    let spaced: Vec<u8> =
        encoded.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Ok(percent_decode(&spaced).collect::<Vec<u8>>().into())
}

#[cfg(test)]
mod tests;
