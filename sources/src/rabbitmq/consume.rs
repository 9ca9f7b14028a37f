//! From a queue to the sink: batches are handed over in their order and acknowledged once they are safe.

use std::collections::VecDeque;
use std::time::Duration;

use broker_event::Event;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use tokio::time::{MissedTickBehavior, interval};

use super::ResourcesConfig;
use super::amqp::{AmqpError, Connection, Declaration, Delivery, Incoming};
use super::event::event;
use super::prefetch::Prefetch;
use super::server::Server;
use crate::source::{Context, SourceError};
use crate::status::Condition;

/// The condition that says whether there is what messages come through.
const EXCHANGE_READY: &str = "ExchangeReady";

/// The channel of the messages, and that of questions about the queue: the server deals with one method of a channel after the
/// other, and a question that takes it long should not hold up acknowledgements.
const CONSUMING: u16 = 1;
const ASKING: u16 = 2;

/// How long answers may take at first and at last, while everything is declared. A server that has just started may forget who
/// asked for messages of a quorum queue that has no leader yet (`RabbitMQ` 3.10 does); one that is only slow gets its time.
const PATIENCE: [Duration; 3] =
    [Duration::from_secs(3), Duration::from_secs(10), Duration::from_secs(30)];

/// How many messages are written at once. A sync of the log is spread over so many that it no longer counts, and after a crash
/// no more come again.
const MAX_BATCH: usize = 256;

/// How large such a write may become before the next message begins another.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// How many bytes of messages a source holds before it no longer reads: four times what the prefetch aims at, for sizes that
/// change at once.
const MAX_HELD: usize = 128 << 20;

/// How often the server is asked how much waits.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What a run has in hand.
#[derive(Debug)]
struct Consumer<'a> {
    ctx: &'a Context,
    config: &'a ResourcesConfig,
    source: String,
    prefetch: Prefetch,
    /// How many consumers there were before this one: each change of the prefetch takes another.
    generation: u64,
    /// The last messages that came, that came before this consumer, and that were acknowledged.
    last: u64,
    before: u64,
    settled: u64,
    /// Messages that have come and are in no batch.
    waiting: VecDeque<Delivery>,
    /// Batches that are being handed over, the first first. With more than one at once they may overtake one another at the
    /// sink; they are acknowledged in their order all the same.
    under_way: FuturesOrdered<BoxFuture<'a, Result<Batch, SourceError>>>,
    /// Messages in them.
    unsettled: usize,
    /// Bytes of all of these messages.
    held: usize,
    /// Whether the server owes an answer about the queue.
    asked: bool,
}

/// A batch that is safe.
#[derive(Clone, Copy, Debug)]
struct Batch {
    /// Its last message.
    tag: u64,
    messages: usize,
    bytes: usize,
    /// Whether it is one message that could not be held, and was kept aside without its body.
    given_up: bool,
}

/// Runs until something fails, or `ctx.stop`.
pub(super) async fn run(
    config: &ResourcesConfig,
    server: &Server,
    ctx: &Context,
) -> Result<(), SourceError> {
    let mut connection = None;
    let session = async {
        let connection = open(&mut connection, config, server, ctx).await?;
        work(connection, config, server, ctx).await
    };
    let ended = tokio::select! {
        biased;
        () = ctx.stop.cancelled() => Ok(()),
        ended = session => ended,
    };
    // What was not acknowledged goes back to its place in the queue.
    if let Some(connection) = connection {
        connection.close().await;
    }
    ended
}

/// Connects, makes sure that there is what the spec names, and begins to consume.
async fn open<'a>(
    place: &'a mut Option<Connection>,
    config: &ResourcesConfig,
    server: &Server,
    ctx: &Context,
) -> Result<&'a mut Connection, SourceError> {
    let name = format!("weft {}/{}", ctx.about.namespace, ctx.about.name);
    let mut attempts = PATIENCE.into_iter().peekable();
    while let Some(patience) = attempts.next() {
        let connected = server.connect(config.virtual_host(), &name).await?;
        let connection = place.insert(connected);
        match declare(connection, config, patience).await {
            Ok(()) => break,
            Err((_, _, AmqpError::Silent(_))) if attempts.peek().is_some() => {}
            Err((of_exchange, what, error)) => {
                let error = server.failed(&what, error);
                if of_exchange {
                    let (reason, message) = (error.reason(), error.to_string());
                    ctx.report.condition(Condition::bad(EXCHANGE_READY, reason, message));
                }
                return Err(error);
            }
        }
    }
    ctx.report.condition(Condition::good(EXCHANGE_READY, "Declared"));
    ctx.report.running();
    Ok(place.as_mut().expect("the last attempt either broke out of the loop or returned"))
}

