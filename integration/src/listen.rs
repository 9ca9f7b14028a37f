//! The three listeners: who answers what.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use broker::ingress::Ingress;
use broker::server::{self, Limits};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use sources::Hooks;
use sources::sinks::Sinks;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Where web hooks are received: `/sources/{namespace}/{name}`.
const HOOKS: &str = "/sources/";

/// Where sinks take events: `/sinks/{namespace}/{name}`.
const SINKS: &str = "/sinks/";

/// What the events listener answers with.
#[derive(Clone, Debug)]
pub struct Events {
    /// Takes events at `/{namespace}/{broker}`.
    pub ingress: Arc<Ingress>,
    /// Takes web hooks.
    pub hooks: Hooks,
    /// Takes events for sinks.
    pub sinks: Sinks,
}

impl Events {
    async fn answer(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if let Some((namespace, name)) = below(HOOKS, &request) {
            self.hooks.serve(&namespace, &name, request).await
        } else if let Some((namespace, name)) = below(SINKS, &request) {
            self.sinks.serve(&namespace, &name, request).await
        } else {
            self.ingress.handle(request).await
        }
    }
}

/// The namespace and the name that follow `prefix` in the path.
fn below(prefix: &str, request: &Request<Incoming>) -> Option<(String, String)> {
    let (namespace, name) = request.uri().path().strip_prefix(prefix)?.split_once('/')?;
    // Without a name it may be the broker of a namespace that is called as the prefix is.
    (!name.is_empty()).then(|| (namespace.to_owned(), name.to_owned()))
}

/// Serves events, web hooks and sinks until `stop`, then finishes the requests under way.
pub async fn events(listener: TcpListener, events: Events, stop: CancellationToken) {
    let answer = move |request| events.clone().answer(request);
    server::serve(listener, None, answer, Limits::default(), stop).await;
}

/// Serves the gateway: no function is declared yet, and it says so.
pub async fn gateway(listener: TcpListener, stop: CancellationToken) {
    let answer = |request: Request<Incoming>| async move {
        let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
        let text = format!("no function answers for host {:?}\n", host.unwrap_or_default());
        let mut response = Response::new(Full::<Bytes>::from(text));
        *response.status_mut() = StatusCode::NOT_FOUND;
        response
    };
    server::serve(listener, None, answer, Limits::default(), stop).await;
}

/// Connections of the API listener at a time: people, scrapers and probes.
const API_CONNECTIONS: usize = 256;

/// How long whoever watches a live stream may look at one page of it.
const API_PATIENCE: Duration = Duration::from_secs(3600);

/// Serves health, metrics, admin and the resources until `stop`: over TLS for those who ask for it, as `kubectl` must, which
/// sends no token in the clear.
pub async fn api(listener: TcpListener, tls: TlsAcceptor, router: Router, stop: CancellationToken) {
    let service = TowerToHyperService::new(router);
    let answer = move |request: Request<Incoming>| {
        let answer = service.call(request);
        async move {
            match answer.await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    };
    let limits =
        Limits { connections: API_CONNECTIONS, write_timeout: API_PATIENCE, ..Limits::default() };
    server::serve(listener, Some(tls), answer, limits, stop).await;
}
