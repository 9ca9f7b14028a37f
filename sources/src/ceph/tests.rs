//! Notifications as the gateway posts them, and as strangers do.

use std::sync::Arc;

use broker_event::Event;
use bytes::Bytes;
use crds::secret_ref::SecretValueFromSource;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};

use super::{CephGateway, CephSource, MAX_BODY, MAX_RECORDS, Receiver};
use crate::emit::EmitError;
use crate::given::Necessity;
use crate::secret::Secret;
use crate::source::{Source, fake};
use crate::status::fake as status;
use crate::webhook::Registration;

const TOKEN: &str = "it is=a&secret";

/// What a gateway of version 16 posted, with what a re-encoding would lose: blanks and a number beyond 64 bits.
const RECORD: &str = r#"{"eventVersion":"2.2","eventSource":"ceph:s3","awsRegion":"default","eventTime":"2026-11-26T09:13:35.124724Z","eventName":"ObjectCreated:Put","userIdentity":{"principalId":"weft"},"requestParameters":{"sourceIPAddress":""},"responseElements":{"x-amz-request-id":"7387828f-b5e8.4144.7224","x-amz-id-2":"1030-a1-a"},"s3":{"s3SchemaVersion":"1.0","configurationId":"n","bucket":{"name":"photos","ownerIdentity":{"principalId":"weft"},"arn":"arn:aws:s3:default::photos","id":"7387828f.18"},"object":{"key":"a%20b/c.jpg","size":3,"eTag":"37b51d19","versionId":"","sequencer":"99F9E35D", "metadata":[{"key":"x-amz-meta-m","val":"v"}],"tags":[]}},"eventId":"1764148415.124724.37b51d19","opaqueData":"","n":123456789012345678901234567890}"#;

/// A receiver at `/sources/default/one`.
struct World {
    inner: fake::World,
    _registration: Registration,
}

fn world(token: Option<&str>) -> World {
    let inner = fake::World::new();
    let (ctx, _) = inner.context("CephSource");
    let receiver = Receiver { token: token.map(Secret::new), ctx };
    let hooks = &inner.hooks;
    let registration =
        hooks.register(&"default".into(), &"one".into(), Arc::new(receiver)).unwrap();
    World { inner, _registration: registration }
}

impl World {
    async fn send(&self, request: http::Request<Full<Bytes>>) -> (StatusCode, HeaderMap, String) {
        let (parts, body) = self.inner.hooks.serve("default", "one", request).await.into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(text.to_vec()).unwrap())
    }

    async fn post(&self, body: impl Into<Bytes>) -> (StatusCode, String) {
        let (status, _, text) = self.send(post("/", body)).await;
        (status, text)
    }

    /// Posts records that should be accepted; returns their events.
    async fn accepted(&self, records: &[&str]) -> Vec<Event> {
        let before = self.inner.recorder.taken().len();
        let (status, text) = self.post(message(records)).await;
        assert_eq!((status.as_u16(), text.as_str()), (200, "accepted"));
        self.inner.recorder.taken().split_off(before)
    }
}

fn post(uri: &str, body: impl Into<Bytes>) -> http::Request<Full<Bytes>> {
    http::Request::post(uri).body(Full::new(body.into())).unwrap()
}

fn message(records: &[&str]) -> String {
    format!("{{\"Records\":[{}]}}", records.join(","))
}

/// The record with another value of a field, or without it.
fn with(field: &str, value: Option<&str>) -> String {
    let mut record: serde_json::Value = serde_json::from_str(RECORD).unwrap();
    let (parent, name) = field.rsplit_once('/').unwrap();
    let parent = record.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert(name.to_owned(), value.into()),
        None => parent.remove(name),
    };
    record.to_string()
}

#[tokio::test]
async fn a_record_becomes_an_event_and_its_bytes_stay() {
    let event = world(None).accepted(&[RECORD]).await.remove(0);
    assert_eq!(event.ty(), "com.amazonaws.ObjectCreated:Put");
    assert_eq!(event.source(), "ceph:s3.default.photos");
    assert_eq!(event.id(), "1764148415.124724.37b51d19");
    assert_eq!(event.subject(), Some("a%20b/c.jpg"));
    assert_eq!(event.time(), Some("2026-11-26T09:13:35.124724Z"));
    assert_eq!(event.data_content_type(), Some("application/json"));
    assert_eq!(event.extensions().len(), 0);
    assert_eq!(event.data().unwrap(), RECORD);
}

