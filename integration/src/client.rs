//! The small HTTP client of the commands: finds the mesh, asks, and turns refusals into sentences.

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use url::Url;

use crate::cli::MeshArgs;
use crate::config;
use crate::endpoints::Endpoints;

/// Largest answer read into memory: a page of parked letters of the largest default event size fits with room to spare.
const MAX_ANSWER: usize = 128 << 20;

/// Which listener a command talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Events and web hooks.
    Events,
    /// Health, metrics, admin.
    Api,
}

/// A client for one listener of one mesh.
#[derive(Clone, Debug)]
pub struct Client {
    base: Url,
    pool: Pool<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// Finds the mesh by `--server`, else through its data directory.
    ///
    /// # Errors
    /// When there is none, with what to do about it.
    pub fn find(mesh: &MeshArgs, listener: Listener) -> anyhow::Result<Self> {
        if let Some(server) = &mesh.server {
            return Ok(Self::new(server.clone()));
        }
        let data = match &mesh.data {
            Some(data) => data.clone(),
            None => config::default_data()?,
        };
        let endpoints = Endpoints::read(&data)?;
        let base = match listener {
            Listener::Events => endpoints.events,
            Listener::Api => endpoints.api,
        };
        Ok(Self::new(base.parse().with_context(|| format!("endpoint {base}"))?))
    }

    /// A client for `base`.
    #[must_use]
    pub fn new(base: Url) -> Self {
        Self { base, pool: Pool::builder(TokioExecutor::new()).build_http() }
    }

    /// Where it talks to.
    #[must_use]
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The URL of `path` with a query.
    ///
    /// # Errors
    /// When the base URL cannot carry a path.
    pub fn url(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Url> {
        let mut url = self.base.join(path).with_context(|| format!("{} with {path}", self.base))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// Sends a request whose answer is streamed by the caller.
    ///
    /// # Errors
    /// When the mesh cannot be reached, or refuses (with its sentence).
    pub async fn open(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        let response = self.pool.request(request).await.with_context(|| {
            format!("cannot reach the mesh at {}: is `weft up` running?", self.base)
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = read(response).await.unwrap_or_default();
        anyhow::bail!("{}", refusal(status, &body));
    }

    /// Sends a request and reads the JSON answer as it is.
    ///
    /// # Errors
    /// When the mesh cannot be reached, or refuses.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(self.url(path, query)?.as_str())
            .header(header::ACCEPT, "application/json")
            .body(Full::default())?;
        read(self.open(request).await?).await
    }
}

/// An answer as what it should be.
///
/// # Errors
/// When it is something else.
pub fn parse<'a, T: serde::Deserialize<'a>>(answer: &'a [u8]) -> anyhow::Result<T> {
    serde_json::from_slice(answer).context("parse the mesh's answer")
}

async fn read(response: Response<Incoming>) -> anyhow::Result<Bytes> {
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    Ok(body.map_err(|error| anyhow::anyhow!("read the mesh's answer: {error}"))?.to_bytes())
}

fn refusal(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() { format!("the mesh answered {status}") } else { text.to_owned() }
}
