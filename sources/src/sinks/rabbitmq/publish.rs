//! The run of a RabbitMQ sink: one connection, and the messages that wait for their confirmations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker_event::Event;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::message::message;
use super::{EXCHANGE_TYPES, RabbitmqSink};
use crate::rabbitmq::amqp::{
    AmqpError, Connection, Declaration, Incoming, PRECONDITION_FAILED, Publication,
};
use crate::rabbitmq::server::Server;
use crate::rabbitmq::spec::virtual_host;
use crate::respond::Refusal;
use crate::sinks::door::busy;
use crate::sinks::sink::{Context, Write};
use crate::source::SourceError;

/// The channel of all messages.
const CHANNEL: u16 = 1;

/// How long each answer may take while everything is declared: longer than any that comes takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Messages on their way to the connection: a few, so that it is never idle while many are sent. More would only wait here.
const HANDED_OVER: usize = 16;

/// Messages that wait for confirmations before no more are published: as many as requests may be under way, a few times over
/// for batches.
const MAX_UNCONFIRMED: usize = 4096;

/// Bytes that wait to be sent before no more are published: a server that is short of memory stops reading.
const MAX_UNSENT: usize = 4 << 20;

/// How long a sink that is asked to stop waits for confirmations: well below a second together with the goodbye.
const DRAIN: Duration = Duration::from_millis(300);

/// A message, and who waits for it.
#[derive(Debug)]
struct Job {
    message: Publication,
    answer: oneshot::Sender<Result<(), Refusal>>,
}

/// A message that was published.
#[derive(Debug)]
struct Published {
    message_id: String,
    size: usize,
    /// Nothing once it was answered.
    answer: Option<oneshot::Sender<Result<(), Refusal>>>,
}

/// Has the connection.
struct Publisher<'a> {
    connection: &'a mut Connection,
    exchange: &'a str,
    jobs: mpsc::Receiver<Job>,
    /// The number of the last message.
    last: u64,
    unconfirmed: BTreeMap<u64, Published>,
}

/// Hands messages over to the connection.
#[derive(Debug)]
struct Writer {
    routing_key: String,
    jobs: mpsc::Sender<Job>,
}

/// Runs a sink until something fails, or `ctx.stop`.
pub(super) async fn run(
    spec: &RabbitmqSink,
    server: &Server,
    ctx: &Context,
) -> Result<(), SourceError> {
    let name = format!("weft {}/{}", ctx.about.namespace, ctx.about.name);
    let mut place = None;
    let opening = async {
        let connected = server.connect(virtual_host(&spec.vhost), &name).await?;
        declare(place.insert(connected), spec, server).await
    };
    let opened = ctx.stop.run_until_cancelled(opening).await;
    let ended = match (opened, &mut place) {
        (Some(Ok(())), Some(connection)) => {
            let worked = work(connection, spec, ctx).await;
            worked.map_err(|error| server.failed(&format!("publish to {}", shown(spec)), error))
        }
        (Some(failed), _) => failed,
        (None, _) => Ok(()),
    };
    if let Some(connection) = place {
        connection.close().await;
    }
    ended
}

/// Makes sure that there is what the spec names, and that messages are confirmed.
async fn declare(
    connection: &mut Connection,
    spec: &RabbitmqSink,
    server: &Server,
) -> Result<(), SourceError> {
    let mut steps = vec![("open a channel".to_owned(), Declaration::Channel)];
    if !spec.exchange.is_empty() {
        let kind = spec.exchange_type.as_deref().unwrap_or(EXCHANGE_TYPES[0]);
        let kind = (!spec.predeclared).then_some(kind);
        let step = Declaration::Exchange { name: &spec.exchange, kind };
        steps.push((format!("declare {}", shown(spec)), step));
    }
    steps.push(("ask for confirmations".to_owned(), Declaration::Confirms));
    for (what, step) in steps {
        let declared = connection.declare(CHANNEL, &step, PATIENCE).await;
        declared.map_err(|error| server.failed(&what, error))?;
    }
    Ok(())
}

fn shown(spec: &RabbitmqSink) -> String {
    if spec.exchange.is_empty() {
        "the default exchange".to_owned()
    } else {
        format!("the exchange {:?}", spec.exchange)
    }
}

/// Publishes what is posted until something fails, or the sink is asked to stop and what was under way is confirmed.
async fn work(
    connection: &mut Connection,
    spec: &RabbitmqSink,
    ctx: &Context,
) -> Result<(), AmqpError> {
    let (jobs, coming) = mpsc::channel(HANDED_OVER);
    let open = ctx.open(Arc::new(Writer { routing_key: spec.routing_key.clone(), jobs }));
    let mut publisher = Publisher::new(connection, &spec.exchange, coming);
    if let Some(ended) = ctx.stop.run_until_cancelled(publisher.work()).await {
        return ended;
    }
    // Requests under way keep the writer, so all of them are answered when nobody has it any more.
    drop(open);
    timeout(DRAIN, publisher.work()).await.unwrap_or(Ok(()))
}

