//! The ingress against a store that remembers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker_event::Event;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use prometheus_client::registry::Registry;

use super::{Ingress, IngressConfig};
use crate::store::{
    AppendError, Selector, Store, StoreError, SubscribeOptions, Subscription, Topic, TopicOptions,
};

/// Knows the broker `bench/b`; keeps what it is given or fails as it is told.
#[derive(Debug, Default)]
struct Keeper {
    kept: Mutex<Vec<Event>>,
    fails: Mutex<Option<AppendError>>,
}

impl Store for Keeper {
    fn declare(&self, _: &Topic, _: TopicOptions) -> Result<(), StoreError> {
        Ok(())
    }

    fn remove(&self, _: &Topic) -> Result<(), StoreError> {
        Ok(())
    }

    fn append<'a>(
        &'a self,
        topic: &'a Topic,
        events: Vec<Event>,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        Box::pin(async move {
            if *topic != Topic::new("bench", "b") {
                return Err(AppendError::UnknownTopic(topic.clone()));
            }
            match self.fails.lock().unwrap().clone() {
                Some(error) => Err(error),
                None => {
                    self.kept.lock().unwrap().extend(events);
                    Ok(())
                }
            }
        })
    }

    fn route(&self, topic: &Topic, _: Arc<dyn Selector>) -> Result<(), StoreError> {
        Err(StoreError::UnknownTopic(topic.clone()))
    }

    fn subscribe(
        &self,
        topic: &Topic,
        _: &str,
        _: SubscribeOptions,
    ) -> Result<Box<dyn Subscription>, StoreError> {
        Err(StoreError::UnknownTopic(topic.clone()))
    }

    fn unsubscribe(&self, _: &Topic, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

struct World {
    store: Arc<Keeper>,
    ingress: Ingress,
}

impl World {
    fn new() -> Self {
        let store = Arc::new(Keeper::default());
        let config = IngressConfig { max_body: 100_000 };
        let ingress = Ingress::new(store.clone(), config, &mut Registry::default());
        Self { store, ingress }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> (u16, String, Response<()>) {
        let (parts, body) = self.ingress.handle(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        (parts.status.as_u16(), text, Response::from_parts(parts, ()))
    }

    fn kept(&self) -> Vec<Event> {
        self.store.kept.lock().unwrap().clone()
    }
}

fn binary(method: &str, path: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("ce-specversion", "1.0")
        .header("ce-type", "t")
        .header("ce-source", "/s")
        .header("ce-id", "1")
        .body(Full::from("{}"))
        .unwrap()
}

#[tokio::test]
async fn methods_and_paths_are_answered_as_knative_does() {
    let world = World::new();
    let cases = [
        ("POST", "/bench/b", 202),
        ("POST", "/bench/b/", 202),
        ("POST", "/bench/b?a=b", 202),
        ("OPTIONS", "/bench/b", 200),
        ("GET", "/bench/b", 405),
        ("PUT", "/bench/b", 405),
        ("DELETE", "/bench/b", 405),
        ("POST", "/", 404),
        ("POST", "/bench/nope", 404),
        ("POST", "/bench", 400),
        ("POST", "/bench/", 400),
        ("POST", "//bench/b", 400),
        ("POST", "/bench/../bench/b", 400),
    ];
    for (method, path, status) in cases {
        let (answered, text, response) = world.send(binary(method, path)).await;
        assert_eq!(answered, status, "{method} {path}: {text}");
        assert_eq!(response.headers()["allow"], "POST, OPTIONS");
        assert_eq!(text.is_empty(), status < 300, "a refusal says why");
    }
    let (_, _, response) = world.send(binary("OPTIONS", "/bench/b")).await;
    assert_eq!(response.headers()["webhook-allowed-origin"], "*");
    assert_eq!(response.headers()["webhook-allowed-rate"], "*");
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_announced_or_not() {
    let world = World::new();
    let mut request = binary("POST", "/bench/b");
    *request.body_mut() = Full::from(vec![b'x'; 100_001]);
    let (status, text, _) = world.send(request).await;
    assert_eq!(status, 413);
    assert!(text.contains("100000 bytes"), "{text}");
    assert!(world.kept().is_empty());
}

#[tokio::test]
async fn what_the_store_refuses_is_refused_with_its_reason() {
    let world = World::new();
    let cases = [
        (
            AppendError::Full {
                reason: "trigger x holds it".into(),
                retry_after: Duration::from_millis(1500),
            },
            Some("2"),
        ),
        (
            AppendError::Unavailable { reason: "stopping".into(), retry_after: Duration::ZERO },
            Some("1"),
        ),
        (AppendError::Failed("EIO".into()), None),
    ];
    for (error, retry) in cases {
        *world.store.fails.lock().unwrap() = Some(error.clone());
        let (status, text, response) = world.send(binary("POST", "/bench/b")).await;
        assert_eq!(status, 503);
        assert_eq!(text.trim_end(), error.to_string());
        let header = response.headers().get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!(header, retry);
    }
}

#[tokio::test]
async fn a_batch_is_taken_whole_or_not_at_all() {
    let world = World::new();
    let batch = |text: &str| {
        Request::post("/bench/b")
            .header("content-type", "application/cloudevents-batch+json")
            .body(Full::from(text.to_owned()))
            .unwrap()
    };
    let good = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let (status, text, _) = world.send(batch(&format!("[{good},{{\"id\":\"2\"}}]"))).await;
    assert_eq!(status, 400, "{text}");
    assert!(world.kept().is_empty());
    assert_eq!(world.send(batch(&format!("[{good},{good}]"))).await.0, 202);
    assert_eq!(world.kept().len(), 2);
    assert_eq!(world.send(batch("[]")).await.0, 202);
}

#[tokio::test]
async fn the_senders_trace_travels_with_the_event() {
    let world = World::new();
    let mut request = binary("POST", "/bench/b");
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    request.headers_mut().insert("traceparent", parent.parse().unwrap());
    assert_eq!(world.send(request).await.0, 202);
    let kept = world.kept();
    assert_eq!(kept[0].extension("traceparent").map(ToString::to_string).as_deref(), Some(parent));
}

/// Cases where Weft differs from Knative's broker, and why.
const ON_PURPOSE: &[(&str, u16)] = &[
    // The mesh's limit on bodies and heads is the listener's; here is no listener.
    ("2 MiB header", 202),
    // Formats nobody here reads are named as such.
    ("cloudevents+avro", 415),
    ("cloudevents+xml", 415),
    // A count of hops that is none would never count down.
    ("ttl not a number", 400),
];

#[tokio::test]
async fn requests_are_answered_as_knatives_broker_answered_them() {
    let world = World::new();
    let vectors: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../../event/tests/ingress.json")).unwrap();
    let mut wrong = Vec::new();
    for case in &vectors {
        let name = case["name"].as_str().unwrap();
        let Some(request) = request(case) else { continue };
        let wanted = ON_PURPOSE.iter().find(|(known, _)| *known == name);
        let wanted = wanted
            .map_or_else(|| case["status"].as_u64().unwrap(), |(_, status)| u64::from(*status));
        let (status, text, _) = world.send(request).await;
        if u64::from(status) != wanted {
            wrong.push(format!("{name}: {status} instead of {wanted}: {text}"));
        }
    }
    assert!(vectors.len() > 50);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The request of a vector; `None` where no client of ours could send it.
fn request(case: &serde_json::Value) -> Option<Request<Full<Bytes>>> {
    let expand = |value: &serde_json::Value| -> String {
        match value {
            serde_json::Value::String(text) => text.clone(),
            other => {
                if let Some(length) = other["json_string_of"].as_u64() {
                    return format!(
                        "{{\"a\":\"{}\"}}",
                        "x".repeat(usize::try_from(length).unwrap() - 8)
                    );
                }
                let times = usize::try_from(other["times"].as_u64().unwrap_or(0)).unwrap();
                other["repeat"].as_str().unwrap_or_default().repeat(times)
            }
        }
    };
    let mut request = Request::builder()
        .method(case["method"].as_str().unwrap())
        .uri(case["path"].as_str().unwrap());
    for (name, value) in case["headers"].as_object().unwrap() {
        let value = http::HeaderValue::from_bytes(expand(value).as_bytes()).ok()?;
        request = request.header(name, value);
    }
    request.body(Full::from(expand(&case["body"]))).ok()
}
