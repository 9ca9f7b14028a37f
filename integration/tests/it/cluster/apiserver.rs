//! `ApiServerSource` in a cluster: it has the rights of its service account and no others, and misses nothing.

use kube::api::{PostParams, PropagationPolicy};

use super::*;
use crate::harness::servers::send;
use crate::harness::subscriber::Got;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
/// In the story's namespace.
const ACCOUNT: &str = "watcher";

impl Cluster {
    async fn create(&self, path: &str, object: &Value) {
        let answer = send(&self.client, "POST", path, &JSON, &object.to_string()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    fn maps(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("", "v1", "ConfigMap");
        let resource = ApiResource::from_gvk_with_plural(&kind, "configmaps");
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    async fn create_map(&self, name: &str) {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        let map = serde_json::from_value(map).expect("an object");
        self.maps().create(&PostParams::default(), &map).await.expect("it is taken");
    }

    async fn delete_map(&self, name: &str) {
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        self.maps().delete(name, &params).await.expect("it is deleted");
    }

    /// Lets the account list and watch config maps here.
    async fn permit(&self) {
        let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}", self.namespace);
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": ACCOUNT},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}],
        });
        self.create(&format!("{rbac}/roles"), &role).await;
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": ACCOUNT},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": self.namespace}],
        });
        self.create(&format!("{rbac}/rolebindings"), &binding).await;
    }

    fn sources(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("sources.knative.dev", "v1", "ApiServerSource");
        let resource = ApiResource::from_gvk_with_plural(&kind, "apiserversources");
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// The message of the condition once its status is that.
    async fn says(&self, kind: &str, status: &str) -> String {
        let sources = self.sources();
        eventually(&format!("{kind} is {status}"), async || {
            let object = sources.get("maps").await.expect("it is there");
            let conditions = object.data["status"]["conditions"].as_array()?.clone();
            let found = conditions.iter().find(|condition| condition["type"] == kind)?;
            let message = found["message"].as_str().unwrap_or_default().to_owned();
            (found["status"] == status).then_some(message)
        })
        .await
    }
}

/// What was told of `names`: the last word of the type, and the name.
fn told(subscriber: &Subscriber, names: &[&str]) -> Vec<String> {
    let got = subscriber.got();
    let ours = got.iter().filter(|event| names.contains(&event.header("ce-name")));
    let word = |event: &Got| {
        let verb = event.header("ce-type").rsplit('.').next().unwrap_or_default();
        format!("{verb} {}", event.header("ce-name"))
    };
    ours.map(word).collect()
}

async fn until_told(subscriber: &Subscriber, expected: &[&str]) {
    let names = ["a", "b", "c"];
    eventually(&format!("{expected:?}"), async || {
        (told(subscriber, &names) == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_sees_what_its_account_may_see_and_misses_nothing() {
    let subscriber = Subscriber::start().await;
    let cluster = Cluster::start().await;
    let dir = TempDir::new().expect("a directory");
    let (mut child, _) = cluster.controller(&dir).await;
    let source = json!({
        "apiVersion": "sources.knative.dev/v1", "kind": "ApiServerSource",
        "metadata": {"name": "maps", "annotations": {"weft.dev/start": "earliest"}},
        "spec": {
            "resources": [{"apiVersion": "v1", "kind": "ConfigMap"}], "mode": "Resource",
            "serviceAccountName": ACCOUNT, "sink": {"uri": subscriber.url},
        },
    });
    cluster.create_map("a").await;
    let sources = cluster.sources();
    sources.patch("maps", &apply(), &Patch::Apply(&source)).await.expect("it is taken");
    let message = cluster.says("SufficientPermissions", "False").await;
    let namespace = &cluster.namespace;
    assert_eq!(
        message,
        format!(
            "User system:serviceaccount:{namespace}:{ACCOUNT} cannot list, watch resource \"configmaps\" in API group \
             \"\" in Namespace {namespace:?}"
        )
    );
    cluster.permit().await;
    cluster.says("Ready", "True").await;
    until_told(&subscriber, &["add a"]).await;
    cluster.create_map("b").await;
    until_told(&subscriber, &["add a", "add b"]).await;
    let event = subscriber.got().into_iter().find(|event| event.header("ce-name") == "b");
    let event = event.expect("it was told");
    let object: Value = serde_json::from_slice(&event.body).expect("JSON");
    assert_eq!((&object["kind"], &object["metadata"]["name"]), (&json!("ConfigMap"), &json!("b")));
    assert!(event.header("ce-source").starts_with("https://127.0.0.1:"));
    // Long enough for what was told to be remembered: nothing else tells when that is.
    let checkpoint = dir.path().join(format!("data/sources/ApiServerSource,{namespace},maps"));
    eventually("it is remembered", async || {
        let text = std::fs::read_to_string(&checkpoint).ok()?;
        text.contains(&format!("{namespace}/b")).then_some(())
    })
    .await;
    child.kill().await.expect("it ran");
    cluster.create_map("c").await;
    cluster.delete_map("a").await;
    let (mut child, _) = cluster.controller(&dir).await;
    until_told(&subscriber, &["add a", "add b", "add c", "delete a"]).await;
    child.kill().await.expect("it ran");
}
