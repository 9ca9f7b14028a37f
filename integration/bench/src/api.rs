//! The mesh's API as the bench uses it: one request at a time on a connection, and watches.

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::mesh::Mesh;

/// One connection to the API.
#[derive(Debug)]
pub(crate) struct Api {
    host: String,
    token: String,
    connection: SendRequest<Full<Bytes>>,
}

impl Api {
    /// Connects.
    ///
    /// # Errors
    /// When the mesh does not listen.
    pub(crate) async fn connect(mesh: &Mesh) -> anyhow::Result<Self> {
        let token = std::fs::read_to_string(mesh.data().join("api/token"))?;
        let stream = TcpStream::connect(&mesh.api).await?;
        stream.set_nodelay(true)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn(driver);
        Ok(Self { host: mesh.api.clone(), token, connection })
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Response<Incoming>> {
        let body = if body.is_null() { Bytes::new() } else { serde_json::to_vec(body)?.into() };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        self.connection.ready().await?;
        Ok(self.connection.send_request(request).await?)
    }

    /// Asks and reads the whole answer.
    ///
    /// # Errors
    /// When it is refused.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.tell(method, path, body).await?).context("JSON")
    }

    /// The same without looking at what the answer says.
    ///
    /// # Errors
    /// When it is refused.
    pub(crate) async fn tell(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Bytes> {
        let response = self.send(method.clone(), path, body).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{method} {path}: {}", String::from_utf8_lossy(&bytes));
        Ok(bytes)
    }

    /// Watches from a version on.
    ///
    /// # Errors
    /// When it is refused.
    pub(crate) async fn watch(mut self, path: &str, version: &str) -> anyhow::Result<Watch> {
        let path = format!("{path}?watch=true&resourceVersion={version}");
        let response = self.send(Method::GET, &path, &Value::Null).await?;
        ensure!(response.status().is_success(), "watch: {}", response.status());
        Ok(Watch { body: response.into_body(), read: BytesMut::new(), _api: self })
    }
}

/// A watch under way.
#[derive(Debug)]
pub(crate) struct Watch {
    body: Incoming,
    read: BytesMut,
    _api: Api,
}

impl Watch {
    /// Version and type of the next event.
    ///
    /// # Errors
    /// When the watch ends.
    pub(crate) async fn next(&mut self) -> anyhow::Result<(u64, String)> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let event: Value = serde_json::from_slice(&self.read.split_to(end + 1))?;
                let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
                let version = text("/object/metadata/resourceVersion").context("a version")?;
                let kind = text("/type").context("a type")?.to_owned();
                return Ok((version.parse()?, kind));
            }
            let frame = self.body.frame().await.context("the watch ended")??;
            if let Ok(data) = frame.into_data() {
                self.read.extend_from_slice(&data);
            }
        }
    }
}

/// Where config maps are.
pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Where triggers are.
pub(crate) const TRIGGERS: &str = "/apis/eventing.knative.dev/v1/namespaces/default/triggers";

/// A config map of about a kilobyte.
#[must_use]
pub(crate) fn map(name: &str, turn: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"turn": turn.to_string(), "text": "x".repeat(1000)},
    })
}

/// A trigger of the default broker for one type of events.
#[must_use]
pub(crate) fn trigger(name: &str, subscriber: &str) -> Value {
    json!({
        "apiVersion": "eventing.knative.dev/v1", "kind": "Trigger", "metadata": {"name": name},
        "spec": {
            "broker": "default",
            "filters": [{"exact": {"type": name}}],
            "subscriber": {"uri": format!("http://{subscriber}/")},
        },
    })
}
