//! The consumers of a source, and the deliveries of their records.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use broker_event::Event;
use crds::annotation;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::KafkaSource;
use super::start::Start;
use crate::source::{About, Context, SourceError};
use crate::status::Condition;

mod client;
mod event;
mod lanes;
mod ledger;
mod poller;
mod position;
mod progress;

use client::{Callbacks, Trouble};
use event::{KeyType, Mapper};
use lanes::{BATCH_RECORDS, Batch, Lane, Lanes, Pending};
use ledger::{Ledger, MAX_RECORDS, Seen};
use poller::{Poller, apart};
use position::{NotBegun, Wish};

/// Whether records are read.
const CONSUMING: &str = "Consuming";

/// The label that says what the keys of records are.
const KEY_TYPE: &str = "kafkasources.sources.knative.dev/key-type";

/// Knative's condition of the label [`KEY_TYPE`].
const KEY_TYPE_CORRECT: &str = "KeyTypeCorrect";

/// How long the consumers may take to leave the group when the source stops. Afterwards they leave it by themselves; the
/// source is cut off within a second.
const LEAVE: Duration = Duration::from_millis(600);

/// How long it takes at most until a consumer that is subscribed counts as one that works. It may have no part of the group
/// for as long as others are there, and works nevertheless.
const JOIN: Duration = Duration::from_secs(15);

/// What is shown of the partitions that are read: a status is no place for thousands.
const MAX_CLAIMS: usize = 1024;

/// What is needed to begin.
struct Plan {
    options: ClientConfig,
    topics: Arc<[String]>,
    consumers: usize,
    is_ordered: bool,
    /// Records that are delivered together.
    batch: usize,
    /// Bytes that each consumer holds.
    held: usize,
    wish: Wish,
    mapper: Arc<Mapper>,
}

/// What is remembered between runs.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Remembered {
    /// Topics that were not there.
    absent: BTreeSet<String>,
}

/// A consumer as its deliveries see it.
struct Consumer {
    ledger: Arc<Ledger>,
    records: mpsc::Receiver<Vec<Pending>>,
    ended: oneshot::Receiver<Result<(), Trouble>>,
    lanes: Lanes,
}

/// How a batch ended.
struct Delivered {
    lane: Lane,
    outcome: Result<(), SourceError>,
}

/// Runs the source until it is to stop or cannot go on.
pub(super) async fn run(spec: KafkaSource, ctx: &Context) -> Result<(), SourceError> {
    let mut plan = Plan::new(&spec, ctx)?;
    let mut remembered = Remembered::load(ctx).await?;
    plan.wish.absent.clone_from(&remembered.absent);
    begin(&plan, ctx, &mut remembered).await?;
    if plan.consumers == 0 {
        ctx.report.fact("consumers", 0);
        ctx.report.condition(Condition::bad(
            CONSUMING,
            "Paused",
            "spec.consumers is 0: the group keeps its position".to_owned(),
        ));
        ctx.report.running();
        ctx.stop.cancelled().await;
        return Ok(());
    }
    // Ends the threads, however this ends.
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let consumers: Result<Vec<_>, _> =
        (0..plan.consumers).map(|number| Consumer::start(number, &plan, &stop)).collect();
    let consumers = consumers?;
    let seen = consumers.iter().map(|consumer| consumer.ledger.watch()).collect();
    let work: FuturesUnordered<_> =
        consumers.into_iter().map(|consumer| consumer.run(ctx, &stop)).collect();
    tokio::select! {
        outcome = first_failure(work) => outcome,
        never = show(seen, ctx) => match never {},
    }
}

/// Waits until all ended, or one failed.
async fn first_failure(
    mut work: FuturesUnordered<impl Future<Output = Result<(), SourceError>>>,
) -> Result<(), SourceError> {
    while let Some(outcome) = work.next().await {
        outcome?;
    }
    Ok(())
}

