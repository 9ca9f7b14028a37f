//! Deliveries as GitLab makes them, and as it does not.

use std::collections::BTreeSet;
use std::sync::Arc;

use broker_event::Value;
use bytes::Bytes;
use crds::condition::WEBHOOK_CONFIGURED;
use crds::secret_ref::SecretValueFromSource;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};

use super::{GitLabSource, Receiver};
use crate::emit::EmitError;
use crate::given::{Given, Necessity, Need};
use crate::secret::Secret;
use crate::source::{About, Source, fake};
use crate::webhook::Registration;

const TOKEN: &str = "it-is-a-secret-to-everybody";
const SOURCE: &str = "https://gitlab.example.com/acme/shop";
const KEY: &str = "f5e5f430-f57b-4e6e-9fac-d9128cd7232f";
const UUID: &str = "13792a34-cac6-4fda-95a8-c58e00a3954e";
/// With what a re-encoding would lose: blanks, an escape, an exponent, a number beyond 64 bits, a doubled key.
const BODY: &[u8] =
    b" {\"object_kind\" : \"merge_request\",\"object_attributes\":{\"id\":99,\"iid\":1},\
    \"x\":\"\\u00e9\",\"n\":[1e2, 123456789012345678901234567890],\"x\":null}\n";

/// A receiver at `/sources/default/one`.
struct World {
    inner: fake::World,
    _registration: Registration,
}

/// A delivery in the making.
struct Delivery {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

fn world() -> World {
    let inner = fake::World::new();
    let (ctx, _) = inner.context("GitLabSource");
    let receiver = Receiver { source: SOURCE.to_owned(), token: Secret::new(TOKEN), ctx };
    let hooks = &inner.hooks;
    let registration =
        hooks.register(&"default".into(), &"one".into(), Arc::new(receiver)).unwrap();
    World { inner, _registration: registration }
}

impl World {
    async fn send(&self, delivery: Delivery) -> (StatusCode, HeaderMap, String) {
        let mut request = http::Request::new(Full::new(delivery.body));
        *request.method_mut() = delivery.method;
        *request.headers_mut() = delivery.headers;
        let (parts, body) = self.inner.hooks.serve("default", "one", request).await.into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(text.to_vec()).unwrap())
    }

    /// Sends a delivery that should be accepted; returns the event.
    async fn accepted(&self, delivery: Delivery) -> broker_event::Event {
        let (status, _, text) = self.send(delivery).await;
        assert_eq!((status.as_u16(), text.as_str()), (202, "accepted"));
        self.inner.recorder.taken().pop().unwrap()
    }

    /// Sends a delivery that should be refused as a bad request; returns the sentence.
    async fn refused(&self, delivery: Delivery) -> String {
        let (status, _, text) = self.send(delivery).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        assert!(self.inner.recorder.taken().is_empty());
        assert!(!text.contains(TOKEN));
        text
    }
}

