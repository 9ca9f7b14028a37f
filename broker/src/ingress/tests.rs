//! The ingress against a store that remembers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker_event::Event;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Bodies, Ingress, IngressConfig, MAX_BATCH, MAX_HEADERS, MAX_PATH};
use crate::server::{Limits, serve};
use crate::store::{
    AppendError, Selector, Store, StoreError, SubscribeOptions, Subscription, Topic, TopicOptions,
};

/// Knows the broker `bench/b`; keeps what it is given or fails as it is told.
#[derive(Debug)]
struct Keeper {
    kept: Mutex<Vec<Event>>,
    fails: Mutex<Option<AppendError>>,
    /// Closed while nothing becomes durable.
    syncs: Semaphore,
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
            let _synced = self.syncs.acquire().await;
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
    registry: Registry,
}

impl World {
    fn new() -> Self {
        let (kept, fails, syncs) = (Mutex::default(), Mutex::default(), Semaphore::new(1));
        let store = Arc::new(Keeper { kept, fails, syncs });
        let (config, mut registry) = (IngressConfig { max_body: 100_000 }, Registry::default());
        let ingress = Ingress::new(store.clone(), config, &mut registry);
        Self { store, ingress, registry }
    }

    async fn send<B>(&self, request: Request<B>) -> (u16, String, Response<()>)
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = self.ingress.handle(request).await.into_parts();
        assert_eq!(parts.headers["allow"], "POST, OPTIONS");
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(text.is_empty(), parts.status.is_success(), "a refusal says why: {text}");
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
        ("HEAD", "/bench/b", 405),
        ("BREW", "/bench/b", 405),
        ("OPTIONS", "*", 200),
        ("POST", "/bench/b?a=/b/c&%00", 202),
        ("POST", "/bench%2Fb", 400),
        ("POST", "/bench/b%2F", 404),
        ("POST", "/%62ench/b", 404),
        ("POST", "http://elsewhere/bench/b", 202),
    ];
    for (method, path, status) in cases {
        let (answered, text, _) = world.send(binary(method, path)).await;
        assert_eq!(answered, status, "{method} {path}: {text}");
    }
    let (_, _, response) = world.send(binary("OPTIONS", "/bench/b")).await;
    assert_eq!(response.headers()["webhook-allowed-origin"], "*");
    assert_eq!(response.headers()["webhook-allowed-rate"], "*");
}

