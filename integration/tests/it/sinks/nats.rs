//! `NatsSink` against NATS with JetStream.

use async_nats::ConnectOptions;
use async_nats::jetstream::stream::{Config, RawMessageErrorKind, Stream};
use async_nats::jetstream::{self, Context};
use serde_json::{Value, json};

use super::downstream::{Downstream, start};
use super::{RECOVERY, address, contract, post, ready};
use crate::harness::eventually::eventually_within;
use crate::harness::mesh::Mesh;

/// What a NATS published.
struct Nats(Value);

/// Another NATS than that of the contract, which kills its own.
async fn more() -> Nats {
    start("nats-sink-more").await.2
}

impl Nats {
    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().expect("a published text")
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
        let config = Config {
            name: name.to_owned(),
            subjects: vec![format!("{name}.>")],
            max_message_size: 10_000,
            ..Config::default()
        };
        jetstream.create_stream(config).await.expect("a stream");
    }

    async fn stream(&self, name: &str) -> Stream {
        self.jetstream().await.get_stream(name).await.expect("the stream")
    }

    async fn count(&self, name: &str) -> u64 {
        self.stream(name).await.cached_info().state.messages
    }

    fn sink(&self, stream: &str, password: &str, more: &str) -> String {
        let (user, url) = (self.text("user"), self.text("url"));
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: nats\nstringData:\n  user: {user}\n  password: {password}\n---\n\
             apiVersion: sinks.knative.dev/v1alpha1\nkind: NatsSink\nmetadata:\n  name: sink\nspec:\n  \
             servers: [\"{url}\"]\n  subject: {stream}.new\n  stream: {stream}\n{AUTH}{more}"
        )
    }
}

const AUTH: &str = "  auth:\n    user: {secretKeyRef: {name: nats, key: user}}\n    \
                    password: {secretKeyRef: {name: nats, key: password}}\n";

impl Downstream for Nats {
    const SERVICE: &'static str = "nats";
    const KIND: (&'static str, &'static str) = ("sinks.knative.dev/v1alpha1", "NatsSink");
    const PLURAL: &'static str = "natssinks";
    const SOURCES: &'static str = "natssources";

    async fn on(published: Value) -> Self {
        let nats = Self(published);
        nats.make("contract").await;
        nats
    }

    fn manifest_with(&self, password: &str) -> String {
        self.sink("contract", password, "")
    }

    fn password(&self) -> &str {
        self.text("password")
    }

    fn source(&self, uri: &str) -> String {
        let url = self.text("url");
        format!(
            "---\napiVersion: sources.knative.dev/v1alpha1\nkind: NatsSource\nmetadata:\n  name: sink\nspec:\n  \
             servers: [\"{url}\"]\n  stream: contract\n{AUTH}  sink: {{uri: '{uri}'}}\n"
        )
    }

    async fn ids(&self) -> Vec<String> {
        let stream = self.stream("contract").await;
        let mut ids = Vec::new();
        for sequence in 1..=stream.cached_info().state.last_sequence {
            match stream.get_raw_message(sequence).await {
                Ok(message) => {
                    ids.push(message.headers.get("ce-id").expect("an id").as_str().to_owned());
                }
                Err(error) => assert_eq!(error.kind(), RawMessageErrorKind::NoMessageFound),
            }
        }
        ids
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    contract::kept::<Nats>().await;
}

#[tokio::test]
async fn an_event_that_comes_again_is_kept_once_and_attributes_are_headers() {
    let nats = more().await;
    nats.make("binary").await;
    let password = nats.text("password");
    let mesh = Mesh::start(&nats.sink("binary", password, "")).await;
    let url = address(&ready(&mesh, Nats::PLURAL, "True", "").await);
    for _ in 0..2 {
        let subject = [("ce-subject", "gr%C3%B6%C3%9Fe")];
        assert_eq!(post(&url, "again", &subject, r#"{"a":1}"#).await.status, 202);
    }
    assert_eq!(nats.count("binary").await, 1, "what comes again is kept once");
    let stream = nats.stream("binary").await;
    let message = stream.get_raw_message(1).await.expect("the message");
    let found = (message.subject.as_str(), &message.payload[..]);
    assert_eq!(found, ("binary.new", &br#"{"a":1}"#[..]));
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
    mesh.rewrite(&nats.sink("binary", password, "  contentMode: structured\n"));
    let event = eventually_within(RECOVERY, "a structured message", async || {
        let answer = post(&url, &nats.count("binary").await.to_string(), &[], r#"{"a":1}"#).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        let last = stream.get_last_raw_message_by_subject("binary.new").await.expect("a message");
        let event: Option<Value> = serde_json::from_slice(&last.payload).ok();
        event.filter(|event| event.get("id").is_some())
    })
    .await;
    assert_eq!(event["data"], json!({"a": 1}));
}

#[tokio::test]
async fn a_stream_that_is_not_there_is_waited_for() {
    let nats = more().await;
    drop(nats.jetstream().await.delete_stream("absent").await);
    let mesh = Mesh::start(&nats.sink("absent", nats.text("password"), "")).await;
    let resource = ready(&mesh, Nats::PLURAL, "False", "UpstreamNotFound").await;
    assert_eq!(post(&address(&resource), "e1", &[], "{}").await.status, 503);
    nats.make("absent").await;
    ready(&mesh, Nats::PLURAL, "True", "").await;
    assert_eq!(post(&address(&resource), "e1", &[], "{}").await.status, 202);
    assert_eq!(nats.count("absent").await, 1);
}
