//! Deliveries as GitHub makes them, and as it does not.

use std::sync::Arc;

use broker_event::Value;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};

use super::signature::fake::{sha_1, sha_256};
use super::{GitHubSource, Receiver, SECRET_TOKEN};
use crate::emit::EmitError;
use crate::emit::fake::Recorder;
use crate::parking::fake as parking;
use crate::secret::Secret;
use crate::source::{self, Source};
use crate::webhook::{Hooks, Registration};

const SECRET: &str = "it-is-a-secret-to-everybody";
/// With what a re-encoding would lose: blanks, an escape, an exponent, a number beyond 64 bits, a doubled key.
const BODY: &[u8] = b" {\"action\" : \"opened\",\"issue\":{\"number\":1},\"x\":\"\\u00e9\",\
    \"n\":[1e2, 123456789012345678901234567890],\"x\":null}\n";

/// A receiver at `/sources/default/one`.
struct World {
    recorder: Arc<Recorder>,
    parked: Arc<parking::InMemory>,
    hooks: Hooks,
    _registration: Registration,
}

/// A delivery in the making.
struct Delivery {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

fn config(events: &[&str]) -> GitHubSource {
    GitHubSource {
        owner_and_repository: "acme/shop".to_owned(),
        event_types: events.iter().map(|&event| event.to_owned()).collect(),
        ..GitHubSource::default()
    }
}

fn receiver(config: &GitHubSource, world: &source::fake::World) -> Receiver {
    let (ctx, _) = world.context("GitHubSource");
    Receiver::new(config, Secret::new(SECRET), ctx)
}

fn world(events: &[&str]) -> World {
    let inner = source::fake::World::new();
    let receiver = Arc::new(receiver(&config(events), &inner));
    let source::fake::World { recorder, parked, hooks, .. } = inner;
    let registration = hooks.register(&"default".into(), &"one".into(), receiver).unwrap();
    World { recorder, parked, hooks, _registration: registration }
}

impl World {
    async fn send(&self, delivery: Delivery) -> (StatusCode, HeaderMap, String) {
        let mut request = http::Request::new(Full::new(delivery.body));
        *request.method_mut() = delivery.method;
        *request.headers_mut() = delivery.headers;
        let (parts, body) = self.hooks.serve("default", "one", request).await.into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(text.to_vec()).unwrap())
    }

    /// Sends a delivery that should be refused as a bad request; returns the sentence.
    async fn refused(&self, delivery: Delivery) -> String {
        let (status, _, text) = self.send(delivery).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        assert!(self.recorder.taken().is_empty());
        assert!(!text.contains(SECRET));
        text
    }
}

