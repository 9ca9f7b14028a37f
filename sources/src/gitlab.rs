//! GitLab: web hook deliveries of a project or a group, with the attributes Knative's `GitLabSource` gives them.
//!
//! What differs from Knative's, for the better: ids that stay the same when GitLab sends again, a subject, the payload's
//! bytes untouched, the token compared in constant time, and 202 only once the event is durable.

use std::collections::BTreeSet;
use std::sync::Arc;

use broker_event::{Event, EventBuilder};
use crds::condition::{self, CloudEventAttributes, reason};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method};
use sha2::{Digest, Sha256};

use crate::given::{Given, Need};
use crate::payload::Payload;
use crate::receive;
use crate::respond::Refusal;
use crate::secret::Secret;
use crate::source::{About, Context, Source, SourceError};
use crate::webhook::{Accepted, Hook, Request};

mod hook;
mod spec;
mod subject;

pub use spec::GitLabSource;

/// What the types of the events begin with.
const TYPE: &str = "dev.knative.sources.gitlab.";

/// The field with the token that web hooks are made with.
const ACCESS_TOKEN: &str = "accessToken";

/// The field with the token that deliveries carry.
const SECRET_TOKEN: &str = "secretToken";

/// The field with the certificates that GitLab's own is checked with.
const CA_CERT: &str = "caCert";

/// What every delivery is called, as in `Merge Request Hook`.
const EVENT: &str = "X-Gitlab-Event";

/// With what the names of deliveries end. `System Hook` alone is the name of what an administrator's hooks bring.
const SUFFIX: &str = " Hook";
const SYSTEM: &str = "System Hook";

/// The names have up to 27 characters; whatever is longer than this did not come from GitLab.
const MAX_EVENT_NAME: usize = 64;

/// Ids are UUIDs of 36 characters.
const MAX_ID: usize = 128;

/// What is needed to turn deliveries into events; made from a [`GitLabSource`].
#[derive(Debug)]
struct Receiver {
    source: String,
    token: Secret,
    ctx: Context,
}

/// The header of a delivery that says what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Delivery<'a>(&'a str);

impl Source for GitLabSource {
    const CONDITIONS: &'static [&'static str] = &[condition::WEBHOOK_CONFIGURED];

    fn hook(&self) -> bool {
        true
    }

    fn needs(&self, about: &About) -> Vec<Need> {
        let signing = Need::selected(SECRET_TOKEN, self.secret_token.as_ref())
            .map(|need| need.or(condition::DEPLOYED, reason::SECRET_TOKEN_NOT_FOUND));
        let access = Need::selected(ACCESS_TOKEN, self.access_token.as_ref())
            .filter(|_| about.register())
            // Deliveries of a web hook that stands are taken without it.
            .map(|need| {
                need.wanted().or(condition::WEBHOOK_CONFIGURED, reason::ACCESS_TOKEN_NOT_FOUND)
            });
        let authority = Need::selected(CA_CERT, self.ca_cert.as_ref()).filter(|_| about.register());
        let authority = authority
            .map(|need| need.wanted().or(condition::WEBHOOK_CONFIGURED, "CertificatesNotFound"));
        signing.into_iter().chain(access).chain(authority).collect()
    }

    fn attributes(&self, _: &About, _: &Given) -> Vec<CloudEventAttributes> {
        let types: BTreeSet<_> =
            self.event_types.iter().filter_map(|event| spec::ty(event)).collect();
        let source = self.project_url.clone();
        types
            .into_iter()
            .map(|ty| CloudEventAttributes { kind: format!("{TYPE}{ty}"), source: source.clone() })
            .collect()
    }

    fn leaves_traces(&self, about: &About) -> bool {
        about.register()
    }

    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        let token = ctx.given.require(SECRET_TOKEN)?.clone();
        let source = self.project_url.clone();
        let receiver = Arc::new(Receiver { source, token, ctx: ctx.clone() });
        let about = &ctx.about;
        let _registration = ctx.hooks.register(&about.namespace, &about.name, receiver)?;
        hook::run(&self, &ctx).await;
        Ok(())
    }

    async fn retire(self, ctx: Context) -> Result<(), SourceError> {
        hook::retire(&self, &ctx).await
    }
}

