use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, find};

const TICKS: &str = "/apis/sources.knative.dev/v1/namespaces/default/ticksources";
const SCALE: &str = "/apis/sources.knative.dev/v1/namespaces/default/ticksources/t/scale";
const APPLY: &str = "application/apply-patch+yaml";

/// A source that wants two.
async fn tick(api: &Api) -> Value {
    let object =
        json!({"metadata": {"name": "t"}, "spec": {"consumers": 2, "sink": {"uri": "http://s/"}}});
    api.post(TICKS, &object).await.expect(201)
}

async fn wanted(api: &Api) -> Value {
    api.get(&format!("{TICKS}/t")).await.expect(200)["spec"]["consumers"].clone()
}

fn scale(replicas: i32) -> Value {
    json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "t", "namespace": "default"},
        "spec": {"replicas": replicas},
    })
}

async fn apply(api: &Api, manager: &str, object: &Value) -> Answer {
    let path = format!("{SCALE}?fieldManager={manager}");
    api.request(Method::PATCH, &path, APPLY, object.to_string()).await
}

#[tokio::test]
async fn a_scale_tells_what_is_wanted_and_what_is_there() {
    let api = Api::new();
    let made = tick(&api).await;
    let meta = &made["metadata"];
    let expected = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": "t", "namespace": "default", "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"], "creationTimestamp": meta["creationTimestamp"],
        },
        "spec": {"replicas": 2}, "status": {"replicas": 0},
    });
    assert_eq!(api.get(SCALE).await.expect(200), expected);
    let status = json!({"status": {"consumers": 1, "selector": "app=t"}});
    api.merge(&format!("{TICKS}/t/status"), &status).await.expect(200);
    let told = api.get(SCALE).await.expect(200);
    assert_eq!(told["status"], json!({"replicas": 1, "selector": "app=t"}));
    let old = SCALE.replace("/v1/", "/v1beta2/");
    assert_eq!(api.get(&old).await.expect(200), told);
    let missing = api.get(&SCALE.replace("/t/", "/u/")).await.expect(404);
    assert_eq!(missing["message"], "ticksources.sources.knative.dev \"u\" not found");
}

#[tokio::test]
async fn what_says_no_number_has_no_scale_to_read() {
    let api = Api::new();
    let object = json!({"metadata": {"name": "t"}, "spec": {"sink": {"uri": "http://s/"}}});
    api.post(TICKS, &object).await.expect(201);
    let status = api.get(SCALE).await.expect(500);
    assert_eq!(
        status["message"],
        "Internal error occurred: the spec replicas field \".spec.consumers\" does not exist"
    );
    let status = api.merge(SCALE, &json!({})).await.expect(400);
    assert_eq!(status["message"], "the spec replicas field \".spec.consumers\" cannot be empty");
    assert_eq!(api.put(SCALE, &scale(3)).await.expect(200)["spec"]["replicas"], 3);
}