impl Delivery {
    fn of(event: &str, body: impl Into<Bytes>) -> Self {
        let bare = Self { method: Method::POST, headers: HeaderMap::new(), body: body.into() };
        bare.header("x-gitlab-event", event)
            .header("x-gitlab-token", TOKEN)
            .header("idempotency-key", KEY)
            .header("x-gitlab-event-uuid", UUID)
            .header("x-gitlab-instance", "https://gitlab.example.com")
            .header("content-type", "application/json")
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
    let event = world().accepted(Delivery::of("Merge Request Hook", BODY)).await;
    assert_eq!(event.ty(), "dev.knative.sources.gitlab.merge_request");
    assert_eq!(event.source(), SOURCE);
    assert_eq!(event.id(), KEY);
    assert_eq!(event.subject(), Some("1"));
    assert_eq!(event.time(), None);
    assert_eq!(event.data_content_type(), Some("application/json"));
    let extensions: Vec<_> = event.extensions().collect();
    assert_eq!(extensions, [("comgitlabevent", &Value::from("Merge Request Hook"))]);
    assert_eq!(event.data().unwrap(), BODY);
}

/// The headers and the parts of payloads are those of GitLab's page on the events of web hooks.
#[tokio::test]
async fn every_event_has_its_type_and_subject() {
    let world = world();
    let attributes = r#"{"object_attributes":{"id":301,"iid":23}}"#;
    let of_token = r#"{"object_kind":"access_token","object_attributes":{"user_id":90,"id":25}}"#;
    let comment =
        |on: &str| format!(r#"{{"object_attributes":{{"id":1243,"noteable_id":7}},{on}}}"#);
    let cases: &[(&str, &str, &str, Option<&str>)] = &[
        ("Push Hook", r#"{"ref":"refs/heads/main"}"#, "push", Some("refs/heads/main")),
        ("Tag Push Hook", r#"{"ref":"refs/tags/v1"}"#, "tag_push", Some("refs/tags/v1")),
        ("Issue Hook", attributes, "issue", Some("23")),
        ("Confidential Issue Hook", attributes, "confidential_issue", Some("23")),
        ("Merge Request Hook", attributes, "merge_request", Some("23")),
        ("Milestone Hook", attributes, "milestone", Some("23")),
        ("Pipeline Hook", attributes, "pipeline", Some("23")),
        ("Pipeline Hook", r#"{"object_attributes":{"id":31}}"#, "pipeline", Some("31")),
        ("Note Hook", &comment(r#""merge_request":{"iid":1}"#), "note", Some("1")),
        ("Note Hook", &comment(r#""issue":{"iid":17}"#), "note", Some("17")),
        ("Note Hook", &comment(r#""commit":{"id":"cfe32cf6"}"#), "note", Some("cfe32cf6")),
        (
            "Confidential Note Hook",
            &comment(r#""snippet":{"id":53}"#),
            "confidential_note",
            Some("53"),
        ),
        ("Emoji Hook", r#"{"object_attributes":{"awardable_id":363}}"#, "emoji", Some("363")),
        ("Job Hook", r#"{"object_kind":"build","build_id":1977}"#, "job", Some("1977")),
        ("Build Hook", r#"{"object_kind":"build","build_id":1977}"#, "build", Some("1977")),
        ("Deployment Hook", r#"{"deployment_id":15}"#, "deployment", Some("15")),
        (
            "Wiki Page Hook",
            r#"{"object_attributes":{"slug":"awesome"}}"#,
            "wiki_page",
            Some("awesome"),
        ),
        ("Release Hook", r#"{"id":1,"tag":"v1.1"}"#, "release", Some("v1.1")),
        (
            "Feature Flag Hook",
            r#"{"object_attributes":{"id":6,"name":"dark"}}"#,
            "feature_flag",
            Some("dark"),
        ),
        ("Member Hook", r#"{"user_username":"jo","user_id":64}"#, "member", Some("jo")),
        ("Subgroup Hook", r#"{"full_path":"a/b"}"#, "subgroup", Some("a/b")),
        ("Project Hook", r#"{"path_with_namespace":"a/c"}"#, "project", Some("a/c")),
        ("Resource Access Token Hook", of_token, "resource_access_token", Some("25")),
        ("Resource Deploy Token Hook", of_token, "resource_deploy_token", Some("25")),
        ("Vulnerability Hook", r#"{"object_attributes":{"title":"XSS"}}"#, "vulnerability", None),
        ("Something New Hook", "{}", "something_new", None),
    ];
    for (name, body, ty, subject) in cases {
        let event = world.accepted(Delivery::of(name, (*body).to_owned())).await;
        assert_eq!(event.ty(), format!("dev.knative.sources.gitlab.{ty}"));
        assert_eq!(event.subject(), *subject, "{name}");
        assert_eq!(event.extension("comgitlabevent"), Some(&Value::from(*name)));
    }
}

#[tokio::test]
async fn an_id_stays_when_a_delivery_is_sent_again_and_differs_otherwise() {
    let world = world();
    let push = |body: &'static str| Delivery::of("Push Hook", body).without("idempotency-key");
    let with_uuid = world.accepted(push("{}")).await;
    assert!(with_uuid.id().starts_with(&format!("{UUID}-")), "{}", with_uuid.id());
    assert_eq!(world.accepted(push("{}")).await.id(), with_uuid.id());
    // The deliveries that one request to GitLab caused share the UUID.
    let other = world.accepted(push(r#"{"ref":"refs/heads/a"}"#)).await;
    assert_ne!(other.id(), with_uuid.id());
    let old = |body: &'static str| push(body).without("x-gitlab-event-uuid");
    let hashed = world.accepted(old("{}")).await;
    let sha256 = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!(hashed.id(), sha256);
    assert_ne!(world.accepted(old("{ }")).await.id(), sha256);
}

#[tokio::test]
async fn who_does_not_know_the_token_is_refused() {
    let world = world();
    let push = || Delivery::of("Push Hook", "{}");
    assert!(world.refused(push().without("x-gitlab-token")).await.contains("is missing"));
    for wrong in ["", "x", "it-is-a-secret-to-everybody!", "It-is-a-secret-to-everybody"] {
        let text = world.refused(push().header("x-gitlab-token", wrong)).await;
        assert_eq!(text, "X-Gitlab-Token is not the secret token of this source\n");
    }
    let mut odd = push();
    let bytes = http::HeaderValue::from_bytes(b"\xff").unwrap();
    odd.headers.insert("x-gitlab-token", bytes);
    world.refused(odd).await;
}

#[tokio::test]
async fn a_token_need_not_be_ascii() {
    let inner = fake::World::new();
    let (ctx, _) = inner.context("GitLabSource");
    let receiver = Receiver { source: SOURCE.to_owned(), token: Secret::new("pässword"), ctx };
    let hooks = inner.hooks.clone();
    let registration =
        hooks.register(&"default".into(), &"one".into(), Arc::new(receiver)).unwrap();
    let world = World { inner, _registration: registration };
    let mut push = Delivery::of("Push Hook", "{}");
    let token = http::HeaderValue::from_bytes("pässword".as_bytes()).unwrap();
    push.headers.insert("x-gitlab-token", token);
    world.accepted(push).await;
}

#[tokio::test]
async fn what_gitlab_does_not_send_is_refused() {
    let world = world();
    let missing = Delivery::of("Push Hook", "{}").without("x-gitlab-event");
    assert!(world.refused(missing).await.contains("X-Gitlab-Event is missing"));
    let system = world.refused(Delivery::of("System Hook", "{}")).await;
    assert_eq!(system, "system hooks are not supported\n");
    let long = format!("{} Hook", "a".repeat(80));
    for odd in ["Push", "Hook", " Hook", "push_hook", "Push/Hook Hook", "Push: Hook", &long] {
        world.refused(Delivery::of(odd, "{}")).await;
    }
    for name in ["idempotency-key", "x-gitlab-event-uuid"] {
        let base = || Delivery::of("Push Hook", "{}").without("idempotency-key");
        world.refused(base().header(name, &"a".repeat(200))).await;
        world.refused(base().header(name, "a b")).await;
    }
}

#[tokio::test]
async fn what_is_no_json_object_is_refused() {
    let world = world();
    for body in [&b""[..], b"[]", b"null", b"7", b"{", b"{}}", b"{\"a\":\"\xff\"}"] {
        let text = world.refused(Delivery::of("Push Hook", body)).await;
        assert!(text.starts_with("the payload is not"), "{text}");
    }
}

#[tokio::test]
async fn only_post_is_allowed() {
    let world = world();
    for method in [Method::GET, Method::PUT, Method::HEAD] {
        let delivery = Delivery { method, ..Delivery::of("Push Hook", "{}") };
        let (status, headers, _) = world.send(delivery).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(headers["allow"], "POST");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_away_is_waited_for_and_what_it_refuses_is_parked() {
    let world = world();
    let push = || Delivery::of("Push Hook", "{}");
    let away = || EmitError::Unavailable { reason: "no broker".to_owned() };
    world.inner.recorder.fail_with([away(), away(), away()]);
    world.accepted(push()).await;
    world.inner.recorder.always(Some(away()));
    let before = tokio::time::Instant::now();
    let (status, headers, text) = world.send(push()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, "the sink did not take the event within 7s\n");
    assert_eq!((headers["retry-after"].as_bytes(), before.elapsed().as_secs()), (&b"30"[..], 7));
    world.inner.recorder.always(Some(EmitError::Refused { reason: "too large".to_owned() }));
    let (status, _, text) = world.send(push()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{text}");
    let parked = world.inner.parked.0.lock().unwrap();
    assert_eq!((parked.len(), parked[0].1.id()), (1, KEY));
}

#[tokio::test]
async fn a_source_without_its_secret_does_not_run() {
    let world = fake::World::new();
    let (ctx, _) = world.context("GitLabSource");
    let error = GitLabSource::default().run(ctx).await.unwrap_err();
    assert_eq!(error.to_string(), "secretToken: it is missing");
}

#[tokio::test]
async fn a_stop_ends_it_and_gives_the_path_back() {
    let mut world = fake::World::new();
    world.given = [("secretToken", Secret::new(TOKEN))].into_iter().collect();
    let (ctx, board) = world.context("GitLabSource");
    ctx.stop.cancel();
    GitLabSource { project_url: SOURCE.to_owned(), ..GitLabSource::default() }
        .run(ctx)
        .await
        .unwrap();
    let hooks = &world.hooks;
    let (ctx, _) = world.context("GitLabSource");
    let receiver = Receiver { source: String::new(), token: Secret::new(TOKEN), ctx };
    hooks.register(&"default".into(), &"one".into(), Arc::new(receiver)).unwrap();
    let conditions = crate::status::fake::only(&board).conditions;
    let configured =
        conditions.iter().find(|condition| condition.name == WEBHOOK_CONFIGURED).unwrap();
    assert_eq!(configured.message, "accessToken: it is missing");
}

#[test]
fn the_access_token_is_asked_for_where_it_is_used() {
    let source = GitLabSource {
        access_token: Some(SecretValueFromSource::at("gitlab", "accessToken")),
        secret_token: Some(SecretValueFromSource::at("gitlab", "secretToken")),
        ca_cert: Some(SecretValueFromSource::at("gitlab", "ca.crt")),
        ..GitLabSource::default()
    };
    let fields = |about: &About| {
        let needs = source.needs(about).into_iter();
        needs
            .map(|need: Need| (need.field.into_owned(), need.necessity == Necessity::Wanted))
            .collect::<Vec<_>>()
    };
    let all = [("secretToken", false), ("accessToken", true), ("caCert", true)]
        .map(|(field, wanted)| (field.to_owned(), wanted));
    assert_eq!(fields(&fake::about()), all);
    assert!(source.leaves_traces(&fake::about()));
    let mut by_hand = fake::about();
    by_hand.annotations.insert("weft.dev/register".to_owned(), "false".to_owned());
    assert_eq!(fields(&by_hand), all[..1]);
    assert!(!source.leaves_traces(&by_hand));
}

#[test]
fn the_status_names_each_type_once() {
    let events = ["push_events", "merge_requests_events", "push_events"];
    let source = GitLabSource {
        project_url: SOURCE.to_owned(),
        event_types: events.map(str::to_owned).to_vec(),
        ..GitLabSource::default()
    };
    let attributes = source.attributes(&fake::about(), &Given::default());
    let types: BTreeSet<_> = attributes.iter().map(|one| one.kind.as_str()).collect();
    let expected = ["dev.knative.sources.gitlab.merge_request", "dev.knative.sources.gitlab.push"];
    assert_eq!(attributes.len(), 2);
    assert_eq!(types, expected.into());
    assert!(attributes.iter().all(|one| one.source == SOURCE));
}

#[test]
fn debug_shows_no_secret() {
    let world = fake::World::new();
    let (ctx, _) = world.context("GitLabSource");
    let receiver = Receiver { source: SOURCE.to_owned(), token: Secret::new(TOKEN), ctx };
    assert!(!format!("{receiver:?}").contains(TOKEN));
}
