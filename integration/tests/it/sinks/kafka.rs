//! `KafkaSink` against Kafka.

use std::collections::BTreeSet;
use std::time::Duration;

use http::header::{ALLOW, RETRY_AFTER};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::{Headers, Message, OwnedMessage};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::{RECOVERY, address, post, ready};
use crate::harness::eventually::eventually_within;
use crate::harness::mesh::{BROKER, Mesh};
use crate::harness::request;
use crate::harness::services::Services;

const PLURAL: &str = "kafkasinks";

/// A trigger that sends all events of the default broker to the sink.
const TRIGGER: &str = "---\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: to-kafka\nspec:\n  \
     broker: default\n  subscriber: {ref: {apiVersion: eventing.knative.dev/v1alpha1, kind: KafkaSink, name: sink}}\n";

/// Kafka, and what it published.
struct Kafka {
    services: Services,
    published: Value,
}

impl Kafka {
    async fn start(name: &str) -> Self {
        let services = Services::of(name);
        let published = services.up("kafka").await;
        Self { services, published }
    }

    fn text(&self, key: &str) -> &str {
        self.published[key].as_str().expect("a published text")
    }

    /// A sink of `topic`; `more` are lines of its spec.
    fn sink(&self, topic: &str, more: &str) -> String {
        sink(self.text("bootstrap"), topic, more)
    }

    /// The same, with a login by the Secret `login`.
    fn sink_that_logs_in(&self, topic: &str, password: &str) -> String {
        let user = self.text("user");
        let secret = format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: login\nstringData:\n  protocol: SASL_PLAINTEXT\n  \
             sasl.mechanism: SCRAM-SHA-256\n  user: {user}\n  password: {password}\n"
        );
        let more = format!("{MADE}  auth: {{secret: {{ref: {{name: login}}}}}}\n");
        secret + &sink(self.text("sasl_bootstrap"), topic, &more)
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

    /// Waits until each of these ids is in a topic, and answers how many records there are.
    async fn all(&self, topic: &str, ids: &BTreeSet<String>) -> usize {
        eventually_within(RECOVERY, &format!("{} records of {topic}", ids.len()), async || {
            let records = self.records(topic).await;
            let found: BTreeSet<String> = records.iter().map(id).collect();
            ids.is_subset(&found).then_some(records.len())
        })
        .await
    }
}

/// The lines of a spec by which a topic is made.
const MADE: &str = "  numPartitions: 3\n  replicationFactor: 1\n";

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

fn ids(range: std::ops::Range<u32>) -> BTreeSet<String> {
    range.map(|number| format!("e{number}")).collect()
}

