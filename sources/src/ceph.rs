//! Ceph: what its object gateway (RGW) says about the objects of buckets, with the attributes Knative's `CephSource` gives
//! them.
//!
//! What differs from Knative's, for the better: ids that tell the records of one request apart, the record's bytes
//! untouched, all records of a request or none, a secret that strangers do not know, and the gateway can be told to notify.

use std::sync::Arc;

use broker_event::{Event, EventBuilder};
use crds::condition::{self, CloudEventAttributes, reason};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::given::{Given, Need};
use crate::payload::Payload;
use crate::receive;
use crate::registration;
use crate::respond::Refusal;
use crate::secret::Secret;
use crate::source::{About, Context, Source, SourceError};
use crate::webhook::{Accepted, Hook, Request};

mod gateway;
mod spec;

pub use spec::{CephGateway, CephSource};

/// What the types of the events begin with.
const TYPE: &str = "com.amazonaws.";

/// The field with the secret that requests carry.
const SECRET_TOKEN: &str = "secretToken";

/// What carries it in the URL that the gateway is told: all that it can be told.
const TOKEN: &str = "token";

/// The records of one request. The gateway sends one, S3 in its many likenesses a few; no call of S3 changes more objects
/// than this.
const MAX_RECORDS: usize = 1000;

/// Bytes of a request: so many records of 4 KiB, of which theirs have one or two. Taken apart, a body holds a multiple of its
/// size in memory, and who posts it may be anybody.
const MAX_BODY: usize = MAX_RECORDS * 4096;

/// What is needed to turn notifications into events.
#[derive(Debug)]
struct Receiver {
    token: Option<Secret>,
    ctx: Context,
}

/// What is posted.
#[derive(Deserialize)]
struct Notifications<'a> {
    #[serde(rename = "Records", borrow)]
    records: Vec<&'a RawValue>,
}

impl Source for CephSource {
    const CONDITIONS: &'static [&'static str] = &[condition::WEBHOOK_CONFIGURED];

    fn hook(&self) -> bool {
        true
    }

    fn needs(&self, about: &About) -> Vec<Need> {
        let token = Need::selected(SECRET_TOKEN, self.secret_token.as_ref())
            .map(|need| need.or(condition::DEPLOYED, reason::SECRET_TOKEN_NOT_FOUND));
        let gateway = self.gateway.as_ref().filter(|_| about.register());
        let keys = gateway.map(CephGateway::needs).unwrap_or_default();
        token.into_iter().chain(keys).collect()
    }

    fn attributes(&self, _: &About, _: &Given) -> Vec<CloudEventAttributes> {
        // The source has the region in it, which only the gateway knows.
        Vec::new()
    }

    fn leaves_traces(&self, about: &About) -> bool {
        self.gateway.is_some() && about.register()
    }

    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        let token = match &self.secret_token {
            Some(_) => Some(ctx.given.require(SECRET_TOKEN)?.clone()),
            None => None,
        };
        let receiver = Arc::new(Receiver { token, ctx: ctx.clone() });
        let about = &ctx.about;
        let _registration = ctx.hooks.register(&about.namespace, &about.name, receiver)?;
        ctx.report.fact("url", &*ctx.url);
        match &self.gateway {
            Some(gateway) => {
                registration::run(|| gateway::registrar(gateway, &ctx), &ctx).await;
            }
            None => registration::by_hand(&ctx).await,
        }
        Ok(())
    }

    async fn retire(self, ctx: Context) -> Result<(), SourceError> {
        match &self.gateway {
            Some(gateway) => registration::retire(|| gateway::registrar(gateway, &ctx), &ctx).await,
            None => Ok(()),
        }
    }
}

