//! Requests on their way to sinks: `/sinks/{namespace}/{name}`.
//!
//! A sink that is known but not connected (it is starting, or being replaced) holds its requests for a moment instead of
//! refusing them, and so does every path before the sinks are known.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use broker_event::http::{self as binding, Received};
use broker_event::{Event, ReadError};
use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::sink::Write;
use crate::body::Bodies;
use crate::respond::{Refusal, respond};

/// Bytes of bodies held at one time, over all requests: 64 of the largest, if the limit is the default of a megabyte. They
/// are held until the system behind has answered, so this bounds what a slow one can cost.
const TOGETHER: usize = 64 << 20;

/// How long a body may take to arrive: as much as the mesh's brokers give it.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of all header fields together, as a broker's ingress takes them.
const MAX_HEADERS: usize = 64 << 10;

/// Most events of one batch, as a broker's ingress takes them.
const MAX_BATCH: usize = 10_000;

/// Requests of one sink under way at a time: a Trigger may have a thousand deliveries under way.
const MAX_UNDER_WAY: usize = 1024;

/// How long a request waits for its sink to connect: over any restart, and short enough that a sender learns of a system that
/// is away before it gives up.
const START_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the system behind may take: beyond what any of them needs that works, and within what senders wait (Triggers
/// 30 s). What is written later than that may come again.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a sender should wait: a sink whose system is away tries again within 10 s.
const RETRY: Duration = Duration::from_secs(5);

const ALLOWED: HeaderValue = HeaderValue::from_static("POST, OPTIONS");

/// All doors by path, and how their requests are read.
#[derive(Debug)]
pub(super) struct Doors {
    doors: ArcSwap<HashMap<String, Arc<Door>>>,
    bodies: Bodies,
    /// Cancelled once the sinks are known.
    known: CancellationToken,
    /// Cancelled when the mesh stops.
    closed: CancellationToken,
    metrics: Metrics,
}

/// Where the requests of one sink come in.
#[derive(Debug)]
pub(super) struct Door {
    writer: watch::Sender<Option<(u64, Arc<dyn Write>)>>,
    /// How often it was opened.
    opened: AtomicU64,
    turns: Semaphore,
    events: Counter,
}

/// Keeps a sink's door open; dropping it shuts it. Requests that are being written go on.
#[derive(Debug)]
pub struct Open {
    door: Arc<Door>,
    number: u64,
}

impl Door {
    pub(super) fn new(events: Counter) -> Arc<Self> {
        Arc::new(Self {
            writer: watch::Sender::new(None),
            opened: AtomicU64::new(0),
            turns: Semaphore::new(MAX_UNDER_WAY),
            events,
        })
    }

    pub(super) fn open(self: &Arc<Self>, writer: Arc<dyn Write>) -> Open {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        self.writer.send_replace(Some((number, writer)));
        Open { door: Arc::clone(self), number }
    }

    /// Writes the events of one request, once the sink is connected.
    async fn pass(&self, events: Vec<Event>) -> Result<(), Refusal> {
        let Ok(_turn) = self.turns.try_acquire() else {
            return Err(busy("the sink has as many requests under way as it may"));
        };
        let count = events.len() as u64;
        let Some(writer) = self.writer().await else {
            return Err(busy("the sink is not connected to the system behind it"));
        };
        match timeout(WRITE_TIMEOUT, writer.write(events)).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(busy("the system behind the sink did not answer in time")),
        }
        self.events.inc_by(count);
        Ok(())
    }

    /// What the sink writes with, once it is connected.
    async fn writer(&self) -> Option<Arc<dyn Write>> {
        let mut writers = self.writer.subscribe();
        let opened = timeout(START_TIMEOUT, writers.wait_for(Option::is_some)).await;
        opened.ok()?.ok()?.as_ref().map(|(_, writer)| Arc::clone(writer))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.door.writer.send_if_modified(|have| {
            // A successor that opened meanwhile stays.
            let own = have.as_ref().is_some_and(|(number, _)| *number == self.number);
            if own {
                *have = None;
            }
            own
        });
    }
}