/// Sees to it that the group has a position.
async fn begin(plan: &Plan, ctx: &Context, remembered: &mut Remembered) -> Result<(), SourceError> {
    let (wish, topics, stop) = (plan.wish.clone(), Arc::clone(&plan.topics), ctx.stop.clone());
    let mut options = plan.options.clone();
    options.set("statistics.interval.ms", "0");
    let call = move |begun: oneshot::Sender<Result<(), NotBegun>>| {
        let callbacks = Callbacks::new(Ledger::new(0), Arc::clone(&wish.mark));
        let client = match client::make(&options, callbacks) {
            Ok(client) => client,
            Err(trouble) => return drop(begun.send(Err(NotBegun::Trouble(trouble)))),
        };
        let outcome = position::begin(&client, &topics, &wish, &stop);
        // Told before the client is closed, which can take a while.
        drop(begun.send(outcome));
    };
    let begun = apart("kafka-begin", call).map_err(no_thread)?;
    let begun = tokio::select! {
        biased;
        begun = begun => begun,
        () = ctx.stop.cancelled() => return Err(SourceError::Stopped),
    };
    match begun {
        Ok(Ok(())) if remembered.absent.is_empty() => Ok(()),
        Ok(Ok(())) => {
            remembered.absent.clear();
            remembered.save(ctx).await
        }
        Ok(Err(NotBegun::Absent(absent))) => {
            let names: Vec<&str> = absent.iter().map(String::as_str).collect();
            let what = format!("there is no topic {}", names.join(", "));
            remembered.absent.extend(absent);
            remembered.save(ctx).await?;
            Err(SourceError::Absent { what })
        }
        Ok(Err(NotBegun::Trouble(trouble))) => Err(trouble.into()),
        Ok(Err(NotBegun::Stopped)) => Err(SourceError::Stopped),
        Err(_) => Err(panicked()),
    }
}

/// Shows what the consumers do: that they work once they do, what they read, and what waits for them.
async fn show(mut seen: Vec<watch::Receiver<Seen>>, ctx: &Context) -> Infallible {
    let overdue = Instant::now() + JOIN;
    let mut running = false;
    loop {
        let now: Vec<Seen> = seen.iter_mut().map(|seen| seen.borrow_and_update().clone()).collect();
        let joined = now.iter().any(|seen| seen.joined);
        if !running && (joined || Instant::now() >= overdue) {
            running = true;
            ctx.report.fact("consumers", now.len());
            ctx.report.condition(Condition::good(CONSUMING, "Consuming"));
            ctx.report.running();
        }
        if joined {
            ctx.report.fact("claims", claims(&now));
        }
        if now.iter().any(|seen| seen.lag.is_some()) {
            ctx.lag(now.iter().filter_map(|seen| seen.lag).sum());
        }
        let mut changes: FuturesUnordered<_> =
            seen.iter_mut().map(watch::Receiver::changed).collect();
        tokio::select! {
            changed = changes.next() => if !matches!(changed, Some(Ok(()))) {
                // A consumer has ended; what is done about that is not decided here.
                std::future::pending::<()>().await;
            },
            () = sleep_until(overdue), if !running => {}
        }
    }
}

/// What is read here, as in `orders: 0 1 2, payments: 0`.
fn claims(seen: &[Seen]) -> String {
    let mut topics: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for (topic, partitions) in seen.iter().flat_map(|seen| &seen.partitions) {
        topics.entry(topic).or_default().extend(partitions);
    }
    let mut text = String::new();
    for (topic, partitions) in topics {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(topic);
        text.push(':');
        for partition in partitions {
            text.push(' ');
            text.push_str(&partition.to_string());
            if text.len() > MAX_CLAIMS {
                text.push('…');
                return text;
            }
        }
    }
    text
}

impl Plan {
    fn new(spec: &KafkaSource, ctx: &Context) -> Result<Self, SourceError> {
        let about = &ctx.about;
        let topics: BTreeSet<String> = spec.topics.iter().cloned().collect();
        Ok(Self {
            options: client::options(spec, about, &ctx.given)?,
            topics: topics.into_iter().collect(),
            consumers: usize::try_from(spec.consumers.unwrap_or(1)).unwrap_or_default(),
            is_ordered: spec.ordering.as_deref() != Some("unordered"),
            batch: ctx.at_once(BATCH_RECORDS),
            held: client::held(spec),
            wish: wish(spec, about)?,
            mapper: Arc::new(Mapper::new(about, key_type(ctx))),
        })
    }
}

/// Where the group begins: where the annotation says, else where the spec does.
fn wish(spec: &KafkaSource, about: &About) -> Result<Wish, SourceError> {
    let (start, mark) = match about.annotations.get(annotation::START) {
        Some(text) => {
            let wrong = |rule| SourceError::Config(format!("{}: {rule}", annotation::START));
            (Start::parse(text).map_err(wrong)?, text.as_str())
        }
        None if spec.initial_offset.as_deref() == Some("earliest") => (Start::Earliest, ""),
        None => (Start::Latest, ""),
    };
    Ok(Wish { start, mark: mark.into(), absent: BTreeSet::new() })
}

