//! The run of a Kafka sink: a producer, its topic, and the records it writes.

use std::sync::Arc;
use std::time::Duration;

use broker_event::Event;
use futures_util::future::BoxFuture;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{BINARY, KafkaSink};
use crate::quote::quote;
use crate::respond::Refusal;
use crate::sinks::door::busy;
use crate::sinks::sink::{Context, Write};
use crate::source::SourceError;

mod client;
mod record;

use client::{BATCH, Callbacks, Told, Trouble, options, unmade};
use record::Record;

/// How long one question about the topic may take, and how often it is asked: a start takes five seconds if nobody answers,
/// and what said meanwhile why, as a refusal of the credentials, is noticed after one.
const ASK: Duration = Duration::from_secs(1);
const ASKED: usize = 5;

/// How long Kafka may take to make a topic.
const MAKE: Duration = Duration::from_secs(10);

/// A client that is taken down on a thread where that may block: the library waits for its own threads.
#[derive(Debug)]
struct Client<T: Send + 'static>(Option<T>);

/// Writes records.
struct Writer {
    producer: Client<FutureProducer<Callbacks>>,
    told: Arc<Told>,
    topic: String,
    binary: bool,
}

/// Runs a sink until it is stopped or in trouble.
pub(super) async fn run(spec: KafkaSink, ctx: &Context) -> Result<(), SourceError> {
    let options = options(&spec, &ctx.about, &ctx.given)?;
    let writer = Arc::new(Writer::new(&spec, &options)?);
    if !writer.finds_topic(&ctx.stop).await? {
        let topic = &spec.topic;
        let Some(making) = spec.num_partitions.zip(spec.replication_factor) else {
            let what = format!(
                "topic {topic:?} does not exist, and numPartitions and replicationFactor do not both say how it should be made"
            );
            return Err(SourceError::Absent { what });
        };
        let made = make(&options, topic, making, Arc::clone(&writer.told));
        ctx.stop.run_until_cancelled(made).await.unwrap_or(Err(SourceError::Stopped))?;
        if !writer.finds_topic(&ctx.stop).await? {
            let what = format!("topic {topic:?} was made, and is not there yet");
            return Err(SourceError::Absent { what });
        }
    }
    let _open = ctx.open(Arc::clone(&writer) as Arc<dyn Write>);
    loop {
        let trouble = tokio::select! {
            biased;
            () = ctx.stop.cancelled() => return Ok(()),
            trouble = writer.told.trouble() => trouble,
        };
        match trouble {
            Trouble::Refused(why) => return Err(refused(&why)),
            Trouble::Absent(why) => {
                let what = format!("topic {:?}: {why}", spec.topic);
                return Err(SourceError::Absent { what });
            }
            Trouble::Broken(why) => return Err(SourceError::unavailable("write to Kafka", why)),
            // A server that closes an idle connection is not down.
            Trouble::Down => {
                if !writer.finds_topic(&ctx.stop).await? {
                    let what = format!("topic {:?} does not exist any more", spec.topic);
                    return Err(SourceError::Absent { what });
                }
            }
        }
    }
}

impl Writer {
    fn new(spec: &KafkaSink, options: &ClientConfig) -> Result<Self, SourceError> {
        let told = Arc::new(Told::default());
        let producer = options.create_with_context(Callbacks(Arc::clone(&told))).map_err(unmade)?;
        Ok(Self {
            producer: Client(Some(producer)),
            told,
            topic: spec.topic.clone(),
            binary: spec.content_mode.as_deref() == Some(BINARY),
        })
    }

