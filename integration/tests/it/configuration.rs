//! Promise 7: bad configuration is refused with a sentence that names the field; the last good one stays in force.

use crate::harness::eventually::eventually;
use crate::harness::mesh::{BROKER, Mesh, trigger, weft};
use crate::harness::request;
use crate::harness::subscriber::{Reply, Subscriber};

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_a_followed_file_names_line_and_field_and_changes_nothing() {
    let subscriber = Subscriber::start().await;
    let good = format!("{BROKER}{}", trigger("t", &subscriber.url, "", &[]));
    let mesh = Mesh::start(&good).await;
    let bad = format!("{BROKER}{}", trigger("t", &subscriber.url, "  fliters: []\n", &[]));
    mesh.rewrite(&bad);
    eventually("the complaint", async || mesh.log().contains("fliters").then_some(())).await;
    let log = mesh.log();
    assert!(log.contains("mesh.yaml:14"), "{log}");
    mesh.send("a", "1").await;
    subscriber.wait(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_file_is_in_force_and_a_removed_trigger_is_gone() {
    let (first, second) = (Subscriber::start().await, Subscriber::start().await);
    let only = |filter: &str| format!("  filters: [{filter}]\n");
    let yaml = |filter: &str| {
        let spec = only(filter);
        format!("{BROKER}{}", trigger("t", &first.url, &spec, &[]))
    };
    let mesh = Mesh::start(&yaml("{exact: {type: a}}")).await;
    mesh.send("b", "ignored").await;
    mesh.send("a", "1").await;
    first.wait(1).await;
    mesh.rewrite(&format!("{BROKER}{}", trigger("u", &second.url, "", &[])));
    eventually("the new trigger", async || {
        mesh.send("b", "2").await;
        (!second.got().is_empty()).then_some(())
    })
    .await;
    assert_eq!(first.ids(), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_broken_file_fails_with_file_line_and_field() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("bad.yaml");
    std::fs::write(&file, "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: t\nspec:\n  subscriber:\n    uri: http://x/\n").unwrap();
    let output = weft()
        .args([
            "up",
            "--events",
            "127.0.0.1:0",
            "--gateway",
            "127.0.0.1:0",
            "--api",
            "127.0.0.1:0",
            "-f",
        ])
        .arg(&file)
        .arg("--data")
        .arg(dir.path().join("data"))
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("bad.yaml:5:1: spec.broker: missing field(s)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_may_come_before_its_broker() {
    let subscriber = Subscriber::start().await;
    let mesh = Mesh::start(&trigger("t", &subscriber.url, "", &[])).await;
    assert_eq!(request::post(&mesh.broker(), &request::event("a", "1"), "{}").await.status, 404);
    mesh.rewrite(&format!("{BROKER}{}", trigger("t", &subscriber.url, "", &[])));
    eventually("the broker", async || {
        let answer = request::post(&mesh.broker(), &request::event("a", "2"), "{}").await;
        (answer.status == 202).then_some(())
    })
    .await;
    subscriber.wait(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_defaults_come_from_the_config_map() {
    let failing = Subscriber::scripted(|_| Reply::status(500)).await;
    let defaults = "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config-br-defaults\n  namespace: knative-eventing\ndata:\n  default-br-config: |\n    clusterDefault:\n      brokerClass: Weft\n      delivery:\n        retry: 2\n        backoffPolicy: linear\n        backoffDelay: PT0.01S\n";
    let mesh =
        Mesh::start(&format!("{BROKER}{}{defaults}", trigger("t", &failing.url, "", &[]))).await;
    mesh.send("a", "1").await;
    eventually("parked after three attempts", async || {
        let text = mesh.weft_ok(&["parked", "list", "-o", "json"]).await;
        text.contains("\"attempts\":3").then_some(())
    })
    .await;
    assert_eq!(failing.got().len(), 3);
    // And they are live: for brokers that come later, as in Knative. What is stored stays as it is.
    let defaults = defaults.replace("retry: 2", "retry: 4");
    let later = BROKER.replace("name: default", "name: later");
    let trigger = trigger("t", &failing.url, "", &[]);
    mesh.rewrite(&format!("{BROKER}{trigger}---\n{later}{defaults}"));
    eventually("the later broker", async || {
        mesh.weft_ok(&["get", "brokers", "-o", "name"]).await.contains("/later").then_some(())
    })
    .await;
    let retries = async |name: &str| {
        let text = mesh.weft_ok(&["get", "broker", name, "-o", "json"]).await;
        let broker: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        broker["spec"]["delivery"]["retry"].as_u64()
    };
    assert_eq!((retries("default").await, retries("later").await), (Some(2), Some(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_a_file_uses_is_there_without_being_declared() {
    let mesh = Mesh::start(&format!("{BROKER}  namespace: team-a\n")).await;
    let url = format!("{}/team-a/default", mesh.events);
    assert_eq!(request::post(&url, &request::event("a", "1"), "{}").await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_of_every_file_is_told_at_once() {
    let subscriber = Subscriber::start().await;
    let mesh = Mesh::start(&format!("{BROKER}{}", trigger("t", &subscriber.url, "", &[]))).await;
    let spec = "  filterz: []\n  delivery: {retry: many}\n";
    let channel = "---\napiVersion: messaging.knative.dev/v1\nkind: Channel\n";
    mesh.rewrite(&format!("{BROKER}{}{channel}", trigger("t", "42", spec, &[])));
    let log = eventually("the complaint", async || {
        Some(mesh.log()).filter(|log| log.contains("the last good state stays in force"))
    })
    .await;
    for mistake in [
        "mesh.yaml:13:5: spec.subscriber.uri: must be a string, not a number; quote it",
        "mesh.yaml:14:3: spec.filterz: unknown field",
        "mesh.yaml:15:14: spec.delivery.retry: must be a whole number, not a string",
        "mesh.yaml:18:1: kind: Knative's Channel (messaging.knative.dev/v1) is not served by this mesh",
    ] {
        assert!(log.contains(mistake), "{mistake}\n{log}");
    }
    mesh.send("a", "1").await;
    subscriber.wait(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_are_served_and_web_pages_are_not() {
    let mesh = Mesh::start(BROKER).await;
    mesh.send("a", "1").await;
    assert_eq!(request::get(&format!("{}/healthz", mesh.api)).await.status, 200);
    let metrics = request::get(&format!("{}/metrics", mesh.api)).await;
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.body.ends_with("# EOF\n") && metrics.body.contains("weft_"),
        "{}",
        metrics.body
    );
    let origin = [("origin".to_owned(), "https://evil.example".to_owned())];
    let refused = request::send("GET", &format!("{}/weft/v1/parked", mesh.api), &origin, "").await;
    assert_eq!(refused.status, 403);
}
