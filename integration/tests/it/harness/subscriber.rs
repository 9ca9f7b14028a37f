//! A real HTTP subscriber that records what it gets and answers as the test says.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::eventually::eventually;

/// One delivery as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Got {
    /// A header as text, empty when absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
    }

    /// The event's id.
    pub(crate) fn id(&self) -> &str {
        self.header("ce-id")
    }
}

/// What to answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// Never answer.
    pub(crate) hang: bool,
}

impl Reply {
    /// A status and no body.
    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Takes the event and never answers.
    pub(crate) fn hang() -> Self {
        Self { hang: true, ..Self::status(200) }
    }
}

type Script = dyn Fn(&Got) -> Reply + Send + Sync;

/// A subscriber; it stops when dropped.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) url: String,
    got: Arc<Mutex<Vec<Got>>>,
    task: JoinHandle<()>,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Subscriber {
    /// Answers 202 to everything.
    pub(crate) async fn start() -> Self {
        Self::scripted(|_| Reply::status(202)).await
    }

    /// Answers as `script` says.
    pub(crate) async fn scripted(script: impl Fn(&Got) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let got = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        #[expect(clippy::disallowed_methods, reason = "a test server; aborted when dropped")]
        let task = tokio::spawn(accept(listener, got.clone(), script));
        Self { url, got, task }
    }

    /// Everything that came so far.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().expect("no panic under the lock").clone()
    }

    /// Their ids, in order of arrival.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.got().iter().map(|got| got.id().to_owned()).collect()
    }

    /// Waits until `count` deliveries came.
    pub(crate) async fn wait(&self, count: usize) -> Vec<Got> {
        eventually(&format!("{count} deliveries"), async || {
            Some(self.got()).filter(|got| got.len() >= count)
        })
        .await
    }
}

async fn accept(listener: TcpListener, got: Arc<Mutex<Vec<Got>>>, script: Arc<Script>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (got, script) = (got.clone(), script.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, got.clone(), script.clone()));
            // A client that goes away is part of the tests.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    got: Arc<Mutex<Vec<Got>>>,
    script: Arc<Script>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(Response::new(Full::default())) };
    let (method, path) = (parts.method, parts.uri.path().to_owned());
    let delivery = Got { method, path, headers: parts.headers, body: body.to_bytes() };
    let reply = script(&delivery);
    got.lock().expect("no panic under the lock").push(delivery);
    if reply.hang {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(reply.body)).expect("a response"))
}

/// Long enough to see that something does not happen.
pub(crate) const A_WHILE: Duration = Duration::from_millis(300);
