//! What the threads of an embedded store share, and the operations on it.
//!
//! Locks are taken in this order: the journal's pen, routing, the registry, one subscription. Whoever needs two takes
//! them so; nobody holds two subscriptions.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use broker_event::{Event, record};
use broker_log::fs::Fs;
use broker_log::{DataDir, Entry, Log, StreamUse};
use bytes::Bytes;
use roaring::RoaringTreemap;
use tokio::sync::{Semaphore, oneshot};

use super::book::{Book, Scan};
use super::durable::{Desk, Durable};
use super::journal_record::Record;
use super::queue::Queue;
use super::registry::{Registry, Topics};
use super::router::Routing;
use super::scribe::Scribe;
use super::snapshot::Image;
use super::sync::{Signal, lock, millis, now_ms, read, steady, write};
use super::topic::{Holding, OpenTopic, Usage};
use crate::store::{
    AppendError, Position, Selector, Slot, Start, StoreError, SubscribeOptions, Topic, TopicOptions,
};

/// When a sender may try again after a budget was used up: subscribers work it off in the meantime.
const RETRY_FULL: Duration = Duration::from_secs(2);

/// When a sender may try again after the disk was full: somebody has to make room, or the cleaner does.
const RETRY_DISK: Duration = Duration::from_secs(5);

/// When a sender may try again after the log's queue was full: it empties with the next sync.
const RETRY_BUSY: Duration = Duration::from_secs(1);

/// What the log gives back with a commit.
#[derive(Debug)]
pub(super) struct Tag {
    pub(super) done: oneshot::Sender<Result<(), broker_log::AppendError>>,
    pub(super) topic: Arc<OpenTopic>,
    pub(super) events: Vec<Event>,
    pub(super) time_ms: u64,
    pub(super) bytes: usize,
}

/// The shared state of an open store.
pub(super) struct Engine {
    pub(super) log: Log<Tag>,
    pub(super) scribe: Scribe,
    pub(super) desk: Arc<Desk>,
    pub(super) queue: Arc<Queue>,
    pub(super) topics: ArcSwap<Topics>,
    pub(super) registry: RwLock<Registry>,
    pub(super) routing: Mutex<Routing>,
    /// Held by whoever makes events live that were not, and by whoever deletes what is not live.
    pub(super) history: Mutex<()>,
    /// Bounds the blocking threads that read for subscriptions.
    pub(super) readers: Arc<Semaphore>,
    pub(super) keeper: Signal,
    pub(super) scanner: Signal,
    pub(super) closing: AtomicBool,
    pub(super) router_trouble: Mutex<Option<String>>,
    /// Where the journal is.
    pub(super) state_dir: PathBuf,
    /// The lock of the data directory, until the store is closed.
    pub(super) data_dir: Mutex<Option<DataDir>>,
    pub(super) fs: Arc<dyn Fs>,
    pub(super) history_bytes: u64,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("state_dir", &self.state_dir).finish_non_exhaustive()
    }
}

