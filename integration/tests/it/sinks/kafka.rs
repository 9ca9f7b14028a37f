//! `KafkaSink` against Kafka.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::{Headers, Message, OwnedMessage};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::downstream::{Downstream, start};
use super::{RECOVERY, address, contract, post, ready};
use crate::harness::eventually::eventually_within;
use crate::harness::mesh::Mesh;

/// The lines of a spec by which a topic is made.
const MADE: &str = "  numPartitions: 3\n  replicationFactor: 1\n";

const ONE_COPY: TopicReplication<'static> = TopicReplication::Fixed(1);

/// What a Kafka published, and a topic in it.
struct Kafka {
    published: Value,
    topic: String,
}

/// Another Kafka than that of the contract, which kills its own.
async fn more() -> Kafka {
    start("kafka-sink-more").await.2
}

impl Kafka {
    fn text(&self, key: &str) -> &str {
        self.published[key].as_str().expect("a published text")
    }

    /// A sink of `topic`; `more` are lines of its spec.
    fn sink(&self, topic: &str, more: &str) -> String {
        sink(self.text("bootstrap"), topic, more)
    }

    async fn make(&self, topic: NewTopic<'_>) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.text("bootstrap"));
        let admin: AdminClient<DefaultClientContext> = config.create().expect("a client");
        let made = admin.create_topics([&topic], &AdminOptions::new()).await.expect("an answer");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// Every record of a topic, partition by partition, once all partitions have leaders.
    async fn records(&self, topic: &str) -> Vec<OwnedMessage> {
        eventually_within(RECOVERY, &format!("records of {topic}"), async || {
            let (bootstrap, topic) = (self.text("bootstrap").to_owned(), topic.to_owned());
            let reading = tokio::task::spawn_blocking(move || records(&bootstrap, &topic));
            reading.await.expect("no panic").ok()
        })
        .await
    }

    async fn ids_of(&self, topic: &str) -> Vec<String> {
        self.records(topic).await.iter().map(id).collect()
    }
}

impl Downstream for Kafka {
    const SERVICE: &'static str = "kafka";
    const KIND: (&'static str, &'static str) = ("eventing.knative.dev/v1alpha1", "KafkaSink");
    const PLURAL: &'static str = "kafkasinks";
    const SOURCES: &'static str = "kafkasources";

    async fn on(published: Value) -> Self {
        Self { published, topic: new_topic("contract") }
    }

    fn manifest_with(&self, password: &str) -> String {
        let user = self.text("user");
        let secret = format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: login\nstringData:\n  protocol: SASL_PLAINTEXT\n  \
             sasl.mechanism: SCRAM-SHA-256\n  user: {user}\n  password: {password}\n"
        );
        let more = "  numPartitions: 1\n  replicationFactor: 1\n  contentMode: binary\n  \
                    auth: {secret: {ref: {name: login}}}\n";
        secret + &sink(self.text("sasl_bootstrap"), &self.topic, more)
    }

    fn password(&self) -> &str {
        self.text("password")
    }

    fn source(&self, uri: &str) -> String {
        let (bootstrap, topic) = (self.text("bootstrap"), &self.topic);
        format!(
            "---\napiVersion: sources.knative.dev/v1\nkind: KafkaSource\nmetadata:\n  name: sink\nspec:\n  \
             bootstrapServers: ['{bootstrap}']\n  topics: [{topic}]\n  sink: {{uri: '{uri}'}}\n"
        )
    }

    async fn ids(&self) -> Vec<String> {
        self.ids_of(&self.topic).await
    }
}

fn sink(bootstrap: &str, topic: &str, more: &str) -> String {
    format!(
        "---\napiVersion: eventing.knative.dev/v1alpha1\nkind: KafkaSink\nmetadata:\n  name: sink\nspec:\n  \
         bootstrapServers: [\"{bootstrap}\"]\n  topic: {topic}\n{more}"
    )
}

fn records(bootstrap: &str, topic: &str) -> KafkaResult<Vec<OwnedMessage>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "unused");
    let consumer: BaseConsumer = config.create()?;
    let patience = Duration::from_secs(20);
    let metadata = consumer.fetch_metadata(Some(topic), patience)?;
    let (mut list, mut left) = (TopicPartitionList::new(), 0);
    for partition in metadata.topics()[0].partitions() {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), patience)?;
        left += high - low;
        list.add_partition_offset(topic, partition.id(), Offset::Offset(low))?;
    }
    consumer.assign(&list)?;
    let next = || Ok(consumer.poll(patience).expect("a record in time")?.detach());
    (0..left).map(|_| next()).collect()
}

fn header(record: &OwnedMessage, name: &str) -> Option<String> {
    let found = record.headers()?.iter().find(|header| header.key == name)?;
    Some(String::from_utf8_lossy(found.value.unwrap_or_default()).into_owned())
}

