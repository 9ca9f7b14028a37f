//! The smallest store that keeps the port's promises, in memory, and remembers what it was told.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use broker::inspect::{
    Continue, Inspect, Kept, Parked, ParkedSelection, Step, SubscriptionStatus, TopicStatus,
};
use broker::store::{
    AppendError, Delivery, Outcome, Position, Selector, Settle, Settlement, Slot, Start, Store,
    StoreError, SubscribeOptions, Subscription, Topic, TopicOptions,
};
use broker_event::Event;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::clock;

/// One settlement.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    pub(super) settlement: Settlement,
    pub(super) outcome: Option<Outcome>,
    pub(super) when: SystemTime,
}

#[derive(Debug)]
struct Pending {
    accepted: SystemTime,
    event: Event,
    attempts: u32,
    last: Option<Outcome>,
    due: Option<SystemTime>,
    in_flight: bool,
}

#[derive(Debug, Default)]
struct Queue {
    pending: BTreeMap<Position, Pending>,
    parked: BTreeMap<Position, Outcome>,
    held: bool,
}

#[derive(Debug)]
struct Subscribed {
    name: String,
    slot: Slot,
    queue: Mutex<Queue>,
    log: Arc<Mutex<Vec<Settled>>>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    topics: HashMap<Topic, Option<Arc<dyn Selector>>>,
    subscriptions: BTreeMap<(Topic, String), Arc<Subscribed>>,
}

/// The store.
#[derive(Debug, Default)]
pub(super) struct FakeStore {
    inner: Mutex<Inner>,
    log: Arc<Mutex<Vec<Settled>>>,
    calls: Mutex<Vec<String>>,
    /// Refuse this many appends.
    pub(super) refuse: AtomicU64,
    /// Fail to forget this many topics and subscriptions.
    pub(super) refuse_removals: AtomicU64,
    /// Refuse this many subscriptions.
    pub(super) refuse_subscriptions: AtomicU64,
    next: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

/// Takes one from `counter` unless it is zero.
fn take_one(counter: &AtomicU64) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl FakeStore {
    /// Everything settled so far.
    pub(super) fn settled(&self) -> Vec<Settled> {
        lock(&self.log).clone()
    }

    /// Calls other than append, in words, since the last time.
    pub(super) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.calls))
    }

    /// Undelivered events of a subscription.
    pub(super) fn backlog(&self, name: &str) -> usize {
        self.find(name).map_or(0, |found| lock(&found.queue).pending.len())
    }

    /// Why each parked event of a subscription was parked.
    pub(super) fn parked(&self, name: &str) -> Vec<Outcome> {
        self.find(name)
            .map_or_else(Vec::new, |found| lock(&found.queue).parked.values().cloned().collect())
    }

    /// Attempts counted for the oldest event of a subscription.
    pub(super) fn attempts(&self, name: &str) -> Option<u32> {
        lock(&self.find(name)?.queue).pending.values().next().map(|pending| pending.attempts)
    }

    /// Puts an event into a subscription as if it had been tried before.
    pub(super) fn put(&self, name: &str, event: Event, attempts: u32, last: Outcome) {
        let found = self.find(name).unwrap();
        let position = self.next.fetch_add(1, Ordering::SeqCst);
        let (accepted, last) = (clock::now(), Some(last));
        let pending = Pending { accepted, event, attempts, last, due: None, in_flight: false };
        lock(&found.queue).pending.insert(position, pending);
        found.changed.notify_waiters();
    }

    fn find(&self, name: &str) -> Option<Arc<Subscribed>> {
        lock(&self.inner).subscriptions.values().find(|subscribed| subscribed.name == name).cloned()
    }

    /// Whether something can be forgotten.
    fn forget(&self) -> Result<(), StoreError> {
        if take_one(&self.refuse_removals) {
            return Err(StoreError::Failed("the disk is broken".to_owned()));
        }
        Ok(())
    }

    fn called(&self, call: String) {
        lock(&self.calls).push(call);
    }
}

