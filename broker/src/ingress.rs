//! The door for events: `POST /{namespace}/{broker}`, in binary, structured or batched mode.
//!
//! It answers 202 once the store says the events are durable, and not before. Every refusal carries a sentence.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker_event::{Event, Value, http as binding};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use prometheus_client::registry::Registry;
use tokio::time::timeout;

use crate::metrics::Metrics;
use crate::respond::{Answer, Refusal, respond};
use crate::store::{Store, Topic};

mod admit;
#[cfg(test)]
mod tests;

pub use admit::{ARRIVAL, AdmitError, TTL, accept};

/// How long a body may take to arrive: a megabyte over a line of 300 kbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Most events of one batch: with the smallest events a body of a megabyte holds some ten thousand.
const MAX_BATCH: usize = 10_000;

/// The headers of W3C trace context, which are the extensions of the same names.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// Longest trace header kept: the specification asks for 512 characters of state to be carried.
const MAX_TRACE: usize = 1024;

/// What the ingress takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngressConfig {
    /// Longest body, bytes.
    pub max_body: usize,
}

impl Default for IngressConfig {
    /// A megabyte: what Kafka takes for one record, and sixteen times what the specification asks intermediaries to carry.
    fn default() -> Self {
        Self { max_body: 1 << 20 }
    }
}

/// Takes events into a store.
#[derive(Debug)]
pub struct Ingress {
    store: Arc<dyn Store>,
    config: IngressConfig,
    metrics: Metrics,
}

impl Ingress {
    /// An ingress into `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, config: IngressConfig, registry: &mut Registry) -> Self {
        Self { store, config, metrics: Metrics::new(registry) }
    }

    /// Answers one request.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let outcome = self.take(request).await;
        let events = if let Ok(Answer::Accepted(events)) = &outcome { *events } else { 0 };
        let response = respond(outcome);
        self.metrics.answered(response.status().as_u16(), events);
        response
    }

    async fn take<B>(&self, request: Request<B>) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        match parts.method {
            Method::POST => {}
            Method::OPTIONS => return Ok(Answer::Handshake),
            _ => return Err(Refusal::Method),
        }
        let topic = topic(parts.uri.path())?;
        let body = match timeout(BODY_TIMEOUT, read(body, self.config.max_body)).await {
            Ok(body) => body?,
            Err(_) => return Err(Refusal::TooSlow),
        };
        let mut events = binding::read(&parts.headers, body)?.events;
        let count = events.len();
        if count > MAX_BATCH {
            return Err(Refusal::LongBatch { limit: MAX_BATCH, count });
        }
        let now = now();
        for event in &mut events {
            trace(&parts.headers, event);
            accept(event, now)?;
        }
        self.store.append(&topic, events).await?;
        Ok(Answer::Accepted(count))
    }
}

/// `/namespace/name`, with or without a slash at its end.
fn topic(path: &str) -> Result<Topic, Refusal> {
    if path == "/" {
        return Err(Refusal::NoPath);
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let (namespace, name) =
        path.strip_prefix('/').and_then(|path| path.split_once('/')).ok_or(Refusal::BadPath)?;
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        return Err(Refusal::BadPath);
    }
    Ok(Topic::new(namespace, name))
}

/// Reads a body up to its limit; one that announces more is refused before any of it is read.
async fn read<B>(body: B, limit: usize) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(Refusal::TooLarge { limit });
    }
    let mut body = std::pin::pin!(body);
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::Broken(error.into().to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len().saturating_add(rest.len()).saturating_add(data.len()) > limit {
            return Err(Refusal::TooLarge { limit });
        }
        // Most bodies come in one piece, which is passed on as it is.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// Carries the sender's trace context with the event, unless the event has its own. What is no trace context is ignored.
fn trace(headers: &HeaderMap, event: &mut Event) {
    for name in TRACE {
        let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()) else { continue };
        if !value.is_empty() && value.len() <= MAX_TRACE && event.extension(name).is_none() {
            event.set_extension(name, Value::from(value));
        }
    }
}

fn now() -> SystemTime {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge where events get their time of arrival"
    )]
    SystemTime::now()
}