#[tokio::test(start_paused = true)]
async fn the_records_of_a_request_come_together_and_in_order() {
    let world = world(None);
    let second = with("/s3/object/key", Some("second"));
    let events = world.accepted(&[RECORD, &second]).await;
    let subjects: Vec<_> = events.iter().map(Event::subject).collect();
    assert_eq!(subjects, [Some("a%20b/c.jpg"), Some("second")]);
    let away = EmitError::Unavailable { reason: "no broker".to_owned() };
    world.inner.recorder.always(Some(away));
    let (status, text) = world.post(message(&[RECORD, &second])).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    assert_eq!(world.inner.recorder.taken().len(), 2);
}

#[tokio::test]
async fn one_bad_record_spoils_the_request() {
    let world = world(None);
    for (bad, why) in [
        ("7", "Records[1]: the payload is not a JSON object"),
        ("{}", "Records[1]: it has no eventName"),
        (r#"{"eventName":7}"#, "Records[1]: it has no eventName"),
        (r#"{"eventName":""}"#, "Records[1]: it has no eventName"),
    ] {
        let (status, text) = world.post(message(&[RECORD, bad])).await;
        assert_eq!((status, text), (StatusCode::BAD_REQUEST, format!("{why}\n")));
    }
    assert!(world.inner.recorder.taken().is_empty());
}

#[tokio::test]
async fn records_without_an_id_of_their_own_are_told_apart() {
    let world = world(None);
    let bare = with("/eventId", None);
    let ids = async |records: &[&str]| {
        let events = world.accepted(records).await;
        events.iter().map(|event| event.id().to_owned()).collect::<Vec<_>>()
    };
    let request = "7387828f-b5e8.4144.72241030-a1-a";
    assert_eq!(ids(&[&bare, &bare]).await, [request.to_owned(), format!("{request}-1")]);
    let none = r#"{"eventName":"x","s3":{"object":{"key":"a"}}}"#;
    let other = r#"{"eventName":"x","s3":{"object":{"key":"b"}}}"#;
    let hashed = ids(&[none, other]).await;
    assert_eq!(hashed[0].len(), 64);
    assert_ne!(hashed[0], hashed[1]);
    assert_eq!(ids(&[none, other]).await, hashed);
}

#[tokio::test(start_paused = true)]
async fn a_record_with_little_in_it_is_an_event() {
    let world = world(None);
    let event = world
        .accepted(&[r#"{"eventName":"s3:ObjectCreated:Put","eventTime":"yesterday"}"#])
        .await
        .remove(0);
    assert_eq!(event.ty(), "com.amazonaws.s3:ObjectCreated:Put");
    assert_eq!((event.source(), event.subject()), ("..", None));
    assert_eq!(event.time(), Some("1970-01-01T00:00:00Z"));
    let odd = with("/s3/object/key", Some("a\nb"));
    assert_eq!(world.accepted(&[&odd]).await[0].subject(), Some("ab"));
}

#[tokio::test]
async fn what_holds_no_records_is_refused_and_an_empty_list_is_not() {
    let world = world(None);
    for body in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"Records":7}"#,
        r#"{"Records":[]"#,
        r#"{"Event":"s3:TestEvent"}"#,
    ] {
        let (status, text) = world.post(body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(text.starts_with("the body holds no records: "), "{text}");
    }
    let (status, _) = world.post(r#"{"Records":[]}"#).await;
    assert!(status.is_success());
    let many = vec!["{}"; MAX_RECORDS + 1];
    let (status, text) = world.post(message(&many)).await;
    assert_eq!((status.as_u16(), text.as_str()), (400, "the body holds more than 1000 records\n"));
    let (status, _) = world.post(message(&vec!["7"; MAX_BODY / 2])).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(world.inner.recorder.taken().is_empty());
}

#[tokio::test]
async fn only_post_is_allowed() {
    let world = world(None);
    for method in [Method::GET, Method::PUT, Method::OPTIONS] {
        let mut request = post("/", message(&[RECORD]));
        *request.method_mut() = method;
        let (status, headers, _) = world.send(request).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(headers["allow"], "POST");
    }
}

#[tokio::test]
async fn strangers_are_refused_where_there_is_a_secret() {
    let world = world(Some(TOKEN));
    let right = "/?x=1&token=it%20is%3Da%26secret";
    let (status, _, _) = world.send(post(right, message(&[RECORD]))).await;
    assert_eq!(status, StatusCode::OK);
    let mut bearer = post("/", message(&[RECORD]));
    bearer.headers_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    assert_eq!(world.send(bearer).await.0, StatusCode::OK);
    for wrong in ["/", "/?token=", "/?token=it+is%3Da%26secret", "/?tokens=x", "/?token=%ff"] {
        let (status, _, text) = world.send(post(wrong, message(&[RECORD]))).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{wrong}");
        assert!(text.starts_with("the token in the URL") && !text.contains(TOKEN), "{text}");
    }
    let mut wrong = post("/", message(&[RECORD]));
    wrong.headers_mut().insert("authorization", "Bearer it is".parse().unwrap());
    assert_eq!(world.send(wrong).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(world.inner.recorder.taken().len(), 2);
}

#[tokio::test]
async fn a_line_end_after_the_secret_is_not_part_of_it() {
    let world = world(Some("sesame\n"));
    for uri in ["/?token=sesame", "/?token=sesame%0A"] {
        assert_eq!(world.send(post(uri, message(&[RECORD]))).await.0, StatusCode::OK, "{uri}");
    }
    let mut bearer = post("/", message(&[RECORD]));
    bearer.headers_mut().insert("authorization", "Bearer sesame".parse().unwrap());
    assert_eq!(world.send(bearer).await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_the_sink_refuses_is_parked_and_not_posted_for_ever() {
    let world = world(None);
    world.inner.recorder.always(Some(EmitError::Refused { reason: "too large".to_owned() }));
    let (status, _) = world.post(message(&[RECORD])).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(world.inner.parked.0.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn it_says_where_to_post_to_and_ends_when_asked() {
    let world = fake::World::new();
    let (ctx, board) = world.context("CephSource");
    ctx.stop.cancel();
    CephSource::default().run(ctx).await.unwrap();
    let said = status::only(&board);
    assert_eq!(said.facts["url"], "http://mesh.example/sources/default/one");
    assert_eq!(&*said.conditions[0].reason, "NotManaged");
    let secret = Some(SecretValueFromSource::at("ceph", "token"));
    let (ctx, _) = world.context("CephSource");
    let source = CephSource { secret_token: secret, ..CephSource::default() };
    let error = source.run(ctx).await.unwrap_err();
    assert_eq!(error.to_string(), "secretToken: it is missing");
}

#[test]
fn keys_are_asked_for_where_they_are_used() {
    let gateway = CephGateway {
        access_key: Some(SecretValueFromSource::at("ceph", "access")),
        secret_key: Some(SecretValueFromSource::at("ceph", "secret")),
        ..CephGateway::default()
    };
    let source = CephSource {
        secret_token: Some(SecretValueFromSource::at("ceph", "token")),
        gateway: Some(gateway),
        ..CephSource::default()
    };
    let fields = |source: &CephSource, about| {
        let needs = source.needs(&about).into_iter();
        needs
            .map(|need| (need.field.into_owned(), need.necessity == Necessity::Wanted))
            .collect::<Vec<_>>()
    };
    let all = [("secretToken", false), ("gateway.accessKey", true), ("gateway.secretKey", true)]
        .map(|(field, wanted)| (field.to_owned(), wanted));
    assert_eq!(fields(&source, fake::about()), all);
    assert!(source.leaves_traces(&fake::about()));
    let mut by_hand = fake::about();
    by_hand.annotations.insert("weft.dev/register".to_owned(), "false".to_owned());
    assert!(!source.leaves_traces(&by_hand));
    assert_eq!(fields(&source, by_hand), all[..1]);
    assert!(!CephSource { gateway: None, ..source }.leaves_traces(&fake::about()));
}
