use http::Method;
use serde_json::{Value, json};

use crate::harness::{Api, EVENTING, broker, trigger};

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn a_new_object_gets_what_servers_write() {
    let api = Api::new();
    let mut object = broker("b");
    object["status"] = json!({"conditions": []});
    object["metadata"]["creationTimestamp"] = Value::Null;
    object["metadata"]["uid"] = "mine".into();
    object["metadata"]["generation"] = 7.into();
    let made =
        api.post(&format!("{EVENTING}/namespaces/default/brokers"), &object).await.expect(201);
    let meta = &made["metadata"];
    assert_eq!(meta["namespace"], "default");
    assert_eq!(meta["generation"], 1);
    assert_eq!(meta["uid"].as_str().unwrap().len(), 36);
    assert_eq!(meta["creationTimestamp"].as_str().unwrap().len(), "2026-01-01T00:00:00Z".len());
    assert!(meta["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(meta["managedFields"][0]["manager"], "tests");
    assert_eq!(made.get("status"), None);
    let got = api.get(&format!("{EVENTING}/namespaces/default/brokers/b")).await.expect(200);
    assert_eq!(got, made);
}

#[tokio::test]
async fn an_object_may_be_written_in_yaml() {
    let api = Api::new();
    let text = "metadata:\n  name: y\ndata:\n  answer: |\n    forty-two\n";
    let made = api.request(Method::POST, CONFIGS, "application/yaml", text).await.expect(201);
    assert_eq!(made["data"]["answer"], "forty-two\n");
    let apply = format!("{CONFIGS}/y?fieldManager=me&force=true");
    let text = "{apiVersion: v1, kind: ConfigMap, metadata: {name: y}, data: {answer: none}}";
    let media = "application/apply-patch+yaml";
    let applied = api.request(Method::PATCH, &apply, media, text).await.expect(200);
    assert_eq!(applied["data"]["answer"], "none");
    for (bad, place) in [("a: [", "1:"), ("a: b\n---\nc: d\n", "1:1: one document"), ("", "")] {
        let status = api.request(Method::POST, CONFIGS, "application/yaml", bad).await.expect(400);
        assert!(status["message"].as_str().unwrap().contains(place), "{status}");
    }
}

#[tokio::test]
async fn names_are_generated_unique() {
    let api = Api::new();
    let object = json!({"metadata": {"generateName": "c-"}});
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let made = api.post(CONFIGS, &object).await.expect(201);
        let name = made["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("c-") && name.len() == 7, "{name}");
        names.insert(name);
    }
    assert_eq!(names.len(), 20);
}

#[tokio::test]
async fn what_an_object_says_must_agree_with_its_path() {
    let api = Api::new();
    let status = api.post(CONFIGS, &json!({"metadata": {}})).await.expect(422);
    assert_eq!(
        status["message"],
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
    for wrong in [
        json!({"metadata": {"name": "c", "namespace": "other"}}),
        json!({"kind": "Secret", "metadata": {"name": "c"}}),
        json!({"apiVersion": "v2", "metadata": {"name": "c"}}),
        json!({"metadata": {"name": "c", "resourceVersion": "1"}}),
    ] {
        api.post(CONFIGS, &wrong).await.expect(400);
    }
    for wrong in [
        json!({"metadata": {"name": "C"}}),
        json!({"metadata": {"name": "c", "labels": {"a b": "x"}}}),
        json!({"metadata": {"name": "c", "ownerReferences": [{"kind": "x"}]}}),
    ] {
        api.post(CONFIGS, &wrong).await.expect(422);
    }
    api.config("c", json!({})).await;
    api.put(&format!("{CONFIGS}/c"), &json!({"metadata": {"name": "d"}})).await.expect(400);
}

#[tokio::test]
async fn a_namespace_must_exist() {
    let api = Api::new();
    let path = "/api/v1/namespaces/nowhere/configmaps";
    let status = api.post(path, &json!({"metadata": {"name": "c"}})).await.expect(404);
    assert_eq!(status["message"], "namespaces \"nowhere\" not found");
    let made = api.post("/api/v1/namespaces", &json!({"metadata": {"name": "nowhere"}})).await;
    let made = made.expect(201);
    assert_eq!(made["status"]["phase"], "Active");
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "nowhere");
    api.post(path, &json!({"metadata": {"name": "c"}})).await.expect(201);
}

#[tokio::test]
async fn a_second_object_of_a_name_is_refused() {
    let api = Api::new();
    api.broker("b").await;
    let path = format!("{EVENTING}/namespaces/default/brokers");
    let status = api.post(&path, &broker("b")).await.expect(409);
    assert_eq!(status["reason"], "AlreadyExists");
    assert_eq!(status["message"], "brokers.eventing.knative.dev \"b\" already exists");
}

#[tokio::test]
async fn of_two_writers_the_slower_is_told() {
    let api = Api::new();
    let first = api.config("c", json!({})).await;
    let path = format!("{CONFIGS}/c");
    let mut faster = first.clone();
    faster["data"] = json!({"a": "1"});
    api.put(&path, &faster).await.expect(200);
    let mut slower = first;
    slower["data"] = json!({"a": "2"});
    let status = api.put(&path, &slower).await.expect(409);
    assert_eq!(status["reason"], "Conflict");
    assert_eq!(
        status["message"],
        "Operation cannot be fulfilled on configmaps \"c\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );
}

#[tokio::test]
async fn an_update_without_a_version_is_for_core_kinds_alone() {
    let api = Api::new();
    let mut made = api.broker("b").await;
    made["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let path = format!("{EVENTING}/namespaces/default/brokers/b");
    let status = api.put(&path, &made).await.expect(422);
    assert_eq!(
        status["message"],
        "brokers.eventing.knative.dev \"b\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for \
         an update"
    );
    api.config("c", json!({})).await;
    let object = json!({"metadata": {"name": "c"}, "data": {"x": "y"}});
    api.put(&format!("{CONFIGS}/c"), &object).await.expect(200);
}

#[tokio::test]
async fn what_is_immutable_stays() {
    let api = Api::new();
    let made = api.config("c", json!({})).await;
    let path = format!("{CONFIGS}/c");
    let mut changed = made.clone();
    changed["metadata"]["uid"] = "other".into();
    api.put(&path, &changed).await.expect(409);
    let mut changed = made.clone();
    changed["metadata"]["creationTimestamp"] = "2000-01-01T00:00:00Z".into();
    let kept = api.put(&path, &changed).await.expect(200);
    assert_eq!(kept, made, "times are the server's");
    let mut changed = made.clone();
    changed["metadata"]["deletionTimestamp"] = "2000-01-01T00:00:00Z".into();
    api.put(&path, &changed).await.expect(422);
    api.put(&format!("{CONFIGS}/d"), &json!({"metadata": {"name": "d"}})).await.expect(404);
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_version() {
    let api = Api::new();
    let made = api.broker("b").await;
    let path = format!("{EVENTING}/namespaces/default/brokers/b");
    assert_eq!(api.put(&path, &made).await.expect(200), made);
    assert_eq!(api.merge(&path, &json!({"metadata": {"labels": null}})).await.expect(200), made);
}

#[tokio::test]
async fn the_generation_counts_changes_of_the_spec_alone() {
    let api = Api::new();
    api.broker("b").await;
    let path = format!("{EVENTING}/namespaces/default/brokers/b");
    let labelled = api.merge(&path, &json!({"metadata": {"labels": {"a": "b"}}})).await.expect(200);
    assert_eq!(labelled["metadata"]["generation"], 1);
    let retried = api.merge(&path, &json!({"spec": {"delivery": {"retry": 3}}})).await.expect(200);
    assert_eq!(retried["metadata"]["generation"], 2);
}

#[tokio::test]
async fn the_status_is_written_on_its_own() {
    let api = Api::new();
    let made = api.broker("b").await;
    let path = format!("{EVENTING}/namespaces/default/brokers/b");
    let mut both = made.clone();
    both["status"] = json!({"observedGeneration": 1});
    both["metadata"]["labels"] = json!({"a": "b"});
    let status = format!("{path}/status");
    let written = api.put(&status, &both).await.expect(200);
    assert_eq!(written["status"], json!({"observedGeneration": 1}));
    assert_eq!(written["metadata"].get("labels"), None);
    assert_eq!(written["metadata"]["generation"], 1);
    let merged = api.merge(&path, &json!({"status": {"observedGeneration": 9}})).await.expect(200);
    assert_eq!(merged["status"]["observedGeneration"], 1);
    let merged =
        api.merge(&status, &json!({"status": {"observedGeneration": 2}})).await.expect(200);
    assert_eq!(merged["status"]["observedGeneration"], 2);
    assert_eq!(api.get(&status).await.expect(200), merged);
    api.get("/api/v1/namespaces/default/configmaps/x/status").await.expect(404);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let api = Api::new();
    let path = format!("{EVENTING}/namespaces/default/triggers");
    let made = api.post(&format!("{path}?dryRun=All"), &trigger("t")).await.expect(201);
    assert_eq!(made["metadata"]["labels"]["eventing.knative.dev/broker"], "default");
    api.get(&format!("{path}/t")).await.expect(404);
    let made = api.post(&path, &trigger("t")).await.expect(201);
    let patch = json!({"metadata": {"labels": {"a": "b"}}});
    let tried = api.merge(&format!("{path}/t?dryRun=All"), &patch).await.expect(200);
    assert_eq!(tried["metadata"]["labels"]["a"], "b");
    api.delete(&format!("{path}/t?dryRun=All"), &Value::Null).await.expect(200);
    assert_eq!(api.get(&format!("{path}/t")).await.expect(200), made);
    api.post(&format!("{path}?dryRun=Some"), &trigger("u")).await.expect(422);
}

#[tokio::test]
async fn versions_of_a_kind_differ_in_their_name_and_the_old_one_warns() {
    let api = Api::new();
    let old = "/apis/sources.knative.dev/v1beta2/namespaces/default/ticksources";
    let object = json!({
        "apiVersion": "sources.knative.dev/v1beta2", "kind": "TickSource", "metadata": {"name": "t"},
        "spec": {"schedule": "* * * * *", "sink": {"uri": "http://s.example/"}},
    });
    let answer = api.post(old, &object).await;
    assert!(answer.headers.contains_key("warning"));
    assert_eq!(answer.expect(201)["apiVersion"], "sources.knative.dev/v1beta2");
    let new = old.replace("v1beta2", "v1");
    let answer = api.get(&format!("{new}/t")).await;
    assert!(!answer.headers.contains_key("warning"));
    assert_eq!(answer.expect(200)["apiVersion"], "sources.knative.dev/v1");
    let list = api.get(old).await.expect(200);
    assert_eq!(list["items"][0]["apiVersion"], "sources.knative.dev/v1beta2");
}

#[tokio::test]
async fn definitions_are_shown_and_not_written() {
    let api = Api::new();
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let one = api.get(&format!("{path}/triggers.eventing.knative.dev")).await.expect(200);
    assert_eq!(one["spec"]["names"]["kind"], "Trigger");
    assert_eq!(one["status"]["conditions"][1]["type"], "Established");
    api.delete(&format!("{path}/triggers.eventing.knative.dev"), &Value::Null).await.expect(405);
    api.post(path, &one).await.expect(405);
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let api = Api::new();
    let made = api.broker("b").await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let defined = api.get(definitions).await.expect(200);
    let eventing = "/api/v1/namespaces/knative-eventing/configmaps/config-br-defaults";
    api.delete(eventing, &Value::Null).await.expect(200);
    let api = api.restart().await;
    let got = api.get(&format!("{EVENTING}/namespaces/default/brokers/b")).await.expect(200);
    assert_eq!(got, made);
    // What came with the first start and was removed stays away.
    api.get(eventing).await.expect(404);
    let list = api.get(definitions).await.expect(200);
    assert_eq!(list["items"], defined["items"]);
    assert_eq!(list["items"][0]["metadata"]["generation"], 1);
}

#[tokio::test]
async fn bodies_in_other_formats_are_refused() {
    let api = Api::new();
    for media in ["application/cbor", "text/html", "application/merge-patch+json"] {
        let status = api.request(Method::POST, CONFIGS, media, String::new()).await.expect(415);
        assert_eq!(status["reason"], "UnsupportedMediaType");
    }
    let media = "application/vnd.kubernetes.protobuf";
    api.request(Method::POST, CONFIGS, media, "{}".to_owned()).await.expect(400);
}

#[tokio::test]
async fn kubernetes_own_kinds_may_come_as_protobuf() {
    let api = Api::new();
    // A Namespace named n, with the empty fields that Go writes.
    let body = "k8s\0\n\x0f\n\x02v1\x12\tNamespace\x12\x0f\n\t\n\x01n\x12\0\x1a\0B\0\x12\0\x1a\0\x1a\0\"\0";
    let media = "application/vnd.kubernetes.protobuf";
    let made = api.request(Method::POST, "/api/v1/namespaces", media, body.to_owned()).await;
    let made = made.expect(201);
    assert_eq!(made["metadata"]["name"], "n");
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
}
