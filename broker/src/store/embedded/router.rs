//! Decides, in the order of the log, which subscriptions get which event.
//!
//! One thread. What becomes durable arrives from memory; after a restart, or when it fell behind, the router reads the
//! log instead. Everything before [`Routing::next`] is decided, except the events of topics without a selector, which
//! are remembered until one comes.

use std::collections::BTreeMap;
use std::time::Duration;

use broker_event::record;
use broker_log::Record;
use roaring::RoaringTreemap;

use super::durable::Staged;
use super::engine::{Engine, with_causes};
use super::queue::Batch;
use super::registry::Registry;
use super::sync::{lock, now_ms, read};
use super::topic::OpenTopic;
use crate::store::{Position, Selector, Slot};

/// Bytes read at once when catching up.
const READ_BYTES: usize = 1 << 20;

/// Events routed under one lock; bounds how long [`Store::route`](crate::store::Store::route) waits.
const ROUND: usize = 512;

/// Picks gathered before they are passed on: with ten thousand subscriptions that want everything, this bounds the lists.
const PICKS: usize = 1 << 16;

/// Events read at once for topics that got a selector.
const DRAIN: usize = 256;

/// How long the router waits when the disk cannot be read.
const PAUSE: Duration = Duration::from_secs(1);

/// Nothing wakes it earlier than needed; any long time will do.
const IDLE: Duration = Duration::from_secs(3600);

/// Added to an event's bytes for what holding it costs beside them.
pub(super) const OVERHEAD: usize = 256;

/// How far the router has come.
#[derive(Debug, Default)]
pub(super) struct Routing {
    /// Everything before is decided or in [`Self::unrouted`].
    pub(super) next: Position,
    /// By stream: events of topics that have no selector yet, or are being read back since they got one.
    pub(super) unrouted: BTreeMap<u32, RoaringTreemap>,
}

impl Routing {
    /// Up to where the events of a topic are decided: the router comes to every later one, and to none before.
    pub(super) fn decided(&self, stream: u32) -> Position {
        let waiting = self.unrouted.get(&stream).and_then(RoaringTreemap::min);
        waiting.map_or(self.next, |first| first.min(self.next))
    }
}

/// The router's own memory, reused from round to round.
#[derive(Debug, Default)]
pub(super) struct Router {
    staged: Vec<Staged>,
    matched: Vec<Slot>,
    picks: Vec<Vec<usize>>,
    picked: Vec<Slot>,
    pick_count: usize,
}

impl Router {
    /// Routes until told to stop.
    pub(super) fn run(mut self, engine: &Engine) {
        let mut patience = IDLE;
        loop {
            let taken = engine.queue.take(patience);
            if taken.stop {
                return;
            }
            patience = IDLE;
            let result = self.work(engine, taken.batches, taken.lagging);
            match result {
                Ok(true) => patience = Duration::ZERO,
                Ok(false) => engine.set_router_trouble(None),
                Err(error) => {
                    let trouble =
                        format!("events cannot be read back to be routed: {}", with_causes(&error));
                    tracing::error!("{trouble}");
                    engine.set_router_trouble(Some(trouble));
                    engine.queue.fall_behind();
                    if engine.queue.pause(PAUSE) {
                        return;
                    }
                }
            }
        }
    }

    /// Answers whether there is more to do at once.
    fn work(
        &mut self,
        engine: &Engine,
        batches: Vec<Batch>,
        lagging: bool,
    ) -> Result<bool, broker_log::ReadError> {
        let mut batches = batches.into_iter().peekable();
        while let Some(first) = batches.peek().map(|batch| batch.first) {
            self.catch_up(engine, first)?;
            self.route_batches(engine, &mut batches);
        }
        if lagging {
            self.catch_up(engine, engine.log.head())?;
        }
        self.drain_unrouted(engine)
    }

