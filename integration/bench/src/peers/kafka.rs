//! Kafka, and a bare consumer of librdkafka.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use super::{Peer, Services, text};
use crate::oracle::payload;

/// A partition a processor.
const PARTITIONS: i32 = 2;

/// How long a group may take to begin, and a record to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kafka.
#[derive(Debug)]
pub(crate) struct Kafka {
    bootstrap: String,
    _services: Services,
}

impl Kafka {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }
}

impl Peer for Kafka {
    const NAME: &'static str = "Kafka";

    async fn start(services: Services) -> anyhow::Result<Self> {
        let bootstrap = text(&services.up("kafka").await?, "bootstrap")?;
        Ok(Self { bootstrap, _services: services })
    }

    async fn place(&self, name: &str) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
        let made = admin.create_topics([&topic], &AdminOptions::new()).await?;
        ensure!(made.iter().all(Result::is_ok), "{made:?}");
        Ok(())
    }

    async fn fill(&self, name: &str, ids: Range<u64>, size: usize) -> anyhow::Result<()> {
        let producer: ThreadedProducer<DefaultProducerContext> =
            self.config().set("linger.ms", "50").create()?;
        let name = name.to_owned();
        let produce = move || {
            for id in ids {
                let (key, payload) = (id.to_string(), payload(id, size));
                let mut record = BaseRecord::to(&name).key(&key).payload(payload.as_ref());
                while let Err((error, back)) = producer.send(record) {
                    let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
                    ensure!(error == full, "{error}");
                    std::thread::sleep(Duration::from_millis(10));
                    record = back;
                }
            }
            producer.flush(Duration::from_secs(60)).context("flush")
        };
        tokio::task::spawn_blocking(produce).await?
    }

    async fn drain(
        &self,
        name: &str,
        count: u64,
        first: impl FnOnce() + Send,
    ) -> anyhow::Result<()> {
        let mut config = self.config();
        config.set("group.id", "bare").set("auto.offset.reset", "earliest");
        config.set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create()?;
        consumer.subscribe(&[name])?;
        let mut first = Some(first);
        tokio::task::block_in_place(|| {
            let mut taken = 0;
            let mut last = Instant::now();
            // A poll also ends when something other than a record came.
            while taken < count && last.elapsed() < PATIENCE {
                let Some(message) = consumer.poll(Duration::from_secs(1)) else { continue };
                message?;
                last = Instant::now();
                if let Some(first) = first.take() {
                    first();
                }
                taken += 1;
            }
            ensure!(taken == count, "{taken} of {count} records came");
            consumer.commit_consumer_state(CommitMode::Sync).context("commit")
        })
    }

    fn manifest(&self, name: &str) -> String {
        format!(
            "---\napiVersion: sources.knative.dev/v1\nkind: KafkaSource\nmetadata: {{name: {name}}}\nspec:\n  \
             bootstrapServers: ['{}']\n  topics: [{name}]\n  consumerGroup: mesh-{name}\n  initialOffset: earliest\n  \
             sink: {{ref: {{apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}}}\n",
            self.bootstrap
        )
    }
}