impl Store for FakeStore {
    fn declare(&self, topic: &Topic, _: TopicOptions) -> Result<(), StoreError> {
        self.called(format!("declare {topic}"));
        lock(&self.inner).topics.entry(topic.clone()).or_default();
        Ok(())
    }

    fn remove(&self, topic: &Topic) -> Result<(), StoreError> {
        self.called(format!("remove {topic}"));
        self.forget()?;
        let mut inner = lock(&self.inner);
        inner.topics.remove(topic);
        inner.subscriptions.retain(|(of, _), _| of != topic);
        Ok(())
    }

    fn append<'a>(
        &'a self,
        topic: &'a Topic,
        events: Vec<Event>,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        Box::pin(async move {
            if take_one(&self.refuse) {
                return Err(AppendError::Full {
                    reason: "full".to_owned(),
                    retry_after: Duration::from_millis(10),
                });
            }
            let inner = lock(&self.inner);
            let selector =
                inner.topics.get(topic).ok_or_else(|| AppendError::UnknownTopic(topic.clone()))?;
            for event in events {
                let position = self.next.fetch_add(1, Ordering::SeqCst);
                let mut matched = Vec::new();
                if let Some(selector) = selector {
                    selector.select(&event, &mut matched);
                }
                for subscribed in inner
                    .subscriptions
                    .values()
                    .filter(|subscribed| matched.contains(&subscribed.slot))
                {
                    let pending = Pending {
                        accepted: clock::now(),
                        event: event.clone(),
                        attempts: 0,
                        last: None,
                        due: None,
                        in_flight: false,
                    };
                    lock(&subscribed.queue).pending.insert(position, pending);
                    subscribed.changed.notify_waiters();
                }
            }
            Ok(())
        })
    }

    fn route(&self, topic: &Topic, selector: Arc<dyn Selector>) -> Result<(), StoreError> {
        self.called(format!("route {topic}"));
        let mut inner = lock(&self.inner);
        *inner.topics.get_mut(topic).ok_or_else(|| StoreError::UnknownTopic(topic.clone()))? =
            Some(selector);
        Ok(())
    }

    fn subscribe(
        &self,
        topic: &Topic,
        name: &str,
        options: SubscribeOptions,
    ) -> Result<Box<dyn Subscription>, StoreError> {
        self.called(format!("subscribe {name}"));
        if take_one(&self.refuse_subscriptions) {
            return Err(StoreError::Held(name.to_owned()));
        }
        let mut inner = lock(&self.inner);
        if !inner.topics.contains_key(topic) {
            return Err(StoreError::UnknownTopic(topic.clone()));
        }
        let slot = Slot(u32::try_from(self.next.fetch_add(1, Ordering::SeqCst)).unwrap());
        let subscribed =
            inner.subscriptions.entry((topic.clone(), name.to_owned())).or_insert_with(|| {
                Arc::new(Subscribed {
                    name: name.to_owned(),
                    slot,
                    queue: Mutex::default(),
                    log: Arc::clone(&self.log),
                    changed: Notify::new(),
                })
            });
        if std::mem::replace(&mut lock(&subscribed.queue).held, true) {
            return Err(StoreError::Held(name.to_owned()));
        }
        Ok(Box::new(Reader { subscribed: Arc::clone(subscribed), ordered: options.ordered }))
    }

    fn unsubscribe(&self, topic: &Topic, name: &str) -> Result<(), StoreError> {
        self.called(format!("unsubscribe {name}"));
        self.forget()?;
        let removed = lock(&self.inner).subscriptions.remove(&(topic.clone(), name.to_owned()));
        removed.map(|_| ()).ok_or_else(|| StoreError::UnknownSubscription(name.to_owned()))
    }
}

/// Only what a sweep asks for.
impl Inspect for FakeStore {
    fn topics(&self) -> Vec<TopicStatus> {
        let inner = lock(&self.inner);
        inner
            .topics
            .keys()
            .map(|topic| TopicStatus { topic: topic.clone(), kept_bytes: 0, budget: 0, head: 0 })
            .collect()
    }

    fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        let status = |(topic, name): &(Topic, String)| SubscriptionStatus {
            topic: topic.clone(),
            name: name.clone(),
            backlog: 0,
            parked: 0,
            oldest: None,
            oldest_at: None,
        };
        lock(&self.inner).subscriptions.keys().map(status).collect()
    }

    fn parked(
        &self,
        _: &ParkedSelection,
        _: Option<Position>,
        _: usize,
    ) -> Result<Vec<Parked>, StoreError> {
        Err(StoreError::Closed)
    }

    fn redrive(&self, _: &ParkedSelection) -> Result<u64, StoreError> {
        Err(StoreError::Closed)
    }

    fn purge(&self, _: &ParkedSelection) -> Result<u64, StoreError> {
        Err(StoreError::Closed)
    }

    fn replay(&self, _: &Topic, _: &str, _: Start) -> Result<u64, StoreError> {
        Err(StoreError::Closed)
    }

    fn scan(&self, _: Start, _: &mut dyn FnMut(Kept) -> Continue) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    fn steps(&self, _: Position) -> Result<Vec<Step>, StoreError> {
        Err(StoreError::Closed)
    }

    fn unhealthy(&self) -> Option<String> {
        None
    }
}

#[derive(Debug)]
struct Reader {
    subscribed: Arc<Subscribed>,
    ordered: bool,
}

impl Reader {
    /// What can be handed out now, and when to look again.
    fn due(&self, max: usize) -> (Vec<Delivery>, Option<SystemTime>) {
        let now = clock::now();
        let mut soonest = None;
        let mut deliveries = Vec::new();
        for (position, pending) in &mut lock(&self.subscribed.queue).pending {
            let later = pending.due.filter(|due| *due > now);
            if pending.in_flight || deliveries.len() == max {
                continue;
            }
            if let Some(due) = later.filter(|_| !self.ordered) {
                soonest = Some(soonest.map_or(due, |soonest: SystemTime| soonest.min(due)));
                continue;
            }
            pending.in_flight = true;
            let (accepted, event) = (pending.accepted, pending.event.clone());
            let settle = Arc::clone(&self.subscribed) as _;
            let mut delivery = Delivery::new(*position, accepted, event, settle);
            delivery.attempts = pending.attempts;
            delivery.last = pending.last.clone();
            delivery.not_before = later;
            deliveries.push(delivery);
        }
        (deliveries, soonest)
    }
}

impl Subscription for Reader {
    fn slot(&self) -> Slot {
        self.subscribed.slot
    }

    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, StoreError>> {
        assert!(max > 0, "nothing was asked for");
        Box::pin(async move {
            loop {
                let subscribed = Arc::clone(&self.subscribed);
                let mut changed = std::pin::pin!(subscribed.changed.notified());
                changed.as_mut().enable();
                let (deliveries, soonest) = self.due(max);
                if !deliveries.is_empty() {
                    return Ok(deliveries);
                }
                let wait = soonest.map_or(Duration::from_secs(3600), |due| {
                    due.duration_since(clock::now()).unwrap_or_default()
                });
                // Either way there may be something to hand out.
                drop(tokio::time::timeout(wait, changed).await);
            }
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        lock(&self.subscribed.queue).held = false;
    }
}

impl Settle for Subscribed {
    fn settle(&self, position: Position, settlement: Settlement, outcome: Option<Outcome>) {
        let mut queue = lock(&self.queue);
        if let Some(pending) = queue.pending.get_mut(&position) {
            pending.last = outcome.clone().or(pending.last.take());
            match settlement {
                Settlement::Retry { at } => {
                    pending.attempts += 1;
                    pending.due = Some(at);
                    pending.in_flight = false;
                }
                Settlement::Hold { at } => {
                    pending.attempts += 1;
                    pending.due = Some(at);
                }
                Settlement::Release => pending.in_flight = false,
                Settlement::Ack | Settlement::Park => {
                    queue.pending.remove(&position);
                }
            }
        }
        if settlement == Settlement::Park {
            queue.parked.insert(position, outcome.clone().unwrap());
        }
        drop(queue);
        lock(&self.log).push(Settled { settlement, outcome, when: clock::now() });
        self.changed.notify_waiters();
    }
}