    /// Routes batches that follow each other without a gap, at most a round of them.
    fn route_batches(
        &mut self,
        engine: &Engine,
        batches: &mut std::iter::Peekable<impl Iterator<Item = Batch>>,
    ) {
        let mut routing = lock(&engine.routing);
        let mut count = 0;
        while count < ROUND {
            let next = routing.next;
            let Some(batch) = batches.next_if(|batch| batch.first <= next) else { break };
            count += batch.events.len();
            let share = batch.bytes / batch.events.len().max(1);
            let selector = batch.topic.selector();
            let end = batch.first + batch.events.len() as u64;
            for (position, event) in (batch.first..end).zip(batch.events) {
                if position >= next {
                    let (stream, time_ms, bytes) =
                        (batch.topic.stream, batch.time_ms, share + OVERHEAD);
                    let staged = Staged { stream, position, time_ms, bytes, event };
                    self.decide(engine, &mut routing, (&batch.topic, selector.as_deref()), staged);
                }
            }
            routing.next = next.max(end);
        }
        self.pass_on(engine);
    }

    /// Reads the log up to `end` and routes what it holds.
    fn catch_up(&mut self, engine: &Engine, end: Position) -> Result<(), broker_log::ReadError> {
        loop {
            let next = lock(&engine.routing).next;
            if next >= end || engine.queue.is_stopped() {
                return Ok(());
            }
            let records = engine.log.read(next, READ_BYTES)?;
            let topics = engine.topics.load_full();
            let mut routing = lock(&engine.routing);
            if records.is_empty() {
                routing.next = routing.next.max(end);
                return Ok(());
            }
            engine.desk.metrics.routed_from_disk.inc_by(records.len() as u64);
            for record in records {
                routing.next = record.offset + 1;
                let Some(topic) = topics.by_stream.get(&record.stream) else { continue };
                let selector = topic.selector();
                match stage(&record) {
                    Some(staged) => {
                        self.decide(engine, &mut routing, (topic, selector.as_deref()), staged)
                    }
                    None => {
                        engine.desk.metrics.lost.inc();
                    }
                }
            }
            self.pass_on(engine);
        }
    }

    /// Routes what topics kept while they had no selector. Answers whether there is more.
    fn drain_unrouted(&mut self, engine: &Engine) -> Result<bool, broker_log::ReadError> {
        let topics = engine.topics.load_full();
        let routable = |stream: &u32| {
            topics.by_stream.get(stream).is_some_and(|topic| topic.selector().is_some())
        };
        let streams: Vec<u32> =
            lock(&engine.routing).unrouted.keys().copied().filter(routable).collect();
        let mut more = false;
        for stream in streams {
            let Some(topic) = topics.by_stream.get(&stream) else { continue };
            let chunk: Vec<Position> = match lock(&engine.routing).unrouted.get(&stream) {
                Some(unrouted) => unrouted.iter().take(DRAIN).collect(),
                None => continue,
            };
            more |= self.drain_chunk(engine, topic, &chunk)?;
        }
        Ok(more)
    }

    fn drain_chunk(
        &mut self,
        engine: &Engine,
        topic: &OpenTopic,
        chunk: &[Position],
    ) -> Result<bool, broker_log::ReadError> {
        let records = read_bounded(engine, chunk)?;
        let mut routing = lock(&engine.routing);
        let Some(selector) = topic.selector() else { return Ok(false) };
        for (position, record) in records {
            match record.as_ref().and_then(stage) {
                Some(staged) => self.select(engine, &*selector, staged),
                None => {
                    engine.desk.metrics.lost.inc();
                }
            }
            if let Some(unrouted) = routing.unrouted.get_mut(&topic.stream) {
                unrouted.remove(position);
            }
        }
        self.pass_on(engine);
        let empty = routing.unrouted.get(&topic.stream).is_none_or(RoaringTreemap::is_empty);
        if empty {
            routing.unrouted.remove(&topic.stream);
        }
        Ok(!empty)
    }

