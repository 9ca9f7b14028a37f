//! `SinkBinding` in a cluster: workloads of its users are told where to send to, and have nothing of it once it is gone.

use kube::api::PostParams;

use super::*;

/// On a workload: whose it is.
const BOUND_BY: &str = "/metadata/annotations/weft.dev~1bound-by";

fn to_broker() -> Value {
    json!({"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}})
}

fn named(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name})
}

impl Cluster {
    fn deployments(&self) -> Api<DynamicObject> {
        self.api("Deployment", "deployments")
    }

    /// A user's Deployment with one variable of its own.
    async fn deploy(&self, name: &str, team: &str) {
        let labels = json!({"app": name});
        let env = json!([{"name": "MODE", "value": "fast"}]);
        let container = json!({"name": "main", "image": "shop:1", "env": env});
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "labels": {"team": team}},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        });
        let deployments = self.deployments();
        deployments.patch(name, &apply(), &Patch::Apply(&deployment)).await.expect("it is taken");
    }

    async fn bind(&self, name: &str, subject: Value, sink: Value) {
        let spec = json!({
            "subject": subject, "sink": sink, "ceOverrides": {"extensions": {"team": "blue"}},
        });
        self.apply("SinkBinding", "sinkbindings", name, spec).await;
    }

    async fn unbind(&self, name: &str) {
        let bindings = self.api("SinkBinding", "sinkbindings");
        bindings.delete(name, &DeleteParams::default()).await.expect("it is deleted");
        eventually("the binding is gone", async || {
            bindings.get_opt(name).await.expect("it is answered").is_none().then_some(())
        })
        .await;
    }

    /// Waits until the container of a Deployment has the user's variable and, if there is a sink, that.
    async fn told(&self, name: &str, sink: Option<&str>) {
        let mut expected = vec![("MODE".to_owned(), "fast".to_owned())];
        if let Some(sink) = sink {
            let overrides = r#"{"extensions":{"team":"blue"}}"#;
            expected.push(("K_CE_OVERRIDES".to_owned(), overrides.to_owned()));
            expected.push(("K_SINK".to_owned(), sink.to_owned()));
        }
        let deployments = self.deployments();
        eventually(&format!("{name} has {expected:?}"), async || {
            let object = deployments.get(name).await.expect("it is there");
            let object = serde_json::to_value(object).expect("JSON");
            let env = object["spec"]["template"]["spec"]["containers"][0]["env"].as_array()?;
            let text = |one: &Value| one.as_str().unwrap_or_default().to_owned();
            let found: Vec<_> =
                env.iter().map(|one| (text(&one["name"]), text(&one["value"]))).collect();
            let is_marked = object.pointer(BOUND_BY).is_some();
            (found == expected && is_marked == sink.is_some()).then_some(())
        })
        .await;
    }

    /// The message of a binding's condition once it is false for this reason.
    async fn refused(&self, name: &str, kind: &str, reason: &str) -> String {
        let bindings = self.api("SinkBinding", "sinkbindings");
        eventually(&format!("{name}: {kind} is false: {reason}"), async || {
            let object = bindings.get(name).await.expect("it is there");
            let conditions = object.data["status"]["conditions"].as_array()?.clone();
            let found = conditions.iter().find(|condition| condition["type"] == kind)?;
            let is_so = found["status"] == "False" && found["reason"] == reason;
            is_so.then(|| found["message"].as_str().unwrap_or_default().to_owned())
        })
        .await
    }

    /// A user replaces a Deployment by what it was before it was bound.
    async fn replace(&self, name: &str) {
        let deployments = self.deployments();
        let mut object = deployments.get(name).await.expect("it is there");
        object.metadata.annotations = None;
        object.metadata.resource_version = None;
        let env = json!([{"name": "MODE", "value": "fast"}]);
        object.data["spec"]["template"]["spec"]["containers"][0]["env"] = env;
        deployments.replace(name, &PostParams::default(), &object).await.expect("it is taken");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_tells_a_deployment_and_leaves_nothing_behind() {
    let cluster = Cluster::start().await;
    let dir = TempDir::new().expect("a directory");
    cluster.apply("Broker", "brokers", "default", json!({})).await;
    cluster.deploy("shop", "blue").await;
    cluster.bind("b", named("shop"), to_broker()).await;
    let (_child, events) = cluster.controller(&dir).await;
    let url = format!("{events}/{}/default", cluster.namespace);
    cluster.told("shop", Some(&url)).await;
    let ready = cluster.ready("SinkBinding", "sinkbindings", "b").await;
    assert_eq!(ready.data["status"]["sinkUri"], url.as_str());
    // The user's own apply leaves it alone, and what another tool drops comes back.
    cluster.deploy("shop", "blue").await;
    cluster.told("shop", Some(&url)).await;
    cluster.replace("shop").await;
    cluster.told("shop", Some(&url)).await;
    cluster.bind("b", named("shop"), json!({"uri": "http://elsewhere.example/"})).await;
    cluster.told("shop", Some("http://elsewhere.example/")).await;
    cluster.ready("SinkBinding", "sinkbindings", "b").await;
    cluster.unbind("b").await;
    cluster.told("shop", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_follows_its_selector_and_takes_nothing_from_another() {
    let cluster = Cluster::start().await;
    let dir = TempDir::new().expect("a directory");
    let sink = |name: &str| json!({"uri": format!("http://{name}.example/")});
    for (name, team) in [("one", "blue"), ("two", "blue"), ("three", "red")] {
        cluster.deploy(name, team).await;
    }
    let selector = json!({"matchLabels": {"team": "blue"}});
    let blue = json!({"apiVersion": "apps/v1", "kind": "Deployment", "selector": selector});
    cluster.bind("blue", blue, sink("blue")).await;
    let (_child, _) = cluster.controller(&dir).await;
    cluster.told("one", Some("http://blue.example/")).await;
    cluster.told("two", Some("http://blue.example/")).await;
    cluster.told("three", None).await;
    cluster.deploy("two", "red").await;
    cluster.told("two", None).await;
    cluster.bind("second", named("one"), sink("second")).await;
    let message = cluster.refused("second", "SinkBindingAvailable", "BindingFailed").await;
    let other = format!("it is bound by the SinkBinding {}/blue already", cluster.namespace);
    assert_eq!(message, format!("Deployment \"one\": {other}"));
    cluster.told("one", Some("http://blue.example/")).await;
    cluster.unbind("blue").await;
    cluster.told("one", Some("http://second.example/")).await;
    cluster.bind("second", named("none"), sink("second")).await;
    cluster.refused("second", "SinkBindingAvailable", "SubjectMissing").await;
    cluster.told("one", None).await;
    cluster.bind("second", named("one"), to_broker()).await;
    let message = cluster.refused("second", "SinkProvided", "NotFound").await;
    assert!(message.contains("\"default\" not found"), "{message}");
    cluster.told("one", None).await;
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "one"});
    cluster.bind("second", job, sink("second")).await;
    cluster.refused("second", "SinkBindingAvailable", "SubjectUnavailable").await;
    cluster.unbind("second").await;
}
