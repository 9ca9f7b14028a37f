use serde_json::{Value, json};

use crate::harness::{Api, EVENTING};

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

async fn five(api: &Api) {
    for (index, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let parity = if index % 2 == 0 { "even" } else { "odd" };
        api.config(name, json!({"labels": {"parity": parity}})).await;
    }
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let api = Api::new();
    five(&api).await;
    let first = api.get(&format!("{CONFIGS}?limit=2")).await.expect(200);
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    api.config("bb", json!({})).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = api.get(&format!("{CONFIGS}?limit=2&continue={token}")).await.expect(200);
    // The version stays that of the first page, so that a watch from it tells what changed between pages.
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(names(&second), ["bb", "c"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let last = api.get(&format!("{CONFIGS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&last), ["d", "e"]);
    assert_eq!(last["metadata"].get("continue"), None);
}

#[tokio::test]
async fn a_token_that_is_no_token_is_refused() {
    let api = Api::new();
    api.get(&format!("{CONFIGS}?continue=nonsense")).await.expect(400);
    api.get(&format!("{CONFIGS}?continue=eyJ2IjoieCJ9")).await.expect(400);
}

#[tokio::test]
async fn a_token_of_before_a_restart_has_expired() {
    let api = Api::new();
    five(&api).await;
    let first = api.get(&format!("{CONFIGS}?limit=2")).await.expect(200);
    api.config("z", json!({})).await;
    let api = api.restart().await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let status = api.get(&format!("{CONFIGS}?limit=2&continue={token}")).await.expect(410);
    assert_eq!(status["reason"], "Expired");
}

#[tokio::test]
async fn lists_are_selected_by_labels_and_fields() {
    let api = Api::new();
    five(&api).await;
    let odd = api.get(&format!("{CONFIGS}?labelSelector=parity%3Dodd")).await.expect(200);
    assert_eq!(names(&odd), ["b", "d"]);
    let page = api.get(&format!("{CONFIGS}?labelSelector=parity%3Deven&limit=2")).await.expect(200);
    assert_eq!(names(&page), ["a", "c"]);
    assert_eq!(page["metadata"].get("remainingItemCount"), None);
    let token = page["metadata"]["continue"].as_str().unwrap();
    let path = format!("{CONFIGS}?labelSelector=parity%3Deven&limit=2&continue={token}");
    assert_eq!(names(&api.get(&path).await.expect(200)), ["e"]);
    let one = api.get(&format!("{CONFIGS}?fieldSelector=metadata.name%3Dc")).await.expect(200);
    assert_eq!(names(&one), ["c"]);
    api.get(&format!("{CONFIGS}?fieldSelector=data.x%3Dc")).await.expect(400);
    api.get(&format!("{CONFIGS}?labelSelector=%3D%3D")).await.expect(400);
}

#[tokio::test]
async fn lists_go_over_all_namespaces() {
    let api = Api::new();
    api.config("c", json!({})).await;
    let all = api.get("/api/v1/configmaps").await.expect(200);
    assert_eq!(all["kind"], "ConfigMapList");
    assert_eq!(names(&all), ["c", "config-br-defaults"]);
    api.post("/api/v1/configmaps", &json!({"metadata": {"name": "x"}})).await.expect(405);
}

#[tokio::test]
async fn a_list_of_the_future_is_not_there_yet() {
    let api = Api::new();
    let status = api.get(&format!("{CONFIGS}?resourceVersion=999999")).await.expect(504);
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    api.get(&format!("{CONFIGS}?resourceVersion=0")).await.expect(200);
    api.get(&format!("{CONFIGS}?resourceVersion=x")).await.expect(422);
    let exact = format!("{CONFIGS}?resourceVersion=1&resourceVersionMatch=Exact");
    api.get(&exact).await.expect(410);
}

#[tokio::test]
async fn tables_and_metadata_are_other_shapes_of_the_same() {
    let api = Api::new();
    api.broker("b").await;
    let path = format!("{EVENTING}/namespaces/default/brokers");
    let table = api.accept(&path, TABLE).await.expect(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "b");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let whole = api.accept(&format!("{path}?includeObject=Object"), TABLE).await.expect(200);
    assert_eq!(whole["rows"][0]["object"]["kind"], "Broker");
    let one = api.accept(&format!("{path}/b"), TABLE).await.expect(200);
    assert_eq!(one["rows"][0]["cells"][0], "b");
    let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = api.accept(&path, partial).await.expect(200);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0].get("spec"), None);
    api.accept(&path, "application/vnd.kubernetes.protobuf").await.expect(406);
}

#[tokio::test]
async fn paths_that_nobody_serves_are_not_found() {
    let api = Api::new();
    for path in [
        "/",
        "/api/v2",
        "/api/v1/pods",
        "/apis/apps/v1",
        "/apis/apps/v1/namespaces/default/deployments",
        "/apis/eventing.knative.dev/v2/brokers",
        "/api/v1/namespaces/default/configmaps/a/b/c",
        "/api/v1/namespaces/default/namespaces",
        "/metrics",
    ] {
        let status = api.get(path).await.expect(404);
        assert_eq!(status["message"], "the server could not find the requested resource", "{path}");
    }
}