#[tokio::test]
async fn events_become_records_of_a_topic_that_is_made() {
    let kafka = Kafka::start("kafka-sink").await;
    let topic = &new_topic("made");
    let binary = format!("{MADE}  contentMode: binary\n");
    let yaml = format!("{BROKER}{}{TRIGGER}", kafka.sink(topic, &binary));
    let mesh = Mesh::start(&yaml).await;
    let url = address(&ready(&mesh, PLURAL, "True", "").await);
    assert_eq!(url, format!("{}/sinks/default/sink", mesh.events));
    for number in 0..50 {
        mesh.send("dev.weft.test", &format!("e{number}")).await;
    }
    let more = [("ce-partitionkey", "k 1"), ("ce-subject", "gr%C3%B6%C3%9Fe")];
    let answer = post(&url, "direct", &more, r#"{"a":1}"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    assert_eq!(kafka.all(topic, &ids(0..50)).await, 51);
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
    let partitions: BTreeSet<i32> = records.iter().map(Message::partition).collect();
    assert_eq!(partitions.len(), 3, "events without a key are spread");

    // Without contentMode it is structured; what changed is in force without a request that fails.
    mesh.rewrite(&format!("{BROKER}{}{TRIGGER}", kafka.sink(topic, MADE)));
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
async fn requests_are_refused_as_a_broker_does_and_batches_taken_whole() {
    let kafka = Kafka::start("kafka-sink").await;
    let topic = &new_topic("small");
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.text("bootstrap"));
    let admin: AdminClient<DefaultClientContext> = config.create().expect("a client");
    let small =
        NewTopic::new(topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "100000");
    let made = admin.create_topics([&small], &AdminOptions::new()).await.expect("an answer");
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    let mesh = Mesh::start(&kafka.sink(topic, "")).await;
    let url = address(&ready(&mesh, PLURAL, "True", "").await);
    let batch = [("content-type".to_owned(), "application/cloudevents-batch+json".to_owned())];
    let event = |id: &str| json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t"});
    let events = json!([event("b1"), event("b2"), event("b3")]).to_string();
    assert_eq!(request::post(&url, &batch, events).await.status, 202);
    let wrong = json!([event("b4"), {"specversion": "1.0"}]).to_string();
    assert_eq!(request::post(&url, &batch, wrong).await.status, 400);
    assert_eq!(request::post(&url, &[], "data").await.status, 400);
    let avro = [("content-type".to_owned(), "application/cloudevents+avro".to_owned())];
    assert_eq!(request::post(&url, &avro, "data").await.status, 415);
    let large = format!("{:?}", "x".repeat(200_000));
    let answer = post(&url, "large", &[], &large).await;
    assert_eq!(answer.status, 413, "{}", answer.body);
    assert!(answer.body.contains(topic.as_str()), "{}", answer.body);
    assert_eq!(post(&url, "huge", &[], &"x".repeat(2 << 20)).await.status, 413);
    let answer = request::get(&url).await;
    assert_eq!(
        (answer.status, answer.headers[ALLOW].to_str().expect("text")),
        (405, "POST, OPTIONS")
    );
    let unknown = format!("{}/sinks/default/other", mesh.events);
    assert_eq!(post(&unknown, "e", &[], "{}").await.status, 404);
    let found: Vec<String> = kafka.records(topic).await.iter().map(id).collect();
    assert_eq!(found, ["b1", "b2", "b3"]);
}

#[tokio::test]
async fn a_topic_that_is_not_there_and_not_to_be_made_is_waited_for() {
    let kafka = Kafka::start("kafka-sink").await;
    let topic = &new_topic("absent");
    let mesh = Mesh::start(&kafka.sink(topic, "")).await;
    let resource = ready(&mesh, PLURAL, "False", "UpstreamNotFound").await;
    let answer = post(&address(&resource), "e1", &[], "{}").await;
    assert_eq!(answer.status, 503);
    mesh.rewrite(&kafka.sink("made-later", MADE));
    // The topic of a sink cannot change.
    ready(&mesh, PLURAL, "False", "UpstreamNotFound").await;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.text("bootstrap"));
    let admin: AdminClient<DefaultClientContext> = config.create().expect("a client");
    let absent = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    let made = admin.create_topics([&absent], &AdminOptions::new()).await.expect("an answer");
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    ready(&mesh, PLURAL, "True", "").await;
    assert_eq!(post(&address(&resource), "e1", &[], "{}").await.status, 202);
    assert_eq!(kafka.all(topic, &ids(1..2)).await, 1);
}

#[tokio::test]
async fn credentials_that_are_refused_are_told_and_may_be_made_good() {
    let kafka = Kafka::start("kafka-sink").await;
    let (topic, wrong) = (&new_topic("login"), "this-is-not-the-password");
    let mesh = Mesh::start(&kafka.sink_that_logs_in(topic, wrong)).await;
    let refused = ready(&mesh, PLURAL, "False", "CredentialsRefused").await;
    let good = kafka.text("password");
    mesh.rewrite(&kafka.sink_that_logs_in(topic, good));
    let resource = ready(&mesh, PLURAL, "True", "").await;
    assert_eq!(post(&address(&resource), "e1", &[], "{}").await.status, 202);
    assert_eq!(kafka.all(topic, &ids(1..2)).await, 1);
    for shown in [mesh.log(), refused["status"].to_string(), resource["status"].to_string()] {
        assert!(!shown.contains(wrong) && !shown.contains(good), "a secret is shown");
    }
}

#[tokio::test]
async fn while_kafka_is_away_senders_are_told_to_come_again_and_nothing_is_lost() {
    let kafka = Kafka::start("kafka-sink-away").await;
    let topic = &new_topic("away");
    let yaml = format!("{BROKER}{}{TRIGGER}", kafka.sink(topic, MADE));
    let mut mesh = Mesh::start(&yaml).await;
    let url = address(&ready(&mesh, PLURAL, "True", "").await);
    mesh.send("dev.weft.test", "e0").await;
    kafka.all(topic, &ids(0..1)).await;
    kafka.services.down("kafka").await;
    for number in 1..20 {
        mesh.send("dev.weft.test", &format!("e{number}")).await;
    }
    ready(&mesh, PLURAL, "False", "UpstreamUnavailable").await;
    let answer = post(&url, "direct", &[], "{}").await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.headers.contains_key(RETRY_AFTER));
    mesh.kill().await;
    mesh.restart().await;
    let published = kafka.services.up("kafka").await;
    assert_eq!(published["bootstrap"], kafka.published["bootstrap"], "it comes back where it was");
    // The mesh listens elsewhere since it was started again.
    let url = address(&ready(&mesh, PLURAL, "True", "").await);
    kafka.all(topic, &ids(0..20)).await;
    assert_eq!(post(&url, "direct", &[], "{}").await.status, 202);
    mesh.terminate();
    assert!(mesh.exit().await.success());
    let log = mesh.log();
    assert!(!log.contains("was cut off") && !log.contains("goes on"), "{log}");
}
