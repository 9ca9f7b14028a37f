//! Reading a stream: messages are pulled in batches, handed over in the order of the stream, and acknowledged.
//!
//! While a batch is being handed over the next one arrives. There is at most one batch on its way to the sink, what came
//! meanwhile, and what was asked for; nothing else is in memory.
//!
//! A consumer acknowledges each message by itself, or (the source's own, at servers that can move one back) all up to a
//! message. The latter is right only if every message before was safe. So there deliveries must come in the order of their
//! numbers, each for the first time; if one is missing, or the connection was made anew, the consumer is moved back to the
//! first message that is not safe.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::consumer::{AckPolicy, Info};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::{self, AckKind};
use async_nats::{Client, Message, Subject, Subscriber};
use broker_event::{Event, EventError};
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, pending};
use futures_util::stream::StreamExt;
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use self::order::Order;
use super::address::Address;
use super::consumer::{self, PullConsumer, absent};
use super::event::Maker;
use super::link::{Link, gone};
use super::request::{BATCH, BATCH_BYTES, Limits, Request, Verdict, verdict};
use super::rescue::{InFlight, in_flight};
use super::spec::NatsSource;
use crate::source::{Context, SourceError};

mod order;

/// So many heartbeats may be missing before what was asked for counts as lost.
const MISSED: u32 = 3;

/// So often in a row that may happen before it is said.
const LOST: u32 = 2;

/// What ends earlier than this without a message was refused rather than served; then the next request waits as long.
const HASTE: Duration = Duration::from_secs(1);

/// How often the server is asked how much waits.
const LAG: Duration = Duration::from_secs(5);

/// How long looking for messages that the client cannot read may take. Meanwhile nothing else is done.
const RESCUE: Duration = Duration::from_secs(10);

/// How many such messages are remembered, so that they are only acknowledged when they come again. They are taken again, as
/// the same events, if there are more of them.
const MAX_RESCUED: usize = 1000;

/// How long giving messages back may take. The source has a second to stop.
const GIVE_BACK: Duration = Duration::from_millis(400);

/// Reads one stream through one consumer.
#[derive(Debug)]
pub(super) struct Pull {
    client: Client,
    consumer: PullConsumer,
    maker: Maker,
    limits: Limits,
    /// Under it each request has a subject of its own.
    inbox: String,
    messages: Subscriber,
    /// The message that came last: only in one of these it is known where in the stream it was, and to make one for each
    /// message would take longer than all else that is done with it.
    carrier: jetstream::Message,
    /// What came and is not being handed over yet.
    waiting: VecDeque<(Held, Event)>,
    waiting_bytes: usize,
    /// What is being handed over.
    handing: Vec<Held>,
    /// What is safe and not acknowledged yet.
    safe: VecDeque<Subject>,
    /// Where an acknowledgement is of all messages before.
    order: Option<Order>,
    requests: VecDeque<Request>,
    /// How many requests there were.
    asked: u64,
    /// When the server said something last.
    heard: Instant,
    /// No request before.
    not_before: Instant,
    /// The next request is for one message of any size.
    oversized: bool,
    lost: u32,
    /// How often the connection was made, and by which server.
    connects: u64,
    server: String,
    /// Whether the client may have stumbled over a message in flight.
    stumbled: bool,
    /// The sequences of messages that were taken without the client.
    rescued: BTreeSet<u64>,
}

/// A message that is not acknowledged.
#[derive(Debug)]
struct Held {
    sequence: u64,
    /// Where the server is told what becomes of it.
    reply: Subject,
    bytes: usize,
    /// When the server has to hear that it is still in good hands.
    due: Instant,
}

impl Pull {
    /// Opens the consumer of the spec.
    ///
    /// # Errors
    /// As [`consumer::open`].
    pub(super) async fn open(
        link: &Link,
        spec: &NatsSource,
        server: &Address,
        ctx: &Context,
    ) -> Result<Self, SourceError> {
        let client = link.client.clone();
        let connects = client.statistics().connects.load(Ordering::Relaxed);
        let context = jetstream::new(client.clone());
        let consumer = consumer::open(&context, spec, &ctx.about).await?;
        let inbox = client.new_inbox();
        let messages = client.subscribe(format!("{inbox}.*")).await.map_err(|_| gone())?;
        let carrier = jetstream::Message { context, message: nothing() };
        let Info { name, config, num_pending, num_ack_pending, delivered, .. } =
            consumer.cached_info();
        ctx.lag(*num_pending);
        let stumbled = *num_ack_pending > 0;
        let order = (config.ack_policy == AckPolicy::All)
            .then(|| Order::after(delivered.consumer_sequence, stumbled));
        let maker = Maker::new(server, &spec.stream, name);
        let limits = Limits::of(config, client.max_payload());
        Ok(Self {
            server: client.server_info().server_id,
            client,
            maker,
            limits,
            inbox,
            messages,
            carrier,
            consumer,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            handing: Vec::new(),
            safe: VecDeque::new(),
            order,
            requests: VecDeque::new(),
            asked: 0,
            heard: Instant::now(),
            not_before: Instant::now(),
            oversized: false,
            lost: 0,
            connects,
            stumbled,
            rescued: BTreeSet::new(),
        })
    }

