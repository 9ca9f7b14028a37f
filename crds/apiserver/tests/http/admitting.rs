use http::Method;
use serde_json::{Value, json};

use crate::harness::{Api, EVENTING, broker, trigger};
use crate::tick::CATALOG;

const DENIED: &str = "admission webhook \"validation.webhook.eventing.knative.dev\" denied the request: validation failed: ";

#[tokio::test]
async fn refusals_have_knatives_words_and_code() {
    let api = Api::new();
    let mut bad = trigger("t");
    bad["spec"] = json!({"broker": "", "subscriber": {}});
    let status =
        api.post(&format!("{EVENTING}/namespaces/default/triggers"), &bad).await.expect(400);
    assert_eq!(status["reason"], "BadRequest");
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with(DENIED), "{message}");
}

#[tokio::test]
async fn core_kinds_are_refused_as_kubernetes_refuses_them() {
    let api = Api::new();
    let bad = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a b": ""},
    });
    let status = api.post("/api/v1/namespaces/default/configmaps", &bad).await.expect(422);
    assert_eq!(status["reason"], "Invalid");
    assert_eq!(status["details"]["causes"][0]["field"], "data[a b]");
    let message = status["message"].as_str().unwrap();
    let start =
        "ConfigMap \"c\" is invalid: data[a b]: Invalid value: \"a b\": a valid config key must";
    assert!(message.starts_with(start), "{message}");
}

#[tokio::test]
async fn unknown_fields_are_refused_warned_of_or_dropped() {
    let api = Api::new();
    let mut object = broker("b");
    object["spec"]["nope"] = 1.into();
    let path = format!("{EVENTING}/namespaces/default/brokers");
    let strict = format!("{path}?fieldValidation=Strict");
    let status = api.post(&strict, &object).await.expect(400);
    assert_eq!(
        status["message"],
        "Broker in version \"v1\" cannot be handled as a Broker: strict decoding error: unknown field \"spec.nope\""
    );
    let answer = api.post(&path, &object).await;
    assert_eq!(answer.headers["warning"], "299 - \"unknown field \\\"spec.nope\\\"\"");
    assert_eq!(answer.expect(201)["spec"].get("nope"), None);
    object["metadata"]["name"] = "c".into();
    let answer = api.post(&format!("{path}?fieldValidation=Ignore"), &object).await;
    assert!(!answer.headers.contains_key("warning"));
    answer.expect(201);
}

#[tokio::test]
async fn keys_that_stand_twice_are_refused_where_strict() {
    let api = Api::new();
    let text = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"1","a":"2"}}"#;
    let path = "/api/v1/namespaces/default/configmaps";
    let strict = format!("{path}?fieldValidation=Strict");
    let media = "application/json";
    let status = api.request(Method::POST, &strict, media, text.to_owned()).await.expect(400);
    let message = status["message"].as_str().unwrap();
    assert!(message.ends_with("strict decoding error: duplicate field \"data.a\""), "{message}");
    let made = api.request(Method::POST, path, media, text.to_owned()).await.expect(201);
    assert_eq!(made["data"]["a"], "2");
}

#[tokio::test]
async fn the_defaults_for_brokers_are_live() {
    let api = Api::new();
    let made = api.broker("a").await;
    assert_eq!(made["metadata"]["annotations"]["eventing.knative.dev/broker.class"], "Weft");
    let path = "/api/v1/namespaces/knative-eventing/configmaps/config-br-defaults";
    let yaml = "clusterDefault:\n  brokerClass: Other\n";
    let patch = json!({"data": {"default-br-config": yaml}});
    api.merge(path, &patch).await.expect(200);
    let made = api.broker("b").await;
    assert_eq!(made["metadata"]["annotations"]["eventing.knative.dev/broker.class"], "Other");
}