impl Doors {
    /// No doors yet. Bodies may have up to `max_body` bytes.
    pub(super) fn new(max_body: usize, metrics: Metrics) -> Self {
        Self {
            doors: ArcSwap::default(),
            bodies: Bodies::new(max_body, TOGETHER, BODY_TIMEOUT),
            known: CancellationToken::new(),
            closed: CancellationToken::new(),
            metrics,
        }
    }

    /// From now on these are all there are, by path.
    pub(super) fn replace(&self, doors: HashMap<String, Arc<Door>>) {
        self.doors.store(Arc::new(doors));
        self.known.cancel();
    }

    /// From now on requests are told to come again: the mesh is about to stop. Those under way are finished.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// Answers one request to `/sinks/{path}`.
    pub(super) async fn serve<B>(&self, path: &str, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let response = if request.method() == Method::OPTIONS {
            handshake()
        } else {
            answer(self.take(path, request).await)
        };
        self.metrics.requested(response.status().as_u16());
        response
    }

    async fn take<B>(&self, path: &str, request: Request<B>) -> Result<(), Refusal>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        if request.method() != Method::POST {
            return Err(Refusal::Method { allowed: Method::POST });
        }
        let door = self.find(path).await?;
        let (parts, body) = request.into_parts();
        limit(&parts.headers)?;
        let (body, _held) = self.bodies.read(body).await?;
        let events = read(&parts.headers, body)?;
        if events.is_empty() {
            return Ok(());
        }
        door.pass(events).await
    }

    async fn find(&self, path: &str) -> Result<Arc<Door>, Refusal> {
        let door = || self.doors.load().get(path).cloned();
        if self.closed.is_cancelled() {
            return Err(busy("the mesh is stopping"));
        }
        if door().is_none() && timeout(START_TIMEOUT, self.known.cancelled()).await.is_err() {
            return Err(busy("the mesh is starting"));
        }
        door().ok_or_else(|| Refusal::NotFound("there is no sink here".to_owned()))
    }
}

fn limit(headers: &HeaderMap) -> Result<(), Refusal> {
    const PUNCTUATION: usize = ": \r\n".len();
    let lengths = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    if lengths.map(|length| length + PUNCTUATION).sum::<usize>() > MAX_HEADERS {
        let why = format!("the header fields are larger than {MAX_HEADERS} bytes");
        return Err(Refusal::Oversized(why));
    }
    Ok(())
}

fn read(headers: &HeaderMap, body: Bytes) -> Result<Vec<Event>, Refusal> {
    let Received { events, .. } = binding::read(headers, body).map_err(|error| match error {
        ReadError::UnsupportedMediaType { .. } => Refusal::MediaType(error.to_string()),
        other => Refusal::Malformed(other.to_string()),
    })?;
    if events.len() > MAX_BATCH {
        let count = events.len();
        let why = format!("a batch holds at most {MAX_BATCH} events, this one has {count}");
        return Err(Refusal::Oversized(why));
    }
    Ok(events)
}

/// It cannot be written now; the same request can later.
pub(super) fn busy(reason: impl Into<String>) -> Refusal {
    Refusal::Busy { reason: reason.into(), retry_after: RETRY }
}

/// What was written has an empty answer: any other would be taken for a reply.
fn answer(outcome: Result<(), Refusal>) -> Response<Full<Bytes>> {
    let mut response = match outcome {
        Ok(()) => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        }
        Err(refusal) => respond(Err(refusal)),
    };
    response.headers_mut().insert(ALLOW, ALLOWED);
    response
}

/// The handshake of the web-hook specification: anybody may send, at any rate.
fn handshake() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    headers.insert(ALLOW, ALLOWED);
    headers.insert("webhook-allowed-origin", HeaderValue::from_static("*"));
    headers.insert("webhook-allowed-rate", HeaderValue::from_static("*"));
    response
}

#[cfg(test)]
mod tests;
