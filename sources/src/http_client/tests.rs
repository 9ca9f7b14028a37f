//! Answers, refusals and silence, from a server of a few lines.

use std::error::Error as _;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::{Answered, HttpClient, HttpError, Identity, tls};
use crate::secret::Secret;

/// Answers the first request with `answer`, whatever it is; the port it listens on.
async fn server(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    TaskTracker::new().spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert_ne!(stream.read(&mut request).await.unwrap(), 0);
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    format!("http://{address}/token-in-a-path?key=secret")
}

fn get(url: &str) -> Request<Full<Bytes>> {
    Request::get(url).body(Full::default()).unwrap()
}

fn client() -> HttpClient {
    HttpClient::new(&Identity::default()).unwrap()
}

#[tokio::test]
async fn an_answer_of_any_status_is_read() {
    let url = server("HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nnever").await;
    let answer = client().send(get(&url), 100).await.unwrap();
    assert_eq!((answer.status(), answer.body().as_ref()), (StatusCode::NOT_FOUND, &b"never"[..]));
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_not_kept() {
    let url = server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nnever").await;
    let error = client().send(get(&url), 4).await.unwrap_err();
    assert!(matches!(error, HttpError::TooLarge { limit: 4, .. }), "{error}");
}

#[tokio::test]
async fn who_cannot_be_reached_is_named_without_path_and_query() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token?key=secret", listener.local_addr().unwrap());
    drop(listener);
    let error = client().send(get(&url), 100).await.unwrap_err();
    assert!(matches!(error, HttpError::Unreachable { .. }));
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    assert!(text.starts_with("127.0.0.1"), "{text}");
    assert!(!text.contains("token") && !text.contains("secret"), "{text}");
}

#[test]
fn a_refusal_is_shown_on_one_line_and_cut() {
    let body = format!("no\nway\u{1b}[31m {}", "x".repeat(1000));
    let shown = Answered::new("api.example", StatusCode::FORBIDDEN, body.as_bytes()).to_string();
    assert!(shown.starts_with("api.example answered 403 Forbidden: no way [31m xx"), "{shown}");
    assert!(shown.len() < 400);
}

#[test]
fn what_is_no_certificate_or_key_is_named_by_its_field() {
    let authorities = Some(("caCert", "nonsense"));
    let error = tls(&Identity { authorities, ..Identity::default() }).unwrap_err();
    assert_eq!(error.to_string(), "caCert: it does not hold certificates in PEM");
    let key = Secret::new("nonsense");
    let certificate = Some((("cert", "nonsense"), ("key", &key)));
    let error = tls(&Identity { certificate, ..Identity::default() }).unwrap_err();
    assert_eq!(error.to_string(), "key: it is not a private key in PEM");
}
