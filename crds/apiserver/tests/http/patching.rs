use http::Method;
use serde_json::{Value, json};

use crate::harness::{Api, EVENTING, trigger};

const CONFIG: &str = "/api/v1/namespaces/default/configmaps/c";
const APPLY: &str = "application/apply-patch+yaml";

async fn apply(api: &Api, path: &str, manager: &str, object: &Value) -> crate::harness::Answer {
    let path = format!("{path}?fieldManager={manager}");
    api.request(Method::PATCH, &path, APPLY, object.to_string()).await
}

#[tokio::test]
async fn a_json_patch_changes_what_it_names() {
    let api = Api::new();
    api.config("c", json!({})).await;
    let patch = r#"[{"op":"add","path":"/data","value":{"a":"1"}}]"#.to_owned();
    let media = "application/json-patch+json";
    let patched = api.request(Method::PATCH, CONFIG, media, patch).await.expect(200);
    assert_eq!(patched["data"], json!({"a": "1"}));
    let patch = r#"[{"op":"test","path":"/data/a","value":"2"}]"#.to_owned();
    api.request(Method::PATCH, CONFIG, media, patch).await.expect(422);
    let patch = r#"[{"op":"replace","path":"","value":[]}]"#.to_owned();
    let status = api.request(Method::PATCH, CONFIG, media, patch).await.status;
    assert!(status == 400 || status == 422, "{status}");
}

#[tokio::test]
async fn a_patch_with_an_old_version_is_a_conflict() {
    let api = Api::new();
    let made = api.config("c", json!({})).await;
    let version = &made["metadata"]["resourceVersion"];
    let patch = json!({"metadata": {"resourceVersion": version}, "data": {"a": "1"}});
    api.merge(CONFIG, &patch).await.expect(200);
    let patch = json!({"metadata": {"resourceVersion": version}, "data": {"a": "2"}});
    api.merge(CONFIG, &patch).await.expect(409);
    api.merge(CONFIG, &json!({"data": {"a": "3"}})).await.expect(200);
    api.merge(&CONFIG.replace("/c", "/nothing"), &json!({})).await.expect(404);
}

#[tokio::test]
async fn patches_of_many_at_once_are_all_kept() {
    let api = Api::new();
    api.config("c", json!({})).await;
    let patches = (0..10).map(|index| {
        let key = format!("k{index}");
        let api = &api;
        async move { api.merge(CONFIG, &json!({"data": {key: "x"}})).await.expect(200) }
    });
    futures_util::future::join_all(patches).await;
    let got = api.get(CONFIG).await.expect(200);
    assert_eq!(got["data"].as_object().unwrap().len(), 10);
}

#[tokio::test]
async fn an_apply_makes_and_changes_an_object() {
    let api = Api::new();
    let path = format!("{EVENTING}/namespaces/default/triggers/t");
    let made = apply(&api, &path, "me", &trigger("t")).await.expect(201);
    assert_eq!(made["metadata"]["managedFields"][0]["operation"], "Apply");
    let again = apply(&api, &path, "me", &trigger("t")).await.expect(200);
    assert_eq!(again["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let mut other = trigger("t");
    other["spec"]["subscriber"]["uri"] = "http://other.example/".into();
    let status = apply(&api, &path, "you", &other).await.expect(409);
    assert_eq!(status["details"]["causes"][0]["reason"], "FieldManagerConflict");
    assert_eq!(
        status["message"],
        "Apply failed with 1 conflict: conflict with \"me\": .spec.subscriber.uri"
    );
    let forced = apply(&api, &path, "you&force=true", &other).await.expect(200);
    assert_eq!(forced["spec"]["subscriber"]["uri"], "http://other.example/");
    assert_eq!(forced["metadata"]["generation"], 2);
}

#[tokio::test]
async fn an_apply_must_say_who_and_what() {
    let api = Api::new();
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}});
    let status = api.request(Method::PATCH, CONFIG, APPLY, object.to_string()).await.expect(422);
    assert_eq!(
        status["message"],
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    apply(&api, CONFIG, "me", &json!({"metadata": {"name": "c"}})).await.expect(400);
    let mut other = object.clone();
    other["metadata"]["name"] = "d".into();
    apply(&api, CONFIG, "me", &other).await.expect(400);
    let forced = format!("{CONFIG}?force=true");
    api.merge(&forced, &json!({})).await.expect(422);
    api.get(CONFIG).await.expect(404);
}

#[tokio::test]
async fn an_apply_of_a_status_does_not_touch_the_rest() {
    let api = Api::new();
    let made = api.broker("b").await;
    let path = format!("{EVENTING}/namespaces/default/brokers/b/status");
    let object = json!({
        "apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "b"},
        "status": {"observedGeneration": 1},
    });
    let written = apply(&api, &path, "controller", &object).await.expect(200);
    assert_eq!(written["status"], json!({"observedGeneration": 1}));
    assert_eq!(written["spec"], made["spec"]);
    let again = apply(&api, &path, "controller", &object).await.expect(200);
    assert_eq!(again["metadata"]["resourceVersion"], written["metadata"]["resourceVersion"]);
    let missing = path.replace("/b/", "/c/");
    let mut object = object;
    object["metadata"]["name"] = "c".into();
    apply(&api, &missing, "controller", &object).await.expect(404);
}

#[tokio::test]
async fn strategic_merges_work_where_they_mean_merges() {
    let api = Api::new();
    api.config("c", json!({})).await;
    let media = "application/strategic-merge-patch+json";
    let patch = json!({"data": {"a": "1"}}).to_string();
    let patched = api.request(Method::PATCH, CONFIG, media, patch).await.expect(200);
    assert_eq!(patched["data"]["a"], "1");
    let patch = json!({"data": {"$patch": "replace"}}).to_string();
    let status = api.request(Method::PATCH, CONFIG, media, patch).await.expect(415);
    assert!(status["message"].as_str().unwrap().contains("application/merge-patch+json"));
    api.broker("b").await;
    let path = format!("{EVENTING}/namespaces/default/brokers/b");
    api.request(Method::PATCH, &path, media, "{}".to_owned()).await.expect(415);
}
