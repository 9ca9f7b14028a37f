use serde_json::{Value, json};

use crate::harness::{Api, EVENTING, find};

const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

#[tokio::test]
async fn the_lists_of_old_tell_groups_and_kinds() {
    let api = Api::new();
    assert_eq!(api.get("/api").await.expect(200)["versions"], json!(["v1"]));
    let groups = api.get("/apis").await.expect(200);
    let sources = find(&groups["groups"], "name", "sources.knative.dev");
    assert_eq!(sources["preferredVersion"]["version"], "v1");
    let group = api.get("/apis/sources.knative.dev").await.expect(200);
    assert_eq!(group["kind"], "APIGroup");
    assert_eq!(group["versions"], sources["versions"]);
    let kinds = api.get(EVENTING).await.expect(200);
    let trigger = find(&kinds["resources"], "name", "triggers");
    assert_eq!(trigger["kind"], "Trigger");
    assert_eq!(trigger["namespaced"], true);
    find(&kinds["resources"], "name", "triggers/status");
    let core = api.get("/api/v1").await.expect(200);
    assert_eq!(find(&core["resources"], "name", "configmaps")["shortNames"], json!(["cm"]));
}

#[tokio::test]
async fn one_document_tells_all_of_it() {
    let api = Api::new();
    let answer = api.accept("/apis", AGGREGATED).await;
    assert_eq!(
        answer.headers["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let document = answer.expect(200);
    assert_eq!(document["apiVersion"], "apidiscovery.k8s.io/v2");
    let groups = document["items"].as_array().unwrap();
    let eventing =
        groups.iter().find(|group| group["metadata"]["name"] == "eventing.knative.dev").unwrap();
    let trigger = find(&eventing["versions"][0]["resources"], "resource", "triggers");
    assert_eq!(trigger["scope"], "Namespaced");
    assert_eq!(trigger["subresources"][0]["subresource"], "status");
    let core = api.accept("/api", AGGREGATED).await.expect(200);
    find(&core["items"][0]["versions"][0]["resources"], "resource", "namespaces");
}

#[tokio::test]
async fn schemas_can_be_explained() {
    let api = Api::new();
    let index = api.get("/openapi/v3").await.expect(200);
    let url = index["paths"]["apis/eventing.knative.dev/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/apis/eventing.knative.dev/v1?hash="), "{url}");
    let document = api.get(url).await.expect(200);
    let trigger = &document["components"]["schemas"]["dev.knative.eventing.v1.Trigger"];
    assert_eq!(
        trigger["x-kubernetes-group-version-kind"],
        json!([{"group": "eventing.knative.dev", "version": "v1", "kind": "Trigger"}])
    );
    assert!(trigger["properties"]["spec"]["properties"]["broker"]["type"].is_string());
    let patch = &document["paths"]["/apis/eventing.knative.dev/v1/namespaces/{namespace}/triggers/{name}"]
        ["patch"];
    assert_eq!(patch["x-kubernetes-action"], "patch");
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Trigger");
    find(&patch["parameters"], "name", "dryRun");
    find(&patch["parameters"], "name", "fieldValidation");
}

#[tokio::test]
async fn every_reference_in_a_document_is_in_it() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(name)) = map.get("$ref") {
                    found.push(name.clone());
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let api = Api::new();
    let index = api.get("/openapi/v3").await.expect(200);
    for entry in index["paths"].as_object().unwrap().values() {
        let document = api.get(entry["serverRelativeURL"].as_str().unwrap()).await.expect(200);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for name in found {
            let pointer = name.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{name}");
        }
    }
}

#[tokio::test]
async fn the_old_schema_document_is_there_and_describes_nothing() {
    let api = Api::new();
    assert_eq!(api.get("/openapi/v2").await.expect(200)["swagger"], "2.0");
    let request = http::Request::builder()
        .uri("/openapi/v2")
        .header("accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
        .body(axum::body::Body::empty())
        .unwrap();
    let response = api.send(request).await;
    assert_eq!(response.status(), 200);
    let bytes = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
    assert!(bytes.starts_with(b"\x0a\x032.0\x12"), "{bytes:?}");
    assert!(bytes.ends_with(&[0x42, 0]), "{bytes:?}");
}

#[tokio::test]
async fn one_may_ask_who_one_is_and_what_one_may_do() {
    let api = Api::new();
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "create", "resource": "triggers"}},
    });
    let answer = api.post(path, &review).await.expect(201);
    assert_eq!(answer["status"]["allowed"], true);
    assert_eq!(answer["spec"], review["spec"]);
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = api.post(path, &json!({"kind": "SelfSubjectReview"})).await.expect(201);
    assert_eq!(answer["status"]["userInfo"]["username"], "weft-admin");
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let answer = api.post(path, &json!({"spec": {"namespace": "default"}})).await.expect(201);
    assert_eq!(answer["status"]["resourceRules"][0]["verbs"], json!(["*"]));
    api.post(path, &json!([])).await.expect(400);
}

#[tokio::test]
async fn the_version_is_that_of_the_program() {
    let api = Api::new();
    let version = api.get("/version").await.expect(200);
    assert_eq!(version["major"], "1");
    assert_eq!(version["minor"], "36");
    assert_eq!(version["gitVersion"], "v1.36.0+weft.0.1.0");
}