impl Engine {
    pub(super) fn topic(&self, topic: &Topic) -> Result<Arc<OpenTopic>, StoreError> {
        self.topics
            .load()
            .by_name
            .get(topic)
            .cloned()
            .ok_or_else(|| StoreError::UnknownTopic(topic.clone()))
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn set_router_trouble(&self, trouble: Option<String>) {
        *lock(&self.router_trouble) = trouble;
    }

    pub(super) fn declare(&self, topic: &Topic, options: TopicOptions) -> Result<(), StoreError> {
        let budget = options.budget;
        if self.topic(topic).is_ok_and(|open| open.budget() == budget) {
            return Ok(());
        }
        let mut pen = self.scribe.pen();
        let known = self.topic(topic).ok();
        let stream =
            known.as_ref().map_or_else(|| read(&self.registry).next_stream, |open| open.stream);
        let record = Record::Declared { stream, topic: topic.clone(), budget };
        self.scribe.write(&mut pen, &record)?;
        // Events name the topic by its number: the number must be known after a crash before the first event is.
        self.scribe.sync(&mut pen)?;
        match known {
            Some(open) => open.set_budget(budget),
            None => {
                write(&self.registry).next_stream = stream.saturating_add(1);
                let open = Arc::new(OpenTopic::new(stream, topic.clone(), budget));
                self.topics.store(Arc::new(self.topics.load().with(open)));
            }
        }
        Ok(())
    }

    pub(super) fn remove(&self, topic: &Topic) -> Result<(), StoreError> {
        let mut pen = self.scribe.pen();
        let Ok(open) = self.topic(topic) else { return Ok(()) };
        self.scribe.write(&mut pen, &Record::Removed { stream: open.stream })?;
        self.scribe.sync(&mut pen)?;
        let mut routing = lock(&self.routing);
        open.set_removed();
        self.topics.store(Arc::new(self.topics.load().without(&open)));
        routing.unrouted.remove(&open.stream);
        let mut registry = write(&self.registry);
        let durables: Vec<Arc<Durable>> = registry.of(open.stream).cloned().collect();
        for durable in durables {
            registry.remove(&durable);
            durable.close(StoreError::UnknownTopic(topic.clone()));
        }
        registry.free_slots(open.stream);
        Ok(())
    }

    pub(super) async fn append(
        &self,
        topic: &Topic,
        events: Vec<Event>,
        limit: fn(u64) -> u64,
    ) -> Result<(), AppendError> {
        let result = self.try_append(topic, events, limit).await;
        match &result {
            Ok(count) => self.desk.metrics.appended.inc_by(*count),
            Err(AppendError::Full { .. }) => self.desk.metrics.refused_full.inc(),
            Err(_) => self.desk.metrics.refused_other.inc(),
        };
        result.map(|_| ())
    }

    async fn try_append(
        &self,
        topic: &Topic,
        events: Vec<Event>,
        limit: fn(u64) -> u64,
    ) -> Result<u64, AppendError> {
        let open = self.topics.load().by_name.get(topic).cloned();
        let open = open.ok_or_else(|| AppendError::UnknownTopic(topic.clone()))?;
        if events.is_empty() {
            return Ok(0);
        }
        if self.is_closing() {
            return Err(closed());
        }
        let payloads: Vec<Bytes> = events.iter().map(encode).collect();
        let bytes: usize = payloads.iter().map(Bytes::len).sum();
        let limit = limit(open.budget());
        if let Err(usage) = open.admit(bytes as u64, limit, steady(), || self.measure(&open)) {
            return Err(AppendError::Full { reason: full(&open, &usage), retry_after: RETRY_FULL });
        }
        let count = events.len() as u64;
        let events = of_records(events, &payloads);
        let (done, heard) = oneshot::channel();
        let (stream, time_ms) = (open.stream, now_ms());
        let tag = Tag { done, topic: open, events, time_ms, bytes };
        self.log
            .append(Entry { stream, time_ms, payloads, tag })
            .map_err(|(error, _)| refused(&error))?;
        match heard.await {
            Ok(Ok(())) => Ok(count),
            Ok(Err(error)) => Err(refused(&error)),
            Err(_) => Err(self.log.failed().map_or_else(closed, AppendError::Failed)),
        }
    }

    pub(super) fn route(
        &self,
        topic: &Topic,
        selector: Arc<dyn Selector>,
    ) -> Result<(), StoreError> {
        let open = self.topic(topic)?;
        self.scribe.sync(&mut self.scribe.pen())?;
        {
            let routing = lock(&self.routing);
            open.set_selector(selector);
            write(&self.registry).free_slots(open.stream);
            let registry = read(&self.registry);
            let decided = routing.decided(open.stream);
            for durable in registry.of(open.stream).filter(|durable| durable.slot.get().is_some()) {
                if !durable.known.swap(true, Ordering::AcqRel) {
                    durable.with(|ledger| ledger.bound_scan(decided));
                    durable.bell.notify_one();
                }
            }
        }
        self.queue.nudge();
        self.scanner.ask();
        Ok(())
    }

    /// Makes the caller the holder of a subscription, which is created if need be.
    pub(super) fn subscribe(
        &self,
        topic: &Topic,
        name: &str,
        options: &SubscribeOptions,
    ) -> Result<(Arc<Durable>, Slot), StoreError> {
        if self.is_closing() {
            return Err(StoreError::Closed);
        }
        let open = self.topic(topic)?;
        let known = read(&self.registry).find(open.stream, name).cloned();
        let durable = match known {
            Some(durable) => durable,
            None => self.create(&open, name, options.start)?,
        };
        durable.hold(options)?;
        let slot = write(&self.registry).seat(&durable);
        Ok((durable, slot))
    }

    fn create(
        &self,
        open: &OpenTopic,
        name: &str,
        start: Start,
    ) -> Result<Arc<Durable>, StoreError> {
        let mut pen = self.scribe.pen();
        if open.is_removed() {
            return Err(StoreError::UnknownTopic(open.topic.clone()));
        }
        if let Some(durable) = read(&self.registry).find(open.stream, name) {
            return Ok(Arc::clone(durable));
        }
        let from = self.position(start);
        // What is accepted before a selector knows the subscription is looked at again then.
        let scan = Some(Scan { next: from.max(self.log.first()), end: None });
        let (id, stream) = (read(&self.registry).next_id, open.stream);
        let record = Record::Subscribed { id, stream, name: name.to_owned(), from, scan };
        self.scribe.write(&mut pen, &record)?;
        let book = Book::new(from, scan);
        let durable =
            Durable::new(id, (stream, open.topic.clone()), name, book, Arc::clone(&self.desk));
        let durable = Arc::new(durable);
        write(&self.registry).insert(&durable);
        Ok(durable)
    }

    pub(super) fn unsubscribe(&self, topic: &Topic, name: &str) -> Result<(), StoreError> {
        let open = self.topic(topic)?;
        let mut pen = self.scribe.pen();
        let known = read(&self.registry).find(open.stream, name).cloned();
        let Some(durable) = known else {
            return Err(StoreError::UnknownSubscription(name.to_owned()));
        };
        self.scribe.write(&mut pen, &Record::Unsubscribed { id: durable.id })?;
        self.scribe.sync(&mut pen)?;
        write(&self.registry).remove(&durable);
        durable.close(StoreError::UnknownSubscription(name.to_owned()));
        Ok(())
    }

    /// The first position that `start` means.
    pub(super) fn position(&self, start: Start) -> Position {
        match start {
            Start::Now => self.log.head(),
            Start::Earliest => 0,
            Start::Time(time) => self.log.offset_at(millis(time)),
            Start::Position(position) => position,
        }
    }

    /// All subscriptions there are now.
    pub(super) fn durables(&self) -> Vec<Arc<Durable>> {
        read(&self.registry).all().cloned().collect()
    }

    /// Counts what a topic keeps: live events times the average size of the topic's events in their segment.
    pub(super) fn measure(&self, topic: &OpenTopic) -> Usage {
        // First the router's place, then the bitmaps: an event passes from one to the other in this order.
        let (routed, mut live) = {
            let routing = lock(&self.routing);
            (routing.next, routing.unrouted.get(&topic.stream).cloned().unwrap_or_default())
        };
        let mut largest: Option<Holding> = None;
        let durables: Vec<Arc<Durable>> = read(&self.registry).of(topic.stream).cloned().collect();
        for durable in durables {
            let (waiting, parked) = durable.with(|ledger| {
                let book = ledger.book();
                book.add_live(&mut live);
                (book.pending_len(), book.parked().len() as u64)
            });
            if waiting + parked
                > largest.as_ref().map_or(0, |holding| holding.waiting + holding.parked)
            {
                largest = Some(Holding { name: Arc::clone(&durable.name), waiting, parked });
            }
        }
        let mut kept = 0_u64;
        for segment in self.log.segments() {
            let used =
                segment.streams.iter().find(|used| used.stream == topic.stream && used.count > 0);
            let Some(&StreamUse { count, bytes, .. }) = used else { continue };
            let span = u128::from(segment.end.saturating_sub(segment.base).max(1));
            let ahead = u128::from(segment.end.saturating_sub(segment.base.max(routed)));
            let undecided = u128::from(count) * ahead / span;
            let live = u128::from(live.range_cardinality(segment.base..segment.end)) + undecided;
            let share = live * u128::from(bytes) / u128::from(count);
            kept = kept.saturating_add(u64::try_from(share).unwrap_or(u64::MAX));
        }
        Usage::new(kept, largest)
    }

    /// Every position that must stay on disk, and the position from which on all must.
    pub(super) fn live(&self) -> (RoaringTreemap, Position) {
        // First the router's place, then the bitmaps: an event passes from one to the other in this order.
        let (routed, mut live) = {
            let routing = lock(&self.routing);
            let mut live = RoaringTreemap::new();
            routing.unrouted.values().for_each(|unrouted| live |= unrouted);
            (routing.next, live)
        };
        for durable in self.durables() {
            durable.add_live(&mut live, routed);
        }
        (live, routed)
    }

    /// Writes what waits for the journal and waits until it is durable.
    pub(super) fn settle_journal(&self) -> Result<(), StoreError> {
        let mut pen = self.scribe.pen();
        self.scribe.write_notes(&mut pen, &self.desk, &self.registry)?;
        self.scribe.force(&mut pen)
    }

    /// Replaces the journal by the state of everything. Runs while the store works: what happens meanwhile is written
    /// after it, and notes may be applied twice.
    pub(super) fn snapshot(&self) -> Result<u64, StoreError> {
        let mut pen = self.scribe.pen();
        self.scribe.write_notes(&mut pen, &self.desk, &self.registry)?;
        let mut image = {
            let routing = lock(&self.routing);
            let registry = read(&self.registry);
            let mut image = Image::new(registry.next_stream, registry.next_id, routing.next);
            let empty = RoaringTreemap::new();
            for (stream, topic) in &self.topics.load().by_stream {
                let unrouted = routing.unrouted.get(stream).unwrap_or(&empty);
                image.topic(*stream, &topic.topic, topic.budget(), unrouted);
            }
            image
        };
        for durable in self.durables() {
            let (id, stream) = (durable.id, durable.stream);
            durable.with(|ledger| image.subscription(id, stream, &durable.name, ledger.book()));
        }
        let state = image.finish();
        self.scribe.snapshot(&mut pen, &state)?;
        self.desk.metrics.snapshots.inc();
        Ok(state.len() as u64)
    }

    /// Why the store takes no events or does not keep its records, if so.
    pub(super) fn unhealthy(&self) -> Option<String> {
        let failed =
            self.log.failed().map(|why| format!("the log failed and takes no more events: {why}"));
        failed
            .or_else(|| lock(&self.router_trouble).clone())
            .or_else(|| self.scribe.trouble())
            .or_else(|| self.is_closing().then(|| StoreError::Closed.to_string()))
    }
}

/// A failed read, as callers of the store see it.
pub(super) fn unreadable(error: &broker_log::ReadError) -> StoreError {
    StoreError::Failed(with_causes(error))
}

/// An error and what caused it, in one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn encode(event: &Event) -> Bytes {
    let data = event.data().map_or(0, Bytes::len);
    let mut payload = Vec::with_capacity(data + 256);
    record::encode(event, &mut payload);
    Bytes::from(payload)
}

