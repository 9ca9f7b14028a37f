//! Listening to subjects of core NATS, which keeps nothing: what is not taken is gone.
//!
//! So the source takes everything at once and holds it until the sink has it. When the sink is away for longer than memory
//! lasts, the newest messages are dropped, counted and reported.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use broker_event::Event;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{SelectAll, StreamExt};
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::address::Address;
use super::event::Maker;
use super::link::{Link, gone};
use super::spec::NatsSource;
use crate::source::{Context, SourceError};
use crate::status::Condition;

/// Events in one durable write.
const BATCH: usize = 256;

/// Bytes in one durable write.
const BATCH_BYTES: usize = 4 << 20;

/// Bytes of messages that wait for the sink: what a source may take of a small machine's memory. Two hundred thousand small
/// ones.
const MAX_WAITING: usize = 64 << 20;

/// What a message takes beside its bytes.
const OVERHEAD: usize = 256;

/// How long the server may take to say that it knows the subscriptions. An account that may not ask is not told.
const CONFIRM: Duration = Duration::from_secs(2);

/// How often it is reported how many messages were dropped.
const REPORT: Duration = Duration::from_secs(1);

/// How long the sink may take for what is left when the source is asked to stop, which takes a second at most.
const LAST: Duration = Duration::from_millis(400);

/// The same when the connection is lost: the sink may be as well, but the source has to listen again some time.
const LAST_OF_CONNECTION: Duration = Duration::from_secs(10);

/// The condition that says whether every message became an event.
const NOTHING_DROPPED: &str = "NothingDropped";

/// What came and is not in the sink yet.
#[derive(Debug)]
pub(super) struct Backlog {
    maker: Maker,
    /// What came, and when. It is turned into events when it is its turn, so that taking it is quick.
    waiting: VecDeque<(Message, Timestamp)>,
    waiting_bytes: usize,
    /// What is being handed over.
    handing: Vec<Event>,
    dropped: u64,
}

/// Subscribes to the subjects of the spec.
///
/// # Errors
/// When the connection is lost.
pub(super) async fn subscribe(
    link: &Link,
    spec: &NatsSource,
) -> Result<SelectAll<Subscriber>, SourceError> {
    let client = &link.client;
    let mut messages = SelectAll::new();
    for subject in &spec.subjects {
        let subscribed = if spec.queue_group.is_empty() {
            client.subscribe(subject.clone()).await
        } else {
            client.queue_subscribe(subject.clone(), spec.queue_group.clone()).await
        };
        let invalid = |error| SourceError::unavailable(format!("subscribe to {subject}"), error);
        messages.push(subscribed.map_err(invalid)?);
    }
    // A server answers in order: after this it knows the subscriptions, or has refused them. Nobody listens there, and the
    // answer says so.
    if timeout(CONFIRM, client.request(client.new_inbox(), "".into())).await.is_err() {
        tracing::debug!("the server did not confirm the subscriptions");
    }
    Ok(messages)
}

impl Backlog {
    pub(super) fn new(server: &Address) -> Self {
        Self {
            maker: Maker::new(server, "", ""),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            handing: Vec::new(),
            dropped: 0,
        }
    }

    /// Works until something is wrong.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) async fn work(
        &mut self,
        mut messages: SelectAll<Subscriber>,
        link: &Link,
        ctx: &Context,
    ) -> Result<(), SourceError> {
        let mut delivery: Option<BoxFuture<'_, Result<(), SourceError>>> = None;
        ctx.report.condition(condition(0));
        let mut report = interval(REPORT);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // What already came goes into one batch; no more of it at once than one, so that nothing else has to wait.
            for _ in 0..BATCH {
                let Some(message) = messages.next().now_or_never() else { break };
                self.receive(message, ctx)?;
            }
            if delivery.is_none() {
                delivery =
                    self.batch(ctx.at_once(BATCH))?.map(|events| ctx.deliver(events).boxed());
            }
            tokio::select! {
                biased;
                delivered = super::pull::finished(&mut delivery) => {
                    delivery = None;
                    delivered?;
                    self.handing.clear();
                }
                _ = report.tick() => ctx.report.condition(condition(self.dropped + link.overflows())),
                message = messages.next() => self.receive(message, ctx)?,
            }
        }
    }

    fn receive(&mut self, message: Option<Message>, ctx: &Context) -> Result<(), SourceError> {
        let Some(message) = message else { return Err(gone()) };
        let bytes = weight(&message);
        if self.waiting_bytes + bytes > MAX_WAITING && !self.waiting.is_empty() {
            self.dropped += 1;
            return Ok(());
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back((message, ctx.clock.now()));
        Ok(())
    }

    /// The events of the next batch, of which there are so many at most.
    fn batch(&mut self, most: usize) -> Result<Option<Vec<Event>>, SourceError> {
        let mut bytes = 0;
        while let Some((message, _)) = self.waiting.front() {
            bytes += message.length;
            if self.handing.len() >= most || (bytes > BATCH_BYTES && !self.handing.is_empty()) {
                break;
            }
            let Some((message, time)) = self.waiting.pop_front() else { break };
            self.waiting_bytes = self.waiting_bytes.saturating_sub(weight(&message));
            let event = self.maker.passed(&message, time);
            self.handing.push(event.map_err(|error| SourceError::Config(error.to_string()))?);
        }
        Ok((!self.handing.is_empty()).then(|| self.handing.clone()))
    }

    /// Hands over what is left, quickly: nobody else has it.
    pub(super) async fn hand_over_rest(mut self, ctx: &Context) {
        let left = self.handing.len() + self.waiting.len();
        if left == 0 {
            return;
        }
        let limit = if ctx.stop.is_cancelled() { LAST } else { LAST_OF_CONNECTION };
        let all = async {
            while let Some(events) = self.batch(ctx.at_once(BATCH))? {
                if ctx.stop.is_cancelled() {
                    ctx.emit.send(events).await?;
                } else {
                    ctx.deliver(events).await?;
                }
                self.handing.clear();
            }
            Ok::<(), SourceError>(())
        };
        if !matches!(timeout(limit, all).await, Ok(Ok(()))) {
            let lost = self.handing.len() + self.waiting.len();
            tracing::warn!(lost, "the source ended before the sink took all messages of core NATS");
        }
    }
}

/// What a message takes of memory.
fn weight(message: &Message) -> usize {
    message.length + OVERHEAD
}

/// What is said of messages that never became events.
fn condition(dropped: u64) -> Condition {
    if dropped == 0 {
        let message =
            "core NATS delivers at most once: what comes while the source is away is lost";
        let good = Condition::good(NOTHING_DROPPED, "AtMostOnce");
        return Condition { message: message.to_owned(), ..good };
    }
    let message =
        format!("{dropped} messages came faster than the sink took them, and were dropped");
    Condition::bad(NOTHING_DROPPED, "MessagesDropped", message)
}

#[cfg(test)]
mod tests;