    /// Works until something is wrong.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) async fn work(&mut self, ctx: &Context) -> Result<(), SourceError> {
        let consumer = self.consumer.clone();
        tokio::select! {
            error = watch_lag(&consumer, ctx) => Err(error),
            done = self.hand_over(ctx) => done,
        }
    }

    async fn hand_over(&mut self, ctx: &Context) -> Result<(), SourceError> {
        let mut delivery: Option<BoxFuture<'_, Result<(), SourceError>>> = None;
        // Often enough to be in time with each half of the time that a message has.
        let period = (self.limits.ack_wait / 8).clamp(Duration::from_millis(100), HASTE);
        let mut look = interval(period);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.is_broken() {
                if delivery.is_none() && self.is_connected() {
                    self.start_over(ctx).await?;
                    continue;
                }
            } else if self.stumbled && self.is_connected() {
                self.rescue().await?;
            }
            self.ask().await?;
            self.take_what_is_there()?;
            if delivery.is_none() && !self.is_broken() {
                delivery = self.batch(ctx.at_once(BATCH)).map(|events| ctx.deliver(events).boxed());
            }
            tokio::select! {
                biased;
                delivered = finished(&mut delivery) => {
                    delivery = None;
                    delivered?;
                    self.mark_safe();
                    self.acknowledge().await?;
                }
                _ = look.tick() => self.look_after().await?,
                message = self.messages.next() => self.receive(message)?,
            }
        }
    }

    /// Tells the server that messages are dealt with. An acknowledgement that is lost on the way makes a message come again,
    /// as the same event; to wait for the server's answer to each would make every batch slower for that.
    async fn acknowledge(&mut self) -> Result<(), SourceError> {
        while let Some(reply) = self.safe.front() {
            self.tell(reply.clone(), AckKind::Ack).await?;
            self.safe.pop_front();
        }
        Ok(())
    }

    async fn tell(&self, reply: Subject, what: AckKind) -> Result<(), SourceError> {
        self.client.publish(reply, what.into()).await.map_err(|_| gone())
    }

    /// Asks for messages, if there is room for them.
    async fn ask(&mut self) -> Result<(), SourceError> {
        let now = Instant::now();
        let expected: usize = self.requests.iter().map(|request| request.left).sum();
        let half = self.limits.batch / 2;
        let has_room = !self.is_broken()
            && self.requests.len() < self.limits.requests
            && expected <= half
            && self.waiting.len() + expected <= self.limits.batch + half
            && self.waiting_bytes < self.limits.bytes;
        if !has_room || now < self.not_before || !self.is_connected() {
            return Ok(());
        }
        let batch = if self.oversized { 1 } else { self.limits.batch };
        let wanted = BatchConfig {
            batch,
            max_bytes: if self.oversized { 0 } else { self.limits.bytes },
            expires: Some(self.limits.expires),
            idle_heartbeat: self.limits.heartbeat,
            ..BatchConfig::default()
        };
        self.asked += 1;
        let inbox = Subject::from(format!("{}.{}", self.inbox, self.asked));
        self.consumer.request_batch(wanted, inbox.clone()).await.map_err(|_| gone())?;
        self.oversized = false;
        if self.requests.is_empty() {
            self.heard = now;
        }
        self.requests.push_back(Request { inbox, at: now, left: batch, got: 0 });
        Ok(())
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Takes what already came, so that it goes into one batch.
    fn take_what_is_there(&mut self) -> Result<(), SourceError> {
        while self.waiting.len() < self.limits.batch {
            let Some(message) = self.messages.next().now_or_never() else { break };
            self.receive(message)?;
        }
        Ok(())
    }

    fn receive(&mut self, message: Option<Message>) -> Result<(), SourceError> {
        let Some(message) = message else { return Err(gone()) };
        let now = Instant::now();
        self.lost = 0;
        self.heard = now;
        match message.status {
            // What the server says itself has no reply subject. A publisher can put a status into a message, too.
            Some(status) if message.reply.is_none() => {
                let said = message.description.as_deref().unwrap_or_default();
                match verdict(status.as_u16(), said, self.maker.consumer()) {
                    Verdict::Waits => {}
                    Verdict::Over => self.is_over(&message.subject, now),
                    Verdict::Oversized => {
                        // A message that is larger than all of a request is asked for by itself.
                        let request = self.end(&message.subject);
                        self.oversized |= request.is_some_and(|request| request.got == 0);
                    }
                    Verdict::Failed(error) => return Err(error),
                }
                Ok(())
            }
            _ => self.take(message, now),
        }
    }

    fn is_over(&mut self, inbox: &Subject, now: Instant) {
        if let Some(request) = self.end(inbox)
            && request.got == 0
            && now.duration_since(request.at) < HASTE
        {
            self.not_before = now + HASTE;
        }
    }

    fn end(&mut self, inbox: &Subject) -> Option<Request> {
        let index = self.requests.iter().position(|request| request.inbox == *inbox)?;
        self.requests.remove(index)
    }

    fn take(&mut self, message: Message, now: Instant) -> Result<(), SourceError> {
        self.carrier.message = message;
        let (Ok(info), Some(reply)) = (self.carrier.info(), &self.carrier.message.reply) else {
            // Whoever may publish to everybody's inbox can put it there; it is of no stream.
            tracing::debug!("a message that is not of JetStream was ignored");
            return Ok(());
        };
        let (sequence, again) = (info.stream_sequence, info.delivered > 1);
        let delivery = info.consumer_sequence;
        if self.order.as_mut().is_some_and(|order| !order.follows(delivery, again)) {
            return Ok(());
        }
        let time = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos());
        let reply = reply.clone();
        // The server serves requests one after the other.
        if let Some(request) = self.requests.front_mut() {
            request.got += 1;
            request.left = request.left.saturating_sub(1);
            if request.left == 0 {
                self.requests.pop_front();
            }
        }
        let due = now + self.limits.ack_wait / 2;
        if again && self.renew(sequence, &reply, due) {
            return Ok(());
        }
        let event = self.maker.stored(&self.carrier.message, sequence, time.unwrap_or_default());
        self.hold(event, Held { sequence, reply, bytes: self.carrier.message.length, due })
    }

    fn hold(&mut self, event: Result<Event, EventError>, held: Held) -> Result<(), SourceError> {
        let event = event.map_err(|error| SourceError::Config(error.to_string()))?;
        self.waiting_bytes += held.bytes;
        self.waiting.push_back((held, event));
        Ok(())
    }

    /// Takes messages in flight that the client cannot read.
    async fn rescue(&mut self) -> Result<(), SourceError> {
        self.stumbled = false;
        let found = self.look_at_what_is_in_flight(None, |message| !message.is_readable).await;
        let due = Instant::now() + self.limits.ack_wait / 2;
        for found in found {
            let Some(reply) = found.message.reply.clone() else { continue };
            if self.renew(found.sequence, &reply, due) {
                continue;
            }
            if self.rescued.contains(&found.sequence) {
                // It is safe, and the acknowledgement was lost with the connection.
                self.safe.push_back(reply);
                continue;
            }
            if self.rescued.len() >= MAX_RESCUED {
                self.rescued.pop_first();
            }
            self.rescued.insert(found.sequence);
            self.hold_unread(found)?;
        }
        self.acknowledge().await
    }

    async fn look_at_what_is_in_flight(
        &self,
        first: Option<u64>,
        wanted: fn(&InFlight) -> bool,
    ) -> Vec<InFlight> {
        let looking = in_flight(&self.carrier.context, &self.consumer, first, wanted);
        timeout(RESCUE, looking).await.unwrap_or_default()
    }

    /// Takes a message that did not come through the client.
    fn hold_unread(&mut self, found: InFlight) -> Result<(), SourceError> {
        let InFlight { sequence, time, message, is_readable } = found;
        if !is_readable {
            tracing::warn!(
                sequence,
                "a message has headers that are none; those that are were kept"
            );
        }
        let event = self.maker.stored(&message, sequence, time);
        let Some(reply) = message.reply else { return Ok(()) };
        let due = Instant::now() + self.limits.ack_wait / 2;
        self.hold(event, Held { sequence, reply, bytes: message.length, due })
    }

    /// A message that came again while it is still here need not be a second event.
    fn renew(&mut self, sequence: u64, reply: &Subject, due: Instant) -> bool {
        let Some(held) = self.held().find(|held| held.sequence == sequence) else { return false };
        held.reply = reply.clone();
        held.due = due;
        true
    }

    /// Everything that is neither acknowledged nor safe.
    fn held(&mut self) -> impl Iterator<Item = &mut Held> {
        self.handing.iter_mut().chain(self.waiting.iter_mut().map(|(held, _)| held))
    }

    /// The events of the next batch, of which there are so many at most.
    fn batch(&mut self, most: usize) -> Option<Vec<Event>> {
        let mut bytes = 0;
        let mut events = Vec::new();
        while let Some((next, _)) = self.waiting.front() {
            bytes += next.bytes;
            if events.len() >= most || (bytes > BATCH_BYTES && !events.is_empty()) {
                break;
            }
            let Some((held, event)) = self.waiting.pop_front() else { break };
            self.waiting_bytes = self.waiting_bytes.saturating_sub(held.bytes);
            self.handing.push(held);
            events.push(event);
        }
        (!events.is_empty()).then_some(events)
    }

    /// Looks whether the requests are still there, and tells the server of messages that take long.
    async fn look_after(&mut self) -> Result<(), SourceError> {
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        if connects != self.connects {
            // The server that had the requests is gone, or has forgotten them.
            self.connects = connects;
            self.requests.clear();
            let server = self.client.server_info().server_id;
            // A server that is still the same did not end the connection by stopping.
            self.stumbled |= server == self.server;
            self.server = server;
            if let Some(order) = &mut self.order {
                order.interrupt();
            }
        }
        if !self.is_connected() {
            return Ok(());
        }
        let now = Instant::now();
        let silence = self.limits.heartbeat * MISSED;
        if !self.requests.is_empty() && now.duration_since(self.heard) > silence {
            self.requests.clear();
            self.lost += 1;
            if self.lost >= LOST {
                let what = format!("the consumer {} does not answer", self.maker.consumer());
                return Err(SourceError::Unavailable { what, source: None });
            }
        }
        let next = now + self.limits.ack_wait / 2;
        let client = self.client.clone();
        for held in self.held().filter(|held| held.due <= now) {
            held.due = next;
            let told = client.publish(held.reply.clone(), AckKind::Progress.into());
            told.await.map_err(|_| gone())?;
        }
        Ok(())
    }

    /// Gives back what was not handed over, so that it need not be waited for.
    pub(super) async fn give_back(mut self) {
        if !self.is_connected() {
            return;
        }
        let all = async {
            self.acknowledge().await?;
            if self.order.is_some() {
                // The consumer is moved back when it is opened again.
                return self.client.flush().await.map_err(|_| gone());
            }
            for held in self.handing.iter().chain(self.waiting.iter().map(|(held, _)| held)) {
                self.tell(held.reply.clone(), AckKind::Nak(None)).await?;
            }
            // The requests end with the subscription; what is on its way meanwhile goes back as well.
            self.messages.drain().await.map_err(|_| gone())?;
            while let Some(message) = self.messages.next().await {
                if let Some(reply) = message.reply {
                    let told = self.client.publish(reply, AckKind::Nak(None).into());
                    told.await.map_err(|_| gone())?;
                }
            }
            self.client.flush().await.map_err(|_| gone())
        };
        // Otherwise the server waits for them to be acknowledged, and delivers them then.
        if !matches!(timeout(GIVE_BACK, all).await, Ok(Ok(()))) {
            tracing::debug!("messages could not be given back in time");
        }
    }
}

/// No message.
fn nothing() -> Message {
    Message {
        subject: Subject::from_static(""),
        reply: None,
        payload: Bytes::new(),
        headers: None,
        status: None,
        description: None,
        length: 0,
    }
}

/// The end of what is being handed over; never, if nothing is.
pub(super) async fn finished(
    delivery: &mut Option<BoxFuture<'_, Result<(), SourceError>>>,
) -> Result<(), SourceError> {
    match delivery {
        Some(delivery) => delivery.await,
        None => pending().await,
    }
}

/// Tells how much waits, until there is nothing to ask.
async fn watch_lag(consumer: &PullConsumer, ctx: &Context) -> SourceError {
    loop {
        sleep(LAG).await;
        match consumer.get_info().await {
            Ok(info) => ctx.lag(info.num_pending),
            Err(error) => match error.kind() {
                ConsumerInfoErrorKind::NotFound | ConsumerInfoErrorKind::StreamNotFound => {
                    let Info { name, stream_name, .. } = consumer.cached_info();
                    return absent(format!(
                        "the consumer {name} of the stream {stream_name} is gone"
                    ));
                }
                // Messages may flow all the same, and if they do not, others see it.
                _ => {}
            },
        }
    }
}
