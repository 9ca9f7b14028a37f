//! The mesh with the resources of a real Kubernetes API server.

mod apiserver;

use std::process::Stdio;

use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::MutexGuard;

use crate::harness::eventually::eventually;
use crate::harness::mesh::weft;
use crate::harness::subscriber::Subscriber;
use crate::harness::{request, servers, services};

/// A namespace of its own on the real server, and the definitions of our kinds.
struct Cluster {
    kubeconfig: String,
    client: Client,
    namespace: String,
    /// No other reconcilers meanwhile.
    _alone: MutexGuard<'static, ()>,
}

fn apply() -> PatchParams {
    PatchParams::apply("story").force()
}

impl Cluster {
    async fn start() -> Self {
        let server = services::up("kube-apiserver").await;
        let kubeconfig = server["kubeconfig"].as_str().expect("a path").to_owned();
        let (client, alone) = servers::alone().await;
        let namespace = servers::fresh_name("story");
        servers::create_namespace(&client, &namespace).await;
        Self { kubeconfig, client, namespace, _alone: alone }
    }

    fn api(&self, kind: &str, plural: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("eventing.knative.dev", "v1", kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    async fn apply(&self, kind: &str, plural: &str, name: &str, spec: Value) {
        let body = json!({"apiVersion": "eventing.knative.dev/v1", "kind": kind,
            "metadata": {"name": name}, "spec": spec});
        let api = self.api(kind, plural);
        api.patch(name, &apply(), &Patch::Apply(&body)).await.expect("it is taken");
    }

    async fn ready(&self, kind: &str, plural: &str, name: &str) -> DynamicObject {
        let api = self.api(kind, plural);
        eventually("it is Ready", async || {
            let object = api.get(name).await.expect("it is there");
            let conditions = object.data["status"]["conditions"].as_array().cloned();
            let is_ready =
                |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
            conditions.is_some_and(|all| all.iter().any(is_ready)).then_some(object)
        })
        .await
    }

    /// `weft controller`, and the address of its events listener.
    async fn controller(&self, dir: &TempDir) -> (Child, String) {
        let any = "127.0.0.1:0";
        let child = weft()
            .args(["controller", "--kubeconfig", &self.kubeconfig])
            .args(["--lease-namespace", &self.namespace])
            .args(["--events", any, "--gateway", any, "--api", any, "--data"])
            .arg(dir.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("weft runs");
        let path = dir.path().join("data/endpoints.json");
        let events = eventually("the controller is ready", async || {
            let found: Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
            found["events"].as_str().map(str::to_owned)
        })
        .await;
        (child, events)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_of_a_cluster_are_in_force_ready_and_go() {
    let subscriber = Subscriber::start().await;
    let cluster = Cluster::start().await;
    let dir = TempDir::new().expect("a directory");
    // No admission of ours fills in a class here.
    cluster.apply("Broker", "brokers", "default", json!({})).await;
    let (mut child, events) = cluster.controller(&dir).await;
    let to = json!({"broker": "default", "subscriber": {"uri": subscriber.url}});
    cluster.apply("Trigger", "triggers", "t", to).await;
    let broker = cluster.ready("Broker", "brokers", "default").await;
    let url = format!("{events}/{}/default", cluster.namespace);
    assert_eq!(broker.data["status"]["address"]["url"], url.as_str());
    let trigger = cluster.ready("Trigger", "triggers", "t").await;
    assert_eq!(trigger.data["status"]["observedGeneration"], json!(trigger.metadata.generation));
    let answer = request::post(&url, &request::event("a", "1"), "{}").await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    subscriber.wait(1).await;
    // What is said is said once: nothing changes, nothing is written.
    let quiet = cluster.ready("Trigger", "triggers", "t").await;
    assert_eq!(quiet.resource_version(), trigger.resource_version());
    let brokers = cluster.api("Broker", "brokers");
    brokers.delete("default", &DeleteParams::default()).await.expect("it is deleted");
    eventually("the broker is gone", async || {
        let answer = request::post(&url, &request::event("a", "2"), "{}").await;
        (answer.status == 404).then_some(())
    })
    .await;
    let pid = child.id().expect("it runs").to_string();
    assert!(
        Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill runs").success()
    );
    assert!(child.wait().await.expect("it ends").success());
}
