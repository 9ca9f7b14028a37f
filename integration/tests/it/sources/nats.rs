//! `NatsSource` against NATS: messages of a JetStream stream, and of core NATS.

use std::ops::Range;

use async_nats::jetstream::consumer::AckPolicy;
use async_nats::jetstream::stream::RetentionPolicy;
use async_nats::jetstream::{self, stream};
use futures_util::{StreamExt, stream as streams};
use serde_json::Value;

use super::contract;
use super::upstream::{Upstream, condition, resource};
use crate::harness::eventually::eventually;
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::services::Services;
use crate::harness::subscriber::{Got, Subscriber};

const TO_BROKER: &str = "{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}";

/// Publishes under way at once.
const PIPELINE: usize = 256;

/// A server.
struct Nats {
    services: Services,
    service: Value,
}

impl Nats {
    async fn on(services: Services) -> Self {
        let service = services.up("nats").await;
        Self { services, service }
    }

    fn published(&self, key: &str) -> &str {
        self.service[key].as_str().expect("a published text")
    }

    async fn client(&self) -> async_nats::Client {
        let (user, password) = (self.published("user"), self.published("password"));
        let options =
            async_nats::ConnectOptions::with_user_and_password(user.into(), password.into());
        options.connect(self.published("url")).await.expect("a connection")
    }

    /// Makes a stream with the subjects below its name.
    async fn make(&self, name: &str) {
        let config = stream::Config {
            name: name.to_owned(),
            subjects: vec![format!("{name}.>")],
            ..stream::Config::default()
        };
        let jetstream = jetstream::new(self.client().await);
        jetstream.get_or_create_stream(config).await.expect("a stream");
    }

    async fn publish(&self, subject: &str, bodies: impl Iterator<Item = String>) {
        let jetstream = &jetstream::new(self.client().await);
        let publish = |body: String| async move {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Trace-Id", "abc");
            let sent = jetstream.publish_with_headers(subject.to_owned(), headers, body.into());
            sent.await.expect("it is sent").await.expect("it is kept");
        };
        streams::iter(bodies).map(publish).buffered(PIPELINE).collect::<Vec<()>>().await;
    }

    fn source(&self, password: &str, sink: &str, more: &str) -> String {
        let (url, user) = (self.published("url"), self.published("user"));
        let key = |key: &str| format!("{{secretKeyRef: {{name: nats, key: {key}}}}}");
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: nats\nstringData:\n  user: {user}\n  password: {password}\n---\n\
             apiVersion: sources.knative.dev/v1alpha1\nkind: NatsSource\nmetadata:\n  name: source\nspec:\n  servers: ['{url}']\n  \
             auth: {{user: {}, password: {}}}\n  sink: {sink}\n{more}",
            key("user"),
            key("password"),
        )
    }
}