/// A body in chunks, of a length that nobody announced.
fn chunks(
    chunks: Vec<Result<Vec<u8>, &'static str>>,
) -> impl Body<Data = Bytes, Error = Box<dyn std::error::Error + Send + Sync>> {
    let frames = chunks.into_iter().map(|chunk| Ok(Frame::data(Bytes::from(chunk?))));
    StreamBody::new(futures_util::stream::iter(frames))
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_announced_or_not() {
    let world = World::new();
    let announced = binary("POST", "/bench/b").map(|_| Full::from(vec![b'x'; 100_001]));
    let (status, text, _) = world.send(announced).await;
    assert_eq!(status, 413);
    assert!(text.contains("100000 bytes"), "{text}");
    let growing = |count| vec![Ok(vec![b'x'; 1000]); count];
    let endless = binary("POST", "/bench/b").map(|_| chunks(growing(101)));
    assert_eq!(world.send(endless).await.0, 413);
    assert!(world.kept().is_empty());
    let whole = binary("POST", "/bench/b").map(|_| chunks(growing(100)));
    assert_eq!(world.send(whole).await.0, 202);
    assert_eq!(world.kept()[0].data().unwrap(), &vec![b'x'; 100_000]);
}

#[tokio::test]
async fn large_bodies_beyond_the_memory_for_them_are_told_to_come_again() {
    let mut world = World::new();
    world.ingress.bodies = Bodies::within(100_000, 100_000);
    let held = world.ingress.bodies.read(Full::from(vec![0; 100_000])).await.unwrap();
    let large = || binary("POST", "/bench/b").map(|_| Full::from(vec![b'x'; 50_000]));
    let (status, text, response) = world.send(large()).await;
    assert_eq!((status, text.trim_end()), (503, "too many large bodies are arriving at once"));
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(world.send(binary("POST", "/bench/b")).await.0, 202);
    drop(held);
    assert_eq!(world.send(large()).await.0, 202);
}

#[tokio::test]
async fn a_body_that_breaks_off_or_does_not_come_is_refused() {
    let mut world = World::new();
    let broken = binary("POST", "/bench/b").map(|_| chunks(vec![Ok(vec![1]), Err("reset")]));
    let (status, text, _) = world.send(broken).await;
    assert_eq!((status, text.trim_end()), (400, "the body broke off: reset"));
    world.ingress.body_timeout = Duration::from_millis(20);
    let late = futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
    let late = binary("POST", "/bench/b").map(|_| StreamBody::new(late));
    let (status, text, _) = world.send(late).await;
    assert_eq!((status, text.trim_end()), (408, "the body did not arrive in time"));
    assert!(world.kept().is_empty());
}

#[tokio::test]
async fn a_slow_body_costs_its_sender_the_connection_and_nobody_else_anything() {
    let mut world = World::new();
    world.ingress.body_timeout = Duration::from_millis(100);
    let ingress = Arc::new(world.ingress);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move |request| {
        let ingress = Arc::clone(&ingress);
        async move { ingress.handle(request).await }
    };
    let mut server = JoinSet::new();
    server.spawn(serve(listener, None, answer, Limits::default(), CancellationToken::new()));
    let head = "POST /bench/b HTTP/1.1\r\nce-specversion: 1.0\r\nce-type: t\r\nce-source: s\r\nce-id: 1\r\n";
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(format!("{head}Content-Length: 9\r\n\r\n{{").as_bytes()).await.unwrap();
    let mut other = TcpStream::connect(address).await.unwrap();
    let whole = format!("{head}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}");
    other.write_all(whole.as_bytes()).await.unwrap();
    let (mut first, mut second) = (String::new(), String::new());
    other.read_to_string(&mut first).await.unwrap();
    assert!(first.starts_with("HTTP/1.1 202 "), "{first}");
    slow.read_to_string(&mut second).await.unwrap();
    assert!(second.starts_with("HTTP/1.1 408 "), "{second}");
    assert_eq!(world.store.kept.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn heads_over_the_limit_are_refused_with_a_sentence() {
    let world = World::new();
    let with = |length: usize| {
        let mut request = binary("POST", "/bench/b");
        request.headers_mut().insert("ce-myext", "y".repeat(length).parse().unwrap());
        request
    };
    assert_eq!(world.send(with(60_000)).await.0, 202);
    let (status, text, _) = world.send(with(MAX_HEADERS)).await;
    assert_eq!((status, text.trim_end()), (431, "the header fields are larger than 65536 bytes"));
    let path = format!("/bench/{}", "b".repeat(MAX_PATH));
    let (status, text, _) = world.send(binary("POST", &path)).await;
    assert_eq!((status, text.trim_end()), (414, "the path is longer than 512 bytes"));
    assert_eq!(world.kept().len(), 1);
}

#[tokio::test]
async fn the_answer_waits_until_the_event_is_durable() {
    let world = World::new();
    let syncing = world.store.syncs.acquire().await.unwrap();
    let mut answer = std::pin::pin!(world.send(binary("POST", "/bench/b")));
    assert!(futures_util::poll!(answer.as_mut()).is_pending());
    assert!(futures_util::poll!(answer.as_mut()).is_pending());
    drop(syncing);
    assert_eq!(answer.await.0, 202);
}

#[tokio::test]
async fn answers_and_events_are_counted() {
    let world = World::new();
    for path in ["/bench/b", "/bench/b", "/bench/nope"] {
        world.send(binary("POST", path)).await;
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &world.registry).unwrap();
    for line in [
        "ingress_events_total 2",
        "ingress_requests_total{code=\"202\"} 2",
        "ingress_requests_total{code=\"404\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
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
        (AppendError::Failed("EIO".into()), Some("30")),
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
    assert_eq!(world.kept().len(), 2);
}

#[tokio::test]
async fn a_refused_batch_says_which_event_is_to_blame() {
    let world = World::new();
    let batch = |elements: &[&str]| {
        Request::post("/bench/b")
            .header("content-type", "application/cloudevents-batch+json; charset=UTF-8")
            .body(Full::from(format!("[{}]", elements.join(","))))
            .unwrap()
    };
    let good = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let spent =
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","knativebrokerttl":"never"}"#;
    for (elements, status, sentence) in [
        (
            &[good, good, r#"{"id":"3"}"#][..],
            400,
            "event 3 of the batch: attribute specversion is missing",
        ),
        (
            &[good, spent],
            400,
            "event 2 of the batch: knativebrokerttl must be a whole number of hops, not \"never\"",
        ),
        (
            &vec![good; MAX_BATCH + 1],
            413,
            "the body is larger than 100000 bytes, the limit of this mesh",
        ),
        (
            &[good, "7"],
            400,
            "event 2 of the batch: the body is not a CloudEvent in JSON: invalid type: integer `7`, expected an object at line 1 column 1",
        ),
    ] {
        let (answered, text, _) = world.send(batch(elements)).await;
        assert_eq!((answered, text.trim_end()), (status, sentence));
    }
    assert!(world.kept().is_empty());
    let mut single = binary("POST", "/bench/b");
    single.headers_mut().insert("ce-knativebrokerttl", "never".parse().unwrap());
    let (_, text, _) = world.send(single).await;
    assert_eq!(text.trim_end(), "knativebrokerttl must be a whole number of hops, not \"never\"");
}

#[tokio::test]
async fn a_batch_has_a_limit_of_events() {
    let store = Arc::clone(&World::new().store);
    let config = IngressConfig { max_body: 1 << 20 };
    let ingress = Ingress::new(store.clone(), config, &mut Registry::default());
    let event = r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
    for (count, status) in [(MAX_BATCH, 202), (MAX_BATCH + 1, 413)] {
        let request = Request::post("/bench/b")
            .header("content-type", "application/cloudevents-batch+json")
            .body(Full::from(format!("[{}]", vec![event; count].join(","))))
            .unwrap();
        assert_eq!(ingress.handle(request).await.status().as_u16(), status);
    }
    assert_eq!(store.kept.lock().unwrap().len(), MAX_BATCH);
}

#[tokio::test]
async fn what_arrives_is_stamped_whoever_stamped_it_before() {
    let world = World::new();
    let mut request = binary("POST", "/bench/b");
    request.headers_mut().insert("ce-knativearrivaltime", "long ago".parse().unwrap());
    request.headers_mut().insert("ce-knativebrokerttl", "3".parse().unwrap());
    assert_eq!(world.send(request).await.0, 202);
    let kept = world.kept();
    let text = |name| kept[0].extension(name).map(ToString::to_string).unwrap();
    assert_eq!(text(super::TTL), "2");
    let age = jiff::Timestamp::now().duration_since(text(super::ARRIVAL).parse().unwrap());
    assert!((0..60).contains(&age.as_secs()), "{age}");
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