    /// Asks whether the topic is there.
    async fn finds_topic(self: &Arc<Self>, stop: &CancellationToken) -> Result<bool, SourceError> {
        let (writer, asking) = (Arc::clone(self), stop.clone());
        let asked = spawn_blocking(move || writer.ask(&asking));
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(SourceError::Stopped),
            found = asked => found.map_err(|error| SourceError::unavailable("ask Kafka", error))?,
        }
    }

    /// The same, on a thread that may wait.
    fn ask(&self, stop: &CancellationToken) -> Result<bool, SourceError> {
        for _ in 0..ASKED {
            if stop.is_cancelled() {
                return Err(SourceError::Stopped);
            }
            let answer = self.producer()?.client().fetch_metadata(Some(&self.topic), ASK);
            if let Some(why) = self.told.refusal() {
                return Err(refused(&why));
            }
            let Ok(metadata) = answer else { continue };
            let Some(topic) = metadata.topics().first() else { continue };
            let Some(error) = topic.error() else { return Ok(true) };
            match Code::from(error) {
                Code::UnknownTopicOrPartition | Code::UnknownTopic => return Ok(false),
                Code::TopicAuthorizationFailed => {
                    return Err(refused(&format!("topic {:?} may not be described", self.topic)));
                }
                // Its leader is being chosen.
                _ => {}
            }
        }
        Err(SourceError::unavailable("reach Kafka", self.told.reason()))
    }

    fn producer(&self) -> Result<&FutureProducer<Callbacks>, SourceError> {
        self.producer.0.as_ref().ok_or(SourceError::Stopped)
    }

    async fn write_all(&self, events: &[Event]) -> Result<(), Refusal> {
        let mut under_way = Vec::with_capacity(events.len());
        for event in events {
            let record = Record::of(event, self.binary);
            let size = record.value.as_ref().map_or(0, |value| value.len());
            under_way
                .push((self.enqueue(record).map_err(|error| self.failed(&error, size))?, size));
        }
        for (delivery, size) in under_way {
            match delivery.await {
                Ok(Ok(_)) => {}
                Ok(Err((error, _))) => return Err(self.failed(&error, size)),
                Err(_) => return Err(busy("the sink was disconnected from Kafka")),
            }
        }
        Ok(())
    }

    fn enqueue(&self, record: Record<'_>) -> Result<DeliveryFuture, KafkaError> {
        let producer = self.producer.0.as_ref().ok_or(KafkaError::Canceled)?;
        let record = FutureRecord {
            topic: &self.topic,
            partition: None,
            payload: record.value.as_deref(),
            key: record.key.as_deref(),
            timestamp: None,
            headers: Some(record.headers),
        };
        producer.send_result(record).map_err(|(error, _)| error)
    }

    /// What a sender is told of a record that was not written; `size` is that of its value.
    fn failed(&self, error: &KafkaError, size: usize) -> Refusal {
        let Some(code) = error.rdkafka_error_code() else {
            return busy(format!("Kafka: {}", quote(&error.to_string())));
        };
        self.told.meet(code, &code.to_string());
        match code {
            Code::MessageSizeTooLarge if size >= BATCH / 2 => {
                Refusal::Oversized(format!("topic {:?} takes no record of that size", self.topic))
            }
            // It may have been refused for those that were sent with it.
            Code::MessageSizeTooLarge => busy("the topic took no batch of records of that size"),
            Code::InvalidRecord | Code::PolicyViolation => Refusal::Unacceptable(format!(
                "topic {:?} does not take this event: {code}",
                self.topic
            )),
            _ => busy(format!("Kafka: {code}")),
        }
    }
}

impl Write for Writer {
    fn write(&self, events: Vec<Event>) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move { self.write_all(&events).await })
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Drop for Client<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(client));
        }
    }
}

/// Makes the topic. That it is there already is as good.
async fn make(
    options: &ClientConfig,
    topic: &str,
    (partitions, replicas): (i32, i32),
    told: Arc<Told>,
) -> Result<(), SourceError> {
    let admin: AdminClient<Callbacks> =
        options.create_with_context(Callbacks(told)).map_err(unmade)?;
    let admin = Client(Some(admin));
    let Some(client) = &admin.0 else { return Err(SourceError::Stopped) };
    let topics = [NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas))];
    let patience = AdminOptions::new().request_timeout(Some(MAKE)).operation_timeout(Some(MAKE));
    let answers = client.create_topics(&topics, &patience).await;
    let failed = |error: &dyn std::fmt::Display| {
        SourceError::unavailable(format!("make topic {topic:?}"), quote(&error.to_string()))
    };
    for answer in answers.map_err(|error| failed(&error))? {
        match answer {
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
            Err((
                _,
                code @ (Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed),
            )) => {
                return Err(refused(&format!("topic {topic:?} may not be made: {code}")));
            }
            Err((_, code @ (Code::InvalidReplicationFactor | Code::InvalidPartitions))) => {
                let what = format!("topic {topic:?} does not exist and cannot be made: {code}");
                return Err(SourceError::Absent { what });
            }
            Err((_, code)) => return Err(failed(&code)),
        }
    }
    Ok(())
}

fn refused(why: &str) -> SourceError {
    SourceError::Credentials { what: format!("Kafka refused the credentials: {why}") }
}
