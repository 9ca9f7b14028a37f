//! `ApiServerSource` in a mesh that has the resources itself: objects are messages. On a real server it is in `cluster`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::contract;
use super::upstream::{Upstream, condition, resource};
use crate::harness::eventually::eventually;
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::services::Services;
use crate::harness::subscriber::{Got, Subscriber};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TO_BROKER: &str = "{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}";

/// Requests at once: the API writes as many in one go.
const AT_ONCE: usize = 64;

/// How long nothing must happen for it to be over.
const QUIET: Duration = Duration::from_secs(1);

/// A client of the API of a mesh.
#[derive(Clone)]
struct Objects(Client<HttpConnector, Full<Bytes>>);

impl Objects {
    fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    /// Asks; whatever the answer is, it is no refusal.
    async fn ask(&self, mesh: &Mesh, method: Method, path: &str, body: &Value) {
        self.send(mesh, method, path, body).await;
    }

    fn send(
        &self,
        mesh: &Mesh,
        method: Method,
        path: &str,
        body: &Value,
    ) -> impl Future<Output = ()> + Send + 'static {
        let token = std::fs::read_to_string(mesh.data().join("api/token")).expect("a token");
        let media = if method == Method::PATCH { "merge-patch+json" } else { "json" };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", mesh.api))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", format!("application/{media}"))
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a request");
        let client = self.0.clone();
        async move {
            let answer = client.request(request).await.expect("an answer");
            let status = answer.status();
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            assert!(status.is_success(), "{status} {body:?}");
            assert_ne!(status, StatusCode::NO_CONTENT);
        }
    }

    async fn create(&self, mesh: &Mesh, name: &str, data: Value) {
        self.ask(mesh, Method::POST, MAPS, &map(name, data)).await;
    }
}

#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn source(spec: &str, sink: &str) -> String {
    format!(
        "---\napiVersion: sources.knative.dev/v1\nkind: ApiServerSource\nmetadata:\n  name: source\n  annotations:\n    weft.dev/start: earliest\nspec:\n  sink: {sink}\n{spec}"
    )
}

impl Upstream for Objects {
    const MODULE: &'static str = "apiserver";

    async fn start(_: Services) -> Self {
        Self::new()
    }

    fn manifest(&self, sink: &str) -> String {
        source("  mode: Resource\n  resources: [{apiVersion: v1, kind: ConfigMap}]\n", sink)
    }

    /// Whoever may write a source here may read everything.
    fn refused(&self, _: &str) -> Option<(String, &'static str)> {
        None
    }

    async fn produce(&self, mesh: &Mesh, numbers: Range<u64>) {
        let mut sent = JoinSet::new();
        for number in numbers {
            if sent.len() == AT_ONCE {
                sent.join_next().await.expect("there is one").expect("it was taken");
            }
            let map = map(&format!("map-{number}"), json!({"number": number.to_string()}));
            sent.spawn(self.send(mesh, Method::POST, MAPS, &map));
        }
        sent.join_all().await;
    }

    fn number(&self, event: &Got) -> Option<u64> {
        let object: Value = serde_json::from_slice(&event.body).ok()?;
        object.pointer("/data/number")?.as_str()?.parse().ok()
    }

    async fn stop(&self) -> bool {
        false
    }