    /// Asks the selector, or remembers the event until there is one. Events of a topic stay in order: while older ones
    /// are remembered, newer ones queue behind them.
    fn decide(
        &mut self,
        engine: &Engine,
        routing: &mut Routing,
        (topic, selector): (&OpenTopic, Option<&dyn Selector>),
        staged: Staged,
    ) {
        if topic.is_removed() {
            return;
        }
        match selector.filter(|_| !routing.unrouted.contains_key(&topic.stream)) {
            Some(selector) => self.select(engine, selector, staged),
            None => {
                routing.unrouted.entry(topic.stream).or_default().insert(staged.position);
            }
        }
    }

    fn select(&mut self, engine: &Engine, selector: &dyn Selector, staged: Staged) {
        selector.select(&staged.event, &mut self.matched);
        let at = self.staged.len();
        self.staged.push(staged);
        self.pick_count += self.matched.len();
        for slot in self.matched.drain(..) {
            let index = usize::try_from(slot.0).unwrap_or(usize::MAX);
            if index >= self.picks.len() {
                if index >= MAX_SLOTS {
                    continue; // no selector of ours names it; a wild number must not cost memory
                }
                self.picks.resize_with(index + 1, Vec::new);
            }
            let Some(picks) = self.picks.get_mut(index) else { continue };
            if picks.is_empty() {
                self.picked.push(slot);
            }
            picks.push(at);
        }
        if self.pick_count >= PICKS || self.staged.len() >= ROUND {
            self.pass_on(engine);
        }
    }

    /// Gives the subscriptions what was picked for them.
    fn pass_on(&mut self, engine: &Engine) {
        if self.staged.is_empty() {
            return;
        }
        let now = now_ms();
        let registry: &Registry = &read(&engine.registry);
        for slot in self.picked.drain(..) {
            let index = usize::try_from(slot.0).unwrap_or(usize::MAX);
            let Some(picks) = self.picks.get_mut(index) else { continue };
            if let Some(durable) = registry.at(slot) {
                durable.route(&self.staged, picks, now);
            }
            if picks.capacity() > ROUND {
                *picks = Vec::new();
            } else {
                picks.clear();
            }
        }
        engine.desk.metrics.routed.inc_by(self.staged.len() as u64);
        self.staged.clear();
        self.pick_count = 0;
    }
}

/// Slots there can be; a million subscriptions do not fit one process.
const MAX_SLOTS: usize = 1 << 20;

/// The records at `positions`, from the front as many as about [`READ_BYTES`] hold.
fn read_bounded(
    engine: &Engine,
    positions: &[Position],
) -> Result<Vec<(Position, Option<Record>)>, broker_log::ReadError> {
    let mut found = Vec::with_capacity(positions.len());
    let mut bytes = 0;
    for chunk in positions.chunks(16) {
        let records = engine.log.get(chunk)?;
        bytes += records.iter().flatten().map(|record| record.payload.len()).sum::<usize>();
        found.extend(chunk.iter().copied().zip(records));
        if bytes >= READ_BYTES {
            break;
        }
    }
    Ok(found)
}

/// The event in `record`; `None`, and an error in the log, when it cannot be decoded.
pub(super) fn stage(record: &Record) -> Option<Staged> {
    match record::decode(record.payload.clone()) {
        Ok(event) => Some(Staged {
            stream: record.stream,
            position: record.offset,
            time_ms: record.time_ms,
            bytes: record.payload.len() + OVERHEAD,
            event,
        }),
        Err(error) => {
            tracing::error!(position = record.offset, %error, "a stored event cannot be decoded");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_selector_is_not_decided() {
        let mut routing = Routing { next: 10, ..Routing::default() };
        assert_eq!(routing.decided(1), 10);
        routing.unrouted.insert(1, [4, 7].into_iter().collect());
        assert_eq!((routing.decided(1), routing.decided(2)), (4, 10));
    }
}
