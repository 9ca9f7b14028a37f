//! An HTTP/1 client that keeps its connections, needs no task for any of them, and writes events without a map of headers.
//!
//! A connection is driven by whoever waits for an answer from it. A client that gives each connection a task pays for
//! every request with two hand-overs between tasks, often between processors; a broker's requests are so short
//! that those were a fifth of what a delivery cost, and the general form of requests another fifth.
//! Unused connections are looked at once a second.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use broker_event::{Event, http as binding};
use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::target::TargetError;
pub use answer::Malformed;
use answer::{Framing, Head};
use connection::Connection;
pub use connection::ExchangeError;
pub(crate) use connection::Message;

mod answer;
mod connection;

/// How long an unused connection is kept. Just under the shortest default among common servers (Node.js closes after
/// five seconds), so that a request rarely meets a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How often unused connections are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Unused connections kept a host: a burst at twice the default parallelism finds them all open.
const MAX_IDLE_PER_HOST: usize = 128;

/// How long a connection that is closed may take to say so to a peer over TLS.
const GOODBYE: Duration = Duration::from_secs(1);

/// Room for the headers of an event with a few extensions.
const HEADERS: usize = 512;

/// A client, with its pool of connections. Clones share the pool.
#[derive(Clone)]
pub struct HttpClient(Arc<Pool>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is no absolute `http` or `https` URL.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// No connection came about.
    #[error("connect")]
    Connect(#[source] Box<dyn StdError + Send + Sync>),
    /// The connection broke, or what came over it is not HTTP.
    #[error("request")]
    Exchange(#[source] ExchangeError),
}

type Host = (Scheme, Authority);

/// Where requests go, and what the heads of all of them begin with.
pub(crate) struct Destination {
    host: Host,
    /// The request line and the headers that do not change.
    start: Vec<u8>,
}

impl Destination {
    /// Posts to `url`, which is absolute, with these headers beside `Host`.
    pub(crate) fn new(
        url: &Uri,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Self, TargetError> {
        let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else {
            return Err(TargetError::Url(url.to_string()));
        };
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let mut start = format!("POST {path} HTTP/1.1\r\n").into_bytes();
        append(&mut start, HOST.as_str(), host_header(url)?.as_bytes());
        for (name, value) in headers {
            append(&mut start, name.as_str(), value.as_bytes());
        }
        Ok(Self { host: (scheme.clone(), authority.clone()), start })
    }

    /// A request whose further headers and body are what `write` writes and returns.
    pub(crate) fn message(&self, write: impl FnOnce(&mut Vec<u8>) -> Bytes) -> Message {
        let mut head = Vec::with_capacity(self.start.len() + HEADERS);
        head.extend_from_slice(&self.start);
        let body = write(&mut head);
        write!(head, "content-length: {}\r\n\r\n", body.len()).expect("a vector takes all bytes");
        Message { head, body }
    }
}

/// Appends a header to a head.
pub(crate) fn append(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

impl HttpClient {
    /// A client that makes its connections with `connector`.
    pub(crate) fn new(connector: HttpsConnector<HttpConnector>) -> Self {
        Self(Arc::new(Pool { connector, idle: Mutex::default(), tasks: TaskTracker::new() }))
    }

    /// Posts `event` in binary mode to `url`, which is absolute, and returns the answer once its head is there.
    ///
    /// # Errors
    /// When no connection comes about or it breaks. There is no limit of time: that is the caller's, who drops the future.
    pub async fn post(
        &self,
        url: &Uri,
        event: &Event,
    ) -> Result<Response<AnswerBody>, ClientError> {
        let destination = Destination::new(url, &[])?;
        let message = destination.message(|head| binding::write_binary_lines(event, None, head));
        self.send(&destination, &message).await
    }

    /// Sends a request and returns the answer once its head is there. A request that a kept connection did not take because
    /// it was being closed goes over another one; no request is sent twice.
    pub(crate) async fn send(
        &self,
        to: &Destination,
        message: &Message,
    ) -> Result<Response<AnswerBody>, ClientError> {
        while let Some(mut connection) = self.0.take(&to.host) {
            match connection.exchange(message).await {
                Ok(head) => return Ok(self.0.answer(&to.host, connection, head)),
                Err(lost) if lost.unsent => {}
                Err(lost) => return Err(ClientError::Exchange(lost.error)),
            }
        }
        let mut connection = Box::pin(self.0.connect(&to.host)).await?;
        match connection.exchange(message).await {
            Ok(head) => Ok(self.0.answer(&to.host, connection, head)),
            Err(lost) => Err(ClientError::Exchange(lost.error)),
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// The `Host` of an address: the port is left out where the scheme implies it.
fn host_header(uri: &Uri) -> Result<HeaderValue, TargetError> {
    let implied = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let host = uri.host().unwrap_or_default();
    let value = match uri.port_u16().filter(|port| *port != implied) {
        Some(port) => HeaderValue::try_from(format!("{host}:{port}")),
        None => HeaderValue::from_str(host),
    };
    value.map_err(|_| TargetError::Url(uri.to_string()))
}

struct Pool {
    connector: HttpsConnector<HttpConnector>,
    idle: Mutex<Idle>,
    /// Who looks after unused connections. Nobody waits for them: they end soon after the pool does.
    tasks: TaskTracker,
}

#[derive(Default)]
struct Idle {
    /// The longest unused first. No list is empty.
    by_host: HashMap<Host, Vec<Unused>, foldhash::fast::RandomState>,
    /// Whether somebody looks after them.
    swept: bool,
}

struct Unused {
    connection: Box<Connection>,
    since: Instant,
}

impl Pool {
    /// The connection that was used last and is still open: the others may go unused long enough to be closed.
    fn take(&self, host: &Host) -> Option<Box<Connection>> {
        loop {
            let last = {
                let mut idle = self.idle.lock();
                let unused = idle.by_host.get_mut(host)?;
                let last = unused.pop()?;
                if unused.is_empty() {
                    idle.by_host.remove(host);
                }
                last
            };
            if last.since.elapsed() >= IDLE_TIMEOUT {
                return None; // as the others are
            }
            let mut connection = last.connection;
            if connection.is_usable() {
                return Some(connection);
            }
        }
    }

    async fn connect(&self, host: &Host) -> Result<Box<Connection>, ClientError> {
        let (scheme, authority) = host.clone();
        let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build();
        let uri = uri.map_err(|error| ClientError::Connect(error.into()))?;
        let stream = self.connector.clone().call(uri).await.map_err(ClientError::Connect)?;
        Ok(Box::new(Connection::new(TokioIo::new(stream))))
    }

    fn answer(
        self: &Arc<Self>,
        host: &Host,
        connection: Box<Connection>,
        head: Head,
    ) -> Response<AnswerBody> {
        let lease = Lease { pool: Arc::clone(self), host: host.clone(), connection };
        head.response.map(|()| AnswerBody { framing: head.framing, lease: Some(lease) })
    }

    fn put(self: &Arc<Self>, host: Host, mut connection: Box<Connection>) {
        connection.rest();
        let mut idle = self.idle.lock();
        let unused = idle.by_host.entry(host).or_default();
        if unused.len() < MAX_IDLE_PER_HOST {
            unused.push(Unused { connection, since: Instant::now() });
        }
        if !std::mem::replace(&mut idle.swept, true) {
            self.tasks.spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Takes out what has gone unused for too long or was closed by the other side.
    fn expired(&self) -> Vec<Unused> {
        let mut idle = self.idle.lock();
        let mut expired = Vec::new();
        idle.by_host.retain(|_, unused| {
            let old = |unused: &mut Unused| {
                unused.since.elapsed() >= IDLE_TIMEOUT || !unused.connection.is_usable()
            };
            expired.extend(unused.extract_if(.., old));
            !unused.is_empty()
        });
        expired
    }

    /// Whether nothing is left to look after; then nobody does, until something is.
    fn rests(&self) -> bool {
        let mut idle = self.idle.lock();
        idle.swept = !idle.by_host.is_empty();
        !idle.swept
    }
}

/// Closes connections that nobody uses, for as long as there are any.
async fn sweep(pool: Weak<Pool>) {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(pool) = pool.upgrade() else { break };
        for unused in pool.expired() {
            pool.tasks.spawn(timeout(GOODBYE, unused.connection.close()));
        }
        if pool.rests() {
            break;
        }
    }
}

/// A connection that is in use, and where it belongs.
struct Lease {
    pool: Arc<Pool>,
    host: Host,
    connection: Box<Connection>,
}

/// The body of an answer. When it is dropped after its end, its connection can take another request; before, the
/// connection is closed.
pub struct AnswerBody {
    framing: Framing,
    /// Nothing once the connection is broken.
    lease: Option<Lease>,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let Self { framing, lease } = &mut *self;
        let Some(connected) = lease else { return Poll::Ready(None) };
        let part = ready!(connected.connection.poll_body(framing, context));
        if part.is_err() {
            *lease = None;
        }
        Poll::Ready(part.transpose().map(|part| part.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.framing == Framing::Length(0)
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Length(left) => SizeHint::with_exact(left),
            Framing::Chunked(_) | Framing::Close => SizeHint::default(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // Whether the other side closes it is looked at when it is wanted again.
        if self.is_end_stream()
            && let Some(Lease { pool, host, connection }) = self.lease.take()
            && connection.is_done()
        {
            pool.put(host, connection);
        }
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody").field("framing", &self.framing).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
