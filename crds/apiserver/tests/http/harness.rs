//! A server without a listener, and the client of the tests.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use crds_apiserver::server::{ApiServer, Checks, Config, Limits};
use crds_apiserver::store::{Options, Store};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::tick::CATALOG;

pub(crate) const EVENTING: &str = "/apis/eventing.knative.dev/v1";
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
pub(crate) const TOKEN: &str = "a-token";

/// A server, its store and its directory.
pub(crate) struct Api {
    pub(crate) server: Arc<ApiServer>,
    store: Arc<Store>,
    dir: TempDir,
    collector: Option<(CancellationToken, TaskTracker)>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
}

fn server(dir: &TempDir) -> (Arc<ApiServer>, Arc<Store>) {
    let store = Store::open(&dir.path().join("api.redb"), CATALOG, Options::default()).unwrap();
    let checks = Checks {
        cesql: Box::new(|text| match text {
            // The expressions among the measured cases that do not parse.
            "type = = 'a'" | "NOPE(type)" | "1 + 2" => Err("it is malformed".to_owned()),
            _ => Ok(()),
        }),
    };
    let config = Config {
        token: Some(TOKEN.to_owned()),
        git_version: "v1.36.0+weft.0.1.0".to_owned(),
        checks,
        limits: Limits::default(),
    };
    (ApiServer::new(Arc::clone(&store), config), store)
}

impl Api {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (server, store) = server(&dir);
        Self { server, store, dir, collector: None }
    }

    /// With garbage collection.
    pub(crate) fn collecting() -> Self {
        let mut api = Self::new();
        api.collect();
        api
    }

    pub(crate) fn collect(&mut self) {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(Arc::clone(&self.server).run(stop.clone()));
        tasks.close();
        self.collector = Some((stop, tasks));
    }

    pub(crate) async fn stop(&mut self) {
        if let Some((stop, tasks)) = self.collector.take() {
            stop.cancel();
            timeout(DEADLINE, tasks.wait()).await.expect("the collector stops");
        }
    }

    /// Stops, and opens the same directory again.
    pub(crate) async fn restart(mut self) -> Self {
        self.stop().await;
        self.store.close();
        let Self { server: old, store, dir, .. } = self;
        drop((old, store));
        let (server, store) = server(&dir);
        Self { server, store, dir, collector: None }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response {
        timeout(DEADLINE, self.server.local().oneshot(request)).await.expect("an answer").unwrap()
    }

    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        media: &str,
        body: impl Into<String>,
    ) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media)
            .header("user-agent", "tests/1.0")
            .body(Body::from(body.into()))
            .unwrap();
        read(self.send(request).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.accept(path, "application/json").await
    }

    pub(crate) async fn accept(&self, path: &str, accept: &str) -> Answer {
        let request =
            Request::builder().uri(path).header("accept", accept).body(Body::empty()).unwrap();
        read(self.send(request).await).await
    }

    pub(crate) async fn post(&self, path: &str, object: &Value) -> Answer {
        self.request(Method::POST, path, "application/json", object.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, object: &Value) -> Answer {
        self.request(Method::PUT, path, "application/json", object.to_string()).await
    }

    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Answer {
        let media = "application/merge-patch+json";
        self.request(Method::PATCH, path, media, patch.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Answer {
        let body = if options.is_null() { String::new() } else { options.to_string() };
        self.request(Method::DELETE, path, "application/json", body).await
    }

    /// Makes a `ConfigMap` in `default`.
    pub(crate) async fn config(&self, name: &str, meta: Value) -> Value {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta});
        object["metadata"]["name"] = name.into();
        self.post("/api/v1/namespaces/default/configmaps", &object).await.expect(201)
    }

    /// Makes a Broker in `default`.
    pub(crate) async fn broker(&self, name: &str) -> Value {
        let path = format!("{EVENTING}/namespaces/default/brokers");
        self.post(&path, &broker(name)).await.expect(201)
    }

    /// Waits until a path answers with this status.
    #[track_caller]
    pub(crate) fn until(&self, path: &str, status: u16) -> impl Future<Output = Value> {
        self.until_it(path, move |answer| answer.status == status)
    }

    /// Waits until the answer of a path is as wanted.
    pub(crate) async fn until_it(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = self.get(path).await;
            if wanted(&answer) {
                return answer.body;
            }
            assert!(Instant::now() < deadline, "{path}: {} {}", answer.status, answer.body);
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Opens a watch.
    pub(crate) async fn watch(&self, path: &str) -> Lines {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = self.send(request).await;
        assert_eq!(response.status(), 200);
        Lines { body: response.into_body(), rest: Vec::new() }
    }
}

pub(crate) async fn read(response: Response) -> Answer {
    let (parts, body) = response.into_parts();
    let bytes = timeout(DEADLINE, body.collect()).await.expect("an end").unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes).into_owned()));
    Answer { status: parts.status, headers: parts.headers, body }
}

pub(crate) fn broker(name: &str) -> Value {
    json!({
        "apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": name}, "spec": {},
    })
}

pub(crate) fn trigger(name: &str) -> Value {
    json!({
        "apiVersion": "eventing.knative.dev/v1", "kind": "Trigger", "metadata": {"name": name},
        "spec": {"broker": "default", "subscriber": {"uri": "http://s.example/"}},
    })
}

pub(crate) fn owned_by(owner: &Value, blocks: bool) -> Value {
    json!({"ownerReferences": [{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": blocks,
    }]})
}

/// The lines of a watch.
pub(crate) struct Lines {
    body: Body,
    rest: Vec<u8>,
}

impl Lines {
    /// The next event; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = timeout(DEADLINE, self.body.frame()).await.expect("another event");
            match frame {
                Some(frame) => self.rest.extend(frame.unwrap().into_data().unwrap()),
                None => return None,
            }
        }
    }

    /// The type and the name of the next event.
    pub(crate) async fn told(&mut self) -> (String, String) {
        let event = self.next().await.expect("another event");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}
impl Lines {
    /// The lines of an answer.
    pub(crate) fn of(response: Response) -> Self {
        Self { body: response.into_body(), rest: Vec::new() }
    }
}

/// The one of a list whose field has this value.
pub(crate) fn find<'a>(list: &'a Value, field: &str, value: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter().find(|one| one[field] == value);
    found.unwrap_or_else(|| panic!("{value} is not in {list}"))
}
