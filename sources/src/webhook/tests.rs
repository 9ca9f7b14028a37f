//! Requests find their source, wait for it, and are bounded.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};

use super::{Accepted, Hook, Hooks, MAX_BODY, MAX_HELD, Refusal, Registration, Request};
use crate::metrics::Metrics;

/// Answers with the length of the body; refuses DELETE before reading it.
#[derive(Debug)]
struct Length;

impl Hook for Length {
    fn admit(&self, method: &Method, _: &HeaderMap) -> Result<(), Refusal> {
        match *method {
            Method::DELETE => Err(Refusal::Method { allowed: Method::POST }),
            _ => Ok(()),
        }
    }

    fn handle(&self, request: Request) -> BoxFuture<'_, Result<Accepted, Refusal>> {
        let length = request.body.len().to_string();
        async move { Err(Refusal::Malformed(length)) }.boxed()
    }
}

/// Never answers.
#[derive(Debug)]
struct Silent;

impl Hook for Silent {
    fn handle(&self, _: Request) -> BoxFuture<'_, Result<Accepted, Refusal>> {
        std::future::pending().boxed()
    }
}

/// Hooks of a mesh that has started.
fn hooks() -> Hooks {
    let hooks = Hooks::new(Metrics::default());
    hooks.know();
    hooks
}

fn register(hooks: &Hooks, hook: impl Hook) -> Registration {
    hooks.register(&"ns".into(), &"one".into(), Arc::new(hook)).unwrap()
}

fn post(body: impl Into<Bytes>) -> http::Request<Full<Bytes>> {
    http::Request::post("/").body(Full::new(body.into())).unwrap()
}

async fn text(response: Response<Full<Bytes>>) -> (StatusCode, String) {
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn requests_find_their_source_by_path() {
    let hooks = hooks();
    let _registration = register(&hooks, Length);
    let (status, body) = text(hooks.serve("ns", "one", post("hello")).await).await;
    assert_eq!((status.as_u16(), body.as_str()), (400, "5\n"));
    let (status, body) = text(hooks.serve("ns", "two", post("hello")).await).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body, "there is no web hook source ns/two\n");
}

#[tokio::test]
async fn a_dropped_registration_receives_nothing() {
    let hooks = hooks();
    drop(register(&hooks, Length));
    assert_eq!(hooks.serve("ns", "one", post("")).await.status(), StatusCode::NOT_FOUND);
    drop(register(&hooks, Length));
}

#[tokio::test]
async fn a_path_has_one_source() {
    let hooks = hooks();
    let _first = register(&hooks, Length);
    let taken = hooks.register(&"ns".into(), &"one".into(), Arc::new(Length)).unwrap_err();
    assert_eq!(taken.to_string(), "another source receives the requests of /sources/ns/one");
    assert_eq!(hooks.serve("ns", "one", post("")).await.status().as_u16(), 400);
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_an_announced_source() {
    let hooks = hooks();
    hooks.expect("ns", "one");
    let serving = hooks.serve("ns", "one", post("abc"));
    let mut serving = std::pin::pin!(serving);
    assert!(serving.as_mut().now_or_never().is_none());
    let _registration = register(&hooks, Length);
    assert_eq!(text(serving.await).await.1, "3\n");
}

#[tokio::test(start_paused = true)]
async fn requests_wait_until_the_sources_are_known() {
    let hooks = Hooks::new(Metrics::default());
    let mut early = std::pin::pin!(hooks.serve("ns", "one", post("abc")));
    let mut wrong = std::pin::pin!(hooks.serve("ns", "two", post("abc")));
    assert!(early.as_mut().now_or_never().is_none() && wrong.as_mut().now_or_never().is_none());
    let _registration = register(&hooks, Length);
    hooks.know();
    assert_eq!(text(early.await).await.1, "3\n");
    assert_eq!(wrong.await.status(), StatusCode::NOT_FOUND);
    let never = Hooks::new(Metrics::default());
    let response = never.serve("ns", "one", post("abc")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "5");
}

#[tokio::test(start_paused = true)]
async fn an_announced_source_that_never_starts_is_503() {
    let hooks = hooks();
    hooks.expect("ns", "one");
    let response = hooks.serve("ns", "one", post("abc")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "5");
}

#[tokio::test(start_paused = true)]
async fn a_source_removed_while_requests_wait_is_404_at_once() {
    let hooks = hooks();
    hooks.expect("ns", "one");
    let mut serving = std::pin::pin!(hooks.serve("ns", "one", post("abc")));
    assert!(serving.as_mut().now_or_never().is_none());
    hooks.forget("ns", "one");
    let before = tokio::time::Instant::now();
    assert_eq!(serving.await.status(), StatusCode::NOT_FOUND);
    assert!(before.elapsed().is_zero());
}

#[tokio::test(start_paused = true)]
async fn a_mesh_that_stops_keeps_nobody_waiting() {
    let hooks = hooks();
    hooks.expect("ns", "one");
    let mut serving = std::pin::pin!(hooks.serve("ns", "one", post("abc")));
    assert!(serving.as_mut().now_or_never().is_none());
    hooks.close();
    let before = tokio::time::Instant::now();
    assert_eq!(serving.await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        hooks.serve("ns", "one", post("abc")).await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(before.elapsed().is_zero());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_answer_is_503() {
    let hooks = hooks();
    let _registration = register(&hooks, Silent);
    let response = hooks.serve("ns", "one", post("abc")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn what_is_not_admitted_is_not_read() {
    let hooks = hooks();
    let _registration = register(&hooks, Length);
    let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let request = http::Request::delete("/").body(body).unwrap();
    assert_eq!(hooks.serve("ns", "one", request).await.status().as_u16(), 405);
}

#[tokio::test]
async fn bodies_are_taken_up_to_the_limit() {
    let hooks = hooks();
    let _registration = register(&hooks, Length);
    let (status, body) = text(hooks.serve("ns", "one", post(vec![0; MAX_BODY])).await).await;
    assert_eq!((status.as_u16(), body), (400, format!("{MAX_BODY}\n")));
    let response = hooks.serve("ns", "one", post(vec![0; MAX_BODY + 1])).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_cut_off_at_the_limit() {
    let hooks = hooks();
    let _registration = register(&hooks, Length);
    let chunk = Bytes::from(vec![0; 1024 * 1024]);
    let chunks = stream::repeat_with(move || Ok::<_, Infallible>(Frame::data(chunk.clone())));
    let request = http::Request::post("/").body(StreamBody::new(chunks)).unwrap();
    assert_eq!(hooks.serve("ns", "one", request).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(hooks.0.bodies.memory.available_permits(), MAX_HELD);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_dribbles_in_is_cut_off_in_time() {
    let hooks = hooks();
    let _registration = register(&hooks, Length);
    let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let request = http::Request::post("/").body(body).unwrap();
    assert_eq!(hooks.serve("ns", "one", request).await.status(), StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn all_bodies_together_have_a_limit() {
    let hooks = hooks();
    let _registration = register(&hooks, Length);
    let held = hooks.0.bodies.hold(MAX_HELD - 2).unwrap();
    let response = hooks.serve("ns", "one", post("abc")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(held);
    assert_eq!(hooks.serve("ns", "one", post("abc")).await.status().as_u16(), 400);
    assert_eq!(hooks.0.bodies.memory.available_permits(), MAX_HELD);
}