fn body(number: u64) -> String {
    format!(r#"{{"number":{number}}}"#)
}

impl Upstream for Nats {
    const MODULE: &'static str = "nats";

    async fn start(services: Services) -> Self {
        let nats = Self::on(services).await;
        nats.make("contract").await;
        nats
    }

    fn manifest(&self, sink: &str) -> String {
        self.source(self.published("password"), sink, "  stream: contract\n  deliverPolicy: new\n")
    }

    fn refused(&self, sink: &str) -> Option<(String, &'static str)> {
        let more = "  stream: contract\n  deliverPolicy: new\n";
        Some((self.source("wrong", sink, more), "CredentialsRefused"))
    }

    async fn produce(&self, _: &Mesh, numbers: Range<u64>) {
        self.publish("contract.orders", numbers.map(body)).await;
    }

    fn number(&self, event: &Got) -> Option<u64> {
        let body: Value = serde_json::from_slice(&event.body).ok()?;
        body["number"].as_u64()
    }

    async fn stop(&self) -> bool {
        self.services.down("nats").await;
        true
    }

    async fn start_again(&mut self) {
        self.service = self.services.up("nats").await;
    }

    fn secrets(&self) -> Vec<String> {
        vec![self.published("password").to_owned()]
    }

    fn check(&self, event: &Got) {
        assert_eq!(event.header("ce-type"), "dev.knative.nats.event");
        let source = event.header("ce-source");
        assert!(source.starts_with("nats://127.0.0.1:"), "{source}");
        assert!(source.ends_with("/contract#contract.orders"), "{source}");
        let sequence = event.header("ce-natssequence");
        assert_eq!(event.id(), format!("contract:{sequence}"));
        assert_eq!(event.header("ce-subject"), "contract.orders");
        assert_eq!(event.header("ce-natsstream"), "contract");
        assert_eq!(event.header("ce-natsheadertraceid"), "abc");
        assert!(event.header("ce-time").ends_with('Z'));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    contract::kept::<Nats>().await;
}

async fn until(mesh: &Mesh, what: &str, wanted: (&str, &str)) {
    eventually(what, async || {
        let resource = resource(mesh, "nats").await;
        (condition(&resource, "Ready") == Some(wanted)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_there_is_told_of_and_waited_for() {
    let nats = Nats::on(Services::of("nats-absent")).await;
    // An earlier run may have left it.
    jetstream::new(nats.client().await).delete_stream("late").await.ok();
    let subscriber = Subscriber::start().await;
    let source = nats.source(nats.published("password"), TO_BROKER, "  stream: late\n");
    let mesh =
        Mesh::start(&format!("{BROKER}{}{source}", trigger("t", &subscriber.url, "", &[]))).await;
    until(&mesh, "the stream to be missed", ("False", "UpstreamNotFound")).await;
    nats.make("late").await;
    nats.publish("late.a", (0..3).map(body)).await;
    until(&mesh, "the stream to be found", ("True", "")).await;
    subscriber.wait(3).await;
}

/// How many messages of a stream nobody has dealt with, and how the source's own consumer is told that somebody has.
async fn left(nats: &Nats, stream: &str) -> (u64, AckPolicy) {
    let jetstream = jetstream::new(nats.client().await);
    let mut stream = jetstream.get_stream(stream).await.expect("the stream");
    let info = stream.consumer_info("weft_default_source").await.expect("the consumer");
    let stored = stream.info().await.expect("the stream").state.messages;
    let kept = stream.cached_info().config.retention == RetentionPolicy::WorkQueue;
    let waiting = info.num_pending + info.num_ack_pending as u64;
    (if kept { stored } else { waiting }, info.config.ack_policy)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dealt_with_is_acknowledged_as_the_stream_asks_for() {
    let nats = Nats::on(Services::of("nats-acknowledged")).await;
    for (name, retention, policy) in [
        ("log", RetentionPolicy::Limits, AckPolicy::All),
        ("work", RetentionPolicy::WorkQueue, AckPolicy::Explicit),
    ] {
        let jetstream = jetstream::new(nats.client().await);
        // An earlier run may have left it.
        jetstream.delete_stream(name).await.ok();
        let (subjects, name_owned) = (vec![format!("{name}.>")], name.to_owned());
        let config =
            stream::Config { name: name_owned, subjects, retention, ..stream::Config::default() };
        jetstream.create_stream(config).await.expect("a stream");
        let subscriber = Subscriber::start().await;
        let source =
            nats.source(nats.published("password"), TO_BROKER, &format!("  stream: {name}\n"));
        let mesh =
            Mesh::start(&format!("{BROKER}{}{source}", trigger("t", &subscriber.url, "", &[])))
                .await;
        until(&mesh, "the stream to be read", ("True", "")).await;
        nats.publish(&format!("{name}.a"), (0..600).map(body)).await;
        subscriber.wait(600).await;
        eventually("all of it to be acknowledged", async || {
            (left(&nats, name).await == (0, policy)).then_some(())
        })
        .await;
        drop(mesh);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn core_messages_are_events_while_the_source_listens() {
    let nats = Nats::on(Services::of("nats-core")).await;
    let subscriber = Subscriber::start().await;
    let source = nats.source(nats.published("password"), TO_BROKER, "  subjects: ['core.*']\n");
    let mesh =
        Mesh::start(&format!("{BROKER}{}{source}", trigger("t", &subscriber.url, "", &[]))).await;
    until(&mesh, "the subscription", ("True", "")).await;
    let client = nats.client().await;
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in
        [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/theirs"), ("ce-type", "own")]
    {
        headers.insert(name, value);
    }
    client.publish("core.plain", "hello".into()).await.expect("it is sent");
    client.publish_with_headers("core.event", headers, "{}".into()).await.expect("it is sent");
    client.flush().await.expect("it is sent");
    let got = subscriber.wait(2).await;
    let of = |ty: &str| got.iter().find(|event| event.header("ce-type") == ty).expect("an event");
    assert_eq!(of("dev.knative.nats.event").header("ce-subject"), "core.plain");
    assert_eq!(of("dev.knative.nats.event").body, "hello");
    assert_eq!((of("own").header("ce-source"), of("own").id()), ("/theirs", "1"));
}