/// The id of the event that a record holds.
fn id(record: &OwnedMessage) -> String {
    header(record, "ce_id").unwrap_or_else(|| {
        let event: Value =
            serde_json::from_slice(record.payload().unwrap_or_default()).expect("an event in JSON");
        event["id"].as_str().expect("an id").to_owned()
    })
}

/// A topic that no earlier run has left.
fn new_topic(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::now_v7())
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    contract::kept::<Kafka>().await;
}

#[tokio::test]
async fn events_become_records_of_a_topic_that_is_made() {
    let kafka = more().await;
    let topic = &new_topic("made");
    let binary = format!("{MADE}  contentMode: binary\n");
    let mesh = Mesh::start(&kafka.sink(topic, &binary)).await;
    let url = address(&ready(&mesh, Kafka::PLURAL, "True", "").await);
    eventually_within(RECOVERY, "events without a key in all partitions", async || {
        assert_eq!(post(&url, "spread", &[], "{}").await.status, 202);
        let records = kafka.records(topic).await;
        let partitions: BTreeSet<i32> = records.iter().map(Message::partition).collect();
        (partitions.len() == 3).then_some(())
    })
    .await;
    let more = [("ce-partitionkey", "k 1"), ("ce-subject", "gr%C3%B6%C3%9Fe")];
    assert_eq!(post(&url, "direct", &more, r#"{"a":1}"#).await.status, 202);
    let records = kafka.records(topic).await;
    let record = records.iter().find(|record| id(record) == "direct").expect("it is there");
    assert_eq!(record.key(), Some(&b"k 1"[..]));
    assert_eq!(record.payload(), Some(&br#"{"a":1}"#[..]));
    for (name, value) in [
        ("content-type", "application/json"),
        ("ce_specversion", "1.0"),
        ("ce_type", "dev.weft.test"),
        ("ce_source", "/test"),
        ("ce_subject", "größe"),
        ("ce_partitionkey", "k 1"),
    ] {
        assert_eq!(header(record, name).as_deref(), Some(value), "{name}");
    }

    // Without contentMode it is structured; what changed is in force without a request that fails.
    mesh.rewrite(&kafka.sink(topic, MADE));
    let structured = eventually_within(RECOVERY, "a structured record", async || {
        assert_eq!(post(&url, "second", &more, r#"{"a":1}"#).await.status, 202);
        let records = kafka.records(topic).await;
        records.into_iter().find(|record| header(record, "ce_id").is_none())
    })
    .await;
    let media_type = header(&structured, "content-type");
    assert_eq!(media_type.as_deref(), Some("application/cloudevents+json"));
    let event: Value =
        serde_json::from_slice(structured.payload().expect("a value")).expect("JSON");
    assert_eq!((&event["id"], &event["data"]), (&json!("second"), &json!({"a": 1})));
    assert_eq!(structured.key(), Some(&b"k 1"[..]));
}

#[tokio::test]
async fn a_record_that_is_too_large_for_the_topic_is_refused_and_others_go_on() {
    let kafka = more().await;
    let topic = &new_topic("small");
    kafka.make(NewTopic::new(topic, 1, ONE_COPY).set("max.message.bytes", "100000")).await;
    let mesh = Mesh::start(&kafka.sink(topic, "")).await;
    let url = address(&ready(&mesh, Kafka::PLURAL, "True", "").await);
    let large = format!("{:?}", "x".repeat(200_000));
    let (large, small) =
        tokio::join!(post(&url, "large", &[], &large), post(&url, "small", &[], "{}"));
    assert_eq!(large.status, 413, "{}", large.body);
    assert!(large.body.contains(topic.as_str()), "{}", large.body);
    assert_eq!(small.status, 202, "{}", small.body);
    assert_eq!(kafka.ids_of(topic).await, ["small"]);
}

#[tokio::test]
async fn a_topic_that_is_not_there_and_not_to_be_made_is_waited_for() {
    let kafka = more().await;
    let topic = &new_topic("absent");
    let mesh = Mesh::start(&kafka.sink(topic, "")).await;
    let resource = ready(&mesh, Kafka::PLURAL, "False", "UpstreamNotFound").await;
    let answer = post(&address(&resource), "e1", &[], "{}").await;
    assert_eq!(answer.status, 503);
    mesh.rewrite(&kafka.sink("made-later", MADE));
    // The topic of a sink cannot change.
    ready(&mesh, Kafka::PLURAL, "False", "UpstreamNotFound").await;
    kafka.make(NewTopic::new(topic, 1, ONE_COPY)).await;
    ready(&mesh, Kafka::PLURAL, "True", "").await;
    assert_eq!(post(&address(&resource), "e1", &[], "{}").await.status, 202);
    assert_eq!(kafka.ids_of(topic).await, ["e1"]);
}
