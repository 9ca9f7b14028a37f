//! A namespace of an API server, a controller over it, and what the controller told its data plane.

use std::time::Duration;

use crds_controller::{Applied, Config, Controller, DataPlane, Published};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::{MutexGuard, oneshot, watch};
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::harness::eventually::{PATIENCE, eventually};
use crate::harness::servers::{self, Embedded};

/// A pause between two looks at what should not change.
const PAUSE: Duration = Duration::from_millis(100);

/// A namespace of its own on one of the servers. Controllers look at all namespaces, so those of Kubernetes take turns.
pub(super) struct Cluster {
    client: Client,
    pub(super) namespace: String,
    _embedded: Option<Embedded>,
    _alone: Option<MutexGuard<'static, ()>>,
}

impl Cluster {
    pub(super) async fn embedded() -> Self {
        let embedded = Embedded::start();
        let client = embedded.client();
        Self::open(client, Some(embedded), None).await
    }

    pub(super) async fn kubernetes() -> Self {
        let (client, alone) = servers::alone().await;
        Self::open(client, None, Some(alone)).await
    }

    async fn open(
        client: Client,
        embedded: Option<Embedded>,
        alone: Option<MutexGuard<'static, ()>>,
    ) -> Self {
        let namespace = servers::fresh_name("mesh");
        servers::create_namespace(&client, &namespace).await;
        Self { client, namespace, _embedded: embedded, _alone: alone }
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(super) fn controller(&self, plane: Plane) -> Controller<Plane> {
        Controller::new(self.client(), Config::new("http://events"), plane)
    }

    fn path(&self, plural: &str) -> String {
        let group = match plural {
            "events" => "/api/v1",
            "leases" => "/apis/coordination.k8s.io/v1",
            _ => "/apis/eventing.knative.dev/v1",
        };
        format!("{group}/namespaces/{}/{plural}", self.namespace)
    }

    async fn send(&self, method: &str, path: &str, media: &str, body: &str) -> Value {
        let headers = [("content-type", media)];
        let answer = servers::send(&self.client, method, path, &headers, body).await;
        assert!(answer.status < 300, "{method} {path} {body}: {answer:?}");
        answer.body
    }

    pub(super) async fn create(&self, object: &Value) -> Value {
        let plural = format!("{}s", object["kind"].as_str().expect("a kind").to_lowercase());
        self.send("POST", &self.path(&plural), "application/json", &object.to_string()).await
    }

    pub(super) async fn get(&self, plural: &str, name: &str) -> Value {
        self.send("GET", &format!("{}/{name}", self.path(plural)), "application/json", "").await
    }

    pub(super) async fn list(&self, plural: &str) -> Vec<Value> {
        let list = self.send("GET", &self.path(plural), "application/json", "").await;
        list["items"].as_array().cloned().unwrap_or_default()
    }

    pub(super) async fn merge(&self, plural: &str, name: &str, patch: &Value) {
        let path = format!("{}/{name}", self.path(plural));
        self.send("PATCH", &path, "application/merge-patch+json", &patch.to_string()).await;
    }

    pub(super) async fn delete(&self, plural: &str, name: &str) {
        self.send("DELETE", &format!("{}/{name}", self.path(plural)), "application/json", "").await;
    }

    /// The object once it says whether it is ready.
    pub(super) async fn ready(&self, plural: &str, name: &str, status: &str) -> Value {
        eventually(&format!("{plural}/{name} has Ready={status}"), async || {
            let object = self.get(plural, name).await;
            let is = condition(&object, "Ready").is_some_and(|ready| ready["status"] == status);
            is.then_some(object)
        })
        .await
    }

    /// The versions of everything that a controller might write.
    pub(super) async fn versions(&self) -> Vec<String> {
        let mut versions = Vec::new();
        for plural in ["brokers", "triggers", "events"] {
            for object in self.list(plural).await {
                let text = |field: &str| object["metadata"][field].as_str().expect("text");
                versions.push(format!("{plural}/{} {}", text("name"), text("resourceVersion")));
            }
        }
        versions
    }

    /// Checks that nothing is written for that long.
    pub(super) async fn quiet(&self, span: Duration, versions: &[String]) {
        let mut looks = interval(PAUSE);
        let end = Instant::now() + span;
        while Instant::now() < end {
            looks.tick().await;
            assert_eq!(self.versions().await, versions);
        }
    }
}

/// The condition of that type.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// A Broker as admission leaves it.
pub(super) fn broker(name: &str) -> Value {
    json!({
        "apiVersion": "eventing.knative.dev/v1", "kind": "Broker",
        "metadata": {"name": name, "annotations": {"eventing.knative.dev/broker.class": "Weft"}},
        "spec": {},
    })
}

/// A Trigger as admission leaves it.
pub(super) fn trigger(name: &str, broker: &str, uri: &str) -> Value {
    json!({
        "apiVersion": "eventing.knative.dev/v1", "kind": "Trigger", "metadata": {"name": name},
        "spec": {"broker": broker, "filter": {}, "subscriber": {"uri": uri}},
    })
}

/// What a data plane was told of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Names.
    pub(super) brokers: Vec<String>,
    /// As `name: broker → subscriber`.
    pub(super) triggers: Vec<String>,
}

/// A data plane that remembers what it was told of one namespace.
#[derive(Clone)]
pub(super) struct Plane {
    namespace: String,
    told: watch::Sender<(usize, Told)>,
}

impl Plane {
    pub(super) fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), told: watch::Sender::default() }
    }

    /// How often it was told something.
    pub(super) fn times(&self) -> usize {
        self.told.borrow().0
    }

    /// What it was told last, once that is as wanted.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&Told) -> bool) -> Told {
        let mut told = self.told.subscribe();
        let found = timeout(PATIENCE, told.wait_for(|(_, told)| wanted(told))).await;
        assert!(found.is_ok(), "waited for {what}: {:?}", self.told.borrow());
        found.expect("it was asserted").expect("the sender is here").1.clone()
    }
}

impl DataPlane for Plane {
    async fn apply(&self, published: Published) -> Applied {
        let ours = |namespace: &str| namespace == self.namespace;
        let mut told = Told::default();
        for broker in published.snapshot.brokers.iter().filter(|it| ours(&it.topic.namespace)) {
            told.brokers.push(broker.topic.name.to_string());
        }
        for trigger in published.snapshot.triggers.iter().filter(|it| ours(&it.namespace)) {
            let (name, broker, to) = (&trigger.name, &trigger.broker.name, &trigger.subscriber.url);
            told.triggers.push(format!("{name}: {broker} → {to}"));
        }
        self.told.send_modify(|(times, last)| {
            *times += 1;
            *last = told;
        });
        Applied::default()
    }
}

/// A running controller that has seen everything.
pub(super) struct Controlled {
    pub(super) plane: Plane,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Controlled {
    pub(super) async fn start(cluster: &Cluster) -> Self {
        let (plane, stop) = (Plane::new(&cluster.namespace), CancellationToken::new());
        let (synced, in_force) = oneshot::channel();
        let tasks = TaskTracker::new();
        tasks.spawn(cluster.controller(plane.clone()).run(stop.clone(), synced));
        tasks.close();
        let begun = timeout(PATIENCE, in_force).await;
        begun.expect("the world is known in time").expect("the controller runs");
        Self { plane, stop, tasks }
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.tasks.wait()).await.expect("the controller stops");
    }
}
