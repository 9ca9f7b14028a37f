//! Bare servers: the baseline every figure is compared with, and the subscriber that feeds the oracle.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::load::Ids;
use crate::oracle::Oracle;

/// What a bare server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// Read the body, answer 202: as little as an ingest endpoint can do.
    Baseline,
    /// The same, and tell the oracle.
    Oracle(Arc<Oracle>, Arc<Ids>),
    /// Read the body and never answer.
    Hang,
}

/// Starts a server on a free port and returns `host:port`.
///
/// # Errors
/// When no port can be had.
pub(crate) async fn serve(role: Role) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("bind")?;
    let address = listener.local_addr()?.to_string();
    tokio::task::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let role = role.clone();
            tokio::task::spawn(async move {
                stream.set_nodelay(true).ok();
                let service = service_fn(move |request| answer(request, role.clone()));
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
            });
        }
    });
    Ok(address)
}

async fn answer(
    request: Request<Incoming>,
    role: Role,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let mut response = Response::new(Full::default());
    *response.status_mut() = hyper::StatusCode::ACCEPTED;
    let Ok(body) = body.collect().await else { return Ok(response) };
    match role {
        Role::Baseline => {}
        Role::Oracle(oracle, ids) => {
            let body = unwrapped(body.to_bytes());
            let id = parts.headers.get("ce-id").and_then(|id| id.to_str().ok()?.parse().ok());
            oracle.delivered(id.or_else(|| told(&body)), &body, ids.sent());
        }
        Role::Hang => std::future::pending().await,
    }
    Ok(response)
}

/// The payload within what the Redis source makes of an entry: `["payload","…"]`.
fn unwrapped(body: Bytes) -> Bytes {
    if !body.starts_with(b"[") {
        return body;
    }
    let fields: Result<[String; 2], _> = serde_json::from_slice(&body);
    fields.map_or(body, |[_, payload]| payload.into())
}

/// The id that a payload tells, for events whose own ids were given by where they came from.
fn told(body: &[u8]) -> Option<u64> {
    let rest = body.strip_prefix(b"{\"id\":")?;
    let digits = rest.split(|byte| *byte == b',').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
