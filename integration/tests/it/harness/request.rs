//! One HTTP request, one answer.

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// Sends one request on a connection of its own.
pub(crate) async fn send(
    method: &str,
    url: &str,
    headers: &[(String, String)],
    body: impl Into<Bytes>,
) -> Answer {
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).expect("a method"))
        .uri(url);
    for (name, value) in headers {
        request = request.header(name, value.as_bytes());
    }
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = request.body(Full::new(body.into())).expect("a request");
    let response = client.request(request).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}

/// `POST`.
pub(crate) async fn post(
    url: &str,
    headers: &[(String, String)],
    body: impl Into<Bytes>,
) -> Answer {
    send("POST", url, headers, body).await
}

/// `GET`.
pub(crate) async fn get(url: &str) -> Answer {
    send("GET", url, &[], "").await
}

/// Headers of a binary event with a JSON payload.
pub(crate) fn event(ty: &str, id: &str) -> Vec<(String, String)> {
    let pairs = [
        ("ce-specversion", "1.0"),
        ("ce-type", ty),
        ("ce-source", "/test"),
        ("ce-id", id),
        ("content-type", "application/json"),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}