/// `kubectl scale` sends this patch; with `--resource-version` it reads and puts.
#[tokio::test]
async fn a_scale_is_patched_and_put() {
    let api = Api::new();
    let made = tick(&api).await;
    let scaled = api.merge(SCALE, &json!({"spec": {"replicas": 3}})).await.expect(200);
    assert_eq!((&scaled["kind"], &scaled["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    let object = api.get(&format!("{TICKS}/t")).await.expect(200);
    assert_eq!(object["spec"]["consumers"], 3);
    assert_eq!(object["metadata"]["generation"], 2);
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["subresource"] == "scale").unwrap();
    assert_eq!(entry["apiVersion"], "sources.knative.dev/v1");
    assert_eq!(entry["fieldsV1"], json!({"f:spec": {"f:consumers": {}}}));

    let mut read = api.get(SCALE).await.expect(200);
    read["spec"]["replicas"] = 4.into();
    assert_eq!(api.put(SCALE, &read).await.expect(200)["spec"]["replicas"], 4);
    let status = api.put(SCALE, &read).await.expect(409);
    assert_eq!(status["details"]["kind"], "ticksources");
    let json_patch = r#"[{"op":"replace","path":"/spec/replicas","value":5}]"#;
    let media = "application/json-patch+json";
    api.request(Method::PATCH, SCALE, media, json_patch).await.expect(200);
    let tried = api.put(&format!("{SCALE}?dryRun=All"), &scale(6)).await.expect(200);
    assert_eq!(tried["spec"]["replicas"], 6);
    assert_eq!(wanted(&api).await, 5);
    let zero = api.put(SCALE, &json!({"metadata": {"name": "t"}})).await.expect(200);
    assert_eq!((&zero["spec"], wanted(&api).await), (&json!({}), json!(0)));
    assert_eq!(api.merge(SCALE, &json!({})).await.expect(200)["spec"], json!({}));
    let mut other = scale(1);
    other["metadata"]["uid"] = "other".into();
    api.put(SCALE, &other).await.expect(409);
    let now = api.get(&format!("{TICKS}/t")).await.expect(200);
    assert_eq!(now["metadata"]["uid"], made["metadata"]["uid"]);
}

#[tokio::test]
async fn what_is_no_scale_is_refused() {
    let api = Api::new();
    tick(&api).await;
    let status = api.put(SCALE, &scale(-1)).await.expect(422);
    assert_eq!(
        status["message"],
        "Scale.autoscaling \"t\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    for wrong in [
        json!({"metadata": {"name": "u"}}),
        json!({"kind": "TickSource", "metadata": {"name": "t"}}),
        json!({"apiVersion": "sources.knative.dev/v1", "metadata": {"name": "t"}}),
        json!({"metadata": {"name": "t"}, "spec": {"replicas": "3"}}),
        json!({"metadata": {"name": "t"}, "spec": {"replicas": 3_000_000_000_u32}}),
        json!({"metadata": {"name": "t"}, "spec": [3]}),
        json!([]),
    ] {
        api.put(SCALE, &wrong).await.expect(400);
    }
    // The rules of the kind hold however it is written.
    let status = api.merge(SCALE, &json!({"spec": {"replicas": 10}})).await.expect(400);
    assert!(status["message"].as_str().unwrap().ends_with("invalid value: 10: spec.consumers"));
    let typo = json!({"spec": {"replica": 3}});
    let status = api.merge(&format!("{SCALE}?fieldValidation=Strict"), &typo).await.expect(400);
    assert_eq!(
        status["message"],
        "Scale in version \"v1\" cannot be handled as a Scale: strict decoding error: unknown field \"spec.replica\""
    );
    let answer = api.merge(SCALE, &typo).await;
    assert_eq!(answer.headers["warning"], "299 - \"unknown field \\\"spec.replica\\\"\"");
    api.merge(SCALE, &json!([])).await.expect(400);
    api.delete(SCALE, &Value::Null).await.expect(405);
    api.post(SCALE, &scale(1)).await.expect(405);
    api.get("/apis/eventing.knative.dev/v1/namespaces/default/brokers/b/scale").await.expect(404);
    assert_eq!(wanted(&api).await, 2);
}

#[tokio::test]
async fn a_scale_is_applied_by_who_owns_the_number() {
    let api = Api::new();
    let absent = apply(&api, "hpa", &scale(1)).await.expect(404);
    assert_eq!(absent["message"], "ticksources.sources.knative.dev \"t\" not found");
    tick(&api).await;
    let status = apply(&api, "hpa", &scale(3)).await.expect(409);
    assert_eq!(status["details"]["causes"][0]["field"], ".spec.consumers");
    let forced = apply(&api, "hpa&force=true", &scale(3)).await.expect(200);
    assert_eq!((&forced["kind"], &forced["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    assert_eq!(apply(&api, "hpa", &scale(4)).await.expect(200)["spec"]["replicas"], 4);
    let object = api.get(&format!("{TICKS}/t")).await.expect(200);
    assert_eq!(object["spec"]["sink"]["uri"], "http://s/");
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["manager"] == "hpa").unwrap();
    assert_eq!((&entry["operation"], &entry["subresource"]), (&json!("Apply"), &json!("scale")));
    assert_eq!(entry["fieldsV1"], json!({"f:spec": {"f:consumers": {}}}));
    apply(&api, "hpa", &json!({"apiVersion": "autoscaling/v1", "kind": "Scale"})).await.expect(400);
}

#[tokio::test]
async fn clients_find_the_scale_and_what_it_looks_like() {
    const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let api = Api::new();
    let kinds = api.get("/apis/sources.knative.dev/v1").await.expect(200);
    find(&kinds["resources"], "name", "ticksources/status");
    assert_eq!(
        *find(&kinds["resources"], "name", "ticksources/scale"),
        json!({
            "name": "ticksources/scale", "singularName": "", "namespaced": true,
            "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"],
        })
    );
    let document = api.accept("/apis", AGGREGATED).await.expect(200);
    let groups = document["items"].as_array().unwrap();
    let sources =
        groups.iter().find(|group| group["metadata"]["name"] == "sources.knative.dev").unwrap();
    assert_eq!(
        find(&sources["versions"][0]["resources"], "resource", "ticksources")["subresources"][1],
        json!({
            "subresource": "scale", "verbs": ["get", "patch", "update"],
            "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
        })
    );
    let openapi = api.get("/openapi/v3/apis/sources.knative.dev/v1").await.expect(200);
    let path = "/apis/sources.knative.dev/v1/namespaces/{namespace}/ticksources/{name}/scale";
    let put = &openapi["paths"][path]["put"];
    assert_eq!(put["x-kubernetes-group-version-kind"]["kind"], "Scale");
    assert!(openapi["components"]["schemas"]["io.k8s.api.autoscaling.v1.Scale"].is_object());
    let definition =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/ticksources.sources.knative.dev";
    let definition = api.get(definition).await.expect(200);
    assert_eq!(
        definition["spec"]["versions"][0]["subresources"]["scale"],
        json!({
            "specReplicasPath": ".spec.consumers", "statusReplicasPath": ".status.consumers",
            "labelSelectorPath": ".status.selector",
        })
    );
}
