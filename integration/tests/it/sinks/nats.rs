//! `NatsSink` against NATS with JetStream.

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, Context, stream};
use http::header::RETRY_AFTER;
use serde_json::{Value, json};

use super::{RECOVERY, address, post, ready};
use crate::harness::eventually::eventually_within;
use crate::harness::mesh::{BROKER, Mesh};
use crate::harness::request;
use crate::harness::services::Services;

const PLURAL: &str = "natssinks";

/// A trigger that sends all events of the default broker to the sink.
const TRIGGER: &str = "---\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: to-nats\nspec:\n  \
     broker: default\n  subscriber: {ref: {apiVersion: sinks.knative.dev/v1alpha1, kind: NatsSink, name: sink}}\n";

struct Nats {
    services: Services,
    published: Value,
}

impl Nats {
    async fn start(name: &str) -> Self {
        let services = Services::of(name);
        let published = services.up("nats").await;
        Self { services, published }
    }

    fn text(&self, key: &str) -> &str {
        self.published[key].as_str().expect("a published text")
    }

    async fn jetstream(&self) -> Context {
        let (user, password) = (self.text("user").to_owned(), self.text("password").to_owned());
        let options = ConnectOptions::new().user_and_password(user, password);
        jetstream::new(options.connect(self.text("url")).await.expect("a connection"))
    }

    /// Makes a stream anew that takes `{name}.>`.
    async fn make(&self, name: &str) {
        let jetstream = self.jetstream().await;
        // An earlier run may have left it.
        drop(jetstream.delete_stream(name).await);
        let config = stream::Config {
            name: name.to_owned(),
            subjects: vec![format!("{name}.>")],
            max_message_size: 10_000,
            ..stream::Config::default()
        };
        jetstream.create_stream(config).await.expect("a stream");
    }

    async fn count(&self, name: &str) -> u64 {
        let jetstream = self.jetstream().await;
        jetstream.get_stream(name).await.expect("the stream").cached_info().state.messages
    }

    fn sink(&self, stream: &str, password: &str, more: &str) -> String {
        let (user, url) = (self.text("user"), self.text("url"));
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: nats\nstringData:\n  user: {user}\n  password: {password}\n---\n\
             apiVersion: sinks.knative.dev/v1alpha1\nkind: NatsSink\nmetadata:\n  name: sink\nspec:\n  \
             servers: [\"{url}\"]\n  subject: {stream}.new\n  stream: {stream}\n  auth:\n    \
             user: {{secretKeyRef: {{name: nats, key: user}}}}\n    password: {{secretKeyRef: {{name: nats, key: password}}}}\n{more}"
        )
    }
}

#[tokio::test]
async fn events_become_messages_of_a_stream_once() {
    let nats = Nats::start("nats-sink").await;
    nats.make("binary").await;
    let password = nats.text("password");
    let yaml = format!("{BROKER}{}{TRIGGER}", nats.sink("binary", password, ""));
    let mesh = Mesh::start(&yaml).await;
    let url = address(&ready(&mesh, PLURAL, "True", "").await);
    for number in 0..20 {
        mesh.send("dev.weft.test", &format!("e{number}")).await;
    }
    eventually_within(RECOVERY, "all messages", async || {
        (nats.count("binary").await == 20).then_some(())
    })
    .await;
    for _ in 0..2 {
        let answer = post(&url, "again", &[("ce-subject", "gr%C3%B6%C3%9Fe")], r#"{"a":1}"#).await;
        assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    }
    assert_eq!(nats.count("binary").await, 21, "what comes again is kept once");
    let stream = nats.jetstream().await.get_stream("binary").await.expect("the stream");
    let message = stream.get_raw_message(21).await.expect("the message");
    assert_eq!(
        (message.subject.as_str(), &message.payload[..]),
        ("binary.new", &br#"{"a":1}"#[..])
    );
    for (name, value) in [
        ("ce-id", "again"),
        ("ce-source", "/test"),
        ("ce-type", "dev.weft.test"),
        ("ce-subject", "gr%C3%B6%C3%9Fe"),
        ("content-type", "application/json"),
    ] {
        let found = message.headers.get(name).map(async_nats::HeaderValue::as_str);
        assert_eq!(found, Some(value), "{name}");
    }
    let large = format!("{:?}", "x".repeat(20_000));
    let answer = post(&url, "large", &[], &large).await;
    assert_eq!(answer.status, 413, "{}", answer.body);
    let batch = [("content-type".to_owned(), "application/cloudevents-batch+json".to_owned())];
    let event = |id: &str| json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t"});
    let events = json!([event("b1"), event("b2")]).to_string();
    assert_eq!(request::post(&url, &batch, events).await.status, 202);
    assert_eq!(nats.count("binary").await, 23);
    mesh.rewrite(&format!(
        "{BROKER}{}{TRIGGER}",
        nats.sink("binary", password, "  contentMode: structured\n")
    ));
    let event = eventually_within(RECOVERY, "a structured message", async || {
        let answer = post(&url, &nats.count("binary").await.to_string(), &[], r#"{"a":1}"#).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        let last = stream.get_last_raw_message_by_subject("binary.new").await.expect("a message");
        serde_json::from_slice::<Value>(&last.payload)
            .ok()
            .filter(|event| event.get("id").is_some())
    })
    .await;
    assert_eq!(event["data"], json!({"a": 1}));
    assert!(!mesh.log().contains(password), "a secret is shown");
}

#[tokio::test]
async fn a_stream_that_is_not_there_and_wrong_credentials_are_told() {
    let nats = Nats::start("nats-sink").await;
    drop(nats.jetstream().await.delete_stream("absent").await);
    let wrong = "this-is-not-the-password";
    let mesh = Mesh::start(&nats.sink("absent", wrong, "")).await;
    let resource = ready(&mesh, PLURAL, "False", "CredentialsRefused").await;
    assert_eq!(post(&address(&resource), "e1", &[], "{}").await.status, 503);
    mesh.rewrite(&nats.sink("absent", nats.text("password"), ""));
    ready(&mesh, PLURAL, "False", "UpstreamNotFound").await;
    nats.make("absent").await;
    ready(&mesh, PLURAL, "True", "").await;
    assert_eq!(post(&address(&resource), "e1", &[], "{}").await.status, 202);
    assert_eq!(nats.count("absent").await, 1);
    assert!(!mesh.log().contains(wrong), "a secret is shown");
}

#[tokio::test]
async fn while_nats_is_away_senders_are_told_to_come_again_and_nothing_is_lost() {
    let nats = Nats::start("nats-sink-away").await;
    nats.make("away").await;
    let yaml = format!("{BROKER}{}{TRIGGER}", nats.sink("away", nats.text("password"), ""));
    let mesh = Mesh::start(&yaml).await;
    let url = address(&ready(&mesh, PLURAL, "True", "").await);
    nats.services.down("nats").await;
    for number in 0..20 {
        mesh.send("dev.weft.test", &format!("e{number}")).await;
    }
    ready(&mesh, PLURAL, "False", "UpstreamUnavailable").await;
    let answer = post(&url, "direct", &[], "{}").await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.headers.contains_key(RETRY_AFTER));
    let published = nats.services.up("nats").await;
    assert_eq!(published["url"], nats.published["url"], "it comes back where it was");
    ready(&mesh, PLURAL, "True", "").await;
    eventually_within(RECOVERY, "all messages", async || {
        (nats.count("away").await == 20).then_some(())
    })
    .await;
}
