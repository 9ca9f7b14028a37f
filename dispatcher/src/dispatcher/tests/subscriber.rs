//! A subscriber: a real HTTP server that records what it gets and answers as its test says.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// What a subscriber was sent.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    /// A header's text, empty when it is missing.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The event's id.
    pub(super) fn id(&self) -> &str {
        self.header("ce-id")
    }
}

/// What it answers.
pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

type Handler = dyn Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync;

#[derive(Default)]
struct Record {
    calls: Mutex<Vec<Call>>,
    ended: Mutex<Vec<String>>,
    now: AtomicUsize,
    most: AtomicUsize,
    connections: AtomicUsize,
}

/// The running server.
pub(super) struct Subscriber {
    port: u16,
    record: Arc<Record>,
    _accepting: AbortOnDropHandle<()>,
}

/// An answer with a status and a body.
pub(super) fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    Response::builder().status(status).body(Full::new(body.into()).boxed_unsync()).unwrap()
}

/// An answer whose body never ends.
pub(super) fn endless(status: u16) -> Answer {
    let chunk = Bytes::from(vec![b'x'; 16 << 10]);
    let frames = stream::repeat_with(move || Ok(Frame::data(chunk.clone())));
    Response::builder().status(status).body(StreamBody::new(frames).boxed_unsync()).unwrap()
}

/// An answer whose body starts and then stalls.
pub(super) fn stalling(status: u16, start: &'static str) -> Answer {
    let first = stream::iter([Ok(Frame::data(Bytes::from_static(start.as_bytes())))]);
    let frames = futures_util::StreamExt::chain(first, stream::pending());
    Response::builder().status(status).body(StreamBody::new(frames).boxed_unsync()).unwrap()
}

impl Subscriber {
    /// A subscriber that answers at once.
    pub(super) async fn answering(
        handler: impl Fn(&Call) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::working(move |call| {
            let answer = handler(&call);
            Box::pin(async move { answer })
        })
        .await
    }

    /// A subscriber that takes everything.
    pub(super) async fn content() -> Self {
        Self::answering(|_| answer(202, "")).await
    }

    /// A subscriber that never answers.
    pub(super) async fn hung() -> Self {
        Self::working(|_| Box::pin(std::future::pending())).await
    }

    /// A subscriber that takes its time.
    pub(super) async fn working(
        handler: impl Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::start(None, Arc::new(handler)).await
    }

    /// A subscriber that speaks TLS.
    pub(super) async fn encrypted(
        tls: TlsAcceptor,
        handler: impl Fn(&Call) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let handler = move |call| {
            let answer = handler(&call);
            Box::pin(async move { answer }) as BoxFuture<'static, Answer>
        };
        Self::start(Some(tls), Arc::new(handler)).await
    }

    async fn start(tls: Option<TlsAcceptor>, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let record = Arc::new(Record::default());
        let tasks = TaskTracker::new();
        let server = Server { record: Arc::clone(&record), handler, tls };
        let accepting = tasks.spawn(server.accept(listener, tasks.clone()));
        Self { port, record, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Its address.
    pub(super) fn url(&self) -> http::Uri {
        format!("http://127.0.0.1:{}/take?it=1", self.port).parse().unwrap()
    }

    /// Its port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What it got so far.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.record.calls.lock().unwrap().clone()
    }

    /// Ids of the events it got, in order.
    pub(super) fn ids(&self) -> Vec<String> {
        self.calls().iter().map(|call| call.id().to_owned()).collect()
    }

    /// Ids of the events whose answers were sent, in order.
    pub(super) fn ended(&self) -> Vec<String> {
        self.record.ended.lock().unwrap().clone()
    }

    /// Most calls it had at once.
    pub(super) fn most_at_once(&self) -> usize {
        self.record.most.load(Ordering::SeqCst)
    }

    /// Connections it accepted.
    pub(super) fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
struct Server {
    record: Arc<Record>,
    handler: Arc<Handler>,
    tls: Option<TlsAcceptor>,
}

impl Server {
    async fn accept(self, listener: TcpListener, tasks: TaskTracker) {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            self.record.connections.fetch_add(1, Ordering::SeqCst);
            tasks.spawn(self.clone().greet(socket));
        }
    }

    async fn greet(self, socket: TcpStream) {
        match self.tls.clone() {
            None => self.serve(socket).await,
            Some(tls) => {
                if let Ok(socket) = tls.accept(socket).await {
                    self.serve(socket).await;
                }
            }
        }
    }

    async fn serve(self, socket: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(move |request| {
            respond(request, Arc::clone(&self.record), Arc::clone(&self.handler))
        });
        // A client that hangs up is part of what is tested.
        drop(http1::Builder::new().serve_connection(TokioIo::new(socket), service).await);
    }
}

async fn respond(
    request: Request<Incoming>,
    record: Arc<Record>,
    handler: Arc<Handler>,
) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let call = Call {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head.headers,
        body,
    };
    record.calls.lock().unwrap().push(call.clone());
    let now = record.now.fetch_add(1, Ordering::SeqCst) + 1;
    record.most.fetch_max(now, Ordering::SeqCst);
    let id = call.id().to_owned();
    let answer = handler(call).await;
    record.now.fetch_sub(1, Ordering::SeqCst);
    record.ended.lock().unwrap().push(id);
    Ok(answer)
}
