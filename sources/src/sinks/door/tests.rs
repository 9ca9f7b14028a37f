//! What senders are answered, with sinks that are scripted.

use std::sync::{Arc, Mutex};

use broker_event::Event;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::{Door, Doors, MAX_UNDER_WAY, busy};
use crate::respond::Refusal;
use crate::sinks::Metrics;
use crate::sinks::sink::Write;

const MAX_BODY: usize = 1 << 10;

/// Remembers the ids of what was written, once it is let.
#[derive(Debug, Default)]
struct Scripted {
    written: Mutex<Vec<String>>,
    outcome: Mutex<Option<Refusal>>,
    waits: bool,
    go: Notify,
}

impl Write for Scripted {
    fn write(&self, events: Vec<Event>) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move {
            if self.waits {
                self.go.notified().await;
            }
            if let Some(refusal) = self.outcome.lock().unwrap().clone() {
                return Err(refusal);
            }
            let ids = events.iter().map(|event| event.id().to_owned());
            self.written.lock().unwrap().extend(ids);
            Ok(())
        })
    }
}

struct World {
    doors: Arc<Doors>,
    door: Arc<Door>,
    events: Counter,
}

/// The sink `ns/one`, whose door is still shut.
fn world() -> World {
    let events = Counter::default();
    let door = Door::new(events.clone());
    let doors = Doors::new(MAX_BODY, Metrics::default());
    doors.replace([("ns/one".to_owned(), Arc::clone(&door))].into());
    World { doors: Arc::new(doors), door, events }
}

const EVENT: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];
const BATCH: [(&str, &str); 1] = [("content-type", "application/cloudevents-batch+json")];

type Headers<'a> = [(&'static str, &'a str)];

fn request(headers: &Headers<'_>, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = Request::post("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

async fn text(response: Response<Full<Bytes>>) -> (u16, HeaderMap, String) {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

async fn post(world: &World, headers: &Headers<'_>, body: &str) -> (u16, String) {
    let (status, _, body) =
        text(world.doors.serve("ns/one", request(headers, body.to_owned())).await).await;
    (status, body)
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_accepted_with_an_empty_answer() {
    let world = world();
    let writer = Arc::new(Scripted::default());
    let _open = world.door.open(writer.clone());
    let (status, headers, body) =
        text(world.doors.serve("ns/one", request(&EVENT, "data")).await).await;
    assert_eq!((status, body.as_str()), (202, ""));
    assert_eq!(headers[header::ALLOW], "POST, OPTIONS");
    let batch = r#"[{"specversion":"1.0","id":"2","source":"/s","type":"t"},{"specversion":"1.0","id":"3","source":"/s","type":"t"}]"#;
    assert_eq!(post(&world, &BATCH, batch).await.0, 202);
    assert_eq!(post(&world, &BATCH, "[]").await.0, 202);
    assert_eq!(*writer.written.lock().unwrap(), ["1", "2", "3"]);
    assert_eq!(world.events.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_event_is_refused_as_a_broker_does() {
    let world = world();
    let writer = Arc::new(Scripted::default());
    let _open = world.door.open(writer.clone());
    let cases: [(&Headers<'_>, &str, u16); 5] = [
        (&[], "data", 400),
        (&EVENT[..3], "data", 400),
        (&[("content-type", "application/cloudevents+avro")], "data", 415),
        (&BATCH, r#"[{"specversion":"1.0","id":"2","source":"/s","type":"t"},{}]"#, 400),
        (&EVENT, &"x".repeat(MAX_BODY + 1), 413),
    ];
    for (headers, body, expected) in cases {
        let (status, said) = post(&world, headers, body).await;
        assert_eq!(status, expected, "{headers:?}: {said}");
        assert!(!said.is_empty());
    }
    let long = "x".repeat(65 << 10);
    let mut headers = EVENT.to_vec();
    headers.push(("ce-long", &long));
    assert_eq!(post(&world, &headers, "").await.0, 413);
    assert!(writer.written.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn other_methods_are_told_which_there_are() {
    let world = world();
    for (method, expected) in [(Method::GET, 405), (Method::PUT, 405), (Method::OPTIONS, 200)] {
        let mut request = request(&EVENT, "");
        *request.method_mut() = method;
        let (status, headers, _) = text(world.doors.serve("ns/one", request).await).await;
        assert_eq!(status, expected);
        assert_eq!(headers[header::ALLOW], "POST, OPTIONS");
        assert_eq!(headers.contains_key("webhook-allowed-rate"), expected == 200);
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_of_the_system_keep_their_meaning() {
    let world = world();
    let writer = Arc::new(Scripted::default());
    let _open = world.door.open(writer.clone());
    for (refusal, expected) in [
        (Refusal::Oversized("large".to_owned()), 413),
        (Refusal::Unacceptable("odd".to_owned()), 422),
        (busy("away"), 503),
    ] {
        *writer.outcome.lock().unwrap() = Some(refusal);
        let (status, headers, _) =
            text(world.doors.serve("ns/one", request(&EVENT, "")).await).await;
        assert_eq!(status, expected);
        assert_eq!(headers.contains_key(header::RETRY_AFTER), expected == 503);
    }
    assert_eq!(world.events.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_connects_meanwhile_takes_what_waited() {
    let world = world();
    let waiting = TaskTracker::new().spawn({
        let doors = Arc::clone(&world.doors);
        async move { text(doors.serve("ns/one", request(&EVENT, "")).await).await.0 }
    });
    tokio::task::yield_now().await;
    let open = world.door.open(Arc::new(Scripted::default()));
    assert_eq!(waiting.await.unwrap(), 202);
    // The successor opens before its predecessor has gone.
    let successor = world.door.open(Arc::new(Scripted::default()));
    drop(open);
    assert_eq!(post(&world, &EVENT, "").await.0, 202);
    drop(successor);
    let (status, said) = post(&world, &EVENT, "").await;
    assert_eq!(status, 503);
    assert!(said.contains("not connected"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_system_that_does_not_answer_is_not_waited_for_for_ever() {
    let world = world();
    let _open = world.door.open(Arc::new(Scripted { waits: true, ..Scripted::default() }));
    let (status, said) = post(&world, &EVENT, "").await;
    assert_eq!(status, 503);
    assert!(said.contains("in time"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn requests_under_way_are_bounded() {
    let world = world();
    let writer = Arc::new(Scripted { waits: true, ..Scripted::default() });
    let _open = world.door.open(writer.clone());
    let tasks = TaskTracker::new();
    let under_way: Vec<_> = (0..MAX_UNDER_WAY)
        .map(|_| {
            let doors = Arc::clone(&world.doors);
            tasks.spawn(async move { doors.serve("ns/one", request(&EVENT, "")).await.status() })
        })
        .collect();
    while world.door.turns.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let (status, said) = post(&world, &EVENT, "").await;
    assert_eq!(status, 503);
    assert!(said.contains("as it may"), "{said}");
    for task in under_way {
        writer.go.notify_one();
        assert_eq!(task.await.unwrap(), 202);
    }
    assert_eq!(world.door.turns.available_permits(), MAX_UNDER_WAY);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_sink_is_not_found_once_all_are_known() {
    let world = world();
    let response = world.doors.serve("ns/two", request(&EVENT, "")).await;
    assert_eq!(response.status(), 404);
    let starting = Doors::new(MAX_BODY, Metrics::default());
    assert_eq!(starting.serve("ns/one", request(&EVENT, "")).await.status(), 503);
    world.doors.close();
    assert_eq!(post(&world, &EVENT, "").await, (503, "the mesh is stopping\n".to_owned()));
}