/// The same events as slices of their records, which are in memory anyway. As they came they are slices of their senders'
/// requests or of many small pieces, and would keep those from being used again until everybody is done with them.
fn of_records(events: Vec<Event>, records: &[Bytes]) -> Vec<Event> {
    let of_record =
        |(event, bytes): (Event, &Bytes)| record::decode(bytes.clone()).unwrap_or(event);
    events.into_iter().zip(records).map(of_record).collect()
}

fn closed() -> AppendError {
    AppendError::Unavailable {
        reason: "the store is shutting down".to_owned(),
        retry_after: RETRY_BUSY,
    }
}

fn refused(error: &broker_log::AppendError) -> AppendError {
    match error {
        broker_log::AppendError::Full => {
            AppendError::Full { reason: "the disk is full".to_owned(), retry_after: RETRY_DISK }
        }
        broker_log::AppendError::Busy => {
            let reason = "more is being written than the disk takes".to_owned();
            AppendError::Unavailable { reason, retry_after: RETRY_BUSY }
        }
        broker_log::AppendError::Closed => closed(),
        broker_log::AppendError::TooLarge => AppendError::TooLarge,
        broker_log::AppendError::Failed(why) => AppendError::Failed(why.clone()),
    }
}

fn full(topic: &OpenTopic, usage: &Usage) -> String {
    let start = format!(
        "broker {} has used up its storage budget of {} bytes",
        topic.topic,
        topic.budget()
    );
    match &usage.largest {
        Some(holding) => format!(
            "{start}; trigger {} holds most of it: {} events wait and {} are parked",
            holding.name, holding.waiting, holding.parked
        ),
        None => start,
    }
}