#[tokio::test]
async fn defaults_that_cannot_be_read_are_refused_and_the_last_good_ones_stay() {
    let api = Api::new();
    let path = "/api/v1/namespaces/knative-eventing/configmaps/config-br-defaults";
    let patch = json!({"data": {"default-br-config": "clusterDefault: [1"}});
    let status = api.merge(path, &patch).await.expect(400);
    let message = status["message"].as_str().unwrap();
    let start = "admission webhook \"config.webhook.eventing.knative.dev\" denied the request: ";
    assert!(message.starts_with(start), "{message}");
    let made = api.broker("a").await;
    assert_eq!(made["metadata"]["annotations"]["eventing.knative.dev/broker.class"], "Weft");
    let ping = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config-ping-defaults"},
        "data": {"data-max-size": "many"},
    });
    api.post("/api/v1/namespaces/knative-eventing/configmaps", &ping).await.expect(400);
}

#[tokio::test]
async fn a_value_of_a_wrong_type_is_refused() {
    let api = Api::new();
    let mut object = broker("b");
    object["spec"] = json!({"delivery": {"retry": "many"}});
    let path = format!("{EVENTING}/namespaces/default/brokers");
    let status = api.post(&path, &object).await.expect(422);
    assert!(status["message"].as_str().unwrap().contains("spec.delivery.retry"), "{status}");
    for wrong in [json!([]), json!("x"), Value::Null, json!({"metadata": 1})] {
        api.post(&path, &wrong).await.expect(400);
    }
}

/// What a cluster with Knative answered to objects of these kinds, with these defaults for Brokers.
const MEASURED: &str = include_str!("../../../tests/admission.json");
const KNATIVES_DEFAULTS: &str = "
clusterDefault:
  brokerClass: MTChannelBasedBroker
  apiVersion: v1
  kind: ConfigMap
  name: config-br-default-channel
  namespace: knative-eventing
  delivery:
    retry: 10
    backoffPolicy: exponential
    backoffDelay: PT0.2S
";

#[tokio::test]
async fn a_cluster_with_knative_answers_the_same() {
    let api = Api::new();
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "bench"}})).await.expect(201);
    let defaults = json!({"data": {"default-br-config": KNATIVES_DEFAULTS}});
    let path = "/api/v1/namespaces/knative-eventing/configmaps/config-br-defaults";
    api.merge(path, &defaults).await.expect(200);
    let cases: Vec<Value> = serde_json::from_str(MEASURED).unwrap();
    let mut refused = 0;
    for case in &cases {
        let (object, name) = (&case["object"], &case["case"]);
        let Some(kind) = CATALOG.iter().find(|one| case["kind"] == one.kind) else {
            // A source that is declared elsewhere.
            continue;
        };
        let meta = &object["metadata"];
        let path = format!(
            "/{}/namespaces/{}/{}",
            if kind.group.is_empty() {
                "api/v1".to_owned()
            } else {
                format!("apis/{}", object["apiVersion"].as_str().unwrap())
            },
            meta["namespace"].as_str().unwrap(),
            kind.plural
        );
        let options = "dryRun=All&fieldValidation=Strict";
        // The ConfigMaps were there, so they were replaced.
        let answer = if case["status"] == 200 {
            let path = format!("{path}/{}", meta["name"].as_str().unwrap());
            let there = api.get(&path).await.status == 200;
            if !there {
                continue;
            }
            api.put(&format!("{path}?{options}"), object).await
        } else {
            api.post(&format!("{path}?{options}"), object).await
        };
        if case["status"].as_u64().unwrap() < 400 {
            // What is refused beyond Knative is listed where the rules are.
            let stricter = answer.status == 400 && name.as_str().unwrap().starts_with("filters");
            assert!(
                stricter || case["status"] == answer.status.as_u16(),
                "{name}: {}",
                answer.body
            );
            continue;
        }
        refused += 1;
        let status = answer.expect(u16::try_from(case["status"].as_u64().unwrap()).unwrap());
        assert_eq!(status["reason"], case["reason"], "{name}");
        let expected = case["message"].as_str().unwrap();
        let message = status["message"].as_str().unwrap();
        // Behind a parse error stands the reason, which that cluster did not give.
        assert!(
            message == expected || message.starts_with(&format!("{expected}\n")),
            "{name}: {message}"
        );
    }
    assert_eq!(refused, 20);
}
