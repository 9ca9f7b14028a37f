//! The memory backend: everything in one process's memory, gone when it ends. For tests, and for meshes to throw away.
//!
//! One lock over all of it, held for no longer than a call's own work; selectors are asked under it. Settled
//! events are kept for a while as history, so that replays, starts in the past and people find something.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use broker_event::Event;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::timeout;

use self::archive::Stream;
use self::line::{Handed, LineId, Next};
use self::state::State;
use crate::inspect::{
    Continue, Inspect, Kept, Parked, ParkedSelection, Step, SubscriptionStatus, TopicStatus,
};
use crate::store::{
    AppendError, Delivery, Outcome, Position, Selector, Settle, Settlement, Slot, Start, Store,
    StoreError, SubscribeOptions, Subscription, Topic, TopicOptions, with_replies,
};

mod archive;
mod inspect;
mod line;
mod state;

/// The longest wait for a due time before looking again: the wall clock may be set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Events a scan copies under one lock.
const SCANNED: usize = 256;

/// A store in memory.
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { shared: Arc::new(Shared { state: Mutex::default() }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Shared {
    /// A panic of another holder does not spread: what can panic is a selector, and it is asked before anything changes.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn declare(&self, topic: &Topic, options: TopicOptions) -> Result<(), StoreError> {
        self.state().declare(topic, options);
        Ok(())
    }

    fn remove(&self, topic: &Topic) -> Result<(), StoreError> {
        self.state().remove(topic);
        Ok(())
    }

    fn append<'a>(
        &'a self,
        topic: &'a Topic,
        events: Vec<Event>,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        Box::pin(async move { self.state().append(topic, events, |budget| budget, now_ms()) })
    }

    fn append_replies<'a>(
        &'a self,
        topic: &'a Topic,
        events: Vec<Event>,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        Box::pin(async move { self.state().append(topic, events, with_replies, now_ms()) })
    }

    fn route(&self, topic: &Topic, selector: Arc<dyn Selector>) -> Result<(), StoreError> {
        self.state().route(topic, selector, now_ms())
    }

    fn subscribe(
        &self,
        topic: &Topic,
        name: &str,
        options: SubscribeOptions,
    ) -> Result<Box<dyn Subscription>, StoreError> {
        let seat = self.state().subscribe(topic, name, &options, now_ms())?;
        let desk = Desk { line: seat.line, bell: seat.bell, shared: Arc::clone(&self.shared) };
        Ok(Box::new(Holder {
            desk: Arc::new(desk),
            slot: seat.slot,
            stream: seat.stream,
            topic: topic.clone(),
            name: name.to_owned(),
        }))
    }

    fn unsubscribe(&self, topic: &Topic, name: &str) -> Result<(), StoreError> {
        self.state().unsubscribe(topic, name)
    }
}

impl Inspect for MemoryStore {
    fn topics(&self) -> Vec<TopicStatus> {
        self.state().topic_statuses(now_ms())
    }

    fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        self.state().subscription_statuses(now_ms())
    }

    fn parked(
        &self,
        which: &ParkedSelection,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Parked>, StoreError> {
        Ok(self.state().parked_letters(which, after, limit))
    }

    fn redrive(&self, which: &ParkedSelection) -> Result<u64, StoreError> {
        Ok(self.state().redrive(which))
    }

    fn purge(&self, which: &ParkedSelection) -> Result<u64, StoreError> {
        Ok(self.state().purge(which))
    }

    fn replay(&self, topic: &Topic, subscription: &str, from: Start) -> Result<u64, StoreError> {
        self.state().replay(topic, subscription, from, now_ms())
    }

    fn scan(&self, from: Start, visit: &mut dyn FnMut(Kept) -> Continue) -> Result<(), StoreError> {
        // What comes meanwhile is for the next walk, or this one might never end.
        let (mut next, end) = self.state().stretch(from);
        while next < end {
            // Visited without the lock: the visitor may ask the store.
            let chunk = self.state().kept(next, end, SCANNED);
            let Some(last) = chunk.last() else { break };
            next = last.position.saturating_add(1);
            for kept in chunk {
                if !visit(kept) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn steps(&self, position: Position) -> Result<Vec<Step>, StoreError> {
        Ok(self.state().steps(position, now_ms()))
    }

    fn unhealthy(&self) -> Option<String> {
        None
    }
}

/// Where deliveries of one subscription are settled; outlives its holder.
struct Desk {
    line: LineId,
    bell: Arc<Notify>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("line", &self.line).finish_non_exhaustive()
    }
}

impl Settle for Desk {
    fn settle(&self, position: Position, settlement: Settlement, outcome: Option<Outcome>) {
        self.shared.state().settle(self.line, position, settlement, outcome);
    }
}

/// Holds a subscription until it is dropped.
#[derive(Debug)]
struct Holder {
    desk: Arc<Desk>,
    slot: Slot,
    stream: Stream,
    topic: Topic,
    name: String,
}

impl Holder {
    async fn fetch(&self, max: usize) -> Result<Vec<Delivery>, StoreError> {
        loop {
            // What is handed out is returned without another wait, so a dropped future holds nothing.
            let next = self.desk.shared.state().next(self.desk.line, max.max(1), now_ms());
            match next.ok_or_else(|| self.gone())? {
                Next::Deliver(handed) => {
                    return Ok(handed.into_iter().map(|handed| self.delivery(handed)).collect());
                }
                Next::Wait(None) => self.desk.bell.notified().await,
                Next::Wait(Some(due_ms)) => {
                    let wait = Duration::from_millis(due_ms.saturating_sub(now_ms()).max(1));
                    // Whether it was the bell or the time: look again.
                    timeout(wait.min(LOOK_AGAIN), self.desk.bell.notified())
                        .await
                        .unwrap_or_default();
                }
            }
        }
    }

    /// Why there is no subscription to read from.
    fn gone(&self) -> StoreError {
        if self.desk.shared.state().is_declared(&self.topic, self.stream) {
            StoreError::UnknownSubscription(self.name.clone())
        } else {
            StoreError::UnknownTopic(self.topic.clone())
        }
    }

    fn delivery(&self, handed: Handed) -> Delivery {
        let settle = Arc::clone(&self.desk) as Arc<dyn Settle>;
        let mut delivery =
            Delivery::new(handed.position, time(handed.time_ms), handed.event, settle);
        delivery.attempts = handed.attempts;
        delivery.last = handed.last;
        delivery.not_before = handed.not_before_ms.map(time);
        delivery
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.desk.shared.state().let_go(self.desk.line);
    }
}

impl Subscription for Holder {
    fn slot(&self) -> Slot {
        self.slot
    }

    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, StoreError>> {
        Box::pin(self.fetch(max))
    }
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge: the state takes the time as an argument"
    )]
    let now = SystemTime::now();
    millis(now)
}

/// `time` in milliseconds since the Unix epoch; 0 before it.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time `ms` milliseconds after the Unix epoch.
fn time(ms: u64) -> SystemTime {
    // Bounded, because a time near u64::MAX cannot be told by every platform's clock.
    const FAR: u64 = 253_402_300_799_000; // the end of the year 9999
    UNIX_EPOCH + Duration::from_millis(ms.min(FAR))
}

#[cfg(test)]
mod tests;