impl Receiver {
    async fn receive(&self, request: &Request) -> Result<Accepted, Refusal> {
        let event = self.event(request)?;
        receive::store(&self.ctx, vec![event]).await?;
        Ok(Accepted::Stored)
    }

    fn event(&self, request: &Request) -> Result<Event, Refusal> {
        let delivery = Delivery::read(&request.headers)?;
        let malformed = |error: &dyn std::error::Error| Refusal::Malformed(error.to_string());
        let payload = Payload::parse(&request.body).map_err(|error| malformed(&error))?;
        let (id, ty) = (id(request)?, delivery.ty());
        let mut builder = EventBuilder::new(id, self.source.as_str(), format!("{TYPE}{ty}"))
            .data_content_type("application/json")
            .data(request.body.clone())
            .extension("comgitlabevent", delivery.0);
        if let Some(subject) = subject::subject(&ty, &payload) {
            builder = builder.subject(subject);
        }
        builder.build().map_err(|error| malformed(&error))
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let refused = |text: &str| Err(Refusal::Malformed(text.to_owned()));
        let Some(token) = headers.get("X-Gitlab-Token") else {
            return refused("X-Gitlab-Token is missing; set the secret token of the web hook");
        };
        // GitLab sends the token as it was told, be it ASCII or not.
        let matches = std::str::from_utf8(token.as_bytes())
            .is_ok_and(|token| Secret::new(token) == self.token);
        if !matches {
            return refused("X-Gitlab-Token is not the secret token of this source");
        }
        Ok(())
    }
}

impl Hook for Receiver {
    fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        if method != Method::POST {
            return Err(Refusal::Method { allowed: Method::POST });
        }
        self.check(headers)?;
        Delivery::read(headers).map(drop)
    }

    fn handle(&self, request: Request) -> BoxFuture<'_, Result<Accepted, Refusal>> {
        Box::pin(async move { self.receive(&request).await })
    }
}

impl<'a> Delivery<'a> {
    fn read(headers: &'a HeaderMap) -> Result<Self, Refusal> {
        let name = header(headers, EVENT).ok_or_else(|| missing(EVENT))?;
        if name == SYSTEM {
            return Err(Refusal::Malformed("system hooks are not supported".to_owned()));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b' ';
        let is_name = name.len() <= MAX_EVENT_NAME
            && name.bytes().all(allowed)
            && name.strip_suffix(SUFFIX).is_some_and(|name| !name.trim().is_empty());
        if !is_name {
            return Err(Refusal::Malformed(format!("{EVENT} is not the name of an event")));
        }
        Ok(Self(name))
    }

    /// The end of the event's type, as in `merge_request`.
    fn ty(self) -> String {
        let name = self.0.strip_suffix(SUFFIX).unwrap_or(self.0);
        name.to_ascii_lowercase().replace(' ', "_")
    }
}

/// What stays the same when a delivery is sent again. GitLab has a key for just that since 17.4. Before that it had a UUID
/// which one hook's deliveries share if one request to GitLab caused them, or one web hook another; together with the
/// payload it tells them apart. The oldest send neither.
fn id(request: &Request) -> Result<String, Refusal> {
    let read = |name: &str| match header(&request.headers, name) {
        Some(id) if id.len() > MAX_ID || !id.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(Refusal::Malformed(format!("{name} is not an id")))
        }
        id => Ok(id),
    };
    if let Some(key) = read("Idempotency-Key")? {
        return Ok(key.to_owned());
    }
    let hash = Sha256::digest(&request.body);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(match read("X-Gitlab-Event-UUID")? {
        // Eight bytes are plenty among the few deliveries of one UUID.
        Some(uuid) => format!("{uuid}-{}", hex(&hash[..8])),
        None => hex(&hash),
    })
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().filter(|value| !value.is_empty())
}

fn missing(name: &str) -> Refusal {
    Refusal::Malformed(format!("the header {name} is missing or not readable"))
}

#[cfg(test)]
mod tests;