impl<'a> Publisher<'a> {
    fn new(connection: &'a mut Connection, exchange: &'a str, jobs: mpsc::Receiver<Job>) -> Self {
        Self { connection, exchange, jobs, last: 0, unconfirmed: BTreeMap::new() }
    }

    /// Works until nobody can send messages any more. Can be dropped and called again.
    async fn work(&mut self) -> Result<(), AmqpError> {
        loop {
            let has_room = self.has_room();
            tokio::select! {
                biased;
                incoming = self.connection.next(true) => match incoming {
                    Ok(incoming) => self.hear(incoming),
                    Err(error) => {
                        self.blame(&error);
                        return Err(error);
                    }
                },
                job = self.jobs.recv(), if has_room => {
                    let Some(job) = job else { return Ok(()) };
                    self.publish(job);
                    // What came along is sent with it.
                    while self.has_room() && let Ok(job) = self.jobs.try_recv() {
                        self.publish(job);
                    }
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.unconfirmed.len() < MAX_UNCONFIRMED && self.connection.unsent() < MAX_UNSENT
    }

    fn publish(&mut self, Job { message, answer }: Job) {
        // Who no longer waits will send it again.
        if answer.is_closed() {
            return;
        }
        if let Err(error) = self.connection.publish(CHANNEL, self.exchange, &message) {
            return tell(answer, Err(Refusal::Oversized(error.to_string())));
        }
        self.last += 1;
        let (message_id, size) = (message.message_id, message.body.len());
        let published = Published { message_id, size, answer: Some(answer) };
        self.unconfirmed.insert(self.last, published);
    }

    fn hear(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Confirmed { number, multiple, taken } => {
                let refusal = || busy("RabbitMQ has not taken it: a queue is full, or failed");
                let outcome = || if taken { Ok(()) } else { Err(refusal()) };
                if multiple {
                    let later = self.unconfirmed.split_off(&number.saturating_add(1));
                    let confirmed = std::mem::replace(&mut self.unconfirmed, later);
                    confirmed.into_values().for_each(|published| published.answer(outcome()));
                } else if let Some(published) = self.unconfirmed.remove(&number) {
                    published.answer(outcome());
                }
            }
            // It is confirmed too, but only afterwards. It is known by its id alone, which two messages may share; that of the
            // other may then come again, which is better than to be lost.
            Incoming::Returned(message) => {
                let message_id = message.properties().message_id.unwrap_or_default();
                for published in self.unconfirmed.values_mut() {
                    if published.message_id.as_bytes() == message_id
                        && let Some(answer) = published.answer.take()
                    {
                        tell(answer, Err(busy("RabbitMQ has no queue that takes it")));
                    }
                }
            }
            // Those are for who consumes.
            Incoming::Delivery(_) | Incoming::Cancelled | Incoming::Depth(_) => {}
        }
    }

    /// Says of a message that was too large for the server that it was. Which one it was the server does not say; if any is,
    /// the largest of those that it has not confirmed is too large. The others come again.
    fn blame(&mut self, error: &AmqpError) {
        let AmqpError::Refused { code: PRECONDITION_FAILED, text } = error else { return };
        let largest = self.unconfirmed.values_mut().max_by_key(|published| published.size);
        if text.contains("message size")
            && let Some(answer) = largest.and_then(|published| published.answer.take())
        {
            tell(answer, Err(Refusal::Oversized("RabbitMQ takes no message of that size".into())));
        }
    }
}

impl Published {
    fn answer(self, outcome: Result<(), Refusal>) {
        if let Some(answer) = self.answer {
            tell(answer, outcome);
        }
    }
}

fn tell(answer: oneshot::Sender<Result<(), Refusal>>, outcome: Result<(), Refusal>) {
    // Who no longer waits will send it again.
    drop(answer.send(outcome));
}

impl Writer {
    async fn publish(&self, events: &[Event]) -> Result<(), Refusal> {
        let messages: Result<Vec<_>, _> =
            events.iter().map(|event| message(event, &self.routing_key)).collect();
        let messages = messages.map_err(|why| Refusal::Unacceptable(why.to_string()))?;
        let gone = || busy("the sink was disconnected from RabbitMQ");
        let mut under_way = Vec::with_capacity(events.len());
        for message in messages {
            let (answer, answered) = oneshot::channel();
            self.jobs.send(Job { message, answer }).await.map_err(|_| gone())?;
            under_way.push(answered);
        }
        for answered in under_way {
            answered.await.map_err(|_| gone())??;
        }
        Ok(())
    }
}

impl Write for Writer {
    fn write(&self, events: Vec<Event>) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move { self.publish(&events).await })
    }
}

#[cfg(test)]
mod tests;
