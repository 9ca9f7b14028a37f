//! The mesh with the resources of a real Kubernetes API server.

use std::process::Stdio;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::harness::eventually::eventually;
use crate::harness::mesh::weft;
use crate::harness::subscriber::Subscriber;
use crate::harness::{request, services};

/// A namespace of its own on the real server, and the definitions of our kinds.
struct Cluster {
    kubeconfig: String,
    client: Client,
    namespace: String,
}

fn apply() -> PatchParams {
    PatchParams::apply("story").force()
}

fn resource(api_version: &str, kind: &str, plural: &str) -> kube::api::ApiResource {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let gvk = GroupVersionKind::gvk(group, version, kind);
    kube::api::ApiResource::from_gvk_with_plural(&gvk, plural)
}

impl Cluster {
    async fn start(namespace: &str) -> Self {
        let server = services::up("kube-apiserver").await;
        let kubeconfig = server["kubeconfig"].as_str().expect("a path").to_owned();
        let read = Kubeconfig::read_from(&kubeconfig).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config =
            kube::Config::from_custom_kubeconfig(read, &options).await.expect("it is good");
        let client = Client::try_from(config).expect("a client");
        let cluster = Self { kubeconfig, client, namespace: namespace.to_owned() };
        cluster.install().await;
        cluster
    }

    async fn install(&self) {
        let definition = resource(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
        );
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &definition);
        for resource in crds::resource::RESOURCES.iter().filter(|resource| resource.is_custom()) {
            let body = crds::resource::definition(resource);
            api.patch(&resource.full_name(), &apply(), &Patch::Apply(&body))
                .await
                .expect("it is taken");
            eventually("the kind is served", async || {
                let object = api.get(&resource.full_name()).await.expect("it is there");
                let conditions = object.data["status"]["conditions"].as_array().cloned();
                let established = |condition: &Value| {
                    condition["type"] == "Established" && condition["status"] == "True"
                };
                conditions.is_some_and(|all| all.iter().any(established)).then_some(())
            })
            .await;
        }
        let api: Api<DynamicObject> =
            Api::all_with(self.client.clone(), &resource("v1", "Namespace", "namespaces"));
        let body =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
        api.patch(&self.namespace, &apply(), &Patch::Apply(&body)).await.expect("a namespace");
    }

    fn api(&self, kind: &str, plural: &str) -> Api<DynamicObject> {
        let resource = resource("eventing.knative.dev/v1", kind, plural);
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
    let cluster = Cluster::start("story-controller").await;
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