impl Delivery {
    fn of(event: &str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let unsigned = Self { method: Method::POST, headers: HeaderMap::new(), body };
        unsigned
            .header("x-github-event", event)
            .header("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
            .header("content-type", "application/json")
            .signed()
    }

    fn signed(self) -> Self {
        let signature = sha_256(SECRET, &self.body);
        self.header("x-hub-signature-256", &signature)
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    fn without(mut self, name: &'static str) -> Self {
        self.headers.remove(name);
        self
    }
}

#[tokio::test]
async fn a_delivery_becomes_an_event_and_its_bytes_stay() {
    let world = world(&["issues"]);
    let (status, _, text) = world.send(Delivery::of("issues", BODY)).await;
    assert_eq!((status.as_u16(), text.as_str()), (202, "accepted"));
    let event = world.recorder.taken().remove(0);
    assert_eq!(event.ty(), "dev.knative.source.github.issues");
    assert_eq!(event.source(), "https://github.com/acme/shop");
    assert_eq!(event.id(), "72d3162e-cc78-11e3-81ab-4c9367dc0958");
    assert_eq!(event.subject(), Some("1"));
    assert_eq!(event.time(), None);
    assert_eq!(event.data_content_type(), Some("application/json"));
    assert_eq!(event.extension("action"), Some(&Value::from("opened")));
    assert_eq!(event.data().unwrap(), BODY);
}

#[tokio::test]
async fn sha_1_is_enough_where_there_is_no_sha_256() {
    let world = world(&["issues"]);
    let old = |signature: &str| {
        Delivery::of("issues", BODY)
            .without("x-hub-signature-256")
            .header("x-hub-signature", signature)
    };
    let text = world.refused(old(&sha_1("another secret", BODY))).await;
    assert!(text.contains("X-Hub-Signature does not match"), "{text}");
    let (status, _, _) = world.send(old(&sha_1(SECRET, BODY))).await;
    assert_eq!(status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn what_is_not_signed_by_us_is_refused() {
    let world = world(&["issues"]);
    let unsigned = Delivery::of("issues", BODY).without("x-hub-signature-256");
    assert!(world.refused(unsigned).await.contains("not signed"));
    let forged = Delivery::of("issues", BODY)
        .header("x-hub-signature-256", &sha_256("another secret", BODY))
        .header("x-hub-signature", &sha_1(SECRET, BODY));
    assert!(world.refused(forged).await.contains("X-Hub-Signature-256 does not match"));
    let mut changed = Delivery::of("issues", BODY);
    changed.body = Bytes::from_static(b"{}");
    world.refused(changed).await;
}

#[tokio::test]
async fn only_post_is_allowed() {
    let world = world(&["issues"]);
    for method in [Method::GET, Method::PUT, Method::HEAD, Method::OPTIONS] {
        let delivery = Delivery { method, ..Delivery::of("issues", BODY) };
        let (status, headers, _) = world.send(delivery).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(headers["allow"], "POST");
    }
}

#[tokio::test]
async fn missing_headers_are_named() {
    let world = world(&["issues"]);
    for (lower, name) in
        [("x-github-event", "X-GitHub-Event"), ("x-github-delivery", "X-GitHub-Delivery")]
    {
        let text = world.refused(Delivery::of("issues", BODY).without(lower)).await;
        assert!(text.contains(name), "{text}");
        let text = world.refused(Delivery::of("issues", BODY).header(lower, "")).await;
        assert!(text.contains(name), "{text}");
    }
    let long = "a".repeat(200);
    for odd in ["Issues", "a b", "a/b", long.as_str()] {
        world.refused(Delivery::of(odd, BODY)).await;
    }
    world.refused(Delivery::of("issues", BODY).header("x-github-delivery", &long)).await;
}

#[tokio::test]
async fn events_that_were_not_asked_for_are_not_found() {
    let world = world(&["issues"]);
    let (status, _, text) = world.send(Delivery::of("push", BODY)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(text, "Event not found: \"push\" is not one of this source's eventTypes\n");
    assert!(world.recorder.taken().is_empty());
}

#[tokio::test]
async fn a_ping_is_welcome_and_an_event_only_where_asked_for() {
    let ping = || Delivery::of("ping", &b"{\"zen\":\"Design for failure.\",\"hook_id\":30}"[..]);
    let unasked = world(&["issues"]);
    let (status, _, text) = unasked.send(ping()).await;
    assert_eq!((status.as_u16(), text.as_str()), (202, "ignored"));
    assert!(unasked.recorder.taken().is_empty());
    unasked.refused(ping().header("x-hub-signature-256", &sha_256("other", b""))).await;
    let asked = world(&["ping"]);
    asked.send(ping()).await;
    assert_eq!(asked.recorder.taken()[0].subject(), Some("30"));
}

#[tokio::test]
async fn a_star_asks_for_every_event() {
    let world = world(&["*"]);
    let (status, _, _) = world.send(Delivery::of("something_new", BODY)).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(world.recorder.taken()[0].ty(), "dev.knative.source.github.something_new");
}

#[tokio::test]
async fn a_form_is_decoded() {
    let world = world(&["issues"]);
    let form = |body: &'static str| {
        Delivery::of("issues", body)
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
    };
    let (status, _, text) = world.send(form("payload=%7B%22a%22%3A+%22%C3%A9%2B%22%7D&b=c")).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{text}");
    let event = world.recorder.taken().remove(0);
    assert_eq!(event.data().unwrap(), "{\"a\": \"é+\"}");
    assert_eq!(event.data_content_type(), Some("application/json"));
    let (status, _, text) = world.send(form("pay=%7B%7D")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("no field called \"payload\""), "{text}");
}

#[tokio::test]
async fn what_is_no_json_object_is_refused() {
    let world = world(&["issues"]);
    for body in [&b""[..], b"[]", b"null", b"7", b"\"x\"", b"{", b"{}}", b"{\"a\":\"\xff\"}"] {
        let text = world.refused(Delivery::of("issues", body)).await;
        assert!(text.starts_with("the payload is not"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_away_is_waited_for_and_what_it_refuses_is_parked() {
    let world = world(&["issues"]);
    let away = || EmitError::Unavailable { reason: "no broker".to_owned() };
    world.recorder.fail_with([away(), away(), away()]);
    let (status, _, text) = world.send(Delivery::of("issues", BODY)).await;
    assert_eq!((status.as_u16(), text.as_str()), (202, "accepted"));
    assert_eq!(world.recorder.taken().len(), 1);
    world.recorder.always(Some(away()));
    let (status, headers, text) = world.send(Delivery::of("issues", BODY)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, "the sink did not take the event within 7s\n");
    assert_eq!(headers["retry-after"], "30");
    world.recorder.always(Some(EmitError::Refused { reason: "too large".to_owned() }));
    let (status, _, text) = world.send(Delivery::of("issues", BODY)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{text}");
    assert_eq!(world.parked.0.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn without_a_secret_nothing_is_received() {
    let mut world = source::fake::World::new();
    for given in [None, Some("")] {
        world.given = given.map(|text| (SECRET_TOKEN, Secret::new(text))).into_iter().collect();
        let (context, _) = world.context("GitHubSource");
        // Anybody can sign with an empty key.
        let error = config(&["push"]).run(context).await.unwrap_err();
        assert!(error.to_string().starts_with("secretToken: it is "), "{error}");
        assert!(!error.is_retryable());
    }
}

#[test]
fn events_of_an_organisation_come_from_it() {
    let organisation =
        GitHubSource { owner_and_repository: "acme".to_owned(), ..config(&["push"]) };
    let receiver = receiver(&organisation, &source::fake::World::new());
    assert_eq!(receiver.source, "https://github.com/acme");
}

#[test]
fn debug_shows_no_secret() {
    let receiver = receiver(&config(&["push"]), &source::fake::World::new());
    assert!(!format!("{receiver:?}").contains(SECRET));
}
