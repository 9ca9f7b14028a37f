//! An HTTP/1 client that keeps its connections and needs no task for any of them.
//!
//! A connection is driven by whoever waits for an answer from it. A client that gives each connection a task pays for
//! every request with two hand-overs between tasks, often between processors; a broker's requests are so short
//! that those were a fifth of what a delivery cost. Unused connections are looked at once a second.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{TrySendError, http1};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::target::TargetError;

/// How long an unused connection is kept. Just under the shortest default among common servers (Node.js closes after
/// five seconds), so that a request rarely meets a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How often unused connections are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Unused connections kept a host: a burst at twice the default parallelism finds them all open.
const MAX_IDLE_PER_HOST: usize = 128;

/// How long a connection that is closed may take to say so to a peer over TLS.
const GOODBYE: Duration = Duration::from_secs(1);

/// Longest response head that is read. Answers carry a reply's attributes as headers; a dead letter's worth of them fits.
const MAX_HEAD: usize = 64 << 10;

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
    Exchange(#[source] hyper::Error),
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
type Host = (Scheme, Authority);

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
    connection: Connection,
    since: Instant,
}

impl HttpClient {
    /// A client that makes its connections with `connector`.
    pub(crate) fn new(connector: HttpsConnector<HttpConnector>) -> Self {
        Self(Arc::new(Pool { connector, idle: Mutex::default(), tasks: TaskTracker::new() }))
    }

    /// Sends `request`, whose URI is absolute, and returns the answer once its head is there. A request that a kept
    /// connection did not take because it was being closed goes over another one; no request is sent twice.
    ///
    /// # Errors
    /// When no connection comes about or it breaks. There is no limit of time: that is the caller's, who drops the future.
    pub async fn request(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<AnswerBody>, ClientError> {
        let host = split(&mut request)?;
        while let Some(mut connection) = self.0.take(&host) {
            match connection.send(request).await {
                Ok(response) => return Ok(self.0.answer(host, connection, response)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(ClientError::Exchange(error.into_error())),
                },
            }
        }
        let mut connection = self.0.connect(&host).await?;
        match connection.send(request).await {
            Ok(response) => Ok(self.0.answer(host, connection, response)),
            Err(error) => Err(ClientError::Exchange(error.into_error())),
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// Takes scheme and authority out of a request's URI, and sees to its `Host`.
fn split(request: &mut Request<Full<Bytes>>) -> Result<Host, TargetError> {
    if !request.headers().contains_key(HOST) {
        let host = host_header(request.uri())?;
        request.headers_mut().insert(HOST, host);
    }
    let parts = std::mem::take(request.uri_mut()).into_parts();
    let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    match (parts.scheme, parts.authority) {
        (Some(scheme), Some(authority)) => Ok((scheme, authority)),
        (_, authority) => Err(TargetError::Url(authority.map_or(String::new(), |a| a.to_string()))),
    }
}

/// The `Host` of an address: the port is left out where the scheme implies it.
pub(crate) fn host_header(uri: &Uri) -> Result<HeaderValue, TargetError> {
    let implied = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let host = uri.host().unwrap_or_default();
    let value = match uri.port_u16().filter(|port| *port != implied) {
        Some(port) => HeaderValue::try_from(format!("{host}:{port}")),
        None => HeaderValue::from_str(host),
    };
    value.map_err(|_| TargetError::Url(uri.to_string()))
}

impl Pool {
    /// The connection that was used last: the others may go unused long enough to be closed.
    fn take(&self, host: &Host) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let unused = idle.by_host.get_mut(host)?;
        let last = unused.pop();
        if unused.is_empty() {
            idle.by_host.remove(host);
        }
        last.filter(|last| last.since.elapsed() < IDLE_TIMEOUT).map(|last| last.connection)
    }

    async fn connect(&self, host: &Host) -> Result<Connection, ClientError> {
        let (scheme, authority) = host.clone();
        let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build();
        let uri = uri.map_err(|error| ClientError::Connect(error.into()))?;
        let stream = self.connector.clone().call(uri).await.map_err(ClientError::Connect)?;
        let (requests, driver) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(stream)
            .await
            .map_err(ClientError::Exchange)?;
        Ok(Connection { requests, driver: Box::pin(driver), over: false })
    }

    fn answer(
        self: &Arc<Self>,
        host: Host,
        connection: Connection,
        response: Response<Incoming>,
    ) -> Response<AnswerBody> {
        let pool = Arc::clone(self);
        response.map(|body| AnswerBody { body, lease: Some(Lease { pool, host, connection }) })
    }

    fn put(self: &Arc<Self>, host: Host, connection: Connection) {
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
    fn expired(&self) -> Vec<Connection> {
        let mut idle = self.idle.lock();
        let mut expired = Vec::new();
        idle.by_host.retain(|_, unused| {
            let old = |unused: &mut Unused| {
                unused.since.elapsed() >= IDLE_TIMEOUT || !unused.connection.is_usable()
            };
            expired.extend(unused.extract_if(.., old).map(|unused| unused.connection));
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
        for connection in pool.expired() {
            pool.tasks.spawn(timeout(GOODBYE, connection.close()));
        }
        if pool.rests() {
            break;
        }
    }
}

/// One connection.
struct Connection {
    requests: http1::SendRequest<Full<Bytes>>,
    driver: Pin<Box<http1::Connection<Stream, Full<Bytes>>>>,
    /// Whether the driver has ended.
    over: bool,
}

impl Connection {
    /// Moves what there is to move; whatever ends a connection is told to those who wait for something from it.
    fn drive(&mut self, context: &mut Context<'_>) {
        if !self.over {
            self.over = self.driver.as_mut().poll(context).is_ready();
        }
    }

    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        let mut response = pin!(self.requests.try_send_request(request));
        poll_fn(|context| {
            self.drive(context);
            response.as_mut().poll(context)
        })
        .await
    }

    /// Whether another request could go over it.
    fn is_usable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.over && self.requests.is_ready()
    }

    async fn close(self) {
        let Self { requests, driver, over } = self;
        drop(requests);
        if !over && let Err(error) = driver.await {
            tracing::debug!(%error, "an unused connection broke");
        }
    }
}

/// A connection that is in use, and where it belongs.
struct Lease {
    pool: Arc<Pool>,
    host: Host,
    connection: Connection,
}

/// The body of an answer. When it is dropped after its end, its connection can take another request; before, the
/// connection is closed.
pub struct AnswerBody {
    body: Incoming,
    lease: Option<Lease>,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(lease) = &mut self.lease {
            lease.connection.drive(context);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if let Some(Lease { pool, host, mut connection }) = self.lease.take()
            && connection.is_usable()
        {
            pool.put(host, connection);
        }
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody").field("body", &self.body).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
