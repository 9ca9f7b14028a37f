//! `kn` is packaged nowhere; these are its requests, as its typed and dynamic clients make them: JSON of whole Go structs
//! with their nulls and empty parts, lists, gets, updates with the version that was read, and watches to wait.

use serde_json::{Value, json};

use crate::harness::eventually::eventually;
use crate::harness::mesh::{BROKER, Mesh};
use crate::harness::request::{self, Answer};
use crate::harness::subscriber::Subscriber;

const BROKERS: &str = "/apis/eventing.knative.dev/v1/namespaces/default/brokers";
const TRIGGERS: &str = "/apis/eventing.knative.dev/v1/namespaces/default/triggers";
const PINGS: &str = "/apis/sources.knative.dev/v1/namespaces/default/pingsources";

struct Kn {
    mesh: Mesh,
    token: String,
}

impl Kn {
    async fn start(yaml: &str) -> Self {
        let mesh = Mesh::start(yaml).await;
        let token = std::fs::read_to_string(mesh.data().join("api/token")).expect("a token");
        Self { mesh, token }
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [
            ("accept", "application/json, */*"),
            ("authorization", &format!("Bearer {}", self.token)),
            ("content-type", "application/json"),
            ("user-agent", "kn/v1.22.0 (linux/amd64) kubernetes/$Format"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        request::send(method, &format!("{}{path}", self.mesh.api), &headers, body).await
    }

    async fn ok(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.send(method, path, body).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {}", answer.body);
        serde_json::from_str(&answer.body).expect("JSON")
    }

    async fn get(&self, path: &str) -> Value {
        self.ok("GET", path, &Value::Null).await
    }

    /// The lines of a watch that the server ends by itself.
    async fn watch(&self, path: &str) -> Vec<Value> {
        let answer = self.send("GET", path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body.lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
    }

    async fn ready(&self, path: &str) -> Value {
        eventually("it is Ready", async || {
            let object = self.get(path).await;
            let conditions = object["status"]["conditions"].as_array().cloned()?;
            let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
            (ready["status"] == "True").then_some(object)
        })
        .await
    }
}

/// As Go writes the metadata of a new object.
fn named(name: &str) -> Value {
    json!({"name": name, "namespace": "default", "creationTimestamp": null})
}

fn broker(name: &str) -> Value {
    json!({"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": named(name),
        "spec": {}, "status": {"annotations": null}})
}

fn trigger(name: &str, broker: &str, uri: &str) -> Value {
    json!({"metadata": named(name), "spec": {"broker": broker, "filter": {"attributes": {"type": "a"}},
        "subscriber": {"uri": uri}}, "status": {}})
}

#[tokio::test(flavor = "multi_thread")]
async fn kn_broker_create_list_describe_and_delete_that_waits() {
    let kn = Kn::start("# nothing yet\n").await;
    let made = kn.ok("POST", BROKERS, &broker("b")).await;
    assert_eq!(made["kind"], "Broker");
    let list = kn.get(BROKERS).await;
    assert_eq!(
        (&list["kind"], list["items"].as_array().map(Vec::len)),
        (&json!("BrokerList"), Some(1))
    );
    let described = kn.ready(&format!("{BROKERS}/b")).await;
    assert_eq!(described["status"]["address"]["url"], format!("{}/default/b", kn.mesh.events));
    // To wait, kn watches by name from the version of a list, then deletes.
    let by_name = format!("{BROKERS}?fieldSelector=metadata.name%3Db");
    let list = kn.get(&by_name).await;
    let version = list["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    kn.ok("DELETE", &format!("{BROKERS}/b"), &json!({"propagationPolicy": "Background"})).await;
    let watch = format!("{by_name}&resourceVersion={version}&timeoutSeconds=1&watch=true");
    let events = kn.watch(&watch).await;
    assert_eq!(events.last().expect("an event")["type"], "DELETED", "{events:?}");
    assert_eq!(kn.send("GET", &format!("{BROKERS}/b"), &Value::Null).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn kn_trigger_create_update_and_list() {
    let (first, second) = (Subscriber::start().await, Subscriber::start().await);
    let kn = Kn::start(BROKER).await;
    kn.ok("POST", TRIGGERS, &trigger("t", "default", &first.url)).await;
    let mut read = kn.ready(&format!("{TRIGGERS}/t")).await;
    kn.mesh.send("a", "1").await;
    first.wait(1).await;
    read["spec"]["subscriber"]["uri"] = json!(second.url);
    let path = format!("{TRIGGERS}/t");
    let updated = kn.ok("PUT", &path, &read).await;
    assert_eq!(updated["metadata"]["generation"], 2);
    let stale = kn.send("PUT", &path, &read).await;
    assert_eq!(stale.status, 409, "{}", stale.body);
    assert!(stale.body.contains("the object has been modified"), "{}", stale.body);
    eventually("the new subscriber", async || {
        kn.mesh.send("a", "2").await;
        (!second.got().is_empty()).then_some(())
    })
    .await;
    let twice = kn.send("POST", TRIGGERS, &trigger("t", "default", &first.url)).await;
    let status: Value = serde_json::from_str(&twice.body).expect("a Status");
    assert_eq!((twice.status, &status["reason"]), (409, &json!("AlreadyExists")));
    assert_eq!(kn.get(TRIGGERS).await["items"][0]["spec"]["broker"], "default");
}

#[tokio::test(flavor = "multi_thread")]
async fn kn_source_ping_list_and_list_types() {
    let kn = Kn::start(BROKER).await;
    let to = json!({"ref": {"kind": "Broker", "namespace": "default", "name": "default", "apiVersion": "eventing.knative.dev/v1"}});
    let ping = json!({"metadata": named("p"), "spec": {"sink": to, "schedule": "*/1 * * * *",
        "contentType": "application/json", "data": "{\"a\":1}"}, "status": {}});
    kn.ok("POST", PINGS, &ping).await;
    let ready = kn.ready(&format!("{PINGS}/p")).await;
    assert_eq!(ready["status"]["sinkUri"], kn.mesh.broker());
    // Which kinds of sources there are, is read from the definitions, by label.
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?labelSelector=duck.knative.dev%2Fsource%3Dtrue";
    let definitions = kn.get(definitions).await;
    let mut found = Vec::new();
    for definition in definitions["items"].as_array().expect("a list") {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let version = spec["versions"].as_array().expect("versions").iter();
        let stored = version.clone().find(|version| version["storage"] == true).expect("one");
        let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
        let list = format!("/apis/{group}/{}/namespaces/default/{plural}", text(&stored["name"]));
        let list = kn.get(&list).await;
        assert_eq!(list["kind"], format!("{}List", text(&spec["names"]["kind"])));
        for item in list["items"].as_array().expect("a list") {
            found.push(text(&item["metadata"]["name"]));
        }
    }
    assert_eq!(found, ["p"]);
    assert!(definitions["items"].as_array().expect("a list").len() >= 2);
}
