use serde_json::{Value, json};

use crate::harness::{Api, EVENTING, owned_by};

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";

fn at(name: &str) -> String {
    format!("{CONFIGS}/{name}")
}

#[tokio::test]
async fn a_deletion_answers_with_what_is_gone() {
    let api = Api::new();
    let made = api.broker("b").await;
    let path = format!("{EVENTING}/namespaces/default/brokers/b");
    let status = api.delete(&path, &Value::Null).await.expect(200);
    assert_eq!(
        status,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {
                "name": "b", "group": "eventing.knative.dev", "kind": "brokers", "uid": made["metadata"]["uid"],
            },
        })
    );
    let status = api.delete(&path, &Value::Null).await.expect(404);
    assert_eq!(status["message"], "brokers.eventing.knative.dev \"b\" not found");
}

#[tokio::test]
async fn preconditions_are_held() {
    let api = Api::new();
    let made = api.config("c", json!({})).await;
    let other = json!({"preconditions": {"uid": "other"}});
    let status = api.delete(&at("c"), &other).await.expect(409);
    let message = status["message"].as_str().unwrap();
    assert!(
        message.contains("the UID in the precondition (other) does not match the UID in record"),
        "{message}"
    );
    api.delete(&at("c"), &json!({"preconditions": {"resourceVersion": "1"}})).await.expect(409);
    let right = json!({
        "kind": "DeleteOptions", "apiVersion": "v1",
        "preconditions": {
            "uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"],
        },
    });
    api.delete(&at("c"), &right).await.expect(200);
    api.delete(&at("c"), &json!([])).await.expect(400);
}

#[tokio::test]
async fn a_finalizer_holds_an_object_until_it_is_taken_away() {
    let api = Api::new();
    api.config("c", json!({"finalizers": ["example.com/hold"]})).await;
    let held = api.delete(&at("c"), &Value::Null).await.expect(200);
    assert_eq!(held["kind"], "ConfigMap");
    assert_eq!(held["metadata"]["deletionGracePeriodSeconds"], 0);
    assert!(held["metadata"]["deletionTimestamp"].is_string());
    let again = api.delete(&at("c"), &Value::Null).await.expect(200);
    assert_eq!(again, held);
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    api.merge(&at("c"), &more).await.expect(422);
    api.merge(&at("c"), &json!({"metadata": {"finalizers": null}})).await.expect(200);
    api.get(&at("c")).await.expect(404);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selection() {
    let api = Api::new();
    for name in ["a", "b", "c"] {
        api.config(name, json!({"labels": {"keep": if name == "b" { "yes" } else { "no" }}})).await;
    }
    let path = format!("{CONFIGS}?labelSelector=keep%3Dno");
    let list = api.delete(&path, &Value::Null).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let left = api.get(CONFIGS).await.expect(200);
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    api.delete("/api/v1/namespaces", &Value::Null).await.expect(405);
}

#[tokio::test]
async fn dependents_go_when_their_owner_went() {
    let api = Api::collecting();
    let owner = api.broker("b").await;
    let child = api.config("child", owned_by(&owner, false)).await;
    api.config("grandchild", owned_by(&child, false)).await;
    api.config("stranger", json!({})).await;
    api.delete(&format!("{EVENTING}/namespaces/default/brokers/b"), &Value::Null).await.expect(200);
    api.until(&at("grandchild"), 404).await;
    api.get(&at("child")).await.expect(404);
    api.get(&at("stranger")).await.expect(200);
}

#[tokio::test]
async fn a_namesake_of_the_owner_is_no_owner() {
    let api = Api::new();
    let first = api.broker("b").await;
    api.config("c", owned_by(&first, false)).await;
    let path = format!("{EVENTING}/namespaces/default/brokers/b");
    api.delete(&path, &Value::Null).await.expect(200);
    let second = api.broker("b").await;
    api.config("d", owned_by(&second, false)).await;
    // Collection starts only now: what happened before is found out.
    let mut api = api.restart().await;
    api.collect();
    api.until(&at("c"), 404).await;
    api.get(&at("d")).await.expect(200);
}

#[tokio::test]
async fn an_object_with_another_owner_stays_and_forgets_the_one_that_went() {
    let api = Api::collecting();
    let (one, two) = (api.broker("one").await, api.broker("two").await);
    let mut meta = owned_by(&one, false);
    let second = owned_by(&two, false)["ownerReferences"][0].clone();
    meta["ownerReferences"].as_array_mut().unwrap().push(second);
    api.config("c", meta).await;
    let path = format!("{EVENTING}/namespaces/default/brokers/one");
    api.delete(&path, &Value::Null).await.expect(200);
    let owners = |body: &Value| body["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len);
    let left = api.until_it(&at("c"), |answer| owners(&answer.body) == 1).await;
    assert_eq!(left["metadata"]["ownerReferences"][0]["name"], "two");
}

#[tokio::test]
async fn owners_of_kinds_that_nobody_serves_are_believed() {
    let api = Api::collecting();
    let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "uid": "u"}});
    api.config("c", owned_by(&owner, false)).await;
    let gone = api.broker("b").await;
    api.config("marker", owned_by(&gone, false)).await;
    let path = format!("{EVENTING}/namespaces/default/brokers/b");
    api.delete(&path, &Value::Null).await.expect(200);
    api.until(&at("marker"), 404).await;
    api.get(&at("c")).await.expect(200);
}