    async fn start_again(&mut self) {}

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    fn check(&self, event: &Got) {
        assert_eq!(event.header("ce-type"), "dev.knative.apiserver.resource.add");
        assert_eq!(event.header("ce-source"), "https://kubernetes.default.svc");
        assert_eq!(event.header("ce-subject"), "/apis/v1/namespaces/default/configmaps/map-7");
        assert_eq!(event.header("ce-apiversion"), "v1");
        assert_eq!(event.header("ce-kind"), "ConfigMap");
        assert_eq!(event.header("ce-name"), "map-7");
        assert_eq!(event.header("ce-namespace"), "default");
        assert_eq!(event.header("content-type"), "application/json");
        let object: Value = serde_json::from_slice(&event.body).expect("JSON");
        assert_eq!((&object["apiVersion"], &object["kind"]), (&json!("v1"), &json!("ConfigMap")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    contract::kept::<Objects>().await;
}

async fn ready(mesh: &Mesh) -> Value {
    eventually("the source to be ready", async || {
        let resource = resource(mesh, Objects::MODULE).await;
        (condition(&resource, "Ready")?.0 == "True").then_some(resource)
    })
    .await
}

/// The last word of the type, and the name of the object.
fn word(event: &Got) -> String {
    let verb = event.header("ce-type").rsplit('.').next().unwrap_or_default();
    format!("{verb} {}", event.header("ce-name"))
}

async fn words(subscriber: &Subscriber, count: usize) -> Vec<String> {
    subscriber.wait(count).await.iter().map(word).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_told_in_order_and_what_happened_before_a_crash_is_not_told_again() {
    let objects = Objects::new();
    let subscriber = Subscriber::start().await;
    let only = "{exact: {name: a}}, {exact: {name: b}}, {exact: {name: c}}";
    let spec = format!(
        "  resources: [{{apiVersion: v1, kind: ConfigMap}}]\n  filters: [{{any: [{only}]}}]\n"
    );
    // One after the other, so that their order can be seen.
    let trigger = trigger("t", &subscriber.url, "", &["weft.dev/parallelism: \"1\""]);
    let yaml = format!("{BROKER}{trigger}{}", source(&spec, TO_BROKER));
    let mut mesh = Mesh::start(&yaml).await;
    let status = ready(&mesh).await;
    assert_eq!(status["status"]["namespaces"], json!(["default"]));
    assert_eq!(condition(&status, "SufficientPermissions").map(|(holds, _)| holds), Some("True"));
    let attributes = &status["status"]["ceAttributes"];
    assert_eq!(attributes[0]["type"], "dev.knative.apiserver.ref.add");
    for name in ["a", "b", "unheard"] {
        objects.create(&mesh, name, json!({})).await;
    }
    let patch = json!({"data": {"x": "y"}});
    objects.ask(&mesh, Method::PATCH, &format!("{MAPS}/a"), &patch).await;
    objects.ask(&mesh, Method::DELETE, &format!("{MAPS}/b"), &json!({})).await;
    assert_eq!(words(&subscriber, 4).await, ["add a", "add b", "update a", "delete b"]);
    let reference =
        json!({"kind": "ConfigMap", "namespace": "default", "name": "a", "apiVersion": "v1"});
    let first = subscriber.got().remove(0);
    assert_eq!(serde_json::from_slice::<Value>(&first.body).unwrap(), reference);
    mesh.kill().await;
    mesh.restart().await;
    objects.create(&mesh, "c", json!({})).await;
    let after = eventually("the last one", async || {
        let words: Vec<String> = subscriber.got().iter().map(word).collect();
        words.iter().any(|word| word == "add c").then_some(words)
    })
    .await;
    // A trigger may deliver again what it had delivered just before the crash; the events are the same.
    let ids: BTreeSet<String> = subscriber.ids().into_iter().collect();
    assert_eq!(ids.len(), 5, "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_a_selector_means_are_watched_once_they_are_there() {
    let objects = Objects::new();
    let subscriber = Subscriber::start().await;
    let spec = "  resources: [{apiVersion: v1, kind: ConfigMap}]\n  namespaceSelector: {matchLabels: {team: shop}}\n";
    let trigger = trigger("t", &subscriber.url, "", &[]);
    let mesh = Mesh::start(&format!("{BROKER}{trigger}{}", source(spec, TO_BROKER))).await;
    objects.create(&mesh, "elsewhere", json!({})).await;
    assert_eq!(ready(&mesh).await["status"]["namespaces"], json!([]));
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "shop-1", "labels": {"team": "shop"}}});
    objects.ask(&mesh, Method::POST, "/api/v1/namespaces", &namespace).await;
    let maps = "/api/v1/namespaces/shop-1/configmaps";
    objects.ask(&mesh, Method::POST, maps, &map("a", json!({}))).await;
    assert_eq!(words(&subscriber, 1).await, ["add a"]);
    eventually("the status to say so", async || {
        let resource = resource(&mesh, Objects::MODULE).await;
        (resource["status"]["namespaces"] == json!(["shop-1"])).then_some(())
    })
    .await;
    objects.ask(&mesh, Method::DELETE, "/api/v1/namespaces/shop-1", &json!({})).await;
    assert_eq!(words(&subscriber, 2).await, ["add a", "delete a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_watches_itself_comes_to_rest() {
    let subscriber = Subscriber::start().await;
    let spec = "  mode: Resource\n  resources:\n  - {apiVersion: sources.knative.dev/v1, kind: ApiServerSource}\n  - {apiVersion: v1, kind: Event}\n";
    let trigger = trigger("t", &subscriber.url, "", &[]);
    let mesh = Mesh::start(&format!("{BROKER}{trigger}{}", source(spec, TO_BROKER))).await;
    ready(&mesh).await;
    subscriber.wait(1).await;
    let (mut count, mut since) = (0, Instant::now());
    eventually("nothing to happen any more", async || {
        let now = subscriber.got().len();
        if now != count {
            (count, since) = (now, Instant::now());
        }
        (since.elapsed() >= QUIET).then_some(())
    })
    .await;
    assert!(count < 30, "{count} events about itself");
}