impl Receiver {
    async fn receive(&self, request: &Request) -> Result<Accepted, Refusal> {
        self.check(request)?;
        if request.body.len() > MAX_BODY {
            return Err(Refusal::TooLarge { limit: MAX_BODY });
        }
        let events = self.events(&request.body)?;
        if events.is_empty() {
            return Ok(Accepted::Ignored);
        }
        receive::store(&self.ctx, events).await?;
        Ok(Accepted::Done)
    }

    fn events(&self, body: &[u8]) -> Result<Vec<Event>, Refusal> {
        let Notifications { records } = serde_json::from_slice(body)
            .map_err(|error| Refusal::Malformed(format!("the body holds no records: {error}")))?;
        if records.len() > MAX_RECORDS {
            let text = format!("the body holds more than {MAX_RECORDS} records");
            return Err(Refusal::Malformed(text));
        }
        let now = self.ctx.clock.now();
        let event = |(index, record): (usize, &&RawValue)| {
            event(record.get(), index, now)
                .map_err(|why| Refusal::Malformed(format!("Records[{index}]: {why}")))
        };
        records.iter().enumerate().map(event).collect()
    }

    /// Whether the request carries the secret: in the URL, as the gateway does, or as a bearer token.
    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        // A line end after the token, as files have, is not part of it.
        let is_it = |text: &str| Secret::new(text.trim()) == Secret::new(token.expose().trim());
        let query = request.query.as_ref().map_or("", Secret::expose);
        let in_query = query
            .split('&')
            .filter_map(|pair| pair.strip_prefix(TOKEN)?.strip_prefix('='))
            .filter_map(|text| percent_decode_str(text).decode_utf8().ok())
            .any(|text| is_it(&text));
        let authorization = request.headers.get(http::header::AUTHORIZATION);
        let bearer = authorization
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .is_some_and(is_it);
        if in_query || bearer {
            return Ok(());
        }
        let text = "the token in the URL (?token=…) is missing or not the one of this source";
        Err(Refusal::Unauthorized(text.to_owned()))
    }
}

impl Hook for Receiver {
    fn admit(&self, method: &Method, _: &HeaderMap) -> Result<(), Refusal> {
        if method != Method::POST {
            return Err(Refusal::Method { allowed: Method::POST });
        }
        Ok(())
    }

    fn handle(&self, request: Request) -> BoxFuture<'_, Result<Accepted, Refusal>> {
        Box::pin(async move { self.receive(&request).await })
    }
}

/// The event of a record, the `index`th of its request.
fn event(record: &str, index: usize, now: Timestamp) -> Result<Event, String> {
    let fields = Payload::parse(record.as_bytes()).map_err(|error| error.to_string())?;
    let name = fields.text("eventName").ok_or("it has no eventName")?;
    let text = |path| fields.text(path).unwrap_or_default();
    let source =
        format!("{}.{}.{}", text("eventSource"), text("awsRegion"), text("s3.bucket.name"));
    let time: Option<Timestamp> = fields.text("eventTime").and_then(|time| time.parse().ok());
    let mut builder =
        EventBuilder::new(id(&fields, record, index), source, format!("{TYPE}{name}"))
            .time(time.unwrap_or(now).to_string())
            .data_content_type("application/json")
            .data(record.as_bytes().to_vec());
    if let Some(key) = fields.text("s3.object.key") {
        builder = builder.subject(key);
    }
    builder.build().map_err(|error| error.to_string())
}

/// The gateway's own id of the event. Where there is none, that of the request, which all of its records share, and which
/// of them it is; where there is none of that either, the hash of the record.
fn id(fields: &Payload<'_>, record: &str, index: usize) -> String {
    if let Some(id) = fields.text("eventId") {
        return id;
    }
    let text = |path| fields.text(path).unwrap_or_default();
    let request = text("responseElements.x-amz-request-id") + &text("responseElements.x-amz-id-2");
    match (request.is_empty(), index) {
        (true, _) => {
            Sha256::digest(record.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
        }
        (false, 0) => request,
        (false, _) => format!("{request}-{index}"),
    }
}

#[cfg(test)]
mod tests;
