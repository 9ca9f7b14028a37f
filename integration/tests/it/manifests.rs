//! Manifests in every form that Knative's documentation shows are applied as they are, become Ready and deliver.

use crate::harness::eventually::eventually;
use crate::harness::mesh::Mesh;
use crate::harness::request;
use crate::harness::subscriber::{Reply, Subscriber};

/// What Brokers get, as Knative installs it.
const DEFAULTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata:
  name: config-br-defaults
  namespace: knative-eventing
data:
  default-br-config: |
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
    namespaceDefaults:
      other:
        brokerClass: Weft
        delivery:
          retry: 3
          backoffPolicy: linear
          backoffDelay: PT1S
"#;

/// A Broker that says everything.
const BROKER: &str = r#"
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata:
  name: default
  namespace: default
  annotations:
    eventing.knative.dev/broker.class: MTChannelBasedBroker
spec:
  config:
    apiVersion: v1
    kind: ConfigMap
    name: config-br-default-channel
    namespace: knative-eventing
  delivery:
    deadLetterSink:
      uri: DEAD
    backoffDelay: PT0.05S
    backoffPolicy: exponential
    retry: 2
    timeout: PT5S
"#;

/// A Trigger's filter in every dialect, each for the event `a` of source `/test` with subject `order-7`.
const FILTERS: &[(&str, &str)] = &[
    ("none", ""),
    ("attributes", "  filter:\n    attributes:\n      type: a\n      source: /test\n"),
    ("any-value", "  filter:\n    attributes:\n      subject: \"\"\n"),
    ("exact", "  filters:\n  - exact:\n      type: a\n"),
    ("prefix", "  filters:\n  - prefix:\n      subject: order-\n"),
    ("suffix", "  filters:\n  - suffix:\n      subject: \"-7\"\n"),
    (
        "all",
        "  filters:\n  - all:\n    - exact:\n        type: a\n    - prefix:\n        source: /te\n",
    ),
    (
        "any",
        "  filters:\n  - any:\n    - exact:\n        type: none\n    - exact:\n        type: a\n",
    ),
    ("not", "  filters:\n  - not:\n      exact:\n        type: none\n"),
    ("cesql", "  filters:\n  - cesql: \"type = 'a' AND subject LIKE 'order-%'\"\n"),
    ("several", "  filters:\n  - exact:\n      type: a\n  - cesql: \"EXISTS subject\"\n"),
];

fn trigger(name: &str, filter: &str, subscriber: &str) -> String {
    format!(
        "---\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: {name}\n  namespace: default\nspec:\n  \
         broker: default\n{filter}  subscriber:\n    uri: {subscriber}/{name}\n"
    )
}

fn ping(name: &str, sink: &str) -> String {
    format!(
        "---\napiVersion: sources.knative.dev/v1\nkind: PingSource\nmetadata:\n  name: {name}\n  namespace: default\nspec:\n  \
         schedule: \"*/1 * * * * *\"\n  contentType: \"application/json\"\n  data: '{{\"message\": \"{name}\"}}'\n  sink:\n{sink}"
    )
}

async fn mesh_with(yaml: &str) -> Mesh {
    let mesh = Mesh::start("# nothing yet\n").await;
    let path = mesh.data().with_file_name("all.yaml");
    std::fs::write(&path, yaml).expect("a file");
    mesh.weft_ok(&["apply", "-f", path.to_str().expect("text")]).await;
    mesh
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_filter_is_ready_and_delivers() {
    let subscriber = Subscriber::start().await;
    let url = subscriber.url.trim_end_matches('/');
    let triggers: String =
        FILTERS.iter().map(|(name, filter)| trigger(name, filter, url)).collect();
    let broker = BROKER.replace("DEAD", url);
    let mesh = mesh_with(&format!("{DEFAULTS}---{broker}{triggers}")).await;
    for (name, _) in FILTERS {
        mesh.weft_ok(&["wait", &format!("trigger/{name}"), "--for", "condition=Ready"]).await;
    }
    let mut headers = request::event("a", "1");
    headers.push(("ce-subject".to_owned(), "order-7".to_owned()));
    assert_eq!(request::post(&mesh.broker(), &headers, "{}").await.status, 202);
    subscriber.wait(FILTERS.len()).await;
    let mut paths: Vec<String> = subscriber.got().iter().map(|got| got.path.clone()).collect();
    paths.sort();
    let mut expected: Vec<String> = FILTERS.iter().map(|(name, _)| format!("/{name}")).collect();
    expected.sort();
    assert_eq!(paths, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_and_its_dead_letter_sink_are_as_written() {
    let (failing, dead) =
        (Subscriber::scripted(|_| Reply::status(500)).await, Subscriber::start().await);
    let broker = BROKER.replace("DEAD", &dead.url);
    let yaml =
        format!("{DEFAULTS}---{broker}{}", trigger("t", "", failing.url.trim_end_matches('/')));
    let mesh = mesh_with(&yaml).await;
    mesh.weft_ok(&["wait", "broker/default", "trigger/t"]).await;
    mesh.send("a", "1").await;
    dead.wait(1).await;
    assert_eq!(failing.got().len(), 3, "the first attempt and two retries");
    assert_eq!(dead.got()[0].header("ce-knativeerrorcode"), "500");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_source_ticks_to_a_broker_and_to_a_url() {
    let subscriber = Subscriber::start().await;
    let url = subscriber.url.trim_end_matches('/').to_owned();
    let to_broker = "    ref:\n      apiVersion: eventing.knative.dev/v1\n      kind: Broker\n      name: default\n";
    let to_url = format!("    uri: {url}/direct\n");
    let yaml = format!(
        "{}{}{}{}",
        BROKER.replace("DEAD", &url),
        trigger("through", "", &url),
        ping("through", to_broker),
        ping("direct", &to_url)
    );
    let mesh = mesh_with(&yaml).await;
    mesh.weft_ok(&["wait", "pingsource/through", "pingsource/direct", "trigger/through"]).await;
    for path in ["/through", "/direct"] {
        eventually("a tick arrives", async || {
            subscriber.got().iter().any(|got| got.path == path).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_those_of_the_namespace_or_the_cluster() {
    let plain = |namespace: &str| {
        format!(
            "---\napiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata:\n  name: plain\n  namespace: {namespace}\n"
        )
    };
    let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: other\n";
    let yaml = format!("{DEFAULTS}{namespace}{}{}", plain("default"), plain("other"));
    let mesh = mesh_with(&yaml).await;
    for (namespace, class, retry) in [("default", "MTChannelBasedBroker", 10), ("other", "Weft", 3)]
    {
        let text = mesh.weft_ok(&["get", "broker", "plain", "-n", namespace, "-o", "json"]).await;
        let broker: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let annotations = &broker["metadata"]["annotations"];
        assert_eq!(annotations["eventing.knative.dev/broker.class"], class);
        assert_eq!(broker["spec"]["delivery"]["retry"], retry);
        mesh.weft_ok(&["wait", "broker/plain", "-n", namespace]).await;
    }
}