/// An error says whether it is about the exchange, what was being done, and how it failed.
async fn declare(
    connection: &mut Connection,
    config: &ResourcesConfig,
    patience: Duration,
) -> Result<(), (bool, String, AmqpError)> {
    let ResourcesConfig { exchange_name: exchange, queue_name: queue, .. } = config;
    let (exchange_shown, queue_shown) = (format!("exchange {exchange:?}"), config.queue_shown());
    let made = !config.predeclared;
    let mut steps = vec![("open a channel".to_owned(), CONSUMING, Declaration::Channel)];
    if made || !exchange.is_empty() {
        let kind = made.then(|| config.exchange_type());
        let step = Declaration::Exchange { name: exchange, kind };
        steps.push((format!("declare the {exchange_shown}"), CONSUMING, step));
    }
    let kind = made.then(|| config.queue_type());
    let step = Declaration::Queue { name: queue, kind };
    steps.push((format!("declare the {queue_shown}"), CONSUMING, step));
    for key in config.keys().into_iter().filter(|_| made) {
        let step = Declaration::Binding { exchange, queue, key };
        steps.push((format!("bind the {queue_shown} to the {exchange_shown}"), CONSUMING, step));
    }
    let prefetch = Prefetch::new(config.prefetch()).now();
    steps.push(("limit the prefetch".to_owned(), CONSUMING, Declaration::Prefetch(prefetch)));
    steps.push(("open a channel".to_owned(), ASKING, Declaration::Channel));
    let step = Declaration::Consumer { queue, tag: &tag(0), wait: true };
    steps.push((format!("consume from the {queue_shown}"), CONSUMING, step));
    for (what, channel, step) in steps {
        if let Err(error) = connection.declare(channel, &step, patience).await {
            use Declaration::{Binding, Exchange};
            let of_exchange = matches!(step, Exchange { .. } | Binding { .. });
            return Err((of_exchange, what, error));
        }
    }
    Ok(())
}

/// The name of a consumer; operators see it in the server's lists.
fn tag(generation: u64) -> String {
    format!("weft-{generation}")
}

async fn work(
    connection: &mut Connection,
    config: &ResourcesConfig,
    server: &Server,
    ctx: &Context,
) -> Result<(), SourceError> {
    let failed =
        |error| server.failed(&format!("consume from the {}", config.queue_shown()), error);
    let mut consumer = Consumer::new(config, ctx);
    let mut ticks = interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        consumer.start_batches();
        let reading = consumer.has_room();
        tokio::select! {
            biased;
            Some(batch) = consumer.under_way.next() => consumer.settle(batch?, connection),
            incoming = connection.next(reading) => {
                consumer.take(incoming.map_err(failed)?, connection)?;
                // What came along goes into the same batch.
                while consumer.has_room()
                    && let Some(incoming) = connection.buffered().map_err(failed)?
                {
                    consumer.take(incoming, connection)?;
                }
            }
            _ = ticks.tick(), if !consumer.asked => {
                consumer.asked = true;
                let queue = Declaration::Queue { name: &config.queue_name, kind: None };
                connection.ask(ASKING, &queue);
            }
        }
    }
}

impl<'a> Consumer<'a> {
    fn new(config: &'a ResourcesConfig, ctx: &'a Context) -> Self {
        Self {
            ctx,
            config,
            source: config.event_source(&ctx.about),
            prefetch: Prefetch::new(config.prefetch()),
            generation: 0,
            last: 0,
            before: 0,
            settled: 0,
            waiting: VecDeque::new(),
            under_way: FuturesOrdered::new(),
            unsettled: 0,
            held: 0,
            asked: false,
        }
    }

    fn has_room(&self) -> bool {
        self.held < MAX_HELD
    }

