//! Resources are how users say what they want: applied, watched and deleted through the API, kept over a crash.

use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::eventually::eventually;
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::request::{self, Answer};
use crate::harness::subscriber::Subscriber;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A file beside the mesh's data.
fn file(mesh: &Mesh, name: &str, text: &str) -> PathBuf {
    let path = mesh.data().with_file_name(name);
    std::fs::write(&path, text).expect("a file");
    path
}

fn token(mesh: &Mesh) -> String {
    std::fs::read_to_string(mesh.data().join("api/token")).expect("a token")
}

async fn ask(mesh: &Mesh, method: &str, path: &str, body: &Value) -> Answer {
    let headers = [
        ("authorization".to_owned(), format!("Bearer {}", token(mesh))),
        ("content-type".to_owned(), "application/json".to_owned()),
    ];
    request::send(method, &format!("{}{path}", mesh.api), &headers, body.to_string()).await
}

fn map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_becomes_ready_and_delivers_until_it_is_deleted() {
    let subscriber = Subscriber::start().await;
    let mesh = Mesh::start("# nothing yet\n").await;
    let path =
        file(&mesh, "t.yaml", &format!("{BROKER}{}", trigger("t", &subscriber.url, "", &[])));
    let path = path.to_str().expect("text");
    let applied = mesh.weft_ok(&["apply", "-f", path]).await;
    assert_eq!(
        applied,
        "broker.eventing.knative.dev/default created\ntrigger.eventing.knative.dev/t created\n"
    );
    let waited = mesh.weft_ok(&["wait", "trigger/t", "broker/default"]).await;
    assert!(waited.starts_with("trigger.eventing.knative.dev/t condition met\n"), "{waited}");
    mesh.send("a", "1").await;
    subscriber.wait(1).await;
    let again = mesh.weft_ok(&["apply", "-f", path]).await;
    assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
    let shown = mesh.weft_ok(&["get", "triggers"]).await;
    let columns: Vec<&str> = shown.lines().next().expect("a header").split_whitespace().collect();
    assert_eq!(columns, ["NAME", "BROKER", "SUBSCRIBER_URI", "AGE", "READY", "REASON"]);
    assert!(shown.contains(&subscriber.url) && shown.contains("True"), "{shown}");
    let described = mesh.weft_ok(&["describe", "trigger", "t"]).await;
    assert!(described.contains("Kind:") && described.contains("subscriberUri"), "{described}");
    let deleted = mesh.weft_ok(&["delete", "-f", path]).await;
    assert_eq!(deleted.lines().count(), 2, "{deleted}");
    eventually("the broker is gone with its resource", async || {
        let answer = request::post(&mesh.broker(), &request::event("a", "2"), "{}").await;
        (answer.status == 404).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_followed_and_what_came_otherwise_is_left_alone() {
    let subscriber = Subscriber::start().await;
    let both = format!("{BROKER}{}", trigger("from-file", &subscriber.url, "", &[]));
    let mut mesh = Mesh::start(&both).await;
    let path = file(&mesh, "other.yaml", &trigger("by-hand", &subscriber.url, "", &[]));
    mesh.weft_ok(&["apply", "-f", path.to_str().expect("text")]).await;
    mesh.rewrite(BROKER);
    let names = async || mesh.weft_ok(&["get", "triggers", "-o", "name"]).await;
    eventually("the file's trigger goes", async || {
        (!names().await.contains("from-file")).then_some(())
    })
    .await;
    assert_eq!(names().await, "trigger.eventing.knative.dev/by-hand\n");
    // What went from the files while nobody followed them goes at the next start.
    mesh.rewrite(&both);
    eventually("it is back", async || names().await.contains("from-file").then_some(())).await;
    mesh.kill().await;
    mesh.rewrite(BROKER);
    mesh.restart().await;
    let names = mesh.weft_ok(&["get", "triggers", "-o", "name"]).await;
    assert_eq!(names, "trigger.eventing.knative.dev/by-hand\n");
}

/// Creates a config map; answers its name if that was acknowledged. Who is cut off was promised nothing.
async fn create(api: String, token: String, name: String) -> Option<String> {
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = http::Request::post(format!("{api}{MAPS}"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(map(&name, &"x".repeat(2000)).to_string().into())
        .expect("a request");
    let answer = client.request(request).await.ok()?;
    (answer.status() == 201).then_some(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_write_survives_kill_9_and_no_object_is_half_written() {
    let mut mesh = Mesh::start("# nothing yet\n").await;
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let mut writes = JoinSet::new();
        for number in 0..40 {
            writes.spawn(create(mesh.api.clone(), token(&mesh), format!("m{round}-{number}")));
        }
        // Some are answered before the end comes, some are under way.
        for _ in 0..10 {
            let answered = writes.join_next().await.expect("there are forty");
            acknowledged.extend(answered.expect("no panic"));
        }
        mesh.kill().await;
        while let Some(answered) = writes.join_next().await {
            acknowledged.extend(answered.expect("no panic"));
        }
        mesh.restart().await;
        let list = ask(&mesh, "GET", MAPS, &Value::Null).await;
        let list: Value = serde_json::from_str(&list.body).expect("JSON");
        let items = list["items"].as_array().expect("a list");
        let whole: Vec<&str> = items
            .iter()
            .filter(|item| item["data"]["value"].as_str().is_some_and(|text| text.len() == 2000))
            .filter_map(|item| item["metadata"]["name"].as_str())
            .collect();
        let lost: Vec<&String> =
            acknowledged.iter().filter(|name| !whole.contains(&name.as_str())).collect();
        assert!(lost.is_empty(), "{lost:?}");
        let ours = items.iter().filter(|item| {
            item["metadata"]["name"].as_str().is_some_and(|name| name.starts_with('m'))
        });
        assert_eq!(ours.count(), whole.len(), "none is half there");
    }
    assert!(acknowledged.len() >= 30, "{}", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_asks_for_its_token_and_health_does_not() {
    let mesh = Mesh::start(BROKER).await;
    let anonymous = request::get(&format!("{}/api/v1/namespaces/default/secrets", mesh.api)).await;
    assert_eq!(anonymous.status, 401, "{}", anonymous.body);
    let wrong = [("authorization".to_owned(), "Bearer nonsense".to_owned())];
    let wrong = request::send("GET", &format!("{}{MAPS}", mesh.api), &wrong, "").await;
    let status: Value = serde_json::from_str(&wrong.body).expect("a Status");
    assert_eq!((wrong.status, &status["reason"]), (401, &json!("Unauthorized")));
    assert_eq!(request::get(&format!("{}/readyz", mesh.api)).await.status, 200);
    assert_eq!(ask(&mesh, "GET", MAPS, &Value::Null).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_in_no_log_and_in_no_description() {
    let mesh = Mesh::start_with(BROKER, &["--log", "json"]).await;
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter-two}\n";
    let path = file(&mesh, "s.yaml", secret);
    mesh.weft_ok(&["apply", "-f", path.to_str().expect("text")]).await;
    let described = mesh.weft_ok(&["describe", "secret", "s"]).await;
    assert!(described.contains("password: about") && !described.contains("hunter"), "{described}");
    assert!(!described.contains("aHVudGVyLXR3bw"), "{described}");
    let bad = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b"}, "data": {"k": "hunter-two!"}});
    let refused = ask(&mesh, "POST", "/api/v1/namespaces/default/secrets", &bad).await;
    assert!(refused.status >= 400 && !refused.body.contains("hunter"), "{}", refused.body);
    assert!(!mesh.log().contains("hunter"), "{}", mesh.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_object_is_named_with_its_place_and_the_others_are_in_force() {
    let mesh = Mesh::start(BROKER).await;
    mesh.rewrite(&format!(
        "{}---\n{}",
        BROKER.replace(
            "  name: default\n",
            "  name: default\n  annotations: {eventing.knative.dev/broker.class: Kafka}\n"
        ),
        BROKER.replace("name: default", "name: second")
    ));
    eventually("the other broker", async || {
        mesh.weft_ok(&["get", "brokers", "-o", "name"]).await.contains("second").then_some(())
    })
    .await;
    eventually("the refusal", async || {
        let log = mesh.log();
        (log.contains("mesh.yaml:1:1") && log.contains("Immutable")).then_some(())
    })
    .await;
    mesh.send("a", "still taken").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubeconfig_is_printed_and_merged_into_ones_own() {
    let mesh = Mesh::start(BROKER).await;
    let printed = mesh.weft_ok(&["kubeconfig"]).await;
    assert!(printed.contains("https://127.0.0.1:") && printed.contains(&token(&mesh)), "{printed}");
    let own = mesh.data().with_file_name("own-kubeconfig");
    let output = crate::harness::mesh::weft()
        .env("KUBECONFIG", &own)
        .args(["kubeconfig", "--merge", "--data"])
        .arg(mesh.data())
        .output()
        .await
        .expect("weft runs");
    assert!(output.status.success());
    let own = own.to_str().expect("text");
    let output = crate::harness::mesh::weft()
        .args(["get", "brokers", "-o", "name", "--kubeconfig", own])
        .output()
        .await
        .expect("weft runs");
    let names = String::from_utf8_lossy(&output.stdout);
    assert_eq!(names, "broker.eventing.knative.dev/default\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_no_kind_is_answered_with_those_there_are() {
    let mesh = Mesh::start("# nothing yet\n").await;
    let output = mesh.weft(&["get", "pods"]).await;
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("no kind is called \"pods\": there are brokers, triggers"), "{text}");
}
