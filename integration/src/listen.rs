//! The three listeners: who answers what.

use std::sync::Arc;

use axum::Router;
use broker::ingress::Ingress;
use broker::server::{self, Limits};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use sources::Hooks;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Where web hooks are received: `/sources/{namespace}/{name}`.
const HOOKS: &str = "/sources/";

/// What the events listener answers with.
#[derive(Clone, Debug)]
pub struct Events {
    /// Takes events at `/{namespace}/{broker}`.
    pub ingress: Arc<Ingress>,
    /// Takes web hooks.
    pub hooks: Hooks,
}

impl Events {
    async fn answer(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let hook = request.uri().path().strip_prefix(HOOKS).and_then(|rest| rest.split_once('/'));
        match hook.map(|(namespace, name)| (namespace.to_owned(), name.to_owned())) {
            Some((namespace, name)) => self.hooks.serve(&namespace, &name, request).await,
            None => self.ingress.handle(request).await,
        }
    }
}

/// Serves events and web hooks until `stop`, then finishes the requests under way.
pub async fn events(listener: TcpListener, events: Events, stop: CancellationToken) {
    let answer = move |request| events.clone().answer(request);
    server::serve(listener, answer, Limits::default(), stop).await;
}

/// Serves the gateway: no function is declared yet, and it says so.
pub async fn gateway(listener: TcpListener, stop: CancellationToken) {
    let answer = |request: Request<Incoming>| async move {
        let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
        let text = format!("no function answers for host {:?}\n", host.unwrap_or_default());
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = StatusCode::NOT_FOUND;
        response
    };
    server::serve(listener, answer, Limits::default(), stop).await;
}

/// Serves health, metrics and admin until `stop`.
pub async fn api(listener: TcpListener, router: Router, stop: CancellationToken) {
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the API listener failed");
    }
}