    fn take(&mut self, incoming: Incoming, connection: &mut Connection) -> Result<(), SourceError> {
        match incoming {
            Incoming::Delivery(delivery) => {
                self.hold(delivery);
                if self.is_full() && self.prefetch.adapt() {
                    self.renew(connection);
                }
            }
            Incoming::Depth(ready) => {
                self.asked = false;
                let here = u64::try_from(self.waiting.len() + self.unsettled).unwrap_or(u64::MAX);
                self.ctx.lag(u64::from(ready).saturating_add(here));
            }
            Incoming::Cancelled => {
                let queue = self.config.queue_shown();
                let what = format!(
                    "the server ended the consumer: the {queue} was deleted, or its node is gone"
                );
                return Err(SourceError::Absent { what });
            }
            // Those are for who publishes.
            Incoming::Confirmed { .. } | Incoming::Returned(_) => {}
        }
        Ok(())
    }

    fn hold(&mut self, delivery: Delivery) {
        let size = delivery.size();
        self.held += size;
        self.last = delivery.tag;
        self.prefetch.saw(size);
        self.waiting.push_back(delivery);
    }

    /// Whether the server may send no more to this consumer until something is acknowledged: then nothing is on its way.
    fn is_full(&self) -> bool {
        self.last - self.settled.max(self.before) >= u64::from(self.prefetch.now())
    }

    /// A prefetch is that of consumers to come, so another takes the place of the one there is. What came to that stays ours
    /// until it is acknowledged; but what is on its way to it would go back to a quorum queue, and come again out of order.
    fn renew(&mut self, connection: &mut Connection) {
        let (old, new) = (tag(self.generation), tag(self.generation + 1));
        self.generation += 1;
        self.before = self.last;
        let queue = &self.config.queue_name;
        for step in [
            Declaration::End { tag: &old },
            Declaration::Prefetch(self.prefetch.now()),
            Declaration::Consumer { queue, tag: &new, wait: false },
        ] {
            connection.ask(CONSUMING, &step);
        }
    }

    /// Hands over what waits, as far as there may be more batches.
    fn start_batches(&mut self) {
        while self.under_way.len() < self.config.parallelism()
            && let Some((batch, messages)) = self.next_batch()
        {
            self.unsettled += batch.messages;
            let events = messages.iter().map(|message| event(message, &self.source)).collect();
            let too_large = messages.first().and_then(|message| message.too_large);
            self.under_way.push_back(Box::pin(hand_over(self.ctx, events, too_large, batch)));
        }
    }

    fn next_batch(&mut self) -> Option<(Batch, Vec<Delivery>)> {
        let first = self.waiting.pop_front()?;
        // While some batches are handed over, as many messages again as one of them can come.
        let share = usize::from(self.prefetch.now()) / (self.config.parallelism() + 1);
        let most = share.clamp(1, MAX_BATCH);
        let given_up = first.too_large.is_some();
        let (mut bytes, mut tag) = (first.size(), first.tag);
        let mut messages = vec![first];
        while !given_up
            && messages.len() < most
            && bytes < MAX_BATCH_BYTES
            && let Some(next) = self.waiting.pop_front_if(|next| next.too_large.is_none())
        {
            bytes += next.size();
            tag = next.tag;
            messages.push(next);
        }
        Some((Batch { tag, messages: messages.len(), bytes, given_up }, messages))
    }

    fn settle(&mut self, batch: Batch, connection: &mut Connection) {
        self.unsettled -= batch.messages;
        self.held -= batch.bytes;
        self.settled = batch.tag;
        if batch.given_up {
            connection.reject(CONSUMING, batch.tag);
        } else {
            // All before it are settled, so it speaks for them.
            connection.acknowledge(CONSUMING, batch.tag);
        }
    }
}

async fn hand_over(
    ctx: &Context,
    events: Vec<Event>,
    too_large: Option<u64>,
    batch: Batch,
) -> Result<Batch, SourceError> {
    match too_large {
        None => ctx.deliver(events).await?,
        Some(size) => {
            for event in events {
                let reason = format!(
                    "its body of {size} bytes is too large to be held; the message went to the dead letter exchange of its queue, if there is one"
                );
                ctx.park(event, reason).await?;
            }
        }
    }
    Ok(batch)
}

#[cfg(test)]
mod tests;
