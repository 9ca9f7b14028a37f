//! `KafkaSource` against Kafka: records of a topic are messages.

use std::ops::Range;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use serde_json::Value;

use super::contract;
use super::upstream::{Upstream, condition, resource};
use crate::harness::eventually::eventually_within;
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::services::Services;
use crate::harness::subscriber::{Got, Subscriber};

const TO_BROKER: &str = "{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}";

/// A server takes some ten seconds to start, and its groups a few more.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server, and a topic of three partitions in it.
struct Kafka {
    services: Services,
    service: Value,
    topic: String,
}

impl Kafka {
    async fn with_topic(services: Services, topic: &str) -> Self {
        let service = services.up("kafka").await;
        let kafka = Self { services, service, topic: topic.to_owned() };
        kafka.make().await;
        kafka
    }

    fn published(&self, key: &str) -> &str {
        self.service[key].as_str().expect("a published text")
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.published("bootstrap"));
        config
    }

    async fn make(&self) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("a client");
        let wanted = NewTopic::new(&self.topic, 3, TopicReplication::Fixed(1));
        let made = admin.create_topics([&wanted], &AdminOptions::new()).await.expect("an answer");
        let exists = |result: &Result<String, (String, RDKafkaErrorCode)>| match result {
            Ok(_) => true,
            // An earlier run may have left it.
            Err((_, code)) => *code == RDKafkaErrorCode::TopicAlreadyExists,
        };
        assert!(made.iter().all(exists), "{made:?}");
    }

    /// Produces records, each with its number as its key and `body` of it.
    async fn send(&self, numbers: Range<u64>, body: impl Fn(u64) -> String + Send + 'static) {
        let producer: ThreadedProducer<_> =
            self.config().set("message.max.bytes", "10000000").create().expect("a producer");
        let topic = self.topic.clone();
        let send = move || {
            for number in numbers {
                let (key, body) = (number.to_string(), body(number));
                let headers = OwnedHeaders::new()
                    .insert(Header { key: "content-type", value: Some("application/json") })
                    .insert(Header { key: "Trace-Id", value: Some("abc") });
                let mut record = BaseRecord::to(&topic).key(&key).payload(&body).headers(headers);
                while let Err((error, back)) = producer.send(record) {
                    let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
                    assert_eq!(error, full);
                    producer.poll(Duration::from_millis(10));
                    record = back;
                }
            }
            producer.flush(PATIENCE).expect("all are taken");
        };
        tokio::task::spawn_blocking(send).await.expect("no panic");
    }

    fn source(&self, password: &str, sink: &str, more: &str) -> String {
        let (bootstrap, user) = (self.published("sasl_bootstrap"), self.published("user"));
        let key = |key: &str| format!("{{secretKeyRef: {{name: kafka, key: {key}}}}}");
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: kafka\nstringData:\n  user: {user}\n  password: {password}\n  type: SCRAM-SHA-256\n---\n\
             apiVersion: sources.knative.dev/v1\nkind: KafkaSource\nmetadata:\n  name: source\nspec:\n  bootstrapServers: ['{bootstrap}']\n  \
             topics: [{}]\n  net: {{sasl: {{enable: true, user: {}, password: {}, type: {}}}}}\n  sink: {sink}\n{more}",
            self.topic,
            key("user"),
            key("password"),
            key("type"),
        )
    }
}

fn number(event: &Got) -> Option<u64> {
    let body: Value = serde_json::from_slice(&event.body).ok()?;
    body["number"].as_u64()
}

impl Upstream for Kafka {
    const MODULE: &'static str = "kafka";

    async fn start(services: Services) -> Self {
        Self::with_topic(services, "contract").await
    }

    fn manifest(&self, sink: &str) -> String {
        self.source(self.published("password"), sink, "")
    }

    fn refused(&self, sink: &str) -> Option<(String, &'static str)> {
        Some((self.source("wrong", sink, ""), "CredentialsRefused"))
    }