/// What the keys are. A label that Knative does not know means text, and a condition says so.
fn key_type(ctx: &Context) -> KeyType {
    let Some(text) = ctx.about.labels.get(KEY_TYPE) else { return KeyType::String };
    let known = KeyType::parse(text);
    ctx.report.condition(match known {
        Some(_) => Condition::good(KEY_TYPE_CORRECT, "KeyTypeCorrect"),
        None => Condition::bad(
            KEY_TYPE_CORRECT,
            "IncorrectKafkaKeyTypeLabel",
            format!("Invalid value for {KEY_TYPE}: {text}. Allowed: {}", KeyType::ALLOWED),
        ),
    });
    known.unwrap_or_default()
}

impl Remembered {
    async fn load(ctx: &Context) -> Result<Self, SourceError> {
        let bytes = ctx.checkpoint.load().await.map_err(SourceError::State)?;
        // What cannot be read was written by another version; nothing depends on it but a group that has not begun.
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    async fn save(&self, ctx: &Context) -> Result<(), SourceError> {
        let bytes = serde_json::to_vec(self).map_err(|error| SourceError::State(error.into()))?;
        ctx.checkpoint.save(bytes).await.map_err(SourceError::State)
    }
}

impl Consumer {
    fn start(number: usize, plan: &Plan, stop: &CancellationToken) -> Result<Self, SourceError> {
        let ledger = Ledger::new(plan.held);
        let (sender, records) = mpsc::channel(MAX_RECORDS);
        let (options, topics) = (plan.options.clone(), Arc::clone(&plan.topics));
        let (mapper, mark) = (Arc::clone(&plan.mapper), Arc::clone(&plan.wish.mark));
        let (there, stop) = (Arc::clone(&ledger), stop.clone());
        let call = move |ended: oneshot::Sender<Result<(), Trouble>>| match client::make(
            &options,
            Callbacks::new(Arc::clone(&there), mark),
        ) {
            Ok(client) => {
                let ledger = there;
                Poller { client, ledger, mapper, topics, records: sender, stop }.run(ended);
            }
            Err(trouble) => drop(ended.send(Err(trouble))),
        };
        let ended = apart(&format!("kafka-{number}"), call).map_err(no_thread)?;
        Ok(Self { ledger, records, ended, lanes: Lanes::new(plan.is_ordered, plan.batch) })
    }

    /// Delivers until the source is to stop or something fails.
    async fn run(mut self, ctx: &Context, stop: &CancellationToken) -> Result<(), SourceError> {
        let outcome = self.deliver(ctx).await;
        self.ledger.end();
        stop.cancel();
        if outcome.is_ok() {
            // It leaves the group, so that others need not wait until it is missed. It may take longer, and then does so alone.
            drop(timeout(LEAVE, &mut self.ended).await);
        }
        outcome
    }

    /// `Ok` while the thread still runs.
    async fn deliver(&mut self, ctx: &Context) -> Result<(), SourceError> {
        let mut under_way = FuturesUnordered::new();
        loop {
            while let Some(batch) = self.lanes.next() {
                under_way.push(deliver(batch, Arc::clone(&self.ledger), ctx));
            }
            tokio::select! {
                biased;
                Some(Delivered { lane, outcome }) = under_way.next() => match outcome {
                    Ok(()) => self.lanes.finish(lane),
                    Err(SourceError::Stopped) => break,
                    Err(error) => return Err(error),
                },
                () = ctx.stop.cancelled() => break,
                ended = &mut self.ended => return Err(match ended {
                    Ok(Ok(())) => SourceError::Stopped,
                    Ok(Err(trouble)) => trouble.into(),
                    Err(_) => panicked(),
                }),
                Some(records) = self.records.recv() => {
                    records.into_iter().for_each(|record| self.lanes.push(record));
                }
            }
        }
        // The others are asked to stop as well; what was stored at this moment is committed.
        while under_way.next().await.is_some() {}
        Ok(())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.ledger.end();
    }
}

/// Delivers a batch and notes what is safe.
async fn deliver(batch: Batch, ledger: Arc<Ledger>, ctx: &Context) -> Delivered {
    let Batch { lane, records } = batch;
    let records = ledger.still_ours(records);
    let bytes = records.iter().map(|record| record.size).sum();
    let places: Vec<_> = records.iter().map(|record| (record.tenure, record.offset)).collect();
    let events: Vec<Event> = records.into_iter().map(|record| record.event).collect();
    let outcome = ctx.deliver(events).await;
    if outcome.is_ok() {
        ledger.finish(&places, bytes);
    }
    Delivered { lane, outcome }
}

fn no_thread(error: std::io::Error) -> SourceError {
    SourceError::unavailable("start a thread", error)
}

/// A mistake of ours or of the library's; the next start may not run into it.
fn panicked() -> SourceError {
    SourceError::unavailable("poll Kafka", "the thread of the consumer panicked")
}

#[cfg(test)]
mod tests;
