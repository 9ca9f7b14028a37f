use serde_json::{Value, json};

use crate::harness::{Api, Lines};

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";

fn event(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

async fn change(api: &Api, name: &str, labels: Value) {
    let patch = json!({"metadata": {"labels": labels}});
    api.merge(&format!("{CONFIGS}/{name}"), &patch).await.expect(200);
}

#[tokio::test]
async fn a_watch_tells_the_state_and_then_every_change() {
    let api = Api::new();
    api.config("a", json!({})).await;
    let mut watch = api.watch(&format!("{CONFIGS}?watch=1")).await;
    assert_eq!(watch.told().await, event("ADDED", "a"));
    api.config("b", json!({})).await;
    change(&api, "a", json!({"x": "y"})).await;
    api.delete(&format!("{CONFIGS}/b"), &Value::Null).await.expect(200);
    assert_eq!(watch.told().await, event("ADDED", "b"));
    assert_eq!(watch.told().await, event("MODIFIED", "a"));
    assert_eq!(watch.told().await, event("DELETED", "b"));
}

#[tokio::test]
async fn a_watch_goes_on_from_a_version() {
    let api = Api::new();
    api.config("a", json!({})).await;
    let list = api.get(CONFIGS).await.expect(200);
    api.config("b", json!({})).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{CONFIGS}?watch=true&resourceVersion={version}");
    assert_eq!(api.watch(&path).await.told().await, event("ADDED", "b"));
}

#[tokio::test]
async fn a_version_that_is_forgotten_is_told_as_an_error() {
    let api = Api::new();
    api.config("a", json!({})).await;
    api.config("b", json!({})).await;
    let api = api.restart().await;
    let mut watch = api.watch(&format!("{CONFIGS}?watch=true&resourceVersion=1")).await;
    let error = watch.next().await.unwrap();
    assert_eq!(error["type"], "ERROR");
    assert_eq!(error["object"]["code"], 410);
    assert_eq!(error["object"]["reason"], "Expired");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn what_leaves_a_selection_is_deleted_for_who_sees_only_that() {
    let api = Api::new();
    let mut watch = api.watch(&format!("{CONFIGS}?watch=true&labelSelector=seen")).await;
    api.config("a", json!({})).await;
    change(&api, "a", json!({"seen": "yes"})).await;
    change(&api, "a", json!({"seen": "still"})).await;
    change(&api, "a", json!({"seen": null})).await;
    change(&api, "a", json!({"seen": "again"})).await;
    api.delete(&format!("{CONFIGS}/a"), &Value::Null).await.expect(200);
    assert_eq!(watch.told().await, event("ADDED", "a"));
    assert_eq!(watch.told().await, event("MODIFIED", "a"));
    let left = watch.next().await.unwrap();
    assert_eq!(left["type"], "DELETED");
    assert_eq!(left["object"]["metadata"]["labels"]["seen"], "still");
    assert_eq!(watch.told().await, event("ADDED", "a"));
    assert_eq!(watch.told().await, event("DELETED", "a"));
}

#[tokio::test]
async fn a_list_can_be_streamed() {
    let api = Api::new();
    for index in 0..250 {
        api.config(&format!("c{index:03}"), json!({})).await;
    }
    let path = format!(
        "{CONFIGS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let mut watch = api.watch(&path).await;
    for index in 0..250 {
        assert_eq!(watch.told().await, event("ADDED", &format!("c{index:03}")));
    }
    let mark = watch.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(mark["object"]["kind"], "ConfigMap");
    api.config("d", json!({})).await;
    assert_eq!(watch.told().await, event("ADDED", "d"));
    api.get(&format!("{CONFIGS}?watch=true&sendInitialEvents=true")).await.expect(422);
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_up_with_a_bookmark() {
    let api = Api::new();
    let path = format!("{CONFIGS}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true");
    let mut watch = api.watch(&path).await;
    let made = api.config("a", json!({})).await;
    assert_eq!(watch.told().await, event("ADDED", "a"));
    let mark = watch.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    let version = |object: &Value| -> u64 {
        object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
    };
    assert!(version(&mark["object"]) >= version(&made));
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_watch_of_tables_tells_the_columns_once() {
    let api = Api::new();
    api.config("a", json!({})).await;
    let request = http::Request::builder()
        .uri(format!("{CONFIGS}?watch=true"))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(axum::body::Body::empty())
        .unwrap();
    let mut watch = Lines::of(api.send(request).await);
    let first = watch.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    api.config("b", json!({})).await;
    let second = watch.next().await.unwrap();
    assert_eq!(second["object"]["columnDefinitions"], Value::Null);
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
}

#[tokio::test]
async fn watches_end_when_the_server_stops() {
    let mut api = Api::collecting();
    let mut watch = api.watch("/api/v1/secrets?watch=true&resourceVersion=0").await;
    api.stop().await;
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn what_is_selected_comes_however_much_is_not() {
    let api = Api::new();
    for index in 0..150 {
        api.config(&format!("c{index:03}"), json!({})).await;
    }
    api.config("z", json!({"labels": {"seen": "yes"}})).await;
    for selector in ["labelSelector=seen", "fieldSelector=metadata.name%3Dz"] {
        let mut watch = api.watch(&format!("{CONFIGS}?watch=true&{selector}")).await;
        assert_eq!(watch.told().await, event("ADDED", "z"), "{selector}");
    }
}
