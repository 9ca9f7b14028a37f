use axum::body::Body;
use http::{Method, Request};
use serde_json::json;
use tower::ServiceExt;

use crate::harness::{Answer, Api, TOKEN, read};

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";

async fn network(api: &Api, path: &str, authorization: Option<&str>) -> Answer {
    let mut request = Request::builder().uri(path);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let request = request.body(Body::empty()).unwrap();
    read(api.server.router().oneshot(request).await.unwrap()).await
}

#[tokio::test]
async fn nobody_gets_in_without_the_token() {
    let api = Api::new();
    for path in ["/api", CONFIGS, "/openapi/v3", "/nothing"] {
        for wrong in [None, Some("Bearer x"), Some("Basic a-token"), Some("Bearer"), Some("")] {
            let status = network(&api, path, wrong).await.expect(401);
            assert_eq!(status["reason"], "Unauthorized");
        }
    }
    let right = format!("Bearer {TOKEN}");
    network(&api, CONFIGS, Some(&right)).await.expect(200);
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping", "/version"] {
        network(&api, path, None).await.expect(200);
    }
}

#[tokio::test]
async fn a_request_has_a_limit() {
    let api = Api::new();
    let body = " ".repeat((3 << 20) + 1);
    let status = api.request(Method::POST, CONFIGS, "application/json", body).await.expect(413);
    assert_eq!(status["reason"], "RequestEntityTooLarge");
}

#[tokio::test]
async fn an_object_has_a_limit() {
    let api = Api::new();
    let object = json!({
        "metadata": {"name": "c"}, "involvedObject": {"namespace": "default"}, "message": "x".repeat(3 << 19),
    });
    let status = api.post("/api/v1/namespaces/default/events", &object).await;
    assert!(status.status == 413 || status.status == 422, "{}", status.body);
    let text =
        format!(r#"{{"metadata":{{"name":"c","annotations":{{"a":"{}"}}}}}}"#, "x".repeat(3 << 19));
    let status = api.request(Method::POST, CONFIGS, "application/json", text).await.status;
    assert!(status == 413 || status == 422, "{status}");
}

#[tokio::test]
async fn hostile_bodies_are_refused_and_harm_nobody() {
    let api = Api::new();
    let deep = format!("{}{}", "{\"a\":".repeat(100_000), "1");
    for body in
        [deep.as_str(), "", "{", "nul", "\u{0}", "[1,2", "{\"metadata\":{\"name\":{}}}", "1e999"]
    {
        for media in ["application/json", "application/yaml"] {
            api.request(Method::POST, CONFIGS, media, body.to_owned()).await.expect(400);
        }
        let options = format!("{CONFIGS}/c");
        let answer =
            api.request(Method::PATCH, &options, "application/json-patch+json", body.to_owned());
        assert!(answer.await.status.is_client_error());
    }
    api.get(CONFIGS).await.expect(200);
}

#[tokio::test]
async fn hostile_queries_are_refused() {
    let api = Api::new();
    for query in [
        "limit=x",
        "limit=-1",
        "timeoutSeconds=y",
        "propagationPolicy=z",
        "fieldValidation=q",
        "dryRun=none",
        "resourceVersionMatch=Sometimes",
        "includeObject=Half",
        "fieldManager=%00",
    ] {
        let answer = api.get(&format!("{CONFIGS}?{query}")).await;
        assert!(answer.status.is_client_error(), "{query}: {}", answer.status);
    }
    let many = "a=b&".repeat(100);
    api.get(&format!("{CONFIGS}?{many}")).await.expect(400);
}

#[tokio::test]
async fn secrets_are_in_no_error() {
    let api = Api::new();
    let secret = json!({
        "metadata": {"name": "s"}, "stringData": {"password": 12345, "other": "hunter2"},
    });
    let path = "/api/v1/namespaces/default/secrets";
    let answer = api.post(path, &secret).await;
    assert!(answer.status.is_client_error(), "{}", answer.status);
    assert!(!answer.body.to_string().contains("hunter2"), "{}", answer.body);
}