#[tokio::test]
async fn in_the_foreground_the_owner_waits_for_those_who_block_it() {
    let api = Api::collecting();
    let owner = api.broker("b").await;
    let mut meta = owned_by(&owner, true);
    meta["finalizers"] = json!(["example.com/hold"]);
    api.config("c", meta).await;
    let path = format!("{EVENTING}/namespaces/default/brokers/b");
    let held = api.delete(&path, &json!({"propagationPolicy": "Foreground"})).await.expect(200);
    assert_eq!(held["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let deleting = |body: &Value| body["metadata"]["deletionTimestamp"].is_string();
    api.until_it(&at("c"), |answer| deleting(&answer.body)).await;
    api.get(&path).await.expect(200);
    api.merge(&at("c"), &json!({"metadata": {"finalizers": null}})).await.expect(200);
    api.until(&path, 404).await;
}

#[tokio::test]
async fn orphans_stay_without_their_owner() {
    let api = Api::collecting();
    let owner = api.broker("b").await;
    api.config("c", owned_by(&owner, true)).await;
    let path = format!("{EVENTING}/namespaces/default/brokers/b");
    api.delete(&path, &json!({"propagationPolicy": "Orphan"})).await.expect(200);
    api.until(&path, 404).await;
    let left = api.get(&at("c")).await.expect(200);
    assert_eq!(left["metadata"].get("ownerReferences"), None);
    api.delete(&at("c"), &json!({"propagationPolicy": "Never"})).await.expect(422);
}

#[tokio::test]
async fn a_namespace_goes_with_everything_in_it() {
    let api = Api::collecting();
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let configs = "/api/v1/namespaces/n/configmaps";
    for index in 0..40 {
        let object = json!({"metadata": {"name": format!("c{index}")}});
        api.post(configs, &object).await.expect(201);
    }
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    api.post(configs, &held).await.expect(201);
    let namespace = api.delete("/api/v1/namespaces/n", &Value::Null).await.expect(200);
    assert_eq!(namespace["status"]["phase"], "Terminating");
    let status = api.post(configs, &json!({"metadata": {"name": "new"}})).await.expect(403);
    assert_eq!(
        status["message"],
        "configmaps \"new\" is forbidden: unable to create new content in namespace n because it is being terminated"
    );
    assert_eq!(status["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let count = |body: &Value| body["items"].as_array().map_or(0, Vec::len);
    api.until_it(configs, |answer| count(&answer.body) == 1).await;
    api.get("/api/v1/namespaces/n").await.expect(200);
    let release = json!({"metadata": {"finalizers": []}});
    api.merge(&format!("{configs}/held"), &release).await.expect(200);
    api.until("/api/v1/namespaces/n", 404).await;
}

#[tokio::test]
async fn a_deletion_goes_on_after_a_restart() {
    let api = Api::new();
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let configs = "/api/v1/namespaces/n/configmaps";
    api.post(configs, &json!({"metadata": {"name": "c"}})).await.expect(201);
    api.delete("/api/v1/namespaces/n", &Value::Null).await.expect(200);
    let mut api = api.restart().await;
    api.get(&format!("{configs}/c")).await.expect(200);
    api.collect();
    api.until("/api/v1/namespaces/n", 404).await;
}

#[tokio::test]
async fn the_default_namespace_cannot_go() {
    let api = Api::new();
    let status = api.delete("/api/v1/namespaces/default", &Value::Null).await.expect(403);
    assert_eq!(
        status["message"],
        "namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
}