    async fn produce(&self, _: &Mesh, numbers: Range<u64>) {
        self.send(numbers, |number| format!(r#"{{"number":{number}}}"#)).await;
    }

    fn number(&self, event: &Got) -> Option<u64> {
        number(event)
    }

    async fn stop(&self) -> bool {
        self.services.down("kafka").await;
        true
    }

    async fn start_again(&mut self) {
        self.service = self.services.up("kafka").await;
    }

    fn secrets(&self) -> Vec<String> {
        vec![self.published("password").to_owned()]
    }

    fn check(&self, event: &Got) {
        assert_eq!(event.header("ce-type"), "dev.knative.kafka.event");
        assert_eq!(
            event.header("ce-source"),
            "/apis/v1/namespaces/default/kafkasources/source#contract"
        );
        let (partition, offset) =
            event.id().split_once('/').expect("partition and offset are the id");
        let partition = partition.strip_prefix("partition:").expect("a partition");
        let offset = offset.strip_prefix("offset:").expect("an offset");
        assert_eq!(event.header("ce-subject"), format!("partition:{partition}#{offset}"));
        assert_eq!(event.header("ce-partitionkey"), "7");
        assert_eq!(event.header("ce-key"), "7");
        assert_eq!(event.header("ce-kafkaheadertraceid"), "abc");
        assert_eq!(event.header("content-type"), "application/json");
        assert!(event.header("ce-time").ends_with('Z'));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    contract::kept::<Kafka>().await;
}

async fn until(mesh: &Mesh, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually_within(PATIENCE, what, async || {
        let resource = resource(mesh, "kafka").await;
        holds(&resource).then_some(resource)
    })
    .await
}

fn is_ready(resource: &Value) -> bool {
    condition(resource, "Ready").is_some_and(|(status, _)| status == "True")
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_share_the_partitions_and_are_scaled_and_paused() {
    let kafka = Kafka::with_topic(Services::of("kafka-scaled"), "scaled").await;
    let subscriber = Subscriber::start().await;
    let with = |consumers: u32| {
        let source = kafka.source(
            kafka.published("password"),
            TO_BROKER,
            &format!("  consumers: {consumers}\n"),
        );
        format!("{BROKER}{}{source}", trigger("t", &subscriber.url, "", &[]))
    };
    let mesh = Mesh::start(&with(3)).await;
    let consumers = |wanted: u64| move |resource: &Value| resource["status"]["consumers"] == wanted;
    until(&mesh, "three consumers", |it| is_ready(it) && consumers(3)(it)).await;
    kafka.send(0..300, |number| format!(r#"{{"number":{number}}}"#)).await;
    subscriber.wait(300).await;
    mesh.rewrite(&with(1));
    until(&mesh, "one consumer", |it| is_ready(it) && consumers(1)(it)).await;
    kafka.send(300..600, |number| format!(r#"{{"number":{number}}}"#)).await;
    eventually_within(PATIENCE, "all six hundred", async || {
        let mut found: Vec<u64> = subscriber.got().iter().filter_map(number).collect();
        found.sort_unstable();
        found.dedup();
        (found.len() == 600).then_some(())
    })
    .await;
    mesh.rewrite(&with(0));
    until(&mesh, "a pause", consumers(0)).await;
    let before = subscriber.got().len();
    kafka.send(600..610, |number| format!(r#"{{"number":{number}}}"#)).await;
    mesh.rewrite(&with(2));
    eventually_within(PATIENCE, "what came during the pause", async || {
        (subscriber.got().len() >= before + 10).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_told_of_and_waited_for() {
    let services = Services::of("kafka-absent");
    let service = services.up("kafka").await;
    // Not one that an earlier run left.
    let topic = format!("late-{}", std::process::id());
    let kafka = Kafka { services, service, topic };
    let subscriber = Subscriber::start().await;
    let source =
        kafka.source(kafka.published("password"), TO_BROKER, "  initialOffset: earliest\n");
    let mesh =
        Mesh::start(&format!("{BROKER}{}{source}", trigger("t", &subscriber.url, "", &[]))).await;
    until(&mesh, "told of", |it| condition(it, "Ready") == Some(("False", "UpstreamNotFound")))
        .await;
    kafka.make().await;
    kafka.send(0..5, |number| format!(r#"{{"number":{number}}}"#)).await;
    until(&mesh, "ready", is_ready).await;
    subscriber.wait(5).await;
}
