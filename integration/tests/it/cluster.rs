//! The mesh with the resources of a real Kubernetes API server.

mod apiserver;
mod sink_binding;

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

fn group(kind: &str) -> &'static str {
    match kind {
        "Deployment" => "apps",
        "ContainerSource" | "SinkBinding" => "sources.knative.dev",
        _ => "eventing.knative.dev",
    }
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
        let kind = GroupVersionKind::gvk(group(kind), "v1", kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    async fn apply(&self, kind: &str, plural: &str, name: &str, spec: Value) {
        let api = self.api(kind, plural);
        let body = json!({"apiVersion": format!("{}/v1", group(kind)), "kind": kind,
            "metadata": {"name": name}, "spec": spec});
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

/// What a user's container asks for; one of its variables is the contract's and cannot be its own.
fn container(image: &str) -> Value {
    let env = json!([{"name": "MODE", "value": "fast"}, {"name": "K_SINK", "value": "http://elsewhere/"}]);
    let containers = json!([{"name": "main", "image": image, "env": env}]);
    json!({
        "template": {"metadata": {"labels": {"team": "blue"}}, "spec": {"containers": containers}},
        "sink": {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}},
        "ceOverrides": {"extensions": {"team": "blue"}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_source_is_a_deployment_of_the_cluster_and_no_process_of_the_mesh() {
    let cluster = Cluster::start().await;
    let dir = TempDir::new().expect("a directory");
    let marker = dir.path().join("it-ran");
    cluster.apply("Broker", "brokers", "default", json!({})).await;
    cluster.apply("ContainerSource", "containersources", "one", container("shop:1")).await;
    let mut process = container("shop:1");
    process["template"]["spec"]["runtimeClassName"] = "process".into();
    process["template"]["spec"]["containers"][0]["command"] = json!(["touch", marker]);
    cluster.apply("ContainerSource", "containersources", "two", process).await;
    let (_child, events) = cluster.controller(&dir).await;
    let deployments = cluster.api("Deployment", "deployments");
    let made =
        eventually("the Deployment", async || deployments.get("one-deployment").await.ok()).await;
    let labels = json!({
        "sources.knative.dev/source": "container-source-controller",
        "sources.knative.dev/containerSource": "one",
    });
    assert_eq!(made.data["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(made.metadata.owner_references.as_ref().expect("owned")[0].name, "one");
    let template = &made.data["spec"]["template"];
    assert_eq!(template["metadata"]["labels"]["team"], "blue");
    let env = template["spec"]["containers"][0]["env"].as_array().expect("a list").clone();
    let env: Vec<_> = env.iter().map(|one| (one["name"].as_str(), one["value"].as_str())).collect();
    let sink = format!("{events}/{}/default", cluster.namespace);
    for expected in [
        ("MODE", "fast"),
        ("K_CE_OVERRIDES", r#"{"extensions":{"team":"blue"}}"#),
        ("K_SINK", sink.as_str()),
    ] {
        assert!(env.contains(&(Some(expected.0), Some(expected.1))), "{expected:?}: {env:?}");
    }
    assert_eq!(env.len(), 3);
    // Nobody runs it here, so it is told that somebody did.
    let available = json!({"status": {"conditions": [{"type": "Available", "status": "True",
        "reason": "MinimumReplicasAvailable", "message": "it is"}]}});
    let params = PatchParams::default();
    let told = Patch::Merge(&available);
    deployments.patch_status("one-deployment", &params, &told).await.expect("it is taken");
    let ready = cluster.ready("ContainerSource", "containersources", "one").await;
    assert_eq!(ready.data["status"]["sinkUri"], sink.as_str());
    cluster.apply("ContainerSource", "containersources", "one", container("shop:2")).await;
    eventually("the new image", async || {
        let found = deployments.get("one-deployment").await.ok()?;
        (found.data["spec"]["template"]["spec"]["containers"][0]["image"] == "shop:2").then_some(())
    })
    .await;
    let sources = cluster.api("ContainerSource", "containersources");
    eventually("the process is not run, and that is said", async || {
        let source = sources.get("two").await.ok()?;
        let conditions = source.data["status"]["conditions"].as_array()?.clone();
        let says =
            |one: &Value| one["type"] == "ReceiveAdapterReady" && one["reason"] == "ProgramsNotRun";
        conditions.iter().any(says).then_some(())
    })
    .await;
    assert!(deployments.get_opt("two-deployment").await.expect("it is answered").is_none());
    assert!(!marker.try_exists().expect("it can be seen"), "nothing was run");
}
