//! The door for events: `POST /{namespace}/{broker}`, in binary, structured or batched mode.
//!
//! It answers 202 once the store says the events are durable, and not before. Every refusal carries a sentence.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker_event::http::{self as binding, Mode};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::Body;
use http_body_util::Full;
use prometheus_client::registry::Registry;
use tokio::time::timeout;

use crate::metrics::Metrics;
use crate::respond::{Answer, Refusal, respond};
use crate::store::{Store, Topic};

mod admit;
mod body;
#[cfg(test)]
mod tests;
mod trace;

pub use admit::{ARRIVAL, AdmitError, Arrival, TTL, accept};

use body::Bodies;
use trace::Trace;

/// How long a body may take to arrive: a megabyte over a line of 300 kbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of all header fields together, as they come over the wire. Few receivers take more, so an event with more could
/// be stored but not delivered; the listener's own limit is higher, so that this one can be explained to the sender.
const MAX_HEADERS: usize = 64 << 10;

/// Bytes of a path: two names of 253, the longest that Kubernetes gives an object, and slashes.
const MAX_PATH: usize = 512;

/// Most events of one batch: with the smallest events a body of a megabyte holds some ten thousand.
const MAX_BATCH: usize = 10_000;

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
    bodies: Bodies,
    body_timeout: Duration,
    metrics: Metrics,
}

impl Ingress {
    /// An ingress into `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, config: IngressConfig, registry: &mut Registry) -> Self {
        let metrics = Metrics::new(registry);
        Self { store, bodies: Bodies::new(config.max_body), body_timeout: BODY_TIMEOUT, metrics }
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
        limit(&parts.headers)?;
        let Ok(body) = timeout(self.body_timeout, self.bodies.read(body)).await else {
            return Err(Refusal::TooSlow);
        };
        let body::Whole { bytes, room: _room } = body?;
        let binding::Received { mode, mut events } = binding::read(&parts.headers, bytes)?;
        let count = events.len();
        if count > MAX_BATCH {
            return Err(Refusal::LongBatch { limit: MAX_BATCH, count });
        }
        let (arrival, trace) = (Arrival::at(now()), Trace::of(&parts.headers));
        for (number, event) in (1..).zip(&mut events) {
            if let Some(trace) = &trace {
                trace.travel_with(event);
            }
            accept(event, &arrival).map_err(|reason| match mode {
                Mode::Batch => Refusal::AdmitInBatch { number, reason },
                Mode::Binary | Mode::Structured => Refusal::Admit(reason),
            })?;
        }
        // The connection reads the next request into the same memory if nothing is left of this one.
        drop(parts);
        self.store.append(&topic, events).await?;
        Ok(Answer::Accepted(count))
    }
}

/// `/namespace/name`, with or without a slash at its end.
fn topic(path: &str) -> Result<Topic, Refusal> {
    if path.len() > MAX_PATH {
        return Err(Refusal::LongPath { limit: MAX_PATH });
    }
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

fn limit(headers: &HeaderMap) -> Result<(), Refusal> {
    const PUNCTUATION: usize = ": \r\n".len();
    let lengths = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    if lengths.map(|length| length + PUNCTUATION).sum::<usize>() > MAX_HEADERS {
        return Err(Refusal::Headers { limit: MAX_HEADERS });
    }
    Ok(())
}

fn now() -> SystemTime {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge where events get their time of arrival"
    )]
    SystemTime::now()
}
